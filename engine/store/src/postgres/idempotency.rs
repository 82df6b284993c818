//! [`IdempotencyStore`] in Postgres.

use std::time::Duration;

use fairlead_run::{IdempotencyStore, KeyedEnd, KeyedRequest, KeyedStart, StoreError};
use fairlead_step::{BoxFuture, Digest};
use jiff::Timestamp;

use super::{Postgres, on};
use crate::idempotency::{self as statements, FoundRow, Values};

impl IdempotencyStore for Postgres {
    fn begin(
        &self,
        request: KeyedRequest,
        now: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<KeyedStart, StoreError>> {
        Box::pin(async move {
            let values = &Values::of(&request, now, lease);
            let work = on(|db| {
                let forget = sqlx::query(statements::FORGET).bind(values.now);
                let begin = sqlx::query_scalar(statements::BEGIN)
                    .bind(values.key.clone())
                    .bind(values.content.clone())
                    .bind(values.run.clone())
                    .bind(values.leased_until)
                    .bind(values.expires_at)
                    .bind(values.now);
                let found = sqlx::query_as(statements::FOUND).bind(values.key.clone());
                Box::pin(async move {
                    forget.execute(&mut *db).await?;
                    let taken: Option<String> = begin.fetch_optional(&mut *db).await?;
                    let found: Option<FoundRow> = match taken {
                        Some(_) => None,
                        None => found.fetch_optional(db).await?,
                    };
                    Ok((taken, found))
                })
            });
            let (taken, found) = self.pool.call(|| "begin a request".to_owned(), work).await?;
            statements::start(&request, taken, found, now)
        })
    }

    fn end(&self, key: &Digest, end: KeyedEnd) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let (statement, answer) = match end {
                KeyedEnd::Done(answer) => (statements::DONE, Some(statements::kept(answer))),
                KeyedEnd::Refused => (statements::REFUSED, None),
                KeyedEnd::Unknown => (statements::UNKNOWN, None),
            };
            let work = on(|db| {
                let mut query = sqlx::query(statement).bind(key.clone());
                if let Some(answer) = answer.clone() {
                    query = query.bind(i64::from(answer.status)).bind(answer.body);
                }
                Box::pin(async move { query.execute(db).await.map(drop) })
            });
            self.pool.call(|| "keep the answer to a request".to_owned(), work).await
        })
    }
}
