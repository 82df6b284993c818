//! What Fairlead itself makes happen: the time of a schedule comes, a run ends, a person asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fairlead_step::HumanDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Fills, Misfit, misfit};
use crate::{Globs, RunFinished, Scheduled};

/// Times at which the pipeline runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When: minute, hour, day of the month, month and day of the week, as in `0 3 * * 1-5`; or
    /// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub cron: String,
    /// The time zone of `cron`, as in `Europe/Berlin`; UTC when left away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What becomes of times at which no server was there to see them.
    #[serde(default, skip_serializing_if = "Missed::is_default")]
    pub missed: Missed,
    /// The longest time by which a run is late, so that not all begin at once. How late the runs of a
    /// schedule are is always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<HumanDuration>,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What a run of this schedule is given, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

/// What becomes of times of a schedule at which no server was there to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing: the next time is soon enough.
    Skip,
    /// The last of them is made up for, with one run.
    #[default]
    Once,
    /// Each of them is made up for, with a run of its own.
    All,
}

impl Missed {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::Once)
    }
}

impl Schedule {
    /// What tells this schedule from another one of its pipeline: its times, and what its runs are
    /// given. How late they are, and what becomes of missed ones, may change without it.
    #[must_use]
    pub fn key(&self) -> String {
        let mut hasher = Sha256::new();
        let params = serde_json::to_string(&self.params).unwrap_or_default();
        let zone = self.timezone.as_deref().unwrap_or("UTC");
        let when = self.when.as_deref().unwrap_or_default();
        for fact in [self.cron.as_str(), zone, when, params.as_str()] {
            hasher.update((fact.len() as u64).to_be_bytes());
            hasher.update(fact.as_bytes());
        }
        hex::encode(&hasher.finalize()[..16])
    }

    pub(super) fn misfit<'e>(&self, due: &'e Scheduled) -> Option<Misfit<'e>> {
        if self.key() == due.schedule { None } else { misfit("schedule", due.cron.as_str()) }
    }
}

/// Runs that end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFinishedFilter {
    /// Runs of which pipelines: globs over the name. All but this one when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub pipeline: Globs,
    /// How they ended. All when left away.
    #[serde(default, deserialize_with = "ends", skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "ends_schema")]
    pub outcome: BTreeSet<RunEnd>,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the event gives to parameters, as templates over `event`.
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    pub params: Fills,
}

impl RunFinishedFilter {
    pub(super) fn misfit<'e>(&self, run: &'e RunFinished) -> Option<Misfit<'e>> {
        if !self.pipeline.is_match(&run.pipeline) {
            return misfit("pipeline", run.pipeline.as_str());
        }
        let fits = self.outcome.is_empty() || self.outcome.contains(&run.outcome);
        if fits { None } else { misfit("outcome", run.outcome.name()) }
    }
}

/// How a run ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RunEnd {
    /// Every step passed or was skipped.
    Passed,
    /// A step said no.
    Rejected,
    /// A step could not do its work.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl RunEnd {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Rejected, Self::Failed, Self::Cancelled];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One outcome, or a list of them.
fn ends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<RunEnd>, D::Error> {
    let read = Value::deserialize(deserializer)?;
    let list = if read.is_array() { read } else { Value::Array(vec![read]) };
    serde_json::from_value(list).map_err(de::Error::custom)
}

fn ends_schema(_: &mut SchemaGenerator) -> Schema {
    let names = RunEnd::ALL.map(RunEnd::name);
    json_schema!({
        "anyOf": [{ "enum": names }, { "type": "array", "items": { "enum": names }, "minItems": 1 }],
    })
}

/// Requests through the API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manual {
    /// The parameters that a request may give. All of them, as they are, when left away; the others
    /// have their defaults.
    #[serde(default, deserialize_with = "inputs", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, Option<ManualInput>>>")]
    pub inputs: Option<BTreeMap<String, ManualInput>>,
}

/// A parameter as a request may give it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManualInput {
    /// What stands for it when a request does not give it; what the parameter itself says when left
    /// away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What may be given, of what the parameter itself takes.
    #[serde(rename = "enum", default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `version:` with nothing behind it is an input all the same.
fn inputs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, ManualInput>>, D::Error> {
    let read = Option::<BTreeMap<String, Option<ManualInput>>>::deserialize(deserializer)?;
    let filled = |(name, input): (String, Option<ManualInput>)| (name, input.unwrap_or_default());
    Ok(Some(read.unwrap_or_default().into_iter().map(filled).collect()))
}
