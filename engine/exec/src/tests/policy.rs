//! What a policy lets through: told before a run, enforced when an attempt is made.

use serde_json::json;

use super::*;
use crate::{Policy, Project, RequestError};

/// A bench whose project `default` is this, and whose secrets are `secrets` and nobody else's.
fn guarded(allow: Value, containers: Value, secrets: &[(&'static str, &'static str)]) -> Bench {
    let project = Project {
        pipelines: fairlead_step::Globs::default(),
        allow: serde_json::from_value(allow).unwrap(),
        containers: serde_json::from_value(containers).unwrap(),
        secrets: Arc::new(Secrets(secrets.iter().copied().collect())),
    };
    let policy = Policy::closed([("default".to_owned(), project)].into()).unwrap();
    bench_with(Store::memory(), |options| options.policy = policy)
}

async fn refusals(bench: &Bench, yaml: &str) -> Vec<String> {
    match bench.engine.request(bench.ask(yaml)).await {
        Ok(_) => Vec::new(),
        Err(RequestError::Refused(refused)) => {
            refused.iter().map(|refusal| format!("{refusal}; {}", refusal.hint)).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

const EVERYTHING: &str = "steps:
  a: {uses: fake, with: {do: pass, requires: [program make, network bridge, capability NET_RAW]}}
  b:
    uses: fake
    with:
      do: pass
      requires: ['image docker.io/library/node:22', path /srv/git/shop.git, network host, network none]
  c: {uses: fake, with: {do: pass}}
";

#[tokio::test]
async fn a_server_without_projects_runs_nothing_and_says_all_that_is_missing() {
    let bench = bench_with(Store::memory(), |options| {
        options.policy = Policy::closed(BTreeMap::new()).unwrap();
    });
    let found = refusals(&bench, EVERYTHING).await;
    let way = |message: &str, key: &str, value: &str| {
        format!(
            "{message} in project `default`; add `{value}` under `projects.default.allow.{key}` in the \
             server's configuration"
        )
    };
    let kind = |step: &str| {
        way(&format!("step `{step}`: the kind `fake` is not allowed"), "kinds", "fake")
    };
    for line in [
        kind("a"),
        way("step `a`: the capability `NET_RAW` is not allowed", "capabilities", "NET_RAW"),
        kind("b"),
        way(
            "step `b`: the path /srv/git/shop.git of the host is not allowed",
            "host_paths",
            "/srv/git/shop.git",
        ),
        way("step `b`: the network `none` is not allowed", "networks", "none"),
        kind("c"),
    ] {
        assert!(found.contains(&line), "{line}\n{found:#?}");
    }
    let ways = found.join("\n");
    for way in [
        "run it in a `container`, or add `make`",
        "name it by digest, or add `docker.io/library/node`",
        "write `network: none`, or add `host`",
    ] {
        assert!(ways.contains(way), "{way}\n{ways}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
    assert!(bench.store.journal().list(RunFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_allowed_runs() {
    let allow = json!({
        "kinds": ["fa*"],
        "host_programs": "**",
        "networks": ["bridge", "none", "host"],
        "capabilities": "NET_*",
        "images": { "tag": "docker.io/library/*" },
        "host_paths": "/srv/git/**",
    });
    let bench = guarded(allow, json!({}), &[]);
    assert_eq!(bench.run(EVERYTHING).await.0, RunOutcome::Passed);
}

#[tokio::test]
async fn patterns_do_not_reach_further_than_they_read() {
    let digest = fairlead_step::Digest::sha256(b"x");
    let allow = json!({
        "kinds": "fake",
        "host_programs": ["make", "./scripts/**"],
        "networks": ["*"],
        "images": { "digest": "docker.io/library/*", "tag": "docker.io/library/node" },
        "host_paths": "/srv/git/**",
    });
    let bench = guarded(allow, json!({ "user": "1000:1000" }), &[]);
    for (requires, allowed) in [
        ("program make", true),
        ("program /usr/bin/make", false),
        ("program ./scripts/check", true),
        ("program ./scripts/../other", false),
        ("network ours", true),
        ("network host", false),
        ("network container:db", false),
        ("image docker.io/library/node:22", true),
        ("image docker.io/library/python:3", false),
        (&format!("image docker.io/library/python@{digest}"), true),
        (&format!("image docker.io/other/python@{digest}"), false),
        ("path /srv/git/shop.git", true),
        ("path /srv/git/../secret", false),
        ("path /srv/other", false),
        ("capability NET_RAW", false),
        ("root x", false),
    ] {
        // A kind that starts programs names one of them.
        let yaml = format!(
            "steps:\n  a: {{uses: fake, with: {{do: pass, requires: ['program make', '{requires}']}}}}\n"
        );
        let found = refusals(&bench, &yaml).await;
        assert_eq!(found.is_empty(), allowed, "{requires}: {found:?}");
    }
    // One that names none may start any.
    let found = refusals(&bench, "steps:\n  a: {uses: fake, with: {do: pass}}\n").await;
    assert!(found[0].contains("the kind `fake` does not say which"), "{found:?}");
}

#[tokio::test]
async fn what_comes_from_another_step_is_looked_at_when_the_attempt_is_made() {
    let allow = json!({ "kinds": "*", "host_programs": ["echo"] });
    let bench = guarded(allow, json!({}), &[]);
    let (outcome, run) = bench
        .run(
            "steps:
  a: {uses: fake, with: {do: pass, text: 'program rm', requires: [program echo]}}
  b: {uses: fake, with: {do: pass, requires: [program echo, '{{ steps.a.text }}']}}
",
        )
        .await;
    assert_eq!(outcome, RunOutcome::Failed);
    let step = run.step(&"b".parse().unwrap()).unwrap();
    assert_eq!(
        step.reason().unwrap(),
        "the program `rm` on the host is not allowed in project `default`"
    );
    assert_eq!(locked(&bench.world.began).as_slice(), ["a@1"], "nothing of it ran");
}

#[tokio::test]
async fn a_pipeline_names_the_secrets_of_its_project_and_not_the_servers() {
    let allow = json!({ "kinds": "*", "host_programs": "**" });
    let bench = guarded(allow, json!({}), &[("npm", "pieces-of-eight")]);
    let yaml = |name: &str| {
        format!(
            "steps:\n  a: {{uses: fake, with: {{do: log, secret: '{{{{ secrets.{name} }}}}'}}}}\n"
        )
    };
    let (_, run) = bench.run(&yaml("npm")).await;
    assert_eq!(bench.log(run.id(), "a").await, "the secret is ****\n");
    // The engine itself has a secret `token`.
    let error = bench.engine.request(bench.ask(&yaml("token"))).await.unwrap_err();
    assert!(matches!(error, RequestError::Secrets(_)), "{error}");
}

#[test]
fn a_pipeline_belongs_to_one_project() {
    let project = |pipelines: &str| Project {
        pipelines: serde_json::from_value(json!(pipelines)).unwrap(),
        allow: serde_json::from_value(json!({ "kinds": "*" })).unwrap(),
        containers: serde_json::from_value(json!({})).unwrap(),
        secrets: Arc::new(Secrets(BTreeMap::new())),
    };
    let projects = [("shop".to_owned(), project("shop-*")), ("api".to_owned(), project("*-api"))];
    let policy = Policy::closed(projects.into()).unwrap();
    assert_eq!(policy.project_of("shop-web"), Ok(Some("shop".to_owned())));
    assert_eq!(policy.project_of("release"), Ok(Some("default".to_owned())));
    let error = policy.project_of("shop-api").unwrap_err().to_string();
    assert!(error.contains("`api` has it, too"), "{error}");
    assert_eq!(Policy::open().project_of("shop-api"), Ok(None));
}
