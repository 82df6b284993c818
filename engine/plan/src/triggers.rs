//! The `on:` block: each filter checked key by key, so that all of its errors are told at once.

use fairlead_event::{
    CommentFilter, EventFilter, GitPush, GitTag, Manual, PullRequestFilter, RegistryDelete,
    RegistryPush, RegistryScan, ReleaseFilter, RunFinishedFilter, Schedule, TriggerKind, Triggers,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::code::{BAD_TRIGGER, MISSING_KEY, UNKNOWN_KEY, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node, single};
use crate::{Diagnostic, Span, suggest};

/// A filter with its place.
pub(crate) struct Filter<'n> {
    pub(crate) kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub(crate) index: usize,
    /// What stands there.
    pub(crate) node: &'n Node,
    /// The key of the trigger.
    pub(crate) key_span: Span,
}

/// Reads the block. What is wrong is told, and left out of the answer.
pub(crate) fn read<'n>(
    node: Option<&'n Node>,
    found: &mut Vec<Diagnostic>,
) -> (Triggers, Vec<Filter<'n>>) {
    let mut triggers = Triggers::default();
    let mut all = Vec::new();
    let entries = match node.map(|node| &node.content) {
        None => return (triggers, all),
        Some(Content::Map(entries)) => entries,
        Some(_) => {
            let node = node.map_or_else(Default::default, |node| node.span);
            let message = "`on` wants a mapping of triggers";
            let finding = Diagnostic::error(WRONG_SHAPE, node, message);
            found.push(finding.help("as in `on: {manual: {}}`"));
            return (triggers, all);
        }
    };
    for Entry { key, key_span, value } in entries {
        let Some(kind) = TriggerKind::ALL.into_iter().find(|kind| kind.key() == key) else {
            let keys = TriggerKind::ALL.map(TriggerKind::key);
            let message = format!("there is no trigger `{key}`");
            let finding = Diagnostic::error(UNKNOWN_KEY, *key_span, message);
            found.push(match suggest::nearest(key, keys) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("there are {}", suggest::list(keys))),
            });
            continue;
        };
        let nodes = match &value.content {
            Content::List(items) => items.iter().collect(),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Map(_) => vec![value],
        };
        let nodes = nodes.into_iter().enumerate();
        all.extend(nodes.map(|(index, node)| Filter { kind, index, node, key_span: *key_span }));
        match kind {
            TriggerKind::RegistryPush => {
                let filters = filters::<RegistryPush>(key, value, found);
                triggers.registry_push = filters.into_iter().collect();
            }
            TriggerKind::GitPush => {
                let filters = filters::<GitPush>(key, value, found);
                triggers.git_push = filters.into_iter().collect();
            }
            TriggerKind::GitTag => {
                let filters = filters::<GitTag>(key, value, found);
                triggers.git_tag = filters.into_iter().collect();
            }
            TriggerKind::PullRequest => {
                let filters = filters::<PullRequestFilter>(key, value, found);
                triggers.git_pull_request = filters.into_iter().collect();
            }
            TriggerKind::Comment => {
                let filters = filters::<CommentFilter>(key, value, found);
                triggers.git_comment = filters.into_iter().collect();
            }
            TriggerKind::Release => {
                let filters = filters::<ReleaseFilter>(key, value, found);
                triggers.git_release = filters.into_iter().collect();
            }
            TriggerKind::RegistryDelete => {
                let filters = filters::<RegistryDelete>(key, value, found);
                triggers.registry_delete = filters.into_iter().collect();
            }
            TriggerKind::RegistryScan => {
                let filters = filters::<RegistryScan>(key, value, found);
                triggers.registry_scan = filters.into_iter().collect();
            }
            TriggerKind::Event => {
                let filters = filters::<EventFilter>(key, value, found);
                triggers.event = filters.into_iter().collect();
            }
            TriggerKind::Schedule => {
                let filters = filters::<Schedule>(key, value, found);
                triggers.schedule = filters.into_iter().collect();
            }
            TriggerKind::RunFinished => {
                let filters = filters::<RunFinishedFilter>(key, value, found);
                triggers.run_finished = filters.into_iter().collect();
            }
            TriggerKind::Manual => {
                let manual = match value.content {
                    Content::Null => None,
                    Content::Bool(_)
                    | Content::Number(_)
                    | Content::Text(_)
                    | Content::List(_)
                    | Content::Map(_) => filter::<Manual>(key, value, found),
                };
                triggers.manual = Some(manual.unwrap_or_default());
            }
        }
    }
    (triggers, all)
}

