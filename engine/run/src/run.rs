//! The run: the fold of its journal. [`Run::apply`] is the whole transition table, used live and in
//! recovery alike; what each fact does is in `steps.rs`, `items.rs` and `gates.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use fairlead_plan::{Item, Outcome, Phase, Plan, PlanStep, RunOutcome, Scope, newer_format};
use fairlead_step::{Digest, Effect, RunId, StepId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::decide::Readiness;
use crate::gates::{Ballot, GateEnd};
use crate::journal::StoredRun;
use crate::open::Open;
use crate::record::{RecordHash, SealError, check_link};
use crate::{
    ApplyError, Attempt, AttemptToken, CancelReason, Decision, Epoch, Failure, Kept, KeptOutputs,
    KeptRecords, Purpose, Record, ReplayError, Request, RunEvent, RunStatus, Seq, SkipReason,
};

/// The most attempts of one step that may be lost before it counts as failed: a step that takes
/// its host down with it must not do so for ever.
pub const MOST_LOST_ATTEMPTS: usize = 20;

/// How far a cancellation reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CancelScope {
    /// The main steps; `on_failure` and `finally` still run.
    Main,
    /// Every step.
    All,
}

/// A cancellation that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Who asked first.
    pub by: String,
    /// Why.
    pub reason: CancelReason,
    /// When.
    pub at: Timestamp,
    pub(crate) scope: CancelScope,
}

/// Where one step is. Persisted as the facts that lead here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// No attempt began.
    Waiting,
    /// Its items are worked on; so many have not ended.
    Items { left: usize },
    /// It is a gate, and open.
    Open { due: Option<Timestamp>, ballots: Vec<Ballot> },
    /// An attempt is under way.
    Running { attempt: u32, token: AttemptToken },
    /// The last attempt was lost; the step may begin again at once.
    Lost { attempt: u32 },
    /// The last attempt failed, and another is allowed.
    Failing { attempt: u32, due: Timestamp },
    /// The next attempt has its time.
    Backoff { attempt: u32, due: Timestamp },
    /// The answer was no, and it asks again with this attempt.
    Asking { attempt: u32, due: Timestamp },
    /// An attempt that must not be made twice was lost: a person decides.
    Attention { attempt: u32, reason: String },
    /// It is over.
    Ended { outcome: Outcome, at: Timestamp, why: Option<Why> },
}

/// Why a step ended as it did, where it has no attempt that says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Why {
    Skipped(SkipReason),
    NotStarted(Failure),
    RunCancelled,
    /// Cancelled while a person was to decide.
    Undecided(String),
    /// Its lost attempt must not be made twice, and nobody was asked.
    LostForGood(String),
    TooOftenLost,
    Gate(GateEnd),
    /// It is the result of this run's step.
    Kept(RunId),
    Settled {
        by: String,
        decision: Decision,
        reason: Option<String>,
    },
    /// What its items make of it.
    Items {
        not_passed: usize,
        of: usize,
    },
}

/// A step of the plan, or one item of it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: StepId,
    /// The step in the plan.
    pub(crate) planned: usize,
    /// For an item: the node of its step, and the item.
    pub(crate) item: Option<(usize, Item)>,
    pub(crate) state: State,
    pub(crate) attempts: Vec<Attempt>,
    /// Needs that have not ended.
    pub(crate) unmet: usize,
    /// The first of its needs, in the order of the plan, that ended in a way that it does not accept.
    pub(crate) bad_need: Option<usize>,
    /// Attempts that failed since its last answer; lost ones do not count against `retry.max`.
    pub(crate) failures: u32,
    /// What is to be done with it, worked out once everything that it depends on has ended.
    pub(crate) decided: Option<Readiness>,
    /// For a step with items: their nodes.
    pub(crate) items: Vec<usize>,
    /// Those of them that wait until fewer are worked on.
    pub(crate) held_back: VecDeque<usize>,
    /// For an item: what it gave. The outputs of a step are in the scope.
    pub(crate) outputs: Option<Value>,
    /// Where what it gave stands.
    pub(crate) made: Option<Made>,
}

