//! Writes of one kind that wait at the same time, done as one: a statement about many rows calls the
//! database's thread once, where a statement for each would call it as often as there are rows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairlead_run::StoreError;
use futures::future::BoxFuture;
use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::writer::{Failure, Job, Writer};

/// The most that one statement is about. Each may have a document of its own.
const MOST: usize = 64;

/// A kind of write that can be done for many at a time.
pub(super) trait Kind: Send + Sync + 'static {
    /// What one caller wants.
    type Want: Send;
    /// What it is answered.
    type Answer: Send;

    /// What it is for, as a message says it after "the store did not".
    const DOING: &'static str;

    /// Whether what these change is one statement each time, and so a transaction by itself.
    fn is_one_statement(wants: &[Self::Want]) -> bool;

    /// Does at most [`MOST`] of them within a transaction, and answers each in its place.
    fn write<'c>(
        db: &'c mut SqliteConnection,
        wants: Vec<Self::Want>,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Self::Answer>>>;
}

/// The writes of one kind that wait.
pub(super) struct Gather<K: Kind>(Arc<Mutex<Waiting<K>>>);

impl<K: Kind> Default for Gather<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting { wants: Vec::new(), is_queued: false })))
    }
}

struct Waiting<K: Kind> {
    wants: Vec<(K::Want, Reply<K>)>,
    /// Whether a job is in the writer's queue that will take them.
    is_queued: bool,
}

type Reply<K> = oneshot::Sender<Result<<K as Kind>::Answer, Failure>>;

fn locked<K: Kind>(waiting: &Mutex<Waiting<K>>) -> MutexGuard<'_, Waiting<K>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kind> Gather<K> {
    /// Has it done in the next transaction, with all of its kind that waits then, and answers when that
    /// is on disk.
    pub(super) async fn write(
        &self,
        writer: &Writer,
        want: K::Want,
    ) -> Result<K::Answer, StoreError> {
        let doing = || K::DOING.to_owned();
        let (reply, answer) = oneshot::channel();
        // There is room for the job before anything waits for it: nobody is left without one when this
        // future is dropped.
        let room = writer.room(doing).await?;
        {
            let mut waiting = locked(&self.0);
            waiting.wants.push((want, reply));
            if !std::mem::replace(&mut waiting.is_queued, true) {
                let waiting = Arc::clone(&self.0);
                let job = Gathered {
                    waiting,
                    wants: Vec::new(),
                    replies: Vec::new(),
                    answers: Vec::new(),
                };
                room.send(Some(Box::new(job)));
            }
        }
        Writer::answered(doing, answer).await
    }
}

/// The job that does them.
struct Gathered<K: Kind> {
    waiting: Arc<Mutex<Waiting<K>>>,
    wants: Vec<K::Want>,
    replies: Vec<Reply<K>>,
    answers: Vec<K::Answer>,
}

impl<K: Kind> Gathered<K> {
    /// Takes what waits now. What comes later is for the next job.
    fn take(&mut self) {
        let mut waiting = locked(&self.waiting);
        waiting.is_queued = false;
        let taken = std::mem::take(&mut waiting.wants);
        drop(waiting);
        for (want, reply) in taken {
            self.wants.push(want);
            self.replies.push(reply);
        }
    }
}

impl<K: Kind> Job for Gathered<K> {
    fn is_one_statement(&mut self) -> bool {
        self.take();
        self.wants.len() <= MOST && K::is_one_statement(&self.wants)
    }

    fn run<'c>(&'c mut self, db: &'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<()>> {
        if self.replies.is_empty() {
            self.take();
        }
        Box::pin(async move {
            let mut wants = std::mem::take(&mut self.wants);
            while !wants.is_empty() {
                let some = wants.drain(..wants.len().min(MOST)).collect();
                self.answers.extend(K::write(&mut *db, some).await?);
            }
            Ok(())
        })
    }

    fn answer(mut self: Box<Self>, commit: Result<(), Failure>) {
        if self.replies.is_empty() {
            // The transaction failed before it came to this one.
            self.take();
        }
        let Self { replies, answers, .. } = *self;
        let mut answers = answers.into_iter();
        for reply in replies {
            // Whoever asked may have gone; what was written stays written.
            let _ = reply.send(match (&commit, answers.next()) {
                (Ok(()), Some(answer)) => Ok(answer),
                (Ok(()), None) => Err(Arc::new(sqlx::Error::WorkerCrashed)),
                (Err(failure), _) => Err(Arc::clone(failure)),
            });
        }
    }
}

/// Parts what one statement can be about from what has to wait for the next one: of two that share a
/// name the second is to meet the first. `of` tells the names of each.
pub(super) fn apart<'n, N>(left: Vec<usize>, of: impl Fn(usize) -> N) -> (Vec<usize>, Vec<usize>)
where
    N: IntoIterator<Item = &'n str>,
{
    let mut seen = BTreeSet::new();
    left.into_iter().partition(|place| {
        // Each name counts, also of what waits: it keeps those behind it waiting, too.
        let mut alone = true;
        for name in of(*place) {
            alone &= seen.insert(name);
        }
        alone
    })
}
