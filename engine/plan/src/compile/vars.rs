//! `vars`: values that the file names once. Each sees the parameters, the event, and those of the
//! others that do not see it.

use std::collections::{BTreeMap, HashMap};

use super::items;
use crate::code::VAR_CYCLE;
use crate::graph::Graph;
use crate::nulls::Known;
use crate::references::{Names, Reader};
use crate::spec::Spec;
use crate::yaml::{Content, Node};
use crate::{Diagnostic, Span, expression, template};

/// Checks the values in the order in which they need one another, and lets `names` know each. Answers
/// them in that order.
pub(super) fn check<'a>(
    spec: &Spec<'a>,
    names: &mut Names<'a>,
    found: &mut Vec<Diagnostic>,
) -> Vec<(String, serde_json::Value)> {
    let places: HashMap<&str, usize> =
        spec.vars.iter().enumerate().map(|(at, var)| (var.name, at)).collect();
    let mut edges: BTreeMap<(usize, usize), Span> = BTreeMap::new();
    for (at, var) in spec.vars.iter().enumerate() {
        needs(var.value, names, &mut |name, span| {
            if let Some(needed) = places.get(name) {
                edges.entry((at, *needed)).or_insert(span);
            }
        });
    }
    // What is in a circle is known by its name, so that nobody is told that it is not there.
    names.vars.extend(spec.vars.iter().map(|var| (var.name, serde_json::Value::Bool(true))));
    let graph = Graph::new(spec.vars.len(), edges.keys().copied());
    for circle in graph.circles() {
        let path: Vec<&str> = circle.iter().map(|at| spec.vars[*at].name).collect();
        let message = match path.as_slice() {
            [only, _] => format!("`vars.{only}` needs itself"),
            _ => format!("these values need each other: `{}`", path.join(" → ")),
        };
        let span = circle.windows(2).find_map(|pair| edges.get(&(pair[0], pair[1])).copied());
        let span = span.unwrap_or(spec.vars[circle[0]].span);
        found.push(Diagnostic::error(VAR_CYCLE, span, message));
    }
    let order = graph.order();
    for at in &order {
        let var = &spec.vars[*at];
        names.text(var.value, Reader::Var, found);
        names.nulls_of_text(var.value, Reader::Var, &Known::default(), found);
        names.vars.insert(var.name, items::shape(var.value, names, Reader::Var));
    }
    order
        .into_iter()
        .map(|at| (spec.vars[at].name.to_owned(), spec.vars[at].value.json()))
        .collect()
}

/// Tells which values an expression within `node` reads.
fn needs(node: &Node, names: &Names<'_>, tell: &mut impl FnMut(&str, Span)) {
    match &node.content {
        Content::Text(leaf) if template::is_template(leaf) => {
            for piece in template::split(leaf).unwrap_or_default() {
                let template::Piece::Expression { text, start } = piece else { continue };
                let Ok(parsed) = expression::parse(text) else { continue };
                for read in parsed.references.iter().filter(|read| read.root == "vars") {
                    if let Some(name) = read.name(0) {
                        let (from, to) = (start + read.start, start + read.end);
                        tell(name, node.part(names.source, from, to));
                    }
                }
            }
        }
        Content::List(items) => items.iter().for_each(|item| needs(item, names, tell)),
        Content::Map(entries) => entries.iter().for_each(|entry| needs(&entry.value, names, tell)),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
    }
}
