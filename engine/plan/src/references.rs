//! What expressions may read: each reference is looked up before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_event::{TriggerKind, Triggers};
use serde_json::{Value, json};

use crate::code::{
    BAD_EXPRESSION, CYCLE, MAY_BE_ABSENT, SECRET_MISUSE, UNKNOWN_FUNCTION, UNKNOWN_OUTPUT,
    UNKNOWN_ROOT, UNKNOWN_STEP, UNKNOWN_VALUE, WRONG_PHASE, WRONG_REFERENCE,
};
use crate::expression::{self, Expression, Key, ROOTS, Reference};
use crate::inputs::LeafType;
use crate::schema::{self, Found};
use crate::suggest::{self, Slips};
use crate::template::{self, Piece};
use crate::yaml::{Content, Node};
use crate::{Code, Diagnostic, Outcome, Params, Phase, RUN_KEYS, Severity, Source, Span};

/// Everything that expressions of one file may name.
pub(crate) struct Names<'a> {
    pub(crate) source: &'a Source,
    pub(crate) params: &'a Params,
    /// What starts the pipeline; nothing when `on` itself could not be read.
    pub(crate) triggers: Option<&'a Triggers>,
    /// The steps by name.
    pub(crate) steps: BTreeMap<&'a str, StepNames<'a>>,
    /// How many more names are compared with those that are there.
    pub(crate) slips: Slips,
}

/// What is known of a step that expressions may read.
pub(crate) struct StepNames<'a> {
    /// When it runs.
    pub(crate) phase: Phase,
    /// What one attempt gives; nothing is known of what a step of an unknown kind gives.
    pub(crate) outputs: Option<&'a Value>,
    /// For a step with `for_each`: the keys of its items, as far as they are written down.
    pub(crate) items: Option<Option<&'a BTreeSet<String>>>,
}

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader<'a> {
    /// A step.
    Step { id: &'a str, phase: Phase, part: Part<'a> },
    /// The name of the group, when a run is requested.
    Group,
    /// The `when` of a trigger, before there is a run.
    Trigger(TriggerKind),
}

/// Which part of a step reads, and what it sees of the items. An item is known by the shapes that it
/// may have; no shape when nothing is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// What is there once for all items, or a step that has none.
    Whole,
    /// What is there for each item.
    Each(&'a [Value]),
    /// The expression that gives an item's key.
    Key(&'a [Value]),
    /// What takes the step back, for each item where it has some.
    Undo(Option<&'a [Value]>),
}

impl Reader<'_> {
    /// The names that an expression may begin with.
    fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Trigger(_) => &["event", "params"],
            Self::Group => &["params", "event", "run"],
            Self::Step { part, .. } => match part {
                Part::Each(_) | Part::Undo(Some(_)) => &ROOTS,
                Part::Key(_) => &["params", "event", "steps", "run", "item"],
                Part::Whole | Part::Undo(None) => &["params", "event", "steps", "run", "secrets"],
            },
        }
    }

    /// The shapes of the items, where there are any.
    const fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Step {
                part: Part::Each(items) | Part::Key(items) | Part::Undo(Some(items)),
                ..
            } => Some(items),
            Self::Step { part: Part::Whole | Part::Undo(None), .. }
            | Self::Group
            | Self::Trigger(_) => None,
        }
    }
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Place<'n> {
    node: &'n Node,
    /// Its first byte within the text.
    start: usize,
    /// Whether a secret may be read.
    secret: Allowed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// It may be the whole leaf.
    Whole,
    /// The leaf has more in it.
    Never,
    /// Nothing but inputs takes secrets.
    NoInput,
}

/// A reference with its place in the file.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) reference: Reference,
    pub(crate) span: Span,
}

struct Problem {
    code: Code,
    severity: Severity,
    message: String,
    help: Option<String>,
}

fn problem(code: Code, message: impl Into<String>, help: Option<String>) -> Problem {
    Problem { code, severity: Severity::Error, message: message.into(), help }
}

