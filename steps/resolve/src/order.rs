//! Orders of tags: which of them is the newest.

use std::cmp::Ordering;
use std::fmt;

use fairlead_step::newest_version;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of the tags that fit is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The highest version; tags that are no full versions do not count.
    Semver,
    /// The highest by the numbers in it, from left to right: `build-10` is newer than `build-9`.
    Number,
    /// The last by its characters: right for dates such as `2026-11-28`.
    Text,
}

impl Order {
    /// The newest of `tags`; none where no tag can be put in this order.
    pub(crate) fn newest<'t>(self, tags: impl Iterator<Item = &'t str>) -> Option<&'t str> {
        match self {
            Self::Semver => newest_version(tags),
            Self::Number => tags.max_by(|a, b| by_number(a, b)),
            Self::Text => tags.max(),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Semver => "semver",
            Self::Number => "number",
            Self::Text => "text",
        })
    }
}

/// Compares texts with the numbers in them taken as numbers, however long they are.
pub(crate) fn by_number(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        match (left.chars().next(), right.chars().next()) {
            // What is the same number in other digits, as `01` and `1`, is told apart by its text.
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let ((one, rest), (other, behind)) = (number(left), number(right));
                let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (rest, behind);
            }
            (Some(x), Some(y)) => {
                if x != y {
                    return x.cmp(&y);
                }
                (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
            }
        }
    }
}

/// The digits at the start without leading zeros, and what stands behind them.
fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_has_its_newest() {
        let newest = |order: Order, tags: &[&'static str]| order.newest(tags.iter().copied());
        let builds = ["build-9", "build-10", "build-1"];
        assert_eq!(newest(Order::Number, &builds), Some("build-10"));
        assert_eq!(newest(Order::Text, &builds), Some("build-9"));
        assert_eq!(newest(Order::Semver, &builds), None);
        assert_eq!(newest(Order::Text, &["2026-11-28", "2026-02-28"]), Some("2026-11-28"));
        assert_eq!(newest(Order::Number, &["1.2-3", "1.10-1", "1.2-12"]), Some("1.10-1"));
        let long = ["r-99999999999999999999998", "r-99999999999999999999999", "r-1"];
        assert_eq!(newest(Order::Number, &long), Some(long[1]));
        assert_eq!(newest(Order::Number, &["n-01", "n-1"]), Some("n-1"));
        assert_eq!(newest(Order::Number, &[]), None);
    }
}
