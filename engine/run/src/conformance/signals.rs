//! The promises of [`Journal::post`], [`Journal::signals`] and [`Journal::wakes`], and those about
//! what a batch says besides its records.

use fairlead_plan::ConcurrencyPolicy::Queue;
use fairlead_plan::RunOutcome;
use futures::future::join_all;
use serde_json::json;

use super::admission::group;
use super::driver::{Driver, fact, listed, wakes_until};
use super::{new_run, run_id, run_in, time};
use crate::{
    Admission, AppendError, CancelReason, Decision, Epoch, Journal, RunEvent, RunStatus, Seq,
    Signal, SignalId, StoreError, StoredSignal, Vote, Voter, Wake,
};

pub(super) async fn conformance<J: Journal>(factory: impl AsyncFn() -> J) {
    signals_wait_until_they_are_taken(&factory().await).await;
    a_run_that_ended_takes_no_signal(&factory().await).await;
    what_was_refused_has_taken_nothing(&factory().await).await;
    a_parked_run_says_when_to_look_at_it(&factory().await).await;
    a_batch_that_contradicts_itself_is_refused(&factory().await).await;
    hints_arrive(&factory().await).await;
    many_may_post_at_once(&factory().await).await;
}

fn notice(about: &str) -> Signal {
    Signal::Notice { about: about.to_owned(), why: "it is there".to_owned() }
}

/// One of each kind.
pub(super) fn every_signal() -> Vec<Signal> {
    let by = Voter { name: "ann".to_owned(), groups: ["qa".to_owned()].into() };
    let step = || "only".parse().expect("a step name");
    vec![
        Signal::Vote { step: step(), by: by.clone(), vote: Vote::Approve, reason: None },
        Signal::Cancel {
            by: "ann".to_owned(),
            reason: CancelReason::Asked { why: Some("ä\n\u{0}".to_owned()) },
        },
        Signal::Settle {
            step: step(),
            attempt: 2,
            by,
            decision: Decision::Passed { outputs: json!({ "text": "\u{0}'\"" }) },
            reason: Some("seen".to_owned()),
        },
        notice("sha256:abc"),
    ]
}

async fn signals_wait_until_they_are_taken(journal: &impl Journal) {
    journal.create(new_run(1, "one", None)).await.expect("created");
    journal.create(new_run(2, "one", None)).await.expect("created");
    let mut driver = Driver::of(journal, &run_id(1)).await;
    assert!(!listed(journal, &run_id(1)).await.signaled);
    let mut posted = Vec::new();
    for (n, signal) in (1..).zip(every_signal()) {
        let id = journal.post(&run_id(1), time(n), signal.clone()).await.expect("posted");
        posted.push(StoredSignal { id, at: time(n), signal });
    }
    assert!(posted.is_sorted_by(|one, next| one.id < next.id), "numbers rise: {posted:?}");
    journal.post(&run_id(2), time(1), notice("b")).await.expect("posted");
    let waiting = async || journal.signals(&run_id(1)).await.expect("a list");
    assert_eq!(waiting().await, posted);
    assert!(listed(journal, &run_id(1)).await.signaled);

    let mut batch = driver.batch(vec![fact()], RunStatus::Running);
    // Numbers of others, and of nobody, are no numbers of this run.
    let theirs = journal.signals(&run_id(2)).await.expect("a list")[0].id;
    batch.taken = vec![posted[0].id, posted[2].id, theirs, SignalId(u64::MAX / 4)];
    driver.append(batch).await.expect("appended");
    assert_eq!(waiting().await, [posted[1].clone(), posted[3].clone()]);
    assert_eq!(journal.signals(&run_id(2)).await.expect("a list").len(), 1);

    // What comes to nothing is taken without a record.
    let mut batch = driver.batch(vec![], RunStatus::Running);
    batch.taken = vec![posted[1].id, posted[3].id];
    driver.append(batch).await.expect("appended");
    assert_eq!(waiting().await, []);
    assert!(!listed(journal, &run_id(1)).await.signaled);
    assert_eq!(journal.load(&run_id(1)).await.expect("the run is there").records.len(), 2);
}

