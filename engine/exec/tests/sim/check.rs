//! What must hold, worked out from the records and from what the steps did, and not by the state
//! machine.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairlead_plan::{ConcurrencyPolicy, Outcome, Phase, Plan, RunOutcome};
use fairlead_run::{
    Admission, AttemptEnd, AttemptToken, Batch, CancelReason, NewRun, Record, Run, RunEvent,
    Signal, StepStatus, StepView, StoredRun, check_chain,
};
use fairlead_step::{Effect, RunId, StepId};

use crate::rng::Rng;
use crate::steps::Outside;

/// Watches the store while runs go on: who is admitted, and who asked for what.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    runs: Vec<Member>,
    cancels: BTreeMap<RunId, usize>,
    problems: Vec<String>,
}

/// A run, in the order of creation.
struct Member {
    id: RunId,
    group: Option<(String, ConcurrencyPolicy, u32)>,
    admitted: bool,
    rests: bool,
    ended: bool,
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn problem(&self, problem: String) {
        self.seen().problems.push(problem);
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.seen().problems.clone()
    }

    pub(crate) fn created(&self, run: &NewRun) {
        let group = run.group.as_ref().map(|g| (g.name.clone(), g.policy, g.max.get()));
        let (admitted, rests, ended) = (false, false, false);
        self.seen().runs.push(Member { id: run.id.clone(), group, admitted, rests, ended });
    }

    pub(crate) fn posted(&self, run: &RunId, signal: &Signal) {
        if matches!(signal, Signal::Cancel { reason: CancelReason::Asked { .. }, .. }) {
            *self.seen().cancels.entry(run.clone()).or_default() += 1;
        }
    }

    pub(crate) fn written(&self, batch: &Batch) {
        let mut seen = self.seen();
        let Some(member) = seen.runs.iter_mut().find(|member| member.id == batch.run) else {
            return;
        };
        member.rests = batch.status.rests();
        member.ended |=
            batch.records.iter().any(|record| matches!(record.event(), RunEvent::Ended { .. }));
    }

    /// A run asked to be admitted, and was answered.
    pub(crate) fn asked(&self, batch: &Batch, admission: &Admission, most: Option<NonZeroU32>) {
        let mut guard = self.seen();
        let seen = &mut *guard;
        let Some(place) = seen.runs.iter().position(|member| member.id == batch.run) else {
            return;
        };
        let group = seen.runs[place].group.clone();
        let same = |member: &Member| {
            member.group.as_ref().map(|(name, ..)| name) == group.as_ref().map(|(name, ..)| name)
        };
        match admission {
            Admission::Admitted if seen.runs[place].admitted => {}
            Admission::Admitted => {
                seen.runs[place].admitted = true;
                seen.runs[place].rests = false;
                let going = |member: &&Member| member.admitted && !member.ended;
                let all = seen.runs.iter().filter(going).filter(|member| !member.rests).count();
                if let Some(most) = most
                    && all > most.get() as usize
                {
                    let problem = format!("{all} runs go on, and {most} may at a time");
                    seen.problems.push(problem);
                }
                let Some((name, policy, max)) = &group else { return };
                let holders = seen.runs.iter().filter(going).filter(|m| same(m)).count();
                if holders > *max as usize {
                    let problem =
                        format!("{holders} runs of `{name}` go on, and {max} may at a time");
                    seen.problems.push(problem);
                }
                let before = seen.runs[..place].iter().filter(|member| same(member));
                let overtaken = before.filter(|m| !m.admitted && !m.ended).map(|m| m.id.clone());
                let overtaken: Vec<RunId> = overtaken.collect();
                if *policy == ConcurrencyPolicy::Queue && !overtaken.is_empty() {
                    seen.problems.push(format!("{} is admitted before {overtaken:?}", batch.run));
                }
            }
            Admission::Superseded { by } => {
                let later = seen.runs[place + 1..].iter().find(|member| member.id == *by);
                if !later.is_some_and(|later| same(later) && !later.ended) {
                    let problem = format!("{} is superseded by {by}, which is none", batch.run);
                    seen.problems.push(problem);
                }
            }
            Admission::Busy { holder } => {
                let holds = seen.runs.iter().find(|member| member.id == *holder);
                if !holds.is_some_and(|holds| same(holds) && !holds.ended) {
                    seen.problems.push(format!("{} yields to {holder}, which is over", batch.run));
                }
            }
            Admission::Wait { .. } => {}
        }
    }

