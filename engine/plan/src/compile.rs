//! From the file to the plan: everything is checked in one pass, and nothing runs.

mod edges;
mod items;
mod kinds;
mod starts;
mod vars;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use fairlead_step::{Catalog, Digest, Effect, Step, StepId};
use serde_json::{Value, json};

use crate::code::{BAD_NAME, BAD_VALUE, WRONG_REFERENCE};
use crate::graph::Graph;
use crate::inputs::LeafType;
use crate::nulls::{self, Known};
use crate::plan::Steps;
use crate::references::{Names, Part, Read, Reader, StepNames};
use crate::spec::{self, GateSpec, GroupSpec, Spec, StepSpec, UndoSpec, WaitSpec};
use crate::suggest::Slips;
use crate::yaml::{Content, Node};
use crate::{
    Concurrency, Diagnostic, Diagnostics, Gate, Need, Outcome, Params, Plan, PlanStep, Source,
    Span, Undo, WaitFor, schema, template, triggers, yaml,
};
use edges::{Edge, Edges};

/// A plan, and what is worth a look in the file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// The warnings; none of them is an error.
    pub warnings: Diagnostics,
    /// Where the name of each step stands.
    pub places: BTreeMap<StepId, Span>,
}

/// The most findings that are told of one file.
const MAX_FINDINGS: usize = 200;

/// What an approval gives.
static APPROVAL_OUTPUTS: LazyLock<Value> = LazyLock::new(|| {
    let names = json!({ "type": "array", "items": { "type": "string" } });
    json!({ "type": "object", "properties": { "approved_by": names } })
});
/// What a gate of time gives.
static WAIT_OUTPUTS: LazyLock<Value> =
    LazyLock::new(|| json!({ "type": "object", "properties": {} }));

/// Compiles a pipeline file against the step kinds of `catalog`.
///
/// # Errors
/// Everything that is wrong with the file, warnings included, in the order of the text.
pub fn compile(source: &Source, catalog: &Catalog) -> Result<Compiled, Diagnostics> {
    let mut found = Vec::new();
    let mut places = BTreeMap::new();
    let plan = yaml::parse(source, &mut found).and_then(|root| {
        let spec = spec::read(&root, &mut found);
        places.extend(spec.steps.iter().map(|step| (step.id.clone(), step.id_span)));
        check(source, catalog, &spec, &mut found)
    });
    let mut findings = Diagnostics::new(source.clone(), found);
    findings.truncate(MAX_FINDINGS);
    match plan {
        Some(plan) if !findings.has_errors() => Ok(Compiled { plan, warnings: findings, places }),
        Some(_) | None => Err(findings),
    }
}

/// The kinds of one step: of what it does, and of what takes it back.
struct Kinds<'c> {
    uses: Option<&'c Arc<dyn Step>>,
    undo: Option<&'c Arc<dyn Step>>,
}

/// What was found out of one step.
struct Checked {
    /// The text of its condition.
    when: Option<String>,
    /// What its expressions read.
    reads: Vec<Read>,
    /// The shapes of its items, where it has some.
    shapes: Option<Vec<Value>>,
}

