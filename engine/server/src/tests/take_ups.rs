//! A journal that counts how often a run is taken up; whatever it is asked, the store answers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fairlead_run::{
    Admission, AppendError, Batch, Created, Head, Journal, Lease, LeaseError, NewRun, RunFilter,
    RunSummary, Signal, SignalId, StoreError, StoredRun, StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;

pub(super) struct Counting {
    store: Arc<dyn Journal>,
    takings: Arc<AtomicUsize>,
}

impl Counting {
    pub(super) fn new(store: Arc<dyn Journal>, takings: Arc<AtomicUsize>) -> Self {
        Self { store, takings }
    }
}

impl Journal for Counting {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        self.store.create(run)
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        self.takings.fetch_add(1, Ordering::SeqCst);
        self.store.acquire(run)
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        self.store.append(batch)
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        self.store.admit(batch, most)
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        self.store.post(run, at, signal)
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        self.store.signals(run)
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        self.store.wakes()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        self.store.load(run)
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head(run)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        self.store.list(filter)
    }
}
