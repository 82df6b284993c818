//! A NATS server of a test's own, with JetStream, on a free port, in a temporary folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::process::{Running, free_port};
use crate::setup;

/// A NATS server.
pub struct Nats {
    address: Ipv4Addr,
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Running>,
}

impl Nats {
    /// A running server with empty streams.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// The same on another address of this machine.
    #[must_use]
    pub fn start_at(address: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nats = Self { address, port: free_port(), folder, process: None };
        nats.resume();
        nats
    }

    /// Its address, such as `nats://127.0.0.1:4222`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.address, self.port)
    }

    /// The folder with all that it keeps.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Publishes one message, as a program that knows nothing of Fairlead does, and waits until the
    /// server has it.
    ///
    /// # Panics
    /// When the server is away or refuses.
    pub fn publish(&self, subject: &str, payload: &[u8]) {
        let stream = TcpStream::connect((self.address, self.port)).expect("NATS");
        let mut lines = BufReader::new(stream.try_clone().expect("NATS")).lines();
        let mut stream = stream;
        let mut message = b"CONNECT {\"verbose\":false}\r\n".to_vec();
        message.extend(format!("PUB {subject} {}\r\n", payload.len()).bytes());
        message.extend(payload);
        message.extend(b"\r\nPING\r\n");
        stream.write_all(&message).expect("NATS");
        // The server answers in order: after its PONG it has the message.
        let answer = lines.find_map(|line| {
            let line = line.expect("NATS");
            (line == "PONG" || line.starts_with("-ERR")).then_some(line)
        });
        assert_eq!(answer.as_deref(), Some("PONG"));
    }

    /// Ends it, as a power cut would; its streams stay for [`Nats::resume`].
    pub fn cut(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again, on the same port, with its streams.
    pub fn resume(&mut self) {
        if self.process.is_some() {
            return;
        }
        let log = self.folder.path().join("log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(setup("nats"));
        command
            .args(["--addr", &self.address.to_string(), "--port", &self.port.to_string()])
            .arg("--jetstream")
            .arg("--store_dir")
            .arg(self.folder.path().join("streams"));
        let mut process = Running::start(&mut command, &log);
        process.wait_until(Duration::from_secs(20), || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Server is ready"))
        });
        self.process = Some(process);
    }
}
