//! Amazon ECR through EventBridge: its events as they are (`aws.ecr`), or as the CloudEvents that some
//! put in their place (`com.amazon.ecr.…`). EventBridge signs nothing; it can send a header.

use std::collections::BTreeMap;

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::image::Named;
use super::{Head, ReceiveError, Received, clip, is_manifest, json, line, signature, time};
use crate::{CloudEvent, Custom, Headers, ImageScanned, ScanKind, ScanOutcome, SourceEvent};

const WHAT: &str = "event of Amazon ECR";
/// How the types of the CloudEvents begin.
const CLOUD_EVENT: &str = "com.amazon.ecr.";

/// A connection of EventBridge sends a header of any name, or `Basic` credentials.
pub(super) fn head(secret: &Secret<String>, head: &Head<'_>) -> Result<(), ReceiveError> {
    const HEADER: &str = "X-Webhook-Secret";
    if head.headers.get("x-webhook-secret").is_some() {
        return signature::plain_header(secret, head.headers, "x-webhook-secret", HEADER);
    }
    if head.headers.get("authorization").is_some() {
        return signature::authorization(secret, head.headers);
    }
    match head.address_end {
        Some(end) => signature::address(secret, Some(end)),
        None => Err(ReceiveError::Unsigned { header: HEADER }),
    }
}

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    source: String,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    detail: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Action {
    #[serde(default)]
    result: Option<String>,
    repository_name: String,
    #[serde(default)]
    image_digest: Option<String>,
    action_type: String,
    #[serde(default)]
    image_tag: Option<String>,
    #[serde(default)]
    manifest_media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Scan {
    scan_status: String,
    repository_name: String,
    image_digest: String,
    #[serde(default)]
    finding_severity_counts: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    image_tags: Option<Vec<String>>,
}

/// The data of the CloudEvents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    repository_name: String,
    #[serde(default)]
    image_digest: Option<String>,
    #[serde(default)]
    image_tag: Option<String>,
    #[serde(default)]
    registry_id: Option<String>,
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let value: Value = json(WHAT, body)?;
    if value.get("detail-type").is_none() {
        return cloud_event(headers, body, registry);
    }
    let malformed =
        |e: serde_json::Error| ReceiveError::Malformed { what: WHAT, reason: clip(&e.to_string()) };
    let event: Event = serde_json::from_value(value).map_err(malformed)?;
    if event.source != "aws.ecr" {
        return Ok(Received::nothing(format!("`{}`: not of a registry", clip(&event.source))));
    }
    if !is_of(registry, event.account.as_deref(), event.region.as_deref()) {
        return Ok(Received::nothing(
            "an event of another account or region than that of the source's registry",
        ));
    }
    let at = time(event.time.as_deref());
    match event.detail_type.as_str() {
        "ECR Image Action" => {
            let action: Action = serde_json::from_value(event.detail).map_err(malformed)?;
            if action.result.as_deref().is_some_and(|result| result != "SUCCESS") {
                return Ok(Received::nothing("an action that did not succeed"));
            }
            Ok(image(action, registry, at))
        }
        "ECR Image Scan" => {
            let scan: Scan = serde_json::from_value(event.detail).map_err(malformed)?;
            Ok(scanned(scan, registry, at))
        }
        other if other.starts_with("ECR ") => {
            let kind = format!("aws.ecr.{}", other[4..].to_lowercase().replace(' ', "_"));
            let subject = event.detail.get("repository-name").and_then(Value::as_str);
            Ok(Received::one(SourceEvent::Custom(Custom {
                r#type: clip(&kind),
                source: registry.unwrap_or_default().to_owned(),
                subject: line(subject.map(str::to_owned)),
                id: clip(&event.id),
                time: at,
                data: event.detail,
            })))
        }
        other => Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
    }
}

