//! CloudEvents, webhooks of registries and forges as one typed event, trigger filters, and the Bus
//! port.
//!
//! A sender's bytes come in at [`Sender::receive`], where the signature is checked and the body
//! becomes a [`SourceEvent`]: one typed thing that happened. [`SourceEvent::dedup_key`] and
//! [`repeated`] say when two reports are of the same thing. [`Triggers`] is the `on:` block of a
//! pipeline and says which events it waits for. [`CloudEvent`] is the envelope in which events are
//! stored and travel over a [`Bus`].
//!
//! Nothing here does I/O or reads a clock; the time is an argument wherever it matters.

mod bus;
mod cloud_event;
mod commit_status;
#[cfg(feature = "conformance")]
pub mod conformance;
mod fields;
mod forge;
mod forge_events;
mod history;
mod jobs;
mod object;
mod occurrence;
mod outgoing;
mod registry_events;
#[cfg(any(test, feature = "conformance"))]
pub mod samples;
mod senders;
mod source;
mod trigger;

pub use bus::{
    Acknowledge, Bus, BusError, Deliveries, Delivery, SubscribedDeliveries, SubscribedDelivery,
};
pub use cloud_event::{CloudEvent, CloudEventError, Headers, STRUCTURED};
pub use commit_status::{CommitState, CommitStatus, StatusRequest};
pub use fairlead_step::{Glob, GlobError, Globs, ObjectId, ObjectIdError, TagPattern, TagPatterns};
pub use fields::{EventField, Nullness};
pub use forge::{Forge, ForgeError};
pub use forge_events::{
    Association, CommandError, Comment, CommentCommand, ForgeRepository, PullRequest,
    PullRequestAction, PullRequestHead, Release, ReleaseAction,
};
pub use history::{KnownPush, repeated};
pub use jobs::{AskError, Heard, JobBus, JobOffer, Reply, is_pool_name};
pub use object::{GitRef, GitRefError};
pub use occurrence::{RunFinished, Scheduled};
pub use outgoing::{
    FINDING_REPORTED, IMAGE_BUILT, IMAGE_PROMOTED, OUTGOING_TYPES, RUN_ENDED, RUN_STARTED,
    STEP_ENDED, webhook_headers,
};
pub use registry_events::{Custom, ImageDeleted, ImageScanned, ScanKind, ScanOutcome};
pub use senders::{
    Head, Incoming, MAX_BODY, Proof, ReceiveError, Received, Sender, SenderError, SenderKind,
    same_text,
};
pub use source::{ChangedPaths, DedupKey, GitPushed, ImagePushed, Place, Requested, SourceEvent};
pub use trigger::{
    CommentFilter, EventFilter, Fills, Forks, GitPush, GitTag, Manual, ManualInput, Misfit, Missed,
    OneOrMany, PullRequestFilter, RegistryDelete, RegistryPush, RegistryScan, ReleaseFilter,
    RunEnd, RunFinishedFilter, Schedule, TriggerKind, TriggerMatch, Triggers,
};
