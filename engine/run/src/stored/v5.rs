//! Version 5: what the versions before it cannot say, and nothing else. An attempt may be made by the
//! runners of a pool.

use fairlead_step::StepId;
use serde::{Deserialize, Serialize};

use crate::{AttemptToken, RunEvent};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FactV5 {
    Started { step: StepId, attempt: u32, token: String, pool: String },
}

impl FactV5 {
    /// The stored form; nothing for a fact that an older version has.
    pub(super) fn of(event: &RunEvent) -> Option<Self> {
        Some(match event {
            RunEvent::Started { step, attempt, token, pool } => Self::Started {
                step: step.clone(),
                attempt: *attempt,
                token: token.as_str().to_owned(),
                pool: pool.clone()?,
            },
            RunEvent::Requested(_)
            | RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CacheHit { .. }
            | RunEvent::Finished { .. }
            | RunEvent::AttemptLost { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => return None,
        })
    }
}

impl From<FactV5> for RunEvent {
    fn from(stored: FactV5) -> Self {
        match stored {
            FactV5::Started { step, attempt, token, pool } => Self::Started {
                step,
                attempt,
                token: AttemptToken::stored(token),
                pool: Some(pool),
            },
        }
    }
}
