//! The HTTP API, webhook endpoints, and what turns an event into a run. No stable API.
//!
//! ```text
//!  POST /webhooks/{source} ─┐
//!  NATS subject ────────────┼─► Sender (proof, then body) ─► Ingest: stored once ─► 202
//!  POST …/runs ─────────────┘                                   │
//!                       Outbox ◄────────── woken ───────────────┘
//!                         │ publish, mark
//!                         ▼
//!                        Bus ─► Attempt: claimed ─► Triggers: filters, source asked ─► run created
//!   Redelivery ────────────────────┘  ▲   │                                             once, driven
//!     └── what is due in the store ───┼───┴─► handled, or due later, or a dead letter
//! ```
//!
//! Every arrow may be cut at any time: an event is stored before its sender is answered, is put on
//! the bus or handed out by the store, is tried until it is handled or given up, and the store lets
//! one event start one run of a pipeline. [`Server::serve`] picks up whatever an earlier process left.

mod admission_queue;
mod api;
mod attempts;
mod commits;
mod evidence;
mod images;
mod ingest;
mod listener;
mod outbox;
mod pipelines;
mod redelivery;
mod server;
mod settings;
mod sources;
mod subscriptions;
mod supervisor;
mod sweep;
mod triggers;
mod workspaces;

#[cfg(test)]
mod tests;

pub use images::{FoundImage, ImageResolver, UnresolvedImage, resolve_images};
pub use pipelines::{Pipeline, Pipelines, PipelinesError};
pub use server::{Ports, ServeError, Server};
pub use settings::{ApiAccess, Options};
pub use sources::{SourceProblem, SourceSettings, Sources};
pub use workspaces::{FoundRef, Workspaces};
