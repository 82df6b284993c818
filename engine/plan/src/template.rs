//! Templates: the text leaves of a value, with expressions in them.
//!
//! Only text leaves are filled, after parsing, so a value can make neither a key nor structure. A
//! leaf that is one whole expression keeps the type of its value; any other leaf becomes a text.

use std::collections::BTreeSet;

use fairlead_step::StepId;
use minijinja::value::{Value as Dynamic, ValueKind};
use serde_json::{Map, Number, Value};

use crate::expression::{self, Expression, Reference};
use crate::{Item, Outcome, RenderError, RenderedInput, Scope};

/// The most bytes one rendered leaf may have.
const MAX_LEAF_BYTES: usize = 1024 * 1024;
/// The most levels a rendered value may have.
const MAX_DEPTH: usize = 64;

/// A piece of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text that stays.
    Text(&'a str),
    /// The text between `{{` and `}}`, and where it begins within the leaf.
    Expression { text: &'a str, start: usize },
}

/// A `{{` without its `}}`, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unclosed {
    pub(crate) start: usize,
}

/// Splits a leaf. Quotes and brackets within an expression may hold braces.
pub(crate) fn split(leaf: &str) -> Result<Vec<Piece<'_>>, Unclosed> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(open) = leaf[at..].find("{{") {
        let open = at + open;
        let start = open + 2;
        let length = end_of_expression(&leaf[start..]).ok_or(Unclosed { start: open })?;
        if open > at {
            pieces.push(Piece::Text(&leaf[at..open]));
        }
        pieces.push(Piece::Expression { text: &leaf[start..start + length], start });
        at = start + length + 2;
    }
    if at < leaf.len() || pieces.is_empty() {
        pieces.push(Piece::Text(&leaf[at..]));
    }
    Ok(pieces)
}

fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut quote, mut depth, mut at) = (None, 0_usize, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{' | b'[' | b'(') => depth += 1,
            (None, b'}') if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, b'}' | b']' | b')') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// Whether a leaf has an expression in it.
pub(crate) fn is_template(leaf: &str) -> bool {
    leaf.contains("{{")
}

/// The one expression that a leaf is, if it is just that.
pub(crate) fn whole(leaf: &str) -> Option<&str> {
    match split(leaf).ok()?.as_slice() {
        [Piece::Expression { text, .. }] => Some(text),
        _ => None,
    }
}

/// The name behind `secrets.`, if the expression is just that.
pub(crate) fn secret_name(parsed: &Expression) -> Option<&str> {
    match parsed.references.as_slice() {
        [only] if parsed.plain && only.root == "secrets" && only.path.len() == 1 => only.name(0),
        _ => None,
    }
}

/// The names of the secrets that `value` reads.
pub(crate) fn secrets(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each_leaf(value, &mut |leaf| {
        if let Some(parsed) = whole(leaf).and_then(|text| expression::parse(text).ok()) {
            found.extend(secret_name(&parsed).map(str::to_owned));
        }
    });
    found
}

fn each_leaf(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(leaf) => {
            if is_template(leaf) {
                visit(leaf);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_leaf(item, visit)),
        Value::Object(map) => map.values().for_each(|item| each_leaf(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The run.
    pub(crate) scope: &'a Scope,
    /// The item that it is for, where the step has some.
    pub(crate) item: Option<&'a Item>,
    /// The step that is taken back: for an item, its outputs are those of that item.
    pub(crate) undoes: Option<&'a StepId>,
}

impl<'a> From<&'a Scope> for Seen<'a> {
    fn from(scope: &'a Scope) -> Self {
        Self { scope, item: None, undoes: None }
    }
}

impl<'a> Seen<'a> {
    /// With this item.
    pub(crate) const fn item(scope: &'a Scope, item: Option<&'a Item>) -> Self {
        Self { scope, item, undoes: None }
    }

    /// The name and the key of the item, when `id` is the step that is taken back item by item.
    fn own(&self, id: &StepId) -> Option<(StepId, &'a str)> {
        let item = self.item.filter(|_| self.undoes == Some(id))?;
        Some((id.item(&item.key).ok()?, &item.key))
    }

    fn outputs(&self, id: &StepId) -> Option<&'a Value> {
        let steps = &self.scope.steps;
        match self.own(id) {
            None => steps.get(id),
            Some((item, key)) => {
                steps.get(&item).or_else(|| steps.get(id)?.get("by_key")?.get(key))
            }
        }
    }

    fn outcome(&self, id: &StepId) -> Option<Outcome> {
        let outcomes = &self.scope.outcomes;
        let own = self.own(id).and_then(|(item, _)| outcomes.get(&item));
        own.or_else(|| outcomes.get(id)).copied()
    }
}

/// Fills `value`, called `place` in messages.
pub(crate) fn render(
    place: &str,
    value: &Value,
    seen: Seen<'_>,
) -> Result<RenderedInput, RenderError> {
    let mut reads = Vec::new();
    each_leaf(value, &mut |leaf| {
        for piece in split(leaf).unwrap_or_default() {
            if let Piece::Expression { text, .. } = piece
                && let Ok(parsed) = expression::parse(text)
            {
                reads.extend(parsed.references);
            }
        }
    });
    if reads.is_empty() && !has_template(value) {
        return Ok(RenderedInput::new(value.clone(), Vec::new()));
    }
    let mut rendering =
        Rendering { place, seen, context: context(seen, &reads), secrets: Vec::new() };
    let filled = rendering.value(value, &mut Vec::new())?;
    Ok(RenderedInput::new(filled, rendering.secrets))
}

/// Fills what can be known of `value` before its run begins: what reads parameters, the event, named
/// values and secrets alone. Null stands for the rest.
pub(crate) fn foresee(value: &Value, scope: &Scope) -> RenderedInput {
    fn fill(value: &Value, rendering: &mut Rendering<'_>, path: &mut Vec<String>) -> Value {
        match value {
            Value::String(leaf) if is_template(leaf) => {
                let known = split(leaf).unwrap_or_default().into_iter().all(|piece| match piece {
                    Piece::Text(_) => true,
                    Piece::Expression { text, .. } => is_foreseeable(text),
                });
                let filled = if known { rendering.leaf(leaf, path).ok() } else { None };
                filled.unwrap_or(Value::Null)
            }
            Value::Array(items) => {
                let mut filled = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    filled.push(fill(item, rendering, path));
                    path.pop();
                }
                Value::Array(filled)
            }
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, item) in map {
                    path.push(key.clone());
                    filled.insert(key.clone(), fill(item, rendering, path));
                    path.pop();
                }
                Value::Object(filled)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
    let seen = Seen::from(scope);
    let mut rendering =
        Rendering { place: "with", seen, context: context(seen, &[]), secrets: Vec::new() };
    let filled = fill(value, &mut rendering, &mut Vec::new());
    RenderedInput::new(filled, rendering.secrets)
}

/// Whether the value of an expression is known before its run begins.
fn is_foreseeable(text: &str) -> bool {
    let early =
        |read: &Reference| matches!(read.root.as_str(), "params" | "event" | "vars" | "secrets");
    expression::parse(text).is_ok_and(|parsed| parsed.references.iter().all(early))
}

/// What the condition `text` comes to, where that is known before its run begins.
pub(crate) fn foreseen_condition(text: &str, scope: &Scope) -> Option<bool> {
    is_foreseeable(text).then(|| condition("when", text, scope.into()).ok()).flatten()
}

/// Whether some leaf of `value` has an expression in it.
pub(crate) fn has_template(value: &Value) -> bool {
    let mut found = false;
    each_leaf(value, &mut |_| found = true);
    found
}

/// Decides the condition `text`, called `place` in messages.
pub(crate) fn condition(place: &str, text: &str, seen: Seen<'_>) -> Result<bool, RenderError> {
    let fail = |message: String| RenderError { place: place.to_owned(), message };
    let value = value_of(place, text, seen)?;
    value.as_bool().ok_or_else(|| {
        fail(format!(
            "a condition must give true or false, and this one gives {}",
            crate::params::brief(&value)
        ))
    })
}

/// The value of the expression `text`, called `place` in messages.
pub(crate) fn value_of(place: &str, text: &str, seen: Seen<'_>) -> Result<Value, RenderError> {
    let fail = |message: String| RenderError { place: place.to_owned(), message };
    let parsed = expression::parse(text).map_err(|error| fail(error.message))?;
    evaluate(text, &parsed, seen, context(seen, &parsed.references)).map_err(fail)
}

/// Whether the expression `text` reads the item that it is evaluated for.
pub(crate) fn reads_item(text: &str) -> bool {
    expression::parse(text).is_ok_and(|parsed| {
        parsed.references.iter().any(|read| matches!(read.root.as_str(), "item" | "item_key"))
    })
}

/// The roots, with no more steps in them than are read.
fn context(seen: Seen<'_>, reads: &[Reference]) -> Dynamic {
    let scope = seen.scope;
    let steps: BTreeSet<&str> =
        reads.iter().filter(|read| read.root == "steps").filter_map(|read| read.name(0)).collect();
    let steps = steps.into_iter().filter_map(|id| {
        let id: StepId = id.parse().ok()?;
        let mut outputs = match seen.outputs(&id) {
            Some(Value::Object(outputs)) => outputs.clone(),
            _ => Map::new(),
        };
        if let Some(outcome) = seen.outcome(&id) {
            outputs.entry("outcome").or_insert_with(|| outcome.name().into());
        }
        Some((id.to_string(), to_dynamic(&Value::Object(outputs))))
    });
    let mut roots = vec![
        ("params", to_dynamic(&scope.params)),
        ("event", to_dynamic(&scope.event)),
        ("vars", to_dynamic(&scope.vars)),
        ("run", to_dynamic(&scope.run)),
        ("steps", Dynamic::from_pairs(steps)),
    ];
    if let Some(item) = seen.item {
        roots.push(("item", to_dynamic(&item.value)));
        roots.push(("item_key", Dynamic::from(item.key.as_str())));
    }
    Dynamic::from_pairs(roots)
}

fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::from(()),
        Value::Bool(flag) => Dynamic::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Dynamic::from(number),
            (None, Some(number)) => Dynamic::from(number),
            (None, None) => Dynamic::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Dynamic::from(text.as_str()),
        Value::Array(items) => items.iter().map(to_dynamic).collect(),
        Value::Object(map) => {
            Dynamic::from_pairs(map.iter().map(|(key, item)| (key.as_str(), to_dynamic(item))))
        }
    }
}

fn to_json(value: &Dynamic, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("its value has more than {MAX_DEPTH} levels"));
    }
    match value.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => {
            if value.is_integer() {
                return match (i64::try_from(value.clone()), u64::try_from(value.clone())) {
                    (Ok(number), _) => Ok(number.into()),
                    (Err(_), Ok(number)) => Ok(number.into()),
                    (Err(_), Err(_)) => Err("its value is a number beyond 64 bits".into()),
                };
            }
            f64::try_from(value.clone())
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number)
                .ok_or_else(|| "its value is not a finite number".into())
        }
        ValueKind::String => Ok(Value::String(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| error.to_string())?;
            items.map(|item| to_json(&item, depth + 1)).collect()
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let Some(name) = key.as_str() else {
                    return Err("its value is a mapping with a key that is not a text".into());
                };
                let item = value.get_item(&key).map_err(|error| error.to_string())?;
                map.insert(name.to_owned(), to_json(&item, depth + 1)?);
            }
            Ok(Value::Object(map))
        }
        ValueKind::Undefined => Err("it reads what is not there".into()),
        ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _ => {
            Err("its value has no form in JSON".into())
        }
    }
}

