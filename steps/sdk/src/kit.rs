//! The conformance kit: an in-memory host for the tests of a step crate.
//!
//! [`TestHost`] fills every port: a log that remembers, processes that really run, artifacts in
//! memory, a clock that stands still. [`conformance`] runs a step twice with one idempotency key,
//! as recovery does after a lost attempt, and demands the same answer.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Artifact, ArtifactError, Artifacts, CancelHandle, CancelToken, Clock, Confinement, Digest,
    Effect, Egress, History, Log, Missing, Output, Outputs, Ports, Preflight, ProcessError,
    ProcessExit, ProcessSpec, Progress, Registries, RegistryAccess, RegistryAuth, RunId, RunInfo,
    Spawn, Step, StepContext, StepError, Stopped, Stream, Verdict,
};

#[derive(Default)]
struct Memory {
    lines: Mutex<Vec<(Stream, String)>>,
    artifacts: Mutex<BTreeMap<Digest, Bytes>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Memory {
    fn line(&self, stream: Stream, text: &str) {
        locked(&self.lines).push((stream, text.to_owned()));
    }

    fn progress(&self, _: Progress) {}
}

impl Artifacts for Memory {
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let artifact = Artifact {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            digest: Digest::sha256(&bytes),
            size: bytes.len() as u64,
        };
        locked(&self.artifacts).insert(artifact.digest.clone(), bytes);
        Box::pin(std::future::ready(Ok(artifact)))
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let found = locked(&self.artifacts).get(digest).cloned();
        let answer = found.ok_or_else(|| ArtifactError::NotFound { digest: digest.clone() });
        Box::pin(std::future::ready(answer))
    }
}

struct LoopbackRegistries;

impl Registries for LoopbackRegistries {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        Box::pin(std::future::ready(Ok(RegistryAccess {
            auth: RegistryAuth::Anonymous,
            plain_http: true,
            extra_ca: Vec::new(),
            egress: Egress::open(),
        })))
    }
}

struct FixedClock(Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Runs processes on a thread each. It has no groups and no grace: the host of `fairlead-exec` has.
struct ThreadSpawn {
    log: Arc<Memory>,
    workspace: std::path::PathBuf,
}

impl Spawn for ThreadSpawn {
    fn run(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<ProcessExit, ProcessError>> {
        let (sender, receiver) = oneshot::channel();
        let log = Arc::clone(&self.log);
        let workspace = self.workspace.clone();
        std::thread::spawn(move || {
            let _ = sender.send(run_to_end(spec, &log, &workspace));
        });
        Box::pin(async move {
            let stopped = Stopped::Unstarted;
            let gone = ProcessError::Cancelled { program: "test".into(), stopped };
            receiver.await.unwrap_or(Err(gone))
        })
    }
}

fn run_to_end(
    spec: ProcessSpec,
    log: &Memory,
    workspace: &Path,
) -> Result<ProcessExit, ProcessError> {
    use std::os::unix::process::ExitStatusExt as _;
    let program = spec.program.to_string_lossy().into_owned();
    let start_error = |source: std::io::Error| {
        let program = program.clone();
        if source.kind() == std::io::ErrorKind::NotFound {
            ProcessError::NotFound { program }
        } else {
            ProcessError::Start { program, source }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "the kit is a host, for tests")]
    let mut command = Command::new(&spec.program);
    if !spec.inherit_env {
        command.env_clear();
        #[expect(clippy::disallowed_methods, reason = "the kit is a host, for tests")]
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
    }
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(spec.cwd.as_deref().unwrap_or(workspace))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start_error)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = std::thread::spawn(move || {
        if let (Some(mut pipe), Some(bytes)) = (stdin, spec.stdin) {
            let _ = pipe.write_all(&bytes);
        }
    });
    let drain = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = stderr {
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut kept = Vec::new();
    if let Some(mut pipe) = stdout {
        let _ = pipe.read_to_end(&mut kept);
    }
    let status = child.wait().map_err(start_error)?;
    let _ = feed.join();
    let stderr_tail = drain.join().unwrap_or_default();
    for line in stderr_tail.lines() {
        log.line(Stream::Stderr, line);
    }
    let stdout = match spec.stdout {
        Output::Capture { limit } if kept.len() > limit => {
            return Err(ProcessError::TooMuchOutput { program, limit });
        }
        Output::Capture { .. } => Bytes::from(kept),
        Output::Log => {
            for line in String::from_utf8_lossy(&kept).lines() {
                log.line(Stream::Stdout, line);
            }
            Bytes::new()
        }
    };
    Ok(ProcessExit { code: status.code(), signal: status.signal(), stdout, stderr_tail })
}

/// An in-memory host for one step under test.
pub struct TestHost {
    memory: Arc<Memory>,
    workspace: tempfile::TempDir,
    registries: Arc<dyn Registries>,
    now: Timestamp,
    run: RunId,
    confinement: Confinement,
    history: Option<Arc<History>>,
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// A host with an empty workspace, plain HTTP to every registry, and a clock that stands.
    ///
    /// # Panics
    /// When the temporary folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: Arc::default(),
            workspace: tempfile::tempdir().expect("a temporary folder"),
            registries: Arc::new(LoopbackRegistries),
            now: Timestamp::from_second(1_790_000_000).expect("a time"),
            run: RunId::mint(1_790_000_000_000, 7),
            confinement: Confinement::default(),
            history: None,
        }
    }

    /// The same host with other registry settings.
    #[must_use]
    pub fn with_registries(mut self, registries: Arc<dyn Registries>) -> Self {
        self.registries = registries;
        self
    }

    /// The same host, whose containers are shut in so.
    #[must_use]
    pub fn with_confinement(mut self, confinement: Confinement) -> Self {
        self.confinement = confinement;
        self
    }

    /// The same host, whose run has done this so far.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = Some(Arc::new(history));
        self
    }

    /// The folder that relative paths start from.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        self.workspace.path()
    }

    /// Every line logged so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        locked(&self.memory.lines).iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// The bytes of an artifact that the step stored.
    #[must_use]
    pub fn artifact(&self, digest: &Digest) -> Option<Bytes> {
        locked(&self.memory.artifacts).get(digest).cloned()
    }

    /// Stores an artifact for the step to read.
    pub fn store(&self, name: &str, media_type: &str, bytes: impl Into<Bytes>) -> Artifact {
        let bytes = bytes.into();
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        locked(&self.memory.artifacts).insert(digest.clone(), bytes);
        Artifact { name: name.to_owned(), media_type: media_type.to_owned(), digest, size }
    }

    /// A context for attempt number `attempt`, and the handle that cancels it.
    ///
    /// # Panics
    /// When the scratch folder cannot be made.
    #[must_use]
    pub fn context(&self, step: &dyn Step, attempt: u32) -> (StepContext, CancelHandle) {
        let (handle, cancel) = CancelToken::new();
        let scratch = self.workspace.path().join(format!(".scratch-{attempt}"));
        std::fs::create_dir_all(&scratch).expect("a scratch folder");
        let ports = Ports {
            info: RunInfo {
                run: self.run.clone(),
                pipeline: "test".into(),
                step: "step".parse().expect("a step name"),
                attempt,
            },
            workspace: self.workspace.path().to_owned(),
            scratch,
            log: self.memory.clone(),
            spawn: Arc::new(ThreadSpawn {
                log: self.memory.clone(),
                workspace: self.workspace.path().to_owned(),
            }),
            registries: Arc::clone(&self.registries),
            artifacts: self.memory.clone(),
            clock: Arc::new(FixedClock(self.now)),
            confinement: self.confinement.clone(),
            egress: Egress::open(),
            history: self.history.clone(),
            cancel,
        };
        (StepContext::new(ports, step.spec()), handle)
    }

    /// What `step` says before a run begins that is missing; an input that is not known yet is null.
    pub async fn preflight(&self, step: &dyn Step, with: &Value, first: bool) -> Vec<Missing> {
        #[expect(clippy::disallowed_methods, reason = "the kit is a host, for tests")]
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has_program =
            |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let workspace = self.workspace.path();
        step.preflight(&Preflight::new(with, workspace, first, self.now, &has_program)).await
    }

    /// Runs one attempt of `step`.
    ///
    /// # Errors
    /// What the step fails with.
    pub async fn run(&self, step: &dyn Step, with: Value) -> Result<Verdict<Outputs>, StepError> {
        let (context, _handle) = self.context(step, 1);
        step.run(with, &context).await
    }
}

