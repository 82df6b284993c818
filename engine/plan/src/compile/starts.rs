//! What starts the pipeline, beyond the shape of each filter: conditions, what an event gives to
//! parameters, times, and what people may give.

use std::collections::BTreeSet;

use fairlead_event::{TriggerKind, Triggers};
use fairlead_step::HumanDuration;
use serde_json::{Value, json};

use crate::code::{BAD_FILL, BAD_SCHEDULE, BAD_TRIGGER, MISSING_KEY, OWN_RUNS, UNBOUND_PARAM};
use crate::inputs::LeafType;
use crate::nulls::{self, Known};
use crate::references::{Names, Reader};
use crate::spec::Spec;
use crate::timetable::{cron_of, shortest_interval, zone_of};
use crate::triggers::Filter;
use crate::yaml::{Content, Entry, Node};
use crate::{Diagnostic, Param, ParamType, Params, Span, schema, suggest, template};

/// Checks every filter.
pub(super) fn check(
    spec: &Spec<'_>,
    triggers: &Triggers,
    filters: &[Filter<'_>],
    names: &Names<'_>,
    found: &mut Vec<Diagnostic>,
) {
    for filter in filters {
        let (kind, index) = (filter.kind, filter.index);
        let when = filter.node.get("when").map(|entry| &entry.value);
        if let Some((node, text)) = when.and_then(|node| Some((node, node.text()?))) {
            let reader = Reader::Trigger { kind, index };
            names.condition(node, text, reader, found);
            names.nulls_of_bare(node, text, reader, &Known::default(), found);
        }
        if let Some(Entry { value: Node { content: Content::Map(entries), .. }, .. }) =
            filter.node.get("params")
        {
            let facts = when.and_then(Node::text).map_or_else(Known::default, nulls::facts);
            let reader = Reader::Fill { kind, index };
            entries.iter().for_each(|entry| fill(entry, names, (reader, &facts), found));
        }
        match kind {
            TriggerKind::Schedule => schedule(filter, found),
            TriggerKind::RunFinished => own_runs(spec, filter.node, found),
            TriggerKind::Manual => manual(filter.node, names.params, found),
            TriggerKind::Event => data_schema(filter.node, found),
            TriggerKind::Comment => comment_inputs(filter.node, names.params, found),
            TriggerKind::RegistryPush
            | TriggerKind::GitPush
            | TriggerKind::GitTag
            | TriggerKind::PullRequest
            | TriggerKind::Release
            | TriggerKind::RegistryDelete
            | TriggerKind::RegistryScan => {}
        }
    }
    unbound(spec, triggers, found);
}

/// The parameter that a filter speaks of.
fn param<'p>(
    name: &str,
    span: Span,
    params: &'p Params,
    found: &mut Vec<Diagnostic>,
) -> Option<&'p Param> {
    let known = params.get(name);
    if known.is_none() {
        let names = || params.iter().map(|param| param.name.as_str());
        let message = format!("the pipeline has no parameter `{name}`");
        let finding = Diagnostic::error(BAD_FILL, span, message);
        found.push(match suggest::nearest(name, names()) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None if names().len() == 0 => finding.help(format!("add `params: {{{name}: {{}}}}`")),
            None => finding.help(format!("there are {}", suggest::list(names()))),
        });
    }
    known
}

