//! The ports of `fairlead-run` in memory, in SQLite and in Postgres: the journal, events, cached
//! results, logs and artifacts. No stable API.
//!
//! In SQLite a store is one folder: `fairlead.db` with the journal and the events, `leases/` with a
//! locked file for each run that a process drives, `wakes/` through which processes wake each other,
//! `logs/` with a text file for each attempt, and `artifacts/` with what steps left behind, by
//! digest. In Postgres all but the artifacts are in one schema of a database that several servers
//! share.

mod accept;
mod admission;
mod artifacts;
mod callers;
mod deliveries;
mod error;
mod events;
mod idempotency;
mod kept;
mod logs;
mod memory;
mod notifier;
mod postgres;
mod prune;
mod runs;
mod sqlite;
mod statements;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairlead_run::{
    AuditLog, DeliveryStore, EventStore, IdempotencyStore, Journal, LogStore, ResultCache,
    StoreError, TokenStore,
};
use fairlead_step::Artifacts;

pub use artifacts::S3Options;
pub use error::{OpenError, Place};
pub use postgres::LEASE_TTL;
pub use prune::{ARTIFACT_GRACE, Amount, KEYS_KEPT, MOST_KEYS, PruneReport, PruneRules};

/// A store, opened: every port that keeps something. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    journal: Arc<dyn Journal>,
    events: Arc<dyn EventStore>,
    result_cache: Arc<dyn ResultCache>,
    tokens: Arc<dyn TokenStore>,
    deliveries: Arc<dyn DeliveryStore>,
    audit: Arc<dyn AuditLog>,
    keyed: Arc<dyn IdempotencyStore>,
    logs: Arc<dyn LogStore>,
    artifacts: Arc<dyn Artifacts>,
    retention: Arc<dyn prune::Retention>,
    log_retention: Arc<dyn prune::LogRetention>,
    kept: Arc<dyn artifacts::ArtifactRetention>,
    base: Base,
}

/// What a store is made of.
#[derive(Clone)]
enum Base {
    Memory(memory::Memory),
    Sqlite(Arc<sqlite::Sqlite>),
    Postgres(Arc<postgres::Postgres>),
}

