//! From a package of a bill to what advisories call it.

use packageurl::PackageUrl;

use crate::distribution::{self, Stated};
use crate::ecosystem::Ecosystem;
use crate::sbom::{Listed, SourcePackage, System};

/// What a platform behind a gem's version begins with.
const GEM_PLATFORMS: [&str; 10] =
    ["x86", "x64", "arm", "aarch64", "java", "jruby", "universal", "i386", "i686", "mswin"];
/// Types of package URLs that are packages of distributions, whether advisories know them or not.
const DISTRIBUTION_TYPES: [&str; 5] = ["deb", "apk", "rpm", "alpm", "alpine"];
/// What stands in place of a version that nobody knows.
const NO_VERSIONS: [&str; 4] = ["unknown", "noassertion", "none", "(devel)"];

/// Packages of distributions that are never built from a source of their own name. One of them
/// without a source says that the bill names no sources at all, for almost every image has one.
const NEVER_SOURCES: [&str; 40] = [
    // Debian and Ubuntu.
    "libc6",
    "libc-bin",
    "libgcc-s1",
    "libgcc1",
    "zlib1g",
    "libssl3",
    "libssl3t64",
    "libssl1.1",
    "perl-base",
    "bsdutils",
    "mount",
    "login",
    "passwd",
    "libuuid1",
    "libblkid1",
    "libmount1",
    "libsmartcols1",
    "libpam0g",
    "libpam-modules",
    "libsystemd0",
    "libudev1",
    "libselinux1",
    "libacl1",
    "libattr1",
    "libbz2-1.0",
    "liblzma5",
    "libpcre2-8-0",
    "libtinfo6",
    "ncurses-base",
    "libzstd1",
    "libexpat1",
    "libsqlite3-0",
    "libcurl4",
    // Alpine, Wolfi and Chainguard.
    "libcrypto3",
    "musl-utils",
    "ssl_client",
    "scanelf",
    "libc-utils",
    "busybox-binsh",
    "ld-linux",
];

/// A package as advisories name it. For distributions that is the source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// The ecosystem with its release, such as `Debian:12`.
    pub(crate) release: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) ecosystem: Ecosystem,
}

/// Why no advisory can be about a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unmatched {
    /// It is no package URL.
    Malformed,
    /// No ecosystem of this type can be matched.
    Type(String),
    /// No advisory is about this distribution, or it does not say its release.
    Distribution(String),
    /// It has no version.
    Version,
}

/// Finds out what advisories call a package of a bill that is of `system`.
pub(crate) fn resolve(listed: &Listed, system: Option<&System>) -> Result<Package, Unmatched> {
    let ty = purl_type(&listed.purl)?;
    let distributed = DISTRIBUTION_TYPES.contains(&ty.as_str());
    let language = language(&ty);
    if !distributed && language.is_none() {
        return Err(Unmatched::Type(ty));
    }
    let purl = read_purl(&listed.purl)?;
    let namespace = purl.namespace().unwrap_or_default();
    let beside = || listed.version.as_deref().and_then(known_version);
    let version = purl.version().and_then(known_version).or_else(beside);
    match language {
        Some(ecosystem) => language_package(ecosystem, namespace, purl.name(), version, listed),
        None => {
            let namespace = namespace.to_ascii_lowercase();
            let distro = qualifier(&purl, "distro");
            let distro_name = qualifier(&purl, "distro_name");
            let namespace = if ty == "alpine" { "alpine" } else { &namespace };
            let ty = if ty == "alpine" { "apk" } else { &ty };
            let stated = Stated { namespace, distro, distro_name, system };
            let unknown = || Unmatched::Distribution(distribution::shown(ty, &stated));
            let ecosystem = distribution::ecosystem(ty, &stated).ok_or_else(unknown)?;
            let release = distribution::release(ecosystem, &stated).ok_or_else(unknown)?;
            let (name, version) = source(ecosystem, &purl, version, listed.source.as_ref());
            let version = version.ok_or(Unmatched::Version)?;
            Ok(Package { release, name, version, ecosystem })
        }
    }
}

