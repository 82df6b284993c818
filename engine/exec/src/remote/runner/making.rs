//! One attempt on a runner: the claim, the work, its log on the way, and its end until the server has it.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{AskError, JobOffer};
use fairlead_run::{AttemptToken, Failure, LogLine, StepResult};
use fairlead_step::{
    ByteSize, CancelToken, Capability, ErrorClass, HumanDuration, Limits, Stream, error_chain,
};
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::held::{GivenUp, Held, ServerPorts};
use super::spool::{Next, Spool, SpooledLog};
use super::{Confine, Inner};
use crate::attempts::{AttemptResult, JobError, JobSpec, LocalAttempts};
use crate::host::{Host, Job};
use crate::process::cgroup::CgroupEntry;
use crate::process::strays::{self, Stray};
use crate::remote::ANSWER;
use crate::remote::wire::{Answer, OfferHeader, ToServer, frame, open};
use crate::update::Broadcast;

/// When a job that this runner must not take is offered again, to another.
const FOR_ANOTHER: Duration = Duration::from_secs(1);

/// When a job is offered again whose server did not answer.
const FOR_LATER: Duration = Duration::from_secs(5);

/// How often a job is offered that nothing can be done with before it is thrown away. What it was for
/// is lost by then, or offered anew.
const MOST_OFFERS: u64 = 12;

/// How often a claim is said when no answer comes.
const CLAIMS: u32 = 3;

/// How many bytes of a log are sent at once.
const CHUNK: usize = 384 << 10;

/// How long to wait after a server did not take what it was sent.
const AGAIN: Duration = Duration::from_millis(200);

/// How long what was sent SIGKILL may take to end.
const GONE: Duration = Duration::from_secs(2);

/// How often it is looked whether processes are gone.
const LOOK: Duration = Duration::from_millis(50);

impl Inner {
    /// Claims what was offered; none when it is not to be made here.
    pub(super) async fn claim(&self, offer: JobOffer) -> Option<Arc<Held>> {
        let read = open::<OfferHeader>(&offer.job);
        let read = read.map(|(header, job)| (header.server, JobSpec::from_bytes(&job)));
        let (server, job) = match read {
            Some((server, Ok(job))) if job.token.as_str() == offer.token => (server, job),
            Some((_, Err(error @ JobError::Newer { .. }))) => {
                tracing::warn!("{error}");
                hand_back(offer, FOR_LATER).await;
                return None;
            }
            Some(_) | None => {
                tracing::warn!("a job of the pool is not understood");
                hand_back(offer, FOR_LATER).await;
                return None;
            }
        };
        if !self.suits(&job) {
            hand_back(offer, FOR_ANOTHER).await;
            return None;
        }
        let claim =
            frame(&ToServer::Claim { token: job.token.clone(), runner: self.me.clone() }, &[]);
        let mut tries = 0;
        let (lease, sent) = loop {
            tries += 1;
            let sent = Instant::now();
            match self.options.bus.ask(&server, claim.clone(), ANSWER).await {
                Ok(answer) => match open::<Answer>(&answer).map(|(answer, _)| answer) {
                    Some(Answer::Granted { lease_ms }) => {
                        break (Duration::from_millis(lease_ms), sent);
                    }
                    Some(Answer::Refused { why }) => {
                        tracing::info!(token = %job.token, "a claim was refused: {why}");
                        done(offer).await;
                        return None;
                    }
                    Some(_) | None => {
                        hand_back(offer, FOR_LATER).await;
                        return None;
                    }
                },
                Err(AskError::TimedOut { .. }) if tries < CLAIMS => {}
                Err(error) => {
                    tracing::info!(token = %job.token, "nobody grants a claim: {error}");
                    hand_back(offer, FOR_LATER).await;
                    return None;
                }
            }
        };
        let folder = self.spool_folder().join(job.token.as_str());
        let spool = {
            let (budget, job) = (Arc::clone(&self.budget), job.clone());
            tokio::task::spawn_blocking(move || Spool::create(folder, budget, &job)).await
        };
        let spool = match spool.map_err(std::io::Error::other).flatten() {
            Ok(spool) => Arc::new(spool),
            Err(error) => {
                // The server hears of it when the lease ends; a runner without a disk says so itself.
                tracing::error!("a job cannot be kept on disk: {error}");
                return None;
            }
        };
        let (runner, bus) = (self.me.clone(), Arc::clone(&self.options.bus));
        let held = Arc::new(Held::new(job, runner, spool, bus, server, sent, lease));
        self.hold(&held);
        done(offer).await;
        Some(held)
    }

