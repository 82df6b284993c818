//! Predicates: what is said, made of a document, and held against what its type asks for.

use fairlead_evidence::PredicateType;
use fairlead_step::{Digest, RunInfo};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Around what a predicate is made.
pub(crate) struct Around<'a> {
    /// Which run, step and attempt.
    pub(crate) info: &'a RunInfo,
    /// The time now.
    pub(crate) now: Timestamp,
    /// Who builds, as a URI.
    pub(crate) builder: &'a str,
}

/// Where a document too large to be signed as it is stands.
pub(crate) struct Stored<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    pub(crate) media_type: &'a str,
    pub(crate) name: &'a str,
    /// The manifest that it hangs at the image with.
    pub(crate) manifest: &'a Digest,
}

/// The predicate of `kind` that `document` is, or is made to.
///
/// # Errors
/// Why it is none.
pub(crate) fn of_document(
    kind: &PredicateType,
    document: &[u8],
    around: &Around<'_>,
) -> Result<Value, String> {
    let text = || String::from_utf8_lossy(document).into_owned();
    let parsed: Result<Value, serde_json::Error> = serde_json::from_slice(document);
    if kind.uri() == PredicateType::CUSTOM {
        // cosign's form: the document as a text, and when.
        return Ok(json!({ "Data": text(), "Timestamp": around.now.to_string() }));
    }
    let parsed = parsed.map_err(|error| format!("it is not JSON: {error}"))?;
    of_value(kind, parsed, around)
}

/// The predicate of `kind` that `value` is, or is made to.
///
/// # Errors
/// Why it is none.
pub(crate) fn of_value(
    kind: &PredicateType,
    value: Value,
    around: &Around<'_>,
) -> Result<Value, String> {
    if kind.uri() == PredicateType::CUSTOM {
        return Ok(json!({ "Data": value.to_string(), "Timestamp": around.now.to_string() }));
    }
    if kind.uri() == PredicateType::VULN && value.get("scanner").is_none() {
        return Ok(vuln(value, around));
    }
    let lacks = missing(kind, &value);
    if let Some(lacks) = lacks {
        return Err(format!("it is no `{kind}`: {lacks}"));
    }
    Ok(value)
}

/// What a document lacks to be of `kind`, as far as a few fields can tell.
fn missing(kind: &PredicateType, value: &Value) -> Option<String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match kind.uri() {
        PredicateType::SPDX => {
            text("spdxVersion").is_none().then(|| "it has no `spdxVersion`".to_owned())
        }
        PredicateType::CYCLONEDX => (text("bomFormat") != Some("CycloneDX"))
            .then(|| "its `bomFormat` is not `CycloneDX`".to_owned()),
        PredicateType::TEST_RESULT => {
            let result = text("result");
            if !matches!(result, Some("PASSED" | "WARNED" | "FAILED")) {
                return Some("its `result` is not PASSED, WARNED or FAILED".to_owned());
            }
            (!value.get("configuration").is_some_and(Value::is_array))
                .then(|| "it has no list `configuration`".to_owned())
        }
        PredicateType::RELEASE => text("purl").is_none().then(|| "it has no `purl`".to_owned()),
        _ => None,
    }
}

/// A report of findings in cosign's form.
fn vuln(report: Value, around: &Around<'_>) -> Value {
    let origin = &report["origin"];
    let database = origin.get("database").and_then(Value::as_str).unwrap_or_default();
    json!({
        "invocation": {
            "parameters": null,
            "uri": "",
            "event_id": around.info.run,
            "builder.id": around.builder,
        },
        "scanner": {
            "uri": "https://fairlead.dev/scan/v1",
            "version": "",
            "db": { "uri": "", "version": database },
            "result": report,
        },
        "metadata": {
            "scanStartedOn": around.now.to_string(),
            "scanFinishedOn": around.now.to_string(),
        },
    })
}

/// in-toto's reference to a document that stands elsewhere.
pub(crate) fn reference(kind: &PredicateType, stored: &Stored<'_>, around: &Around<'_>) -> Value {
    json!({
        "attester": { "id": around.builder },
        "references": [{
            "name": stored.name,
            "mediaType": stored.media_type,
            "digest": { stored.digest.algorithm().name(): stored.digest.hex() },
            "annotations": {
                "predicateType": kind.uri(),
                "size": stored.size,
                "manifest": stored.manifest,
            },
        }],
    })
}
