//! A world for one run: plans made by hand, a journal in a vector, and attempts that end when and as
//! a test says.

use std::sync::Arc;

use fairlead_plan::{Outcome, Plan};
use fairlead_run::{
    ApplyError, AttemptToken, CancelReason, Command, Epoch, Failure, KeptRecords, Origin, Record,
    Request, Run, RunEvent, StepResult, StepStatus, Vote, Voter,
};
use fairlead_step::{Digest, ErrorClass, RunId, StepId, Verdict, Workspace};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A step of a plan, as stored.
pub(crate) fn step(id: &str) -> Value {
    json!({
        "id": id, "kind": "fake", "kind_version": "1", "effect": "idempotent", "phase": "main",
        "needs": [],
        "retry": { "max": 0, "first": "2s", "cap": "1m", "on": "infra" },
        "on": ["passed", "rejected", "failed", "cancelled"],
    })
}

/// A need that accepts these outcomes.
pub(crate) fn need(id: &str, outcomes: &[Outcome]) -> Value {
    json!({ "step": id, "outcomes": outcomes, "from": "explicit" })
}

/// A step that runs when all of `needs` passed.
pub(crate) fn after(id: &str, needs: &[&str]) -> Value {
    let mut step = step(id);
    step["needs"] = needs.iter().map(|id| need(id, &[Outcome::Passed])).collect();
    step
}

/// A step under `finally`, for these outcomes of the run.
pub(crate) fn finally(id: &str, on: &[&str]) -> Value {
    let mut step = step(id);
    step["phase"] = "finally".into();
    step["on"] = on.into();
    step
}

pub(crate) fn plan(steps: Vec<Value>, timeout: Option<&str>) -> Arc<Plan> {
    let stored = json!({
        "format": "fairlead.dev/plan/v2",
        "name": "test", "source_name": "test.yaml", "source_digest": Digest::sha256(b"test"),
        "timeout": timeout, "steps": steps,
    });
    Arc::new(serde_json::from_value(stored).expect("a stored plan"))
}

pub(crate) fn id(text: &str) -> StepId {
    text.parse().expect("a step name")
}

pub(crate) fn passed() -> StepResult {
    StepResult::Verdict(Verdict::passed(json!({ "ok": true })))
}

pub(crate) fn failed(class: ErrorClass) -> StepResult {
    StepResult::Failure(Failure { class, message: "it broke".into(), hint: None })
}

pub(crate) fn start_time() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("a time")
}

pub(crate) fn rejected() -> StepResult {
    StepResult::Verdict(Verdict::Rejected { reason: "not yet".into(), outputs: json!({}) })
}

/// Somebody who votes, with their groups.
pub(crate) fn voter(name: &str, groups: &[&str]) -> Voter {
    Voter { name: name.to_owned(), groups: groups.iter().map(|group| (*group).into()).collect() }
}

pub(crate) fn cancel() -> RunEvent {
    RunEvent::CancelRequested {
        by: "ada".into(),
        reason: CancelReason::Asked { why: Some("wrong version".into()) },
    }
}

pub(crate) fn cancelled() -> StepResult {
    StepResult::Cancelled { message: "ended by SIGTERM".into() }
}

/// A gate at which people vote.
pub(crate) fn approval(id: &str, approval: Value) -> Value {
    let mut gate = step(id);
    gate["kind"] = "approval".into();
    gate["kind_version"] = "".into();
    gate["effect"] = "pure".into();
    gate["gate"] = json!({ "approval": approval });
    gate
}

/// A gate of time.
pub(crate) fn pause(id: &str, wait: Value) -> Value {
    let mut gate = step(id);
    gate["kind"] = "wait".into();
    gate["kind_version"] = "".into();
    gate["effect"] = "pure".into();
    gate["gate"] = json!({ "wait": wait });
    gate
}

