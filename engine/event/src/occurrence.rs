//! What happens within Fairlead itself: the time of a schedule comes, a run ends. No sender reports
//! these; a server that has one of them from elsewhere does not take it.

use fairlead_step::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::RunEnd;

/// The time of a schedule has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// The pipeline whose schedule it is.
    pub pipeline: String,
    /// Which of its schedules: see [`crate::Schedule::key`].
    pub schedule: String,
    /// The time that came, as the schedule has it: without the lateness that spreads runs.
    pub due: Timestamp,
    /// The same in the time zone of the schedule, as in `2026-03-29T03:00:00`.
    pub local: String,
    /// The expression that names it.
    pub cron: String,
    /// Its time zone.
    pub timezone: String,
    /// Whether no server was there when it came, and it is made up for.
    pub missed: bool,
}

/// A run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFinished {
    /// The run.
    pub run: RunId,
    /// Its pipeline.
    pub pipeline: String,
    /// How it ended.
    pub outcome: RunEnd,
    /// Who had asked for it.
    pub by: String,
    /// Its parameters, as its journal has them.
    pub params: Value,
    /// How many runs stand before it in the chain of runs that started one another.
    pub depth: u32,
    /// Whether it was kept from secrets: what it starts is, too.
    pub untrusted: bool,
}

impl RunFinished {
    /// The most runs that may start one another in a chain. What was meant to go on for longer is a
    /// loop of which nobody knew.
    pub const DEEPEST: u32 = 16;
}

impl Scheduled {
    pub(crate) fn template_value(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "due": self.due,
            "local": self.local,
            "cron": self.cron,
            "timezone": self.timezone,
            "missed": self.missed,
        })
    }
}

impl RunFinished {
    pub(crate) fn template_value(&self, kind: &str) -> Value {
        json!({
            "kind": kind,
            "run": self.run,
            "pipeline": self.pipeline,
            "outcome": self.outcome,
            "by": self.by,
            "params": self.params,
            "depth": self.depth,
            "trusted": !self.untrusted,
        })
    }
}
