//! Packages as the documents list them, and their package URLs.

use std::fmt;

use packageurl::PackageUrl;

use crate::catalogers::os_release::OsRelease;
use crate::catalogers::python;
use crate::evidence::Entry;

/// A family of packages with one registry and one order of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ecosystem {
    /// Alpine packages.
    Apk,
    /// Homebrew's packages.
    Brew,
    /// Rust's crates.
    Cargo,
    /// PHP packages of Composer.
    Composer,
    /// Packages of conda.
    Conda,
    /// Debian packages.
    Deb,
    /// Ruby's gems.
    Gem,
    /// What no registry has: programs that were compiled, archives without coordinates.
    Generic,
    /// Go modules.
    Golang,
    /// Java packages, by the coordinates of Maven.
    Maven,
    /// Paths of the Nix store.
    Nix,
    /// Node packages.
    Npm,
    /// .NET packages.
    Nuget,
    /// Python distributions.
    Pypi,
    /// RPM packages.
    Rpm,
}

impl Ecosystem {
    /// The type in a package URL, such as `deb`.
    #[must_use]
    pub const fn purl_type(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Brew => "brew",
            Self::Cargo => "cargo",
            Self::Composer => "composer",
            Self::Conda => "conda",
            Self::Deb => "deb",
            Self::Gem => "gem",
            Self::Generic => "generic",
            Self::Golang => "golang",
            Self::Maven => "maven",
            Self::Nix => "nix",
            Self::Npm => "npm",
            Self::Nuget => "nuget",
            Self::Pypi => "pypi",
            Self::Rpm => "rpm",
        }
    }

    /// The namespace of a distribution's packages where no `os-release` names the distribution;
    /// `None` for packages that are of no distribution.
    const fn distribution(self) -> Option<&'static str> {
        match self {
            Self::Apk => Some("alpine"),
            Self::Deb => Some("debian"),
            Self::Rpm => Some(""),
            Self::Brew
            | Self::Cargo
            | Self::Composer
            | Self::Conda
            | Self::Gem
            | Self::Generic
            | Self::Golang
            | Self::Maven
            | Self::Nix
            | Self::Npm
            | Self::Nuget
            | Self::Pypi => None,
        }
    }

    /// A name, or a namespace, as its package URLs write it. Node's stay as they are: the rules of
    /// package URLs make them lower-case, but the registry has older packages that are not, and
    /// `JSONStream` is another package than `jsonstream`, with other advisories.
    fn spelled(self, name: &str) -> String {
        match self {
            Self::Pypi => python::normalized(name),
            Self::Composer | Self::Deb | Self::Golang => name.to_lowercase(),
            Self::Apk
            | Self::Brew
            | Self::Cargo
            | Self::Conda
            | Self::Gem
            | Self::Generic
            | Self::Maven
            | Self::Nix
            | Self::Npm
            | Self::Nuget
            | Self::Rpm => name.to_owned(),
        }
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purl_type())
    }
}

/// How well a package is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// A file that its installer or builder wrote says its name and version.
    Stated,
    /// They were made out from a file's name or from texts in a program.
    Guessed,
}

/// The hash of what a package was installed from, as its metadata states it, or of the file itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileHash {
    /// `SHA-1`, `SHA-256` or `SHA-512`.
    pub algorithm: &'static str,
    /// In lower-case hex digits.
    pub hex: String,
}

/// Where a package was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file that says so, from the root of the image, such as `/var/lib/dpkg/status`; behind a
    /// `!`, the path in an archive.
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
    /// The name for people, with what stands before it; the one for machines is in the package
    /// URL.
    pub name: String,
    /// The version, as its ecosystem writes it; empty where nobody knows it.
    pub version: String,
    /// The package URL: the package's identity in the documents, with the qualifiers `arch`,
    /// `distro` and `upstream` where they apply.
    pub purl: String,
    /// The license as the metadata says it, not yet read.
    pub license: Option<String>,
    /// Who made or maintains it, as the metadata says it.
    pub supplier: Option<String>,
    /// Hashes of what it was installed from.
    pub hashes: Vec<FileHash>,
    /// How well its name and version are known.
    pub certainty: Certainty,
    /// Every place where it was found, sorted.
    pub found: Vec<Location>,
}

