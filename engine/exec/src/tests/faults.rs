//! A journal that fails, is taken over, or is held by somebody else.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use fairlead_run::{
    Admission, AppendError, Batch, Created, Epoch, Head, Journal, Lease, LeaseError, NewRun,
    RunFilter, RunSummary, Signal, SignalId, StoreError, StoredRun, StoredSignal, Wake,
};
use fairlead_step::{CancelHandle, CancelToken};
use futures::stream::BoxStream;

use super::*;
use crate::{DispatchError, Update};

/// A fake: a journal whose appends fail on command.
struct Failing {
    journal: Arc<dyn Journal>,
    appends: AtomicUsize,
    /// What becomes of append number `n`, counted from 0.
    answer: fn(usize, &RunId) -> Option<AppendError>,
    /// The append that is never answered, and says so here; and what the lease's holder listens to.
    hangs: Option<usize>,
    hanging: Arc<Notify>,
    lost: Arc<Mutex<Option<CancelHandle>>>,
}

impl Journal for Failing {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        self.journal.create(run)
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let run = run.clone();
        Box::pin(async move {
            let lease = self.journal.acquire(&run).await?;
            if self.hangs.is_none() {
                return Ok(lease);
            }
            let (handle, token) = CancelToken::new();
            *locked(&self.lost) = Some(handle);
            Ok(Lease::new(run, lease.epoch(), token, Box::new(lease)))
        })
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        let n = self.appends.fetch_add(1, Ordering::Relaxed);
        if self.hangs == Some(n) {
            self.hanging.notify_one();
            return Box::pin(std::future::pending());
        }
        match (self.answer)(n, &batch.run) {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.journal.append(batch),
        }
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        self.journal.admit(batch, most)
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        self.journal.post(run, at, signal)
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        self.journal.signals(run)
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        self.journal.wakes()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        self.journal.load(run)
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.journal.head(run)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        self.journal.list(filter)
    }
}

fn failing(answer: fn(usize, &RunId) -> Option<AppendError>) -> Bench {
    bench_with(Store::memory(), |options| {
        let (journal, appends) = (Arc::clone(&options.journal), AtomicUsize::new(0));
        let (hanging, lost) = (Arc::default(), Arc::default());
        options.journal =
            Arc::new(Failing { journal, appends, answer, hangs: None, hanging, lost });
    })
}

/// While a write hangs the lease may run out: the attempts must be over before it is another's.
#[tokio::test]
async fn a_lease_that_is_lost_while_a_write_hangs_ends_the_attempts_at_once() {
    let (hanging, lost): (Arc<Notify>, Arc<Mutex<Option<CancelHandle>>>) = Default::default();
    let bench = bench_with(Store::memory(), |options| {
        let (journal, appends) = (Arc::clone(&options.journal), AtomicUsize::new(0));
        let (hanging, lost) = (Arc::clone(&hanging), Arc::clone(&lost));
        let answer: fn(usize, &RunId) -> Option<AppendError> = |_, _| None;
        options.journal =
            Arc::new(Failing { journal, appends, answer, hangs: Some(1), hanging, lost });
    });
    let run = bench
        .request(
            "steps:
  a: {uses: fake, with: {do: sh, text: 'echo $$ > pid; sleep 1000'}}
  b: {uses: fake, with: {do: gate}}
",
        )
        .await;
    let driven = tokio::time::timeout(Duration::from_secs(20), bench.drive(&run));
    let (outcome, pid) = tokio::join!(driven, async {
        let pid = bench.line_in("pid").await;
        bench.world.gate.notify_waiters();
        hanging.notified().await;
        locked(&lost).take().unwrap().cancel();
        pid
    });
    let error = outcome.expect("it does not wait for the store").unwrap_err();
    assert!(matches!(error, DriveError::Dispatch(DispatchError::LeaseLost { .. })), "{error}");
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_writer_that_was_taken_over_lets_go() {
    // The first append starts both steps, the second would write how `b` ended.
    let bench = failing(|n, run| {
        (n == 1).then(|| AppendError::Fenced {
            run: run.clone(),
            held: Epoch(1),
            current: Epoch(2),
        })
    });
    let run = bench
        .request(
            "steps:
  a: {uses: fake, with: {do: sh, text: 'echo $$ > pid; sleep 1000'}}
  b: {uses: fake, with: {do: gate}}
",
        )
        .await;
    let (outcome, pid) = tokio::join!(bench.drive(&run), async {
        let pid = bench.line_in("pid").await;
        bench.world.gate.notify_waiters();
        pid
    });
    let error = outcome.unwrap_err();
    assert!(matches!(
        error,
        DriveError::Dispatch(DispatchError::Append { source: AppendError::Fenced { .. }, .. })
    ));
    // It takes its processes with it, and writes nothing more.
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.story(&run).await, ["started a@1", "started b@1"]);
}

#[tokio::test]
async fn a_journal_that_is_away_for_a_moment_is_waited_for_and_told() {
    let bench = failing(|n, run| {
        (n == 1 || n == 2).then(|| {
            AppendError::Store(StoreError::Unavailable {
                doing: format!("append to run {run}"),
                source: "the disk is full".into(),
            })
        })
    });
    let mut updates = bench.engine.subscribe();
    let (outcome, run) = bench.run("steps: {a: {uses: fake, with: {do: pass}}}\n").await;
    assert_eq!(outcome, RunOutcome::Passed);
    assert_eq!(bench.story(run.id()).await, ["started a@1", "finished a@1 passed", "ended passed"]);
    drop(bench.engine);
    let mut notices = 0;
    while let Some(update) = updates.next().await {
        if let Update::Notice { message, .. } = &*update {
            assert!(message.contains("trying again in"), "{message}");
            notices += 1;
        }
    }
    assert_eq!(notices, 2);
}

/// A server drives its runs on tasks of their own.
#[tokio::test]
async fn a_run_can_be_driven_on_a_task() {
    let bench = bench();
    let run = bench.request("steps: {a: {uses: fake, with: {do: pass}}}\n").await;
    let (_canceller, cancel) = cancellation();
    let engine = bench.engine.clone();
    let task = tokio::spawn(async move { engine.finish(&run, cancel, |_| {}).await });
    assert_eq!(task.await.unwrap().unwrap().0, RunOutcome::Passed);
}

#[tokio::test]
async fn a_run_has_one_driver() {
    let bench = bench();
    let run = bench.request("steps: {a: {uses: fake, with: {do: gate}}}\n").await;
    let (first, second) = tokio::join!(biased_first(bench.drive(&run)), async {
        let second = bench.drive(&run).await;
        bench.world.gate.notify_one();
        second
    });
    assert_eq!(first.unwrap(), RunOutcome::Passed);
    let error = second.unwrap_err();
    assert!(matches!(error, DriveError::Lease(LeaseError::Held { .. })), "{error}");
}

/// Named for what the test leans on: `join!` polls its first future first.
async fn biased_first<T>(work: impl Future<Output = T>) -> T {
    work.await
}
