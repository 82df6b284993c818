//! [`EventStore`] in SQLite.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_run::{
    Claimed, DueEvent, EventFilter, EventRun, EventStore, Inserted, NewEvent, Retried, StoreError,
    StoredEvent, TagPush,
};
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Row as _, SqliteConnection};

use super::gather::{Gather, Kind, apart};
use super::{Sqlite, store_error};
use crate::accept;
use crate::events::{self, MOST};
use crate::values::{lasting, micros, stored, timestamp};

impl EventStore for Sqlite {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        Box::pin(async move {
            accept::new_event(&event)?;
            let done = self.events.inserts.write(&self.writer, event).await?;
            Ok(match done {
                Stored::New => Inserted::New,
                Stored::Known(at) => Inserted::Duplicate { received_at: timestamp(at)? },
                Stored::Overtaken => Inserted::Overtaken,
            })
        })
    }

    fn history(&self, tag: &str) -> BoxFuture<'_, Result<Vec<TagPush>, StoreError>> {
        let query = sqlx::query_as(events::HISTORY).bind(tag.to_owned());
        Box::pin(async move {
            let rows: Vec<events::TagRow> = query
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("look up the history of a tag", error))?;
            rows.into_iter().map(events::tag_push).collect()
        })
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        let query = sqlx::query(events::BY_KEY).bind(key.to_owned());
        Box::pin(async move {
            let row = query
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("look up an event", error))?;
            row.as_ref().map(events::stored_event).transpose()
        })
    }

    fn list(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        Box::pin(async move {
            let rows = events::list(filter)
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list events", error))?;
            rows.iter().map(events::stored_event).collect()
        })
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(events::UNPUBLISHED)
                .bind(stored(limit.min(MOST) as u64))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list events", error))?;
            rows.iter().map(events::stored_event).collect()
        })
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>, StoreError>> {
        Box::pin(async move {
            let rows: Vec<(String, i64, i64)> = sqlx::query_as(events::DUE)
                .bind(stored(limit.min(MOST) as u64))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list the events that are due", error))?;
            rows.into_iter().map(events::due_event).collect()
        })
    }

    fn mark_published(
        &self,
        keys: Vec<String>,
        at: Timestamp,
        due_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let query =
            sqlx::query(events::mark_published!("key IN (SELECT value FROM json_each($3))"))
                .bind(micros(at))
                .bind(micros(due_at))
                .bind(serde_json::json!(keys).to_string());
        Box::pin(async move { self.change(query).await.map(drop) })
    }

    fn claim(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        let claim = Claim { key: key.to_owned(), by: by.to_owned(), at, lease };
        Box::pin(async move {
            let claimed = self.events.claims.write(&self.writer, claim).await?;
            match claimed {
                Ok(row) => Ok(Claimed::Yes(Box::new(events::stored_event(&row)?))),
                Err(word) => events::not_claimed(word),
            }
        })
    }

    fn renew(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let query = sqlx::query(events::renew!("$3"))
            .bind(key.to_owned())
            .bind(by.to_owned())
            .bind(micros(at))
            .bind(lasting(lease));
        Box::pin(async move { Ok(self.change(query).await?.rows_affected() > 0) })
    }

    fn postpone(
        &self,
        key: &str,
        by: &str,
        due_at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = sqlx::query(events::POSTPONE)
            .bind(key.to_owned())
            .bind(by.to_owned())
            .bind(micros(due_at))
            .bind(events::reason(reason));
        Box::pin(async move { self.change(query).await.map(drop) })
    }

    fn give_up(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = sqlx::query(events::GIVE_UP)
            .bind(key.to_owned())
            .bind(by.to_owned())
            .bind(micros(at))
            .bind(events::reason(reason));
        Box::pin(async move { self.change(query).await.map(drop) })
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let handled = (key.to_owned(), at);
        Box::pin(self.events.handled.write(&self.writer, handled))
    }

    fn retry(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<Retried, StoreError>> {
        let query = sqlx::query(events::RETRY).bind(key.to_owned()).bind(micros(at));
        let key = key.to_owned();
        Box::pin(async move {
            if self.change(query).await?.rows_affected() > 0 {
                return Ok(Retried::Due);
            }
            Ok(match self.event(&key).await? {
                Some(_) => Retried::Handled,
                None => Retried::Unknown,
            })
        })
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        let query = sqlx::query_as(events::RUNS_OF).bind(key.to_owned());
        Box::pin(async move {
            let rows: Vec<(String, String)> = query
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("look up the runs of an event", error))?;
            rows.into_iter().map(events::event_run).collect()
        })
    }

    fn watermark(&self, name: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let query = sqlx::query_scalar(events::WATERMARK).bind(name.to_owned());
        Box::pin(async move {
            let at: Option<i64> = query
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("look up a watermark", error))?;
            at.map(timestamp).transpose()
        })
    }

    fn raise_watermark(&self, name: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = sqlx::query(events::raise_watermark!("max"));
        let query = query.bind(name.to_owned()).bind(micros(at));
        Box::pin(async move { self.change(query).await.map(drop) })
    }

    fn take_turn(
        &self,
        name: &str,
        at: Timestamp,
        next: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let query = sqlx::query(events::TAKE_TURN);
        let query = query.bind(name.to_owned()).bind(micros(at)).bind(micros(next));
        Box::pin(async move { Ok(self.change(query).await?.rows_affected() > 0) })
    }

    fn checkpoint(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let query = sqlx::query_scalar(events::CHECKPOINT).bind(name.to_owned());
        Box::pin(async move {
            query
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("look up a checkpoint", error))
        })
    }

    fn save_checkpoint(&self, name: &str, body: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        let accepted = accept::checkpoint(name, body);
        let query = sqlx::query(events::SAVE_CHECKPOINT);
        let query = query.bind(name.to_owned()).bind(body.to_owned());
        Box::pin(async move {
            accepted?;
            self.change(query).await.map(drop)
        })
    }
}

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Sqlite {
    /// Writes what became of an event, in one statement.
    async fn change(&self, query: Query) -> Result<SqliteQueryResult, StoreError> {
        let doing = || "note what became of an event".to_owned();
        self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await
    }
}

