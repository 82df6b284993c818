//! The one task that writes. It takes every write that waits and commits them in one transaction,
//! so that many runs share the cost of one sync to disk.

use std::sync::Arc;

use fairlead_run::StoreError;
use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::store_error;

/// Writes that may wait. Each is one run's next step or one event, so a longer queue would only
/// hide that the disk is slower than the work.
const QUEUE: usize = 1024;
/// The most writes in one transaction, so that the first of them does not wait for ever.
const MOST_IN_ONE: usize = 256;

const CLOSED: &str = "the store is closed";

/// Why a transaction was not committed; everybody in it hears the same.
pub(super) type Failure = Arc<sqlx::Error>;

/// A write whose caller waits. What it answers is told after the commit.
pub(super) trait Job: Send {
    /// Whether what it changes is one statement, and so a transaction by itself.
    /// Asked once, right before it is run by itself.
    fn is_one_statement(&mut self) -> bool;
    fn run<'c>(&'c mut self, db: &'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<()>>;
    fn answer(self: Box<Self>, commit: Result<(), Failure>);
}

/// The work of a write: statements within a transaction that somebody else begins and commits.
/// What it refuses is a value; an error rolls back the transaction, and all that share it.
pub(crate) trait Work<T>:
    for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static
{
}

impl<T, F> Work<T> for F where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static
{
}

struct Pending<T, F> {
    is_one_statement: bool,
    work: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T: Send + 'static, F: Work<T>> Job for Pending<T, F> {
    fn is_one_statement(&mut self) -> bool {
        self.is_one_statement
    }

    fn run<'c>(&'c mut self, db: &'c mut SqliteConnection) -> BoxFuture<'c, sqlx::Result<()>> {
        Box::pin(async move {
            if let Some(work) = self.work.take() {
                self.value = Some(work(db).await?);
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, commit: Result<(), Failure>) {
        let answer = match (commit, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(Arc::new(sqlx::Error::WorkerCrashed)),
            (Err(failure), _) => Err(failure),
        };
        // Whoever asked may have gone; what was written stays written.
        let _ = self.reply.send(answer);
    }
}

/// The handle to the task.
pub(crate) struct Writer(mpsc::Sender<Option<Box<dyn Job>>>);

impl Writer {
    pub(crate) fn start(db: SqliteConnection) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write(db, receiver));
        Self(sender)
    }

    /// Has `work` done in the next transaction, and answers when that is on disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Send + Sync,
        work: impl Work<T>,
    ) -> Result<T, StoreError> {
        self.send(doing, false, work).await
    }

    /// The same for work that changes what it changes in one statement: when no other write waits, that
    /// is the transaction, and the database's thread is called once.
    pub(crate) async fn write_one<T: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Send + Sync,
        work: impl Work<T>,
    ) -> Result<T, StoreError> {
        self.send(doing, true, work).await
    }

    async fn send<T: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Send + Sync,
        is_one_statement: bool,
        work: impl Work<T>,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> =
            Box::new(Pending { is_one_statement, work: Some(work), value: None, reply });
        self.room(&doing).await?.send(Some(job));
        Self::answered(doing, answer).await
    }

    /// Waits for room in the queue.
    pub(super) async fn room(
        &self,
        doing: impl FnOnce() -> String + Send,
    ) -> Result<mpsc::Permit<'_, Option<Box<dyn Job>>>, StoreError> {
        self.0.reserve().await.map_err(|_| store_error(doing(), CLOSED))
    }

    /// Waits for what a job answers.
    pub(super) async fn answered<T>(
        doing: impl FnOnce() -> String + Send,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) if super::says_damaged(&failure) => {
                Err(crate::values::damaged(failure.to_string(), failure))
            }
            Ok(Err(failure)) => Err(store_error(doing(), failure)),
            Err(_) => Err(store_error(doing(), CLOSED)),
        }
    }

    /// Lets what was asked for be written, and closes the database.
    pub(crate) async fn close(&self) {
        if self.0.send(None).await.is_ok() {
            self.0.closed().await;
        }
    }
}

async fn write(mut db: SqliteConnection, mut jobs: mpsc::Receiver<Option<Box<dyn Job>>>) {
    let mut batch = Vec::new();
    let mut open = true;
    while open {
        if jobs.recv_many(&mut batch, MOST_IN_ONE).await == 0 {
            break;
        }
        let mut jobs: Vec<Box<dyn Job>> = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            match job {
                Some(job) => jobs.push(job),
                None => open = false,
            }
        }
        if jobs.is_empty() {
            continue;
        }
        let commit = transact(&mut db, &mut jobs).await.map_err(Arc::new);
        for job in jobs {
            job.answer(commit.clone());
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

async fn transact(db: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> sqlx::Result<()> {
    let alone = match &mut *jobs {
        [job] => job.is_one_statement(),
        _ => false,
    };
    let done = match jobs {
        [job] if alone => job.run(db).await,
        jobs => together(db, jobs).await,
    };
    if done.is_err() {
        // A full disk may have ended the transaction already; then there is nothing to roll back.
        let _ = sqlx::query("ROLLBACK").execute(db).await;
    }
    done
}

async fn together(db: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> sqlx::Result<()> {
    // Immediate: the lock is taken, or waited for, before anything is read.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
    for job in jobs {
        job.run(db).await?;
    }
    sqlx::query("COMMIT").execute(&mut *db).await.map(|_| ())
}
