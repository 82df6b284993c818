//! What expressions may read: each reference is looked up before anything runs.

use std::collections::BTreeMap;

use fairlead_event::{TriggerKind, Triggers};
use serde_json::{Value, json};

use crate::code::{
    BAD_EXPRESSION, CYCLE, MAY_BE_ABSENT, SECRET_MISUSE, UNKNOWN_FUNCTION, UNKNOWN_OUTPUT,
    UNKNOWN_ROOT, UNKNOWN_STEP, UNKNOWN_VALUE, WRONG_PHASE, WRONG_REFERENCE,
};
use crate::expression::{self, Expression, ROOTS, Reference};
use crate::inputs::LeafType;
use crate::schema::{self, Found};
use crate::template::{self, Piece};
use crate::yaml::{Content, Node};
use crate::{Code, Diagnostic, Outcome, Params, Phase, RUN_KEYS, Severity, Source, Span, suggest};

/// Everything that expressions of one file may name.
pub(crate) struct Names<'a> {
    pub(crate) source: &'a Source,
    pub(crate) params: &'a Params,
    /// What starts the pipeline; nothing when `on` itself could not be read.
    pub(crate) triggers: Option<&'a Triggers>,
    /// The steps by name: when they run, and what they give; nothing is known of what a step of an
    /// unknown kind gives.
    pub(crate) steps: BTreeMap<&'a str, (Phase, Option<&'a Value>)>,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader<'a> {
    /// A step.
    Step { id: &'a str, phase: Phase },
    /// The `when` of a trigger, before there is a run.
    Trigger(TriggerKind),
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
        self.leaves(node, reader, &mut reads, found);
        reads
    }

    fn leaves(
        &self,
        node: &Node,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) {
        match &node.content {
            Content::Text(leaf) if template::is_template(leaf) => match template::split(leaf) {
                Ok(pieces) => {
                    let whole = pieces.len() == 1;
                    for piece in pieces {
                        if let Piece::Expression { text, start } = piece {
                            self.expression(node, text, start, whole, reader, reads, found);
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
                items.iter().for_each(|item| self.leaves(item, reader, reads, found));
            }
            Content::Map(entries) => {
                for entry in entries {
                    if template::is_template(&entry.key) {
                        let message = "an expression cannot stand in a key";
                        found.push(Diagnostic::error(BAD_EXPRESSION, entry.key_span, message));
                    }
                    self.leaves(&entry.value, reader, reads, found);
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
        if let Some(inner) = template::whole(text) {
            let finding = Diagnostic::error(
                BAD_EXPRESSION,
                node.span,
                "a condition is an expression already, and takes no braces",
            );
            found.push(finding.help(format!("write `{}`", inner.trim())));
            return Vec::new();
        }
        let mut reads = Vec::new();
        let parsed = self.expression(node, text, 0, false, reader, &mut reads, found);
        if let (Some(Expression { plain: true, .. }), [only]) = (parsed, reads.as_slice())
            && let Ok(Some(schema)) = self.lookup(&only.reference, reader)
            && !schema::compatible(&schema, &json!({ "type": "boolean" }))
        {
            let message = format!(
                "a condition must be true or false, and `{}` is {}",
                text.trim(),
                schema::describe(&schema)
            );
            let finding = Diagnostic::error(WRONG_REFERENCE, only.span, message);
            found.push(finding.help("compare it with something: `… == \"…\"`"));
        }
        reads
    }

    #[expect(clippy::too_many_arguments, reason = "the place of an expression has many parts")]
    fn expression(
        &self,
        node: &Node,
        text: &str,
        start: usize,
        whole: bool,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Expression> {
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
                if !whole || template::secret_name(&parsed).is_none() {
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
        if !ROOTS.contains(&root) {
            let help = match suggest::nearest(root, ROOTS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match self.hyphenated(root) {
                    Some(id) => format!("a name with `-` is written `steps['{id}']`"),
                    None => {
                        format!("expressions see {}; a text stands in quotes", suggest::list(ROOTS))
                    }
                },
            };
            return Err(problem(UNKNOWN_ROOT, format!("there is no `{root}`"), Some(help)));
        }
        if let (Reader::Trigger(_), "steps" | "run" | "secrets") = (reader, root) {
            let message = format!("there is no `{root}` before a run starts");
            let help = "a trigger's condition sees `event` and `params`";
            return Err(problem(UNKNOWN_ROOT, message, Some(help.into())));
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

    /// A step whose name has a `-`, of which `part` is one side: the minus of `steps.a-b`.
    fn hyphenated(&self, part: &str) -> Option<&str> {
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
            (Reader::Step { .. }, Some(triggers)) => {
                triggers.filters().map(|filter| filter.kind).collect()
            }
            (Reader::Step { .. }, None) => return Ok(None),
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
        let Some((phase, outputs)) = self.steps.get(name) else {
            let names = || self.steps.keys().copied();
            let help = match (self.hyphenated(name), suggest::nearest(name, names())) {
                (Some(id), _) => format!("a name with `-` is written `steps['{id}']`"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("there are {}", suggest::list(names())),
            };
            return Err(problem(UNKNOWN_STEP, format!("there is no step `{name}`"), Some(help)));
        };
        if let Reader::Step { id, phase: own } = reader {
            if id == name {
                let message = format!("step `{name}` reads itself");
                return Err(problem(CYCLE, message, None));
            }
            if own < *phase {
                let (own, later) = (own.key(), phase.key());
                let message =
                    format!("`{name}` runs after every step under `{own}`, so none can read it");
                let help = format!("move `{name}` from `{later}` to `{own}`");
                return Err(problem(WRONG_PHASE, message, Some(help)));
            }
        }
        let Some(outputs) = outputs else { return Ok(None) };
        match reference.path.get(1..) {
            None | Some([]) => {
                if reference.computed {
                    let help = format!("write `steps.{name}.<output>`");
                    let message = "which output this reads cannot be known beforehand";
                    return Err(problem(UNKNOWN_OUTPUT, message, Some(help)));
                }
                Ok(Some((*outputs).clone()))
            }
            Some(path) => match schema::follow(outputs, path, outputs) {
                Found::Schema(schema) if !reference.computed => Ok(Some(schema)),
                Found::Schema(_) | Found::Open => Ok(None),
                Found::Missing { .. } if is_outcome(reference, outputs) => {
                    Ok(Some(json!({ "type": "string", "enum": Outcome::ALL.map(Outcome::name) })))
                }
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
            },
        }
    }

    /// Whether a read of a step is of its outcome and not of its outputs.
    pub(crate) fn reads_outcome(&self, reference: &Reference) -> bool {
        let step = reference.name(0).and_then(|name| self.steps.get(name));
        step.and_then(|(_, outputs)| *outputs).is_some_and(|outputs| is_outcome(reference, outputs))
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
