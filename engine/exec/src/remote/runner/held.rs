//! An attempt that a runner has claimed: whose it is, until when, and how it reaches its server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fairlead_event::{AskError, JobBus};
use fairlead_run::{AttemptToken, CachedResult, ResultCache, StoreError};
use fairlead_step::{
    Artifact, ArtifactError, Artifacts, BoxFuture, CancelHandle, CancelToken, Digest, error_chain,
};
use tokio::time::{Instant, sleep};

use super::spool::Spool;
use crate::attempts::JobSpec;
use crate::remote::owner::locked;
use crate::remote::wire::{Answer, RunnerRef, ToServer, frame, open};
use crate::remote::{ANSWER, FENCED_AT};

/// The pause before a server is asked again, and how much longer it becomes.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How many times a server is asked for something that a step waits for.
const TRIES: u32 = 8;

/// How long the server has to answer what it must look for in its stores.
const STORE_ANSWER: Duration = Duration::from_secs(20);

/// An attempt that this runner answers for.
pub(super) struct Held {
    pub(super) job: JobSpec,
    pub(super) runner: RunnerRef,
    pub(super) spool: Arc<Spool>,
    bus: Arc<dyn JobBus>,
    lease: Duration,
    times: Mutex<Times>,
    stop: Mutex<Option<CancelHandle>>,
    fence: Mutex<Option<CancelHandle>>,
    /// Ready when the work must end at once.
    pub(super) fenced: CancelToken,
}

struct Times {
    /// Where its server listens.
    server: String,
    /// When the renewal was sent that was confirmed last.
    confirmed: Instant,
    /// Why the work was ended before it ended itself.
    given_up: Option<GivenUp>,
}

/// Why a runner ended the work of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Its lease could not be renewed. The server calls it lost by itself.
    Fenced,
    /// The runner hands it back, for this reason.
    HandedBack(String),
}

impl Held {
    pub(super) fn new(
        job: JobSpec,
        runner: RunnerRef,
        spool: Arc<Spool>,
        bus: Arc<dyn JobBus>,
        server: String,
        confirmed: Instant,
        lease: Duration,
    ) -> Self {
        let (fence, fenced) = CancelToken::new();
        let times = Times { server, confirmed, given_up: None };
        Self {
            job,
            runner,
            spool,
            bus,
            lease,
            times: Mutex::new(times),
            stop: Mutex::default(),
            fence: Mutex::new(Some(fence)),
            fenced,
        }
    }

    pub(super) const fn token(&self) -> &AttemptToken {
        &self.job.token
    }

    pub(super) const fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn server(&self) -> String {
        locked(&self.times).server.clone()
    }

    /// The attempt is another server's now.
    pub(super) fn belongs_to(&self, server: String) {
        locked(&self.times).server = server;
        self.spool.changed.notify_one();
    }

    /// A renewal that was sent then was confirmed.
    pub(super) fn confirm(&self, sent: Instant) {
        let mut times = locked(&self.times);
        times.confirmed = times.confirmed.max(sent);
    }

    /// How the work is told to stop.
    pub(super) fn set_stop(&self, stop: CancelHandle) {
        *locked(&self.stop) = Some(stop);
    }

    /// Tells the work to stop.
    pub(super) fn stop(&self) {
        let stop = locked(&self.stop).take();
        if let Some(stop) = stop {
            stop.cancel();
        }
    }

    /// Whether two thirds of the lease are over: by the end of it nothing of the work may be left.
    pub(super) fn must_fence(&self) -> bool {
        Instant::now() >= locked(&self.times).confirmed + self.lease * FENCED_AT.0 / FENCED_AT.1
    }

