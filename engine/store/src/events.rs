//! What the databases have in common about events: the text of statements, and how a row is read.
//!
//! Both know parameters as `$1`. Where a text differs, it is a macro over what differs: the time that
//! a claim is compared with, and how several keys are one parameter.

use fairlead_run::{
    Claimed, DueEvent, EventFilter, EventRun, EventState, MAX_REASON_BYTES, StoreError,
    StoredEvent, TagPush,
};
use sqlx::{ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};

use crate::values::{counted, damaged, run_id, stored, timestamp};

/// The most events that one call answers.
pub(crate) const MOST: usize = 1000;

/// What a [`StoredEvent`] is read from.
macro_rules! columns {
    () => {
        "key, id, received_at, document, published_at, handled_at, dead_at, attempts, due_at, reason"
    };
}

/// Which events are pending. The indexes name the same.
macro_rules! pending {
    () => {
        "handled_at IS NULL AND dead_at IS NULL"
    };
}

pub(crate) const BY_KEY: &str = concat!("SELECT ", columns!(), " FROM event WHERE key = $1");

pub(crate) const UNPUBLISHED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM event WHERE published_at IS NULL AND ",
    pending!(),
    " ORDER BY number LIMIT $1"
);

pub(crate) const DUE: &str = concat!(
    "SELECT key, due_at, attempts FROM event WHERE ",
    pending!(),
    " ORDER BY due_at, number LIMIT $1"
);

/// When a happening was received that is known, whether its event is there or gone.
pub(crate) const KNOWN: &str = "SELECT received_at FROM event WHERE key = $1 \
    UNION ALL SELECT received_at FROM event_key WHERE key = $1 LIMIT 1";

pub(crate) const HISTORY: &str = "SELECT tag, number, key, digest, at FROM tag_push \
    WHERE tag = $1 ORDER BY number DESC LIMIT 64";
const _: () = assert!(TagPush::KEPT == 64);

/// Where an event is on its way: one column that says so.
pub(crate) const STATE: &str = "SELECT CASE WHEN handled_at IS NOT NULL THEN 'handled' \
    WHEN dead_at IS NOT NULL THEN 'dead' ELSE 'pending' END FROM event WHERE key = $1";

/// `$now` is the time that claims are compared with: of the process, or of the database's server
/// where several processes share it.
macro_rules! renew {
    ($now:literal) => {
        concat!(
            "UPDATE event SET claimed_until = ",
            $now,
            " + $4, due_at = $3 + $4 WHERE key = $1 AND claimed_by = $2 AND ",
            $crate::events::pending!()
        )
    };
}

pub(crate) const WATERMARK: &str = "SELECT at FROM watermark WHERE name = $1";

pub(crate) const TAKE_TURN: &str = "INSERT INTO watermark (name, at) VALUES ($1, $3) \
    ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE watermark.at <= $2";

pub(crate) const CHECKPOINT: &str = "SELECT body FROM checkpoint WHERE name = $1";

pub(crate) const SAVE_CHECKPOINT: &str = "INSERT INTO checkpoint (name, body) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET body = excluded.body";

/// Raises a watermark; `$greater` is how the databases call the greater of two.
macro_rules! raise_watermark {
    ($greater:literal) => {
        concat!(
            "INSERT INTO watermark (name, at) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET at = ",
            $greater,
            "(watermark.at, excluded.at)"
        )
    };
}

/// The outbox must not move the time of an event that somebody has begun to handle.
macro_rules! mark_published {
    ($keys:literal) => {
        concat!(
            "UPDATE event SET published_at = $1, \
             due_at = CASE WHEN attempts = 0 THEN $2 ELSE due_at END \
             WHERE published_at IS NULL AND ",
            $keys
        )
    };
}

pub(crate) use {columns, mark_published, pending, raise_watermark, renew};

pub(crate) const POSTPONE: &str = concat!(
    "UPDATE event SET due_at = $3, reason = $4, claimed_by = NULL, claimed_until = NULL \
     WHERE key = $1 AND claimed_by = $2 AND ",
    pending!()
);

pub(crate) const GIVE_UP: &str = concat!(
    "UPDATE event SET dead_at = $3, reason = $4, claimed_by = NULL, claimed_until = NULL \
     WHERE key = $1 AND claimed_by = $2 AND ",
    pending!()
);

