//! The command step: a program, or a container through the Docker API. No stable API.
//!
//! No shell is involved: `args` and `env` reach the program as they are. A program that is run
//! again after a lost attempt must come to the same end; that is what `idempotent` asks of it.

mod container;
mod engine;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::time::Duration;

use fairlead_step::{
    ByteSize, Capability, Effect, EngineAddress, ImageRef, InputProblem, Missing, Preflight,
    ProcessError, ProcessSpec, Required, Requirement, Secret, StepContext, StepError, StepKind,
    Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes of standard output that `capture` keeps.
const CAPTURE_LIMIT: usize = 512 * 1024;

/// The network of a container that asks for none.
const DEFAULT_NETWORK: &str = "bridge";

/// How long the engine has to answer before a run begins.
const PREFLIGHT: Duration = Duration::from_secs(10);

/// Runs a program on the host, or in a container.
#[derive(Debug, Clone)]
pub struct Command {
    engine: EngineAddress,
}

impl Command {
    /// The kind, with the container engine that `container` uses. The engine is first spoken to
    /// when a step asks for a container.
    #[must_use]
    pub const fn new(engine: EngineAddress) -> Self {
        Self { engine }
    }
}

/// A program to run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The program: a name that is looked up in `PATH`, or a path from `cwd`, such as
    /// `./scripts/check`. No shell reads it.
    program: String,
    /// Its arguments, each as it is.
    #[serde(default)]
    args: Vec<String>,
    /// Variables of its environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Variables of its environment that are secrets.
    #[serde(default)]
    secret_env: BTreeMap<String, Secret<String>>,
    /// The folder it runs in, from the workspace; the workspace itself by default.
    cwd: Option<String>,
    /// A text for its standard input, which is empty by default.
    stdin: Option<String>,
    /// Keeps its standard output as an output of the step, at most 512 KiB, in the place of the log.
    capture: Option<Capture>,
    /// The exit codes that mean success.
    #[serde(default = "zero")]
    success_codes: BTreeSet<u8>,
    /// The exit codes by which the program answers no: the step is rejected, which is no failure.
    #[serde(default)]
    reject_codes: BTreeSet<u8>,
    /// Runs the program in a container in the place of the host.
    container: Option<Container>,
}

fn zero() -> BTreeSet<u8> {
    BTreeSet::from([0])
}

/// What `capture` makes of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Text, as `stdout`, without the line ends behind it.
    Stdout,
    /// JSON, parsed, as `json`.
    Json,
}

/// The container to run a program in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image. It is pulled when the engine does not have it. Its own entry point is not run.
    image: ImageRef,
    /// The network: `bridge`, `host`, `none` or the name of one; the engine's default, which is `bridge`,
    /// otherwise.
    network: Option<String>,
    /// The user within the container, such as `1000:1000`; the image's own otherwise.
    user: Option<String>,
    /// Capabilities of Linux that the program has besides those that every container has here, such as
    /// `NET_RAW`.
    #[serde(default)]
    capabilities: BTreeSet<String>,
    /// Whether the file system of the image cannot be written to; `/tmp` is in memory then.
    #[serde(default)]
    read_only: bool,
    /// Whether the workspace is mounted, for reading and writing, at `/workspace`, which is then
    /// the working directory.
    #[serde(default = "yes")]
    mount: bool,
}

const fn yes() -> bool {
    true
}

/// What a program left.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// Its exit code.
    exit_code: i32,
    /// What it wrote to standard output, when `capture` is `stdout`.
    stdout: Option<String>,
    /// What it wrote to standard output, when `capture` is `json`.
    json: Option<Value>,
}

impl StepKind for Command {
    const KIND: &'static str = "command";
    const SUMMARY: &'static str = "Run a program, on the host or in a container";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Process,
        Capability::Engine,
        Capability::RegistryRead,
        Capability::Secrets,
        Capability::Network,
    ];
    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        check(input)
    }

    fn requirements(&self, input: &Input) -> Vec<Requirement> {
        let Some(container) = &input.container else {
            let program = Required::HostProgram(input.program.clone());
            let mut required = vec![Requirement::at("/program", program)];
            for (map, name) in variables_of(input).filter(|(_, name)| chooses_code(name)) {
                let why =
                    format!("`{name}` may put another one in the place of `{}`", input.program);
                let any = Required::AnyHostProgram(why);
                required.push(Requirement::at(format!("/{map}/{name}"), any));
            }
            return required;
        };
        let image = Required::Image(container.image.clone());
        let network = container.network.clone().unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
        let mut required = vec![
            Requirement::at("/container/image", image),
            Requirement::at("/container/network", Required::Network(network)),
        ];
        if container.user.as_deref().is_some_and(container::is_root) {
            required.push(Requirement::at("/container/user", Required::ContainerRoot));
        }
        required.extend(container.capabilities.iter().map(|name| {
            Requirement::at("/container/capabilities", Required::LinuxCapability(name.clone()))
        }));
        required
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        if look.get("/container").is_some_and(serde_json::Value::is_object) {
            let answer = tokio::time::timeout(PREFLIGHT, engine::connect(&self.engine)).await;
            return match answer {
                Ok(Ok(_)) => Vec::new(),
                Ok(Err(error)) => vec![error.into()],
                Err(_) => vec![Missing::new(format!(
                    "the container engine at {} does not answer",
                    self.engine
                ))],
            };
        }
        // A path is one of the workspace, where another step may put it; a `PATH` of the step's own is
        // for the host to walk.
        let own_path = look.get("/env/PATH").is_some() || look.get("/secret_env/PATH").is_some();
        match look.get("/program").and_then(serde_json::Value::as_str) {
            Some(name) if !name.contains('/') && !own_path && !look.has_program(name) => {
                let message = format!("the program `{name}` is not on this machine");
                vec![Missing::new(message).hint("install it, or put it on the PATH")]
            }
            Some(_) | None => Vec::new(),
        }
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let ended = match &input.container {
            None => on_the_host(&input, context).await?,
            Some(container) => container::run(&self.engine, &input, container, context).await?,
        };
        verdict::of(&input, ended)
    }
}

