//! What a runner keeps on its disk of one attempt until the server has it: the job, the lines of the log,
//! how it ended. What cannot be written there is counted, and a line says so.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fairlead_run::{LogKey, LogLine, LogPage, LogStore, StoreError};
use fairlead_step::{BoxFuture, RunId, Stream};
use tokio::sync::Notify;

use crate::attempts::{AttemptResult, JobSpec};
use crate::remote::wire::write_line;

const JOB: &str = "job.json";
const LOG: &str = "log";
const RESULT: &str = "result.json";

/// How much all attempts of a runner may keep on its disk, and how much they do.
#[derive(Debug)]
pub(super) struct Budget {
    most: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) const fn new(most: u64) -> Self {
        Self { most, used: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            let most = self.most >> 20;
            return Err(io::Error::other(format!("the spool holds its {most} MiB already")));
        }
        Ok(())
    }

    /// Whether half of the room is taken.
    pub(super) fn is_half_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most / 2
    }

    /// Whether there is not even room for a short log.
    pub(super) fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most / 10 * 9
    }
}

/// The spool of one attempt.
pub(super) struct Spool {
    folder: PathBuf,
    budget: Arc<Budget>,
    state: Mutex<State>,
    /// Told when there is more to send.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    /// What is in the file.
    lines: u64,
    bytes: u64,
    /// Lines that could not be written behind them, and why not.
    missing: u64,
    why: String,
    /// The last line, where it could not be written.
    unwritten: Option<String>,
    closed: bool,
}

/// What is to be sent next.
pub(super) enum Next {
    /// These lines, from where on the next ones are, and how many they are.
    Lines { bytes: Bytes, to: u64, count: u64 },
    /// Nothing yet.
    Wait,
    /// Nothing any more: the log has so many lines.
    End { lines: u64 },
}

