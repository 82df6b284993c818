//! What expressions may read: each reference is looked up before anything runs.
//!
//! `leaves` walks the texts of a file and checks each expression in them; `values` knows what
//! parameters, events, runs and items have, `outputs` what steps give, `nulls` what may be null.

mod leaves;
mod nulls;
mod outputs;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use fairlead_event::{TriggerKind, Triggers};
use serde_json::Value;

use crate::code::{UNKNOWN_ROOT, UNKNOWN_VALUE};
use crate::expression::{ROOTS, Reference};
use crate::suggest::{self, Slips};
use crate::{Code, Params, Phase, Severity, Source, Span};

/// Everything that expressions of one file may name.
pub(crate) struct Names<'a> {
    pub(crate) source: &'a Source,
    pub(crate) params: &'a Params,
    /// What starts the pipeline; nothing when `on` itself could not be read.
    pub(crate) triggers: Option<&'a Triggers>,
    /// The values that the file names, each with what is known of it.
    pub(crate) vars: BTreeMap<&'a str, Value>,
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
    /// The `when` of a filter of a trigger, counted from 0, before there is a run.
    Trigger { kind: TriggerKind, index: usize },
    /// What such a filter gives to parameters, before there is a run.
    Fill { kind: TriggerKind, index: usize },
    /// A value that the file names, when a run is requested.
    Var,
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
            Self::Trigger { .. } => &["event", "params"],
            Self::Fill { .. } => &["event"],
            Self::Var => &["params", "event", "vars"],
            Self::Group => &["params", "event", "vars", "run"],
            Self::Step { part, .. } => match part {
                Part::Each(_) | Part::Undo(Some(_)) => &ROOTS,
                Part::Key(_) => &["params", "event", "vars", "steps", "run", "item"],
                Part::Whole | Part::Undo(None) => {
                    &["params", "event", "vars", "steps", "run", "secrets"]
                }
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
            | Self::Var
            | Self::Fill { .. }
            | Self::Trigger { .. } => None,
        }
    }
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
    /// The schema of what `reference` gives; nothing when nothing is known of it.
    fn lookup(&self, reference: &Reference, reader: Reader<'_>) -> Result<Option<Value>, Problem> {
        let root = reference.root.as_str();
        if !reader.roots().contains(&root) {
            return Err(self.unknown_root(root, reader));
        }
        if let ("item" | "item_key", Some(shapes)) = (root, reader.items()) {
            return values::item(reference, shapes);
        }
        let Some(name) = reference.name(0) else {
            // All of `params`, `event` or `run` may be passed on, as with `| tojson`.
            let of_vars = root == "vars" && matches!(reader, Reader::Var);
            if root != "steps" && !of_vars && !reference.computed {
                return Ok(None);
            }
            let help = format!("write `{root}.<name>`, so that it can be checked");
            let message = format!("what this reads of `{root}` cannot be known beforehand");
            return Err(problem(UNKNOWN_VALUE, message, Some(help)));
        };
        match root {
            "params" => self.param(name, reference, reader),
            "event" => self.event(name, reference, reader),
            "vars" => self.var(name, reference),
            "run" => values::run_key(name, reader),
            _ => self.step(name, reference, reader),
        }
    }

    fn unknown_root(&self, root: &str, reader: Reader<'_>) -> Problem {
        let roots = reader.roots();
        let (message, help) = match (root, reader) {
            ("steps" | "run" | "secrets" | "vars", Reader::Trigger { .. }) => {
                let message = format!("there is no `{root}` before a run starts");
                (message, "a trigger's condition sees `event` and `params`".to_owned())
            }
            ("params", Reader::Fill { .. }) => {
                let message = "there are no `params` yet: this is what gives them".to_owned();
                (message, "what a trigger gives to parameters sees `event`".to_owned())
            }
            ("steps" | "run" | "secrets" | "vars", Reader::Fill { .. }) => {
                let message = format!("there is no `{root}` before a run starts");
                (message, "what a trigger gives to parameters sees `event`".to_owned())
            }
            ("steps" | "run" | "secrets", Reader::Var) => {
                let message = format!("there is no `{root}` when a run is asked for");
                (message, "`vars` see `params`, `event` and one another".to_owned())
            }
            ("steps", Reader::Group) => {
                let message = "no step has run when a run asks to be admitted".to_owned();
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

    /// The step whose name is most likely meant by `name`.
    pub(crate) fn near(&self, name: &str) -> Option<&str> {
        if self.slips.take() { suggest::nearest(name, self.steps.keys().copied()) } else { None }
    }
}
