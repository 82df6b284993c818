//! [`TokenStore`] and [`AuditLog`] in SQLite.

use fairlead_run::{
    AuditEntry, AuditLog, AuditRecord, RecordHash, Revoked, Seq, StoreError, StoredToken,
    TokenStore,
};
use fairlead_step::{BoxFuture, Digest};
use jiff::Timestamp;

use super::{Sqlite, store_error};
use crate::callers::{self, TokenRow};
use crate::values::{micros, stored, timestamp};

impl TokenStore for Sqlite {
    fn create(&self, token: StoredToken) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let id = token.id.clone();
            let row = callers::token_row(token)?;
            let query = sqlx::query(callers::CREATE_TOKEN)
                .bind(row.0)
                .bind(row.1)
                .bind(row.2)
                .bind(row.3)
                .bind(row.4)
                .bind(row.5)
                .bind(row.6)
                .bind(row.7)
                .bind(row.8)
                .bind(row.9);
            let doing = || "keep a token".to_owned();
            let done = self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await?;
            if done.rows_affected() == 1 { Ok(()) } else { Err(callers::token_exists(&id)) }
        })
    }

    fn by_hash<'a>(
        &'a self,
        hash: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        Box::pin(async move {
            let row: Option<TokenRow> = sqlx::query_as(callers::TOKEN_BY_HASH)
                .bind(hash.to_string())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("look up a token", error))?;
            row.map(callers::token).transpose()
        })
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<StoredToken>, StoreError>> {
        Box::pin(async move {
            let rows: Vec<TokenRow> = sqlx::query_as(callers::TOKENS)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list tokens", error))?;
            rows.into_iter().map(callers::token).collect()
        })
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Revoked, StoreError>> {
        let id = id.to_owned();
        Box::pin(async move {
            let doing = || "revoke a token".to_owned();
            let done: Result<TokenRow, Option<i64>> = self
                .writer
                .write(doing, move |db| {
                    Box::pin(async move {
                        let revoked = sqlx::query_as(callers::REVOKE_TOKEN)
                            .bind(id.clone())
                            .bind(micros(at))
                            .fetch_optional(&mut *db)
                            .await?;
                        Ok(match revoked {
                            Some(row) => Ok(row),
                            None => Err(sqlx::query_scalar(callers::REVOKED_AT)
                                .bind(id)
                                .fetch_optional(db)
                                .await?),
                        })
                    })
                })
                .await?;
            Ok(match done {
                Ok(row) => Revoked::Now(Box::new(callers::token(row)?)),
                Err(Some(before)) => Revoked::Before(timestamp(before)?),
                Err(None) => Revoked::Unknown,
            })
        })
    }

    fn used<'a>(&'a self, id: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        let query = sqlx::query(callers::TOKEN_USED).bind(id.to_owned()).bind(micros(at));
        Box::pin(async move {
            let doing = || "note the use of a token".to_owned();
            self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await.map(drop)
        })
    }
}

impl AuditLog for Sqlite {
    fn append(
        &self,
        at: Timestamp,
        entry: AuditEntry,
    ) -> BoxFuture<'_, Result<AuditRecord, StoreError>> {
        Box::pin(async move {
            // One writer at a time, of all processes: whoever has read the last entry is the next.
            let doing = || "write to the audit log".to_owned();
            self.writer
                .write(doing, move |db| {
                    Box::pin(async move {
                        let last: Option<String> = sqlx::query_scalar(callers::AUDIT_HEAD)
                            .fetch_optional(&mut *db)
                            .await?;
                        let record = match callers::audit_next(last.as_deref(), at, entry) {
                            Ok(record) => record,
                            Err(error) => return Ok(Err(error)),
                        };
                        sqlx::query(callers::AUDIT_APPEND)
                            .bind(stored(record.seq().0))
                            .bind(record.bytes().to_owned())
                            .execute(db)
                            .await?;
                        Ok(Ok(record))
                    })
                })
                .await?
        })
    }

    fn read(
        &self,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        Box::pin(async move {
            let rows: Vec<String> = sqlx::query_scalar(callers::AUDIT_READ)
                .bind(stored(after.0))
                .bind(callers::audit_page(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("read the audit log", error))?;
            rows.iter().map(|bytes| callers::audit_record(bytes)).collect()
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Seq, RecordHash)>, StoreError>> {
        Box::pin(async move {
            let last: Option<String> = sqlx::query_scalar(callers::AUDIT_HEAD)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("read the audit log", error))?;
            let last = last.as_deref().map(callers::audit_record).transpose()?;
            Ok(last.map(|record| (record.seq(), record.hash())))
        })
    }
}
