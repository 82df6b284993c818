//! [`EventStore`] in SQLite.

use std::time::Duration;

use fairlead_run::{
    Claimed, DueEvent, EventFilter, EventRun, EventStore, Inserted, NewEvent, Retried, StoreError,
    StoredEvent, TagPush,
};
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteQueryResult;

use super::{Sqlite, store_error};
use crate::accept;
use crate::events::{self, MOST};
use crate::values::{lasting, micros, stored, timestamp};

impl EventStore for Sqlite {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        Box::pin(async move {
            accept::new_event(&event)?;
            let doing = || "store an event".to_owned();
            // Without a history to go on it is one statement, and so a transaction by itself.
            let done = if event.push.is_none() {
                self.writer.write_one(doing, |db| Box::pin(insert(db, event))).await?
            } else {
                self.writer.write(doing, |db| Box::pin(insert(db, event))).await?
            };
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
        let (key, by, lease) = (key.to_owned(), by.to_owned(), lasting(lease));
        Box::pin(async move {
            let claimed = self
                .writer
                .write_one(
                    || "claim an event".to_owned(),
                    move |db| {
                        Box::pin(async move {
                            let row = sqlx::query(events::claim!("$3"))
                                .bind(&key)
                                .bind(by)
                                .bind(micros(at))
                                .bind(lease)
                                .fetch_optional(&mut *db)
                                .await?;
                            Ok(match row {
                                Some(row) => Ok(row),
                                None => Err(state(db, &key).await?),
                            })
                        })
                    },
                )
                .await?;
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
        let query = sqlx::query(events::MARK_HANDLED).bind(key.to_owned()).bind(micros(at));
        Box::pin(async move { self.change(query).await.map(drop) })
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
}

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Sqlite {
    /// Writes what became of an event, in one statement.
    async fn change(&self, query: Query) -> Result<SqliteQueryResult, StoreError> {
        let doing = || "note what became of an event".to_owned();
        self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await
    }
}

/// What became of an event that was to be stored.
enum Stored {
    New,
    Known(i64),
    Overtaken,
}

async fn insert(db: &mut SqliteConnection, event: NewEvent) -> sqlx::Result<Stored> {
    let push = event.push.as_ref();
    let done = sqlx::query(
        "INSERT INTO event (key, id, received_at, due_at, document, tag) \
         SELECT $1, $2, $3, $4, $5, $6 \
         WHERE NOT EXISTS (SELECT 1 FROM event_key WHERE key = $1) \
         AND NOT EXISTS (SELECT 1 FROM tag_push WHERE tag = $6 AND number = $7) \
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(&event.key)
    .bind(&event.id)
    .bind(micros(event.received_at))
    .bind(micros(event.due_at))
    .bind(&event.document)
    .bind(push.map(|push| &push.tag))
    .bind(push.map(|push| stored(push.number)))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        let known = sqlx::query_scalar(events::KNOWN).bind(&event.key).fetch_optional(db).await?;
        return Ok(known.map_or(Stored::Overtaken, Stored::Known));
    }
    if let Some(push) = push {
        sqlx::query(
            "INSERT INTO tag_push (tag, number, key, digest, at, received_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&push.tag)
        .bind(stored(push.number))
        .bind(&push.key)
        .bind(push.digest.to_string())
        .bind(push.at.map(|at| at.to_string()))
        .bind(micros(event.received_at))
        .execute(&mut *db)
        .await?;
        if let Some(last) = push.number.checked_sub(TagPush::KEPT as u64) {
            sqlx::query("DELETE FROM tag_push WHERE tag = $1 AND number <= $2")
                .bind(&push.tag)
                .bind(stored(last))
                .execute(db)
                .await?;
        }
    }
    Ok(Stored::New)
}

async fn state(db: &mut SqliteConnection, key: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(events::STATE).bind(key).fetch_optional(db).await
}
