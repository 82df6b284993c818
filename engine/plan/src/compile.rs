//! From the file to the plan: everything is checked in one pass, and nothing runs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_event::Triggers;
use fairlead_step::{Capability, Catalog, Digest, Step};
use serde_json::{Map, Value};

use crate::code::{
    CYCLE, MAY_BE_ABSENT, REFUSED_INPUT, UNBOUND_PARAM, UNKNOWN_KIND, UNKNOWN_STEP, UNREACHABLE,
    WRONG_PHASE,
};
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::references::{Names, Read, Reader};
use crate::spec::{self, Spec, StepSpec};
use crate::yaml::{Content, Node};
use crate::{
    Diagnostic, Diagnostics, Need, NeedFrom, Outcome, Params, Plan, PlanStep, RunOutcome, Source,
    Span, expression, suggest, template, triggers, yaml,
};

/// A plan, and what is worth a look in the file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// The warnings; none of them is an error.
    pub warnings: Diagnostics,
}

/// The most findings that are told of one file.
const MAX_FINDINGS: usize = 200;

/// Compiles a pipeline file against the step kinds of `catalog`.
///
/// # Errors
/// Everything that is wrong with the file, warnings included, in the order of the text.
pub fn compile(source: &Source, catalog: &Catalog) -> Result<Compiled, Diagnostics> {
    let mut found = Vec::new();
    let plan = yaml::parse(source, &mut found).and_then(|root| {
        let spec = spec::read(&root, &mut found);
        check(source, catalog, &spec, &mut found)
    });
    let mut findings = Diagnostics::new(source.clone(), found);
    findings.truncate(MAX_FINDINGS);
    match plan {
        Some(plan) if !findings.has_errors() => Ok(Compiled { plan, warnings: findings }),
        Some(_) | None => Err(findings),
    }
}

/// An edge as it is drawn: to the step at this place in the file.
struct Edge {
    step: usize,
    needed: usize,
    outcomes: BTreeSet<Outcome>,
    from: NeedFrom,
    span: Span,
}

