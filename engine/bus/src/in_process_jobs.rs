//! The queue of jobs and the talk in one process: for tests, and to see what a bus must do.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fairlead_event::{Acknowledge, AskError, BusError, Heard, JobBus, JobOffer, Reply};
use fairlead_step::BoxFuture;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// How long one request for a job waits for one.
const TAKE: Duration = Duration::from_millis(500);

/// The most bytes of a message, as NATS has it unless it is told otherwise.
const LARGEST: usize = 1 << 20;

/// Jobs in process. Cheap to clone; every clone is the same bus.
#[derive(Clone, Default)]
pub struct InProcessJobs(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
    away: AtomicBool,
    /// How often it came back.
    returns: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    queues: HashMap<String, VecDeque<Queued>>,
    /// Those that are offered to somebody: their pools and tokens.
    out: Vec<(String, String)>,
    listeners: HashMap<String, Vec<mpsc::UnboundedSender<Heard>>>,
}

#[derive(Clone)]
struct Queued {
    token: String,
    job: Bytes,
    times: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, doing: &str) -> Result<(), BusError> {
        if self.away.load(Ordering::Acquire) {
            let (doing, source) = (doing.to_owned(), "it is away, as the test wants".into());
            return Err(BusError::Unavailable { doing, source });
        }
        Ok(())
    }
}

impl InProcessJobs {
    /// Makes the bus unreachable, or reachable again.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::Release);
        self.0.filled.notify_waiters();
        if !away {
            self.0.returns.send_modify(|count| *count += 1);
        }
    }

    /// Every job that waits, for tests that look for what must not be in one.
    #[must_use]
    pub fn waiting(&self) -> Vec<Bytes> {
        let state = self.0.state();
        state.queues.values().flatten().map(|queued| queued.job.clone()).collect()
    }

    fn send(
        &self,
        address: &str,
        message: &Bytes,
        mut reply: impl FnMut() -> Option<Box<dyn Reply>>,
    ) -> usize {
        let mut state = self.0.state();
        let Some(listeners) = state.listeners.get_mut(address) else { return 0 };
        listeners.retain(|listener| {
            listener.send(Heard { message: message.clone(), reply: reply() }).is_ok()
        });
        listeners.len()
    }
}

/// One job handed out. Dropped unanswered, it goes back.
struct Out {
    shared: Arc<Shared>,
    pool: String,
    queued: Option<Queued>,
}

impl Out {
    fn forget(&self, token: &str) -> bool {
        let mut state = self.shared.state();
        let before = state.out.len();
        state.out.retain(|(pool, out)| *pool != self.pool || out != token);
        before > state.out.len()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(queued) = self.queued.take()
            // What was withdrawn meanwhile does not come again.
            && self.forget(&queued.token)
        {
            let pool = self.pool.clone();
            self.shared.state().queues.entry(pool).or_default().push_back(queued);
            self.shared.filled.notify_waiters();
        }
    }
}

impl Acknowledge for Out {
    fn done(mut self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>> {
        if let Some(queued) = self.queued.take() {
            self.forget(&queued.token);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn later(self: Box<Self>, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop(self);
        });
        Box::pin(std::future::ready(Ok(())))
    }

    fn progress(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}

/// The answer goes to whoever asked, unless another was quicker.
struct First(Arc<Mutex<Option<oneshot::Sender<Bytes>>>>);

impl Reply for First {
    fn send(self: Box<Self>, answer: Bytes) -> BoxFuture<'static, ()> {
        if let Some(asker) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = asker.send(answer);
        }
        Box::pin(std::future::ready(()))
    }
}

impl JobBus for InProcessJobs {
    fn offer<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
        job: Bytes,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.0.reach("take a job")?;
            let mut state = self.0.state();
            let out = state.out.iter().any(|(of, out)| of == pool && out == token);
            let queue = state.queues.entry(pool.to_owned()).or_default();
            if !out && !queue.iter().any(|queued| queued.token == token) {
                queue.push_back(Queued { token: token.to_owned(), job, times: 0 });
                drop(state);
                self.0.filled.notify_waiters();
            }
            Ok(())
        })
    }

    fn withdraw<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.0.reach("take a job out")?;
            let mut state = self.0.state();
            state.out.retain(|(of, out)| of != pool || out != token);
            if let Some(queue) = state.queues.get_mut(pool) {
                queue.retain(|queued| queued.token != token);
            }
            Ok(())
        })
    }

    fn is_offered<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, BusError>> {
        Box::pin(async move {
            self.0.reach("look for a job")?;
            let state = self.0.state();
            let waits = |queue: &VecDeque<Queued>| queue.iter().any(|q| q.token == token);
            let out = state.out.iter().any(|(of, out)| of == pool && out == token);
            Ok(out || state.queues.get(pool).is_some_and(waits))
        })
    }

    fn take<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Option<JobOffer>> {
        let taken = async move {
            loop {
                let mut filled = std::pin::pin!(self.0.filled.notified());
                filled.as_mut().enable();
                if self.0.reach("hand out a job").is_ok() {
                    let mut state = self.0.state();
                    if let Some(mut queued) =
                        state.queues.get_mut(pool).and_then(VecDeque::pop_front)
                    {
                        queued.times += 1;
                        let times = queued.times;
                        state.out.push((pool.to_owned(), queued.token.clone()));
                        let (job, token) = (queued.job.clone(), queued.token.clone());
                        let (shared, pool) = (Arc::clone(&self.0), pool.to_owned());
                        let out = Out { shared, pool, queued: Some(queued) };
                        return JobOffer::new(job, token, times, Box::new(out));
                    }
                }
                filled.await;
            }
        };
        Box::pin(async move { tokio::time::timeout(TAKE, taken).await.ok() })
    }

    fn ask<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>> {
        Box::pin(async move {
            self.0.reach("carry a question")?;
            let (asker, answer) = oneshot::channel();
            let asker = Arc::new(Mutex::new(Some(asker)));
            let heard =
                self.send(address, &message, || Some(Box::new(First(Arc::clone(&asker))) as _));
            if heard == 0 {
                return Err(AskError::Nobody { address: address.to_owned() });
            }
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(answer)) => {
                    self.0.reach("carry an answer")?;
                    Ok(answer)
                }
                Ok(Err(_)) | Err(_) => {
                    Err(AskError::TimedOut { address: address.to_owned(), after: patience })
                }
            }
        })
    }

    fn tell<'a>(&'a self, address: &'a str, message: Bytes) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.0.reach("carry a message")?;
            self.send(address, &message, || None);
            Ok(())
        })
    }

    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Heard>, BusError>> {
        Box::pin(async move {
            let (listener, heard) = mpsc::unbounded_channel();
            self.0.state().listeners.entry(address.to_owned()).or_default().push(listener);
            let heard = futures::stream::unfold(heard, |mut heard| async move {
                let next = heard.recv().await?;
                Some((next, heard))
            });
            Ok(heard.boxed())
        })
    }

    fn largest(&self) -> usize {
        LARGEST
    }

    fn connected(&self) -> bool {
        !self.0.away.load(Ordering::Acquire)
    }

    fn connections(&self) -> BoxStream<'static, ()> {
        let first = futures::stream::once(std::future::ready(()));
        let returns = (self.0.returns.subscribe(), *self.0.returns.borrow());
        let more = futures::stream::unfold(returns, |(mut count, seen)| async move {
            let now = *count.wait_for(|now| *now > seen).await.ok()?;
            Some(((), (count, now)))
        });
        first.chain(more).boxed()
    }
}
