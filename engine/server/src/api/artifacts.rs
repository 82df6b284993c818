//! Artifacts over the API: what clients bring along, and what runs left behind.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use fairlead_run::Journal;
use fairlead_step::{ArtifactError, Artifacts, Digest, MAX_ARTIFACT_BYTES, error_chain};
use futures::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::runs::run_id;

/// How long an artifact may take to come.
const DEADLINE: Duration = Duration::from_secs(1800);

/// What artifacts are looked up in.
#[derive(Clone)]
pub(crate) struct ArtifactsApi {
    pub(crate) artifacts: Arc<dyn Artifacts>,
    pub(crate) journal: Arc<dyn Journal>,
}

/// An artifact that is kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct ArtifactKept {
    #[schema(value_type = String)]
    digest: Digest,
    size: u64,
}

/// Takes an artifact, which must be what its digest says. Brought again, it is the same one.
pub(crate) async fn put(
    State(api): State<ArtifactsApi>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let digest = digest_of(&digest)?;
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size| size > MAX_ARTIFACT_BYTES) {
        return Err(problem(ArtifactError::TooLarge { name: digest.to_string() }));
    }
    let pieces = body.into_data_stream().map(|piece| {
        piece.map_err(|error| ArtifactError::Unavailable { message: error_chain(&error) })
    });
    let media_type = "application/octet-stream";
    let written = api.artifacts.write("uploaded", media_type, Some(&digest), pieces.boxed());
    let artifact = tokio::time::timeout(DEADLINE, written).await.map_err(|_| {
        let status = StatusCode::REQUEST_TIMEOUT;
        let detail = format!("{} s passed", DEADLINE.as_secs());
        Problem::new(status, "slow", "the body did not come in time", detail)
    })?;
    let artifact = artifact.map_err(problem)?;
    let answer = ArtifactKept { digest: artifact.digest, size: artifact.size };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// A document that a run left behind: one that its journal names, and no other.
pub(crate) async fn of_run(
    State(api): State<ArtifactsApi>,
    Path((run, digest)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (run, digest) = (run_id(&run)?, digest_of(&digest)?);
    let stored = api.journal.load(&run).await?;
    let text = digest.to_string();
    let records = stored.records.iter().chain(stored.kept.values());
    if !records.map(fairlead_run::Record::bytes).any(|bytes| bytes.contains(&text)) {
        return Err(Problem::missing(format!("run {run} names no artifact {digest}")));
    }
    let pieces = api.artifacts.read(&digest).await.map_err(problem)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

pub(super) fn digest_of(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|e: fairlead_step::DigestError| Problem::bad_request(e.to_string()))
}

pub(super) fn problem(error: ArtifactError) -> Problem {
    let detail = error.to_string();
    match error {
        ArtifactError::NotFound { .. } => Problem::missing(detail),
        ArtifactError::Damaged { .. } => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Problem::new(status, "digest", "the bytes are not what the digest says", detail)
        }
        ArtifactError::TooLarge { .. } => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Problem::new(status, "too-large", "an artifact is not so large", detail)
        }
        ArtifactError::Unavailable { .. } | _ => Problem::unavailable(detail),
    }
}
