//! What is asked of the state of a step in many places, each written out once.

use fairlead_plan::Outcome;
use jiff::Timestamp;

use crate::Ballot;
use crate::run::{State, Why};

impl State {
    /// Whether nothing of it has begun.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting)
    }

    /// Whether the answer was no, and it asks again.
    pub(crate) const fn is_asking(&self) -> bool {
        matches!(self, Self::Asking { .. })
    }

    /// How and when it ended, if it has.
    pub(crate) const fn ended(&self) -> Option<(Outcome, Timestamp)> {
        if let Self::Ended { outcome, at, .. } = self { Some((*outcome, *at)) } else { None }
    }

    /// Why it ended so, where no attempt says it.
    pub(crate) const fn why(&self) -> Option<&Why> {
        if let Self::Ended { why, .. } = self { why.as_ref() } else { None }
    }

    /// The approvals that an open gate has.
    pub(crate) fn ballots(&self) -> &[Ballot] {
        if let Self::Open { ballots, .. } = self { ballots } else { &[] }
    }

    /// The attempt that is under way, or of which a person must decide.
    pub(crate) const fn attempt(&self) -> Option<u32> {
        match self {
            Self::Running { attempt, .. } | Self::Attention { attempt, .. } => Some(*attempt),
            Self::Waiting
            | Self::Items { .. }
            | Self::Open { .. }
            | Self::Lost { .. }
            | Self::Failing { .. }
            | Self::Backoff { .. }
            | Self::Asking { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// The attempt to come, where others were made before it.
    pub(crate) const fn next_attempt(&self) -> Option<u32> {
        match self {
            Self::Lost { attempt } | Self::Failing { attempt, .. } => Some(*attempt + 1),
            Self::Backoff { attempt, .. } | Self::Asking { attempt, .. } => Some(*attempt),
            Self::Waiting
            | Self::Items { .. }
            | Self::Open { .. }
            | Self::Running { .. }
            | Self::Attention { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// When time decides of it, or when it is tried or asked again.
    pub(crate) const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Open { due, .. } => *due,
            Self::Failing { due, .. } | Self::Backoff { due, .. } | Self::Asking { due, .. } => {
                Some(*due)
            }
            Self::Waiting
            | Self::Items { .. }
            | Self::Running { .. }
            | Self::Lost { .. }
            | Self::Attention { .. }
            | Self::Ended { .. } => None,
        }
    }
}
