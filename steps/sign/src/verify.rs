//! The kind `verify`.

use std::collections::BTreeMap;

use bytes::Bytes;
use fairlead_evidence::{
    Answer, Demand, Finding, PredicateType, Proven, PublicKey, Seen, attestations, find_bundles,
    find_legacy, overall,
};
use fairlead_oci::Client;
use fairlead_step::{
    Artifact, Capability, Effect, Image, InputProblem, Repository, StepContext, StepError,
    StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most types of attestations that are asked for at once.
const KINDS_LIMIT: usize = 50;

/// What an answer other than "verified" means for the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The step rejects.
    #[default]
    Require,
    /// The step passes and says so in its log.
    Warn,
    /// Nothing is looked at; the step is skipped.
    Off,
}

/// The `verify` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Verify;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyInput {
    /// The image.
    pub image: Image,
    /// The public key in PEM, as `cosign.pub` has it.
    pub key: String,
    /// Annotations that the signature must carry.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The repository that what is verified must have been made for. A signature that names another one,
    /// and came here with a copy of the image, is foreign.
    pub reference: Option<Repository>,
    /// Whether a signature is asked for.
    #[serde(default = "yes")]
    pub signature: bool,
    /// The attestations that are asked for, by type. Nothing of another type is read.
    #[serde(default)]
    pub attestations: Vec<PredicateType>,
    /// What an answer other than "verified" means.
    #[serde(default)]
    pub mode: Mode,
}

const fn yes() -> bool {
    true
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VerifyOutput {
    /// The image.
    pub image: Image,
    /// The answer: the worst of all that was asked for.
    pub answer: Answer,
    /// Every signature that was found.
    pub signatures: Vec<Finding>,
    /// What was found of each type of attestation.
    pub attestations: Vec<AttestationOutput>,
}

/// What was found of one type of attestation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AttestationOutput {
    /// The type, as its URI.
    pub kind: PredicateType,
    /// The answer.
    pub answer: Answer,
    /// Every attestation of this type that was found.
    pub findings: Vec<Finding>,
    /// The statements of those that are verified, each as a document.
    pub statements: Vec<Artifact>,
}

/// Every signature of `image` in both formats, judged by `key`, in a stable order.
pub(crate) async fn look(client: &Client, image: &Image, key: &PublicKey, demand: &Demand) -> Seen {
    let (mut seen, bundles) = futures::join!(
        find_legacy(client, image, key, demand),
        find_bundles(client, image, key, demand),
    );
    seen.merge(bundles);
    seen.findings
        .sort_by(|a, b| (a.format, a.answer, &a.detail).cmp(&(b.format, b.answer, &b.detail)));
    seen
}

impl StepKind for Verify {
    const KIND: &'static str = "verify";
    const SUMMARY: &'static str =
        "look for a signature by a key: verified, absent, invalid or foreign";
    const VERSION: &'static str = "2";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::RegistryRead];
    type Input = VerifyInput;
    type Output = VerifyOutput;

