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

mod api;
mod current;
mod definitions;
mod identity;
mod ingest;
mod outgoing;
mod ports;
mod runs;
mod server;
mod settings;
mod streams;
mod telemetry;
mod triggers;

#[cfg(test)]
mod tests;

pub use api::openapi;
pub use definitions::{Definitions, PullRequestFiles, RepositorySettings, Setup};
pub use identity::{
    ApiAccess, ClaimRole, IssuerDocuments, IssuerError, IssuerSettings, Issuers, Limits,
    LoginSettings, LoginToken, TrustedProxies,
};
pub use ingest::{SourceProblem, SourceSettings, Sources, once_more};
pub use outgoing::{Courier, DeliveryError, Destination, Destinations, EventWants};
pub use ports::{
    FilesAt, Forges, FoundImage, FoundRef, ImageResolver, Pipeline, PipelineFiles, PipelineOrigin,
    Pipelines, PipelinesError, PlanRules, PruneRequest, Retention, UnresolvedImage, resolve_images,
};
pub use server::{Ports, ServeError, Server};
pub use settings::Options;
pub use telemetry::{ExportError, Metrics, TraceExporter};
