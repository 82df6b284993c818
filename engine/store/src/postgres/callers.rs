//! [`TokenStore`] and [`AuditLog`] in Postgres.

use fairlead_run::{
    AuditEntry, AuditLog, AuditRecord, RecordHash, Revoked, Seq, StoreError, StoredToken,
    TokenStore,
};
use fairlead_step::{BoxFuture, Digest};
use jiff::Timestamp;

use super::{Postgres, on, text, unavailable};
use crate::callers::{self, TokenRow};
use crate::values::{micros, stored, timestamp};

/// How often a place in the audit log is tried for that others take first. Each failure is the success of
/// somebody else.
const RACES: usize = 100;

impl TokenStore for Postgres {
    fn create(&self, token: StoredToken) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let id = token.id.clone();
            let row = callers::token_row(token)?;
            let work = on(|db| {
                let row = row.clone();
                Box::pin(async move {
                    sqlx::query(callers::CREATE_TOKEN)
                        .bind(row.0)
                        .bind(row.1)
                        .bind(text(&row.2))
                        .bind(text(&row.3))
                        .bind(row.4)
                        .bind(text(&row.5))
                        .bind(row.6)
                        .bind(row.7)
                        .bind(row.8)
                        .bind(row.9)
                        .execute(db)
                        .await
                })
            });
            let done = self.pool.call(|| "keep a token".to_owned(), work).await?;
            if done.rows_affected() == 1 { Ok(()) } else { Err(callers::token_exists(&id)) }
        })
    }

    fn by_hash<'a>(
        &'a self,
        hash: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(callers::TOKEN_BY_HASH).bind(hash.to_string());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let row: Option<TokenRow> =
                self.pool.call(|| "look up a token".to_owned(), work).await?;
            row.map(callers::token).transpose()
        })
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<StoredToken>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                Box::pin(async move { sqlx::query_as(callers::TOKENS).fetch_all(db).await })
            });
            let rows: Vec<TokenRow> = self.pool.call(|| "list tokens".to_owned(), work).await?;
            rows.into_iter().map(callers::token).collect()
        })
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Revoked, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let revoke = sqlx::query_as(callers::REVOKE_TOKEN).bind(id.to_owned());
                let revoke = revoke.bind(micros(at));
                let before = sqlx::query_scalar(callers::REVOKED_AT).bind(id.to_owned());
                Box::pin(async move {
                    Ok(match revoke.fetch_optional(&mut *db).await? {
                        Some(row) => Ok(row),
                        None => Err(before.fetch_optional(db).await?),
                    })
                })
            });
            let done: Result<TokenRow, Option<i64>> =
                self.pool.call(|| "revoke a token".to_owned(), work).await?;
            Ok(match done {
                Ok(row) => Revoked::Now(Box::new(callers::token(row)?)),
                Err(Some(before)) => Revoked::Before(timestamp(before)?),
                Err(None) => Revoked::Unknown,
            })
        })
    }

    fn used<'a>(&'a self, id: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query(callers::TOKEN_USED).bind(id.to_owned()).bind(micros(at));
                Box::pin(async move { query.execute(db).await.map(drop) })
            });
            self.pool.call(|| "note the use of a token".to_owned(), work).await
        })
    }
}

impl AuditLog for Postgres {
    fn append(
        &self,
        at: Timestamp,
        entry: AuditEntry,
    ) -> BoxFuture<'_, Result<AuditRecord, StoreError>> {
        Box::pin(async move {
            for _ in 0..RACES {
                let last = self.last_entry().await?;
                let record = callers::audit_next(last.as_deref(), at, entry.clone())?;
                let work = on(|db| {
                    let query = sqlx::query(callers::AUDIT_APPEND)
                        .bind(stored(record.seq().0))
                        .bind(record.bytes().to_owned());
                    Box::pin(async move { query.execute(db).await })
                });
                let doing = || "write to the audit log".to_owned();
                if self.pool.call(doing, work).await?.rows_affected() == 1 {
                    return Ok(record);
                }
            }
            Err(unavailable("write to the audit log", "too many write to it at once"))
        })
    }

    fn read(
        &self,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar(callers::AUDIT_READ)
                    .bind(stored(after.0))
                    .bind(callers::audit_page(limit));
                Box::pin(async move { query.fetch_all(db).await })
            });
            let rows: Vec<String> =
                self.pool.call(|| "read the audit log".to_owned(), work).await?;
            rows.iter().map(|bytes| callers::audit_record(bytes)).collect()
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Seq, RecordHash)>, StoreError>> {
        Box::pin(async move {
            let last = self.last_entry().await?;
            let last = last.as_deref().map(callers::audit_record).transpose()?;
            Ok(last.map(|record| (record.seq(), record.hash())))
        })
    }
}

impl Postgres {
    async fn last_entry(&self) -> Result<Option<String>, StoreError> {
        let work = on(|db| {
            Box::pin(
                async move { sqlx::query_scalar(callers::AUDIT_HEAD).fetch_optional(db).await },
            )
        });
        self.pool.call(|| "read the audit log".to_owned(), work).await
    }
}
