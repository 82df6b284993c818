//! What expressions read of parameters, the event, the run and items.

use fairlead_event::TriggerKind;
use serde_json::{Value, json};

use super::{Names, Part, Problem, Reader, problem};
use crate::code::{MAY_BE_ABSENT, UNKNOWN_VALUE};
use crate::expression::Reference;
use crate::schema::{self, Found};
use crate::{ParamType, Phase, RUN_KEYS, Severity, suggest};

impl Names<'_> {
    pub(super) fn param(
        &self,
        name: &str,
        reference: &Reference,
        reader: Reader<'_>,
    ) -> Result<Option<Value>, Problem> {
        match (self.params.get(name), reader) {
            (Some(param), Reader::Trigger { .. } | Reader::Fill { .. })
                if param.kind == ParamType::Image =>
            {
                let message = format!(
                    "`params.{name}` is an image, and what it is becomes known only when the run is \
                     asked for"
                );
                let help = "decide about it in the `when` of a step";
                Err(problem(UNKNOWN_VALUE, message, Some(help.into())))
            }
            (Some(param), _) if reference.path.len() == 1 => Ok(Some(param.kind.schema())),
            (Some(param), _) => Err(problem(
                UNKNOWN_VALUE,
                format!("parameter `{name}` is {}, with nothing in it", with_article(param.kind)),
                None,
            )),
            (None, _) => {
                let names = || self.params.iter().map(|param| param.name.as_str());
                let help = match suggest::nearest(name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names().len() == 0 => format!("add `params: {{{name}: {{}}}}`"),
                    None => format!("there are {}", suggest::list(names())),
                };
                let message = format!("there is no parameter `{name}`");
                Err(problem(UNKNOWN_VALUE, message, Some(help)))
            }
        }
    }

    pub(super) fn var(&self, name: &str, reference: &Reference) -> Result<Option<Value>, Problem> {
        let Some(known) = self.vars.get(name) else {
            let names = || self.vars.keys().copied();
            let help = match suggest::nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names().len() == 0 => format!("add `vars: {{{name}: …}}`"),
                None => format!("there are {}", suggest::list(names())),
            };
            let message = format!("there is no `vars.{name}`");
            return Err(problem(UNKNOWN_VALUE, message, Some(help)));
        };
        let path = reference.path.get(1..).unwrap_or_default();
        match schema::follow(known, path, known) {
            Found::Schema(schema) if !reference.computed => Ok(Some(schema)),
            Found::Schema(_) | Found::Open => Ok(None),
            Found::Missing { .. } if reference.guarded => Ok(None),
            Found::Missing { name: missing, known } => {
                let known = || known.iter().map(String::as_str);
                let help = match suggest::nearest(&missing, known()) {
                    Some(near) => Some(format!("did you mean `{near}`?")),
                    None if known().len() == 0 => None,
                    None => Some(format!("it has {}", suggest::list(known()))),
                };
                let message = format!("`vars.{name}` has no `{missing}`");
                Err(problem(UNKNOWN_VALUE, message, help))
            }
        }
    }

    pub(super) fn event(
        &self,
        name: &str,
        reference: &Reference,
        reader: Reader<'_>,
    ) -> Result<Option<Value>, Problem> {
        let mut kinds: Vec<TriggerKind> = match (reader, self.triggers) {
            (Reader::Trigger { kind, .. } | Reader::Fill { kind, .. }, _) => vec![kind],
            (Reader::Step { .. } | Reader::Group | Reader::Var, Some(triggers)) => {
                triggers.filters().map(|filter| filter.kind).collect()
            }
            (Reader::Step { .. } | Reader::Group | Reader::Var, None) => return Ok(None),
        };
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() {
            let message = "no event starts this pipeline, so `event` has nothing in it";
            return Err(problem(UNKNOWN_VALUE, message, Some("add a trigger under `on`".into())));
        }
        if name == "data" && kinds == [TriggerKind::Event] {
            return self.data(reference, reader);
        }
        let field = |kind: &TriggerKind| kind.field(name);
        let lacking: Vec<&str> =
            kinds.iter().filter(|kind| field(kind).is_none()).map(|kind| kind.key()).collect();
        if lacking.len() == kinds.len() {
            let names = || kinds.iter().flat_map(|kind| kind.fields()).map(|field| field.name);
            let help = match suggest::nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", suggest::list(names())),
            };
            let message = format!("the event has no `{name}`");
            return Err(problem(UNKNOWN_VALUE, message, Some(help)));
        }
        if !lacking.is_empty() && !reference.guarded {
            return Err(Problem {
                code: MAY_BE_ABSENT,
                severity: Severity::Warning,
                message: format!(
                    "`event.{name}` is absent when {} starts the run",
                    suggest::list(lacking.iter().copied())
                ),
                help: Some(format!("write `event.{name} | default(…)`")),
            });
        }
        if reference.path.len() > 1 || !lacking.is_empty() {
            return Ok(None);
        }
        if kinds.iter().filter_map(field).any(|field| field.json_type == "any") {
            return Ok(None);
        }
        let mut schemas: Vec<Value> = kinds
            .iter()
            .filter_map(field)
            .map(|field| match field.format {
                Some(format) => json!({ "type": field.json_type, "format": format }),
                None => json!({ "type": field.json_type }),
            })
            .collect();
        schemas.dedup();
        Ok(if schemas.len() == 1 { schemas.pop() } else { Some(json!({ "anyOf": schemas })) })
    }
}