async fn a_run_that_ended_takes_no_signal(journal: &impl Journal) {
    let nobody = journal.post(&run_id(1), time(1), notice("a")).await;
    assert!(matches!(nobody, Err(StoreError::NoSuchRun { .. })), "{nobody:?}");
    journal.create(new_run(1, "one", None)).await.expect("created");
    let driver = Driver::of(journal, &run_id(1)).await;
    journal.post(&run_id(1), time(1), notice("a")).await.expect("posted");
    driver.end().await;
    assert_eq!(journal.signals(&run_id(1)).await.expect("a list"), [], "they went with the end");
    assert!(!listed(journal, &run_id(1)).await.signaled);
    let late = journal.post(&run_id(1), time(2), notice("b")).await;
    assert!(matches!(late, Err(StoreError::RunEnded { .. })), "{late:?}");
    let large = journal.post(&run_id(1), time(2), notice(&"x".repeat(3 << 20))).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
}

async fn what_was_refused_has_taken_nothing(journal: &impl Journal) {
    journal.create(run_in(1, group("g", Queue, 1))).await.expect("created");
    journal.create(run_in(2, group("g", Queue, 1))).await.expect("created");
    let driver = Driver::of(journal, &run_id(2)).await;
    let id = journal.post(&run_id(2), time(1), notice("a")).await.expect("posted");
    let batch = |events: Vec<RunEvent>| {
        let mut batch = driver.batch(events, RunStatus::Running);
        batch.taken = vec![id];
        batch
    };
    let mut fenced = batch(vec![]);
    fenced.epoch = Epoch(77);
    let refused = journal.append(fenced).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    let mut late = batch(vec![fact(), fact()]);
    late.records.remove(0);
    let refused = journal.append(late).await;
    assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    let admission = journal.admit(batch(vec![RunEvent::Admitted]), None).await.expect("an answer");
    assert!(matches!(admission, Admission::Wait { .. }), "{admission:?}");
    assert_eq!(journal.signals(&run_id(2)).await.expect("a list").len(), 1);
    assert_eq!(listed(journal, &run_id(2)).await.status, RunStatus::Queued);
    drop(Driver::of(journal, &run_id(1)).await);
    Driver::of(journal, &run_id(1)).await.end().await;
    let admission = journal.admit(batch(vec![RunEvent::Admitted]), None).await.expect("an answer");
    assert_eq!(admission, Admission::Admitted);
    assert_eq!(journal.signals(&run_id(2)).await.expect("a list"), []);
}

async fn a_parked_run_says_when_to_look_at_it(journal: &impl Journal) {
    journal.create(new_run(1, "one", None)).await.expect("created");
    let mut driver = Driver::of(journal, &run_id(1)).await;
    for status in [
        RunStatus::Waiting,
        RunStatus::Queued,
        RunStatus::NeedsAttention,
        RunStatus::Cancelling,
        RunStatus::Running,
    ] {
        let mut batch = driver.batch(vec![], status);
        batch.wake_at = Some(time(5000));
        driver.append(batch).await.expect("nothing but the rest is written");
        let line = listed(journal, &run_id(1)).await;
        assert_eq!((line.status, line.wake_at), (status, Some(time(5000))));
        let batch = driver.batch(vec![fact()], status);
        driver.append(batch).await.expect("appended");
        assert_eq!(listed(journal, &run_id(1)).await.wake_at, None, "each batch says it anew");
    }
    assert_eq!(driver.seq, Seq(6));
    let mut last = driver.batch(
        vec![RunEvent::Ended { outcome: RunOutcome::Passed }],
        RunStatus::Ended(RunOutcome::Passed),
    );
    last.wake_at = Some(time(6000));
    let nothing = driver.batch(vec![], RunStatus::Waiting);
    driver.append(last).await.expect("appended");
    let line = listed(journal, &run_id(1)).await;
    assert_eq!((line.wake_at, line.ended_at), (None, Some(time(1000))), "nobody looks at it");
    let refused = journal.append(nothing).await;
    assert!(matches!(refused, Err(AppendError::Ended { .. })), "{refused:?}");
}

