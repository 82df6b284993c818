//! The JSON report: everything that a scan came to. It holds no time of its own, so the same bill,
//! database and ignore file give the same bytes.

use std::collections::BTreeMap;

use fairlead_step::Digest;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::{DataFault, Finding, Matched};
use crate::ignore::{Entry, Ignored, Ignores};
use crate::severity::Severity;
use crate::unassessed::{Accepting, Unassessed};

/// Things that could not be assessed and are told by name; the numbers count them all.
const MAX_UNASSESSED: usize = 5000;
/// Package URLs that are given for each reason why none could be looked up.
const MAX_EXAMPLES: usize = 50;

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
    /// Findings in packages that packages of the distribution brought.
    pub(crate) distribution_owned: u64,
    /// Packages and things in the image that could not be assessed, without the accepted ones.
    pub(crate) unassessed: u64,
    /// Those that are accepted.
    pub(crate) unassessed_accepted: u64,
}

/// Packages that nothing could be said about, by the reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnmatchedPackages {
    pub(crate) reason: String,
    pub(crate) count: u64,
    /// The first of them.
    pub(crate) examples: Vec<String>,
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
    /// Findings in packages of languages that packages of the distribution brought: its own
    /// advisories, which know its patches, decide about those.
    pub(crate) distribution_owned: Vec<Finding>,
    /// What could not be assessed, what counts first.
    pub(crate) unassessed: Vec<Unassessed>,
    /// How much more of that there is, unnamed.
    pub(crate) unassessed_unnamed: u64,
    /// Patterns of `ignore_unassessed` that accept nothing.
    pub(crate) unused_unassessed: Vec<String>,
    pub(crate) unmatched: Vec<UnmatchedPackages>,
    /// Ranges that contradict themselves and flagged nothing.
    pub(crate) data_faults: Vec<DataFault>,
}

impl Report {
    /// Puts a report together. `today` decides which entries of the ignore file still count.
    pub(crate) fn new(
        origin: Origin,
        matched: Matched,
        ignores: &Ignores,
        accepting: &Accepting,
        today: Date,
    ) -> Self {
        let sifted = ignores.sift(matched.findings, today);
        let (distribution_owned, findings): (Vec<Finding>, Vec<Finding>) =
            sifted.findings.into_iter().partition(|finding| !finding.package.owners.is_empty());
        let fixable = findings.iter().filter(|f| !f.fixed_in.is_empty()).count() as u64;
        let (mut unassessed, unused_unassessed) = matched.gaps.sift(accepting);
        let total = |accepted: bool| {
            let of = unassessed.iter().filter(|thing| thing.accepted.is_some() == accepted);
            of.map(|thing| thing.count).sum()
        };
        let unmatched = by_reason(&unassessed);
        let summary = Summary {
            packages: matched.packages,
            unmatched: unmatched.iter().map(|group| group.count).sum(),
            findings: findings.len() as u64,
            counts: Counts::of(findings.iter()),
            fixable,
            ignored: sifted.ignored.len() as u64,
            distribution_owned: distribution_owned.len() as u64,
            unassessed: total(false),
            unassessed_accepted: total(true),
        };
        let unassessed_unnamed = unassessed.len().saturating_sub(MAX_UNASSESSED) as u64;
        unassessed.truncate(MAX_UNASSESSED);
        Self {
            schema: "fairlead.dev/scan/v1",
            origin,
            summary,
            findings,
            ignored: sifted.ignored,
            expired_ignores: sifted.expired,
            unused_ignores: sifted.unused,
            distribution_owned,
            unassessed,
            unassessed_unnamed,
            unused_unassessed,
            unmatched,
            data_faults: matched.faults.into_iter().collect(),
        }
    }
}

/// The packages among what could not be assessed, by the reason.
fn by_reason(unassessed: &[Unassessed]) -> Vec<UnmatchedPackages> {
    let mut groups: BTreeMap<&str, UnmatchedPackages> = BTreeMap::new();
    for thing in unassessed.iter().filter(|thing| thing.packages) {
        let group = groups.entry(&thing.reason).or_default();
        group.count += thing.count;
        let room = MAX_EXAMPLES.saturating_sub(group.examples.len());
        group.examples.extend(thing.examples.iter().take(room).cloned());
    }
    let named = |(reason, group): (&str, UnmatchedPackages)| UnmatchedPackages {
        reason: reason.to_owned(),
        ..group
    };
    groups.into_iter().map(named).collect()
}
