//! The runner's side: takes jobs when there is room, and answers for what it took.

mod floors;
mod held;
mod making;
mod spool;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{File, TryLockError};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use fairlead_event::{JobBus, is_pool_name};
use fairlead_run::AttemptToken;
use fairlead_step::{
    Artifact, ArtifactError, Artifacts, BoxFuture, Catalog, Clock, Digest, Egress, Registries,
    error_chain,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rustix::process::Signal;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use self::floors::Floors;
use self::held::{GivenUp, Held, ServerPorts};
use self::making::{gone, handed_back, interrupted};
use self::spool::{Budget, Spool};
use super::owner::locked;
use super::wire::{Answer, Presence, RunnerRef, ToRunner, ToServer, frame, open};
use super::{ANSWER, FENCED_AT, LEASE, PRESENCE, RENEWALS, RUNNERS, SERVERS};
use crate::attempts::AttemptResult;
use crate::policy::Policy;
use crate::process::cgroup::{CgroupEntry, Cgroups};
use crate::process::guardian::Guardian;
use crate::process::{ProcessOptions, strays};
use crate::scratch::ScratchFolders;
use crate::secrets::SecretProvider;
use crate::workspaces::WorkspaceLayout;

/// How often a runner says that it is there while it makes something, and for some time after something
/// changed: what it says may be lost.
const BUSY_PRESENCE: Duration = Duration::from_secs(2);

/// How often it says so after a change.
const SAID_AGAIN: u32 = 3;

/// How long a job that is on its way to a runner which takes no more is waited for.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// How long to wait before it is listened again where that failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// How long a runner that lacks something waits before it looks again.
const LACKING: Duration = Duration::from_secs(2);

/// How long the end of an attempt is kept after the server has heard it: its journal may not have it yet,
/// and whoever takes the run up asks for it again.
const KEPT: Duration = Duration::from_secs(600);

/// How many of those are kept at most.
const MOST_KEPT: usize = 256;

/// How often a slot whose processes did not end is looked at.
const BLOCKED: Duration = Duration::from_secs(5);

/// Makes what lays workspaces out: archives are among the artifacts of the server whose attempt needs them.
pub type MakeLayout = Box<dyn Fn(Arc<dyn Artifacts>) -> Arc<dyn WorkspaceLayout> + Send + Sync>;

/// What a runner is made of.
pub struct RunnerOptions {
    /// The way to servers.
    pub bus: Arc<dyn JobBus>,
    /// Its name, which no other runner has.
    pub name: String,
    /// The pool whose jobs it takes.
    pub pool: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// How many attempts it makes at a time.
    pub slots: NonZeroUsize,
    /// The step kinds.
    pub catalog: Arc<Catalog>,
    /// What may run.
    pub policy: Policy,
    /// Which hosts steps may speak to.
    pub egress: Egress,
    /// Where secrets come from. Pipelines that are in a project see those of the project alone.
    pub secrets: Arc<dyn SecretProvider>,
    /// The settings and credentials of registries.
    pub registries: Arc<dyn Registries>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Makes what lays the workspaces of runs out, with the artifacts of servers.
    pub workspaces: MakeLayout,
    /// What holds for every process.
    pub processes: ProcessOptions,
    /// The folder with its spool and its scratch folders. No other runner uses it.
    pub folder: PathBuf,
    /// The most bytes of its spool.
    pub spool: u64,
    /// What must be free before it takes a job.
    pub floors: Floors,
    /// How long attempts may take to end when the runner is told to; as long as they want when it is not
    /// given.
    pub grace: Option<Duration>,
    /// The version of this build.
    pub version: String,
    /// What ends its processes when it cannot any more: those that carry the mark in `processes`.
    pub guardian: Option<Guardian>,
    /// What makes control groups for its attempts.
    pub confine: Option<Confine>,
}

/// How processes get into control groups.
#[derive(Debug, Clone)]
pub struct Confine {
    /// Where they are made.
    pub cgroups: Cgroups,
    /// The program that calls [`crate::become_confined`] when it is told [`crate::CONFINE`] first.
    pub program: PathBuf,
}

/// Why there is no runner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The pool has no name.
    #[error("`{pool}` cannot name a pool: use lower-case letters, digits, `-` and `_`")]
    Pool {
        /// What was given.
        pool: String,
    },
    /// Its folder is of no use.
    #[error("the runner's folder {} cannot be used", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another runner has the folder.
    #[error("another runner uses the folder {}", folder.display())]
    Taken {
        /// Which.
        folder: PathBuf,
    },
}

