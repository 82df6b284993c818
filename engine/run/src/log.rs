//! The port to the logs of attempts. Logs are kept beside the journal, never in it.

use std::sync::Arc;

use fairlead_step::{BoxFuture, RunId, StepId, Stream};
use jiff::Timestamp;

use crate::StoreError;

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// Which attempt; counts from 1.
    pub attempt: u32,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// The text, secrets masked, without its end. A line break within it is stored as a space.
    pub text: String,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Where the next page begins.
    pub next: u64,
    /// Whether this page ends where the log ends, for now: an attempt that runs may still write.
    pub at_end: bool,
}

/// The most bytes of one line; a store cuts what is longer.
pub const MAX_LINE_BYTES: usize = 16 << 10;
/// The most bytes of one attempt's log as a store keeps it, unless the store is told another number. What
/// comes after is dropped, and the last line says so.
pub const MAX_LOG_BYTES: u64 = 128 << 20;
/// The last line of a log that grew too long.
pub const LOG_CUT: &str = "the log ends here: it is as long as a log may be";

/// The logs of attempts. They need not survive the loss of power: what a run is decided by stands
/// in the journal.
pub trait LogStore: Send + Sync {
    /// Adds lines to the end of a log, which begins with the first of them.
    ///
    /// # Errors
    /// When the store fails.
    fn append(&self, key: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// At most about `max_bytes` of a log from `from` on: 0, or what [`LogPage::next`] said. May
    /// be called while the log is written. A log nobody has written to is empty.
    ///
    /// # Errors
    /// When the store fails.
    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>>;

    /// The logs that a run has, ordered by step and attempt.
    ///
    /// # Errors
    /// When the store fails.
    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>>;

    /// The most bytes of one log, with what stands beside the text of each line.
    fn max_bytes(&self) -> u64 {
        MAX_LOG_BYTES
    }
}

impl<S: LogStore + ?Sized> LogStore for Arc<S> {
    fn append(&self, key: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).append(key, lines)
    }

    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        (**self).read(key, from, max_bytes)
    }

    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        (**self).logs_of(run)
    }

    fn max_bytes(&self) -> u64 {
        (**self).max_bytes()
    }
}
