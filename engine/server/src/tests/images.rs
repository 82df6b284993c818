//! Parameters that are images: a tag is resolved once, when the run is asked for.

use fairlead_run::Run;
use fairlead_step::{Digest, RunId};

use super::harness::{Harness, REGISTRY, TOKEN};

const SHIP: &str = "/api/v1/pipelines/ship/runs";

/// What the journal has of a run's image, and what its step was given.
async fn image_of(harness: &Harness, run: &str) -> (String, String) {
    let run: RunId = run.parse().unwrap();
    let stored = harness.store.journal().load(&run).await.unwrap();
    let run = Run::restore(&stored).unwrap();
    let kept = run.request().params["image"].as_str().unwrap().to_owned();
    let seen = run.steps().next().and_then(|step| step.outputs().cloned()).unwrap();
    (kept, seen["text"].as_str().unwrap().to_owned())
}

fn both(tag: &str, content: &str) -> (String, String) {
    let digest = Digest::sha256(content.as_bytes());
    (format!("{REGISTRY}/apps/shop:{tag}@{digest}"), format!("{REGISTRY}/apps/shop@{digest}"))
}

fn asks(image: &str) -> String {
    format!("{{\"params\": {{\"image\": \"{REGISTRY}/{image}\"}}}}")
}

#[tokio::test]
async fn a_tag_is_resolved_once_and_the_same_key_answers_the_same_run() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:v1", "a");
    let serving = harness.serve().await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "k1")];
    let body = asks("apps/shop:v1");
    let first = serving.send("POST", SHIP, &headers, body.as_bytes()).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let run = first.json()["run"].as_str().unwrap().to_owned();
    harness.ended(1).await;
    assert_eq!(image_of(&harness, &run).await, both("v1", "a"));

    // The tag moves, goes, and its registry is away: the run is what it was.
    harness.registry.put("apps/shop:v1", "b");
    let again = serving.send("POST", SHIP, &headers, body.as_bytes()).await;
    assert_eq!((again.status, again.json()["run"].as_str()), (200, Some(run.as_str())));
    harness.registry.remove("apps/shop:v1");
    let again = serving.send("POST", SHIP, &headers, body.as_bytes()).await;
    assert_eq!((again.status, again.json()["run"].as_str()), (200, Some(run.as_str())));
    harness.registry.set_away(true);
    let again = serving.send("POST", SHIP, &headers, body.as_bytes()).await;
    assert_eq!((again.status, again.json()["run"].as_str()), (200, Some(run.as_str())));
    let other = serving.send("POST", SHIP, &headers, asks("apps/shop:v2").as_bytes()).await;
    assert!(matches!(other.status, 422), "{}", other.body);
    harness.registry.set_away(false);
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 1);

    // Another request is for what the tag stands for now.
    harness.registry.put("apps/shop:v1", "c");
    let second = serving.api("POST", SHIP, &body).await;
    harness.ended(2).await;
    let run = second.json()["run"].as_str().unwrap().to_owned();
    assert_eq!(image_of(&harness, &run).await, both("v1", "c"));
    serving.stop().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_resolved_leaves_nothing_behind() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let none = serving.api("POST", SHIP, &asks("apps/shop:v9")).await;
    assert_eq!(none.status, 422, "{}", none.body);
    assert!(none.body.contains("parameter `image`: there is no image"), "{}", none.body);
    assert!(none.body.contains("apps/shop:v9"), "{}", none.body);
    let bad = serving.api("POST", SHIP, &asks("apps/shop")).await;
    assert_eq!(bad.status, 422, "{}", bad.body);
    assert!(bad.body.contains("neither a tag nor a digest"), "{}", bad.body);
    harness.registry.set_away(true);
    let away = serving.api("POST", SHIP, &asks("apps/shop:v1")).await;
    assert_eq!(away.status, 503, "{}", away.body);
    assert!(away.body.contains("connection refused"), "{}", away.body);
    assert_eq!((harness.runs().await.len(), harness.stored_events().await), (0, 0));
    // A digest needs nobody.
    let digest = Digest::sha256(b"x");
    let pinned = serving.api("POST", SHIP, &asks(&format!("apps/shop@{digest}"))).await;
    assert_eq!(pinned.status, 201, "{}", pinned.body);
    serving.stop().await;
}

#[tokio::test]
async fn an_event_resolves_the_default() {
    let harness = Harness::new();
    harness.registry.put("base/os:1", "os");
    harness.registry.put("apps/shop:stable", "a");
    let serving = harness.serve().await;
    assert_eq!(serving.notify("1", "base/os", "1", "os").await.status, 202);
    let run = harness.ended(1).await.remove(0);
    assert_eq!(run.pipeline, "follow");
    assert_eq!(image_of(&harness, run.id.as_str()).await, both("stable", "a"));
    serving.stop().await;
}
