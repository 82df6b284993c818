//! The order of Semantic Versioning 2.0 (section 11), by the `semver` crate, for npm, Go and
//! crates.io: the OSV schema orders every `SEMVER` range so.

use std::cmp::Ordering;

use semver::Version;

use super::order::Scheme;

/// Semantic versions. A leading `v` is passed over and missing numbers are zero: `v1` is `1.0.0`.
pub(crate) struct Semantic;

/// A version ordered by precedence: build metadata, such as Go's `+incompatible`, says nothing.
pub(crate) struct Precedence(Version);

impl Scheme for Semantic {
    type Key = Precedence;

    fn parse(text: &str) -> Option<Precedence> {
        let text = text.strip_prefix(['v', 'V', '=']).unwrap_or(text);
        let numbers = text.find(['-', '+']).unwrap_or(text.len());
        let missing = match text[..numbers].split('.').count() {
            1 => ".0.0",
            2 => ".0",
            _ => "",
        };
        let whole = format!("{}{missing}{}", &text[..numbers], &text[numbers..]);
        Version::parse(&whole).ok().map(Precedence)
    }
}

impl Ord for Precedence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }
}

impl PartialOrd for Precedence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Precedence {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Precedence {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_by_precedence() {
        for (older, newer) in [
            ("0.0.0-0", "0.0.0"),
            ("1.0.0-alpha.2", "1.0.0-alpha.10"),
            ("1.0.0-rc.1", "1.0.0"),
            ("v1.2.3", "v1.10.0"),
            ("0.0.0-20200101000000-abcdef012345", "0.0.0-20210101000000-012345abcdef"),
            ("1.2.3", "1.2.3.4"),
            ("1.2.3.4", "1.2.4"),
        ] {
            assert_eq!(Semantic.compare(older, newer), Ordering::Less, "{older} < {newer}");
        }
        assert_eq!(Semantic.compare("v24.0.7+incompatible", "24.0.7"), Ordering::Equal);
        assert_eq!(Semantic.compare("1", "1.0.0"), Ordering::Equal);
    }
}
