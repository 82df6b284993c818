//! The measures, as Prometheus reads them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::telemetry::{LevelsOf, Metrics};

/// The media type of measures.
pub(crate) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What measures are served from.
#[derive(Clone)]
pub(crate) struct MetricsApi {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) levels: LevelsOf,
}

pub(crate) async fn read(State(api): State<MetricsApi>) -> Response {
    let text = api.metrics.text(&api.levels.now().await);
    ([(header::CONTENT_TYPE, KIND)], text).into_response()
}
