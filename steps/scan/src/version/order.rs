//! What an order of versions is, and how it stays total over texts that break the scheme's rules.
//!
//! Advisories and bills of materials hold versions that no scheme allows (`2019-09-12` on PyPI,
//! four numbers on npm). Each text is therefore read as the longest beginning that the scheme
//! accepts and what is left over. The beginnings are compared by the scheme; what is left over
//! decides between equals, and a text with nothing left over comes first. A text of which the
//! scheme accepts nothing comes before every other. That is a total order over all texts.

use std::cmp::Ordering;

/// Bytes of a version that a scheme gets to see; the rest only decides between equals.
const MAX_VERSION: usize = 256;

/// The order of the versions of an ecosystem: total over all texts, whatever they hold.
pub(crate) trait VersionOrder: Sync {
    /// Which of two versions comes first.
    fn compare(&self, left: &str, right: &str) -> Ordering;

    /// How a version stands to one that an advisory names as affected itself: as the last of a
    /// range, or in a list. Where the ecosystem has labels for builds, `2.3.1` there means every
    /// build of it.
    fn compare_named(&self, version: &str, named: &str) -> Ordering;
}

/// A scheme: how a version that keeps the rules is read into something ordered.
pub(super) trait Scheme: Sync {
    type Key: Ord;

    /// What begins the label of a build, where the ecosystem has such labels.
    const BUILD_LABEL: Option<char> = None;

    /// Reads a whole version, or nothing when it breaks the rules. `text` is not empty and at most
    /// [`MAX_VERSION`] bytes long.
    fn parse(text: &str) -> Option<Self::Key>;
}

impl<S: Scheme> VersionOrder for S {
    fn compare(&self, left: &str, right: &str) -> Ordering {
        if left == right {
            return Ordering::Equal;
        }
        let (left, left_rest) = read::<S>(left);
        let (right, right_rest) = read::<S>(right);
        left.cmp(&right).then_with(|| left_rest.cmp(&right_rest))
    }

    fn compare_named(&self, version: &str, named: &str) -> Ordering {
        let label = S::BUILD_LABEL.filter(|label| !named.contains(*label));
        let bare = label.and_then(|label| version.split_once(label)).map(|(bare, _)| bare);
        self.compare(bare.unwrap_or(version), named)
    }
}

fn read<S: Scheme>(text: &str) -> (Option<S::Key>, Vec<Piece>) {
    let text = text.trim();
    let mut end = text.floor_char_boundary(MAX_VERSION);
    while end > 0 {
        if let Some(key) = S::parse(&text[..end]) {
            return (Some(key), pieces(&text[end..]));
        }
        end = text.floor_char_boundary(end - 1);
    }
    (None, pieces(text))
}

/// A run of digits or of other characters, separators left out. Words come before numbers.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Word(String),
    Number(Number),
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for part in text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            pieces.push(match Number::new(run) {
                Some(number) => Piece::Number(number),
                None => Piece::Word(run.to_lowercase()),
            });
            rest = after;
        }
    }
    pieces
}

/// A whole number of any length, ordered by value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    length: usize,
    digits: String,
}

impl Number {
    /// Reads ASCII digits; nothing when there is any other character, or none.
    pub(crate) fn new(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = text.trim_start_matches('0');
        Some(Self { length: digits.len(), digits: digits.to_owned() })
    }

    /// Whether it is zero.
    pub(crate) const fn is_zero(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ecosystem::Ecosystem;

    #[test]
    fn numbers_of_any_length_are_ordered_by_value() {
        let number = |text| Number::new(text).unwrap();
        assert!(number("9") < number("10"));
        assert!(number("007") == number("7"));
        assert!(number("0").is_zero());
        assert!(number("18446744073709551616") > number("18446744073709551615"));
        assert!(Number::new("1a").is_none() && Number::new("").is_none());
    }

    /// Versions near enough to each other that equalities and close orders come up.
    fn version() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[0-2]{1,2}",
            1 => "[ab]",
            1 => prop::sample::select(vec![
                "alpha", "beta", "rc", "RC1", "pre", "p", "git", "final", "ga", "sp", "snapshot",
                "dev", "post", "r1", "0", "00", "dfsg", "1e9", "99999999999999999999",
            ]).prop_map(str::to_owned),
        ];
        let separator = prop::sample::select(vec![".", "-", "_", "+", "~", "", ":", "!", "-r"]);
        let tidy = (part.clone(), prop::collection::vec((separator, part), 0..4)).prop_map(
            |(first, rest)| {
                rest.iter().fold(first, |text, (separator, part)| text + separator + part)
            },
        );
        prop_oneof![8 => tidy, 1 => ".{0,12}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn every_order_is_total((a, b, c) in (version(), version(), version())) {
            for ecosystem in Ecosystem::ALL {
                let order = ecosystem.order();
                let (ab, bc, ac) = (order.compare(&a, &b), order.compare(&b, &c), order.compare(&a, &c));
                prop_assert_eq!(order.compare(&a, &a), Ordering::Equal);
                prop_assert_eq!(ab, order.compare(&b, &a).reverse(), "{:?}: {} {}", ecosystem, a, b);
                if ab == bc {
                    prop_assert_eq!(ac, ab, "{:?}: {} {} {}", ecosystem, a, b, c);
                }
                if ab == Ordering::Equal {
                    prop_assert_eq!(ac, bc, "{:?}: {} {} {}", ecosystem, a, b, c);
                }
            }
        }
    }
}
