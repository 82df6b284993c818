//! The kind `verify`.

use std::collections::BTreeMap;

use fairlead_oci::Client;
use fairlead_step::{
    Capability, Effect, Image, InputProblem, StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sign::key_error;
use crate::verdict::{Seen, overall};
use crate::{Answer, Finding, PublicKey};

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
    /// What an answer other than "verified" means.
    #[serde(default)]
    pub mode: Mode,
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VerifyOutput {
    /// The image.
    pub image: Image,
    /// The answer.
    pub answer: Answer,
    /// Every signature that was found.
    pub signatures: Vec<Finding>,
}

/// Every signature of `image` in both formats, judged by `key`, in a stable order.
pub(crate) async fn look(
    client: &Client,
    image: &Image,
    key: &PublicKey,
    annotations: &BTreeMap<String, String>,
) -> Seen {
    let (mut seen, bundles) = futures::join!(
        crate::legacy::find(client, image, key, annotations),
        crate::bundle::find(client, image, key, annotations),
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
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::RegistryRead];
    type Input = VerifyInput;
    type Output = VerifyOutput;

    fn check(&self, input: &VerifyInput) -> Vec<InputProblem> {
        match PublicKey::from_pem(&input.key) {
            Ok(_) => Vec::new(),
            Err(error) => {
                vec![InputProblem::at("/key", error.to_string()).hint(error.hint())]
            }
        }
    }

    async fn run(
        &self,
        input: VerifyInput,
        context: &StepContext,
    ) -> Result<Verdict<VerifyOutput>, StepError> {
        let VerifyInput { image, key, annotations, mode } = input;
        if mode == Mode::Off {
            return Ok(Verdict::Skipped { reason: "verification is off".into() });
        }
        let key = PublicKey::from_pem(&key).map_err(|error| key_error(&error))?;
        let client = Client::new(context.registries()?);
        let work = async {
            // "No signature" is an answer about an image that is there, and no other.
            client.resolve(&image_ref(&image)).await?;
            let seen = look(&client, &image, &key, &annotations).await;
            // One good signature is enough, whatever else could not be looked at.
            match seen.failure {
                Some(error) if overall(&seen.findings) != Answer::Verified => Err(error),
                Some(_) | None => Ok(seen.findings),
            }
        };
        let signatures = context.cancel().guard(work).await?;
        for finding in &signatures {
            context.say(format!("{} {}: {}", finding.format, finding.answer, finding.detail));
        }
        let answer = overall(&signatures);
        let reason = match answer {
            Answer::Verified => None,
            Answer::Absent => Some(format!("{image} has no signature")),
            Answer::Invalid => {
                Some(format!("{image} has a signature that does not hold or cannot be read"))
            }
            Answer::Foreign => Some(format!("{image} is signed, but not by this key")),
        };
        let outputs = VerifyOutput { image, answer, signatures };
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

fn image_ref(image: &Image) -> fairlead_step::ImageRef {
    fairlead_step::ImageRef {
        repository: image.repository.clone(),
        tag: None,
        digest: Some(image.digest.clone()),
    }
}
