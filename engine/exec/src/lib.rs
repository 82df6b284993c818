//! Runs plans: the dispatcher, one writer per run, and the host of one attempt of one step.
//!
//! * [`Engine`] takes a [`RunRequest`] and drives the run through the ports of `fairlead-run`.
//! * The dispatcher drives one run: what happened and all that follows from it is applied, written
//!   durably in one transaction, and only then performed. A step starts the moment it is ready and a
//!   slot is free.
//! * The host makes one attempt: secrets, scratch folder, log, deadline, cancel, panics.
//! * A [`Policy`] says what the pipelines of a project may have; the host enforces it.
//! * [`WorkspaceLayout`] gives each run a folder of its own; [`RunFolders`] keeps them.
//! * [`ProcessHost`] starts processes, each in a group of its own that ends with the attempt.
//!
//! No stable API. It reads no environment; time comes from the [`fairlead_step::Clock`] port, and
//! only waiting is done by tokio.

mod admission;
mod attempts;
mod cache;
mod cancel;
mod dispatcher;
mod engine;
mod error;
mod host;
mod inject;
mod log;
mod mask;
mod meter;
pub mod own_process;
mod policy;
mod process;
mod remote;
mod scratch;
mod secrets;
mod signal_listener;
mod signals;
mod slots;
mod update;
mod workspaces;
mod writing;

#[cfg(any(test, feature = "conformance"))]
pub use attempts::conformance;
pub use attempts::{
    AttemptEvent, AttemptResult, AttemptSession, Attempts, Demand, JobError, JobSpec,
    LocalAttempts, NoRoom, NoRunners, UnderWay, Unreachable,
};
pub use cancel::{Cancellation, Canceller, cancellation};
pub use dispatcher::{Driven, Parked};
pub use engine::{
    DriveError, Engine, EngineOptions, Noted, RequestError, Requested, RunRequest, SecretsMissing,
};
pub use error::DispatchError;
pub use host::MAX_OUTPUT_BYTES;
pub use inject::{Fault, Injection, InjectionError};
pub use mask::Mask;
pub use meter::Meter;
pub use policy::{Allow, Containers, DEFAULT_PROJECT, Policy, PolicyError, Project, Refusal};
pub use process::cgroup::{CONFINE, Cgroups, become_confined};
pub use process::guardian::{Guardian, guard, new_mark};
pub use process::{MARK_VARIABLE, ProcessHost, ProcessOptions};
pub use remote::{
    Confine, Floors, LEASE, MakeLayout, RemoteAttempts, RemoteOptions, Runner, RunnerEnd,
    RunnerError, RunnerOptions, RunnerView,
};
pub use secrets::{SecretError, SecretProvider};
pub use slots::Slot;
pub use update::{Update, Updates};
pub use workspaces::{
    Fetch, FetchesNothing, FolderLock, Layout, RunFolders, WorkspaceFetcher, WorkspaceLayout,
};

#[cfg(test)]
mod tests;
