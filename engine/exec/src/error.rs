//! Why a run was let go before its end.

use fairlead_run::{AppendError, ApplyError, SealError};
use fairlead_step::{RunId, StepId};

use crate::attempts::Unreachable;

/// Why a run was let go before its end. Its journal is whole, and it can be resumed, unless
/// somebody else drives it already.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// A record was not taken.
    #[error("cannot write to the journal of run {run}")]
    Append {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: AppendError,
    },
    /// The lease could not be renewed in time, and another process may take the run over.
    #[error("the lease of run {run} could not be renewed in time; its attempts were ended")]
    LeaseLost {
        /// The run.
        run: RunId,
    },
    /// A fact does not become a record.
    #[error("cannot make a record for run {run}")]
    Seal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A fact does not fit the run: a defect. It is not written, and only this run is affected.
    #[error("run {run} is in a state that it cannot be in")]
    Apply {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// Attempts of it may be under way where this process cannot ask.
    #[error("run {run} cannot be gone on with here")]
    Unreachable {
        /// The run.
        run: RunId,
        /// Where.
        #[source]
        source: Unreachable,
    },
    /// An injected fault ended the drive as a crash would.
    #[error("the end of attempt {attempt} of step `{step}` was lost, as injected")]
    Injected {
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
    },
}
