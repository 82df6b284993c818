//! What happens at a registry besides pushes: deletions and scans; and what anybody else reports.

use std::collections::BTreeMap;

use fairlead_step::{Digest, Repository};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A tag or a manifest that is gone from a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDeleted {
    /// The registry that the source names, and the path within it.
    pub repository: Repository,
    /// The tag that is gone, where one was named.
    pub tag: Option<String>,
    /// The digest that is gone, or that the tag had.
    pub digest: Option<Digest>,
    /// Who deleted it, as the sender calls them.
    pub actor: Option<String>,
    /// When the sender says that it happened. What was pushed anew may be deleted anew, so the time
    /// is one of the facts.
    pub at: Option<Timestamp>,
}

impl ImageDeleted {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec![
            "registry.delete".into(),
            self.repository.to_string(),
            self.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            self.tag.clone().unwrap_or_default(),
            self.at.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    }

    pub(crate) fn subject(&self) -> String {
        name_of(&self.repository, self.tag.as_deref(), self.digest.as_ref())
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "registry": self.repository.registry(),
            "repository": self.repository.to_string(),
            "path": self.repository.path(),
            "tag": self.tag,
            "digest": self.digest,
            "actor": self.actor,
        })
    }
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanOutcome {
    /// There is a report.
    Completed,
    /// There is none.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

impl ScanOutcome {
    /// The word in events and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What a scan looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanKind {
    /// Known vulnerabilities.
    Vulnerability,
    /// What the image is made of.
    Sbom,
}

impl ScanKind {
    /// The word in events and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vulnerability => "vulnerability",
            Self::Sbom => "sbom",
        }
    }
}

/// A manifest that a registry's scanner has looked at. A hint that there is a report; what it says is
/// the sender's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageScanned {
    /// The registry that the source names, and the path within it.
    pub repository: Repository,
    /// The tag under which it was scanned, where the sender says it.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// What the scan looked for.
    pub scan: ScanKind,
    /// How it ended.
    pub outcome: ScanOutcome,
    /// The severest finding, in the scanner's own word.
    pub severity: Option<String>,
    /// How many findings there are of each severity, in the scanner's own words. None when the sender
    /// does not say: that is never "no findings".
    pub findings: Option<BTreeMap<String, u64>>,
    /// The sender's id of the report.
    pub report: Option<String>,
    /// When the scan ended, as the sender says.
    pub at: Option<Timestamp>,
}

impl ImageScanned {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec![
            "registry.scan".into(),
            self.repository.to_string(),
            self.digest.to_string(),
            self.tag.clone().unwrap_or_default(),
            self.scan.name().into(),
            self.outcome.name().into(),
            self.report.clone().unwrap_or_default(),
            self.at.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
    }

    pub(crate) fn subject(&self) -> String {
        name_of(&self.repository, self.tag.as_deref(), Some(&self.digest))
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "registry": self.repository.registry(),
            "repository": self.repository.to_string(),
            "path": self.repository.path(),
            "tag": self.tag,
            "digest": self.digest,
            "image": self.repository.at(self.digest.clone()),
            "scan": self.scan.name(),
            "outcome": self.outcome.name(),
            "severity": self.severity,
            "findings": self.findings,
            "report": self.report,
        })
    }
}

fn name_of(repository: &Repository, tag: Option<&str>, digest: Option<&Digest>) -> String {
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{repository}{tag}{digest}")
}

/// An event of a type that Fairlead does not define, as its sender tells it. There is nobody to ask
/// whether it is true: it is worth what the proof of its source is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// What happened, such as `com.example.build.finished` or `harbor.quota.exceeded`.
    pub r#type: String,
    /// Who says so: the CloudEvent's `source`.
    pub source: String,
    /// What it happened to.
    pub subject: Option<String>,
    /// What tells it from others of this source. Of senders with no such thing, or a new one for
    /// each message, it is a hash of what happened.
    pub id: String,
    /// When it happened, as the sender says.
    pub time: Option<Timestamp>,
    /// The data.
    pub data: Value,
}

impl Custom {
    pub(crate) fn facts(&self) -> Vec<String> {
        vec!["event".into(), self.r#type.clone(), self.source.clone(), self.id.clone()]
    }

    pub(crate) fn subject(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{} {subject}", self.r#type),
            None => self.r#type.clone(),
        }
    }

    pub(crate) fn template(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "type": self.r#type,
            "source": self.source,
            "subject": self.subject,
            "id": self.id,
            "time": self.time,
            "data": self.data,
        })
    }
}
