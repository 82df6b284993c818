//! From the journal of a run to what others are told of it. The same records always give the same messages,
//! with the same ids, whoever reads them and however often.

use std::collections::BTreeMap;

use fairlead_event::{
    CloudEvent, CommitState, CommitStatus, FINDING_REPORTED, IMAGE_BUILT, IMAGE_PROMOTED,
    RUN_ENDED, RUN_STARTED, STEP_ENDED,
};
use fairlead_plan::{Plan, RunOutcome};
use fairlead_run::{Record, Request, RunEvent, SkipReason, StepResult};
use fairlead_step::{RunId, StepId, Verdict, Workspace};
use serde_json::{Map, Value, json};

/// The most characters of a reason that is told.
const MAX_REASON: usize = 1000;
/// The most bytes of the outputs of a step that are told.
const MAX_OUTPUTS: usize = 64 << 10;

/// What is known of a run before any of its records is read.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) run: RunId,
    pub(super) pipeline: String,
    by: String,
    origin: Option<RunId>,
    event_id: Option<String>,
    source: String,
    /// The kind of each step.
    kinds: BTreeMap<StepId, String>,
    /// The commit that it is about: the source that knows it, the repository and the commit.
    pub(super) commit: Option<(String, String, String)>,
}

impl About {
    pub(super) fn of(run: &RunId, request: &Request, plan: &Plan) -> Self {
        let commit = match &request.workspace {
            Workspace::Git(git) => {
                Some((git.source.clone(), git.repository.clone(), git.commit.to_string()))
            }
            // What its pipeline is of is what it says something about.
            Workspace::Empty {} | Workspace::Archive { .. } | Workspace::Local { .. } => {
                commit_of(plan.source_name())
            }
        };
        Self {
            run: run.clone(),
            pipeline: request.pipeline.clone(),
            by: request.by.clone(),
            origin: request.origin.as_ref().map(|origin| origin.run.clone()),
            event_id: request.event_id.clone(),
            source: plan.source_name().to_owned(),
            kinds: plan.steps().iter().map(|it| (it.id.clone(), it.kind.to_string())).collect(),
            commit,
        }
    }

