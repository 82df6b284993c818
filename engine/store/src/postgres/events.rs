//! [`EventStore`] in Postgres.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{
    Claimed, DueEvent, EventFilter, EventRun, EventStore, Inserted, NewEvent, Retried, StoreError,
    StoredEvent, TagPush,
};
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};

use super::{Postgres, on, text};
use crate::accept;
use crate::events::{self, MOST};
use crate::values::{lasting, micros, stored, timestamp};

/// Claims are compared by the clock of the database's server, which several processes share.
const CLAIM: &str = concat!(
    "UPDATE event SET attempts = attempts + 1, claimed_by = $2, \
     claimed_until = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4, \
     due_at = $3 + $4 WHERE key = $1 AND ",
    events::pending!(),
    " AND (claimed_until IS NULL \
     OR claimed_until <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) RETURNING ",
    events::columns!()
);

const MARK_HANDLED: &str = "UPDATE event SET handled_at = $2, dead_at = NULL, reason = NULL, \
    claimed_by = NULL, claimed_until = NULL WHERE key = $1 AND handled_at IS NULL";

impl EventStore for Postgres {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        Box::pin(async move {
            accept::new_event(&event)?;
            let event = Arc::new(event);
            let work = on(|db| {
                let event = Arc::clone(&event);
                Box::pin(async move { insert(db, &event).await })
            });
            Ok(match self.pool.call(|| "store an event".to_owned(), work).await? {
                Stored::New => Inserted::New,
                Stored::Known(at) => Inserted::Duplicate { received_at: timestamp(at)? },
                Stored::Overtaken => Inserted::Overtaken,
            })
        })
    }

    fn history(&self, tag: &str) -> BoxFuture<'_, Result<Vec<TagPush>, StoreError>> {
        let tag = tag.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(events::HISTORY).bind(tag.clone());
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || "look up the history of a tag".to_owned();
            let rows: Vec<events::TagRow> = self.pool.call(doing, work).await?;
            rows.into_iter().map(events::tag_push).collect()
        })
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query(events::BY_KEY).bind(key.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let row = self.pool.call(|| "look up an event".to_owned(), work).await?;
            row.as_ref().map(events::stored_event).transpose()
        })
    }

    fn list(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let mut query = events::list(filter.clone());
                Box::pin(async move { query.build().fetch_all(db).await })
            });
            let rows: Vec<PgRow> = self.pool.call(|| "list events".to_owned(), work).await?;
            rows.iter().map(events::stored_event).collect()
        })
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let limit = stored(limit.min(MOST) as u64);
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query(events::UNPUBLISHED).bind(limit);
                Box::pin(async move { query.fetch_all(db).await })
            });
            let rows: Vec<PgRow> = self.pool.call(|| "list events".to_owned(), work).await?;
            rows.iter().map(events::stored_event).collect()
        })
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>, StoreError>> {
        let limit = stored(limit.min(MOST) as u64);
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(events::DUE).bind(limit);
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || "list the events that are due".to_owned();
            let rows: Vec<(String, i64, i64)> = self.pool.call(doing, work).await?;
            rows.into_iter().map(events::due_event).collect()
        })
    }

    fn mark_published(
        &self,
        keys: Vec<String>,
        at: Timestamp,
        due_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let query = || {
                sqlx::query(events::mark_published!("key = ANY ($3)"))
                    .bind(micros(at))
                    .bind(micros(due_at))
                    .bind(keys.clone())
            };
            self.change(query).await.map(drop)
        })
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
            let work = on(|db| {
                let query = sqlx::query(CLAIM);
                let query = query.bind(key.clone()).bind(by.clone()).bind(micros(at)).bind(lease);
                let state = sqlx::query_scalar(events::STATE).bind(key.clone());
                Box::pin(async move {
                    Ok(match query.fetch_optional(&mut *db).await? {
                        Some(row) => Ok(row),
                        None => Err(state.fetch_optional(db).await?),
                    })
                })
            });
            match self.pool.call(|| "claim an event".to_owned(), work).await? {
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
        let (key, by, lease) = (key.to_owned(), by.to_owned(), lasting(lease));
        Box::pin(async move {
            let query = || {
                sqlx::query(events::renew!(
                    "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
                ))
                .bind(key.clone())
                .bind(by.clone())
                .bind(micros(at))
                .bind(lease)
            };
            Ok(self.change(query).await? > 0)
        })
    }

    fn postpone(
        &self,
        key: &str,
        by: &str,
        due_at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let reason = text(&events::reason(reason)).into_owned();
        Box::pin(self.left(events::POSTPONE, key.to_owned(), by.to_owned(), due_at, reason))
    }

    fn give_up(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let reason = text(&events::reason(reason)).into_owned();
        Box::pin(self.left(events::GIVE_UP, key.to_owned(), by.to_owned(), at, reason))
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let query = || sqlx::query(MARK_HANDLED).bind(key.clone()).bind(micros(at));
            self.change(query).await.map(drop)
        })
    }

    fn retry(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<Retried, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let query = || sqlx::query(events::RETRY).bind(key.clone()).bind(micros(at));
            if self.change(query).await? > 0 {
                return Ok(Retried::Due);
            }
            Ok(match self.event(&key).await? {
                Some(_) => Retried::Handled,
                None => Retried::Unknown,
            })
        })
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(events::RUNS_OF).bind(key.clone());
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || "look up the runs of an event".to_owned();
            let rows: Vec<(String, String)> = self.pool.call(doing, work).await?;
            rows.into_iter().map(events::event_run).collect()
        })
    }

    fn watermark(&self, name: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar(events::WATERMARK).bind(name.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let doing = || "look up a watermark".to_owned();
            let at: Option<i64> = self.pool.call(doing, work).await?;
            at.map(timestamp).transpose()
        })
    }

    fn raise_watermark(&self, name: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let query = || {
                let query = sqlx::query(events::raise_watermark!("greatest"));
                query.bind(name.clone()).bind(micros(at))
            };
            self.change(query).await.map(drop)
        })
    }

    fn take_turn(
        &self,
        name: &str,
        at: Timestamp,
        next: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let query = || {
                let query = sqlx::query(events::TAKE_TURN).bind(name.clone());
                query.bind(micros(at)).bind(micros(next))
            };
            Ok(self.change(query).await? > 0)
        })
    }

    fn checkpoint(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar(events::CHECKPOINT).bind(name.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            self.pool.call(|| "look up a checkpoint".to_owned(), work).await
        })
    }

    fn save_checkpoint(&self, name: &str, body: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        let accepted = accept::checkpoint(name, body);
        let (name, body) = (name.to_owned(), text(body).into_owned());
        Box::pin(async move {
            accepted?;
            let query =
                || sqlx::query(events::SAVE_CHECKPOINT).bind(name.clone()).bind(body.clone());
            self.change(query).await.map(drop)
        })
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

impl Postgres {
    /// Writes what became of an event, and answers how many it was about.
    pub(super) async fn change(&self, query: impl Fn() -> Query + Sync) -> Result<u64, StoreError> {
        let work = on(|db| {
            let query = query();
            Box::pin(async move { query.execute(db).await.map(|done| done.rows_affected()) })
        });
        self.pool.call(|| "note what became of an event".to_owned(), work).await
    }

    /// Writes why whoever has claimed an event leaves it.
    async fn left(
        &self,
        statement: &'static str,
        key: String,
        by: String,
        at: Timestamp,
        reason: String,
    ) -> Result<(), StoreError> {
        let query = || {
            sqlx::query(statement)
                .bind(key.clone())
                .bind(by.clone())
                .bind(micros(at))
                .bind(reason.clone())
        };
        self.change(query).await.map(drop)
    }
}

/// What became of an event that was to be stored.
enum Stored {
    New,
    Known(i64),
    Overtaken,
}

/// One statement: the place in the history of the tag is taken first, and decides.
async fn insert(db: &mut PgConnection, event: &NewEvent) -> sqlx::Result<Stored> {
    let push = event.push.as_ref();
    let done = sqlx::query(
        "WITH pushed AS (INSERT INTO tag_push (tag, number, key, digest, at, received_at) \
           SELECT $6::text, $7::bigint, $1::text, $8::text, $9::text, $3::bigint \
           WHERE $6::text IS NOT NULL ON CONFLICT DO NOTHING RETURNING number), \
         trimmed AS (DELETE FROM tag_push WHERE tag = $6 AND number <= $10) \
         INSERT INTO event (key, id, received_at, due_at, document, tag) \
         SELECT $1, $2, $3, $4, $5, $6 \
         WHERE NOT EXISTS (SELECT 1 FROM event_key WHERE key = $1) \
         AND ($6::text IS NULL OR EXISTS (SELECT 1 FROM pushed)) \
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(&event.key)
    .bind(text(&event.id))
    .bind(micros(event.received_at))
    .bind(micros(event.due_at))
    .bind(text(&event.document))
    .bind(push.map(|push| text(&push.tag)))
    .bind(push.map(|push| stored(push.number)))
    .bind(push.map(|push| push.digest.to_string()))
    .bind(push.and_then(|push| push.at).map(|at| at.to_string()))
    .bind(push.map(|push| stored(push.number) - TagPush::KEPT as i64))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(Stored::New);
    }
    let known = sqlx::query_scalar(events::KNOWN).bind(&event.key).fetch_optional(db).await?;
    Ok(known.map_or(Stored::Overtaken, Stored::Known))
}