fn check(
    source: &Source,
    catalog: &Catalog,
    spec: &Spec<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Plan> {
    let before_on = found.len();
    let (triggers, filters) = triggers::read(spec.on, found);
    let on_is_read = found.len() == before_on;
    let params = Params(spec.params.iter().map(|(param, _)| param.clone()).collect());

    let kinds: Vec<Kinds<'_>> = (spec.steps.iter())
        .map(|step| Kinds {
            uses: kinds::kind_of(step.uses, catalog, found),
            undo: kinds::kind_of(step.undo.as_ref().and_then(|undo| undo.uses), catalog, found),
        })
        .collect();
    let keys: Vec<Option<BTreeSet<String>>> = (spec.steps.iter())
        .map(|step| step.for_each.as_ref().and_then(|each| items::keys(each, found)))
        .collect();
    let mut names = Names {
        source,
        params: &params,
        triggers: on_is_read.then_some(&triggers),
        vars: BTreeMap::new(),
        steps: step_names(spec, &kinds, &keys),
        slips: Slips::default(),
    };
    starts::check(spec, &triggers, &filters, &names, found);
    let vars = vars::check(spec, &mut names, found);
    let names = names;
    let concurrency =
        spec.concurrency.as_ref().and_then(|group| concurrency_group(group, &names, found));

    let places: HashMap<&str, usize> =
        spec.steps.iter().enumerate().map(|(at, step)| (step.id.as_str(), at)).collect();
    let mut edges = Vec::with_capacity(spec.steps.len());
    let mut checked = Vec::with_capacity(spec.steps.len());
    for (at, (step, kinds)) in spec.steps.iter().zip(&kinds).enumerate() {
        let this = step_is_well(step, kinds, &names, found);
        let mut drawn = Edges::new();
        let explicit = edges::needs(step, spec, &places, &names, &mut drawn, found);
        edges::implied(at, spec, &places, &names, &this, &explicit, &mut drawn, found);
        undo_name(step, spec, &places, found);
        edges.push(drawn);
        checked.push(this);
    }

    let pairs = edges.iter().enumerate();
    let pairs = pairs.flat_map(|(at, drawn)| drawn.keys().map(move |needed| (at, *needed)));
    let graph = Graph::new(spec.steps.len(), pairs);
    edges::circles(spec, &graph, &edges, found);
    let order = graph.order();
    inputs(spec, &kinds, &checked, &edges, &order, &names, found);
    edges::unreachable(spec, &order, &checked, &edges, found);
    if order.len() < spec.steps.len() {
        return None;
    }
    let order = by_phase(spec, order);
    let steps = order.into_iter().map(|at| {
        plan_step(&spec.steps[at], &kinds[at], checked[at].when.clone(), spec, &edges[at])
    });
    Some(Plan {
        name: spec.name.clone()?,
        description: spec.description.clone(),
        source_name: source.name().to_owned(),
        source_digest: Digest::sha256(source.text().as_bytes()),
        triggers,
        timeout: spec.timeout,
        concurrency,
        checkout: spec.checkout.clone(),
        steps: Steps::new(steps.collect::<Option<_>>()?),
        vars,
        params,
    })
}

fn step_names<'a>(
    spec: &'a Spec<'_>,
    kinds: &[Kinds<'a>],
    keys: &'a [Option<BTreeSet<String>>],
) -> BTreeMap<&'a str, StepNames<'a>> {
    let steps = spec.steps.iter().zip(kinds).zip(keys);
    let names = steps.map(|((step, kinds), keys)| {
        let outputs = match &step.gate {
            Some(GateSpec::Approval(_)) => Some(&*APPROVAL_OUTPUTS),
            Some(GateSpec::Wait(_)) => Some(&*WAIT_OUTPUTS),
            None => kinds.uses.map(|kind| &kind.spec().output_schema),
        };
        let items = step.for_each.as_ref().map(|_| keys.as_ref());
        (step.id.as_str(), StepNames { phase: step.phase, outputs, items })
    });
    names.collect()
}

/// Checks everything of one step but its edges.
fn step_is_well(
    step: &StepSpec<'_>,
    kinds: &Kinds<'_>,
    names: &Names<'_>,
    found: &mut Vec<Diagnostic>,
) -> Checked {
    let mut reads = Vec::new();
    let mut shapes = None;
    if let Some(each) = &step.for_each {
        let (read, known) = items::check(step, each, names, found);
        reads.extend(read);
        shapes = Some(known);
    }
    let reader = |part| Reader::Step { id: step.id.as_str(), phase: step.phase, part };
    let work = reader(shapes.as_deref().map_or(Part::Whole, Part::Each));
    if let Some(with) = step.with {
        reads.extend(names.template(with, work, found));
    }
    let when = step.when.map(|node| match (&node.content, node.text()) {
        (_, Some(text)) => {
            reads.extend(names.condition(node, text, work, found));
            text.to_owned()
        }
        (content, None) => (*content == Content::Bool(true)).to_string(),
    });
    if let Some(kind) = kinds.uses {
        kinds::may_be_cached(step, kind.as_ref(), found);
    }
    if let Some(GateSpec::Wait(Some(WaitSpec::Until(node)))) = &step.gate {
        reads.extend(names.text(node, work, found));
        moment(node, names, work, found);
    }
    if let Some(undo) = &step.undo {
        let back = reader(Part::Undo(shapes.as_deref()));
        if let Some(with) = undo.with {
            reads.extend(names.template(with, back, found));
        }
    }
    Checked { when, reads, shapes }
}

/// Checks the inputs of every step, and where a value that may be null would do harm. A step that
/// waits for another one knows what the condition of that one ruled out, so each stands behind those
/// that it needs; steps in a circle know only what their own say.
fn inputs(
    spec: &Spec<'_>,
    kinds: &[Kinds<'_>],
    checked: &[Checked],
    edges: &[Edges],
    order: &[usize],
    names: &Names<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let ran = BTreeSet::from([Outcome::Passed, Outcome::Rejected]);
    let mut known: Vec<Known> = vec![Known::default(); spec.steps.len()];
    let in_circles = (0..spec.steps.len()).filter(|at| !order.contains(at));
    let all: Vec<usize> = if order.len() < spec.steps.len() {
        order.iter().copied().chain(in_circles).collect()
    } else {
        order.to_vec()
    };
    for at in all {
        let (step, kinds, this) = (&spec.steps[at], &kinds[at], &checked[at]);
        let reader = |part| Reader::Step { id: step.id.as_str(), phase: step.phase, part };
        let work = reader(this.shapes.as_deref().map_or(Part::Whole, Part::Each));
        let before = (edges[at].iter())
            .filter(|(needed, edge)| {
                edge.outcomes.is_subset(&ran) && spec.steps[**needed].for_each.is_none()
            })
            .fold(Known::default(), |sum, (needed, _)| sum.and(&known[*needed]));
        if let Some(each) = &step.for_each {
            names.nulls_of_text(each.items, reader(Part::Whole), &before, found);
        }
        if let Some((node, text)) = step.when.and_then(|node| Some((node, node.text()?))) {
            names.nulls_of_bare(node, text, work, &before, found);
        }
        let facts = this.when.as_deref().map_or_else(Known::default, nulls::facts);
        let here = before.and(&facts);
        if let Some(GateSpec::Wait(Some(WaitSpec::Until(node)))) = &step.gate {
            names.nulls_of_text(node, work, &here, found);
        }
        let back = reader(Part::Undo(this.shapes.as_deref()));
        let undo = step.undo.as_ref();
        if let Some(kind) = kinds.uses {
            let place = step.uses.map_or(step.id_span, |(_, span)| span);
            kinds::inputs(step.with, place, kind.as_ref(), names, (work, &here), found);
        }
        if let (Some(undo), Some(kind)) = (undo, kinds.undo) {
            let place = undo.uses.map_or(undo.span, |(_, span)| span);
            kinds::inputs(undo.with, place, kind.as_ref(), names, (back, &here), found);
        }
        known[at] = here;
    }
}

/// A moment is a text.
fn moment(node: &Node, names: &Names<'_>, reader: Reader<'_>, found: &mut Vec<Diagnostic>) {
    let leaf = node.text().unwrap_or_default();
    if let LeafType::Known { schema, shown } = names.leaf_type(leaf, reader)
        && !schema::compatible(&schema, &json!({ "type": "string" }))
    {
        let given = schema::describe(&schema);
        let message = format!("`until` wants a time, and `{shown}` is {given}");
        found.push(Diagnostic::error(WRONG_REFERENCE, node.span, message));
    }
}

/// Checks the name of the group.
fn concurrency_group(
    spec: &GroupSpec<'_>,
    names: &Names<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Concurrency> {
    let group = spec.group.text()?.to_owned();
    names.text(spec.group, Reader::Group, found);
    let most = Concurrency::MOST_BYTES;
    if group.trim().is_empty() {
        let problem = "the name of the group is empty";
        let help = "name the group, as in `group: \"release/{{ params.version }}\"`";
        found.push(Diagnostic::error(BAD_VALUE, spec.group.span, problem).help(help));
    } else if group.len() > most && !template::is_template(&group) {
        let problem = format!("the name of the group is longer than {most} bytes");
        found.push(Diagnostic::error(BAD_VALUE, spec.group.span, problem));
    }
    if let LeafType::Known { schema, shown } = names.leaf_type(&group, Reader::Group)
        && !schema::compatible(&schema, &json!({ "type": ["string", "number", "boolean"] }))
    {
        let given = schema::describe(&schema);
        let message = format!("the name of the group is a text, and `{shown}` is {given}");
        found.push(Diagnostic::error(WRONG_REFERENCE, spec.group.span, message));
    } else {
        names.nulls_of_text(spec.group, Reader::Group, &Known::default(), found);
    }
    Some(Concurrency { group, policy: spec.policy, max: spec.max })
}

/// The step that takes `step` back has a name of its own.
fn undo_name(
    step: &StepSpec<'_>,
    spec: &Spec<'_>,
    places: &HashMap<&str, usize>,
    found: &mut Vec<Diagnostic>,
) {
    let Some(undo) = &step.undo else { return };
    if let Some(other) = places.get(format!("undo-{}", step.id).as_str()) {
        let other = &spec.steps[*other];
        let message =
            format!("`{}` is the name of the step that takes `{}` back", other.id, step.id);
        let finding = Diagnostic::error(BAD_NAME, other.id_span, message);
        found.push(finding.label(undo.span, "by this").help("give it another name"));
    }
}

fn plan_step(
    step: &StepSpec<'_>,
    kinds: &Kinds<'_>,
    when: Option<String>,
    spec: &Spec<'_>,
    edges: &Edges,
) -> Option<PlanStep> {
    let gate = match &step.gate {
        None => None,
        Some(GateSpec::Approval(approval)) => Some(Gate::Approval(approval.clone()?)),
        Some(GateSpec::Wait(wait)) => Some(Gate::Wait(match wait.as_ref()? {
            WaitSpec::For(pause) => WaitFor::Duration(*pause),
            WaitSpec::Until(node) => WaitFor::Until(node.text()?.to_owned()),
        })),
    };
    let (kind, kind_version, effect) = match &gate {
        // A gate has no attempts that could be lost.
        Some(gate) => (gate.kind(), "", Effect::Pure),
        None => {
            let kind = kinds.uses?.spec();
            (kind.kind, kind.version, kind.effect)
        }
    };
    let undo = match &step.undo {
        None => None,
        Some(undo) => Some(plan_undo(undo, kinds)?),
    };
    let need = |(needed, edge): (&usize, &Edge)| Need {
        step: spec.steps[*needed].id.clone(),
        outcomes: edge.outcomes.clone(),
        from: edge.from,
    };
    Some(PlanStep {
        id: step.id.clone(),
        kind: kind.to_owned(),
        kind_version: kind_version.to_owned(),
        effect,
        phase: step.phase,
        needs: edges.iter().map(need).collect(),
        retry: step.retry,
        timeout: step.timeout,
        on: step.on.clone(),
        gate,
        for_each: step.for_each.as_ref().map(items::planned),
        wait: step.wait,
        cache: step.cache.map(|(cache, _)| cache),
        undo,
        undoes: None,
        placement: step.placement.clone(),
        description: step.description.clone(),
        when,
        with: kinds::inputs_of(step.with),
    })
}

fn plan_undo(undo: &UndoSpec<'_>, kinds: &Kinds<'_>) -> Option<Undo> {
    let kind = kinds.undo?.spec();
    Some(Undo {
        kind: kind.kind.to_owned(),
        kind_version: kind.version.to_owned(),
        effect: kind.effect,
        with: kinds::inputs_of(undo.with),
        retry: undo.retry,
        timeout: undo.timeout,
    })
}

/// The phases come one after another; within a phase the order stays.
fn by_phase(spec: &Spec<'_>, mut order: Vec<usize>) -> Vec<usize> {
    order.sort_by_key(|at| spec.steps[*at].phase);
    order
}
