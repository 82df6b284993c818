//! The routes, and what every answer has in common.

mod access;
mod decisions;
mod events;
mod health;
mod listener;
mod live;
mod pipelines;
mod problem;
mod routes;
mod runs;
mod state;
mod webhook;

pub(crate) use decisions::Decisions;
pub(crate) use events::EventsApi;
pub(crate) use health::Readiness;
pub(crate) use listener::Bounded;
pub(crate) use pipelines::Requests;
pub(crate) use routes::router;
pub(crate) use runs::RunsApi;
pub(crate) use state::Api;
