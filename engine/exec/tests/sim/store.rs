//! The store of the simulation: the one in memory, with trouble on the way to it, leases that can be
//! stolen, and an eye on every record that is written.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_run::{
    Admission, AppendError, Batch, Created, Journal, Lease, LeaseError, NewRun, Remembered,
    RememberedResult, RunFilter, RunStatus, RunSummary, Signal, SignalId, StoreError, StoredRun,
    StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, CancelHandle, CancelToken, Digest, RunId};
use fairlead_store::Store;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::json;

use crate::case::Trouble;
use crate::check::Watch;
use crate::rng::Rng;

/// A fault of the engine or the store that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A turn is given although there is no room.
    TurnsForAll,
    /// A record is confirmed and not kept.
    LostRecords,
    /// A result is remembered under the wrong key.
    WrongResults,
    /// Signals stay when they are dealt with.
    SignalsStay,
    /// The end of a run is not written down in the list, so that nobody takes up those that wait.
    DeafAndBlind,
}

impl Plant {
    pub(crate) const ALL: [Self; 5] = [
        Self::TurnsForAll,
        Self::LostRecords,
        Self::WrongResults,
        Self::SignalsStay,
        Self::DeafAndBlind,
    ];

    /// A part of what the simulator says then.
    pub(crate) const fn shows(self) -> &'static str {
        match self {
            Self::TurnsForAll => "at a time",
            Self::LostRecords => "took effect",
            Self::WrongResults => "gave",
            Self::SignalsStay => "signals",
            Self::DeafAndBlind => "has not ended",
        }
    }
}

/// What every server of a case shares.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) watch: Watch,
    pub(crate) plant: Option<Plant>,
    trouble: Trouble,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    /// Whether there is trouble now: it ends, so that runs can.
    troubled: bool,
    away: bool,
    leases: BTreeMap<RunId, Held>,
    serial: u64,
    /// The leases of those that were not told.
    sleepers: Vec<CancelHandle>,
}

struct Held {
    serial: u64,
    /// The lease of the store, which ends when this is dropped.
    _inner: Lease,
    lost: CancelHandle,
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
    pub(crate) fn new(seed: u64, trouble: Trouble, plant: Option<Plant>) -> Arc<Self> {
        let state = State {
            rng: Rng::of(seed, "store"),
            troubled: true,
            away: false,
            leases: BTreeMap::new(),
            serial: 0,
            sleepers: Vec::new(),
        };
        Arc::new(Self {
            store: Store::memory(),
            watch: Watch::default(),
            plant,
            trouble,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calm_down(&self) {
        let mut state = self.state();
        state.troubled = false;
        state.away = false;
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
        if let Some(Held { lost, .. }) = state.leases.remove(&run) {
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
pub(crate) struct Faulty(pub(crate) Arc<Shared>);

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
        self.0.store.journal()
    }

    async fn write(&self, mut batch: Batch) -> Result<(), AppendError> {
        let shared = &self.0;
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
        if fate == Fate::Unanswered { Err(gone().into()) } else { Ok(()) }
    }
}

impl Journal for Faulty {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        Box::pin(async move {
            self.0.watch.created(&run);
            self.journal().create(run).await
        })
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let run = run.clone();
        Box::pin(async move {
            self.0.away()?;
            let inner = self.journal().acquire(&run).await?;
            let (epoch, (handle, token)) = (inner.epoch(), CancelToken::new());
            let mut state = self.0.state();
            state.serial += 1;
            let serial = state.serial;
            state.leases.insert(run.clone(), Held { serial, _inner: inner, lost: handle });
            drop(state);
            let guard = Guard { shared: Arc::clone(&self.0), run: run.clone(), serial };
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
            let shared = &self.0;
            shared.delay().await;
            let fate = shared.fate();
            if fate == Fate::Refused {
                return Err(gone().into());
            }
            let mut admission = self.journal().admit(batch.clone(), most).await?;
            if shared.plant == Some(Plant::TurnsForAll)
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
            self.0.away()?;
            self.journal().post(&run, at, signal).await
        })
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        let run = run.clone();
        Box::pin(async move {
            self.0.away()?;
            self.journal().signals(&run).await
        })
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        let shared = Arc::clone(&self.0);
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
            self.0.away()?;
            self.journal().load(&run).await
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        Box::pin(async move {
            self.0.away()?;
            let mut runs = self.journal().list(filter).await?;
            if self.0.plant == Some(Plant::DeafAndBlind) {
                runs.retain(|run| run.status == RunStatus::Running);
            }
            Ok(runs)
        })
    }
}

impl Remembered for Faulty {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<RememberedResult>, StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            self.0.away()?;
            let mut found = self.0.store.remembered().recall(&key).await?;
            if let (Some(found), Some(Plant::WrongResults)) = (&mut found, self.0.plant) {
                found.outputs = json!({ "text": "of another", "list": [] });
            }
            Ok(found)
        })
    }

    fn remember(
        &self,
        key: &Digest,
        result: RememberedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(async move {
            self.0.away()?;
            self.0.store.remembered().remember(&key, result).await
        })
    }
}