/// Evaluates one expression, and says what it missed when something was not there.
fn evaluate(
    text: &str,
    parsed: &Expression,
    seen: Seen<'_>,
    context: Dynamic,
) -> Result<Value, String> {
    expression::evaluate(text, context).and_then(|value| to_json(&value, 0)).map_err(|error| {
        match parsed.references.iter().find_map(|read| absent(read, seen)) {
            Some(cause) => format!("`{}`: {cause}", text.trim()),
            None => format!("`{}`: {error}", text.trim()),
        }
    })
}

/// Why `read` has no value, if it has none.
fn absent(read: &Reference, seen: Seen<'_>) -> Option<String> {
    if read.guarded {
        return None;
    }
    let scope = seen.scope;
    let name = read.name(0)?;
    let missing = |root: &Value| root.get(name).is_none();
    match read.root.as_str() {
        "params" if missing(&scope.params) => Some(format!("there is no parameter `{name}`")),
        "event" if missing(&scope.event) => Some(format!("this run's event has no `{name}`")),
        "vars" if missing(&scope.vars) => Some(format!("there is no `vars.{name}`")),
        "item" if seen.item.is_some_and(|item| missing(&item.value)) => {
            Some(format!("this item has no `{name}`"))
        }
        "run" if missing(&scope.run) => Some(format!("`run` has no `{name}` yet")),
        "steps" => {
            let id: StepId = name.parse().ok()?;
            let output = read.name(1).filter(|output| *output != "outcome")?;
            let given = seen.outputs(&id).and_then(|outputs| outputs.get(output));
            if given.is_some() {
                return None;
            }
            Some(match seen.outcome(&id) {
                None => format!("step `{id}` has not ended, so it has no `{output}`"),
                Some(outcome) => format!("step `{id}` ended {outcome} and gave no `{output}`"),
            })
        }
        _ => None,
    }
}

