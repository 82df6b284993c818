//! The contract of a step: the typed side that authors write, and the erased side the engine runs.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::requirement::{guess, is_within};
use crate::{Digest, Missing, Outputs, Preflight, Requirement, StepContext, StepError, Verdict};

/// The `format` keywords that give a JSON string or object in a step's schemas its Fairlead type.
/// The plan checks that what an expression yields has the format that the input asks for.
pub mod format {
    /// [`crate::Digest`].
    pub const DIGEST: &str = "digest";
    /// [`crate::Image`].
    pub const IMAGE: &str = "image";
    /// [`crate::ImageRef`].
    pub const IMAGE_REF: &str = "image-ref";
    /// [`crate::Repository`].
    pub const REPOSITORY: &str = "repository";
    /// [`crate::Artifact`].
    pub const ARTIFACT: &str = "artifact";
    /// [`crate::Secret`].
    pub const SECRET: &str = "secret";
    /// [`crate::HumanDuration`].
    pub const DURATION: &str = "step-duration";
}

/// What becomes of an attempt whose end nobody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It changes nothing outside; its result may be cached by what went in.
    Pure,
    /// Doing it twice is the same as doing it once.
    Idempotent,
    /// It looks first, finds its own earlier work, and does only what is missing.
    CheckThenAct,
    /// It must not be done twice; after a lost attempt a person decides.
    Once,
}

/// What a step may ask its host for. A handle that was not declared is refused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// To start processes.
    Process,
    /// To talk to the container engine.
    Engine,
    /// To read from registries.
    RegistryRead,
    /// To write to registries.
    RegistryWrite,
    /// To receive secrets in its inputs.
    Secrets,
    /// To read and write git remotes.
    Git,
    /// To reach other hosts over the network.
    Network,
    /// To read what the run's journal says so far.
    History,
}

/// What is wrong with one input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// The JSON pointer of the place within `with`, such as `/platforms/0`; empty for the whole.
    pub pointer: String,
    /// One lower-case sentence fragment.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl InputProblem {
    /// A problem at `pointer`.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), hint: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A kind of step: the one trait that an author implements. `docs/step-contract.md` has the rules.
pub trait StepKind: Send + Sync + 'static {
    /// The name behind `uses:`, lower-case.
    const KIND: &'static str;
    /// One line for `fairlead steps`.
    const SUMMARY: &'static str;
    /// The version of what it does, which is not that of its crate: it changes when the same input no
    /// longer comes to the same. It is pinned in every run's plan: an unfinished run goes on only with
    /// the version that it began with, and cached results are those of one version.
    const VERSION: &'static str = "1";
    /// What becomes of a lost attempt.
    const EFFECT: Effect;
    /// What it asks its host for.
    const CAPABILITIES: &'static [Capability];

    /// What stands under `with:`. Derive `Deserialize` and `JsonSchema`, with
    /// `#[serde(deny_unknown_fields)]`; the doc comments become the reference.
    type Input: DeserializeOwned + JsonSchema + Send + Sync;
    /// What later steps may refer to as `steps.<id>.<field>`. Serializes to an object.
    type Output: Serialize + JsonSchema + Send;

    /// Checks what the types cannot say. No I/O: it runs in `fairlead lint`.
    fn check(&self, input: &Self::Input) -> Vec<InputProblem> {
        let _ = input;
        Vec::new()
    }

    /// What an attempt would have of its machine and of what stands around it: programs of the host,
    /// containers, networks, paths outside of the workspace. A server's configuration says which of it
    /// the pipelines of a project may have; what a kind does not tell of here, it must not use. No I/O:
    /// it is asked before a run begins, and again before each attempt.
    fn requirements(&self, input: &Self::Input) -> Vec<Requirement> {
        let _ = input;
        Vec::new()
    }

    /// What an attempt will need and this machine does not have: an engine, a program, a database, a key
    /// that opens. It is asked for every step at once before a run begins, so that a person hears of
    /// all of it before minutes of work are done. It may read, never change anything, and must be
    /// quick; an input that is not known yet is null, and must not be missed. What cannot be told for
    /// certain is not missing: the attempt will say.
    fn preflight(&self, look: &Preflight<'_>) -> impl Future<Output = Vec<Missing>> + Send {
        let _ = look;
        async { Vec::new() }
    }

    /// What an attempt reads besides its input, each with a name and the digest of what it is now: files
    /// of the workspace, databases, the day where it matters. Asked only of kinds whose effect is
    /// [`Effect::Pure`], and only when their results are cached: the same input and the same
    /// digests stand for the same result.
    ///
    /// # Errors
    /// When it cannot be told; the attempt is then made, and says what is wrong.
    fn reads(
        &self,
        input: &Self::Input,
        context: &StepContext,
    ) -> impl Future<Output = Result<Vec<(String, Digest)>, StepError>> + Send {
        let _ = (input, context);
        async { Ok(Vec::new()) }
    }

    /// Does the work. Called at least once for an attempt; it must end soon after
    /// [`StepContext::cancel`] says stop, and leave nothing half done that the next attempt would
    /// not find and mend.
    fn run(
        &self,
        input: Self::Input,
        context: &StepContext,
    ) -> impl Future<Output = Result<Verdict<Self::Output>, StepError>> + Send;
}

