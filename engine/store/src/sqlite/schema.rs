//! Opening a database: what it is, which version it has, and bringing it forward.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::{Sqlite, options, readers, says_damaged, writer::Writer};

/// `FLRL`: what makes a database ours.
const APPLICATION_ID: i32 = 0x464c_524c;

/// Each entry brings a database one version forward, and says so in `user_version`; the first sets
/// `application_id`. Entries are added, never changed.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/0001_journal.sql")];

/// Why a store was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be made or used.
    #[error("cannot use the folder {}", .path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is a database of somebody else's.
    #[error("{} is a database of another program", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer build wrote it.
    #[error("{} has version {found}, and this build knows up to {known}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// It is damaged, or no database at all.
    #[error("{} is damaged, or is not a database", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// It cannot be opened now.
    #[error("cannot open {}", .path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
}

impl OpenError {
    /// The way out.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "give a folder that this user may write to",
            Self::Foreign { .. } => "give a folder of Fairlead's own, or an empty one",
            Self::Newer { .. } => "use the newer build of Fairlead that wrote it",
            Self::Damaged { .. } => {
                "put a backup in its place, or move it away to begin with an empty store"
            }
            Self::Unavailable { .. } => "is the disk full, or does another process hold the file?",
        }
    }
}

/// Opens the database `file`, making or migrating it where needed.
pub(crate) async fn open(file: PathBuf, leases: PathBuf) -> Result<Sqlite, OpenError> {
    std::fs::create_dir_all(&leases)
        .map_err(|source| OpenError::Folder { path: leases.clone(), source })?;
    // Held while the file is made or changed: of two processes that begin at once, one waits.
    let gate = leases.join("open.lock");
    let locked = tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || {
            let gate = File::options().create(true).append(true).open(gate)?;
            gate.lock()?;
            Ok(gate)
        }
    });
    let locked = locked.await.map_err(std::io::Error::other).flatten();
    let _gate = locked.map_err(|source| OpenError::Folder { path: gate, source })?;

    let failed = |source| match says_damaged(&source) {
        true => OpenError::Damaged { path: file.clone(), source },
        false => OpenError::Unavailable { path: file.clone(), source },
    };
    let mut db = SqliteConnection::connect_with(&options(&file)).await.map_err(failed)?;
    let found = look(&mut db, &file, failed).await?;
    if found == 0 {
        // Before the tables: a journal mode cannot be changed within a transaction.
        db.execute("PRAGMA journal_mode = WAL").await.map_err(failed)?;
    }
    if found < MIGRATIONS.len() {
        migrate(&mut db, found).await.map_err(failed)?;
    }
    Ok(Sqlite { writer: Writer::start(db), readers: readers(&file), leases })
}

/// The version of a database: 0 for an empty file.
async fn look(
    db: &mut SqliteConnection,
    file: &Path,
    failed: impl Fn(sqlx::Error) -> OpenError,
) -> Result<usize, OpenError> {
    let (application, version, tables): (i32, u32, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id), \
                (SELECT user_version FROM pragma_user_version), \
                (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let version_number = usize::try_from(version).unwrap_or(usize::MAX);
    match (application, version_number) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, version_number) if version_number <= MIGRATIONS.len() => {
            Ok(version_number)
        }
        (APPLICATION_ID, _) => Err(OpenError::Newer {
            path: file.to_owned(),
            found: version,
            known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        }),
        _ => Err(OpenError::Foreign { path: file.to_owned() }),
    }
}

async fn migrate(db: &mut SqliteConnection, found: usize) -> sqlx::Result<()> {
    let mut change = db.begin_with("BEGIN IMMEDIATE").await?;
    for migration in &MIGRATIONS[found..] {
        change.execute(*migration).await?;
    }
    change.commit().await
}
