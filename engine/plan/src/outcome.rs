//! How steps and runs end: the words that plan and run share.

use std::fmt;
use std::time::Duration;

use fairlead_step::{Digest, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a step ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it is for.
    Passed,
    /// It ran well and its answer is no.
    Rejected,
    /// It had nothing to do, its `when` was false, or what it needs ended otherwise.
    Skipped,
    /// It has no answer: its last attempt failed.
    Failed,
    /// It was told to stop.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Passed, Self::Rejected, Self::Skipped, Self::Failed, Self::Cancelled];

    /// The word in YAML and in the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a run ended, or would end now: what `on:` of a `finally` step looks at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every step passed or was skipped.
    Passed,
    /// A step's answer was no, and none failed.
    Rejected,
    /// A step failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl RunOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Rejected, Self::Failed, Self::Cancelled];

    /// The word in YAML and in the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Under `steps`: as soon as what it needs has ended.
    Main,
    /// Under `on_failure`: after every main step has ended, when they did not simply pass.
    OnFailure,
    /// Under `finally`: after all others have ended, however they ended.
    Finally,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 3] = [Self::Main, Self::OnFailure, Self::Finally];

    /// The key of the file that its steps stand under.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Main => "steps",
            Self::OnFailure => "on_failure",
            Self::Finally => "finally",
        }
    }
}

/// Which failures another attempt may mend. A verdict is never retried, nor is a cancelled step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Failures of the infrastructure: what the step itself calls retryable, and lost attempts.
    #[default]
    Infra,
    /// Those, and an attempt that ran past the step's `timeout`.
    Timeout,
    /// Every failure, terminal ones included.
    Any,
}

/// How often and when a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first one; 0 means none.
    pub max: u32,
    /// The wait before the second attempt; it doubles with each one.
    pub first: HumanDuration,
    /// The longest wait.
    pub cap: HumanDuration,
    /// Which failures.
    pub on: RetryOn,
}

impl Retry {
    /// The most attempts that `max` may ask for.
    pub const MOST: u32 = 20;

    /// The wait after failed attempt `attempt`. Where the backoff is a range it is drawn from `seed`,
    /// between a half of [`Retry::longest_after`] and the whole of it: those that failed together
    /// do not come back together, and the same seed gives the same wait.
    #[must_use]
    pub fn wait_after(&self, attempt: u32, seed: &[u8]) -> Duration {
        let longest = self.longest_after(attempt);
        if self.first >= self.cap {
            return longest;
        }
        let half = longest / 2;
        let drawn = Digest::sha256(seed);
        let drawn = drawn.hex().get(..8).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        longest - Duration::from_millis(drawn.unwrap_or(0) % span)
    }

    /// The longest wait after failed attempt `attempt` (counted from 1): `first · 2^(attempt-1)`, at
    /// most `cap`.
    #[must_use]
    pub fn longest_after(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.0.checked_mul(factor).unwrap_or(self.cap.0).min(self.cap.0)
    }

    /// Whether another attempt is allowed after failed attempt `attempt` (counted from 1).
    #[must_use]
    pub const fn allows_after(&self, attempt: u32) -> bool {
        attempt <= self.max
    }
}

impl Default for Retry {
    /// No retry; 2 s to 1 min where only `max` is given.
    fn default() -> Self {
        Self {
            max: 0,
            first: HumanDuration(Duration::from_secs(2)),
            cap: HumanDuration(Duration::from_secs(60)),
            on: RetryOn::Infra,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let retry = Retry { max: 8, ..Retry::default() };
        let waits: Vec<u64> = (1..9).map(|n| retry.longest_after(n).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry.longest_after(u32::MAX).as_secs(), 60);
        assert!(retry.allows_after(8) && !retry.allows_after(9));
    }

    #[test]
    fn waits_of_a_range_are_drawn_from_the_seed() {
        let retry = Retry { max: 8, ..Retry::default() };
        let drawn = |seed: u32| retry.wait_after(3, &seed.to_be_bytes());
        let waits: std::collections::BTreeSet<Duration> = (0..200).map(drawn).collect();
        assert!(waits.len() > 150, "{} of 200 are different", waits.len());
        let (least, most) = (Duration::from_secs(4), Duration::from_secs(8));
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{waits:?}");
        assert_eq!(drawn(7), drawn(7));
        let constant = Retry { first: retry.cap, ..retry };
        assert_eq!(constant.wait_after(1, b"a"), constant.wait_after(5, b"b"));
    }

    #[test]
    fn names_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
        }
        for outcome in RunOutcome::ALL {
            assert_eq!(RunOutcome::from_name(outcome.name()), Some(outcome));
        }
    }
}
