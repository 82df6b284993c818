//! The port to the journal: where the facts of runs are kept, and who may write them.

use std::any::Any;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use fairlead_plan::{ConcurrencyPolicy, Plan, RunOutcome};
use fairlead_step::{BoxFuture, CancelToken, Digest, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::stored::DecodeError;
use crate::{Epoch, KeptRecords, Record, RecordHash, Seq, Signal, SignalId, StoredSignal};

/// The error beneath one of the store's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what it was asked.
///
/// `Unavailable` may pass; the others will not by trying again. After `Unavailable` nobody knows
/// whether the write was kept when the cause was the very last step of it: load the run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It did not answer: the disk is full, the file is locked, the connection is gone.
    #[error("the store did not {doing}")]
    Unavailable {
        /// What was asked, such as `append to run 01h…`.
        doing: String,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// What it holds cannot be right.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is wrong, and where.
        what: String,
        /// What showed it, where something did.
        #[source]
        source: Option<BoxError>,
    },
    /// It is larger than the store takes.
    #[error("{what} has {size} bytes, more than the {limit} that the store takes")]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The id of a new run is taken.
    #[error("there is a run {run} already")]
    RunExists {
        /// The id.
        run: RunId,
    },
    /// A new run names what is not there, or is not what it says.
    #[error("run {run} cannot be created: {problem}")]
    BadRun {
        /// The id.
        run: RunId,
        /// What is wrong.
        problem: String,
    },
    /// What a writer has for a run cannot be: a fault of the writer's.
    #[error("what was to be written to run {run} cannot be right: {problem}")]
    BadBatch {
        /// The id.
        run: RunId,
        /// What is wrong.
        problem: String,
    },
    /// No run has this id.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// The id.
        run: RunId,
    },
    /// The run has ended, and takes no signal.
    #[error("run {run} has ended")]
    RunEnded {
        /// The id.
        run: RunId,
    },
    /// A stored record was written by a newer version.
    #[error("a record of run {run} cannot be read")]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Why records were not appended. Nothing of the batch was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Somebody else wrote first. Load the run again and decide anew.
    #[error("run {run} stands at record {found}, not at {expected}: another writer was faster")]
    Conflict {
        /// The run.
        run: RunId,
        /// What the writer believed to be the last record.
        expected: Seq,
        /// What it is.
        found: Seq,
    },
    /// The lease was taken over. Stop: this writer has no say any more.
    #[error("run {run} was taken over: its lease is at epoch {current}, this writer has {held}")]
    Fenced {
        /// The run.
        run: RunId,
        /// The epoch of this writer.
        held: Epoch,
        /// The epoch of the one that took over.
        current: Epoch,
    },
    /// The run has ended; no record follows.
    #[error("run {run} has ended")]
    Ended {
        /// The run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a lease was not given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// A live process holds it.
    #[error("run {run} is being driven by another process")]
    Held {
        /// The run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A plan as it is pinned: its stored form and the digest of those bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanBlob {
    digest: Digest,
    bytes: Bytes,
}

impl PlanBlob {
    /// Pins `plan`.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn of(plan: &Plan) -> Result<Self, serde_json::Error> {
        // By way of a value, whose keys are sorted: the digest is then the plan's own.
        Ok(Self::new(serde_json::to_value(plan)?.to_string()))
    }

    /// Pins `bytes`.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::sha256(&bytes), bytes }
    }

    /// What the run's first record names.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The stored form.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A run to create.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id, freshly minted.
    pub id: RunId,
    /// The plan it is pinned to. Stored once, however many runs name it.
    pub plan: PlanBlob,
    /// The record of [`RunEvent::Requested`], whose plan digest is that of `plan`.
    pub first: Record,
    /// The dedup key of the stored event that started it, where one did. One event starts at most one
    /// run of a pipeline, whoever asks and however often.
    pub started_by: Option<String>,
    /// The concurrency group it waits in, where it has one. Its place is that of its creation.
    pub group: Option<Group>,
}

/// The group of a run, as its plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What the run does to those before it.
    pub policy: ConcurrencyPolicy,
    /// How many runs of the group may go on at a time, as far as this run is concerned.
    pub max: NonZeroU32,
}

