//! [`DeliveryStore`] in Postgres.

use fairlead_run::{
    DeliveryFilter, DeliveryOutcome, DeliveryStore, NewDelivery, StoreError, StoredDelivery,
    TakeDeliveries,
};
use fairlead_step::BoxFuture;
use jiff::Timestamp;

use super::{Postgres, on, text};
use crate::accept;
use crate::deliveries as sql;
use crate::values::{lasting, micros, stored, timestamp};

impl DeliveryStore for Postgres {
    fn add(&self, messages: Vec<NewDelivery>) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            accept::new_deliveries(&messages)?;
            let forgotten = sql::forgotten(&messages);
            let work = on(|db| {
                let messages = messages.clone();
                Box::pin(async move {
                    // Each statement by itself: what is there already is left as it is when this comes again.
                    let mut added = 0;
                    for message in messages {
                        let done = sqlx::query(sql::ADD)
                            .bind(text(&message.destination))
                            .bind(text(&message.id))
                            .bind(text(&message.kind))
                            .bind(text(&message.about))
                            .bind(i64::from(message.replaces))
                            .bind(message.run.map(|run| run.to_string()))
                            .bind(text(&message.document))
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
            let added = self.pool.call(|| "keep messages to others".to_owned(), work).await?;
            Ok(usize::try_from(added).unwrap_or(usize::MAX))
        })
    }

    fn take(
        &self,
        wanted: TakeDeliveries,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let TakeDeliveries { destination, by, at, lease, limit } = wanted.clone();
                Box::pin(async move {
                    sqlx::query(sql::REPLACED)
                        .bind(destination.clone())
                        .bind(micros(at))
                        .execute(&mut *db)
                        .await?;
                    sqlx::query(sql::take!(" FOR UPDATE SKIP LOCKED"))
                        .bind(destination)
                        .bind(micros(at))
                        .bind(by)
                        .bind(micros(at).saturating_add(lasting(lease)))
                        .bind(stored(limit as u64))
                        .fetch_all(db)
                        .await
                })
            });
            let rows = self.pool.call(|| "take messages to others".to_owned(), work).await?;
            let taken: Result<Vec<_>, _> = rows.iter().map(sql::stored_delivery).collect();
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
        let by = by.to_owned();
        let (delivered, dead, due, why) = sql::outcome(became);
        let why = why.map(|why| text(&why).into_owned());
        Box::pin(async move {
            let query = || {
                sqlx::query(sql::SETTLE)
                    .bind(stored(number))
                    .bind(by.clone())
                    .bind(delivered)
                    .bind(dead)
                    .bind(due)
                    .bind(why.clone())
            };
            self.change(query).await.map(drop)
        })
    }

    fn next_due(&self, destination: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let destination = destination.to_owned();
        Box::pin(async move {
            let work = on(|db| {
                let query = sqlx::query_scalar(sql::NEXT_DUE).bind(destination.clone());
                Box::pin(async move { query.fetch_one(db).await })
            });
            let doing = || "look for messages to others".to_owned();
            let at: Option<i64> = self.pool.call(doing, work).await?;
            at.map(timestamp).transpose()
        })
    }

    fn send_again(&self, number: u64, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let query = || sqlx::query(sql::SEND_AGAIN).bind(stored(number)).bind(micros(at));
            Ok(self.change(query).await? > 0)
        })
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        Box::pin(async move {
            let work = on(|db| {
                let mut query = sql::list(filter.clone());
                Box::pin(async move { query.build().fetch_all(db).await })
            });
            let rows = self.pool.call(|| "list messages to others".to_owned(), work).await?;
            rows.iter().map(sql::stored_delivery).collect()
        })
    }
}
