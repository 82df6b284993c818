//! What becomes of events that are slow, or fail, or do not fit on the bus, or come again after
//! retention; and that nobody else waits for them.

use std::time::Duration;

use fairlead_run::{EventFilter, EventState, NewEvent, StoredEvent};
use fairlead_step::Clock as _;
use fairlead_store::PruneRules;

use super::gates::{parked, start};
use super::house::{Fault, House, TOKEN};
use crate::intake::later;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes all that is over.
async fn forget(house: &House) {
    let rules = PruneRules::at(later(house.clock.now(), DAY * 90)).older_than(DAY);
    house.store.prune(&rules, false).await.unwrap();
    assert!(house.runs().await.is_empty());
}

async fn events(house: &House, state: EventState) -> Vec<StoredEvent> {
    let filter = EventFilter { state: Some(state), limit: 100, ..EventFilter::default() };
    house.store.events().list(filter).await.unwrap()
}

/// Waits until so many events are dead letters.
async fn given_up(house: &House, count: usize) -> Vec<StoredEvent> {
    let dead = async {
        loop {
            let dead = events(house, EventState::Dead).await;
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
    let house = House::new();
    for tag in ["stable", "other"] {
        house.registry.put(&format!("apps/shop:{tag}"), "a");
    }
    let serving = house.serve().await;
    serving.notify("1", "apps/shop", "stable", "a").await;
    serving.notify("1", "apps/shop", "other", "a").await;
    house.ended(2).await;
    house.settled().await;
    forget(&house).await;

    let same = serving.notify("2", "apps/shop", "stable", "a").await;
    assert_eq!(same.json()["events"][0]["duplicate"], true);
    house.settled().await;
    assert!(house.runs().await.is_empty());
    for (number, content) in ["b", "c"].iter().enumerate() {
        house.registry.put("apps/shop:stable", content);
        let new = serving.notify("3", "apps/shop", "stable", content).await;
        assert_eq!(new.json()["events"][0]["duplicate"], false, "{content}");
        house.ended(number + 1).await;
    }
    serving.stop().await;
}

#[tokio::test]
async fn after_retention_a_request_that_was_answered_is_not_answered_with_another_run() {
    let house = House::new();
    let serving = house.serve().await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "k1")];
    let ask = async || serving.send("POST", "/api/v1/pipelines/build/runs", &headers, b"").await;
    assert_eq!(ask().await.status, 201);
    house.ended(1).await;
    house.settled().await;
    // At first the run alone is gone, then its event, too.
    let runs = PruneRules::at(house.clock.now()).keep_last(0);
    house.store.prune(&runs, false).await.unwrap();
    assert!(house.runs().await.is_empty());
    for _ in 0..2 {
        let again = ask().await;
        assert_eq!(again.status, 409, "{}", again.body);
        assert!(again.body.contains("retention"), "{}", again.body);
        forget(&house).await;
    }
    serving.stop().await;
}

#[tokio::test]
async fn an_event_that_the_bus_does_not_take_holds_up_no_other() {
    for fault in [Fault::TooLarge, Fault::Refused] {
        let house = House::new();
        house.clock.flow_from(Duration::ZERO);
        house.registry.put("apps/shop:1.0", "a");
        for n in 0..5 {
            house.registry.put(&format!("apps/bad:{n}"), "a");
        }
        house.nats.fail("registry.example.com/apps/bad", fault);
        let serving = house.serve().await;
        for n in 0..5 {
            serving.notify("1", "apps/bad", &n.to_string(), "a").await;
        }
        serving.notify("2", "apps/shop", "1.0", "a").await;
        house.ended(6).await;
        house.settled().await;
        assert!(house.store.events().unpublished(9).await.unwrap().is_empty());
        serving.stop().await;
    }
}

#[tokio::test]
async fn what_the_bus_lost_is_handed_out_by_the_next_server() {
    let house = House::new();
    house.registry.put("apps/shop:1.0", "a");
    house.nats.fail("registry.example.com/apps/shop", Fault::Loses);
    let first = house.serve().await;
    first.notify("1", "apps/shop", "1.0", "a").await;
    let published = async {
        while !house.store.events().unpublished(1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.expect("the bus takes it");
    first.stop().await;
    let second = house.serve().await;
    house.ended(1).await;
    second.stop().await;
}

#[tokio::test]
async fn slow_events_keep_nobody_waiting() {
    let house = House::new();
    for n in 0..12 {
        house.registry.put(&format!("apps/slow:{n}"), "a");
        house.registry.hang(&format!("apps/slow:{n}"));
    }
    house.registry.put("apps/shop:1.0", "a");
    // As an earlier process left them: on a bus that ended with it.
    house.nats.fail("registry.example.com/apps/slow", Fault::Loses);
    let first = house.serve().await;
    for n in 0..12 {
        first.notify("1", "apps/slow", &n.to_string(), "a").await;
    }
    first.stop().await;

    let serving = house.serve().await;
    house.registry.asked().await;
    // A person's answer, a new event and its run: all go on meanwhile.
    let run = start(&serving, "free").await;
    parked(&house, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let voted = serving.api("POST", &path, r#"{"by": "ann"}"#).await;
    assert!(matches!(voted.status, 200 | 202), "{}", voted.body);
    serving.notify("2", "apps/shop", "1.0", "a").await;
    house.ended(2).await;
    assert_eq!(events(&house, EventState::Pending).await.len(), 12);
    house.registry.let_go();
    house.ended(14).await;
    serving.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_then_given_up_and_handed_out_when_somebody_asks() {
    let mut house = House::new();
    house.give_up = Duration::from_millis(1);
    house.clock.flow_from(Duration::ZERO);
    house.registry.put("apps/shop:1.0", "a");
    house.registry.set_away(true);
    let serving = house.serve().await;
    let told = serving.notify("1", "apps/shop", "1.0", "a").await;
    let id = told.json()["events"][0]["id"].as_str().unwrap().to_owned();
    let dead = given_up(&house, 1).await;
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

    house.registry.set_away(false);
    let retry = format!("{path}/retry");
    assert_eq!(serving.api("POST", &retry, "").await.status, 202);
    house.ended(1).await;
    house.settled().await;
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
    let house = House::new();
    let gone = serde_json::json!({
        "specversion": "1.0", "id": "gone", "source": "/fairlead/sources/api",
        "type": "dev.fairlead.run.requested.v1",
        "data": { "pipeline": "gone", "params": {}, "by": "ann", "key": "k" },
    });
    for (key, document) in [("damaged", "{".to_owned()), ("gone", gone.to_string())] {
        let now = house.clock.now();
        let event = NewEvent {
            key: key.to_owned(),
            id: key.to_owned(),
            received_at: now,
            due_at: later(now, DAY),
            document,
            push: None,
        };
        house.store.events().insert(event).await.unwrap();
    }
    let serving = house.serve().await;
    let dead = given_up(&house, 2).await;
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
