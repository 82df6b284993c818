//! Every port but that of the artifacts in Postgres, which several servers share.

mod admission;
mod append;
mod callers;
mod deliveries;
mod events;
mod idempotency;
mod journal;
mod lease;
mod logs;
mod prune;
mod result_cache;
mod schema;
#[cfg(test)]
mod tests;
mod wakes;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fairlead_run::{BoxError, StoreError};
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor as _};
use tokio::time::{Instant, timeout};

use crate::logs::MaxLog;
use append::Appender;
use lease::Leases;
pub(crate) use schema::open;
use wakes::Wakes;

/// How long a lease lasts that is not renewed. Each is renewed three times as often, and counts as
/// lost for its holder when two thirds of it have passed: the last third is for ending what is under
/// way.
pub const LEASE_TTL: Duration = Duration::from_secs(15);

/// How long a call may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long connecting may take, or waiting for a connection that somebody else uses.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is asked whether it lives before it is used. No server
/// restarts faster.
const FRESH: Duration = Duration::from_millis(100);
/// How often a statement is tried that the server gave up in favour of another one.
const TRIES: u32 = 5;

/// Connections for everything but appends, renewals and logs.
const CONNECTIONS: u32 = 6;
/// Connections for logs, which would hold up everything else.
const LOG_CONNECTIONS: u32 = 2;

/// What is said to the server on each connection: a statement that hangs must not hang for ever, nor
/// a transaction whose process was stopped; small statements are not worth compiling; and a commit
/// that was told is on disk even where the server's own setting is laxer.
const SETTINGS: &str = "SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '10s'; SET jit = off; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'";
/// Logs need not survive the loss of power.
const LOG_SETTINGS: &str = "SET statement_timeout = '15s'; SET lock_timeout = '10s'; \
    SET jit = off; SET synchronous_commit = off";

/// What tests change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) lease_ttl: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { lease_ttl: LEASE_TTL }
    }
}

/// One schema of a database.
pub(crate) struct Postgres {
    pool: Pool,
    logs: Pool,
    max_log: MaxLog,
    appender: Appender,
    leases: Leases,
    wakes: Wakes,
}

impl Postgres {
    /// Must be called within a tokio runtime.
    fn new(options: PgConnectOptions, schema: String, settings: Options) -> Self {
        let pool = Pool::new(options.clone(), CONNECTIONS, SETTINGS);
        Self {
            logs: Pool::new(options.clone(), LOG_CONNECTIONS, LOG_SETTINGS),
            max_log: MaxLog::default(),
            appender: Appender::start(options.clone(), schema.clone()),
            // A connection of its own: renewing must not wait for readers.
            leases: Leases::start(Pool::new(options.clone(), 1, SETTINGS), settings.lease_ttl),
            wakes: Wakes::new(options, schema, settings.lease_ttl),
            pool,
        }
    }

    pub(crate) async fn close(&self) {
        self.wakes.end();
        self.appender.close().await;
        self.leases.close().await;
        self.pool.close().await;
        self.logs.close().await;
    }
}

/// Connections that are opened when needed.
#[derive(Clone)]
struct Pool {
    pool: PgPool,
    /// Since something failed: every connection is asked whether it lives before it is used.
    suspect: Arc<AtomicBool>,
}

impl Pool {
    fn new(options: PgConnectOptions, most: u32, settings: &'static str) -> Self {
        let suspect = Arc::new(AtomicBool::new(false));
        let suspected = Arc::clone(&suspect);
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(CONNECT_DEADLINE)
            .test_before_acquire(false)
            .after_connect(move |db, _| {
                Box::pin(async move { db.execute(settings).await.map(|_| ()) })
            })
            .before_acquire(move |db, about| {
                let ask = about.idle_for > FRESH || suspected.load(Ordering::Relaxed);
                Box::pin(async move {
                    if ask {
                        db.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Self { pool, suspect }
    }

    /// Does `work` on a connection, again when the server gave it up in favour of another
    /// transaction.
    async fn call<T: Send>(
        &self,
        doing: impl Fn() -> String,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>>,
    ) -> Result<T, StoreError> {
        let until = Instant::now() + DEADLINE;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(until, &work).await {
                Ok(value) => return Ok(value),
                Err(error) if tries < TRIES && may_succeed_now(&error) => {}
                Err(error) => return Err(store_error(doing(), error)),
            }
        }
    }

    async fn once<T>(
        &self,
        until: Instant,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let acquired = self.pool.acquire().await;
        self.suspect.store(acquired.is_err(), Ordering::Relaxed);
        let mut db = acquired?;
        let done = match tokio::time::timeout_at(until, work(&mut db)).await {
            Ok(done) => done,
            Err(_) => Err(late()),
        };
        if let Err(error) = &done
            && is_gone(error)
        {
            self.suspect.store(true, Ordering::Relaxed);
            db.close_on_drop();
        }
        done
    }

    async fn close(&self) {
        // A connection to a server that is gone may take its time to be closed.
        let _ = timeout(CONNECT_DEADLINE, self.pool.close()).await;
    }
}

/// Says what a closure over a connection is, which is not seen from the closure alone.
fn on<T, W>(work: W) -> W
where
    W: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>>,
{
    work
}

/// Connects outside the pools.
async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let connecting = async {
        let mut db = PgConnection::connect_with(options).await?;
        db.execute(SETTINGS).await?;
        Ok(db)
    };
    timeout(CONNECT_DEADLINE, connecting).await.unwrap_or_else(|_| Err(late()))
}

/// The server has not answered in time.
fn late() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "the database server has not answered in time",
    ))
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Whether the same may succeed at once: a deadlock, or a plan that somebody else removed or added at
/// that moment (a foreign key).
fn may_succeed_now(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(&*code, "40001" | "40P01" | "23503"))
}

/// Whether the connection is of no use any more.
fn is_gone(error: &sqlx::Error) -> bool {
    match code(error) {
        Some(code) => code.starts_with("57P") || code.starts_with("08"),
        None => true,
    }
}

fn store_error(doing: impl Into<String>, error: sqlx::Error) -> StoreError {
    match code(&error).as_deref() {
        Some("XX001" | "XX002") => {
            StoreError::Damaged { what: error.to_string(), source: Some(error.into()) }
        }
        Some(_) | None => unavailable(doing, error),
    }
}

fn unavailable(doing: impl Into<String>, source: impl Into<BoxError>) -> StoreError {
    StoreError::Unavailable { doing: doing.into(), source: source.into() }
}

/// A text that the server takes: it has no room for the character 0.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Ids as an array.
fn ids<'r>(runs: impl IntoIterator<Item = &'r fairlead_step::RunId>) -> Vec<String> {
    runs.into_iter().map(|run| run.as_str().to_owned()).collect()
}

/// A task that is begun once.
type Begun = OnceLock<tokio::task::AbortHandle>;