/// The writes that every event needs. Many of them wait at a time when many events come.
#[derive(Default)]
pub(super) struct Gathered {
    inserts: Gather<Insert>,
    claims: Gather<Claims>,
    handled: Gather<Handled>,
}

/// A text within a parameter that is a JSON document: the database would cut it at a NUL.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// What became of an event that was to be stored.
enum Stored {
    New,
    Known(i64),
    Overtaken,
}

/// Storing events.
struct Insert;

impl Kind for Insert {
    type Want = NewEvent;
    type Answer = Stored;

    const DOING: &'static str = "store an event";

    /// An event and what it adds to the history of a tag belong together.
    fn is_one_statement(wants: &[NewEvent]) -> bool {
        wants.iter().all(|event| event.push.is_none())
    }

    fn write<'c>(
        db: &'c mut SqliteConnection,
        wants: Vec<NewEvent>,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Stored>>> {
        Box::pin(async move {
            let mut became: Vec<Option<Stored>> = wants.iter().map(|_| None).collect();
            let mut left: Vec<usize> = (0..wants.len()).collect();
            while !left.is_empty() {
                let (now, later) = apart(left, |place| {
                    let event = &wants[place];
                    let tag = event.push.as_ref().map(|push| push.tag.as_str());
                    [Some(event.key.as_str()), tag].into_iter().flatten()
                });
                let some: Vec<&NewEvent> = now.iter().map(|place| &wants[*place]).collect();
                let new = insert(db, &some).await?;
                for place in now {
                    let key = &wants[place].key;
                    became[place] = Some(match new.contains(key) {
                        true => Stored::New,
                        false => known(db, key).await?,
                    });
                }
                left = later;
            }
            Ok(became.into_iter().flatten().collect())
        })
    }
}

/// Stores events of different keys and tags, and answers the keys of those that are new.
async fn insert(db: &mut SqliteConnection, events: &[&NewEvent]) -> sqlx::Result<BTreeSet<String>> {
    let rows = events.iter().map(|event| {
        let push = event.push.as_ref();
        json!([
            text(&event.key),
            text(&event.id),
            micros(event.received_at),
            micros(event.due_at),
            text(&event.document),
            push.map(|push| text(&push.tag)),
            push.map(|push| stored(push.number)),
        ])
    });
    let new: Vec<String> = sqlx::query_scalar(
        "INSERT INTO event (key, id, received_at, due_at, document, tag) \
         SELECT given.value->>0, given.value->>1, given.value->>2, given.value->>3, \
           given.value->>4, given.value->>5 FROM json_each($1) AS given \
         WHERE NOT EXISTS (SELECT 1 FROM event_key WHERE key = given.value->>0) \
         AND NOT EXISTS (SELECT 1 FROM tag_push \
           WHERE tag = given.value->>5 AND number = given.value->>6) \
         ON CONFLICT (key) DO NOTHING RETURNING key",
    )
    .bind(Value::Array(rows.collect()).to_string())
    .fetch_all(&mut *db)
    .await?;
    let new: BTreeSet<String> = new.into_iter().collect();
    let pushes = events.iter().filter(|event| new.contains(&event.key));
    let pushes = pushes.filter_map(|event| event.push.as_ref().map(|push| (event, push)));
    let (mut pushed, mut kept) = (Vec::new(), Vec::new());
    for (event, push) in pushes {
        pushed.push(json!([
            text(&push.tag),
            stored(push.number),
            text(&push.key),
            push.digest.to_string(),
            push.at.map(|at| at.to_string()),
            micros(event.received_at),
        ]));
        if let Some(last) = push.number.checked_sub(TagPush::KEPT as u64) {
            kept.push(json!([text(&push.tag), stored(last)]));
        }
    }
    if !pushed.is_empty() {
        sqlx::query(
            "INSERT INTO tag_push (tag, number, key, digest, at, received_at) \
             SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 \
             FROM json_each($1)",
        )
        .bind(Value::Array(pushed).to_string())
        .execute(&mut *db)
        .await?;
    }
    if !kept.is_empty() {
        sqlx::query(
            "DELETE FROM tag_push WHERE (tag, number) IN (SELECT old.tag, old.number \
             FROM json_each($1) AS given CROSS JOIN tag_push AS old \
             ON old.tag = given.value->>0 AND old.number <= given.value->>1)",
        )
        .bind(Value::Array(kept).to_string())
        .execute(db)
        .await?;
    }
    Ok(new)
}

