//! The server's side: which attempts are whose, and until when their runners are believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fairlead_event::{Heard, JobBus};
use fairlead_run::{AttemptToken, LogKey, LogStore, ResultCache};
use fairlead_step::{Artifacts, Digest, HumanDuration, RunId, StepId, error_chain};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::runners::{RunnerView, Runners};
use super::session::RemoteSession;
use super::wire::{Answer, RunnerRef, ToRunner, ToServer, frame, open, read_lines};
use super::{RUNNERS, SERVERS};
use crate::attempts::{
    AttemptEvent, AttemptResult, AttemptSession, Attempts, Demand, NoRoom, UnderWay,
};
use crate::slots::Slot;

/// How many messages of runners are dealt with at a time.
const AT_A_TIME: usize = 256;

/// The most bytes of an artifact, or of another message, that comes in parts.
const MOST_UPLOAD: usize = 256 << 20;

/// How many such messages of one attempt may be on their way at a time.
const MOST_UPLOADS: usize = 4;

/// How many ends are remembered, so that a runner that did not hear the answer is told once more.
const REMEMBERED: usize = 4096;

/// How many batches of lines may wait for those who watch. They are in the store all the same.
const WATCHED: usize = 4;

/// How much of a log is read at once where its lines are to be counted.
const COUNTED: usize = 4 << 20;

/// How often those are asked who may have the attempts of an earlier server.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What attempts on runners need.
pub struct RemoteOptions {
    /// The way to runners.
    pub bus: Arc<dyn JobBus>,
    /// Where the logs of attempts are kept.
    pub logs: Arc<dyn LogStore>,
    /// Where artifacts are kept.
    pub artifacts: Arc<dyn Artifacts>,
    /// Where results are cached.
    pub result_cache: Arc<dyn ResultCache>,
    /// How long a runner is believed since it was last heard of: see [`super::LEASE`].
    pub lease: Duration,
}

/// The attempts that runners make for this server. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct RemoteAttempts(pub(super) Arc<Owner>);

pub(super) struct Owner {
    options: RemoteOptions,
    /// Where this server listens: `server.…`.
    pub(super) address: String,
    entries: Mutex<HashMap<AttemptToken, Arc<Entry>>>,
    runners: Mutex<Runners>,
    recent: Mutex<VecDeque<AttemptToken>>,
    told: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
    sessions: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
    /// There is something to watch.
    changed: Arc<Notify>,
}

/// An attempt that is this server's to know about.
pub(super) struct Entry {
    pub(super) session: u64,
    pub(super) log: LogKey,
    pub(super) token: AttemptToken,
    pub(super) pool: String,
    /// The artifacts that it may read, and those that it stored.
    pub(super) artifacts: Mutex<BTreeSet<Digest>>,
    pub(super) state: Mutex<EntryState>,
    pub(super) events: mpsc::UnboundedSender<AttemptEvent>,
    /// How many batches of lines wait for those who watch the run.
    pub(super) watched: Arc<AtomicUsize>,
    /// The next line of the log; none until those that an earlier server stored are counted.
    pub(super) next_line: tokio::sync::Mutex<Option<u64>>,
    uploads: Mutex<HashMap<u64, Upload>>,
    fetched: Mutex<Option<(Digest, Bytes)>>,
}

#[derive(Default)]
pub(super) struct EntryState {
    /// Whether an earlier server began it.
    pub(super) adopted: bool,
    pub(super) claimed: Option<RunnerRef>,
    /// Until when the runner is believed.
    pub(super) until: Option<Instant>,
    pub(super) stop: bool,
    pub(super) slot: Option<Slot>,
}

struct Upload {
    parts: Vec<Option<Bytes>>,
    size: usize,
}

pub(super) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    pub(super) fn new(
        session: u64,
        under_way: (RunId, StepId, u32),
        token: AttemptToken,
        pool: String,
        events: mpsc::UnboundedSender<AttemptEvent>,
        watched: Arc<AtomicUsize>,
    ) -> Self {
        let (run, step, attempt) = under_way;
        Self {
            session,
            log: LogKey { run, step, attempt },
            token,
            pool,
            artifacts: Mutex::default(),
            state: Mutex::default(),
            events,
            watched,
            next_line: tokio::sync::Mutex::new(Some(0)),
            uploads: Mutex::default(),
            fetched: Mutex::default(),
        }
    }

    fn tell(&self, event: AttemptEvent) {
        // Nobody listens when the run was let go.
        let _ = self.events.send(event);
    }
}

