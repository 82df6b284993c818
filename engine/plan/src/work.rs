//! What a step can be besides one attempt of one kind: a gate, a step for each item, a question that
//! is asked again, a result that is cached, work that can be taken back.
//!
//! These are stored as they stand here, within [`crate::StoredPlan::V2`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fairlead_step::{Digest, Effect, HumanDuration, StepId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::params::brief;
use crate::template::{self, Seen};
use crate::{RenderError, Retry, Scope};

/// A step without a kind: it waits until somebody or something lets the run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// People decide.
    Approval(Approval),
    /// Time decides.
    Wait(WaitFor),
}

impl Gate {
    /// What stands in the place of a step kind's name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Approval(_) => "approval",
            Self::Wait(_) => "wait",
        }
    }
}

/// Who must approve, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Users and groups whose members may vote. Never empty.
    pub from: Vec<String>,
    /// How many approvals it takes; at least 1. In order, it is the number of `from`.
    pub min: u32,
    /// Whether the entries of `from` approve one after another, in their order.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ordered: bool,
    /// How long it stays open; for ever when it is not given. An expired gate rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<HumanDuration>,
    /// Who may not vote although `from` has them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not: BTreeSet<Excluded>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Somebody who may not approve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Excluded {
    /// Who asked for the run.
    Requester,
    /// Who made what is released: the `actor` of the event that started the run.
    Builder,
    /// Whoever approved at another gate of the run.
    Approvers,
    /// This user, or the members of this group.
    Named(String),
}

impl From<String> for Excluded {
    fn from(word: String) -> Self {
        match word.as_str() {
            "requester" => Self::Requester,
            "builder" => Self::Builder,
            "approvers" => Self::Approvers,
            _ => Self::Named(word),
        }
    }
}

impl From<Excluded> for String {
    fn from(excluded: Excluded) -> Self {
        excluded.to_string()
    }
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Requester => "requester",
            Self::Builder => "builder",
            Self::Approvers => "approvers",
            Self::Named(name) => name,
        })
    }
}

/// The time that a gate waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// So long after it opened.
    Duration(HumanDuration),
    /// Until a moment: an RFC 3339 time, or a template that gives one.
    Until(String),
}

/// A step that asks until the answer is yes: while its kind rejects and there is time, it asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskAgain {
    /// How long after the first question a "no" is final.
    pub deadline: HumanDuration,
    /// The longest pause between two questions. Evidence that arrives shortens it.
    pub every: HumanDuration,
}

/// A step that is made once for each item of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForEach {
    /// The list: written down, or a text that is one whole expression.
    pub items: Value,
    /// The expression that gives an item's key, over `item`; the item itself when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many items are worked on at a time; all of them when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// The keys of the only items that are made, in their order, where not all of them are: those
    /// that are taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
}

impl ForEach {
    /// The most items of one step.
    pub const MOST: usize = 1000;

    /// The items, in order, each with its key. No two have the same.
    ///
    /// # Errors
    /// When the list is none or too long, a key is none, or stands twice.
    pub fn items(&self, scope: &Scope) -> Result<Vec<Item>, RenderError> {
        let fail = |message: String| RenderError { place: "for_each".to_owned(), message };
        let list = match &self.items {
            Value::String(text) => match template::whole(text) {
                Some(expression) => template::value_of("for_each", expression, scope.into())?,
                None => return Err(fail("it is a text, and not a list".to_owned())),
            },
            written @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => {
                template::render("for_each", written, scope.into())?.display().clone()
            }
        };
        let Value::Array(list) = list else {
            return Err(fail(format!("it wants a list, and this is {}", brief(&list))));
        };
        if list.len() > Self::MOST {
            let (count, most) = (list.len(), Self::MOST);
            return Err(fail(format!("it has {count} items, and at most {most} are made")));
        }
        let mut items: BTreeMap<String, Item> = BTreeMap::new();
        let mut order = Vec::with_capacity(list.len());
        for value in list {
            let item = self.item(value, scope)?;
            order.push(item.key.clone());
            if let Some(twice) = items.insert(item.key.clone(), item) {
                return Err(fail(format!("two items have the key `{}`", twice.key)));
            }
        }
        let kept = self.only.as_ref().unwrap_or(&order);
        let take = |key: &String| {
            items.remove(key).ok_or_else(|| fail(format!("there is no item `{key}` any more")))
        };
        kept.iter().map(take).collect()
    }

    /// `value` as an item, with its key.
    ///
    /// # Errors
    /// When the key is none.
    pub(crate) fn item(&self, value: Value, scope: &Scope) -> Result<Item, RenderError> {
        let fail = |message: String| RenderError { place: "for_each.key".to_owned(), message };
        let mut item = Item { key: String::new(), value };
        item.key = match &self.key {
            None => item.key_of_itself(),
            Some(text) => {
                let seen = Seen::item(scope, Some(&item));
                match template::value_of("for_each.key", text, seen)? {
                    Value::String(key) => key,
                    Value::Number(key) => key.to_string(),
                    other @ (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                        return Err(fail(format!(
                            "a key is a text, and this is {}",
                            brief(&other)
                        )));
                    }
                }
            }
        };
        if format!("s[{}]", item.key).parse::<StepId>().is_err() {
            let key = brief(&item.key.as_str().into());
            return Err(fail(format!(
                "{key} cannot be the key of an item: it has 1 to 63 letters, digits, `.`, `_` and \
                 `-`"
            )));
        }
        Ok(item)
    }
}

