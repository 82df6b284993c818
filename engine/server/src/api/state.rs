//! What the routes are served from, and which part of it a handler may ask for.

use std::sync::Arc;

use axum::extract::FromRef;

use super::artifacts::ArtifactsApi;
use super::decisions::Decisions;
use super::deliveries::DeliveriesApi;
use super::events::EventsApi;
use super::files::FileRequests;
use super::health::Readiness;
use super::metrics::MetricsApi;
use super::pipelines::Requests;
use super::runs::RunsApi;
use super::tokens::TokensApi;
use crate::identity::{Audit, Guard, Identity};
use crate::ingest::Receiver;
use crate::ports::Retention;
use crate::streams::Streams;

/// Everything that routes are served from. No handler takes the whole.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) artifacts: ArtifactsApi,
    pub(crate) metrics: MetricsApi,
    pub(crate) decisions: Decisions,
    pub(crate) deliveries: DeliveriesApi,
    pub(crate) events: EventsApi,
    pub(crate) files: FileRequests,
    pub(crate) guard: Guard,
    pub(crate) readiness: Readiness,
    pub(crate) receiver: Receiver,
    pub(crate) requests: Requests,
    pub(crate) retention: Arc<dyn Retention>,
    pub(crate) runs: RunsApi,
    pub(crate) streams: Streams,
    pub(crate) tokens: TokensApi,
}

impl FromRef<Api> for MetricsApi {
    fn from_ref(api: &Api) -> Self {
        api.metrics.clone()
    }
}

impl FromRef<Api> for Decisions {
    fn from_ref(api: &Api) -> Self {
        api.decisions.clone()
    }
}

impl FromRef<Api> for ArtifactsApi {
    fn from_ref(api: &Api) -> Self {
        api.artifacts.clone()
    }
}

impl FromRef<Api> for FileRequests {
    fn from_ref(api: &Api) -> Self {
        api.files.clone()
    }
}

impl FromRef<Api> for Arc<dyn Retention> {
    fn from_ref(api: &Api) -> Self {
        Arc::clone(&api.retention)
    }
}

impl FromRef<Api> for DeliveriesApi {
    fn from_ref(api: &Api) -> Self {
        api.deliveries.clone()
    }
}

impl FromRef<Api> for EventsApi {
    fn from_ref(api: &Api) -> Self {
        api.events.clone()
    }
}

impl FromRef<Api> for Readiness {
    fn from_ref(api: &Api) -> Self {
        api.readiness.clone()
    }
}

impl FromRef<Api> for Receiver {
    fn from_ref(api: &Api) -> Self {
        api.receiver.clone()
    }
}

impl FromRef<Api> for Requests {
    fn from_ref(api: &Api) -> Self {
        api.requests.clone()
    }
}

impl FromRef<Api> for RunsApi {
    fn from_ref(api: &Api) -> Self {
        api.runs.clone()
    }
}

impl FromRef<Api> for Streams {
    fn from_ref(api: &Api) -> Self {
        api.streams.clone()
    }
}

impl FromRef<Api> for TokensApi {
    fn from_ref(api: &Api) -> Self {
        api.tokens.clone()
    }
}

impl FromRef<Api> for Arc<Identity> {
    fn from_ref(api: &Api) -> Self {
        Arc::clone(&api.guard.identity)
    }
}

impl FromRef<Api> for Audit {
    fn from_ref(api: &Api) -> Self {
        api.guard.audit.clone()
    }
}