impl RemoteAttempts {
    /// Begins to listen to runners. To be called within a runtime.
    #[must_use]
    pub fn start(options: RemoteOptions) -> Self {
        let owner = Arc::new(Owner {
            options,
            address: format!("server.{:032x}", rand::random::<u128>()),
            entries: Mutex::default(),
            runners: Mutex::default(),
            recent: Mutex::default(),
            told: Mutex::default(),
            sessions: AtomicU64::new(0),
            tasks: Mutex::default(),
            changed: Arc::default(),
        });
        {
            let mut tasks = locked(&owner.tasks);
            for address in [SERVERS, &owner.address] {
                tasks.spawn(Owner::hear(Arc::downgrade(&owner), address.to_owned()));
            }
            tasks.spawn(Owner::watch(Arc::downgrade(&owner)));
            let connections = owner.bus().connections();
            tasks.spawn(Owner::ask_at_each(Arc::downgrade(&owner), connections));
        }
        Self(owner)
    }

    /// The runners that are connected.
    #[must_use]
    pub fn runners(&self) -> Vec<RunnerView> {
        locked(&self.0.runners).views()
    }
}

impl Attempts for RemoteAttempts {
    fn open(&self, run: &RunId) -> Box<dyn AttemptSession> {
        let number = self.0.sessions.fetch_add(1, Ordering::Relaxed);
        Box::new(RemoteSession::new(Arc::clone(&self.0), number, run.clone()))
    }

    fn room(&self, demand: &Demand, in_use: usize) -> Result<(), NoRoom> {
        let pool = demand.pool.as_deref().unwrap_or_default();
        let mut ours: BTreeMap<RunnerRef, BTreeSet<AttemptToken>> = BTreeMap::new();
        let mut claimed = 0;
        for entry in self.0.all() {
            let state = locked(&entry.state);
            if let Some(runner) = &state.claimed {
                ours.entry(runner.clone()).or_default().insert(entry.token.clone());
                claimed += usize::from(entry.pool == pool && state.slot.is_some());
            }
        }
        let unclaimed = in_use.saturating_sub(claimed);
        locked(&self.0.runners).room(demand, &ours, unclaimed)
    }

    fn when_room_changes(&self, tell: Box<dyn Fn() + Send + Sync>) {
        locked(&self.0.told).push(tell.into());
    }

    fn run_ended(&self, run: &RunId) {
        let ended = ToRunner::RunEnded { run: run.clone() };
        let owner = Arc::clone(&self.0);
        locked(&self.0.tasks).spawn(async move {
            // A runner that does not hear it removes the folder when it is old.
            if let Err(error) = owner.bus().tell(RUNNERS, frame(&ended, &[])).await {
                tracing::debug!("{}", error_chain(&error));
            }
        });
    }
}

impl Owner {
    pub(super) fn bus(&self) -> &dyn JobBus {
        &*self.options.bus
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        locked(&self.entries).values().cloned().collect()
    }

    pub(super) fn insert(&self, entry: Arc<Entry>) {
        let first = {
            let mut entries = locked(&self.entries);
            entries.insert(entry.token.clone(), entry);
            entries.len() == 1
        };
        if first {
            self.changed.notify_one();
        }
    }

    /// Asks all runners to say that they are there, unless they are asked already.
    pub(super) async fn ask_who_is_there(&self) {
        if !locked(&self.runners).ask() {
            return;
        }
        self.changed.notify_one();
        if let Err(error) = self.bus().tell(RUNNERS, frame(&ToRunner::Report {}, &[])).await {
            tracing::debug!("{}", error_chain(&error));
        }
    }

    /// Asks who is there whenever the bus is reached: a runner without work says little by itself.
    async fn ask_at_each(owner: Weak<Self>, mut connections: BoxStream<'static, ()>) {
        while connections.next().await.is_some() {
            let Some(this) = owner.upgrade() else { return };
            this.ask_who_is_there().await;
        }
    }

    pub(super) fn entry(&self, token: &AttemptToken) -> Option<Arc<Entry>> {
        locked(&self.entries).get(token).cloned()
    }

    /// Whether this is still the entry of its attempt.
    pub(super) fn has(&self, entry: &Arc<Entry>) -> bool {
        locked(&self.entries).get(&entry.token).is_some_and(|known| Arc::ptr_eq(known, entry))
    }