    fn suits(&self, job: &JobSpec) -> bool {
        let labels = &self.options.labels;
        job.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            && self
                .options
                .catalog
                .get(&job.kind)
                .is_some_and(|kind| kind.spec().version == job.kind_version)
    }

    /// Makes an attempt, and brings its end to the server.
    pub(super) async fn make(self: &Arc<Self>, held: Arc<Held>) {
        let sending = tokio::spawn(send_log(Arc::clone(&held)));
        let end = self.work(&held).await;
        let end = match (end, held.given_up()) {
            (Some(end), _) => end,
            (None, Some(GivenUp::HandedBack(reason))) => AttemptResult::Lost { reason },
            // The server knows, or will: nobody may hear of it from here any more.
            (None, Some(GivenUp::Fenced) | None) => {
                tracing::warn!(
                    token = %held.token(), run = %held.job.run, step = %held.job.step,
                    "the lease of an attempt could not be renewed; its processes were ended"
                );
                sending.abort();
                self.give_up(&held);
                return;
            }
        };
        let (spool, now) = (Arc::clone(&held.spool), self.options.clock.now());
        let kept = end.clone();
        let _ = tokio::task::spawn_blocking(move || spool.finish(&kept, now)).await;
        let lines = sending.await.unwrap_or(None);
        self.deliver(held, end, lines).await;
    }

    /// Brings what an earlier life of this runner left to whoever still wants it.
    pub(super) async fn bring(self: &Arc<Self>, held: Arc<Held>, end: AttemptResult) {
        let lines = send_log(Arc::clone(&held)).await;
        self.deliver(held, end, lines).await;
    }

    /// Tells the server how an attempt ended, until it has heard it or nobody wants to.
    async fn deliver(
        self: &Arc<Self>,
        held: Arc<Held>,
        end: AttemptResult,
        mut lines: Option<u64>,
    ) {
        while let Some(count) = lines {
            let (token, runner) = (held.token().clone(), held.runner.clone());
            let ended = ToServer::Ended { token, runner, end: end.clone(), lines: count };
            match held.ask(&ended, &[], ANSWER).await {
                Ok((Answer::Done, _)) => {
                    self.delivered(&held, end);
                    return;
                }
                Ok((Answer::Next { line }, _)) => {
                    tracing::debug!(token = %held.token(), "the server wants line {line} again");
                    lines = send_log(Arc::clone(&held)).await;
                }
                Ok((Answer::Failed { message, .. }, _)) => {
                    tracing::debug!(token = %held.token(), "{message}");
                    sleep(AGAIN).await;
                }
                Ok(_) => sleep(AGAIN * 5).await,
                Err(error) => {
                    tracing::debug!(token = %held.token(), "{}", error_chain(&error));
                    sleep(AGAIN).await;
                }
            }
            if held.is_over() {
                break;
            }
        }
        tracing::warn!(
            token = %held.token(), run = %held.job.run, step = %held.job.step,
            "nobody takes the end of an attempt any more"
        );
        self.give_up(&held);
    }

    /// A control group for the attempt, where this machine has some.
    fn confine(&self, job: &JobSpec) -> Result<Option<Arc<CgroupEntry>>, Failure> {
        let bounds = job.limits;
        let failure = |message: String| Failure {
            class: ErrorClass::Terminal,
            message,
            hint: Some(
                "run the runner as root, or as a service whose control groups are its own \
                 (`Delegate=yes` of systemd)"
                    .to_owned(),
            ),
        };
        let Some(Confine { cgroups, program }) = &self.options.confine else {
            if bounds != Limits::default() {
                return Err(failure(format!(
                    "the step has limits, and runner {} may make no control groups that hold them",
                    self.me.name
                )));
            }
            return Ok(None);
        };
        match cgroups.make(job.token.as_str(), bounds) {
            Ok(group) => Ok(Some(Arc::new(CgroupEntry { group, program: program.clone() }))),
            Err(error) if bounds != Limits::default() => {
                let name = &self.me.name;
                Err(failure(format!("runner {name} cannot make a control group: {error}")))
            }
            // It bounds nothing, and what it would find is found by its mark.
            Err(error) => {
                tracing::warn!("an attempt is made without a control group: {error}");
                Ok(None)
            }
        }
    }

