//! Whether a version is affected, by the evaluation rules of the OSV schema.

use std::cmp::Ordering;

use crate::osv::{Advisory, Range};
use crate::version::VersionOrder;

/// What an advisory says of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the version is affected.
    pub(crate) affected: bool,
    /// The versions that fix what affects it, nearest first where there are several ranges.
    pub(crate) fixed: Vec<String>,
    /// Ranges that contradict themselves and were left out.
    pub(crate) faults: Vec<String>,
}

/// A stretch of affected versions.
struct Stretch<'a> {
    from: Bound<'a>,
    to: Option<(&'a str, End)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Fixed,
    LastAffected,
}

/// A place on the line of versions; `introduced: "0"` is before every version.
#[derive(Clone, Copy)]
enum Bound<'a> {
    Start,
    At(&'a str),
}

/// The kinds of events, in the order they take effect at one version: a fix frees what came
/// before, then the next stretch may begin, and a last affected version ends the one begun there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Fixed,
    Introduced,
    LastAffected,
}

/// Evaluates an advisory for one version: affected when listed, or inside any range.
pub(crate) fn evaluate(advisory: &Advisory, version: &str, order: &dyn VersionOrder) -> Answer {
    let mut answer = Answer::default();
    let mut later_fixes: Vec<&str> = Vec::new();
    for range in &advisory.ranges {
        if !matches!(range.kind.as_str(), "SEMVER" | "ECOSYSTEM") {
            continue;
        }
        let stretches = match stretches(range, order) {
            Ok(stretches) => stretches,
            Err(fault) => {
                answer.faults.push(fault);
                continue;
            }
        };
        if !before_limits(range, version, order) {
            continue;
        }
        for stretch in stretches {
            let fix = match stretch.to {
                Some((fix, End::Fixed)) => Some(fix),
                Some((_, End::LastAffected)) | None => None,
            };
            if stretch.holds(version, order) {
                answer.affected = true;
                answer.fixed.extend(fix.map(str::to_owned));
            } else if let Some(fix) = fix.filter(|fix| order.compare(fix, version).is_gt()) {
                later_fixes.push(fix);
            }
        }
    }
    let listed =
        advisory.versions.iter().any(|listed| order.compare_named(version, listed).is_eq());
    if listed && !answer.affected {
        answer.affected = true;
        let nearest = later_fixes.into_iter().min_by(|a, b| order.compare(a, b));
        answer.fixed.extend(nearest.map(str::to_owned));
    }
    answer.fixed.sort_by(|a, b| order.compare(a, b).then_with(|| a.cmp(b)));
    answer.fixed.dedup();
    answer
}

/// What is wrong with a range, where it contradicts itself.
pub(crate) fn fault(range: &Range, order: &dyn VersionOrder) -> Option<String> {
    stretches(range, order).err()
}

fn stretches<'a>(range: &'a Range, order: &dyn VersionOrder) -> Result<Vec<Stretch<'a>>, String> {
    let mut events: Vec<(Bound<'a>, Kind)> = Vec::with_capacity(range.events.len());
    for event in &range.events {
        let stated = [
            (&event.introduced, Kind::Introduced),
            (&event.fixed, Kind::Fixed),
            (&event.last_affected, Kind::LastAffected),
        ];
        for (version, kind) in stated {
            match (version.as_deref(), kind) {
                (None, _) => {}
                (Some("0"), Kind::Introduced) => events.push((Bound::Start, kind)),
                (Some("0"), Kind::Fixed) => {
                    return Err("it says `fixed: 0`, so no version is affected".to_owned());
                }
                (Some(version), _) => events.push((Bound::At(version), kind)),
            }
        }
    }
    events.sort_by(|(a, a_kind), (b, b_kind)| a.compare(b, order).then(a_kind.cmp(b_kind)));

    let mut stretches: Vec<Stretch<'a>> = Vec::new();
    let mut open: Option<Bound<'a>> = None;
    let mut stray: Option<&'a str> = None;
    for (bound, kind) in events {
        match (kind, bound) {
            // A stretch that is fixed where it begins is empty. It hides nothing else in the range.
            (Kind::Introduced, Bound::At(from))
                if open.is_none() && stray.is_some_and(|to| order.compare(to, from).is_eq()) =>
            {
                stray = None;
            }
            (Kind::Introduced, _) => open = open.or(Some(bound)),
            (Kind::Fixed | Kind::LastAffected, Bound::At(version)) => {
                let end = if kind == Kind::Fixed { End::Fixed } else { End::LastAffected };
                match open.take() {
                    Some(from) => stretches.push(Stretch { from, to: Some((version, end)) }),
                    None => stray = Some(version),
                }
            }
            // Only `introduced: "0"` stands at the start.
            (Kind::Fixed | Kind::LastAffected, Bound::Start) => {}
        }
    }
    match (open, stray) {
        // An end without a beginning, and a beginning without an end: the two were swapped.
        (Some(Bound::At(from)), Some(to)) => {
            Err(format!("it is inverted: it begins at `{from}` and ends before, at `{to}`"))
        }
        (Some(from), _) => {
            stretches.push(Stretch { from, to: None });
            Ok(stretches)
        }
        (None, _) => Ok(stretches),
    }
}