/// How a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerEnd {
    /// All that it took has ended, and its servers know.
    Drained,
    /// So many attempts were handed back, or could not be brought to anybody.
    GaveUp {
        /// How many.
        attempts: usize,
    },
    /// It was told twice, and ended what it made at once.
    Forced {
        /// How many attempts it gave up for that.
        attempts: usize,
    },
}

/// A runner.
pub struct Runner {
    inner: Arc<Inner>,
    _lock: File,
}

struct Inner {
    options: RunnerOptions,
    me: RunnerRef,
    scratch: Arc<ScratchFolders>,
    workspaces: Arc<dyn WorkspaceLayout>,
    budget: Arc<Budget>,
    /// What it answers for.
    held: Mutex<HashMap<AttemptToken, Arc<Held>>>,
    /// What its servers have heard, until it is forgotten.
    kept: Mutex<VecDeque<(Instant, Arc<Held>, AttemptResult)>>,
    /// Why it takes nothing, where it does not.
    closed: Mutex<Option<String>>,
    /// Attempts that are made, or are being claimed.
    busy: AtomicUsize,
    /// Slots whose last processes may live.
    blocked: AtomicUsize,
    gave_up: AtomicUsize,
    /// A slot is free, or something is to be said of this runner.
    freed: Notify,
    said: Notify,
    /// How much it answers for.
    holds: watch::Sender<usize>,
}

/// An attempt that takes a slot.
struct Busy(Arc<Inner>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
        self.0.said.notify_one();
    }
}

impl Runner {
    /// A runner. It says nothing and takes nothing before [`Runner::run`].
    ///
    /// # Errors
    /// When its options or its folder are of no use.
    pub fn new(options: RunnerOptions) -> Result<Self, RunnerError> {
        if !is_pool_name(&options.pool) {
            return Err(RunnerError::Pool { pool: options.pool.chars().take(80).collect() });
        }
        let folder = options.folder.clone();
        let failed = |source| RunnerError::Folder { folder: folder.clone(), source };
        std::fs::create_dir_all(folder.join("spool")).map_err(failed)?;
        let lock = File::create(folder.join("runner.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunnerError::Taken { folder }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let me = RunnerRef {
            name: options.name.clone(),
            incarnation: format!("{:032x}", rand::random::<u128>()),
        };
        if let Some(confine) = &options.confine {
            // The folder is this runner's, and so are the groups that are called after it.
            confine.cgroups.sweep();
        }
        let inner = Arc::new_cyclic(|inner| Inner {
            me,
            workspaces: (options.workspaces)(Arc::new(HeldArtifacts(inner.clone()))),
            scratch: Arc::new(ScratchFolders::new(options.folder.join("scratch"))),
            budget: Arc::new(Budget::new(options.spool)),
            options,
            held: Mutex::default(),
            kept: Mutex::default(),
            closed: Mutex::default(),
            busy: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            gave_up: AtomicUsize::new(0),
            freed: Notify::new(),
            said: Notify::new(),
            holds: watch::Sender::new(0),
        });
        Ok(Self { inner, _lock: lock })
    }

    /// Takes jobs and makes their attempts until `drain` is ready; then it takes none, and ends when
    /// those have ended that it took, or their grace is over, or `force` is ready.
    pub async fn run(
        self,
        drain: impl Future<Output = ()> + Send,
        force: impl Future<Output = ()> + Send,
    ) -> RunnerEnd {
        let inner = &self.inner;
        let mut background = JoinSet::new();
        for address in [RUNNERS.to_owned(), format!("runner.{}", inner.me.incarnation)] {
            background.spawn(Arc::clone(inner).hear(address));
        }
        background.spawn(Arc::clone(inner).say_presence());
        background.spawn(Arc::clone(inner).say_at_each(inner.options.bus.connections()));
        background.spawn(Arc::clone(inner).renew());
        background.spawn(Arc::clone(inner).fence());
        let mut attempts = JoinSet::new();
        inner.find_left_behind(&mut attempts);
        inner.take_until(drain, &mut attempts).await;

        *locked(&inner.closed) = Some(format!("runner {} drains", inner.me.name));
        inner.said.notify_one();
        let all_ended = async { while attempts.join_next().await.is_some() {} };
        let grace = async {
            match inner.options.grace {
                Some(grace) => sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        let mut all_ended = std::pin::pin!(all_ended);
        let forced = tokio::select! {
            () = &mut all_ended => None,
            () = grace => Some(false),
            () = force => Some(true),
        };
        if let Some(forced) = forced {
            let grace = inner.options.grace.filter(|_| !forced);
            let why = handed_back(&inner.me.name, grace);
            for held in inner.all() {
                held.give_up(GivenUp::HandedBack(why.clone()));
            }
            // Their processes have their grace, and their servers a moment to hear of it.
            let patience = inner.options.processes.grace + ANSWER * 4;
            let _ = timeout(patience, &mut all_ended).await;
        }
        background.shutdown().await;
        inner.scratch.release().await;
        let left = inner.gave_up.load(Ordering::Relaxed) + locked(&inner.held).len();
        match forced {
            Some(true) => RunnerEnd::Forced { attempts: left },
            Some(false) | None if left > 0 => RunnerEnd::GaveUp { attempts: left },
            Some(false) | None => RunnerEnd::Drained,
        }
    }
}

/// The artifacts that attempts of this runner may read, each from the server of one of them.
struct HeldArtifacts(Weak<Inner>);

impl Artifacts for HeldArtifacts {
    fn put(&self, name: &str, _: &str, _: Bytes) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let message = format!("`{name}` is of no attempt, and no server keeps it");
        Box::pin(std::future::ready(Err(ArtifactError::Unavailable { message })))
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move {
            let inner = self.0.upgrade();
            let helds = inner.map(|inner| inner.all()).unwrap_or_default();
            match helds.into_iter().find(|held| held.job.artifacts.contains(&digest)) {
                Some(held) => ServerPorts(held).get(&digest).await,
                None => Err(ArtifactError::NotFound { digest }),
            }
        })
    }
}

impl Inner {
    fn spool_folder(&self) -> PathBuf {
        self.options.folder.join("spool")
    }

