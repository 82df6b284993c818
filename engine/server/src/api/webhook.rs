//! The door for webhooks: what of the proof stands in the head, then the body, the proof over its raw
//! bytes, then reading, then storing, then the answer.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use fairlead_event::{Headers, MAX_BODY, ReceiveError};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{all_of, too_large};
use super::problem::Problem;
use crate::ingest::{Door, IngestError, NotTaken, Receiver, Source};

/// `POST /webhooks/{source}`.
pub(crate) async fn receive(
    State(receiver): State<Receiver>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&receiver, &name, None, &headers, body).await
}

/// `POST /webhooks/{source}/{end}`, for senders whose only proof is that they know the end.
pub(crate) async fn receive_at(
    State(receiver): State<Receiver>,
    Path((name, end)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&receiver, &name, Some(&end), &headers, body).await
}

/// `OPTIONS /webhooks/{source}`: a sender of CloudEvents asks whether it may send (HTTP 1.1 Web Hooks
/// for Event Delivery 1.0). It may when its proof is whole; where the proof is of a body, there is none
/// to show yet.
pub(crate) async fn may_send(
    State(receiver): State<Receiver>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    allowed(&receiver, &name, None, &headers)
}

/// As [`may_send`], for `/webhooks/{source}/{end}`.
pub(crate) async fn may_send_at(
    State(receiver): State<Receiver>,
    Path((name, end)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    allowed(&receiver, &name, Some(&end), &headers)
}

fn allowed(
    receiver: &Receiver,
    name: &str,
    end: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let source = source(receiver, name)?;
    let headers = texts(headers);
    receiver.head(&source, &headers, end).map_err(|error| not_believed(name, &error))?;
    let origin = headers.get("webhook-request-origin").unwrap_or("*").to_owned();
    let answer = [("allow", "POST".to_owned()), ("webhook-allowed-origin", origin)];
    Ok((StatusCode::OK, answer, "").into_response())
}

fn source(receiver: &Receiver, name: &str) -> Result<Arc<Source>, Problem> {
    receiver.by_http(name).ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(63).collect();
        tracing::warn!("a webhook for `{shown}`, which is not a source of this server");
        Problem::missing("there is no such source").hint("see `sources` in the server's settings")
    })
}

fn texts(headers: &HeaderMap) -> Headers {
    let text = |value: &axum::http::HeaderValue| value.to_str().ok().map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect()
}

fn not_believed(name: &str, error: &ReceiveError) -> Problem {
    tracing::warn!(source = name, "a webhook is refused: {error}");
    refused(error)
}

async fn take(
    receiver: &Receiver,
    name: &str,
    end: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let source = source(receiver, name)?;
    let headers = texts(headers);
    // Before a byte of the body is waited for: a stranger must not make the server hold any.
    receiver.head(&source, &headers, end).map_err(|error| not_believed(name, &error))?;
    let told = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    if told.is_some_and(|length| length > MAX_BODY) {
        tracing::warn!(source = name, "a webhook is refused: its body is too large");
        return Err(too_large(MAX_BODY));
    }
    let body = all_of(body, MAX_BODY).await.inspect_err(|problem| {
        tracing::warn!(source = name, "the body of a webhook is refused: {problem}");
    })?;
    let door = Door::Http { address_end: end };
    let received = match receiver.take(name, &source, &headers, &body, door).await {
        Ok(received) => received,
        Err(NotTaken::Refused(error)) => return Err(not_believed(name, &error)),
        Err(NotTaken::NotStored(error)) => {
            tracing::error!(source = name, "a webhook cannot be stored: {error}");
            return Err(not_stored(error));
        }
    };
    if let Some(answer) = received.answer {
        return Ok((StatusCode::OK, Json(answer)).into_response());
    }
    let events = received.events.into_iter().map(|event| EventTaken {
        id: event.id,
        subject: event.subject,
        duplicate: event.duplicate,
    });
    let answer =
        Taken { events: events.collect(), ignored: received.ignored, refused: received.refused };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// What became of a webhook.
#[derive(Serialize, ToSchema)]
pub(crate) struct Taken {
    events: Vec<EventTaken>,
    /// What is no event for Fairlead, each with its reason.
    ignored: Vec<String>,
    /// What cannot be read or taken, each with its reason.
    refused: Vec<String>,
}

/// An event that is stored.
#[derive(Serialize, ToSchema)]
struct EventTaken {
    id: String,
    subject: String,
    /// Whether it was stored before.
    duplicate: bool,
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
        | ReceiveError::NoAddress
        | ReceiveError::WrongAddress
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
