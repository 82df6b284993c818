//! From a package URL to what advisories call the package.

use packageurl::PackageUrl;

use crate::ecosystem::Ecosystem;

/// Debian's code names, as they stand in `distro` qualifiers of unversioned releases.
const DEBIAN_RELEASES: [(&str, &str); 5] =
    [("stretch", "9"), ("buster", "10"), ("bullseye", "11"), ("bookworm", "12"), ("trixie", "13")];
/// What a platform behind a gem's version begins with.
const GEM_PLATFORMS: [&str; 10] =
    ["x86", "x64", "arm", "aarch64", "java", "jruby", "universal", "i386", "i686", "mswin"];

/// A package as advisories name it. For distributions that is the source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// The ecosystem with its release, such as `Debian:12`.
    pub(crate) release: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) ecosystem: Ecosystem,
}

/// Why no advisory can be about a package URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unmatched {
    Malformed,
    Type,
    Release,
    Version,
}

impl Unmatched {
    /// The reason, for reports.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "the package URL is malformed",
            Self::Type => "no ecosystem of this type can be matched",
            Self::Release => "the package URL names no known release in its `distro` qualifier",
            Self::Version => "the package URL has no version",
        }
    }
}

/// Reads a package URL.
pub(crate) fn from_purl(purl: &str) -> Result<Package, Unmatched> {
    let purl: PackageUrl<'_> = purl.parse().map_err(|_| Unmatched::Malformed)?;
    let namespace = purl.namespace().unwrap_or_default();
    let qualifier =
        |key: &str| purl.qualifiers().iter().find(|(k, _)| *k == key).map(|(_, value)| &**value);
    let version = purl.version().map(str::trim).filter(|version| !version.is_empty());
    let joined = |separator: &str| match namespace {
        "" => purl.name().to_owned(),
        _ => format!("{namespace}{separator}{}", purl.name()),
    };
    let (ecosystem, name) = match (purl.ty(), namespace) {
        ("deb" | "apk", _) => {
            let ecosystem = match namespace {
                "debian" => Ecosystem::Debian,
                "ubuntu" => Ecosystem::Ubuntu,
                "alpine" => Ecosystem::Alpine,
                "wolfi" => Ecosystem::Wolfi,
                "chainguard" => Ecosystem::Chainguard,
                _ => return Err(Unmatched::Type),
            };
            let release = release(ecosystem, qualifier("distro")).ok_or(Unmatched::Release)?;
            let (name, version) = source(ecosystem, purl.name(), version, qualifier("upstream"));
            let version = version.ok_or(Unmatched::Version)?;
            return Ok(Package { release, name, version, ecosystem });
        }
        ("cargo", _) => (Ecosystem::CratesIo, purl.name().to_owned()),
        ("gem", _) => (Ecosystem::RubyGems, purl.name().to_owned()),
        ("golang", _) => (Ecosystem::Go, joined("/")),
        ("maven", _) => (Ecosystem::Maven, joined(":")),
        ("npm", _) => (Ecosystem::Npm, joined("/")),
        ("pypi", _) => (Ecosystem::PyPi, purl.name().to_owned()),
        _ => return Err(Unmatched::Type),
    };
    let version = language_version(ecosystem, version.ok_or(Unmatched::Version)?);
    Ok(Package {
        release: ecosystem.name().to_owned(),
        name: ecosystem.package_name(&name),
        version: version.ok_or(Unmatched::Version)?.to_owned(),
        ecosystem,
    })
}

/// The OSV ecosystem with its release, from a qualifier such as `debian-12.5` or `alpine-3.19.1`.
fn release(ecosystem: Ecosystem, distro: Option<&str>) -> Option<String> {
    let family = ecosystem.name();
    // These two have one rolling release.
    if matches!(ecosystem, Ecosystem::Wolfi | Ecosystem::Chainguard) {
        return Some(family.to_owned());
    }
    let distro = distro?.to_ascii_lowercase();
    let number = distro.strip_prefix(&format!("{}-", family.to_ascii_lowercase()));
    let number = number.unwrap_or(&distro);
    let number = number.strip_prefix('v').unwrap_or(number);
    let mut parts = number.split('.');
    let major = parts.next().filter(|part| !part.is_empty())?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if ecosystem == Ecosystem::Debian {
        let known = DEBIAN_RELEASES.iter().find(|(name, _)| *name == major);
        let major = known.map_or(major, |(_, number)| number);
        return is_number(major).then(|| format!("Debian:{major}"));
    }
    let minor = parts.next().unwrap_or_default();
    if !is_number(major) || !is_number(minor) {
        return None;
    }
    let v = if ecosystem == Ecosystem::Alpine { "v" } else { "" };
    Some(format!("{family}:{v}{major}.{minor}"))
}

