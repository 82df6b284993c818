//! Signals: what others have to say to a run that one process drives. They are durable before they
//! are confirmed, and gone in the transaction that writes what became of them.

use std::fmt;

use fairlead_step::StepId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::stored::{CancelV2, SettledV2, VotedV2};
use crate::{CancelReason, Decision, Vote, Voter};

/// What somebody has to say to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// A vote at a gate.
    Vote {
        /// The gate.
        step: StepId,
        /// Who.
        by: Voter,
        /// What.
        vote: Vote,
        /// Why.
        reason: Option<String>,
    },
    /// A request to stop.
    Cancel {
        /// Who.
        by: String,
        /// Why.
        reason: CancelReason,
    },
    /// A decision about an attempt whose end nobody saw.
    Settle {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// Who.
        by: Voter,
        /// What.
        decision: Decision,
        /// Why.
        reason: Option<String>,
    },
    /// A notice of something that steps may be asking about, such as an image.
    Notice {
        /// What it is about: the steps whose input names it ask again at once. See
        /// [`crate::Run::asks_about`].
        about: String,
        /// What happened, for people.
        why: String,
    },
}

/// The number of a signal within its store; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub u64);

impl fmt::Display for SignalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signal that waits for the driver of its run.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSignal {
    /// Its number.
    pub id: SignalId,
    /// When it was posted.
    pub at: Timestamp,
    /// What it says.
    pub signal: Signal,
}

/// The stored form. Its shapes are those of the facts that the signals become.
#[derive(Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "snake_case", deny_unknown_fields)]
enum SignalV1 {
    Vote { vote: VotedV2 },
    Cancel { by: String, reason: CancelV2 },
    Settle { settle: SettledV2 },
    News { about: String, why: String },
}

impl Signal {
    /// The form in which a store keeps it: one line of JSON.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&match self.clone() {
            Self::Vote { step, by, vote, reason } => {
                SignalV1::Vote { vote: VotedV2::new(step, by, vote, reason) }
            }
            Self::Cancel { by, reason } => SignalV1::Cancel { by, reason: (&reason).into() },
            Self::Settle { step, attempt, by, decision, reason } => {
                SignalV1::Settle { settle: SettledV2::new(step, attempt, by, decision, reason) }
            }
            Self::Notice { about, why } => SignalV1::News { about, why },
        })
    }

    /// Reads what [`Signal::encode`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(text: &str) -> Result<Self, serde_json::Error> {
        Ok(match serde_json::from_str(text)? {
            SignalV1::Vote { vote } => {
                let (step, by, vote, reason) = vote.parts();
                Self::Vote { step, by, vote, reason }
            }
            SignalV1::Cancel { by, reason } => Self::Cancel { by, reason: reason.into() },
            SignalV1::Settle { settle } => {
                let (step, attempt, by, decision, reason) = settle.parts();
                Self::Settle { step, attempt, by, decision, reason }
            }
            SignalV1::News { about, why } => Self::Notice { about, why },
        })
    }
}