/// The namespace of the packages of a distribution: Red Hat's is not the name of its system.
fn distribution_namespace(ecosystem: Ecosystem, id: &str) -> &str {
    match (ecosystem, id) {
        (Ecosystem::Rpm, "rhel") => "redhat",
        _ => id,
    }
}

impl Entry {
    /// The package URL of a package of the distribution `os`, or of any; `None` when a part breaks
    /// the rules of package URLs.
    ///
    /// The library's rules of single types change names in ways that differ from the registries',
    /// so the URL is made by the rules that hold for all, and each ecosystem spells its names.
    pub(crate) fn purl(&self, os: Option<&OsRelease>) -> Option<String> {
        let ecosystem = self.ecosystem;
        let distribution = ecosystem.distribution();
        let mut url = PackageUrl::new("generic", ecosystem.spelled(&self.name)).ok()?;
        let namespace = match distribution {
            Some(otherwise) => {
                let id = os.map(|os| distribution_namespace(ecosystem, &os.id));
                Some(id.unwrap_or(otherwise).to_owned())
            }
            // A Python name is normalized as a whole, and has no namespace.
            None => self.namespace.as_ref().map(|namespace| ecosystem.spelled(namespace)),
        };
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            url.with_namespace(namespace).ok()?;
        }
        if !self.version.is_empty() {
            url.with_version(&self.version).ok()?;
        }
        let distro = distribution.and(os).map(OsRelease::distro);
        let shared = [("arch", &self.arch), ("distro", &distro), ("upstream", &self.source)];
        let shared = shared.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        for (key, value) in shared.chain(self.qualifiers.iter().map(|(key, value)| (*key, value))) {
            if !value.is_empty() {
                url.add_qualifier(key, value).ok()?;
            }
        }
        let url = url.to_string();
        let rest = url.strip_prefix("pkg:generic/")?;
        Some(format!("pkg:{}/{rest}", ecosystem.purl_type()))
    }
}