impl Store {
    /// Opens the store in `folder`, making it when there is none, and bringing it forward when an
    /// older build made it. Must be called within a tokio runtime, whose tasks do the writing.
    ///
    /// # Errors
    /// When the folder cannot be used, or holds a database that is foreign, damaged, or of a newer
    /// build.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        let folder = made(folder)?;
        let (file, leases) = (folder.join("fairlead.db"), folder.join("leases"));
        let sqlite = Arc::new(sqlite::open(file, leases, folder.join("wakes")).await?);
        let logs = Arc::new(logs::Files::new(folder.join("logs")));
        let kept = artifacts_in(&folder)?;
        Ok(Self::of(Arc::clone(&sqlite), logs, kept, Base::Sqlite(sqlite)))
    }

    /// Connects to the store in the database at `url` (`postgres://USER@HOST:PORT/DATABASE`, with
    /// parameters as libpq has them, such as `sslmode`, `sslrootcert` and
    /// `options=-csearch_path%3DSCHEMA`), making its tables when there are none, and bringing them
    /// forward when an older build made them. What the address leaves out is taken from `PGUSER`,
    /// `PGPASSWORD` and their like, and from the password file. Must be called within a tokio
    /// runtime, whose tasks do the writing.
    ///
    /// Several processes, on several machines, may share one such store. `folder` holds the artifacts
    /// alone; all of those processes must see the same files in it, so on several machines it is a
    /// shared file system. The connection must be to the server itself, or through a pool that keeps
    /// sessions: hints between processes are lost behind one that does not.
    ///
    /// # Errors
    /// When the folder or the address cannot be used, the server does not answer, or the database is
    /// foreign, or of a newer build. No error shows the password.
    pub async fn connect(url: &str, folder: &Path) -> Result<Self, OpenError> {
        Self::connect_with(url, folder, postgres::Options::default()).await
    }

    pub(crate) async fn connect_with(
        url: &str,
        folder: &Path,
        options: postgres::Options,
    ) -> Result<Self, OpenError> {
        let kept = artifacts_in(&made(folder)?)?;
        let postgres = Arc::new(postgres::open(url, options).await?);
        let logs = Arc::clone(&postgres);
        Ok(Self::of(Arc::clone(&postgres), logs, kept, Base::Postgres(postgres)))
    }

    /// A store that is gone when its last clone is dropped.
    #[must_use]
    pub fn memory() -> Self {
        let memory = memory::Memory::default();
        let logs = Arc::new(logs::Memory::default());
        Self::of(Arc::new(memory.clone()), logs, artifacts::in_memory(), Base::Memory(memory))
    }

    fn of<S, L>(
        state: Arc<S>,
        logs: Arc<L>,
        kept: Arc<dyn artifacts::ArtifactRetention>,
        base: Base,
    ) -> Self
    where
        S: Journal
            + EventStore
            + ResultCache
            + TokenStore
            + AuditLog
            + IdempotencyStore
            + DeliveryStore
            + prune::Retention
            + 'static,
        L: LogStore + prune::LogRetention + 'static,
    {
        Self {
            journal: state.clone(),
            events: state.clone(),
            result_cache: state.clone(),
            tokens: state.clone(),
            deliveries: state.clone(),
            audit: state.clone(),
            keyed: state.clone(),
            retention: state,
            logs: logs.clone(),
            log_retention: logs,
            artifacts: kept.clone(),
            kept,
            base,
        }
    }

    /// The same store with its artifacts elsewhere: in storage that speaks S3. What is in the folder is
    /// still found there, and nothing is added to it. `folder` is where what comes piece by piece is
    /// gathered.
    ///
    /// # Errors
    /// When the address is none, or the storage does not answer, or refuses the keys.
    pub async fn with_artifacts_in(
        self,
        options: &S3Options,
        folder: &Path,
    ) -> Result<Self, OpenError> {
        let bucket = artifacts::Bucket::open(options, folder.join("incoming"))?;
        bucket.try_out().await?;
        let kept: Arc<dyn artifacts::ArtifactRetention> =
            Arc::new(artifacts::Layered { first: Arc::new(bucket), second: self.kept });
        Ok(Self { artifacts: kept.clone(), kept, ..self })
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Arc<dyn EventStore> {
        Arc::clone(&self.events)
    }

    /// The cached results.
    #[must_use]
    pub fn result_cache(&self) -> Arc<dyn ResultCache> {
        Arc::clone(&self.result_cache)
    }

    /// The API tokens.
    #[must_use]
    pub fn tokens(&self) -> Arc<dyn TokenStore> {
        Arc::clone(&self.tokens)
    }

    /// The messages to others.
    #[must_use]
    pub fn deliveries(&self) -> Arc<dyn DeliveryStore> {
        Arc::clone(&self.deliveries)
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> Arc<dyn AuditLog> {
        Arc::clone(&self.audit)
    }

    /// What is kept of requests that show a key.
    #[must_use]
    pub fn keyed_requests(&self) -> Arc<dyn IdempotencyStore> {
        Arc::clone(&self.keyed)
    }

    /// The logs.
    #[must_use]
    pub fn logs(&self) -> Arc<dyn LogStore> {
        Arc::clone(&self.logs)
    }

    /// Lets each log have at most so many bytes, from now on; see [`fairlead_run::MAX_LOG_BYTES`].
    pub fn limit_logs(&self, bytes: u64) {
        self.log_retention.limit(bytes);
    }

    /// The artifacts.
    #[must_use]
    pub fn artifacts(&self) -> Arc<dyn Artifacts> {
        Arc::clone(&self.artifacts)
    }

    /// Removes what the rules allow, with all that nobody needs any more. With `dry_run` nothing is
    /// changed, and the same is reported. It may be killed at any point, and may run beside servers
    /// that use the store.
    ///
    /// # Errors
    /// When the store fails. What was removed until then is gone; the rest goes with the next pass.
    pub async fn prune(
        &self,
        rules: &PruneRules,
        dry_run: bool,
    ) -> Result<PruneReport, StoreError> {
        prune::prune(&*self.retention, &*self.log_retention, &*self.kept, rules, dry_run).await
    }

    /// Finishes what is being written and closes the files. What is asked of a clone afterwards
    /// fails. A store that is merely dropped has lost nothing either: success was told after the
    /// sync.
    pub async fn close(&self) {
        match &self.base {
            Base::Memory(memory) => memory.close(),
            Base::Sqlite(sqlite) => Box::pin(sqlite.close()).await,
            Base::Postgres(postgres) => Box::pin(postgres.close()).await,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = match &self.base {
            Base::Memory(_) => "memory",
            Base::Sqlite(_) => "sqlite",
            Base::Postgres(_) => "postgres",
        };
        f.debug_struct("Store").field("base", &base).finish_non_exhaustive()
    }
}

fn made(folder: &Path) -> Result<PathBuf, OpenError> {
    let fail = |source| OpenError::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(fail)?;
    folder.canonicalize().map_err(fail)
}

fn artifacts_in(folder: &Path) -> Result<Arc<dyn artifacts::ArtifactRetention>, OpenError> {
    let kept = folder.join("artifacts");
    artifacts::in_folder(&kept).map_err(|source| OpenError::Folder { path: kept, source })
}
