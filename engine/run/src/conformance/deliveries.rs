//! The promises of [`DeliveryStore`].

use std::time::Duration;

use super::{run_id, time};
use crate::{
    DeliveryFilter, DeliveryOutcome, DeliveryStore, EventState, NewDelivery, StoreError,
    StoredDelivery, TakeDeliveries,
};

/// Checks that what `factory` makes keeps the promises of [`DeliveryStore`]. Each call of `factory` answers
/// a new, empty store.
///
/// # Panics
/// At the first promise that is broken.
pub async fn delivery_store_conformance<D: DeliveryStore>(factory: impl AsyncFn() -> D) {
    a_message_is_sent_until_it_is_delivered(&factory().await).await;
    destinations_do_not_wait_for_each_other(&factory().await).await;
    what_is_replaced_is_not_sent(&factory().await).await;
    what_is_dead_is_sent_again_when_asked_for(&factory().await).await;
}

fn message(destination: &str, id: &str, about: &str) -> NewDelivery {
    NewDelivery {
        destination: destination.to_owned(),
        id: id.to_owned(),
        kind: "test".to_owned(),
        about: about.to_owned(),
        replaces: false,
        run: Some(run_id(1)),
        document: format!("{{\"id\":\"{id}\"}}"),
        created_at: time(0),
    }
}

fn wanted(destination: &str, by: &str, at: i64) -> TakeDeliveries {
    TakeDeliveries {
        destination: destination.to_owned(),
        by: by.to_owned(),
        at: time(at),
        lease: Duration::from_secs(60),
        limit: 10,
    }
}

async fn take(store: &impl DeliveryStore, wanted: TakeDeliveries) -> Vec<StoredDelivery> {
    store.take(wanted).await.expect("an answer")
}

fn ids(taken: &[StoredDelivery]) -> Vec<&str> {
    taken.iter().map(|it| it.message.id.as_str()).collect()
}

async fn a_message_is_sent_until_it_is_delivered(store: &impl DeliveryStore) {
    let messages = vec![message("a", "1", "x"), message("a", "2", "y"), message("a", "3", "x")];
    assert_eq!(store.add(messages.clone()).await.expect("kept"), 3);
    assert_eq!(store.add(messages).await.expect("kept"), 0, "each is there once");
    let large =
        NewDelivery { document: "x".repeat(NewDelivery::MAX_BYTES + 1), ..message("a", "4", "z") };
    assert!(matches!(store.add(vec![large]).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.next_due("a").await.expect("an answer"), Some(time(0)));

    let one = TakeDeliveries { limit: 1, ..wanted("a", "first", 1) };
    let taken = take(store, one).await;
    assert_eq!(ids(&taken), ["1"]);
    assert_eq!((taken[0].attempts, taken[0].message.run.clone()), (1, Some(run_id(1))));
    // The third is about what the first is about, which is being sent.
    let others = take(store, wanted("a", "second", 1)).await;
    assert_eq!(ids(&others), ["2"]);
    let number = taken[0].number;
    let done = |at| DeliveryOutcome::Delivered { at: time(at) };
    store.settle(number, "second", done(2)).await.expect("no mistake");
    assert!(take(store, wanted("a", "second", 2)).await.is_empty(), "it is somebody else's");
    let later = DeliveryOutcome::Later { due_at: time(30), reason: "away".to_owned() };
    store.settle(number, "first", later).await.expect("noted");
    // What waits for its time holds nothing up.
    let third = take(store, wanted("a", "first", 3)).await;
    assert_eq!(ids(&third), ["3"]);
    store.settle(third[0].number, "first", done(4)).await.expect("noted");
    assert_eq!(store.next_due("a").await.expect("an answer"), Some(time(30)));
    assert!(take(store, wanted("a", "first", 29)).await.is_empty());
    let again = take(store, wanted("a", "first", 30)).await;
    assert_eq!(ids(&again), ["1"]);
    assert_eq!((again[0].attempts, again[0].reason.as_deref()), (2, Some("away")));
    // Whoever took it is gone: another has it when its time is over, and the first has no say any more.
    let lost = take(store, wanted("a", "third", 95)).await;
    assert_eq!(ids(&lost), ["1", "2"]);
    store.settle(number, "first", done(96)).await.expect("no mistake");
    for it in &lost {
        store.settle(it.number, "third", done(97)).await.expect("noted");
    }
    assert_eq!(store.next_due("a").await.expect("an answer"), None);
    let all = DeliveryFilter { limit: 10, ..DeliveryFilter::default() };
    let all = store.deliveries(all).await.expect("a list");
    assert_eq!(ids(&all), ["3", "2", "1"]);
    assert!(all.iter().all(|it| it.state() == EventState::Handled && it.reason.is_none()));
    assert_eq!(all[2].delivered_at, Some(time(97)));
}

async fn destinations_do_not_wait_for_each_other(store: &impl DeliveryStore) {
    store.add(vec![message("a", "1", "x"), message("b", "1", "x")]).await.expect("kept");
    assert_eq!(take(store, wanted("a", "me", 1)).await.len(), 1);
    assert_eq!(take(store, wanted("b", "me", 1)).await.len(), 1);
    assert_eq!(store.next_due("c").await.expect("an answer"), None);
}

async fn what_is_replaced_is_not_sent(store: &impl DeliveryStore) {
    let last = |id: &str| NewDelivery { replaces: true, ..message("a", id, "x") };
    store.add(vec![message("a", "begun", "x"), last("ended")]).await.expect("kept");
    assert_eq!(ids(&take(store, wanted("a", "me", 1)).await), ["ended"]);
    // What is being sent is sent to its end, and what replaces it waits for that.
    store.add(vec![message("b", "begun", "x")]).await.expect("kept");
    let begun = take(store, wanted("b", "me", 1)).await;
    store
        .add(vec![NewDelivery { replaces: true, ..message("b", "ended", "x") }])
        .await
        .expect("kept");
    assert!(take(store, wanted("b", "me", 2)).await.is_empty());
    let later = DeliveryOutcome::Later { due_at: time(5), reason: "away".to_owned() };
    store.settle(begun[0].number, "me", later).await.expect("noted");
    assert_eq!(ids(&take(store, wanted("b", "me", 6)).await), ["ended"]);
}

async fn what_is_dead_is_sent_again_when_asked_for(store: &impl DeliveryStore) {
    store.add(vec![message("a", "1", "x")]).await.expect("kept");
    let taken = take(store, wanted("a", "me", 1)).await;
    let number = taken[0].number;
    let dead = DeliveryOutcome::GivenUp { at: time(2), reason: "gone".to_owned() };
    store.settle(number, "me", dead).await.expect("noted");
    assert_eq!(store.next_due("a").await.expect("an answer"), None);
    let dead =
        DeliveryFilter { state: Some(EventState::Dead), limit: 9, ..DeliveryFilter::default() };
    let found = store.deliveries(dead.clone()).await.expect("a list");
    assert_eq!((ids(&found), found[0].reason.as_deref()), (vec!["1"], Some("gone")));
    assert!(store.send_again(number, time(3)).await.expect("an answer"));
    assert!(store.deliveries(dead).await.expect("a list").is_empty());
    let taken = take(store, wanted("a", "me", 100)).await;
    assert_eq!(taken[0].attempts, 1);
    store.settle(number, "me", DeliveryOutcome::Delivered { at: time(4) }).await.expect("noted");
    assert!(!store.send_again(number, time(5)).await.expect("an answer"), "it was delivered");
    assert!(!store.send_again(number + 1000, time(5)).await.expect("an answer"));
}
