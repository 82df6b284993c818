//! The promises of [`Journal::admit`].

use std::num::NonZeroU32;

use fairlead_plan::ConcurrencyPolicy::{self, CancelRunning, Queue, Reject, Supersede};
use fairlead_step::RunId;
use futures::future::join_all;

use super::driver::{Driver, fact, listed, wakes_until};
use super::{new_run, run_id, run_in};
use crate::{
    Admission, AppendError, Epoch, Group, Journal, RunEvent, RunStatus, Seq, StoreError, Wake,
};

pub(super) async fn conformance<J: Journal>(factory: impl AsyncFn() -> J) {
    a_queue_keeps_the_order_of_creation(&factory().await).await;
    a_group_may_have_room_for_some(&factory().await).await;
    a_turn_is_kept_whoever_drives(&factory().await).await;
    who_does_not_wait_is_refused(&factory().await).await;
    a_newcomer_takes_the_place_of_those_that_wait(&factory().await).await;
    the_store_may_be_limited_as_a_whole(&factory().await).await;
    admissions_are_refused_like_appends(&factory().await).await;
    of_many_at_once_only_so_many_are_admitted(&factory().await).await;
}

pub(super) fn group(name: &str, policy: ConcurrencyPolicy, max: u32) -> Group {
    Group { name: name.to_owned(), policy, max: most(max) }
}

fn most(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

fn waits(behind: Option<u64>, holders: &[u64]) -> Admission {
    let holders = holders.iter().map(|&number| run_id(number)).collect();
    Admission::Wait { behind: behind.map(run_id), holders }
}

async fn created(
    journal: &impl Journal,
    number: u64,
    policy: ConcurrencyPolicy,
    max: u32,
) -> RunId {
    journal.create(run_in(number, group("g", policy, max))).await.expect("created");
    run_id(number)
}

async fn driver<J: Journal>(
    journal: &J,
    number: u64,
    policy: ConcurrencyPolicy,
    max: u32,
) -> Driver<'_, J> {
    Driver::of(journal, &created(journal, number, policy, max).await).await
}

async fn a_queue_keeps_the_order_of_creation(journal: &impl Journal) {
    // By their ids they would stand the other way round.
    let mut first = driver(journal, 3, Queue, 1).await;
    let mut second = driver(journal, 2, Queue, 1).await;
    let mut third = driver(journal, 1, Queue, 1).await;
    journal.create(run_in(9, group("another", Queue, 1))).await.expect("created");
    let mut other = Driver::of(journal, &run_id(9)).await;
    assert_eq!(listed(journal, &run_id(2)).await.status, RunStatus::Queued);
    let mut numbers = Vec::new();
    for id in [3, 2, 1, 9] {
        numbers.push(listed(journal, &run_id(id)).await.number);
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "lists tell that order: {numbers:?}");

    assert_eq!(second.ask(None).await, waits(Some(3), &[]), "the first comes first");
    assert_eq!(first.ask(None).await, Admission::Admitted);
    assert_eq!(listed(journal, &run_id(3)).await.status, RunStatus::Running);
    assert_eq!(other.ask(None).await, Admission::Admitted, "another group, another queue");
    assert_eq!(second.ask(None).await, waits(Some(3), &[3]));
    assert_eq!(third.ask(None).await, waits(Some(2), &[3]));
    assert_eq!(first.ask(None).await, Admission::Admitted, "who is admitted is told so");
    let stored = journal.load(&run_id(3)).await.expect("the run is there");
    assert_eq!(stored.records.len(), 3, "and each time the batch is written");

    let before = listed(journal, &run_id(2)).await;
    assert_eq!(before.status, RunStatus::Queued, "who waits has written nothing");
    assert_eq!(journal.load(&run_id(2)).await.expect("the run is there").records.len(), 1);

    first.end().await;
    assert_eq!(third.ask(None).await, waits(Some(2), &[]), "a free place is not his yet");
    assert_eq!(second.ask(None).await, Admission::Admitted);
    second.end().await;
    assert_eq!(third.ask(None).await, Admission::Admitted);
}

