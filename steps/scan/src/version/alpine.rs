//! The order of apk versions, written from the rules that Alpine documents for `pkgver` and
//! `pkgrel`: `1.2.3b_rc2_p1_git20230717-r4`. The one crate that has it wraps C by FFI.
//!
//! A version is read into items; two lists of items are compared like words in a dictionary. The
//! order of the kinds of item says what may follow: `1.2_rc1` < `1.2` < `1.2-r1` < `1.2_p1` <
//! `1.2b` < `1.2.1`.

use super::order::{Number, Scheme};

/// Versions of Alpine, Wolfi and Chainguard packages.
pub(crate) struct Alpine;

/// Suffixes that come before the version without one, in order.
const BEFORE: [&str; 4] = ["alpha", "beta", "pre", "rc"];
/// Suffixes that come after it, in order.
const AFTER: [&str; 5] = ["cvs", "svn", "git", "hg", "p"];

/// One item, lowest kind first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    /// `_alpha` to `_rc`.
    Before(usize),
    /// Nothing follows.
    End,
    /// `-r4`.
    Revision(Number),
    /// `~3f2a`, the commit that a package was built from.
    Commit(String),
    /// The number of a suffix.
    SuffixNumber(Number),
    /// `_cvs` to `_p`.
    After(usize),
    /// The one letter that may follow the numbers.
    Letter(char),
    /// A number after the first that begins with a zero, ordered as text: `1.05` < `1.5`.
    Fraction(String),
    /// A number.
    Number(Number),
}

impl Scheme for Alpine {
    type Key = Vec<Item>;

    fn parse(text: &str) -> Option<Vec<Item>> {
        let mut items = Vec::new();
        let mut rest = text;
        items.push(Item::Number(Number::new(take_digits(&mut rest))?));
        while let Some(after) = rest.strip_prefix('.') {
            rest = after;
            let digits = take_digits(&mut rest);
            let number = Number::new(digits)?;
            items.push(match digits.starts_with('0') {
                true => Item::Fraction(digits.to_owned()),
                false => Item::Number(number),
            });
        }
        if let Some(letter) = rest.chars().next().filter(char::is_ascii_lowercase) {
            items.push(Item::Letter(letter));
            rest = &rest[1..];
        }
        while let Some(after) = rest.strip_prefix('_') {
            let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            let place = |names: &[&str]| names.iter().position(|known| *known == name);
            items.push(match (place(&BEFORE), place(&AFTER)) {
                (Some(place), _) => Item::Before(place),
                (None, Some(place)) => Item::After(place),
                (None, None) => return None,
            });
            rest = after;
            if let Some(number) = Number::new(take_digits(&mut rest)) {
                items.push(Item::SuffixNumber(number));
            }
        }
        if let Some(after) = rest.strip_prefix('~') {
            let end = after.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(after.len());
            let (commit, after) = after.split_at(end);
            if commit.is_empty() {
                return None;
            }
            items.push(Item::Commit(commit.to_owned()));
            rest = after;
        }
        if let Some(after) = rest.strip_prefix("-r") {
            rest = after;
            items.push(Item::Revision(Number::new(take_digits(&mut rest))?));
        }
        if !rest.is_empty() {
            return None;
        }
        items.push(Item::End);
        Some(items)
    }
}

fn take_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_as_apk_orders_them() {
        let ascending = [
            "1.2_alpha",
            "1.2_alpha1",
            "1.2_beta",
            "1.2_pre2",
            "1.2_rc1",
            "1.2_rc2",
            "1.2",
            "1.2-r0",
            "1.2-r1",
            "1.2-r10",
            "1.2_git20230717-r0",
            "1.2_git20230717-r4",
            "1.2_git20231001",
            "1.2_p1",
            "1.2_p1-r1",
            "1.2_p2",
            "1.2a",
            "1.2b-r1",
            "1.2.05",
            "1.2.1",
            "1.2.10",
            "1.3",
            "1.10",
            "10",
        ];
        for (place, older) in ascending.iter().enumerate() {
            for newer in &ascending[place + 1..] {
                assert_eq!(Alpine.compare(older, newer), Ordering::Less, "{older} < {newer}");
            }
        }
        assert_eq!(Alpine.compare("1.2.3-r0", "1.2.3-r00"), Ordering::Equal);
    }
}
