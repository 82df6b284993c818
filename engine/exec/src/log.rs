//! The log of one attempt: lines are masked, cut, counted, shown live, and stored in batches.

use std::collections::VecDeque;
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

/// What a store writes beside the text of a line, in bytes, at most: its time and its stream.
const BESIDE: u64 = 48;

/// How much of a long log is stored from its start. What stands there says what was begun.
const HEAD: u64 = MAX_LOG_BYTES / 8 * 5;

/// How much is kept of its end, where it says what went wrong. The rest is left out between them,
/// with room for the line that says so.
const TAIL: u64 = MAX_LOG_BYTES / 8 * 3 - (64 << 10);

/// The log that a step writes to. Writing never waits: lines gather in memory, at most as many
/// bytes as a log may have, and [`AttemptLog::store_while`] takes them from there. Of a log that is too
/// long the start and the end are stored, the end when the attempt is over.
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
    /// The bytes of all that was handed on to be stored, or waits for it.
    bytes: u64,
    end: End,
    shown: Option<Instant>,
}

/// The end of a log whose start is as long as it may be.
#[derive(Default)]
struct End {
    lines: VecDeque<LogLine>,
    bytes: u64,
    left_out_lines: u64,
    left_out_bytes: u64,
}

impl End {
    fn push(&mut self, line: LogLine) {
        self.bytes += stored(&line);
        self.lines.push_back(line);
        while self.bytes > TAIL {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= stored(&first);
            self.left_out_lines += 1;
            self.left_out_bytes += first.text.len() as u64 + 1;
        }
    }

    /// What is to be stored behind the start: the lines, behind one that says what is missing.
    fn take(&mut self) -> Vec<LogLine> {
        let Self { lines, left_out_lines, left_out_bytes, .. } = std::mem::take(self);
        let missing = lines.front().filter(|_| left_out_lines > 0).map(|first| LogLine {
            at: first.at,
            stream: Stream::Step,
            text: format!(
                "{left_out_lines} lines ({left_out_bytes} bytes) are left out here: of a log that is \
                 longer than {} MiB, the start and the end are kept",
                MAX_LOG_BYTES >> 20
            ),
        });
        missing.into_iter().chain(lines).collect()
    }
}

/// The bytes that a line takes up in a store, at most.
fn stored(line: &LogLine) -> u64 {
    line.text.len() as u64 + BESIDE
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
                    self.store_rest().await;
                    return answer;
                }
                () = self.written.notified() => {}
            }
            // The step goes on while the store works.
            let mut stored = std::pin::pin!(self.store_waiting());
            tokio::select! {
                answer = &mut work => {
                    stored.await;
                    self.store_rest().await;
                    return answer;
                }
                () = &mut stored => {}
            }
        }
    }

    /// Stores what waits. What gathers meanwhile goes in the next batch.
    async fn store_waiting(&self) {
        let lines = std::mem::take(&mut self.state().waiting);
        self.store(lines).await;
    }

    /// Stores all that is left when nothing more is written.
    async fn store_rest(&self) {
        let lines = {
            let mut state = self.state();
            let mut lines = std::mem::take(&mut state.waiting);
            lines.extend(state.end.take());
            lines
        };
        self.store(lines).await;
    }

    async fn store(&self, lines: Vec<LogLine>) {
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
        self.updates.send(|| Update::Line { log: self.key.clone(), line: line.clone() });
        if state.bytes + stored(&line) > HEAD || !state.end.lines.is_empty() {
            state.end.push(line);
            return;
        }
        state.bytes += stored(&line);
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
    fn of_a_log_that_is_too_long_the_start_and_the_end_are_kept() {
        let line = |number: u64| LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            stream: Stream::Stdout,
            text: format!("line {number} {}", "x".repeat(1000)),
        };
        let mut end = End::default();
        (0..3).for_each(|number| end.push(line(number)));
        assert_eq!(end.take().len(), 3, "what fits needs no word");
        let many = 20_000;
        (0..many).for_each(|number| end.push(line(number)));
        let kept = end.take();
        let first: u64 = kept[1].text.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(kept[0].text.starts_with(&format!("{first} lines (")), "{}", kept[0].text);
        assert!(kept.last().unwrap().text.starts_with(&format!("line {} ", many - 1)));
        let size: u64 = kept.iter().map(stored).sum();
        assert!(HEAD + size <= MAX_LOG_BYTES && size > TAIL / 2, "{size}");
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("x".repeat(MAX_LINE_BYTES)).len(), MAX_LINE_BYTES);
        let long = cut("é".repeat(MAX_LINE_BYTES));
        assert!(long.len() <= MAX_LINE_BYTES && long.ends_with(CUT), "{}", long.len());
    }
}
