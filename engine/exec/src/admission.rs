//! A run waits to be admitted: in its group, and where the runs of a store are limited.

use fairlead_plan::{Concurrency, ConcurrencyPolicy};
use fairlead_run::{Admission, CancelReason, RunEvent, Seq, Signal, StoreError};
use fairlead_step::{RunId, error_chain};

use crate::DispatchError;
use crate::dispatcher::Dispatcher;

impl Dispatcher<'_> {
    /// Whether the run has still to ask to be admitted. One that began without a limit goes on so.
    pub(crate) fn needs_admission(&self) -> bool {
        let limited = self.tools.max_runs.is_some();
        !self.run.is_admitted() || (limited && self.run.seq() == Seq(1))
    }

    /// Asks to admit the run; false when it has to wait. A run that never gets one is ended.
    pub(crate) async fn admit(&mut self) -> Result<bool, DispatchError> {
        let records = self.seal(vec![RunEvent::Admitted])?;
        let reason = match self.ask_for_admission(&records).await? {
            Admission::Admitted => {
                self.apply(&records)?;
                self.publish(records);
                return Ok(true);
            }
            Admission::Wait { behind, holders } => {
                self.make_room(&holders).await?;
                if self.run.queued().is_none() {
                    let group = self.run.request().group.clone();
                    self.react(vec![RunEvent::Queued { group, behind }]).await?;
                }
                return Ok(false);
            }
            Admission::Superseded { by } => CancelReason::Superseded { by },
            Admission::Busy { holder } => CancelReason::Busy { holder },
        };
        let by = "fairlead".to_owned();
        self.react(vec![RunEvent::CancelRequested { by, reason }]).await?;
        Ok(true)
    }

    /// Tells the oldest holders of the group to stop, where the pipeline says so: as many as it takes.
    async fn make_room(&self, holders: &[RunId]) -> Result<(), DispatchError> {
        let Some(Concurrency { policy: ConcurrencyPolicy::CancelRunning, max, .. }) =
            self.run.plan().concurrency()
        else {
            return Ok(());
        };
        let too_many = (holders.len() + 1).saturating_sub(*max as usize);
        for holder in holders.iter().take(too_many) {
            let reason = CancelReason::Superseded { by: self.run.id().clone() };
            let signal = Signal::Cancel { by: self.run.request().by.clone(), reason };
            let now = self.tools.clock.now();
            match self.while_held(self.tools.journal.post(holder, now, signal)).await? {
                Ok(_) | Err(StoreError::RunEnded { .. } | StoreError::NoSuchRun { .. }) => {}
                // It is asked again with the next try to be admitted.
                Err(error) => tracing::warn!(
                    run = %self.run.id(), "cannot tell run {holder} to stop: {}", error_chain(&error)
                ),
            }
        }
        Ok(())
    }
}