/// What creating a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The run is there now.
    New,
    /// The event has started this run of the pipeline before; nothing was written.
    Already(RunId),
}

/// A run as stored.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// The plan it is pinned to, checked against its digest.
    pub plan: PlanBlob,
    /// Every record, in order, read but not yet checked as a chain: [`crate::Run::replay`] does.
    pub records: Vec<Record>,
    /// The records of other runs that its request refers to, as far as they are there; read, and not
    /// yet checked either.
    pub kept: KeptRecords,
}

/// Where a journal ends, whether or not what it says can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The place of the last record.
    pub seq: Seq,
    /// The hash of the last record.
    pub hash: RecordHash,
    /// When it was written, where that can be read.
    pub at: Option<Timestamp>,
}

/// Where a run is, for lists. The one who writes the records says it: see [`Batch::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// It waits to be admitted.
    Queued,
    /// It has not ended.
    Running,
    /// It has not ended, and waits for people, for a moment, or for evidence.
    Waiting,
    /// It has not ended, and a person must decide of a lost attempt.
    NeedsAttention,
    /// It has not ended, and was told to stop.
    Cancelling,
    /// It has ended.
    Ended(RunOutcome),
}

impl RunStatus {
    /// The word for people and for the store: `queued`, `running`, `waiting`, `needs-attention`,
    /// `cancelling`, or the outcome's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::NeedsAttention => "needs-attention",
            Self::Cancelling => "cancelling",
            Self::Ended(outcome) => outcome.name(),
        }
    }

    /// Whether an admitted run leaves it to others to go on meanwhile, as far as the limit of all
    /// runs is concerned: it waits for people, for a moment, or for evidence.
    #[must_use]
    pub const fn rests(self) -> bool {
        match self {
            Self::Waiting | Self::NeedsAttention => true,
            Self::Queued | Self::Running | Self::Cancelling | Self::Ended(_) => false,
        }
    }

    /// The status called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "queued" => Some(Self::Queued),
            "running" => Some(Self::Running),
            "waiting" => Some(Self::Waiting),
            "needs-attention" => Some(Self::NeedsAttention),
            "cancelling" => Some(Self::Cancelling),
            _ => RunOutcome::from_name(name).map(Self::Ended),
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One line of a list of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it is.
    pub status: RunStatus,
    /// Who asked for it.
    pub by: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Whether a live process holds its lease. False beside [`RunStatus::Running`] means that it
    /// was interrupted and waits to be resumed.
    pub held: bool,
    /// Its place in the order in which the store created its runs, which is the order of admission. Ids are
    /// in the order of time too, but those of one moment, or of two clocks, may not be in this one.
    pub number: u64,
    /// The concurrency group it waits in.
    pub group: Option<String>,
    /// The run that it makes again or takes back.
    pub origin: Option<RunId>,
    /// For a run that nobody drives because it only waits: when to look at it again, where time
    /// matters to it.
    pub wake_at: Option<Timestamp>,
    /// Whether signals wait for whoever drives it.
    pub signaled: bool,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only this one.
    pub run: Option<RunId>,
    /// Only those of this pipeline.
    pub pipeline: Option<String>,
    /// Only those that have not ended.
    pub unfinished: bool,
    /// Only those that ended at this time or later.
    pub ended_since: Option<Timestamp>,
    /// Only those that make this run again or take it back.
    pub origin: Option<RunId>,
    /// Only those older than this one: the last of the page before.
    pub before: Option<RunId>,
    /// At most this many; a store answers at most [`RunFilter::MOST`].
    pub limit: usize,
}

impl RunFilter {
    /// The most runs that one call answers.
    pub const MOST: usize = 1000;
}

