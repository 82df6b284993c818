//! The Postgres server that tests use: the one that FAIRLEAD_POSTGRES names, whose user may make
//! schemas, or one that `tests/setup/postgres.sh` starts and that is left running for the next time.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// Where the server of all tests listens that is started here.
const PORT: u16 = 55477;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::disallowed_methods, reason = "a test starts the real server")]
fn postgres(arguments: &[&str]) -> Result<String, String> {
    let script = repository().join("tests/setup/postgres.sh");
    let mut command = Command::new(&script);
    let done = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let done = done.map_err(|error| format!("{}: {error}", script.display()))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    } else {
        Err(format!("{} {}: {}", script.display(), arguments.join(" "), done.status))
    }
}

/// A server of one test's own, which ends with it.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// A server with its data in `folder` and the address of a database on it; none, and a word
    /// about it, where none can be started.
    pub(crate) fn start(folder: &Path, port: u16) -> Option<(Self, String)> {
        let server = Self { folder: folder.to_owned(), port };
        match server.up() {
            Ok(url) => Some((server, url)),
            Err(problem) => {
                skipped(&problem);
                None
            }
        }
    }

    pub(crate) fn up(&self) -> Result<String, String> {
        postgres(&["up", &self.folder.display().to_string(), &self.port.to_string()])
    }

    pub(crate) fn down(&self) -> Result<String, String> {
        postgres(&["down", &self.folder.display().to_string()])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.down();
    }
}

/// The address of the server that all tests share.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests names the server")]
fn shared() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let url = URL.get_or_init(|| {
        if let Ok(url) = std::env::var("FAIRLEAD_POSTGRES") {
            return Some(url);
        }
        let folder = repository().join("target/services/store-tests");
        match postgres(&["up", &folder.display().to_string(), &PORT.to_string()]) {
            Ok(url) => Some(url),
            Err(problem) => {
                skipped(&problem);
                None
            }
        }
    });
    url.as_deref()
}

/// Told past the harness, which shows nothing of a test that passes.
fn skipped(problem: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: the store is not tested on Postgres: {problem}; \
         FAIRLEAD_POSTGRES=postgres://… names a server"
    );
}

/// An empty schema, which is removed in the end.
pub(crate) struct Schema {
    /// The address with which a store is opened in it.
    pub(crate) url: String,
    pub(crate) name: String,
    base: String,
}

impl Schema {
    /// None, and a word about it, where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let schema = Self::at(shared()?);
        let mut db = PgConnection::connect(&schema.base).await.expect("the server answers");
        db.execute(AssertSqlSafe(format!("CREATE SCHEMA {}", schema.name)))
            .await
            .expect("a schema");
        Some(schema)
    }

    fn at(base: &str) -> Self {
        let name = format!("fairlead_test_{:016x}", rand::random::<u64>());
        let join = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{join}options=-csearch_path%3D{name}");
        Self { url, name, base: base.to_owned() }
    }

    /// A connection within the schema.
    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the server answers")
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (base, text) = (self.base.clone(), format!("DROP SCHEMA {} CASCADE", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                if let Ok(mut db) = PgConnection::connect(&base).await {
                    let _ = db.execute(AssertSqlSafe(text)).await;
                }
            });
        });
        let _ = dropping.join();
    }
}
