//! Harbor's webhooks, in its own form (`type`, `event_data`) and as CloudEvents (`harbor.…`). Its only
//! proof is the value that it was given for `Authorization`; it names no type in a header, and a new id
//! in each message.
//!
//! What it could not deliver in its few attempts is lost, but kept in the list of a policy's executions.
//! Such a list is taken, too, as it was answered: each of its payloads is read as if it had come.

use std::collections::BTreeMap;

use fairlead_step::Secret;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::image::Named;
use super::{Head, MAX_EVENTS, ReceiveError, Received, clip, json, line, signature};
use crate::source::DedupKey;
use crate::{
    CloudEvent, Custom, Headers, ImageScanned, STRUCTURED, ScanKind, ScanOutcome, SourceEvent,
};

const WHAT: &str = "webhook of Harbor";

/// Harbor sends what it was given word for word: with `Bearer` before it, or alone.
pub(super) fn head(secret: &Secret<String>, head: &Head<'_>) -> Result<(), ReceiveError> {
    let value = head.headers.get("authorization").unwrap_or_default();
    if signature::same_text(secret.expose(), value.trim()) {
        return Ok(());
    }
    signature::authorization(secret, head.headers)
}

/// An event in Harbor's own form.
#[derive(Deserialize)]
struct Native {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    occur_at: Option<i64>,
    #[serde(default)]
    operator: Option<String>,
    #[serde(default)]
    event_data: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    resources: Option<Vec<Resource>>,
    #[serde(default)]
    repository: Option<Repository>,
    #[serde(default)]
    scan: Option<Scan>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    scan_overview: Option<BTreeMap<String, Overview>>,
    #[serde(default)]
    sbom_overview: Option<Overview>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    repo_full_name: Option<String>,
}

#[derive(Deserialize)]
struct Scan {
    #[serde(default)]
    scan_type: Option<String>,
}

/// What Harbor keeps of a scan, by the media type of the report.
#[derive(Deserialize)]
struct Overview {
    #[serde(default)]
    report_id: Option<String>,
    #[serde(default)]
    sbom_digest: Option<String>,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    summary: Option<Summary>,
    #[serde(default)]
    end_time: Option<String>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    summary: Option<BTreeMap<String, u64>>,
}

/// What happened, whichever form told it.
enum What {
    Pushed,
    Deleted,
    Scanned(ScanOutcome),
    /// An event that has no typed form, by the type that Harbor gives its CloudEvent.
    Other(&'static str),
    Nothing,
}

fn what(kind: &str) -> What {
    match kind {
        "PUSH_ARTIFACT" | "harbor.artifact.pushed" | "CREATE_TAG" | "harbor.tag.created" => {
            What::Pushed
        }
        "DELETE_ARTIFACT" | "harbor.artifact.deleted" => What::Deleted,
        "SCANNING_COMPLETED" | "harbor.scan.completed" => What::Scanned(ScanOutcome::Completed),
        "SCANNING_FAILED" | "harbor.scan.failed" => What::Scanned(ScanOutcome::Failed),
        "SCANNING_STOPPED" | "harbor.scan.stopped" => What::Scanned(ScanOutcome::Stopped),
        "REPLICATION" | "harbor.replication.status.changed" => {
            What::Other("harbor.replication.status.changed")
        }
        "TAG_RETENTION" | "harbor.tag_retention.finished" => {
            What::Other("harbor.tag_retention.finished")
        }
        "QUOTA_EXCEED" | "harbor.quota.exceeded" => What::Other("harbor.quota.exceeded"),
        "QUOTA_WARNING" | "harbor.quota.warned" => What::Other("harbor.quota.warned"),
        // Pulls among them: they change nothing, and there are more of them than of anything else.
        _ => What::Nothing,
    }
}

/// One delivery in the list of a policy's executions.
#[derive(Deserialize)]
struct Execution {
    #[serde(default)]
    extra_attrs: Option<Attributes>,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(default)]
    payload: Option<String>,
}

