//! Pipelines of repositories, and having other ones while the server runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::forge::FORGE;
use super::harness::{Answer, Harness, Serving};
use crate::{PullRequestFiles, RepositorySettings};

const FIRST: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: shop-build
on:
  git.push: {repository: acme/shop, branches: [main]}
  git.pull_request: {}
  manual: {}
steps:
  note: {uses: note, with: {text: first}}
";

fn second() -> String {
    FIRST.replace("first", "second")
}

fn followed() -> RepositorySettings {
    let settings = json!({ "source": "gitea", "repository": "acme/pipelines", "branch": "main",
        "project": "shop" });
    serde_json::from_value(settings).unwrap()
}

fn harness(settings: RepositorySettings) -> Harness {
    let mut harness = Harness::new();
    harness.projects(json!({ "shop": "shop-*" }));
    harness.repositories = vec![settings];
    harness.forge.put("acme/pipelines", "refs/heads/main", "a", "a");
    harness.forge.write("a", "pipelines/build.yaml", FIRST);
    harness
}

async fn send(serving: &Serving, event: &str, body: Value) -> Answer {
    let headers = [("X-Gitea-Event", event)];
    let body = body.to_string();
    let answer = serving.send("POST", "/webhooks/gitea", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer
}

fn repository(name: &str) -> Value {
    json!({ "full_name": name, "clone_url": format!("{FORGE}/{name}.git") })
}

async fn push(serving: &Serving, name: &str, commit: &str) {
    let body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit.repeat(40),
        "head_commit": { "id": commit.repeat(40) }, "repository": repository(name),
    });
    send(serving, "push", body).await;
}

async fn pull_request(serving: &Serving, commit: &str, head: &str) {
    let body = json!({
        "action": "opened", "number": 7,
        "pull_request": { "number": 7, "title": "a change", "state": "open",
            "updated_at": "2026-01-01T00:00:00Z", "labels": [], "user": { "login": "ann" },
            "head": { "ref": "change", "sha": commit.repeat(40), "repo": repository(head) },
            "base": { "ref": "main", "sha": "a".repeat(40), "repo": repository("acme/pipelines") } },
        "repository": repository("acme/pipelines"), "sender": { "login": "ann" },
    });
    send(serving, "pull_request", body).await;
}

