//! The log of one attempt: lines are masked, cut, counted, shown live, and stored in batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_run::{LogKey, LogLine, LogStore, MAX_LINE_BYTES};
use fairlead_step::{BoxFuture, Clock, Log, Progress, Stream};
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

/// How much is kept of the end of a log that is too long, where it says what went wrong. The rest is left
/// out between the start and the end.
const TAIL: u64 = 4 << 20;

/// What of a log is for the line that says what is left out.
const MARK: u64 = 64 << 10;

/// How many bytes may wait for the store before whoever can wait does.
const MUCH: u64 = 1 << 20;

/// How many bytes may wait for the store at all. What comes then is counted, and a line says so.
const TOO_MUCH: u64 = 16 << 20;

/// How long a log that is full holds up whoever writes what a program says.
const PATIENCE: Duration = Duration::from_secs(30);

/// The log that a step writes to. Writing never waits: lines gather in memory, and
/// [`AttemptLog::store_while`] takes them from there. Where more gather than the store takes, those who
/// pass on the output of programs wait a while; lines that are too many, and those that the store did not
/// take, are counted, and a line in their place says so. Of a log that is too long the start and the end are
/// stored, the end when the attempt is over.
pub(crate) struct AttemptLog {
    key: LogKey,
    store: Arc<dyn LogStore>,
    clock: Arc<dyn Clock>,
    updates: Broadcast,
    mask: Arc<Mask>,
    /// How much is stored from the start.
    head: u64,
    tail: u64,
    state: Mutex<State>,
    written: Notify,
    stored: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<LogLine>,
    /// The bytes of those, and of what is being stored.
    pending: u64,
    /// The bytes of all that was handed on to be stored, or waits for it.
    bytes: u64,
    missing: Missing,
    /// The store was waited for in vain: nobody waits before it takes something again.
    stuck: bool,
    end: End,
    shown: Option<Instant>,
}

/// Lines that were written and are not in the log, in one place.
#[derive(Default)]
struct Missing {
    lines: u64,
    why: &'static str,
}

impl State {
    /// Keeps a line for the store, behind the one that says which are missing before it.
    fn keep(&mut self, line: LogLine) {
        if self.missing.lines > 0 {
            let Missing { lines, why } = std::mem::take(&mut self.missing);
            let text = format!("{lines} lines are missing here: {why}");
            let gap = LogLine { at: line.at, stream: Stream::Step, text };
            self.count(&gap);
            self.waiting.push(gap);
        }
        self.count(&line);
        self.waiting.push(line);
    }

    fn count(&mut self, line: &LogLine) {
        self.pending += stored(line);
        self.bytes += stored(line);
    }

    fn miss(&mut self, lines: usize, why: &'static str) {
        self.missing.lines += lines as u64;
        self.missing.why = why;
    }

    const fn is_full(&self) -> bool {
        self.pending > MUCH && !self.stuck
    }
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
    fn push(&mut self, line: LogLine, most: u64) {
        self.bytes += stored(&line);
        self.lines.push_back(line);
        while self.bytes > most {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= stored(&first);
            self.left_out_lines += 1;
            self.left_out_bytes += first.text.len() as u64 + 1;
        }
    }