async fn a_group_may_have_room_for_some(journal: &impl Journal) {
    let mut first = driver(journal, 1, Queue, 2).await;
    let mut second = driver(journal, 2, Queue, 2).await;
    let mut third = driver(journal, 3, Queue, 2).await;
    // Each run goes by its own number: to this one the group is smaller.
    let mut shy = driver(journal, 4, Supersede, 1).await;
    assert_eq!(first.ask(None).await, Admission::Superseded { by: run_id(4) });
    let _ = shy.ask(None).await;
    shy.end().await;
    assert_eq!(first.ask(None).await, Admission::Admitted);
    assert_eq!(second.ask(None).await, Admission::Admitted);
    assert_eq!(third.ask(None).await, waits(Some(1), &[1, 2]));
    let mut single = driver(journal, 5, CancelRunning, 1).await;
    first.end().await;
    assert_eq!(single.ask(None).await, waits(Some(2), &[2]));
    single.end().await;
    assert_eq!(third.ask(None).await, Admission::Admitted);
}

async fn a_turn_is_kept_whoever_drives(journal: &impl Journal) {
    let mut first = driver(journal, 1, Queue, 1).await;
    let mut second = driver(journal, 2, Queue, 1).await;
    assert_eq!(first.ask(None).await, Admission::Admitted);
    drop(first);
    assert_eq!(second.ask(None).await, waits(Some(1), &[1]), "a lease is no admission");
    let mut again = Driver::of(journal, &run_id(1)).await;
    assert_eq!(again.ask(None).await, Admission::Admitted);
    // A waiting run that ends gives way, too.
    let mut third = driver(journal, 3, Queue, 1).await;
    again.end().await;
    second.end().await;
    assert_eq!(third.ask(None).await, Admission::Admitted);
}

async fn who_does_not_wait_is_refused(journal: &impl Journal) {
    let mut first = driver(journal, 1, Reject, 1).await;
    let mut second = driver(journal, 2, Reject, 1).await;
    let busy = Admission::Busy { holder: run_id(1) };
    assert_eq!(second.ask(None).await, busy, "the place is of him who came first");
    assert_eq!(first.ask(None).await, Admission::Admitted);
    assert_eq!(second.ask(None).await, busy);
    second.end().await;
    first.end().await;
    let mut third = driver(journal, 3, Reject, 1).await;
    assert_eq!(third.ask(None).await, Admission::Admitted);
}

async fn a_newcomer_takes_the_place_of_those_that_wait(journal: &impl Journal) {
    let mut first = driver(journal, 1, Supersede, 1).await;
    assert_eq!(first.ask(None).await, Admission::Admitted);
    let mut second = driver(journal, 2, Supersede, 1).await;
    assert_eq!(second.ask(None).await, waits(Some(1), &[1]));
    let mut third = driver(journal, 3, Supersede, 1).await;
    assert_eq!(second.ask(None).await, Admission::Superseded { by: run_id(3) });
    assert_eq!(third.ask(None).await, waits(Some(1), &[1]), "it does not wait for the second");
    assert_eq!(first.ask(None).await, Admission::Admitted, "who goes on is not superseded");
    first.end().await;
    assert_eq!(third.ask(None).await, Admission::Admitted, "though the second has not ended");

    let mut queued = driver(journal, 4, Queue, 1).await;
    let mut fifth = driver(journal, 5, CancelRunning, 1).await;
    assert_eq!(fifth.ask(None).await, waits(Some(3), &[3]));
    let latest = driver(journal, 6, Supersede, 1).await;
    assert_eq!(queued.ask(None).await, Admission::Superseded { by: run_id(6) }, "the latest");
    assert_eq!(fifth.ask(None).await, Admission::Superseded { by: run_id(6) });
    latest.end().await;
    fifth.end().await;
    third.end().await;
    assert_eq!(queued.ask(None).await, waits(Some(2), &[]), "who ended supersedes nobody");
    second.end().await;
    assert_eq!(queued.ask(None).await, Admission::Admitted);
}

