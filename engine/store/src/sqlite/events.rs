//! [`EventStore`] in SQLite.

use fairlead_run::{EventRun, EventStore, Inserted, NewEvent, StoreError, StoredEvent};
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Sqlite, store_error};
use crate::accept;
use crate::values::{damaged, micros, timestamp};

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

impl EventStore for Sqlite {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        Box::pin(async move {
            accept::new_event(&event)?;
            let known: Option<(String, i64)> = self
                .writer
                .write(
                    || "store an event".to_owned(),
                    move |db| {
                        Box::pin(async move {
                            let done = sqlx::query(
                                "INSERT INTO event (key, id, received_at, document) \
                                 VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                            )
                            .bind(&event.key)
                            .bind(&event.id)
                            .bind(micros(event.received_at))
                            .bind(&event.document)
                            .execute(&mut *db)
                            .await?;
                            if done.rows_affected() == 1 {
                                return Ok(None);
                            }
                            sqlx::query_as("SELECT id, received_at FROM event WHERE key = ?")
                                .bind(&event.key)
                                .fetch_optional(db)
                                .await
                        })
                    },
                )
                .await?;
            Ok(match known {
                None => Inserted::New,
                Some((id, at)) => Inserted::Duplicate { id, received_at: timestamp(at)? },
            })
        })
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let row = sqlx::query(select!("WHERE key = ?"))
                .bind(key)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("look up an event", error))?;
            row.as_ref().map(stored_event).transpose()
        })
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let query = select!("WHERE published_at IS NULL ORDER BY number LIMIT ?");
        Box::pin(self.events(query, limit))
    }

    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let query = select!("WHERE handled_at IS NULL ORDER BY number LIMIT ?");
        Box::pin(self.events(query, limit))
    }

    fn mark_published(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = "UPDATE event SET published_at = ? WHERE key = ? AND published_at IS NULL";
        Box::pin(self.mark(query, key.to_owned(), at))
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let query = "UPDATE event SET handled_at = ? WHERE key = ? AND handled_at IS NULL";
        Box::pin(self.mark(query, key.to_owned(), at))
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let rows: Vec<(String, String)> = sqlx::query_as(
                "SELECT pipeline, run FROM event_run WHERE key = ? ORDER BY pipeline",
            )
            .bind(key)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| store_error("look up the runs of an event", error))?;
            let run = |(pipeline, run): (String, String)| match run.parse() {
                Ok(run) => Ok(EventRun { pipeline, run }),
                Err(error) => Err(damaged("the run that an event started", error)),
            };
            rows.into_iter().map(run).collect()
        })
    }
}

impl Sqlite {
    async fn events(
        &self,
        query: &'static str,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(query)
            .bind(limit.min(MOST) as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| store_error("list events", error))?;
        rows.iter().map(stored_event).collect()
    }

    async fn mark(
        &self,
        query: &'static str,
        key: String,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .write(
                || "note what became of an event".to_owned(),
                move |db| {
                    Box::pin(async move {
                        let query = sqlx::query(query).bind(micros(at)).bind(key);
                        query.execute(db).await.map(|_| ())
                    })
                },
            )
            .await
    }
}

fn stored_event(row: &SqliteRow) -> Result<StoredEvent, StoreError> {
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
