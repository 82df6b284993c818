//! Whoever drives a run in these suites: a lease, and the end of the chain. It knows nothing of what
//! may happen in a run; a store does not either.

use std::num::NonZeroU32;
use std::time::Duration;

use fairlead_plan::RunOutcome;
use fairlead_step::RunId;
use futures::StreamExt as _;
use futures::channel::oneshot;
use futures::stream::BoxStream;

use super::time;
use crate::{
    Admission, AppendError, Batch, Epoch, Journal, Lease, Record, RecordHash, RunEvent, RunFilter,
    RunStatus, RunSummary, Seq, Wake, check_chain,
};

/// How long these suites wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Driver<'j, J> {
    pub(super) journal: &'j J,
    pub(super) lease: Lease,
    pub(super) seq: Seq,
    hash: RecordHash,
}

impl<'j, J: Journal> Driver<'j, J> {
    pub(super) async fn of(journal: &'j J, run: &RunId) -> Self {
        let lease = journal.acquire(run).await.expect("a lease");
        let stored = journal.load(run).await.expect("the run is there");
        check_chain(&stored.records).expect("a whole chain");
        let last = stored.records.last().expect("a record");
        Self { journal, lease, seq: last.seq(), hash: last.hash() }
    }

    pub(super) fn run(&self) -> RunId {
        self.lease.run().clone()
    }

    pub(super) fn records(&self, events: Vec<RunEvent>) -> Vec<Record> {
        let (mut seq, mut hash) = (self.seq, self.hash);
        let seal = |event| {
            let record = Record::seal(seq.next(), time(1000), hash, event).expect("a record");
            (seq, hash) = (record.seq(), record.hash());
            record
        };
        events.into_iter().map(seal).collect()
    }

    pub(super) fn batch(&self, events: Vec<RunEvent>, status: RunStatus) -> Batch {
        Batch {
            run: self.run(),
            epoch: self.lease.epoch(),
            records: self.records(events),
            status,
            wake_at: None,
            taken: vec![],
        }
    }

    pub(super) async fn append(&mut self, batch: Batch) -> Result<(), AppendError> {
        let last = batch.records.last().map(|record| (record.seq(), record.hash()));
        self.journal.append(batch).await?;
        (self.seq, self.hash) = last.unwrap_or((self.seq, self.hash));
        Ok(())
    }

    /// Asks for its turn.
    pub(super) async fn ask(&mut self, most: Option<NonZeroU32>) -> Admission {
        let batch = self.batch(vec![RunEvent::Admitted], RunStatus::Running);
        let last = batch.records.last().map(|record| (record.seq(), record.hash()));
        let admission = self.journal.admit(batch, most).await.expect("an answer");
        if admission == Admission::Admitted {
            (self.seq, self.hash) = last.unwrap_or((self.seq, self.hash));
        }
        admission
    }

    pub(super) async fn end(mut self) {
        let outcome = RunOutcome::Cancelled;
        let batch = self.batch(vec![RunEvent::Ended { outcome }], RunStatus::Ended(outcome));
        self.append(batch).await.expect("the run ends");
    }
}

/// One more fact, whatever the run is at.
pub(super) fn fact() -> RunEvent {
    RunEvent::Resumed { epoch: Epoch(1) }
}

pub(super) async fn listed(journal: &impl Journal, run: &RunId) -> RunSummary {
    let all = RunFilter { limit: RunFilter::MOST, ..RunFilter::default() };
    let runs = journal.list(all).await.expect("a list");
    runs.into_iter().find(|line| line.id == *run).expect("the run is listed")
}

/// What `future` answers, which must not take for ever.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let (sender, late) = oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        sender.send(()).ok()
    });
    match futures::future::select(std::pin::pin!(future), late).await {
        futures::future::Either::Left((answer, _)) => answer,
        futures::future::Either::Right(_) => panic!("{what} did not come"),
    }
}

/// The hints until `wanted`, which comes last.
pub(super) async fn wakes_until(wakes: &mut BoxStream<'static, Wake>, wanted: &Wake) -> Vec<Wake> {
    let mut heard = Vec::new();
    within("a hint", async {
        while heard.last() != Some(wanted) {
            heard.push(wakes.next().await.expect("the store is open"));
        }
    })
    .await;
    heard
}
