//! From packages and advisories to findings: one for each vulnerability of each package.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::clusters::{Cluster, clusters};
use crate::database::{Database, DbError};
use crate::distribution;
use crate::ecosystem::Ecosystem;
use crate::osv::Advisory;
use crate::package::{self, Package, Unmatched};
use crate::range;
use crate::sbom::{Bill, Listed, Location};
use crate::severity::{self, Severity, Statement};
use crate::unassessed::{BAD_PURL, DISTRIBUTION, ECOSYSTEM, Gaps, NO_SOURCE, NO_VERSION};

/// Contradictory ranges that a report tells by name.
const MAX_FAULTS: usize = 200;

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
    /// Where it is, as far as the bill says.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) paths: BTreeSet<String>,
    /// The packages of the distribution that brought it, where it is nowhere else: their own
    /// advisories decide.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) owners: BTreeSet<String>,
}

/// A contradictory range that was met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct DataFault {
    pub(crate) record: String,
    pub(crate) package: String,
    pub(crate) problem: String,
}

/// Everything that matching came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Matched {
    /// Worst first, then by id and package.
    pub(crate) findings: Vec<Finding>,
    /// Package URLs that were looked up.
    pub(crate) packages: u64,
    /// What nothing could be said about.
    pub(crate) gaps: Gaps,
    pub(crate) faults: BTreeSet<DataFault>,
}

/// The packages of a bill that the database can be asked about, and what is left over.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    installed: BTreeMap<Package, Installed>,
    packages: u64,
    gaps: Gaps,
}

/// Packages of a release of which the bill names no source.
#[derive(Default)]
struct Sourceless<'a> {
    purls: Vec<&'a str>,
    /// Whether one of them is known to have a source of another name: the bill names none.
    certain: bool,
}

/// What is installed of one package as advisories name it.
#[derive(Debug, Default)]
struct Installed {
    purls: BTreeSet<String>,
    paths: BTreeSet<String>,
    /// Packages of the distribution that brought it.
    owners: BTreeSet<String>,
    /// Whether it is somewhere that no package of the distribution brought it to.
    free: bool,
}

impl Resolved {
    /// Finds out what advisories call the packages of a bill.
    pub(crate) fn of(bill: &Bill, database: &Database) -> Self {
        let mut resolved = Self { gaps: Gaps::of(bill), ..Self::default() };
        let mut owners = Owners { bill, database, known: HashMap::new() };
        let mut last_purl = None;
        let mut sourceless: BTreeMap<String, Sourceless<'_>> = BTreeMap::new();
        for listed in &bill.packages {
            let purl = listed.purl.as_str();
            let package = package::resolve(listed, bill.system.as_ref());
            // A distribution's own package is nobody's.
            let distributed = match &package {
                Ok(package) => package.ecosystem.is_distribution(),
                Err(Unmatched::Distribution(_)) => true,
                Err(Unmatched::Malformed | Unmatched::Type(_) | Unmatched::Version) => false,
            };
            let owned = !distributed && owners.answer_for(listed);
            let mut leave_out = |thing: (&str, &str), reason: &dyn Fn() -> String| {
                resolved.gaps.add(thing, owned, purl, reason);
            };
            match package {
                Ok(package) if database.covers(&package.release) => {
                    // One package URL may be listed with several names beside it.
                    if last_purl.replace(purl) != Some(purl) {
                        resolved.packages += 1;
                    }
                    if distributed && package::lacks_source(listed) {
                        let shown = package.ecosystem.shown(&package.release);
                        let sourceless = sourceless.entry(shown).or_default();
                        sourceless.purls.push(purl);
                        sourceless.certain |= package::has_other_source(listed);
                    }
                    resolved.installed.entry(package).or_default().add(listed, owned);
                }
                Ok(package) => {
                    let reason =
                        || format!("the database has no advisories for {}", package.release);
                    let shown = package.ecosystem.shown(&package.release);
                    let kind = if distributed { DISTRIBUTION } else { ECOSYSTEM };
                    leave_out((kind, &shown), &reason);
                }
                Err(Unmatched::Type(ty)) => leave_out((ECOSYSTEM, &ty), &|| {
                    format!("no ecosystem of the type `{ty}` can be matched")
                }),
                Err(Unmatched::Distribution(name)) => leave_out((DISTRIBUTION, &name), &|| {
                    "no advisories are about a distribution or release of this name".to_owned()
                }),
                Err(Unmatched::Version) => {
                    leave_out((NO_VERSION, purl), &|| "the package has no version".to_owned());
                }
                Err(Unmatched::Malformed) => {
                    leave_out((BAD_PURL, purl), &|| "the package URL is malformed".to_owned());
                }
            }
        }
        let covers = |release: &str| database.covers(release);
        let system = bill.system.as_ref();
        if let Some(system) = system.and_then(|system| distribution::uncovered(system, covers)) {
            let reason = "the database has no advisories for this distribution or release";
            resolved.gaps.add_thing((DISTRIBUTION, &system), reason);
        }
        for (release, sourceless) in sourceless.iter().filter(|(_, of)| of.certain) {
            for purl in &sourceless.purls {
                resolved.gaps.add((NO_SOURCE, release), false, purl, || {
                    "the bill of materials does not say what source it is built from".to_owned()
                });
            }
        }
        // An owner that the bill names and does not list is asked about all the same.
        for (owner, known) in owners.known {
            if let Some(package) = known.unlisted {
                resolved.installed.entry(package).or_default().purls.insert(owner.to_owned());
            }
        }
        resolved
    }

