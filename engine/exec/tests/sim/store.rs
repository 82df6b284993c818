//! The store of the simulation: the one in memory, with trouble on the way to it, leases that can be
//! stolen, and an eye on every record that is written.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_run::{
    Admission, AppendError, Batch, CachedResult, Created, Head, Journal, Lease, LeaseError, NewRun,
    ResultCache, RunFilter, RunStatus, RunSummary, Signal, SignalId, StoreError, StoredRun,
    StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, CancelHandle, CancelToken, Digest, RunId};
use fairlead_store::Store;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::case::Trouble;
use crate::check::Watch;
use crate::rng::Rng;
use crate::steps::Outside;

/// A fault of the engine or the store that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A run is admitted although there is no room.
    AdmissionForAll,
    /// A record is confirmed and not kept.
    LostRecords,
    /// A result is cached under the wrong key.
    WrongResults,
    /// Signals stay when they are dealt with.
    SignalsStay,
    /// The end of a run is not written down in the list, so that nobody takes up those that wait.
    DeafAndBlind,
    /// Nobody is told that a lease could not be renewed.
    SilentLeases,
}

impl Plant {
    pub(crate) const ALL: [Self; 6] = [
        Self::AdmissionForAll,
        Self::LostRecords,
        Self::WrongResults,
        Self::SignalsStay,
        Self::DeafAndBlind,
        Self::SilentLeases,
    ];

    /// A part of what the simulator says then.
    pub(crate) const fn shows(self) -> &'static str {
        match self {
            Self::AdmissionForAll => "at a time",
            Self::LostRecords => "took effect",
            Self::WrongResults => "gave",
            Self::SignalsStay => "signals",
            Self::DeafAndBlind => "has not ended",
            Self::SilentLeases => "beside",
        }
    }
}

/// What every server of a case shares.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) watch: Watch,
    pub(crate) plant: Option<Plant>,
    trouble: Trouble,
    outside: Arc<Outside>,
    state: Mutex<State>,
    /// Somebody the store did not answer may be answered now.
    answers: Notify,
}

struct State {
    rng: Rng,
    /// Whether there is trouble now: it ends, so that runs can.
    troubled: bool,
    away: bool,
    /// The servers that are not answered, and until when.
    hung: BTreeMap<usize, Instant>,
    leases: BTreeMap<RunId, Held>,
    serial: u64,
    /// The leases of those that were not told.
    sleepers: Vec<CancelHandle>,
}

struct Held {
    serial: u64,
    server: usize,
    /// When it was last renewed.
    since: Instant,
    /// The lease of the store, which ends when this is dropped.
    _inner: Lease,
    /// Taken when the holder was told.
    lost: Option<CancelHandle>,
}

/// What becomes of one write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    Refused,
    /// It is written, and the answer is lost.
    Unanswered,
}

impl Shared {
    pub(crate) fn new(
        seed: u64,
        trouble: Trouble,
        plant: Option<Plant>,
        outside: Arc<Outside>,
    ) -> Arc<Self> {
        let state = State {
            rng: Rng::of(seed, "store"),
            troubled: true,
            away: false,
            hung: BTreeMap::new(),
            leases: BTreeMap::new(),
            serial: 0,
            sleepers: Vec::new(),
        };
        Arc::new(Self {
            store: Store::memory(),
            watch: Watch::default(),
            plant,
            trouble,
            outside,
            state: Mutex::new(state),
            answers: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calm_down(&self) {
        let mut state = self.state();
        state.troubled = false;
        state.away = false;
        state.hung.clear();
        drop(state);
        self.answers.notify_waiters();
    }

    /// Does not answer a server for so long.
    pub(crate) fn hang(&self, server: usize, time: Duration) {
        self.state().hung.insert(server, Instant::now() + time);
    }

    /// Waits while this server is not answered.
    async fn reach(&self, server: usize) {
        loop {
            let answers = self.answers.notified();
            let until = self.state().hung.get(&server).copied();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = answers => {}
                    }
                }
                None => return,
            }
        }
    }

