//! Findings of pipeline files: with source and carets for people, as JSON, as SARIF.

use std::fmt;

use fairlead_plan::{Diagnostic, Diagnostics, Severity, Source};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value, json};

use crate::output::Output;

/// A finding in the form that miette draws.
struct Drawn<'a> {
    finding: &'a Diagnostic,
    source: NamedSource<String>,
}

impl fmt::Debug for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

// The code stands before its message, on one line, so that `grep` finds them together. The handler
// would put a code of its own on a line above.
impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}[{}]: {}", self.finding.code, self.finding.message)
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.finding.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.finding.span;
        let primary = LabeledSpan::new_primary_with_span(Some("here".into()), span.start..span.end);
        let others = self.finding.labels.iter().map(|label| {
            LabeledSpan::new_with_span(Some(label.text.clone()), label.span.start..label.span.end)
        });
        Some(Box::new(std::iter::once(primary).chain(others)))
    }
}

/// Draws every finding on standard error, and counts them.
pub(crate) fn tell(findings: &Diagnostics, output: &Output) {
    if findings.list().is_empty() {
        return;
    }
    output.say(draw(findings, output.color()));
}

/// Every finding with its source, and how many there are.
pub(crate) fn draw(findings: &Diagnostics, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    // A line that is broken in two is found by no search; a terminal breaks it by itself.
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_wrap_lines(false)
        .with_links(false);
    let mut text = String::new();
    for finding in findings.list() {
        let source = named(findings.source());
        // Writing into a text does not fail.
        let _ = handler.render_report(&mut text, &Drawn { finding, source });
        text.push('\n');
    }
    let count = |severity, word: &str| {
        let n = findings.list().iter().filter(|f| f.severity == severity).count();
        match n {
            0 => None,
            1 => Some(format!("1 {word}")),
            n => Some(format!("{n} {word}s")),
        }
    };
    let counts: Vec<String> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")]
            .into_iter()
            .flatten()
            .collect();
    text.push_str(&format!("{}: {}", findings.source().name(), counts.join(", ")));
    text
}

fn named(source: &Source) -> NamedSource<String> {
    NamedSource::new(source.name(), source.text().to_owned()).with_language("yaml")
}

/// The findings of several files as JSON.
pub(crate) fn json(files: &[Diagnostics]) -> Value {
    let files = files
        .iter()
        .map(|findings| json!({"file": findings.source().name(), "findings": findings.list()}));
    Value::Array(files.collect())
}

/// The findings of several files as SARIF 2.1.0 (OASIS, section 3).
pub(crate) fn sarif(files: &[Diagnostics]) -> Value {
    let results: Vec<Value> = files
        .iter()
        .flat_map(|findings| findings.list().iter().map(move |f| (findings.source(), f)))
        .map(|(source, finding)| {
            let level = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let end = source.span(finding.span.end, finding.span.end);
            json!({
                "ruleId": finding.code.to_string(),
                "level": level,
                "message": {"text": finding.message},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": source.name()},
                    "region": {
                        "startLine": finding.span.line,
                        "startColumn": finding.span.column,
                        "endLine": end.line,
                        "endColumn": end.column,
                    },
                }}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "fairlead", "version": env!("CARGO_PKG_VERSION")}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

#[cfg(test)]
mod tests {
    use fairlead_plan::compile;
    use fairlead_step::Catalog;

    use super::*;

    fn findings() -> Diagnostics {
        let text =
            "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\nsteps:\n  a: {uses: buidl}\n";
        compile(&Source::new("p.yaml", text), &Catalog::new()).unwrap_err()
    }

    #[test]
    fn a_finding_is_drawn_with_its_line_and_a_caret() {
        let text = draw(&findings(), false);
        assert!(text.contains("p.yaml:5:13") && text.contains("a: {uses: buidl}"), "{text}");
        assert!(text.contains("error[FL0201]: there is no step kind `buidl`\n"), "{text}");
        assert!(text.contains("1 error"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn sarif_names_the_place() {
        let sarif = sarif(&[findings()]);
        let result = &sarif["runs"][0]["results"][0];
        assert_eq!(result["level"], "error");
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!((&region["startLine"], &region["startColumn"]), (&json!(5), &json!(13)));
    }
}