impl Package {
    /// The package of an entry; `None` when its name makes no package URL.
    pub(crate) fn of(entry: Entry, os: Option<&OsRelease>) -> Option<Self> {
        let purl = entry.purl(os)?;
        let name = if entry.ecosystem == Ecosystem::Pypi {
            python::normalized(&entry.name)
        } else {
            entry.name
        };
        Some(Self {
            purl,
            name: match &entry.namespace {
                Some(namespace) if entry.ecosystem.distribution().is_none() => {
                    let separator = if entry.ecosystem == Ecosystem::Maven { ":" } else { "/" };
                    format!("{namespace}{separator}{name}")
                }
                _ => name,
            },
            ecosystem: entry.ecosystem,
            version: entry.version,
            license: entry.license,
            supplier: entry.supplier,
            hashes: entry.hashes,
            certainty: entry.certainty,
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
        let version = "1:12.2.0-14+deb12u1";
        let libstdc = Entry {
            arch: Some("amd64".into()),
            source: Some("gcc-12@12.2.0-14".into()),
            ..Entry::new(Ecosystem::Deb, "libstdc++6", version)
        };
        assert_eq!(
            libstdc.purl(Some(&debian())).unwrap(),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12\
             &upstream=gcc-12%4012.2.0-14"
        );
        let six = Entry {
            arch: Some("x86_64".into()),
            ..Entry::new(Ecosystem::Apk, "py3-six", "1.16.0-r6")
        };
        assert_eq!(six.purl(None).unwrap(), "pkg:apk/alpine/py3-six@1.16.0-r6?arch=x86_64");
        let rhel = OsRelease { id: "rhel".into(), version: Some("9.3".into()), pretty_name: None };
        let bash = Entry {
            qualifiers: vec![("epoch", "1".into())],
            ..Entry::new(Ecosystem::Rpm, "bash", "5.1.8-6.el9")
        };
        assert_eq!(
            bash.purl(Some(&rhel)).unwrap(),
            "pkg:rpm/redhat/bash@5.1.8-6.el9?distro=rhel-9.3&epoch=1"
        );
        assert_eq!(bash.purl(None).unwrap(), "pkg:rpm/bash@5.1.8-6.el9?epoch=1");
    }

    #[test]
    fn names_of_languages_are_written_their_way() {
        let of = |ecosystem, path: &str, version: &str| {
            Package::of(Entry::split(ecosystem, path, version), None).map(|p| (p.purl, p.name))
        };
        let pair = |purl: &str, name: &str| Some((purl.to_owned(), name.to_owned()));
        for (ecosystem, path, version, want) in [
            (
                Ecosystem::Pypi,
                "Ruamel.Yaml",
                "1.0+local",
                pair("pkg:pypi/ruamel-yaml@1.0%2Blocal", "ruamel-yaml"),
            ),
            (
                Ecosystem::Npm,
                "@babel/core",
                "1.0.0",
                pair("pkg:npm/%40babel/core@1.0.0", "@babel/core"),
            ),
            (Ecosystem::Npm, "JSONStream", "1.0.0", pair("pkg:npm/JSONStream@1.0.0", "JSONStream")),
            (Ecosystem::Npm, "", "1", None),
            (
                Ecosystem::Golang,
                "github.com/Azure/go-x/v2",
                "v2.1.0",
                pair("pkg:golang/github.com/azure/go-x/v2@v2.1.0", "github.com/Azure/go-x/v2"),
            ),
            (Ecosystem::Maven, "org.x/a-b", "1.0", pair("pkg:maven/org.x/a-b@1.0", "org.x:a-b")),
            (Ecosystem::Nuget, "Serilog", "3.1.1", pair("pkg:nuget/Serilog@3.1.1", "Serilog")),
            (
                Ecosystem::Golang,
                "example.com/x",
                "",
                pair("pkg:golang/example.com/x", "example.com/x"),
            ),
        ] {
            assert_eq!(of(ecosystem, path, version), want, "{path}");
        }
    }

    /// The tests of the makers of package URLs, of the types that are written here and have no
    /// distribution in them.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
    fn package_urls_are_built_as_their_makers_build_them() {
        let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared/data/peers/purl-spec/tests/types");
        if !tests.is_dir() {
            return eprintln!("skipped: {} is not there", tests.display());
        }
        let mut built = 0;
        for ecosystem in [
            Ecosystem::Brew,
            Ecosystem::Cargo,
            Ecosystem::Composer,
            Ecosystem::Conda,
            Ecosystem::Gem,
            Ecosystem::Generic,
            Ecosystem::Golang,
            Ecosystem::Maven,
            Ecosystem::Npm,
            Ecosystem::Nuget,
            Ecosystem::Pypi,
        ] {
            let file = tests.join(format!("{ecosystem}-test.json"));
            let all: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            for test in all["tests"].as_array().unwrap() {
                let input = &test["input"];
                // No package of these is a part of another one: there is no subpath.
                let plain = test["test_type"] == "build" && input["subpath"].is_null();
                if !plain || test["expected_failure"] == true {
                    continue;
                }
                let text = |key: &str| input[key].as_str().unwrap_or_default().to_owned();
                let qualifiers = input["qualifiers"].as_object().into_iter().flatten();
                let entry = Entry {
                    namespace: Some(text("namespace")).filter(|namespace| !namespace.is_empty()),
                    qualifiers: qualifiers
                        .map(|(key, value)| {
                            let key: &'static str = key.clone().leak();
                            (key, value.as_str().unwrap().to_owned())
                        })
                        .collect(),
                    ..Entry::new(ecosystem, text("name"), text("version"))
                };
                built += 1;
                assert_eq!(entry.purl(None).as_deref(), test["expected_output"].as_str(), "{test}");
            }
        }
        assert!(built > 40, "{built}");
    }
}
