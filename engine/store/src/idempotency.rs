//! What the databases have in common about requests that may come twice. Both know parameters as `$1`.

use std::time::Duration;

use fairlead_run::{KEYED_FOR, KeptAnswer, KeyedRequest, KeyedStart, MAX_KEPT_ANSWER, StoreError};
use jiff::{SignedDuration, Timestamp};

use crate::values::{damaged, lasting, micros, run_id, timestamp};

/// What is over goes when something comes, a part at a time.
pub(crate) const FORGET: &str = "DELETE FROM keyed_request WHERE key IN \
    (SELECT key FROM keyed_request WHERE expires_at <= $1 ORDER BY expires_at LIMIT 100)";

/// Takes the key: when nobody has it, when its time is over, or when whoever has it was cut off. Whoever
/// follows such a one does the same under the same id.
pub(crate) const BEGIN: &str = "INSERT INTO keyed_request \
    (key, content, run, leased_until, expires_at) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (key) DO UPDATE SET \
      run = CASE WHEN keyed_request.expires_at <= $6 THEN excluded.run ELSE keyed_request.run END, \
      content = excluded.content, leased_until = excluded.leased_until, \
      status = NULL, body = NULL, \
      expires_at = CASE WHEN keyed_request.expires_at <= $6 THEN excluded.expires_at \
        ELSE keyed_request.expires_at END \
    WHERE keyed_request.expires_at <= $6 OR (keyed_request.content = excluded.content \
      AND keyed_request.status IS NULL AND keyed_request.leased_until <= $6) \
    RETURNING run";

pub(crate) const FOUND: &str =
    "SELECT content, status, body, leased_until FROM keyed_request WHERE key = $1";

pub(crate) const DONE: &str =
    "UPDATE keyed_request SET status = $2, body = $3 WHERE key = $1 AND status IS NULL";
pub(crate) const REFUSED: &str = "DELETE FROM keyed_request WHERE key = $1 AND status IS NULL";
pub(crate) const UNKNOWN: &str =
    "UPDATE keyed_request SET leased_until = 0 WHERE key = $1 AND status IS NULL";

/// A row of [`FOUND`].
pub(crate) type FoundRow = (String, Option<i64>, Option<String>, i64);

/// The values of [`BEGIN`].
pub(crate) struct Values {
    pub(crate) key: String,
    pub(crate) content: String,
    pub(crate) run: String,
    pub(crate) leased_until: i64,
    pub(crate) expires_at: i64,
    pub(crate) now: i64,
}

impl Values {
    pub(crate) fn of(request: &KeyedRequest, now: Timestamp, lease: Duration) -> Self {
        let now = micros(now);
        Self {
            key: request.key.to_string(),
            content: request.content.to_string(),
            run: request.run.to_string(),
            leased_until: now.saturating_add(lasting(lease)),
            expires_at: now.saturating_add(lasting(KEYED_FOR)),
            now,
        }
    }
}

/// What beginning came to, by the id that was taken, or else by what was found.
pub(crate) fn start(
    request: &KeyedRequest,
    taken: Option<String>,
    found: Option<FoundRow>,
    now: Timestamp,
) -> Result<KeyedStart, StoreError> {
    if let Some(run) = taken {
        return Ok(KeyedStart::Do(run_id(&run)?));
    }
    let Some((content, status, body, leased_until)) = found else {
        // It was refused in this moment; whoever asks again begins it.
        return Ok(KeyedStart::UnderWay(soon(now)));
    };
    if content != request.content.to_string() {
        return Ok(KeyedStart::Another);
    }
    Ok(match status {
        None => KeyedStart::UnderWay(timestamp(leased_until)?),
        Some(status) => {
            let status =
                u16::try_from(status).map_err(|error| damaged("a status is none", error))?;
            KeyedStart::Done(KeptAnswer { status, body })
        }
    })
}

fn soon(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(now)
}

/// The answer as it is kept.
pub(crate) fn kept(answer: KeptAnswer) -> KeptAnswer {
    let body = answer.body.filter(|body| body.len() <= MAX_KEPT_ANSWER);
    KeptAnswer { body, ..answer }
}
