//! The promises of [`EventStore`], and of the link between an event and the runs it starts.

use std::time::Duration;

use fairlead_step::Digest;
use futures::future::join_all;
use jiff::SignedDuration;

use super::{new_run, run_id, time};
use crate::{
    Claimed, Created, EventFilter, EventRun, EventState, EventStore, Inserted, Journal,
    MAX_REASON_BYTES, NewEvent, Retried, StoreError, StoredEvent, TagPush,
};

/// A lease that does not end while a check goes on.
const LONG: Duration = Duration::from_secs(3600);

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
    let (events, _journal) = factory().await;
    a_tag_has_a_history(&events).await;
    let (events, _journal) = factory().await;
    one_at_a_time_handles_an_event(&events).await;
    let (events, _journal) = factory().await;
    what_fails_comes_again_later(&events).await;
    let (events, _journal) = factory().await;
    what_was_given_up_is_listed_and_tried_again(&events).await;
    let (events, journal) = factory().await;
    an_event_starts_a_pipeline_once(&events, &journal).await;
    let (events, _journal) = factory().await;
    a_watermark_never_goes_back(&events).await;
    a_turn_is_taken_once(&events).await;
    a_checkpoint_is_what_was_saved_last(&events).await;
}

async fn a_turn_is_taken_once(events: &impl EventStore) {
    let take =
        async |at, next| events.take_turn("t", time(at), time(next)).await.expect("an answer");
    assert!(take(10, 20).await);
    assert!(!take(10, 20).await && !take(19, 29).await, "it has not come");
    let all = (0..10).map(|_| events.take_turn("t", time(20), time(30)));
    let taken = join_all(all).await.into_iter().filter(|taken| *taken.as_ref().expect("an answer"));
    assert_eq!(taken.count(), 1);
    assert!(take(45, 50).await, "what was missed is over");
}

