//! [`IdempotencyStore`] in SQLite.

use std::time::Duration;

use fairlead_run::{IdempotencyStore, KeyedEnd, KeyedRequest, KeyedStart, StoreError};
use fairlead_step::{BoxFuture, Digest};
use jiff::Timestamp;

use super::Sqlite;
use crate::idempotency::{self as statements, FoundRow, Values};

impl IdempotencyStore for Sqlite {
    fn begin(
        &self,
        request: KeyedRequest,
        now: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<KeyedStart, StoreError>> {
        Box::pin(async move {
            let values = Values::of(&request, now, lease);
            let doing = || "begin a request".to_owned();
            let (taken, found): (Option<String>, Option<FoundRow>) = self
                .writer
                .write(doing, move |db| {
                    Box::pin(async move {
                        sqlx::query(statements::FORGET).bind(values.now).execute(&mut *db).await?;
                        let taken = sqlx::query_scalar(statements::BEGIN)
                            .bind(values.key.clone())
                            .bind(values.content)
                            .bind(values.run)
                            .bind(values.leased_until)
                            .bind(values.expires_at)
                            .bind(values.now)
                            .fetch_optional(&mut *db)
                            .await?;
                        let found = match taken {
                            Some(_) => None,
                            None => {
                                sqlx::query_as(statements::FOUND)
                                    .bind(values.key)
                                    .fetch_optional(db)
                                    .await?
                            }
                        };
                        Ok((taken, found))
                    })
                })
                .await?;
            statements::start(&request, taken, found, now)
        })
    }

    fn end(&self, key: &Digest, end: KeyedEnd) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let query = match end {
                KeyedEnd::Done(answer) => {
                    let answer = statements::kept(answer);
                    let done = sqlx::query(statements::DONE).bind(key);
                    done.bind(i64::from(answer.status)).bind(answer.body)
                }
                KeyedEnd::Refused => sqlx::query(statements::REFUSED).bind(key),
                KeyedEnd::Unknown => sqlx::query(statements::UNKNOWN).bind(key),
            };
            let doing = || "keep the answer to a request".to_owned();
            self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await.map(drop)
        })
    }
}
