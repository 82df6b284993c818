//! One attempt at an event. It is claimed in the store first, so that nobody else handles it, here or
//! in another server; and whatever becomes of it is written down: it is handled, it comes again, or
//! it is a dead letter.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_run::{Claimed, EventStore, StoreError, StoredEvent};
use fairlead_step::{Clock, error_chain};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::decide::{Triggers, source_of};
use crate::ingest::later;
use crate::telemetry::Metrics;

/// How many attempts follow one another quickly: each pause is twice the one before it, up to
/// [`LONGEST`]. Together they take some seven minutes, which is longer than the restart of a registry
/// or of a forge.
const QUICK: u32 = 12;
/// The longest pause between two quick attempts, in units of the first one: a minute.
const LONGEST: u32 = 60;
/// The pause between attempts after that, in units of the first one: five minutes. Few enough that a
/// thousand such events cost nothing, and soon enough that nobody starts the run by hand meanwhile.
const SLOW: u32 = 300;
/// More attempts than there can be in [`Patience::give_up`]: an event that ends the process each
/// time never comes to say what was wrong.
const MOST: u32 = 400;
/// For how long an event is claimed. A server that dies leaves it to others for so long, as it does
/// its runs.
const LEASE: Duration = Duration::from_secs(15);
/// How long one attempt may take. The history of a large repository takes minutes; what takes
/// longer hangs.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Why an event was not handled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something was away; the same again may work.
    Later(String),
    /// It will never work: the event, or the pipeline, has to be another one.
    Never(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Later(why)
    }
}

/// What an attempt came to, for whoever handed the event out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// The store knows what comes next.
    Noted,
    /// The store was away, and knows nothing.
    Away {
        /// What it said.
        why: String,
    },
}

/// The events that this process handles now.
#[derive(Default)]
struct Handling(Mutex<BTreeSet<String>>);

impl Handling {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the event is being handled.
    fn has(&self, key: &str) -> bool {
        self.keys().contains(key)
    }

    /// None when it is being handled already. A claim alone would not do: it may lapse while the
    /// store is away, and whoever has it here goes on.
    fn begin<'a>(&'a self, key: &'a str) -> Option<Busy<'a>> {
        let is_new = self.keys().insert(key.to_owned());
        // Made only when it is: whoever drops it gives the event back.
        is_new.then(|| Busy { handling: self, key })
    }
}

struct Busy<'a> {
    handling: &'a Handling,
    key: &'a str,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.handling.keys().remove(self.key);
    }
}

/// How patient the attempts at an event are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The pause before the second attempt.
    pub(crate) retry: Duration,
    /// How old an event is at its last attempt.
    pub(crate) give_up: Duration,
}