fn before_limits(range: &Range, version: &str, order: &dyn VersionOrder) -> bool {
    let mut limits = range.events.iter().filter_map(|event| event.limit.as_deref()).peekable();
    limits.peek().is_none()
        || limits.any(|limit| limit == "*" || order.compare(version, limit).is_lt())
}

impl Bound<'_> {
    fn compare(&self, other: &Self, order: &dyn VersionOrder) -> Ordering {
        match (self, other) {
            (Self::Start, Self::Start) => Ordering::Equal,
            (Self::Start, Self::At(_)) => Ordering::Less,
            (Self::At(_), Self::Start) => Ordering::Greater,
            (Self::At(a), Self::At(b)) => order.compare(a, b),
        }
    }
}

impl Stretch<'_> {
    fn holds(&self, version: &str, order: &dyn VersionOrder) -> bool {
        let begun = match self.from {
            Bound::Start => true,
            Bound::At(from) => order.compare(version, from).is_ge(),
        };
        let ended = match self.to {
            None => false,
            Some((to, End::Fixed)) => order.compare(version, to).is_ge(),
            Some((to, End::LastAffected)) => order.compare_named(version, to).is_gt(),
        };
        begun && !ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Go, Python, Semantic};

    fn check(events: &str, versions: &[&str], version: &str) -> String {
        check_by(&Semantic, events, versions, version)
    }

    fn check_by(
        order: &dyn VersionOrder,
        events: &str,
        versions: &[&str],
        version: &str,
    ) -> String {
        let events = events
            .split_whitespace()
            .map(|event| {
                let (kind, at) = event.split_once('=').unwrap();
                serde_json::from_value(serde_json::json!({ kind: at })).unwrap()
            })
            .collect();
        let advisory = Advisory {
            ranges: vec![Range { kind: "SEMVER".into(), events }],
            versions: versions.iter().map(|v| (*v).to_owned()).collect(),
            ..Advisory::default()
        };
        let answer = evaluate(&advisory, version, order);
        match (answer.affected, answer.faults.first()) {
            (true, None) => format!("affected, fixed in [{}]", answer.fixed.join(", ")),
            (false, None) => "not affected".to_owned(),
            (false, Some(fault)) => fault.clone(),
            (true, Some(fault)) => format!("affected, but {fault}"),
        }
    }

    #[test]
    fn ranges_are_evaluated_as_the_schema_says() {
        let affected = |fixed: &str| format!("affected, fixed in [{fixed}]");
        let not = "not affected".to_owned();
        for (events, version, want) in [
            ("introduced=0 fixed=2.0.0", "0.0.0-0", affected("2.0.0")),
            ("introduced=0 fixed=2.0.0", "2.0.0", not.clone()),
            ("introduced=0 last_affected=2.0.0", "2.0.0", affected("")),
            ("introduced=0 last_affected=2.0.0", "2.0.1", not.clone()),
            ("introduced=1.0.0", "9.0.0", affected("")),
            ("introduced=1.0.0", "1.0.0-rc.1", not.clone()),
            ("introduced=0 fixed=1.0.0 introduced=2.0.0 fixed=2.1.0", "1.5.0", not.clone()),
            ("introduced=0 fixed=1.0.0 introduced=2.0.0 fixed=2.1.0", "2.0.5", affected("2.1.0")),
            // The order in which events are written says nothing.
            ("fixed=2.1.0 introduced=2.0.0 fixed=1.0.0 introduced=0", "2.0.5", affected("2.1.0")),
            ("introduced=0 fixed=2.0.0 introduced=2.0.0 fixed=3.0.0", "2.0.0", affected("3.0.0")),
            ("introduced=2.0.0 last_affected=2.0.0", "2.0.0", affected("")),
            ("introduced=0 limit=1.0.0", "0.5.0", affected("")),
            ("introduced=0 limit=1.0.0", "1.0.0", not.clone()),
            ("introduced=0 limit=*", "7.0.0", affected("")),
            ("introduced=1.0.0 fixed=1.0.0", "1.0.0", not.clone()),
            ("introduced=1.0.0 fixed=1.0.0", "2.0.0", not.clone()),
            // An empty stretch leaves the others as they are.
            ("introduced=0 fixed=1.0.0 introduced=2.0.0 fixed=2.0.0", "0.5.0", affected("1.0.0")),
            ("introduced=0 fixed=1.0.0 introduced=2.0.0 fixed=2.0.0", "2.5.0", not.clone()),
            ("", "1.0.0", not),
        ] {
            assert_eq!(check(events, &[], version), want, "{events} at {version}");
        }
    }

    #[test]
    fn an_inclusive_bound_without_a_local_label_means_every_build() {
        let affected = |fixed: &str| format!("affected, fixed in [{fixed}]");
        let not = "not affected".to_owned();
        for (events, versions, version, want) in [
            ("introduced=0 last_affected=2.3.1", &[][..], "2.3.1+cu118", affected("")),
            ("introduced=0 last_affected=2.3.1", &[], "2.3.2+cu118", not.clone()),
            ("introduced=0 last_affected=2.3.1+cpu", &[], "2.3.1+cu118", not.clone()),
            ("", &["2.3.0", "2.3.1"], "2.3.1+cu118", affected("")),
            ("", &["2.3.1+cpu"], "2.3.1+cu118", not.clone()),
            ("", &["2.3.1+cpu"], "2.3.1", not.clone()),
            ("introduced=0 fixed=2.3.1", &[], "2.3.1+cu118", not.clone()),
            ("introduced=0 fixed=2.3.1", &[], "2.3.0+cu118", affected("2.3.1")),
            ("introduced=2.3.1 fixed=2.4", &[], "2.3.1+cu118", affected("2.4")),
            ("introduced=2.3.1 last_affected=2.3.1", &[], "2.3.1+cu118", affected("")),
        ] {
            let got = check_by(&Python, events, versions, version);
            assert_eq!(got, want, "{events} {versions:?} at {version}");
        }
    }

    #[test]
    fn go_is_affected_in_its_own_spelling() {
        let events = "introduced=1.21.0-rc.1 fixed=1.21.0-rc.4";
        for version in ["1.21rc3", "go1.21rc3", "v1.21.0-rc.3"] {
            let got = check_by(&Go, events, &[], version);
            assert_eq!(got, "affected, fixed in [1.21.0-rc.4]", "{version}");
        }
        for version in ["1.21rc4", "go1.21", "1.20.14"] {
            assert_eq!(check_by(&Go, events, &[], version), "not affected", "{version}");
        }
    }

    #[test]
    fn a_listed_version_is_affected_whatever_the_ranges_say() {
        let events = "introduced=1.0.0 fixed=2.0.0";
        assert_eq!(check(events, &["0.9.0"], "0.9.0"), "affected, fixed in [2.0.0]");
        assert_eq!(check(events, &["3.0"], "3.0.0"), "affected, fixed in []");
    }

    #[test]
    fn ranges_that_contradict_themselves_are_told_and_flag_nothing() {
        for (events, want) in [
            ("introduced=0 fixed=0", "`fixed: 0`"),
            ("introduced=2.0.0 fixed=1.0.0", "begins at `2.0.0` and ends before, at `1.0.0`"),
            ("introduced=2.0.0 last_affected=1.0.0", "inverted"),
        ] {
            for version in ["0.5.0", "1.0.0", "1.5.0", "3.0.0"] {
                let got = check(events, &[], version);
                assert!(got.contains(want) && !got.starts_with("affected"), "{events}: {got}");
            }
        }
    }
}
