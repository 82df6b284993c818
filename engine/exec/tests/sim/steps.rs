//! Fake steps, and the world outside that they act on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_step::{
    Capability, Catalog, Effect, RunId, StepContext, StepError, StepId, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// What a step panics with when its script says so.
pub(crate) const PANIC: &str = "as the script says";

/// The world outside: which attempts took effect.
pub(crate) struct Outside {
    effects: Mutex<BTreeMap<(RunId, StepId), Vec<u32>>>,
    under_way: Mutex<UnderWay>,
    seed: u64,
}

/// The attempts that are under way, and who makes them.
#[derive(Default)]
struct UnderWay {
    attempts: BTreeMap<u64, (RunId, StepId, usize)>,
    serial: u64,
    /// Runs whose lease was taken from a holder that believed in it: there, two cannot be kept apart.
    stolen: BTreeSet<RunId>,
    problems: Vec<String>,
}

/// An attempt that is under way, until this is dropped.
struct Going<'o>(&'o Outside, u64);

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.under_way().attempts.remove(&self.1);
    }
}

impl Outside {
    pub(crate) fn new(seed: u64) -> Self {
        Self { effects: Mutex::default(), under_way: Mutex::default(), seed }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins on this server. Attempts of one run are made by one holder of its lease at a
    /// time.
    fn begins(&self, run: &RunId, step: &StepId, server: usize) -> Going<'_> {
        let mut guard = self.under_way();
        let now = &mut *guard;
        let beside = now.attempts.values().find(|(of, _, by)| of == run && *by != server);
        if let Some((_, other, by)) = beside
            && !now.stolen.contains(run)
        {
            now.problems.push(format!(
                "`{step}` of run {run} begins on server {server} beside `{other}` on server {by}"
            ));
        }
        now.serial += 1;
        let serial = now.serial;
        now.attempts.insert(serial, (run.clone(), step.clone(), server));
        Going(self, serial)
    }

    /// The lease of a run is another's although its holder was not told in time.
    pub(crate) fn stolen(&self, run: RunId) {
        self.under_way().stolen.insert(run);
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.under_way().problems.clone()
    }

    fn effects(&self) -> MutexGuard<'_, BTreeMap<(RunId, StepId), Vec<u32>>> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempts of a step that took effect.
    pub(crate) fn of(&self, run: &RunId, step: &StepId) -> Vec<u32> {
        self.effects().get(&(run.clone(), step.clone())).cloned().unwrap_or_default()
    }

    fn act(&self, context: &StepContext, effect: Effect) {
        let info = context.info();
        let mut effects = self.effects();
        let done = effects.entry((info.run.clone(), info.step.clone())).or_default();
        match effect {
            Effect::Pure => {}
            Effect::Idempotent | Effect::CheckThenAct if !done.is_empty() => {}
            Effect::Idempotent | Effect::CheckThenAct | Effect::Once => done.push(info.attempt),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// What each attempt does: `p` passes, `r` rejects, `s` skips, `f` fails in passing, `t` fails for
    /// good, `x` panics, `h` hangs. The last letter holds for all that follow.
    script: String,
    text: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Output {
    text: String,
    list: Vec<String>,
}

/// What a step gives for its text, always.
fn output(text: String) -> Output {
    let count = text.len() % 4;
    Output { list: (0..count).map(|n| format!("x{n}")).collect(), text }
}

async fn attempt(
    outside: &Outside,
    server: usize,
    effect: Effect,
    input: Input,
    context: &StepContext,
) -> Result<Verdict<Output>, StepError> {
    let info = context.info();
    let _going = outside.begins(&info.run, &info.step, server);
    let salt = format!("{}/{}/{}", info.run, info.step, info.attempt);
    let mut rng = Rng::of(outside.seed, &salt);
    // Some are longer than a lease lasts.
    let pause = |rng: &mut Rng| {
        let most = if rng.one_in(6) { 7000 } else { 1500 };
        Duration::from_millis(rng.below(most))
    };
    let wait = async |pause: Duration| -> Result<(), StepError> {
        let slept = async {
            tokio::time::sleep(pause).await;
            Ok::<_, StepError>(())
        };
        context.cancel().guard(slept).await
    };
    wait(pause(&mut rng)).await?;
    let script = input.script.as_bytes();
    let letter = script.get(info.attempt as usize - 1).or(script.last()).copied();
    match letter.unwrap_or(b'p') {
        b'r' => {
            let outputs = output(input.text);
            return Ok(Verdict::Rejected { reason: "no".to_owned(), outputs });
        }
        b's' => return Ok(Verdict::Skipped { reason: "nothing to do".to_owned() }),
        b'f' => return Err(StepError::retryable("it is busy")),
        b't' => return Err(StepError::terminal("it broke")),
        b'x' => std::panic::panic_any(PANIC),
        b'h' => wait(Duration::from_secs(100_000)).await?,
        _ => {}
    }
    outside.act(context, effect);
    // What was done cannot be undone by being told to stop.
    if rng.one_in(2) {
        tokio::time::sleep(pause(&mut rng)).await;
    }
    Ok(Verdict::passed(output(input.text)))
}

macro_rules! kinds {
    ($($name:ident $kind:literal $effect:ident),*) => {
        $(
            /// A fake kind.
            struct $name(Arc<Outside>, usize);

            impl StepKind for $name {
                const KIND: &'static str = $kind;
                const SUMMARY: &'static str = "Does what its script says";
                const VERSION: &'static str = "1";
                const EFFECT: Effect = Effect::$effect;
                const CAPABILITIES: &'static [Capability] = &[];
                type Input = Input;
                type Output = Output;

                async fn run(
                    &self,
                    input: Input,
                    context: &StepContext,
                ) -> Result<Verdict<Output>, StepError> {
                    attempt(&self.0, self.1, Effect::$effect, input, context).await
                }
            }
        )*

        /// The kinds as one server has them.
        pub(crate) fn catalog(outside: &Arc<Outside>, server: usize) -> Arc<Catalog> {
            let mut catalog = Catalog::new();
            $(catalog.add($name(Arc::clone(outside), server)).expect("a new kind");)*
            Arc::new(catalog)
        }
    };
}

kinds!(PureKind "pure" Pure, Idem "idem" Idempotent, Check "check" CheckThenAct, Once "once" Once);
