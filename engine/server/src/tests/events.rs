//! What becomes of events that are slow, or fail, or do not fit on the bus, or come again after
//! retention; and that nobody else waits for them.

use std::time::Duration;

use fairlead_run::{EventFilter, EventState, NewEvent, StoredEvent};
use fairlead_step::Clock as _;
use fairlead_store::PruneRules;

use super::gates::{parked, start};
use super::harness::{Harness, TOKEN};
use super::nats::Fault;
use crate::ingest::later;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes all that is over.
async fn forget(harness: &Harness) {
    let rules = PruneRules::at(later(harness.clock.now(), DAY * 90)).older_than(DAY);
    harness.store.prune(&rules, false).await.unwrap();
    assert!(harness.runs().await.is_empty());
}

async fn events(harness: &Harness, state: EventState) -> Vec<StoredEvent> {
    let filter = EventFilter { state: Some(state), limit: 100, ..EventFilter::default() };
    harness.store.events().list(filter).await.unwrap()
}

/// Waits until so many events are dead letters.
async fn given_up(harness: &Harness, count: usize) -> Vec<StoredEvent> {
    let dead = async {
        loop {
            let dead = events(harness, EventState::Dead).await;
            if dead.len() >= count {
                return dead;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dead).await.expect("they are given up")
}

#[tokio::test]
async fn after_retention_the_same_delivery_starts_nothing_and_a_new_one_does() {
    let harness = Harness::new();
    for tag in ["stable", "other"] {
        harness.registry.put(&format!("apps/shop:{tag}"), "a");
    }
    let serving = harness.serve().await;
    serving.notify("1", "apps/shop", "stable", "a").await;
    serving.notify("1", "apps/shop", "other", "a").await;
    harness.ended(2).await;
    harness.settled().await;
    forget(&harness).await;

    let same = serving.notify("2", "apps/shop", "stable", "a").await;
    assert_eq!(same.json()["events"][0]["duplicate"], true);
    harness.settled().await;
    assert!(harness.runs().await.is_empty());
    for (number, content) in ["b", "c"].iter().enumerate() {
        harness.registry.put("apps/shop:stable", content);
        let new = serving.notify("3", "apps/shop", "stable", content).await;
        assert_eq!(new.json()["events"][0]["duplicate"], false, "{content}");
        harness.ended(number + 1).await;
    }
    serving.stop().await;
}

#[tokio::test]
async fn after_retention_a_request_that_was_answered_is_not_answered_with_another_run() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "k1")];
    let ask = async || serving.send("POST", "/api/v1/pipelines/build/runs", &headers, b"").await;
    assert_eq!(ask().await.status, 201);
    harness.ended(1).await;
    harness.settled().await;
    // At first the run alone is gone, then its event, too.
    let runs = PruneRules::at(harness.clock.now()).keep_last(0);
    harness.store.prune(&runs, false).await.unwrap();
    assert!(harness.runs().await.is_empty());
    for _ in 0..2 {
        let again = ask().await;
        assert_eq!(again.status, 409, "{}", again.body);
        assert!(again.body.contains("retention"), "{}", again.body);
        forget(&harness).await;
    }
    serving.stop().await;
}

#[tokio::test]
async fn an_event_that_the_bus_does_not_take_holds_up_no_other() {
    for fault in [Fault::TooLarge, Fault::Refused] {
        let harness = Harness::new();
        harness.clock.flow_from(Duration::ZERO);
        harness.registry.put("apps/shop:1.0", "a");
        for n in 0..5 {
            harness.registry.put(&format!("apps/bad:{n}"), "a");
        }
        harness.nats.fail("registry.example.com/apps/bad", fault);
        let serving = harness.serve().await;
        for n in 0..5 {
            serving.notify("1", "apps/bad", &n.to_string(), "a").await;
        }
        serving.notify("2", "apps/shop", "1.0", "a").await;
        harness.ended(6).await;
        harness.settled().await;
        assert!(harness.store.events().unpublished(9).await.unwrap().is_empty());
        serving.stop().await;
    }
}