/// Whether a bill names no source for a package of a distribution: it is taken to be of the
/// package's own name, as the package URL's `upstream` is left out where they are the same.
pub(crate) fn lacks_source(listed: &Listed) -> bool {
    listed.source.is_none() && !listed.purl.contains("upstream=")
}

/// Whether a package of a distribution is built from a source of another name.
pub(crate) fn has_other_source(listed: &Listed) -> bool {
    let path = listed.purl.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    NEVER_SOURCES.contains(&name)
}

/// The type of a package URL, in lower case.
fn purl_type(purl: &str) -> Result<String, Unmatched> {
    let rest = purl.strip_prefix("pkg:").ok_or(Unmatched::Malformed)?.trim_start_matches('/');
    match rest.split_once('/') {
        Some((ty, _)) if !ty.is_empty() => Ok(ty.to_ascii_lowercase()),
        Some(_) | None => Err(Unmatched::Malformed),
    }
}

/// Reads a package URL. The rules of some types change names as they are read: npm's make
/// `JSONStream` and `jsonstream` one, which are two packages with other advisories. The type
/// without rules keeps every name as it is written, and each ecosystem's own rule comes later.
fn read_purl(purl: &str) -> Result<PackageUrl<'static>, Unmatched> {
    let rest = purl.trim_start_matches("pkg:").trim_start_matches('/');
    let (_, rest) = rest.split_once('/').ok_or(Unmatched::Malformed)?;
    format!("pkg:generic/{rest}").parse().map_err(|_| Unmatched::Malformed)
}

fn qualifier<'a>(purl: &'a PackageUrl<'_>, key: &str) -> Option<&'a str> {
    let value = purl.qualifiers().get(key).map(|value| value.trim());
    value.filter(|value| !value.is_empty())
}

/// A version that is one.
fn known_version(version: &str) -> Option<&str> {
    let version = version.trim();
    let unknown =
        version.is_empty() || NO_VERSIONS.iter().any(|none| version.eq_ignore_ascii_case(none));
    (!unknown).then_some(version)
}

/// The ecosystem of a language's package URLs.
fn language(ty: &str) -> Option<Ecosystem> {
    Some(match ty {
        "cargo" => Ecosystem::CratesIo,
        "gem" => Ecosystem::RubyGems,
        "golang" => Ecosystem::Go,
        "maven" => Ecosystem::Maven,
        "npm" => Ecosystem::Npm,
        "pypi" => Ecosystem::PyPi,
        _ => return None,
    })
}

fn language_package(
    ecosystem: Ecosystem,
    namespace: &str,
    name: &str,
    version: Option<&str>,
    listed: &Listed,
) -> Result<Package, Unmatched> {
    let separator = if ecosystem == Ecosystem::Maven { ":" } else { "/" };
    let nested = matches!(ecosystem, Ecosystem::Go | Ecosystem::Maven | Ecosystem::Npm);
    let mut name = match namespace {
        "" => name.to_owned(),
        _ if nested => format!("{namespace}{separator}{name}"),
        // These registries have no namespaces.
        _ => return Err(Unmatched::Malformed),
    };
    if ecosystem == Ecosystem::Npm {
        // The rules of package URLs have made the name lower-case, but the bill still knows it.
        let beside = listed.name.as_ref();
        if let Some(beside) = beside.filter(|beside| beside.to_lowercase() == name) {
            name.clone_from(beside);
        }
    }
    let name = ecosystem.package_name(&name);
    let version = version.ok_or(Unmatched::Version)?;
    let version = language_version(ecosystem, &name, version).ok_or(Unmatched::Version)?;
    let (release, version) = (ecosystem.name().to_owned(), version.to_owned());
    Ok(Package { release, name, version, ecosystem })
}

