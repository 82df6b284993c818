//! From packages and advisories to findings: one for each vulnerability of each package.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::database::{Database, DbError};
use crate::osv::Advisory;
use crate::package::{self, Package, Unmatched};
use crate::range;
use crate::sbom::Bill;
use crate::severity::{self, Severity, Statement};

/// Contradictory ranges that a report tells by name.
const MAX_FAULTS: usize = 200;
/// Package URLs that a report gives for each reason why none could be matched.
const MAX_UNMATCHED: usize = 50;

/// One vulnerability of one package.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// The id to show: the CVE where there is one.
    pub(crate) id: String,
    /// Every id of the vulnerability, the shown one included.
    pub(crate) ids: BTreeSet<String>,
    /// The records that say so.
    pub(crate) records: BTreeSet<String>,
    pub(crate) severity: Severity,
    /// Who says how bad it is, the one that decided first.
    pub(crate) severity_from: Vec<Statement>,
    pub(crate) title: String,
    pub(crate) package: AffectedPackage,
    /// Versions that fix it, lowest first.
    pub(crate) fixed_in: Vec<String>,
    /// `unmaintained`, `unsound` or `notice`: told, though it is no vulnerability by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) informational: Option<String>,
}

/// What is affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AffectedPackage {
    /// The OSV ecosystem with its release.
    pub(crate) ecosystem: String,
    /// The name that advisories use: the source package of a distribution.
    pub(crate) name: String,
    pub(crate) version: String,
    /// What is installed of it.
    pub(crate) purls: BTreeSet<String>,
}

/// A contradictory range that was met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct DataFault {
    pub(crate) record: String,
    pub(crate) package: String,
    pub(crate) problem: String,
}

/// Packages that nothing could be said about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnmatchedPackages {
    pub(crate) reason: String,
    pub(crate) count: u64,
    /// The first of them.
    pub(crate) examples: Vec<String>,
}

/// Everything that matching came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Matched {
    /// Worst first, then by id and package.
    pub(crate) findings: Vec<Finding>,
    /// Package URLs that were looked up.
    pub(crate) packages: u64,
    pub(crate) unmatched: Vec<UnmatchedPackages>,
    pub(crate) faults: BTreeSet<DataFault>,
}

/// Looks every package of a bill up.
pub(crate) fn find(bill: &Bill, database: &Database) -> Result<Matched, DbError> {
    let mut matched = Matched::default();
    let mut packages: BTreeMap<Package, BTreeSet<String>> = BTreeMap::new();
    let mut unmatched: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    let mut leave_out = |reason: &str, purl: &str| {
        let (count, examples) = unmatched.entry(reason.to_owned()).or_default();
        *count += 1;
        if examples.len() < MAX_UNMATCHED {
            examples.push(purl.to_owned());
        }
    };
    for purl in &bill.purls {
        match package::from_purl(purl) {
            Ok(package) if database.covers(&package.release) => {
                matched.packages += 1;
                packages.entry(package).or_default().insert(purl.clone());
            }
            Ok(package) => {
                leave_out(&format!("the database has no advisories for {}", package.release), purl);
            }
            Err(reason) => leave_out(Unmatched::reason(reason), purl),
        }
    }
    let mut cursor = database.cursor();
    for (package, purls) in packages {
        let advisories = cursor.look_up(&package.release, &package.name)?;
        judge(&package, &purls, advisories, &mut matched);
    }
    matched.unmatched = unmatched
        .into_iter()
        .map(|(reason, (count, examples))| UnmatchedPackages { reason, count, examples })
        .collect();
    matched.findings.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| a.package.name.cmp(&b.package.name))
            .then_with(|| a.id.cmp(&b.id))
            .then_with(|| a.package.ecosystem.cmp(&b.package.ecosystem))
            .then_with(|| a.package.version.cmp(&b.package.version))
    });
    Ok(matched)
}

/// An advisory that applies, with the versions that fix it.
struct Hit {
    advisory: Advisory,
    fixed: Vec<String>,
}