/// Where the result of a node stands.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    /// In a record of this run: the end of an attempt.
    Here { record: Seq, attempt: u32 },
    /// Where an earlier run, which is made again, found it or had it.
    Kept(KeptOutputs),
}

/// What an earlier run made of a step, or of an item.
#[derive(Debug)]
pub(crate) struct KeptItem {
    outcome: Outcome,
    outputs: Option<Value>,
    from: Option<KeptOutputs>,
}

/// What a run is rebuilt from, besides its records.
struct Pinned<'r> {
    id: &'r RunId,
    plan: &'r Arc<Plan>,
    digest: &'r Digest,
    kept: &'r KeptRecords,
}

impl Node {
    pub(crate) const fn new(id: StepId, planned: usize, unmet: usize) -> Self {
        Self {
            id,
            planned,
            item: None,
            state: State::Waiting,
            attempts: Vec::new(),
            unmet,
            bad_need: None,
            failures: 0,
            decided: None,
            items: Vec::new(),
            held_back: VecDeque::new(),
            outputs: None,
            made: None,
        }
    }
}

/// How many steps of one phase are left, and how the others ended.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) left: usize,
    pub(crate) rejected: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled: usize,
}

/// One run: a plan, and what has become of it so far.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) index: BTreeMap<StepId, usize>,
    /// For each step of the plan, who needs it, and which of the needs of that one it is.
    pub(crate) dependents: Vec<Vec<(usize, usize)>>,
    seq: Seq,
    head: RecordHash,
    last_at: Timestamp,
    pub(crate) request: Request,
    requested_at: Timestamp,
    /// The items that an earlier run made, until they are known here.
    pub(crate) kept_items: HashMap<StepId, KeptItem>,
    /// The time during which nobody drove the run, or it only waited.
    idle: SignedDuration,
    /// The steps in the order of the plan, and behind them their items as they became known.
    pub(crate) nodes: Vec<Node>,
    /// What a command may speak of, so that deciding costs what is open, not what is done.
    pub(crate) open: Open,
    /// By phase.
    pub(crate) tallies: [Tally; 3],
    pub(crate) scope: Scope,
    pub(crate) cancel: Option<Cancel>,
    /// Whether it is admitted, or needs none.
    pub(crate) admitted: bool,
    /// Whether it was told so.
    told_admitted: bool,
    /// Whether a lost attempt that must not be made twice is a failure: see [`Run::replay`].
    pub(crate) lost_is_failed: bool,
    pub(crate) queued: Option<Queue>,
    ended: Option<(RunOutcome, Timestamp)>,
}

/// That a run waits, or waited, to be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The group; none when it is the limit of all runs that was reached.
    pub group: Option<String>,
    /// The run right before it when it began to wait.
    pub behind: Option<RunId>,
    /// Since when.
    pub since: Timestamp,
}

impl Run {
    /// Rebuilds a run from its journal.
    ///
    /// Builds that knew only version 1 of the record took a lost attempt that must not be made twice
    /// for a failure, where one waits for a person now. A journal in which something followed from
    /// that is read as it was meant.
    ///
    /// # Errors
    /// When the journal is not whole, does not fit the plan, or holds a fact that cannot have
    /// happened.
    pub fn replay(id: RunId, plan: Arc<Plan>, records: &[Record]) -> Result<Self, ReplayError> {
        Self::replay_keeping(id, plan, records, &KeptRecords::new())
    }

    /// The same for a run that may refer to results of other runs, which stand in `kept`.
    ///
    /// # Errors
    /// As [`Run::replay`], and when a record that it refers to is not there, or is another.
    pub fn replay_keeping(
        id: RunId,
        plan: Arc<Plan>,
        records: &[Record],
        kept: &KeptRecords,
    ) -> Result<Self, ReplayError> {
        let digest = plan.digest();
        Self::replay_pinned(&Pinned { id: &id, plan: &plan, digest: &digest, kept }, records)
    }

