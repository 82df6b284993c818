//! What the store hands out itself: events that could not be handled when they came, and those that
//! the bus has not handed out in time, because it is away, or has lost them, or cannot take them.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{EventStore, StoreError};
use fairlead_step::{Clock, error_chain};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempts::{Attempted, EventAttempts};

/// How many events are handled at a time that were not handled when they came. They have places of
/// their own: what fails again and again never takes that of what has just come.
const AT_A_TIME: usize = 16;
/// How many events are looked at at a time, and when the server starts.
const BATCH: usize = 64;
const FIRST_BATCH: usize = 1000;
/// The longest time between two looks. What another process has postponed, or was asked to try again,
/// nobody tells.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The shortest one, when everything that is due is under way.
const BREATH: Duration = Duration::from_millis(20);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What hands out the events that are due.
pub(crate) struct Redelivery {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) attempts: Arc<EventAttempts>,
    /// Told when an event is due, or will be.
    pub(crate) due: Arc<Notify>,
    /// The tasks that handle events.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Redelivery {
    /// Hands out what is due, until the server stops.
    pub(crate) async fn run(self) {
        let slots = Arc::new(Semaphore::new(AT_A_TIME));
        // What an earlier process put on a bus that ended with it is due only in a while.
        let mut first = true;
        while !self.stopping.is_cancelled() {
            let pause = match self.hand_out(&slots, first).await {
                Ok(pause) => {
                    first = false;
                    pause
                }
                Err(error) => {
                    tracing::error!("cannot look for events that are due: {}", error_chain(&error));
                    STORE_PAUSE
                }
            };
            let told = tokio::time::timeout(pause, self.due.notified());
            self.stopping.run_until_cancelled(told).await;
        }
    }

    /// Answers how long to wait until something else is due.
    async fn hand_out(&self, slots: &Arc<Semaphore>, first: bool) -> Result<Duration, StoreError> {
        let batch = if first { FIRST_BATCH } else { BATCH };
        let now = self.clock.now();
        let due = self.events.due(batch).await?;
        let is_full = due.len() == batch;
        let mut pause = LOOK_AGAIN;
        for event in due {
            if event.due_at > now && !(first && event.fresh) {
                let left = Duration::try_from(event.due_at.duration_since(now)).unwrap_or_default();
                pause = pause.min(left.max(Duration::from_millis(1)));
                if first {
                    continue;
                }
                return Ok(pause);
            }
            if self.attempts.has(&event.key) {
                pause = pause.min(BREATH);
                continue;
            }
            let slot = tokio::select! {
                slot = Arc::clone(slots).acquire_owned() => slot,
                () = self.stopping.cancelled() => return Ok(pause),
            };
            let Ok(slot) = slot else { return Ok(pause) };
            let (attempts, stopping) = (Arc::clone(&self.attempts), self.stopping.clone());
            self.tasks.spawn(async move {
                if let Attempted::Away { why } = attempts.attempt(&event.key).await {
                    // It is still due, and the next look says so when the store is back.
                    tracing::warn!(event = event.key, "event stays pending: {why}");
                    stopping.run_until_cancelled(tokio::time::sleep(STORE_PAUSE)).await;
                }
                drop(slot);
            });
        }
        Ok(if is_full { pause.min(BREATH) } else { pause })
    }
}
