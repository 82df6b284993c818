//! What the steps of a run will need is looked for before the run begins, and told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use fairlead_exec::{RunRequest, SecretError, SecretProvider as _};
use fairlead_plan::{Outcome, Phase, Plan, PlanStep, RunOutcome, Scope};
use fairlead_step::{Capability, Missing, Preflight, Secret, StepId, Workspace};
use serde_json::Value;

use super::Context;
use crate::exit::Stop;
use crate::output::Style;

/// How long the look of one step may take. What is not known by then is for its attempt to say.
const LOOK: Duration = Duration::from_secs(15);

/// One thing that is missing, and which steps miss it.
pub(super) struct Lack {
    pub(super) steps: Vec<StepId>,
    pub(super) missing: Missing,
    /// Whether the run may do without it: the step may not run, or an earlier one may provide it.
    pub(super) perhaps: bool,
}

/// Whether a step will run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Will {
    Run,
    Perhaps,
    Never,
}

/// Refuses a run whose steps lack something, with all that is missing; what may yet be provided, or
/// may not be needed, is told.
pub(super) async fn check(context: &Context<'_>, request: &RunRequest) -> Result<(), Stop> {
    let kept = request.origin.iter().flat_map(|origin| &origin.kept);
    let kept: BTreeSet<&str> = kept.map(|kept| kept.step.parts().0).collect();
    // One that is alone says by itself, at once, what it lacks, and begins the sooner.
    if request.plan.steps().iter().filter(|step| !kept.contains(step.id.as_str())).count() < 2 {
        return Ok(());
    }
    let (secrets, mut hints) = (secrets(context, &request.plan).await, Vec::new());
    let mut lines = Vec::new();
    for error in secrets.values().filter_map(|found| found.as_ref().err()) {
        lines.push(error.to_string());
        if let SecretError::Missing { name, hint } = error {
            hints.push(format!("for `{name}`, {hint}"));
        }
    }
    let scope = request.plan.scope(&request.params, &request.event);
    let known = known(&secrets);
    let folder = match &request.workspace {
        Workspace::Local { path } => Some(path.as_path()),
        // It is not laid out yet, so nothing can be missed in it.
        Workspace::Empty {} | Workspace::Git(_) | Workspace::Archive { .. } => None,
    };
    let lacks = look(context, &request.plan, &scope, folder, &known, &kept).await;
    let output = context.output;
    for lack in lacks {
        let who = lack.names();
        let line = format!("{who}: {}", lack.missing.message);
        if lack.perhaps {
            output.say(format!("{} {line}", output.paint(Style::Warn, "warning:")));
            if let Some(hint) = &lack.missing.hint {
                output.say(format!("{} for {who}, {hint}", output.paint(Style::Warn, "hint:")));
            }
            continue;
        }
        lines.push(line);
        hints.extend(lack.missing.hint.map(|hint| format!("for {who}, {hint}")));
    }
    let stop = match lines.as_slice() {
        [] => return Ok(()),
        [only] => Stop::usage(format!("nothing was started: {only}")),
        many => {
            let list: String = many.iter().map(|line| format!("\n  {line}")).collect();
            Stop::usage(format!(
                "nothing was started, for {} things are missing:{list}",
                many.len()
            ))
        }
    };
    Err(hints.into_iter().fold(stop, Stop::hint))
}

/// Every secret that the plan names, as far as there is one.
pub(super) async fn secrets(
    context: &Context<'_>,
    plan: &Plan,
) -> BTreeMap<String, Result<Secret<String>, SecretError>> {
    let mut found = BTreeMap::new();
    for name in plan.secrets() {
        let answer = context.settings.secrets.get(&name).await;
        found.insert(name, answer);
    }
    found
}

/// Those of `secrets` that are there.
pub(super) fn known(
    secrets: &BTreeMap<String, Result<Secret<String>, SecretError>>,
) -> BTreeMap<&str, &Secret<String>> {
    let there =
        secrets.iter().filter_map(|(name, found)| Some((name.as_str(), found.as_ref().ok()?)));
    there.collect()
}

