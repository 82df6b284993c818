//! OSV records (schema 1.7), read with tolerance: unknown ecosystems, fields, range types and
//! events are passed over, `null` stands for nothing, and only what matching needs is kept.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::ecosystem::Ecosystem;

/// Characters of a title that are kept.
const MAX_TITLE: usize = 160;
/// Characters of a name, an id or an ecosystem that are accepted.
const MAX_NAME: usize = 512;

/// One record of a dump.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) modified: String,
    #[serde(default)]
    withdrawn: Option<Value>,
    #[serde(default, deserialize_with = "or_default")]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    upstream: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    summary: String,
    #[serde(default, deserialize_with = "or_default")]
    details: String,
    #[serde(default, deserialize_with = "or_default")]
    severity: Vec<Score>,
    #[serde(default, deserialize_with = "or_default")]
    affected: Vec<Affected>,
    #[serde(default)]
    database_specific: Value,
}

#[derive(Debug, Deserialize)]
struct Affected {
    #[serde(default)]
    package: Option<Package>,
    #[serde(default, deserialize_with = "or_default")]
    ranges: Vec<Range>,
    #[serde(default, deserialize_with = "or_default")]
    versions: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    severity: Vec<Score>,
    #[serde(default)]
    ecosystem_specific: Value,
    #[serde(default)]
    database_specific: Value,
}

#[derive(Debug, Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
}

/// A severity as a record states it: `CVSS_V3` with a vector, or `Ubuntu` with a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Score {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) score: String,
}

/// A range of versions, as events on a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) events: Vec<Event>,
}

/// What happens at one version. A record gives each event one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) introduced: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fixed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_affected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
}

/// What the database keeps of one record for one package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Advisory {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) upstream: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) title: String,
    /// Vectors that the record itself states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scores: Vec<Score>,
    /// The word of the distribution, such as `unimportant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) urgency: Option<String>,
    /// The word of the advisory database, such as `MODERATE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// Vectors that another record states for the same CVE, where this one states no severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) borrowed: Option<Borrowed>,
    /// Why it is told though it is no vulnerability: `unmaintained`, `unsound`, `notice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) informational: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ranges: Vec<Range>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) versions: Vec<String>,
}

/// Vectors of another record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Borrowed {
    pub(crate) from: String,
    pub(crate) scores: Vec<Score>,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("not an OSV record: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its {0} is empty, too long or holds control characters")]
    Name(&'static str),
}

impl Record {
    /// Reads the bytes of one `<ID>.json`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes)?;
        if !well_named(&record.id) {
            return Err(RecordError::Name("id"));
        }
        Ok(record)
    }

    /// The record's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its publisher took it back.
    pub(crate) fn withdrawn(&self) -> bool {
        self.withdrawn.as_ref().is_some_and(|value| !value.is_null())
    }

    /// The CVEs it is about, by its id, its aliases, or a single upstream.
    pub(crate) fn cves(&self) -> impl Iterator<Item = &str> {
        let upstream = if self.upstream.len() == 1 { self.upstream.as_slice() } else { &[] };
        std::iter::once(&self.id)
            .chain(&self.aliases)
            .chain(upstream)
            .map(String::as_str)
            .filter(|id| id.starts_with("CVE-"))
    }

    /// The vectors it states for all its packages.
    pub(crate) fn scores(&self) -> &[Score] {
        &self.severity
    }

    /// What it says of the packages of `ecosystem`: OSV ecosystem, package name, advisory. Several
    /// statements on one package come out as one advisory.
    pub(crate) fn advisories(
        &self,
        ecosystem: Ecosystem,
    ) -> Result<Vec<(String, String, Advisory)>, RecordError> {
        let mut found: Vec<(String, String, Advisory)> = Vec::new();
        let mut places: HashMap<(&str, String), usize> = HashMap::new();
        for affected in &self.affected {
            let Some(package) = &affected.package else { continue };
            if Ecosystem::of(&package.ecosystem) != Some(ecosystem) {
                continue;
            }
            if !well_named(&package.name) || !well_named(&package.ecosystem) {
                return Err(RecordError::Name("package"));
            }
            let release = ecosystem.key(&package.ecosystem);
            let name = ecosystem.package_name(&package.name);
            let place = *places.entry((release, name)).or_insert_with_key(|(release, name)| {
                found.push(((*release).to_owned(), name.clone(), self.advisory()));
                found.len() - 1
            });
            let advisory = &mut found[place].2;
            advisory.ranges.extend(affected.ranges.iter().filter(|r| r.kind != "GIT").cloned());
            advisory.versions.extend(affected.versions.iter().cloned());
            for score in &affected.severity {
                if !advisory.scores.contains(score) {
                    advisory.scores.push(score.clone());
                }
            }
            let word = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
            advisory.urgency = advisory
                .urgency
                .take()
                .or_else(|| word(&affected.ecosystem_specific, "urgency"))
                .or_else(|| word(&affected.database_specific, "urgency"));
            advisory.informational = advisory
                .informational
                .take()
                .or_else(|| word(&affected.database_specific, "informational"));
        }
        Ok(found)
    }

    fn advisory(&self) -> Advisory {
        let ids = |ids: &[String]| ids.iter().filter(|id| well_named(id)).cloned().collect();
        let label = self.database_specific.get("severity").and_then(Value::as_str);
        Advisory {
            id: self.id.clone(),
            aliases: ids(&self.aliases),
            upstream: ids(&self.upstream),
            title: self.title(),
            scores: self.severity.clone(),
            label: label.map(str::to_owned),
            ..Advisory::default()
        }
    }

    /// The summary, or else the first line of the details, cut to a line.
    fn title(&self) -> String {
        let text = if self.summary.trim().is_empty() { &self.details } else { &self.summary };
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        match line.char_indices().nth(MAX_TITLE) {
            Some((end, _)) => format!("{}…", line[..end].trim_end()),
            None => line.to_owned(),
        }
    }
}

fn well_named(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_records_are_read_and_statements_on_one_package_are_joined() {
        let record = Record::read(
            br#"{"id": "X-1", "aliases": null, "new_field": [1], "severity": null,
              "database_specific": {"severity": "HIGH"},
              "affected": [
                {"package": {"ecosystem": "Moon Base", "name": "x"}},
                {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]},
                {"package": {"ecosystem": "PyPI", "name": "Some_Name"}, "versions": null,
                 "ranges": [{"type": "GIT"}, {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]}]},
                {"package": {"ecosystem": "PyPI", "name": "some-name"}, "versions": ["3.0"]}
              ]}"#,
        )
        .unwrap();
        let advisories = record.advisories(Ecosystem::PyPi).unwrap();
        assert_eq!(advisories.len(), 1);
        let (release, name, advisory) = &advisories[0];
        assert_eq!((release.as_str(), name.as_str()), ("PyPI", "some-name"));
        assert_eq!((advisory.ranges.len(), advisory.versions.len()), (1, 1));
        assert_eq!(advisory.label.as_deref(), Some("HIGH"));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in ["", "[]", "{}", r#"{"id": 7}"#, r#"{"id": ""}"#, "{\"id\": \"a\\tb\"}"] {
            assert!(Record::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
