//! The scheduler: the time of a schedule comes, and is an event like any other.
//!
//! Each server that has the pipeline makes that event, and the store takes one: it is known by the
//! schedule and the time. So it matters neither how many servers there are nor how often one of them
//! looks, and what a server that ends leaves undone another one does, or the same when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::SourceEvent;
use fairlead_plan::Timetable;
use fairlead_run::EventStore;
use fairlead_step::{Clock, error_chain};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::current::Current;
use crate::definitions::Live;
use crate::ingest::Ingest;
use crate::ports::Pipelines;

/// What stands for a source in the events of schedules. No configured one can be called so.
pub(crate) const SOURCE: &str = "fairlead.schedule";
/// The longest sleep. Clocks may be set while nobody looks; the store is not asked.
const LONGEST: Duration = Duration::from_secs(60);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What makes events of the times of schedules.
pub(crate) struct Schedules {
    pub(crate) pipelines: Current<Pipelines>,
    /// Told when the pipelines have changed.
    pub(crate) changed: watch::Receiver<Arc<Live>>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stopping: CancellationToken,
}

/// A schedule, and up to where this server has looked at it.
struct Watched {
    table: Timetable,
    until: Option<Timestamp>,
}

impl Schedules {
    /// Makes the events, until the server stops.
    pub(crate) async fn run(mut self) {
        let mut watched = self.watched(Vec::new());
        while !self.stopping.is_cancelled() {
            let pause = match self.ask_due(&mut watched).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!("the times of schedules cannot be told: {error}");
                    STORE_PAUSE
                }
            };
            // With nothing to keep, there is nothing to wake up for.
            let pause = if watched.is_empty() { Duration::MAX } else { pause };
            let changed = tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => false,
                changed = self.changed.changed() => changed.is_ok(),
            };
            if changed {
                watched = self.watched(watched);
            }
        }
    }

    /// The schedules there are, with where they were looked at `before`.
    fn watched(&self, before: Vec<Watched>) -> Vec<Watched> {
        let before: BTreeMap<String, Option<Timestamp>> =
            before.into_iter().map(|it| (it.table.name(), it.until)).collect();
        let mut watched = Vec::new();
        for pipeline in self.pipelines.get().iter() {
            match pipeline.plan.timetables() {
                Ok(tables) => {
                    watched.extend(tables.into_iter().map(|table| {
                        let until = before.get(&table.name()).copied().flatten();
                        Watched { table, until }
                    }));
                }
                Err(error) => {
                    tracing::error!(
                        "a schedule of `{}` is not kept: {error}",
                        pipeline.plan.name()
                    );
                }
            }
        }
        watched
    }

    /// Tells of the times that have come, and answers how long it is until the next one.
    async fn ask_due(&self, watched: &mut [Watched]) -> Result<Duration, String> {
        let mut pause = LONGEST;
        for one in watched {
            let now = self.clock.now();
            let since = self.since(one, now).await?;
            let begun = one.table.due(since, now);
            for due in begun.events {
                let accepted = self.ingest.accept(SOURCE, SourceEvent::Scheduled(due)).await;
                accepted.map_err(|error| error_chain(&error))?;
            }
            // Behind the events: a time of which the store has not heard was not looked at.
            let until = begun.until.unwrap_or(since);
            if begun.until.is_some() {
                let raised = self.events.raise_watermark(&one.table.name(), until).await;
                raised.map_err(|error| error_chain(&error))?;
            }
            one.until = Some(until);
            if let Some(next) = one.table.next(until) {
                let left = next.begins.duration_since(self.clock.now());
                pause = pause.min(Duration::try_from(left).unwrap_or_default());
            }
        }
        Ok(pause)
    }

    /// Up to where the schedule was looked at. A clock that was put back makes times come again that
    /// the store knows; one that was ahead by years must not silence a schedule for as long.
    async fn since(&self, one: &Watched, now: Timestamp) -> Result<Timestamp, String> {
        if let Some(until) = one.until {
            return Ok(until.min(now));
        }
        let name = one.table.name();
        let known = self.events.watermark(&name).await.map_err(|error| error_chain(&error))?;
        match known {
            Some(known) => Ok(known.min(now)),
            // A schedule that is new has missed nothing.
            None => {
                let raised = self.events.raise_watermark(&name, now).await;
                raised.map_err(|error| error_chain(&error))?;
                Ok(now)
            }
        }
    }
}