    /// Forgets an entry, and frees its slot. False when somebody else did.
    pub(super) fn remove(&self, entry: &Arc<Entry>) -> bool {
        let was_there = {
            let mut entries = locked(&self.entries);
            let this = entries.get(&entry.token).is_some_and(|known| Arc::ptr_eq(known, entry));
            this && entries.remove(&entry.token).is_some()
        };
        let slot = locked(&entry.state).slot.take();
        drop(slot);
        was_there
    }

    /// Forgets what a session began.
    pub(super) fn let_go(&self, session: u64) {
        for entry in self.all().iter().filter(|entry| entry.session == session) {
            self.remove(entry);
        }
    }

    /// Ends an attempt, once.
    pub(super) fn end(&self, entry: &Arc<Entry>, end: AttemptResult) {
        if self.remove(entry) {
            let LogKey { step, attempt, .. } = entry.log.clone();
            let token = entry.token.clone();
            entry.tell(AttemptEvent::Ended { step, attempt, token, end });
            let mut recent = locked(&self.recent);
            recent.push_back(entry.token.clone());
            if recent.len() > REMEMBERED {
                recent.pop_front();
            }
        }
    }

    /// Takes charge of attempts of an earlier server: until their lease is over somebody may have them.
    pub(super) fn adopt(self: &Arc<Self>, session: &RemoteSession, under_way: &[UnderWay]) {
        let until = Instant::now() + self.options.lease;
        for UnderWay { step, attempt, token, demand } in under_way {
            let mut entry = Entry::new(
                session.number,
                (session.run.clone(), step.clone(), *attempt),
                token.clone(),
                demand.pool.as_deref().unwrap_or_default().to_owned(),
                session.sender.clone(),
                Arc::clone(&session.watched),
            );
            entry.next_line = tokio::sync::Mutex::new(None);
            let state = EntryState { adopted: true, until: Some(until), ..EntryState::default() };
            entry.state = Mutex::new(state);
            self.insert(Arc::new(entry));
        }
        let tokens: Vec<AttemptToken> = under_way.iter().map(|a| a.token.clone()).collect();
        locked(&self.tasks).spawn(Self::ask_for(Arc::downgrade(self), tokens));
    }

    /// Asks runners for attempts until all of them are found or given up.
    async fn ask_for(owner: Weak<Self>, mut tokens: Vec<AttemptToken>) {
        loop {
            let Some(this) = owner.upgrade() else { return };
            tokens.retain(|token| {
                let entry = this.entry(token);
                entry.is_some_and(|entry| locked(&entry.state).claimed.is_none())
            });
            if tokens.is_empty() {
                return;
            }
            let who = ToRunner::Who { server: this.address.clone(), tokens: tokens.clone() };
            if let Err(error) = this.bus().tell(RUNNERS, frame(&who, &[])).await {
                tracing::debug!("{}", error_chain(&error));
            }
            drop(this);
            sleep(ASK_AGAIN).await;
        }
    }

    /// Tells a runner to stop an attempt. It is told again with each renewal.
    pub(super) fn tell_to_stop(self: &Arc<Self>, entry: &Entry, runner: &RunnerRef) {
        let stop = ToRunner::Stop { token: entry.token.clone() };
        let (owner, address) = (Arc::clone(self), format!("runner.{}", runner.incarnation));
        locked(&self.tasks).spawn(async move {
            if let Err(error) = owner.bus().tell(&address, frame(&stop, &[])).await {
                tracing::debug!("{}", error_chain(&error));
            }
        });
    }

    /// Takes a job out of the queue, whatever becomes of the run meanwhile.
    pub(super) fn withdraw(self: &Arc<Self>, entry: Arc<Entry>) {
        let owner = Arc::clone(self);
        locked(&self.tasks).spawn(async move {
            let token = entry.token.to_string();
            if let Err(error) = owner.bus().withdraw(&entry.pool, &token).await {
                tracing::debug!(%token, "{}", error_chain(&error));
            }
        });
    }

    /// Deals with what runners say at an address.
    async fn hear(owner: Weak<Self>, address: String) {
        let room = Arc::new(Semaphore::new(AT_A_TIME));
        loop {
            let Some(this) = owner.upgrade() else { return };
            let heard = this.bus().listen(&address).await;
            drop(this);
            match heard {
                Ok(mut heard) => {
                    while let Some(heard) = heard.next().await {
                        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                        let Some(this) = owner.upgrade() else { return };
                        let of_all = address == SERVERS;
                        tokio::spawn(async move {
                            this.heard(heard, of_all).await;
                            drop(permit);
                        });
                    }
                }
                Err(error) => tracing::debug!("{}", error_chain(&error)),
            }
            sleep(ASK_AGAIN).await;
        }
    }

