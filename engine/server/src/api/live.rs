//! A run as it happens, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use fairlead_exec::Update;
use futures::stream;
use jiff::Timestamp;
use serde_json::json;

use super::problem::Problem;
use super::runs::{RunLine, run_id, stream as stream_name};
use crate::identity::Caller;
use crate::streams::{Followed, Streams};

/// How often a stream that has nothing to say says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// `Last-Event-ID` is the number of the last record that the client has; what it has is not sent
/// again.
pub(crate) async fn events(
    State(streams): State<Streams>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let run = run_id(&run)?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let following = streams.follow(run, seen.unwrap_or(0)).await?;
    let events = stream::unfold(following, |mut following| async move {
        loop {
            let followed = following.next().await?;
            if let Some(event) = shown(&followed) {
                return Some((Ok::<_, Infallible>(event), following));
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)))
}

/// Follows all runs that the caller may look at. `Last-Event-ID` is the time, in milliseconds, up to which the
/// client has seen everything.
pub(crate) async fn all(
    State(streams): State<Streams>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let seen = headers.get("last-event-id").map(|value| {
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
    });
    let since = match seen {
        None => None,
        Some(Some(since)) => Some(since),
        Some(None) => {
            return Err(Problem::bad_request("`Last-Event-ID` is none that this stream has given"));
        }
    };
    let following = (streams.follow_all(since), caller);
    let events = stream::unfold(following, |(mut following, caller)| async move {
        loop {
            let (at, run) = following.next().await?;
            if caller.sees(&run.pipeline) {
                let id = at.as_millisecond().to_string();
                let event = Event::default().event("run").id(id);
                let event = event.json_data(RunLine::from(&run)).ok()?;
                return Some((Ok::<_, Infallible>(event), (following, caller)));
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)))
}

fn shown(followed: &Followed) -> Option<Event> {
    let update = match followed {
        Followed::Record(record) => {
            let event = Event::default().event("record").id(record.seq().0.to_string());
            return Some(event.data(record.bytes()));
        }
        Followed::Live(update) => update,
    };
    let (kind, data) = match &**update {
        Update::Line { log, line } => {
            let data = json!({ "step": log.step, "attempt": log.attempt, "at": line.at,
                "stream": stream_name(line.stream), "text": line.text });
            ("line", data)
        }
        Update::Progress { log, progress } => {
            let data = json!({ "step": log.step, "attempt": log.attempt,
                "what": progress.what, "done": progress.done, "total": progress.total });
            ("progress", data)
        }
        Update::Notice { message, .. } => ("notice", json!({ "message": message })),
        Update::Record { .. } | Update::Missed { .. } => return None,
    };
    Some(Event::default().event(kind).data(data.to_string()))
}
