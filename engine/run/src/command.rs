//! What a run wants done next, as data. Somebody else does it.

use fairlead_plan::{Item, RunOutcome};
use fairlead_step::{HumanDuration, RunId, StepId};
use jiff::Timestamp;

use crate::{AttemptToken, CancelReason, Epoch, Failure, RunEvent, SkipReason};

/// One thing to do for a run.
///
/// Commands follow from the state alone and are answered again until the fact that settles them
/// is applied: whoever performs them must know what it is already doing. Append
/// [`Command::fact`] durably, apply it, and only then perform.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Start an attempt.
    Start {
        /// The step.
        step: StepId,
        /// Counts from 1.
        attempt: u32,
    },
    /// Write down that the step is not run.
    Skip {
        /// The step.
        step: StepId,
        /// Why.
        reason: SkipReason,
    },
    /// Write down that the step failed before it began.
    Fail {
        /// The step.
        step: StepId,
        /// What went wrong.
        failure: Failure,
    },
    /// Write down when the step is tried again.
    ScheduleRetry {
        /// The step.
        step: StepId,
        /// The attempt to come.
        attempt: u32,
        /// The earliest time for it.
        due: Timestamp,
    },
    /// Write down the items of the step.
    Expand {
        /// The step.
        step: StepId,
        /// Its items.
        items: Vec<Item>,
    },
    /// Write down that the gate is open.
    OpenGate {
        /// The step.
        step: StepId,
        /// When time decides.
        due: Option<Timestamp>,
    },
    /// Write down that the time of the gate came.
    GateDue {
        /// The step.
        step: StepId,
    },
    /// Tell the running attempt to stop, and report how it ended. There is no fact for this one:
    /// it is answered until the attempt's result is applied.
    StopAttempt {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
    },
    /// Write down that the run is out of time.
    TimeOut {
        /// How long it was allowed.
        after: HumanDuration,
    },
    /// Ask again at this time, or when something was applied, whichever is first. At most one.
    WaitUntil(Timestamp),
    /// Write down that the run is over.
    End {
        /// How.
        outcome: RunOutcome,
    },
}

impl Command {
    /// The fact to append before the command is performed; none for the two that leave no trace. An attempt
    /// that is begun so is made by the process itself.
    #[must_use]
    pub fn fact(&self, run: &RunId, epoch: Epoch) -> Option<RunEvent> {
        match self.clone() {
            Self::Start { step, attempt } => {
                let token = AttemptToken::mint(run, &step, attempt, epoch);
                Some(RunEvent::Started { step, attempt, token, pool: None })
            }
            Self::Skip { step, reason } => Some(RunEvent::Skipped { step, reason }),
            Self::Fail { step, failure } => Some(RunEvent::NotStarted { step, failure }),
            Self::ScheduleRetry { step, attempt, due } => {
                Some(RunEvent::RetryScheduled { step, attempt, due })
            }
            Self::Expand { step, items } => Some(RunEvent::Expanded { step, items }),
            Self::OpenGate { step, due } => Some(RunEvent::GateOpened { step, due }),
            Self::GateDue { step } => Some(RunEvent::GateDue { step }),
            Self::TimeOut { after } => Some(RunEvent::CancelRequested {
                by: "fairlead".to_owned(),
                reason: CancelReason::TimedOut { after },
            }),
            Self::End { outcome } => Some(RunEvent::Ended { outcome }),
            Self::StopAttempt { .. } | Self::WaitUntil(_) => None,
        }
    }
}