/// Whether the registry of the source is that of this account and region, as far as its name has
/// them: a name of one's own says nothing.
fn is_of(registry: Option<&str>, account: Option<&str>, region: Option<&str>) -> bool {
    let host = registry.unwrap_or_default();
    let mut labels = host.split('.');
    let first = labels.next().unwrap_or_default();
    if first.len() != 12 || !first.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    account.is_none_or(|account| account == first)
        && region.is_none_or(|region| labels.any(|label| label == region))
}

fn image(action: Action, registry: Option<&str>, at: Option<Timestamp>) -> Received {
    let media_type = line(action.manifest_media_type);
    if let Some(other) = media_type.as_deref().filter(|kind| !is_manifest(kind)) {
        return Received::nothing(format!("`{}`: not a manifest", clip(other)));
    }
    let path = &action.repository_name;
    let named =
        Named::new(registry, path, action.image_tag.as_deref(), action.image_digest.as_deref());
    match (action.action_type.as_str(), named) {
        ("PUSH" | "REPLICATE", Ok(named)) => {
            let mut push = named.pushed(None, at);
            push.media_type = media_type;
            Received::one(SourceEvent::ImagePushed(push))
        }
        ("DELETE", Ok(named)) => Received::one(SourceEvent::ImageDeleted(named.deleted(None, at))),
        ("PUSH" | "REPLICATE" | "DELETE", Err(why)) => Received::refused(why),
        (other, _) => Received::nothing(format!("`{}`: of no interest", clip(other))),
    }
}

fn scanned(scan: Scan, registry: Option<&str>, at: Option<Timestamp>) -> Received {
    let outcome = match scan.scan_status.as_str() {
        "COMPLETE" => ScanOutcome::Completed,
        "FAILED" => ScanOutcome::Failed,
        other => return Received::nothing(format!("`{}`: not the end of a scan", clip(other))),
    };
    let tag = scan.image_tags.and_then(|tags| tags.into_iter().next());
    let path = &scan.repository_name;
    let named = Named::new(registry, path, tag.as_deref(), Some(&scan.image_digest));
    let (repository, tag, digest) = match named {
        Ok(Named { repository, tag, digest: Some(digest) }) => (repository, tag, digest),
        Ok(_) => return Received::refused("a scan that names no digest"),
        Err(why) => return Received::refused(why),
    };
    Received::one(SourceEvent::ImageScanned(ImageScanned {
        repository,
        tag,
        digest,
        scan: ScanKind::Vulnerability,
        outcome,
        severity: None,
        // A severity without findings is left away here, and sometimes all of them.
        findings: scan.finding_severity_counts.filter(|it| !it.is_empty() && it.len() <= 32),
        report: None,
        at,
    }))
}