async fn a_checkpoint_is_what_was_saved_last(events: &impl EventStore) {
    let found = async |name| events.checkpoint(name).await.expect("an answer");
    assert_eq!(found("a").await, None);
    for body in ["one", "two"] {
        events.save_checkpoint("a", body).await.expect("saved");
        assert_eq!(found("a").await.as_deref(), Some(body));
    }
    assert_eq!(found("b").await, None);
    let large = "x".repeat(crate::MAX_CHECKPOINT_BYTES + 1);
    assert!(matches!(events.save_checkpoint("a", &large).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(found("a").await.as_deref(), Some("two"));
}

async fn a_watermark_never_goes_back(events: &impl EventStore) {
    assert_eq!(events.watermark("a").await.expect("an answer"), None);
    for (at, want) in [(5, 5), (3, 5), (9, 9)] {
        events.raise_watermark("a", time(at)).await.expect("noted");
        assert_eq!(events.watermark("a").await.expect("an answer"), Some(time(want)));
    }
    let all = (1..=20).map(|at| events.raise_watermark("b", time(at)));
    join_all(all).await.into_iter().for_each(|noted| noted.expect("noted"));
    assert_eq!(events.watermark("b").await.expect("an answer"), Some(time(20)));
}

fn event(number: i64) -> NewEvent {
    NewEvent {
        key: format!("key-{number}"),
        id: format!("id-{number}"),
        received_at: time(number),
        due_at: time(100 + number),
        document: format!("{{\"number\":{number}}}"),
        push: None,
    }
}

async fn one_happening_is_stored_once(events: &impl EventStore) {
    let first = event(1);
    assert_eq!(events.insert(first.clone()).await.expect("stored"), Inserted::New);
    let again = NewEvent { id: "another".into(), received_at: time(9), ..first.clone() };
    let known = Inserted::Duplicate { received_at: time(1) };
    assert_eq!(events.insert(again).await.expect("known"), known);
    let stored = events.event("key-1").await.expect("an answer").expect("it is there");
    let wanted = StoredEvent {
        key: first.key,
        id: first.id,
        received_at: first.received_at,
        document: first.document,
        published_at: None,
        handled_at: None,
        dead_at: None,
        attempts: 0,
        due_at: first.due_at,
        reason: None,
    };
    assert_eq!(stored, wanted);
    assert_eq!(events.event("key-2").await.expect("an answer"), None);

    let reports = join_all((0..8).map(|_| events.insert(event(2)))).await;
    let new = reports.iter().filter(|r| matches!(r, Ok(Inserted::New))).count();
    assert_eq!(new, 1, "of many reports at once, one is new: {reports:?}");

    let large = NewEvent { document: "x".repeat(NewEvent::MAX_BYTES + 1), ..event(3) };
    let refused = events.insert(large).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

fn keys(stored: Vec<StoredEvent>) -> Vec<String> {
    stored.into_iter().map(|stored| stored.key).collect()
}

async fn due(events: &impl EventStore) -> Vec<(String, i64)> {
    let due = events.due(9).await.expect("a list");
    let since = |at: jiff::Timestamp| at.duration_since(time(0)).as_secs();
    due.into_iter().map(|event| (event.key, since(event.due_at))).collect()
}

async fn the_outbox_empties(events: &impl EventStore) {
    for n in 1..=4 {
        events.insert(event(n)).await.expect("stored");
    }
    let unpublished = async |limit| keys(events.unpublished(limit).await.expect("a list"));
    assert_eq!(unpublished(2).await, ["key-1", "key-2"]);
    let first = || vec!["key-1".to_owned(), "nobody".to_owned()];
    events.mark_published(first(), time(10), time(140)).await.expect("noted");
    events.mark_published(first(), time(11), time(150)).await.expect("noted before");
    assert_eq!(unpublished(9).await, ["key-2", "key-3", "key-4"]);
    let by_time = [("key-2", 102), ("key-3", 103), ("key-4", 104), ("key-1", 140)];
    assert_eq!(due(events).await, by_time.map(|(key, at)| (key.to_owned(), at)));
    events.mark_handled("key-1", time(12)).await.expect("noted");
    events.mark_handled("key-1", time(13)).await.expect("noted before");
    events.mark_handled("key-3", time(12)).await.expect("noted");
    events.mark_handled("nobody", time(12)).await.expect("nothing to note");
    assert_eq!(unpublished(9).await, ["key-2", "key-4"], "what is handled needs no bus");
    assert_eq!(due(events).await.len(), 2);
    assert_eq!(events.due(1).await.expect("a list").len(), 1);
    let first = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!((first.published_at, first.handled_at), (Some(time(10)), Some(time(12))));
    // Whoever has begun to handle it decides when it comes again, not the outbox behind them.
    let claimed = events.claim("key-2", "one", time(20), LONG).await.expect("an answer");
    assert!(matches!(claimed, Claimed::Yes(_)), "{claimed:?}");
    events.postpone("key-2", "one", time(30), "away").await.expect("noted");
    let second = vec!["key-2".to_owned()];
    events.mark_published(second, time(21), time(500)).await.expect("noted");
    assert_eq!(due(events).await[0], ("key-2".to_owned(), 30));
}

fn push(number: u64, content: &str) -> NewEvent {
    let key = format!("push-{number}-{content}");
    let push = TagPush {
        tag: "registry.example.com/shop:stable".into(),
        number,
        key: key.clone(),
        digest: Digest::sha256(content.as_bytes()),
        at: number.is_multiple_of(2).then(|| time(7) + SignedDuration::from_nanos(1)),
    };
    NewEvent { key, push: Some(push), ..event(1) }
}

async fn a_tag_has_a_history(events: &impl EventStore) {
    let tag = "registry.example.com/shop:stable";
    let history = async || events.history(tag).await.expect("a list");
    assert_eq!(history().await, []);
    assert_eq!(events.insert(push(1, "a")).await.expect("stored"), Inserted::New);
    // A gap is none of the store's business; a place that is taken is.
    assert_eq!(events.insert(push(4, "b")).await.expect("stored"), Inserted::New);
    assert_eq!(events.insert(push(4, "c")).await.expect("an answer"), Inserted::Overtaken);
    assert_eq!(events.event("push-4-c").await.expect("an answer"), None);
    let known = [push(4, "b"), push(1, "a")].map(|event| event.push.expect("a push"));
    assert_eq!(history().await, known);
    assert_eq!(events.history("registry.example.com/shop:other").await.expect("a list"), []);

    let at_once = join_all((0..8).map(|n| events.insert(push(5, &n.to_string())))).await;
    let new = at_once.iter().filter(|r| matches!(r, Ok(Inserted::New))).count();
    assert_eq!(new, 1, "of many pushes at once, one has the place: {at_once:?}");

    for number in 6..100 {
        events.insert(push(number, "x")).await.expect("stored");
    }
    let numbers: Vec<u64> = history().await.iter().map(|push| push.number).collect();
    let wanted: Vec<u64> = (0..TagPush::KEPT as u64).map(|back| 99 - back).collect();
    assert_eq!(numbers, wanted, "the last of them are kept");
}

async fn one_at_a_time_handles_an_event(events: &impl EventStore) {
    events.insert(event(1)).await.expect("stored");
    let claim = async |by: &str, at, lease| {
        events.claim("key-1", by, time(at), lease).await.expect("an answer")
    };
    let Claimed::Yes(stored) = claim("one", 10, LONG).await else { panic!("it was free") };
    assert_eq!((stored.key.as_str(), stored.attempts), ("key-1", 1));
    assert_eq!(claim("another", 11, LONG).await, Claimed::Held);
    assert_eq!(claim("one", 11, LONG).await, Claimed::Held, "one claim is for one handler");
    assert_eq!(due(events).await, [("key-1".to_owned(), 3610)]);
    let renew = async |by: &str, at, lease| {
        events.renew("key-1", by, time(at), lease).await.expect("an answer")
    };
    assert!(!renew("another", 20, LONG).await);
    let short = Duration::from_millis(50);
    assert!(renew("one", 20, short).await);
    // Some stores go by a clock of their own.
    std::thread::sleep(short * 4);
    let Claimed::Yes(stored) = claim("another", 21, LONG).await else { panic!("it has lapsed") };
    assert_eq!(stored.attempts, 2, "what was begun counts, whatever became of it");
    assert!(!renew("one", 22, LONG).await, "it is another's");
    events.postpone("key-1", "one", time(30), "late").await.expect("nothing");
    events.give_up("key-1", "one", time(30), "late").await.expect("nothing");
    assert_eq!(claim("one", 31, LONG).await, Claimed::Held);
    events.mark_handled("key-1", time(32)).await.expect("noted");
    assert!(!renew("another", 33, LONG).await, "it is over");
    events.give_up("key-1", "another", time(33), "late").await.expect("nothing");
    assert_eq!(claim("one", 34, LONG).await, Claimed::Over(EventState::Handled));
    let nobodys = events.claim("nobody", "one", time(34), LONG).await.expect("an answer");
    assert_eq!(nobodys, Claimed::Unknown);

    events.insert(event(2)).await.expect("stored");
    let names: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let claims = join_all(names.iter().map(|by| events.claim("key-2", by, time(40), LONG))).await;
    let won = claims.iter().filter(|claim| matches!(claim, Ok(Claimed::Yes(_)))).count();
    assert_eq!(won, 1, "of many at once, one has it: {claims:?}");
}

async fn what_fails_comes_again_later(events: &impl EventStore) {
    events.insert(event(1)).await.expect("stored");
    events.insert(event(2)).await.expect("stored");
    events.claim("key-1", "one", time(10), LONG).await.expect("an answer");
    let reason = "the registry is away: ä".repeat(MAX_REASON_BYTES);
    events.postpone("key-1", "one", time(200), &reason).await.expect("noted");
    let stored = events.event("key-1").await.expect("an answer").expect("it is there");
    let said = stored.reason.clone().expect("a reason");
    assert!(said.starts_with("the registry is away: ä") && said.len() <= MAX_REASON_BYTES);
    assert_eq!((stored.state(), stored.attempts), (EventState::Pending, 1));
    let order = [("key-2".to_owned(), 102), ("key-1".to_owned(), 200)];
    assert_eq!(due(events).await, order, "it goes behind one that has not failed");
    let fresh: Vec<bool> =
        events.due(9).await.expect("a list").iter().map(|event| event.fresh).collect();
    assert_eq!(fresh, [true, false]);
    let Claimed::Yes(stored) = events.claim("key-1", "two", time(200), LONG).await.expect("yes")
    else {
        panic!("its claim was given back")
    };
    assert_eq!(stored.attempts, 2);
    assert!(stored.reason.is_some(), "what went wrong before is known while it is tried");
    events.mark_handled("key-1", time(201)).await.expect("noted");
    let stored = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!((stored.state(), stored.reason), (EventState::Handled, None));
}

async fn what_was_given_up_is_listed_and_tried_again(events: &impl EventStore) {
    for n in 1..=4 {
        events.insert(event(n)).await.expect("stored");
    }
    for key in ["key-1", "key-2", "key-4"] {
        events.claim(key, "one", time(10), LONG).await.expect("an answer");
        events.give_up(key, "one", time(11), "no use").await.expect("noted");
    }
    events.mark_handled("key-4", time(12)).await.expect("somebody did it all the same");
    let list = async |state, before: Option<&str>, limit| {
        let filter = EventFilter { state, before: before.map(str::to_owned), limit, prefix: None };
        keys(events.list(filter).await.expect("a list"))
    };
    assert_eq!(list(None, None, 9).await, ["key-4", "key-3", "key-2", "key-1"]);
    assert_eq!(list(Some(EventState::Dead), None, 9).await, ["key-2", "key-1"]);
    assert_eq!(list(Some(EventState::Dead), None, 1).await, ["key-2"]);
    assert_eq!(list(Some(EventState::Dead), Some("key-2"), 9).await, ["key-1"]);
    assert_eq!(list(None, Some("nobody"), 9).await, [""; 0]);
    assert_eq!(list(Some(EventState::Pending), None, 9).await, ["key-3"]);
    assert_eq!(list(Some(EventState::Handled), None, 9).await, ["key-4"]);
    let named = EventFilter { prefix: Some("key-".into()), limit: 9, ..EventFilter::default() };
    assert_eq!(events.list(named.clone()).await.expect("a list").len(), 4);
    let named = EventFilter { prefix: Some("key-3".into()), ..named };
    assert_eq!(keys(events.list(named.clone()).await.expect("a list")), ["key-3"]);
    // What means something to a database means nothing here.
    let named = EventFilter { prefix: Some("key%".into()), ..named };
    assert_eq!(events.list(named).await.expect("a list"), []);

    let dead = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!((dead.dead_at, dead.reason.as_deref()), (Some(time(11)), Some("no use")));
    assert_eq!(due(events).await, [("key-3".to_owned(), 103)]);
    assert_eq!(keys(events.unpublished(9).await.expect("a list")), ["key-3"]);
    let refused = events.claim("key-1", "two", time(20), LONG).await.expect("an answer");
    assert_eq!(refused, Claimed::Over(EventState::Dead));

    let retry = async |key| events.retry(key, time(30)).await.expect("an answer");
    assert_eq!(retry("key-1").await, Retried::Due);
    assert_eq!(retry("key-3").await, Retried::Due, "one that waits need not wait");
    assert_eq!(retry("key-4").await, Retried::Handled);
    assert_eq!(retry("nobody").await, Retried::Unknown);
    let again = events.event("key-1").await.expect("an answer").expect("it is there");
    assert_eq!((again.state(), again.attempts, again.due_at), (EventState::Pending, 0, time(30)));
    assert_eq!(again.reason, None);
    let claimed = events.claim("key-1", "two", time(31), LONG).await.expect("an answer");
    assert!(matches!(claimed, Claimed::Yes(_)), "{claimed:?}");
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
