//! What an implementation of the ports must keep, as suites that run against it. Each takes a
//! factory of empty stores and panics at the first promise that is broken.

mod admission;
mod audit;
mod deliveries;
mod driver;
mod events;
mod idempotency;
mod journal;
mod logs;
mod reopened;
mod result_cache;
mod signals;
mod tokens;

pub use audit::audit_log_conformance;
pub use deliveries::delivery_store_conformance;
pub use events::event_store_conformance;
pub use idempotency::idempotency_conformance;
pub use journal::journal_conformance;
pub use logs::log_store_conformance;
pub use reopened::reopened_conformance;
pub use result_cache::result_cache_conformance;
pub use tokens::token_store_conformance;

use fairlead_plan::Plan;
use fairlead_step::{RunId, Workspace};
use jiff::Timestamp;
use serde_json::json;

use crate::{Group, NewRun, Origin, PlanBlob, Purpose, Record, Request};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time")
}

fn run_id(number: u64) -> RunId {
    RunId::mint(1_790_000_000_000 + number, number)
}

/// A plan of one step.
fn plan() -> Plan {
    serde_json::from_value(json!({
        "format": "fairlead.dev/plan/v1",
        "name": "one",
        "source_name": "one.yaml",
        "source_digest": fairlead_step::Digest::sha256(b"one"),
        "steps": [{
            "id": "only", "kind": "fake", "kind_version": "1", "effect": "pure", "phase": "main",
            "retry": { "max": 0, "first": "1s", "cap": "1m", "on": "infra" },
            "on": ["passed", "rejected", "failed", "cancelled"],
        }],
    }))
    .expect("a stored plan")
}

/// A run of that plan, by the name of `pipeline`.
fn new_run(number: u64, pipeline: &str, started_by: Option<&str>) -> NewRun {
    let run = run_with(number, pipeline, None, None);
    NewRun { started_by: started_by.map(str::to_owned), ..run }
}

/// A run of that plan in a group.
fn run_in(number: u64, group: Group) -> NewRun {
    run_with(number, "one", Some(group), None)
}

/// A run of that plan that makes another one again.
fn run_again(number: u64, origin: RunId) -> NewRun {
    let origin = Origin { run: origin, purpose: Purpose::Retry, from: vec![], kept: vec![] };
    run_with(number, "one", None, Some(origin))
}

fn run_with(number: u64, pipeline: &str, group: Option<Group>, origin: Option<Origin>) -> NewRun {
    let plan = PlanBlob::of(&plan()).expect("a plan has a JSON form");
    let request = Request {
        pipeline: pipeline.to_owned(),
        plan: plan.digest().clone(),
        params: json!({ "n": number }),
        event: json!({}),
        event_id: None,
        by: "somebody".to_owned(),
        workspace: Workspace::local("/tmp"),
        engine: "0.0.0".to_owned(),
        group: group.as_ref().map(|group| group.name.clone()),
        origin,
    };
    let seconds = i64::try_from(number).expect("a small number");
    let first = Record::first(time(seconds), request).expect("a record");
    NewRun { id: run_id(number), plan, first, started_by: None, group }
}
