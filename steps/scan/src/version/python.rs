//! The order of Python versions (PEP 440), by the `pep440_rs` crate.

use pep440_rs::Version;

use super::order::Scheme;

/// PyPI versions.
pub(crate) struct Python;

impl Scheme for Python {
    type Key = Version;

    /// Local versions: the public ones that an index has are what advisories name.
    const BUILD_LABEL: Option<char> = Some('+');

    fn parse(text: &str) -> Option<Version> {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_by_pep_440_and_by_the_fallback() {
        for (older, newer) in [
            ("1.0.dev1", "1.0a1"),
            ("1.0rc1", "1.0"),
            ("1.0", "1.0+cu117"),
            ("1.0", "1.0.post1"),
            ("2.0", "1!0.1"),
            // Not PEP 440: the longest good beginning decides, what is left over comes second.
            ("2019-09-12", "2019-10-01"),
            ("0.2.0", "0.2.0-n653"),
            ("0.2.0-n653", "0.2.1"),
            ("master", "0.0.1"),
        ] {
            assert_eq!(Python.compare(older, newer), Ordering::Less, "{older} < {newer}");
        }
        assert_eq!(Python.compare("1.0", "1.0.0"), Ordering::Equal);
        assert_eq!(Python.compare("1.0-RC1", "1.0rc1"), Ordering::Equal);
        assert_eq!(Python.compare("2.3.1+cu118", "2.3.1"), Ordering::Greater);
    }

    #[test]
    fn a_public_version_that_is_named_means_every_build_of_it() {
        for (version, named, want) in [
            ("2.3.1+cu118", "2.3.1", Ordering::Equal),
            ("2.3.1+cu118", "2.3.1+cu118", Ordering::Equal),
            ("2.3.1+cu118", "2.3.1+cpu", Ordering::Greater),
            ("2.3.1", "2.3.1+cpu", Ordering::Less),
            ("2.3.2+cu118", "2.3.1", Ordering::Greater),
            ("2.3.1.post1+cu118", "2.3.1", Ordering::Greater),
            ("2.3.0+cu118", "2.3.1", Ordering::Less),
        ] {
            assert_eq!(Python.compare_named(version, named), want, "{version} and {named}");
        }
    }
}
