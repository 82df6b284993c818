//! [`DeliveryStore`] in SQLite.

use fairlead_run::{
    DeliveryFilter, DeliveryOutcome, DeliveryStore, NewDelivery, StoreError, StoredDelivery,
    TakeDeliveries,
};
use fairlead_step::BoxFuture;
use jiff::Timestamp;

use super::{Sqlite, store_error};
use crate::accept;
use crate::deliveries as sql;
use crate::values::{lasting, micros, stored, timestamp};

impl DeliveryStore for Sqlite {
    fn add(&self, messages: Vec<NewDelivery>) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            accept::new_deliveries(&messages)?;
            let forgotten = sql::forgotten(&messages);
            let doing = || "keep messages to others".to_owned();
            let added = self.writer.write(doing, move |db| {
                Box::pin(async move {
                    let mut added = 0;
                    for message in messages {
                        let done = sqlx::query(sql::ADD)
                            .bind(message.destination)
                            .bind(message.id)
                            .bind(message.kind)
                            .bind(message.about)
                            .bind(i64::from(message.replaces))
                            .bind(message.run.map(|run| run.to_string()))
                            .bind(message.document)
                            .bind(micros(message.created_at))
                            .execute(&mut *db)
                            .await?;
                        added += done.rows_affected();
                    }
                    if let Some(since) = forgotten {
                        sqlx::query(sql::FORGET).bind(since).execute(db).await?;
                    }
                    Ok(added)
                })
            });
            Ok(usize::try_from(added.await?).unwrap_or(usize::MAX))
        })
    }

    fn take(
        &self,
        wanted: TakeDeliveries,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        Box::pin(async move {
            let TakeDeliveries { destination, by, at, lease, limit } = wanted;
            let doing = || "take messages to others".to_owned();
            let rows = self.writer.write(doing, move |db| {
                Box::pin(async move {
                    sqlx::query(sql::REPLACED)
                        .bind(destination.clone())
                        .bind(micros(at))
                        .execute(&mut *db)
                        .await?;
                    sqlx::query(sql::take!(""))
                        .bind(destination)
                        .bind(micros(at))
                        .bind(by)
                        .bind(micros(at).saturating_add(lasting(lease)))
                        .bind(stored(limit as u64))
                        .fetch_all(db)
                        .await
                })
            });
            let taken: Result<Vec<_>, _> = rows.await?.iter().map(sql::stored_delivery).collect();
            let mut taken = taken?;
            taken.sort_by_key(|message| message.number);
            Ok(taken)
        })
    }

    fn settle(
        &self,
        number: u64,
        by: &str,
        became: DeliveryOutcome,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (delivered, dead, due, why) = sql::outcome(became);
        let query = sqlx::query(sql::SETTLE)
            .bind(stored(number))
            .bind(by.to_owned())
            .bind(delivered)
            .bind(dead)
            .bind(due)
            .bind(why);
        Box::pin(async move {
            let doing = || "note what became of a message".to_owned();
            self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await.map(drop)
        })
    }

    fn next_due(&self, destination: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let query = sqlx::query_scalar(sql::NEXT_DUE).bind(destination.to_owned());
        Box::pin(async move {
            let at: Option<i64> = query
                .fetch_one(&self.readers)
                .await
                .map_err(|error| store_error("look for messages to others", error))?;
            at.map(timestamp).transpose()
        })
    }

    fn send_again(&self, number: u64, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        let query = sqlx::query(sql::SEND_AGAIN).bind(stored(number)).bind(micros(at));
        Box::pin(async move {
            let doing = || "send a message again".to_owned();
            let done = self.writer.write_one(doing, |db| Box::pin(query.execute(db))).await?;
            Ok(done.rows_affected() > 0)
        })
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        Box::pin(async move {
            let rows = sql::list(filter)
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| store_error("list messages to others", error))?;
            rows.iter().map(sql::stored_delivery).collect()
        })
    }
}
