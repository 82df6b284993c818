//! Opening a schema: what it is, which version it has, and bringing it forward.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::{Options, Postgres, connect};
use crate::error::{OpenError, Place};

/// Each entry brings a schema one version forward. Entries are added, never changed.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../migrations/postgres/0001_store.sql"),
    include_str!("../../migrations/postgres/0002_events.sql"),
    include_str!("../../migrations/postgres/0003_callers.sql"),
    include_str!("../../migrations/postgres/0004_watermarks.sql"),
    include_str!("../../migrations/postgres/0005_keyed_requests.sql"),
    include_str!("../../migrations/postgres/0006_deliveries.sql"),
];

/// What a migration locks in a database, beside its schema: `FLRL`.
pub(super) const LOCK: i32 = 0x464c_524c;

/// Connects to the database at `url`, making or migrating the tables where needed.
pub(crate) async fn open(url: &str, settings: Options) -> Result<Postgres, OpenError> {
    let address = |problem: String| OpenError::Address { problem };
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(address("it does not begin with postgres://".to_owned()));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| address(error.to_string()))?;
    let options = options.disable_statement_logging();
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("fairlead"),
    };
    let place = Place::Server(shown(&options));
    let failed = |source| OpenError::Unavailable { place: place.clone(), source };
    let mut db = connect(&options).await.map_err(failed)?;
    let schema = fit(&mut db, &place).await?;
    migrate(&mut db, &place).await?;
    let _ = db.close().await;
    Ok(Postgres::new(options, schema, settings))
}

/// Where a connection leads, for people. Never the password.
fn shown(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!("database {database} of {user} at {}", socket.display()),
        None => {
            format!(
                "database {database} of {user} at {}:{}",
                options.get_host(),
                options.get_port()
            )
        }
    }
}

/// Looks whether a journal can be kept here, and answers the schema's name.
async fn fit(db: &mut PgConnection, place: &Place) -> Result<String, OpenError> {
    let (schema, encoding, is_copy, version): (Option<String>, String, bool, i32) = sqlx::query_as(
        "SELECT current_schema(), current_setting('server_encoding'), pg_is_in_recovery(), \
         current_setting('server_version_num')::int",
    )
    .fetch_one(db)
    .await
    .map_err(|source| OpenError::Unavailable { place: place.clone(), source })?;
    let unfit = |problem| OpenError::Unfit { place: place.clone(), problem };
    if version < 130_000 {
        return Err(unfit("its server is older than Postgres 13"));
    }
    if encoding != "UTF8" {
        return Err(unfit("its encoding is not UTF8"));
    }
    if is_copy {
        return Err(unfit("it is a copy that cannot be written to"));
    }
    schema.ok_or_else(|| unfit("the schema that the connection names does not exist"))
}

async fn migrate(db: &mut PgConnection, place: &Place) -> Result<(), OpenError> {
    let failed = |source| OpenError::Unavailable { place: place.clone(), source };
    let mut change = db.begin().await.map_err(failed)?;
    // A migration may take longer than a statement should, and so may waiting for somebody else's.
    change
        .execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await
        .map_err(failed)?;
    // Of two that begin at once, one waits, and finds that nothing is left to do.
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))")
        .bind(LOCK)
        .execute(&mut *change)
        .await
        .map_err(failed)?;
    let found = look(&mut change, place).await?;
    if found < MIGRATIONS.len() {
        for migration in &MIGRATIONS[found..] {
            change.execute(*migration).await.map_err(failed)?;
        }
        sqlx::query("DELETE FROM fairlead_store").execute(&mut *change).await.map_err(failed)?;
        sqlx::query("INSERT INTO fairlead_store (version) VALUES ($1)")
            .bind(i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX))
            .execute(&mut *change)
            .await
            .map_err(failed)?;
    }
    change.commit().await.map_err(failed)
}

/// The version of a schema: 0 for an empty one.
async fn look(db: &mut PgConnection, place: &Place) -> Result<usize, OpenError> {
    let failed = |source| OpenError::Unavailable { place: place.clone(), source };
    // What an extension brought does not make a schema somebody else's.
    let (ours, tables): (bool, i64) = sqlx::query_as(
        "SELECT coalesce(bool_or(relname = 'fairlead_store'), false), count(*) FROM pg_class \
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') \
         AND NOT EXISTS (SELECT 1 FROM pg_depend \
           WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')",
    )
    .fetch_one(&mut *db)
    .await
    .map_err(failed)?;
    if !ours {
        return match tables {
            0 => Ok(0),
            _ => Err(OpenError::Foreign { place: place.clone() }),
        };
    }
    let version: i32 = sqlx::query_scalar("SELECT version FROM fairlead_store")
        .fetch_one(db)
        .await
        .map_err(failed)?;
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        Ok(_) => Err(OpenError::Newer {
            place: place.clone(),
            found: version.unsigned_abs(),
            known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        }),
        Err(_) => Err(OpenError::Foreign { place: place.clone() }),
    }
}
