//! Postgres servers and schemas for tests.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::free_port;
use crate::repository_root;

/// What the script says for these arguments.
fn script(args: &[&str]) -> String {
    let path = repository_root().join("tests/setup/postgres.sh");
    let output = Command::new(&path)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
    assert!(output.status.success(), "{} {} failed", path.display(), args.join(" "));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The address of the server that all tests share: the one that `FAIRLEAD_POSTGRES` names, or one
/// that is started and left running for the next time.
fn shared() -> String {
    std::env::var("FAIRLEAD_POSTGRES").unwrap_or_else(|_| {
        let folder = repository_root().join("target/services/store-tests");
        script(&["up", &folder.display().to_string(), "55477"])
    })
}

/// The address of an empty schema on the server that all tests share.
///
/// # Panics
/// When there is no server.
#[must_use]
pub fn postgres_schema() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("fairlead_it_{}_{count}", std::process::id());
    script(&["schema", &shared(), &name])
}

/// A server of one test's own. Dropping it ends it.
pub struct Postgres {
    folder: tempfile::TempDir,
    address: Ipv4Addr,
    port: u16,
}

impl Postgres {
    /// A server with empty databases.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// The same on another address of this machine, too, for all in its network of 256.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_at(address: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = Self { folder, address, port: free_port() };
        let _ = server.resume();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("postgres")
    }

    /// Starts it again with what it held, and answers its address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&self) -> String {
        let folder: &Path = &self.data();
        let (folder, address) = (folder.display().to_string(), self.address.to_string());
        script(&["up", &folder, &self.port.to_string(), &address])
    }

    /// Ends it, until [`Postgres::resume`].
    ///
    /// # Panics
    /// When it does not end.
    pub fn pause(&self) {
        let _ = script(&["down", &self.data().display().to_string()]);
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://fairlead@{}:{}/postgres", self.address, self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.pause();
    }
}
