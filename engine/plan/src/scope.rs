//! What expressions see while a run goes on, and what rendering a step's input gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fairlead_step::{Secret, StepId};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::Outcome;

/// The values behind the roots `params`, `event`, `vars`, `steps` and `run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// What [`crate::Plan::bind`] answered, as [`crate::Params::seen`] shows it: an object.
    pub params: Value,
    /// What started the run, as the event describes itself; an empty object when nothing did.
    pub event: Value,
    /// The values that the pipeline names: see [`crate::Plan::scope`]. An object.
    pub vars: Value,
    /// The outputs of the steps that have some.
    pub steps: BTreeMap<StepId, Value>,
    /// How the steps that have ended did so; read as `steps.<id>.outcome`.
    pub outcomes: BTreeMap<StepId, Outcome>,
    /// The run itself: an object with the keys of [`RUN_KEYS`].
    pub run: Value,
}

impl Default for Scope {
    fn default() -> Self {
        let empty = || Value::Object(serde_json::Map::new());
        Self {
            params: empty(),
            event: empty(),
            vars: empty(),
            steps: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            run: empty(),
        }
    }
}

/// The keys of the root `run`, each a text, and whether only `finally` steps may read it.
pub const RUN_KEYS: [(&str, bool); 5] = [
    // The run's id.
    ("id", false),
    // The pipeline's name.
    ("pipeline", false),
    // Who or what asked for the run.
    ("by", false),
    // How the run ends: passed, rejected, failed, cancelled.
    ("outcome", true),
    // One line for people: the outcome, and the steps that made it so.
    ("summary", true),
];

/// Why an input could not be rendered, or a condition not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct RenderError {
    /// Where, such as `with.tags.0` or `when`.
    pub place: String,
    /// One lower-case sentence fragment.
    pub message: String,
}

/// A step's input with every expression filled in but the secrets: those are placeholders, so it
/// may be shown and journaled.
#[derive(Clone, PartialEq)]
pub struct RenderedInput {
    value: Value,
    /// The JSON pointer of each leaf that is a secret, and the secret's name.
    secrets: Vec<(String, String)>,
}

impl RenderedInput {
    /// An input of these parts: what [`RenderedInput::display`] and [`RenderedInput::places`] answer.
    #[must_use]
    pub const fn new(value: Value, secrets: Vec<(String, String)>) -> Self {
        Self { value, secrets }
    }

    /// The JSON pointer of each leaf that is a secret, and the secret's name.
    #[must_use]
    pub fn places(&self) -> &[(String, String)] {
        &self.secrets
    }

    /// The names of the secrets to fill in.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&str> {
        self.secrets.iter().map(|(_, name)| name.as_str()).collect()
    }

    /// The input as it may be shown: a secret reads `{{ secrets.NAME }}`.
    #[must_use]
    pub const fn display(&self) -> &Value {
        &self.value
    }

    /// The input to run with. A leaf is filled by its place, never by its text: a value that only
    /// looks like a placeholder stays what it is.
    ///
    /// # Errors
    /// The names of the secrets that `secret` did not know.
    pub fn fill(
        &self,
        mut secret: impl FnMut(&str) -> Option<Secret<String>>,
    ) -> Result<Value, Vec<String>> {
        let mut value = self.value.clone();
        let mut missing = BTreeSet::new();
        for (pointer, name) in &self.secrets {
            match (secret(name), value.pointer_mut(pointer)) {
                (Some(known), Some(leaf)) => *leaf = Value::String(known.expose().clone()),
                _ => {
                    missing.insert(name.clone());
                }
            }
        }
        if missing.is_empty() { Ok(value) } else { Err(missing.into_iter().collect()) }
    }

    /// The same for a look ahead: null stands for a secret that `secret` does not know.
    #[must_use]
    pub fn fill_known(&self, mut secret: impl FnMut(&str) -> Option<Secret<String>>) -> Value {
        let mut value = self.value.clone();
        for (pointer, name) in &self.secrets {
            if let Some(leaf) = value.pointer_mut(pointer) {
                *leaf = secret(name).map_or(Value::Null, |known| known.expose().as_str().into());
            }
        }
        value
    }
}

impl Serialize for RenderedInput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl fmt::Debug for RenderedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.value, f)
    }
}
