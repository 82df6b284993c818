//! Drawings of a plan, as text: for the terminal, for Graphviz, for Markdown.

mod dot;
mod mermaid;
mod terminal;

use std::collections::BTreeMap;
use std::fmt;

use fairlead_step::StepId;
use serde_json::Value;

use crate::{Need, Outcome, PlanStep};

pub use dot::dot;
pub use mermaid::mermaid;
pub use terminal::terminal;

/// What a drawing says of a step beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepStatus {
    /// It waits for what it needs.
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Outcome),
}

impl StepStatus {
    const fn sign(self) -> char {
        match self {
            Self::Waiting => '○',
            Self::Running => '◐',
            Self::Ended(Outcome::Passed) => '✔',
            Self::Ended(Outcome::Rejected) => '✋',
            Self::Ended(Outcome::Skipped) => '↷',
            Self::Ended(Outcome::Failed) => '✘',
            Self::Ended(Outcome::Cancelled) => '■',
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.pad("waiting"),
            Self::Running => f.pad("running"),
            Self::Ended(outcome) => outcome.fmt(f),
        }
    }
}

/// The statuses to show; empty for a plan that is not run.
pub type Statuses = BTreeMap<StepId, StepStatus>;

/// The outcomes that an edge asks for, unless it just asks for `passed`.
fn condition(need: &Need) -> Option<String> {
    if need.outcomes.len() == Outcome::ALL.len() {
        return Some("ended".into());
    }
    if need.outcomes.iter().eq([&Outcome::Passed]) {
        return None;
    }
    Some(need.outcomes.iter().map(|outcome| outcome.name()).collect::<Vec<_>>().join(" or "))
}

/// A step's name, how often it is made, and its kind where that is another word.
fn title(step: &PlanStep) -> String {
    let times = match step.for_each.as_ref().map(|each| &each.items) {
        None => String::new(),
        Some(Value::Array(items)) => format!(" ×{}", items.len()),
        // How many there are is known when the list is.
        Some(_) => " ×n".to_owned(),
    };
    if step.id.as_str() == step.kind {
        format!("{}{times}", step.id)
    } else {
        format!("{}{times} ({})", step.id, step.kind)
    }
}