impl Names<'_> {
    /// Checks every expression in the leaves of `node`, and answers what they read.
    pub(crate) fn template(
        &self,
        node: &Node,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let mut reads = Vec::new();
        self.leaves(node, true, reader, &mut reads, found);
        reads
    }

    /// The same for what is no input, and so takes no secrets.
    pub(crate) fn text(
        &self,
        node: &Node,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let mut reads = Vec::new();
        self.leaves(node, false, reader, &mut reads, found);
        reads
    }

    fn leaves(
        &self,
        node: &Node,
        input: bool,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) {
        match &node.content {
            Content::Text(leaf) if template::is_template(leaf) => match template::split(leaf) {
                Ok(pieces) => {
                    let secret = match (input, pieces.len()) {
                        (false, _) => Allowed::NoInput,
                        (true, 1) => Allowed::Whole,
                        (true, _) => Allowed::Never,
                    };
                    for piece in pieces {
                        if let Piece::Expression { text, start } = piece {
                            let place = Place { node, start, secret };
                            self.expression(place, text, reader, reads, found);
                        }
                    }
                }
                Err(unclosed) => {
                    let span = node.part(self.source, unclosed.start, unclosed.start + 2);
                    let open = Diagnostic::error(BAD_EXPRESSION, span, "a `{{` has no `}}`");
                    found.push(open.help("to write two braces as they are: `{{ \"{{\" }}`"));
                }
            },
            Content::List(items) => {
                items.iter().for_each(|item| self.leaves(item, input, reader, reads, found));
            }
            Content::Map(entries) => {
                for entry in entries {
                    if template::is_template(&entry.key) {
                        let message = "an expression cannot stand in a key";
                        found.push(Diagnostic::error(BAD_EXPRESSION, entry.key_span, message));
                    }
                    self.leaves(&entry.value, input, reader, reads, found);
                }
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    /// Checks a condition: one expression without braces around it.
    pub(crate) fn condition(
        &self,
        node: &Node,
        text: &str,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let wanted = json!({ "type": "boolean" });
        let (reads, given) = self.bare(node, text, "a condition", reader, found);
        if let Some((schema, span)) = given.filter(|(given, _)| !schema::compatible(given, &wanted))
        {
            let message = format!(
                "a condition must be true or false, and `{}` is {}",
                text.trim(),
                schema::describe(&schema)
            );
            let finding = Diagnostic::error(WRONG_REFERENCE, span, message);
            found.push(finding.help("compare it with something: `… == \"…\"`"));
        }
        reads
    }

    /// Checks one expression without braces around it, called `what` in messages. Answers what it
    /// reads and, where it is one path of which something is known, the schema of that.
    pub(crate) fn bare(
        &self,
        node: &Node,
        text: &str,
        what: &str,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> (Vec<Read>, Option<(Value, Span)>) {
        if let Some(inner) = template::whole(text) {
            let message = format!("{what} is an expression already, and takes no braces");
            let finding = Diagnostic::error(BAD_EXPRESSION, node.span, message);
            found.push(finding.help(format!("write `{}`", inner.trim())));
            return (Vec::new(), None);
        }
        let mut reads = Vec::new();
        let place = Place { node, start: 0, secret: Allowed::NoInput };
        let parsed = self.expression(place, text, reader, &mut reads, found);
        let given = match (parsed, reads.as_slice()) {
            (Some(Expression { plain: true, .. }), [only]) => {
                let schema = self.lookup(&only.reference, reader).ok().flatten();
                schema.map(|schema| (schema, only.span))
            }
            (Some(_) | None, _) => None,
        };
        (reads, given)
    }

    fn expression(
        &self,
        place: Place<'_>,
        text: &str,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Expression> {
        let Place { node, start, secret } = place;
        let at = |from: usize, to: usize| node.part(self.source, start + from, start + to);
        let parsed = match expression::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let message = format!("`{}`: {}", text.trim(), error.message);
                found.push(Diagnostic::error(BAD_EXPRESSION, at(error.start, error.end), message));
                return None;
            }
        };
        for misuse in &parsed.misuses {
            let span = at(misuse.start, misuse.end);
            let finding = Diagnostic::error(UNKNOWN_FUNCTION, span, misuse.message.clone());
            found.push(finding.help(misuse.help.clone()));
        }
        for reference in &parsed.references {
            let span = at(reference.start, reference.end);
            if reference.root == "secrets" {
                if secret == Allowed::NoInput {
                    let message = "no secret can be read here";
                    let finding = Diagnostic::error(SECRET_MISUSE, span, message);
                    found.push(
                        finding.help("secrets are for inputs of steps that are made for them"),
                    );
                } else if secret == Allowed::Never || template::secret_name(&parsed).is_none() {
                    let message = "a secret stands alone: it cannot be part of a text or of an \
                                   expression";
                    let finding = Diagnostic::error(SECRET_MISUSE, span, message);
                    found.push(finding.help("write `{{ secrets.NAME }}` and nothing beside it"));
                }
                continue;
            }
            if let Err(problem) = self.lookup(reference, reader) {
                let mut finding = Diagnostic::error(problem.code, span, problem.message);
                finding.severity = problem.severity;
                finding.help = problem.help;
                found.push(finding);
            }
            reads.push(Read { reference: reference.clone(), span });
        }
        Some(parsed)
    }

    /// What is known of a leaf with an expression in it.
    pub(crate) fn leaf_type(&self, leaf: &str, reader: Reader<'_>) -> LeafType {
        let Some(text) = template::whole(leaf) else { return LeafType::Text };
        let Ok(parsed) = expression::parse(text) else { return LeafType::Unknown };
        if template::secret_name(&parsed).is_some() {
            return LeafType::Secret;
        }
        match parsed.references.as_slice() {
            [only] if parsed.plain => match self.lookup(only, reader) {
                Ok(Some(schema)) => LeafType::Known { schema, shown: text.trim().to_owned() },
                Ok(None) | Err(_) => LeafType::Unknown,
            },
            _ => LeafType::Unknown,
        }
    }

    /// The schema of what `reference` gives; nothing when nothing is known of it.
    fn lookup(&self, reference: &Reference, reader: Reader<'_>) -> Result<Option<Value>, Problem> {
        let root = reference.root.as_str();
        if !reader.roots().contains(&root) {
            return Err(self.unknown_root(root, reader));
        }
        if let ("item" | "item_key", Some(shapes)) = (root, reader.items()) {
            return item(reference, shapes);
        }
        let Some(name) = reference.name(0) else {
            // All of `params`, `event` or `run` may be passed on, as with `| tojson`.
            if root != "steps" && !reference.computed {
                return Ok(None);
            }
            let help = format!("write `{root}.<name>`, so that it can be checked");
            let message = format!("what this reads of `{root}` cannot be known beforehand");
            return Err(problem(UNKNOWN_VALUE, message, Some(help)));
        };
        match root {
            "params" => self.param(name, reference),
            "event" => self.event(name, reference, reader),
            "run" => run_key(name, reader),
            _ => self.step(name, reference, reader),
        }
    }

    fn unknown_root(&self, root: &str, reader: Reader<'_>) -> Problem {
        let roots = reader.roots();
        let (message, help) = match (root, reader) {
            ("steps" | "run" | "secrets", Reader::Trigger(_)) => {
                let message = format!("there is no `{root}` before a run starts");
                (message, "a trigger's condition sees `event` and `params`".to_owned())
            }
            ("steps", Reader::Group) => {
                let message = "no step has run when a run asks for its turn".to_owned();
                (message, "the name of a group sees `params`, `event` and `run`".to_owned())
            }
            ("item_key", Reader::Step { part: Part::Key(_), .. }) => {
                let message = "there is no `item_key` yet: this is what gives it".to_owned();
                (message, "read the key out of `item`".to_owned())
            }
            ("item" | "item_key", Reader::Step { .. }) => {
                let help = "`item` and `item_key` are there where a step with `for_each` is made for \
                            each item: under `with`, `when` and `on_undo`";
                (format!("there is no `{root}` here"), help.to_owned())
            }
            _ => {
                let help = match suggest::nearest(root, roots.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => match self.hyphenated(root) {
                        Some(id) => format!("a name with `-` is written `steps['{id}']`"),
                        None => format!(
                            "expressions see {}; a text stands in quotes",
                            suggest::list(roots.iter().copied())
                        ),
                    },
                };
                (format!("there is no `{root}`"), help)
            }
        };
        problem(UNKNOWN_ROOT, message, Some(help))
    }

    /// A step whose name has a `-`, of which `part` is one side: the minus of `steps.a-b`.
    fn hyphenated(&self, part: &str) -> Option<&str> {
        if !self.slips.take() {
            return None;
        }
        let around = |id: &str| {
            id.split_once('-').is_some_and(|(before, after)| before == part || after == part)
        };
        self.steps.keys().copied().find(|id| around(id))
    }

    fn param(&self, name: &str, reference: &Reference) -> Result<Option<Value>, Problem> {
        match self.params.get(name) {
            Some(param) if reference.path.len() == 1 => {
                Ok(Some(json!({ "type": param.kind.name() })))
            }
            Some(param) => Err(problem(
                UNKNOWN_VALUE,
                format!("parameter `{name}` is {}, with nothing in it", with_article(param.kind)),
                None,
            )),
            None => {
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

    fn event(
        &self,
        name: &str,
        reference: &Reference,
        reader: Reader<'_>,
    ) -> Result<Option<Value>, Problem> {
        let mut kinds: Vec<TriggerKind> = match (reader, self.triggers) {
            (Reader::Trigger(kind), _) => vec![kind],
            (Reader::Step { .. } | Reader::Group, Some(triggers)) => {
                triggers.filters().map(|filter| filter.kind).collect()
            }
            (Reader::Step { .. } | Reader::Group, None) => return Ok(None),
        };
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() {
            let message = "no event starts this pipeline, so `event` has nothing in it";
            return Err(problem(UNKNOWN_VALUE, message, Some("add a trigger under `on`".into())));
        }
        let field = |kind: &TriggerKind| kind.fields().iter().find(|field| field.name == name);
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

    fn step(
        &self,
        name: &str,
        reference: &Reference,
        reader: Reader<'_>,
    ) -> Result<Option<Value>, Problem> {
        let Some(step) = self.steps.get(name) else {
            let help = match (self.hyphenated(name), self.near(name)) {
                (Some(id), _) => format!("a name with `-` is written `steps['{id}']`"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("there are {}", suggest::list(self.steps.keys().copied())),
            };
            return Err(problem(UNKNOWN_STEP, format!("there is no step `{name}`"), Some(help)));
        };
        let mut of_item = false;
        if let Reader::Step { id, phase: own, part } = reader {
            if id == name && !matches!(part, Part::Undo(_)) {
                let message = format!("step `{name}` reads itself");
                return Err(problem(CYCLE, message, None));
            }
            // What takes an item back reads what that item gave.
            of_item = id == name && step.items.is_some();
            if own < step.phase {
                let (own, later) = (own.key(), step.phase.key());
                let message =
                    format!("`{name}` runs after every step under `{own}`, so none can read it");
                let help = format!("move `{name}` from `{later}` to `{own}`");
                return Err(problem(WRONG_PHASE, message, Some(help)));
            }
        }
        let path = reference.path.get(1..).unwrap_or_default();
        if path.is_empty() && reference.computed {
            let help = format!("write `steps.{name}.<output>`");
            let message = "which output this reads cannot be known beforehand";
            return Err(problem(UNKNOWN_OUTPUT, message, Some(help)));
        }
        match (&step.items, step.outputs) {
            (Some(keys), outputs) if !of_item => self.all_items(name, *keys, outputs, reference),
            (Some(_) | None, Some(outputs)) => output_of(name, outputs, path, reference),
            (Some(_) | None, None) => Ok(None),
        }
    }

    /// What is read of a step that is made for each item: `items` or `by_key`.
    fn all_items(
        &self,
        name: &str,
        keys: Option<&BTreeSet<String>>,
        outputs: Option<&Value>,
        reference: &Reference,
    ) -> Result<Option<Value>, Problem> {
        let path = reference.path.get(1..).unwrap_or_default();
        let each = || outputs.cloned().unwrap_or(Value::Bool(true));
        match path {
            [] => Ok(None),
            [Key::Name(list)] if list == "items" && !reference.computed => {
                Ok(Some(json!({ "type": "array", "items": each() })))
            }
            [Key::Name(map)] if map == "by_key" && !reference.computed => {
                Ok(Some(json!({ "type": "object", "additionalProperties": each() })))
            }
            [Key::Name(list)] if list == "items" || list == "by_key" => Ok(None),
            [Key::Name(list), Key::Index, rest @ ..] if list == "items" => match outputs {
                Some(outputs) => output_of(name, outputs, rest, reference),
                None => Ok(None),
            },
            [Key::Name(map), Key::Name(key), rest @ ..] if map == "by_key" => {
                if let Some(keys) = keys.filter(|keys| !keys.contains(key)) {
                    let names = || keys.iter().map(String::as_str);
                    let near =
                        if self.slips.take() { suggest::nearest(key, names()) } else { None };
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are {}", suggest::list(names())),
                    };
                    let message = format!("step `{name}` has no item `{key}`");
                    return Err(problem(UNKNOWN_OUTPUT, message, Some(help)));
                }
                match outputs {
                    Some(outputs) => output_of(name, outputs, rest, reference),
                    None => Ok(None),
                }
            }
            [Key::Name(outcome)] if outcome == "outcome" => Ok(Some(outcome_schema())),
            [Key::Name(list), ..] if list == "items" || list == "by_key" => {
                let message = format!("`steps.{name}.{list}` has no such part");
                let help =
                    format!("one item is `steps.{name}.items[0]`, or `steps.{name}.by_key.<key>`");
                Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
            }
            [first, ..] => {
                let (message, help) = match first {
                    Key::Index => (
                        format!("step `{name}` is a mapping, with `items` and `by_key` in it"),
                        format!("write `steps.{name}.items[0]`"),
                    ),
                    Key::Name(missing) => (
                        format!("step `{name}` has no output `{missing}` but one for each item"),
                        format!(
                            "`steps.{name}.items` is the list of what they gave, and \
                             `steps.{name}.by_key` has it by key"
                        ),
                    ),
                };
                Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
            }
        }
    }

    /// The step whose name is most likely meant by `name`.
    pub(crate) fn near(&self, name: &str) -> Option<&str> {
        if self.slips.take() { suggest::nearest(name, self.steps.keys().copied()) } else { None }
    }

    /// Whether a read of a step is of its outcome and not of its outputs.
    pub(crate) fn reads_outcome(&self, reference: &Reference) -> bool {
        let Some(step) = reference.name(0).and_then(|name| self.steps.get(name)) else {
            return false;
        };
        match (&step.items, step.outputs) {
            (Some(_), _) => reference.path.len() == 2 && reference.name(1) == Some("outcome"),
            (None, Some(outputs)) => is_outcome(reference, outputs),
            (None, None) => false,
        }
    }
}

/// Follows `path` into what a step gives.
fn output_of(
    name: &str,
    outputs: &Value,
    path: &[Key],
    reference: &Reference,
) -> Result<Option<Value>, Problem> {
    match schema::follow(outputs, path, outputs) {
        Found::Schema(schema) if !reference.computed => Ok(Some(schema)),
        Found::Schema(_) | Found::Open => Ok(None),
        Found::Missing { .. } if is_outcome(reference, outputs) => Ok(Some(outcome_schema())),
        Found::Missing { name: missing, known } => {
            let known = || known.iter().map(String::as_str);
            let help = match suggest::nearest(&missing, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known().len() == 0 => "it has no outputs".into(),
                None => format!("there are {}", suggest::list(known())),
            };
            let message = if path.len() == 1 {
                format!("step `{name}` has no output `{missing}`")
            } else {
                format!("this output of step `{name}` has no `{missing}`")
            };
            Err(problem(UNKNOWN_OUTPUT, message, Some(help)))
        }
    }
}

fn outcome_schema() -> Value {
    json!({ "type": "string", "enum": Outcome::ALL.map(Outcome::name) })
}

/// What is read of an item, which has one of `shapes`.
fn item(reference: &Reference, shapes: &[Value]) -> Result<Option<Value>, Problem> {
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

/// `steps.<id>.outcome`, unless the step has an output of that name.
fn is_outcome(reference: &Reference, outputs: &Value) -> bool {
    reference.path.len() == 2
        && reference.name(1) == Some("outcome")
        && outputs.pointer("/properties/outcome").is_none()
}

fn run_key(name: &str, reader: Reader<'_>) -> Result<Option<Value>, Problem> {
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

const fn with_article(kind: crate::ParamType) -> &'static str {
    match kind {
        crate::ParamType::String => "a text",
        crate::ParamType::Integer => "a whole number",
        crate::ParamType::Number => "a number",
        crate::ParamType::Boolean => "a boolean",
    }
}