/// Whether the body is a list of executions, and no webhook.
pub(super) fn is_list(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    if !is_list(body) {
        let kind = headers.get("content-type").unwrap_or_default();
        return one(kind.starts_with(STRUCTURED), body, registry);
    }
    let executions: Vec<Execution> = json("list of executions of Harbor", body)?;
    if executions.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "executions" });
    }
    let mut received = Received::default();
    for (index, execution) in executions.into_iter().enumerate() {
        let number = index + 1;
        let Some(payload) = execution.extra_attrs.and_then(|attributes| attributes.payload) else {
            received.refused.push(format!("execution {number}: it has no `payload`"));
            continue;
        };
        // Which of the two forms it is in nothing else says here.
        match one(payload.contains("\"specversion\""), payload.as_bytes(), registry) {
            Ok(part) => {
                received.events.extend(part.events);
                received.ignored.extend(part.ignored);
                let refused = part.refused.into_iter();
                received.refused.extend(refused.map(|why| format!("execution {number}: {why}")));
            }
            Err(error) => received.refused.push(format!("execution {number}: {error}")),
        }
        if received.events.len() > MAX_EVENTS {
            return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "events" });
        }
    }
    Ok(received)
}

/// One webhook, in either form.
fn one(
    is_cloud_event: bool,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: WHAT, reason };
    let (kind, operator, at, data) = if is_cloud_event {
        let event = CloudEvent::from_json(body).map_err(|e| malformed(e.to_string()))?;
        // The operator is an extension attribute, which the envelope does not keep.
        #[derive(Deserialize)]
        struct Extensions {
            #[serde(default)]
            operator: Option<String>,
        }
        let extensions: Extensions = json(WHAT, body)?;
        (event.kind, extensions.operator, event.time, event.data)
    } else {
        let event: Native = json(WHAT, body)?;
        let at = event.occur_at.and_then(|second| Timestamp::from_second(second).ok());
        let data = event.event_data.map_or(Value::Null, Value::Object);
        (event.kind, event.operator, at, data)
    };
    let actor = line(operator);
    let happened = what(&kind);
    if let What::Nothing = happened {
        return Ok(Received::nothing(format!("`{}`: of no interest", clip(&kind))));
    }
    if let What::Other(kind) = happened {
        return Ok(Received::one(SourceEvent::Custom(custom(kind, registry, at, data))));
    }
    let data: Data = serde_json::from_value(data).map_err(|e| malformed(clip(&e.to_string())))?;
    let path = data.repository.and_then(|it| it.repo_full_name).unwrap_or_default();
    let resources = data.resources.unwrap_or_default();
    if resources.is_empty() {
        return Ok(Received::refused(format!("`{}` names no artifact", clip(&kind))));
    }
    if resources.len() > MAX_EVENTS {
        return Err(ReceiveError::TooLarge { limit: MAX_EVENTS, unit: "artifacts" });
    }
    let sbom = data.scan.and_then(|scan| scan.scan_type).is_some_and(|kind| kind == "sbom");
    let mut received = Received::default();
    for resource in resources {
        let named =
            Named::new(registry, &path, resource.tag.as_deref(), resource.digest.as_deref());
        received.add(named.and_then(|named| match happened {
            What::Pushed => Ok(SourceEvent::ImagePushed(named.pushed(actor.clone(), at))),
            What::Deleted => Ok(SourceEvent::ImageDeleted(named.deleted(actor.clone(), at))),
            What::Scanned(outcome) => scanned(named, outcome, sbom, resource, at),
            What::Other(_) | What::Nothing => Err("it is of no interest".to_owned()),
        }));
    }
    Ok(received)
}

fn scanned(
    named: Named,
    outcome: ScanOutcome,
    sbom: bool,
    resource: Resource,
    at: Option<Timestamp>,
) -> Result<SourceEvent, String> {
    let Named { repository, tag, digest } = named;
    let digest = digest.ok_or_else(|| format!("scan of `{repository}`: it names no digest"))?;
    // There is one overview for each media type that the scanner knows, of the same findings; the
    // newest form sorts last.
    let overview = if sbom {
        resource.sbom_overview
    } else {
        resource.scan_overview.and_then(|all| all.into_values().next_back())
    };
    let mut scan = ImageScanned {
        repository,
        tag,
        digest,
        scan: if sbom { ScanKind::Sbom } else { ScanKind::Vulnerability },
        outcome,
        severity: None,
        findings: None,
        report: None,
        at,
    };
    if let Some(overview) = overview {
        scan.severity = line(overview.severity);
        scan.report = line(overview.report_id.or(overview.sbom_digest));
        // Without findings Harbor leaves the map away, or empty beside its total: not known is what
        // that comes to here.
        scan.findings = overview
            .summary
            .and_then(|summary| summary.summary)
            .filter(|findings| !findings.is_empty() && findings.len() <= 32);
        scan.at = super::time(overview.end_time.as_deref()).or(at);
    }
    Ok(SourceEvent::ImageScanned(scan))
}

