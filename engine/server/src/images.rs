//! What a registry says of an image that an event speaks of. An event is a hint; the registry knows.

use fairlead_event::ImagePushed;
use fairlead_step::{BoxFuture, Digest, Image, ImageRef, StepError};

/// An image that is at its registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The media type of its manifest, where the registry says it.
    pub media_type: Option<String>,
}

/// The port to the registries, for the questions that the server has.
pub trait ImageResolver: Send + Sync {
    /// What `reference` is now: by its digest when it has one, else by its tag. None when the
    /// registry says that there is no such manifest.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or answers nonsense.
    fn find<'a>(
        &'a self,
        reference: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Option<FoundImage>, StepError>>;

    /// The digest of the image that a manifest says it is about: its `subject`, where it has one.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has no such manifest, or answers nonsense.
    fn subject<'a>(
        &'a self,
        manifest: &'a Image,
    ) -> BoxFuture<'a, Result<Option<Digest>, StepError>>;
}

/// What became of the image of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It is as the event says; what the event left out is filled in.
    Holds(ImagePushed),
    /// The tag has something else by now. That push is an event of its own, reported or not.
    Moved(ImagePushed),
    /// There is no such tag or digest any more.
    Gone,
}

/// Compares a push with what its registry holds.
pub(crate) async fn look_up(
    resolver: &dyn ImageResolver,
    push: &ImagePushed,
) -> Result<Truth, StepError> {
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
