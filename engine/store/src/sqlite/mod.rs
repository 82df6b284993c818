//! The journal and the events in SQLite.

mod admission;
mod callers;
mod deliveries;
mod events;
mod gather;
mod idempotency;
mod journal;
mod lease;
mod prune;
mod result_cache;
mod schema;
mod wakes;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlead_run::{BoxError, StoreError};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

pub(crate) use schema::open;
use wakes::Wakes;
use writer::Writer;

/// How long a connection waits for another process to finish its write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// At how many pages the write-ahead log is copied into the database and begun anew, as far as no reader
/// needs it. A commit that writes over an older one syncs data only; one that makes the file longer syncs
/// where that is, too, which takes longer than copying 1 MiB now and then.
const LOG_PAGES: &str = "256";
/// Reads at the same time; each is a connection with a thread of its own, opened when needed.
const READERS: u32 = 3;

/// One database, opened: a connection that writes and some that read.
pub(crate) struct Sqlite {
    writer: Writer,
    events: events::Gathered,
    readers: SqlitePool,
    /// One locked file for each run that somebody drives.
    leases: PathBuf,
    wakes: Wakes,
}

impl Sqlite {
    pub(crate) async fn close(&self) {
        self.wakes.end();
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", LOG_PAGES)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .disable_statement_logging()
}

fn readers(file: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options(file).create_if_missing(false).read_only(true))
}

/// Whether the database itself says that it is damaged (`SQLITE_CORRUPT`) or none
/// (`SQLITE_NOTADB`).
fn says_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

fn store_error(doing: impl Into<String>, error: impl Into<BoxError>) -> StoreError {
    let source: BoxError = error.into();
    match source.downcast_ref::<sqlx::Error>() {
        Some(error) if says_damaged(error) => {
            StoreError::Damaged { what: error.to_string(), source: Some(source) }
        }
        _ => StoreError::Unavailable { doing: doing.into(), source },
    }
}