    fn cancels(&self, run: &RunId) -> usize {
        self.seen().cancels.get(run).copied().unwrap_or(0)
    }
}

/// Checks the journal of one run against what its steps did. Answers the first thing that is wrong.
pub(crate) fn check_run(
    stored: &StoredRun,
    outside: &Outside,
    watch: &Watch,
    rng: &mut Rng,
) -> Result<(), String> {
    check_chain(&stored.records).map_err(|error| error.to_string())?;
    if !stored.records.is_sorted_by_key(Record::at) {
        return Err("time goes back in the journal".to_owned());
    }
    let (first, rest) = stored.records.split_first().ok_or("there is no record")?;
    let plan = serde_json::from_slice(stored.plan.bytes()).map_err(|error| error.to_string())?;
    let plan: Arc<Plan> = Arc::new(plan);
    prefixes(stored, &plan, rng)?;
    let mut run =
        Run::replay_keeping(stored.id.clone(), plan, std::slice::from_ref(first), &stored.kept)
            .map_err(|error| error.to_string())?;
    let mut tokens: BTreeMap<(StepId, u32), AttemptToken> = BTreeMap::new();
    let mut asked = 0;
    for record in rest {
        match record.event() {
            RunEvent::Started { step, attempt, token, pool: _ } => {
                may_start(&run, step, *attempt)?;
                if tokens.values().any(|other| other == token) {
                    return Err(format!("the token of `{step}` attempt {attempt} was had before"));
                }
                tokens.insert((step.clone(), *attempt), token.clone());
            }
            RunEvent::Finished { step, attempt, token, .. }
            | RunEvent::CacheHit { step, attempt, token, .. } => {
                // Taken away: an attempt ends once.
                if tokens.remove(&(step.clone(), *attempt)).as_ref() != Some(token) {
                    return Err(format!(
                        "`{step}` attempt {attempt} ends with no token of its own"
                    ));
                }
            }
            RunEvent::AttemptLost { step, attempt, .. } => {
                if tokens.remove(&(step.clone(), *attempt)).is_none() {
                    return Err(format!("`{step}` attempt {attempt} is lost, and was not made"));
                }
            }
            RunEvent::CancelRequested { reason: CancelReason::Asked { .. }, .. } => asked += 1,
            RunEvent::Ended { outcome } => may_end(&run, *outcome)?,
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
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. } => {}
        }
        run.apply(record).map_err(|error| error.to_string())?;
    }
    if asked > watch.cancels(&stored.id) {
        return Err(format!("it was told to stop {asked} times, by fewer signals"));
    }
    run.steps().try_for_each(|step| effects(&run, &step, outside))
}

/// Some beginnings of the journal make a run that can be taken up, and whose commands fit it.
fn prefixes(stored: &StoredRun, plan: &Arc<Plan>, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..3 {
        let length = 1 + rng.below(stored.records.len() as u64);
        let length = usize::try_from(length).expect("a length");
        let restored = || {
            let (id, records) = (stored.id.clone(), &stored.records[..length]);
            Run::replay_keeping(id, Arc::clone(plan), records, &stored.kept)
                .map_err(|error| format!("prefix {length}: {error}"))
        };
        let run = restored()?;
        let now = stored.records[length - 1].at();
        let epoch = fairlead_run::Epoch(99);
        let recovery = run.recovery(epoch, "cut");
        let facts = run.commands(now).into_iter().filter_map(|c| c.fact(run.id(), epoch));
        for facts in facts.map(|fact| vec![fact]).chain([recovery]) {
            let mut run = restored()?;
            let records = run.seal(now, facts).map_err(|error| error.to_string())?;
            for record in records {
                run.apply(&record).map_err(|error| {
                    format!("prefix {length} wants {:?}, and refuses it: {error}", record.event())
                })?;
            }
        }
    }
    Ok(())
}