    fn check(&self, input: &VerifyInput) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if let Err(error) = PublicKey::from_pem(&input.key) {
            problems.push(InputProblem::at("/key", error.to_string()).hint(error.hint()));
        }
        if input.attestations.len() > KINDS_LIMIT {
            let message = format!("more than {KINDS_LIMIT} types");
            problems.push(InputProblem::at("/attestations", message));
        }
        if !input.signature && input.attestations.is_empty() {
            problems.push(
                InputProblem::at("/signature", "nothing is asked for")
                    .hint("name the types of attestations that must be there"),
            );
        }
        problems
    }

    async fn run(
        &self,
        input: VerifyInput,
        context: &StepContext,
    ) -> Result<Verdict<VerifyOutput>, StepError> {
        let VerifyInput {
            image,
            key,
            annotations,
            reference,
            signature,
            attestations: kinds,
            mode,
        } = input;
        if mode == Mode::Off {
            return Ok(Verdict::Skipped { reason: "verification is off".into() });
        }
        let key = PublicKey::from_pem(&key)?;
        let client = Client::new(context.registries()?);
        let demand = Demand { annotations, reference };
        let work = async {
            // "No signature" is an answer about an image that is there, and no other.
            client.resolve(&image_ref(&image)).await?;
            let (seen, (proven, failure)) = futures::join!(
                async {
                    let asked = look(&client, &image, &key, &demand);
                    if signature { asked.await } else { Seen::default() }
                },
                async {
                    let asked = attestations(&client, &image, &key, &kinds, &demand);
                    if kinds.is_empty() { (Vec::new(), None) } else { asked.await }
                },
            );
            // One good signature is enough, whatever else could not be looked at.
            let signed = !signature || overall(&seen.findings) == Answer::Verified;
            let attested = proven.iter().all(|proven| proven.answer() == Answer::Verified);
            match (seen.failure.filter(|_| !signed), failure.filter(|_| !attested)) {
                (Some(error), _) | (None, Some(error)) => Err(error),
                (None, None) => Ok((seen.findings, proven)),
            }
        };
        let (signatures, proven) = context.cancel().guard(Box::pin(work)).await?;
        for finding in &signatures {
            context.say(format!("{} {}: {}", finding.format, finding.answer, finding.detail));
        }
        let mut asked = Vec::new();
        if signature {
            asked.push((overall(&signatures), "signature".to_owned()));
        }
        let mut attestations = Vec::new();
        for proven in proven {
            for Finding { format, answer, detail } in proven.found.iter().map(|one| &one.finding) {
                context.say(format!("{} {format} {answer}: {detail}", proven.kind));
            }
            asked.push((proven.answer(), format!("attestation `{}`", proven.kind)));
            attestations.push(store(proven, context).await?);
        }
        // A no is told by what is furthest from a yes; everything asked for has a line in the log.
        let reasons: Vec<String> =
            asked.iter().filter_map(|(answer, what)| reason(*answer, what)).collect();
        let answer = asked.iter().map(|(answer, _)| *answer).min_by_key(|answer| match answer {
            // Damage weighs more than absence where several things are asked for.
            Answer::Invalid => 0,
            Answer::Foreign => 1,
            Answer::Absent => 2,
            Answer::Verified => 3,
        });
        let answer = answer.unwrap_or(Answer::Absent);
        let outputs = VerifyOutput { image, answer, signatures, attestations };
        let reason = (!reasons.is_empty())
            .then(|| format!("{} has {}", outputs.image, reasons.join(", and ")));
        Ok(match (reason, mode) {
            (Some(reason), Mode::Require) => Verdict::Rejected { reason, outputs },
            (Some(reason), Mode::Warn | Mode::Off) => {
                context.say(format!("warning: {reason}"));
                Verdict::passed(outputs)
            }
            (None, _) => {
                context.say("verified");
                Verdict::passed(outputs)
            }
        })
    }
}

/// Why an answer is no yes.
fn reason(answer: Answer, what: &str) -> Option<String> {
    match answer {
        Answer::Verified => None,
        Answer::Absent => Some(format!("no {what}")),
        Answer::Invalid => Some(format!("a {what} that does not hold or cannot be read")),
        Answer::Foreign => Some(format!("a {what} that is not by this key, or not for this place")),
    }
}

/// Keeps what verified attestations say, for later steps to read.
async fn store(proven: Proven, context: &StepContext) -> Result<AttestationOutput, StepError> {
    let mut statements: Vec<Artifact> = Vec::new();
    for statement in proven.statements() {
        let bytes = Bytes::from(statement.to_bytes()?);
        let name = format!("{}.intoto.json", proven.kind.name().unwrap_or("statement"));
        let stored = context.artifacts().put(&name, "application/vnd.in-toto+json", bytes).await;
        let stored = stored.map_err(|error| {
            StepError::retryable(format!("cannot store `{name}`")).because(error)
        })?;
        // Both formats hold the same statement.
        if !statements.contains(&stored) {
            statements.push(stored);
        }
    }
    Ok(AttestationOutput {
        answer: proven.answer(),
        findings: proven.found.into_iter().map(|one| one.finding).collect(),
        kind: proven.kind,
        statements,
    })
}

fn image_ref(image: &Image) -> fairlead_step::ImageRef {
    fairlead_step::ImageRef {
        repository: image.repository.clone(),
        tag: None,
        digest: Some(image.digest.clone()),
    }
}
