//! The kind `attest`.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use fairlead_evidence::{
    Answer, Attestation, Demand, Format, MAX_STATEMENT, PredicateType, SigningKey, attestations,
    missing_key, open_key, overall, provenance,
};
use fairlead_oci::{Client, Layer, Manifest};
use fairlead_step::{
    Artifact, Capability, Digest, Effect, History, Image, InputProblem, Missing, Preflight, Secret,
    StepContext, StepError, StepKind, Verdict, Workspace,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkout;
use crate::predicate::{Around, Stored, of_document, of_value, reference};

/// The largest document that is attested by its digest, in bytes.
const MAX_DOCUMENT: u64 = 256 << 20;

/// The `attest` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attest;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttestInput {
    /// The image to say something of.
    pub image: Image,
    /// What kind of thing is said. `provenance` is made from the run's own journal; every other type takes
    /// exactly one of `document`, `predicate` and `data`.
    #[serde(rename = "type")]
    pub kind: PredicateType,
    /// A document that an earlier step left behind, such as `{{ steps.sbom.document }}` or, for `vuln`,
    /// `{{ steps.scan.findings }}`. One that is too large to be signed as it is is attached by itself, and
    /// its digest is signed (`reference`).
    pub document: Option<Artifact>,
    /// A file of the workspace with the predicate.
    pub predicate: Option<String>,
    /// The predicate itself.
    pub data: Option<Value>,
    /// The private key in PEM, as `sign` takes it.
    pub key: Secret<String>,
    /// The password of an encrypted key.
    pub password: Option<Secret<String>>,
    /// The formats to write: both when it is left out.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
    /// Who builds, as the URI that `slsa-verifier` and policies compare.
    #[serde(default = "builder")]
    pub builder: String,
}

fn both() -> Vec<Format> {
    vec![Format::V2, Format::V3]
}

fn builder() -> String {
    "https://fairlead.dev/engine/v1".to_owned()
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AttestOutput {
    /// The image.
    pub image: Image,
    /// The type of what was said: `reference` where the document is too large to be signed as it is.
    #[serde(rename = "type")]
    pub kind: PredicateType,
    /// The statement that is signed.
    pub statement: Artifact,
    /// The bundle's manifest, where v3 is among the formats.
    pub bundle: Option<Digest>,
    /// The formats that are there and verified.
    pub formats: Vec<Format>,
    /// The SHA-256 of the public key.
    pub fingerprint: Digest,
}

impl AttestInput {
    fn sources(&self) -> usize {
        usize::from(self.document.is_some())
            + usize::from(self.predicate.is_some())
            + usize::from(self.data.is_some())
    }
}

impl StepKind for Attest {
    const KIND: &'static str = "attest";
    const SUMMARY: &'static str =
        "say something of an image and sign it: a document, a result, how it came to be";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] = &[
        Capability::RegistryRead,
        Capability::RegistryWrite,
        Capability::Secrets,
        Capability::History,
    ];
    type Input = AttestInput;
    type Output = AttestOutput;

    fn check(&self, input: &AttestInput) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if input.formats.is_empty() {
            problems.push(InputProblem::at("/formats", "no format is named"));
        }
        match (input.kind.uri(), input.sources()) {
            (PredicateType::SIGNATURE, _) => problems.push(
                InputProblem::at("/type", "a signature is not attested").hint("`uses: sign` signs"),
            ),
            (PredicateType::PROVENANCE, 0) => {}
            (PredicateType::PROVENANCE, _) => problems.push(
                InputProblem::at("/type", "provenance is made from the run's own journal")
                    .hint("leave `document`, `predicate` and `data` away"),
            ),
            (_, 1) => {}
            (_, found) => problems.push(
                InputProblem::at(
                    "",
                    format!("{found} of `document`, `predicate` and `data` are given"),
                )
                .hint("give exactly one"),
            ),
        }
        if input.predicate.as_deref().is_some_and(|path| !stays_inside(Path::new(path))) {
            problems.push(
                InputProblem::at("/predicate", "the path leaves the workspace")
                    .hint("write a path relative to the workspace, without `..`"),
            );
        }
        let is_uri =
            input.builder.contains(':') && input.builder.bytes().all(|b| b.is_ascii_graphic());
        if !is_uri || input.builder.len() > 400 {
            problems.push(InputProblem::at("/builder", "it is no URI"));
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        missing_key(look).await
    }

    async fn run(
        &self,
        mut input: AttestInput,
        context: &StepContext,
    ) -> Result<Verdict<AttestOutput>, StepError> {
        input.formats.sort();
        input.formats.dedup();
        let client = Client::new(context.registries()?);
        let key = Secret::new(input.key.expose().clone());
        let password = input.password.as_ref().map(|text| Secret::new(text.expose().clone()));
        let (key, manifest) = futures::join!(
            open_key(key, password),
            context.cancel().guard(client.manifest(&input.image))
        );
        let (key, manifest) = (key?, manifest?);
        let work = say(&client, &input, &key, &manifest, context);
        context.cancel().guard(Box::pin(work)).await.map(Verdict::passed)
    }
}

