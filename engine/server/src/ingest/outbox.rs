//! The outbox: what is stored is put on the bus, until the bus has it or nobody needs it there any
//! more. An event that the bus does not take holds up no other: the store hands it out.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Bus, BusError, CloudEvent};
use fairlead_run::{EventStore, StoreError, StoredEvent};
use fairlead_step::{Clock, error_chain};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::accept::{Ingest, later};

/// How many events are read at a time.
const BATCH: usize = 100;
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for a bus to say that it has recovered.
const BUS_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a bus that can be reached refused events.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// After how many events that a bus refuses although it can be reached the others wait for that pause,
/// too. Each may take as long as the bus has to answer.
const REFUSALS: usize = 3;
/// How long the bus has to hand an event out, before the store does.
const LOST: Duration = Duration::from_secs(30);

/// What puts stored events on the bus.
pub(crate) struct Outbox {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Who says that something new is stored.
    pub(crate) ingest: Arc<Ingest>,
    /// Told when the store is to hand an event out.
    pub(crate) due: Arc<Notify>,
    pub(crate) stopping: CancellationToken,
}

enum Left {
    Nothing,
    /// The bus takes nothing now.
    BusAway,
    /// It is there, and does not take some events.
    Refused,
}

/// What the bus did with an event.
enum Sent {
    Taken,
    /// It will never take it.
    Unfit,
    /// It does not take it now.
    Refused,
    /// It takes nothing now.
    Away,
}

impl Outbox {
    /// Publishes until the server stops. It sleeps until something is stored, or until the bus is back.
    pub(crate) async fn run(self) {
        let mut told = false;
        while !self.stopping.is_cancelled() {
            match self.publish_all(&mut told).await {
                Ok(Left::Nothing) => self.until_stopping(self.ingest.stored()).await,
                Ok(Left::BusAway) => {
                    let recovered = tokio::time::timeout(BUS_PAUSE, self.bus.recovered());
                    self.until_stopping(recovered).await;
                }
                // It says that it is there: to ask at once would only be a busy loop.
                Ok(Left::Refused) => {
                    self.until_stopping(tokio::time::sleep(REFUSED_PAUSE)).await;
                }
                Err(error) => {
                    tracing::error!("cannot read the outbox: {}", error_chain(&error));
                    self.until_stopping(tokio::time::sleep(STORE_PAUSE)).await;
                }
            }
        }
    }

    async fn until_stopping(&self, work: impl Future) {
        self.stopping.run_until_cancelled(work).await;
    }

    async fn publish_all(&self, told: &mut bool) -> Result<Left, StoreError> {
        loop {
            let waiting = self.events.unpublished(BATCH).await?;
            if waiting.is_empty() {
                return Ok(Left::Nothing);
            }
            let (mut taken, mut unfit, mut refused, mut away) = (Vec::new(), Vec::new(), 0, false);
            for stored in waiting {
                if self.stopping.is_cancelled() {
                    break;
                }
                match self.publish(&stored, told).await {
                    Sent::Taken => taken.push(stored.key),
                    Sent::Unfit => unfit.push(stored.key),
                    Sent::Refused => refused += 1,
                    Sent::Away => away = true,
                }
                if away || refused == REFUSALS {
                    break;
                }
            }
            // One statement for all of them.
            let now = self.clock.now();
            if !taken.is_empty() {
                self.events.mark_published(taken, now, later(now, LOST)).await?;
            }
            if !unfit.is_empty() {
                self.events.mark_published(unfit, now, now).await?;
                self.due.notify_one();
            }
            if away || refused > 0 {
                // Those that are left are due soon, and are handed out by the store.
                self.due.notify_one();
                return Ok(if away { Left::BusAway } else { Left::Refused });
            }
            if self.stopping.is_cancelled() {
                return Ok(Left::Nothing);
            }
        }
    }

    async fn publish(&self, stored: &StoredEvent, told: &mut bool) -> Sent {
        let key = &stored.key;
        let event = match CloudEvent::from_json(stored.document.as_bytes()) {
            Ok(event) => event,
            // Only a damaged store can say this; whoever handles it says that it cannot be read.
            Err(error) => {
                tracing::error!(event = key, "a stored event is not a CloudEvent: {error}");
                return Sent::Unfit;
            }
        };
        let error = match self.bus.publish(&event).await {
            Ok(()) => {
                if std::mem::take(told) {
                    tracing::info!("the bus takes events again");
                }
                tracing::debug!(event = key, "published");
                return Sent::Taken;
            }
            Err(error) => error,
        };
        let said = error_chain(&error);
        match error {
            BusError::TooLarge { .. } => {
                tracing::warn!(event = key, "{said}; it is handled without the bus");
                return Sent::Unfit;
            }
            BusError::Unavailable { .. } if self.bus.reachable() => {
                tracing::warn!(event = key, "{said}; the others are published all the same");
                return Sent::Refused;
            }
            BusError::Unavailable { .. }
            | BusError::Full { .. }
            | BusError::Unsupported { .. }
            | _ => {}
        }
        if !*told {
            tracing::warn!("{said}; events are handled without it until it can");
            *told = true;
        }
        Sent::Away
    }
}
