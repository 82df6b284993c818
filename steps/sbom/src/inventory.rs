//! From the files of an image to its list of packages.

use std::collections::BTreeMap;

use crate::catalogers::os_release::OsRelease;
use crate::catalogers::{Kind, Place};
use crate::evidence::{Draft, Fact};
use crate::owners::Owners;
use crate::package::{Certainty, Ecosystem, Location, Package};
use crate::rootfs::RootFs;
use crate::unassessed::{Unassessed, UnassessedKind, one_line};

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The distribution that the image is made from, where it says so.
    pub os: Option<OsRelease>,
    /// The packages, one for each package URL, sorted by it.
    pub packages: Vec<Package>,
    /// What was seen and not read, sorted. When it is empty, nothing is known to be missing.
    pub unassessed: Vec<Unassessed>,
    /// Packages that cannot be listed because their names make no package URL, one line each.
    pub notes: Vec<String>,
    /// The package databases of the image's own system that are there and could not be read, when
    /// there is no other one that could.
    pub(crate) lost: Vec<String>,
}

impl Inventory {
    /// How many packages there are of each ecosystem.
    #[must_use]
    pub fn ecosystems(&self) -> BTreeMap<Ecosystem, usize> {
        let mut counts = BTreeMap::new();
        for package in &self.packages {
            *counts.entry(package.ecosystem).or_default() += 1;
        }
        counts
    }

    /// Lists what the files of `root` say.
    pub(crate) fn of(root: &RootFs) -> Self {
        let os = ["etc/os-release", "usr/lib/os-release"]
            .into_iter()
            .find_map(|path| root.get(path)?.fact.said_by("os-release")?.os.clone());
        let owners = Owners::of(root, os.as_ref());
        let databases: Vec<(Kind, String)> = Kind::all()
            .flat_map(|(kind, by)| by.databases().iter().map(move |folder| (kind, *folder)))
            .map(|(kind, folder)| (kind, format!("{}/", root.resolve(folder))))
            .collect();
        let is_own = |of: Kind, path: &str| {
            databases.iter().any(|(kind, folder)| *kind == of && path.starts_with(folder))
        };
        let mut drafts = Vec::new();
        let mut unassessed = Vec::new();
        let mut lost = Vec::new();
        // Whether the image's own root, and no tree somewhere in it, has a database of packages.
        let mut has_database = false;
        for (path, found) in root.files() {
            let mut tell = |kind: UnassessedKind| {
                if !(kind.is_covered_by_owner() && owners.of_file(path, found.layer).is_some()) {
                    unassessed.push(Unassessed::file(kind, path));
                }
            };
            match &*found.fact {
                Fact::Said(all) => {
                    for (kind, said) in all {
                        has_database |= !said.packages.is_empty() && is_own(*kind, path);
                        said.marks.iter().for_each(|mark| tell(*mark));
                        drafts.extend(said.packages.iter().map(|entry| Draft {
                            kind: *kind,
                            path: path.into(),
                            layer: found.layer,
                            entry: entry.clone(),
                        }));
                    }
                }
                Fact::Unread(kind) => {
                    let by = Kind::of(path).filter(|by| is_own(*by, path));
                    let place = Place::of(path);
                    if by.and_then(Kind::cataloger).is_some_and(|by| by.is_database(&place)) {
                        lost.push(format!("/{path}"));
                    }
                    tell(*kind);
                }
                // The file that this name leads to was never found.
                Fact::Elsewhere { .. } => tell(UnassessedKind::Damaged),
            }
        }
        if has_database {
            lost.clear();
        }
        for (_, cataloger) in Kind::all() {
            cataloger.finish(root, &owners, &mut drafts);
        }
        if let Some(os) = os.as_ref().filter(|_| !has_database) {
            let version = os.version.as_ref().map(|version| format!(" {version}"));
            let what = format!("{}{}", os.id, version.unwrap_or_default());
            unassessed.push(Unassessed { kind: UnassessedKind::Distribution, what });
        }
        let (packages, notes, unnamed) = named(drafts, os.as_ref(), &owners);
        unassessed.extend(unnamed);
        unassessed.sort_unstable();
        unassessed.dedup();
        Self { os, packages, unassessed, notes, lost }
    }

    /// Whether nothing is known to be missing from the list.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unassessed.is_empty()
    }
}

/// The packages of the drafts, one for each package URL; and the files that name packages which
/// have none.
fn named(
    drafts: Vec<Draft>,
    os: Option<&OsRelease>,
    owners: &Owners,
) -> (Vec<Package>, Vec<String>, Vec<Unassessed>) {
    let mut by_purl: BTreeMap<String, Package> = BTreeMap::new();
    let (mut notes, mut unnamed) = (Vec::new(), Vec::new());
    for Draft { path, layer, entry, .. } in drafts {
        let at = Location {
            path: match &entry.within {
                Some(within) => format!("/{path}!/{within}"),
                None => format!("/{path}"),
            },
            layer,
            owner: owners.of_file(&path, layer).map(str::to_owned),
        };
        let name = entry.name.clone();
        let Some(package) = Package::of(entry, os) else {
            notes.push(one_line(&format!("`/{path}` names a package `{name}`, which has no purl")));
            unnamed.push(Unassessed::file(UnassessedKind::Unnamed, &path));
            continue;
        };
        let held = by_purl
            .entry(package.purl.clone())
            .or_insert_with(|| Package { found: Vec::new(), ..package.clone() });
        held.found.push(at);
        // Where one file guesses and another knows, it is known.
        if package.certainty == Certainty::Stated {
            held.certainty = Certainty::Stated;
        }
        held.license = held.license.take().or(package.license);
        held.supplier = held.supplier.take().or(package.supplier);
        if held.hashes.is_empty() {
            held.hashes = package.hashes;
        }
    }
    let mut packages: Vec<Package> = by_purl.into_values().collect();
    for package in &mut packages {
        package.found.sort();
        package.found.dedup();
    }
    (packages, notes, unnamed)
}
