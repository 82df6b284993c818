//! What others have to say to a run becomes facts, or is refused; either way it is dealt with.

use fairlead_run::{CancelReason, RunEvent, Signal, SignalId, StoredSignal};
use fairlead_step::error_chain;
use jiff::Timestamp;

use crate::DispatchError;
use crate::dispatcher::{Dispatcher, LOOK_AGAIN};

impl Dispatcher<'_> {
    /// Looks for signals, and takes them in with all that follows.
    pub(crate) async fn hear(&mut self) -> Result<(), DispatchError> {
        let signals = self.tools.journal.signals(self.run.id());
        match self.while_held(signals).await? {
            Ok(signals) if signals.is_empty() => Ok(()),
            Ok(signals) => {
                let (records, taken) = self.take_signals(signals)?;
                self.follow(records, taken).await
            }
            Err(error) => {
                // Nothing is lost: they stay where they are until they are dealt with.
                tracing::warn!(run = %self.run.id(), "{}", error_chain(&error));
                self.look_at = Some(tokio::time::Instant::now() + LOOK_AGAIN);
                Ok(())
            }
        }
    }

    /// Takes signals into the run, one after another: what one does decides what the next may.
    pub(crate) fn take_signals(
        &mut self,
        signals: Vec<StoredSignal>,
    ) -> Result<(Vec<fairlead_run::Record>, Vec<SignalId>), DispatchError> {
        let mut records = Vec::new();
        let mut taken = Vec::with_capacity(signals.len());
        for signal in signals {
            taken.push(signal.id);
            if self.run.ended().is_none() {
                let facts = self.facts_of_signal(signal.signal, signal.at);
                records.extend(self.take_in(facts)?);
            }
        }
        Ok((records, taken))
    }

    /// What a signal that was posted at this time stands for.
    fn facts_of_signal(&self, signal: Signal, posted: Timestamp) -> Vec<RunEvent> {
        let refused = match signal {
            Signal::Vote { step, by, vote, reason } => {
                match self.run.check_vote_at(&step, &by, vote, posted) {
                    Ok(()) => return vec![RunEvent::Voted { step, by, vote, reason }],
                    Err(error) => {
                        format!("the vote of {} at `{step}` does not count: {error}", by.name)
                    }
                }
            }
            Signal::Settle { step, attempt, by, decision, reason } => {
                match self.run.check_settle(&step, attempt) {
                    Ok(()) => {
                        return vec![RunEvent::Settled { step, attempt, by, decision, reason }];
                    }
                    Err(error) => {
                        format!("what {} decided of `{step}` does not count: {error}", by.name)
                    }
                }
            }
            Signal::Cancel { by, reason } if self.listens_to(&reason) => {
                return vec![RunEvent::CancelRequested { by, reason }];
            }
            Signal::Cancel { by, .. } => {
                format!("there is nothing left that {by} could stop")
            }
            Signal::Notice { about, why } => {
                let asks = self.run.asks_about(&about).into_iter();
                return asks.map(|step| RunEvent::Woken { step, why: why.clone() }).collect();
            }
        };
        tracing::info!(run = %self.run.id(), "{refused}");
        self.notice(refused);
        Vec::new()
    }

    /// Whether a request to stop has an effect. A successor says it as often as it asks to be admitted,
    /// and means to stop the main steps alone.
    fn listens_to(&self, reason: &CancelReason) -> bool {
        let again = match reason {
            CancelReason::Superseded { .. } | CancelReason::Busy { .. } => {
                self.run.cancellation().is_some()
            }
            CancelReason::Asked { .. } | CancelReason::TimedOut { .. } => false,
        };
        !again && self.run.can_cancel()
    }
}