impl Names<'_> {
    /// What is read of the data of events: what their schemas say, where each has one.
    fn data(&self, reference: &Reference, reader: Reader<'_>) -> Result<Option<Value>, Problem> {
        let Some(triggers) = self.triggers else { return Ok(None) };
        let mine = |index: usize| match reader {
            Reader::Trigger { index: own, .. } | Reader::Fill { index: own, .. } => own == index,
            Reader::Step { .. } | Reader::Group | Reader::Var => true,
        };
        let filters = triggers.event.iter().enumerate().filter(|(index, _)| mine(*index));
        let mut given = Vec::new();
        for (_, filter) in filters {
            let Some(root) = &filter.schema else { return Ok(None) };
            let path = reference.path.get(1..).unwrap_or_default();
            match schema::follow(root, path, root) {
                Found::Schema(schema) => given.push(schema),
                Found::Open => return Ok(None),
                Found::Missing { .. } if reference.guarded => return Ok(None),
                Found::Missing { name, known } => {
                    let known = || known.iter().map(String::as_str);
                    let help = match suggest::nearest(&name, known()) {
                        Some(near) => Some(format!("did you mean `{near}`?")),
                        None if known().len() == 0 => None,
                        None => Some(format!("its schema has {}", suggest::list(known()))),
                    };
                    let message = format!("the data of the event has no `{name}`");
                    return Err(problem(UNKNOWN_VALUE, message, help));
                }
            }
        }
        given.dedup();
        Ok((given.len() == 1 && !reference.computed).then(|| given.pop()).flatten())
    }
}

/// What is read of an item, which has one of `shapes`.
pub(super) fn item(reference: &Reference, shapes: &[Value]) -> Result<Option<Value>, Problem> {
    if reference.root == "item_key" {
        return if reference.path.is_empty() && !reference.computed {
            Ok(Some(json!({ "type": "string" })))
        } else {
            Err(problem(UNKNOWN_VALUE, "`item_key` is a text, with nothing in it", None))
        };
    }
    let mut given = Vec::new();
    let mut lacking = None;
    for shape in shapes {
        match schema::follow(shape, &reference.path, shape) {
            Found::Schema(schema) => given.push(schema),
            Found::Open => given.push(Value::Bool(true)),
            Found::Missing { name, known } => lacking = Some((name, known)),
        }
    }
    match lacking {
        Some((name, known)) if !reference.guarded => {
            let known = || known.iter().map(String::as_str);
            let (message, help) = match suggest::nearest(&name, known()) {
                Some(near) => {
                    (format!("an item has no `{name}`"), format!("did you mean `{near}`?"))
                }
                None if !given.is_empty() => (
                    format!("not every item has `{name}`"),
                    format!("give each item one, or write `| default(…)` behind `{name}`"),
                ),
                None if known().len() == 0 => {
                    (format!("an item has no `{name}`"), "the items have nothing in them".into())
                }
                None => (
                    format!("an item has no `{name}`"),
                    format!("the items have {}", suggest::list(known())),
                ),
            };
            Err(problem(UNKNOWN_VALUE, message, Some(help)))
        }
        _ if reference.computed => Ok(None),
        // What may be absent has a value of its own then, of which nothing is known.
        Some(_) => Ok(None),
        None => Ok(match given.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            _ => Some(json!({ "anyOf": given })),
        }),
    }
}

pub(super) fn run_key(name: &str, reader: Reader<'_>) -> Result<Option<Value>, Problem> {
    let Some((_, at_end)) = RUN_KEYS.iter().find(|(key, _)| *key == name) else {
        let names = || RUN_KEYS.iter().map(|(key, _)| *key);
        let help = match suggest::nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", suggest::list(names())),
        };
        return Err(problem(UNKNOWN_VALUE, format!("`run` has no `{name}`"), Some(help)));
    };
    if let Reader::Step { part: Part::Undo(_), .. } = reader
        && *at_end
    {
        let message = format!("a run that takes steps back has no `run.{name}` for them");
        return Err(problem(UNKNOWN_VALUE, message, None));
    }
    if *at_end && !matches!(reader, Reader::Step { phase: Phase::OnFailure | Phase::Finally, .. }) {
        let message = format!("`run.{name}` is known only when every main step has ended");
        let help = "read it in a step under `on_failure` or `finally`";
        return Err(problem(UNKNOWN_VALUE, message, Some(help.into())));
    }
    Ok(Some(json!({ "type": "string" })))
}

const fn with_article(kind: ParamType) -> &'static str {
    match kind {
        ParamType::String => "a text",
        ParamType::Integer => "a whole number",
        ParamType::Number => "a number",
        ParamType::Boolean => "a boolean",
        ParamType::Image => "an image",
    }
}