fn check(
    source: &Source,
    catalog: &Catalog,
    spec: &Spec<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Plan> {
    let before_on = found.len();
    let (triggers, trigger_whens) = triggers::read(spec.on, found);
    let on_is_read = found.len() == before_on;
    let params = Params(spec.params.iter().map(|(param, _)| param.clone()).collect());
    unbound_params(spec, &triggers, found);

    let kinds: Vec<Option<&Arc<dyn Step>>> =
        spec.steps.iter().map(|step| kind_of(step, catalog, found)).collect();
    let names = Names {
        source,
        params: &params,
        triggers: on_is_read.then_some(&triggers),
        steps: (spec.steps.iter().zip(&kinds))
            .map(|(step, kind)| {
                let outputs = kind.map(|kind| &kind.spec().output_schema);
                (step.id.as_str(), (step.phase, outputs))
            })
            .collect(),
    };
    for when in &trigger_whens {
        if let Some(text) = when.node.text() {
            names.condition(when.node, text, Reader::Trigger(when.kind), found);
        }
    }

    let places: BTreeMap<&str, usize> =
        spec.steps.iter().enumerate().map(|(at, step)| (step.id.as_str(), at)).collect();
    let mut edges = Vec::new();
    let mut whens = Vec::with_capacity(spec.steps.len());
    for (at, (step, kind)) in spec.steps.iter().zip(&kinds).enumerate() {
        let reader = Reader::Step { id: step.id.as_str(), phase: step.phase };
        let mut reads = match step.with {
            Some(with) => names.template(with, reader, found),
            None => Vec::new(),
        };
        let when = step.when.map(|node| match (&node.content, node.text()) {
            (_, Some(text)) => {
                reads.extend(names.condition(node, text, reader, found));
                text.to_owned()
            }
            (content, None) => (*content == Content::Bool(true)).to_string(),
        });
        whens.push(when);
        if let Some(kind) = kind {
            inputs(step, kind.as_ref(), &names, reader, found);
        }
        let explicit = needs(at, step, spec, &places, &mut edges, found);
        implied(at, step, spec, &places, &names, &reads, &explicit, &mut edges, found);
    }

    let graph = Graph::new(spec.steps.len(), edges.iter().map(|edge| (edge.step, edge.needed)));
    circles(spec, &graph, &edges, found);
    let order = graph.order();
    unreachable(spec, &order, &whens, &edges, found);
    if order.len() < spec.steps.len() {
        return None;
    }
    let mut steps = Vec::with_capacity(order.len());
    for at in by_phase(spec, order) {
        let (step, kind) = (&spec.steps[at], kinds[at]?.spec());
        let mut needs: Vec<(usize, Need)> = Vec::new();
        for edge in edges.iter().filter(|edge| edge.step == at) {
            needs.push((
                edge.needed,
                Need {
                    step: spec.steps[edge.needed].id.clone(),
                    outcomes: edge.outcomes.clone(),
                    from: edge.from,
                },
            ));
        }
        needs.sort_by_key(|(needed, _)| *needed);
        steps.push(PlanStep {
            id: step.id.clone(),
            kind: kind.kind.to_owned(),
            kind_version: kind.version.to_owned(),
            effect: kind.effect,
            phase: step.phase,
            needs: needs.into_iter().map(|(_, need)| need).collect(),
            retry: step.retry,
            timeout: step.timeout,
            on: step.on.clone(),
            description: step.description.clone(),
            when: whens[at].clone(),
            with: step.with.map_or_else(|| Value::Object(Map::new()), Node::json),
            gate: None,
            for_each: None,
            wait: None,
            cache: None,
            undo: None,
        });
    }
    Some(Plan {
        name: spec.name.clone()?,
        description: spec.description.clone(),
        source_name: source.name().to_owned(),
        source_digest: Digest::sha256(source.text().as_bytes()),
        triggers,
        params,
        timeout: spec.timeout,
        concurrency: None,
        steps,
    })
}

/// Finally steps come behind all others; within a phase the order stays.
fn by_phase(spec: &Spec<'_>, mut order: Vec<usize>) -> Vec<usize> {
    order.sort_by_key(|at| spec.steps[*at].phase);
    order
}

/// An event starts a run without asking anybody.
fn unbound_params(spec: &Spec<'_>, triggers: &Triggers, found: &mut Vec<Diagnostic>) {
    let mut keys: Vec<&str> =
        triggers.filters().map(|filter| filter.kind.key()).filter(|key| *key != "manual").collect();
    keys.dedup();
    if keys.is_empty() {
        return;
    }
    for (param, span) in spec.params.iter().filter(|(param, _)| param.required()) {
        let message = format!(
            "parameter `{}` has no default, so {} can never start this pipeline",
            param.name,
            suggest::list(keys.iter().copied())
        );
        found.push(Diagnostic::warning(UNBOUND_PARAM, *span, message).help("give it a default"));
    }
}

fn kind_of<'c>(
    step: &StepSpec<'_>,
    catalog: &'c Catalog,
    found: &mut Vec<Diagnostic>,
) -> Option<&'c Arc<dyn Step>> {
    let (name, span) = step.uses?;
    let kind = catalog.get(name);
    if kind.is_none() {
        let names = || catalog.specs().map(|spec| spec.kind);
        let finding =
            Diagnostic::error(UNKNOWN_KIND, span, format!("there is no step kind `{name}`"));
        found.push(match suggest::nearest(name, names()) {
            Some(near) => finding.help(format!("did you mean `{near}`?")).fix(span, near),
            None => finding.help(format!("there are {}", suggest::list(names()))),
        });
    }
    kind
}

/// Checks `with` by the schema, and where that finds nothing and nothing is left to fill, by the
/// kind itself.
fn inputs(
    step: &StepSpec<'_>,
    kind: &dyn Step,
    names: &Names<'_>,
    reader: Reader<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let spec = kind.spec();
    let step_span = step.uses.map_or(step.id_span, |(_, span)| span);
    let wrong = Inputs {
        kind: spec.kind,
        root: &spec.input_schema,
        secrets: spec.capabilities.contains(&Capability::Secrets),
        leaf_type: &|leaf| names.leaf_type(leaf, reader),
        step_span,
    }
    .check(step.with);
    let clean = wrong.is_empty();
    found.extend(wrong);
    let with = step.with.map_or_else(|| Value::Object(Map::new()), Node::json);
    if !clean || template::has_template(&with) {
        return;
    }
    for problem in kind.check(&with).err().unwrap_or_default() {
        let span = match step.with {
            Some(node) if !problem.pointer.is_empty() => node.at_pointer(&problem.pointer),
            Some(_) | None => step_span,
        };
        let place = problem.pointer.trim_start_matches('/').replace('/', ".");
        let message = if place.is_empty() {
            format!("`{}`: {}", spec.kind, problem.message)
        } else {
            format!("input `{place}`: {}", problem.message)
        };
        let mut finding = Diagnostic::error(REFUSED_INPUT, span, message);
        finding.help = problem.hint;
        found.push(finding);
    }
}

