//! Everything but logs and artifacts in memory: for tests, and for runs that nobody needs to find
//! again.

mod callers;
mod deliveries;
mod events;
mod idempotency;
mod journal;
mod prune;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fairlead_run::{
    AuditRecord, CachedResult, Epoch, Group, Record, ResultCache, RunSummary, StoreError,
    StoredEvent, StoredSignal, StoredToken, TagPush,
};
use fairlead_step::{BoxFuture, Digest, RunId};
use jiff::Timestamp;

use crate::notifier::Notifier;

#[derive(Default)]
struct State {
    /// The last number given to a run, a signal or an event.
    last: u64,
    plans: BTreeMap<Digest, Bytes>,
    runs: BTreeMap<RunId, MemoryRun>,
    held: BTreeSet<RunId>,
    signals: BTreeMap<RunId, Vec<StoredSignal>>,
    events: BTreeMap<u64, MemoryEvent>,
    number_of: BTreeMap<String, u64>,
    /// The keys of events that are gone, and when those were received.
    keys: BTreeMap<String, Timestamp>,
    /// The last pushes to each tag by their numbers, and when they were received.
    tags: BTreeMap<String, BTreeMap<u64, (Timestamp, TagPush)>>,
    started: BTreeMap<(String, String), RunId>,
    watermarks: BTreeMap<String, Timestamp>,
    checkpoints: BTreeMap<String, String>,
    /// In the order in which they were made.
    deliveries: Vec<deliveries::MemoryDelivery>,
    cached: BTreeMap<String, CachedResult>,
    /// In the order in which they were made.
    tokens: Vec<StoredToken>,
    audit: Vec<AuditRecord>,
    keyed: BTreeMap<Digest, idempotency::Keyed>,
}

struct MemoryEvent {
    stored: StoredEvent,
    /// Who has claimed it, and until when.
    claim: Option<(String, Timestamp)>,
    /// The tag that it is a push to.
    tag: Option<String>,
}

struct MemoryRun {
    summary: RunSummary,
    plan: Digest,
    records: Vec<Record>,
    epoch: Epoch,
    group: Option<Group>,
    admitted: bool,
}

impl MemoryRun {
    fn has_ended(&self) -> bool {
        self.summary.ended_at.is_some()
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn event(&self, key: &str) -> Option<&StoredEvent> {
        self.events.get(self.number_of.get(key)?).map(|event| &event.stored)
    }
}

/// Everything, behind one lock that is never held across a wait.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    notifier: Arc<Notifier>,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        self.notifier.silence();
    }
}

fn ready<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl ResultCache for Memory {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        ready(Ok(self.state().cached.get(&key.to_string()).cloned()))
    }

    fn remember(
        &self,
        key: &Digest,
        result: CachedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state().cached.insert(key.to_string(), result);
        ready(Ok(()))
    }
}
