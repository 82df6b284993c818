//! The outbox: what is stored is put on the bus, until the bus has it.

use std::time::Duration;

use fairlead_event::CloudEvent;
use fairlead_run::{StoreError, StoredEvent};
use fairlead_step::error_chain;

use crate::server::Shared;

/// How many events are read at a time.
const BATCH: usize = 100;
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for a bus to say that it has recovered.
const BUS_PAUSE: Duration = Duration::from_secs(30);

/// Publishes until the server stops. It sleeps until something is stored, or until the bus is back.
pub(crate) async fn run(shared: &Shared) {
    let mut told = false;
    while !shared.stopping.is_cancelled() {
        let pause = match publish_all(shared, &mut told).await {
            Ok(Left::Nothing) => None,
            Ok(Left::BusAway) => Some(BUS_PAUSE),
            Err(error) => {
                tracing::error!("cannot read the outbox: {}", error_chain(&error));
                Some(STORE_PAUSE)
            }
        };
        match pause {
            None => shared.until_stopping(shared.intake.stored.notified()).await,
            Some(BUS_PAUSE) => {
                let recovered = tokio::time::timeout(BUS_PAUSE, shared.ports.bus.recovered());
                shared.until_stopping(recovered).await
            }
            Some(pause) => shared.until_stopping(tokio::time::sleep(pause)).await,
        };
    }
}

enum Left {
    Nothing,
    BusAway,
}

async fn publish_all(shared: &Shared, told: &mut bool) -> Result<Left, StoreError> {
    loop {
        let waiting = shared.ports.events.unpublished(BATCH).await?;
        if waiting.is_empty() {
            return Ok(Left::Nothing);
        }
        for stored in waiting {
            if shared.stopping.is_cancelled() {
                return Ok(Left::Nothing);
            }
            if !publish(shared, &stored, told).await? {
                return Ok(Left::BusAway);
            }
        }
    }
}

/// Whether the event needs the bus no more.
async fn publish(
    shared: &Shared,
    stored: &StoredEvent,
    told: &mut bool,
) -> Result<bool, StoreError> {
    let key = &stored.event.key;
    match CloudEvent::from_json(stored.event.document.as_bytes()) {
        Ok(event) => {
            if let Err(error) = shared.ports.bus.publish(&event).await {
                if !*told {
                    let said = error_chain(&error);
                    tracing::warn!("{said}; events are kept and published when it can");
                    *told = true;
                }
                return Ok(false);
            }
            if std::mem::take(told) {
                tracing::info!("the bus takes events again");
            }
            tracing::debug!(event = key, "published");
        }
        // Only a damaged store can say this; the next event must not wait for it.
        Err(error) => tracing::error!(event = key, "a stored event is not a CloudEvent: {error}"),
    }
    shared.ports.events.mark_published(key, shared.ports.clock.now()).await?;
    Ok(true)
}
