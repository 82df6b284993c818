//! The body of a request: within its time, within its size, and as JSON.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// How long a body may take to come.
const DEADLINE: Duration = Duration::from_secs(30);

/// All of a body of at most `limit` bytes.
pub(crate) async fn all_of(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(DEADLINE, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_large(limit)),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow",
            "the body did not come in time",
            format!("{} s passed", DEADLINE.as_secs()),
        )),
    }
}

/// The answer to a body of more than `limit` bytes, and to one that breaks off.
pub(crate) fn too_large(limit: usize) -> Problem {
    let detail = format!("the body cannot be read, or has more than {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", "the body is not taken", detail)
}

/// What a body says.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}