    fn replay_pinned(pinned: &Pinned<'_>, records: &[Record]) -> Result<Self, ReplayError> {
        let plan = pinned.plan;
        let told = Self::fold(pinned, records, false);
        let lost = |record: &Record| match record.event() {
            RunEvent::AttemptLost { step, .. } => {
                plan.step(step).is_some_and(|step| step.effect == Effect::Once)
            }
            RunEvent::Requested(_)
            | RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CacheHit { .. }
            | RunEvent::Started { .. }
            | RunEvent::Finished { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => false,
        };
        if matches!(told, Err(ReplayError::Impossible { .. })) && records.iter().any(lost) {
            return Self::fold(pinned, records, true).or(told);
        }
        told
    }

    fn fold(
        pinned: &Pinned<'_>,
        records: &[Record],
        lost_is_failed: bool,
    ) -> Result<Self, ReplayError> {
        let (first, rest) = records.split_first().ok_or(ReplayError::Empty)?;
        let mut run = Self::requested(pinned, first)?;
        run.lost_is_failed = lost_is_failed;
        for record in rest {
            run.apply(record)
                .map_err(|source| ReplayError::Impossible { seq: record.seq(), source })?;
        }
        Ok(run)
    }

    /// Rebuilds a run, and its plan, from what a journal loaded.
    ///
    /// # Errors
    /// As [`Run::replay`], and when the stored plan is not one.
    pub fn restore(stored: &StoredRun) -> Result<Self, ReplayError> {
        let bytes = stored.plan.bytes();
        let plan = serde_json::from_slice(bytes).map_err(|error| match newer_format(bytes) {
            Some(format) => ReplayError::NewerPlan { format },
            None => ReplayError::Plan(error),
        })?;
        let plan = Arc::new(plan);
        // The stored bytes are what the run is pinned to: they need not be written again to be known.
        let digest = stored.plan.digest();
        let pinned = Pinned { id: &stored.id, plan: &plan, digest, kept: &stored.kept };
        Self::replay_pinned(&pinned, &stored.records)
    }

    /// A run of which only the request is known.
    fn requested(pinned: &Pinned<'_>, first: &Record) -> Result<Self, ReplayError> {
        let (id, plan, digest) = (pinned.id.clone(), Arc::clone(pinned.plan), pinned.digest);
        check_link(Seq(0), RecordHash::ZERO, first)
            .map_err(|error| ReplayError::Impossible { seq: first.seq(), source: error.into() })?;
        let RunEvent::Requested(request) = first.event() else {
            return Err(ReplayError::NoRequest);
        };
        if request.plan != *digest {
            return Err(ReplayError::OtherPlan {
                pinned: request.plan.clone(),
                given: digest.clone(),
            });
        }
        let index: BTreeMap<StepId, usize> =
            plan.steps().iter().enumerate().map(|(i, step)| (step.id.clone(), i)).collect();
        let mut dependents = vec![Vec::new(); plan.steps().len()];
        let mut tallies = [Tally::default(); 3];
        let mut nodes = Vec::with_capacity(plan.steps().len());
        for (i, step) in plan.steps().iter().enumerate() {
            tallies[step.phase as usize].left += 1;
            for (n, need) in step.needs.iter().enumerate() {
                let needed = index
                    .get(&need.step)
                    .filter(|&&needed| needed < i && step.phase >= plan.steps()[needed].phase);
                let Some(&needed) = needed else {
                    return Err(ReplayError::BadNeed {
                        step: step.id.clone(),
                        need: need.step.clone(),
                    });
                };
                dependents[needed].push((i, n));
            }
            nodes.push(Node::new(step.id.clone(), i, step.needs.len()));
        }
        let mut scope = plan.scope(&request.params, &request.event);
        scope.run = json!({ "id": id, "pipeline": request.pipeline, "by": request.by });
        let mut run = Self {
            id,
            plan,
            index,
            dependents,
            seq: first.seq(),
            head: first.hash(),
            last_at: first.at(),
            request: (**request).clone(),
            requested_at: first.at(),
            kept_items: HashMap::new(),
            idle: SignedDuration::ZERO,
            nodes,
            open: Open::default(),
            tallies,
            scope,
            cancel: None,
            admitted: request.group.is_none(),
            told_admitted: false,
            lost_is_failed: false,
            queued: None,
            ended: None,
        };
        run.take_over(pinned.kept)?;
        for i in 0..run.nodes.len() {
            run.consider(i);
        }
        run.phases_ended();
        Ok(run)
    }

    /// What the run begins from stands for it.
    fn take_over(&mut self, records: &KeptRecords) -> Result<(), ReplayError> {
        let Some(origin) = self.request.origin.clone() else { return Ok(()) };
        let at = self.requested_at;
        for Kept { step, outcome, outputs: from } in origin.kept {
            let outputs = from.as_ref().map(|from| from.look_up(&step, records)).transpose()?;
            match origin.purpose {
                // The steps of a run that takes back have other names; what they read is this.
                Purpose::Undo => {
                    if let Some(outputs) = outputs {
                        self.scope.steps.insert(step.clone(), outputs);
                    }
                    self.scope.outcomes.insert(step, outcome);
                }
                Purpose::Retry => {
                    let kept = KeptItem { outcome, outputs, from };
                    match self.index_of(&step) {
                        Some(i) => self.end_kept(i, kept, origin.run.clone(), at),
                        None => drop(self.kept_items.insert(step, kept)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends node `i` as an earlier run did.
    pub(crate) fn end_kept(&mut self, i: usize, kept: KeptItem, from: RunId, at: Timestamp) {
        if let Some(outputs) = kept.outputs {
            self.keep_outputs(i, outputs);
        }
        self.nodes[i].made = kept.from.map(Made::Kept);
        self.end(i, kept.outcome, at, Some(Why::Kept(from)));
    }

    /// Takes in the next record.
    ///
    /// This is the whole transition table. It is used for what just happened and for what is read
    /// back, so a run that was replayed is the run that was live.
    ///
    /// # Errors
    /// When the record does not follow the last one, or speaks of what cannot happen now. The run
    /// is as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        check_link(self.seq, self.head, record)?;
        let at = record.at();
        if self.ended.is_some() {
            return Err(ApplyError::RunEnded);
        }
        let rested = self.rests() || matches!(record.event(), RunEvent::Resumed { .. });
        match record.event() {
            RunEvent::Requested(_) => return Err(ApplyError::RequestedTwice),
            // Counted below.
            RunEvent::Resumed { .. } => {}
            RunEvent::Queued { group, behind } => {
                self.queue(group.as_ref(), behind.as_ref(), at)?
            }
            RunEvent::Admitted => self.admit()?,
            RunEvent::Expanded { step, items } => self.expanded(self.find(step)?, items, at)?,
            RunEvent::GateOpened { step, due } => self.gate_opened(self.find(step)?, *due)?,
            RunEvent::Voted { step, by, vote, reason } => {
                self.voted(self.find(step)?, by, *vote, reason.as_deref(), at)?;
            }
            RunEvent::GateDue { step } => self.gate_due(self.find(step)?, at)?,
            RunEvent::Woken { step, why: _ } => self.woken(self.find(step)?, at)?,
            RunEvent::Settled { step, attempt, by, decision, reason } => {
                let i = self.find(step)?;
                self.settled(i, *attempt, &by.name, decision, reason.as_deref(), at)?;
                self.nodes[i].made = Some(Made::Here { record: record.seq(), attempt: *attempt });
            }
            RunEvent::CacheHit { step, attempt, token, key, run, outputs } => {
                let i = self.running(step, *attempt, Some(token))?;
                self.nodes[i].made = Some(Made::Here { record: record.seq(), attempt: *attempt });
                self.cache_hit(i, (run, key), outputs, at);
            }
            RunEvent::Started { step, attempt, token, pool } => {
                self.started(self.find(step)?, *attempt, token, pool.as_deref(), at)?;
            }
            RunEvent::Finished { step, attempt, token, result } => {
                let i = self.running(step, *attempt, Some(token))?;
                self.nodes[i].made = Some(Made::Here { record: record.seq(), attempt: *attempt });
                self.finished(i, *attempt, result, at);
            }
            RunEvent::AttemptLost { step, attempt, reason } => {
                let i = self.running(step, *attempt, None)?;
                self.lost(i, *attempt, reason, at);
            }
            RunEvent::RetryScheduled { step, attempt, due } => {
                self.retry_scheduled(self.find(step)?, *attempt, *due)?;
            }
            RunEvent::Skipped { step, reason } => {
                let i = self.find(step)?;
                self.may_skip(i, reason)?;
                self.end(i, Outcome::Skipped, at, Some(Why::Skipped(reason.clone())));
            }
            RunEvent::NotStarted { step, failure } => {
                let i = self.find(step)?;
                self.may_begin(i)?;
                self.end(i, Outcome::Failed, at, Some(Why::NotStarted(failure.clone())));
            }
            RunEvent::CancelRequested { by, reason } => self.cancel_requested(by, reason, at)?,
            RunEvent::Abandoned { by, reason, problem: _ } => {
                self.abandoned(by, reason.as_deref(), at);
                self.ended = record.event().ends_as().map(|outcome| (outcome, at));
            }
            RunEvent::Ended { outcome } => {
                let is = self.outcome_when_done().ok_or(ApplyError::StepsLeft)?;
                if is != *outcome {
                    return Err(ApplyError::OtherOutcome { is, said: *outcome });
                }
                self.ended = Some((is, at));
            }
        }
        if rested {
            let gap = at.duration_since(self.last_at).max(SignedDuration::ZERO);
            self.idle = self.idle.saturating_add(gap);
        }
        self.seq = record.seq();
        self.head = record.hash();
        self.last_at = at.max(self.last_at);
        Ok(())
    }

    fn queue(
        &mut self,
        group: Option<&String>,
        behind: Option<&RunId>,
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        let begun = |state: &State| {
            let untouched = matches!(state.why(), Some(Why::Kept(_) | Why::RunCancelled));
            !(state.is_waiting() || untouched)
        };
        let begun = self.nodes.iter().any(|node| begun(&node.state));
        if self.queued.is_some() || self.told_admitted || begun {
            return Err(ApplyError::AlreadyAdmitted);
        }
        self.admitted = false;
        self.queued = Some(Queue { group: group.cloned(), behind: behind.cloned(), since: at });
        Ok(())
    }

    fn admit(&mut self) -> Result<(), ApplyError> {
        if self.told_admitted {
            return Err(ApplyError::AlreadyAdmitted);
        }
        self.admitted = true;
        self.told_admitted = true;
        Ok(())
    }

    /// Makes the records that put `events` behind the last one applied. Their time is `at`, or that
    /// of the last record where the clock went back.
    ///
    /// # Errors
    /// When a fact is too large, or has no JSON form.
    pub fn seal(&self, at: Timestamp, events: Vec<RunEvent>) -> Result<Vec<Record>, SealError> {
        let at = at.max(self.last_at);
        let (mut seq, mut head) = (self.seq, self.head);
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            seq = seq.next();
            let record = Record::seal(seq, at, head, event)?;
            head = record.hash();
            records.push(record);
        }
        Ok(records)
    }

    /// The facts that a process writes first when it takes up a run under `epoch`: none for a run
    /// that is new, over, or only waits; otherwise that it goes on, and that every attempt which was
    /// under way is lost, for `reason`.
    #[must_use]
    pub fn recovery(&self, epoch: Epoch, reason: &str) -> Vec<RunEvent> {
        self.recovery_but(epoch, reason, &BTreeSet::new())
    }

    /// The same, where somebody answers for the attempts with the tokens `living`: those are under way
    /// still, and are gone on with.
    #[must_use]
    pub fn recovery_but(
        &self,
        epoch: Epoch,
        reason: &str,
        living: &BTreeSet<AttemptToken>,
    ) -> Vec<RunEvent> {
        if self.ended.is_some() || self.seq == Seq(1) || self.only_waits() {
            return Vec::new();
        }
        let lost = self.under_way().filter(|(_, attempt)| !living.contains(&attempt.token));
        let lost = lost.map(|(step, attempt)| RunEvent::AttemptLost {
            step: step.clone(),
            attempt: attempt.number,
            reason: reason.to_owned(),
        });
        std::iter::once(RunEvent::Resumed { epoch }).chain(lost).collect()
    }

    /// The attempts that are under way, each with its step.
    pub fn under_way(&self) -> impl Iterator<Item = (&StepId, &Attempt)> {
        self.nodes.iter().filter_map(|node| {
            if let State::Running { .. } = &node.state {
                Some((&node.id, node.attempts.last()?))
            } else {
                None
            }
        })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// The plan it is pinned to.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What was asked for.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// When it was asked for.
    #[must_use]
    pub const fn requested_at(&self) -> Timestamp {
        self.requested_at
    }

    /// The last record that was applied.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The hash of the last record that was applied.
    #[must_use]
    pub const fn head(&self) -> RecordHash {
        self.head
    }

    /// What expressions see now.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The cancellation in effect.
    #[must_use]
    pub const fn cancellation(&self) -> Option<&Cancel> {
        self.cancel.as_ref()
    }

    /// Whether one more request to cancel would stop anything.
    #[must_use]
    pub fn can_cancel(&self) -> bool {
        self.ended.is_none() && self.next_cancel_scope().is_some()
    }

    /// How and when it ended.
    #[must_use]
    pub const fn ended(&self) -> Option<(RunOutcome, Timestamp)> {
        self.ended
    }

    /// Where it is.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        match (self.ended, &self.cancel) {
            (Some((outcome, _)), _) => RunStatus::Ended(outcome),
            (None, None) if !self.admitted => RunStatus::Queued,
            // As long as anything goes on somebody must drive it, whatever else waits: whoever finds
            // it left behind tells by this word.
            (None, _) if self.only_waits() && self.open.needs_attention() => {
                RunStatus::NeedsAttention
            }
            (None, _) if self.only_waits() => RunStatus::Waiting,
            (None, Some(_)) => RunStatus::Cancelling,
            (None, None) => RunStatus::Running,
        }
    }

    /// Whether it is admitted, or needs none.
    #[must_use]
    pub const fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// That it waits, or waited, to be admitted.
    #[must_use]
    pub const fn queued(&self) -> Option<&Queue> {
        self.queued.as_ref()
    }

    /// Whether nothing is under way and nothing can begin, because it waits to be admitted, for people,
    /// for a moment or for evidence.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.ended.is_none()
            && !self.is_done()
            && (!self.admitted || self.open.only_waits())
            && self.open.running == 0
    }

    /// Whether the time that passes now is not its own: nobody has taken it up, or it only waits.
    pub(crate) fn rests(&self) -> bool {
        self.seq == Seq(1) || self.only_waits()
    }

    /// When a run that only waits has to be looked at, as far as time matters to it.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Timestamp> {
        if self.admitted { self.open.first_due() } else { None }
    }

    /// When it is out of time, where the pipeline has a `timeout`. The time before somebody took it up
    /// does not count, nor does that between an interruption and the resumption, or in which it only
    /// waited.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let allowed = self.plan.timeout()?;
        let end = allowed.after(self.requested_at);
        Some(end.checked_add(self.idle).unwrap_or(Timestamp::MAX))
    }

    /// The plan's side of node `i`.
    pub(crate) fn planned(&self, i: usize) -> &PlanStep {
        &self.plan.steps()[self.nodes[i].planned]
    }

    pub(crate) fn index_of(&self, step: &StepId) -> Option<usize> {
        self.index.get(step).copied()
    }

    pub(crate) fn name(&self, i: usize) -> StepId {
        self.nodes[i].id.clone()
    }

    /// What node `i` gave.
    pub(crate) fn outputs_of(&self, i: usize) -> Option<&Value> {
        let node = &self.nodes[i];
        match node.item {
            Some(_) => node.outputs.as_ref(),
            None => self.scope.steps.get(&node.id),
        }
    }

    pub(crate) fn keep_outputs(&mut self, i: usize, outputs: Value) {
        match self.nodes[i].item {
            Some(_) => self.nodes[i].outputs = Some(outputs),
            None => {
                self.scope.steps.insert(self.name(i), outputs);
            }
        }
    }

    /// The tally of the main steps.
    pub(crate) fn main(&self) -> &Tally {
        &self.tallies[Phase::Main as usize]
    }
}