fn cloud_event(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let event = CloudEvent::read(headers, body).map_err(|e| malformed(e.to_string()))?;
    let action_type = match event.kind.strip_prefix(CLOUD_EVENT) {
        Some("image.push") => "PUSH",
        Some("image.delete") => "DELETE",
        _ => return Ok(Received::nothing(format!("`{}`: of no interest", clip(&event.kind)))),
    };
    let data: Data =
        serde_json::from_value(event.data).map_err(|e| malformed(clip(&e.to_string())))?;
    // `urn:aws:ecr:<region>:<account>:repository/<name>`
    let mut urn = event.source.split(':').skip(3);
    let (region, account) = (urn.next(), urn.next());
    if !is_of(registry, account.or(data.registry_id.as_deref()), region) {
        return Ok(Received::nothing(
            "an event of another account or region than that of the source's registry",
        ));
    }
    let action = Action {
        result: None,
        repository_name: data.repository_name,
        image_digest: data.image_digest,
        action_type: action_type.to_owned(),
        image_tag: data.image_tag,
        manifest_media_type: None,
    };
    Ok(image(action, registry, event.time))
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;

    const HOST: &str = "123456789012.dkr.ecr.us-east-1.example.com";

    fn send(body: &Value) -> Result<Received, ReceiveError> {
        read(&Headers::default(), body.to_string().as_bytes(), Some(HOST))
    }

    fn event(kind: &str, detail: Value) -> Value {
        json!({ "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": kind,
            "source": "aws.ecr", "account": "123456789012", "time": "2026-11-16T01:54:34Z",
            "region": "us-east-1", "resources": [], "detail": detail })
    }

    fn action(action: &str) -> Value {
        event(
            "ECR Image Action",
            json!({ "result": "SUCCESS", "repository-name": "team/app", "image-tag": "latest",
                "image-digest": Digest::sha256(b"a"), "action-type": action }),
        )
    }

    #[test]
    fn actions_are_read_in_either_form() {
        let want = format!("{HOST}/team/app:latest@{}", Digest::sha256(b"a"));
        let cloud_event = json!({ "specversion": "1.0", "id": "1", "type": "com.amazon.ecr.image.push",
            "source": "urn:aws:ecr:us-east-1:123456789012:repository/team/app",
            "time": "2026-11-16T01:54:34Z", "data": { "repositoryName": "team/app",
                "imageDigest": Digest::sha256(b"a"), "imageTag": "latest",
                "registryId": "123456789012" } });
        for body in [action("PUSH"), cloud_event] {
            let received = send(&body).unwrap();
            assert_eq!(received.events[0].subject(), want);
            assert!(matches!(received.events[0], SourceEvent::ImagePushed(_)));
        }
        let gone = send(&action("DELETE")).unwrap();
        assert!(matches!(gone.events[0], SourceEvent::ImageDeleted(_)));
    }

    #[test]
    fn what_failed_or_is_elsewhere_is_nothing() {
        let mut failed = action("PUSH");
        failed["detail"]["result"] = json!("FAILURE");
        let mut elsewhere = action("PUSH");
        elsewhere["region"] = json!("eu-west-1");
        let mut stranger = action("PUSH");
        stranger["account"] = json!("210987654321");
        let mut other = action("PUSH");
        other["source"] = json!("aws.s3");
        for body in [failed, elsewhere, stranger, other, action("OTHER")] {
            let received = send(&body).unwrap();
            assert_eq!((received.events.len(), received.ignored.len()), (0, 1), "{body}");
        }
        // A name of one's own for the registry says neither account nor region.
        assert!(is_of(Some("images.example.com"), Some("1"), Some("x")));
        for body in [json!({}), json!([]), event("ECR Image Action", json!({}))] {
            assert!(send(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_missing_count_is_not_none() {
        let detail = json!({ "scan-status": "COMPLETE", "repository-name": "team/app",
            "image-digest": Digest::sha256(b"a"), "image-tags": [],
            "finding-severity-counts": { "CRITICAL": 10, "MEDIUM": 9 } });
        let scan = |detail: Value| {
            let received = send(&event("ECR Image Scan", detail)).unwrap();
            let SourceEvent::ImageScanned(scan) = &received.events[0] else {
                panic!("{received:?}")
            };
            scan.findings.clone()
        };
        let want = [("CRITICAL".to_owned(), 10), ("MEDIUM".to_owned(), 9)].into();
        assert_eq!(scan(detail.clone()), Some(want));
        let mut without = detail.clone();
        without.as_object_mut().unwrap().remove("finding-severity-counts");
        assert_eq!(scan(without), None);
        let mut empty = detail;
        empty["finding-severity-counts"] = json!({});
        assert_eq!(scan(empty), None);
    }

    #[test]
    fn other_events_of_the_registry_are_passed_on() {
        let body = event("ECR Pull Through Cache Action", json!({ "repository-name": "cache/x" }));
        let received = send(&body).unwrap();
        let SourceEvent::Custom(event) = &received.events[0] else { panic!("{received:?}") };
        assert_eq!(event.r#type, "aws.ecr.pull_through_cache_action");
        assert_eq!(event.subject.as_deref(), Some("cache/x"));
    }
}
