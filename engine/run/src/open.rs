//! What of a run is open: kept beside the states, so that deciding what to do next costs what there
//! is to do, and not what there is.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::decide::Readiness;
use crate::run::{Node, State};

/// The nodes that a command may speak of, by what it would say.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// An attempt may start.
    pub(crate) ready: BTreeSet<usize>,
    /// Something is to be written down at once.
    pub(crate) noted: BTreeSet<usize>,
    /// An attempt that runs is to stop.
    pub(crate) stopping: BTreeSet<usize>,
    /// A time is waited for.
    pub(crate) timed: BTreeSet<(Timestamp, usize)>,
    /// Attempts that are under way.
    pub(crate) running: usize,
    /// Nodes that wait for their next attempt after a failure.
    failing: usize,
    /// Nodes that wait for people, for a moment or for evidence.
    paused: usize,
    /// Those of them of which a person must decide.
    attention: usize,
}

impl Open {
    /// Takes note of the state that node `i` has now.
    pub(crate) fn note(&mut self, i: usize, node: &Node, cancelled: bool) {
        match &node.state {
            State::Waiting => match &node.decided {
                Some(Readiness::Start) => {
                    self.ready.insert(i);
                }
                Some(_) => {
                    self.noted.insert(i);
                }
                None => {}
            },
            State::Running { .. } => {
                self.running += 1;
                if cancelled {
                    self.stopping.insert(i);
                }
            }
            State::Lost { .. } => {
                self.ready.insert(i);
            }
            State::Failing { .. } => {
                self.failing += 1;
                self.noted.insert(i);
            }
            State::Backoff { due, .. } => {
                self.failing += 1;
                self.timed.insert((*due, i));
            }
            State::Open { due, .. } => {
                self.paused += 1;
                self.timed.extend(due.map(|due| (due, i)));
            }
            State::Asking { due, .. } => {
                self.paused += 1;
                self.timed.insert((*due, i));
            }
            State::Attention { .. } => {
                self.paused += 1;
                self.attention += 1;
            }
            // Their items speak for them, or nothing is left to say.
            State::Items { .. } | State::Ended { .. } => {}
        }
    }

    /// Forgets the state that node `i` had until now.
    pub(crate) fn forget(&mut self, i: usize, node: &Node) {
        match &node.state {
            State::Waiting | State::Lost { .. } => {
                self.ready.remove(&i);
                self.noted.remove(&i);
            }
            State::Running { .. } => {
                self.running -= 1;
                self.stopping.remove(&i);
            }
            State::Failing { .. } => {
                self.failing -= 1;
                self.noted.remove(&i);
            }
            State::Backoff { due, .. } => {
                self.failing -= 1;
                self.timed.remove(&(*due, i));
            }
            State::Open { due, .. } => {
                self.paused -= 1;
                due.map(|due| self.timed.remove(&(due, i)));
            }
            State::Asking { due, .. } => {
                self.paused -= 1;
                self.timed.remove(&(*due, i));
            }
            State::Attention { .. } => {
                self.paused -= 1;
                self.attention -= 1;
            }
            State::Items { .. } | State::Ended { .. } => {}
        }
    }

    /// Whether nothing is under way, nothing can begin, and something waits for others.
    pub(crate) fn only_waits(&self) -> bool {
        self.paused > 0
            && self.running == 0
            && self.failing == 0
            && self.ready.is_empty()
            && self.noted.is_empty()
    }

    /// Whether a person must decide before the run goes on.
    pub(crate) const fn needs_attention(&self) -> bool {
        self.attention > 0
    }

    /// The first time that is waited for.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.timed.first().map(|(due, _)| *due)
    }
}
