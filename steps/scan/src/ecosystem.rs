//! The ecosystems that can be matched: their OSV names, and the order of their versions.

use crate::version::{self, VersionOrder};

/// A family of packages with one way to name them and one order of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ecosystem {
    Alpine,
    Chainguard,
    CratesIo,
    Debian,
    Go,
    Maven,
    Npm,
    PyPi,
    RubyGems,
    Ubuntu,
    Wolfi,
}

impl Ecosystem {
    /// Every ecosystem, in the order of their OSV names.
    pub(crate) const ALL: [Self; 11] = [
        Self::Alpine,
        Self::Chainguard,
        Self::Debian,
        Self::Go,
        Self::Maven,
        Self::PyPi,
        Self::RubyGems,
        Self::Ubuntu,
        Self::Wolfi,
        Self::CratesIo,
        Self::Npm,
    ];

    /// The name in OSV records and dumps, without a release.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Alpine => "Alpine",
            Self::Chainguard => "Chainguard",
            Self::CratesIo => "crates.io",
            Self::Debian => "Debian",
            Self::Go => "Go",
            Self::Maven => "Maven",
            Self::Npm => "npm",
            Self::PyPi => "PyPI",
            Self::RubyGems => "RubyGems",
            Self::Ubuntu => "Ubuntu",
            Self::Wolfi => "Wolfi",
        }
    }

    /// The ecosystem of an OSV name such as `Debian:12` or `PyPI`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let family = name.split(':').next().unwrap_or(name);
        Self::ALL.into_iter().find(|ecosystem| ecosystem.name() == family)
    }

    /// How its versions are ordered.
    pub(crate) fn order(self) -> &'static dyn VersionOrder {
        match self {
            Self::Alpine | Self::Chainguard | Self::Wolfi => &version::Alpine,
            Self::Debian | Self::Ubuntu => &version::Debian,
            Self::CratesIo | Self::Npm => &version::Semantic,
            Self::Go => &version::Go,
            Self::Maven => &version::Maven,
            Self::PyPi => &version::Python,
            Self::RubyGems => &version::Gem,
        }
    }

    /// Whether its packages are those of a distribution.
    pub(crate) const fn is_distribution(self) -> bool {
        match self {
            Self::Alpine | Self::Chainguard | Self::Debian | Self::Ubuntu | Self::Wolfi => true,
            Self::CratesIo | Self::Go | Self::Maven | Self::Npm | Self::PyPi | Self::RubyGems => {
                false
            }
        }
    }

    /// A release of it as people and bills write it: `debian 12` for `Debian:12`.
    pub(crate) fn shown(self, release: &str) -> String {
        if !self.is_distribution() {
            return release.to_owned();
        }
        match release.split_once(':') {
            Some((family, number)) => {
                let number = number.strip_prefix('v').unwrap_or(number);
                format!("{} {number}", family.to_lowercase())
            }
            None => release.to_lowercase(),
        }
    }

    /// The text that the database keeps an OSV ecosystem under: `Ubuntu:22.04:LTS` and
    /// `Ubuntu:22.04` are one release.
    pub(crate) fn key(self, osv_name: &str) -> &str {
        match self {
            Self::Ubuntu => osv_name.strip_suffix(":LTS").unwrap_or(osv_name),
            Self::Alpine
            | Self::Chainguard
            | Self::CratesIo
            | Self::Debian
            | Self::Go
            | Self::Maven
            | Self::Npm
            | Self::PyPi
            | Self::RubyGems
            | Self::Wolfi => osv_name,
        }
    }

    /// A package's name as the database keeps it: PyPI names in the form of PEP 503, Go modules in
    /// lower case, since package URLs write them so and advisories do not. The names of npm differ
    /// in case alone: `JSONStream` is another package than `jsonstream`.
    pub(crate) fn package_name(self, name: &str) -> String {
        match self {
            Self::PyPi => {}
            Self::Go => return name.to_lowercase(),
            Self::Alpine
            | Self::Chainguard
            | Self::CratesIo
            | Self::Debian
            | Self::Maven
            | Self::Npm
            | Self::RubyGems
            | Self::Ubuntu
            | Self::Wolfi => return name.to_owned(),
        }
        let mut normal = String::with_capacity(name.len());
        for c in name.chars() {
            if matches!(c, '-' | '_' | '.') {
                if !normal.ends_with('-') {
                    normal.push('-');
                }
            } else {
                normal.extend(c.to_lowercase());
            }
        }
        normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_family_and_kept_by_release() {
        assert_eq!(Ecosystem::of("Debian:12"), Some(Ecosystem::Debian));
        assert_eq!(Ecosystem::of("crates.io"), Some(Ecosystem::CratesIo));
        assert_eq!(Ecosystem::of("Azure Linux"), None);
        assert_eq!(Ecosystem::Ubuntu.key("Ubuntu:22.04:LTS"), "Ubuntu:22.04");
        assert_eq!(Ecosystem::PyPi.package_name("Zope._.Interface"), "zope-interface");
        assert_eq!(Ecosystem::Npm.package_name("@Scope/Name"), "@Scope/Name");
        assert_eq!(Ecosystem::Go.package_name("github.com/Azure/x"), "github.com/azure/x");
    }
}