/// One item of a step with `for_each`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its stable key, the text in the brackets of `scan[web]`.
    pub key: String,
    /// Its value.
    pub value: Value,
}

impl Item {
    /// A short text is its own key, as far as its characters allow; anything else is told by its
    /// digest.
    fn key_of_itself(&self) -> String {
        let text = match &self.value {
            Value::String(text) => text.clone(),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => other.to_string(),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let plain = matches!(self.value, Value::String(_) | Value::Number(_) | Value::Bool(_));
        if plain && (1..=StepId::MOST).contains(&text.len()) && text.chars().all(good) {
            return text;
        }
        let digest = Digest::sha256(text.as_bytes());
        let short = &digest.hex()[..8];
        if !plain {
            return short.to_owned();
        }
        let kept: String = text.chars().map(|c| if good(c) { c } else { '-' }).take(40).collect();
        format!("{}-{short}", kept.trim_matches('-'))
    }
}

impl WaitFor {
    /// When a gate that opens at `now` lets the run on.
    ///
    /// # Errors
    /// When the moment is none.
    pub fn until(&self, now: Timestamp, scope: &Scope) -> Result<Timestamp, RenderError> {
        match self {
            Self::Duration(wait) => Ok(wait.after(now)),
            Self::Until(text) => {
                let rendered =
                    template::render("wait.until", &Value::String(text.clone()), scope.into())?;
                let text = rendered.display().as_str().unwrap_or_default();
                text.trim().parse().map_err(|_| RenderError {
                    place: "wait.until".to_owned(),
                    message: format!(
                        "`{}` is not a time such as 2026-11-25T08:00:00Z",
                        text.escape_debug()
                    ),
                })
            }
        }
    }
}

impl Concurrency {
    /// The longest name of a group, in bytes.
    pub const MOST_BYTES: usize = 200;

    /// The name of the group that a run over `scope` belongs to.
    ///
    /// # Errors
    /// When an expression reads what is not there, or what comes out is no text, has nothing but blanks
    /// in it, or is longer than 200 bytes.
    pub fn name(&self, scope: &Scope) -> Result<String, RenderError> {
        let fail = |message: String| RenderError { place: "concurrency.group".to_owned(), message };
        let rendered = template::render(
            "concurrency.group",
            &Value::String(self.group.clone()),
            scope.into(),
        )?;
        let name = match rendered.display() {
            Value::String(name) => name.clone(),
            Value::Null => String::new(),
            other @ (Value::Bool(_) | Value::Number(_)) => other.to_string(),
            other @ (Value::Array(_) | Value::Object(_)) => {
                return Err(fail(format!(
                    "the name of the group is a text, and `{}` gives {}",
                    self.group,
                    brief(other)
                )));
            }
        };
        // Runs that have nothing to do with each other would wait for each other.
        if name.trim().is_empty() {
            return Err(fail(format!(
                "the name of the group comes out empty: `{0}` gives no text; put a text of its own \
                 beside it, such as `turns-{0}`, or see to it that what it reads has a value",
                self.group
            )));
        }
        let (length, most) = (name.len(), Self::MOST_BYTES);
        if length > most {
            return Err(fail(format!(
                "the name of the group has {length} bytes, and at most {most} are taken; read \
                 something shorter in `{}`",
                self.group
            )));
        }
        Ok(name)
    }
}

/// A result of a `pure` kind that is cached, by the digests of all that went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// How long a result stands; as long as it is kept when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
}

/// How a step that passed is taken back, on request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// The step kind.
    pub kind: String,
    /// Its version when the plan was made.
    pub kind_version: String,
    /// What becomes of a lost attempt.
    pub effect: Effect,
    /// Its inputs; expressions see what the step itself saw, and its outputs.
    #[serde(default)]
    pub with: Value,
    /// How often it is tried again.
    pub retry: Retry,
    /// How long one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
}

/// Runs that must not go on at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// A template over `params`, `event` and `run` that gives the group's name.
    pub group: String,
    /// What a newcomer does to those before it.
    pub policy: ConcurrencyPolicy,
    /// How many runs of the group may go on at a time; at least 1.
    pub max: u32,
}

/// What happens when a group has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConcurrencyPolicy {
    /// Runs wait, and go on in the order in which they were requested.
    #[default]
    Queue,
    /// A newcomer takes the place of those that wait; the one that goes on ends by itself.
    Supersede,
    /// A newcomer also cancels those that go on.
    CancelRunning,
    /// A newcomer ends at once, rejected.
    Reject,
}

impl ConcurrencyPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Queue, Self::Supersede, Self::CancelRunning, Self::Reject];

    /// The word in YAML and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Supersede => "supersede",
            Self::CancelRunning => "cancel-running",
            Self::Reject => "reject",
        }
    }

    /// The policy called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

impl fmt::Display for ConcurrencyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
