//! What a server keeps of runs, through the ports of the store. They are for reading; what changes a run
//! is asked for by itself.

use std::num::NonZeroU32;

use fairlead_run::{
    Admission, AppendError, Batch, Created, Head, Journal, Lease, LeaseError, LogKey, LogLine,
    LogPage, LogStore, NewRun, RunFilter, RunStatus, RunSummary, Signal, SignalId, StoreError,
    StoredRun, StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, RunId, StepId, Stream};
use futures::stream::BoxStream;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Failed};

/// What could not be had of the server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(String);

fn unavailable(doing: &str, why: impl Into<String>) -> StoreError {
    StoreError::Unavailable { doing: doing.to_owned(), source: Unanswered(why.into()).into() }
}

fn failed(doing: &str, error: Failed) -> StoreError {
    unavailable(doing, error.stop().message)
}

fn of_run(doing: &str, run: &RunId, error: Failed) -> StoreError {
    if let Failed::Refused { status: StatusCode::NOT_FOUND, .. } = error {
        return StoreError::NoSuchRun { run: run.clone() };
    }
    failed(doing, error)
}

/// A change that the server makes by itself.
fn not_here<T>() -> Result<T, StoreError> {
    Err(unavailable("change a run", "a client of a server asks the server to"))
}

#[derive(Deserialize)]
struct ListedRun {
    run: RunId,
    pipeline: String,
    status: String,
    by: String,
    requested_at: Timestamp,
    ended_at: Option<Timestamp>,
    #[serde(default)]
    driven: bool,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    origin: Option<RunId>,
    #[serde(default)]
    wake_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Page {
    runs: Vec<ListedRun>,
}

impl Client {
    async fn listed(&self, filter: RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        const DOING: &str = "list runs";
        let mut path = format!("/api/v1/runs?limit={}", filter.limit.clamp(1, RunFilter::MOST));
        for (name, value) in [
            ("run", filter.run.as_ref().map(ToString::to_string)),
            ("pipeline", filter.pipeline.as_deref().map(escaped)),
            ("origin", filter.origin.as_ref().map(ToString::to_string)),
            ("before", filter.before.as_ref().map(ToString::to_string)),
            ("unfinished", filter.unfinished.then(|| "true".to_owned())),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let answer = self.get(&path).await.map_err(|e| failed(DOING, e))?;
        let page: Page =
            serde_json::from_value(answer).map_err(|e| unavailable(DOING, e.to_string()))?;
        let summary = |run: ListedRun| {
            let status = RunStatus::from_name(&run.status).ok_or_else(|| {
                unavailable(DOING, format!("a newer server knows the status `{}`", run.status))
            })?;
            Ok(RunSummary {
                id: run.run,
                pipeline: run.pipeline,
                status,
                by: run.by,
                requested_at: run.requested_at,
                ended_at: run.ended_at,
                held: run.driven,
                number: 0,
                group: run.group,
                origin: run.origin,
                wake_at: run.wake_at,
                signaled: false,
            })
        };
        page.runs.into_iter().map(summary).collect()
    }

    async fn log_page(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        const DOING: &str = "read a log";
        #[derive(Deserialize)]
        struct Line {
            at: Timestamp,
            stream: String,
            text: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            lines: Vec<Line>,
            next: u64,
            at_end: bool,
        }
        let LogKey { run, step, attempt } = key;
        let step = escaped(step.as_str());
        let path = format!(
            "/api/v1/runs/{run}/logs/{step}?attempt={attempt}&from={from}&max_bytes={max_bytes}"
        );
        let answer = self.get(&path).await.map_err(|e| of_run(DOING, run, e))?;
        let answer: Answer =
            serde_json::from_value(answer).map_err(|e| unavailable(DOING, e.to_string()))?;
        let line =
            |line: Line| LogLine { at: line.at, stream: stream(&line.stream), text: line.text };
        let lines = answer.lines.into_iter().map(line).collect();
        Ok(LogPage { lines, next: answer.next, at_end: answer.at_end })
    }
}

pub(super) fn stream(name: &str) -> Stream {
    match name {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => Stream::Step,
    }
}

/// A part of a path or a query, with everything escaped that means something there.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl Journal for Client {
    fn create(&self, _: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async { not_here() })
    }

    fn acquire(&self, _: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        Box::pin(async { not_here().map_err(LeaseError::Store) })
    }

    fn append(&self, _: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async { not_here().map_err(AppendError::Store) })
    }

    fn admit(
        &self,
        _: Batch,
        _: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        Box::pin(async { not_here().map_err(AppendError::Store) })
    }

    fn post(
        &self,
        _: &RunId,
        _: Timestamp,
        _: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        Box::pin(async { not_here() })
    }

    /// What waits for a run is the server's to know.
    fn signals(&self, _: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        Box::pin(futures::stream::pending())
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        const DOING: &str = "read a run";
        let run = run.clone();
        Box::pin(async move {
            let path = format!("/api/v1/runs/{run}/journal");
            let (_, text) = self.text(&path).await.map_err(|e| of_run(DOING, &run, e))?;
            StoredRun::import(&text).map_err(|error| unavailable(DOING, error.to_string()))
        })
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            let stored = self.load(&run).await?;
            let last = stored.records.last();
            let seq = last.map(fairlead_run::Record::seq).unwrap_or_default();
            Ok(Head::of(seq, last.map(fairlead_run::Record::bytes)))
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(self.listed(filter))
    }
}

impl LogStore for Client {
    fn append(&self, _: &LogKey, _: Vec<LogLine>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { not_here() })
    }

    fn read(
        &self,
        key: &LogKey,
        from: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<LogPage, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.log_page(&key, from, max_bytes).await })
    }

    fn logs_of(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<LogKey>, StoreError>> {
        const DOING: &str = "list logs";
        let run = run.clone();
        Box::pin(async move {
            let path = format!("/api/v1/runs/{run}/logs");
            let answer = self.get(&path).await.map_err(|e| of_run(DOING, &run, e))?;
            let logs = answer.get("logs").and_then(Value::as_array).cloned().unwrap_or_default();
            let key = |log: Value| -> Option<LogKey> {
                let step: StepId = log.get("step")?.as_str()?.parse().ok()?;
                let attempt = u32::try_from(log.get("attempt")?.as_u64()?).ok()?;
                Some(LogKey { run: run.clone(), step, attempt })
            };
            Ok(logs.into_iter().filter_map(key).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(escaped("scan[web/1 ü]"), "scan%5Bweb%2F1%20%C3%BC%5D");
    }
}
