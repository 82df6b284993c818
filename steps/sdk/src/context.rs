//! What the host hands to one attempt of one step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;

use crate::{
    Artifacts, Capability, Confinement, Egress, History, RunId, Secret, Spawn, StepError, StepId,
    StepSpec,
};

/// Which run, which step, which attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// The run.
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The step within it.
    pub step: StepId,
    /// Counts from 1.
    pub attempt: u32,
}

impl RunInfo {
    /// The same for every attempt of this step in this run: what `check-then-act` steps look for.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run, self.step)
    }
}

/// Which stream a line of log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// A process's standard output.
    Stdout,
    /// A process's standard error.
    Stderr,
    /// The step itself.
    Step,
}

impl Stream {
    /// The letter for it, where lines of logs are kept as text.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Stdout => 'o',
            Self::Stderr => 'e',
            Self::Step => 's',
        }
    }

    /// The stream that has this letter.
    #[must_use]
    pub fn of_letter(letter: &str) -> Option<Self> {
        match letter {
            "o" => Some(Self::Stdout),
            "e" => Some(Self::Stderr),
            "s" => Some(Self::Step),
            _ => None,
        }
    }
}

/// How far a step is, for a person who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, such as `layer 2 of 5`.
    pub what: String,
    /// How much is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

/// The port to the step's log. Lines are masked, bounded and stored by the host.
pub trait Log: Send + Sync {
    /// One line, without its end.
    fn line(&self, stream: Stream, text: &str);

    /// How far the step is. Shown live, never stored.
    fn progress(&self, progress: Progress);

