//! The promote step: an image and all that is attached to it, by digest, to where it is released.
//!
//! The order is the point (and the reason why this is one step): version tags are checked before
//! anything is written; then everything that belongs to the image is copied and found again at each
//! destination; then version tags are set; channels move last, each only from where it was
//! expected to be.

mod channels;
mod record;
mod release;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fairlead_evidence::{SigningKey, missing_key, open_key};
use fairlead_oci::{Client, CopyEvent, CopyReport, Foreseen, Landed, Manifest};
use fairlead_step::{
    Capability, Digest, Effect, Image, ImageRef, InputProblem, Missing, Preflight, Progress,
    Repository, Secret, StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use channels::Channel;

/// The most tags and channels that one step sets.
const NAMES_LIMIT: usize = 50;
/// The most destinations of one step.
const DESTINATIONS_LIMIT: usize = 20;

/// `uses: promote`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promote;

/// What to promote, and where to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image to promote, with everything that is attached to it.
    pub image: Image,
    /// The repository to promote it to. It may be on another registry.
    pub to: Repository,
    /// More repositories to promote it to, with the same tags and channels. Everything is at all of them,
    /// by digest, before a tag moves at any.
    #[serde(default)]
    pub also_to: Vec<Repository>,
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
    /// The private key in PEM, as `sign` takes it, with which the release is attested at each
    /// destination: from where, to which repository, tags and channels. Without it nothing is attested.
    pub key: Option<Secret<String>>,
    /// The password of an encrypted key.
    pub password: Option<Secret<String>>,
    /// The environment that the attestation names, such as `prod`.
    pub environment: Option<String>,
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
    /// The other destinations.
    pub also: Vec<Destination>,
    /// The bundle that attests the release at the destination, where there is a key.
    pub release: Option<Digest>,
    /// What is attached to the image and was left where it is because it cannot be read or was not
    /// taken at the destination, and what was taken without being understood, as lines for people.
    pub findings: Vec<String>,
}

/// One more destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Destination {
    /// The image there.
    pub image: Image,
    /// The channels that point to it, with where they pointed before.
    pub channels: Vec<Channel>,
    /// The bundle that attests the release there, where there is a key.
    pub release: Option<Digest>,
}

impl StepKind for Promote {
    const KIND: &'static str = "promote";
    const SUMMARY: &'static str =
        "Copy an image and all that is attached to it, by digest, then set its tags";
    const VERSION: &'static str = "2";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] =
        &[Capability::RegistryRead, Capability::RegistryWrite, Capability::Secrets];

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
        if input.also_to.len() >= DESTINATIONS_LIMIT {
            let message = format!("more than {DESTINATIONS_LIMIT} destinations");
            problems.push(InputProblem::at("/also_to", message));
        }
        for (index, to) in input.also_to.iter().enumerate() {
            if *to == input.to || input.also_to[..index].contains(to) {
                let message = format!("`{to}` is named twice");
                problems.push(InputProblem::at(format!("/also_to/{index}"), message));
            }
        }
        if input.environment.is_some() && input.key.is_none() {
            problems.push(
                InputProblem::at("/environment", "nothing is attested without a `key`")
                    .hint("give the key that attests the release"),
            );
        }
        for name in input.expect.keys().filter(|name| !input.channels.contains(name)) {
            let message = format!("`{name}` is not one of the channels");
            problems.push(InputProblem::at(format!("/expect/{name}"), message));
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        missing_key(look).await
    }

    async fn run(
        &self,
        mut input: Input,
        context: &StepContext,
    ) -> Result<Verdict<Output>, StepError> {
        let client = Client::new(context.registries()?);
        let key = match input.key.take() {
            Some(key) => Some(open_key(key, input.password.take()).await?),
            None => None,
        };
        let work = Box::pin(promote(&client, &input, key.as_ref(), context));
        context.cancel().guard(work).await.map(Verdict::passed)
    }
}

/// One destination on its way.
struct Way {
    promoted: Image,
    plan: channels::Plan,
    report: CopyReport,
    release: Option<Digest>,
    closure: Digest,
}

impl Way {
    /// The image's manifest, as it was copied.
    fn manifest(&self) -> Option<&Manifest> {
        self.report.closure.members.first().map(|member| &member.manifest)
    }
}

