//! A run as it happens: first the records that are there, then those that come, with the lines of logs
//! and the progress of steps between them, until the run has ended.
//!
//! What this server drives tells it by itself. What another one drives stands in the store, which is looked
//! at again and again for as long as somebody follows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{Engine, Update, Updates};
use fairlead_run::{Journal, LogKey, LogStore, Record, StoreError};
use fairlead_step::{Clock, RunId, error_chain};
use jiff::Timestamp;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often the store is asked for what another server has written.
const LOOK: Duration = Duration::from_secs(1);
/// How much of a log is read at once.
const PAGE: usize = 256 << 10;

/// What can be followed.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) engine: Engine,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) logs: Arc<dyn LogStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stopping: CancellationToken,
}

/// What there is to say about a run.
pub(crate) enum Followed {
    /// A record of its journal.
    Record(Record),
    /// A line, progress or a notice of it.
    Live(Arc<Update>),
}

impl Streams {
    /// Follows a run. Of its records, those up to the one with the number `seen` are left out.
    pub(crate) async fn follow(&self, run: RunId, seen: u64) -> Result<Following, StoreError> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        let mut following = Following {
            // Before the journal is read, so that nothing falls between the two.
            updates: self.engine.subscribe(),
            waiting: VecDeque::new(),
            last: seen,
            ended: false,
            logs: BTreeMap::new(),
            told: BTreeMap::new(),
            looks,
            run,
            streams: self.clone(),
        };
        following.catch_up().await?;
        if !following.ended && !self.engine.drives(&following.run) {
            // What was said before is for whoever reads the logs.
            following.read_lines(false).await?;
        }
        Ok(following)
    }
}

/// A run that is followed.
pub(crate) struct Following {
    streams: Streams,
    run: RunId,
    updates: Updates,
    waiting: VecDeque<Followed>,
    /// The number of the last record that was told.
    last: u64,
    ended: bool,
    /// How far each log was read in the store.
    logs: BTreeMap<LogKey, u64>,
    /// When the last line of each log was said that came by itself.
    told: BTreeMap<LogKey, Timestamp>,
    looks: Interval,
}

impl Following {
    /// Puts what the journal has, and the follower has not, in line.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let stored = self.streams.journal.load(&self.run).await?;
        for record in stored.records {
            self.record(record);
        }
        Ok(())
    }

    fn record(&mut self, record: Record) {
        let seq = record.seq().0;
        if record.event().ends_as().is_some() {
            self.ended = true;
        }
        if seq > self.last {
            self.last = seq;
            self.waiting.push_back(Followed::Record(record));
        }
    }

    /// Looks for what came to the store without being told here.
    async fn look(&mut self) -> Result<(), StoreError> {
        if self.streams.engine.drives(&self.run) {
            return Ok(());
        }
        let journal = &self.streams.journal;
        let behind = journal.head(&self.run).await?.seq.0 > self.last;
        let stored = if behind { Some(journal.load(&self.run).await?) } else { None };
        // In this order: what was said before a record was written stands before it.
        self.read_lines(true).await?;
        for record in stored.into_iter().flat_map(|stored| stored.records) {
            self.record(record);
        }
        Ok(())
    }

    /// Reads what was added to the logs, and puts it in line where that is asked for.
    async fn read_lines(&mut self, tell: bool) -> Result<(), StoreError> {
        let logs = &self.streams.logs;
        for log in logs.logs_of(&self.run).await? {
            let mut from = self.logs.get(&log).copied().unwrap_or(0);
            loop {
                let page = logs.read(&log, from, PAGE).await?;
                from = page.next;
                let told = self.told.get(&log);
                let new = page.lines.into_iter().filter(|line| told.is_none_or(|at| line.at > *at));
                if tell {
                    let live = new.map(|line| Update::Line { log: log.clone(), line });
                    self.waiting.extend(live.map(|update| Followed::Live(Arc::new(update))));
                }
                if page.at_end {
                    break;
                }
            }
            self.logs.insert(log, from);
        }
        Ok(())
    }

    /// What comes next; none when the run has ended, or the server stops.
    pub(crate) async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Some(next);
            }
            if self.ended {
                return None;
            }
            let update = tokio::select! {
                update = self.updates.next() => update?,
                _ = self.looks.tick() => {
                    if let Err(error) = self.look().await {
                        tracing::debug!(run = %self.run, "not seen: {}", error_chain(&error));
                    }
                    continue;
                }
                () = self.streams.stopping.cancelled() => return None,
            };
            match &*update {
                Update::Record { run, record } if *run == self.run => self.record(record.clone()),
                Update::Line { log, line } if log.run == self.run => {
                    self.told.insert(log.clone(), line.at);
                    return Some(Followed::Live(update));
                }
                Update::Progress { log, .. } if log.run == self.run => {
                    return Some(Followed::Live(update));
                }
                Update::Notice { run, .. } if *run == self.run => {
                    return Some(Followed::Live(update));
                }
                // The records that were missed stand in the journal, the lines in the logs.
                Update::Missed { .. } => self.catch_up().await.ok()?,
                Update::Record { .. }
                | Update::Line { .. }
                | Update::Progress { .. }
                | Update::Notice { .. } => {}
            }
        }
    }
}
