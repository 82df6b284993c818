//! The step kind `sbom`: its inputs, its outputs, and the order of its work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use fairlead_evidence::{missing_key, open_key};
use fairlead_oci::{Client, Platform, PlatformImage};
use fairlead_step::{
    Artifact, Capability, Digest, Effect, Image, InputProblem, Missing, Preflight, Secret,
    StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attach::{Document, as_attestation, as_referrer};
use crate::document::{Description, Format, Subject};
use crate::layer_cache::LayerCache;
use crate::limits::Limits;
use crate::local;
use crate::read::read_image_with;
use crate::unassessed::{one_line, told};

/// The platform of an index that is described when none is asked for.
const DEFAULT_PLATFORM: &str = "linux/amd64";

/// Lists the packages of an image, or of a folder.
#[derive(Debug, Clone, Default)]
pub struct Sbom {
    known: LayerCache,
}

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image to describe, in its registry.
    pub image: Option<Image>,
    /// What to describe instead, a path within the workspace: an OCI layout (a folder, or an
    /// archive that is not packed), what `docker save` wrote, or a folder with a root file system
    /// or a project, whose lock files are read as well.
    pub path: Option<String>,
    /// Which of several images in a layout or an archive: its name, such as `shop:1.0`, or its
    /// digest.
    pub reference: Option<String>,
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
    /// The private key in PEM that signs attestations, as `sign` takes it.
    pub key: Option<Secret<String>>,
    /// The password of an encrypted key.
    pub password: Option<Secret<String>>,
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
    /// Each as an attestation about that manifest: signed, in the formats of cosign 2 and 3, where there
    /// is a `key`, and a bare in-toto statement otherwise.
    Attestation,
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
    /// The image manifest that is described: of an index, the one of the platform. Nothing for
    /// what lies in the workspace.
    pub described: Option<Image>,
    /// The digest of what is described: the image manifest's; of what an engine saved, that of its
    /// configuration; of a folder, that of what was found in it.
    pub digest: Digest,
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
        &[Capability::RegistryRead, Capability::RegistryWrite, Capability::Secrets];

    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        match (&input.image, &input.path) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                let problem = InputProblem::at("/path", "an image is named as well");
                problems.push(problem.hint("describe one thing: take `image` or `path` away"));
            }
            (None, None) => {
                let problem = InputProblem::at("", "neither `image` nor `path` is named");
                problems.push(problem.hint("name the image to describe"));
            }
        }
        if input.path.as_deref().is_some_and(|path| !stays_inside(Path::new(path))) {
            let problem = InputProblem::at("/path", "the path leaves the workspace");
            problems.push(problem.hint("write a path relative to the workspace, without `..`"));
        }
        if input.reference.is_some() && input.path.is_none() {
            let problem = InputProblem::at("/reference", "it says nothing without a `path`");
            problems.push(problem.hint("an image in a registry is named by its digest"));
        }
        if input.attach != Attach::None && input.path.is_some() {
            let problem = InputProblem::at("/attach", "what lies in the workspace has no registry");
            problems.push(problem.hint("push the image, and describe it there"));
        }
        if input.formats.is_empty() {
            let problem = InputProblem::at("/formats", "no format is asked for");
            problems.push(problem.hint("leave `formats` away to get both"));
        }
        if let Some(Err(error)) = input.platform.as_deref().map(str::parse::<Platform>) {
            problems.push(InputProblem::at("/platform", error.to_string()));
        }
        if input.key.is_some() && input.attach != Attach::Attestation {
            let problem = InputProblem::at("/key", "nothing is signed but attestations");
            problems.push(problem.hint("write `attach: attestation`"));
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        missing_key(look).await
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        Box::pin(context.cancel().guard(describe_and_store(&input, context, &self.known)))
            .await
            .map(Verdict::passed)
    }
}

/// What is described, and where that lies when it is an image of a registry.
struct Target {
    described: Description,
    /// What the files of the documents are called.
    name: String,
    image: Option<PlatformImage>,
}

async fn of_registry(
    client: &Client,
    image: &Image,
    wanted: &Platform,
    (input, context): (&Input, &StepContext),
    known: &LayerCache,
) -> Result<Target, StepError> {
    let found = client.platform(image, wanted).await?;
    let log = context.shared_log();
    let described = read_image_with(client, &found, &Limits::default(), &log, known).await?;
    if input.platform.is_some() {
        check_platform(&described, wanted, &image.to_string())?;
    }
    let name = image.repository.path();
    let name = name.rsplit('/').next().unwrap_or(name).to_owned();
    Ok(Target { described, name, image: Some(found) })
}