async fn promote(
    client: &Client,
    input: &Input,
    key: Option<&SigningKey>,
    context: &StepContext,
) -> Result<Output, StepError> {
    let mut planned = Vec::new();
    for to in std::iter::once(&input.to).chain(&input.also_to) {
        let promoted = to.at(input.image.digest.clone());
        // One token for what is to come, where one can be had.
        client.use_together(&input.image.repository, to).await?;
        let at_version = check_versions(client, input, &promoted).await?;
        let plan = channels::plan(client, input, &promoted, context).await?;
        let there = at_version || plan.is_there();
        planned.push((promoted, plan, there));
    }

    // Everything is at every destination before a tag moves at any.
    let mut ways = Vec::new();
    for (promoted, plan, there) in planned {
        let report = copy(client, input, &promoted, there, context).await?;
        let closure = plan.recorded().unwrap_or(&report.closure_digest).clone();
        let mut way = Way { promoted, plan, report, release: None, closure };
        if let (Some(key), Some(manifest)) = (key, way.manifest()) {
            let (promoted, closure) = (&way.promoted, &way.closure);
            let channels = way.plan.from();
            let release = release::Release { input, promoted, manifest, closure, channels };
            let said = release::say(client, key, &release, context).await?;
            way.closure = said.closure.unwrap_or(way.closure);
            way.release = said.bundle;
        }
        ways.push(way);
    }

    // The copy may have taken long. Each tag is looked at right before it is set; where there are several,
    // all are looked at before the first is.
    if ways.len() * (input.tags.len() + input.channels.len()) > 1 {
        for way in &ways {
            check_versions(client, input, &way.promoted).await?;
            channels::check(client, input, &way.promoted, &way.plan).await?;
        }
    }
    for way in &ways {
        for tag in &input.tags {
            let set = client.move_tag_to(&way.promoted, way.manifest(), tag, None).await;
            let set = set.map_err(|error| {
                StepError::from(error).hint(format!(
                    "somebody set `{tag}` at the same moment; a version tag never moves, so give \
                     this release a version of its own"
                ))
            })?;
            if set.from.is_none() {
                context.say(format!("tag {tag} set at {}", way.promoted.repository));
            }
        }
    }
    let mut done = Vec::new();
    let mut findings = Vec::new();
    for way in ways {
        let moved = channels::move_all(client, input, &way, context).await?;
        findings.extend(way.report.closure.findings);
        let destination =
            Destination { image: way.promoted, channels: moved.channels, release: way.release };
        done.push((destination, moved.closure));
    }
    findings.dedup();
    let mut done = done.into_iter();
    let (first, closure_digest) =
        done.next().ok_or_else(|| StepError::terminal("there is no destination"))?;
    Ok(Output {
        image: first.image,
        tags: input.tags.clone(),
        channels: first.channels,
        release: first.release,
        also: done.map(|(destination, _)| destination).collect(),
        closure_digest,
        findings,
    })
}

/// Brings everything to one destination, by digest.
async fn copy(
    client: &Client,
    input: &Input,
    promoted: &Image,
    there: bool,
    context: &StepContext,
) -> Result<CopyReport, StepError> {
    let watch = Watch { context, done: AtomicU64::new(0), total: AtomicU64::new(0) };
    let foreseen =
        Foreseen { absent: !there, tagged: !input.tags.is_empty() || !input.channels.is_empty() };
    let to = &promoted.repository;
    let observe = |event: CopyEvent| watch.see(&event);
    let report = client.copy_foreseeing(&input.image, to, foreseen, &observe).await?;
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
        "{to}: {} manifests with their blobs: {} sent ({} bytes), {} mounted, {} there before",
        report.closure.members.len(),
        report.copied,
        report.bytes,
        report.mounted,
        report.present,
    ));
    Ok(report)
}

/// Fails when a version tag points to another image. Answers whether one points to this one.
async fn check_versions(
    client: &Client,
    input: &Input,
    promoted: &Image,
) -> Result<bool, StepError> {
    let to = &promoted.repository;
    let looked = input
        .tags
        .iter()
        .map(|tag| async move { Ok::<_, StepError>((tag, client.tag_digest(to, tag).await?)) });
    let mut there = false;
    for (tag, found) in futures::future::try_join_all(looked).await? {
        there |= found.is_some();
        match found {
            Some(found) if found != promoted.digest => {
                return Err(StepError::terminal(format!(
                    "version tag `{tag}` of {to} points to {found}, not to {}",
                    promoted.digest
                ))
                .hint(
                    "a version tag never moves, and no tag was changed; give this release a \
                     version of its own, or list the tag under `channels` if it is meant to move",
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(there)
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
