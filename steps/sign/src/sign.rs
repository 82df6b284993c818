//! The kind `sign`.

use std::collections::BTreeMap;

use fairlead_evidence::{
    Demand, Format, SigningKey, attach_bundle, attach_legacy, missing_key, open_key, overall,
};
use fairlead_oci::{Client, Descriptor};
use fairlead_step::{
    Capability, Digest, Effect, Image, InputProblem, Missing, Preflight, Secret, StepContext,
    StepError, StepKind, Verdict,
};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Answer;
use crate::verify::look;

/// How many images of an index are signed side by side.
const SIDE_BY_SIDE: usize = 4;

/// The `sign` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sign;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInput {
    /// The image to sign.
    pub image: Image,
    /// The private key in PEM: the contents of `cosign.key`, PKCS#8 plain or encrypted, SEC1 or PKCS#1. It
    /// is ECDSA on P-256 or P-384, Ed25519 or RSA.
    pub key: Secret<String>,
    /// The password of an encrypted key.
    pub password: Option<Secret<String>>,
    /// Annotations to sign with the digest.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The formats to write: both when it is left out.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
    /// Whether the images that an index lists are signed, too.
    #[serde(default)]
    pub recursive: bool,
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
    /// The images of an index that are signed now, where they were to be.
    pub children: Vec<Image>,
}

impl StepKind for Sign {
    const KIND: &'static str = "sign";
    const SUMMARY: &'static str = "sign an image with a key, as cosign 2 and 3 read it";
    const VERSION: &'static str = "2";
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
        missing_key(look).await
    }

    async fn run(
        &self,
        input: SignInput,
        context: &StepContext,
    ) -> Result<Verdict<SignOutput>, StepError> {
        let SignInput { image, key, password, annotations, mut formats, recursive } = input;
        formats.sort();
        formats.dedup();
        let client = Client::new(context.registries()?);
        // Meanwhile the registry is asked for the image: nothing is signed that it does not have.
        let (key, manifest) = futures::join!(
            open_key(key, password),
            context.cancel().guard(client.manifest(&image))
        );
        let (key, manifest) = (key?, manifest?);
        let public = key.public_key();
        context.say(format!(
            "signing {image} with the {} key {}",
            public.algorithm(),
            public.fingerprint()
        ));
        let pen = Pen { client: &client, key: &key, annotations: &annotations, formats: &formats };
        // The images first: whoever sees the index signed finds them signed.
        let children: Vec<Descriptor> =
            if recursive { manifest.children().to_vec() } else { Vec::new() };
        let repository = &image.repository;
        let signed = children.iter().map(|child| {
            let child_image = repository.at(child.digest.clone());
            let pen = &pen;
            Box::pin(async move {
                pen.sign(&child_image, child, context).await?;
                Ok::<_, StepError>(child_image)
            })
        });
        let signed = stream::iter(signed.collect::<Vec<_>>());
        let signed: Vec<Image> = signed.buffered(SIDE_BY_SIDE).try_collect().await?;
        // Both formats at once are much for one frame of the stack.
        Box::pin(pen.sign(&image, &manifest.descriptor(), context)).await?;
        Ok(Verdict::passed(SignOutput {
            public_key: public.to_pem(),
            fingerprint: public.fingerprint(),
            children: signed,
            formats,
            image,
        }))
    }
}

/// What everything is signed with.
struct Pen<'a> {
    client: &'a Client,
    key: &'a SigningKey,
    annotations: &'a BTreeMap<String, String>,
    formats: &'a [Format],
}

impl Pen<'_> {
    /// Signs one image, and reads back what was written.
    async fn sign(
        &self,
        image: &Image,
        subject: &Descriptor,
        context: &StepContext,
    ) -> Result<(), StepError> {
        let Self { client, key, annotations, formats } = *self;
        let work = async {
            // Each format has a place of its own: they are written side by side.
            let v2 = async {
                let asked = formats.contains(&Format::V2);
                let write = attach_legacy(client, image, key, annotations);
                if asked { Some(write.await) } else { None }
            };
            let v3 = async {
                let asked = formats.contains(&Format::V3);
                let write = attach_bundle(client, image, subject, key, annotations);
                if asked { Some(write.await) } else { None }
            };
            let (v2, v3) = futures::join!(v2, v3);
            let mut failed = None;
            for (format, done) in [(Format::V2, v2), (Format::V3, v3)] {
                let of = image.digest.short();
                match done {
                    Some(Ok(true)) => context.say(format!("{format} signature of {of}: written")),
                    Some(Ok(false)) => {
                        context.say(format!("{format} signature of {of}: there already"));
                    }
                    Some(Err(error)) => failed = failed.or(Some(error)),
                    None => {}
                }
            }
            match failed {
                Some(error) => Err(StepError::from(error)),
                None => {
                    let reference = Some(image.repository.clone());
                    let demand = Demand { annotations: annotations.clone(), reference };
                    Ok(look(client, image, key.public_key(), &demand).await)
                }
            }
        };
        let mut seen = context.cancel().guard(Box::pin(work)).await?;
        for format in formats {
            let of_format: Vec<_> =
                seen.findings.iter().filter(|finding| finding.format == *format).cloned().collect();
            if overall(&of_format) == Answer::Verified {
                continue;
            }
            if let Some(error) = seen.failure.take() {
                return Err(error.into());
            }
            return Err(StepError::retryable(format!(
                "the {format} signature of {image} was written and does not read back"
            ))
            .hint("the registry may lag behind its writes; another writer may have removed it"));
        }
        context.say(format!("{} read back and verified", image.digest.short()));
        Ok(())
    }
}