async fn of_workspace(
    path: &str,
    wanted: &Platform,
    input: &Input,
    context: &StepContext,
) -> Result<Target, StepError> {
    let failed = |problem: String| {
        StepError::terminal(format!("cannot read `{path}`: {problem}"))
            .hint("the path starts at the workspace of the run")
    };
    let io = |error: std::io::Error| failed(error.to_string());
    let root = context.workspace().canonicalize().map_err(io)?;
    // A symbolic link may lead out of the workspace though the path does not.
    let target = root.join(path).canonicalize().map_err(io)?;
    if !target.starts_with(&root) {
        return Err(failed("it leads out of the workspace".to_owned()));
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (reference, platform) = (input.reference.clone(), wanted.clone());
    // Files are read and unpacked, which would hold up the other steps of the run.
    let read = tokio::task::spawn_blocking(move || {
        local::read(&target, reference.as_deref(), &platform, &Limits::default())
    });
    let read =
        read.await.map_err(|error| StepError::terminal("the reading broke off").because(error))?;
    let local::Found { described, notes } = read?;
    for note in notes {
        context.say(note);
    }
    if input.platform.is_some() && described.subject == Subject::Image {
        check_platform(&described, wanted, &format!("`{path}`"))?;
    }
    let name = if name.is_empty() { "workspace".to_owned() } else { name };
    Ok(Target { described, name, image: None })
}

async fn describe_and_store(
    input: &Input,
    context: &StepContext,
    known: &LayerCache,
) -> Result<Output, StepError> {
    let secret = |text: &Secret<String>| Secret::new(text.expose().clone());
    let key = match &input.key {
        Some(key) => Some(open_key(secret(key), input.password.as_ref().map(secret)).await?),
        None => None,
    };
    let wanted: Platform = input
        .platform
        .as_deref()
        .unwrap_or(DEFAULT_PLATFORM)
        .parse()
        .map_err(|error: fairlead_oci::PlatformError| StepError::terminal(error.to_string()))?;
    let mut client = None;
    let target = match (&input.image, &input.path) {
        (Some(image), None) => {
            let client = client.insert(Client::new(context.registries()?));
            of_registry(client, image, &wanted, (input, context), known).await?
        }
        (None, Some(path)) => of_workspace(path, &wanted, input, context).await?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(StepError::terminal("one of `image` and `path` is to be named"));
        }
    };
    let Target { described, name, image } = target;
    if let Some(path) = described.inventory.lost.first() {
        let path = one_line(path);
        let message = format!(
            "the package database of the system in {}, `{path}`, cannot be read; the log says why",
            described.manifest
        );
        return Err(StepError::terminal(message).hint(
            "see whether the system's own package manager reads it, and build the image anew",
        ));
    }
    for note in &described.inventory.notes {
        context.say(note);
    }
    for line in told(&described.inventory.unassessed) {
        context.say(line);
    }
    let counts = described.inventory.ecosystems();
    context.say(summary(&described, &counts));

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
        let document = Document { format, file, bytes: &bytes };
        match (input.attach, &client, &image) {
            (Attach::Referrer, Some(client), Some(image)) => {
                attached.push(as_referrer(client, image, document, context).await?);
            }
            (Attach::Attestation, Some(client), Some(image)) => {
                let key = key.as_ref();
                attached.push(as_attestation(client, image, document, key, context).await?);
            }
            (Attach::None | Attach::Referrer | Attach::Attestation, _, _) => {}
        }
        written.insert(format, artifact);
    }
    let spdx = written.remove(&Format::SpdxJson);
    let cyclonedx = written.remove(&Format::CyclonedxJson);
    let cyclonedx = cyclonedx.or_else(|| written.remove(&Format::Cyclonedx17Json));
    let document = spdx.clone().or_else(|| cyclonedx.clone());
    Ok(Output {
        document: document.ok_or_else(|| StepError::terminal("no format is asked for"))?,
        spdx,
        cyclonedx,
        digest: described.manifest.clone(),
        described: image.map(|image| image.image),
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
    image: &str,
) -> Result<(), StepError> {
    match described.platform.parse::<Platform>() {
        Ok(has) if !has.serves(wanted) => {
            Err(StepError::terminal(format!("{image} is for {has}, not for {wanted}"))
                .hint("leave `platform` away to describe the image as it is"))
        }
        _ => Ok(()),
    }
}

/// Whether a path names a place in the folder that it starts from.
fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
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
