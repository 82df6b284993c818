//! The promises of [`Journal`].

use fairlead_plan::RunOutcome;
use fairlead_step::{RunId, Verdict};
use futures::future::join_all;
use serde_json::json;

use super::driver::listed;
use super::{new_run, run_again, run_id, run_in, time};
use crate::{
    AppendError, Batch, CancelReason, Created, Epoch, Group, Journal, LeaseError, Record, Run,
    RunEvent, RunFilter, RunStatus, Seq, StepResult, StoreError, check_chain,
};

/// Checks that what `factory` makes keeps the promises of [`Journal`]. Each call of `factory`
/// answers a new, empty store.
///
/// # Panics
/// At the first promise that is broken.
pub async fn journal_conformance<J: Journal>(factory: impl AsyncFn() -> J) {
    what_was_written_is_read(&factory().await).await;
    a_batch_is_written_as_a_whole(&factory().await).await;
    a_writer_that_is_late_is_refused(&factory().await).await;
    a_lease_is_held_once_and_fences(&factory().await).await;
    a_run_that_ended_takes_no_record(&factory().await).await;
    a_journal_ends_where_its_last_record_stands(&factory().await).await;
    what_is_not_there_is_told(&factory().await).await;
    many_appends_at_once_all_land(&factory().await).await;
    runs_are_listed_newest_first(&factory().await).await;
    a_run_knows_the_one_it_begins_from(&factory().await).await;
    super::admission::conformance(&factory).await;
    super::signals::conformance(&factory).await;
}

async fn loaded(journal: &impl Journal, id: &RunId) -> Run {
    let stored = journal.load(id).await.expect("the run is there");
    check_chain(&stored.records).expect("a whole chain");
    Run::restore(&stored).expect("the journal makes a run")
}

/// What a writer says that has nothing to say but `records`.
fn batch(run: &RunId, epoch: Epoch, records: Vec<Record>) -> Batch {
    let last = records.last().map(Record::event);
    let status = if let Some(RunEvent::Ended { outcome }) = last {
        RunStatus::Ended(*outcome)
    } else if let Some(RunEvent::CancelRequested { .. }) = last {
        RunStatus::Cancelling
    } else {
        RunStatus::Running
    };
    Batch { run: run.clone(), epoch, records, status, wake_at: None, taken: vec![] }
}

fn resumed(run: &Run) -> Vec<Record> {
    run.seal(time(1000), vec![RunEvent::Resumed { epoch: Epoch(1) }]).expect("a record")
}

/// Drives the run of one step to its end in one batch.
fn to_the_end(run: &Run, epoch: Epoch) -> Vec<Record> {
    let step = run.plan().steps()[0].id.clone();
    let token = crate::AttemptToken::mint(run.id(), &step, 1, epoch);
    let events = vec![
        RunEvent::Started { step: step.clone(), attempt: 1, token: token.clone(), pool: None },
        RunEvent::Finished {
            step,
            attempt: 1,
            token,
            result: StepResult::Verdict(Verdict::passed(json!({ "text": "ä\n\u{0} \"'" }))),
        },
        RunEvent::Ended { outcome: RunOutcome::Passed },
    ];
    run.seal(time(2000), events).expect("records")
}

async fn what_was_written_is_read(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    assert_eq!(journal.create(new.clone()).await.expect("created"), Created::New);
    let stored = journal.load(&new.id).await.expect("the run is there");
    assert_eq!((&stored.id, &stored.plan), (&new.id, &new.plan));
    assert_eq!(stored.records, std::slice::from_ref(&new.first));

    let lease = journal.acquire(&new.id).await.expect("a lease");
    let run = loaded(journal, &new.id).await;
    let records = to_the_end(&run, lease.epoch());
    journal.append(batch(&new.id, lease.epoch(), records.clone())).await.expect("appended");
    let stored = journal.load(&new.id).await.expect("the run is there");
    assert_eq!(stored.records[1..], records[..], "byte for byte");
    assert_eq!(
        Run::restore(&stored).expect("a run").status(),
        RunStatus::Ended(RunOutcome::Passed)
    );

    let taken = journal.create(new_run(1, "one", None)).await;
    assert!(matches!(taken, Err(StoreError::RunExists { .. })), "{taken:?}");
    let mut foreign = new_run(2, "one", None);
    foreign.plan = crate::PlanBlob::new("another plan");
    assert!(journal.create(foreign).await.is_err(), "a plan that the request does not name");
    assert!(journal.load(&run_id(2)).await.is_err(), "and nothing was written");
}