    /// The ecosystems whose advisories are needed.
    pub(crate) fn needs(&self) -> BTreeSet<Ecosystem> {
        self.installed.keys().map(|package| package.ecosystem).collect()
    }
}

impl Installed {
    fn add(&mut self, listed: &Listed, owned: bool) {
        self.purls.insert(listed.purl.clone());
        let paths = listed.found.iter().map(|at| &at.path).filter(|path| !path.is_empty());
        self.paths.extend(paths.cloned());
        if owned {
            self.owners.extend(listed.found.iter().filter_map(|at| at.owner.clone()));
        } else {
            self.free = true;
        }
    }
}

/// The packages of the distribution that brought packages of languages.
struct Owners<'a> {
    bill: &'a Bill,
    database: &'a Database,
    known: HashMap<&'a str, Owner>,
}

/// What is known of one of them.
struct Owner {
    /// Whether the database can be asked about it.
    assessed: bool,
    /// The package, where the bill does not list it itself.
    unlisted: Option<Package>,
}

impl<'a> Owners<'a> {
    /// Whether assessed packages of the distribution brought a package to every place it is at.
    /// Their own advisories, with the distribution's own patches, then say how bad it is.
    fn answer_for(&mut self, listed: &'a Listed) -> bool {
        let owner = |place: &'a Location| place.owner.as_deref();
        !listed.found.is_empty()
            && listed.found.iter().all(|place| owner(place).is_some_and(|o| self.is_assessed(o)))
    }

    fn is_assessed(&mut self, purl: &'a str) -> bool {
        let (bill, database) = (self.bill, self.database);
        let owner = self.known.entry(purl).or_insert_with(|| {
            let place = bill.packages.binary_search_by(|listed| listed.purl.as_str().cmp(purl));
            let alone = Listed { purl: purl.to_owned(), ..Listed::default() };
            let listed = place.ok().and_then(|place| bill.packages.get(place));
            let package = package::resolve(listed.unwrap_or(&alone), bill.system.as_ref()).ok();
            let package = package.filter(|package| {
                package.ecosystem.is_distribution() && database.covers(&package.release)
            });
            Owner { assessed: package.is_some(), unlisted: package.filter(|_| listed.is_none()) }
        });
        owner.assessed
    }
}

/// Looks every package up.
pub(crate) fn find(resolved: Resolved, database: &Database) -> Result<Matched, DbError> {
    let mut matched =
        Matched { packages: resolved.packages, gaps: resolved.gaps, ..Matched::default() };
    let mut cursor = database.cursor();
    for (package, installed) in &resolved.installed {
        let advisories = cursor.look_up(&package.release, &package.name)?;
        judge(package, installed, advisories, &mut matched);
    }
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
    installed: &Installed,
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
    let owned = !installed.free && !installed.owners.is_empty();
    for Cluster { ids, members } in clusters(hits.iter().map(|hit| &hit.advisory)) {
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
                purls: installed.purls.clone(),
                paths: installed.paths.clone(),
                owners: if owned { installed.owners.clone() } else { BTreeSet::new() },
            },
            fixed_in,
            informational: informational.and_then(|kinds| kinds.into_iter().next()),
            ids,
        });
    }
}

/// The id to show: a CVE, then a GHSA, then whatever sorts first.
fn shown_id(ids: &BTreeSet<String>) -> String {
    let with = |prefix: &str| ids.iter().find(|id| id.starts_with(prefix));
    with("CVE-").or_else(|| with("GHSA-")).or_else(|| ids.first()).cloned().unwrap_or_default()
}
