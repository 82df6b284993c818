//! The kind `sign`.

use std::collections::BTreeMap;

use fairlead_oci::Client;
use fairlead_step::{
    Capability, Digest, Effect, Image, InputProblem, Missing, Preflight, Secret, StepContext,
    StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::overall;
use crate::verify::look;
use crate::{Answer, KeyError, SigningKey};

/// A format of signatures.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// cosign 2's: a manifest under the tag `sha256-….sig`.
    V2,
    /// cosign 3's: a Sigstore bundle, attached as a referrer.
    V3,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

/// The `sign` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sign;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInput {
    /// The image to sign.
    pub image: Image,
    /// The private key: the contents of `cosign.key`, or of a plain PKCS#8 or SEC1 PEM file.
    pub key: Secret<String>,
    /// The password of an encrypted key.
    pub password: Option<Secret<String>>,
    /// Annotations to sign with the digest.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The formats to write: both when it is left out.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
}

fn both() -> Vec<Format> {
    vec![Format::V2, Format::V3]
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SignOutput {
    /// The image that is signed now.
    pub image: Image,
    /// The public half of the key, in PEM, as `verify` takes it.
    pub public_key: String,
    /// The SHA-256 of the public key (its SubjectPublicKeyInfo in DER).
    pub fingerprint: Digest,
    /// The formats that are there and verified.
    pub formats: Vec<Format>,
}

pub(crate) fn key_error(error: &KeyError) -> StepError {
    StepError::terminal(error.to_string()).hint(error.hint())
}

impl StepKind for Sign {
    const KIND: &'static str = "sign";
    const SUMMARY: &'static str = "sign an image with a cosign key, as cosign 2 and 3 read it";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] =
        &[Capability::RegistryRead, Capability::RegistryWrite, Capability::Secrets];
    type Input = SignInput;
    type Output = SignOutput;

    fn check(&self, input: &SignInput) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if input.formats.is_empty() {
            problems.push(InputProblem::at("/formats", "no format is named"));
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        let secret = |pointer: &str| {
            let text = look.get(pointer)?.as_str()?;
            Some(Secret::new(text.to_owned()))
        };
        // Opening a key takes a processor tenths of a second: a step that comes first says it as soon.
        let (Some(key), false) = (secret("/key"), look.is_first()) else { return Vec::new() };
        let password = match look.get("/password") {
            None => None,
            Some(_) => match secret("/password") {
                Some(password) => Some(password),
                None => return Vec::new(),
            },
        };
        let opened =
            tokio::task::spawn_blocking(move || SigningKey::from_pem(&key, password.as_ref()));
        match opened.await {
            Ok(Err(error)) => vec![key_error(&error).into()],
            Ok(Ok(_)) | Err(_) => Vec::new(),
        }
    }

    async fn run(
        &self,
        input: SignInput,
        context: &StepContext,
    ) -> Result<Verdict<SignOutput>, StepError> {
        let SignInput { image, key, password, annotations, mut formats } = input;
        formats.sort();
        formats.dedup();
        // Opening a key keeps a processor busy for tenths of a second: not on the shared threads.
        let opened =
            tokio::task::spawn_blocking(move || SigningKey::from_pem(&key, password.as_ref()));
        let key = opened
            .await
            .map_err(|error| StepError::retryable("opening the key was broken off").because(error))?
            .map_err(|error| key_error(&error))?;
        let public = key.public_key();
        context.say(format!("signing {image} with the key {}", public.fingerprint()));

        let client = Client::new(context.registries()?);
        let work = async {
            // Nothing is signed that the registry does not have.
            let subject = client.manifest(&image).await?.descriptor();
            for format in &formats {
                let added = match format {
                    Format::V2 => {
                        crate::legacy::attach(&client, &image, &key, &annotations).await?
                    }
                    Format::V3 => {
                        crate::bundle::attach(&client, &image, &subject, &key, &annotations).await?
                    }
                };
                let what = if added { "written" } else { "there already" };
                context.say(format!("{format} signature: {what}"));
            }
            let found = look(&client, &image, &public, &annotations).await?;
            Ok::<_, StepError>(found)
        };
        let findings = context.cancel().guard(work).await?;
        for format in &formats {
            let of_format: Vec<_> =
                findings.iter().filter(|finding| finding.format == *format).cloned().collect();
            if overall(&of_format) != Answer::Verified {
                return Err(StepError::retryable(format!(
                    "the {format} signature of {image} was written and does not read back"
                ))
                .hint(
                    "the registry may lag behind its writes; another writer may have removed it",
                ));
            }
        }
        context.say("read back and verified");
        Ok(Verdict::passed(SignOutput {
            public_key: public.to_pem(),
            fingerprint: public.fingerprint(),
            formats,
            image,
        }))
    }
}