#[tokio::test]
async fn what_the_bus_lost_is_handed_out_by_the_next_server() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    harness.nats.fail("registry.example.com/apps/shop", Fault::Loses);
    let first = harness.serve().await;
    first.notify("1", "apps/shop", "1.0", "a").await;
    let published = async {
        while !harness.store.events().unpublished(1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.expect("the bus takes it");
    first.stop().await;
    let second = harness.serve().await;
    harness.ended(1).await;
    second.stop().await;
}

#[tokio::test]
async fn slow_events_keep_nobody_waiting() {
    let harness = Harness::new();
    for n in 0..12 {
        harness.registry.put(&format!("apps/slow:{n}"), "a");
        harness.registry.hang(&format!("apps/slow:{n}"));
    }
    harness.registry.put("apps/shop:1.0", "a");
    // As an earlier process left them: on a bus that ended with it.
    harness.nats.fail("registry.example.com/apps/slow", Fault::Loses);
    let first = harness.serve().await;
    for n in 0..12 {
        first.notify("1", "apps/slow", &n.to_string(), "a").await;
    }
    first.stop().await;

    let serving = harness.serve().await;
    harness.registry.asked().await;
    // A person's answer, a new event and its run: all go on meanwhile.
    let run = start(&serving, "free").await;
    parked(&harness, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let voted = serving.api("POST", &path, r#"{"by": "ann"}"#).await;
    assert!(matches!(voted.status, 200 | 202), "{}", voted.body);
    serving.notify("2", "apps/shop", "1.0", "a").await;
    harness.ended(2).await;
    assert_eq!(events(&harness, EventState::Pending).await.len(), 12);
    harness.registry.let_go();
    harness.ended(14).await;
    serving.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_then_given_up_and_handed_out_when_somebody_asks() {
    let mut harness = Harness::new();
    harness.give_up = Duration::from_millis(1);
    harness.clock.flow_from(Duration::ZERO);
    harness.registry.put("apps/shop:1.0", "a");
    harness.registry.set_away(true);
    let serving = harness.serve().await;
    let told = serving.notify("1", "apps/shop", "1.0", "a").await;
    let id = told.json()["events"][0]["id"].as_str().unwrap().to_owned();
    let dead = given_up(&harness, 1).await;
    assert_eq!((dead[0].key.as_str(), dead[0].attempts), (id.as_str(), 12));

    let list = serving.api("GET", "/api/v1/events?state=dead", "").await.json();
    let shown = &list["events"][0];
    assert_eq!((&shown["id"], &shown["state"]), (&id.as_str().into(), &"dead".into()), "{list}");
    assert!(shown["reason"].as_str().unwrap().contains("connection refused"), "{list}");
    assert_eq!((&shown["attempts"], &shown["next_at"]), (&12.into(), &().into()));
    assert!(shown["subject"].as_str().unwrap().starts_with("registry.example.com/apps/shop:1.0"));
    let pending = serving.api("GET", "/api/v1/events?state=pending&limit=5", "").await.json();
    assert_eq!((&pending["events"], &pending["next"]), (&serde_json::json!([]), &().into()));
    for (method, path, status) in [
        ("GET", "/api/v1/events?state=gone", 400),
        ("GET", "/api/v1/events/none", 404),
        ("POST", "/api/v1/events/none/retry", 404),
        ("POST", "/api/v1/events?state=dead", 405),
    ] {
        let answer = serving.api(method, path, "").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let path = format!("/api/v1/events/{id}");
    assert_eq!(serving.send("GET", &path, &[], b"").await.status, 401);

    harness.registry.set_away(false);
    let retry = format!("{path}/retry");
    assert_eq!(serving.api("POST", &retry, "").await.status, 202);
    harness.ended(1).await;
    harness.settled().await;
    let shown = serving.api("GET", &path, "").await.json();
    assert_eq!((&shown["state"], &shown["reason"]), (&"handled".into(), &().into()), "{shown}");
    assert_eq!(shown["event"]["data"]["tag"], "1.0");
    assert_eq!(shown["runs"][0]["pipeline"], "promote");
    let again = serving.api("POST", &retry, "").await;
    assert_eq!(again.status, 409, "{}", again.body);
    serving.stop().await;
}

#[tokio::test]
async fn what_can_never_be_handled_is_given_up_at_once() {
    let harness = Harness::new();
    let gone = serde_json::json!({
        "specversion": "1.0", "id": "gone", "source": "/fairlead/sources/api",
        "type": "dev.fairlead.run.requested.v1",
        "data": { "pipeline": "gone", "params": {}, "by": "ann", "key": "k" },
    });
    for (key, document) in [("damaged", "{".to_owned()), ("gone", gone.to_string())] {
        let now = harness.clock.now();
        let event = NewEvent {
            key: key.to_owned(),
            id: key.to_owned(),
            received_at: now,
            due_at: later(now, DAY),
            document,
            push: None,
        };
        harness.store.events().insert(event).await.unwrap();
    }
    let serving = harness.serve().await;
    let dead = given_up(&harness, 2).await;
    let why = |key: &str| {
        let event = dead.iter().find(|event| event.key == key).unwrap();
        assert_eq!(event.attempts, 1, "{key}");
        event.reason.clone().unwrap()
    };
    assert!(why("damaged").contains("cannot be read"), "{}", why("damaged"));
    assert!(why("gone").contains("no pipeline `gone`"), "{}", why("gone"));
    let shown = serving.api("GET", "/api/v1/events/damaged", "").await.json();
    assert_eq!((&shown["subject"], &shown["event"]), (&().into(), &"{".into()));
    serving.stop().await;
}
