//! A forge that stands in for git, and what its pushes start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fairlead_event::{ForgeRepository, GitPushed, ObjectId};
use fairlead_step::{BoxFuture, CheckoutOptions, GitWorkspace, StepError, Workspace};
use serde_json::{Value, json};

use super::harness::{Answer, Harness, Serving};
use crate::{FilesAt, Forges, FoundRef, PipelineFiles};

pub(super) const FORGE: &str = "https://git.example.com";

/// A forge that stands in for git.
#[derive(Default)]
pub(super) struct Forge {
    /// What it has under which name, by address and full name of the reference.
    refs: Mutex<BTreeMap<(String, String), FoundRef>>,
    /// Commits that are in the history of every branch.
    history: Mutex<BTreeSet<ObjectId>>,
    /// The pipeline files at commits, by the commit and the path.
    files: Mutex<BTreeMap<(ObjectId, String), String>>,
    /// Whether it is away.
    away: AtomicBool,
    /// The addresses that were asked for anything else.
    asked: Mutex<Vec<String>>,
}

impl Forge {
    /// Points a name at an object, and the commit behind it.
    pub(super) fn put(&self, repository: &str, reference: &str, object: &str, commit: &str) {
        let name = (format!("{FORGE}/{repository}.git"), reference.to_owned());
        let id = |letter: &str| letter.repeat(40).parse().unwrap();
        let found = FoundRef { object: id(object), commit: id(commit) };
        self.refs.lock().unwrap().insert(name, found);
    }

    /// Puts a commit into the history of what is there.
    pub(super) fn remember(&self, commit: &str) {
        self.history.lock().unwrap().insert(commit.repeat(40).parse().unwrap());
    }

    /// Puts a file into a commit.
    pub(super) fn write(&self, commit: &str, path: &str, text: &str) {
        let at = (commit.repeat(40).parse().unwrap(), path.to_owned());
        self.files.lock().unwrap().insert(at, text.to_owned());
    }

    /// Whether it answers.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Forges for Forge {
    fn find<'a>(
        &'a self,
        push: &'a GitPushed,
    ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
        let name = (push.clone_url.clone().unwrap_or_default(), push.reference.to_string());
        self.asked.lock().unwrap().push(name.0.clone());
        Box::pin(async move { Ok(self.refs.lock().unwrap().get(&name).cloned()) })
    }

    fn find_all<'a>(
        &'a self,
        repository: &'a ForgeRepository,
        patterns: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>> {
        let address = repository.clone_url.clone().unwrap_or_default();
        self.asked.lock().unwrap().push(address.clone());
        let fits = |name: &str| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
        };
        if self.away.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StepError::retryable("connection refused")) });
        }
        let refs = self.refs.lock().unwrap();
        let found = refs.iter().filter(|((at, name), _)| *at == address && fits(name));
        let found = found.map(|((_, name), found)| (name.clone(), found.clone())).collect();
        Box::pin(async move { Ok(found) })
    }

    fn files<'a>(&'a self, at: &'a FilesAt) -> BoxFuture<'a, Result<PipelineFiles, StepError>> {
        let files = self.files.lock().unwrap();
        let inside = format!("{}/", at.folder);
        let there =
            files.iter().filter(|((of, path), _)| *of == at.commit && path.starts_with(&inside));
        let there: BTreeMap<_, _> =
            there.map(|((_, path), text)| (path.clone(), Ok(text.clone()))).collect();
        Box::pin(async move {
            match there.is_empty() {
                true => Err(StepError::terminal("there is no such folder")),
                false => Ok(there),
            }
        })
    }

    fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
        let history = self.history.lock().unwrap();
        let contains = push.commit.as_ref().is_some_and(|commit| history.contains(commit));
        Box::pin(async move { Ok(contains) })
    }
}

/// A push of `acme/shop` as Gitea reports it, with what a test changes in it.
async fn push(serving: &Serving, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": "a".repeat(40),
        "head_commit": { "id": "a".repeat(40) },
        "repository": { "full_name": "acme/shop", "ssh_url": "git@git.example.com:acme/shop.git",
            "clone_url": format!("{FORGE}/acme/shop.git") },
    });
    change(&mut body);
    let headers = [("X-Gitea-Event", "push")];
    serving.send("POST", "/webhooks/gitea", &headers, body.to_string().as_bytes()).await
}

const PART: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: part
on: {git.push: {branches: [part]}}
workspace: {depth: all, sparse: [apps/shop], partial: true}
steps:
  note: {uses: note, with: {text: ok}}
";

/// What the only run was asked for with.
async fn request_of_run(harness: &Harness) -> fairlead_run::Request {
    let runs = harness.ended(1).await;
    assert_eq!(runs.len(), 1);
    let stored = harness.store.journal().load(&runs[0].id).await.unwrap();
    fairlead_run::Run::restore(&stored).unwrap().request().clone()
}

/// What expressions of the only run see as `event`.
async fn event_of_run(harness: &Harness) -> Value {
    request_of_run(harness).await.event
}

