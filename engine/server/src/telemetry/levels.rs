//! What the store says at the moment of a scrape.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::Bus;
use fairlead_run::{EventFilter, EventState, EventStore, Journal, RunFilter, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::metrics::Levels;

/// How long the store has to answer. Who scrapes waits ten seconds.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an answer stands: many may scrape, and the store has other work.
const FRESH: Duration = Duration::from_secs(5);
/// How far is counted. What is beyond is many in any case.
const MOST: usize = 1000;

/// Asks the store, at most once in a while.
#[derive(Clone)]
pub(crate) struct LevelsOf {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) last: Arc<Mutex<Option<(Instant, Levels)>>>,
}

impl LevelsOf {
    pub(crate) async fn now(&self) -> Levels {
        let mut last = self.last.lock().await;
        if let Some((at, levels)) = &*last
            && at.elapsed() < FRESH
        {
            return levels.clone();
        }
        let mut levels = match tokio::time::timeout(ANSWER, self.ask()).await {
            Ok(Ok(levels)) => levels,
            Ok(Err(_)) | Err(_) => Levels::default(),
        };
        levels.bus_up = self.bus.reachable();
        *last = Some((Instant::now(), levels.clone()));
        levels
    }

    async fn ask(&self) -> Result<Levels, StoreError> {
        let dead =
            EventFilter { state: Some(EventState::Dead), limit: MOST, ..EventFilter::default() };
        let unfinished = RunFilter { unfinished: true, limit: MOST, ..RunFilter::default() };
        let outbox = self.events.unpublished(MOST).await?.len();
        let dead_letters = self.events.list(dead).await?.len();
        // A status without runs is told, too: a level that went to nothing would stay where it was.
        let statuses = ["queued", "running", "waiting", "needs-attention", "cancelling"];
        let mut runs: BTreeMap<&'static str, usize> = statuses.map(|status| (status, 0)).into();
        for run in self.journal.list(unfinished).await? {
            *runs.entry(run.status.name()).or_default() += 1;
        }
        let runs = runs.into_iter().collect();
        Ok(Levels { store_up: true, bus_up: false, outbox, dead_letters, runs })
    }
}
