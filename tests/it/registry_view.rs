//! What a registry holds, seen with crane: tags, manifests, and the signatures of an image.

use std::process::Command;

use fairlead_tests::{Oracle, oracle, stdout_of};
use serde_json::Value;

/// The media type of a Sigstore bundle, as cosign 3 attaches it.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Runs crane over plain HTTP and answers what it prints.
pub(crate) fn crane(args: &[&str]) -> String {
    let mut command = Command::new(oracle(Oracle::Crane));
    stdout_of(command.arg("--insecure").args(args)).trim().to_owned()
}

/// Whether the registry has what `reference` names.
pub(crate) fn exists(reference: &str) -> bool {
    let mut command = Command::new(oracle(Oracle::Crane));
    command.args(["--insecure", "digest", reference]).output().unwrap().status.success()
}

pub(crate) fn manifest(reference: &str) -> Value {
    serde_json::from_str(&crane(&["manifest", reference])).unwrap()
}

/// The tags of a repository that people gave, sorted: those that hide evidence are left out.
pub(crate) fn tags(repository: &str) -> Vec<String> {
    let listed = crane(&["ls", repository]);
    let mut tags: Vec<_> =
        listed.lines().filter(|tag| !tag.starts_with("sha256-")).map(ToOwned::to_owned).collect();
    tags.sort();
    tags
}

/// The name of the tag beside `image`, which is `repository@sha256:…`: cosign 2's with `.sig`, the
/// list of referrers with nothing.
pub(crate) fn beside(image: &str, suffix: &str) -> String {
    let (repository, digest) = image.split_once('@').unwrap();
    format!("{repository}:{}{suffix}", digest.replace(':', "-"))
}

/// How many signatures `image` has in each format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// Layers of cosign 2's manifest.
    pub(crate) v2: usize,
    /// Bundles among the referrers.
    pub(crate) v3: usize,
}

pub(crate) const ONE_OF_EACH: Signatures = Signatures { v2: 1, v3: 1 };

pub(crate) fn signatures(image: &str) -> Signatures {
    let legacy = beside(image, ".sig");
    let v2 =
        if exists(&legacy) { manifest(&legacy)["layers"].as_array().unwrap().len() } else { 0 };
    Signatures { v2, v3: referrers(image, BUNDLE).len() }
}

/// The references of what is attached to `image` with a layer of this media type. Every entry of the
/// list is opened: what the list says of an entry differs between writers.
pub(crate) fn referrers(image: &str, layer_type: &str) -> Vec<String> {
    let list = beside(image, "");
    if !exists(&list) {
        return Vec::new();
    }
    let (repository, _) = image.split_once('@').unwrap();
    let list = manifest(&list);
    let entries = list["manifests"].as_array().unwrap().iter();
    let references =
        entries.map(|entry| format!("{repository}@{}", entry["digest"].as_str().unwrap()));
    references.filter(|entry| manifest(entry)["layers"][0]["mediaType"] == layer_type).collect()
}