/// What can be written behind records that cannot be read.
async fn a_journal_ends_where_its_last_record_stands(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    journal.create(new.clone()).await.expect("created");
    let of = |record: &Record| (record.seq(), record.hash(), Some(record.at()));
    let head = journal.head(&new.id).await.expect("the run is there");
    assert_eq!((head.seq, head.hash, head.at), of(&new.first));
    let lease = journal.acquire(&new.id).await.expect("a lease");
    let run = loaded(journal, &new.id).await;
    let records = resumed(&run);
    journal.append(batch(&new.id, lease.epoch(), records.clone())).await.expect("appended");
    let head = journal.head(&new.id).await.expect("the run is there");
    assert_eq!((head.seq, head.hash, head.at), of(records.last().expect("one")));

    let (by, reason, problem) = ("ada".to_owned(), None, Some("it cannot be read".to_owned()));
    let end = RunEvent::Abandoned { by, reason, problem };
    let end = Record::seal(head.seq.next(), time(3000), head.hash, end).expect("a record");
    let mut last = batch(&new.id, lease.epoch(), vec![end]);
    let refused = journal.append(last.clone()).await;
    assert!(refused.is_err(), "a run that was abandoned has ended: {refused:?}");
    last.status = RunStatus::Ended(RunOutcome::Cancelled);
    journal.append(last).await.expect("appended");
    assert_eq!(loaded(journal, &new.id).await.status(), RunStatus::Ended(RunOutcome::Cancelled));
    let listed = journal.list(RunFilter { unfinished: true, limit: 10, ..RunFilter::default() });
    assert_eq!(listed.await.expect("a list"), []);
    let missing = journal.head(&run_id(9)).await;
    assert!(matches!(missing, Err(StoreError::NoSuchRun { .. })), "{missing:?}");
}

async fn a_batch_is_written_as_a_whole(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    journal.create(new.clone()).await.expect("created");
    let lease = journal.acquire(&new.id).await.expect("a lease");
    let run = loaded(journal, &new.id).await;
    journal.append(batch(&new.id, lease.epoch(), Vec::new())).await.expect("nothing to do");

    // A batch with a hole in it is the fault of the writer, and nothing of it is kept.
    let mut torn = to_the_end(&run, lease.epoch());
    torn.remove(1);
    let refused = journal.append(batch(&new.id, lease.epoch(), torn)).await;
    assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    assert_eq!(loaded(journal, &new.id).await.seq(), Seq(1));
}

async fn a_writer_that_is_late_is_refused(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    journal.create(new.clone()).await.expect("created");
    let lease = journal.acquire(&new.id).await.expect("a lease");
    let run = loaded(journal, &new.id).await;
    journal.append(batch(&new.id, lease.epoch(), resumed(&run))).await.expect("appended");
    match journal.append(batch(&new.id, lease.epoch(), resumed(&run))).await {
        Err(AppendError::Conflict { run, expected, found }) => {
            assert_eq!((run, expected, found), (new.id.clone(), Seq(1), Seq(2)));
        }
        other => panic!("the same place twice: {other:?}"),
    }
    assert_eq!(loaded(journal, &new.id).await.seq(), Seq(2));
}

