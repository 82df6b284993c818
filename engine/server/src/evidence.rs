//! News of evidence: a signature or an attestation that is pushed lets the steps that ask for it ask at
//! once.

use fairlead_event::ImagePushed;
use fairlead_run::{Run, RunFilter, RunStatus, RunSummary, Signal, StoreError};
use fairlead_step::{Digest, error_chain};

use crate::server::Shared;

/// Docker's own manifests have no `subject`, whoever pushes them.
const WITHOUT_SUBJECT: &str = "application/vnd.docker.";

/// Tells the runs that ask about an image when a push is evidence about it. While the push is `young`,
/// its registry may not show it yet. An error says what was away.
pub(crate) async fn tell(shared: &Shared, push: &ImagePushed, young: bool) -> Result<(), String> {
    let about = match push.tag.as_deref() {
        Some(tag) => evidence_about(tag),
        None => subject(shared, push, young).await?,
    };
    let Some(about) = about else { return Ok(()) };
    let about = push.repository.at(about).to_string();
    let why = format!("{} was pushed", push.reference());
    tell_all(shared, &about, &why).await.map_err(|error| error_chain(&error))
}

/// The digest of the image that a tag such as `sha256-….sig` is evidence about, by the conventions of
/// cosign and of the referrers' fallback.
fn evidence_about(tag: &str) -> Option<Digest> {
    let hex = tag.strip_prefix("sha256-")?;
    let hex = hex.split_once('.').map_or(hex, |(hex, _)| hex);
    format!("sha256:{hex}").parse().ok()
}

/// The digest of the image that a manifest without a tag says it is about. The event does not say it,
/// so the registry is asked, unless there is nobody who could be asking.
async fn subject(
    shared: &Shared,
    push: &ImagePushed,
    young: bool,
) -> Result<Option<Digest>, String> {
    let Some(digest) = &push.digest else { return Ok(None) };
    if push.media_type.as_deref().is_some_and(|kind| kind.starts_with(WITHOUT_SUBJECT)) {
        return Ok(None);
    }
    let any = RunFilter { unfinished: true, limit: 1, ..RunFilter::default() };
    let any = shared.ports.journal.list(any).await.map_err(|error| error_chain(&error))?;
    if any.is_empty() {
        return Ok(None);
    }
    let image = push.repository.at(digest.clone());
    let asked = tokio::time::timeout(shared.options.registry, shared.ports.images.subject(&image));
    let problem = match asked.await {
        Ok(Ok(subject)) => return Ok(subject),
        Ok(Err(error)) => error.chain(),
        Err(_) => "its registry did not answer in time".to_owned(),
    };
    let problem = format!("cannot learn what {image} is about: {problem}");
    if young {
        return Err(problem);
    }
    // Whoever waits for it asks again by itself; a registry that this server may not read must not
    // keep its events for ever.
    tracing::warn!("{problem}");
    Ok(None)
}

/// Tells every run that asks about the image, page by page.
async fn tell_all(shared: &Shared, about: &str, why: &str) -> Result<(), StoreError> {
    let limit = RunFilter::MOST;
    let mut filter = RunFilter { unfinished: true, limit, ..RunFilter::default() };
    loop {
        let page = shared.ports.journal.list(filter.clone()).await?;
        filter.before =
            (page.len() == limit).then(|| page.last().map(|run| run.id.clone())).flatten();
        for run in page.iter().filter(|run| may_ask(run.status)) {
            match tell_one(shared, run, about, why).await {
                Ok(()) | Err(StoreError::RunEnded { .. } | StoreError::NoSuchRun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // What was created since asks only now, and is answered as it should be.
        if filter.before.is_none() || shared.stopping.is_cancelled() {
            return Ok(());
        }
    }
}

/// Whether a run may have a step that asks again. One whose other steps go on may, too.
const fn may_ask(status: RunStatus) -> bool {
    match status {
        RunStatus::Running
        | RunStatus::Waiting
        | RunStatus::NeedsAttention
        | RunStatus::Cancelling => true,
        RunStatus::Queued | RunStatus::Ended(_) => false,
    }
}

async fn tell_one(
    shared: &Shared,
    run: &RunSummary,
    about: &str,
    why: &str,
) -> Result<(), StoreError> {
    let stored = shared.ports.journal.load(&run.id).await?;
    match Run::restore(&stored) {
        // Looked up first: to post a signal is to write, and makes somebody take the run up.
        Ok(state) if state.asks_about(about).is_empty() => return Ok(()),
        Ok(_) => {}
        Err(error) => {
            tracing::error!(run = %run.id, "the journal does not make a run: {error}");
            return Ok(());
        }
    }
    let signal = Signal::Notice { about: about.to_owned(), why: why.to_owned() };
    shared.ports.journal.post(&run.id, shared.ports.clock.now(), signal).await.map(drop)
}