#[tokio::test]
async fn a_run_works_on_the_pushed_commit_at_the_forge_of_its_source() {
    let harness = Harness::new();
    harness.forge.put("acme/shop", "refs/heads/main", "a", "a");
    let serving = harness.serve().await;
    let answer = push(&serving, |body| body["repository"]["ssh_url"] = Value::Null).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let request = request_of_run(&harness).await;
    assert_eq!(request.event["clone_url"], format!("{FORGE}/acme/shop.git"));
    assert_eq!(request.event["ssh_url"], "ssh://git@git.example.com/acme/shop.git");
    let git = GitWorkspace {
        source: "gitea".into(),
        repository: "acme/shop".into(),
        commit: "a".repeat(40).parse().unwrap(),
        reference: Some("refs/heads/main".into()),
        clone_url: Some(format!("{FORGE}/acme/shop.git")),
        ssh_url: Some("ssh://git@git.example.com/acme/shop.git".into()),
        options: CheckoutOptions::default(),
    };
    assert_eq!(request.workspace, Workspace::Git(git));
    serving.stop().await;
}

#[tokio::test]
async fn a_pipeline_is_given_as_much_of_the_commit_as_it_asks_for() {
    let mut harness = Harness::new();
    harness.forge.put("acme/shop", "refs/heads/part", "a", "a");
    harness.more = vec![PART];
    let serving = harness.serve().await;
    let answer = push(&serving, |body| body["ref"] = json!("refs/heads/part")).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let Workspace::Git(git) = request_of_run(&harness).await.workspace else {
        panic!("it works on a commit")
    };
    let wanted = CheckoutOptions { depth: 0, sparse: vec!["apps/shop".into()], partial: true };
    assert_eq!(git.options, wanted);
    serving.stop().await;
}

#[tokio::test]
async fn an_address_of_elsewhere_is_told_and_refused() {
    let harness = Harness::new();
    harness.forge.put("acme/shop", "refs/heads/main", "a", "a");
    let serving = harness.serve().await;
    for address in [
        "https://other.example.com/acme/shop.git",
        "http://other.example.com#@git.example.com/acme/shop.git",
        "https://git.example.com/mallory/shop.git",
        "file:///acme/shop.git",
    ] {
        let answer = push(&serving, |body| body["repository"]["clone_url"] = json!(address)).await;
        assert_eq!(answer.status, 422, "{address}: {}", answer.body);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("the forge of this source"), "{detail}");
    }
    let name = push(&serving, |body| body["repository"]["full_name"] = json!("../shop")).await;
    assert_eq!(name.status, 422, "{}", name.body);
    assert_eq!(harness.stored_events().await, 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_commit_that_the_forge_does_not_have_under_its_name_starts_nothing() {
    let harness = Harness::new();
    harness.forge.put("acme/shop", "refs/heads/main", "b", "b");
    let serving = harness.serve().await;
    // Forced away, or never there; and a branch that is not there at all.
    assert_eq!(push(&serving, |_| ()).await.status, 202);
    let gone = push(&serving, |body| {
        body["repository"]["full_name"] = json!("acme/till");
        body["repository"]["clone_url"] = json!(format!("{FORGE}/acme/till.git"));
        body["repository"]["ssh_url"] = Value::Null;
    });
    assert_eq!(gone.await.status, 202);
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_commit_that_others_were_pushed_onto_is_still_that_of_its_branch() {
    let harness = Harness::new();
    harness.forge.put("acme/shop", "refs/heads/main", "b", "b");
    harness.forge.remember("a");
    let serving = harness.serve().await;
    assert_eq!(push(&serving, |_| ()).await.status, 202);
    assert_eq!(event_of_run(&harness).await["commit"], "a".repeat(40));
    serving.stop().await;
}

/// Gitea says no head of a tag; GitHub's is not believed.
#[tokio::test]
async fn the_commit_of_a_tag_is_that_of_the_forge() {
    for head in [Value::Null, json!({ "id": "d".repeat(40) })] {
        let harness = Harness::new();
        harness.forge.put("acme/shop", "refs/tags/v1", "c", "a");
        let serving = harness.serve().await;
        let answer = push(&serving, |body| {
            body["ref"] = json!("refs/tags/v1");
            body["after"] = json!("c".repeat(40));
            body["head_commit"] = head;
        });
        assert_eq!(answer.await.status, 202);
        let event = event_of_run(&harness).await;
        assert_eq!(
            (&event["commit"], &event["after"]),
            (&json!("a".repeat(40)), &json!("c".repeat(40)))
        );
        serving.stop().await;
    }
}

#[tokio::test]
async fn one_bad_notification_takes_no_good_one_with_it() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.registry.put("apps/shop:1.1", "b");
    let serving = harness.serve().await;
    let event = |tag: &str, content: &str| {
        let text = super::harness::notification("1", "apps/shop", tag, content);
        serde_json::from_str::<Value>(&text).unwrap()["events"][0].clone()
    };
    let bad = json!({ "id": "2", "action": "push", "timestamp": "2026-01-01T00:00:00Z" });
    let body = json!({ "events": [event("1.0", "a"), bad, event("1.1", "b")] }).to_string();
    let headers = [("Authorization", "Bearer registry-secret")];
    let answer = serving.send("POST", "/webhooks/registry", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["events"].as_array().unwrap().len(), 2, "{answer}");
    let refused = answer["refused"][0].as_str().unwrap();
    assert!(refused.contains("event 2") && refused.contains("target"), "{refused}");
    assert_eq!(harness.ended(2).await.len(), 2);
    serving.stop().await;
}