    /// Renews the leases of those that are answered. Who is not is told at two thirds of the time of its
    /// leases, and loses them at the end.
    pub(crate) async fn renew_leases(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LEASE / 30).await;
            let mut guard = self.state();
            let State { troubled, hung, leases, sleepers, .. } = &mut *guard;
            if !*troubled {
                return;
            }
            let now = Instant::now();
            let silent = self.plant == Some(Plant::SilentLeases);
            leases.retain(|_, held| {
                let age = now - held.since;
                if hung.get(&held.server).is_none_or(|until| *until <= now) && held.lost.is_some() {
                    if age >= LEASE / 3 {
                        held.since = now;
                    }
                    return true;
                }
                if age >= LEASE * 2 / 3
                    && !silent
                    && let Some(lost) = held.lost.take()
                {
                    lost.cancel();
                }
                if age >= LEASE {
                    // To drop it would tell the holder.
                    sleepers.extend(held.lost.take());
                    return false;
                }
                true
            });
        }
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// Ends a lease although its holder lives. It is told, or learns it when it writes.
    pub(crate) fn steal_one(&self, told: bool) {
        let mut state = self.state();
        let runs: Vec<RunId> = state.leases.keys().cloned().collect();
        if runs.is_empty() {
            return;
        }
        let run = state.rng.pick(&runs).clone();
        if let Some(Held { lost: Some(lost), .. }) = state.leases.remove(&run) {
            self.outside.stolen(run);
            if told {
                lost.cancel();
            } else {
                state.sleepers.push(lost);
            }
        }
    }

    fn fate(&self) -> Fate {
        let mut state = self.state();
        if state.away {
            return Fate::Refused;
        }
        if !state.troubled || !self.trouble.appends {
            return Fate::Good;
        }
        match state.rng.below(24) {
            0 => Fate::Refused,
            1 => Fate::Unanswered,
            _ => Fate::Good,
        }
    }

    async fn delay(&self) {
        let millis = self.state().rng.below(4);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    fn away(&self) -> Result<(), StoreError> {
        if self.state().away { Err(gone()) } else { Ok(()) }
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { doing: "reach the store".to_owned(), source: "it is away".into() }
}

/// The store as one server sees it.
pub(crate) struct Faulty {
    pub(crate) shared: Arc<Shared>,
    pub(crate) server: usize,
}

/// Whoever is no server, and is always answered.
pub(crate) const NOBODY: usize = usize::MAX;

/// How long a lease lasts that is not renewed.
const LEASE: Duration = Duration::from_secs(3);

/// Gives a lease back when its holder is done, unless it is another's by then.
struct Guard {
    shared: Arc<Shared>,
    run: RunId,
    serial: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.leases.get(&self.run).is_some_and(|held| held.serial == self.serial) {
            state.leases.remove(&self.run);
        }
    }
}

impl Faulty {
    fn journal(&self) -> Arc<dyn Journal> {
        self.shared.store.journal()
    }

    async fn write(&self, mut batch: Batch) -> Result<(), AppendError> {
        let shared = &self.shared;
        shared.reach(self.server).await;
        shared.delay().await;
        let fate = shared.fate();
        if fate == Fate::Refused {
            return Err(gone().into());
        }
        let lost = shared.plant == Some(Plant::LostRecords) && batch.records.len() == 1;
        if lost && shared.state().rng.one_in(5) {
            return Ok(());
        }
        if shared.plant == Some(Plant::SignalsStay) {
            batch.taken.clear();
        }
        self.journal().append(batch.clone()).await?;
        shared.watch.written(&batch);
        shared.delay().await;
        shared.reach(self.server).await;
        if fate == Fate::Unanswered { Err(gone().into()) } else { Ok(()) }
    }
}

impl Journal for Faulty {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async move {
            self.shared.watch.created(&run);
            self.journal().create(run).await
        })
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let run = run.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            let inner = self.journal().acquire(&run).await?;
            let (epoch, (handle, token)) = (inner.epoch(), CancelToken::new());
            let mut state = self.shared.state();
            state.serial += 1;
            let (serial, server) = (state.serial, self.server);
            let (since, lost) = (Instant::now(), Some(handle));
            state.leases.insert(run.clone(), Held { serial, server, since, _inner: inner, lost });
            drop(state);
            let guard = Guard { shared: Arc::clone(&self.shared), run: run.clone(), serial };
            Ok(Lease::new(run, epoch, token, Box::new(guard)))
        })
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(self.write(batch))
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        Box::pin(async move {
            let shared = &self.shared;
            shared.reach(self.server).await;
            shared.delay().await;
            let fate = shared.fate();
            if fate == Fate::Refused {
                return Err(gone().into());
            }
            let mut admission = self.journal().admit(batch.clone(), most).await?;
            if shared.plant == Some(Plant::AdmissionForAll)
                && matches!(admission, Admission::Wait { .. })
            {
                self.journal().append(batch.clone()).await?;
                admission = Admission::Admitted;
            }
            shared.watch.asked(&batch, &admission, most);
            if fate == Fate::Unanswered { Err(gone().into()) } else { Ok(admission) }
        })
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            self.journal().post(&run, at, signal).await
        })
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            self.journal().signals(&run).await
        })
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        let shared = Arc::clone(&self.shared);
        let heard = move |wake: Wake| {
            let deaf = shared.trouble.deaf && shared.state().rng.one_in(2);
            let deaf = deaf || shared.plant == Some(Plant::DeafAndBlind);
            let twice = shared.state().rng.one_in(10);
            let copies = if deaf { 0 } else { 1 + usize::from(twice) };
            futures::stream::iter(vec![wake; copies])
        };
        self.journal().wakes().flat_map(heard).boxed()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            self.journal().load(&run).await
        })
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            self.journal().head(&run).await
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            let mut runs = self.journal().list(filter).await?;
            if self.shared.plant == Some(Plant::DeafAndBlind) {
                runs.retain(|run| run.status == RunStatus::Running);
            }
            Ok(runs)
        })
    }
}

impl ResultCache for Faulty {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            let mut found = self.shared.store.result_cache().recall(&key).await?;
            if let (Some(found), Some(Plant::WrongResults)) = (&mut found, self.shared.plant) {
                found.outputs = json!({ "text": "of another", "list": [] });
            }
            Ok(found)
        })
    }

    fn remember(
        &self,
        key: &Digest,
        result: CachedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            self.shared.reach(self.server).await;
            self.shared.away()?;
            self.shared.store.result_cache().remember(&key, result).await
        })
    }
}
