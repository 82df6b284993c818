//! What the bus hands out, each event in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::Delivery;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempts::{Attempted, EventAttempts};

/// How many events are handled at a time that have just come.
const AT_A_TIME: usize = 16;
/// After how long an event is not a quick one, whose place is for others.
const QUICK: Duration = Duration::from_secs(5);
/// How many events are handled at a time beside those, because they take long: the history of a large
/// repository, a registry that does not answer.
const LONG_AT_A_TIME: usize = 48;
/// The longest pause before the bus is asked for an event again that the store could not be asked
/// about, in units of the first one.
const LONGEST: u32 = 60;

/// What handles the events that the bus hands out.
pub(crate) struct Deliveries {
    pub(crate) attempts: Arc<EventAttempts>,
    /// The first pause before the bus is asked for an event again.
    pub(crate) retry: Duration,
    /// The tasks that handle events.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Deliveries {
    /// Handles what the bus hands out, until the server stops. An event that cannot be handled is the
    /// store's to hand out again, and no longer that of the bus.
    pub(crate) async fn run(self, mut deliveries: fairlead_event::Deliveries) {
        let this = Arc::new(self);
        let slots = Arc::new(Semaphore::new(AT_A_TIME));
        let long_slots = Arc::new(Semaphore::new(LONG_AT_A_TIME));
        loop {
            let delivery = tokio::select! {
                delivery = deliveries.next() => delivery,
                () = this.stopping.cancelled() => break,
            };
            let Some(delivery) = delivery else { break };
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let (task, long_slots) = (Arc::clone(&this), Arc::clone(&long_slots));
            this.tasks.spawn(async move {
                let mut answering = std::pin::pin!(task.answer(delivery));
                if tokio::time::timeout(QUICK, &mut answering).await.is_ok() {
                    return;
                }
                // What is slow goes on, beside the places of what is quick while there is room for that.
                let slot = match long_slots.try_acquire_owned() {
                    Ok(long) => {
                        drop(slot);
                        long
                    }
                    Err(_) => slot,
                };
                answering.await;
                drop(slot);
            });
        }
    }

    async fn answer(&self, delivery: Delivery) {
        let event = match &delivery.event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!("a message on the bus is no event, and is dropped: {error}");
                tell(delivery.done().await);
                return;
            }
        };
        let (id, tries) = (event.id.clone(), delivery.attempt);
        let attempted = attended(&delivery, self.attempts.attempt(&id)).await;
        let answered = match attempted {
            Attempted::Noted => delivery.done().await,
            Attempted::Away { why } => {
                let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
                let pause: Duration = self.retry * (1 << doublings).min(LONGEST);
                tracing::warn!(event = id, tries, "event is asked for again in {pause:?}: {why}");
                delivery.later(pause).await
            }
        };
        tell(answered);
    }
}

/// Does the work, and lets the bus know that it goes on for as long as it does.
async fn attended<T>(delivery: &Delivery, work: impl Future<Output = T>) -> T {
    let Some(patience) = delivery.patience() else { return work.await };
    let mut work = std::pin::pin!(work);
    loop {
        // Often enough that a word may be lost.
        match tokio::time::timeout(patience / 3, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(delivery.progress().await),
        }
    }
}

fn tell(answered: Result<(), fairlead_event::BusError>) {
    if let Err(error) = answered {
        // The message comes again, and finds its event handled or claimed.
        tracing::debug!("{error}");
    }
}
