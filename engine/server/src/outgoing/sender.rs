//! Sending what is in the store: one task for each destination, so that none waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{DeliveryOutcome, StoreError, StoredDelivery, TakeDeliveries};
use fairlead_step::error_chain;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::couriers::{Courier, DeliveryError};
use super::producer::Outgoing;

/// For how long messages are taken. A server that dies leaves them to others for so long.
const LEASE: Duration = Duration::from_secs(60);
/// How long one message may take to be taken.
const DEADLINE: Duration = Duration::from_secs(20);
/// How many are taken at a time.
const BATCH: usize = 32;
/// How many are under way at a destination at a time; of those about one thing, one.
const AT_ONCE: usize = 8;
/// The longest sleep: what another server left behind is found then.
const LONGEST: Duration = Duration::from_secs(60);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// The pause before the second attempt. It doubles with each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How many attempts there are: some fourteen hours of them.
const ATTEMPTS: u32 = 24;

/// What sends messages.
#[derive(Clone)]
pub(crate) struct Senders {
    pub(crate) outgoing: Outgoing,
    /// Who this server is when it takes messages.
    pub(crate) holder: String,
    pub(crate) stopping: CancellationToken,
}

impl Senders {
    /// Sends to every destination there is, as they come and go, until the server stops.
    pub(crate) async fn run<T>(self, mut changed: watch::Receiver<Arc<T>>) {
        let mut sending: BTreeMap<String, CancellationToken> = BTreeMap::new();
        loop {
            let destinations = self.outgoing.destinations.get();
            sending.retain(|name, stop| {
                let stays = destinations.has(name);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for name in destinations.0.keys() {
                if !sending.contains_key(name) {
                    let stop = self.stopping.child_token();
                    sending.insert(name.clone(), stop.clone());
                    let (this, name) = (self.clone(), name.clone());
                    tokio::spawn(async move { this.send_to(&name, &stop).await });
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                changed = changed.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn send_to(&self, name: &str, stop: &CancellationToken) {
        let mut added = self.outgoing.added.subscribe();
        while !stop.is_cancelled() {
            added.mark_unchanged();
            let pause = match self.turn(name).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(destination = name, "nothing is sent: {}", error_chain(&error));
                    STORE_PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = added.changed() => {}
            }
        }
    }

    /// Sends what is due, and answers how long it is until there is more.
    async fn turn(&self, name: &str) -> Result<Duration, StoreError> {
        let Some(destination) = self.outgoing.destinations.get().0.get(name).cloned() else {
            return Ok(LONGEST);
        };
        let store = &self.outgoing.deliveries;
        let wanted = TakeDeliveries {
            destination: name.to_owned(),
            by: self.holder.clone(),
            at: self.outgoing.clock.now(),
            lease: LEASE,
            limit: BATCH,
        };
        let begun = Instant::now();
        let taken = store.take(wanted).await?;
        if taken.is_empty() {
            let Some(next) = store.next_due(name).await? else { return Ok(LONGEST) };
            let left = next.duration_since(self.outgoing.clock.now());
            return Ok(Duration::try_from(left).unwrap_or_default().min(LONGEST));
        }
        // Those about one thing one after the other, the others beside each other.
        let mut about: BTreeMap<String, Vec<StoredDelivery>> = BTreeMap::new();
        for message in taken {
            about.entry(message.message.about.clone()).or_default().push(message);
        }
        let courier = &*destination.courier;
        let sent = futures::stream::iter(about.into_values().map(|messages| async move {
            for message in messages {
                // What is not begun in time is left to whoever takes it next.
                if begun.elapsed() + DEADLINE > LEASE {
                    return Ok(());
                }
                self.send(courier, &message).await?;
            }
            Ok(())
        }));
        let results: Vec<Result<(), StoreError>> = sent.buffer_unordered(AT_ONCE).collect().await;
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(Duration::ZERO)
    }

    async fn send(
        &self,
        courier: &dyn Courier,
        message: &StoredDelivery,
    ) -> Result<(), StoreError> {
        let delivered = tokio::time::timeout(DEADLINE, courier.deliver(message)).await;
        let delivered = delivered.unwrap_or_else(|_| {
            let message = format!("it was not taken within {DEADLINE:?}");
            Err(DeliveryError { message, again: true, after: None })
        });
        let now = self.outgoing.clock.now();
        let (destination, id) = (&message.message.destination, &message.message.id);
        let became = match delivered {
            Ok(()) => DeliveryOutcome::Delivered { at: now },
            Err(error) => match pause(&error, message.attempts) {
                Some(pause) => {
                    tracing::warn!(destination, id, "sent again in {pause:?}: {error}");
                    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                    let due_at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
                    DeliveryOutcome::Later { due_at, reason: error.message }
                }
                None => {
                    tracing::error!(destination, id, "not sent any more: {error}");
                    DeliveryOutcome::GivenUp { at: now, reason: error.message }
                }
            },
        };
        self.outgoing.deliveries.settle(message.number, &self.holder, became).await
    }
}

/// The pause before the next attempt; none when there is to be none.
fn pause(error: &DeliveryError, attempts: u32) -> Option<Duration> {
    if !error.again || attempts >= ATTEMPTS {
        return None;
    }
    let doublings = attempts.saturating_sub(1).min(16);
    let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    // A little more or less, so that what failed together does not come back together.
    let pause = pause.mul_f64(rand::random_range(0.9..1.1));
    Some(error.after.map_or(pause, |after| after.clamp(pause, LONGEST_PAUSE.max(pause))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded_and_farther_apart_each_time() {
        let error = |again, after| DeliveryError { message: "away".into(), again, after };
        let mut whole = Duration::ZERO;
        let mut last = Duration::ZERO;
        for attempt in 1..ATTEMPTS {
            let pause = pause(&error(true, None), attempt).unwrap();
            assert!(pause * 2 > last && pause <= LONGEST_PAUSE * 2, "{attempt}: {pause:?}");
            (last, whole) = (pause, whole + pause);
        }
        assert!(whole > Duration::from_secs(12 * 3600) && whole < Duration::from_secs(24 * 3600));
        assert_eq!(pause(&error(true, None), ATTEMPTS), None);
        assert_eq!(pause(&error(false, None), 1), None);
        // What the destination asks for counts, within bounds.
        let minute = Duration::from_secs(60);
        assert_eq!(pause(&error(true, Some(minute)), 1), Some(minute));
        assert_eq!(pause(&error(true, Some(minute * 600)), 1), Some(LONGEST_PAUSE));
    }
}
