//! The runs that are to be gone on with: those that are woken or whose time comes, and those that an
//! outage or the end of a process left behind. Events have loops of their own.

use std::time::Duration;

use fairlead_run::{RunFilter, RunStatus, StoreError, Wake};
use fairlead_step::error_chain;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

use crate::server::Shared;

/// The runs of a page.
const BATCH: usize = 1000;
/// How long somebody who has just created a run may take to begin driving it.
const BEGINNING: Duration = Duration::from_secs(60);

/// Goes on with the runs that are woken or whose time comes, until the server stops. It does nothing
/// else, so that nothing else can hold it up.
pub(crate) async fn attend(shared: &Shared, mut wakes: BoxStream<'static, Wake>) {
    while !shared.stopping.is_cancelled() {
        shared.supervisor.attend(&mut wakes).await;
        // Hints were lost: everything is to be looked at.
        shared.missed.notify_one();
    }
}

/// Takes up what an earlier process left, and now and again what was left since.
pub(crate) async fn run(shared: &Shared) {
    let mut first = true;
    while !shared.stopping.is_cancelled() {
        // Nobody else can be about to drive what is left from before this process began, but for
        // those who use the same store; those that are new are theirs.
        let age = if first { Duration::ZERO } else { BEGINNING };
        if let Err(error) = runs(shared, age, first).await {
            tracing::error!("cannot look for what was left: {}", error_chain(&error));
        }
        first = false;
        let missed = tokio::time::timeout(shared.options.sweep, shared.missed.notified());
        shared.until_stopping(missed).await;
    }
}

/// Takes up the runs that nobody drives, page by page, and takes note of those that only wait.
async fn runs(shared: &Shared, age: Duration, first: bool) -> Result<(), StoreError> {
    let now = shared.ports.clock.now();
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let old = |at: Timestamp| now.duration_since(at) >= age;
    let mut filter = RunFilter { unfinished: true, limit: BATCH, ..RunFilter::default() };
    loop {
        let page = shared.ports.journal.list(filter.clone()).await?;
        let last = (page.len() == BATCH).then(|| page.last().map(|run| run.id.clone())).flatten();
        for run in page.into_iter().filter(|run| !run.held && old(run.requested_at)) {
            match run.status {
                RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued
                    if !run.signaled =>
                {
                    shared.supervisor.park(&run);
                }
                RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued => {
                    shared.supervisor.begin(run.id);
                }
                RunStatus::Running | RunStatus::Cancelling => {
                    if first {
                        tracing::info!(
                            run = %run.id, pipeline = run.pipeline, "going on with the run"
                        );
                    }
                    shared.supervisor.begin(run.id);
                }
                RunStatus::Ended(_) => {}
            }
        }
        match last {
            Some(last) if !shared.stopping.is_cancelled() => filter.before = Some(last),
            Some(_) | None => break,
        }
    }
    // Only now, for the pages go back in time: who is on the last one comes first.
    shared.supervisor.turns();
    Ok(())
}