    async fn heard(self: Arc<Self>, heard: Heard, of_all: bool) {
        let Some((message, body)) = open::<ToServer>(&heard.message) else {
            tracing::debug!("a message of a runner is not understood, and passed over");
            return;
        };
        let answer = match message {
            ToServer::Presence(presence) => {
                let changed = locked(&self.runners).seen(presence);
                if changed {
                    self.room_changed();
                    self.changed.notify_one();
                }
                return;
            }
            message @ (ToServer::Claim { .. }
            | ToServer::Renew { .. }
            | ToServer::Log { .. }
            | ToServer::Ended { .. }
            | ToServer::Recall { .. }
            | ToServer::Remember { .. }
            | ToServer::Fetch { .. }
            | ToServer::Store { .. }
            | ToServer::Part { .. }) => Box::pin(self.answer(message, body)).await,
        };
        let (answer, body) = answer;
        // Where every server was asked, the one that knows answers.
        let silent = of_all && matches!(answer, Answer::Unknown);
        if let Some(reply) = heard.reply.filter(|_| !silent) {
            reply.send(frame(&answer, &body)).await;
        }
    }

    fn room_changed(&self) {
        let told: Vec<_> = locked(&self.told).clone();
        told.iter().for_each(|tell| tell());
    }

    /// The entry of an attempt that a runner speaks of, if it is that runner's. A runner that came back
    /// may tell the end of what it made before.
    fn entry_of(
        &self,
        token: &AttemptToken,
        runner: &RunnerRef,
        lives: bool,
    ) -> Option<Arc<Entry>> {
        let entry = self.entry(token)?;
        let mine = {
            let mut state = locked(&entry.state);
            match &state.claimed {
                Some(claimed) if lives => claimed == runner,
                Some(claimed) => claimed.name == runner.name,
                None if state.adopted => {
                    if lives {
                        state.claimed = Some(runner.clone());
                    }
                    true
                }
                None => false,
            }
        };
        mine.then_some(entry)
    }

    async fn answer(self: &Arc<Self>, message: ToServer, body: Bytes) -> (Answer, Bytes) {
        let answer = match message {
            ToServer::Presence(_) => Answer::Done,
            ToServer::Claim { token, runner } => self.claim(&token, runner),
            ToServer::Renew { runner, tokens } => self.renew(&runner, tokens),
            ToServer::Log { token, runner, from } => match self.entry_of(&token, &runner, false) {
                Some(entry) => self.log(&entry, from, &body).await,
                None => self.not_ours(&token),
            },
            ToServer::Ended { token, runner, end, lines } => {
                match self.entry_of(&token, &runner, false) {
                    Some(entry) => self.ended(&entry, end, lines).await,
                    None => self.not_ours(&token),
                }
            }
            ToServer::Recall { token, runner, key } => {
                if self.entry_of(&token, &runner, true).is_none() {
                    return (Answer::Unknown, Bytes::new());
                }
                match self.options.result_cache.recall(&key).await {
                    Ok(found) => {
                        let answer = Answer::Recalled { result: found.map(Into::into) };
                        // What does not fit into one answer costs only that it is made again.
                        if frame(&answer, &[]).len() > self.bus().largest() {
                            Answer::Recalled { result: None }
                        } else {
                            answer
                        }
                    }
                    Err(error) => Answer::Failed { message: error_chain(&error), passing: true },
                }
            }
            ToServer::Remember { token, runner, key, result } => {
                if self.entry_of(&token, &runner, true).is_none() {
                    return (Answer::Unknown, Bytes::new());
                }
                match self.options.result_cache.remember(&key, result.into()).await {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Failed { message: error_chain(&error), passing: true },
                }
            }
            ToServer::Fetch { token, runner, digest, at } => {
                match self.entry_of(&token, &runner, true) {
                    Some(entry) => return self.fetch(&entry, &digest, at).await,
                    None => Answer::Unknown,
                }
            }
            ToServer::Store { token, runner, name, media_type } => {
                match self.entry_of(&token, &runner, true) {
                    Some(entry) => self.store(&entry, &name, &media_type, body).await,
                    None => Answer::Unknown,
                }
            }
            ToServer::Part { token, runner, upload, part, of } => {
                let Some(entry) = self.entry_of(&token, &runner, false) else {
                    return (self.not_ours(&token), Bytes::new());
                };
                match entry.part(upload, part, of, body) {
                    Ok(None) => Answer::Done,
                    Ok(Some(whole)) => match open::<ToServer>(&whole) {
                        Some((ToServer::Part { .. }, _)) | None => Answer::Failed {
                            message: "its parts make no message".to_owned(),
                            passing: false,
                        },
                        Some((message, body)) => {
                            return Box::pin(self.answer(message, body)).await;
                        }
                    },
                    Err(message) => Answer::Failed { message, passing: false },
                }
            }
        };
        (answer, Bytes::new())
    }

