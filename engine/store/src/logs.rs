//! [`LogStore`] in files, one for each attempt, and in memory.
//!
//! A log is a text file and not a table: it is written far more often than it is read, it need not
//! be synced, its pages would push the journal's out of the cache and hold up its checkpoints, and
//! an operator can read it with `tail -f`. A line is `TIME STREAM TEXT`; the stream is `o` for
//! standard output, `e` for standard error, `s` for the step itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairlead_run::{
    LOG_CUT, LogKey, LogLine, LogPage, LogStore, MAX_LINE_BYTES, MAX_LOG_BYTES, StoreError,
};
use fairlead_step::{BoxFuture, RunId, Stream};
use jiff::Timestamp;

use crate::prune::{Amount, LogRetention};

/// What a line has besides its text: a time, a stream, two spaces and a line end.
const MOST_BESIDE_TEXT: usize = 64;
/// Within this many bytes of the limit a log may be cut, so its end is looked at before more is
/// added.
pub(crate) const NEAR_THE_END: u64 = 2 * (MAX_LINE_BYTES + MOST_BESIDE_TEXT) as u64;
/// The least that is read at once: a whole line fits.
pub(crate) const LEAST_PAGE: usize = MAX_LINE_BYTES + MOST_BESIDE_TEXT;
/// The most that is read at once.
pub(crate) const MOST_PAGE: usize = 4 << 20;

fn write_line(into: &mut String, line: &LogLine) {
    let mut text = line.text.as_str();
    if text.len() > MAX_LINE_BYTES {
        text = &text[..text.floor_char_boundary(MAX_LINE_BYTES)];
    }
    let _ = write!(into, "{} {} ", line.at, line.stream.letter());
    if text.contains(['\n', '\r']) {
        into.extend(text.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
    } else {
        into.push_str(text);
    }
    into.push('\n');
}

fn read_line(line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    let stream = Stream::of_letter(stream)?;
    Some(LogLine { at: at.parse().ok()?, stream, text: text.to_owned() })
}

/// The most bytes of one log.
pub(crate) struct MaxLog(AtomicU64);

impl Default for MaxLog {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_LOG_BYTES))
    }
}

impl MaxLog {
    pub(crate) fn set(&self, bytes: u64) {
        // A log has room for some lines, and for the one that says that it was cut.
        self.0.store(bytes.max(2 * NEAR_THE_END), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What of `lines` still fits behind the `size` bytes of a log that may have `most`, ready to be written.
pub(crate) fn fitting(lines: &[LogLine], size: u64, most: u64) -> String {
    let mut text = String::new();
    for line in lines {
        let before = text.len();
        write_line(&mut text, line);
        if size + text.len() as u64 > most {
            text.truncate(before);
            let cut = LogLine { at: line.at, stream: Stream::Step, text: LOG_CUT.to_owned() };
            write_line(&mut text, &cut);
            break;
        }
    }
    text
}

pub(crate) fn is_cut(tail: &[u8]) -> bool {
    tail.strip_suffix(b"\n").is_some_and(|tail| tail.ends_with(LOG_CUT.as_bytes()))
}

/// The page that `bytes`, read at `from`, make; `more` says that the log goes on behind them.
pub(crate) fn page(bytes: &[u8], from: u64, more: bool) -> LogPage {
    // A line that is still being written has no end; it belongs to the next page.
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let text = String::from_utf8_lossy(&bytes[..whole]);
    // A line that nobody here wrote, or that `from` cuts in two, is shown as far as it is there.
    let foreign = |line: &str| LogLine {
        at: Timestamp::UNIX_EPOCH,
        stream: Stream::Step,
        text: line.to_owned(),
    };
    let lines = text.lines().map(|line| read_line(line).unwrap_or_else(|| foreign(line)));
    LogPage { lines: lines.collect(), next: from + whole as u64, at_end: !more }
}

/// Logs in a folder: `RUN/STEP.ATTEMPT.log`.
pub(crate) struct Files {
    folder: PathBuf,
    most: MaxLog,
}

impl Files {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, most: MaxLog::default() }
    }

    fn path(&self, key: &LogKey) -> PathBuf {
        self.folder.join(key.run.as_str()).join(format!("{}.{}.log", key.step, key.attempt))
    }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    key: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|source| StoreError::Unavailable {
        doing: format!("{doing} {key}"),
        source: source.into(),
    })
}

fn append(path: &Path, lines: &[LogLine], most: u64) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut options = File::options();
    options.create(true).append(true).read(true);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(path))?;
            options.open(path)?
        }
        opened => opened?,
    };
    let size = file.metadata()?.len();
    if size + NEAR_THE_END > most {
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(size.saturating_sub(LOG_CUT.len() as u64 + 1)))?;
        file.read_to_end(&mut tail)?;
        if is_cut(&tail) {
            return Ok(());
        }
    }
    file.write_all(fitting(lines, size, most).as_bytes())
}

