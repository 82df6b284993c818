//! [`ResultCache`] in SQLite.

use fairlead_run::{CachedResult, ResultCache, StoreError};
use fairlead_step::{BoxFuture, Digest};

use super::{Sqlite, store_error};
use crate::values::{damaged, micros, run_id, timestamp};

impl ResultCache for Sqlite {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let found: Option<(String, String, i64, String)> =
                sqlx::query_as("SELECT run, step, at, outputs FROM remembered WHERE key = ?")
                    .bind(key)
                    .fetch_optional(&self.readers)
                    .await
                    .map_err(|error| store_error("recall a result", error))?;
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
            self.writer
                .write(
                    || "remember a result".to_owned(),
                    move |db| {
                        Box::pin(async move {
                            sqlx::query(
                                "INSERT INTO remembered (key, run, step, at, outputs) \
                                 VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET \
                                 run = excluded.run, step = excluded.step, at = excluded.at, \
                                 outputs = excluded.outputs",
                            )
                            .bind(key)
                            .bind(result.run.as_str())
                            .bind(result.step.as_str())
                            .bind(micros(result.at))
                            .bind(result.outputs.to_string())
                            .execute(db)
                            .await
                            .map(|_| ())
                        })
                    },
                )
                .await
        })
    }
}