    fn not_ours(&self, token: &AttemptToken) -> Answer {
        // Whoever did not hear that it was taken is told so again.
        if locked(&self.recent).contains(token) { Answer::Done } else { Answer::Unknown }
    }

    fn claim(&self, token: &AttemptToken, runner: RunnerRef) -> Answer {
        let refused = |why: &str| Answer::Refused { why: why.to_owned() };
        let Some(entry) = self.entry(token) else {
            return refused("nobody wants it any more");
        };
        let mut state = locked(&entry.state);
        if state.stop {
            return refused("it was cancelled");
        }
        if state.adopted {
            return refused("it was offered by a server that ended");
        }
        let lease = self.options.lease;
        match &state.claimed {
            Some(claimed) if *claimed == runner => {}
            Some(claimed) => return refused(&format!("runner {} has claimed it", claimed.name)),
            None => {
                let (step, by) = (entry.log.step.clone(), format!("runner {}", runner.name));
                state.claimed = Some(runner);
                entry.tell(AttemptEvent::Accepted { step, token: token.clone(), by });
            }
        }
        state.until = Some(Instant::now() + lease);
        Answer::Granted { lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX) }
    }

    fn renew(&self, runner: &RunnerRef, tokens: Vec<AttemptToken>) -> Answer {
        let (mut stop, mut unknown) = (Vec::new(), Vec::new());
        for token in tokens {
            let Some(entry) = self.entry_of(&token, runner, true) else {
                unknown.push(token);
                continue;
            };
            let mut state = locked(&entry.state);
            state.until = Some(Instant::now() + self.options.lease);
            if state.stop {
                stop.push(token);
            }
        }
        Answer::Renewed { stop, unknown }
    }

    async fn log(&self, entry: &Arc<Entry>, from: u64, body: &Bytes) -> Answer {
        let mut next_line = entry.next_line.lock().await;
        let next = match self.counted(entry, *next_line).await {
            Ok(next) => next,
            Err(message) => return Answer::Failed { message, passing: true },
        };
        *next_line = Some(next);
        let Some(known) = next.checked_sub(from) else { return Answer::Next { line: next } };
        let mut lines = read_lines(body);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(lines.len());
        lines.drain(..known);
        if lines.is_empty() {
            return Answer::Next { line: next };
        }
        let count = lines.len() as u64;
        let watched = entry.watched.load(Ordering::Relaxed) < WATCHED;
        let shown = watched.then(|| lines.clone());
        if let Err(error) = self.options.logs.append(&entry.log, lines).await {
            // What did not answer in time may be stored all the same.
            *next_line = None;
            return Answer::Failed { message: error_chain(&error), passing: true };
        }
        *next_line = Some(next + count);
        if let Some(lines) = shown {
            entry.watched.fetch_add(1, Ordering::Relaxed);
            entry.tell(AttemptEvent::Logged { log: entry.log.clone(), lines });
        }
        Answer::Next { line: next + count }
    }

    /// How many lines of a log are stored.
    async fn counted(&self, entry: &Entry, known: Option<u64>) -> Result<u64, String> {
        if let Some(known) = known {
            return Ok(known);
        }
        let (mut lines, mut from) = (0, 0);
        loop {
            let page = self.options.logs.read(&entry.log, from, COUNTED).await;
            let page = page.map_err(|error| error_chain(&error))?;
            lines += page.lines.len() as u64;
            if page.at_end || page.next == from {
                return Ok(lines);
            }
            from = page.next;
        }
    }

    async fn ended(&self, entry: &Arc<Entry>, end: AttemptResult, lines: u64) -> Answer {
        let mut next_line = entry.next_line.lock().await;
        match self.counted(entry, *next_line).await {
            Ok(next) if next < lines => {
                *next_line = Some(next);
                return Answer::Next { line: next };
            }
            Ok(_) => {}
            Err(message) => return Answer::Failed { message, passing: true },
        }
        drop(next_line);
        self.end(entry, end);
        Answer::Done
    }

    async fn fetch(&self, entry: &Entry, digest: &Digest, at: u64) -> (Answer, Bytes) {
        let failed = |message: String, passing| (Answer::Failed { message, passing }, Bytes::new());
        if !locked(&entry.artifacts).contains(digest) && !locked(&entry.state).adopted {
            let message = format!("artifact {digest} is not one that the input of the step names");
            return failed(message, false);
        }
        let kept = locked(&entry.fetched).clone().filter(|(kept, _)| kept == digest);
        let bytes = match kept {
            Some((_, bytes)) => bytes,
            None => match self.options.artifacts.get(digest).await {
                Ok(bytes) => {
                    *locked(&entry.fetched) = Some((digest.clone(), bytes.clone()));
                    bytes
                }
                Err(error) => return failed(error.to_string(), false),
            },
        };
        let size = bytes.len();
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(size);
        let to = size.min(from + self.bus().largest() / 2);
        if to == size {
            *locked(&entry.fetched) = None;
        }
        (Answer::Bytes { size: size as u64 }, bytes.slice(from..to))
    }

    async fn store(&self, entry: &Entry, name: &str, media_type: &str, bytes: Bytes) -> Answer {
        match self.options.artifacts.put(name, media_type, bytes).await {
            Ok(artifact) => {
                locked(&entry.artifacts).insert(artifact.digest.clone());
                Answer::Stored { artifact }
            }
            Err(error) => Answer::Failed { message: error.to_string(), passing: true },
        }
    }

    /// Ends what no runner answers for any more, and forgets runners that are away.
    async fn watch(owner: Weak<Self>) {
        loop {
            let Some(this) = owner.upgrade() else { return };
            let lease = this.options.lease;
            let now = Instant::now();
            for entry in this.all() {
                let lost = {
                    let state = locked(&entry.state);
                    let over = state.until.is_some_and(|until| now >= until);
                    let lease = HumanDuration(lease);
                    over.then(|| match &state.claimed {
                        Some(runner) => {
                            format!("runner {} was not heard of for {lease}", runner.name)
                        }
                        None => format!(
                            "its server ended before a runner said that it has it, and none said so \
                             within {lease}"
                        ),
                    })
                };
                if let Some(reason) = lost {
                    this.end(&entry, AttemptResult::Lost { reason });
                }
            }
            while locked(&this.tasks).try_join_next().is_some() {}
            let away = locked(&this.runners).forget_away();
            if away {
                this.room_changed();
            }
            let often = (lease / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
            let next = match locked(&this.entries).is_empty() {
                true => locked(&this.runners).next_away(),
                false => Some(now + often),
            };
            let told = Arc::clone(&this.changed);
            drop(this);
            let changed = async {
                told.notified().await;
                // Changes come in bursts.
                sleep(often).await;
            };
            match next {
                Some(next) => drop(timeout_at(next, changed).await),
                None => changed.await,
            }
        }
    }
}

