//! The edges between steps: those under `needs`, those that expressions imply, and what is wrong
//! with all of them together.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Checked;
use crate::code::{CYCLE, MAY_BE_ABSENT, UNKNOWN_STEP, UNREACHABLE, WRONG_PHASE};
use crate::graph::Graph;
use crate::references::{Names, Read};
use crate::spec::{Spec, StepSpec};
use crate::yaml::Node;
use crate::{Diagnostic, NeedFrom, Outcome, RunOutcome, Span, expression, suggest, template};

/// An edge as it is drawn.
pub(super) struct Edge {
    pub(super) outcomes: BTreeSet<Outcome>,
    pub(super) from: NeedFrom,
    span: Span,
}

/// The edges of one step, by the place in the file of the step that is needed.
pub(super) type Edges = BTreeMap<usize, Edge>;

/// Draws the edges under `needs`, and answers where they lead.
pub(super) fn needs(
    step: &StepSpec<'_>,
    spec: &Spec<'_>,
    places: &HashMap<&str, usize>,
    names: &Names<'_>,
    edges: &mut Edges,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<usize> {
    let mut explicit = BTreeSet::new();
    for need in &step.needs {
        let Some(needed) = places.get(need.step).copied() else {
            let message = format!("step `{}` needs `{}`, which is not there", step.id, need.step);
            let finding = Diagnostic::error(UNKNOWN_STEP, need.span, message);
            found.push(match names.near(need.step) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding
                    .help(format!("there are {}", suggest::list(names.steps.keys().copied()))),
            });
            continue;
        };
        match step.phase.cmp(&spec.steps[needed].phase) {
            Ordering::Equal => {}
            Ordering::Greater => {
                let message = format!(
                    "`{}` runs after every step under `{}`, and cannot need `{}`",
                    step.id,
                    spec.steps[needed].phase.key(),
                    need.step
                );
                let finding = Diagnostic::error(WRONG_PHASE, need.span, message);
                found.push(finding.help(format!(
                    "to look at how it ended: `when: steps.{}.outcome == \"passed\"`",
                    need.step
                )));
                continue;
            }
            Ordering::Less => {
                let message = format!(
                    "`{}` runs after every step under `{}`, so `{}` cannot need it",
                    need.step,
                    step.phase.key(),
                    step.id
                );
                found.push(Diagnostic::error(WRONG_PHASE, need.span, message));
                continue;
            }
        }
        if explicit.insert(needed) && !need.outcomes.is_empty() {
            edges.insert(
                needed,
                Edge { outcomes: need.outcomes.clone(), from: NeedFrom::Explicit, span: need.span },
            );
        }
    }
    explicit
}

