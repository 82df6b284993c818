//! Reports: JSON, SARIF 2.1.0 (OASIS), and a line for each finding.

use std::path::Path;

use fairlead_step::Digest;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::finding::{Finding, Ignored};
use crate::lint::Linted;
use crate::rule::{RULES, Rule, Severity};

/// Findings by what they weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Errors.
    pub error: u64,
    /// Warnings.
    pub warning: u64,
    /// What is worth knowing.
    pub info: u64,
    /// Matters of form.
    pub style: u64,
}

impl Counts {
    /// Counts findings.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            match finding.severity {
                Severity::Error => counts.error += 1,
                Severity::Warning => counts.warning += 1,
                Severity::Info => counts.info += 1,
                Severity::Style => counts.style += 1,
                Severity::Off => {}
            }
        }
        counts
    }

    /// The same in words, such as `1 error, 2 warnings`.
    #[must_use]
    pub fn words(&self) -> String {
        let plural = |count: u64, word: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            n => Some(format!("{n} {many}")),
        };
        let parts: Vec<String> = [
            plural(self.error, "error", "errors"),
            plural(self.warning, "warning", "warnings"),
            plural(self.info, "note", "notes"),
            plural(self.style, "matter of form", "matters of form"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") }
    }
}

/// The report as JSON, `fairlead.dev/lint/v1`.
pub(crate) fn document(file: &str, text: &str, linted: &Linted) -> Value {
    json!({
        "format": "fairlead.dev/lint/v1",
        "file": file,
        "digest": Digest::sha256(text.as_bytes()),
        "counts": Counts::of(&linted.findings),
        "findings": linted.findings,
        "ignored": linted.ignored,
        "notes": linted.notes,
    })
}

/// The findings as lines for people.
pub(crate) fn table(linted: &Linted) -> String {
    let mut text = String::new();
    for finding in &linted.findings {
        let Finding { file, place, severity, code, message, help, .. } = finding;
        let alias = finding.alias.map(|alias| format!(" {alias}")).unwrap_or_default();
        let (line, column, severity) = (place.line, place.column, severity.as_str());
        text.push_str(&format!("{file}:{line}:{column}: {severity}[{code}{alias}]: {message}\n"));
        text.push_str(&format!("    {help}\n"));
    }
    text.push_str(&Counts::of(&linted.findings).words());
    text.push('\n');
    text
}

/// A whole SARIF document about one file.
pub(crate) fn sarif(linted: &Linted) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [sarif_run(std::slice::from_ref(linted))],
    })
}

/// One run of SARIF over any number of files: for a document with other runs in it.
#[must_use]
pub fn sarif_run(all: &[Linted]) -> Value {
    let found = all.iter().flat_map(|linted| &linted.findings).map(|finding| result(finding, None));
    let ignored = all
        .iter()
        .flat_map(|linted| &linted.ignored)
        .map(|ignored| result(&ignored.finding, Some(ignored)));
    let results: Vec<Value> = found.chain(ignored).collect();
    json!({
        "tool": {"driver": {
            "name": "fairlead-lint",
            "version": env!("CARGO_PKG_VERSION"),
            "informationUri": "https://fairlead.dev/",
            "rules": RULES.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
        }},
        "columnKind": "unicodeCodePoints",
        "results": results,
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info | Severity::Style => "note",
        Severity::Off => "none",
    }
}

fn descriptor(rule: &Rule) -> Value {
    let alias = rule.alias.map(|alias| format!(" It is hadolint's {alias}.")).unwrap_or_default();
    let mut words = rule.title.replace('`', "");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    json!({
        "id": rule.code,
        "name": rule.code,
        "shortDescription": {"text": words},
        "fullDescription": {"text": format!("{words}: {}.{alias}", rule.why)},
        "help": {
            "text": format!("{}. The way out: {}.", rule.why, rule.fix),
            "markdown": format!("**Why:** {}.\n\n**The way out:** {}.{alias}", rule.why, rule.fix),
        },
        "defaultConfiguration": {"level": level(rule.severity), "enabled": rule.severity != Severity::Off},
        "properties": {"tags": ["dockerfile"], "alias": rule.alias},
    })
}

fn result(finding: &Finding, ignored: Option<&Ignored>) -> Value {
    let place = &finding.place;
    let index = RULES.iter().position(|rule| rule.code == finding.code);
    let mut result = json!({
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": {"text": format!("{}. {}.", finding.message, finding.help)},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&finding.file)},
            "region": region(place.line, place.column, place.end_line, place.end_column),
        }}],
        "partialFingerprints": {"lint/v1": finding.fingerprint},
    });
    if let Some(ignored) = ignored {
        let by = match (&ignored.owner, &ignored.expires) {
            (Some(owner), Some(day)) => format!(" ({owner}, until {day})"),
            _ => String::new(),
        };
        let kind = if ignored.owner.is_some() { "external" } else { "inSource" };
        let reason = ignored.reason.as_deref().unwrap_or_default();
        result["suppressions"] =
            json!([{"kind": kind, "status": "accepted", "justification": format!("{reason}{by}")}]);
    }
    result
}

fn region(line: usize, column: usize, end_line: usize, end_column: usize) -> Value {
    json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column})
}

/// A path as a relative URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// Whether a file is a Dockerfile, by its name, or else by how its text begins.
#[must_use]
pub fn is_dockerfile(path: &Path, text: Option<&str>) -> bool {
    let name =
        path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name.ends_with(".dockerignore") {
        return false;
    }
    let by_name = ["dockerfile", "containerfile"].iter().any(|kind| {
        name == *kind
            || name.starts_with(&format!("{kind}."))
            || name.ends_with(&format!(".{kind}"))
    });
    let other = [".yaml", ".yml", ".json", ".md"].iter().any(|ending| name.ends_with(ending));
    let by_text = || {
        let line =
            text?.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
        let word = line.split_whitespace().next()?;
        // A key of YAML has a colon behind it.
        Some(["FROM", "ARG"].contains(&word) && !line.contains(": "))
    };
    !other && (by_name || by_text() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_is_known_by_name_or_text() {
        for name in
            ["Dockerfile", "a/Dockerfile.dev", "web.Dockerfile", "Containerfile", "x.dockerfile"]
        {
            assert!(is_dockerfile(Path::new(name), None), "{name}");
        }
        for name in ["Dockerfile.dockerignore", "release.yaml", "dockerfile.md", "other"] {
            assert!(!is_dockerfile(Path::new(name), None), "{name}");
        }
        assert!(is_dockerfile(Path::new("image"), Some("# x\n\nFROM debian\n")));
        assert!(!is_dockerfile(Path::new("image"), Some("kind: Pipeline\n")));
        assert!(!is_dockerfile(Path::new("x.yaml"), Some("FROM debian\n")));
    }
}
