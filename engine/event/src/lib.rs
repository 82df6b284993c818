//! CloudEvents, webhooks of registries and forges as one typed event, trigger filters, and the Bus
//! port.
//!
//! A sender's bytes come in at [`senders`], where the signature is checked and the body becomes a
//! [`SourceEvent`]: one typed thing that happened. [`SourceEvent::dedup_key`] says when two reports
//! are of the same thing. [`Triggers`] is the `on:` block of a pipeline and says which events it
//! waits for. [`CloudEvent`] is the envelope in which events are stored and travel.
//!
//! Nothing here does I/O or reads a clock; the time is an argument wherever it matters.

mod glob;
mod object;
mod source;
mod trigger;

pub use glob::{Glob, GlobError, Globs, TagPattern, TagPatterns};
pub use object::{GitRef, GitRefError, ObjectId, ObjectIdError};
pub use source::{ChangedPaths, DedupKey, GitPushed, ImagePushed, Requested, SourceEvent};
pub use trigger::{
    EventField, GitPush, Manual, OneOrMany, RegistryPush, TriggerKind, TriggerMatch, Triggers,
};
