//! The door for webhooks: proof over the raw body, then reading, then storing, then the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use fairlead_event::{Headers, Incoming, MAX_BODY, ReceiveError};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::ingest::IngestError;
use crate::server::Shared;

/// How long a sender may take to send its body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let unknown = || {
        let shown: String = name.chars().take(63).collect();
        tracing::warn!("a webhook for `{shown}`, which is not a source of this server");
        Problem::missing("there is no such source").hint("see `sources` in the server's settings")
    };
    let source = shared.ports.sources.get(&name).filter(|source| source.http);
    let source = source.ok_or_else(unknown)?;
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
    let received = source.sender.receive(Incoming {
        headers: &headers,
        body: &body,
        now: shared.ports.clock.now(),
        trusted_channel: false,
    });
    let received = received.map_err(|error| {
        tracing::warn!(source = name, "a webhook is refused: {error}");
        refused(&error)
    })?;
    let is_batch = received.events.len() + received.ignored.len() + received.refused.len() > 1;
    let (mut events, mut refused) = (Vec::new(), received.refused);
    for event in received.events {
        let subject = event.subject();
        let accepted = match shared.ingest.accept(&name, event).await {
            Ok(accepted) => accepted,
            // What can never be stored must not take the rest of its message with it.
            Err(error @ IngestError::Envelope { .. }) if is_batch => {
                refused.push(format!("{subject}: {error}"));
                continue;
            }
            Err(error) => {
                tracing::error!(source = name, "a webhook cannot be stored: {error}");
                return Err(not_stored(error));
            }
        };
        let (id, duplicate) = (&accepted.id, accepted.duplicate);
        tracing::info!(source = name, event = id, duplicate, "{}", accepted.subject);
        events.push(json!({ "id": id, "subject": accepted.subject, "duplicate": duplicate }));
    }
    for why in &received.ignored {
        tracing::debug!(source = name, "ignored: {why}");
    }
    for why in &refused {
        tracing::warn!(source = name, "a part of a webhook is refused: {why}");
    }
    let answer: Value =
        json!({ "events": events, "ignored": received.ignored, "refused": refused });
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
