//! The sweep: finds what a lost message, an outage or the end of a process left behind.

use std::time::Duration;

use fairlead_event::CloudEvent;
use fairlead_run::{RunFilter, RunStatus, StoreError};
use fairlead_step::error_chain;
use jiff::{SignedDuration, Timestamp};

use crate::server::Shared;
use crate::triggers;

/// The runs of a page, and the most events that one sweep takes up. The next sweep takes the next.
const BATCH: usize = 1000;
/// How long somebody who has just created a run may take to begin driving it.
const BEGINNING: Duration = Duration::from_secs(60);

/// Takes up what an earlier process left, and then what wakes, and now and again what was lost since.
pub(crate) async fn run(shared: &Shared) {
    let mut wakes = shared.ports.journal.wakes();
    let mut first = true;
    while !shared.stopping.is_cancelled() {
        // Nobody else can be about to drive what is left from before this process began, but for
        // those who use the same store; those that are new are theirs.
        let age = if first { Duration::ZERO } else { BEGINNING };
        if let Err(error) = sweep(shared, age, first).await {
            tracing::error!("cannot look for what was left: {}", error_chain(&error));
        }
        first = false;
        let attended = shared.drives.attend(&mut wakes);
        let _ = tokio::time::timeout(shared.options.sweep, attended).await;
    }
}

/// Takes up the runs that nobody drives, page by page, and takes note of those that only wait.
async fn runs(
    shared: &Shared,
    old: impl Fn(Timestamp) -> bool,
    first: bool,
) -> Result<(), StoreError> {
    let mut filter = RunFilter { unfinished: true, limit: BATCH, ..RunFilter::default() };
    loop {
        let page = shared.ports.journal.list(filter.clone()).await?;
        let last = (page.len() == BATCH).then(|| page.last().map(|run| run.id.clone())).flatten();
        for run in page.into_iter().filter(|run| !run.held && old(run.requested_at)) {
            match run.status {
                RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued
                    if !run.signaled =>
                {
                    shared.drives.park(&run);
                }
                RunStatus::Waiting | RunStatus::NeedsAttention | RunStatus::Queued => {
                    shared.drives.begin(run.id);
                }
                RunStatus::Running | RunStatus::Cancelling => {
                    if first {
                        tracing::info!(
                            run = %run.id, pipeline = run.pipeline, "going on with the run"
                        );
                    }
                    shared.drives.begin(run.id);
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
    shared.drives.turns();
    Ok(())
}

async fn sweep(shared: &Shared, age: Duration, first: bool) -> Result<(), StoreError> {
    let now = shared.ports.clock.now();
    let old = |at: Timestamp| {
        now.duration_since(at) >= SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)
    };
    runs(shared, old, first).await?;
    // What is not published is the outbox's. What was published is on a bus that may have ended with
    // the process; where it has not, the event comes twice, which is harmless.
    let patience = Duration::from_secs(30);
    for stored in shared.ports.events.unhandled(BATCH).await? {
        let since = stored.published_at.map(|at| now.duration_since(at));
        let lost = since.is_some_and(|since| {
            first || since >= SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX)
        });
        if lost && !shared.stopping.is_cancelled() {
            tracing::info!(event = stored.event.key, "handling an event that was left");
            // At the start the bus is the better way, for it tries again soon. Later it may take
            // the event for one that it has had, and drop it.
            let document = stored.event.document.as_bytes();
            if first
                && let Ok(event) = CloudEvent::from_json(document)
                && shared.ports.bus.publish(&event).await.is_ok()
            {
                continue;
            }
            if let triggers::Handled::Later { why } =
                triggers::handle(shared, &stored.event.key).await
            {
                tracing::warn!(event = stored.event.key, "event stays pending: {why}");
            }
        }
    }
    Ok(())
}