async fn a_lease_is_held_once_and_fences(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    journal.create(new.clone()).await.expect("created");
    let first = journal.acquire(&new.id).await.expect("a lease");
    let second = journal.acquire(&new.id).await;
    assert!(matches!(second, Err(LeaseError::Held { .. })), "{second:?}");
    let summaries = journal.list(RunFilter { limit: 1, ..RunFilter::default() }).await;
    assert!(summaries.expect("a list")[0].held);

    let old = first.epoch();
    drop(first);
    let summaries = journal.list(RunFilter { limit: 1, ..RunFilter::default() }).await;
    assert!(!summaries.expect("a list")[0].held);
    let next = journal.acquire(&new.id).await.expect("the lease was given back");
    assert!(next.epoch() > old, "epochs rise");

    let run = loaded(journal, &new.id).await;
    match journal.append(batch(&new.id, old, resumed(&run))).await {
        Err(AppendError::Fenced { held, current, .. }) => {
            assert_eq!((held, current), (old, next.epoch()));
        }
        other => panic!("an old epoch wrote: {other:?}"),
    }
    journal.append(batch(&new.id, next.epoch(), resumed(&run))).await.expect("the new one writes");
}

async fn a_run_that_ended_takes_no_record(journal: &impl Journal) {
    let new = new_run(1, "one", None);
    journal.create(new.clone()).await.expect("created");
    let lease = journal.acquire(&new.id).await.expect("a lease");
    let run = loaded(journal, &new.id).await;
    let all = to_the_end(&run, lease.epoch());
    journal.append(batch(&new.id, lease.epoch(), all.clone())).await.expect("appended");
    let last = all.last().expect("a record");
    let more = Record::seal(
        last.seq().next(),
        time(3000),
        last.hash(),
        RunEvent::Resumed { epoch: lease.epoch() },
    );
    let refused =
        journal.append(batch(&new.id, lease.epoch(), vec![more.expect("a record")])).await;
    assert!(matches!(refused, Err(AppendError::Ended { .. })), "{refused:?}");
}

async fn what_is_not_there_is_told(journal: &impl Journal) {
    let nobody = run_id(99);
    let load = journal.load(&nobody).await;
    assert!(matches!(load, Err(StoreError::NoSuchRun { .. })), "{load:?}");
    let lease = journal.acquire(&nobody).await;
    assert!(matches!(lease, Err(LeaseError::Store(StoreError::NoSuchRun { .. }))), "{lease:?}");
    let new = new_run(99, "one", None);
    let append = journal.append(batch(&nobody, Epoch(1), vec![new.first])).await;
    assert!(matches!(append, Err(AppendError::Store(StoreError::NoSuchRun { .. }))), "{append:?}");
    let list = journal.list(RunFilter { limit: 10, ..RunFilter::default() }).await;
    assert_eq!(list.expect("a list"), []);
}

async fn many_appends_at_once_all_land(journal: &impl Journal) {
    let created = join_all((0..40).map(|n| journal.create(new_run(n, "one", None)))).await;
    assert!(created.iter().all(|c| matches!(c, Ok(Created::New))), "{created:?}");
    let leases = join_all(
        (0..40).map(|n| async move { journal.acquire(&run_id(n)).await.expect("a lease") }),
    )
    .await;
    // The appends of many runs, one of them bound to fail: it takes no other down with it.
    let done = join_all(leases.iter().map(|lease| async move {
        let run = loaded(journal, lease.run()).await;
        let epoch = if *lease.run() == run_id(7) { Epoch(0) } else { lease.epoch() };
        journal.append(batch(lease.run(), epoch, to_the_end(&run, epoch))).await
    }))
    .await;
    for (lease, done) in leases.iter().zip(done) {
        if *lease.run() == run_id(7) {
            assert!(matches!(done, Err(AppendError::Fenced { .. })), "{done:?}");
            assert_eq!(loaded(journal, lease.run()).await.seq(), Seq(1));
        } else {
            done.expect("appended");
            assert_eq!(loaded(journal, lease.run()).await.seq(), Seq(4));
        }
    }
}