async fn a_batch_that_contradicts_itself_is_refused(journal: &impl Journal) {
    journal.create(new_run(1, "one", None)).await.expect("created");
    let driver = Driver::of(journal, &run_id(1)).await;
    let passed = RunEvent::Ended { outcome: RunOutcome::Passed };
    for (events, status) in [
        (vec![], RunStatus::Ended(RunOutcome::Passed)),
        (vec![fact()], RunStatus::Ended(RunOutcome::Passed)),
        (vec![passed.clone()], RunStatus::Running),
        (vec![passed.clone()], RunStatus::Ended(RunOutcome::Failed)),
        (vec![passed, fact()], RunStatus::Ended(RunOutcome::Passed)),
    ] {
        let refused = journal.append(driver.batch(events, status)).await;
        let bad = matches!(refused, Err(AppendError::Store(StoreError::BadBatch { .. })));
        assert!(bad, "{refused:?}");
    }
    assert_eq!(journal.load(&run_id(1)).await.expect("the run is there").records.len(), 1);
    assert_eq!(listed(journal, &run_id(1)).await.status, RunStatus::Running);
}

async fn hints_arrive(journal: &impl Journal) {
    let (mut one, mut two) = (journal.wakes(), journal.wakes());
    journal.create(run_in(1, group("g", Queue, 1))).await.expect("created");
    wakes_until(&mut one, &Wake::Admission).await;
    wakes_until(&mut two, &Wake::Admission).await;

    journal.create(new_run(2, "one", None)).await.expect("created");
    let mut free = Driver::of(journal, &run_id(2)).await;
    let batch = free.batch(vec![fact()], RunStatus::Waiting);
    free.append(batch).await.expect("appended");
    journal.post(&run_id(2), time(1), notice("a")).await.expect("posted");
    wakes_until(&mut one, &Wake::Run(run_id(2))).await;
    wakes_until(&mut two, &Wake::Run(run_id(2))).await;
    free.end().await;

    let mut holder = Driver::of(journal, &run_id(1)).await;
    assert_eq!(holder.ask(None).await, Admission::Admitted);
    let mut late = journal.wakes();
    holder.end().await;
    let heard = wakes_until(&mut late, &Wake::Admission).await;
    assert!(!heard.contains(&Wake::Run(run_id(2))), "from now on: {heard:?}");
    // A run that is admitted without a group frees one, too.
    journal.create(new_run(3, "one", None)).await.expect("created");
    let mut single = Driver::of(journal, &run_id(3)).await;
    assert_eq!(single.ask(std::num::NonZeroU32::new(1)).await, Admission::Admitted);
    let mut last = journal.wakes();
    single.end().await;
    wakes_until(&mut last, &Wake::Admission).await;
}

async fn many_may_post_at_once(journal: &impl Journal) {
    journal.create(new_run(1, "one", None)).await.expect("created");
    let mut driver = Driver::of(journal, &run_id(1)).await;
    let posts = join_all((0..30).map(|n| {
        let signal = notice(&n.to_string());
        async move { journal.post(&run_id(1), time(n), signal).await.expect("posted") }
    }));
    let appends = async {
        for _ in 0..10 {
            let batch = driver.batch(vec![fact()], RunStatus::Running);
            driver.append(batch).await.expect("appended");
        }
    };
    let (mut ids, ()) = futures::future::join(posts, appends).await;
    ids.sort();
    let waiting = journal.signals(&run_id(1)).await.expect("a list");
    assert_eq!(waiting.into_iter().map(|signal| signal.id).collect::<Vec<_>>(), ids);
}
