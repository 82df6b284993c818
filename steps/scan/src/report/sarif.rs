//! SARIF 2.1.0 (OASIS): one rule for each vulnerability, one result for each finding.

use std::collections::BTreeMap;

use fairlead_step::Digest;
use serde_json::{Value, json};

use super::document::Report;
use crate::finding::Finding;
use crate::severity::Severity;

/// Renders a report. Ignored findings are results with a suppression.
pub(crate) fn sarif(report: &Report) -> Value {
    let ignored = report.ignored.iter().map(|ignored| &ignored.finding);
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in report.findings.iter().chain(ignored) {
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
        result["suppressions"] =
            json!([{"kind": "external", "status": "accepted", "justification": justification}]);
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
            }},
            "artifacts": [{
                "location": {"uri": uri},
                "hashes": {"sha-256": report.origin.sbom.hex()},
            }],
            "results": results,
            "columnKind": "unicodeCodePoints",
            "properties": {
                "database": report.origin.database.to_string(),
                "sbom": report.origin.sbom.to_string(),
            },
        }],
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
    // It stays the same when the package is updated to another version that is affected too.
    let fingerprint = Digest::sha256(
        format!("{}\n{}\n{}", finding.id, package.ecosystem, package.name).as_bytes(),
    );
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
        "properties": {"fixedIn": finding.fixed_in},
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
