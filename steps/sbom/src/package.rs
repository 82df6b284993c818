//! Packages as the documents list them, and their package URLs.

use std::fmt;

use packageurl::PackageUrl;

use crate::catalog::os_release::OsRelease;
use crate::catalog::{apk, dpkg, node, python};

/// A family of packages with one registry and one order of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    /// Alpine packages.
    Apk,
    /// Debian packages.
    Deb,
    /// Node packages.
    Npm,
    /// Python distributions.
    Pypi,
}

impl Ecosystem {
    /// The type in a package URL, such as `deb`.
    #[must_use]
    pub const fn purl_type(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Deb => "deb",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
        }
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purl_type())
    }
}

/// Where a package was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file that says so, from the root of the image, such as `/var/lib/dpkg/status`.
    pub path: String,
    /// The number of the layer that the file comes from, the lowest being 0.
    pub layer: usize,
    /// The package URL of the system package that owns the file, where one does.
    pub owner: Option<String>,
}

/// One package of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What kind it is.
    pub ecosystem: Ecosystem,
    /// The name for people; the one for machines is in the package URL.
    pub name: String,
    /// The version, as its ecosystem writes it.
    pub version: String,
    /// The package URL: the package's identity in the documents, with the qualifiers `arch`,
    /// `distro` and `upstream` where they apply.
    pub purl: String,
    /// The license as the metadata says it, not yet read.
    pub license: Option<String>,
    /// Every place where it was found, sorted.
    pub found: Vec<Location>,
}

/// A package URL of type `ty`; `None` when a part breaks the rules of package URLs.
fn purl(
    ty: &'static str,
    namespace: Option<&str>,
    name: &str,
    version: &str,
    qualifiers: &[(&'static str, &str)],
) -> Option<String> {
    let mut url = PackageUrl::new(ty, name).ok()?;
    if let Some(namespace) = namespace {
        url.with_namespace(namespace).ok()?;
    }
    url.with_version(version).ok()?;
    for (key, value) in qualifiers {
        if !value.is_empty() {
            url.add_qualifier(*key, *value).ok()?;
        }
    }
    Some(url.to_string())
}

/// The package URL of a Node package, its name as the package writes it. The rules of package URLs
/// make npm names lower-case, but the registry has older packages that are not: `JSONStream` is
/// another package than `jsonstream`, with other advisories. The type without rules keeps them.
fn npm_purl(scope: Option<&str>, name: &str, version: &str) -> Option<String> {
    let upper = name.chars().chain(scope.unwrap_or_default().chars()).any(char::is_uppercase);
    if !upper {
        return purl("npm", scope, name, version, &[]);
    }
    let generic = purl("generic", scope, name, version, &[])?;
    generic.strip_prefix("pkg:generic/").map(|rest| format!("pkg:npm/{rest}"))
}

impl Package {
    /// A Debian package of the distribution `os`.
    pub(crate) fn deb(package: &dpkg::Installed, os: Option<&OsRelease>) -> Option<Self> {
        let source = match (&package.source, &package.source_version) {
            (Some(name), Some(version)) => format!("{name}@{version}"),
            (Some(name), None) => name.clone(),
            (None, _) => String::new(),
        };
        Some(Self {
            ecosystem: Ecosystem::Deb,
            name: package.name.clone(),
            version: package.version.clone(),
            purl: purl(
                "deb",
                Some(os.map_or("debian", |os| &os.id)),
                &package.name,
                &package.version,
                &[
                    ("arch", &package.arch),
                    ("distro", &os.map(OsRelease::distro).unwrap_or_default()),
                    ("upstream", &source),
                ],
            )?,
            license: None,
            found: Vec::new(),
        })
    }

    /// An Alpine package of the distribution `os`.
    pub(crate) fn apk(package: &apk::Installed, os: Option<&OsRelease>) -> Option<Self> {
        let origin = package.origin.as_deref().filter(|origin| *origin != package.name);
        Some(Self {
            ecosystem: Ecosystem::Apk,
            name: package.name.clone(),
            version: package.version.clone(),
            purl: purl(
                "apk",
                Some(os.map_or("alpine", |os| &os.id)),
                &package.name,
                &package.version,
                &[
                    ("arch", &package.arch),
                    ("distro", &os.map(OsRelease::distro).unwrap_or_default()),
                    ("upstream", origin.unwrap_or_default()),
                ],
            )?,
            license: package.license.clone(),
            found: Vec::new(),
        })
    }

    /// A Python distribution.
    pub(crate) fn pypi(package: &python::Distribution) -> Option<Self> {
        let name = python::normalized(&package.name);
        Some(Self {
            ecosystem: Ecosystem::Pypi,
            purl: purl("pypi", None, &name, &package.version, &[])?,
            name,
            version: package.version.clone(),
            license: package.license.clone(),
            found: Vec::new(),
        })
    }

    /// A Node package.
    pub(crate) fn npm(package: &node::NodePackage) -> Option<Self> {
        let (scope, name) = match package.name.split_once('/') {
            Some((scope, name)) => (Some(scope), name),
            None => (None, &*package.name),
        };
        Some(Self {
            ecosystem: Ecosystem::Npm,
            name: package.name.clone(),
            version: package.version.clone(),
            purl: npm_purl(scope, name, &package.version)?,
            license: package.license.clone(),
            found: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> OsRelease {
        OsRelease { id: "debian".into(), version: Some("12".into()), pretty_name: None }
    }

    #[test]
    fn package_urls_carry_what_a_scan_needs() {
        let bash = dpkg::Installed {
            name: "libstdc++6".into(),
            version: "1:12.2.0-14+deb12u1".into(),
            arch: "amd64".into(),
            source: Some("gcc-12".into()),
            source_version: Some("12.2.0-14".into()),
        };
        assert_eq!(
            Package::deb(&bash, Some(&debian())).unwrap().purl,
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12\
             &upstream=gcc-12%4012.2.0-14"
        );
        let six = apk::Installed {
            name: "py3-six".into(),
            version: "1.16.0-r6".into(),
            arch: "x86_64".into(),
            origin: Some("py3-six".into()),
            ..apk::Installed::default()
        };
        assert_eq!(
            Package::apk(&six, None).unwrap().purl,
            "pkg:apk/alpine/py3-six@1.16.0-r6?arch=x86_64"
        );
    }

    #[test]
    fn names_of_languages_are_written_their_way() {
        let python = |name: &str| python::Distribution {
            name: name.into(),
            version: "1.0+local".into(),
            license: None,
        };
        assert_eq!(
            Package::pypi(&python("Ruamel.Yaml")).unwrap().purl,
            "pkg:pypi/ruamel-yaml@1.0%2Blocal"
        );
        let node = |name: &str| node::NodePackage {
            name: name.into(),
            version: "1.0.0".into(),
            license: None,
        };
        assert_eq!(Package::npm(&node("@babel/core")).unwrap().purl, "pkg:npm/%40babel/core@1.0.0");
        assert_eq!(Package::npm(&node("JSONStream")).unwrap().purl, "pkg:npm/JSONStream@1.0.0");
        assert_eq!(Package::npm(&node("")), None);
    }
}
