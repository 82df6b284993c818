//! What others are told: every event once under one id, however often it is sent, and over a restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairlead_run::StoredDelivery;
use fairlead_step::BoxFuture;
use serde_json::{Value, json};

use super::forge::FORGE;
use super::harness::{Harness, REGISTRY};
use crate::{Courier, DeliveryError, Destination, Destinations, EventWants};

/// A destination that writes down what it is sent, and may be away.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<StoredDelivery>>,
    away: AtomicBool,
    tries: Mutex<Vec<String>>,
}

impl Courier for Ear {
    fn deliver<'a>(
        &'a self,
        message: &'a StoredDelivery,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            self.tries.lock().unwrap().push(message.message.id.clone());
            if self.away.load(Ordering::SeqCst) {
                let message = "away".to_owned();
                return Err(DeliveryError { message, again: true, after: None });
            }
            self.heard.lock().unwrap().push(message.clone());
            Ok(())
        })
    }
}

impl Ear {
    fn heard(&self) -> Vec<(String, Value)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|it| (it.message.kind.clone(), it.json())).collect()
    }

    /// What it has heard, once that is so many.
    async fn waits_for(&self, count: usize) -> Vec<(String, Value)> {
        for _ in 0..1000 {
            if self.heard().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let heard = self.heard();
        assert_eq!(heard.len(), count, "{heard:#?}");
        heard
    }
}

fn destination(ear: &Arc<Ear>, events: Option<Value>) -> Destination {
    let globs =
        |value: &Value| (!value.is_null()).then(|| serde_json::from_value(value.clone()).unwrap());
    let events = events.map(|events| EventWants {
        types: globs(&events["types"]),
        projects: globs(&events["projects"]),
        pipelines: globs(&events["pipelines"]),
    });
    Destination { courier: ear.clone(), events }
}

fn destinations(of: Vec<(&str, Destination)>) -> Destinations {
    let of: BTreeMap<_, _> = of.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
    Destinations(of)
}

#[tokio::test]
async fn events_of_a_run_go_to_whoever_wants_them_and_a_dead_end_holds_up_no_other() {
    let mut harness = Harness::new();
    harness.projects(json!({ "shop": "build" }));
    let [all, ends, other, dead] = [(); 4].map(|()| Arc::new(Ear::default()));
    dead.away.store(true, Ordering::SeqCst);
    harness.destinations = destinations(vec![
        ("all", destination(&all, Some(json!({})))),
        (
            "ends",
            destination(
                &ends,
                Some(json!({ "types": "dev.fairlead.run.ended.*", "projects": "shop" })),
            ),
        ),
        ("other", destination(&other, Some(json!({ "pipelines": "nothing-*" })))),
        ("dead", destination(&dead, Some(json!({})))),
    ]);
    let serving = harness.serve().await;
    // Whoever begins to hear has begun.
    while harness.store.events().watermark("outgoing").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let answer = serving.api("POST", "/api/v1/pipelines/build/runs", "").await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let run = answer.json()["run"].as_str().unwrap().to_owned();
    let heard = all.waits_for(3).await;
    let kinds: Vec<&str> = heard.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["dev.fairlead.run.started.v1", "dev.fairlead.step.ended.v1", "dev.fairlead.run.ended.v1"]
    );
    let (_, step) = &heard[1];
    assert_eq!((&step["specversion"], &step["data"]["outcome"]), (&json!("1.0"), &json!("passed")));
    assert_eq!(step["data"]["projects"], json!(["shop"]));
    assert_eq!(step["subject"], json!(format!("{run}/note")));
    let (_, end) = &ends.waits_for(1).await[0];
    assert_eq!((&end["data"]["run"], &end["data"]["outcome"]), (&json!(run), &json!("passed")));
    assert!(other.heard().is_empty());

    // What was not taken is told, and sent again under the same id, by the next process as well.
    for _ in 0..500 {
        let shown = serving.api("GET", "/api/v1/deliveries?destination=dead", "").await.json();
        let all = shown["deliveries"].as_array().unwrap().clone();
        if all.len() == 3 && all.iter().all(|it| it["reason"] == "away") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serving.stop().await;
    dead.away.store(false, Ordering::SeqCst);
    harness.clock.flow_from(Duration::from_secs(3600));
    let serving = harness.serve().await;
    let late = dead.waits_for(3).await;
    let ids = |heard: &[(String, Value)]| {
        let mut ids: Vec<String> =
            heard.iter().map(|(_, it)| it["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&late), ids(&heard));
    assert!(dead.tries.lock().unwrap().len() >= 6, "each was tried before");
    // The next process looks at all runs again, and tells nobody twice.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((all.heard().len(), ends.heard().len()), (3, 1));
    serving.stop().await;
}

#[tokio::test]
async fn a_forge_is_told_how_the_runs_of_a_commit_stand() {
    let mut harness = Harness::new();
    let ear = Arc::new(Ear::default());
    harness.destinations = destinations(vec![("status:gitea", destination(&ear, None))]);
    harness.forge.put("acme/shop", "refs/heads/main", "a", "a");
    let serving = harness.serve().await;
    while harness.store.events().watermark("outgoing").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let body = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": "a".repeat(40),
        "head_commit": { "id": "a".repeat(40) },
        "repository": { "full_name": "acme/shop", "clone_url": format!("{FORGE}/acme/shop.git") },
    });
    let headers = [("X-Gitea-Event", "push")];
    let body = body.to_string();
    let answer = serving.send("POST", "/webhooks/gitea", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let run = harness.ended(1).await[0].id.clone();
    // What is under way may be overtaken by the end; the end is what counts, and comes last.
    let mut last = Value::Null;
    for _ in 0..500 {
        last = ear.heard().last().map(|(_, it)| it.clone()).unwrap_or_default();
        if last["state"] == "success" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        last,
        json!({ "repository": "acme/shop", "commit": "a".repeat(40), "context": "fairlead/build",
            "state": "success", "description": "passed", "path": format!("/api/v1/runs/{run}") })
    );
    let states: Vec<Value> = ear.heard().iter().map(|(_, it)| it["state"].clone()).collect();
    assert!(
        states.len() <= 2 && states.iter().filter(|it| **it == "success").count() == 1,
        "{states:?}"
    );
    // A run that is of no commit is of no forge's interest.
    harness.registry.put("apps/shop:v1", "a");
    let body = json!({ "params": { "image": format!("{REGISTRY}/apps/shop:v1") } }).to_string();
    let answer = serving.api("POST", "/api/v1/pipelines/ship/runs", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    harness.ended(2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(ear.heard().iter().all(|(_, it)| it["context"] == "fairlead/build"));
    serving.stop().await;
}
