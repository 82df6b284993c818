//! The door for webhooks: proof over the raw body, then reading, then storing, then the answer.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use fairlead_event::{Headers, MAX_BODY, ReceiveError};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::ingest::{IngestError, NotTaken, Receiver};

/// How long a sender may take to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn receive(
    State(receiver): State<Receiver>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let unknown = || {
        let shown: String = name.chars().take(63).collect();
        tracing::warn!("a webhook for `{shown}`, which is not a source of this server");
        Problem::missing("there is no such source").hint("see `sources` in the server's settings")
    };
    let source = receiver.by_http(&name).ok_or_else(unknown)?;
    let body = tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, MAX_BODY)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            tracing::warn!(source = name, "the body of a webhook is refused: {error}");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            let detail = format!("the body cannot be read, or has more than {MAX_BODY} bytes");
            return Err(Problem::new(status, "body", "the body is not taken", detail));
        }
        Err(_) => {
            tracing::warn!(source = name, "the body of a webhook did not come in time");
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(Problem::new(
                status,
                "slow",
                "the body did not come in time",
                "30 s passed",
            ));
        }
    };
    let text = |value: &axum::http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let headers: Headers =
        headers.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect();
    let received = match receiver.take(&name, source, &headers, &body, false).await {
        Ok(received) => received,
        Err(NotTaken::Refused(error)) => {
            tracing::warn!(source = name, "a webhook is refused: {error}");
            return Err(refused(&error));
        }
        Err(NotTaken::NotStored(error)) => {
            tracing::error!(source = name, "a webhook cannot be stored: {error}");
            return Err(not_stored(error));
        }
    };
    let events = received.events.iter().map(
        |event| json!({ "id": event.id, "subject": event.subject, "duplicate": event.duplicate }),
    );
    let events: Vec<Value> = events.collect();
    let answer = json!({
        "events": events, "ignored": received.ignored, "refused": received.refused,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn refused(error: &ReceiveError) -> Problem {
    if error.is_signature() {
        return Problem::unauthorized(error.to_string())
            .hint("compare the secret of the sender with that of the source");
    }
    match error {
        ReceiveError::TooLarge { .. } => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body",
            "the body is not taken",
            error.to_string(),
        ),
        ReceiveError::Refused { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "event",
            "the event is not taken",
            error.to_string(),
        )
        .hint("compare `forge` and `registry` of the source with where the sender is"),
        ReceiveError::Malformed { .. }
        | ReceiveError::Unsigned { .. }
        | ReceiveError::WrongSignature { .. }
        | ReceiveError::OutsideWindow { .. }
        | _ => Problem::bad_request(error.to_string()),
    }
}

pub(crate) fn not_stored(error: IngestError) -> Problem {
    match error {
        IngestError::Store(error) => error.into(),
        IngestError::Contended { .. } => Problem::unavailable(error.to_string()),
        IngestError::Envelope { .. } => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "event",
            "the event is not taken",
            error.to_string(),
        ),
    }
}
