//! The promote step: an image and all that is attached to it, by digest, to where it is released.
//!
//! The order is the point (and the reason why this is one step): version tags are checked before
//! anything is written; then everything that belongs to the image is copied and found again at the
//! destination; then version tags are set; channels move last, each only from where it was
//! expected to be.

mod channels;
mod record;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fairlead_oci::{Client, CopyEvent, Landed};
use fairlead_step::{
    Capability, Digest, Effect, Image, ImageRef, InputProblem, Progress, Repository, StepContext,
    StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use channels::Channel;

/// The most tags and channels that one step sets.
const NAMES_LIMIT: usize = 50;

/// `uses: promote`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promote;

/// What to promote, and where to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image to promote, with everything that is attached to it.
    pub image: Image,
    /// The repository to promote it to. It may be on another registry.
    pub to: Repository,
    /// Version tags to set. A version tag never moves: where one points to another image already,
    /// the step fails and changes nothing.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Tags that are meant to move, such as `stable`. They move last.
    #[serde(default)]
    pub channels: Vec<String>,
    /// For a channel, the digest that it must point to before it is moved. Where none is given, it
    /// is moved from wherever it points when the step begins.
    #[serde(default)]
    pub expect: BTreeMap<String, Digest>,
}

/// What was promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// The image at the destination: the same digest as before.
    pub image: Image,
    /// The version tags that point to it.
    pub tags: Vec<String>,
    /// The channels that point to it, with where they pointed before.
    pub channels: Vec<Channel>,
    /// One digest over the image and all that was copied with it: a Merkle root over the sorted
    /// descriptors, each of which was found again at the destination.
    pub closure_digest: Digest,
    /// What is attached to the image and was left where it is because it cannot be read or was not
    /// taken at the destination, and what was taken without being understood, as lines for people.
    pub findings: Vec<String>,
}

impl StepKind for Promote {
    const KIND: &'static str = "promote";
    const SUMMARY: &'static str =
        "Copy an image and all that is attached to it, by digest, then set its tags";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] =
        &[Capability::RegistryRead, Capability::RegistryWrite];

    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, names) in [("tags", &input.tags), ("channels", &input.channels)] {
            if names.len() > NAMES_LIMIT {
                let message = format!("more than {NAMES_LIMIT} {key}");
                problems.push(InputProblem::at(format!("/{key}"), message));
            }
            for (index, name) in names.iter().enumerate() {
                let place = format!("/{key}/{index}");
                if !ImageRef::is_tag(name) {
                    let message = format!("`{name}` is not a tag");
                    problems.push(
                        InputProblem::at(place, message).hint(
                            "a letter, digit or `_`, then up to 127 of these with `.` and `-`",
                        ),
                    );
                    continue;
                }
                if is_evidence_tag(name) {
                    let message = format!("`{name}` is a name that evidence is kept under");
                    problems.push(InputProblem::at(place, message));
                    continue;
                }
                if let Some(first) = seen.insert(name, key) {
                    let message = format!("`{name}` is also in `{first}`");
                    problems.push(InputProblem::at(place, message).hint(
                        "a version tag never moves and a channel does: a tag is one of the two",
                    ));
                }
            }
        }
        for name in input.expect.keys().filter(|name| !input.channels.contains(name)) {
            let message = format!("`{name}` is not one of the channels");
            problems.push(InputProblem::at(format!("/expect/{name}"), message));
        }
        problems
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let client = Client::new(context.registries()?);
        context.cancel().guard(promote(&client, &input, context)).await.map(Verdict::passed)
    }
}

async fn promote(
    client: &Client,
    input: &Input,
    context: &StepContext,
) -> Result<Output, StepError> {
    let promoted = input.to.at(input.image.digest.clone());
    check_versions(client, input, &promoted).await?;
    let plan = channels::plan(client, input, &promoted, context).await?;

    let watch = Watch { context, done: AtomicU64::new(0), total: AtomicU64::new(0) };
    let report = client.copy(&input.image, &input.to, &|event| watch.see(&event)).await?;
    for lost in &report.closure.dangling {
        context.say(format!(
            "{} is listed as attached, but {} does not have it any more",
            lost.digest, input.image.repository
        ));
    }
    for finding in &report.closure.findings {
        context.say(format!("warning: {finding}"));
    }
    context.say(format!(
        "{} manifests with their blobs: {} sent ({} bytes), {} mounted, {} there before",
        report.closure.members.len(),
        report.copied,
        report.bytes,
        report.mounted,
        report.present,
    ));

    // The copy may have taken long; the tags are looked at again before each is set.
    check_versions(client, input, &promoted).await?;
    for tag in &input.tags {
        let set = client.move_tag(&promoted, tag, None).await.map_err(|error| {
            StepError::from(error).hint(format!(
                "somebody set `{tag}` at the same moment; a version tag never moves, so give this \
                 release a version of its own"
            ))
        })?;
        if set.from.is_none() {
            context.say(format!("tag {tag} set"));
        }
    }
    let moved =
        channels::move_all(client, input, &promoted, &report.closure_digest, plan, context).await?;
    Ok(Output {
        image: promoted,
        tags: input.tags.clone(),
        channels: moved.channels,
        closure_digest: moved.closure,
        findings: report.closure.findings,
    })
}

/// Fails when a version tag points to another image.
async fn check_versions(client: &Client, input: &Input, promoted: &Image) -> Result<(), StepError> {
    let looked = input.tags.iter().map(|tag| async move {
        Ok::<_, StepError>((tag, client.tag_digest(&input.to, tag).await?))
    });
    for (tag, found) in futures::future::try_join_all(looked).await? {
        match found {
            Some(found) if found != promoted.digest => {
                return Err(StepError::terminal(format!(
                    "version tag `{tag}` of {} points to {found}, not to {}",
                    input.to, promoted.digest
                ))
                .hint(
                    "a version tag never moves, and no tag was changed; give this release a \
                     version of its own, or list the tag under `channels` if it is meant to move",
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// `sha256-<hex>` with or without a suffix: signatures, attestations, lists of referrers.
fn is_evidence_tag(tag: &str) -> bool {
    let stem = tag.split_once('.').map_or(tag, |(stem, _)| stem);
    [("sha256-", 64), ("sha512-", 128)].iter().any(|(prefix, digits)| {
        stem.strip_prefix(prefix)
            .is_some_and(|hex| hex.len() == *digits && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// Tells the log and who watches how far the copy is.
struct Watch<'a> {
    context: &'a StepContext,
    done: AtomicU64,
    total: AtomicU64,
}

impl Watch<'_> {
    fn see(&self, event: &CopyEvent) {
        match event {
            CopyEvent::Found { manifests, blobs, bytes } => {
                self.total.store((manifests + blobs) as u64, Ordering::Relaxed);
                self.context.say(format!("{manifests} manifests, {blobs} blobs, {bytes} bytes"));
            }
            CopyEvent::Blob { digest, size, landed } => {
                if *landed == Landed::Copied {
                    self.context.say(format!("blob {} sent, {size} bytes", digest.short()));
                }
                self.one_more("blobs");
            }
            CopyEvent::Manifest { .. } => self.one_more("manifests"),
            CopyEvent::Verified => {
                self.context.say("everything was found again at the destination");
            }
        }
    }

    fn one_more(&self, what: &str) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let total = Some(self.total.load(Ordering::Relaxed));
        self.context.log().progress(Progress { what: format!("copying {what}"), done, total });
    }
}

#[cfg(test)]
mod tests;
