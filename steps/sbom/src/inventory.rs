//! From the files of an image to its list of packages.

use std::collections::BTreeMap;

use crate::catalog::os_release::OsRelease;
use crate::evidence::Fact;
use crate::owners::Owners;
use crate::package::{Ecosystem, Location, Package};
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
        let os = ["etc/os-release", "usr/lib/os-release"].into_iter().find_map(|path| {
            let Fact::OsRelease(os) = &*root.get(path)?.fact else { return None };
            Some(os.clone())
        });
        let owners = Owners::of(root, os.as_ref());
        let databases = ["var/lib/dpkg", "lib/apk/db", "usr/lib/apk/db"]
            .map(|folder| format!("{}/", root.resolve(folder)));
        let is_own = |path: &str| databases.iter().any(|folder| path.starts_with(folder));
        let mut by_purl: BTreeMap<String, Package> = BTreeMap::new();
        let mut notes = Vec::new();
        let mut unassessed = Vec::new();
        // Whether the image's own root, and no tree somewhere in it, has a database of packages.
        let mut has_database = false;
        for (path, found) in root.files() {
            let mut unnamed = false;
            let mut add = |name: &str, package: Option<Package>| {
                let Some(package) = package else {
                    let note = format!("`/{path}` names a package `{name}`, which has no purl");
                    notes.push(one_line(&note));
                    unnamed = true;
                    return;
                };
                let at = Location {
                    path: format!("/{path}"),
                    layer: found.layer,
                    owner: owners.of_description(path, found.layer).map(str::to_owned),
                };
                by_purl.entry(package.purl.clone()).or_insert(package).found.push(at);
            };
            match &*found.fact {
                Fact::Dpkg(all) => {
                    all.iter().for_each(|p| add(&p.name, Package::deb(p, os.as_ref())));
                    has_database |= !all.is_empty() && is_own(path);
                }
                Fact::Apk(all) => {
                    all.iter().for_each(|p| add(&p.name, Package::apk(p, os.as_ref())));
                    has_database |= !all.is_empty() && is_own(path);
                }
                Fact::Python(package) => add(&package.name, Package::pypi(package)),
                Fact::Node(package) => add(&package.name, Package::npm(package)),
                Fact::Unread(kind) => {
                    if !(kind.is_covered_by_owner() && owners.has(path, found.layer)) {
                        unassessed.push(Unassessed::file(*kind, path));
                    }
                }
                // The file that this name leads to was never found.
                Fact::Elsewhere { .. } => {
                    unassessed.push(Unassessed::file(UnassessedKind::Damaged, path));
                }
                Fact::DpkgFiles(_) | Fact::OsRelease(_) => {}
            }
            if unnamed {
                unassessed.push(Unassessed::file(UnassessedKind::Unnamed, path));
            }
        }
        if let Some(os) = os.as_ref().filter(|_| !has_database) {
            let version = os.version.as_ref().map(|version| format!(" {version}"));
            let what = format!("{}{}", os.id, version.unwrap_or_default());
            unassessed.push(Unassessed { kind: UnassessedKind::Distribution, what });
        }
        unassessed.sort_unstable();
        let mut packages: Vec<Package> = by_purl.into_values().collect();
        for package in &mut packages {
            package.found.sort();
            package.found.dedup();
        }
        Self { os, packages, unassessed, notes }
    }

    /// Whether nothing is known to be missing from the list.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unassessed.is_empty()
    }
}