async fn runs_are_listed_newest_first(journal: &impl Journal) {
    for n in 1..=5 {
        let pipeline = if n % 2 == 0 { "even" } else { "odd" };
        journal.create(new_run(n, pipeline, None)).await.expect("created");
    }
    let end = |n: u64| async move {
        let lease = journal.acquire(&run_id(n)).await.expect("a lease");
        let run = loaded(journal, &run_id(n)).await;
        let all = to_the_end(&run, lease.epoch());
        journal.append(batch(&run_id(n), lease.epoch(), all)).await.expect("appended");
    };
    end(2).await;
    end(5).await;
    let lease = journal.acquire(&run_id(3)).await.expect("a lease");
    let stop = RunEvent::CancelRequested {
        by: "somebody".to_owned(),
        reason: CancelReason::Asked { why: None },
    };
    let run = loaded(journal, &run_id(3)).await;
    let stop = run.seal(time(50), vec![stop]).expect("a record");
    journal.append(batch(&run_id(3), lease.epoch(), stop)).await.expect("appended");

    let list = |filter: RunFilter| async move {
        let runs = journal.list(filter).await.expect("a list");
        runs.into_iter().map(|run| (run.id, run.status)).collect::<Vec<_>>()
    };
    let passed = RunStatus::Ended(RunOutcome::Passed);
    let all = [
        (run_id(5), passed),
        (run_id(4), RunStatus::Running),
        (run_id(3), RunStatus::Cancelling),
        (run_id(2), passed),
        (run_id(1), RunStatus::Running),
    ];
    let every = RunFilter { limit: 10, ..RunFilter::default() };
    assert_eq!(list(every.clone()).await, all);
    assert_eq!(list(RunFilter { limit: 2, ..every.clone() }).await, all[..2]);
    assert_eq!(list(RunFilter { limit: 0, ..every.clone() }).await, []);
    let page = RunFilter { before: Some(run_id(4)), ..every.clone() };
    assert_eq!(list(page).await, all[2..]);
    let odd = RunFilter { pipeline: Some("odd".to_owned()), ..every.clone() };
    assert_eq!(list(odd).await, [all[0].clone(), all[2].clone(), all[4].clone()]);
    let alone = RunFilter { run: Some(run_id(2)), ..every.clone() };
    let found = list(alone).await;
    assert_eq!(found, [all[3].clone()]);
    let left = RunFilter { unfinished: true, ..every.clone() };
    assert_eq!(list(left).await, [all[1].clone(), all[2].clone(), all[4].clone()]);

    let summaries = journal.list(every).await.expect("a list");
    assert_eq!(summaries[0].pipeline, "odd");
    assert_eq!(summaries[0].by, "somebody");
    assert_eq!(summaries[0].requested_at, time(5));
    assert_eq!(summaries[0].ended_at, Some(time(2000)));
    assert_eq!(summaries[1].ended_at, None);
}

async fn a_run_knows_the_one_it_begins_from(journal: &impl Journal) {
    let alone = journal.create(run_again(2, run_id(1))).await;
    assert!(matches!(alone, Err(StoreError::BadRun { .. })), "{alone:?}");
    journal.create(new_run(1, "one", None)).await.expect("created");
    for number in 2..=3 {
        journal.create(run_again(number, run_id(1))).await.expect("created");
    }
    journal.create(run_again(4, run_id(2))).await.expect("created");
    let of_first = RunFilter { origin: Some(run_id(1)), limit: 9, ..RunFilter::default() };
    let runs = journal.list(of_first.clone()).await.expect("a list");
    let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
    assert_eq!(ids, [run_id(3), run_id(2)]);
    assert!(runs.iter().all(|run| run.origin == Some(run_id(1))), "{runs:?}");
    let page = RunFilter { before: Some(run_id(3)), unfinished: true, ..of_first };
    assert_eq!(journal.list(page).await.expect("a list").len(), 1);

    let group = Group {
        name: "release/ä".to_owned(),
        policy: fairlead_plan::ConcurrencyPolicy::Reject,
        max: std::num::NonZeroU32::MIN,
    };
    let mut lying = run_in(5, group.clone());
    lying.group = None;
    let refused = journal.create(lying).await;
    assert!(matches!(refused, Err(StoreError::BadRun { .. })), "{refused:?}");
    journal.create(run_in(5, group)).await.expect("created");
    let line = listed(journal, &run_id(5)).await;
    assert_eq!((line.group.as_deref(), line.origin), (Some("release/ä"), None));
    assert_eq!((line.status, line.wake_at, line.signaled), (RunStatus::Queued, None, false));
    assert_eq!(listed(journal, &run_id(1)).await.status, RunStatus::Running);
}