    fn all(&self) -> Vec<Arc<Held>> {
        locked(&self.held).values().cloned().collect()
    }

    fn hold(&self, held: &Arc<Held>) {
        locked(&self.held).insert(held.token().clone(), Arc::clone(held));
        self.held_changed();
    }

    fn held_changed(&self) {
        let count = locked(&self.held).len();
        self.holds.send_replace(count);
        self.said.notify_one();
    }

    /// Ready when it answers for something.
    async fn holds_something(&self) {
        // The sender is its own.
        let _ = self.holds.subscribe().wait_for(|count| *count > 0).await;
    }

    /// The server has heard how the attempt ended.
    fn delivered(&self, held: &Arc<Held>, end: AttemptResult) {
        locked(&self.held).remove(held.token());
        if let Some(GivenUp::HandedBack(_)) = held.given_up() {
            self.gave_up.fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = locked(&self.kept);
        kept.push_back((Instant::now(), Arc::clone(held), end));
        let now = Instant::now();
        // Logs that servers have must not keep others from being made.
        let spent = || self.budget.is_half_spent();
        while kept.len() > MOST_KEPT
            || kept.front().is_some_and(|(at, ..)| now > *at + KEPT || spent())
        {
            if let Some((_, held, _)) = kept.pop_front() {
                held.spool.remove();
            }
        }
        drop(kept);
        self.held_changed();
    }

    /// Removes the oldest of what servers have heard. False when there is nothing.
    fn forget_oldest(&self) -> bool {
        let oldest = locked(&self.kept).pop_front();
        oldest.map(|(_, held, _)| held.spool.remove()).is_some()
    }

    /// Nobody is to hear of the attempt any more.
    fn give_up(&self, held: &Arc<Held>) {
        // What an earlier life of the runner left is not its own to give up.
        if locked(&self.held).remove(held.token()).is_some() {
            self.gave_up.fetch_add(1, Ordering::Relaxed);
        }
        held.spool.remove();
        self.held_changed();
    }

    /// Leaves a slot unused until no process of the attempt is left.
    fn block_slot(self: &Arc<Self>, token: AttemptToken, confinement: Option<Arc<CgroupEntry>>) {
        self.blocked.fetch_add(1, Ordering::Relaxed);
        self.said.notify_one();
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            while !gone(&token, confinement.as_deref(), Duration::ZERO).await.is_empty() {
                sleep(BLOCKED).await;
            }
            if let Some(confinement) = confinement {
                confinement.group.remove();
            }
            inner.blocked.fetch_sub(1, Ordering::Relaxed);
            inner.freed.notify_one();
            inner.said.notify_one();
        });
    }

    fn has_slot(&self) -> bool {
        let taken = self.busy.load(Ordering::Relaxed) + self.blocked.load(Ordering::Relaxed);
        taken < self.options.slots.get()
    }

