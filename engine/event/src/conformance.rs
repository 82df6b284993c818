//! What every implementation of [`Bus`] must do. Run it in the implementation's own tests, each
//! check on a bus of its own, and with a time limit around the whole.

#![expect(clippy::unwrap_used, reason = "a suite of tests, which fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;

use crate::{Bus, CloudEvent, Deliveries, Delivery};

/// An event whose id is `id`.
fn event(id: &str) -> CloudEvent {
    CloudEvent {
        id: id.to_owned(),
        source: "/conformance".to_owned(),
        kind: "dev.fairlead.image.pushed.v1".to_owned(),
        subject: Some("registry.example.com/shop:1.0".to_owned()),
        time: Some(jiff::Timestamp::UNIX_EPOCH),
        data: json!({ "text": "ä\n\u{0}", "number": 1 }),
    }
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    deliveries.next().await.expect("the stream does not end")
}

fn id(delivery: &Delivery) -> String {
    delivery.event.as_ref().expect("what was published is an event").id.clone()
}

/// Runs every check, each on a bus that `make` answers: empty, reachable, and the only one of its
/// kind.
///
/// # Panics
/// When the bus breaks its contract.
pub async fn bus_conformance<B: Bus, F: Future<Output = B>>(make: impl Fn() -> F) {
    an_event_arrives_as_it_was(&make().await).await;
    what_was_published_before_is_handed_out(&make().await).await;
    what_is_dropped_comes_again(&make().await).await;
    what_is_asked_for_later_comes_again(&make().await).await;
    what_is_done_with_does_not_come_again(&make().await).await;
    what_is_being_handled_does_not_come_again(&make().await).await;
    subscribers_share_the_events(&make().await).await;
    many_events_arrive(&make().await).await;
    a_reachable_bus_says_so(&make().await).await;
}

async fn an_event_arrives_as_it_was(bus: &impl Bus) {
    let mut deliveries = bus.subscribe().await.unwrap();
    bus.publish(&event("one")).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.event.as_ref().unwrap(), &event("one"));
    assert_eq!(delivery.attempt, 1);
    delivery.done().await.unwrap();
}

async fn what_was_published_before_is_handed_out(bus: &impl Bus) {
    bus.publish(&event("early")).await.unwrap();
    let mut deliveries = bus.subscribe().await.unwrap();
    assert_eq!(id(&next(&mut deliveries).await), "early");
}

async fn what_is_dropped_comes_again(bus: &impl Bus) {
    let mut deliveries = bus.subscribe().await.unwrap();
    bus.publish(&event("dropped")).await.unwrap();
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!(id(&again), "dropped");
    assert_eq!(again.attempt, 2);
    again.done().await.unwrap();
}

async fn what_is_asked_for_later_comes_again(bus: &impl Bus) {
    let mut deliveries = bus.subscribe().await.unwrap();
    bus.publish(&event("later")).await.unwrap();
    next(&mut deliveries).await.later(Duration::from_millis(20)).await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!((id(&again).as_str(), again.attempt), ("later", 2));
    again.done().await.unwrap();
}

async fn what_is_done_with_does_not_come_again(bus: &impl Bus) {
    let mut deliveries = bus.subscribe().await.unwrap();
    bus.publish(&event("done")).await.unwrap();
    next(&mut deliveries).await.done().await.unwrap();
    // Going around once more gives a wrong bus the time to hand the first one out again.
    bus.publish(&event("marker")).await.unwrap();
    for attempt in 1..=3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((id(&delivery).as_str(), delivery.attempt), ("marker", attempt));
        delivery.later(Duration::from_millis(400)).await.unwrap();
    }
}

/// Checked as far as the patience of the bus lets a test wait for it.
async fn what_is_being_handled_does_not_come_again(bus: &impl Bus) {
    let mut deliveries = bus.subscribe().await.unwrap();
    bus.publish(&event("slow")).await.unwrap();
    let slow = next(&mut deliveries).await;
    assert!(slow.patience().is_none_or(|patience| patience > Duration::ZERO));
    for _ in 0..3 {
        slow.progress().await.unwrap();
    }
    bus.publish(&event("marker")).await.unwrap();
    let marker = next(&mut deliveries).await;
    assert_eq!((id(&marker).as_str(), slow.attempt), ("marker", 1));
    marker.done().await.unwrap();
    slow.done().await.unwrap();
}

async fn subscribers_share_the_events(bus: &impl Bus) {
    let mut one = bus.subscribe().await.unwrap();
    let mut other = bus.subscribe().await.unwrap();
    let mut seen = Vec::new();
    for number in 0..10 {
        bus.publish(&event(&format!("shared-{number}"))).await.unwrap();
        let either = futures::future::select(one.next(), other.next()).await;
        let delivery = match either {
            futures::future::Either::Left((delivery, _))
            | futures::future::Either::Right((delivery, _)) => delivery.unwrap(),
        };
        seen.push(id(&delivery));
        delivery.done().await.unwrap();
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), 10, "each event goes to one subscriber: {seen:?}");
}

async fn many_events_arrive(bus: &impl Bus) {
    const MANY: usize = 300;
    let mut deliveries = bus.subscribe().await.unwrap();
    for number in 0..MANY {
        bus.publish(&event(&format!("many-{number}"))).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < MANY {
        let delivery = next(&mut deliveries).await;
        seen.insert(id(&delivery));
        delivery.done().await.unwrap();
    }
}

async fn a_reachable_bus_says_so(bus: &impl Bus) {
    assert!(bus.reachable());
}