    /// What is to be stored behind the start: the lines, behind one that says what is missing.
    fn take(&mut self, most: u64) -> Vec<LogLine> {
        let Self { lines, left_out_lines, left_out_bytes, .. } = std::mem::take(self);
        let missing = lines.front().filter(|_| left_out_lines > 0).map(|first| LogLine {
            at: first.at,
            stream: Stream::Step,
            text: format!(
                "{left_out_lines} lines ({left_out_bytes} bytes) are left out here: of a log that is \
                 longer than {} MiB, the start and the end are kept",
                most >> 20
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
        let most = store.max_bytes();
        // A log that may be short has the larger part of it at its start, too.
        let tail = TAIL.min(most / 8 * 3);
        Self {
            key,
            head: most.saturating_sub(tail + MARK),
            tail,
            store,
            clock,
            updates,
            mask,
            state: Mutex::default(),
            written: Notify::new(),
            stored: Notify::new(),
        }
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
        self.store_waiting().await;
        let lines = {
            let mut state = self.state();
            let end = state.end.take(self.store.max_bytes());
            if end.is_empty() && state.missing.lines > 0 {
                let last =
                    LogLine { at: self.clock.now(), stream: Stream::Step, text: String::new() };
                state.keep(last);
                // What says that lines are missing stands for all of the end.
                state.waiting.truncate(1);
            }
            end.into_iter().for_each(|line| state.keep(line));
            std::mem::take(&mut state.waiting)
        };
        self.store(lines).await;
    }

    async fn store(&self, lines: Vec<LogLine>) {
        if lines.is_empty() {
            return;
        }
        let (count, bytes) = (lines.len(), lines.iter().map(stored).sum::<u64>());
        let stored = tokio::time::timeout(STORE_ANSWER, self.store.append(&self.key, lines)).await;
        let problem = match stored {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store did not answer".to_owned()),
        };
        {
            let mut state = self.state();
            state.pending = state.pending.saturating_sub(bytes);
            state.stuck = problem.is_some();
            if problem.is_some() {
                state.miss(count, "the store did not take them");
            }
        }
        self.stored.notify_waiters();
        if let Some(problem) = problem {
            // A run is not failed for the want of its log: what decides stands in the journal.
            let LogKey { run, step, .. } = &self.key;
            tracing::warn!(%run, %step, problem, "lines of a log were lost");
        }
    }

    /// Waits until the store has taken most of what waits, or was waited for long enough.
    async fn wait_for_room(&self) {
        let taken = async {
            loop {
                let mut stored = std::pin::pin!(self.stored.notified());
                stored.as_mut().enable();
                if !self.state().is_full() {
                    return;
                }
                stored.await;
            }
        };
        if tokio::time::timeout(PATIENCE, taken).await.is_err() {
            self.state().stuck = true;
        }
    }

    fn one_line(&self, stream: Stream, text: &str) {
        let text = cut(self.mask.apply(text));
        let line = LogLine { at: self.clock.now(), stream, text };
        let mut state = self.state();
        self.updates.send(|| Update::Line { log: self.key.clone(), line: line.clone() });
        if state.bytes + stored(&line) > self.head || !state.end.lines.is_empty() {
            state.end.push(line, self.tail);
            return;
        }
        if state.pending + stored(&line) > TOO_MUCH {
            state.miss(1, "they came faster than they could be kept");
            return;
        }
        state.keep(line);
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

    fn room(&self) -> Option<BoxFuture<'_, ()>> {
        self.state().is_full().then(|| Box::pin(self.wait_for_room()) as BoxFuture<'_, ()>)
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

    fn line(number: u64) -> LogLine {
        LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            stream: Stream::Stdout,
            text: format!("line {number} {}", "x".repeat(1000)),
        }
    }

    #[test]
    fn of_a_log_that_is_too_long_the_start_and_the_end_are_kept() {
        let mut end = End::default();
        (0..3).for_each(|number| end.push(line(number), TAIL));
        assert_eq!(end.take(1 << 30).len(), 3, "what fits needs no word");
        let many = 20_000;
        (0..many).for_each(|number| end.push(line(number), TAIL));
        let kept = end.take(1 << 30);
        let first: u64 = kept[1].text.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(kept[0].text.starts_with(&format!("{first} lines (")), "{}", kept[0].text);
        assert!(kept.last().unwrap().text.starts_with(&format!("line {} ", many - 1)));
        let size: u64 = kept.iter().map(stored).sum();
        assert!(size <= TAIL + MARK && size > TAIL / 2, "{size}");
    }

    /// A store of logs that fails when it is told to, and keeps what it takes.
    #[derive(Default)]
    struct Moody {
        fails: std::sync::atomic::AtomicBool,
        lines: Mutex<Vec<String>>,
    }

    impl LogStore for Moody {
        fn append(
            &self,
            _: &LogKey,
            lines: Vec<LogLine>,
        ) -> BoxFuture<'_, Result<(), fairlead_run::StoreError>> {
            Box::pin(async move {
                if self.fails.load(std::sync::atomic::Ordering::Relaxed) {
                    let (doing, source) = ("keep lines".to_owned(), "it is in no mood".into());
                    return Err(fairlead_run::StoreError::Unavailable { doing, source });
                }
                let mut kept = self.lines.lock().unwrap();
                kept.extend(lines.into_iter().map(|line| line.text));
                Ok(())
            })
        }

        fn read(
            &self,
            _: &LogKey,
            _: u64,
            _: usize,
        ) -> BoxFuture<'_, Result<fairlead_run::LogPage, fairlead_run::StoreError>> {
            Box::pin(std::future::ready(Ok(fairlead_run::LogPage::default())))
        }

        fn logs_of(
            &self,
            _: &fairlead_step::RunId,
        ) -> BoxFuture<'_, Result<Vec<LogKey>, fairlead_run::StoreError>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
    }

    fn log(store: &Arc<Moody>) -> AttemptLog {
        let key = LogKey {
            run: fairlead_step::RunId::mint(1, 1),
            step: "a".parse().unwrap(),
            attempt: 1,
        };
        let mask = Arc::new(Mask::new(&std::collections::BTreeMap::new()));
        AttemptLog::new(key, store.clone(), Arc::new(Epoch), Broadcast::new(), mask)
    }

    #[tokio::test]
    async fn what_the_store_did_not_take_is_told_where_it_is_missing() {
        let store = Arc::new(Moody::default());
        let log = log(&store);
        log.line(Stream::Stdout, "one");
        log.store_waiting().await;
        store.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        log.line(Stream::Stdout, "two");
        log.line(Stream::Stdout, "three");
        log.store_waiting().await;
        store.fails.store(false, std::sync::atomic::Ordering::Relaxed);
        log.line(Stream::Stdout, "four");
        log.store_waiting().await;
        store.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        log.line(Stream::Stdout, "five");
        log.store_waiting().await;
        store.fails.store(false, std::sync::atomic::Ordering::Relaxed);
        log.store_rest().await;
        assert_eq!(
            *store.lines.lock().unwrap(),
            [
                "one",
                "2 lines are missing here: the store did not take them",
                "four",
                "1 lines are missing here: the store did not take them"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_can_wait_does_and_what_comes_too_fast_is_counted() {
        let store = Arc::new(Moody::default());
        let log = log(&store);
        assert!(log.room().is_none(), "an empty log takes lines at once");
        let text = "x".repeat(1000);
        while log.room().is_none() {
            log.line(Stream::Stdout, &text);
        }
        let waiting = log.room().unwrap();
        let (_, ()) = tokio::join!(waiting, log.store_waiting());
        assert!(log.room().is_none(), "the store took them");
        let many = 20_000;
        (0..many).for_each(|_| log.line(Stream::Stdout, &text));
        // Nobody stores anything: it is waited for a while, once.
        let begin = Instant::now();
        log.room().unwrap().await;
        assert_eq!(begin.elapsed(), PATIENCE);
        assert!(log.room().is_none());
        log.store_rest().await;
        let lines = store.lines.lock().unwrap();
        let gap = lines.iter().filter(|line| line.contains("lines are missing here")).count();
        let last = lines.last().unwrap();
        assert_eq!(gap, 1, "{last}");
        let missing: usize = last.split(' ').next().unwrap().parse().unwrap();
        let first = usize::try_from(MUCH / (1000 + BESIDE)).unwrap() + 1;
        assert_eq!(lines.len() - 1 + missing, many + first);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("x".repeat(MAX_LINE_BYTES)).len(), MAX_LINE_BYTES);
        let long = cut("é".repeat(MAX_LINE_BYTES));
        assert!(long.len() <= MAX_LINE_BYTES && long.ends_with(CUT), "{}", long.len());
    }
}
