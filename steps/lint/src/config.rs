//! The configuration: what rules weigh, which registries and labels are allowed, and findings that
//! somebody answers for until a day.
//!
//! ```yaml
//! severity: {FLD0103: off, DL3008: error}
//! trusted_registries: [registry.example.com, "*.internal"]
//! labels:
//!   required: {org.opencontainers.image.source: url}
//!   strict: false
//! ignore:
//!   - rule: DL3008
//!     file: services/*/Dockerfile   # optional
//!     owner: platform-team
//!     reason: the archive is a snapshot
//!     expires: 2027-03-31           # the last day it counts
//! ```

use std::collections::BTreeMap;

use fairlead_step::Glob;
use jiff::civil::Date;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::finding::{Finding, Ignored};
use crate::rule::{Rule, Severity, rule, rules};

/// The most bytes of a configuration file.
pub const MAX_CONFIG: u64 = 1024 * 1024;

/// What a label must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LabelKind {
    Text,
    Url,
    Rfc3339,
    Semver,
    Hash,
    Spdx,
    Email,
}

/// A configuration, checked.
#[derive(Debug, Clone, Default)]
pub struct Config {
    severity: BTreeMap<&'static str, Severity>,
    pub(crate) trusted: Vec<Glob>,
    pub(crate) labels: BTreeMap<String, LabelKind>,
    pub(crate) strict_labels: bool,
    ignore: Vec<Entry>,
}

/// A finding that somebody answers for.
#[derive(Debug, Clone)]
struct Entry {
    /// The code or alias that it names.
    rule: String,
    file: Option<Glob>,
    owner: String,
    reason: String,
    expires: Date,
    line: u64,
}

/// Why a configuration cannot be used: every problem, each with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct ConfigError {
    problems: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    severity: BTreeMap<String, Spanned<Severity>>,
    #[serde(default)]
    trusted_registries: Vec<Spanned<String>>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    ignore: Vec<Spanned<Written>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Labels {
    #[serde(default)]
    required: BTreeMap<String, LabelKind>,
    #[serde(default)]
    strict: bool,
}

/// An entry as it is written; what is missing is told with its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rule: Option<String>,
    file: Option<String>,
    owner: Option<String>,
    reason: Option<String>,
    expires: Option<String>,
}

/// What the entries did to the findings.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) findings: Vec<Finding>,
    pub(crate) ignored: Vec<Ignored>,
    /// In words: entries that are expired, or match nothing.
    pub(crate) notes: Vec<String>,
}

impl Config {
    /// Reads the text of the file called `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn read(name: &str, text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let message = error.without_snippet().to_string();
            let first = message.lines().next().unwrap_or("it cannot be read");
            ConfigError { problems: vec![format!("{name}:{line}: {first}")] }
        })?;
        let mut problems = Vec::new();
        let mut config = Self {
            labels: file.labels.required,
            strict_labels: file.labels.strict,
            ..Self::default()
        };
        for (code, severity) in file.severity {
            let line = severity.referenced.line();
            if rule(&code).is_none() {
                problems.push(format!("{name}:{line}: {}", no_rule(&code)));
            }
            for rule in rules(&code) {
                config.severity.insert(rule.code, severity.value);
            }
        }
        for registry in file.trusted_registries {
            match registry.value.parse() {
                Ok(glob) => config.trusted.push(glob),
                Err(error) => {
                    problems.push(format!("{name}:{}: {error}", registry.referenced.line()));
                }
            }
        }
        for written in file.ignore {
            let line = written.referenced.line();
            match Entry::check(written.value, line) {
                Ok(entry) => config.ignore.push(entry),
                Err(found) => {
                    problems.extend(found.into_iter().map(|what| format!("{name}:{line}: {what}")));
                }
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// How much the findings of a rule weigh.
    #[must_use]
    pub fn severity(&self, rule: &Rule) -> Severity {
        self.severity.get(rule.code).copied().unwrap_or(rule.severity)
    }

    /// Takes away the findings that an entry answers for on `today`.
    pub(crate) fn sift(&self, findings: Vec<Finding>, today: Date) -> Sifted {
        let mut sifted = Sifted::default();
        let mut used = vec![false; self.ignore.len()];
        for finding in findings {
            let mut by: Option<&Entry> = None;
            for (entry, used) in self.ignore.iter().zip(&mut used) {
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
                    owner: Some(entry.owner.clone()),
                    reason: Some(entry.reason.clone()),
                    expires: Some(entry.expires),
                }),
                None => sifted.findings.push(finding),
            }
        }
        for (entry, used) in self.ignore.iter().zip(used) {
            let Entry { rule, owner, line, expires, .. } = entry;
            let what = match (used, today > *expires) {
                (false, _) => "matches no finding".to_owned(),
                (true, true) => format!("expired on {expires} and no longer counts"),
                (true, false) => continue,
            };
            sifted.notes.push(format!("line {line} of `ignore` ({rule}, {owner}) {what}"));
        }
        sifted
    }

    /// Whether what it answers depends on the day.
    pub(crate) fn has_days(&self) -> bool {
        !self.ignore.is_empty()
    }
}

