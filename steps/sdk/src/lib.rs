//! The floor of Fairlead: the vocabulary every crate speaks and the contract every step keeps.
//!
//! This is the one crate with a stable API. A third party who writes a step compiles against it and
//! nothing else: implement [`StepKind`], hand the value to the runner's `App::step`, done.
//!
//! * **Vocabulary**: [`StepId`], [`RunId`], [`Digest`], [`Repository`], [`ImageRef`], [`Image`],
//!   [`Secret`], [`Artifact`], [`HumanDuration`], [`EngineAddress`], [`Globs`], [`TagPatterns`],
//!   [`ObjectId`], [`Workspace`].
//! * **Contract**: [`StepKind`] (typed, what an author writes), [`Step`] (erased, what the engine
//!   runs), [`Verdict`] and [`StepError`] (a "no" is not an error), [`Effect`] and [`Capability`],
//!   [`Preflight`] (what is missing is told before a run begins), [`Requirement`] (what a host may refuse).
//! * **Ports**: [`StepContext`] hands a step exactly what its capabilities grant: a log, processes,
//!   registries, artifacts, a clock, a token that says stop.
//!
//! Nothing here does I/O, reads a clock or starts a task; the host fills the ports.

mod artifact;
mod catalog;
mod context;
mod digest;
mod duration;
pub mod egress;
mod engine;
mod history;
mod id;
mod image;
#[cfg(feature = "kit")]
pub mod kit;
mod lines;
mod object_id;
mod pattern;
mod preflight;
mod requirement;
mod secret;
mod spawn;
mod step;
mod verdict;
mod workspace;

pub use artifact::{Artifact, ArtifactError, ArtifactPieces, Artifacts, MAX_ARTIFACT_BYTES};
pub use catalog::{Catalog, CatalogError};
pub use context::{
    CancelHandle, CancelToken, Clock, Log, Ports, Progress, Registries, RegistryAccess,
    RegistryAuth, RunInfo, StepContext, Stream,
};
pub use digest::{Algorithm, Digest, DigestError, DigestHasher};
pub use duration::{DurationError, HumanDuration};
pub use egress::{Egress, EgressDenied, EgressRule};
pub use engine::{EngineAddress, EngineAddressError, EngineSocket};
pub use futures::future::BoxFuture;
pub use history::{AttemptHistory, History, JournalHead, OriginHistory, StepHistory};
pub use id::{IdError, RunId, StepId};
pub use image::{Image, ImageError, ImageRef, Repository};
pub use lines::LineSplitter;
pub use object_id::{ObjectId, ObjectIdError};
pub use pattern::{Glob, GlobError, Globs, TagPattern, TagPatterns, newest_version};
pub use preflight::{Missing, Preflight};
pub use requirement::{ByteSize, Confinement, Limits, Required, Requirement};
pub use secret::Secret;
pub use spawn::{Output, ProcessError, ProcessExit, ProcessSpec, Spawn, Stopped};
pub use step::{
    Capability, Effect, InputProblem, Step, StepKind, StepSpec, erase, format as schema_format,
};
pub use verdict::{ErrorClass, Outputs, StepError, Verdict, error_chain};
pub use workspace::{CheckoutOptions, GitWorkspace, Workspace};