    /// Takes jobs while there is room, until `drain` is ready.
    async fn take_until(
        self: &Arc<Self>,
        drain: impl Future<Output = ()> + Send,
        attempts: &mut JoinSet<()>,
    ) {
        let mut drain = std::pin::pin!(drain);
        loop {
            while attempts.try_join_next().is_some() {}
            if !self.has_slot() {
                tokio::select! {
                    () = self.freed.notified() => {}
                    () = &mut drain => return,
                }
                continue;
            }
            let lacking = match self.options.floors.lacking(&self.options.folder) {
                None if self.budget.is_spent() => Some("its spool is full".to_owned()),
                lacking => lacking,
            };
            // What servers have is in nobody's way.
            if lacking.is_some() && self.forget_oldest() {
                continue;
            }
            let unguarded = self.options.guardian.as_ref().is_some_and(Guardian::is_gone);
            let lacking = lacking.or_else(|| unguarded.then(|| "its guardian is gone".to_owned()));
            let why = lacking.map(|lacking| format!("runner {}: {lacking}", self.me.name));
            let is_closed = why.is_some();
            if std::mem::replace(&mut *locked(&self.closed), why.clone()) != why {
                if let Some(why) = why {
                    tracing::warn!("no job is taken: {why}");
                }
                self.said.notify_one();
            }
            if is_closed {
                tokio::select! {
                    () = sleep(LACKING) => {}
                    () = &mut drain => return,
                }
                continue;
            }
            let offer = {
                let mut taken = self.options.bus.take(&self.options.pool);
                tokio::select! {
                    offer = &mut taken => offer,
                    () = &mut drain => {
                        // What is on its way here goes back at once, and not when it is missed.
                        if let Ok(Some(offer)) = timeout(ON_ITS_WAY, taken).await {
                            let _ = offer.later(Duration::ZERO).await;
                        }
                        return;
                    }
                }
            };
            let Some(offer) = offer else { continue };
            self.busy.fetch_add(1, Ordering::Relaxed);
            let (inner, busy) = (Arc::clone(self), Busy(Arc::clone(self)));
            attempts.spawn(async move {
                if let Some(held) = inner.claim(offer).await {
                    inner.make(held).await;
                }
                drop(busy);
            });
        }
    }

