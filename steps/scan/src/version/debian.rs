//! The order of dpkg (Debian Policy 5.6.12), by the `debversion` crate.

use debversion::Version;

use super::order::Scheme;

/// Debian and Ubuntu versions. Underscores, which policy forbids and archives hold, are read.
pub(crate) struct Debian;

impl Scheme for Debian {
    type Key = Version;

    fn parse(text: &str) -> Option<Version> {
        Version::parse_lenient(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        // Each pair but the last, which policy forbids, was put to `dpkg --compare-versions`.
        for (older, newer) in [
            ("1.0~rc1-1", "1.0-1"),
            ("1:1.2.13.dfsg-1", "1:1.2.13.dfsg-1+deb12u1"),
            ("3.0.11-1~deb12u2", "3.0.11-1"),
            ("9.9", "1:0.1"),
            ("2.36-9+deb12u9", "2.36-9+deb12u10"),
            ("1.0a", "1.0+b"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0-1+b1", "1.0-1.1"),
            ("0.2.0-2~bpo12+1", "0.2.0-2"),
            ("5.2.15-2+b7", "5.2.15-2+b10"),
            ("252.6-1", "252.30-1~deb12u2"),
            ("7.88.1-10+deb12u5", "7.88.1-10+deb12u12"),
            ("2.0.37+cvs.JCW_PRE2_2037-1", "2.0.38-1"),
        ] {
            assert_eq!(Debian.compare(older, newer), Ordering::Less, "{older} < {newer}");
        }
        for (left, right) in [("1.0", "1.0-0"), ("0:1.0-1", "1.0-1"), ("1.0-01", "1.0-1")] {
            assert_eq!(Debian.compare(left, right), Ordering::Equal, "{left} = {right}");
        }
    }
}
