//! [`ResultCache`] in Postgres.

use std::sync::Arc;

use fairlead_run::{CachedResult, ResultCache, StoreError};
use fairlead_step::{BoxFuture, Digest};

use super::{Postgres, on};
use crate::values::{damaged, micros, run_id, timestamp};

impl ResultCache for Postgres {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let work = on(|db| {
                let query =
                    sqlx::query_as("SELECT run, step, at, outputs FROM remembered WHERE key = $1")
                        .bind(key.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let found: Option<(String, String, i64, String)> =
                self.pool.call(|| "recall a result".to_owned(), work).await?;
            let Some((run, step, at, outputs)) = found else { return Ok(None) };
            let unreadable = |error| damaged("a remembered result is not readable", error);
            Ok(Some(CachedResult {
                run: run_id(&run)?,
                step: step.parse().map_err(|error| damaged("a step's name", error))?,
                at: timestamp(at)?,
                outputs: serde_json::from_str(&outputs).map_err(unreadable)?,
            }))
        })
    }

    fn remember(
        &self,
        key: &Digest,
        result: CachedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let result = Arc::new(result);
            let work = on(|db| {
                let query = sqlx::query(
                    "INSERT INTO remembered (key, run, step, at, outputs) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) DO UPDATE SET \
                     run = excluded.run, step = excluded.step, at = excluded.at, \
                     outputs = excluded.outputs",
                )
                .bind(key.clone())
                .bind(result.run.to_string())
                .bind(result.step.to_string())
                .bind(micros(result.at))
                .bind(result.outputs.to_string());
                Box::pin(async move { query.execute(db).await.map(|_| ()) })
            });
            self.pool.call(|| "remember a result".to_owned(), work).await
        })
    }
}
