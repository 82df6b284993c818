//! How bad a finding is, and who says so.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::osv::{Advisory, Score};

/// How bad a finding is. Unknown is the lowest: nobody has said anything.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No source states a severity.
    #[default]
    Unknown,
    /// A source says that it does not matter: Debian's `unimportant`, a CVSS score of 0.
    Negligible,
    /// CVSS 0.1 to 3.9, or the word.
    Low,
    /// CVSS 4.0 to 6.9, or the word.
    Medium,
    /// CVSS 7.0 to 8.9, or the word.
    High,
    /// CVSS 9.0 and more, or the word.
    Critical,
}

impl Severity {
    /// Every level, worst first.
    pub const WORST_FIRST: [Self; 6] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Negligible, Self::Unknown];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The level of a CVSS score, by the rating scale that versions 3 and 4 share.
    fn of_score(score: f64) -> Self {
        match score {
            s if s >= 9.0 => Self::Critical,
            s if s >= 7.0 => Self::High,
            s if s >= 4.0 => Self::Medium,
            s if s > 0.0 => Self::Low,
            _ => Self::Negligible,
        }
    }

    /// The level behind a distribution's or an advisory database's word.
    fn of_word(word: &str) -> Option<Self> {
        // Debian marks words that its security team has not confirmed with asterisks.
        match word.trim_end_matches('*').to_ascii_lowercase().as_str() {
            "unimportant" | "negligible" => Some(Self::Negligible),
            "low" => Some(Self::Low),
            "medium" | "moderate" => Some(Self::Medium),
            "high" | "important" => Some(Self::High),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One statement about severity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Statement {
    /// The record that states it.
    pub(crate) source: String,
    /// What kind of statement it is.
    pub(crate) kind: StatementKind,
    /// The vector or the word.
    pub(crate) value: String,
    /// The level it comes to.
    pub(crate) severity: Severity,
    /// The CVSS score, where the statement is a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<f64>,
}

/// The kinds of statements, the one that decides first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatementKind {
    /// The distribution's own word on its build of the package.
    Urgency,
    CvssV4,
    CvssV3,
    CvssV2,
    /// The word of the advisory database.
    Label,
    /// A vector that another record states for the same CVE.
    SameCve,
}

/// Every statement that these advisories make, the one that decides first.
pub(crate) fn statements<'a>(advisories: impl Iterator<Item = &'a Advisory>) -> Vec<Statement> {
    let mut found = Vec::new();
    for advisory in advisories {
        for score in &advisory.scores {
            found.extend(read_score(&advisory.id, score));
        }
        let words =
            [(&advisory.urgency, StatementKind::Urgency), (&advisory.label, StatementKind::Label)];
        for (word, kind) in words {
            let Some(word) = word else { continue };
            let Some(severity) = Severity::of_word(word) else { continue };
            let (source, value) = (advisory.id.clone(), word.clone());
            found.push(Statement { source, kind, value, severity, score: None });
        }
        if let Some(borrowed) = &advisory.borrowed {
            let read = borrowed.scores.iter().filter_map(|s| read_score(&borrowed.from, s));
            found.extend(read.map(|s| Statement { kind: StatementKind::SameCve, ..s }));
        }
    }
    // Of one kind, the worst is believed.
    found.sort_by(|a, b| {
        let score = |s: &Statement| s.score.unwrap_or_default();
        (a.kind, b.severity)
            .cmp(&(b.kind, a.severity))
            .then(score(b).total_cmp(&score(a)))
            .then_with(|| (&a.source, &a.value).cmp(&(&b.source, &b.value)))
    });
    found.dedup();
    found
}

fn read_score(source: &str, score: &Score) -> Option<Statement> {
    let kind = match score.kind.as_str() {
        "CVSS_V4" => StatementKind::CvssV4,
        "CVSS_V3" => StatementKind::CvssV3,
        "CVSS_V2" => StatementKind::CvssV2,
        "Ubuntu" => StatementKind::Urgency,
        _ => return None,
    };
    let (source, value) = (source.to_owned(), score.score.clone());
    if kind == StatementKind::Urgency {
        let severity = Severity::of_word(&score.score)?;
        return Some(Statement { source, kind, value, severity, score: None });
    }
    let number = score.score.parse::<cvss::Cvss>().ok()?.score();
    let severity = Severity::of_score(number);
    Some(Statement { source, kind, value, severity, score: Some(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(scores: &[(&str, &str)], urgency: Option<&str>, label: Option<&str>) -> Severity {
        let scores = scores
            .iter()
            .map(|(kind, score)| Score { kind: (*kind).into(), score: (*score).into() })
            .collect();
        let advisory = Advisory {
            id: "X-1".into(),
            scores,
            urgency: urgency.map(str::to_owned),
            label: label.map(str::to_owned),
            ..Advisory::default()
        };
        statements(std::iter::once(&advisory)).first().map_or(Severity::Unknown, |s| s.severity)
    }

    #[test]
    fn the_distribution_decides_before_vectors_and_vectors_before_words() {
        let v3 = ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H");
        let v4 = ("CVSS_V4", "CVSS:4.0/AV:L/AC:H/AT:P/PR:H/UI:A/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N");
        for (scores, urgency, label, want) in [
            (&[v3][..], None, Some("LOW"), Severity::Critical),
            (&[v3, v4], None, None, Severity::Low),
            (&[v3], Some("unimportant"), None, Severity::Negligible),
            (&[v3], Some("not yet assigned"), None, Severity::Critical),
            (&[], Some("medium**"), Some("HIGH"), Severity::Medium),
            (&[], None, Some("MODERATE"), Severity::Medium),
            (&[("CVSS_V3", "nonsense")], None, Some("HIGH"), Severity::High),
            (&[("Ubuntu", "low"), v3], None, None, Severity::Low),
            (&[], None, None, Severity::Unknown),
        ] {
            assert_eq!(decide(scores, urgency, label), want, "{scores:?} {urgency:?} {label:?}");
        }
    }
}