    /// Whether the server has called it lost by now, and one that took the run up since, too.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= locked(&self.times).confirmed + self.lease * 2
    }

    /// Ends the work at once, unless it has ended.
    pub(super) fn give_up(&self, why: GivenUp) {
        locked(&self.times).given_up.get_or_insert(why);
        let fence = locked(&self.fence).take();
        if let Some(fence) = fence {
            fence.cancel();
        }
    }

    pub(super) fn given_up(&self) -> Option<GivenUp> {
        locked(&self.times).given_up.clone()
    }

    /// Asks the server of the attempt once.
    pub(super) async fn ask(
        &self,
        message: &ToServer,
        body: &[u8],
        patience: Duration,
    ) -> Result<(Answer, Bytes), AskError> {
        let whole = frame(message, body);
        let most = self.bus.largest();
        if whole.len() <= most {
            return self.send(whole, patience).await;
        }
        // Half of the most, so that the header of a part fits beside it on every bus.
        let parts: Vec<Bytes> = {
            let size = (most / 2).max(1);
            let count = whole.len().div_ceil(size);
            (0..count).map(|n| whole.slice(n * size..whole.len().min((n + 1) * size))).collect()
        };
        let (upload, of) = (rand::random(), u32::try_from(parts.len()).unwrap_or(u32::MAX));
        let mut last = (Answer::Done, Bytes::new());
        for (part, body) in (0..).zip(parts) {
            let (token, runner) = (self.token().clone(), self.runner.clone());
            let part = ToServer::Part { token, runner, upload, part, of };
            last = self.send(frame(&part, &body), patience).await?;
            if !matches!(last.0, Answer::Done) {
                break;
            }
        }
        Ok(last)
    }

    async fn send(&self, message: Bytes, patience: Duration) -> Result<(Answer, Bytes), AskError> {
        let server = self.server();
        let answer = self.bus.ask(&server, message, patience).await?;
        // An answer that is not understood is one that did not come.
        open(&answer).ok_or(AskError::TimedOut { address: server, after: patience })
    }

    /// Asks until there is an answer, as often as a step may wait for it.
    async fn ask_surely(&self, message: &ToServer, body: &[u8]) -> Result<(Answer, Bytes), String> {
        let mut pause = AGAIN.0;
        let mut tries = 0;
        loop {
            tries += 1;
            let why = match self.ask(message, body, STORE_ANSWER).await {
                Ok((Answer::Failed { message, passing: true }, _)) => message,
                Ok((Answer::Unknown, _)) => "the attempt is not this server's".to_owned(),
                Ok(answer) => return Ok(answer),
                Err(error) => error_chain(&error),
            };
            if tries >= TRIES {
                return Err(why);
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

/// The server's artifacts and cached results, as an attempt reaches them.
pub(super) struct ServerPorts(pub(super) Arc<Held>);

impl ServerPorts {
    fn me(&self) -> (AttemptToken, RunnerRef) {
        (self.0.token().clone(), self.0.runner.clone())
    }

    async fn fetch(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        let unavailable = |message: String| ArtifactError::Unavailable { message };
        let mut whole = Vec::new();
        loop {
            let (token, runner) = self.me();
            let (digest, at) = (digest.clone(), whole.len() as u64);
            let fetch = ToServer::Fetch { token, runner, digest, at };
            match self.0.ask_surely(&fetch, &[]).await.map_err(unavailable)? {
                (Answer::Bytes { size }, bytes) => {
                    whole.extend_from_slice(&bytes);
                    if whole.len() as u64 >= size {
                        break;
                    }
                    if bytes.is_empty() {
                        return Err(unavailable("the server sent nothing more of it".to_owned()));
                    }
                }
                (Answer::Failed { message, .. }, _) => return Err(unavailable(message)),
                _ => return Err(unavailable("the server answered something else".to_owned())),
            }
        }
        let found = Digest::sha256(&whole);
        // Whatever carried it is not believed.
        if found != *digest {
            return Err(ArtifactError::Damaged { digest: digest.clone(), found });
        }
        Ok(whole.into())
    }
}

impl Artifacts for ServerPorts {
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let (token, runner) = self.me();
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        Box::pin(async move {
            let unavailable = |message: String| ArtifactError::Unavailable { message };
            let store = ToServer::Store { token, runner, name, media_type };
            match self.0.ask_surely(&store, &bytes).await.map_err(unavailable)? {
                (Answer::Stored { artifact }, _) if artifact.digest == Digest::sha256(&bytes) => {
                    Ok(artifact)
                }
                (Answer::Failed { message, .. }, _) => Err(unavailable(message)),
                _ => Err(unavailable("the server answered something else".to_owned())),
            }
        })
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move { self.fetch(&digest).await })
    }
}

impl ResultCache for ServerPorts {
    fn recall(&self, key: &Digest) -> BoxFuture<'_, Result<Option<CachedResult>, StoreError>> {
        let (token, runner) = self.me();
        let recall = ToServer::Recall { token, runner, key: key.clone() };
        Box::pin(async move {
            match self.0.ask(&recall, &[], ANSWER).await {
                Ok((Answer::Recalled { result }, _)) => Ok(result.map(Into::into)),
                other => Err(not_answered("look for an earlier result", other)),
            }
        })
    }

    fn remember(
        &self,
        key: &Digest,
        result: CachedResult,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (token, runner) = self.me();
        let result = result.into();
        let remember = ToServer::Remember { token, runner, key: key.clone(), result };
        Box::pin(async move {
            match self.0.ask(&remember, &[], ANSWER).await {
                Ok((Answer::Done, _)) => Ok(()),
                other => Err(not_answered("keep a result", other)),
            }
        })
    }
}

fn not_answered(doing: &str, answer: Result<(Answer, Bytes), AskError>) -> StoreError {
    let source = match answer {
        Ok((Answer::Failed { message, .. }, _)) => message.into(),
        Ok(_) => "the server answered something else".into(),
        Err(error) => Box::new(error) as fairlead_run::BoxError,
    };
    StoreError::Unavailable { doing: doing.to_owned(), source }
}
