//! What an engine tells whoever watches.

use std::sync::Arc;

use fairlead_run::{LogKey, LogLine, Record};
use fairlead_step::{Progress, RunId};
use tokio::sync::broadcast;

/// How many updates a watcher may lag behind before it misses some: a few screens full.
const BACKLOG: usize = 4096;

/// One thing that happened, for displays. Nothing is decided by it.
#[derive(Debug, Clone)]
pub enum Update {
    /// A record was written to a run's journal.
    Record {
        /// The run.
        run: RunId,
        /// The record.
        record: Record,
    },
    /// A line was written to the log of an attempt.
    Line {
        /// Whose log.
        log: LogKey,
        /// The line, masked.
        line: LogLine,
    },
    /// An attempt says how far it is.
    Progress {
        /// Whose.
        log: LogKey,
        /// How far.
        progress: Progress,
    },
    /// The engine has something to say about a run that is no fact of it, such as a journal that
    /// does not answer.
    Notice {
        /// The run.
        run: RunId,
        /// One line for people.
        message: String,
    },
    /// The watcher was too slow and missed updates; what they told stands in the journal and in the
    /// logs.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The updates of every run of an engine, from the moment of [`crate::Engine::subscribe`].
#[derive(Debug)]
pub struct Updates(broadcast::Receiver<Arc<Update>>);

impl Updates {
    /// The next update; none when the engine is gone.
    pub async fn next(&mut self) -> Option<Arc<Update>> {
        match self.0.recv().await {
            Ok(update) => Some(update),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                Some(Arc::new(Update::Missed { count }))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The sending side. Sending never waits, and costs nothing while nobody watches.
#[derive(Clone)]
pub(crate) struct Broadcast(broadcast::Sender<Arc<Update>>);

impl Broadcast {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn subscribe(&self) -> Updates {
        Updates(self.0.subscribe())
    }

    pub(crate) fn send(&self, update: impl FnOnce() -> Update) {
        if self.0.receiver_count() > 0 {
            // It fails only when the last watcher has just left.
            let _ = self.0.send(Arc::new(update()));
        }
    }
}
