//! The JSON report: everything that a scan came to. It holds no time of its own, so the same bill,
//! database and ignore file give the same bytes.

use fairlead_step::Digest;
use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::{DataFault, Finding, Matched, UnmatchedPackages};
use crate::ignore::{Entry, Ignored, Ignores};
use crate::severity::Severity;
use jiff::civil::Date;

/// Findings of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Critical findings.
    pub critical: u64,
    /// High findings.
    pub high: u64,
    /// Medium findings.
    pub medium: u64,
    /// Low findings.
    pub low: u64,
    /// Findings that their sources call unimportant.
    pub negligible: u64,
    /// Findings whose severity no source states.
    pub unknown: u64,
}

impl Counts {
    /// Counts findings.
    pub(crate) fn of<'a>(findings: impl Iterator<Item = &'a Finding>) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            *match finding.severity {
                Severity::Critical => &mut counts.critical,
                Severity::High => &mut counts.high,
                Severity::Medium => &mut counts.medium,
                Severity::Low => &mut counts.low,
                Severity::Negligible => &mut counts.negligible,
                Severity::Unknown => &mut counts.unknown,
            } += 1;
        }
        counts
    }

    /// How many of one severity.
    #[must_use]
    pub const fn at(&self, severity: Severity) -> u64 {
        match severity {
            Severity::Critical => self.critical,
            Severity::High => self.high,
            Severity::Medium => self.medium,
            Severity::Low => self.low,
            Severity::Negligible => self.negligible,
            Severity::Unknown => self.unknown,
        }
    }

    /// In words, worst first, without the zeros: `1 critical, 3 high`.
    #[must_use]
    pub fn words(&self) -> String {
        let parts: Vec<String> = Severity::WORST_FIRST
            .into_iter()
            .filter(|severity| self.at(*severity) > 0)
            .map(|severity| format!("{} {severity}", self.at(severity)))
            .collect();
        parts.join(", ")
    }
}

/// What was scanned, and against what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Origin {
    /// The digest of the bill of materials.
    pub(crate) sbom: Digest,
    /// Its file name.
    pub(crate) sbom_name: String,
    /// The digest of the database.
    pub(crate) database: Digest,
    /// When the newest record in it was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_newest: Option<String>,
}

/// The numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Packages that were looked up.
    pub(crate) packages: u64,
    /// Packages that could not be.
    pub(crate) unmatched: u64,
    pub(crate) findings: u64,
    pub(crate) counts: Counts,
    /// Findings that a newer version fixes.
    pub(crate) fixable: u64,
    pub(crate) ignored: u64,
}

/// The whole report.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// `fairlead.dev/scan/v1`.
    pub(crate) schema: &'static str,
    pub(crate) origin: Origin,
    pub(crate) summary: Summary,
    pub(crate) findings: Vec<Finding>,
    pub(crate) ignored: Vec<Ignored>,
    /// Entries of the ignore file whose day has passed, though they match a finding.
    pub(crate) expired_ignores: Vec<Entry>,
    /// Entries of the ignore file that match no finding.
    pub(crate) unused_ignores: Vec<Entry>,
    pub(crate) unmatched: Vec<UnmatchedPackages>,
    /// Ranges that contradict themselves and flagged nothing.
    pub(crate) data_faults: Vec<DataFault>,
}

impl Report {
    /// Puts a report together. `unnamed` counts packages without a package URL; `today` decides
    /// which entries of the ignore file still count.
    pub(crate) fn new(
        origin: Origin,
        matched: Matched,
        unnamed: u64,
        ignores: &Ignores,
        today: Date,
    ) -> Self {
        let sifted = ignores.sift(matched.findings, today);
        let mut unmatched = matched.unmatched;
        if unnamed > 0 {
            let reason = "the bill of materials gives no package URL".to_owned();
            unmatched.push(UnmatchedPackages { reason, count: unnamed, examples: Vec::new() });
        }
        let findings = sifted.findings;
        let fixable = findings.iter().filter(|f| !f.fixed_in.is_empty()).count() as u64;
        Self {
            schema: "fairlead.dev/scan/v1",
            origin,
            summary: Summary {
                packages: matched.packages,
                unmatched: unmatched.iter().map(|group| group.count).sum(),
                findings: findings.len() as u64,
                counts: Counts::of(findings.iter()),
                fixable,
                ignored: sifted.ignored.len() as u64,
            },
            findings,
            ignored: sifted.ignored,
            expired_ignores: sifted.expired,
            unused_ignores: sifted.unused,
            unmatched,
            data_faults: matched.faults.into_iter().collect(),
        }
    }
}
