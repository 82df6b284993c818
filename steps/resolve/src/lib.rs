//! The resolve step: from a tag to the digest that it stands for now. No stable API.
//!
//! It is the door for what a run learns only on its way: everything behind it speaks of one digest,
//! however the tag moves meanwhile. What is asked for is one tag, the newest version within a range,
//! or the newest of the tags that fit a pattern, by an order that is said.

mod order;

use fairlead_oci::{Client, Platform};
use fairlead_step::{
    Capability, Digest, Effect, Image, ImageRef, InputProblem, Repository, StepContext, StepError,
    StepKind, TagPatterns, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use order::Order;

/// How many tags a message names.
const SHOWN: usize = 5;

/// `uses: resolve`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolve;

/// What to resolve: an `image` with its tag, or a `repository` with one of `tag`, `semver` and `tags`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image, with its tag, such as `registry.example.com/apps/shop:stable`. One with a digest is
    /// looked up by that.
    #[serde(default)]
    pub image: Option<ImageRef>,
    /// The repository to choose a tag of.
    #[serde(default)]
    pub repository: Option<Repository>,
    /// The tag.
    #[serde(default)]
    pub tag: Option<String>,
    /// The newest version within this range, such as `>=1 <2`. Only tags that are full versions count (a
    /// leading `v` is allowed), and pre-releases only where the range names one.
    #[serde(default)]
    pub semver: Option<String>,
    /// The newest of the tags that fit: `semver(">=1 <2")`, or globs such as `nightly-*` with an
    /// `order`. In a list the last that fits decides, and `!` takes away.
    #[serde(default)]
    pub tags: Option<TagPatterns>,
    /// Which of the tags that fit is the newest. `semver` where only versions can fit; globs want it
    /// said, for a registry does not tell when a tag was set.
    #[serde(default)]
    pub order: Option<Order>,
    /// The platform whose image is wanted, such as `linux/arm64`, in the place of the whole index.
    #[serde(default)]
    pub platform: Option<String>,
}

/// What it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Output {
    /// The image, by digest.
    pub image: Image,
    /// The tag that was resolved; absent where the input names a digest and no tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub tag: Option<String>,
    /// The digest of the image.
    pub digest: Digest,
    /// The media type of its manifest.
    pub media_type: String,
}

impl StepKind for Resolve {
    const KIND: &'static str = "resolve";
    const SUMMARY: &'static str =
        "find the digest that a tag, a range of versions or a pattern stands for now";
    // It changes nothing, but what it answers is not a matter of its input alone: it is not for `cache`.
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::RegistryRead];

    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        check(input)
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let client = Client::new(context.registries()?);
        context.cancel().guard(resolve(&client, &input, context)).await.map(Verdict::passed)
    }
}

