//! From the files of an image to its list of packages.

use std::collections::{BTreeMap, HashMap};

use crate::catalog::os_release::OsRelease;
use crate::evidence::Fact;
use crate::package::{Ecosystem, Location, Package};
use crate::rootfs::RootFs;

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The distribution that the image is made from, where it says so.
    pub os: Option<OsRelease>,
    /// The packages, one for each package URL, sorted by it.
    pub packages: Vec<Package>,
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
        let owners = owners(root, os.as_ref());
        let mut by_purl: BTreeMap<String, Package> = BTreeMap::new();
        let mut notes = Vec::new();
        for (path, found) in root.files() {
            let mut add = |name: &str, package: Option<Package>| {
                let Some(package) = package else {
                    notes.push(format!("`/{path}` names a package `{name}`, which has no purl"));
                    return;
                };
                let at = Location {
                    path: format!("/{path}"),
                    layer: found.layer,
                    owner: owners.get(path).cloned(),
                };
                by_purl.entry(package.purl.clone()).or_insert(package).found.push(at);
            };
            match &*found.fact {
                Fact::Dpkg(all) => {
                    all.iter().for_each(|p| add(&p.name, Package::deb(p, os.as_ref())));
                }
                Fact::Apk(all) => {
                    all.iter().for_each(|p| add(&p.name, Package::apk(p, os.as_ref())));
                }
                Fact::Python(package) => add(&package.name, Package::pypi(package)),
                Fact::Node(package) => add(&package.name, Package::npm(package)),
                Fact::DpkgFiles(_) | Fact::OsRelease(_) => {}
            }
        }
        let mut packages: Vec<Package> = by_purl.into_values().collect();
        for package in &mut packages {
            package.found.sort();
            package.found.dedup();
        }
        Self { os, packages, notes }
    }
}

/// The package URL of the system package that owns each path.
fn owners(root: &RootFs, os: Option<&OsRelease>) -> HashMap<String, String> {
    // dpkg's lists name a package, and its architecture where several are installed.
    let mut debs: HashMap<(&str, Option<&str>), String> = HashMap::new();
    let mut owners = HashMap::new();
    for (_, found) in root.files() {
        match &*found.fact {
            Fact::Dpkg(all) => {
                for package in all {
                    let Some(Package { purl, .. }) = Package::deb(package, os) else { continue };
                    debs.insert((&package.name, Some(&package.arch)), purl.clone());
                    debs.insert((&package.name, None), purl);
                }
            }
            Fact::Apk(all) => {
                for package in all.iter().filter(|package| !package.paths.is_empty()) {
                    let Some(Package { purl, .. }) = Package::apk(package, os) else { continue };
                    for path in &package.paths {
                        owners.insert(root.resolve(path), purl.clone());
                    }
                }
            }
            Fact::DpkgFiles(_) | Fact::Python(_) | Fact::Node(_) | Fact::OsRelease(_) => {}
        }
    }
    for (_, found) in root.files() {
        if let Fact::DpkgFiles(files) = &*found.fact
            && let Some(purl) = debs.get(&(&*files.package, files.arch.as_deref()))
        {
            for path in &files.paths {
                owners.insert(root.resolve(path), purl.clone());
            }
        }
    }
    owners
}