/// Whoever handles it at the moment keeps it.
pub(crate) const RETRY: &str = "UPDATE event SET dead_at = NULL, reason = NULL, attempts = 0, \
    due_at = $2 WHERE key = $1 AND handled_at IS NULL";

pub(crate) const RUNS_OF: &str =
    "SELECT pipeline, run FROM event_run WHERE key = $1 ORDER BY pipeline";

/// The text follows from which filters are there, so that each is prepared once and uses its index.
pub(crate) fn list<DB>(filter: EventFilter) -> QueryBuilder<DB>
where
    DB: Database,
    String: for<'q> Encode<'q, DB> + Type<DB>,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
{
    let select = concat!("SELECT ", columns!(), " FROM event WHERE ");
    let mut query = QueryBuilder::new(select);
    query.push(match filter.state {
        Some(EventState::Pending) => pending!(),
        Some(EventState::Dead) => "dead_at IS NOT NULL",
        Some(EventState::Handled) => "handled_at IS NOT NULL",
        None => "number > 0",
    });
    if let Some(prefix) = filter.prefix {
        let behind = format!("{prefix}\u{10ffff}");
        query.push(" AND key >= ").push_bind(prefix).push(" AND key < ").push_bind(behind);
    }
    if let Some(before) = filter.before {
        query.push(" AND number < (SELECT number FROM event WHERE key = ").push_bind(before);
        query.push(")");
    }
    let limit = stored(filter.limit.min(EventFilter::MOST) as u64);
    query.push(" ORDER BY number DESC LIMIT ").push_bind(limit);
    query
}

/// A reason as it is stored: cut where it is too long.
pub(crate) fn reason(text: &str) -> String {
    let mut end = text.len().min(MAX_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn unreadable(error: sqlx::Error) -> StoreError {
    damaged("an event is not readable", error)
}

fn count(stored: i64) -> Result<u32, StoreError> {
    Ok(u32::try_from(counted(stored)?).unwrap_or(u32::MAX))
}

pub(crate) fn stored_event<'r, R>(row: &'r R) -> Result<StoredEvent, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |column: usize| row.try_get::<String, _>(column).map_err(unreadable);
    let time = |column: usize| {
        let at: Option<i64> = row.try_get(column).map_err(unreadable)?;
        at.map(timestamp).transpose()
    };
    let some = |at: Option<_>| {
        at.ok_or_else(|| StoreError::Damaged { what: "an event has no time".into(), source: None })
    };
    Ok(StoredEvent {
        key: text(0)?,
        id: text(1)?,
        received_at: some(time(2)?)?,
        document: text(3)?,
        published_at: time(4)?,
        handled_at: time(5)?,
        dead_at: time(6)?,
        attempts: count(row.try_get(7).map_err(unreadable)?)?,
        due_at: some(time(8)?)?,
        reason: row.try_get(9).map_err(unreadable)?,
    })
}

/// A row of [`DUE`].
pub(crate) fn due_event(
    (key, due_at, attempts): (String, i64, i64),
) -> Result<DueEvent, StoreError> {
    Ok(DueEvent { key, due_at: timestamp(due_at)?, fresh: attempts == 0 })
}

/// A row of [`HISTORY`].
pub(crate) type TagRow = (String, i64, String, String, Option<String>);

pub(crate) fn tag_push((tag, number, key, digest, at): TagRow) -> Result<TagPush, StoreError> {
    let what = || format!("the history of tag `{tag}`");
    let digest = digest.parse().map_err(|error| damaged(what(), error))?;
    let at = at.map(|at| at.parse()).transpose().map_err(|error| damaged(what(), error))?;
    Ok(TagPush { number: counted(number)?, key, digest, at, tag })
}

/// A row of [`RUNS_OF`].
pub(crate) fn event_run((pipeline, run): (String, String)) -> Result<EventRun, StoreError> {
    Ok(EventRun { pipeline, run: run_id(&run)? })
}

/// Why an event was not claimed of which [`STATE`] says that.
pub(crate) fn not_claimed(word: Option<String>) -> Result<Claimed, StoreError> {
    let state = word.map(|word| word.parse()).transpose();
    Ok(match state.map_err(|error| damaged("an event's state", error))? {
        None => Claimed::Unknown,
        Some(EventState::Pending) => Claimed::Held,
        Some(state @ (EventState::Handled | EventState::Dead)) => Claimed::Over(state),
    })
}
