//! What starts a run, how often, and what happens when something is away.

use fairlead_run::RunStatus;
use fairlead_step::Digest;
use serde_json::json;

use super::harness::{Harness, REGISTRY};

/// The image that the run of an event was given.
async fn image_of(harness: &Harness, run: &fairlead_step::RunId) -> String {
    let stored = harness.store.journal().load(run).await.unwrap();
    let run = fairlead_run::Run::restore(&stored).unwrap();
    run.request().event["image"].as_str().unwrap_or_default().to_owned()
}

fn image(name: &str, content: &str) -> String {
    format!("{REGISTRY}/{name}@{}", Digest::sha256(content.as_bytes()))
}

#[tokio::test]
async fn a_push_that_is_told_three_times_starts_one_run() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    let serving = harness.serve().await;
    let mut ids = Vec::new();
    for (id, duplicate) in [("one", false), ("one", true), ("two", true)] {
        let answer = serving.notify(id, "apps/shop", "1.0", "a").await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let event = &answer.json()["events"][0];
        assert_eq!(event["duplicate"], duplicate, "{id}");
        ids.push(event["id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    let runs = harness.ended(1).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 1);
    assert_eq!(runs[0].pipeline, "promote");
    assert_eq!(runs[0].by, "source registry");
    assert_eq!(runs[0].status.name(), "passed");
    assert_eq!(image_of(&harness, &runs[0].id).await, image("apps/shop", "a"));
    serving.stop().await;
}

#[tokio::test]
async fn told_before_a_restart_after_it_and_while_the_bus_is_away_is_told_once() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.nats.set_away(true);
    let first = harness.serve().await;
    assert_eq!(first.notify("1", "apps/shop", "1.0", "a").await.status, 202);
    harness.nats.refused().await;
    let ready = first.send("GET", "/readyz", &[], b"").await;
    assert_eq!((ready.status, ready.json()["bus"].as_str()), (200, Some("away")));
    first.stop().await;

    let second = harness.serve().await;
    let again = second.notify("2", "apps/shop", "1.0", "a").await;
    assert_eq!(again.json()["events"][0]["duplicate"], true);
    // The store hands out what the bus does not.
    harness.ended(1).await;
    harness.nats.set_away(false);
    second.stop().await;

    let third = harness.serve().await;
    let again = third.notify("3", "apps/shop", "1.0", "a").await;
    assert_eq!(again.json()["events"][0]["duplicate"], true);
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 1);
    third.stop().await;
}

#[tokio::test]
async fn a_wrong_signature_starts_nothing_and_is_told() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    let serving = harness.serve().await;
    let body = super::harness::notification("1", "apps/shop", "1.0", "a");
    for headers in [&[("Authorization", "Bearer wrong")][..], &[]] {
        let answer = serving.send("POST", "/webhooks/registry", headers, body.as_bytes()).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.headers.contains("application/problem+json"), "{}", answer.headers);
        assert_eq!(answer.json()["status"], 401);
        assert!(answer.json()["detail"].as_str().unwrap().contains("Authorization"));
    }
    let signature = [("X-Hub-Signature-256", "sha256=00"), ("X-GitHub-Event", "push")];
    assert_eq!(serving.send("POST", "/webhooks/github", &signature, b"{}").await.status, 401);
    assert_eq!(harness.stored_events().await, 0);
    assert_eq!(harness.runs().await.len(), 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_registry_that_is_away_delays_the_run() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.registry.set_away(true);
    let serving = harness.serve().await;
    serving.notify("1", "apps/shop", "1.0", "a").await;
    for _ in 0..3 {
        harness.registry.asked().await;
    }
    assert_eq!(harness.runs().await.len(), 0);
    assert_eq!(harness.store.events().due(10).await.unwrap().len(), 1);
    harness.registry.set_away(false);
    assert_eq!(harness.ended(1).await.len(), 1);
    serving.stop().await;
}

/// The CNCF registry reports a push before it moves the tag.
#[tokio::test]
async fn a_tag_that_is_not_there_yet_is_waited_for() {
    for before in [None, Some("old")] {
        let harness = Harness::new();
        if let Some(content) = before {
            harness.registry.put("apps/shop:1.0", content);
        }
        let serving = harness.serve().await;
        serving.notify("1", "apps/shop", "1.0", "new").await;
        harness.registry.asked().await;
        harness.registry.put("apps/shop:1.0", "new");
        let runs = harness.ended(1).await;
        assert_eq!(image_of(&harness, &runs[0].id).await, image("apps/shop", "new"));
        serving.stop().await;
    }
}

#[tokio::test]
async fn what_the_registry_does_not_confirm_starts_nothing() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.registry.remove("apps/shop:1.0");
    let serving = harness.serve().await;
    serving.notify("1", "apps/shop", "1.0", "a").await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_tag_that_moved_on_starts_the_run_of_what_it_holds() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:stable", "b");
    let serving = harness.serve().await;
    // The report of `b` is lost, or late.
    serving.notify("1", "apps/shop", "stable", "a").await;
    let runs = harness.ended(1).await;
    assert_eq!(image_of(&harness, &runs[0].id).await, image("apps/shop", "b"));
    let late = serving.notify("2", "apps/shop", "stable", "b").await;
    assert_eq!(late.json()["events"][0]["duplicate"], true);
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 1);
    serving.stop().await;
}

#[tokio::test]
async fn what_others_publish_on_nats_starts_a_run() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    let token = crate::ApiAccess::Token(fairlead_step::Secret::new("x".to_owned()));
    let serving = harness.serve_with(Some("zot.events"), token).await;
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "zotregistry.dev",
        "type": "zotregistry.image.updated", "time": "2026-01-01T00:00:00Z",
        "data": { "name": "apps/shop", "reference": "1.0", "digest": Digest::sha256(b"a"),
            "mediaType": "application/vnd.oci.image.manifest.v1+json" },
    });
    harness.nats.published_by_others(b"not an event".to_vec());
    for _ in 0..2 {
        harness.nats.published_by_others(event.to_string().into_bytes());
    }
    harness.ended(1).await;
    // The registry's own webhook tells of the same push.
    let same = serving.notify("1", "apps/shop", "1.0", "a").await;
    assert_eq!(same.json()["events"][0]["duplicate"], true);
    assert_eq!(harness.runs().await.len(), 1);
    serving.stop().await;
}

#[tokio::test]
async fn a_run_that_is_left_is_gone_on_with() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.leave.forget_permits(1000);
    let first = harness.serve().await;
    first.notify("1", "apps/shop", "1.0", "a").await;
    harness.settled().await;
    let run = harness.runs().await[0].clone();
    let begun = async {
        while harness.store.journal().load(&run.id).await.unwrap().records.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), begun).await.unwrap();
    first.stop().await;
    let left = &harness.runs().await[0];
    assert!(left.status == RunStatus::Running && !left.held, "{left:?}");

    harness.leave.add_permits(1);
    let second = harness.serve().await;
    let ended = harness.ended(1).await;
    assert_eq!((ended.len(), ended[0].status.name()), (1, "passed"));
    let stored = harness.store.journal().load(&run.id).await.unwrap();
    let run = fairlead_run::Run::restore(&stored).unwrap();
    assert_eq!(run.steps().next().unwrap().attempts().len(), 2, "the lost attempt is on record");
    second.stop().await;
}
