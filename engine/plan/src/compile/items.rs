//! The list behind `for_each`: what is known of its items before there is a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::code::{BAD_ITEMS, WRONG_REFERENCE};
use crate::inputs::LeafType;
use crate::references::{Names, Part, Read, Reader};
use crate::spec::{ForEachSpec, StepSpec};
use crate::yaml::{Content, Node};
use crate::{Diagnostic, ForEach, Item, Scope, expression, schema, template};

/// The most shapes of items that are told apart; nothing is known of items that differ more.
const MAX_SHAPES: usize = 32;
/// The most shapes within a list in an item.
const MAX_INNER_SHAPES: usize = 8;

/// The list as the plan has it.
pub(super) fn planned(each: &ForEachSpec<'_>) -> ForEach {
    ForEach {
        items: each.items.json(),
        key: each.key.and_then(Node::text).map(str::to_owned),
        max_parallel: each.max_parallel,
        only: None,
    }
}

/// The keys of the items, where all of them are known. Checks those that are.
pub(super) fn keys(
    each: &ForEachSpec<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<BTreeSet<String>> {
    let Content::List(nodes) = &each.items.content else { return None };
    let planned = planned(each);
    if let Some(text) = &planned.key {
        // A key that reads more than the item is known only in a run.
        let reads = expression::parse(text).ok()?.references;
        if template::is_template(text) || reads.iter().any(|read| read.root != "item") {
            return None;
        }
    }
    let scope = Scope::default();
    let mut seen = BTreeMap::new();
    let mut all = true;
    for node in nodes {
        let value = node.json();
        if template::has_template(&value) {
            all = false;
            continue;
        }
        let Item { key, .. } = match planned.item(value, &scope) {
            Ok(item) => item,
            Err(error) => {
                let finding = Diagnostic::error(BAD_ITEMS, node.span, error.message);
                found.push(match &planned.key {
                    Some(_) => finding,
                    None => finding.help("give each a key: `{items: …, key: item.name}`"),
                });
                all = false;
                continue;
            }
        };
        if let Some(first) = seen.get(&key) {
            let message = format!("two items have the key `{key}`");
            let finding =
                Diagnostic::error(BAD_ITEMS, node.span, message).label(*first, "first here");
            found.push(finding.help(match &planned.key {
                Some(_) => "a key that tells them apart reads more of the item",
                None => "remove one of the two",
            }));
        } else {
            seen.insert(key, node.span);
        }
    }
    all.then(|| seen.into_keys().collect())
}

/// Checks the expressions of the list and of its key, and answers what they read and the shapes that
/// an item may have.
pub(super) fn check(
    step: &StepSpec<'_>,
    each: &ForEachSpec<'_>,
    names: &Names<'_>,
    found: &mut Vec<Diagnostic>,
) -> (Vec<Read>, Vec<Value>) {
    let reader = |part| Reader::Step { id: step.id.as_str(), phase: step.phase, part };
    let whole = reader(Part::Whole);
    let mut reads = names.text(each.items, whole, found);
    let shapes = match &each.items.content {
        Content::List(nodes) => shapes(nodes, MAX_SHAPES, names, whole),
        Content::Text(leaf) => of_list(each.items, leaf, names, whole, found),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Map(_) => Vec::new(),
    };
    if let Some((node, text)) = each.key.and_then(|node| Some((node, node.text()?))) {
        let before = found.len();
        let (read, given) =
            names.bare(node, text, "the key of an item", reader(Part::Key(&shapes)), found);
        if let Some((schema, span)) = given
            && !schema::compatible(&schema, &json!({ "type": ["string", "number"] }))
        {
            let given = schema::describe(&schema);
            let message = format!("the key of an item is a text, and `{}` is {given}", text.trim());
            found.push(Diagnostic::error(WRONG_REFERENCE, span, message));
        } else if found.len() == before && read.iter().all(|read| read.reference.root != "item") {
            let message = "this key is the same for every item";
            let finding = Diagnostic::error(BAD_ITEMS, node.span, message);
            found.push(finding.help("read `item` in it, as in `item.name`"));
        }
        reads.extend(read);
    }
    (reads, shapes)
}

/// The shape of the items of a list that an expression gives.
fn of_list(
    node: &Node,
    leaf: &str,
    names: &Names<'_>,
    reader: Reader<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Value> {
    let LeafType::Known { schema, shown } = names.leaf_type(leaf, reader) else {
        return Vec::new();
    };
    if !schema::compatible(&schema, &json!({ "type": "array" })) {
        let message =
            format!("`for_each` wants a list, and `{shown}` is {}", schema::describe(&schema));
        found.push(Diagnostic::error(WRONG_REFERENCE, node.span, message));
        return Vec::new();
    }
    schema.get("items").filter(|items| items.is_object()).cloned().into_iter().collect()
}

/// The different shapes of `nodes`; none when there are more than `most`.
fn shapes(nodes: &[Node], most: usize, names: &Names<'_>, reader: Reader<'_>) -> Vec<Value> {
    let mut shapes = Vec::new();
    for node in nodes {
        let shape = shape(node, names, reader);
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
        if shapes.len() > most {
            return Vec::new();
        }
    }
    shapes
}

/// A schema that `node` fits, with everything in it that can be known.
pub(super) fn shape(node: &Node, names: &Names<'_>, reader: Reader<'_>) -> Value {
    match &node.content {
        Content::Null => json!({ "type": "null" }),
        Content::Bool(_) => json!({ "type": "boolean" }),
        Content::Number(number) if number.is_f64() => json!({ "type": "number" }),
        Content::Number(_) => json!({ "type": "integer" }),
        Content::Text(leaf) if template::is_template(leaf) => match names.leaf_type(leaf, reader) {
            LeafType::Known { schema, .. } => schema,
            LeafType::Text => json!({ "type": "string" }),
            LeafType::Secret | LeafType::Unknown => json!({}),
        },
        Content::Text(_) => json!({ "type": "string" }),
        Content::List(items) => {
            let mut inner = shapes(items, MAX_INNER_SHAPES, names, reader);
            match inner.len() {
                0 => json!({ "type": "array" }),
                1 => json!({ "type": "array", "items": inner.pop() }),
                _ => json!({ "type": "array", "items": { "anyOf": inner } }),
            }
        }
        Content::Map(entries) => {
            let properties: serde_json::Map<String, Value> = entries
                .iter()
                .map(|entry| (entry.key.clone(), shape(&entry.value, names, reader)))
                .collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
    }
}
