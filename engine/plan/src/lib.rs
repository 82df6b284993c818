//! Pipelines: YAML with spans, checked against the catalog, compiled to a [`Plan`] that cannot be
//! wrong. Pure: no I/O, no clock, no tasks. No stable API.

mod answer;
mod code;
mod compile;
mod diagnostic;
pub mod draw;
mod expression;
mod graph;
mod inputs;
mod json_schema;
mod nulls;
mod outcome;
mod params;
mod placement;
mod plan;
mod references;
mod schema;
mod scope;
mod source;
mod spec;
mod stored;
mod suggest;
mod template;
mod timetable;
mod triggers;
mod undo;
mod work;
mod yaml;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Pulled, Unfit, is_trusted};
pub use code::{CODES, Code, CodeInfo};
pub use compile::{Compiled, compile};
pub use diagnostic::{Diagnostic, Diagnostics, Fix, Label, Severity};
pub use json_schema::pipeline_schema;
pub use outcome::{Outcome, Phase, Retry, RetryOn, RunOutcome};
pub use params::{Param, ParamProblem, ParamType, Params};
pub use placement::{Placement, Resources};
pub use plan::{KindMismatch, Need, NeedFrom, Plan, PlanStep};
pub use scope::{RUN_KEYS, RenderError, RenderedInput, Scope};
pub use source::{MAX_SOURCE_BYTES, Source, Span};
pub use stored::{PlanV1, PlanV2, PlanV3, PlanV4, StoredPlan, StoredPlanError, newer_format};
pub use timetable::{Begun, Due, ScheduleError, Timetable};
pub use work::{
    Approval, AskAgain, Cache, Concurrency, ConcurrencyPolicy, Excluded, ForEach, Gate, Item, Undo,
    WaitFor,
};