fn no_rule(code: &str) -> String {
    let code = code.escape_debug();
    if code.to_string().starts_with("SC") {
        return format!("`{code}` is a rule of ShellCheck, whose rules are not among ours");
    }
    format!("there is no rule `{code}`; docs/lint.md has those that are")
}

impl Entry {
    fn matches(&self, finding: &Finding) -> bool {
        rules(&self.rule).any(|rule| rule.code == finding.code)
            && self.file.as_ref().is_none_or(|glob| glob.is_match(&finding.file))
    }

    fn check(written: Written, line: u64) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut required = |value: Option<String>, key: &str| {
            let value = value.filter(|value| !value.trim().is_empty());
            if value.is_none() {
                problems.push(format!("the entry has no `{key}`"));
            }
            value.unwrap_or_default()
        };
        let code = required(written.rule, "rule");
        let owner = required(written.owner, "owner");
        let reason = required(written.reason, "reason");
        let expires = required(written.expires, "expires");
        let found = rule(&code);
        if found.is_none() && !code.is_empty() {
            problems.push(no_rule(&code));
        }
        let date = expires.parse::<Date>();
        if date.is_err() && !expires.is_empty() {
            let expires = expires.escape_debug();
            problems.push(format!("`expires: {expires}` is not a date; write it as 2026-12-31"));
        }
        let file = written.file.map(|file| file.parse::<Glob>()).transpose();
        if let Err(error) = &file {
            problems.push(error.to_string());
        }
        match (found, date, file) {
            (Some(_), Ok(expires), Ok(file)) if problems.is_empty() => {
                Ok(Self { rule: code, file, owner, reason, expires, line })
            }
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_by_code_or_alias() {
        let config = Config::read("lint.yaml", "severity: {DL3008: off, FLD0101: error}").unwrap();
        assert_eq!(config.severity(rule("FLD0201").unwrap()), Severity::Off);
        assert_eq!(config.severity(rule("DL3006").unwrap()), Severity::Error);
        assert_eq!(config.severity(rule("DL3007").unwrap()), Severity::Warning);
    }

    #[test]
    fn a_malformed_configuration_is_told_with_every_place() {
        for (text, want) in [
            ("severity: {DL1: off}", "lint.yaml:1: there is no rule `DL1`"),
            ("severity: {SC2086: off}", "ShellCheck"),
            ("ignore:\n  - rule: DL3008\n", "lint.yaml:2: the entry has no `owner`"),
            ("ignore:\n  - {rule: DL3008, owner: a, reason: b, expires: soon}\n", "not a date"),
            ("labels: {required: {a: number}}", "lint.yaml:1: "),
            ("trusted: []", "unknown field `trusted`"),
            ("ignore: [", "lint.yaml:"),
        ] {
            let error = Config::read("lint.yaml", text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(Config::read("lint.yaml", "").is_ok());
    }
}
