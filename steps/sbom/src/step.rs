//! The step kind `sbom`: its inputs, its outputs, and the order of its work.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_oci::{Client, Layer, Platform};
use fairlead_step::{
    Artifact, Capability, Digest, Effect, Image, InputProblem, StepContext, StepError, StepKind,
    Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Description, Format};
use crate::limits::Limits;
use crate::read::read_image;
use crate::unassessed::told;

/// The platform of an index that is described when none is asked for.
const DEFAULT_PLATFORM: &str = "linux/amd64";

/// Lists the packages of an image.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sbom;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image to describe.
    pub image: Image,
    /// The formats to write.
    #[serde(default = "both_formats")]
    #[schemars(length(min = 1))]
    pub formats: Vec<Format>,
    /// The platform to describe, such as `linux/arm64`. An image for several platforms is
    /// described as it is for `linux/amd64` when nothing else is said; any other image as it is.
    pub platform: Option<String>,
    /// Whether to push the documents to the registry, next to the image.
    #[serde(default)]
    pub attach: Attach,
}

/// Whether documents go to the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// No.
    #[default]
    None,
    /// Each as an OCI artifact of its media type, with the image manifest that it describes as
    /// subject.
    Referrer,
}

fn both_formats() -> Vec<Format> {
    vec![Format::SpdxJson, Format::CyclonedxJson]
}

/// What later steps may refer to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The document to go on with: SPDX where it was asked for, `CycloneDX` otherwise.
    pub document: Artifact,
    /// The SPDX document.
    pub spdx: Option<Artifact>,
    /// The `CycloneDX` document: of both versions, the one of 1.6.
    pub cyclonedx: Option<Artifact>,
    /// The image manifest that is described: of an index, the one of the platform.
    pub described: Image,
    /// How many packages there are.
    pub packages: usize,
    /// How many there are of each type of package URL, such as `deb`.
    pub ecosystems: BTreeMap<String, usize>,
    /// Whether nothing is known to be missing from the documents.
    pub complete: bool,
    /// How many things were seen that hold packages and are not read. The documents name them.
    pub unassessed: usize,
    /// The manifests of the documents that hang at the image now.
    pub attached: Vec<Digest>,
}

impl StepKind for Sbom {
    const KIND: &'static str = "sbom";
    const SUMMARY: &'static str = "list the packages of an image, as SPDX and as CycloneDX";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] =
        &[Capability::RegistryRead, Capability::RegistryWrite];

    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if input.formats.is_empty() {
            let problem = InputProblem::at("/formats", "no format is asked for");
            problems.push(problem.hint("leave `formats` away to get both"));
        }
        if let Some(Err(error)) = input.platform.as_deref().map(str::parse::<Platform>) {
            problems.push(InputProblem::at("/platform", error.to_string()));
        }
        problems
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        Box::pin(context.cancel().guard(describe_and_store(&input, context)))
            .await
            .map(Verdict::passed)
    }
}

async fn describe_and_store(input: &Input, context: &StepContext) -> Result<Output, StepError> {
    let client = Client::new(context.registries()?);
    let wanted: Platform = input
        .platform
        .as_deref()
        .unwrap_or(DEFAULT_PLATFORM)
        .parse()
        .map_err(|error: fairlead_oci::PlatformError| StepError::terminal(error.to_string()))?;
    let image = client.platform(&input.image, &wanted).await?;
    let log = context.shared_log();
    let described = read_image(&client, &image, &Limits::default(), &log).await?;
    if input.platform.is_some() {
        check_platform(&described, &wanted, &input.image)?;
    }
    for note in &described.inventory.notes {
        context.say(note);
    }
    for line in told(&described.inventory.unassessed) {
        context.say(line);
    }
    let counts = described.inventory.ecosystems();
    context.say(summary(&described, &counts));

    let name = input.image.repository.path();
    let name = name.rsplit('/').next().unwrap_or(name);
    let mut written = BTreeMap::new();
    let mut attached = Vec::new();
    for format in input.formats.iter().copied().collect::<BTreeSet<Format>>() {
        let bytes = described.write(format).map_err(|error| {
            StepError::terminal("the document cannot be written").because(error)
        })?;
        let file = format!("{name}.{}", format.extension());
        let artifact =
            context.artifacts().put(&file, format.media_type(), bytes.clone()).await.map_err(
                |error| StepError::retryable(format!("cannot store `{file}`")).because(error),
            )?;
        written.insert(format, artifact);
        if input.attach == Attach::Referrer {
            let title = ("org.opencontainers.image.title".to_owned(), file);
            let layer = Layer {
                media_type: format.media_type().to_owned(),
                bytes,
                annotations: BTreeMap::from([title]),
            };
            let document = fairlead_oci::Artifact {
                artifact_type: format.media_type().to_owned(),
                layers: vec![layer],
                ..fairlead_oci::Artifact::default()
            };
            // The same image gives the same document, and that the same manifest: what an earlier
            // attempt pushed is found by its digest and completed.
            let subject = image.manifest.descriptor();
            let done = client.attach(&image.image.repository, &subject, &document).await?;
            let how = if done.was_there { "was attached before" } else { "is attached" };
            let digest = done.descriptor.digest;
            context.say(format!("{} {how} as {digest}", format.media_type()));
            attached.push(digest);
        }
    }
    let spdx = written.remove(&Format::SpdxJson);
    let cyclonedx = written.remove(&Format::CyclonedxJson);
    let cyclonedx = cyclonedx.or_else(|| written.remove(&Format::Cyclonedx17Json));
    let document = spdx.clone().or_else(|| cyclonedx.clone());
    Ok(Output {
        document: document.ok_or_else(|| StepError::terminal("no format is asked for"))?,
        spdx,
        cyclonedx,
        described: image.image,
        packages: described.inventory.packages.len(),
        complete: described.inventory.is_complete(),
        unassessed: described.inventory.unassessed.len(),
        ecosystems: counts.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        attached,
    })
}

/// Refuses an image that is for another platform than the one asked for. An index was searched for
/// it before; a single image says so only in its configuration.
fn check_platform(
    described: &Description,
    wanted: &Platform,
    image: &Image,
) -> Result<(), StepError> {
    match described.platform.parse::<Platform>() {
        Ok(has) if !has.serves(wanted) => {
            Err(StepError::terminal(format!("{image} is for {has}, not for {wanted}"))
                .hint("leave `platform` away to describe the image as it is"))
        }
        _ => Ok(()),
    }
}

fn summary(described: &Description, counts: &BTreeMap<crate::package::Ecosystem, usize>) -> String {
    let counts: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let os = described.inventory.os.as_ref().map(|os| format!(" on {}", os.distro()));
    format!(
        "{} packages{} ({})",
        described.inventory.packages.len(),
        os.unwrap_or_default(),
        if counts.is_empty() {
            "no package database was found".to_owned()
        } else {
            counts.join(", ")
        }
    )
}
