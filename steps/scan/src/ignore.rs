//! The ignore file: findings that somebody answers for, until a day.
//!
//! ```yaml
//! ignore:
//!   - id: CVE-2026-1234
//!     package: openssl          # optional: this package alone
//!     owner: platform-team
//!     reason: the code path is not reachable from the network
//!     expires: 2026-12-31       # the last day it counts
//! ```

use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::finding::Finding;

/// Bytes of an ignore file.
pub(crate) const MAX_FILE: u64 = 1024 * 1024;

/// An ignore file, checked.
#[derive(Debug, Default)]
pub(crate) struct Ignores {
    entries: Vec<Entry>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// Any id of the vulnerability.
    pub(crate) id: String,
    /// The package's name as advisories use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) package: Option<String>,
    /// A package URL; without a version it stands for every version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purl: Option<String>,
    pub(crate) owner: String,
    pub(crate) reason: String,
    pub(crate) expires: Date,
    /// Where it stands in the file.
    pub(crate) line: u64,
}

/// A finding that is ignored, and by what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ignored {
    pub(crate) finding: Finding,
    pub(crate) owner: String,
    pub(crate) reason: String,
    pub(crate) expires: Date,
}

/// What the ignore file did to the findings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sifted {
    pub(crate) findings: Vec<Finding>,
    pub(crate) ignored: Vec<Ignored>,
    /// Entries whose day has passed, though they match a finding.
    pub(crate) expired: Vec<Entry>,
    /// Entries that match no finding.
    pub(crate) unused: Vec<Entry>,
}

/// Why an ignore file cannot be used: every problem, each with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub(crate) struct IgnoreError {
    problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    ignore: Vec<Spanned<Written>>,
}

/// An entry as it is written; what is missing is told with its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Option<String>,
    package: Option<String>,
    purl: Option<String>,
    owner: Option<String>,
    reason: Option<String>,
    expires: Option<Spanned<String>>,
}

impl Ignores {
    /// Reads the text of the file called `name`.
    pub(crate) fn read(name: &Path, text: &str) -> Result<Self, IgnoreError> {
        let name = name.display();
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let message = error.without_snippet().to_string();
            let first = message.lines().next().unwrap_or("it cannot be read");
            IgnoreError { problems: vec![format!("{name}:{line}: {first}")] }
        })?;
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for written in file.ignore {
            let line = written.referenced.line();
            match check(written.value, line) {
                Ok(entry) => entries.push(entry),
                Err(found) => {
                    problems
                        .extend(found.into_iter().map(|(l, what)| format!("{name}:{l}: {what}")));
                }
            }
        }
        if problems.is_empty() { Ok(Self { entries }) } else { Err(IgnoreError { problems }) }
    }

    /// Takes away the findings that an entry answers for on `today`.
    pub(crate) fn sift(&self, findings: Vec<Finding>, today: Date) -> Sifted {
        let mut sifted = Sifted::default();
        let mut used = vec![false; self.entries.len()];
        for finding in findings {
            let mut by: Option<&Entry> = None;
            for (entry, used) in self.entries.iter().zip(&mut used) {
                if entry.matches(&finding) {
                    *used = true;
                    if today <= entry.expires {
                        by = by.or(Some(entry));
                    }
                }
            }
            match by {
                Some(entry) => sifted.ignored.push(Ignored {
                    finding,
                    owner: entry.owner.clone(),
                    reason: entry.reason.clone(),
                    expires: entry.expires,
                }),
                None => sifted.findings.push(finding),
            }
        }
        for (entry, used) in self.entries.iter().zip(used) {
            match (used, today > entry.expires) {
                (false, _) => sifted.unused.push(entry.clone()),
                (true, true) => sifted.expired.push(entry.clone()),
                (true, false) => {}
            }
        }
        sifted
    }
}

impl Entry {
    fn matches(&self, finding: &Finding) -> bool {
        let package = self.package.as_ref().is_none_or(|name| *name == finding.package.name);
        let purl = self.purl.as_ref().is_none_or(|wanted| {
            finding.package.purls.iter().any(|purl| {
                let rest = purl.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '?', '#']))
            })
        });
        finding.ids.contains(&self.id) && package && purl
    }
}

