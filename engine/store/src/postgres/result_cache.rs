//! [`ResultCache`] in Postgres.

use std::sync::Arc;

use fairlead_run::{CachedResult, ResultCache, StoreError};
use fairlead_step::{BoxFuture, Digest};

use super::{Postgres, on};
use crate::runs;
use crate::values::micros;

impl ResultCache for Postgres {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let key = key.to_string();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_as(runs::RECALL).bind(key.clone());
                Box::pin(async move { query.fetch_optional(db).await })
            });
            let found: Option<(String, String, i64, String)> =
                self.pool.call(|| "recall a result".to_owned(), work).await?;
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
            let result = Arc::new(result);
            let work = on(|db| {
                let query = sqlx::query(runs::REMEMBER)
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