/// An event without a typed form. Harbor makes a new id for each message and each policy, so the id
/// here is of what happened.
fn custom(kind: &str, registry: Option<&str>, at: Option<Timestamp>, data: Value) -> Custom {
    let subject = data.pointer("/repository/repo_full_name").or_else(|| {
        ["/retention/project_name", "/replication/dest_resource/namespace"]
            .iter()
            .find_map(|place| data.pointer(place))
    });
    let subject = line(subject.and_then(Value::as_str).map(str::to_owned));
    let source = registry.unwrap_or_default().to_owned();
    let time = at.as_ref().map(ToString::to_string).unwrap_or_default();
    let id = DedupKey::of(&[kind, &source, &time, &data.to_string()]).to_string();
    Custom { r#type: kind.to_owned(), source, subject, id, time: at, data }
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;

    fn default(kind: &str, event_data: Value) -> Result<Received, ReceiveError> {
        let body = json!({ "type": kind, "occur_at": 1_795_906_731, "operator": "admin",
            "event_data": event_data });
        read(&Headers::default(), body.to_string().as_bytes(), Some("harbor.example.com"))
    }

    fn cloud_event(kind: &str, data: &Value) -> Result<Received, ReceiveError> {
        let body = json!({ "specversion": "1.0", "id": "5d77322d", "type": kind, "operator": "admin",
            "source": "/projects/2/webhook/policies/2", "time": "2026-11-28T22:58:51Z",
            "datacontenttype": "application/json", "data": data });
        let headers = [("Content-Type", STRUCTURED)].into_iter().collect();
        read(&headers, body.to_string().as_bytes(), Some("harbor.example.com"))
    }

    fn artifact(tag: &str, digest: &str) -> Value {
        json!({ "resources": [{ "digest": digest, "tag": tag,
                "resource_url": format!("elsewhere.example.com/team/app/api:{tag}") }],
            "repository": { "name": "app/api", "namespace": "team",
                "repo_full_name": "team/app/api", "repo_type": "private" } })
    }

    #[test]
    fn both_forms_say_the_same() {
        let digest = Digest::sha256(b"a").to_string();
        for (default_kind, cloud_kind, tag, want) in [
            ("PUSH_ARTIFACT", "harbor.artifact.pushed", "1.0", ":1.0@"),
            // Without a tag the digest stands there: a child of an index, or evidence.
            ("PUSH_ARTIFACT", "harbor.artifact.pushed", digest.as_str(), "@"),
            ("DELETE_ARTIFACT", "harbor.artifact.deleted", "1.0", ":1.0@"),
            ("SCANNING_FAILED", "harbor.scan.failed", "1.0", ":1.0@"),
        ] {
            let data = artifact(tag, &digest);
            let (one, other) =
                (default(default_kind, data.clone()), cloud_event(cloud_kind, &data));
            let (one, other) = (one.unwrap().events, other.unwrap().events);
            assert_eq!(one, other, "{default_kind}");
            let want = format!("harbor.example.com/team/app/api{want}{digest}");
            assert_eq!(one[0].subject(), want, "the address in the message is not believed");
        }
    }

    #[test]
    fn what_has_no_form_of_its_own_is_told_apart_by_what_happened() {
        let data = json!({ "repository": { "repo_full_name": "limited/a" },
            "custom_attributes": { "Details": "quota usage reach 85%" } });
        let key =
            |received: Result<Received, ReceiveError>| received.unwrap().events[0].dedup_key();
        let first = key(default("QUOTA_WARNING", data.clone()));
        assert_eq!(first, key(cloud_event("harbor.quota.warned", &data)));
        assert_ne!(first, key(default("QUOTA_EXCEED", data)));
    }

    #[test]
    fn a_scan_says_how_many_findings_there_are_or_that_nobody_knows() {
        let digest = Digest::sha256(b"a").to_string();
        let scan = |resource: Value, scan: Value| {
            let data = json!({ "resources": [resource], "scan": scan,
                "repository": { "repo_full_name": "team/app/api" } });
            let received = default("SCANNING_COMPLETED", data).unwrap();
            let SourceEvent::ImageScanned(scan) = &received.events[0] else {
                panic!("{received:?}")
            };
            scan.clone()
        };
        let found = scan(
            json!({ "digest": digest, "tag": "1.0", "scan_overview": { "mime": {
                "report_id": "r1", "severity": "Critical", "end_time": "2026-11-28T22:55:59Z",
                "summary": { "total": 1, "fixable": 0, "summary": { "Critical": 1 } } } } }),
            json!({ "scan_type": "vulnerability" }),
        );
        assert_eq!(found.findings, Some([("Critical".to_owned(), 1)].into()));
        assert_eq!((found.report.as_deref(), found.scan), (Some("r1"), ScanKind::Vulnerability));
        let unknown = scan(json!({ "digest": digest }), Value::Null);
        assert_eq!((unknown.findings, unknown.severity), (None, None));
        let sbom = scan(
            json!({ "digest": digest, "sbom_overview": { "sbom_digest": digest } }),
            json!({ "scan_type": "sbom" }),
        );
        assert_eq!((sbom.scan, sbom.report), (ScanKind::Sbom, Some(digest)));
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_pulls_are_nothing() {
        let digest = Digest::sha256(b"a").to_string();
        let pull = default("PULL_ARTIFACT", artifact("1.0", &digest)).unwrap();
        assert_eq!((pull.events.len(), pull.ignored.len()), (0, 1));
        for data in [
            json!({}),
            json!({ "resources": [], "repository": { "repo_full_name": "a/b" } }),
            json!({ "resources": [{ "digest": digest }] }),
            artifact("1.0", "sha256:12"),
            artifact("-", &digest),
            json!({ "resources": [{}], "repository": { "repo_full_name": "a/b" } }),
        ] {
            let received = default("PUSH_ARTIFACT", data.clone()).unwrap();
            assert_eq!((received.events.len(), received.refused.len()), (0, 1), "{data}");
        }
        for body in ["", "[1]", "{}", r#"{"type":1}"#, r#"{"type":"PUSH_ARTIFACT","event_data":7}"#]
        {
            let read = read(&Headers::default(), body.as_bytes(), Some("r.example.com"));
            assert!(matches!(read, Err(ReceiveError::Malformed { .. })), "{body}");
        }
    }

    #[test]
    fn what_was_not_delivered_is_read_from_the_list_of_executions() {
        let digest = Digest::sha256(b"a").to_string();
        let plain = json!({ "type": "PUSH_ARTIFACT", "occur_at": 1_795_906_731, "operator": "ann",
            "event_data": artifact("1.0", &digest) });
        let cloud_event = json!({ "specversion": "1.0", "id": "x", "type": "harbor.artifact.pushed",
            "source": "/projects/2/webhook/policies/2", "time": "2026-11-28T22:58:51Z",
            "data": artifact("1.1", &digest) });
        let execution = |payload: &Value| {
            json!({ "id": 1, "status": "Error", "extra_attrs": { "event_type": "PUSH_ARTIFACT",
                "payload": payload.to_string() } })
        };
        let list = json!([execution(&plain), { "id": 2 }, execution(&json!("x")),
            execution(&cloud_event)]);
        let read = |body: &Value| {
            let body = body.to_string();
            read(&Headers::default(), body.as_bytes(), Some("harbor.example.com")).unwrap()
        };
        let received = read(&list);
        assert_eq!((received.events.len(), received.refused.len()), (2, 2), "{received:?}");
        assert!(received.refused[0].starts_with("execution 2: "), "{received:?}");
        // It is the same event as the one that came, if it came.
        assert_eq!(received.events[0].dedup_key(), read(&plain).events[0].dedup_key());
        assert_eq!(read(&json!([])), Received::default());
    }

    #[test]
    fn the_header_is_taken_as_it_was_given_or_as_a_bearer() {
        let secret = Secret::new("s3cret".to_owned());
        let check = |value: &str| {
            let headers = [("Authorization", value)].into_iter().collect();
            let now = Timestamp::UNIX_EPOCH;
            head(&secret, &Head { headers: &headers, address_end: None, now })
        };
        assert_eq!(check("s3cret"), Ok(()));
        assert_eq!(check("Bearer s3cret"), Ok(()));
        assert!(check("Bearer other").is_err() && check("").is_err());
    }
}
