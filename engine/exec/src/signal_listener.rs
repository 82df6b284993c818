//! Who is driven here, and how they hear what others have to say to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fairlead_run::{Journal, Wake};
use fairlead_step::RunId;
use futures::StreamExt as _;
use tokio::sync::Notify;

use crate::cancel::Canceller;

/// The runs that an engine drives.
pub(crate) struct SignalListener {
    driven: Mutex<BTreeMap<RunId, Driven>>,
    listening: AtomicBool,
}

/// How to reach the one who drives a run.
struct Driven {
    canceller: Canceller,
    signaled: Arc<Notify>,
}

/// The entry of a driven run, for as long as it is driven.
pub(crate) struct DrivenRun {
    listener: Arc<SignalListener>,
    run: RunId,
    /// Signals may wait for the run.
    pub(crate) signaled: Arc<Notify>,
}

impl SignalListener {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { driven: Mutex::default(), listening: AtomicBool::new(false) })
    }

    fn driven(&self) -> MutexGuard<'_, BTreeMap<RunId, Driven>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that `run` is driven. Nobody else drives it: this one has its lease.
    pub(crate) fn open(self: &Arc<Self>, run: &RunId, canceller: Canceller) -> DrivenRun {
        let signaled = Arc::new(Notify::new());
        let entry = Driven { canceller, signaled: Arc::clone(&signaled) };
        self.driven().insert(run.clone(), entry);
        DrivenRun { listener: Arc::clone(self), run: run.clone(), signaled }
    }

    /// Whether a run is driven here.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.driven().contains_key(run)
    }

    /// Asks a run to stop; false when it is not driven here.
    pub(crate) fn cancel(&self, run: &RunId, by: &str, why: Option<String>) -> bool {
        self.driven().get(run).map(|driven| driven.canceller.cancel(by, why)).is_some()
    }

    /// Begins to listen to the hints of the journal, unless it does. What was posted before must be
    /// looked up.
    pub(crate) fn listen(self: &Arc<Self>, journal: &dyn Journal) {
        if self.listening.swap(true, Ordering::AcqRel) {
            return;
        }
        let listener = Arc::downgrade(self);
        let mut wakes = journal.wakes();
        tokio::spawn(async move {
            while let Some(wake) = wakes.next().await {
                let Some(listener) = Weak::upgrade(&listener) else { break };
                listener.hear(&wake);
            }
        });
    }

    fn hear(&self, wake: &Wake) {
        match wake {
            Wake::Run(run) => {
                if let Some(driven) = self.driven().get(run) {
                    driven.signaled.notify_one();
                }
            }
            Wake::All => self.driven().values().for_each(|driven| driven.signaled.notify_one()),
            // Who waits to be admitted is not driven.
            Wake::Admission => {}
        }
    }
}

impl Drop for DrivenRun {
    fn drop(&mut self) {
        self.listener.driven().remove(&self.run);
    }
}