/// What a kind says of itself.
#[derive(Debug, Clone)]
pub struct StepSpec {
    /// The name behind `uses:`.
    pub kind: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The version of its behavior.
    pub version: &'static str,
    /// What becomes of a lost attempt.
    pub effect: Effect,
    /// What it asks its host for.
    pub capabilities: &'static [Capability],
    /// The JSON Schema (2020-12, every subschema inlined) of `with:`.
    pub input_schema: Value,
    /// The JSON Schema (2020-12, every subschema inlined) of its outputs.
    pub output_schema: Value,
}

/// A step, erased: what the engine holds and runs.
pub trait Step: Send + Sync {
    /// What the kind says of itself.
    fn spec(&self) -> &StepSpec;

    /// Checks a complete `with` value: the types first, then what the kind itself checks.
    ///
    /// # Errors
    /// Every problem found.
    fn check(&self, with: &Value) -> Result<(), Vec<InputProblem>>;

    /// What an attempt with this complete `with` value would have: see [`StepKind::requirements`].
    ///
    /// # Errors
    /// When the value is not one of the kind's.
    fn requirements(&self, with: &Value) -> Result<Vec<Requirement>, InputProblem>;

    /// The same for a value in which null stands for what is not known yet, as far as it can be told:
    /// nothing that comes from what is not known is among it.
    fn foreseen_requirements(&self, with: &Value) -> Vec<Requirement> {
        let (guessed, unknown) = guess(with, &self.spec().input_schema);
        let mut found = self.requirements(&guessed).unwrap_or_default();
        found.retain(|requirement| !is_within(&requirement.pointer, &unknown));
        found
    }

    /// What an attempt would need and this machine does not have: see [`StepKind::preflight`].
    fn preflight<'a>(&'a self, look: &'a Preflight<'a>) -> BoxFuture<'a, Vec<Missing>>;

    /// What an attempt with this complete `with` value would read besides: see [`StepKind::reads`].
    ///
    /// # Errors
    /// When it cannot be told, or the value is not one of the kind's.
    fn reads<'a>(
        &'a self,
        with: &Value,
        context: &'a StepContext,
    ) -> BoxFuture<'a, Result<Vec<(String, Digest)>, StepError>>;

    /// Runs one attempt.
    fn run<'a>(
        &'a self,
        with: Value,
        context: &'a StepContext,
    ) -> BoxFuture<'a, Result<Verdict<Outputs>, StepError>>;
}

struct Erased<K> {
    kind: K,
    spec: StepSpec,
}

/// Erases a kind, for the catalog.
pub fn erase<K: StepKind>(kind: K) -> Arc<dyn Step> {
    let spec = StepSpec {
        kind: K::KIND,
        summary: K::SUMMARY,
        version: K::VERSION,
        effect: K::EFFECT,
        capabilities: K::CAPABILITIES,
        input_schema: inlined_schema::<K::Input>(),
        output_schema: inlined_schema::<K::Output>(),
    };
    Arc::new(Erased { kind, spec })
}

fn inlined_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn parse<T: DeserializeOwned>(with: Value) -> Result<T, InputProblem> {
    serde_path_to_error::deserialize(with).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            use serde_path_to_error::Segment;
            match segment {
                Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
                Segment::Map { key } => {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                Segment::Enum { variant } => {
                    pointer.push('/');
                    pointer.push_str(variant);
                }
                Segment::Unknown => {}
            }
        }
        InputProblem::at(pointer, error.inner().to_string())
    })
}

fn refuse(problem: InputProblem) -> StepError {
    let place = problem.pointer.trim_start_matches('/').replace('/', ".");
    let at = if place.is_empty() { String::new() } else { format!(".{place}") };
    let error = StepError::terminal(format!("`with{at}`: {}", problem.message));
    match problem.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl<K: StepKind> Step for Erased<K> {
    fn spec(&self) -> &StepSpec {
        &self.spec
    }

    fn check(&self, with: &Value) -> Result<(), Vec<InputProblem>> {
        let input = parse::<K::Input>(with.clone()).map_err(|problem| vec![problem])?;
        let problems = self.kind.check(&input);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn requirements(&self, with: &Value) -> Result<Vec<Requirement>, InputProblem> {
        parse::<K::Input>(with.clone()).map(|input| self.kind.requirements(&input))
    }

    fn preflight<'a>(&'a self, look: &'a Preflight<'a>) -> BoxFuture<'a, Vec<Missing>> {
        Box::pin(self.kind.preflight(look))
    }

    fn reads<'a>(
        &'a self,
        with: &Value,
        context: &'a StepContext,
    ) -> BoxFuture<'a, Result<Vec<(String, Digest)>, StepError>> {
        let input = parse::<K::Input>(with.clone()).map_err(refuse);
        Box::pin(async move { self.kind.reads(&input?, context).await })
    }

    fn run<'a>(
        &'a self,
        with: Value,
        context: &'a StepContext,
    ) -> BoxFuture<'a, Result<Verdict<Outputs>, StepError>> {
        Box::pin(async move {
            let input = parse::<K::Input>(with).map_err(refuse)?;
            if let Some(problem) = self.kind.check(&input).into_iter().next() {
                return Err(refuse(problem));
            }
            let verdict = self.kind.run(input, context).await?;
            verdict.try_map(|outputs| {
                serde_json::to_value(outputs).map_err(|error| {
                    StepError::terminal(format!("step kind `{}` gave no JSON output", K::KIND))
                        .because(error)
                })
            })
        })
    }
}
