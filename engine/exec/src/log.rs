//! The log of one attempt: lines are masked, cut, counted, shown live, and stored in batches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_run::{LogKey, LogLine, LogStore, MAX_LINE_BYTES, MAX_LOG_BYTES};
use fairlead_step::{Clock, Log, Progress, Stream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::mask::Mask;
use crate::update::{Broadcast, Update};

/// What stands behind a line that was cut.
const CUT: &str = " … (cut)";

/// The shortest time between two reports of progress: more often nobody can read.
const PROGRESS_PAUSE: Duration = Duration::from_millis(50);

/// How long the store has to take a batch of lines.
const STORE_ANSWER: Duration = Duration::from_secs(30);

/// The log that a step writes to. Writing never waits: lines gather in memory, at most as many
/// bytes as a log may have, and [`AttemptLog::store_while`] takes them from there.
pub(crate) struct AttemptLog {
    key: LogKey,
    store: Arc<dyn LogStore>,
    clock: Arc<dyn Clock>,
    updates: Broadcast,
    mask: Arc<Mask>,
    state: Mutex<State>,
    written: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<LogLine>,
    bytes: u64,
    shown: Option<Instant>,
}

impl AttemptLog {
    pub(crate) fn new(
        key: LogKey,
        store: Arc<dyn LogStore>,
        clock: Arc<dyn Clock>,
        updates: Broadcast,
        mask: Arc<Mask>,
    ) -> Self {
        let state = Mutex::default();
        Self { key, store, clock, updates, mask, state, written: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits `work`, and stores meanwhile what it writes. Behind it, all of it is stored.
    pub(crate) async fn store_while<T>(&self, mut work: impl Future<Output = T> + Unpin) -> T {
        loop {
            tokio::select! {
                answer = &mut work => {
                    self.store_waiting().await;
                    return answer;
                }
                () = self.written.notified() => {}
            }
            // The step goes on while the store works.
            let mut stored = std::pin::pin!(self.store_waiting());
            tokio::select! {
                answer = &mut work => {
                    stored.await;
                    self.store_waiting().await;
                    return answer;
                }
                () = &mut stored => {}
            }
        }
    }

    /// Stores what waits. What gathers meanwhile goes in the next batch.
    async fn store_waiting(&self) {
        let lines = std::mem::take(&mut self.state().waiting);
        if lines.is_empty() {
            return;
        }
        let stored = tokio::time::timeout(STORE_ANSWER, self.store.append(&self.key, lines)).await;
        let problem = match stored {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store did not answer".to_owned(),
        };
        // A run is not failed for the want of its log: what decides stands in the journal.
        let LogKey { run, step, .. } = &self.key;
        tracing::warn!(%run, %step, problem, "lines of a log were lost");
    }

    fn one_line(&self, stream: Stream, text: &str) {
        let text = cut(self.mask.apply(text));
        let line = LogLine { at: self.clock.now(), stream, text };
        let mut state = self.state();
        // The store is handed one line too many, so that it can say where it stopped.
        if state.bytes > MAX_LOG_BYTES {
            return;
        }
        state.bytes += line.text.len() as u64 + 1;
        self.updates.send(|| Update::Line { log: self.key.clone(), line: line.clone() });
        state.waiting.push(line);
        drop(state);
        self.written.notify_one();
    }
}

impl Log for AttemptLog {
    fn line(&self, stream: Stream, text: &str) {
        if text.is_empty() {
            self.one_line(stream, "");
        }
        for line in text.lines() {
            self.one_line(stream, line);
        }
    }

    fn progress(&self, progress: Progress) {
        let now = Instant::now();
        let done = progress.total == Some(progress.done);
        let mut state = self.state();
        if !done && state.shown.is_some_and(|shown| now < shown + PROGRESS_PAUSE) {
            return;
        }
        state.shown = Some(now);
        drop(state);
        self.updates.send(|| {
            let what = self.mask.apply(&progress.what);
            Update::Progress { log: self.key.clone(), progress: Progress { what, ..progress } }
        });
    }
}

/// `line` with at most as many bytes as a log's line may have.
fn cut(mut line: String) -> String {
    if line.len() > MAX_LINE_BYTES {
        let mut end = MAX_LINE_BYTES - CUT.len();
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(CUT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("x".repeat(MAX_LINE_BYTES)).len(), MAX_LINE_BYTES);
        let long = cut("é".repeat(MAX_LINE_BYTES));
        assert!(long.len() <= MAX_LINE_BYTES && long.ends_with(CUT), "{}", long.len());
    }
}
