//! The order of `Gem::Version` in RubyGems, written from its documentation. The `gem_version`
//! crate reads numbers as 32 bits and takes longer ones, such as dates, for pre-releases.

use std::cmp::Ordering;

use super::order::{Number, Scheme};

/// RubyGems versions.
pub(crate) struct Gem;

/// One segment; letters mark a pre-release and come before any number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Word(String),
    Number(Number),
}

/// The segments of a version, the shorter list filled up with zeros in a comparison.
pub(crate) struct Segments(Vec<Segment>);

impl Scheme for Gem {
    type Key = Segments;

    fn parse(text: &str) -> Option<Segments> {
        let (release, pre) = match text.split_once('-') {
            Some((release, pre)) => (release, Some(pre)),
            None => (text, None),
        };
        let mut segments = Vec::new();
        for part in release.split('.') {
            split(part, &mut segments)?;
        }
        if !matches!(segments.first(), Some(Segment::Number(_))) {
            return None;
        }
        if let Some(pre) = pre {
            segments.push(Segment::Word("pre".to_owned()));
            for part in pre.split(['.', '-']) {
                split(part, &mut segments)?;
            }
        }
        // Zeros that end the release, before any letters, say nothing: `1.0.rc1` is `1.rc1`.
        let words = segments.iter().position(|s| matches!(s, Segment::Word(_)));
        let mut tail = segments.split_off(words.unwrap_or(segments.len()));
        let zero = |segment: &Segment| matches!(segment, Segment::Number(n) if n.is_zero());
        while segments.last().is_some_and(zero) {
            segments.pop();
        }
        segments.append(&mut tail);
        Some(Segments(segments))
    }
}

fn split(part: &str, segments: &mut Vec<Segment>) -> Option<()> {
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let mut rest = part;
    while let Some(first) = rest.bytes().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        segments.push(match Number::new(run) {
            Some(number) => Segment::Number(number),
            None => Segment::Word(run.to_owned()),
        });
        rest = after;
    }
    Some(())
}

impl Ord for Segments {
    fn cmp(&self, other: &Self) -> Ordering {
        let zero = Number::new("0").map(Segment::Number);
        let length = self.0.len().max(other.0.len());
        (0..length)
            .map(|i| self.0.get(i).or(zero.as_ref()).cmp(&other.0.get(i).or(zero.as_ref())))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Segments {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Segments {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Segments {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_as_rubygems_orders_them() {
        for (older, newer) in [
            ("1.0.a", "1.0.b"),
            ("1.0.rc1", "1.0"),
            ("1.0.0.beta2", "1.0.0.rc1"),
            ("5.2.4.5", "5.2.4.10"),
            ("1.0-x", "1.0"),
            ("1.8", "1.8.20230101120000"),
            ("1.a", "1.a.1"),
        ] {
            assert_eq!(Gem.compare(older, newer), Ordering::Less, "{older} < {newer}");
        }
        assert_eq!(Gem.compare("1.0.0", "1"), Ordering::Equal);
        assert_eq!(Gem.compare("1.0.rc1", "1.rc1"), Ordering::Equal);
    }
}
