//! The bus on a real NATS server: the contract, an outage, and what somebody else publishes.

use std::sync::Mutex;
use std::time::Duration;

use fairlead_bus::{JetStream, JetStreamOptions};
use fairlead_event::{Bus, BusError, CloudEvent};
use fairlead_tests::Nats;
use futures::StreamExt as _;

fn event(id: &str) -> CloudEvent {
    CloudEvent {
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: "dev.fairlead.image.pushed.v1".to_owned(),
        subject: None,
        time: None,
        data: serde_json::json!({}),
    }
}

async fn connected(options: JetStreamOptions) -> JetStream {
    let bus = JetStream::connect(options).await.unwrap();
    while !bus.reachable() {
        bus.recovered().await;
    }
    bus
}

async fn published(bus: &JetStream, event: &CloudEvent) {
    while bus.publish(event).await.is_err() {
        bus.recovered().await;
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    // A server of its own for each check, all of them kept until the last one is over.
    let servers = Mutex::new(Vec::new());
    let suite = fairlead_event::conformance::bus_conformance(|| async {
        let nats = Nats::start();
        let mut options = JetStreamOptions::new(nats.url());
        options.ack_wait = Duration::from_millis(500);
        servers.lock().unwrap().push(nats);
        connected(options).await
    });
    tokio::time::timeout(Duration::from_secs(120), suite).await.unwrap();
}

#[tokio::test]
async fn an_outage_loses_nothing() {
    let mut nats = Nats::start();
    nats.cut();
    // Away at the start.
    let bus = JetStream::connect(JetStreamOptions::new(nats.url())).await.unwrap();
    let mut deliveries = bus.subscribe().await.unwrap();
    assert!(matches!(bus.publish(&event("early")).await, Err(BusError::Unavailable { .. })));
    let (taken, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(20), async {
            published(&bus, &event("early")).await;
            deliveries.next().await.unwrap()
        }),
        async { nats.resume() },
    );
    let delivery = taken.unwrap();
    assert_eq!(delivery.event.as_ref().unwrap().id, "early");
    delivery.done().await.unwrap();
    // Away in the middle, with a message that nobody has answered.
    published(&bus, &event("before")).await;
    let before = deliveries.next().await.unwrap();
    assert_eq!(before.event.as_ref().unwrap().id, "before");
    nats.cut();
    while bus.reachable() {
        tokio::task::yield_now().await;
    }
    assert!(bus.publish(&event("meanwhile")).await.is_err());
    nats.resume();
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        published(&bus, &event("meanwhile")).await;
        // A server that was killed may not remember that the first was handed out, or answered.
        let _ = before.done().await;
        loop {
            let delivery = deliveries.next().await.unwrap();
            let id = delivery.event.as_ref().unwrap().id.clone();
            delivery.done().await.unwrap();
            if id == "meanwhile" {
                return;
            }
            assert_eq!(id, "before");
        }
    });
    again.await.unwrap();
}

#[tokio::test]
async fn the_same_id_is_taken_once() {
    let nats = Nats::start();
    let bus = connected(JetStreamOptions::new(nats.url())).await;
    let mut deliveries = bus.subscribe().await.unwrap();
    for id in ["a", "a", "a", "b"] {
        published(&bus, &event(id)).await;
    }
    for id in ["a", "b"] {
        let delivery = deliveries.next().await.unwrap();
        assert_eq!(delivery.event.as_ref().unwrap().id, id);
        delivery.done().await.unwrap();
    }
}

#[tokio::test]
async fn what_others_publish_is_kept_while_nobody_listens() {
    let nats = Nats::start();
    {
        let bus = connected(JetStreamOptions::new(nats.url())).await;
        let mut foreign = bus.subscribe_to("zot", "zot.events").await.unwrap();
        // The stream is bound when the first message is asked for.
        let first = async {
            loop {
                nats.publish("zot.events", b"one");
                let next = tokio::time::timeout(Duration::from_millis(200), foreign.next()).await;
                if let Ok(Some(delivery)) = next {
                    return delivery;
                }
            }
        };
        let delivery = tokio::time::timeout(Duration::from_secs(20), first).await.unwrap();
        assert_eq!(delivery.body, b"one");
        delivery.done().await.unwrap();
    }
    nats.publish("zot.events", b"two");
    let bus = connected(JetStreamOptions::new(nats.url())).await;
    let mut foreign = bus.subscribe_to("zot", "zot.events").await.unwrap();
    let found = async {
        loop {
            let delivery = foreign.next().await.unwrap();
            let body = delivery.body.clone();
            delivery.done().await.unwrap();
            if body == b"two" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
}