async fn the_store_may_be_limited_as_a_whole(journal: &impl Journal) {
    let two = Some(most(2));
    let mut drivers = Vec::new();
    for number in 1..=3 {
        journal.create(new_run(number, "one", None)).await.expect("created");
        drivers.push(Driver::of(journal, &run_id(number)).await);
    }
    let mut grouped = driver(journal, 4, Queue, 1).await;
    let mut rejecting = driver(journal, 5, Reject, 9).await;
    assert_eq!(drivers[0].ask(two).await, Admission::Admitted);
    assert_eq!(grouped.ask(two).await, Admission::Admitted);
    assert_eq!(drivers[1].ask(two).await, waits(None, &[]));
    assert_eq!(rejecting.ask(two).await, waits(None, &[4]), "its group is not what is full");
    assert_eq!(drivers[2].ask(Some(most(3))).await, Admission::Admitted);
    assert_eq!(drivers[2].ask(two).await, Admission::Admitted, "what is admitted stays so");
    grouped.end().await;
    drivers.remove(0).end().await;
    assert_eq!(drivers[0].ask(two).await, Admission::Admitted);
    assert_eq!(rejecting.ask(two).await, waits(None, &[]));
    drivers.remove(0).end().await;
    assert_eq!(rejecting.ask(two).await, Admission::Admitted);

    // Who rests leaves it to another to go on, who hears of it.
    journal.create(new_run(6, "one", None)).await.expect("created");
    let mut sixth = Driver::of(journal, &run_id(6)).await;
    assert_eq!(sixth.ask(two).await, waits(None, &[]));
    let mut wakes = journal.wakes();
    let rest = drivers[0].batch(vec![fact()], RunStatus::Waiting);
    drivers[0].append(rest).await.expect("appended");
    wakes_until(&mut wakes, &Wake::Admission).await;
    assert_eq!(sixth.ask(two).await, Admission::Admitted);
    let on = drivers[0].batch(vec![fact()], RunStatus::Running);
    drivers[0].append(on).await.expect("it goes on without asking");
    journal.create(new_run(7, "one", None)).await.expect("created");
    let mut seventh = Driver::of(journal, &run_id(7)).await;
    assert_eq!(seventh.ask(two).await, waits(None, &[]));
    assert_eq!(seventh.ask(Some(most(4))).await, Admission::Admitted);
}

async fn admissions_are_refused_like_appends(journal: &impl Journal) {
    let mut first = driver(journal, 1, Queue, 1).await;
    let mut second = driver(journal, 2, Queue, 1).await;
    let ask = |driver: &Driver<'_, _>| driver.batch(vec![RunEvent::Admitted], RunStatus::Running);

    let mut fenced = ask(&first);
    fenced.epoch = Epoch(first.lease.epoch().0 + 1);
    let refused = journal.admit(fenced, None).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let late = ask(&first);
    let more = first.batch(vec![fact()], RunStatus::Running);
    first.append(more).await.expect("appended");
    match journal.admit(late, None).await {
        Err(AppendError::Conflict { expected, found, .. }) => {
            assert_eq!((expected, found), (Seq(1), Seq(2)));
        }
        other => panic!("{other:?}"),
    }
    // One that has to wait hears first that it may not write at all.
    let mut fenced = ask(&second);
    fenced.epoch = Epoch(0);
    let refused = journal.admit(fenced, None).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    assert_eq!(second.ask(None).await, waits(Some(1), &[]), "nothing was written");
    let after_end = ask(&first);
    first.end().await;
    let refused = journal.admit(after_end, None).await;
    assert!(matches!(refused, Err(AppendError::Ended { .. })), "{refused:?}");
    let mut nobody = ask(&second);
    nobody.run = run_id(99);
    let refused = journal.admit(nobody, None).await;
    let no_run = matches!(refused, Err(AppendError::Store(StoreError::NoSuchRun { .. })));
    assert!(no_run, "{refused:?}");
    let mut nothing = second.batch(vec![], RunStatus::Running);
    nothing.taken.clear();
    let admitted = journal.admit(nothing, None).await.expect("an answer");
    assert_eq!(admitted, Admission::Admitted, "admission needs no record");
}

async fn of_many_at_once_only_so_many_are_admitted(journal: &impl Journal) {
    let mut queued = Vec::new();
    for number in 1..=12 {
        queued.push(driver(journal, number, Queue, 3).await);
    }
    // Whoever asks too early asks again: after so many rounds all are admitted that get one.
    let mut with_turn = Vec::new();
    for _ in 0..4 {
        let asked = join_all(queued.iter_mut().map(|driver| driver.ask(None))).await;
        with_turn = (1..).zip(asked).filter(|(_, a)| *a == Admission::Admitted).collect();
        assert!(with_turn.len() <= 3, "{with_turn:?}");
    }
    let numbers: Vec<u64> = with_turn.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1, 2, 3]);

    let mut others = Vec::new();
    for number in 21..=32 {
        journal.create(new_run(number, "one", None)).await.expect("created");
        others.push(Driver::of(journal, &run_id(number)).await);
    }
    let eight = Some(most(8));
    let asked = join_all(others.iter_mut().map(|driver| driver.ask(eight))).await;
    let admitted = asked.iter().filter(|admission| **admission == Admission::Admitted).count();
    assert_eq!(admitted, 5, "three were admitted before: {asked:?}");
}
