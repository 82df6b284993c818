//! The routes, and what every answer has in common.

mod audit;
mod body;
mod decisions;
mod events;
mod guard;
mod health;
mod listener;
mod live;
mod pipelines;
mod problem;
pub(crate) mod routes;
mod runs;
mod serve;
mod state;
mod tokens;
mod webhook;

pub(crate) use decisions::Decisions;
pub(crate) use events::EventsApi;
pub(crate) use health::Readiness;
pub(crate) use listener::Bounded;
pub(crate) use pipelines::Requests;
pub(crate) use routes::router;
pub(crate) use runs::RunsApi;
pub(crate) use serve::serve;
pub(crate) use state::Api;
pub(crate) use tokens::TokensApi;