/// The source package and its version. The package URL's `upstream=openssl@3.0.11-1` comes first,
/// then what the bill states beside it; what states none is built from a source of its own name.
fn source(
    ecosystem: Ecosystem,
    purl: &PackageUrl<'_>,
    version: Option<&str>,
    beside: Option<&SourcePackage>,
) -> (String, Option<String>) {
    let upstream = qualifier(purl, "upstream").map(|u| u.split_once('@').unwrap_or((u, "")));
    let (name, stated) = match (upstream, beside) {
        (Some((name, version)), _) if !name.is_empty() => (name, version),
        (_, Some(source)) => (source.name.as_str(), source.version.as_deref().unwrap_or_default()),
        (Some(_) | None, None) => (purl.name(), ""),
    };
    let debian = matches!(ecosystem, Ecosystem::Debian | Ecosystem::Ubuntu);
    // Debian's names are lower-case by policy, and some bills write them otherwise.
    let name = if debian { name.to_lowercase() } else { name.to_owned() };
    if !stated.is_empty() {
        return (name, Some(stated.to_owned()));
    }
    let version = version.map(|version| {
        let epoch = qualifier(purl, "epoch").filter(|epoch| {
            debian && !version.contains(':') && *epoch != "0" && epoch.parse::<u32>().is_ok()
        });
        let version = if debian { without_rebuild(version) } else { version };
        epoch.map_or_else(|| version.to_owned(), |epoch| format!("{epoch}:{version}"))
    });
    (name, version)
}

/// A Debian version without the `+bN` of a rebuild, which the source does not have.
fn without_rebuild(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((source, number))
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            source
        }
        _ => version,
    }
}

/// The version that advisories mean; nothing for a build that has none.
fn language_version<'a>(ecosystem: Ecosystem, name: &str, version: &'a str) -> Option<&'a str> {
    if ecosystem == Ecosystem::Go {
        let version = version.strip_prefix("go").unwrap_or(version);
        let version = version.strip_prefix('v').unwrap_or(version);
        let own = matches!(name, "stdlib" | "toolchain");
        let version = if own { release_of_go(version) } else { version };
        return version.starts_with(|c: char| c.is_ascii_digit()).then_some(version);
    }
    let platform = |text: &str| GEM_PLATFORMS.iter().any(|known| text.starts_with(known));
    match version.split_once('-') {
        Some((bare, rest)) if ecosystem == Ecosystem::RubyGems && platform(rest) => Some(bare),
        Some(_) | None => Some(version),
    }
}

