//! Evidence that arrives: a signature or an attestation that is pushed lets the steps that ask for it ask at
//! once.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::ImagePushed;
use fairlead_run::{Journal, Run, RunFilter, RunStatus, RunSummary, Signal, StoreError};
use fairlead_step::{Clock, Digest, error_chain};
use tokio_util::sync::CancellationToken;

use crate::ports::ImageResolver;

/// Docker's own manifests have no `subject`, whoever pushes them.
const WITHOUT_SUBJECT: &str = "application/vnd.docker.";

/// What tells runs of evidence.
pub(crate) struct Evidence {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
    pub(crate) stopping: CancellationToken,
}

impl Evidence {
    /// Tells the runs that ask about an image when a push is evidence about it. While the push is `young`,
    /// its registry may not show it yet. An error says what was away.
    pub(super) async fn tell(&self, push: &ImagePushed, young: bool) -> Result<(), String> {
        let about = match push.tag.as_deref() {
            Some(tag) => evidence_about(tag),
            None => self.subject(push, young).await?,
        };
        let Some(about) = about else { return Ok(()) };
        let about = push.repository.at(about).to_string();
        let why = format!("{} was pushed", push.reference());
        self.tell_all(&about, &why).await.map_err(|error| error_chain(&error))
    }

    /// The digest of the image that a manifest without a tag says it is about. The event does not say it,
    /// so the registry is asked, unless there is nobody who could be asking.
    async fn subject(&self, push: &ImagePushed, young: bool) -> Result<Option<Digest>, String> {
        let Some(digest) = &push.digest else { return Ok(None) };
        if push.media_type.as_deref().is_some_and(|kind| kind.starts_with(WITHOUT_SUBJECT)) {
            return Ok(None);
        }
        let any = RunFilter { unfinished: true, limit: 1, ..RunFilter::default() };
        let any = self.journal.list(any).await.map_err(|error| error_chain(&error))?;
        if any.is_empty() {
            return Ok(None);
        }
        let image = push.repository.at(digest.clone());
        let asked = tokio::time::timeout(self.registry, self.images.subject(&image));
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
    async fn tell_all(&self, about: &str, why: &str) -> Result<(), StoreError> {
        let limit = RunFilter::MOST;
        let mut filter = RunFilter { unfinished: true, limit, ..RunFilter::default() };
        loop {
            let page = self.journal.list(filter.clone()).await?;
            filter.before =
                (page.len() == limit).then(|| page.last().map(|run| run.id.clone())).flatten();
            for run in page.iter().filter(|run| may_ask(run.status)) {
                match self.tell_one(run, about, why).await {
                    Ok(()) | Err(StoreError::RunEnded { .. } | StoreError::NoSuchRun { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            // What was created since asks only now, and is answered as it should be.
            if filter.before.is_none() || self.stopping.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn tell_one(&self, run: &RunSummary, about: &str, why: &str) -> Result<(), StoreError> {
        let stored = self.journal.load(&run.id).await?;
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
        self.journal.post(&run.id, self.clock.now(), signal).await.map(drop)
    }
}

/// The digest of the image that a tag such as `sha256-….sig` is evidence about, by the conventions of
/// cosign and of the referrers' fallback.
fn evidence_about(tag: &str) -> Option<Digest> {
    let hex = tag.strip_prefix("sha256-")?;
    let hex = hex.split_once('.').map_or(hex, |(hex, _)| hex);
    format!("sha256:{hex}").parse().ok()
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
