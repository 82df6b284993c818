//! What the databases have in common about messages to others: the text of statements, and how a row is
//! read. Both know parameters as `$1`.

use fairlead_run::{
    DeliveryFilter, DeliveryOutcome, EventState, NewDelivery, StoreError, StoredDelivery,
};
use jiff::{SignedDuration, Timestamp};
use sqlx::{ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};

use crate::events::reason;
use crate::values::{counted, damaged, micros, run_id, stored, timestamp};

/// How long a message that is of no run is kept when it is over, so that it is not sent again.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// What a [`StoredDelivery`] is read from.
macro_rules! delivery_columns {
    () => {
        "number, destination, id, kind, about, replaces, run, document, created_at, due_at, attempts, \
         delivered_at, dead_at, reason"
    };
}

macro_rules! undelivered {
    () => {
        "delivered_at IS NULL AND dead_at IS NULL"
    };
}

pub(crate) const ADD: &str = "INSERT INTO delivery \
    (destination, id, kind, about, replaces, run, document, created_at, due_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (destination, id) DO NOTHING";

/// Forgets messages that are of no run and have been over since then.
pub(crate) const FORGET: &str =
    "DELETE FROM delivery WHERE run IS NULL AND coalesce(delivered_at, dead_at) < $1";

/// Drops what a later message replaces, unless it is being sent.
pub(crate) const REPLACED: &str = concat!(
    "UPDATE delivery SET delivered_at = $2, reason = 'a later one took its place', \
     claimed_by = NULL, claimed_until = NULL WHERE destination = $1 AND ",
    undelivered!(),
    " AND (claimed_until IS NULL OR claimed_until <= $2) AND EXISTS (SELECT 1 FROM delivery AS later \
     WHERE later.destination = delivery.destination AND later.about = delivery.about \
     AND later.number > delivery.number AND later.replaces = 1)"
);

/// Takes what is due. `$lock` keeps others from the same rows, where several write at a time.
macro_rules! take {
    ($lock:literal) => {
        concat!(
            "UPDATE delivery SET attempts = attempts + 1, claimed_by = $3, claimed_until = $4, \
             due_at = $4 WHERE number IN (SELECT number FROM delivery AS next WHERE destination = $1 \
             AND ",
            $crate::deliveries::undelivered!(),
            " AND due_at <= $2 AND (claimed_until IS NULL OR claimed_until <= $2) AND NOT EXISTS (\
             SELECT 1 FROM delivery AS earlier WHERE earlier.destination = next.destination \
             AND earlier.about = next.about AND earlier.number < next.number \
             AND earlier.delivered_at IS NULL AND earlier.dead_at IS NULL \
             AND earlier.claimed_until > $2) ORDER BY number LIMIT $5",
            $lock,
            ") RETURNING ",
            $crate::deliveries::delivery_columns!()
        )
    };
}

pub(crate) const SETTLE: &str = concat!(
    "UPDATE delivery SET delivered_at = $3, dead_at = $4, due_at = coalesce($5, due_at), reason = $6, \
     claimed_by = NULL, claimed_until = NULL WHERE number = $1 AND claimed_by = $2 AND ",
    undelivered!()
);

pub(crate) const NEXT_DUE: &str =
    concat!("SELECT min(due_at) FROM delivery WHERE destination = $1 AND ", undelivered!());

pub(crate) const SEND_AGAIN: &str = "UPDATE delivery SET dead_at = NULL, reason = NULL, attempts = 0, \
    due_at = $2 WHERE number = $1 AND delivered_at IS NULL";

pub(crate) use {delivery_columns, take, undelivered};

/// What a message came to, as [`SETTLE`] takes it: delivered, dead, due, and why.
pub(crate) fn outcome(
    became: DeliveryOutcome,
) -> (Option<i64>, Option<i64>, Option<i64>, Option<String>) {
    match became {
        DeliveryOutcome::Delivered { at } => (Some(micros(at)), None, None, None),
        DeliveryOutcome::Later { due_at, reason: why } => {
            (None, None, Some(micros(due_at)), Some(reason(&why)))
        }
        DeliveryOutcome::GivenUp { at, reason: why } => {
            (None, Some(micros(at)), None, Some(reason(&why)))
        }
    }
}

/// Since when messages that are of no run may be forgotten; none when all of these are of one.
pub(crate) fn forgotten(messages: &[NewDelivery]) -> Option<i64> {
    let newest = messages.iter().filter(|message| message.run.is_none());
    let newest = newest.map(|message| message.created_at).max()?;
    Some(micros(newest.saturating_sub(KEPT).unwrap_or(Timestamp::MIN)))
}

/// Reads a row of [`delivery_columns`].
pub(crate) fn stored_delivery<R>(row: &R) -> Result<StoredDelivery, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
{
    let broken = |error: sqlx::Error| damaged("a message to others", error);
    let number = |at: usize| row.try_get::<i64, _>(at).map_err(broken);
    let text = |at: usize| row.try_get::<String, _>(at).map_err(broken);
    let maybe = |at: usize| {
        let found: Option<i64> = row.try_get(at).map_err(broken)?;
        found.map(timestamp).transpose()
    };
    let run: Option<String> = row.try_get(6).map_err(broken)?;
    let attempts = counted(number(10)?)?;
    Ok(StoredDelivery {
        number: counted(number(0)?)?,
        message: NewDelivery {
            destination: text(1)?,
            id: text(2)?,
            kind: text(3)?,
            about: text(4)?,
            replaces: number(5)? != 0,
            run: run.as_deref().map(run_id).transpose()?,
            document: text(7)?,
            created_at: timestamp(number(8)?)?,
        },
        due_at: timestamp(number(9)?)?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        delivered_at: maybe(11)?,
        dead_at: maybe(12)?,
        reason: row.try_get(13).map_err(broken)?,
    })
}

/// The list that a filter asks for.
pub(crate) fn list<D>(filter: DeliveryFilter) -> QueryBuilder<D>
where
    D: Database,
    String: for<'q> Encode<'q, D> + Type<D>,
    i64: for<'q> Encode<'q, D> + Type<D>,
{
    let mut query =
        QueryBuilder::new(concat!("SELECT ", delivery_columns!(), " FROM delivery WHERE 1 = 1"));
    match filter.state {
        Some(EventState::Pending) => {
            query.push(concat!(" AND ", undelivered!()));
        }
        Some(EventState::Handled) => {
            query.push(" AND delivered_at IS NOT NULL");
        }
        Some(EventState::Dead) => {
            query.push(" AND dead_at IS NOT NULL AND delivered_at IS NULL");
        }
        None => {}
    }
    if let Some(destination) = filter.destination {
        query.push(" AND destination = ").push_bind(destination);
    }
    if let Some(before) = filter.before {
        query.push(" AND number < ").push_bind(stored(before));
    }
    let limit = filter.limit.min(DeliveryFilter::MOST) as u64;
    query.push(" ORDER BY number DESC LIMIT ").push_bind(stored(limit));
    query
}