/// The right to write to one run. Given back when dropped, or by the store when the process dies.
pub struct Lease {
    run: RunId,
    epoch: Epoch,
    lost: CancelToken,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Lease {
    /// A lease that lasts as long as `guard`, and of which `lost` says when it could not be renewed
    /// in time; for stores.
    #[must_use]
    pub fn new(
        run: RunId,
        epoch: Epoch,
        lost: CancelToken,
        guard: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self { run, epoch, lost, _guard: guard }
    }

    /// The run.
    #[must_use]
    pub const fn run(&self) -> &RunId {
        &self.run
    }

    /// What each append must carry.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Says when another process may have taken the run over, before it can have: whatever is under
    /// way must end then. Never for a lease that ends with its process.
    #[must_use]
    pub const fn lost(&self) -> &CancelToken {
        &self.lost
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("run", &self.run).field("epoch", &self.epoch).finish()
    }
}

/// What a driver writes to its run at once: all of it, or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The run.
    pub run: RunId,
    /// The epoch of the driver's lease.
    pub epoch: Epoch,
    /// The records, which follow one another and the run's last one. There may be none: then only
    /// the rest is written.
    pub records: Vec<Record>,
    /// Where the run is after them. Ended exactly when the last record says so.
    pub status: RunStatus,
    /// When to look at the run again although nobody drives it.
    pub wake_at: Option<Timestamp>,
    /// The signals that are dealt with, which are forgotten.
    pub taken: Vec<SignalId>,
}

/// What came of asking to be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The run is admitted, and the batch is written. It stays so until it ends, whoever
    /// drives it.
    Admitted,
    /// It has to wait, and nothing was written.
    Wait {
        /// The run right before it in its group, if one waits longer; otherwise one that holds the
        /// place. None when only the limit of all runs is reached.
        behind: Option<RunId>,
        /// The runs that hold the group's places.
        holders: Vec<RunId>,
    },
    /// A later run of the group takes its place; nothing was written.
    Superseded {
        /// The latest of them.
        by: RunId,
    },
    /// The group has no room, and the run does not wait; nothing was written.
    Busy {
        /// A run that holds the group.
        holder: RunId,
    },
}

/// A hint that somebody should look at runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// At this one: a signal was posted, or whoever drove it does not renew its lease any more.
    Run(RunId),
    /// At those that wait to be admitted: a place became free, or a newcomer changed the order.
    Admission,
    /// At all: hints may have been lost.
    All,
}

/// The journal of every run.
///
/// What a call answered with success survives the end of the process and of the machine. A call
/// that was refused has written nothing. The futures may be dropped at any point; what was asked then
/// either happened as a whole or not at all.
pub trait Journal: Send + Sync {
    /// Creates a run: its plan, its first record and, in the same transaction, the link to the
    /// event that started it and its place in its group. Its status is [`RunStatus::Queued`] where it
    /// has a group, and [`RunStatus::Running`] otherwise.
    ///
    /// # Errors
    /// When the id is taken or the store fails.
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>>;

    /// Takes the lease of a run. Its epoch is higher than every epoch given before.
    ///
    /// # Errors
    /// [`LeaseError::Held`] while a live process, this one included, holds it.
    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>>;

    /// Writes a batch behind the run's last record.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when the first record does not follow the last stored one,
    /// [`AppendError::Fenced`] when the epoch is not the run's current one.
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Asks to admit a run, in one transaction with the batch that says so. A run without a
    /// group needs one only where `most` is given: how many runs of the whole store may go on at a
    /// time, those that rest ([`RunStatus::rests`]) not counted; they go on again without asking. A run
    /// that is admitted is told so, and the batch is written.
    ///
    /// A run has to wait while a run of its group that was created before it waits, unless its policy
    /// takes the place of those; and while as many as its group allows are admitted and have not
    /// ended.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>>;

    /// Posts a signal to a run that has not ended, and wakes its driver.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`], [`StoreError::RunEnded`].
    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>>;

    /// The signals that wait for the driver of a run, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>>;

    /// The hints of this store from now on, whichever process gave rise to them. The stream ends when
    /// the store is closed; a listener that is too slow gets [`Wake::All`].
    fn wakes(&self) -> BoxStream<'static, Wake>;

    /// A run with its plan and every record.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`]; [`StoreError::Damaged`] when a blob does not match its digest.
    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>>;

    /// Where the journal of a run ends, whatever stands in it: enough to write behind what this build
    /// cannot read.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`].
    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// Runs, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>>;
}

impl<J: Journal + ?Sized> Journal for Arc<J> {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        (**self).create(run)
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        (**self).acquire(run)
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        (**self).append(batch)
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        (**self).admit(batch, most)
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        (**self).post(run, at, signal)
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        (**self).signals(run)
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        (**self).wakes()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        (**self).load(run)
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        (**self).head(run)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        (**self).list(filter)
    }
}
