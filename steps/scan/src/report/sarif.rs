//! SARIF 2.1.0 (OASIS): one rule for each vulnerability, one result for each finding, one
//! notification for each thing that could not be assessed.

use std::collections::BTreeMap;

use fairlead_step::Digest;
use serde_json::{Value, json};

use super::document::Report;
use crate::finding::Finding;
use crate::severity::Severity;
use crate::unassessed::Unassessed;

/// The notification about something that could not be assessed.
const UNASSESSED: &str = "unassessed";

/// Renders a report. Ignored findings, and those of the distribution's own packages, are results
/// with a suppression.
pub(crate) fn sarif(report: &Report) -> Value {
    let ignored = report.ignored.iter().map(|ignored| &ignored.finding);
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in report.findings.iter().chain(ignored).chain(&report.distribution_owned) {
        // The finding that is worst describes the rule.
        let described = rules.entry(&finding.id).or_insert(finding);
        if finding.severity > described.severity {
            *described = finding;
        }
    }
    let places: BTreeMap<&str, usize> =
        rules.keys().enumerate().map(|(place, id)| (*id, place)).collect();
    let place = |finding: &Finding| places.get(finding.id.as_str()).copied().unwrap_or_default();

    let uri = artifact_uri(&report.origin.sbom_name);
    let mut results: Vec<Value> =
        report.findings.iter().map(|finding| result(finding, place(finding), &uri)).collect();
    for ignored in &report.ignored {
        let mut result = result(&ignored.finding, place(&ignored.finding), &uri);
        let justification =
            format!("{} ({}, until {})", ignored.reason, ignored.owner, ignored.expires);
        result["suppressions"] = suppressed(&justification);
        results.push(result);
    }
    for finding in &report.distribution_owned {
        let mut result = result(finding, place(finding), &uri);
        let owners: Vec<&str> = finding.package.owners.iter().map(String::as_str).collect();
        result["suppressions"] = suppressed(&format!(
            "{} brought it: the advisories of the distribution decide",
            owners.join(", ")
        ));
        results.push(result);
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "fairlead-scan",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": "https://fairlead.dev/",
                "rules": rules.values().map(|finding| rule(finding)).collect::<Vec<_>>(),
                "notifications": [{
                    "id": UNASSESSED,
                    "shortDescription": {"text": "Something in the image could not be assessed"},
                }],
            }},
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications":
                    report.unassessed.iter().map(notification).collect::<Vec<_>>(),
            }],
            "artifacts": [{
                "location": {"uri": uri},
                "hashes": {"sha-256": report.origin.sbom.hex()},
            }],
            "results": results,
            "columnKind": "unicodeCodePoints",
            "properties": {
                "database": report.origin.database.to_string(),
                "sbom": report.origin.sbom.to_string(),
                "unassessed": report.summary.unassessed,
                "unassessedAccepted": report.summary.unassessed_accepted,
            },
        }],
    })
}

fn suppressed(justification: &str) -> Value {
    json!([{"kind": "external", "status": "accepted", "justification": justification}])
}

/// What could not be assessed: a warning, or a note where somebody accepts it.
fn notification(thing: &Unassessed) -> Value {
    let (level, accepted) = match &thing.accepted {
        Some(accepted) => ("note", format!("; accepted ({accepted})")),
        None => ("warning", String::new()),
    };
    let packages = match (thing.packages, thing.count) {
        (true, 1) => " (1 package)".to_owned(),
        (true, count) => format!(" ({count} packages)"),
        (false, _) => String::new(),
    };
    let text = format!("{thing}{packages} could not be assessed: {}{accepted}", thing.reason);
    json!({
        "descriptor": {"id": UNASSESSED, "index": 0},
        "level": level,
        "message": {"text": text},
        "properties": {"kind": thing.kind, "subject": thing.subject, "count": thing.count},
    })
}

fn rule(finding: &Finding) -> Value {
    let title = if finding.title.is_empty() { &finding.id } else { &finding.title };
    // Forges sort by this number; where no vector gave one, the level stands for it.
    let score = finding.severity_from.iter().find_map(|statement| statement.score);
    let score = score.unwrap_or(match finding.severity {
        Severity::Critical => 9.0,
        Severity::High => 7.0,
        Severity::Medium => 4.0,
        Severity::Low => 1.0,
        Severity::Negligible | Severity::Unknown => 0.0,
    });
    let aliases: Vec<&String> = finding.ids.iter().filter(|id| **id != finding.id).collect();
    let source = finding.records.first().unwrap_or(&finding.id);
    json!({
        "id": finding.id,
        "name": finding.id,
        "shortDescription": {"text": title},
        "helpUri": format!("https://osv.dev/vulnerability/{source}"),
        "defaultConfiguration": {"level": level(finding.severity)},
        "properties": {
            "security-severity": format!("{score:.1}"),
            "aliases": aliases,
            "tags": ["security", "vulnerability"],
        },
    })
}

fn result(finding: &Finding, rule: usize, uri: &str) -> Value {
    let package = &finding.package;
    let fix = match finding.fixed_in.as_slice() {
        [] => "no fixed version is known".to_owned(),
        versions => format!("fixed in {}", versions.join(", ")),
    };
    let message = format!(
        "{} {} in {} is affected by {} ({}); {fix}",
        package.name, package.version, package.ecosystem, finding.id, finding.severity
    );
    let logical: Vec<Value> = package
        .purls
        .iter()
        .map(|purl| json!({"fullyQualifiedName": purl, "name": package.name, "kind": "package"}))
        .collect();
    // Two versions of a package, or the same one elsewhere, are two findings with lives of their
    // own: one may be fixed while the other stays.
    let mut identity = [&finding.id, &package.ecosystem, &package.name, &package.version]
        .map(String::as_str)
        .to_vec();
    identity.extend(package.paths.iter().map(String::as_str));
    let fingerprint = Digest::sha256(identity.join("\n").as_bytes());
    json!({
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": level(finding.severity),
        "message": {"text": message},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}},
            "logicalLocations": logical,
        }],
        "partialFingerprints": {"vulnerabilityPackage/v1": fingerprint.hex()},
        "properties": {"fixedIn": finding.fixed_in, "paths": package.paths},
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Negligible | Severity::Unknown => "note",
    }
}

/// The name of the bill as a relative URI reference (RFC 3986): other characters are escaped.
fn artifact_uri(name: &str) -> String {
    let mut uri = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