/// A step that is made for each of `items`.
pub(crate) fn each(id: &str, items: Value, max_parallel: Option<u32>) -> Value {
    let mut step = step(id);
    step["for_each"] = json!({ "items": items });
    if let Some(most) = max_parallel {
        step["for_each"]["max_parallel"] = most.into();
    }
    step
}

/// The same step under another part of the file.
pub(crate) fn under(phase: &str, mut step: Value) -> Value {
    step["phase"] = phase.into();
    if phase == "on_failure" {
        step["on"] = json!(["rejected", "failed", "cancelled"]);
    }
    step
}

/// The number of a run that begins from no other.
const FIRST: u64 = 1;

/// One run, its journal, and the clock.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) run: Run,
    pub(crate) records: Vec<Record>,
    /// The records of other runs that it may refer to.
    pub(crate) kept: KeptRecords,
    pub(crate) now: Timestamp,
    pub(crate) epoch: Epoch,
}

impl World {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self::asked(plan, |_| ())
    }

    /// A run whose request is not quite the plain one.
    pub(crate) fn asked(plan: Arc<Plan>, change: impl FnOnce(&mut Request)) -> Self {
        Self::begun(FIRST, KeptRecords::new(), plan, change)
    }

    /// A run that begins from `old`, and may refer to its results.
    pub(crate) fn after(
        old: &Self,
        plan: Arc<Plan>,
        origin: Origin,
        change: impl FnOnce(&mut Request),
    ) -> Self {
        let mut kept = old.kept.clone();
        let place = |record: &Record| ((old.run.id().clone(), record.seq()), record.clone());
        kept.extend(old.records.iter().map(place));
        let number = FIRST + u64::try_from(kept.len()).expect("a few");
        Self::begun(number, kept, plan, |request| {
            request.origin = Some(origin);
            change(request);
        })
    }

    fn begun(
        number: u64,
        kept: KeptRecords,
        plan: Arc<Plan>,
        change: impl FnOnce(&mut Request),
    ) -> Self {
        let mut request = Request {
            pipeline: plan.name().to_owned(),
            plan: plan.digest(),
            params: json!({}),
            event: json!({}),
            event_id: None,
            by: "somebody".to_owned(),
            workspace: Workspace::local("/srv/source"),
            engine: "0.1.0".to_owned(),
            group: None,
            origin: None,
        };
        change(&mut request);
        let first = Record::first(start_time(), request).expect("a record");
        Self::rebuilt(RunId::mint(1_790_000_000_000, number), kept, plan, vec![first])
    }

    /// Goes on from a journal, as a process does that found it.
    pub(crate) fn from_journal(plan: Arc<Plan>, records: Vec<Record>) -> Self {
        let id = RunId::mint(1_790_000_000_000, FIRST);
        Self::rebuilt(id, KeptRecords::new(), plan, records)
    }

    /// The same run as a process has it that found its journal.
    pub(crate) fn taken_up(&self) -> Self {
        let (plan, records) = (Arc::clone(&self.plan), self.records.clone());
        Self::rebuilt(self.run.id().clone(), self.kept.clone(), plan, records)
    }

    fn rebuilt(id: RunId, kept: KeptRecords, plan: Arc<Plan>, records: Vec<Record>) -> Self {
        let run = Run::replay_keeping(id, Arc::clone(&plan), &records, &kept).expect("a run");
        let now = records.last().map_or(start_time(), Record::at);
        Self { plan, run, records, kept, now, epoch: Epoch(1) }
    }

    /// Appends a fact and applies it; a fact that is refused is not appended.
    pub(crate) fn tell(&mut self, event: RunEvent) -> Result<(), ApplyError> {
        let records = self.run.seal(self.now, vec![event]).expect("a record");
        for record in records {
            self.run.apply(&record)?;
            self.records.push(record);
        }
        Ok(())
    }

    pub(crate) fn commands(&self) -> Vec<Command> {
        self.run.commands(self.now)
    }

    /// Does everything that needs no answer from an attempt, until nothing of that is left.
    pub(crate) fn settle(&mut self) -> Vec<Command> {
        loop {
            let commands = self.commands();
            let facts: Vec<RunEvent> =
                commands.iter().filter_map(|c| c.fact(self.run.id(), self.epoch)).collect();
            let Some(fact) = facts.into_iter().next() else { return commands };
            self.tell(fact).expect("a command's fact is taken");
        }
    }

    /// The token of the attempt of `step` that is running.
    pub(crate) fn token(&self, step: &str) -> (u32, AttemptToken) {
        let view = self.run.step(&id(step)).expect("a step");
        assert!(matches!(view.status(), StepStatus::Running { .. }), "{:?}", view.status());
        let attempt = view.attempts().last().expect("an attempt");
        (attempt.number, attempt.token.clone())
    }

    /// Ends the running attempt of `step`, and does what follows from it.
    pub(crate) fn finish(&mut self, step: &str, result: StepResult) -> Vec<Command> {
        let (attempt, token) = self.token(step);
        self.tell(RunEvent::Finished { step: id(step), attempt, token, result })
            .expect("the result of the running attempt is taken");
        self.settle()
    }

    pub(crate) fn wait(&mut self, seconds: i64) -> Vec<Command> {
        self.now += SignedDuration::from_secs(seconds);
        self.settle()
    }

    /// The process dies, and another one takes the run up after so many seconds.
    pub(crate) fn restart(&mut self, seconds: i64) -> Vec<Command> {
        let mut next = self.taken_up();
        assert_eq!(next.picture(), self.picture(), "replayed as it was live");
        next.now = self.now + SignedDuration::from_secs(seconds);
        next.epoch = Epoch(self.epoch.0 + 1);
        for fact in next.run.recovery(next.epoch, "the process ended") {
            next.tell(fact).expect("recovery is always possible");
        }
        *self = next;
        self.settle()
    }

    /// Somebody votes.
    pub(crate) fn vote(&mut self, step: &str, by: &Voter, vote: Vote) -> Result<(), ApplyError> {
        let checked = self.run.check_vote(&id(step), by, vote);
        let fact = RunEvent::Voted { step: id(step), by: by.clone(), vote, reason: None };
        let told = self.tell(fact);
        assert_eq!(told, checked, "a vote that is checked counts, and no other");
        told
    }

    pub(crate) fn status(&self, step: &str) -> StepStatus {
        self.run.step(&id(step)).expect("a step").status()
    }

    pub(crate) fn reason(&self, step: &str) -> String {
        self.run.step(&id(step)).expect("a step").reason().unwrap_or_default()
    }

    /// Each step with its status and reason, a line each.
    pub(crate) fn picture(&self) -> String {
        let mut text = String::new();
        for step in self.run.steps() {
            let status = match step.status() {
                StepStatus::Waiting => "waiting".to_owned(),
                StepStatus::Running { attempt } => format!("running, attempt {attempt}"),
                StepStatus::Retrying { attempt, due } => {
                    let due = due.map(|due| due.duration_since(start_time()).as_secs());
                    format!("retrying, attempt {attempt}, due {due:?}")
                }
                StepStatus::Open { due } => {
                    let due = due.map(|due| due.duration_since(start_time()).as_secs());
                    format!("open, due {due:?}")
                }
                StepStatus::Asking { attempt, due } => {
                    let due = due.duration_since(start_time()).as_secs();
                    format!("asking, attempt {attempt}, due {due}")
                }
                StepStatus::NeedsAttention { attempt } => {
                    format!("needs attention, attempt {attempt}")
                }
                StepStatus::Items { left } => format!("{left} items left"),
                StepStatus::Ended(outcome) => outcome.to_string(),
            };
            let reason = step.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
            text.push_str(&format!("{}: {status}{reason}\n", step.id()));
        }
        text + &format!("run: {}", self.run.status())
    }
}
