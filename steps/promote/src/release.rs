//! The release attestation: in-toto's `release`, signed, at each destination. It binds the digest to the
//! repository, the tags and the environment that it was promoted to, which a signature alone does not.

use std::collections::BTreeMap;

use fairlead_evidence::{Attestation, Attested, Format, PredicateType, SigningKey, attest};
use fairlead_oci::{Client, Manifest};
use fairlead_step::{Digest, Image, StepContext, StepError};
use serde_json::{Value, json};

use crate::Input;

/// What is said of one destination.
pub(crate) struct Release<'a> {
    pub(crate) input: &'a Input,
    pub(crate) promoted: &'a Image,
    pub(crate) manifest: &'a Manifest,
    pub(crate) closure: &'a Digest,
    /// Where each channel pointed before.
    pub(crate) channels: &'a BTreeMap<String, Option<Digest>>,
}

/// What became of it.
pub(crate) struct Said {
    /// The bundle's manifest.
    pub(crate) bundle: Option<Digest>,
    /// The digest of what was copied, as the first attempt of this step said it.
    pub(crate) closure: Option<Digest>,
}

/// Says it, unless this step of this run did.
pub(crate) async fn say(
    client: &Client,
    key: &SigningKey,
    release: &Release<'_>,
    context: &StepContext,
) -> Result<Said, StepError> {
    let attestation = Attestation {
        kind: PredicateType::of_uri(PredicateType::RELEASE),
        predicate: predicate(release, context),
        mark: Some(context.info().idempotency_key()),
    };
    let subject = release.manifest.descriptor();
    let formats = [Format::V2, Format::V3];
    let said = attest(client, release.promoted, &subject, key, &attestation, &formats).await?;
    let Attested { written, bundle, statement } = said;
    let how = if written.iter().any(|(_, is_new)| *is_new) { "signed" } else { "signed before" };
    context.say(format!("release of {} {how}", release.promoted));
    let closure = statement.predicate["fairlead"]["closure"].as_str();
    Ok(Said { bundle, closure: closure.and_then(|digest| digest.parse().ok()) })
}

fn predicate(release: &Release<'_>, context: &StepContext) -> Value {
    let Release { input, promoted, closure, channels, .. } = release;
    let path = promoted.repository.path();
    let name = path.rsplit('/').next().unwrap_or(path);
    let version = promoted.digest.to_string().replace(':', "%3A");
    let mut predicate = json!({
        // package-url, type `oci`: the name is the last part of the repository's.
        "purl": format!("pkg:oci/{name}@{version}?repository_url={}", promoted.repository),
        "fairlead": {
            "from": input.image,
            "repository": promoted.repository.to_string(),
            "tags": input.tags,
            "channels": channels,
            "closure": closure,
            "pipeline": context.info().pipeline,
            "run": context.info().run,
            "at": context.now().to_string(),
        },
    });
    if let Some(version) = input.tags.first() {
        predicate["releaseId"] = json!(version);
    }
    if let Some(environment) = &input.environment {
        predicate["fairlead"]["environment"] = json!(environment);
    }
    predicate
}