fn judge(
    package: &Package,
    purls: &BTreeSet<String>,
    advisories: Vec<Advisory>,
    matched: &mut Matched,
) {
    let order = package.ecosystem.order();
    let mut hits = Vec::new();
    for advisory in advisories {
        let answer = range::evaluate(&advisory, &package.version, order);
        for problem in answer.faults {
            if matched.faults.len() < MAX_FAULTS {
                let (record, package) = (advisory.id.clone(), package.name.clone());
                matched.faults.insert(DataFault { record, package, problem });
            }
        }
        if answer.affected {
            hits.push(Hit { advisory, fixed: answer.fixed });
        }
    }
    for (ids, members) in clusters(&hits) {
        let advisories = || members.iter().map(|member| &hits[*member].advisory);
        let statements = severity::statements(advisories());
        let mut fixed_in: Vec<String> =
            members.iter().flat_map(|member| hits[*member].fixed.iter().cloned()).collect();
        fixed_in.sort_by(|a, b| order.compare(a, b).then_with(|| a.cmp(b)));
        fixed_in.dedup_by(|a, b| order.compare(a, b).is_eq());
        let informational = advisories().map(|advisory| advisory.informational.clone());
        // It stays a vulnerability when any record calls it one.
        let informational = informational.collect::<Option<Vec<_>>>();
        matched.findings.push(Finding {
            id: shown_id(&ids),
            records: advisories().map(|advisory| advisory.id.clone()).collect(),
            severity: statements.first().map_or(Severity::Unknown, |first| first.severity),
            severity_from: statements,
            title: advisories()
                .map(|a| &a.title)
                .find(|t| !t.is_empty())
                .cloned()
                .unwrap_or_default(),
            package: AffectedPackage {
                ecosystem: package.release.clone(),
                name: package.name.clone(),
                version: package.version.clone(),
                purls: purls.clone(),
            },
            fixed_in,
            informational: informational.and_then(|kinds| kinds.into_iter().next()),
            ids,
        });
    }
}

/// Groups hits that are about the same vulnerability: those that share an id, an alias or a single
/// upstream. Each group comes with all its ids.
///
/// A record with several upstreams is a bundle, such as a DSA that fixes five CVEs: it joins the
/// group of each of them instead of making them one. `related` ids say nothing about sameness.
fn clusters(hits: &[Hit]) -> Vec<(BTreeSet<String>, Vec<usize>)> {
    let mut groups: Vec<(BTreeSet<String>, Vec<usize>)> = Vec::new();
    for (number, hit) in hits.iter().enumerate() {
        let advisory = &hit.advisory;
        let own = || std::iter::once(advisory.id.clone()).chain(advisory.aliases.iter().cloned());
        let parts: Vec<BTreeSet<String>> = match advisory.upstream.as_slice() {
            [] => vec![own().collect()],
            [one] => vec![own().chain([one.clone()]).collect()],
            several => several.iter().map(|one| BTreeSet::from([one.clone()])).collect(),
        };
        for mut ids in parts {
            let mut members = vec![number];
            groups.retain_mut(|(known, known_members)| {
                if known.is_disjoint(&ids) {
                    return true;
                }
                ids.append(known);
                members.append(known_members);
                false
            });
            members.sort_unstable();
            members.dedup();
            groups.push((ids, members));
        }
    }
    groups
}

/// The id to show: a CVE, then a GHSA, then whatever sorts first.
fn shown_id(ids: &BTreeSet<String>) -> String {
    let with = |prefix: &str| ids.iter().find(|id| id.starts_with(prefix));
    with("CVE-").or_else(|| with("GHSA-")).or_else(|| ids.first()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(records: &[(&str, &[&str], &[&str])]) -> Vec<String> {
        let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let hits: Vec<Hit> = records
            .iter()
            .map(|(id, aliases, upstream)| Hit {
                advisory: Advisory {
                    id: (*id).to_owned(),
                    aliases: texts(aliases),
                    upstream: texts(upstream),
                    ..Advisory::default()
                },
                fixed: Vec::new(),
            })
            .collect();
        let mut groups: Vec<String> = clusters(&hits)
            .into_iter()
            .map(|(ids, members)| format!("{} from {members:?}", shown_id(&ids)))
            .collect();
        groups.sort();
        groups
    }

    #[test]
    fn records_about_one_vulnerability_are_one_finding() {
        assert_eq!(
            grouped(&[
                ("GHSA-1", &["CVE-1"], &[]),
                ("PYSEC-1", &["BIT-1"], &[]),
                ("PYSEC-2", &["CVE-2"], &[]),
                // It joins the first two, which share no id with each other.
                ("OSV-1", &["BIT-1", "CVE-1"], &[]),
            ]),
            ["CVE-1 from [0, 1, 3]", "CVE-2 from [2]"]
        );
    }

    #[test]
    fn a_bundle_joins_each_of_its_vulnerabilities_and_makes_none_of_them_one() {
        assert_eq!(
            grouped(&[
                ("DEBIAN-CVE-1", &[], &["CVE-1"]),
                ("DSA-7", &[], &["CVE-1", "CVE-2", "CVE-3"]),
                ("DEBIAN-CVE-2", &[], &["CVE-2"]),
            ]),
            ["CVE-1 from [0, 1]", "CVE-2 from [1, 2]", "CVE-3 from [1]"]
        );
    }
}
