//! The plan as a Mermaid flowchart, which forges draw in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Statuses, condition, title};
use crate::{NeedFrom, Phase, Plan};

/// Draws `plan` as a Mermaid flowchart. Edges that expressions draw are solid, edges under `needs`
/// dotted. A gate has six sides, a step for each item two lines at its sides.
#[must_use]
pub fn mermaid(plan: &Plan, statuses: &Statuses) -> String {
    // Some names of steps are words of Mermaid, so nodes are numbered.
    let numbers: BTreeMap<&str, usize> =
        plan.steps().iter().enumerate().map(|(at, step)| (step.id.as_str(), at)).collect();
    let mut out = "flowchart LR\n".to_owned();
    for (at, step) in plan.steps().iter().enumerate() {
        let label = match statuses.get(&step.id) {
            Some(status) => format!("{}<br/>{status}", title(step)),
            None => title(step),
        };
        let (open, close) = match (&step.gate, &step.for_each, step.phase) {
            (Some(_), ..) => ("{{\"", "\"}}"),
            (None, Some(_), _) => ("[[\"", "\"]]"),
            (None, None, Phase::Main) => ("[\"", "\"]"),
            (None, None, Phase::OnFailure | Phase::Finally) => ("([\"", "\"])"),
        };
        let _ = writeln!(out, "  s{at}{open}{label}{close}");
    }
    for (at, step) in plan.steps().iter().enumerate() {
        for need in &step.needs {
            let Some(from) = numbers.get(need.step.as_str()) else { continue };
            let arrow = match need.from {
                NeedFrom::Explicit => "-.->",
                NeedFrom::Reference => "-->",
            };
            let label = condition(need).map(|text| format!("|\"{text}\"|")).unwrap_or_default();
            let _ = writeln!(out, "  s{from} {arrow}{label} s{at}");
        }
    }
    out
}