    /// Ready when lines that come now are not too many: whoever writes what another program says should
    /// wait for it, so that the log keeps up and no line is left out. It waits no longer than a while. None
    /// when there is nothing to wait for.
    fn room(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// The port to time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Who to be at a registry.
#[derive(Debug, Clone)]
pub enum RegistryAuth {
    /// Nobody.
    Anonymous,
    /// A user with a password or an access token.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// An identity (refresh) token, as `docker login` stores it under `identitytoken`.
    IdentityToken(Secret<String>),
}

/// How to reach one registry.
#[derive(Debug, Clone)]
pub struct RegistryAccess {
    /// Who to be.
    pub auth: RegistryAuth,
    /// Whether to speak plain HTTP. True by default for loopback addresses alone.
    pub plain_http: bool,
    /// PEM certificates to trust besides the system's.
    pub extra_ca: Vec<u8>,
    /// Which hosts may be spoken to: its own, and those that its answers lead to.
    pub egress: Egress,
}

/// The port to the settings and credentials of registries.
pub trait Registries: Send + Sync {
    /// How to reach the registry at `host` (`host` or `host:port`).
    fn access(&self, host: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>>;
}

/// A signal that says stop, once, to everybody who holds a copy.
#[derive(Debug, Clone)]
pub struct CancelToken(Shared<oneshot::Receiver<()>>);

/// The other end of a [`CancelToken`]. Dropping it without [`CancelHandle::cancel`] also cancels.
#[derive(Debug)]
pub struct CancelHandle(oneshot::Sender<()>);

impl CancelToken {
    /// A token and its handle.
    #[must_use]
    pub fn new() -> (CancelHandle, Self) {
        let (sender, receiver) = oneshot::channel();
        (CancelHandle(sender), Self(receiver.shared()))
    }

    /// Whether stop was said.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.clone().now_or_never().is_some()
    }

    /// Waits until stop is said.
    pub async fn cancelled(&self) {
        let _ = self.0.clone().await;
    }

    /// Runs `work` until it ends or stop is said.
    ///
    /// # Errors
    /// [`StepError::cancelled`] when stop came first; what `work` fails with otherwise.
    pub async fn guard<T, E: Into<StepError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StepError> {
        let work = std::pin::pin!(work);
        match futures::future::select(work, self.0.clone()).await {
            futures::future::Either::Left((result, _)) => result.map_err(Into::into),
            futures::future::Either::Right(_) => Err(StepError::cancelled()),
        }
    }
}

impl CancelHandle {
    /// Says stop.
    pub fn cancel(self) {
        let _ = self.0.send(());
    }
}

/// What the host fills in for one attempt.
pub struct Ports {
    /// Which run, step and attempt.
    pub info: RunInfo,
    /// The folder that relative paths in `with` start from: the checkout of the pipeline's source.
    pub workspace: PathBuf,
    /// A folder of this attempt's own, gone when it ends.
    pub scratch: PathBuf,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Processes.
    pub spawn: Arc<dyn Spawn>,
    /// Registries.
    pub registries: Arc<dyn Registries>,
    /// Artifacts.
    pub artifacts: Arc<dyn Artifacts>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How its containers are shut in.
    pub confinement: Confinement,
    /// Which hosts may be spoken to.
    pub egress: Egress,
    /// What the run has done so far, for a kind that declares [`Capability::History`].
    pub history: Option<Arc<History>>,
    /// The signal to stop.
    pub cancel: CancelToken,
}

/// What a step may use during one attempt.
pub struct StepContext {
    ports: Ports,
    kind: &'static str,
    capabilities: &'static [Capability],
}

impl StepContext {
    /// A context for one attempt of the kind that `spec` describes.
    #[must_use]
    pub const fn new(ports: Ports, spec: &StepSpec) -> Self {
        Self { ports, kind: spec.kind, capabilities: spec.capabilities }
    }

    fn granted(&self, any_of: &[Capability]) -> Result<(), StepError> {
        let granted = any_of.iter().any(|c| self.capabilities.contains(c));
        debug_assert!(granted, "step kind `{}` does not declare any of {any_of:?}", self.kind);
        if granted {
            return Ok(());
        }
        Err(StepError::terminal(format!(
            "step kind `{}` asked for what it does not declare: one of {any_of:?}",
            self.kind
        )))
    }

    /// Which run, step and attempt this is.
    #[must_use]
    pub const fn info(&self) -> &RunInfo {
        &self.ports.info
    }

    /// The folder that relative paths in `with` start from.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.ports.workspace
    }

    /// A folder of this attempt's own. It exists, is empty, and goes when the attempt ends.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.ports.scratch
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &dyn Log {
        &*self.ports.log
    }

    /// Writes one line of the step's own to the log.
    pub fn say(&self, text: impl AsRef<str>) {
        self.ports.log.line(Stream::Step, text.as_ref());
    }

    /// The log, to move into a task.
    #[must_use]
    pub fn shared_log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.ports.log)
    }

    /// Processes.
    ///
    /// # Errors
    /// When the kind declares neither [`Capability::Process`] nor [`Capability::Git`].
    pub fn spawn(&self) -> Result<Arc<dyn Spawn>, StepError> {
        self.granted(&[Capability::Process, Capability::Git])?;
        Ok(Arc::clone(&self.ports.spawn))
    }

    /// Registries.
    ///
    /// # Errors
    /// When the kind declares neither [`Capability::RegistryRead`] nor
    /// [`Capability::RegistryWrite`].
    pub fn registries(&self) -> Result<Arc<dyn Registries>, StepError> {
        self.granted(&[Capability::RegistryRead, Capability::RegistryWrite])?;
        Ok(Arc::clone(&self.ports.registries))
    }

    /// Artifacts.
    #[must_use]
    pub fn artifacts(&self) -> &dyn Artifacts {
        &*self.ports.artifacts
    }

    /// What the run has done up to the moment in which this attempt began.
    ///
    /// # Errors
    /// When the kind does not declare [`Capability::History`], or the host has no journal.
    pub fn history(&self) -> Result<&History, StepError> {
        self.granted(&[Capability::History])?;
        self.ports.history.as_deref().ok_or_else(|| {
            StepError::terminal("this host does not tell what the run has done so far")
        })
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Which hosts may be spoken to, for steps that connect by other ways than the registry client.
    #[must_use]
    pub const fn egress(&self) -> &Egress {
        &self.ports.egress
    }

    /// How the containers of this attempt are shut in.
    #[must_use]
    pub const fn confinement(&self) -> &Confinement {
        &self.ports.confinement
    }

    /// The signal to stop.
    #[must_use]
    pub const fn cancel(&self) -> &CancelToken {
        &self.ports.cancel
    }
}
