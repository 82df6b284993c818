//! [`ResultCache`] in SQLite.

use fairlead_run::{CachedResult, ResultCache, StoreError};
use fairlead_step::{BoxFuture, Digest};

use super::{Sqlite, store_error};
use crate::runs;
use crate::values::micros;

impl ResultCache for Sqlite {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let found: Option<(String, String, i64, String)> = sqlx::query_as(runs::RECALL)
                .bind(key)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| store_error("recall a result", error))?;
            found.map(runs::cached_result).transpose()
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
                            sqlx::query(runs::REMEMBER)
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