/// Draws the edges under `needs`, and answers where they lead.
fn needs(
    at: usize,
    step: &StepSpec<'_>,
    spec: &Spec<'_>,
    places: &BTreeMap<&str, usize>,
    edges: &mut Vec<Edge>,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<usize> {
    let mut explicit = BTreeSet::new();
    for need in &step.needs {
        let Some(needed) = places.get(need.step).copied() else {
            let message = format!("step `{}` needs `{}`, which is not there", step.id, need.step);
            let finding = Diagnostic::error(UNKNOWN_STEP, need.span, message);
            let near = suggest::nearest(need.step, places.keys().copied());
            found.push(match near {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => {
                    finding.help(format!("there are {}", suggest::list(places.keys().copied())))
                }
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
            edges.push(Edge {
                step: at,
                needed,
                outcomes: need.outcomes.clone(),
                from: NeedFrom::Explicit,
                span: need.span,
            });
        }
    }
    explicit
}

/// Draws the edges that expressions imply, and warns of outputs that may be absent.
#[expect(clippy::too_many_arguments, reason = "one pass over what one step reads")]
fn implied(
    at: usize,
    step: &StepSpec<'_>,
    spec: &Spec<'_>,
    places: &BTreeMap<&str, usize>,
    names: &Names<'_>,
    reads: &[Read],
    explicit: &BTreeSet<usize>,
    edges: &mut Vec<Edge>,
    found: &mut Vec<Diagnostic>,
) {
    let mut by_step: BTreeMap<usize, Vec<&Read>> = BTreeMap::new();
    for read in reads.iter().filter(|read| read.reference.root == "steps") {
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
            Ordering::Equal => {
                let drawn = edges.iter().find(|edge| edge.step == at && edge.needed == needed);
                match drawn {
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
                        edges.push(Edge {
                            step: at,
                            needed,
                            outcomes: outcomes.clone(),
                            from: NeedFrom::Reference,
                            span,
                        });
                        outcomes
                    }
                }
            }
        };
        let absent: Vec<Outcome> = outcomes
            .iter()
            .copied()
            .filter(|outcome| match outcome {
                Outcome::Passed | Outcome::Rejected => false,
                Outcome::Skipped | Outcome::Failed | Outcome::Cancelled => true,
            })
            .collect();
        if absent.is_empty() {
            continue;
        }
        for read in outputs {
            let output = read.reference.name(1).unwrap_or("…");
            let ends: Vec<&str> = absent.iter().map(|outcome| outcome.name()).collect();
            let message = format!(
                "`{}` may have no `{output}`: it may have ended {}",
                other.id,
                ends.join(" or ")
            );
            let finding = Diagnostic::warning(MAY_BE_ABSENT, read.span, message);
            found.push(finding.help("add `| default(…)`"));
        }
    }
}

fn circles(spec: &Spec<'_>, graph: &Graph, edges: &[Edge], found: &mut Vec<Diagnostic>) {
    for circle in graph.circles() {
        let id = |at: usize| spec.steps[at].id.as_str();
        let drawn: Vec<&Edge> = circle
            .windows(2)
            .filter_map(|pair| {
                edges.iter().find(|edge| edge.step == pair[0] && edge.needed == pair[1])
            })
            .collect();
        let Some((first, rest)) = drawn.split_first() else { continue };
        let message = if circle.len() == 2 {
            format!("step `{}` needs itself", id(circle[0]))
        } else {
            let path: Vec<&str> = circle.iter().map(|at| id(*at)).collect();
            format!("these steps wait for each other: `{}`", path.join(" → "))
        };
        let mut finding = Diagnostic::error(CYCLE, first.span, message);
        for edge in rest {
            let text = format!("`{}` needs `{}`", id(edge.step), id(edge.needed));
            finding = finding.label(edge.span, text);
        }
        found.push(finding);
    }
}

/// Warns of steps that no run can start.
fn unreachable(
    spec: &Spec<'_>,
    order: &[usize],
    whens: &[Option<String>],
    edges: &[Edge],
    found: &mut Vec<Diagnostic>,
) {
    let mut never: BTreeSet<usize> = BTreeSet::new();
    for at in order.iter().copied() {
        let step = &spec.steps[at];
        let constant = whens[at].as_deref().and_then(|text| expression::parse(text).ok()?.constant);
        if constant == Some(false) {
            let span = step.when.map_or(step.id_span, |node| node.span);
            let message = format!("step `{}` never runs: its condition is always false", step.id);
            found.push(Diagnostic::warning(UNREACHABLE, span, message));
            never.insert(at);
            continue;
        }
        let dead = edges.iter().find(|edge| {
            edge.step == at
                && never.contains(&edge.needed)
                && !edge.outcomes.contains(&Outcome::Skipped)
        });
        if let Some(edge) = dead {
            let needed = &spec.steps[edge.needed].id;
            let message = format!("step `{}` never runs: `{needed}` never does", step.id);
            found.push(Diagnostic::warning(UNREACHABLE, edge.span, message));
            never.insert(at);
        }
    }
}