/// What makes attempts at events.
pub(crate) struct EventAttempts {
    events: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    triggers: Triggers,
    patience: Patience,
    /// The events that this process handles now.
    handling: Handling,
    /// Who this server is when it claims an event.
    holder: String,
    /// Told when an event is due, or will be.
    due: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl EventAttempts {
    pub(crate) fn new(
        events: Arc<dyn EventStore>,
        clock: Arc<dyn Clock>,
        triggers: Triggers,
        patience: Patience,
        due: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let holder = format!("{:032x}", rand::random::<u128>());
        let handling = Handling::default();
        Self { events, clock, triggers, patience, handling, holder, due, metrics }
    }

    /// Whether this process handles the event now.
    pub(super) fn has(&self, key: &str) -> bool {
        self.handling.has(key)
    }

    /// Handles an event, unless it is over or somebody else does. May be called any number of times, also
    /// at the same time, for the same event.
    pub(crate) async fn attempt(&self, key: &str) -> Attempted {
        let Some(_busy) = self.handling.begin(key) else { return Attempted::Noted };
        match self.claimed(key).await {
            Ok(()) => Attempted::Noted,
            Err(error) => Attempted::Away { why: error_chain(&error) },
        }
    }

    async fn claimed(&self, key: &str) -> Result<(), StoreError> {
        let events = &self.events;
        let now = || self.clock.now();
        let stored = match events.claim(key, &self.holder, now(), LEASE).await? {
            Claimed::Yes(stored) => stored,
            Claimed::Unknown => {
                tracing::warn!(
                    event = key,
                    "the bus has an event that is not in this store; dropped"
                );
                return Ok(());
            }
            Claimed::Held | Claimed::Over(_) => return Ok(()),
        };
        let failure = if stored.attempts > MOST {
            let last = stored.reason.as_deref().unwrap_or("each ended with its process");
            Failure::Never(format!("{MOST} attempts have not handled it: {last}"))
        } else {
            let work = tokio::time::timeout(DEADLINE, self.triggers.handle(&stored));
            let done = tokio::select! {
                done = work => done,
                () = self.lost(key) => {
                    tracing::warn!(event = key, "the claim of the event was lost; another handles it");
                    return Ok(());
                }
            };
            match done {
                Ok(Ok(())) => {
                    events.mark_handled(key, now()).await?;
                    self.over(&stored, true);
                    return Ok(());
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Later(format!("it took longer than {DEADLINE:?}")),
            }
        };
        self.failed(&stored, failure, now()).await
    }

    /// Renews the claim until it is another's, or may be.
    async fn lost(&self, key: &str) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let now = self.clock.now();
            let asked = Instant::now();
            let asking = self.events.renew(key, &self.holder, now, LEASE);
            match tokio::time::timeout(LEASE / 3, asking).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(_)) | Err(_) if renewed.elapsed() < LEASE - LEASE / 3 => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Writes down why an event was not handled, and when it comes again, if it does.
    async fn failed(
        &self,
        stored: &StoredEvent,
        failure: Failure,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (events, key, attempt) = (&self.events, &stored.key, stored.attempts);
        let next = match &failure {
            Failure::Later(_) => next(stored, self.patience, now),
            Failure::Never(_) => None,
        };
        let (Failure::Later(why) | Failure::Never(why)) = failure;
        if let Some(pause) = next {
            tracing::warn!(event = key, attempt, "event is tried again in {pause:?}: {why}");
            events.postpone(key, &self.holder, later(now, pause), &why).await?;
            self.due.notify_one();
            return Ok(());
        }
        tracing::error!(event = key, attempt, "event is a dead letter: {why}");
        events.give_up(key, &self.holder, now, &why).await?;
        self.over(stored, false);
        Ok(())
    }

    /// Measures how long it took until the event was over.
    fn over(&self, stored: &StoredEvent, handled: bool) {
        let lag = self.clock.now().duration_since(stored.received_at);
        let lag = Duration::try_from(lag).unwrap_or(Duration::ZERO);
        self.metrics.event_over(&source_of(&stored.document), lag, handled);
    }
}

/// The pause before the next attempt; none when there is to be none.
fn next(stored: &StoredEvent, patience: Patience, now: Timestamp) -> Option<Duration> {
    let doublings = stored.attempts.saturating_sub(1).min(10);
    if stored.attempts < QUICK {
        return Some(patience.retry * (1 << doublings).min(LONGEST));
    }
    let age = now.duration_since(stored.received_at);
    let most = SignedDuration::try_from(patience.give_up).unwrap_or(SignedDuration::MAX);
    (age < most).then(|| patience.retry * SLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_quick_then_slow_and_end_after_a_day() {
        let day = Duration::from_secs(24 * 3600);
        let patience = Patience { retry: Duration::from_secs(1), give_up: day };
        let received_at = Timestamp::from_second(1_790_000_000).unwrap();
        let stored = |attempts| StoredEvent {
            key: "key".into(),
            id: "key".into(),
            received_at,
            document: String::new(),
            published_at: None,
            handled_at: None,
            dead_at: None,
            attempts,
            due_at: received_at,
            reason: None,
        };
        let pauses = (1..=QUICK).map(|n| next(&stored(n), patience, received_at));
        let pauses: Vec<u64> = pauses.map(|pause| pause.unwrap().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 300]);
        let (before, after) = (later(received_at, day * 99 / 100), later(received_at, day));
        assert_eq!(next(&stored(290), patience, before), Some(Duration::from_secs(300)));
        assert_eq!(next(&stored(290), patience, after), None);
        assert_eq!(next(&stored(3), patience, after), Some(Duration::from_secs(4)));
        assert!(u64::from(MOST) > u64::from(QUICK) + day.as_secs() / 300);
    }

    #[test]
    fn an_event_is_handled_once_at_a_time() {
        let handling = Handling::default();
        let busy = handling.begin("key").unwrap();
        assert!(handling.begin("key").is_none() && handling.begin("other").is_some());
        drop(busy);
        assert!(!handling.has("key") && handling.begin("key").is_some());
    }
}