struct Rendering<'a> {
    place: &'a str,
    seen: Seen<'a>,
    context: Dynamic,
    secrets: Vec<(String, String)>,
}

impl Rendering<'_> {
    fn value(&mut self, value: &Value, path: &mut Vec<String>) -> Result<Value, RenderError> {
        match value {
            Value::String(leaf) if is_template(leaf) => self.leaf(leaf, path).map_err(|message| {
                let place = std::iter::once(self.place).chain(path.iter().map(String::as_str));
                RenderError { place: place.collect::<Vec<_>>().join("."), message }
            }),
            Value::Array(items) => {
                let mut filled = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    filled.push(self.value(item, path)?);
                    path.pop();
                }
                Ok(Value::Array(filled))
            }
            Value::Object(map) => {
                let mut filled = Map::new();
                for (key, item) in map {
                    path.push(key.clone());
                    filled.insert(key.clone(), self.value(item, path)?);
                    path.pop();
                }
                Ok(Value::Object(filled))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
        }
    }

    fn leaf(&mut self, leaf: &str, path: &[String]) -> Result<Value, String> {
        let pieces = split(leaf).map_err(|_| "a `{{` has no `}}`".to_owned())?;
        if let [Piece::Expression { text, .. }] = pieces.as_slice() {
            let parsed = expression::parse(text).map_err(|error| error.message)?;
            if let Some(name) = secret_name(&parsed) {
                let mut pointer = String::new();
                for key in path {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                self.secrets.push((pointer, name.to_owned()));
                return Ok(Value::String(format!("{{{{ secrets.{name} }}}}")));
            }
            return evaluate(text, &parsed, self.seen, self.context.clone());
        }
        let mut filled = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Expression { text, .. } => {
                    let parsed = expression::parse(text).map_err(|error| error.message)?;
                    match evaluate(text, &parsed, self.seen, self.context.clone())? {
                        Value::String(part) => filled.push_str(&part),
                        part @ (Value::Bool(_) | Value::Number(_)) => {
                            filled.push_str(&part.to_string());
                        }
                        Value::Null => {
                            return Err(format!(
                                "`{}` is null, and a text cannot hold that",
                                text.trim()
                            ));
                        }
                        Value::Array(_) | Value::Object(_) => {
                            return Err(format!(
                                "`{}` is a list or a mapping within a text; add `| join(\",\")` \
                                 or `| tojson`",
                                text.trim()
                            ));
                        }
                    }
                }
            }
            if filled.len() > MAX_LEAF_BYTES {
                return Err(format!("the text is longer than {MAX_LEAF_BYTES} bytes"));
            }
        }
        Ok(Value::String(filled))
    }
}
