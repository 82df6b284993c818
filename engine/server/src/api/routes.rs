//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::state::Api;
use super::{access, decisions, events, health, live, pipelines, problem, runs, webhook};

/// The most bytes of a request to the API. Webhooks have their own limit.
const MAX_REQUEST: usize = 1 << 20;

pub(crate) fn router(api: Api) -> Router {
    let guarded = Router::new()
        .route("/events", get(events::list))
        .route("/events/{event}", get(events::show))
        .route("/events/{event}/retry", post(events::retry))
        .route("/pipelines", get(pipelines::list))
        .route("/pipelines/{name}/runs", post(pipelines::start))
        .route("/runs", get(runs::list))
        .route("/runs/{run}", get(runs::show))
        .route("/runs/{run}/cancel", post(decisions::cancel))
        .route("/runs/{run}/abandon", post(decisions::abandon))
        .route("/runs/{run}/explain", get(decisions::explain))
        .route("/runs/{run}/steps/{step}/approve", post(decisions::approve))
        .route("/runs/{run}/steps/{step}/reject", post(decisions::reject))
        .route("/runs/{run}/steps/{step}/settle", post(decisions::settle))
        .route("/runs/{run}/logs/{step}", get(runs::log))
        .route("/runs/{run}/events", get(live::events))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(from_fn_with_state(Arc::clone(&api.access), access::check));
    Router::new()
        .nest("/api/v1", guarded)
        .route("/webhooks/{source}", post(webhook::receive).options(webhook::may_send))
        .route("/webhooks/{source}/{end}", post(webhook::receive_at).options(webhook::may_send_at))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::not_allowed)
        .with_state(api)
}
