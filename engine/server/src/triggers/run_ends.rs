//! The end of a run is an event: it may start runs of other pipelines.
//!
//! It is told by whoever drove the run to its end, at once, and by every server that looks for what
//! was not told, now and again: the journal knows which runs have ended, and the store takes one event
//! of each.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{RunEnd, RunFinished, SourceEvent};
use fairlead_exec::{Update, Updates};
use fairlead_plan::{RunOutcome, is_trusted};
use fairlead_run::{EventStore, Journal, Request, RunEvent, RunFilter, RunStatus};
use fairlead_step::{Clock, RunId, error_chain};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::current::Current;
use crate::ingest::Ingest;
use crate::ports::{Pipeline, Pipelines};

/// What stands for a source in the events of runs. No configured one can be called so.
pub(crate) const SOURCE: &str = "fairlead.runs";
/// The watermark of the runs that ended.
const WATERMARK: &str = "run.finished";
/// How far before the watermark is looked again: clocks of several servers differ, and a record is
/// stored a little later than it says.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// The runs of a page.
const BATCH: usize = 1000;

/// What makes events of the ends of runs.
pub(crate) struct RunEnds {
    pub(crate) pipelines: Current<Pipelines>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How often is looked for what was not told.
    pub(crate) every: Duration,
    pub(crate) stopping: CancellationToken,
}

impl RunEnds {
    /// Makes the events, until the server stops. Nothing while no pipeline waits for any.
    pub(crate) async fn run(self, mut updates: Updates) {
        let mut look = tokio::time::interval(self.every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => if self.is_wanted() { self.look().await } else { Ok(()) },
                update = updates.next() => match update.as_deref() {
                    Some(Update::Record { run, record }) => match record.event().ends_as() {
                        Some(outcome) if self.is_wanted() => self.tell(run, outcome).await,
                        Some(_) | None => Ok(()),
                    },
                    Some(Update::Missed { .. }) if self.is_wanted() => self.look().await,
                    Some(Update::Missed { .. }) => Ok(()),
                    Some(Update::Line { .. } | Update::Progress { .. } | Update::Notice { .. }) => {
                        Ok(())
                    }
                    // The engine is gone, and with it whoever could end a run.
                    None => return,
                },
            };
            if let Err(error) = told {
                tracing::warn!("the end of a run is told later: {error}");
            }
        }
    }

    fn is_wanted(&self) -> bool {
        let waits = |pipeline: &Pipeline| !pipeline.plan.triggers().run_finished.is_empty();
        self.pipelines.get().iter().any(waits)
    }

    /// Tells of every run that has ended since it was looked last.
    async fn look(&self) -> Result<(), String> {
        let now = self.clock.now();
        let failed = |error| error_chain(&error);
        let since = match self.events.watermark(WATERMARK).await.map_err(failed)? {
            Some(known) => known.min(now).saturating_sub(OVERLAP).unwrap_or(Timestamp::MIN),
            // Who begins to wait for ends waits for those to come.
            None => now,
        };
        let mut filter =
            RunFilter { ended_since: Some(since), limit: BATCH, ..RunFilter::default() };
        loop {
            let page = self.journal.list(filter.clone()).await.map_err(failed)?;
            filter.before =
                (page.len() == BATCH).then(|| page.last().map(|run| run.id.clone())).flatten();
            for run in page {
                if let RunStatus::Ended(outcome) = run.status {
                    self.tell(&run.id, outcome).await?;
                }
            }
            if filter.before.is_none() || self.stopping.is_cancelled() {
                break;
            }
        }
        self.events.raise_watermark(WATERMARK, now).await.map_err(failed)
    }

    /// Tells of the end of one run, unless it was told.
    async fn tell(&self, run: &RunId, outcome: RunOutcome) -> Result<(), String> {
        let stored = self.journal.load(run).await.map_err(|error| error_chain(&error))?;
        let request = stored.records.first().map(fairlead_run::Record::event);
        let Some(RunEvent::Requested(request)) = request else {
            // A journal that cannot be read has nothing to tell.
            return Ok(());
        };
        let event = SourceEvent::RunFinished(finished(run.clone(), request, outcome));
        let accepted = self.ingest.accept(SOURCE, event).await;
        accepted.map(drop).map_err(|error| error_chain(&error))
    }
}

/// What is told of a run that ended so.
fn finished(run: RunId, request: &Request, outcome: RunOutcome) -> RunFinished {
    let event = &request.event;
    let depth = match event.get("kind").and_then(serde_json::Value::as_str) {
        Some("run.finished") => {
            let before = event.get("depth").and_then(serde_json::Value::as_u64).unwrap_or(0);
            u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
        }
        Some(_) | None => 0,
    };
    RunFinished {
        run,
        pipeline: request.pipeline.clone(),
        outcome: match outcome {
            RunOutcome::Passed => RunEnd::Passed,
            RunOutcome::Rejected => RunEnd::Rejected,
            RunOutcome::Failed => RunEnd::Failed,
            RunOutcome::Cancelled => RunEnd::Cancelled,
        },
        by: request.by.clone(),
        params: request.params.clone(),
        depth,
        untrusted: !is_trusted(event),
    }
}