/// One filter or a list of them; nothing behind the key is a filter that lets everything in.
fn filters<T: DeserializeOwned + JsonSchema + Default>(
    key: &str,
    node: &Node,
    found: &mut Vec<Diagnostic>,
) -> Vec<T> {
    match &node.content {
        Content::List(items) => {
            // A broken filter still says which event the pipeline waits for.
            items.iter().map(|item| filter(key, item, found).unwrap_or_default()).collect()
        }
        Content::Null => vec![T::default()],
        Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::Map(_) => {
            vec![filter(key, node, found).unwrap_or_default()]
        }
    }
}

fn filter<T: DeserializeOwned + JsonSchema>(
    trigger: &str,
    node: &Node,
    found: &mut Vec<Diagnostic>,
) -> Option<T> {
    let Content::Map(entries) = &node.content else {
        let message = format!("`{trigger}` wants a mapping, and this is {}", node.describe());
        found.push(Diagnostic::error(WRONG_SHAPE, node.span, message));
        return None;
    };
    let schema = schemars::schema_for!(T);
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|list| list.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let required = schema.get("required").and_then(Value::as_array);
    let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    let before = found.len();
    for needed in &required {
        if node.get(needed).is_none() {
            let message = format!("`{trigger}` has no `{needed}`");
            found.push(Diagnostic::error(MISSING_KEY, node.span, message));
        }
    }
    for Entry { key, key_span, value } in entries {
        if !known.contains(&key.as_str()) {
            let message = format!("`{trigger}` has no key `{key}`");
            let finding = Diagnostic::error(UNKNOWN_KEY, *key_span, message);
            found.push(match suggest::nearest(key, known.iter().copied()) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None if known.is_empty() => finding.help("it has no settings"),
                None => finding.help(format!("it has {}", suggest::list(known.iter().copied()))),
            });
            continue;
        }
        // Each entry of a list is tried alone, so that each has its own place.
        let parts: Vec<(&Node, Value)> = match &value.content {
            Content::List(items) => {
                let alone = |(place, item): (usize, &'_ Node)| match (place, item.text()) {
                    // It takes away from what stands before it, and there is something.
                    (1.., Some(text)) if text.starts_with('!') => Value::from(&text[1..]),
                    _ => item.json(),
                };
                let each = items.iter().enumerate();
                each.map(|part| (part.1, Value::Array(vec![alone(part)]))).collect()
            }
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Map(_) => vec![(value, value.json())],
        };
        for (place, part) in parts {
            let mut alone = single(key, part);
            for needed in required.iter().filter(|needed| **needed != key) {
                // What the filter cannot do without is a text, and checked by itself.
                alone[*needed] = Value::from("");
            }
            if let Err(error) = serde_json::from_value::<T>(alone) {
                let message = format!("`{key}` of `{trigger}`: {error}");
                found.push(Diagnostic::error(BAD_TRIGGER, place.span, message));
            }
        }
    }
    if found.len() > before {
        return None;
    }
    match serde_json::from_value(node.json()) {
        Ok(filter) => Some(filter),
        Err(error) => {
            found.push(Diagnostic::error(BAD_TRIGGER, node.span, format!("`{trigger}`: {error}")));
            None
        }
    }
}
