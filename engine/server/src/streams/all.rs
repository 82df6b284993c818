//! All runs of the store, whichever server drives them: each is told when it is somewhere else than before.
//!
//! What is told is where a run is, never what happened in between, so that it may be told twice. A follower
//! that comes back with the time of what it has seen last is told of every run that has not ended, and of
//! those that have ended since.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fairlead_exec::{Update, Updates};
use fairlead_run::{RunFilter, RunSummary, StoreError};
use fairlead_step::{RunId, error_chain};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::follow::Streams;

/// How often the store is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How soon it is looked at when something has happened here.
const SOON: Duration = Duration::from_millis(100);
/// How far the clocks of servers may be apart.
const APART: SignedDuration = SignedDuration::from_secs(60);
/// The most pages of runs that one look goes through.
const PAGES: usize = 20;

/// All runs, followed.
pub(crate) struct AllRuns {
    streams: Streams,
    updates: Updates,
    known: BTreeMap<RunId, RunSummary>,
    waiting: VecDeque<RunSummary>,
    /// Up to when the store was looked at.
    seen: Timestamp,
    look_at: Instant,
}

impl Streams {
    /// Follows all runs, from what was seen at `since`, or from now on.
    pub(crate) fn follow_all(&self, since: Option<Timestamp>) -> AllRuns {
        AllRuns {
            updates: self.engine.subscribe(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            seen: since.unwrap_or_else(|| self.clock.now()),
            look_at: Instant::now(),
            streams: self.clone(),
        }
    }
}

impl AllRuns {
    /// A run that is somewhere else than before, and up to when everything was told with it; none when the
    /// server stops.
    pub(crate) async fn next(&mut self) -> Option<(Timestamp, RunSummary)> {
        loop {
            if let Some(run) = self.waiting.pop_front() {
                return Some((self.seen, run));
            }
            tokio::select! {
                update = self.updates.next() => match &*update? {
                    Update::Record { .. } | Update::Missed { .. } => {
                        self.look_at = self.look_at.min(Instant::now() + SOON);
                    }
                    Update::Line { .. } | Update::Progress { .. } | Update::Notice { .. } => {}
                },
                () = tokio::time::sleep_until(self.look_at) => {
                    self.look_at = Instant::now() + LOOK;
                    if let Err(error) = self.look().await {
                        tracing::debug!("runs are not seen: {}", error_chain(&error));
                    }
                }
                () = self.streams.stopping.cancelled() => return None,
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let now = self.streams.clock.now();
        let since = self.seen.saturating_sub(APART).unwrap_or(Timestamp::MIN);
        let open = RunFilter { unfinished: true, ..RunFilter::default() };
        let over = RunFilter { ended_since: Some(since), ..RunFilter::default() };
        // In this order: what ends in between is found by the second.
        for filter in [open, over] {
            self.page_through(filter).await?;
        }
        self.known.retain(|_, run| run.ended_at.is_none_or(|at| at >= since));
        self.seen = now;
        Ok(())
    }

    async fn page_through(&mut self, mut filter: RunFilter) -> Result<(), StoreError> {
        filter.limit = RunFilter::MOST;
        for _ in 0..PAGES {
            let page = self.streams.journal.list(filter.clone()).await?;
            let last = page.last().map(|run| run.id.clone());
            let full = page.len() == filter.limit;
            for run in page {
                if self.known.get(&run.id) != Some(&run) {
                    self.known.insert(run.id.clone(), run.clone());
                    self.waiting.push_back(run);
                }
            }
            if !full {
                break;
            }
            filter.before = last;
        }
        Ok(())
    }
}
