//! [`EventStore`] in Postgres.

use std::sync::Arc;

use fairlead_run::{EventRun, EventStore, Inserted, NewEvent, StoreError, StoredEvent};
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::{Postgres, on, text};
use crate::accept;
use crate::values::{damaged, micros, run_id, stored, timestamp};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT key, id, received_at, document, published_at, handled_at FROM event ",
            $rest
        )
    };
}

/// The most events that one call answers.
const MOST: usize = 1000;

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
                None => Inserted::New,
                Some((id, at)) => Inserted::Duplicate { id, received_at: timestamp(at)? },
            })
        })
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query(select!("WHERE key = $1")).bind(key.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let row = self.pool.call(|| "look up an event".to_owned(), work).await?;
            row.as_ref().map(stored_event).transpose()
        })
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let query = select!("WHERE published_at IS NULL ORDER BY number LIMIT $1");
        Box::pin(self.events(query, limit))
    }

    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let query = select!("WHERE handled_at IS NULL ORDER BY number LIMIT $1");
        Box::pin(self.events(query, limit))
    }

    fn mark_published(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = "UPDATE event SET published_at = $1 WHERE key = $2 AND published_at IS NULL";
        Box::pin(self.mark(query, key.to_owned(), at))
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = "UPDATE event SET handled_at = $1 WHERE key = $2 AND handled_at IS NULL";
        Box::pin(self.mark(query, key.to_owned(), at))
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(
                    "SELECT pipeline, run FROM event_run WHERE key = $1 ORDER BY pipeline",
                )
                .bind(key.clone());
                Box::pin(async move { query.fetch_all(db).await })
            });
            let doing = || "look up the runs of an event".to_owned();
            let rows: Vec<(String, String)> = self.pool.call(doing, work).await?;
            let run =
                |(pipeline, run): (String, String)| Ok(EventRun { pipeline, run: run_id(&run)? });
            rows.into_iter().map(run).collect()
        })
    }
}

async fn insert(db: &mut PgConnection, event: &NewEvent) -> sqlx::Result<Option<(String, i64)>> {
    let done = sqlx::query(
        "INSERT INTO event (key, id, received_at, document) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(&event.key)
    .bind(text(&event.id))
    .bind(micros(event.received_at))
    .bind(text(&event.document))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(None);
    }
    sqlx::query_as("SELECT id, received_at FROM event WHERE key = $1")
        .bind(&event.key)
        .fetch_optional(db)
        .await
}

impl Postgres {
    async fn events(
        &self,
        query: &'static str,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let limit = stored(limit.min(MOST) as u64);
        let work = on(|db| {
            let query = sqlx::query(query).bind(limit);
            Box::pin(async move { query.fetch_all(db).await })
        });
        let rows: Vec<PgRow> = self.pool.call(|| "list events".to_owned(), work).await?;
        rows.iter().map(stored_event).collect()
    }

    async fn mark(
        &self,
        query: &'static str,
        key: String,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let work = on(|db| {
            let query = sqlx::query(query).bind(micros(at)).bind(key.clone());
            Box::pin(async move { query.execute(db).await.map(|_| ()) })
        });
        self.pool.call(|| "note what became of an event".to_owned(), work).await
    }
}

fn stored_event(row: &PgRow) -> Result<StoredEvent, StoreError> {
    let unreadable = |error: sqlx::Error| damaged("an event is not readable", error);
    let time = |at: Option<i64>| at.map(timestamp).transpose();
    Ok(StoredEvent {
        event: NewEvent {
            key: row.try_get(0).map_err(unreadable)?,
            id: row.try_get(1).map_err(unreadable)?,
            received_at: timestamp(row.try_get(2).map_err(unreadable)?)?,
            document: row.try_get(3).map_err(unreadable)?,
        },
        published_at: time(row.try_get(4).map_err(unreadable)?)?,
        handled_at: time(row.try_get(5).map_err(unreadable)?)?,
    })
}