/// The release behind the version of a Go toolchain: `1.21.3 X:boringcrypto` and `1.21.3-corp` are
/// builds of `1.21.3`. What `-rc.1` and `-0` say belongs to the version.
fn release_of_go(version: &str) -> &str {
    let version = version.split_whitespace().next().unwrap_or_default();
    match version.split_once('-') {
        Some((_, pre)) if ["rc", "beta", "alpha", "0"].iter().any(|p| pre.starts_with(p)) => {
            version
        }
        // A build of what is not released yet is no release.
        Some((_, pre)) if pre.starts_with("dev") => "",
        Some((release, _)) => release,
        None => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_purl(purl: &str) -> Result<Package, Unmatched> {
        resolve(&Listed { purl: purl.to_owned(), ..Listed::default() }, None)
    }

    fn check(listed: &Listed) -> String {
        match resolve(listed, None) {
            Ok(package) => format!("{} {} {}", package.release, package.name, package.version),
            Err(reason) => format!("{reason:?}"),
        }
    }

    #[test]
    fn package_urls_become_what_advisories_name() {
        for (purl, want) in [
            (
                "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
                "Debian:12 openssl 3.0.11-1~deb12u2",
            ),
            (
                "pkg:deb/debian/libgcc-s1@12.2.0-14%2Bb1?distro=debian-12.5&upstream=gcc-12%4012.2.0-14",
                "Debian:12 gcc-12 12.2.0-14",
            ),
            ("pkg:deb/debian/bash@5.2.15-2%2Bb7?distro=bookworm", "Debian:12 bash 5.2.15-2"),
            ("pkg:deb/debian/bash@5.2.15-2+b7?distro=debian-12.5", "Debian:12 bash 5.2.15-2"),
            (
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%7Edeb12u1?distro=12&upstream=gcc-12",
                "Debian:12 gcc-12 12.2.0-14~deb12u1",
            ),
            ("pkg:deb/Debian/Bash@5.2.15-2?distro=debian-12", "Debian:12 bash 5.2.15-2"),
            ("pkg:deb/bash@5.2.15-2?distro=debian-12", "Debian:12 bash 5.2.15-2"),
            (
                "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.5&epoch=1&upstream=zlib",
                "Debian:12 zlib 1:1.2.13.dfsg-1",
            ),
            (
                "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1%2Bb1?distro=debian-12&epoch=1&upstream=zlib",
                "Debian:12 zlib 1:1.2.13.dfsg-1",
            ),
            ("pkg:deb/debian/bash@5.2.15-2?distro=debian-12&epoch=0", "Debian:12 bash 5.2.15-2"),
            (
                "pkg:deb/ubuntu/zlib1g@1%3A1.2?distro=ubuntu-22.04&upstream=zlib",
                "Ubuntu:22.04 zlib 1:1.2",
            ),
            (
                "pkg:apk/alpine/libcrypto3@3.1.4-r1?distro=alpine-3.19.1&upstream=openssl",
                "Alpine:v3.19 openssl 3.1.4-r1",
            ),
            (
                "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=3.19.1",
                "Alpine:v3.19 musl 1.2.4-r2",
            ),
            ("pkg:alpine/musl@1.2.4-r2?distro=alpine-3.19.1", "Alpine:v3.19 musl 1.2.4-r2"),
            ("pkg:apk/wolfi/glibc@2.38-r9?distro=wolfi-20230201", "Wolfi glibc 2.38-r9"),
            ("pkg:pypi/Zope.Interface@5.0", "PyPI zope-interface 5.0"),
            ("pkg:pypi/ruamel_yaml@0.1%2Blocal", "PyPI ruamel-yaml 0.1+local"),
            ("pkg:npm/%40babel/core@7.0.0", "npm @babel/core 7.0.0"),
            ("pkg:npm/@babel/core@7.0.0", "npm @babel/core 7.0.0"),
            ("pkg:npm/%40Scope/Name@7.0.0", "npm @Scope/Name 7.0.0"),
            ("pkg:npm/JSONStream@1.3.5", "npm JSONStream 1.3.5"),
            ("pkg:NPM/JSONStream@1.3.5", "npm JSONStream 1.3.5"),
            ("pkg:npm/jsonstream@1.0.3", "npm jsonstream 1.0.3"),
            ("pkg:golang/github.com/Foo/bar@v1.2.3#cmd/x", "Go github.com/foo/bar 1.2.3"),
            (
                "pkg:golang/github.com/docker/docker@v24.0.7%2Bincompatible",
                "Go github.com/docker/docker 24.0.7+incompatible",
            ),
            ("pkg:golang/stdlib@go1.22.1", "Go stdlib 1.22.1"),
            ("pkg:golang/stdlib@v1.22.1", "Go stdlib 1.22.1"),
            ("pkg:golang/stdlib@1.21rc3", "Go stdlib 1.21rc3"),
            ("pkg:golang/stdlib@go1.24rc1", "Go stdlib 1.24rc1"),
            ("pkg:golang/stdlib@1.21.0-rc.3", "Go stdlib 1.21.0-rc.3"),
            ("pkg:golang/stdlib@go1.21.3%20X:boringcrypto", "Go stdlib 1.21.3"),
            ("pkg:golang/stdlib@go1.21.3-corp", "Go stdlib 1.21.3"),
            (
                "pkg:maven/org.apache.tomcat/tomcat-catalina@9.0.1",
                "Maven org.apache.tomcat:tomcat-catalina 9.0.1",
            ),
            ("pkg:gem/nokogiri@1.13.9-x86_64-linux", "RubyGems nokogiri 1.13.9"),
            ("pkg:cargo/time@0.1.0", "crates.io time 0.1.0"),
        ] {
            assert_eq!(
                check(&Listed { purl: purl.to_owned(), ..Listed::default() }),
                want,
                "{purl}"
            );
        }
    }

    #[test]
    fn what_the_bill_says_beside_the_package_url_fills_what_is_missing() {
        let listed = |purl: &str| Listed { purl: purl.to_owned(), ..Listed::default() };
        let source = |name: &str, version: Option<&str>| {
            Some(SourcePackage { name: name.into(), version: version.map(str::to_owned) })
        };
        let debian = "pkg:deb/debian/libgcc-s1@12.2.0-14?arch=amd64&distro=debian-12.5";
        for (listed, want) in [
            (
                Listed { source: source("gcc-12", Some("12.2.0-14")), ..listed(debian) },
                "Debian:12 gcc-12 12.2.0-14",
            ),
            (
                Listed { source: source("gcc-12", None), ..listed(debian) },
                "Debian:12 gcc-12 12.2.0-14",
            ),
            (
                Listed {
                    source: source("other", None),
                    ..listed("pkg:deb/debian/x@1?distro=debian-12&upstream=own")
                },
                "Debian:12 own 1",
            ),
            (
                Listed { name: Some("JSONStream".into()), ..listed("pkg:npm/jsonstream@1") },
                "npm JSONStream 1",
            ),
            (
                Listed { name: Some("@Scope/Name".into()), ..listed("pkg:npm/%40scope/name@1") },
                "npm @Scope/Name 1",
            ),
            // A name for people says nothing.
            (
                Listed { name: Some("JSON Stream".into()), ..listed("pkg:npm/jsonstream@1") },
                "npm jsonstream 1",
            ),
            (Listed { version: Some("1.5".into()), ..listed("pkg:pypi/demo") }, "PyPI demo 1.5"),
            (Listed { version: Some("UNKNOWN".into()), ..listed("pkg:pypi/demo") }, "Version"),
        ] {
            assert_eq!(check(&listed), want, "{listed:?}");
        }
    }

    #[test]
    fn what_cannot_be_matched_says_why() {
        let distribution = |text: &str| Unmatched::Distribution(text.to_owned());
        for (purl, want) in [
            ("not a purl", Unmatched::Malformed),
            ("pkg:npm", Unmatched::Malformed),
            ("pkg:pypi/a/b@1", Unmatched::Malformed),
            ("pkg:npm/a%FF@1", Unmatched::Malformed),
            ("pkg:nuget/Newtonsoft.Json@1.0", Unmatched::Type("nuget".into())),
            ("pkg:generic/openssl@1.0", Unmatched::Type("generic".into())),
            ("pkg:deb/raspbian/x@1?distro=raspbian-12", distribution("raspbian 12")),
            (
                "pkg:rpm/redhat/bash@4.4-1?arch=x86_64&epoch=0&distro=rhel-9.3",
                distribution("rhel 9.3"),
            ),
            ("pkg:deb/debian/x@1", distribution("debian")),
            ("pkg:deb/debian/x@1?distro=debian-sid", distribution("debian sid")),
            ("pkg:apk/alpine/x@1?distro=alpine-edge", distribution("alpine edge")),
            ("pkg:pypi/x", Unmatched::Version),
            ("pkg:golang/example.com/x@(devel)", Unmatched::Version),
            ("pkg:golang/example.com/x@%28devel%29", Unmatched::Version),
            ("pkg:golang/stdlib@devel%20go1.22-abc", Unmatched::Version),
        ] {
            assert_eq!(from_purl(purl), Err(want), "{purl}");
        }
    }
}