    /// Does the work; none when it was ended from outside.
    async fn work(self: &Arc<Self>, held: &Arc<Held>) -> Option<AttemptResult> {
        let job = &held.job;
        let options = &self.options;
        let say = |text: String| {
            let line = LogLine { at: options.clock.now(), stream: Stream::Step, text };
            held.spool.write(&[line]);
        };
        say(format!("attempt {} is made on runner {}", job.attempt, self.me.name));
        let mut processes = options.processes.clone();
        // Whatever the attempt starts is known by its token, whoever looks for it.
        let token = job.token.as_str();
        processes.mark = Some(match processes.mark {
            Some(outer) => format!("{outer},{token}"),
            None => token.to_owned(),
        });
        let confinement = match self.confine(job) {
            Ok(confinement) => confinement,
            Err(failure) => {
                return Some(AttemptResult::Made { result: StepResult::Failure(failure) });
            }
        };
        let ports = Arc::new(ServerPorts(Arc::clone(held)));
        let host = Arc::new(Host {
            policy: options.policy.clone(),
            egress: options.egress.clone(),
            secrets: Arc::clone(&options.secrets),
            logs: Arc::new(SpooledLog { spool: Arc::clone(&held.spool), max_bytes: job.max_log }),
            artifacts: ports.clone(),
            result_cache: ports,
            registries: Arc::clone(&options.registries),
            clock: Arc::clone(&options.clock),
            processes: Arc::new(processes),
            workspaces: Arc::clone(&self.workspaces),
            scratch: Arc::clone(&self.scratch),
            updates: Broadcast::new(),
            cgroup: confinement.clone(),
        });
        let (stop, stopped) = CancelToken::new();
        held.set_stop(stop);
        let local =
            LocalAttempts { host: Arc::clone(&host), catalog: Arc::clone(&options.catalog) };
        let kind = match local.kind(job) {
            Ok(kind) => kind,
            Err(failure) => {
                return Some(AttemptResult::Made { result: StepResult::Failure(failure) });
            }
        };
        let starts = kind.spec().capabilities;
        let starts = starts.contains(&Capability::Process) || starts.contains(&Capability::Git);
        let (begin, is_written) = oneshot::channel();
        let _ = begin.send(());
        let work = Job { spec: job.clone(), kind, stop: stopped.clone(), is_written };
        let end = {
            let made = std::panic::AssertUnwindSafe(host.attempt(work));
            let made = futures::FutureExt::catch_unwind(made);
            let mut made = Box::pin(made);
            tokio::select! {
                biased;
                end = &mut made => Some(end),
                () = held.fenced.cancelled() => None,
            }
        };
        let end = end.map(|end| {
            end.unwrap_or_else(|_| {
                let reason = "the host of the attempt panicked; please report it".to_owned();
                AttemptResult::Lost { reason }
            })
        });
        if !starts && confinement.is_none() {
            return end;
        }
        // What was told to end has its grace where it was dropped.
        let patience = if end.is_some() { Duration::ZERO } else { options.processes.grace };
        let left = gone(&job.token, confinement.as_deref(), patience).await;
        let end = match &confinement {
            Some(confinement) => {
                let out_of_memory = confinement.group.out_of_memory() > 0;
                end.map(|end| if out_of_memory { ran_out_of_memory(end, job) } else { end })
            }
            None => end,
        };
        if left.is_empty() {
            if let Some(confinement) = &confinement {
                confinement.group.remove();
            }
            return end;
        }
        let left_names = strays::named(&left);
        let slot = "the slot is not used again before they are gone";
        say(format!("still there after SIGKILL: {left_names}; {slot}"));
        self.block_slot(job.token.clone(), confinement);
        Some(match end? {
            AttemptResult::Made { result: StepResult::Cancelled { message } } => {
                let message =
                    format!("cancel unconfirmed: {left_names} did not end on SIGKILL; {message}");
                AttemptResult::Made { result: StepResult::Cancelled { message } }
            }
            other @ (AttemptResult::Made { .. }
            | AttemptResult::CacheHit { .. }
            | AttemptResult::Lost { .. }) => other,
        })
    }
}