/// Draws the edges that expressions imply, and warns of outputs that may be absent.
#[expect(clippy::too_many_arguments, reason = "one pass over what one step reads")]
pub(super) fn implied(
    at: usize,
    spec: &Spec<'_>,
    places: &HashMap<&str, usize>,
    names: &Names<'_>,
    checked: &Checked,
    explicit: &BTreeSet<usize>,
    edges: &mut Edges,
    found: &mut Vec<Diagnostic>,
) {
    let step = &spec.steps[at];
    let mut by_step: BTreeMap<usize, Vec<&Read>> = BTreeMap::new();
    for read in checked.reads.iter().filter(|read| read.reference.root == "steps") {
        let needed = read.reference.name(0).and_then(|name| places.get(name));
        if let Some(needed) = needed.copied().filter(|needed| *needed != at) {
            by_step.entry(needed).or_default().push(read);
        }
    }
    for (needed, reads) in by_step {
        let outputs: Vec<&Read> = reads
            .iter()
            .copied()
            .filter(|read| !read.reference.guarded && !names.reads_outcome(&read.reference))
            .collect();
        let looks_at_outcome = reads.iter().any(|read| names.reads_outcome(&read.reference));
        let other = &spec.steps[needed];
        let outcomes = match step.phase.cmp(&other.phase) {
            Ordering::Less => continue,
            // The steps of a later phase wait for every step of the earlier ones anyway.
            Ordering::Greater => {
                if step.on == BTreeSet::from([RunOutcome::Passed]) {
                    continue;
                }
                BTreeSet::from(Outcome::ALL)
            }
            Ordering::Equal => match edges.get(&needed) {
                Some(edge) => edge.outcomes.clone(),
                None if explicit.contains(&needed) => continue,
                None => {
                    // Who only looks at how a step ended waits for any end.
                    let any = looks_at_outcome && outputs.is_empty();
                    let outcomes = if any {
                        BTreeSet::from(Outcome::ALL)
                    } else {
                        BTreeSet::from([Outcome::Passed])
                    };
                    let span = reads.first().map_or(step.id_span, |read| read.span);
                    let from = NeedFrom::Reference;
                    edges.insert(needed, Edge { outcomes: outcomes.clone(), from, span });
                    outcomes
                }
            },
        };
        let absent = |outcome: &Outcome| match outcome {
            Outcome::Passed => false,
            // A gate that says no gives nothing.
            Outcome::Rejected => other.gate.is_some(),
            Outcome::Skipped | Outcome::Failed | Outcome::Cancelled => true,
        };
        // An item whose own condition was false gives nothing.
        let some = other.for_each.is_some()
            && other.when.and_then(Node::text).is_some_and(template::reads_item);
        for read in outputs.iter().filter(|read| some && read.reference.path.len() > 2) {
            let message =
                format!("`{}` may have no such item: its `when` decides of each", other.id);
            let finding = Diagnostic::warning(MAY_BE_ABSENT, read.span, message);
            found.push(finding.help("read `items` or `by_key` as a whole, or add `| default(…)`"));
        }
        let absent: Vec<&str> = outcomes
            .iter()
            .filter(|outcome| absent(outcome))
            .map(|outcome| outcome.name())
            .collect();
        if absent.is_empty() {
            continue;
        }
        for read in outputs {
            let output = read.reference.name(1).unwrap_or("…");
            let message = format!(
                "`{}` may have no `{output}`: it may have ended {}",
                other.id,
                absent.join(" or ")
            );
            let finding = Diagnostic::warning(MAY_BE_ABSENT, read.span, message);
            found.push(finding.help("add `| default(…)`"));
        }
    }
}

pub(super) fn circles(
    spec: &Spec<'_>,
    graph: &Graph,
    edges: &[Edges],
    found: &mut Vec<Diagnostic>,
) {
    for circle in graph.circles() {
        let id = |at: usize| spec.steps[at].id.as_str();
        let drawn: Vec<(usize, usize, Span)> = circle
            .windows(2)
            .filter_map(|pair| Some((pair[0], pair[1], edges[pair[0]].get(&pair[1])?.span)))
            .collect();
        let Some(((.., first), rest)) = drawn.split_first() else { continue };
        let message = if circle.len() == 2 {
            format!("step `{}` needs itself", id(circle[0]))
        } else {
            let path: Vec<&str> = circle.iter().map(|at| id(*at)).collect();
            format!("these steps wait for each other: `{}`", path.join(" → "))
        };
        let mut finding = Diagnostic::error(CYCLE, *first, message);
        for (step, needed, span) in rest {
            finding = finding.label(*span, format!("`{}` needs `{}`", id(*step), id(*needed)));
        }
        found.push(finding);
    }
}

/// Warns of steps that no run can start.
pub(super) fn unreachable(
    spec: &Spec<'_>,
    order: &[usize],
    checked: &[Checked],
    edges: &[Edges],
    found: &mut Vec<Diagnostic>,
) {
    let mut never: BTreeSet<usize> = BTreeSet::new();
    for at in order.iter().copied() {
        let step = &spec.steps[at];
        let when = checked[at].when.as_deref();
        let constant = when.and_then(|text| expression::parse(text).ok()?.constant);
        if constant == Some(false) {
            let span = step.when.map_or(step.id_span, |node| node.span);
            let message = format!("step `{}` never runs: its condition is always false", step.id);
            found.push(Diagnostic::warning(UNREACHABLE, span, message));
            never.insert(at);
            continue;
        }
        let dead = edges[at].iter().find(|(needed, edge)| {
            never.contains(needed) && !edge.outcomes.contains(&Outcome::Skipped)
        });
        if let Some((needed, edge)) = dead {
            let needed = &spec.steps[*needed].id;
            let message = format!("step `{}` never runs: `{needed}` never does", step.id);
            found.push(Diagnostic::warning(UNREACHABLE, edge.span, message));
            never.insert(at);
        }
    }
}
