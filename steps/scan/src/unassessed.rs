//! What a scan could not assess: what the bill says was seen and not read, and packages that no
//! advisory of the database can be about. A gate counts it, unless somebody accepts it.

use std::collections::BTreeMap;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use serde::Serialize;

use crate::sbom::Bill;

/// Characters of a subject that are kept.
const MAX_SUBJECT: usize = 1024;
/// Package URLs that are given for each thing.
const MAX_EXAMPLES: usize = 50;

/// Packages of an ecosystem that nobody can match, or that the database does not have.
pub(crate) const ECOSYSTEM: &str = "ecosystem";
/// Packages of a distribution or a release that the database does not have.
pub(crate) const DISTRIBUTION: &str = "distribution";
/// Packages of a distribution in a bill that does not say what they are built from, though
/// advisories are about that.
pub(crate) const NO_SOURCE: &str = "no-source";
/// A package without a version.
pub(crate) const NO_VERSION: &str = "no-version";
/// A package without a package URL.
const NO_PURL: &str = "no-purl";
/// A package whose package URL cannot be read.
pub(crate) const BAD_PURL: &str = "bad-purl";
/// What the bill counts and does not name.
const OMITTED: &str = "omitted";

/// One thing that could not be assessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unassessed {
    /// What it is: `go-binary`, `ecosystem`, `distribution`, …
    pub(crate) kind: String,
    /// Which one: a path, the name of an ecosystem.
    pub(crate) subject: String,
    pub(crate) reason: String,
    /// How many: packages of an ecosystem, 1 for a file.
    pub(crate) count: u64,
    /// Whether it is packages that are counted.
    #[serde(skip)]
    pub(crate) packages: bool,
    /// The first of the packages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) examples: Vec<String>,
    /// Why it does not count, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<String>,
}

impl fmt::Display for Unassessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject.as_str() {
            "" => f.write_str(&self.kind),
            subject => write!(f, "{}:{subject}", self.kind),
        }
    }
}

/// Gathers what could not be assessed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    /// Kind, subject, and whether packages of the distribution answer for it.
    things: BTreeMap<(String, String, bool), Thing>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Thing {
    reason: String,
    packages: u64,
    /// Those that are no packages.
    others: u64,
    examples: Vec<String>,
}

impl Gaps {
    /// What a bill itself says: marks, and packages that nothing can be asked about.
    pub(crate) fn of(bill: &Bill) -> Self {
        let mut gaps = Self::default();
        for mark in &bill.marks {
            let (kind, subject) = mark.split_once(':').unwrap_or((mark, ""));
            let reason = if kind == "composition" {
                "the bill of materials calls itself incomplete"
            } else {
                "the bill of materials says that it was seen and not read"
            };
            gaps.add_thing((kind.trim(), subject.trim()), reason);
        }
        if bill.omitted > 0 {
            let reason = || "the bill of materials does not name all that was not read".to_owned();
            gaps.thing(OMITTED, "", false, reason).others = bill.omitted;
        }
        for name in &bill.unnamed {
            let reason = || "the bill of materials gives no package URL".to_owned();
            gaps.thing(NO_PURL, name, false, reason).packages += 1;
        }
        gaps
    }

    /// Takes something that is no package.
    pub(crate) fn add_thing(&mut self, (kind, subject): (&str, &str), reason: &str) {
        self.thing(kind, subject, false, || reason.to_owned()).others = 1;
    }

    /// Counts a package; `owned` when packages of the distribution, which are assessed, brought it.
    pub(crate) fn add(
        &mut self,
        (kind, subject): (&str, &str),
        owned: bool,
        purl: &str,
        reason: impl FnOnce() -> String,
    ) {
        let thing = self.thing(kind, subject, owned, reason);
        thing.packages += 1;
        if thing.examples.len() < MAX_EXAMPLES {
            thing.examples.push(purl.to_owned());
        }
    }

    fn thing(
        &mut self,
        kind: &str,
        subject: &str,
        owned: bool,
        reason: impl FnOnce() -> String,
    ) -> &mut Thing {
        let subject = match subject.char_indices().nth(MAX_SUBJECT) {
            Some((end, _)) => &subject[..end],
            None => subject,
        };
        let key = (kind.to_owned(), subject.to_owned(), owned);
        self.things.entry(key).or_insert_with(|| Thing { reason: reason(), ..Thing::default() })
    }

    /// Everything, what counts first; and the patterns that accepted nothing.
    pub(crate) fn sift(self, accepting: &Accepting) -> (Vec<Unassessed>, Vec<String>) {
        let mut used = vec![false; accepting.patterns.len()];
        let mut found = Vec::with_capacity(self.things.len());
        for ((kind, subject, owned), thing) in self.things {
            let mut by = None;
            for (pattern, used) in accepting.patterns.iter().zip(&mut used) {
                if pattern.accepts(&kind, &subject) {
                    *used = true;
                    by = by.or_else(|| Some(format!("ignore_unassessed: {}", pattern.text)));
                }
            }
            let owner = || "packages of the distribution brought it".to_owned();
            found.push(Unassessed {
                accepted: by.or_else(|| owned.then(owner)),
                count: if thing.packages > 0 { thing.packages } else { thing.others },
                packages: thing.packages > 0,
                reason: thing.reason,
                examples: thing.examples,
                kind,
                subject,
            });
        }
        found.sort_by_key(|thing| thing.accepted.is_some());
        let unused = accepting.patterns.iter().zip(used).filter(|(_, used)| !used);
        (found, unused.map(|(pattern, _)| pattern.text.clone()).collect())
    }
}