impl Entry {
    /// Takes a part of a message; answers all of it when it was the last that was missing.
    fn part(&self, upload: u64, part: u32, of: u32, body: Bytes) -> Result<Option<Bytes>, String> {
        let too_large = || format!("it has more than {} MiB", MOST_UPLOAD >> 20);
        let (part, of) = (part as usize, of as usize);
        if of > MOST_UPLOAD / 1024 || part >= of {
            return Err(too_large());
        }
        let mut uploads = locked(&self.uploads);
        if !uploads.contains_key(&upload) && uploads.len() >= MOST_UPLOADS {
            return Err("too much is on its way at a time".to_owned());
        }
        let known =
            uploads.entry(upload).or_insert_with(|| Upload { parts: vec![None; of], size: 0 });
        if known.parts.len() == of && known.parts[part].is_none() {
            known.size += body.len();
            known.parts[part] = Some(body);
        }
        if known.size > MOST_UPLOAD {
            uploads.remove(&upload);
            return Err(too_large());
        }
        if known.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let Some(Upload { parts, size }) = uploads.remove(&upload) else { return Ok(None) };
        let mut whole = BytesMut::with_capacity(size);
        parts.into_iter().flatten().for_each(|part| whole.extend_from_slice(&part));
        Ok(Some(whole.freeze()))
    }
}
