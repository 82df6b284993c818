//! The order of Go's versions: Semantic Versioning for modules, and Go's own spelling of its
//! releases, `1.21rc3` and `go1.24rc1`, which the Go vulnerability database writes
//! `1.21.0-rc.3` and `1.24.0-rc.1`.

use super::order::Scheme;
use super::semantic::{Precedence, Semantic};

/// Versions of Go modules, of the standard library and of the toolchain.
pub(crate) struct Go;

impl Scheme for Go {
    type Key = Precedence;

    fn parse(text: &str) -> Option<Precedence> {
        let text = text.strip_prefix("go").unwrap_or(text);
        Semantic::parse(text).or_else(|| Semantic::parse(&semantic(text)?))
    }
}

/// A release in the spelling of Semantic Versioning; nothing for what is no release of Go.
fn semantic(text: &str) -> Option<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (numbers, rest) = text.split_at(end);
    let missing = match numbers.split('.').count() {
        2 => ".0",
        3 => "",
        _ => return None,
    };
    let digits = rest.find(|c: char| c.is_ascii_digit())?;
    let (word, number) = rest.split_at(digits);
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match word {
        "alpha" | "beta" | "rc" => Some(format!("{numbers}{missing}-{word}.{number}")),
        // A release with other cryptography, as Go called it before 1.19.
        "b" => Some(format!("{numbers}{missing}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn both_spellings_are_one_order() {
        for (left, right) in [
            ("1.21rc3", "1.21.0-rc.3"),
            ("go1.24rc1", "1.24.0-rc.1"),
            ("1.18beta2", "1.18.0-beta.2"),
            ("v1.21rc3", "go1.21rc3"),
            ("1.21", "1.21.0"),
            ("go1.21", "v1.21.0"),
            ("1.8.5b4", "1.8.5"),
            ("v24.0.7+incompatible", "24.0.7"),
        ] {
            assert_eq!(Go.compare(left, right), Ordering::Equal, "{left} = {right}");
        }
        for (older, newer) in [
            ("1.21rc3", "1.21.0-rc.4"),
            ("1.21rc3", "1.21rc10"),
            ("1.21beta1", "1.21rc1"),
            ("1.21rc3", "1.21"),
            ("1.20.7", "1.21rc3"),
            ("1.24.0-0", "go1.24rc1"),
            ("1.21rc3", "1.21.1"),
            ("0.0.0-20200101000000-abcdef012345", "0.0.0-20210101000000-012345abcdef"),
        ] {
            assert_eq!(Go.compare(older, newer), Ordering::Less, "{older} < {newer}");
        }
    }
}