/// The end of an attempt whose processes ran out of memory: an answer about the step, not the machine.
fn ran_out_of_memory(end: AttemptResult, job: &JobSpec) -> AttemptResult {
    let limit = match job.limits.memory {
        Some(ByteSize(bytes)) => format!(" of {} MiB", bytes >> 20),
        None => String::new(),
    };
    let said = |what: &str| {
        format!("it ran out of memory: its processes reached the limit{limit}; {what}")
    };
    let failure = match end {
        AttemptResult::Made { result: StepResult::Failure(failure) } => failure,
        // It went on without the process that was ended, or it was told to stop as it was.
        other @ (AttemptResult::Made { .. }
        | AttemptResult::CacheHit { .. }
        | AttemptResult::Lost { .. }) => return other,
    };
    let failure = Failure {
        class: ErrorClass::Terminal,
        message: said(&failure.message),
        hint: Some("raise `resources.memory` of the step, or let it use less".to_owned()),
    };
    AttemptResult::Made { result: StepResult::Failure(failure) }
}

/// Waits until no process of an attempt is left, ends those that are there then, and answers those that
/// do not even end so.
pub(super) async fn gone(
    token: &AttemptToken,
    confinement: Option<&CgroupEntry>,
    patience: Duration,
) -> Vec<Stray> {
    let (until, last) = (Instant::now() + patience, Instant::now() + patience + GONE);
    loop {
        let mark = token.as_str().to_owned();
        let left = tokio::task::spawn_blocking(move || strays::marked(&mark)).await;
        let mut left = left.unwrap_or_default();
        // The group also has those who took the mark off and lost their parents.
        left.extend(strays::living(confinement.iter().flat_map(|c| c.group.processes())));
        left.sort();
        left.dedup();
        let now = Instant::now();
        if left.is_empty() || now >= last {
            return left;
        }
        if now >= until {
            if let Some(confinement) = confinement {
                confinement.group.kill();
            }
            left.iter().for_each(|stray| stray.signal(Signal::KILL));
        }
        sleep(LOOK).await;
    }
}

/// Sends the lines of an attempt as they come, each until the server has it. Answers how many there were;
/// none when nobody wants them any more.
async fn send_log(held: Arc<Held>) -> Option<u64> {
    // Where the next line begins in the file.
    let (mut line, mut at) = (0, 0);
    loop {
        let spool = Arc::clone(&held.spool);
        let next = tokio::task::spawn_blocking(move || spool.next(line, at, CHUNK)).await;
        let (bytes, to, count) = match next.map_err(std::io::Error::other).flatten() {
            Ok(Next::Lines { bytes, to, count }) => (bytes, to, count),
            Ok(Next::End { lines }) => return Some(lines),
            Ok(Next::Wait) => {
                held.spool.changed.notified().await;
                continue;
            }
            Err(error) => {
                tracing::warn!(token = %held.token(), "a spool cannot be read: {error}");
                sleep(AGAIN * 5).await;
                if held.is_over() {
                    return None;
                }
                continue;
            }
        };
        let (token, runner) = (held.token().clone(), held.runner.clone());
        let log = ToServer::Log { token, runner, from: line };
        match held.ask(&log, &bytes, ANSWER).await {
            Ok((Answer::Next { line: next }, _)) if next == line + count => {
                (line, at) = (next, to);
            }
            Ok((Answer::Next { line: next }, _)) => {
                let spool = Arc::clone(&held.spool);
                let place = tokio::task::spawn_blocking(move || spool.place(next)).await;
                if let Ok(Ok(place)) = place {
                    (line, at) = place;
                }
            }
            // It is stored, and whoever stored it did not hear of the end of it.
            Ok((Answer::Done, _)) => (line, at) = (line + count, to),
            Ok(_) | Err(_) => sleep(AGAIN).await,
        }
        if held.is_over() {
            return None;
        }
    }
}

async fn hand_back(offer: JobOffer, delay: Duration) {
    if offer.times >= MOST_OFFERS && delay > FOR_ANOTHER {
        tracing::warn!(token = offer.token, "a job that nobody wants is thrown away");
        done(offer).await;
    } else if let Err(error) = offer.later(delay).await {
        tracing::debug!("{}", error_chain(&error));
    }
}

async fn done(offer: JobOffer) {
    if let Err(error) = offer.done().await {
        // It comes again, and its claim is refused then.
        tracing::debug!("{}", error_chain(&error));
    }
}

/// The failure of an attempt that a runner could not even begin.
pub(super) fn handed_back(name: &str, grace: Option<Duration>) -> String {
    match grace {
        Some(grace) => format!(
            "runner {name} was told to end, and its grace of {} was over",
            HumanDuration(grace)
        ),
        None => format!("runner {name} was told to end at once"),
    }
}

/// What an attempt is that a runner did not see to its end.
pub(super) fn interrupted(name: &str) -> AttemptResult {
    AttemptResult::Lost { reason: format!("runner {name} ended while it made the attempt") }
}