fn read(path: &Path, from: u64, max_bytes: usize) -> io::Result<LogPage> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(LogPage { at_end: true, ..LogPage::default() });
        }
        opened => opened?,
    };
    let from = from.min(file.metadata()?.len());
    file.seek(SeekFrom::Start(from))?;
    let most = max_bytes.clamp(LEAST_PAGE, MOST_PAGE) as u64;
    let mut bytes = Vec::new();
    // One byte more than asked for tells whether the log goes on.
    file.take(most + 1).read_to_end(&mut bytes)?;
    let more = bytes.len() as u64 > most;
    bytes.truncate(most as usize);
    Ok(page(&bytes, from, more))
}

fn logs_of(folder: &Path, run: &RunId) -> io::Result<Vec<LogKey>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let key = name.to_str().and_then(|name| {
            let (step, attempt) = name.strip_suffix(".log")?.rsplit_once('.')?;
            let (step, attempt) = (step.parse().ok()?, attempt.parse().ok()?);
            Some(LogKey { run: run.clone(), step, attempt })
        });
        keys.extend(key);
    }
    keys.sort();
    Ok(keys)
}

impl LogStore for Files {
    fn append(&self, key: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.path(key);
        let name = format!("of `{}` in run {}", key.step, key.run);
        let most = self.most.get();
        Box::pin(blocking("write the log", name, move || append(&path, &lines, most)))
    }

    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        let path = self.path(key);
        let name = format!("of `{}` in run {}", key.step, key.run);
        Box::pin(blocking("read the log", name, move || read(&path, from, max_bytes)))
    }

    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        let folder = self.folder.join(run.as_str());
        let run = run.clone();
        let name = run.to_string();
        Box::pin(blocking("list the logs of run", name, move || logs_of(&folder, &run)))
    }

    fn max_bytes(&self) -> u64 {
        self.most.get()
    }
}

fn runs_with_logs(folder: &Path) -> io::Result<Vec<RunId>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        runs.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    runs.sort();
    Ok(runs)
}

fn remove(folder: &Path, dry: bool) -> io::Result<Amount> {
    let mut amount = Amount::default();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(amount),
        entries => entries?,
    };
    for entry in entries {
        amount.one(entry?.metadata()?.len());
    }
    if !dry {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(amount)
}

impl LogRetention for Files {
    fn limit(&self, bytes: u64) {
        self.most.set(bytes);
    }

    fn runs(&self) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        let folder = self.folder.clone();
        Box::pin(blocking("list the logs", "of all runs".to_owned(), move || {
            runs_with_logs(&folder)
        }))
    }

    fn remove(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Amount, StoreError>> {
        Box::pin(async move {
            let mut amount = Amount::default();
            for run in runs {
                let folder = self.folder.join(run.as_str());
                let work = move || remove(&folder, dry);
                amount.add(blocking("remove the logs of run", run.to_string(), work).await?);
            }
            Ok(amount)
        })
    }
}

/// Logs in memory, in the form that the files have.
#[derive(Default)]
pub(crate) struct Memory {
    logs: Mutex<BTreeMap<LogKey, Arc<Mutex<String>>>>,
    most: MaxLog,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore for Memory {
    fn append(&self, key: &LogKey, lines: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        let log = Arc::clone(locked(&self.logs).entry(key.clone()).or_default());
        let mut log = locked(&log);
        if !is_cut(log.as_bytes()) {
            let more = fitting(&lines, log.len() as u64, self.most.get());
            log.push_str(&more);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        let log = locked(&self.logs).get(key).cloned().unwrap_or_default();
        let log = locked(&log);
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(log.len());
        let end = log.len().min(start.saturating_add(max_bytes.clamp(LEAST_PAGE, MOST_PAGE)));
        let found = page(&log.as_bytes()[start..end], start as u64, end < log.len());
        Box::pin(std::future::ready(Ok(found)))
    }

    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        let keys = locked(&self.logs).keys().filter(|key| key.run == *run).cloned().collect();
        Box::pin(std::future::ready(Ok(keys)))
    }

    fn max_bytes(&self) -> u64 {
        self.most.get()
    }
}

impl LogRetention for Memory {
    fn limit(&self, bytes: u64) {
        self.most.set(bytes);
    }

    fn runs(&self) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        let mut runs: Vec<RunId> = locked(&self.logs).keys().map(|key| key.run.clone()).collect();
        runs.dedup();
        Box::pin(std::future::ready(Ok(runs)))
    }

    fn remove(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Amount, StoreError>> {
        let mut amount = Amount::default();
        locked(&self.logs).retain(|key, log| {
            let goes = runs.contains(&key.run);
            if goes {
                amount.one(locked(log).len() as u64);
            }
            !goes || dry
        });
        Box::pin(std::future::ready(Ok(amount)))
    }
}
