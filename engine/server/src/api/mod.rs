//! The routes, and what every answer has in common.

mod artifacts;
mod audit;
mod body;
mod decisions;
mod events;
mod files;
mod guard;
mod health;
mod journals;
mod keyed;
mod listener;
mod live;
mod metrics;
mod pipelines;
mod problem;
mod retention;
pub(crate) mod routes;
mod runs;
mod serve;
mod state;
mod tokens;
mod webhook;

pub(crate) use artifacts::ArtifactsApi;
pub(crate) use decisions::Decisions;
pub(crate) use events::EventsApi;
pub(crate) use files::FileRequests;
pub(crate) use health::Readiness;
pub(crate) use listener::Bounded;
pub(crate) use metrics::MetricsApi;
pub(crate) use pipelines::Requests;
pub(crate) use routes::router;
pub(crate) use runs::RunsApi;
pub(crate) use serve::serve;
pub(crate) use state::Api;
pub(crate) use tokens::TokensApi;