fn check(input: &Input) -> Vec<InputProblem> {
    let mut problems = Vec::new();
    let asked: Vec<&str> = [
        ("tag", input.tag.is_some()),
        ("semver", input.semver.is_some()),
        ("tags", input.tags.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match (&input.image, &input.repository) {
        (None, None) => problems.push(
            InputProblem::at("", "there is nothing to resolve")
                .hint("give `image` with its tag, or `repository` with `tag`, `semver` or `tags`"),
        ),
        (Some(_), Some(_)) => {
            let problem = InputProblem::at("/repository", "`image` names the repository already");
            problems.push(problem.hint("leave one of the two away"));
        }
        (Some(image), None) => {
            if let Some(extra) = asked.first() {
                let message =
                    format!("`{extra}` goes with `repository`, and `image` has its own tag");
                problems.push(InputProblem::at(format!("/{extra}"), message).hint(format!(
                    "write `repository: {}` in the place of `image`",
                    image.repository
                )));
            } else if image.tag.is_none() && image.digest.is_none() {
                problems.push(
                    InputProblem::at("/image", format!("`{image}` has neither a tag nor a digest"))
                        .hint(format!("write `{image}:TAG`")),
                );
            }
        }
        (None, Some(_)) => match asked.as_slice() {
            [_] => {}
            [] => problems.push(
                InputProblem::at("/repository", "which of its tags?")
                    .hint("give `tag`, a range under `semver`, or a pattern under `tags`"),
            ),
            [first, rest @ ..] => {
                for extra in rest {
                    let message = format!("`{first}` says which tag already");
                    problems.push(
                        InputProblem::at(format!("/{extra}"), message)
                            .hint("give exactly one of `tag`, `semver` and `tags`"),
                    );
                }
            }
        },
    }
    if let Some(tag) = input.tag.as_ref().filter(|tag| !ImageRef::is_tag(tag)) {
        problems.push(
            InputProblem::at("/tag", format!("`{}` is not a tag", tag.escape_debug()))
                .hint("a letter, digit or `_`, then up to 127 of these with `.` and `-`"),
        );
    }
    if let Some(Err(error)) = input.semver.as_deref().map(TagPatterns::versions) {
        let problem = InputProblem::at("/semver", format!("it is not a range: {error}"));
        problems.push(problem.hint("write `>=1 <2`, `^1.4` or `~2.1`"));
    }
    match (&input.tags, input.order) {
        (Some(tags), None) if !tags.are_versions() => problems.push(
            InputProblem::at(
                "/tags",
                "it says which tags fit, and not which of them is the newest",
            )
            .hint("add `order`: `semver`, `number` or `text`"),
        ),
        (None, Some(_)) => problems.push(
            InputProblem::at("/order", "there is nothing to put in order")
                .hint("`order` goes with `tags`"),
        ),
        (Some(_) | None, _) => {}
    }
    if let Some(Err(error)) = input.platform.as_deref().map(str::parse::<Platform>) {
        problems.push(InputProblem::at("/platform", error.to_string()));
    }
    problems
}

async fn resolve(
    client: &Client,
    input: &Input,
    context: &StepContext,
) -> Result<Output, StepError> {
    let reference = reference(client, input, context).await?;
    let found = client.resolve(&reference).await.map_err(|error| {
        let missing = error.is_not_found();
        let error = StepError::from(error);
        match &reference.tag {
            Some(tag) if missing && reference.digest.is_none() => {
                let repository = &reference.repository;
                StepError::terminal(format!("there is no tag `{tag}` in {repository}"))
                    .because(error.chain())
                    .hint("was it pushed, and is the name right?")
            }
            Some(_) | None => error,
        }
    })?;
    let (mut image, mut media_type) = (found.image, found.media_type);
    if let Some(platform) = &input.platform {
        let wanted: Platform = platform
            .parse()
            .map_err(|error| StepError::terminal("the platform cannot be read").because(error))?;
        let of_platform = client.platform(&image, &wanted).await?;
        (image, media_type) = (of_platform.image, of_platform.manifest.media_type);
    }
    context.say(format!("{reference} is {image}"));
    Ok(Output { digest: image.digest.clone(), image, tag: reference.tag, media_type })
}

/// The reference to look up: with the tag that was asked for, or the newest of those that fit.
async fn reference(
    client: &Client,
    input: &Input,
    context: &StepContext,
) -> Result<ImageRef, StepError> {
    if let Some(image) = &input.image {
        return Ok(image.clone());
    }
    let repository = input
        .repository
        .clone()
        .ok_or_else(|| StepError::terminal("there is nothing to resolve"))?;
    let tag = match &input.tag {
        Some(tag) => tag.clone(),
        None => newest(client, input, &repository, context).await?,
    };
    Ok(ImageRef { repository, tag: Some(tag), digest: None })
}

async fn newest(
    client: &Client,
    input: &Input,
    repository: &Repository,
    context: &StepContext,
) -> Result<String, StepError> {
    let (patterns, asked) = match (&input.semver, &input.tags) {
        (Some(range), _) => {
            let patterns = TagPatterns::versions(range)
                .map_err(|error| StepError::terminal("`semver` is not a range").because(error))?;
            (patterns, format!("the range `{range}`"))
        }
        (None, Some(tags)) => (tags.clone(), "the pattern".to_owned()),
        (None, None) => return Err(StepError::terminal("nothing says which tag is wanted")),
    };
    let order = input.order.unwrap_or(Order::Semver);
    let all = client.tags(repository).await?;
    let releases = all.iter().map(String::as_str).filter(|tag| !ImageRef::is_evidence_tag(tag));
    let fits: Vec<&str> = releases.clone().filter(|tag| patterns.is_match(tag)).collect();
    if let Some(tag) = order.newest(fits.iter().copied()) {
        context.say(format!("{tag} is the newest of {} tags that fit {asked}", fits.len()));
        return Ok(tag.to_owned());
    }
    let message = if fits.is_empty() {
        format!("no tag of {repository} fits {asked}")
    } else {
        format!("no tag of {repository} that fits {asked} can be put in the order `{order}`")
    };
    let mut near: Vec<&str> = if fits.is_empty() { releases.collect() } else { fits };
    let count = near.len();
    near.sort_unstable_by(|a, b| order::by_number(b, a));
    near.truncate(SHOWN);
    let more = if count > SHOWN { ", …" } else { "" };
    Err(StepError::terminal(message).hint(match near.as_slice() {
        [] => "it has no tags of releases yet".to_owned(),
        near => format!("it has {count}: {}{more}", near.join(", ")),
    }))
}

#[cfg(test)]
mod tests;