/// Every path below `folder`, with its size.
fn listing(folder: &Path) -> BTreeMap<std::path::PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path(), metadata.len());
        }
    }
    found
}

/// Checks what `docs/step-contract.md` asks of every kind: object schemas that refuse unknown
/// keys, inputs that are refused before anything happens, a preflight that changes nothing and misses
/// nothing that the step can do without, and the same answer when an attempt is made again with the
/// same idempotency key (for every effect but [`Effect::Once`]).
///
/// Answers the verdict of the first attempt.
///
/// # Errors
/// What the step fails with.
///
/// # Panics
/// When the step breaks the contract.
pub async fn conformance(
    host: &TestHost,
    step: &dyn Step,
    with: Value,
) -> Result<Verdict<Outputs>, StepError> {
    let spec = step.spec();
    for (what, schema) in [("input", &spec.input_schema), ("output", &spec.output_schema)] {
        assert_eq!(schema["type"], "object", "the {what} schema of `{}`", spec.kind);
    }
    assert_eq!(
        spec.input_schema["additionalProperties"], false,
        "the input of `{}` must deny unknown fields",
        spec.kind
    );
    let mut unknown = with.clone();
    unknown["no_such_input"] = Value::Bool(true);
    assert!(step.check(&unknown).is_err(), "`{}` took an unknown input", spec.kind);
    step.check(&with).unwrap_or_else(|problems| panic!("`{}`: {problems:?}", spec.kind));

    let required = step.requirements(&with);
    assert!(required.is_ok(), "`{}` cannot say what it requires: {required:?}", spec.kind);
    assert_eq!(required.ok(), Some(step.foreseen_requirements(&with)), "`{}`", spec.kind);
    let before = listing(host.workspace());
    let known = with.as_object().into_iter().flatten();
    let unknown: Value = known.map(|(name, _)| (name.clone(), Value::Null)).collect();
    let mut missing = Vec::new();
    for first in [true, false] {
        missing.extend(host.preflight(step, &with, first).await);
        // Nothing is known of what comes from another step, and nothing may be missed for it.
        host.preflight(step, &unknown, first).await;
        host.preflight(step, &Value::Object(serde_json::Map::new()), first).await;
    }
    assert_eq!(before, listing(host.workspace()), "the preflight of `{}` changed files", spec.kind);

    let first = host.run(step, with.clone()).await?;
    assert_eq!(missing, [], "`{}` missed what it did not need", spec.kind);
    if spec.effect != Effect::Once {
        let (context, _handle) = host.context(step, 2);
        let second = step.run(with, &context).await?;
        assert_eq!(first, second, "`{}` answered differently the second time", spec.kind);
    }
    Ok(first)
}