async fn say(
    client: &Client,
    input: &AttestInput,
    key: &SigningKey,
    manifest: &Manifest,
    context: &StepContext,
) -> Result<AttestOutput, StepError> {
    let (image, subject) = (&input.image, manifest.descriptor());
    let around = Around { info: context.info(), now: context.now(), builder: &input.builder };
    let (kind, predicate) = match predicate(input, &around, context).await? {
        Said::Predicate(predicate) => (input.kind.clone(), predicate),
        Said::TooLarge { name, media_type, bytes } => {
            let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
            let layer = Layer { media_type: media_type.clone(), bytes, ..Layer::default() };
            let artifact = fairlead_oci::Artifact {
                artifact_type: media_type.clone(),
                layers: vec![layer],
                ..fairlead_oci::Artifact::default()
            };
            let attached = client.attach(&image.repository, &subject, &artifact).await?;
            let (media_type, name) = (&media_type, &name);
            let manifest = &attached.descriptor.digest;
            context.say(format!(
                "the document has {size} bytes: it is attached as {manifest}, and its digest is signed"
            ));
            let stored = Stored { digest: &digest, size, media_type, name, manifest };
            let kind = PredicateType::of_uri(PredicateType::REFERENCE);
            (kind, reference(&input.kind, &stored, &around))
        }
    };
    let attestation =
        Attestation { kind: kind.clone(), predicate, mark: Some(context.info().idempotency_key()) };
    let formats = &input.formats;
    let attested =
        fairlead_evidence::attest(client, image, &subject, key, &attestation, formats).await?;
    for (format, is_new) in &attested.written {
        let how = if *is_new { "written" } else { "there already" };
        context.say(format!("{format} attestation `{kind}`: {how}"));
    }
    // What was written is read again, by the public half alone.
    let demand = Demand { reference: Some(image.repository.clone()), ..Demand::default() };
    let kinds = std::slice::from_ref(&kind);
    let (proven, failure) = attestations(client, image, key.public_key(), kinds, &demand).await;
    for format in formats {
        let found = proven.iter().flat_map(|proven| &proven.found);
        let of_format: Vec<_> = found
            .map(|one| one.finding.clone())
            .filter(|finding| finding.format == *format)
            .collect();
        if overall(&of_format) == Answer::Verified {
            continue;
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
        return Err(StepError::retryable(format!(
            "the {format} attestation of {image} was written and does not read back"
        ))
        .hint("the registry may lag behind its writes; another writer may have removed it"));
    }
    context.say("read back and verified");
    let bytes = Bytes::from(attested.statement.to_bytes()?);
    let name = format!("{}.intoto.json", kind.name().unwrap_or("statement"));
    let statement = context.artifacts().put(&name, "application/vnd.in-toto+json", bytes).await;
    Ok(AttestOutput {
        image: image.clone(),
        kind,
        statement: statement.map_err(|error| {
            StepError::retryable(format!("cannot store `{name}`")).because(error)
        })?,
        bundle: attested.bundle,
        formats: formats.clone(),
        fingerprint: key.public_key().fingerprint(),
    })
}

/// What is to be said.
enum Said {
    Predicate(Value),
    /// More than is signed as it is.
    TooLarge {
        name: String,
        media_type: String,
        bytes: Bytes,
    },
}

async fn predicate(
    input: &AttestInput,
    around: &Around<'_>,
    context: &StepContext,
) -> Result<Said, StepError> {
    if input.kind.uri() == PredicateType::PROVENANCE {
        let mut history: History = context.history()?.clone();
        if matches!(history.workspace, Workspace::Local { .. }) {
            history.local_commit = checkout::commit(context.workspace());
        }
        return Ok(Said::Predicate(provenance(&history, around.info, around.builder)));
    }
    if let Some(data) = &input.data {
        let said = of_value(&input.kind, data.clone(), around);
        return said.map(Said::Predicate).map_err(|problem| {
            StepError::terminal(format!("`data` cannot be attested: {problem}"))
        });
    }
    let (name, media_type, bytes) = match (&input.document, &input.predicate) {
        (Some(document), _) => {
            if document.size > MAX_DOCUMENT {
                let message = format!("`{}` is larger than what is attested", document.name);
                return Err(StepError::terminal(message));
            }
            let bytes = context.artifacts().get(&document.digest).await.map_err(|error| {
                StepError::retryable(format!("cannot read `{}`", document.name)).because(error)
            })?;
            (document.name.clone(), document.media_type.clone(), bytes)
        }
        (None, Some(path)) => {
            let bytes = file(context.workspace(), path)?;
            (path.clone(), "application/json".to_owned(), bytes)
        }
        (None, None) => return Err(StepError::terminal("nothing to say is given")),
    };
    // Base64 and the envelope come on top; what is around it is small.
    if bytes.len() as u64 > MAX_STATEMENT / 2 {
        return Ok(Said::TooLarge { name, media_type, bytes });
    }
    of_document(&input.kind, &bytes, around)
        .map(Said::Predicate)
        .map_err(|problem| StepError::terminal(format!("`{name}` cannot be attested: {problem}")))
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// A file of the workspace.
fn file(workspace: &Path, path: &str) -> Result<Bytes, StepError> {
    let failed = |problem: String| StepError::terminal(format!("cannot read `{path}`: {problem}"));
    let io = |error: std::io::Error| failed(error.to_string());
    let root: PathBuf = workspace.canonicalize().map_err(io)?;
    // A symbolic link may lead out of the workspace though the path does not.
    let file = root.join(path).canonicalize().map_err(io)?;
    if !file.starts_with(&root) {
        return Err(failed("it leads out of the workspace".to_owned()));
    }
    let metadata = std::fs::metadata(&file).map_err(io)?;
    if !metadata.is_file() {
        return Err(failed("it is not a file".to_owned()));
    }
    if metadata.len() > MAX_DOCUMENT {
        return Err(failed("it is over 256 MiB".to_owned()));
    }
    std::fs::read(&file).map(Bytes::from).map_err(io)
}