fn check(written: Written, line: u64) -> Result<Entry, Vec<(u64, String)>> {
    let mut problems = Vec::new();
    let mut required = |value: Option<String>, key: &str| {
        let value = value.filter(|value| !value.trim().is_empty());
        if value.is_none() {
            problems.push((line, format!("the entry has no `{key}`")));
        }
        value.unwrap_or_default()
    };
    let id = required(written.id, "id");
    let owner = required(written.owner, "owner");
    let reason = required(written.reason, "reason");
    let expires_line = written.expires.as_ref().map_or(line, |date| date.referenced.line());
    let expires = required(written.expires.map(|date| date.value), "expires");
    let date = match expires.parse::<Date>() {
        Ok(date) => date,
        Err(_) => {
            if !expires.is_empty() {
                problems.push((
                    expires_line,
                    format!("`expires: {expires}` is not a date; write it as 2026-12-31"),
                ));
            }
            Date::ZERO
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let (package, purl) = (written.package, written.purl);
    Ok(Entry { id, package, purl, owner, reason, expires: date, line })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::finding::AffectedPackage;
    use crate::severity::Severity;

    fn read(text: &str) -> Result<Ignores, String> {
        Ignores::read(Path::new("ignore.yaml"), text).map_err(|error| error.to_string())
    }

    fn finding(id: &str, name: &str) -> Finding {
        Finding {
            id: id.to_owned(),
            ids: BTreeSet::from([id.to_owned(), format!("GHSA-{id}")]),
            records: BTreeSet::new(),
            severity: Severity::High,
            severity_from: Vec::new(),
            title: String::new(),
            package: AffectedPackage {
                ecosystem: "npm".into(),
                name: name.to_owned(),
                version: "1".into(),
                purls: BTreeSet::from([format!("pkg:npm/{name}@1")]),
                paths: BTreeSet::new(),
                owners: BTreeSet::new(),
            },
            fixed_in: Vec::new(),
            informational: None,
        }
    }

    #[test]
    fn entries_answer_for_findings_until_their_day() {
        let entry = |id: &str, more: &str, expires: &str| {
            format!("  - {{id: {id}, {more} owner: o, reason: r, expires: {expires}}}\n")
        };
        let text = [
            "ignore:\n".to_owned(),
            entry("GHSA-CVE-1", "package: a,", "2026-11-22"),
            entry("CVE-2", "purl: pkg:npm/b,", "2026-11-21"),
            entry("CVE-3", "purl: pkg:npm/c,", "2030-01-01"),
            entry("CVE-4", "", "2030-01-01"),
        ]
        .concat();
        let findings = vec![
            finding("CVE-1", "a"),
            finding("CVE-1", "other"),
            finding("CVE-2", "b"),
            finding("CVE-3", "cc"),
        ];
        let today = "2026-11-22".parse().unwrap();
        let sifted = read(&text).unwrap().sift(findings, today);
        let names = |findings: &[Finding]| {
            findings.iter().map(|f| f.package.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&sifted.findings), ["other", "b", "cc"]);
        assert_eq!(sifted.ignored.len(), 1);
        let told =
            |entries: &[Entry]| entries.iter().map(|e| (e.id.clone(), e.line)).collect::<Vec<_>>();
        assert_eq!(told(&sifted.expired), [("CVE-2".to_owned(), 3)]);
        assert_eq!(told(&sifted.unused), [("CVE-3".to_owned(), 4), ("CVE-4".to_owned(), 5)]);
    }

    #[test]
    fn a_malformed_file_is_told_with_every_place() {
        for (text, want) in [
            (
                "ignore:\n  - {id: CVE-1, owner: me}\n",
                "ignore.yaml:2: the entry has no `reason`; ignore.yaml:2: the entry has no `expires`",
            ),
            (
                "ignore:\n  - id: CVE-1\n    owner: me\n    reason: r\n    expires: soon\n",
                "ignore.yaml:5: `expires: soon` is not a date",
            ),
            ("ignore:\n  - id: CVE-1\n    onwer: me\n", "ignore.yaml:3: unknown field `onwer`"),
            ("ignored: []\n", "ignore.yaml:1: unknown field `ignored`"),
            ("ignore: [\n", "ignore.yaml:"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(read("").is_ok() && read("ignore: []\n").is_ok());
    }
}
