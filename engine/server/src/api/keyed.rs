//! Requests that show an `Idempotency-Key`: each is done once, however often it comes. Whoever did not hear
//! the answer asks again, and hears it then.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fairlead_run::{KeptAnswer, KeyedEnd, KeyedRequest, KeyedStart, MAX_KEPT_ANSWER};
use fairlead_step::{Digest, RunId, error_chain};
use jiff::Timestamp;

use super::problem::Problem;
use crate::identity::Guard;

/// The header that tells one request from another.
pub(crate) const HEADER: &str = "idempotency-key";
/// On an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";
/// The longest key, in characters.
const MAX_KEY: usize = 255;
/// How long a request is taken to be under way. What is done once more after it comes to the same: runs
/// are created under the id that the first one was given.
const LEASE: Duration = Duration::from_secs(5);

/// What a request showed.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The hash of who asks, where, and of the key.
    pub(crate) key: Digest,
    content: Digest,
    /// The id of the run that the request creates, if it creates one.
    pub(crate) run: RunId,
}

/// What each request behind the guard has among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestKey(pub(crate) Option<Shown>);

impl RequestKey {
    /// The key that a request of `subject` shows. Only what changes something has one.
    pub(crate) fn of(
        head: &Parts,
        subject: &str,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let Some(value) = head.headers.get(HEADER).filter(|_| head.method == Method::POST) else {
            return Ok(Self(None));
        };
        let key = value.to_str().unwrap_or_default().trim();
        if key.is_empty() || key.len() > MAX_KEY {
            let problem = "`Idempotency-Key` must be 1 to 255 visible characters";
            return Err(Problem::bad_request(problem));
        }
        let place = head.uri.path_and_query().map_or_else(|| head.uri.path(), |it| it.as_str());
        // A key has no line break in it, nor has a place; a subject is last, whatever is in it.
        let whole = format!("{key}\n{place}\n{subject}");
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Ok(Self(Some(Shown {
            key: Digest::sha256(whole.as_bytes()),
            content: Digest::sha256(body),
            run: RunId::mint(millis, rand::random()),
        })))
    }
}

/// Has a request done by its route, unless it was done before.
pub(crate) async fn once(guard: &Guard, mut request: Request, next: Next) -> Response {
    let shown = request.extensions().get::<RequestKey>().and_then(|key| key.0.clone());
    let Some(Shown { key, content, run }) = shown else { return next.run(request).await };
    let now = guard.identity.clock.now();
    let keyed = KeyedRequest { key: key.clone(), content: content.clone(), run };
    let run = match guard.keyed.begin(keyed, now, LEASE).await {
        Ok(KeyedStart::Do(run)) => run,
        Ok(KeyedStart::Done(answer)) => return again(answer),
        Ok(KeyedStart::UnderWay(until)) => return under_way(until, now).into_response(),
        Ok(KeyedStart::Another) => return another().into_response(),
        Err(error) => return Problem::from(error).into_response(),
    };
    let shown = Shown { key: key.clone(), content, run };
    request.extensions_mut().insert(RequestKey(Some(shown)));
    let (response, end) = kept(next.run(request).await).await;
    if let Err(error) = guard.keyed.end(&key, end).await {
        tracing::warn!("the answer to a request is not kept: {}", error_chain(&error));
    }
    response
}

/// What is kept of an answer.
async fn kept(response: Response) -> (Response, KeyedEnd) {
    let status = response.status();
    if status.is_client_error() {
        return (response, KeyedEnd::Refused);
    }
    if !status.is_success() {
        return (response, KeyedEnd::Unknown);
    }
    let done = |body| KeyedEnd::Done(KeptAnswer { status: status.as_u16(), body });
    // What no cache may keep has a secret in it.
    if response.headers().get(header::CACHE_CONTROL).is_some_and(|value| value == "no-store") {
        return (response, done(None));
    }
    let (head, body) = response.into_parts();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => {
            let text = (bytes.len() <= MAX_KEPT_ANSWER).then(|| std::str::from_utf8(&bytes).ok());
            let end = done(text.flatten().map(str::to_owned));
            (Response::from_parts(head, Body::from(bytes)), end)
        }
        Err(_) => (Problem::unavailable("there is no answer").into_response(), KeyedEnd::Unknown),
    }
}

/// The answer that was given before. What was created then is there by now.
fn again(answer: KeptAnswer) -> Response {
    let Some(body) = answer.body else {
        let status = StatusCode::CONFLICT;
        let detail = "the request with this `Idempotency-Key` was done, and what it was answered is \
                      not kept";
        return Problem::new(status, "done-before", "it was done before", detail)
            .hint("a token that was lost is revoked, and another one made, with a new key")
            .into_response();
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let status = if status == StatusCode::CREATED { StatusCode::OK } else { status };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    let place: Option<serde_json::Value> = serde_json::from_str(&body).ok();
    let place = place.as_ref().and_then(|body| body.get("href")?.as_str());
    if let Some(Ok(place)) = place.map(HeaderValue::from_str) {
        headers.insert(header::LOCATION, place);
    }
    (status, headers, body).into_response()
}

fn under_way(until: Timestamp, now: Timestamp) -> Problem {
    let seconds = until.duration_since(now).as_secs().clamp(0, 60) + 1;
    let seconds = u16::try_from(seconds).unwrap_or(60);
    let detail = "a request with this `Idempotency-Key` is being done";
    Problem::new(StatusCode::CONFLICT, "under-way", "the request is under way", detail)
        .wait(seconds)
        .hint("ask again in a moment, and hear what became of it")
}

fn another() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key",
        "the key was used before",
        "the `Idempotency-Key` came before with another body",
    )
    .hint("make a new key for a new request")
}
