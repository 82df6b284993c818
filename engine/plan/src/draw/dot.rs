//! The plan in the language of Graphviz.

use std::fmt::Write as _;

use super::{Statuses, StepStatus, condition, title};
use crate::{NeedFrom, Outcome, Phase, Plan};

/// Draws `plan` for `dot -Tsvg`. Edges that expressions draw are solid, edges under `needs` dashed.
/// A gate has six sides, a step for each item two lines around it.
#[must_use]
pub fn dot(plan: &Plan, statuses: &Statuses) -> String {
    let mut out = format!("digraph {} {{\n", quote(plan.name()));
    out.push_str("  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white];\n");
    for step in plan.steps() {
        let label = match statuses.get(&step.id) {
            Some(status) => format!("{}\n{status}", title(step)),
            None => title(step),
        };
        let mut attributes = format!("label={}", quote(&label));
        if let Some(status) = statuses.get(&step.id) {
            let _ = write!(attributes, ", fillcolor={}", color(*status));
        }
        match (&step.gate, step.phase) {
            (Some(_), _) => attributes.push_str(", shape=hexagon, style=filled"),
            (None, Phase::OnFailure | Phase::Finally) => {
                attributes.push_str(", shape=note, style=filled");
            }
            (None, Phase::Main) => {}
        }
        if step.for_each.is_some() {
            attributes.push_str(", peripheries=2");
        }
        let _ = writeln!(out, "  {} [{attributes}];", quote(step.id.as_str()));
    }
    for step in plan.steps() {
        for need in &step.needs {
            let mut attributes = Vec::new();
            if need.from == NeedFrom::Explicit {
                attributes.push("style=dashed".to_owned());
            }
            attributes.extend(condition(need).map(|text| format!("label={}", quote(&text))));
            let attributes = match attributes.as_slice() {
                [] => String::new(),
                list => format!(" [{}]", list.join(", ")),
            };
            let (from, to) = (quote(need.step.as_str()), quote(step.id.as_str()));
            let _ = writeln!(out, "  {from} -> {to}{attributes};");
        }
    }
    out.push_str("}\n");
    out
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

const fn color(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Waiting => "white",
        StepStatus::Running => "lightblue",
        StepStatus::Ended(Outcome::Passed) => "palegreen",
        StepStatus::Ended(Outcome::Rejected) => "orange",
        StepStatus::Ended(Outcome::Skipped) => "lightgray",
        StepStatus::Ended(Outcome::Failed) => "tomato",
        StepStatus::Ended(Outcome::Cancelled) => "gray",
    }
}
