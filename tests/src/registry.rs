//! A registry of a test's own: the CNCF distribution, on a free port, in a temporary folder.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{Running, free_port};
use crate::setup;

/// The only user that a registry with a login knows.
#[derive(Debug, Clone, Copy)]
pub struct RegistryLogin {
    /// The user's name.
    pub user: &'static str,
    /// The password.
    pub password: &'static str,
    /// The bcrypt hash of the password, as `htpasswd -B` writes it.
    hash: &'static str,
}

impl RegistryLogin {
    /// The user `ci`.
    pub const CI: Self = Self {
        user: "ci",
        password: "harbour-pilot",
        hash: "$2b$05$jpv1LoUnjSvzUuDNJm9XfetXw.7QnsBIS0caWmcv5lWHGYRDozGFy",
    };
}

/// A running registry.
pub struct Registry {
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Running>,
}

impl Registry {
    /// An empty registry that lets everybody in.
    #[must_use]
    pub fn start() -> Self {
        Self::with(None, None)
    }

    /// An empty registry that sends each push to `url`, with `headers`, and repeats what is refused.
    #[must_use]
    pub fn notifying(url: &str, headers: &[(&str, &str)]) -> Self {
        Self::with(Some((url, headers)), None)
    }

    /// An empty registry that asks everybody for this login.
    #[must_use]
    pub fn private(login: RegistryLogin) -> Self {
        Self::with(None, Some(login))
    }

    fn with(notify: Option<(&str, &[(&str, &str)])>, login: Option<RegistryLogin>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let root = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{root}/data'}}, delete: {{enabled: true}}}}\n"
        );
        if let Some(login) = login {
            let users = folder.path().join("users");
            std::fs::write(&users, format!("{}:{}\n", login.user, login.hash)).expect("a file");
            let _ = writeln!(config, "auth: {{htpasswd: {{realm: test, path: '{root}/users'}}}}");
        }
        if let Some((url, headers)) = notify {
            config.push_str("notifications:\n  endpoints:\n    - name: fairlead\n");
            let _ = writeln!(config, "      url: '{url}'");
            config.push_str("      timeout: 2s\n      threshold: 3\n      backoff: 200ms\n");
            if !headers.is_empty() {
                config.push_str("      headers:\n");
            }
            for (name, value) in headers {
                let _ = writeln!(config, "        {name}: ['{value}']");
            }
        }
        std::fs::write(folder.path().join("config.yml"), config).expect("a file");
        let mut registry = Self { port, folder, process: None };
        registry.resume();
        registry
    }

    /// The registry's name in references: `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its blobs and tags.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    /// Ends it; what it holds stays for [`Registry::resume`].
    pub fn pause(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port, with what it held.
    pub fn resume(&mut self) {
        if self.process.is_some() {
            return;
        }
        let program = setup("registry");
        let mut command = Command::new(Path::new(&program));
        command.arg("serve").arg(self.folder.path().join("config.yml"));
        let mut process = Running::start(&mut command, &self.log_file());
        let address = (std::net::Ipv4Addr::LOCALHOST, self.port);
        process
            .wait_until(Duration::from_secs(20), || std::net::TcpStream::connect(address).is_ok());
        self.process = Some(process);
    }
}