    /// Goes on with what an earlier life left: its processes are ended, and its servers told.
    fn find_left_behind(self: &Arc<Self>, attempts: &mut JoinSet<()>) {
        for folder in spool::left_behind(&self.spool_folder()) {
            let found = Spool::found(folder.clone(), Arc::clone(&self.budget));
            let (spool, job, end) = match found {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!("a spool of an earlier runner is not read: {error}");
                    let _ = std::fs::remove_dir_all(folder);
                    continue;
                }
            };
            let processes = strays::marked(job.token.as_str());
            if !processes.is_empty() {
                tracing::warn!("ending what an earlier runner left: {}", strays::named(&processes));
                processes.iter().for_each(|stray| stray.signal(Signal::KILL));
            }
            let (me, bus) = (self.me.clone(), Arc::clone(&self.options.bus));
            let (server, now) = (SERVERS.to_owned(), Instant::now());
            let held = Arc::new(Held::new(job, me, Arc::new(spool), bus, server, now, LEASE));
            let inner = Arc::clone(self);
            attempts.spawn(async move {
                let end = end.unwrap_or_else(|| interrupted(&inner.me.name));
                inner.bring(held, end).await;
            });
        }
    }

    /// Says that it is there, regularly and when something changes.
    async fn say_presence(self: Arc<Self>) {
        let kinds = self.options.catalog.specs();
        let kinds: BTreeMap<String, String> =
            kinds.map(|spec| (spec.kind.to_owned(), spec.version.to_owned())).collect();
        let mut again = SAID_AGAIN;
        loop {
            let tokens: BTreeSet<AttemptToken> = locked(&self.held).keys().cloned().collect();
            let busy = !tokens.is_empty();
            let blocked = self.blocked.load(Ordering::Relaxed);
            let presence = ToServer::Presence(Presence {
                runner: self.me.clone(),
                pool: self.options.pool.clone(),
                labels: self.options.labels.clone(),
                slots: self.options.slots.get().saturating_sub(blocked),
                tokens,
                kinds: kinds.clone(),
                closed: locked(&self.closed).clone(),
                version: self.options.version.clone(),
            });
            if let Err(error) = self.options.bus.tell(SERVERS, frame(&presence, &[])).await {
                tracing::debug!("{}", error_chain(&error));
            }
            let pause = if busy || again > 0 { BUSY_PRESENCE } else { PRESENCE };
            again = match timeout(pause, self.said.notified()).await {
                Ok(()) => SAID_AGAIN,
                Err(_) => again.saturating_sub(1),
            };
            // Changes come in bursts, and every server hears of each.
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Says that it is there whenever the bus is reached.
    async fn say_at_each(self: Arc<Self>, mut connections: BoxStream<'static, ()>) {
        while connections.next().await.is_some() {
            self.said.notify_one();
        }
    }

    /// Deals with what servers say at an address.
    async fn hear(self: Arc<Self>, address: String) {
        loop {
            match self.options.bus.listen(&address).await {
                Ok(mut heard) => {
                    while let Some(heard) = heard.next().await {
                        match open::<ToRunner>(&heard.message) {
                            Some((message, _)) => self.heard(message),
                            None => tracing::debug!("a message of a server is not understood"),
                        }
                    }
                }
                Err(error) => tracing::debug!("{}", error_chain(&error)),
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    fn heard(self: &Arc<Self>, message: ToRunner) {
        match message {
            ToRunner::Stop { token } => {
                let held = locked(&self.held).get(&token).cloned();
                if let Some(held) = held {
                    held.stop();
                }
            }
            ToRunner::Report {} => self.said.notify_one(),
            ToRunner::RunEnded { run } => {
                let inner = Arc::clone(self);
                tokio::spawn(async move { inner.workspaces.give_back(&run).await });
            }
            ToRunner::Who { server, tokens } => {
                let mut found = false;
                for token in tokens {
                    let held = locked(&self.held).get(&token).cloned();
                    if let Some(held) = held {
                        held.belongs_to(server.clone());
                        found = true;
                        continue;
                    }
                    let again = {
                        let mut kept = locked(&self.kept);
                        let at = kept.iter().position(|(_, held, _)| *held.token() == token);
                        at.and_then(|at| kept.remove(at))
                    };
                    // A server had heard its end, and ended before its journal had it.
                    if let Some((_, held, end)) = again {
                        held.belongs_to(server.clone());
                        held.confirm(Instant::now());
                        self.hold(&held);
                        let inner = Arc::clone(self);
                        tokio::spawn(async move { inner.bring(held, end).await });
                    }
                }
                if found {
                    let inner = Arc::clone(self);
                    tokio::spawn(async move { inner.renew_all().await });
                }
            }
        }
    }

    /// Renews the leases of what is under way.
    async fn renew(self: Arc<Self>) {
        loop {
            self.holds_something().await;
            let lease = self.all().iter().map(|held| held.lease()).min();
            sleep(lease.unwrap_or(LEASE) / RENEWALS).await;
            self.renew_all().await;
        }
    }

    async fn renew_all(&self) {
        let mut servers: BTreeMap<String, Vec<Arc<Held>>> = BTreeMap::new();
        for held in self.all() {
            servers.entry(held.server()).or_default().push(held);
        }
        let renewals = servers.into_iter().map(|(server, helds)| async move {
            let tokens = helds.iter().map(|held| held.token().clone()).collect();
            let renew = ToServer::Renew { runner: self.me.clone(), tokens };
            let patience = helds.iter().map(|held| held.lease() / 4).min().unwrap_or(ANSWER);
            let sent = Instant::now();
            let answer =
                self.options.bus.ask(&server, frame(&renew, &[]), patience.min(ANSWER)).await;
            let answer = match answer {
                Ok(answer) => open::<Answer>(&answer).map(|(answer, _)| answer),
                Err(error) => {
                    tracing::debug!("{}", error_chain(&error));
                    None
                }
            };
            let Some(Answer::Renewed { stop, unknown }) = answer else { return };
            for held in helds {
                if !unknown.contains(held.token()) {
                    held.confirm(sent);
                }
                if stop.contains(held.token()) {
                    held.stop();
                }
            }
        });
        futures::future::join_all(renewals).await;
    }

    /// Ends what could not be renewed, in time for nothing of it to be left when its lease ends.
    async fn fence(self: Arc<Self>) {
        let mut guarded = false;
        loop {
            let helds = self.all();
            for held in helds.iter().filter(|held| held.must_fence()) {
                held.give_up(GivenUp::Fenced);
            }
            let lease = helds.iter().map(|held| held.lease()).min();
            if let Some(guardian) = &self.options.guardian
                && (lease.is_some() || guarded)
            {
                guardian.pat(lease.map(|lease| lease * FENCED_AT.0 / FENCED_AT.1));
                guarded = lease.is_some();
            }
            let Some(lease) = lease else {
                self.holds_something().await;
                continue;
            };
            sleep((lease / 40).clamp(Duration::from_millis(20), Duration::from_millis(500))).await;
        }
    }
}