/// What may stay unassessed: `KIND`, or `KIND:SUBJECT` with wildcards in the subject.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// Every kind, without one.
    kind: Option<String>,
    /// Every subject, without one.
    subject: Option<GlobMatcher>,
}

impl Accepting {
    /// Reads patterns.
    ///
    /// # Errors
    /// The place of each pattern that is none, and why.
    pub(crate) fn read(texts: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for (place, text) in texts.iter().enumerate() {
            match Pattern::read(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => problems.push((place, problem)),
            }
        }
        if problems.is_empty() { Ok(Self { patterns }) } else { Err(problems) }
    }
}

impl Pattern {
    fn read(text: &str) -> Result<Self, String> {
        let (kind, subject) = match text.split_once(':') {
            Some((kind, subject)) => (kind.trim(), Some(subject.trim())),
            None => (text.trim(), None),
        };
        if kind.is_empty() {
            return Err(format!("`{text}` names no kind"));
        }
        if kind != "*" && !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(format!("`{kind}` is no kind: wildcards belong behind the colon"));
        }
        let subject = match subject {
            None | Some("*" | "**") => None,
            Some("") => return Err(format!("`{text}` names nothing behind its colon")),
            Some(subject) => {
                // A `*` stays within a folder, `**` goes through them.
                let glob = GlobBuilder::new(subject).literal_separator(true).build();
                let glob =
                    glob.map_err(|error| format!("`{text}` is no pattern: {}", error.kind()))?;
                Some(glob.compile_matcher())
            }
        };
        let kind = (kind != "*").then(|| kind.to_owned());
        Ok(Self { text: text.to_owned(), kind, subject })
    }

    fn accepts(&self, kind: &str, subject: &str) -> bool {
        self.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.subject.as_ref().is_none_or(|glob| glob.is_match(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(patterns: &[&str]) -> Result<Accepting, Vec<(usize, String)>> {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        Accepting::read(&patterns)
    }

    fn sifted(marks: &[&str], patterns: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let marks = marks.iter().map(|mark| (*mark).to_owned()).collect();
        let gaps = Gaps::of(&Bill { marks, ..Bill::default() });
        let (found, unused) = gaps.sift(&accepting(patterns).unwrap());
        let told = |accepted: bool| {
            let of = found.iter().filter(|thing| thing.accepted.is_some() == accepted);
            of.map(ToString::to_string).collect()
        };
        (told(false), told(true), unused)
    }

    #[test]
    fn what_is_accepted_is_told_and_does_not_count() {
        let marks = [
            "go-binary:/usr/bin/kubelet",
            "go-binary:/opt/x/bin/y",
            "java-archive:/app/x.jar",
            "distribution:rhel 9",
            "foreign-layer:sha256:00ff",
            "odd",
        ];
        for (patterns, left) in [
            (&[][..], 6),
            (&["*"], 0),
            (&["go-binary"], 4),
            (&["go-binary:*"], 4),
            (&["go-binary:/usr/bin/*"], 5),
            (&["go-binary:/opt/*"], 6),
            (&["go-binary:/opt/**"], 5),
            (&["*:/**"], 3),
            (&["distribution:rhel *", "odd", "foreign-layer:sha256:*"], 3),
            (&["go", "go-*binary-"][..1], 6),
        ] {
            let (counts, accepted, _) = sifted(&marks, patterns);
            assert_eq!(counts.len(), left, "{patterns:?}: {counts:?}");
            assert_eq!(counts.len() + accepted.len(), marks.len());
        }
        let (_, accepted, unused) = sifted(&marks, &["java-archive", "rpm", "java-archive:/app/*"]);
        assert_eq!(accepted, ["java-archive:/app/x.jar"]);
        assert_eq!(unused, ["rpm"]);
    }

    #[test]
    fn what_the_bill_only_counts_counts() {
        let gaps = Gaps::of(&Bill { omitted: 7, ..Bill::default() });
        let (found, _) = gaps.sift(&accepting(&["go-binary"]).unwrap());
        assert_eq!((found[0].to_string(), found[0].count), ("omitted".to_owned(), 7));
        assert_eq!(found[0].accepted, None);
        assert_eq!(Gaps::of(&Bill::default()).sift(&Accepting::default()).0, []);
    }

    #[test]
    fn patterns_that_are_none_are_told_with_their_place() {
        let problems = accepting(&["go-binary", "", "go*:x", "x:", "x:[", ":x"]).unwrap_err();
        let places: Vec<usize> = problems.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 5], "{problems:?}");
    }
}
