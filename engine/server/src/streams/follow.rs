//! A run as it happens: first the records that are there, then those that come, with the lines of logs
//! and the progress of steps between them, until the run has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use fairlead_exec::{Engine, Update, Updates};
use fairlead_run::{Journal, Record, StoreError};
use fairlead_step::RunId;
use tokio_util::sync::CancellationToken;

/// What can be followed.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) engine: Engine,
    pub(crate) journal: Arc<dyn Journal>,
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
        let mut following = Following {
            // Before the journal is read, so that nothing falls between the two.
            updates: self.engine.subscribe(),
            waiting: VecDeque::new(),
            last: seen,
            ended: false,
            run,
            streams: self.clone(),
        };
        following.catch_up().await?;
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
                () = self.streams.stopping.cancelled() => return None,
            };
            match &*update {
                Update::Record { run, record } if *run == self.run => self.record(record.clone()),
                Update::Line { log, .. } | Update::Progress { log, .. } if log.run == self.run => {
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