/// Why an event was not stored.
async fn known(db: &mut SqliteConnection, key: &str) -> sqlx::Result<Stored> {
    let known = sqlx::query_scalar(events::KNOWN).bind(key).fetch_optional(db).await?;
    Ok(known.map_or(Stored::Overtaken, Stored::Known))
}

/// Claiming events.
struct Claims;

struct Claim {
    key: String,
    by: String,
    at: Timestamp,
    lease: Duration,
}

/// The event as it is claimed, or the word for where it is.
type Claiming = Result<SqliteRow, Option<String>>;

impl Kind for Claims {
    type Want = Claim;
    type Answer = Claiming;

    const DOING: &'static str = "claim an event";

    fn is_one_statement(_: &[Claim]) -> bool {
        true
    }

    fn write<'c>(
        db: &'c mut SqliteConnection,
        wants: Vec<Claim>,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Claiming>>> {
        Box::pin(async move {
            let mut claimed: Vec<Option<Claiming>> = wants.iter().map(|_| None).collect();
            let mut left: Vec<usize> = (0..wants.len()).collect();
            while !left.is_empty() {
                let (now, later) = apart(left, |place| [wants[place].key.as_str()]);
                let some: Vec<&Claim> = now.iter().map(|place| &wants[*place]).collect();
                let mut rows = claim(db, &some).await?;
                for place in now {
                    let key = &wants[place].key;
                    claimed[place] = Some(match rows.remove(key) {
                        Some(row) => Ok(row),
                        None => Err(state(db, key).await?),
                    });
                }
                left = later;
            }
            Ok(claimed.into_iter().flatten().collect())
        })
    }
}

/// Claims events of different keys, and answers those that were claimed, by their keys.
async fn claim(
    db: &mut SqliteConnection,
    claims: &[&Claim],
) -> sqlx::Result<BTreeMap<String, SqliteRow>> {
    let rows = claims.iter().map(|claim| {
        json!([text(&claim.key), text(&claim.by), micros(claim.at), lasting(claim.lease)])
    });
    let rows = sqlx::query(concat!(
        "UPDATE event SET attempts = attempts + 1, claimed_by = given.value->>1, \
         claimed_until = (given.value->>2) + (given.value->>3), \
         due_at = (given.value->>2) + (given.value->>3) \
         FROM json_each($1) AS given WHERE event.key = given.value->>0 AND ",
        events::pending!(),
        " AND (claimed_until IS NULL OR claimed_until <= given.value->>2) RETURNING ",
        events::columns!()
    ))
    .bind(Value::Array(rows.collect()).to_string())
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row))).collect()
}

async fn state(db: &mut SqliteConnection, key: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(events::STATE).bind(key).fetch_optional(db).await
}

/// Noting that events are handled.
struct Handled;

impl Kind for Handled {
    type Want = (String, Timestamp);
    type Answer = ();

    const DOING: &'static str = "note that an event is handled";

    fn is_one_statement(_: &[Self::Want]) -> bool {
        true
    }

    fn write<'c>(
        db: &'c mut SqliteConnection,
        wants: Vec<Self::Want>,
    ) -> BoxFuture<'c, sqlx::Result<Vec<()>>> {
        Box::pin(async move {
            let rows = wants.iter().map(|(key, at)| json!([text(key), micros(*at)]));
            sqlx::query(
                "UPDATE event SET handled_at = given.value->>1, dead_at = NULL, reason = NULL, \
                 claimed_by = NULL, claimed_until = NULL FROM json_each($1) AS given \
                 WHERE event.key = given.value->>0 AND handled_at IS NULL",
            )
            .bind(Value::Array(rows.collect()).to_string())
            .execute(db)
            .await?;
            Ok(vec![(); wants.len()])
        })
    }
}
