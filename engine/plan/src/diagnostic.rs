//! What is wrong with a pipeline file, as data; the runner draws it.

use std::fmt;

use serde::Serialize;

use crate::{Code, Source, Span};

/// Whether a finding stops the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file makes no plan.
    Error,
    /// The file makes a plan, but perhaps not the one that was meant.
    Warning,
}

/// A second place that belongs to a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there, a few words.
    pub text: String,
}

/// An edit that removes the finding and is certain to be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The bytes to replace.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The stable code, such as `FL0301`.
    pub code: Code,
    /// Whether it stops the pipeline.
    pub severity: Severity,
    /// One lower-case sentence fragment that names the place and the cause.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Other places that belong to it.
    pub labels: Vec<Label>,
    /// The way out.
    pub help: Option<String>,
    /// The edit that mends it, where one is certain.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span,
            labels: Vec::new(),
            help: None,
            fix: None,
        }
    }

    /// A warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds the edit that mends it.
    #[must_use]
    pub fn fix(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix { span, replacement: replacement.into() });
        self
    }
}

/// Everything that was found in one file, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    source: Source,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The findings of `source`, put in the order of the text, each once.
    #[must_use]
    pub fn new(source: Source, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by(|a, b| {
            (a.span.start, a.severity, a.code, &a.message).cmp(&(
                b.span.start,
                b.severity,
                b.code,
                &b.message,
            ))
        });
        list.dedup();
        Self { source, list }
    }

    /// Keeps the first `most` errors and warnings; an error is never dropped for a warning.
    pub(crate) fn truncate(&mut self, most: usize) {
        if self.list.len() > most {
            let errors = self.list.iter().filter(|found| found.severity == Severity::Error).count();
            let mut warnings = most.saturating_sub(errors);
            self.list.retain(|found| match found.severity {
                Severity::Error => true,
                Severity::Warning if warnings > 0 => {
                    warnings -= 1;
                    true
                }
                Severity::Warning => false,
            });
            self.list.truncate(most);
        }
    }

    /// The file they are about.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// The findings.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|found| found.severity == Severity::Error)
    }
}

/// One finding a line: `release.yaml:3:7: error[FL0301]: …`, its help behind it.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, found) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let severity = match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let (name, Span { line, column, .. }) = (self.source.name(), found.span);
            write!(f, "{name}:{line}:{column}: {severity}[{}]: {}", found.code, found.message)?;
            if let Some(help) = &found.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
