//! What others publish on a NATS subject: stored like what comes over HTTP, and acknowledged after.

use std::time::Duration;

use fairlead_event::{SubscribedDeliveries, SubscribedDelivery};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::accept::IngestError;
use super::receive::{Door, NotTaken, Receiver};

/// The pause before a message that could not be stored is asked for again.
const PAUSE: Duration = Duration::from_secs(2);

/// A source that is heard on NATS.
pub(crate) struct Subscription {
    /// Its name.
    pub(crate) source: String,
    pub(crate) receiver: Receiver,
    pub(crate) stopping: CancellationToken,
}

impl Subscription {
    /// Takes in what the source publishes, until the server stops.
    pub(crate) async fn run(self, mut deliveries: SubscribedDeliveries) {
        let source = self.source.as_str();
        loop {
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery,
                () = self.stopping.cancelled() => break,
            };
            let Some(delivery) = delivery else { break };
            let stored = self.store(&delivery).await;
            let answered = if stored { delivery.done().await } else { delivery.later(PAUSE).await };
            if let Err(error) = answered {
                // The message comes again, and is found to be stored.
                tracing::debug!(source, "{error}");
            }
        }
    }

    /// Whether the message is done with.
    async fn store(&self, delivery: &SubscribedDelivery) -> bool {
        let name = self.source.as_str();
        let Some(source) = self.receiver.sources.get().shared(name) else { return true };
        let taken =
            self.receiver.take(name, &source, &delivery.headers, &delivery.body, Door::Nats).await;
        match taken {
            Ok(_) => true,
            Err(NotTaken::Refused(error)) => {
                tracing::warn!(source = name, "a message on NATS is dropped: {error}");
                true
            }
            // It would never be stored, however often it came.
            Err(NotTaken::NotStored(error @ IngestError::Envelope { .. })) => {
                tracing::warn!(source = name, "a message on NATS is dropped: {error}");
                true
            }
            Err(NotTaken::NotStored(
                error @ (IngestError::Store(_) | IngestError::Contended { .. }),
            )) => {
                tracing::error!(source = name, "cannot store what came on NATS: {error}");
                false
            }
        }
    }
}