/// How a program ended, wherever it ran.
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: Vec<u8>,
    last_error_line: Option<String>,
    out_of_memory: bool,
    /// How much memory it could use, where that was bounded.
    memory_limit: Option<ByteSize>,
}

fn check(input: &Input) -> Vec<InputProblem> {
    let mut problems = Vec::new();
    if input.program.is_empty() {
        problems.push(InputProblem::at("/program", "the program has no name"));
    }
    if input.program.contains(char::is_whitespace) && input.args.is_empty() {
        problems.push(
            InputProblem::at("/program", format!("`{}` is not a program", input.program))
                .hint("no shell reads it: write the words behind the first one under `args`"),
        );
    }
    let texts = input.args.iter().enumerate().map(|(i, arg)| (format!("/args/{i}"), arg.as_str()));
    let texts = texts.chain([("/program".to_owned(), input.program.as_str())]);
    let plain = input.env.iter().map(|(name, value)| ("env", name, value));
    let secret = input.secret_env.iter().map(|(name, value)| ("secret_env", name, value.expose()));
    let variables: Vec<_> = plain.chain(secret).collect();
    let values =
        variables.iter().map(|(map, name, value)| (format!("/{map}/{name}"), value.as_str()));
    for (pointer, text) in texts.chain(values) {
        if text.contains('\0') {
            problems
                .push(InputProblem::at(pointer, "it has a NUL byte, which no program can take"));
        }
    }
    for (map, name, _) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) {
            let problem = format!("`{}` is not the name of a variable", name.escape_default());
            problems.push(InputProblem::at(format!("/{map}"), problem));
        }
    }
    for name in input.secret_env.keys().filter(|name| input.env.contains_key(*name)) {
        let problem = format!("`{name}` stands under `env`, too");
        problems.push(InputProblem::at(format!("/secret_env/{name}"), problem));
    }
    if let Some(cwd) = &input.cwd
        && !stays_within(cwd)
    {
        problems.push(
            InputProblem::at("/cwd", format!("`{cwd}` leaves the workspace"))
                .hint("write a path from the workspace, without `..`"),
        );
    }
    if input.success_codes.is_empty() {
        problems.push(InputProblem::at("/success_codes", "with no code the step can never pass"));
    }
    if let Some(code) = input.success_codes.intersection(&input.reject_codes).next() {
        let problem = format!("{code} stands under `success_codes`, too");
        problems.push(InputProblem::at("/reject_codes", problem));
    }
    for name in input.container.iter().flat_map(|container| &container.capabilities) {
        if name.is_empty() || name.starts_with("CAP_") || !name.bytes().all(is_capability) {
            problems.push(
                InputProblem::at(
                    "/container/capabilities",
                    format!("`{}` is not a capability", name.escape_default()),
                )
                .hint("write it in capitals and without `CAP_`, such as `NET_RAW`"),
            );
        }
    }
    if let Some(container) = &input.container
        && !container.mount
        && input.cwd.is_some()
    {
        problems.push(InputProblem::at("/cwd", "the workspace is not mounted: `mount` is false"));
    }
    problems
}

/// The variables that a step sets, and where.
fn variables_of(input: &Input) -> impl Iterator<Item = (&'static str, &str)> {
    let plain = input.env.keys().map(|name| ("env", name.as_str()));
    plain.chain(input.secret_env.keys().map(|name| ("secret_env", name.as_str())))
}

/// Whether a variable decides which file a program is, or what is loaded into it.
fn chooses_code(name: &str) -> bool {
    name == "PATH" || name.starts_with("LD_")
}

const fn is_capability(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_'
}

/// Whether `path` is relative and has no `..` in it.
fn stays_within(path: &str) -> bool {
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    !path.contains('\0') && Path::new(path).components().all(inside)
}

async fn on_the_host(input: &Input, context: &StepContext) -> Result<Ended, StepError> {
    let mut process = ProcessSpec::new(&input.program, &input.args);
    for (name, value) in &input.env {
        process = process.env(name, value);
    }
    for (name, value) in &input.secret_env {
        process = process.env(name, value.expose());
    }
    if let Some(cwd) = &input.cwd {
        process = process.current_dir(context.workspace().join(cwd));
    }
    if input.capture.is_some() {
        process = process.capture(CAPTURE_LIMIT);
    }
    process.stdin = input.stdin.clone().map(Into::into);
    let exit = match context.spawn()?.run(process).await {
        Err(ProcessError::NotFound { program }) if program.contains('/') => {
            let error = StepError::terminal(format!("there is no program at `{program}`"));
            return Err(
                error.hint("the path starts at `cwd`, which is the workspace when it is not given")
            );
        }
        ended => ended?,
    };
    Ok(Ended {
        code: exit.code,
        signal: exit.signal,
        stdout: exit.stdout.into(),
        last_error_line: verdict::last_line(&exit.stderr_tail),
        out_of_memory: false,
        memory_limit: None,
    })
}

#[cfg(test)]
mod tests;
