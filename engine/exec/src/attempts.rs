//! The port to attempts: somebody makes an attempt of a step, here or elsewhere, and says how it ended.
//!
//! [`LocalAttempts`] makes them in this process, [`RemoteAttempts`](crate::RemoteAttempts) has runners
//! make them. Both keep the contract that [`conformance`](crate::conformance) tests.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod job;
mod local;
mod placed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fairlead_plan::PlanStep;
use fairlead_run::{AttemptToken, LogKey, LogLine, StepResult};
use fairlead_step::{BoxFuture, Digest, RunId, StepId};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

pub use self::job::{JobError, JobSpec};
pub use self::local::LocalAttempts;
pub(crate) use self::local::LocalSession;
pub(crate) use self::placed::{PlacedAttempts, PlacedSession};
use crate::slots::Slot;

/// Where an attempt may be made: what its step asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Demand {
    /// The pool of runners; the process itself when there is none.
    pub pool: Option<Arc<str>>,
    /// What a runner must say of itself, besides that it is in the pool.
    pub labels: BTreeMap<String, String>,
    /// The kind of the step and its version, which a runner must have. Not told for this process.
    pub kind: Option<(String, String)>,
}

impl Demand {
    /// What a step of a plan asks for; `default` is the pool of those that name none.
    pub(crate) fn of(step: &PlanStep, default: Option<&Arc<str>>) -> Self {
        let placement = &step.placement;
        let named = placement.pool.as_deref().map(Into::into);
        match named.or_else(|| default.cloned()) {
            None => Self::default(),
            Some(pool) => Self {
                pool: Some(pool),
                labels: placement.labels.clone(),
                kind: Some((step.kind.clone(), step.kind_version.clone())),
            },
        }
    }
}

/// No runners: for a process that must not make what is meant for a pool.
pub struct NoRunners;

impl Attempts for NoRunners {
    fn open(&self, _: &RunId) -> Box<dyn AttemptSession> {
        Box::new(NoSession)
    }

    fn room(&self, demand: &Demand, _: usize) -> Result<(), NoRoom> {
        let pool = demand.pool.as_deref().unwrap_or_default();
        let why = format!(
            "pool `{pool}` needs runners, and this process has no way to them: give it `--nats`"
        );
        Err(NoRoom { why })
    }

    fn when_room_changes(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

/// Nobody has room, so nothing is ever started in it.
struct NoSession;

impl Stream for NoSession {
    type Item = AttemptEvent;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<AttemptEvent>> {
        Poll::Pending
    }
}

impl AttemptSession for NoSession {
    fn start(&mut self, _: JobSpec, _: Slot, _: oneshot::Receiver<()>) {}

    fn stop(&mut self, _: &AttemptToken) {}

    fn living<'a>(
        &'a mut self,
        under_way: &'a [UnderWay],
    ) -> BoxFuture<'a, Result<BTreeSet<AttemptToken>, Unreachable>> {
        Box::pin(std::future::ready(LocalSession::only_here(under_way)))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why no attempt can begin now. It may be otherwise later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    /// One line for people.
    pub why: String,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Nobody can be asked about an attempt, so nobody can tell whether it is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step `{step}` is under way in pool `{pool}`, and this process cannot ask its runners")]
pub struct Unreachable {
    /// The step.
    pub step: StepId,
    /// Where it is under way.
    pub pool: String,
}

/// An attempt that the journal says is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The step.
    pub step: StepId,
    /// Which attempt.
    pub attempt: u32,
    /// What its result must carry.
    pub token: AttemptToken,
    /// Where it is made.
    pub demand: Demand,
}

/// What becomes of an attempt.
#[derive(Debug)]
pub enum AttemptEvent {
    /// Somebody took the job and makes the attempt. Told at most once, and not where taking a job is
    /// starting it.
    Accepted {
        /// The step.
        step: StepId,
        /// What tells the attempt from every other.
        token: AttemptToken,
        /// Who.
        by: String,
    },
    /// It wrote to its log, and the store has it. For whoever watches: nothing is lost where it is not
    /// told, and an attempt of this process tells its watchers itself.
    Logged {
        /// Whose log.
        log: LogKey,
        /// The lines.
        lines: Vec<LogLine>,
    },
    /// It ended. Told once, the last of its events; all that it logged is in the store then.
    Ended {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// What tells the attempt from every other.
        token: AttemptToken,
        /// How.
        end: AttemptResult,
    },
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "came_to", rename_all = "snake_case")]
pub enum AttemptResult {
    /// It was made.
    Made {
        /// How it ended.
        result: StepResult,
    },
    /// The result of an earlier run stands for it.
    CacheHit {
        /// The digest of all that went in.
        key: Digest,
        /// The run whose result it is.
        run: RunId,
        /// What that gave.
        outputs: Value,
    },
    /// Nobody can say how it ended.
    Lost {
        /// What is known of why.
        reason: String,
    },
}

/// The port to attempts.
pub trait Attempts: Send + Sync {
    /// Opens a session for one run that is driven.
    fn open(&self, run: &RunId) -> Box<dyn AttemptSession>;

    /// Whether a job of this demand would be taken now, beside `in_use` others of its pool that this
    /// process has begun.
    ///
    /// # Errors
    /// What keeps it waiting.
    fn room(&self, demand: &Demand, in_use: usize) -> Result<(), NoRoom>;

    /// Has `tell` called whenever [`Attempts::room`] may answer otherwise than before, for other reasons
    /// than attempts of this process that begin and end.
    fn when_room_changes(&self, tell: Box<dyn Fn() + Send + Sync>);

    /// Says that a run has ended: what is kept of it where its attempts were made may go.
    fn run_ended(&self, _: &RunId) {}
}

/// The attempts of one run that is driven, and what becomes of them, as a stream that never ends.
///
/// Dropped, or closed, it lets the attempts go: those of this process end, those of others go on until
/// somebody asks for them again or their lease ends.
pub trait AttemptSession: Stream<Item = AttemptEvent> + Send + Sync + Unpin {
    /// Makes an attempt ready. It begins when `begin` says that its start is durable, and never where
    /// that is dropped: then nobody hears of it.
    fn start(&mut self, job: JobSpec, slot: Slot, begin: oneshot::Receiver<()>);

    /// Tells an attempt to stop. It is answered by its end; what is not known is passed over. May be
    /// said again.
    fn stop(&mut self, token: &AttemptToken);

    /// Takes charge of those attempts of an earlier process that may be under way still, and answers
    /// their tokens. What becomes of them is told like of those that were started here: also that one is
    /// lost, once it is certain that nobody goes on with it.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn living<'a>(
        &'a mut self,
        under_way: &'a [UnderWay],
    ) -> BoxFuture<'a, Result<BTreeSet<AttemptToken>, Unreachable>>;

    /// Looks at what attempts that ended left behind, at a moment when there is time.
    fn tidy(&self) {}

    /// Lets the attempts go, and waits until those of this process have ended.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}
