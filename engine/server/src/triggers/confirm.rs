//! What an event says is a hint: its registry or its forge is asked before anything begins.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{ImagePushed, SourceEvent};
use fairlead_step::{CheckoutOptions, Clock, GitWorkspace, ImageRef, StepError, Workspace};
use jiff::{SignedDuration, Timestamp};

use super::commits;
use crate::current::Current;
use crate::ingest::{Ingest, Sources};
use crate::ports::{Forges, ImageResolver};

/// What is known of an event besides what it says.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    /// Its identity.
    pub(super) key: &'a str,
    /// The name of its source.
    pub(super) source: &'a str,
    /// When it was first reported.
    pub(super) received_at: Timestamp,
}

/// What asks the sources of events.
#[derive(Clone)]
pub(crate) struct Confirmation {
    pub(crate) sources: Current<Sources>,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) forges: Arc<dyn Forges>,
    /// What overtook an event is an event, too.
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
    /// How long the questions to a forge about one push may take.
    pub(crate) forge: Duration,
    /// How long after a push was reported its registry or forge may take to show it.
    pub(crate) settle: Duration,
}

impl Confirmation {
    /// The event as its registry or its forge confirms it; none when it does not.
    pub(super) async fn confirmed(
        &self,
        from: From<'_>,
        event: SourceEvent,
    ) -> Result<Option<SourceEvent>, String> {
        let From { key, source, received_at } = from;
        let young = self.young(received_at);
        match event {
            SourceEvent::ImagePushed(push) => self.pushed(from, push, young).await,
            SourceEvent::ImageDeleted(_) | SourceEvent::ImageScanned(_) => {
                let (question, subject) = (agrees(&*self.images, &event), event.subject());
                match tokio::time::timeout(self.registry, question).await {
                    Err(_) => Err(format!("the registry of {subject} did not answer in time")),
                    Ok(Err(error)) => Err(format!("cannot look {subject} up: {}", error.chain())),
                    Ok(Ok(true)) => Ok(Some(event)),
                    Ok(Ok(false)) if young => {
                        Err(format!("the registry does not show yet what became of {subject}"))
                    }
                    Ok(Ok(false)) => {
                        let why = "the registry says otherwise";
                        tracing::warn!(event = key, "ignored: {why} of {subject}");
                        Ok(None)
                    }
                }
            }
            SourceEvent::GitPushed(_)
            | SourceEvent::PullRequest(_)
            | SourceEvent::Comment(_)
            | SourceEvent::Release(_) => commits::confirmed(self, key, source, event, young).await,
            // Nobody is there to be asked: it is worth what the proof of its source is worth.
            SourceEvent::Custom(_)
            // Nobody but this server makes these.
            | SourceEvent::Requested(_)
            | SourceEvent::Scheduled(_)
            | SourceEvent::RunFinished(_) => Ok(Some(event)),
        }
    }

    /// The push as its registry confirms it; none when it does not, or when what the registry says is
    /// an event of its own.
    async fn pushed(
        &self,
        from: From<'_>,
        push: ImagePushed,
        young: bool,
    ) -> Result<Option<SourceEvent>, String> {
        let From { key, source, .. } = from;
        let (question, subject) = (look_up(&*self.images, &push), push.reference().to_string());
        match tokio::time::timeout(self.registry, question).await {
            Err(_) => Err(format!("the registry of {subject} did not answer in time")),
            Ok(Err(error)) => Err(format!("cannot look {subject} up: {}", error.chain())),
            // Its sender names no digest. What the tag holds is an event under the digest, so that it
            // is one however many tell of it, each in its own way and at its own time.
            Ok(Ok(Truth::Holds(found))) if push.digest.is_none() => {
                let found = SourceEvent::ImagePushed(found);
                let now = found.subject();
                let accepted = self.ingest.accept(source, found).await;
                let accepted = accepted.map_err(|error| error.to_string())?;
                if accepted.duplicate && young {
                    return Err(format!("the registry shows nothing new of {subject} yet"));
                }
                tracing::debug!(event = key, "{subject} is {now}");
                Ok(None)
            }
            Ok(Ok(Truth::Holds(push))) => Ok(Some(SourceEvent::ImagePushed(push))),
            Ok(Ok(Truth::Gone | Truth::Moved(_))) if young => {
                Err(format!("the registry does not show {subject} yet"))
            }
            Ok(Ok(Truth::Gone)) => {
                tracing::warn!(event = key, "ignored: {subject} is not at its registry any more");
                Ok(None)
            }
            Ok(Ok(Truth::Moved(observed))) => {
                let now = SourceEvent::ImagePushed(observed);
                tracing::warn!(
                    event = key,
                    "ignored: {subject} was overtaken by {}",
                    now.subject()
                );
                // What overtook it is taken in here, for its own report may have been lost.
                let accepted = self.ingest.accept(source, now).await;
                accepted.map(|_| None).map_err(|error| error.to_string())
            }
        }
    }

