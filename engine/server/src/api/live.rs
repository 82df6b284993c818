//! A run as it happens: server-sent events. First the records that are there, then those that come,
//! with the lines of logs and the progress of steps between them, until the run has ended.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use fairlead_exec::{Update, Updates};
use fairlead_run::Record;
use fairlead_step::RunId;
use futures::stream;
use serde_json::json;

use super::problem::Problem;
use super::runs::{run_id, stream as stream_name};
use crate::server::Shared;

/// How often a stream that has nothing to say says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// `Last-Event-ID` is the number of the last record that the client has; what it has is not sent
/// again.
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let run = run_id(&run)?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let live = Live {
        // Before the journal is read, so that nothing falls between the two.
        updates: shared.ports.engine.subscribe(),
        waiting: VecDeque::new(),
        last: seen.unwrap_or(0),
        ended: false,
        run,
        shared,
    };
    let mut live = live;
    live.catch_up().await?;
    let events = stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)))
}

struct Live {
    shared: Arc<Shared>,
    run: RunId,
    updates: Updates,
    waiting: VecDeque<Event>,
    /// The number of the last record that was sent.
    last: u64,
    ended: bool,
}

impl Live {
    /// Puts what the journal has, and the client has not, in line.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        let stored = self.shared.ports.journal.load(&self.run).await?;
        for record in &stored.records {
            self.record(record);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) {
        let seq = record.seq().0;
        if record.event().ends_as().is_some() {
            self.ended = true;
        }
        if seq > self.last {
            self.last = seq;
            let event = Event::default().event("record").id(seq.to_string());
            self.waiting.push_back(event.data(record.bytes()));
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let update = tokio::select! {
                update = self.updates.next() => update?,
                () = self.shared.stopping.cancelled() => return None,
            };
            self.take(&update).await?;
        }
    }

    async fn take(&mut self, update: &Update) -> Option<()> {
        match update {
            Update::Record { run, record } if *run == self.run => self.record(record),
            Update::Line { log, line } if log.run == self.run => {
                let data = json!({ "step": log.step, "attempt": log.attempt, "at": line.at,
                    "stream": stream_name(line.stream), "text": line.text });
                self.waiting.push_back(Event::default().event("line").data(data.to_string()));
            }
            Update::Progress { log, progress } if log.run == self.run => {
                let data = json!({ "step": log.step, "attempt": log.attempt,
                    "what": progress.what, "done": progress.done, "total": progress.total });
                self.waiting.push_back(Event::default().event("progress").data(data.to_string()));
            }
            Update::Notice { run, message } if *run == self.run => {
                let data = json!({ "message": message }).to_string();
                self.waiting.push_back(Event::default().event("notice").data(data));
            }
            // The records that were missed stand in the journal, the lines in the logs.
            Update::Missed { .. } => self.catch_up().await.ok()?,
            Update::Record { .. }
            | Update::Line { .. }
            | Update::Progress { .. }
            | Update::Notice { .. } => {}
        }
        Some(())
    }
}
