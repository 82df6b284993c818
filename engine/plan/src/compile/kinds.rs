//! Step kinds behind `uses`, and whether what stands beside them suits them.

use std::sync::Arc;

use fairlead_step::{Capability, Catalog, Effect, Step};
use serde_json::{Map, Value};

use crate::code::{NOT_PURE, REFUSED_INPUT, UNKNOWN_KIND};
use crate::inputs::Inputs;
use crate::nulls::Known;
use crate::references::{Names, Reader};
use crate::spec::StepSpec;
use crate::yaml::Node;
use crate::{Diagnostic, Span, suggest, template};

pub(super) fn kind_of<'c>(
    uses: Option<(&str, Span)>,
    catalog: &'c Catalog,
    found: &mut Vec<Diagnostic>,
) -> Option<&'c Arc<dyn Step>> {
    let (name, span) = uses?;
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

/// Only what changes nothing outside can be left out because it was done before.
pub(super) fn may_be_cached(step: &StepSpec<'_>, kind: &dyn Step, found: &mut Vec<Diagnostic>) {
    let Some((_, span)) = step.cache else { return };
    let spec = kind.spec();
    let does = match spec.effect {
        Effect::Pure => return,
        Effect::Idempotent | Effect::CheckThenAct | Effect::Once => "changes things outside",
    };
    let message =
        format!("the results of `{}` cannot be cached: its kind is not pure, it {does}", spec.kind);
    let finding = Diagnostic::error(NOT_PURE, span, message);
    found.push(finding.help("leave `cache` away"));
}

/// Checks `with` by the schema, and where that finds nothing and nothing is left to fill, by the
/// kind itself. What is missing is told at `place`; `known` is what conditions say of the event.
pub(super) fn inputs(
    with: Option<&Node>,
    place: Span,
    kind: &dyn Step,
    names: &Names<'_>,
    (reader, known): (Reader<'_>, &Known),
    found: &mut Vec<Diagnostic>,
) {
    let spec = kind.spec();
    if let Some(with) = with {
        names.nulls(with, reader, known, found);
    }
    let wrong = Inputs {
        kind: spec.kind,
        root: &spec.input_schema,
        secrets: spec.capabilities.contains(&Capability::Secrets),
        leaf_type: &|leaf| names.leaf_type(leaf, reader),
        nulls: &|node, leaf| names.given_nulls(node, leaf, reader, known),
        step_span: place,
    }
    .check(with);
    let clean = wrong.is_empty();
    found.extend(wrong);
    let json = inputs_of(with);
    if !clean || template::has_template(&json) {
        return;
    }
    for problem in kind.check(&json).err().unwrap_or_default() {
        let span = match with {
            Some(node) if !problem.pointer.is_empty() => node.at_pointer(&problem.pointer),
            Some(_) | None => place,
        };
        let input = problem.pointer.trim_start_matches('/').replace('/', ".");
        let message = if input.is_empty() {
            format!("`{}`: {}", spec.kind, problem.message)
        } else {
            format!("input `{input}`: {}", problem.message)
        };
        let mut finding = Diagnostic::error(REFUSED_INPUT, span, message);
        finding.help = problem.hint;
        found.push(finding);
    }
}

/// What stands under `with`; nothing is an empty mapping.
pub(super) fn inputs_of(with: Option<&Node>) -> Value {
    with.map_or_else(|| Value::Object(Map::new()), Node::json)
}