/// What an event gives to one parameter.
fn fill(
    Entry { key, key_span, value }: &Entry,
    names: &Names<'_>,
    (reader, known): (Reader<'_>, &Known),
    found: &mut Vec<Diagnostic>,
) {
    let before = found.len();
    names.text(value, reader, found);
    let Some(param) = param(key, *key_span, names.params, found) else { return };
    if found.len() > before {
        return;
    }
    let leaf = value.text().filter(|leaf| template::is_template(leaf));
    let Some(leaf) = leaf else {
        if let Err(problem) = param.accept(&value.json()) {
            let message = format!("parameter `{key}`: {problem}");
            found.push(Diagnostic::error(BAD_FILL, value.span, message));
        }
        return;
    };
    let given = match names.leaf_type(leaf, reader) {
        LeafType::Known { schema, shown } => Some((schema, format!("`{shown}`"))),
        LeafType::Text => Some((json!({ "type": "string" }), "this".to_owned())),
        LeafType::Secret | LeafType::Unknown => None,
    };
    let wanted = match param.kind {
        // Whether a text names an image is known when there is one.
        ParamType::Image => json!({ "type": "string" }),
        ParamType::String | ParamType::Integer | ParamType::Number | ParamType::Boolean => {
            param.kind.schema()
        }
    };
    if let Some((given, shown)) = given
        && !schema::compatible(&given, &wanted)
    {
        let message = format!(
            "parameter `{key}` is {}, and {shown} is {}",
            schema::describe(&wanted),
            schema::describe(&given)
        );
        let finding = Diagnostic::error(BAD_FILL, value.span, message);
        found.push(match param.kind {
            ParamType::String => finding.help("add `| string`"),
            ParamType::Integer => finding.help("add `| int`"),
            ParamType::Number => finding.help("add `| float`"),
            ParamType::Boolean => finding.help("add `| bool`"),
            ParamType::Image => finding,
        });
        return;
    }
    // Null leaves the parameter to its default, where it has one.
    if param.required() {
        names.nulls_of_text(value, reader, known, found);
    } else {
        names.nulls(value, reader, known, found);
    }
}

/// The times of a schedule.
fn schedule(filter: &Filter<'_>, found: &mut Vec<Diagnostic>) {
    let node = filter.node;
    if node.content == Content::Null {
        let message = "`schedule` has no `cron`";
        let finding = Diagnostic::error(MISSING_KEY, filter.key_span, message);
        found.push(finding.help("as in `schedule: {cron: \"0 3 * * *\"}`"));
        return;
    }
    let of = |key: &str| {
        let value = &node.get(key)?.value;
        Some((value.text()?, value.span))
    };
    if let Some((text, span)) = of("cron")
        && let Err(error) = cron_of(text)
    {
        let finding = Diagnostic::error(BAD_SCHEDULE, span, error);
        found.push(
            finding.help(
                "minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`",
            ),
        );
    }
    // What is late by more than that would come behind the next time.
    if let (Some((cron, _)), Some((jitter, span))) = (of("cron"), of("jitter"))
        && let (Ok(cron), Ok(jitter)) = (cron_of(cron), jitter.parse::<HumanDuration>())
        && let Some(interval) = shortest_interval(&cron)
        && jitter.0 > interval
    {
        let interval = HumanDuration(interval);
        let message = format!(
            "a `jitter` of {jitter} is longer than the {interval} from one time to the next"
        );
        found.push(Diagnostic::error(BAD_SCHEDULE, span, message));
    }
    if let Some((text, span)) = of("timezone")
        && zone_of(text).is_none()
    {
        let message = format!("there is no time zone `{}`", text.escape_debug());
        let finding = Diagnostic::error(BAD_SCHEDULE, span, message);
        found.push(finding.help("write its IANA name, as in `Europe/Berlin` or `UTC`"));
    }
}

/// The schema of the data of events.
fn data_schema(node: &Node, found: &mut Vec<Diagnostic>) {
    let Some(Entry { value, .. }) = node.get("schema") else { return };
    if let Err(error) = jsonschema::draft202012::new(&value.json()) {
        let message = format!("`schema` of `event` is no JSON Schema: {error}");
        found.push(Diagnostic::error(BAD_TRIGGER, value.span, message));
    }
}

/// The parameters that a comment may give.
fn comment_inputs(node: &Node, params: &Params, found: &mut Vec<Diagnostic>) {
    let Some(Entry { value: Node { content: Content::List(names), .. }, .. }) = node.get("inputs")
    else {
        return;
    };
    for name in names {
        if let Some(text) = name.text() {
            param(text, name.span, params, found);
        }
    }
}

/// The end of a run starts no run of its own pipeline.
fn own_runs(spec: &Spec<'_>, node: &Node, found: &mut Vec<Diagnostic>) {
    let (Some(own), Some(entry)) = (&spec.name, node.get("pipeline")) else { return };
    let patterns = match &entry.value.content {
        Content::List(items) => items.iter().collect(),
        Content::Null
        | Content::Bool(_)
        | Content::Number(_)
        | Content::Text(_)
        | Content::Map(_) => vec![&entry.value],
    };
    if let Some(pattern) = patterns.into_iter().find(|pattern| pattern.text() == Some(own)) {
        let message = format!("`{own}` is this pipeline, and its own runs do not start it");
        let finding = Diagnostic::error(OWN_RUNS, pattern.span, message);
        found.push(finding.help("name the pipeline whose runs it is to wait for"));
    }
}

/// What a request may give.
fn manual(node: &Node, params: &Params, found: &mut Vec<Diagnostic>) {
    let Some(Entry { value: Node { content: Content::Map(inputs), .. }, key_span, .. }) =
        node.get("inputs")
    else {
        return;
    };
    let mut named = BTreeSet::new();
    for Entry { key, key_span, value } in inputs {
        named.insert(key.as_str());
        let Some(param) = param(key, *key_span, params, found) else { continue };
        let choices = value.get("enum").map(|entry| &entry.value);
        if let Some(Node { content: Content::List(items), .. }) = choices {
            for item in items {
                if let Err(problem) = param.accept(&item.json()) {
                    let message = format!("input `{key}`: {problem}");
                    found.push(Diagnostic::error(BAD_FILL, item.span, message));
                }
            }
        }
        let Some(default) = value.get("default").map(|entry| &entry.value) else { continue };
        let accepted = param.accept(&default.json());
        let offered = choices.map(Node::json);
        let offered = offered.as_ref().and_then(Value::as_array);
        let problem = match (accepted, offered) {
            (Err(problem), _) => Some(problem),
            (Ok(value), Some(offered)) if !offered.contains(&value) => {
                Some("is not one of those that may be given".to_owned())
            }
            (Ok(_), _) => None,
        };
        if let Some(problem) = problem {
            let message = format!("input `{key}`: its default {problem}");
            found.push(Diagnostic::error(BAD_FILL, default.span, message));
        }
    }
    let lacking = params.iter().filter(|param| param.required());
    let lacking: Vec<&str> =
        lacking.map(|param| param.name.as_str()).filter(|name| !named.contains(name)).collect();
    if !lacking.is_empty() {
        let message = format!(
            "no request can start this pipeline: {} must be given, and may not be",
            suggest::list(lacking)
        );
        found.push(Diagnostic::warning(UNBOUND_PARAM, *key_span, message));
    }
}

/// An event starts a run without asking anybody.
fn unbound(spec: &Spec<'_>, triggers: &Triggers, found: &mut Vec<Diagnostic>) {
    for (param, span) in spec.params.iter().filter(|(param, _)| param.required()) {
        let mut keys: Vec<&str> = (triggers.filters())
            // People and comments say what they want.
            .filter(|filter| !matches!(filter.kind, TriggerKind::Manual | TriggerKind::Comment))
            .filter(|filter| !filter.params.contains_key(&param.name))
            .map(|filter| filter.kind.key())
            .collect();
        keys.dedup();
        if keys.is_empty() {
            continue;
        }
        let message = format!(
            "parameter `{}` has no default, so {} can never start this pipeline",
            param.name,
            suggest::list(keys.iter().copied())
        );
        let finding = Diagnostic::warning(UNBOUND_PARAM, *span, message);
        found.push(finding.help("give it a default, or a value under `params` of the trigger"));
    }
}