/// Asks every step of `plan` but those that are kept, all at the same time. Where they will work in no
/// folder that is there already, what they lack in it is not told.
pub(super) async fn look(
    context: &Context<'_>,
    plan: &Plan,
    scope: &Scope,
    folder: Option<&Path>,
    secrets: &BTreeMap<&str, &Secret<String>>,
    kept: &BTreeSet<&str>,
) -> Vec<Lack> {
    let settings = &context.settings;
    let has_program = |name: &str| settings.has_program(name);
    let (has_program, now) = (&has_program, settings.clock.now());
    let mut wills: BTreeMap<&StepId, (Will, bool)> = BTreeMap::new();
    let mut looks = Vec::new();
    for step in plan.steps() {
        let will = will(step, &wills, scope);
        let provided = is_provided(context, plan, step, &wills);
        wills.insert(&step.id, (will, provided || starts_programs(context, step)));
        let Some(kind) = context.catalog.get(&step.kind) else { continue };
        if will == Will::Never || step.gate.is_some() || kept.contains(step.id.as_str()) {
            continue;
        }
        let filled = step.foresee(scope);
        let with = filled.fill_known(|name| secrets.get(name).map(|known| (*known).clone()));
        let first = folder.is_some() && step.needs.is_empty() && step.phase == Phase::Main;
        let perhaps = provided || will == Will::Perhaps;
        looks.push(async move {
            let folder = folder.unwrap_or(Path::new("."));
            let look = Preflight::new(&with, folder, first, now, has_program);
            let found = tokio::time::timeout(LOOK, kind.preflight(&look)).await;
            (step.id.clone(), perhaps, found.unwrap_or_default())
        });
    }
    let mut lacks: Vec<Lack> = Vec::new();
    for (id, perhaps, found) in futures::future::join_all(looks).await {
        for missing in found {
            match lacks.iter_mut().find(|lack| lack.missing == missing) {
                Some(lack) => {
                    lack.steps.push(id.clone());
                    lack.perhaps &= perhaps;
                }
                None => lacks.push(Lack { steps: vec![id.clone()], missing, perhaps }),
            }
        }
    }
    lacks
}

/// Whether `step` will run, by what is known of those that it needs.
fn will(step: &PlanStep, wills: &BTreeMap<&StepId, (Will, bool)>, scope: &Scope) -> Will {
    let mut will = match step.foresee_condition(scope) {
        Some(false) => return Will::Never,
        Some(true) => Will::Run,
        None => Will::Perhaps,
    };
    let always = RunOutcome::ALL.iter().all(|outcome| step.on.contains(outcome));
    if step.phase == Phase::OnFailure || step.phase == Phase::Finally && !always {
        will = Will::Perhaps;
    }
    for need in &step.needs {
        let needed = wills.get(&need.step).map_or(Will::Perhaps, |(will, _)| *will);
        let skipped = need.outcomes.contains(&Outcome::Skipped);
        match needed {
            Will::Never if !skipped => return Will::Never,
            Will::Perhaps if !skipped => will = Will::Perhaps,
            Will::Run if !need.outcomes.contains(&Outcome::Passed) => will = Will::Perhaps,
            Will::Never | Will::Perhaps | Will::Run => {}
        }
    }
    will
}

/// Whether a step that comes before this one may bring what it lacks: it starts programs of its own.
fn is_provided(
    context: &Context<'_>,
    plan: &Plan,
    step: &PlanStep,
    wills: &BTreeMap<&StepId, (Will, bool)>,
) -> bool {
    let needed = step.needs.iter().any(|need| wills.get(&need.step).is_some_and(|(_, may)| *may));
    let earlier = plan.steps().iter().take_while(|other| other.id != step.id);
    let mut phases = earlier.filter(|other| other.phase < step.phase);
    needed || phases.any(|other| starts_programs(context, other))
}

fn starts_programs(context: &Context<'_>, step: &PlanStep) -> bool {
    let kind = context.catalog.get(&step.kind);
    kind.is_some_and(|kind| kind.spec().capabilities.contains(&Capability::Process))
}

impl Lack {
    /// The steps that miss it, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.steps.iter().map(|id| format!("`{id}`")).collect();
        names.join(", ")
    }
}

/// What is known of the parameters of `plan` when nobody gave any: the defaults, where they do.
pub(super) fn defaults(plan: &Plan) -> Value {
    plan.bind(&BTreeMap::new())
        .map_or_else(|_| Value::Object(serde_json::Map::new()), |bound| plan.params().seen(&bound))
}
