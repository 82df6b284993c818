//! Findings of pipeline files: with source and carets for people, as JSON, as SARIF.

use std::fmt;

use fairlead_plan::{Diagnostic, Diagnostics, Severity, Source};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value, json};

use crate::output::Output;

/// A finding in the form that miette draws: of a pipeline file, or of a Dockerfile.
pub(crate) struct Drawn {
    /// The weight, the code and the message. They stand on one line, so that `grep` finds them together;
    /// the handler would put a code of its own on a line above.
    pub(crate) title: String,
    pub(crate) severity: miette::Severity,
    pub(crate) help: Option<String>,
    pub(crate) labels: Vec<LabeledSpan>,
    pub(crate) source: NamedSource<String>,
}

impl Drawn {
    fn of(finding: &Diagnostic, source: NamedSource<String>) -> Self {
        let (word, severity) = match finding.severity {
            Severity::Error => ("error", miette::Severity::Error),
            Severity::Warning => ("warning", miette::Severity::Warning),
        };
        let span = finding.span;
        let primary = LabeledSpan::new_primary_with_span(Some("here".into()), span.start..span.end);
        let others = finding.labels.iter().map(|label| {
            LabeledSpan::new_with_span(Some(label.text.clone()), label.span.start..label.span.end)
        });
        Self {
            title: format!("{word}[{}]: {}", finding.code, finding.message),
            severity,
            help: finding.help.clone(),
            labels: std::iter::once(primary).chain(others).collect(),
            source,
        }
    }
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl std::error::Error for Drawn {}

impl miette::Diagnostic for Drawn {
    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// Draws every finding on standard error, and counts them.
pub(crate) fn tell(findings: &Diagnostics, output: &Output) {
    if findings.list().is_empty() {
        return;
    }
    output.say(draw(findings, output.color()));
}

/// Findings with their sources, each followed by an empty line.
pub(crate) fn draw_all(findings: impl IntoIterator<Item = Drawn>, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    // A line that is broken in two is found by no search; a terminal breaks it by itself.
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_wrap_lines(false)
        .with_links(false);
    let mut text = String::new();
    for finding in findings {
        // Writing into a text does not fail.
        let _ = handler.render_report(&mut text, &finding);
        text.push('\n');
    }
    text
}

/// Every finding with its source, and how many there are.
pub(crate) fn draw(findings: &Diagnostics, color: bool) -> String {
    let drawn = findings.list().iter().map(|f| Drawn::of(f, named(findings.source())));
    let mut text = draw_all(drawn, color);
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
