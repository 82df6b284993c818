//! Tests at the boundary: a file goes in, findings or a plan come out.

mod editors;
mod fakes;
mod findings;
mod plans;
mod properties;

use crate::{Compiled, Source, compile};

/// The findings of a file, one a line, warnings of a good file included.
fn check(yaml: &str) -> String {
    let source = Source::new("pipeline.yaml", yaml);
    let findings = match compile(&source, &fakes::catalog()) {
        Ok(Compiled { warnings, .. }) => warnings,
        Err(findings) => findings,
    };
    let text = findings.to_string().replace("pipeline.yaml:", "");
    if text.is_empty() { "fine".to_owned() } else { text }
}

/// The findings of a file that has only these steps, lines counted from the first step.
fn check_steps(steps: &str) -> String {
    check(&pipeline(steps))
}

/// A pipeline with these steps; the head is one line, so that steps begin in line 2.
fn pipeline(steps: &str) -> String {
    let head = "{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, params: {version: \
                {default: v1}, count: {type: integer, default: 3}, fast: {type: boolean, default: \
                false}}, on: {registry.push: {repository: apps/*}}, steps: {\n";
    let (main, end) = steps.split_once("---\n").unwrap_or((steps, ""));
    format!("{head}{main}}}, finally: {{\n{end}}}}}\n")
}
