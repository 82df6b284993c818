//! Traces on their way to a collector, each when its run has ended.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{EventStore, Journal, Run};
use fairlead_step::{BoxFuture, RunId, error_chain};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::traces::{self, TraceParent};

/// How often a trace is sent. A collector that is away for longer misses it.
const ATTEMPTS: u32 = 4;
/// The pause behind the first attempt, which doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one run may take to be read.
const READ: Duration = Duration::from_secs(10);

/// Why a collector did not take a trace.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExportError {
    /// What went wrong, one lower-case sentence fragment.
    pub message: String,
    /// Whether the same again may work.
    pub again: bool,
}

/// The port to a collector of traces.
pub trait TraceExporter: Send + Sync {
    /// Sends the body of an OTLP request for traces, in its JSON form.
    ///
    /// # Errors
    /// When the collector cannot be reached, or does not take it.
    fn export(&self, body: Value) -> BoxFuture<'_, Result<(), ExportError>>;
}

/// What sends traces.
pub(crate) struct Exports {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) exporter: Arc<dyn TraceExporter>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: CancellationToken,
}

impl Exports {
    /// Sends the traces of the runs that end, until the server stops.
    pub(crate) async fn run(self, mut ended: mpsc::Receiver<RunId>) {
        loop {
            let run = tokio::select! {
                run = ended.recv() => run,
                () = self.stopping.cancelled() => None,
            };
            let Some(run) = run else { return };
            let sent = tokio::select! {
                sent = self.export(&run) => sent,
                () = self.stopping.cancelled() => return,
            };
            if let Err(problem) = sent {
                self.metrics.trace_dropped();
                tracing::warn!(%run, "the trace of the run is not exported: {problem}");
            }
        }
    }

    async fn export(&self, run: &RunId) -> Result<(), String> {
        let read = tokio::time::timeout(READ, self.trace_of(run)).await;
        let Some(body) = read.map_err(|_| "the store did not answer in time".to_owned())?? else {
            return Ok(());
        };
        let mut attempt = 1;
        loop {
            let error = match self.exporter.export(body.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.again || attempt == ATTEMPTS {
                return Err(error.to_string());
            }
            tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
            attempt += 1;
        }
    }

    async fn trace_of(&self, run: &RunId) -> Result<Option<Value>, String> {
        let stored = self.journal.load(run).await.map_err(|error| error_chain(&error))?;
        let state = Run::restore(&stored).map_err(|error| error_chain(&error))?;
        let parent = match &state.request().event_id {
            Some(key) => self.parent(key).await,
            None => None,
        };
        Ok(traces::request(run, state.plan(), &stored.records, parent, "fairlead"))
    }

    /// The trace that the event was part of. Without it the run is a trace of its own.
    async fn parent(&self, key: &str) -> Option<TraceParent> {
        let event = self.events.event(key).await.ok()??;
        let document: Value = serde_json::from_str(&event.document).ok()?;
        TraceParent::parse(document.get("traceparent")?.as_str()?)
    }
}