impl Spool {
    /// A new one in `folder`, which is made.
    pub(super) fn create(folder: PathBuf, budget: Arc<Budget>, job: &JobSpec) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(JOB), job.to_bytes())?;
        let file = File::options().create(true).append(true).read(true).open(folder.join(LOG))?;
        let state = State { file: Some(Arc::new(file)), ..State::default() };
        Ok(Self { folder, budget, state: Mutex::new(state), changed: Notify::new() })
    }

    /// What an earlier life of the runner left in `folder`, with how the attempt ended where it did.
    pub(super) fn found(
        folder: PathBuf,
        budget: Arc<Budget>,
    ) -> io::Result<(Self, JobSpec, Option<AttemptResult>)> {
        let job = JobSpec::from_bytes(&fs::read(folder.join(JOB))?).map_err(io::Error::other)?;
        let end = match fs::read(folder.join(RESULT)) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(_) => None,
        };
        let file = File::options().create(true).append(true).read(true).open(folder.join(LOG))?;
        let (lines, bytes) = whole_lines(&file)?;
        // A line that was being written when the runner ended is not one.
        file.set_len(bytes)?;
        let _ = budget.take(bytes);
        let state =
            State { file: Some(Arc::new(file)), lines, bytes, closed: true, ..State::default() };
        let spool = Self { folder, budget, state: Mutex::new(state), changed: Notify::new() };
        Ok((spool, job, end))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines, behind one that says how many are missing before them where some are.
    pub(super) fn write(&self, lines: &[LogLine]) {
        let mut state = self.state();
        let (mut text, mut count) = (String::new(), 0);
        if let (1.., Some(first)) = (state.missing, lines.first()) {
            write_line(&mut text, &state.gap(first));
            count += 1;
        }
        for line in lines {
            write_line(&mut text, line);
            count += 1;
        }
        match self.append(&state, &text) {
            Ok(()) => {
                state.lines += count;
                state.bytes += text.len() as u64;
                state.missing = 0;
            }
            Err(error) => {
                state.missing += lines.len() as u64;
                state.why = error.to_string();
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    fn append(&self, state: &State, text: &str) -> io::Result<()> {
        let Some(file) = &state.file else {
            return Err(io::Error::other("the log is closed"));
        };
        self.budget.take(text.len() as u64)?;
        let written = (&**file).write_all(text.as_bytes());
        if written.is_err() {
            // No half of a line shall stand before what comes next.
            let _ = file.set_len(state.bytes);
            self.budget.used.fetch_sub(text.len() as u64, Ordering::Relaxed);
        }
        written
    }

    /// Says that no more lines come, and keeps how the attempt ended.
    pub(super) fn finish(&self, end: &AttemptResult, at: jiff::Timestamp) {
        let mut state = self.state();
        if state.missing > 0 {
            let (mut text, last) =
                (String::new(), LogLine { at, stream: Stream::Step, text: String::new() });
            write_line(&mut text, &state.gap(&last));
            match self.append(&state, &text) {
                Ok(()) => {
                    state.lines += 1;
                    state.bytes += text.len() as u64;
                }
                Err(_) => state.unwritten = Some(text),
            }
            state.missing = 0;
        }
        state.closed = true;
        drop(state);
        // Without it a runner that is ended before the server knows calls the attempt lost.
        let kept = serde_json::to_vec(end).map_err(io::Error::other);
        let kept = kept.and_then(|bytes| {
            let part = self.folder.join("result.part");
            fs::write(&part, bytes)?;
            fs::rename(part, self.folder.join(RESULT))
        });
        if let Err(error) = kept {
            tracing::warn!("the end of an attempt is not kept on disk: {error}");
        }
        self.changed.notify_one();
    }

    /// What is to be sent behind `line`, which begins at `at` in the file: at most about `most` bytes.
    pub(super) fn next(&self, line: u64, at: u64, most: usize) -> io::Result<Next> {
        let (file, bytes, lines, unwritten, closed) = {
            let state = self.state();
            let unwritten = state.unwritten.clone();
            (state.file.clone(), state.bytes, state.lines, unwritten, state.closed)
        };
        let total = lines + u64::from(unwritten.is_some());
        if at < bytes
            && let Some(file) = file
        {
            let mut chunk = vec![0; most.min(usize::try_from(bytes - at).unwrap_or(most))];
            file.read_exact_at(&mut chunk, at)?;
            let end = chunk.iter().rposition(|&b| b == b'\n').map_or(chunk.len(), |end| end + 1);
            chunk.truncate(end);
            let count = memchr::memchr_iter(b'\n', &chunk).count() as u64;
            return Ok(Next::Lines { to: at + end as u64, count, bytes: chunk.into() });
        }
        if let Some(text) = unwritten.filter(|_| line == lines) {
            return Ok(Next::Lines { bytes: text.into(), to: at, count: 1 });
        }
        Ok(if closed { Next::End { lines: total } } else { Next::Wait })
    }

    /// Where line number `line` begins, or the end where there are fewer; and which one begins there.
    pub(super) fn place(&self, line: u64) -> io::Result<(u64, u64)> {
        let (file, bytes, lines) = {
            let state = self.state();
            (state.file.clone(), state.bytes, state.lines)
        };
        let Some(file) = file else { return Ok((0, 0)) };
        if line >= lines {
            return Ok((line.min(lines + 1), bytes));
        }
        let mut chunk = vec![0; 1 << 20];
        let (mut seen, mut at) = (0, 0);
        while seen < line {
            let read = file.read_at(&mut chunk, at)?;
            if read == 0 {
                return Ok((seen, at));
            }
            for end in memchr::memchr_iter(b'\n', &chunk[..read]) {
                seen += 1;
                if seen == line {
                    return Ok((line, at + end as u64 + 1));
                }
            }
            at += read as u64;
        }
        Ok((0, 0))
    }

    /// Removes all of it.
    pub(super) fn remove(&self) {
        let mut state = self.state();
        state.file = None;
        self.budget.used.fetch_sub(std::mem::take(&mut state.bytes), Ordering::Relaxed);
        drop(state);
        if let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("a spool is not removed: {error}");
        }
    }
}

impl State {
    /// The line in the place of those that are missing before `next`.
    fn gap(&self, next: &LogLine) -> LogLine {
        let (missing, why) = (self.missing, &self.why);
        let text =
            format!("{missing} lines are missing here: the runner could not keep them: {why}");
        LogLine { at: next.at, stream: Stream::Step, text }
    }
}

/// How many whole lines a file has, and how many bytes those are.
fn whole_lines(file: &File) -> io::Result<(u64, u64)> {
    let (mut lines, mut whole, mut at) = (0, 0, 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            return Ok((lines, whole));
        }
        lines += memchr::memchr_iter(b'\n', &chunk[..read]).count() as u64;
        if let Some(end) = memchr::memrchr(b'\n', &chunk[..read]) {
            whole = at + end as u64 + 1;
        }
        at += read as u64;
    }
}

/// The folders that an earlier life of the runner left below `spool`.
pub(super) fn left_behind(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The spool as the store of its attempt's log.
pub(super) struct SpooledLog {
    pub(super) spool: Arc<Spool>,
    /// The most bytes of the log, as the server keeps it.
    pub(super) max_bytes: u64,
}

impl LogStore for SpooledLog {
    fn append(&self, _: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        let spool = Arc::clone(&self.spool);
        Box::pin(async move {
            // A disk may take its time.
            let written = tokio::task::spawn_blocking(move || spool.write(&lines)).await;
            written.map_err(|error| StoreError::Unavailable {
                doing: "keep lines of a log".to_owned(),
                source: error.into(),
            })
        })
    }

    fn read(&self, _: &LogKey, _: u64, _: usize) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        // The server has what was sent.
        Box::pin(std::future::ready(Ok(LogPage { at_end: true, ..LogPage::default() })))
    }

    fn logs_of(&self, _: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}