/// What the API says of the pipelines, once it says this.
async fn listed(serving: &Serving, until: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..400 {
        last = serving.api("GET", "/api/v1/pipelines", "").await.json();
        if until(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{last:#}");
}

fn pipeline<'a>(listed: &'a Value, name: &str) -> Option<&'a Value> {
    listed["pipelines"].as_array().unwrap().iter().find(|it| it["name"] == name)
}

/// What the steps of a pipeline's last run say, and the file that it is of.
async fn said(harness: &Harness, serving: &Serving, name: &str, runs: usize) -> (String, String) {
    harness.ended(runs).await;
    let run = harness.runs().await.into_iter().find(|run| run.pipeline == name).unwrap();
    let shown = serving.api("GET", &format!("/api/v1/runs/{}", run.id), "").await.json();
    let text = shown["steps"][0]["outputs"]["text"].as_str().unwrap().to_owned();
    (text, shown["source"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_push_to_the_pipelines_is_followed_and_what_is_bad_is_refused() {
    let harness = harness(followed());
    harness.forge.put("acme/shop", "refs/heads/main", "c", "c");
    let serving = harness.serve().await;
    let first = listed(&serving, |it| pipeline(it, "shop-build").is_some()).await;
    let from = &pipeline(&first, "shop-build").unwrap()["from"];
    assert_eq!(
        (&from["commit"], &from["path"]),
        (&json!("a".repeat(40)), &json!("pipelines/build.yaml"))
    );

    push(&serving, "acme/shop", "c").await;
    let (text, source) = said(&harness, &serving, "shop-build", 2).await;
    assert_eq!(text, "first");
    assert_eq!(source, format!("gitea:acme/pipelines@{}:pipelines/build.yaml", "a".repeat(40)));

    // Another commit has another text, a file that is wrong, and one that is another project's.
    harness.forge.put("acme/pipelines", "refs/heads/main", "b", "b");
    harness.forge.remember("a");
    harness.forge.write("b", "pipelines/build.yaml", &second());
    harness.forge.write("b", "pipelines/more.yaml", &FIRST.replace("uses: note", "uses: nothing"));
    harness.forge.write("b", "pipelines/bank.yaml", &FIRST.replace("shop-build", "bank"));
    push(&serving, "acme/pipelines", "b").await;
    let is_new = |it: &Value| it["repositories"][0]["commit"] == json!("b".repeat(40));
    let found = listed(&serving, is_new).await;
    assert_eq!(pipeline(&found, "shop-build").unwrap()["from"]["commit"], json!("b".repeat(40)));
    assert!(pipeline(&found, "bank").is_none());
    let refused = found["repositories"][0]["refused"].as_array().unwrap();
    let told = refused.iter().map(|it| it["findings"][0].as_str().unwrap());
    let told: Vec<&str> = told.collect();
    assert!(told[0].contains("belongs to project `default`"), "{told:?}");
    assert!(told[1].starts_with("pipelines/more.yaml:9:16: error[FL"), "{told:?}");

    // The last good one stays when its file turns bad, and so does its commit.
    harness.forge.put("acme/pipelines", "refs/heads/main", "d", "d");
    harness.forge.remember("b");
    harness.forge.write("d", "pipelines/build.yaml", "apiVersion: [");
    push(&serving, "acme/pipelines", "d").await;
    let is_new = |it: &Value| it["repositories"][0]["commit"] == json!("d".repeat(40));
    let found = listed(&serving, is_new).await;
    assert_eq!(pipeline(&found, "shop-build").unwrap()["from"]["commit"], json!("b".repeat(40)));
    assert_eq!(found["repositories"][0]["refused"][0]["in_use"], json!("b".repeat(40)));
    serving.stop().await;

    // Another start has it although the forge is away.
    harness.forge.set_away(true);
    let serving = harness.serve().await;
    let found = listed(&serving, |it| pipeline(it, "shop-build").is_some()).await;
    assert_eq!(pipeline(&found, "shop-build").unwrap()["from"]["commit"], json!("b".repeat(40)));
    serving.stop().await;
}

#[tokio::test]
async fn a_pull_request_runs_from_its_own_file_where_that_is_allowed() {
    for (files, head, want) in [
        (PullRequestFiles::Own, "acme/pipelines", Some("second")),
        (PullRequestFiles::Own, "mallory/pipelines", Some("first")),
        (PullRequestFiles::Base, "acme/pipelines", Some("first")),
    ] {
        let harness = harness(RepositorySettings { pull_requests: files, ..followed() });
        harness.forge.put("acme/pipelines", "refs/pull/7/head", "e", "e");
        if head == "acme/pipelines" {
            harness.forge.put("acme/pipelines", "refs/heads/change", "e", "e");
        }
        harness.forge.write("e", "pipelines/build.yaml", &second());
        let serving = harness.serve().await;
        listed(&serving, |it| pipeline(it, "shop-build").is_some()).await;
        pull_request(&serving, "e", head).await;
        let (text, source) = said(&harness, &serving, "shop-build", 1).await;
        assert_eq!(Some(text.as_str()), want, "{files:?} {head}");
        let commit = if text == "second" { "e" } else { "a" };
        assert!(source.contains(&commit.repeat(40)), "{source}");
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_told_to_has_other_pipelines_sources_and_projects() {
    let mut harness = harness(followed());
    harness.more.push(
        "apiVersion: fairlead.dev/v1
kind: Pipeline
name: extra
on: {manual: {}}
steps:
  note: {uses: note, with: {text: extra}}
",
    );
    let serving = harness.serve().await;
    listed(&serving, |it| pipeline(it, "shop-build").is_some()).await;
    // While webhooks come, what there is changes to and fro; each is handled by one or the other.
    harness.repositories.clear();
    harness.more.clear();
    let mut sent = 0;
    for round in 0..20 {
        let setup = harness.setup(None).await;
        let mut done = false;
        let replacing = serving.definitions.replace(setup, || done = true);
        let notes = async {
            for _ in 0..3 {
                let answer = serving.notify(&format!("n{sent}"), "apps/x", "1", "x").await;
                assert_eq!(answer.status, 202, "{}", answer.body);
                sent += 1;
            }
        };
        let (replaced, ()) = tokio::join!(replacing, notes);
        replaced.unwrap();
        assert!(done, "round {round}");
    }
    let found = listed(&serving, |it| pipeline(it, "extra").is_none()).await;
    assert!(pipeline(&found, "shop-build").is_none() && found["repositories"] == json!([]));
    // One that is wrong is refused as a whole.
    let mut wrong = harness.setup(None).await;
    wrong.pipelines = crate::Pipelines::default();
    wrong.repositories = vec![
        RepositorySettings { source: "none".into(), ..followed() },
        RepositorySettings { path: "../x".into(), ..followed() },
        RepositorySettings { project: "none".into(), ..followed() },
    ];
    let mut done = false;
    let problems = serving.definitions.replace(wrong, || done = true).await.unwrap_err();
    assert_eq!((problems.len(), done), (3, false), "{problems:?}");
    let found = serving.api("GET", "/api/v1/pipelines", "").await.json();
    assert!(pipeline(&found, "ship").is_some());
    harness.settled().await;
    serving.stop().await;
}