fn may_start(run: &Run, step: &StepId, attempt: u32) -> Result<(), String> {
    let no = |why: String| Err(format!("`{step}` attempt {attempt} starts, and {why}"));
    let Some(view) = run.step(step) else { return no("there is no such step".to_owned()) };
    if !run.is_admitted() {
        return no("the run is not admitted".to_owned());
    }
    if let Some(outcome) = view.outcome() {
        return no(format!("it has ended: {outcome}"));
    }
    if matches!(view.status(), StepStatus::Running { .. } | StepStatus::NeedsAttention { .. }) {
        return no(format!("it is {:?}", view.status()));
    }
    if attempt as usize != view.attempts().len() + 1 {
        return no("the attempts before it are missing".to_owned());
    }
    for need in &view.plan().needs {
        let outcome = run.step(&need.step).and_then(|needed| needed.outcome());
        match outcome {
            Some(outcome) if need.outcomes.contains(&outcome) => {}
            other => return no(format!("`{}`, which it needs, is {other:?}", need.step)),
        }
    }
    let early = run
        .steps()
        .find(|other| other.plan().phase < view.plan().phase && other.outcome().is_none());
    if let Some(early) = early {
        return no(format!("`{}` of an earlier phase has not ended", early.id()));
    }
    if let (Some(_), Some(most)) =
        (view.item(), view.plan().for_each.as_ref().and_then(|each| each.max_parallel))
    {
        let others = run.steps().filter(|other| {
            other.item().is_some()
                && other.id() != step
                && other.plan().id == view.plan().id
                && matches!(other.status(), StepStatus::Running { .. })
        });
        if others.count() >= most as usize {
            return no(format!("{most} items go on already"));
        }
    }
    Ok(())
}

fn may_end(run: &Run, outcome: RunOutcome) -> Result<(), String> {
    let open: Vec<String> = run
        .steps()
        .filter(|step| step.outcome().is_none())
        .map(|step| step.id().to_string())
        .collect();
    if !open.is_empty() {
        return Err(format!("the run ends before {}", open.join(", ")));
    }
    let of_plan = || run.steps().filter(|step| step.item().is_none());
    let bad = of_plan().any(|step| {
        matches!(step.outcome(), Some(Outcome::Failed | Outcome::Rejected | Outcome::Cancelled))
    });
    if bad == (outcome == RunOutcome::Passed) {
        return Err(format!("the run ends as {outcome}, and its steps do not"));
    }
    let clean = of_plan().filter(|step| step.plan().phase == Phase::OnFailure);
    let main_bad = run.main_outcome() != Some(RunOutcome::Passed);
    let made = clean.filter(|step| !step.attempts().is_empty()).count();
    if made > 0 && !main_bad {
        return Err("steps under `on_failure` were made although nothing failed".to_owned());
    }
    Ok(())
}

/// What a step did outside is what its journal says.
fn effects(run: &Run, step: &StepView<'_>, outside: &Outside) -> Result<(), String> {
    let done: BTreeSet<u32> = outside.of(run.id(), step.id()).into_iter().collect();
    let times = outside.of(run.id(), step.id()).len();
    let effect = step.plan().effect;
    if times > 1 {
        return Err(format!("`{}` ({effect:?}) took effect {times} times: {done:?}", step.id()));
    }
    let last = step.attempts().last().and_then(|attempt| attempt.ended.as_ref());
    match last {
        Some((_, AttemptEnd::Passed)) if effect != Effect::Pure && times == 0 => {
            Err(format!("`{}` passed, and never took effect", step.id()))
        }
        Some((_, AttemptEnd::Passed | AttemptEnd::CacheHit { .. })) => {
            let wanted = run.render(step.id()).map_err(|error| error.to_string())?;
            let gave = step.outputs().and_then(|outputs| outputs.get("text"));
            if gave == wanted.display().get("text") {
                return Ok(());
            }
            Err(format!("`{}` gave {gave:?} for {}", step.id(), wanted.display()))
        }
        Some((
            _,
            AttemptEnd::Rejected { .. }
            | AttemptEnd::Skipped { .. }
            | AttemptEnd::Failed(_)
            | AttemptEnd::TimedOut { .. }
            | AttemptEnd::Cancelled { .. }
            | AttemptEnd::Lost { .. },
        ))
        | None => Ok(()),
    }
}
