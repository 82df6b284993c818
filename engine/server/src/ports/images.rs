//! What a registry says of an image that an event speaks of. An event is a hint; the registry knows.

use std::time::Duration;

use fairlead_plan::Plan;
use fairlead_step::{BoxFuture, Digest, ErrorClass, Image, ImageRef, StepError};
use serde_json::Value;

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

/// Why the image of a parameter is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{parameter}`: {message}")]
pub struct UnresolvedImage {
    /// The parameter.
    pub parameter: String,
    /// One lower-case sentence fragment that names the image and the cause.
    pub message: String,
    /// The way out, where one is known.
    pub hint: Option<String>,
    /// Whether the same again may work: the registry was away.
    pub away: bool,
}

/// Resolves the tag of every image among bound parameters, once: what the tag stands for now is what
/// the run is about, however the tag moves later. Answers what each stood for. An image that was
/// given by digest is taken as it is, and nobody is asked.
///
/// # Errors
/// One for each image that could not be resolved; then nothing is changed.
pub async fn resolve_images(
    resolver: &dyn ImageResolver,
    plan: &Plan,
    params: &mut Value,
    deadline: Duration,
) -> Result<Vec<(String, ImageRef)>, Vec<UnresolvedImage>> {
    let images = plan.params().unresolved(params);
    let asked = images.into_iter().map(|(parameter, image)| async move {
        let answer = tokio::time::timeout(deadline, resolver.find(&image)).await;
        let fail = |message: String, hint: Option<String>, away: bool| UnresolvedImage {
            parameter: parameter.clone(),
            message,
            hint,
            away,
        };
        let found = match answer {
            Ok(Ok(Some(found))) => Ok(found.digest),
            Ok(Ok(None)) => Err(fail(
                format!("there is no image {image}"),
                Some("was it pushed, and is the name right?".to_owned()),
                false,
            )),
            Ok(Err(error)) => {
                let away = error.class() != ErrorClass::Terminal;
                let message = format!("{image} cannot be looked up: {}", error.chain());
                Err(fail(message, error.way_out().map(str::to_owned), away))
            }
            Err(_) => {
                let registry = image.repository.registry();
                let seconds = deadline.as_secs();
                let message = format!("{registry} did not say within {seconds} s what {image} is");
                Err(fail(message, Some("is the registry up?".to_owned()), true))
            }
        };
        found.map(|digest| (parameter, ImageRef { digest: Some(digest), ..image }))
    });
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(resolved) => found.push(resolved),
            Err(error) => failed.push(error),
        }
    }
    if !failed.is_empty() {
        return Err(failed);
    }
    for (parameter, image) in &found {
        if let Some(digest) = &image.digest {
            plan.params().resolved(params, parameter, digest.clone());
        }
    }
    Ok(found)
}
