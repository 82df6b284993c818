//! How the dispatcher writes: durably, again where the journal does not answer, and never twice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fairlead_run::{Admission, AppendError, Batch, Record, RunStatus, SignalId, StoreError};
use fairlead_step::{BoxFuture, HumanDuration};

use crate::DispatchError;
use crate::dispatcher::Dispatcher;
use crate::inject::Injection;
use crate::update::Update;

/// How long to wait before something is written again, when the journal does not answer. After the
/// last of them the run is let go.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

impl Dispatcher<'_> {
    /// Writes records, durably, and forgets the signals that they come of.
    pub(crate) async fn append(
        &self,
        records: &[Record],
        taken: Vec<SignalId>,
    ) -> Result<(), DispatchError> {
        if records.is_empty() && taken.is_empty() {
            return Ok(());
        }
        let wake_at = self.run.only_waits().then(|| self.run.wakes_at()).flatten();
        let batch = Batch {
            run: self.run.id().clone(),
            epoch: self.lease.epoch(),
            records: records.to_vec(),
            status: self.run.status(),
            wake_at,
            taken,
        };
        let journal = &self.tools.journal;
        let write = || journal.append(batch.clone());
        self.written(records, write, ()).await
    }

    /// Asks to admit the run, in one transaction with the record that says so.
    pub(crate) async fn ask_for_admission(
        &self,
        records: &[Record],
    ) -> Result<Admission, DispatchError> {
        let batch = Batch {
            run: self.run.id().clone(),
            epoch: self.lease.epoch(),
            records: records.to_vec(),
            status: RunStatus::Running,
            wake_at: None,
            taken: Vec::new(),
        };
        let (journal, most) = (&self.tools.journal, self.tools.max_runs);
        let ask = || journal.admit(batch.clone(), most);
        self.written(records, ask, Admission::Admitted).await
    }

    /// Does `write` until the journal answers, a few times. Where an earlier try had no answer and
    /// still was written, it answers `done`.
    async fn written<'j, T>(
        &self,
        records: &[Record],
        write: impl Fn() -> BoxFuture<'j, Result<T, AppendError>>,
        done: T,
    ) -> Result<T, DispatchError> {
        let run = self.run.id();
        let number = self.tools.writes.fetch_add(1, Ordering::Relaxed) + 1;
        Injection::strike(&self.tools.injections, false, number);
        let mut pauses = AGAIN.iter();
        let mut unanswered = false;
        loop {
            let source = match self.while_held(write()).await? {
                Ok(answer) => {
                    Injection::strike(&self.tools.injections, true, number);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let is_ours =
                matches!(source, AppendError::Conflict { .. } | AppendError::Ended { .. });
            if unanswered && is_ours && self.while_held(self.stands(records)).await? {
                return Ok(done);
            }
            let passing = matches!(source, AppendError::Store(StoreError::Unavailable { .. }));
            let Some(pause) = pauses.next().filter(|_| passing) else {
                return Err(DispatchError::Append { run: run.clone(), source });
            };
            unanswered = true;
            let message = format!("{source}; trying again in {}", HumanDuration(*pause));
            tracing::warn!(%run, message);
            self.notice(message);
            self.while_held(tokio::time::sleep(*pause)).await?;
        }
    }

    /// Waits for `work`, but no longer than the lease is held: what is under way must be over before the
    /// lease can be another's, whether or not the store ever answers. What became of a write that was
    /// not waited for is for whoever takes the run up to read.
    pub(crate) async fn while_held<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, DispatchError> {
        tokio::select! {
            biased;
            () = self.lease.lost().cancelled() => {
                Err(DispatchError::LeaseLost { run: self.run.id().clone() })
            }
            answer = work => Ok(answer),
        }
    }

    /// Whether exactly these records are the journal's last.
    async fn stands(&self, records: &[Record]) -> bool {
        let stored = self.tools.journal.load(self.run.id()).await;
        stored.is_ok_and(|stored| {
            let last = |records: &[Record]| records.last().map(|last| (last.seq(), last.hash()));
            !records.is_empty() && last(&stored.records) == last(records)
        })
    }

    /// Tells whoever watches what is no fact of the run.
    pub(crate) fn notice(&self, message: String) {
        let run = self.run.id();
        self.tools.host.updates.send(|| Update::Notice { run: run.clone(), message });
    }
}
