//! What was found, and the edits that mend it.

use std::ops::Range;

use fairlead_step::Digest;
use jiff::civil::Date;
use serde::Serialize;

use crate::rule::{Rule, Severity};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
    /// The line of the first byte, from 1.
    pub line: usize,
    /// The column of the first byte in characters, from 1.
    pub column: usize,
    /// The line of the end.
    pub end_line: usize,
    /// The column of the end.
    pub end_column: usize,
}

/// One edit: these bytes are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
    /// What to put there.
    pub replacement: String,
}

/// What would mend a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// Whether it is certain to be what was meant; `--fix` applies no other.
    pub certain: bool,
    /// The edits, in the order of the text; all of them or none.
    pub edits: Vec<Edit>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The code of its rule.
    pub code: &'static str,
    /// What hadolint calls the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<&'static str>,
    /// How much it weighs here.
    pub severity: Severity,
    /// The file it is in.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// One lower-case fragment that says what is there.
    pub message: String,
    /// Why it matters.
    pub why: &'static str,
    /// The way out.
    pub help: String,
    /// The edits that mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// What stays the same when lines are added above it.
    pub fingerprint: String,
}

/// A finding that somebody answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// What was found.
    pub finding: Finding,
    /// Who answers for it; nobody where a comment in the file ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last day it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
}

/// A finding before it is put into words for a file.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) rule: &'static Rule,
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) fix: Option<Fix>,
    /// The line of the instruction it belongs to, for the comments above it.
    pub(crate) line: usize,
}

impl Draft {
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds an edit that is certain.
    pub(crate) fn edit(&mut self, span: Range<usize>, replacement: impl Into<String>) -> &mut Self {
        let fix = self.fix.get_or_insert_with(|| Fix { certain: true, edits: Vec::new() });
        let replacement = replacement.into();
        fix.edits.push(Edit { start: span.start, end: span.end, replacement });
        self
    }

    /// Says that its edits may not be what was meant.
    pub(crate) fn perhaps(&mut self) -> &mut Self {
        if let Some(fix) = &mut self.fix {
            fix.certain = false;
        }
        self
    }
}

/// The places of a text.
pub(crate) struct Places<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    pub(crate) fn of(&self, span: &Range<usize>) -> Place {
        let (line, column) = self.point(span.start);
        let (end_line, end_column) = self.point(span.end);
        Place { start: span.start, end: span.end, line, column, end_line, end_column }
    }

    /// The line that byte `at` is on, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|first| *first <= at)
    }

    fn point(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.line(at);
        let first = self.lines[line - 1];
        // A place is always at the edge of a character; were it not, its line is still told.
        let column = self.text.get(first..at).map_or(1, |before| before.chars().count() + 1);
        (line, column)
    }
}

/// What tells a finding from others though lines are added above it: its rule, its file, and the text
/// that it is about, with a number for those that are alike.
pub(crate) fn fingerprint(code: &str, file: &str, text: &str, nth: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let identity = format!("{code}\n{file}\n{}\n{nth}", words.join(" "));
    Digest::sha256(identity.as_bytes()).hex().chars().take(32).collect()
}
