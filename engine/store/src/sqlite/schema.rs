//! Opening a database: what it is, which version it has, and bringing it forward.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::{Sqlite, options, readers, says_damaged, wakes::Wakes, writer::Writer};
use crate::error::{OpenError, Place};

/// `FLRL`: what makes a database ours.
const APPLICATION_ID: i32 = 0x464c_524c;

/// Each entry brings a database one version forward, and says so in `user_version`; the first sets
/// `application_id`. Entries are added, never changed.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/0001_journal.sql"),
    include_str!("../../migrations/0002_engine.sql"),
    include_str!("../../migrations/0003_append.sql"),
    include_str!("../../migrations/0004_events.sql"),
    include_str!("../../migrations/0005_callers.sql"),
    include_str!("../../migrations/0006_watermarks.sql"),
    include_str!("../../migrations/0007_keyed_requests.sql"),
    include_str!("../../migrations/0008_deliveries.sql"),
];

/// Opens the database `file`, making or migrating it where needed.
pub(crate) async fn open(
    file: PathBuf,
    leases: PathBuf,
    wakes: PathBuf,
) -> Result<Sqlite, OpenError> {
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

    let failed = |source| {
        let place = Place::File(file.clone());
        match says_damaged(&source) {
            true => OpenError::Damaged { place, source },
            false => OpenError::Unavailable { place, source },
        }
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
    let (writer, readers) = (Writer::start(db), readers(&file));
    let events = Default::default();
    Ok(Sqlite { writer, events, readers, leases, wakes: Wakes::at(wakes) })
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
            place: Place::File(file.to_owned()),
            found: version,
            known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        }),
        _ => Err(OpenError::Foreign { place: Place::File(file.to_owned()) }),
    }
}

async fn migrate(db: &mut SqliteConnection, found: usize) -> sqlx::Result<()> {
    let mut change = db.begin_with("BEGIN IMMEDIATE").await?;
    for migration in &MIGRATIONS[found..] {
        change.execute(*migration).await?;
    }
    change.commit().await
}
