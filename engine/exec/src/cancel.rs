//! How a run is told to stop.

use tokio::sync::mpsc;

/// How many requests may wait. Two have an effect: the first stops the main steps, the second
/// stops `finally`, too.
const WAITING: usize = 4;

/// A request to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CancelRequest {
    pub(crate) by: String,
    pub(crate) why: Option<String>,
}

/// Tells a run to stop.
///
/// The first request stops the main steps and lets `finally` run; the second stops those as well.
#[derive(Debug, Clone)]
pub struct Canceller(mpsc::Sender<CancelRequest>);

/// The other end of a [`Canceller`]: what the driver of a run listens to.
#[derive(Debug)]
pub struct Cancellation {
    sender: Canceller,
    requests: mpsc::Receiver<CancelRequest>,
    /// One that was seen, and not yet taken.
    seen: Option<CancelRequest>,
}

/// A canceller, and the end to drive a run with.
#[must_use]
pub fn cancellation() -> (Canceller, Cancellation) {
    let (sender, requests) = mpsc::channel(WAITING);
    let sender = Canceller(sender);
    (sender.clone(), Cancellation { sender, requests, seen: None })
}

impl Canceller {
    /// Asks the run to stop. It stops as soon as its steps do.
    pub fn cancel(&self, by: impl Into<String>, why: Option<String>) {
        // When it is full, enough is said.
        let _ = self.0.try_send(CancelRequest { by: by.into(), why });
    }
}

impl Cancellation {
    pub(crate) fn canceller(&self) -> Canceller {
        self.sender.clone()
    }

    /// Whether there is a request now.
    pub(crate) fn has_waiting(&mut self) -> bool {
        if self.seen.is_none() {
            self.seen = self.requests.try_recv().ok();
        }
        self.seen.is_some()
    }

    /// The next request, if there is one now.
    pub(crate) fn waiting(&mut self) -> Option<CancelRequest> {
        self.seen.take().or_else(|| self.requests.try_recv().ok())
    }

    /// Waits until there is a request, and leaves it. Safe to drop and call again.
    pub(crate) async fn arrived(&mut self) {
        if self.seen.is_none() {
            self.seen = Some(self.requested().await);
        }
    }

    /// The next request. Safe to drop and call again.
    pub(crate) async fn requested(&mut self) -> CancelRequest {
        if let Some(seen) = self.seen.take() {
            return seen;
        }
        match self.requests.recv().await {
            Some(request) => request,
            // There is always a sender, the one in here.
            None => std::future::pending().await,
        }
    }
}