    /// The events that a record is, most have none.
    pub(super) fn events(&self, record: &Record, projects: &[&str]) -> Vec<CloudEvent> {
        let mut events = Vec::new();
        let mut tell = |kind: &str, suffix: &str, subject: String, more: Value| {
            let mut data = Map::from_iter([
                ("run".to_owned(), json!(self.run)),
                ("pipeline".to_owned(), json!(self.pipeline)),
                ("projects".to_owned(), json!(projects)),
            ]);
            if let Value::Object(more) = more {
                data.extend(more);
            }
            events.push(CloudEvent {
                id: format!("{}-{}{suffix}", self.run, record.seq().0),
                source: format!("/fairlead/pipelines/{}", self.pipeline),
                kind: kind.to_owned(),
                subject: Some(subject),
                time: Some(record.at()),
                data: Value::Object(data),
            });
        };
        let run = || self.run.to_string();
        let of = |step: &StepId| format!("{}/{step}", self.run);
        match record.event() {
            RunEvent::Requested(request) => {
                let more = json!({ "by": self.by, "event": self.event_id, "origin": self.origin,
                    "source": self.source, "commit": self.commit.as_ref().map(|it| &it.2),
                    "requested_by_kind": request.event.get("kind") });
                tell(RUN_STARTED, "", run(), more);
            }
            RunEvent::Finished { step, attempt, result, .. } => {
                let kind = self.kind(step);
                let (outcome, reason) = outcome(result);
                let more = json!({ "step": step, "kind": kind, "attempt": attempt,
                    "outcome": outcome, "reason": reason });
                tell(STEP_ENDED, "", of(step), more);
                if let StepResult::Verdict(verdict) = result {
                    let outputs = match verdict {
                        Verdict::Passed { outputs } | Verdict::Rejected { outputs, .. } => outputs,
                        Verdict::Skipped { .. } => &Value::Null,
                    };
                    let image = matches!(verdict, Verdict::Passed { .. })
                        .then(|| image(kind, outputs))
                        .flatten();
                    if let Some(kind) = image {
                        tell(kind, "-image", of(step), said(step, outputs));
                    }
                    if kind == "scan" {
                        let mut more = said(step, outputs);
                        more["outcome"] = json!(outcome);
                        more["reason"] = json!(reason);
                        tell(FINDING_REPORTED, "-finding", of(step), more);
                    }
                }
            }
            RunEvent::CacheHit { step, attempt, .. } => {
                let more = json!({ "step": step, "kind": self.kind(step), "attempt": attempt,
                    "outcome": "passed", "reason": "an earlier run has done the same" });
                tell(STEP_ENDED, "", of(step), more);
            }
            RunEvent::AttemptLost { step, attempt, reason } => {
                let more = json!({ "step": step, "kind": self.kind(step), "attempt": attempt,
                    "outcome": "lost", "reason": cut(reason) });
                tell(STEP_ENDED, "", of(step), more);
            }
            RunEvent::Skipped { step, reason } => {
                let more = json!({ "step": step, "kind": self.kind(step), "attempt": null,
                    "outcome": "skipped", "reason": skipped(reason) });
                tell(STEP_ENDED, "", of(step), more);
            }
            RunEvent::NotStarted { step, failure } => {
                let more = json!({ "step": step, "kind": self.kind(step), "attempt": null,
                    "outcome": "failed", "reason": cut(&failure.message) });
                tell(STEP_ENDED, "", of(step), more);
            }
            RunEvent::Ended { .. } | RunEvent::Abandoned { .. } => {
                let outcome = record.event().ends_as().map(RunOutcome::name);
                tell(RUN_ENDED, "", run(), json!({ "outcome": outcome, "by": self.by }));
            }
            RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::Started { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::CancelRequested { .. } => {}
        }
        events
    }

    fn kind(&self, step: &StepId) -> &str {
        let kind = self.kinds.get(step).or_else(|| {
            // An item of a step is of the step's kind.
            let planned = step.parts().0.parse().ok()?;
            self.kinds.get::<StepId>(&planned)
        });
        kind.map_or("", String::as_str)
    }

    /// The status of its commit that a record is; none of one that says nothing of it.
    pub(super) fn status(&self, record: &Record) -> Option<CommitStatus> {
        let (state, description) = if matches!(record.event(), RunEvent::Requested(_)) {
            (CommitState::Pending, "the run is under way")
        } else {
            match record.event().ends_as()? {
                RunOutcome::Passed => (CommitState::Success, "passed"),
                RunOutcome::Rejected => (CommitState::Failure, "rejected: a step's answer is no"),
                RunOutcome::Failed => (CommitState::Failure, "failed"),
                RunOutcome::Cancelled => (CommitState::Stopped, "cancelled"),
            }
        };
        let (_, repository, commit) = self.commit.clone()?;
        Some(CommitStatus {
            repository,
            commit,
            context: format!("fairlead/{}", self.pipeline),
            state,
            description: description.to_owned(),
            path: format!("/api/v1/runs/{}", self.run),
        })
    }
}

/// Whether others may be told anything of a record.
pub(super) const fn is_told(event: &RunEvent) -> bool {
    match event {
        RunEvent::Requested(_)
        | RunEvent::Finished { .. }
        | RunEvent::CacheHit { .. }
        | RunEvent::AttemptLost { .. }
        | RunEvent::Skipped { .. }
        | RunEvent::NotStarted { .. }
        | RunEvent::Ended { .. }
        | RunEvent::Abandoned { .. } => true,
        RunEvent::Resumed { .. }
        | RunEvent::Queued { .. }
        | RunEvent::Admitted
        | RunEvent::Expanded { .. }
        | RunEvent::GateOpened { .. }
        | RunEvent::Voted { .. }
        | RunEvent::GateDue { .. }
        | RunEvent::Woken { .. }
        | RunEvent::Settled { .. }
        | RunEvent::Started { .. }
        | RunEvent::RetryScheduled { .. }
        | RunEvent::CancelRequested { .. } => false,
    }
}

/// The commit that a pipeline of a repository is of, as the name of its source has it.
fn commit_of(source: &str) -> Option<(String, String, String)> {
    let (place, _) = source.split_once("@")?;
    let (name, repository) = place.split_once(':')?;
    let commit = source.strip_prefix(place)?.strip_prefix('@')?.split(':').next()?;
    let is_id = matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| (name.to_owned(), repository.to_owned(), commit.to_owned()))
}

/// The type of event that the outputs of a step of this kind are, where they are about an image of its own.
fn image(kind: &str, outputs: &Value) -> Option<&'static str> {
    let has_image = outputs.get("image").is_some_and(Value::is_string);
    match kind {
        "build" if has_image => Some(IMAGE_BUILT),
        "promote" if has_image => Some(IMAGE_PROMOTED),
        _ => None,
    }
}

/// A step and its outputs, unless those are too many.
fn said(step: &StepId, outputs: &Value) -> Value {
    let fits = outputs.to_string().len() <= MAX_OUTPUTS;
    json!({ "step": step, "outputs": if fits { outputs.clone() } else { Value::Null } })
}

fn outcome(result: &StepResult) -> (&'static str, Option<String>) {
    match result {
        StepResult::Verdict(Verdict::Passed { .. }) => ("passed", None),
        StepResult::Verdict(Verdict::Rejected { reason, .. }) => ("rejected", Some(cut(reason))),
        StepResult::Verdict(Verdict::Skipped { reason }) => ("skipped", Some(cut(reason))),
        StepResult::Failure(failure) => ("failed", Some(cut(&failure.message))),
        StepResult::TimedOut { after } => {
            ("timed_out", Some(format!("it ran longer than {after}")))
        }
        StepResult::Cancelled { message } => ("cancelled", Some(cut(message))),
    }
}

fn skipped(reason: &SkipReason) -> String {
    cut(&reason.to_string())
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_of_a_pipeline_is_read_from_its_name() {
        let commit = "a".repeat(40);
        let of = |text: &str| commit_of(text);
        assert_eq!(
            of(&format!("forge:acme/pipelines@{commit}:pipelines/a.yaml")),
            Some(("forge".to_owned(), "acme/pipelines".to_owned(), commit.clone()))
        );
        for other in ["pipelines/a.yaml", "a@b:c", "forge:x@main:y", "/srv/x@y.yaml", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