/// The source package and its version, from a qualifier such as `upstream=openssl@3.0.11-1`.
fn source(
    ecosystem: Ecosystem,
    name: &str,
    version: Option<&str>,
    upstream: Option<&str>,
) -> (String, Option<String>) {
    let (source, source_version) = match upstream.map(|u| u.split_once('@').unwrap_or((u, ""))) {
        Some((source, version)) if !source.is_empty() => (source, version),
        Some(_) | None => (name, ""),
    };
    let version = match source_version {
        "" => version.map(|version| {
            let rebuilt = matches!(ecosystem, Ecosystem::Debian | Ecosystem::Ubuntu);
            if rebuilt { without_rebuild(version) } else { version }
        }),
        stated => Some(stated),
    };
    (source.to_owned(), version.map(str::to_owned))
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
fn language_version(ecosystem: Ecosystem, version: &str) -> Option<&str> {
    if ecosystem == Ecosystem::Go {
        let version = version.strip_prefix("go").unwrap_or(version);
        let version = version.strip_prefix('v').unwrap_or(version);
        return version.starts_with(|c: char| c.is_ascii_digit()).then_some(version);
    }
    let platform = |text: &str| GEM_PLATFORMS.iter().any(|known| text.starts_with(known));
    match version.split_once('-') {
        Some((bare, rest)) if ecosystem == Ecosystem::RubyGems && platform(rest) => Some(bare),
        Some(_) | None => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                "pkg:deb/ubuntu/zlib1g@1%3A1.2?distro=ubuntu-22.04&upstream=zlib",
                "Ubuntu:22.04 zlib 1:1.2",
            ),
            (
                "pkg:apk/alpine/libcrypto3@3.1.4-r1?distro=alpine-3.19.1&upstream=openssl",
                "Alpine:v3.19 openssl 3.1.4-r1",
            ),
            ("pkg:apk/wolfi/glibc@2.38-r9?distro=wolfi-20230201", "Wolfi glibc 2.38-r9"),
            ("pkg:pypi/Zope.Interface@5.0", "PyPI zope-interface 5.0"),
            ("pkg:npm/%40babel/core@7.0.0", "npm @babel/core 7.0.0"),
            ("pkg:golang/github.com/Foo/bar@v1.2.3#cmd/x", "Go github.com/foo/bar 1.2.3"),
            ("pkg:golang/stdlib@go1.22.1", "Go stdlib 1.22.1"),
            (
                "pkg:maven/org.apache.tomcat/tomcat-catalina@9.0.1",
                "Maven org.apache.tomcat:tomcat-catalina 9.0.1",
            ),
            ("pkg:gem/nokogiri@1.13.9-x86_64-linux", "RubyGems nokogiri 1.13.9"),
            ("pkg:cargo/time@0.1.0", "crates.io time 0.1.0"),
        ] {
            let package = from_purl(purl).unwrap();
            assert_eq!(format!("{} {} {}", package.release, package.name, package.version), want);
        }
    }

    #[test]
    fn what_cannot_be_matched_says_why() {
        for (purl, want) in [
            ("not a purl", Unmatched::Malformed),
            ("pkg:nuget/Newtonsoft.Json@1.0", Unmatched::Type),
            ("pkg:deb/raspbian/x@1?distro=raspbian-12", Unmatched::Type),
            ("pkg:deb/debian/x@1", Unmatched::Release),
            ("pkg:deb/debian/x@1?distro=debian-sid", Unmatched::Release),
            ("pkg:apk/alpine/x@1?distro=alpine-edge", Unmatched::Release),
            ("pkg:pypi/x", Unmatched::Version),
            ("pkg:golang/example.com/x@(devel)", Unmatched::Version),
        ] {
            assert_eq!(from_purl(purl), Err(want), "{purl}");
        }
    }
}
