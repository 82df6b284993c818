//! What others publish on a NATS subject: stored like what comes over HTTP, and acknowledged after.

use std::time::Duration;

use fairlead_event::{Incoming, SubscribedDeliveries, SubscribedDelivery};
use futures::StreamExt as _;

use crate::ingest::IngestError;
use crate::server::Shared;

/// The pause before a message that could not be stored is asked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// Takes in what the source publishes, until the server stops.
pub(crate) async fn run(shared: &Shared, source: &str, mut deliveries: SubscribedDeliveries) {
    loop {
        let delivery = tokio::select! {
            delivery = deliveries.next() => delivery,
            () = shared.stopping.cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        let stored = store(shared, source, &delivery).await;
        let answered = if stored { delivery.done().await } else { delivery.later(PAUSE).await };
        if let Err(error) = answered {
            // The message comes again, and is found to be stored.
            tracing::debug!(source, "{error}");
        }
    }
}

/// Whether the message is done with.
async fn store(shared: &Shared, name: &str, delivery: &SubscribedDelivery) -> bool {
    let Some(source) = shared.ports.sources.get(name) else { return true };
    let received = source.sender.receive(Incoming {
        headers: &delivery.headers,
        body: &delivery.body,
        now: shared.ports.clock.now(),
        trusted_channel: true,
    });
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            tracing::warn!(source = name, "a message on NATS is dropped: {error}");
            return true;
        }
    };
    for why in &received.ignored {
        tracing::debug!(source = name, "ignored: {why}");
    }
    for why in &received.refused {
        tracing::warn!(source = name, "a part of a message on NATS is refused: {why}");
    }
    for event in received.events {
        match shared.ingest.accept(name, event).await {
            Ok(accepted) => tracing::info!(
                source = name,
                event = accepted.id,
                duplicate = accepted.duplicate,
                "{}",
                accepted.subject
            ),
            // It would never be stored, however often it came.
            Err(error @ IngestError::Envelope { .. }) => {
                tracing::warn!(source = name, "a message on NATS is dropped: {error}");
            }
            Err(error @ (IngestError::Store(_) | IngestError::Contended { .. })) => {
                tracing::error!(source = name, "cannot store what came on NATS: {error}");
                return false;
            }
        }
    }
    true
}
