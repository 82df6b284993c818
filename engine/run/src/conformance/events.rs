//! The promises of [`EventStore`], and of the link between an event and the runs it starts.

use futures::future::join_all;

use super::{new_run, run_id, time};
use crate::{Created, EventRun, EventStore, Inserted, Journal, NewEvent, StoreError, StoredEvent};

/// Checks that what `factory` makes keeps the promises of [`EventStore`] and, with it, those of
/// [`Journal::create`] on runs that an event starts. Each call of `factory` answers a new, empty
/// store, as both of its sides.
///
/// # Panics
/// At the first promise that is broken.
pub async fn event_store_conformance<E: EventStore, J: Journal>(factory: impl AsyncFn() -> (E, J)) {
    let (events, _journal) = factory().await;
    one_happening_is_stored_once(&events).await;
    let (events, _journal) = factory().await;
    the_outbox_empties(&events).await;
    let (events, journal) = factory().await;
    an_event_starts_a_pipeline_once(&events, &journal).await;
}

fn event(number: i64) -> NewEvent {
    NewEvent {
        key: format!("key-{number}"),
        id: format!("id-{number}"),
        received_at: time(number),
        document: format!("{{\"number\":{number}}}"),
    }
}

async fn one_happening_is_stored_once(events: &impl EventStore) {
    let first = event(1);
    assert_eq!(events.insert(first.clone()).await.expect("stored"), Inserted::New);
    let again = NewEvent { id: "another".into(), received_at: time(9), ..first.clone() };
    let known = Inserted::Duplicate { id: "id-1".into(), received_at: time(1) };
    assert_eq!(events.insert(again).await.expect("known"), known);
    let stored = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!(stored, StoredEvent { event: first, published_at: None, handled_at: None });
    assert_eq!(events.event("key-2").await.expect("an answer"), None);

    let reports = join_all((0..8).map(|_| events.insert(event(2)))).await;
    let new = reports.iter().filter(|r| matches!(r, Ok(Inserted::New))).count();
    assert_eq!(new, 1, "of many reports at once, one is new: {reports:?}");

    let large = NewEvent { document: "x".repeat(NewEvent::MAX_BYTES + 1), ..event(3) };
    let refused = events.insert(large).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

async fn the_outbox_empties(events: &impl EventStore) {
    for n in 1..=3 {
        events.insert(event(n)).await.expect("stored");
    }
    let keys =
        |stored: Vec<StoredEvent>| stored.into_iter().map(|s| s.event.key).collect::<Vec<_>>();
    let unpublished = async |limit| keys(events.unpublished(limit).await.expect("a list"));
    let unhandled = async |limit| keys(events.unhandled(limit).await.expect("a list"));
    assert_eq!(unpublished(2).await, ["key-1", "key-2"]);
    events.mark_published("key-1", time(10)).await.expect("noted");
    events.mark_published("key-1", time(11)).await.expect("noted before");
    events.mark_published("nobody", time(11)).await.expect("nothing to note");
    assert_eq!(unpublished(9).await, ["key-2", "key-3"]);
    assert_eq!(unhandled(9).await, ["key-1", "key-2", "key-3"]);
    events.mark_handled("key-1", time(12)).await.expect("noted");
    events.mark_handled("key-3", time(12)).await.expect("noted");
    assert_eq!(unhandled(9).await, ["key-2"]);
    let first = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!((first.published_at, first.handled_at), (Some(time(10)), Some(time(12))));
}

async fn an_event_starts_a_pipeline_once(events: &impl EventStore, journal: &impl Journal) {
    events.insert(event(1)).await.expect("stored");
    events.insert(event(2)).await.expect("stored");
    let start = async |number, pipeline, key| {
        journal.create(new_run(number, pipeline, Some(key))).await.expect("an answer")
    };
    assert_eq!(start(1, "a", "key-1").await, Created::New);
    assert_eq!(start(2, "a", "key-1").await, Created::Already(run_id(1)));
    assert_eq!(start(3, "b", "key-1").await, Created::New);
    assert_eq!(start(4, "a", "key-2").await, Created::New);
    assert!(journal.load(&run_id(2)).await.is_err(), "the second run was not written");
    let runs = [
        EventRun { pipeline: "a".into(), run: run_id(1) },
        EventRun { pipeline: "b".into(), run: run_id(3) },
    ];
    assert_eq!(events.runs_of("key-1").await.expect("a list"), runs);
    let unknown = journal.create(new_run(5, "a", Some("nobody"))).await;
    assert!(unknown.is_err(), "an event that is not stored starts nothing");

    let at_once = join_all((10..18).map(|n| journal.create(new_run(n, "c", Some("key-1"))))).await;
    let new = at_once.iter().filter(|c| matches!(c, Ok(Created::New))).count();
    assert_eq!(new, 1, "of many at once, one run starts: {at_once:?}");
}