    /// Whether the registry or the forge may not yet show what was reported at this time.
    pub(super) fn young(&self, received_at: Timestamp) -> bool {
        let age = self.clock.now().duration_since(received_at);
        SignedDuration::try_from(self.settle).is_ok_and(|settle| age < settle)
    }

    /// What a run works on that the event starts, which is confirmed: the commit that the event brings,
    /// where the source says so. What deletes a branch brings none.
    pub(super) fn workspace(&self, name: &str, event: &SourceEvent) -> Workspace {
        let Some(push) = event.as_push() else { return Workspace::EMPTY };
        let wanted = self.sources.get().get(name).is_some_and(|source| source.checkout);
        let Some(commit) = push.commit.filter(|_| wanted) else { return Workspace::EMPTY };
        Workspace::Git(GitWorkspace {
            source: name.to_owned(),
            repository: push.repository,
            commit,
            reference: Some(push.reference.to_string()),
            // As the settings of the source have them, whatever the message said.
            clone_url: push.clone_url,
            ssh_url: push.ssh_url,
            options: CheckoutOptions::default(),
        })
    }
}

/// What became of the image of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Truth {
    /// It is as the event says; what the event left out is filled in.
    Holds(ImagePushed),
    /// The tag has something else by now. That push is an event of its own, reported or not.
    Moved(ImagePushed),
    /// There is no such tag or digest any more.
    Gone,
}

/// Compares a push with what its registry holds.
async fn look_up(resolver: &dyn ImageResolver, push: &ImagePushed) -> Result<Truth, StepError> {
    let mut reference = push.reference();
    if reference.tag.is_some() {
        // The tag's own digest is wanted, not that which the event claims for it.
        reference.digest = None;
    }
    let Some(found) = resolver.find(&reference).await? else { return Ok(Truth::Gone) };
    let claimed = push.digest.as_ref();
    if claimed.is_none_or(|digest| *digest == found.digest) {
        return Ok(Truth::Holds(ImagePushed {
            digest: Some(found.digest),
            media_type: found.media_type.or_else(|| push.media_type.clone()),
            ..push.clone()
        }));
    }
    // Who pushed that, and when, nobody has said.
    Ok(Truth::Moved(ImagePushed {
        digest: Some(found.digest),
        media_type: found.media_type,
        actor: None,
        at: None,
        ..push.clone()
    }))
}

/// Whether the registry agrees with an event that is no push: what was deleted is not there, what was
/// scanned is.
async fn agrees(resolver: &dyn ImageResolver, event: &SourceEvent) -> Result<bool, StepError> {
    let (repository, tag, digest, wanted) = match event {
        SourceEvent::ImageDeleted(it) => (&it.repository, it.tag.clone(), it.digest.clone(), false),
        SourceEvent::ImageScanned(it) => (&it.repository, None, Some(it.digest.clone()), true),
        SourceEvent::ImagePushed(_)
        | SourceEvent::GitPushed(_)
        | SourceEvent::Requested(_)
        | SourceEvent::PullRequest(_)
        | SourceEvent::Comment(_)
        | SourceEvent::Release(_)
        | SourceEvent::Scheduled(_)
        | SourceEvent::RunFinished(_)
        | SourceEvent::Custom(_) => return Ok(true),
    };
    // A tag that is gone is gone whatever became of the manifest.
    let digest = if tag.is_some() { None } else { digest };
    let reference = ImageRef { repository: repository.clone(), tag, digest };
    Ok(resolver.find(&reference).await?.is_some() == wanted)
}
