//! Three servers on one Postgres and one NATS, and four runners: what there is of them, and what can be
//! done to each.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fairlead_tests::{
    Fairlead, Machine, Nats, Network, Postgres, Running, eventually, free_port, http,
};
use rustix::process::Signal;

/// How long a runner is believed. As short as a server lets it be, so that much happens in little time.
const LEASE: &str = "6s";

/// What whoever sends events knows, and what whoever asks a server knows.
const HOOK: &str = "hook-5d1c0f6e8a7b4c39";
const API: &str = "api-91b6e07d52f84a1c";

/// How many attempts a runner makes at a time.
const SLOTS: &str = "4";

/// A server or a runner, with what it keeps over its lives.
pub(crate) struct Member {
    pub(crate) name: String,
    home: Fairlead,
    machine: Option<Machine>,
    args: Vec<String>,
    process: Option<Running>,
    stopped: bool,
}

impl Member {
    fn start(&mut self) {
        if self.process.is_none() {
            self.process = Some(self.home.start(&self.args));
        }
    }

    /// Ends it as the kernel does that has no memory left.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.stopped = false;
    }

    pub(crate) fn lives_again(&mut self) {
        self.start();
    }

    pub(crate) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    pub(crate) fn go_on(&mut self) {
        self.signal(Signal::CONT);
        self.stopped = false;
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Cuts it off, so that its connections stay open and say nothing. False where there are no networks.
    pub(crate) fn cut_off(&self) -> bool {
        self.machine.as_ref().map(Machine::cut_off).is_some()
    }

    pub(crate) fn connect(&self) {
        if let Some(machine) = &self.machine {
            machine.connect();
        }
    }

    /// What it wrote in all its lives.
    pub(crate) fn log(&self) -> String {
        let entries = std::fs::read_dir(self.home.home()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
            .collect();
        logs.sort();
        logs.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
    }
}

/// All of it. What is stopped or cut off is let go on before it ends.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Member>,
    pub(crate) runners: Vec<Member>,
    pub(crate) nats: Nats,
    pub(crate) postgres: Postgres,
    pub(crate) api: Api,
    /// Where steps leave traces: a folder that all machines have.
    pub(crate) traces: tempfile::TempDir,
    /// Behind the machines in it.
    _network: Option<Network>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.servers.iter_mut().chain(&mut self.runners) {
            member.connect();
            if member.stopped {
                member.go_on();
            }
            if std::thread::panicking() {
                let log = member.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
                println!("--- {}\n  {last}", member.name);
            }
        }
        for member in self.servers.iter_mut().chain(&mut self.runners) {
            member.signal(Signal::TERM);
        }
    }
}

impl Cluster {
    /// Starts all of it, with one pipeline that events of the type `com.example.chore` start.
    pub(crate) fn start(pipeline: impl Fn(&std::path::Path) -> String) -> Self {
        let network = Network::new();
        if network.is_none() {
            println!("there are no network namespaces here: nobody is cut off");
        }
        let here = network.as_ref().map_or(std::net::Ipv4Addr::LOCALHOST, Network::address);
        let (postgres, nats) = (Postgres::start_at(here), Nats::start_at(here));
        let traces = tempfile::tempdir().unwrap();
        let pipeline = pipeline(traces.path());
        let machine = || network.as_ref().map(Network::machine);
        let on = |home: Fairlead, machine: &Option<Machine>| match machine {
            Some(machine) => home.on(machine),
            None => home,
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut urls = Vec::new();
        let mut servers: Vec<Member> = (1..=3)
            .map(|number| {
                let machine = machine();
                let address = machine.as_ref().map_or(here, Machine::address);
                let listen = format!("{address}:{}", free_port());
                urls.push(format!("http://{listen}"));
                let home = on(Fairlead::new(), &machine)
                    .env("FAIRLEAD_STORE", &postgres.url())
                    .env("FAIRLEAD_SECRET_HOOK", HOOK)
                    .env("FAIRLEAD_SECRET_API", API);
                home.write("pipelines/chore.yaml", &pipeline);
                home.write(
                    "serve.yaml",
                    "sources: {bench: {kind: cloudevents, secret: hook}}\n\
                     projects: {default: {allow: {kinds: command, host_programs: sh}}}\n",
                );
                let args = words(&[
                    "serve",
                    "--pipelines",
                    "pipelines",
                    "--config",
                    "serve.yaml",
                    "--listen",
                    &listen,
                    "--nats",
                    &nats.url(),
                    "--api-token",
                    "api",
                    "--default-pool",
                    "yard",
                    "--runner-lease",
                    LEASE,
                    "--max-runs",
                    "64",
                ]);
                let name = format!("server {number}");
                Member { name, home, machine, args, process: None, stopped: false }
            })
            .collect();
        let mut runners: Vec<Member> = (1..=4)
            .map(|number| {
                let machine = machine();
                let home = on(Fairlead::new(), &machine);
                let name = format!("runner-{number}");
                let args = words(&[
                    "runner",
                    "--nats",
                    &nats.url(),
                    "--pool",
                    "yard",
                    "--name",
                    &name,
                    "--slots",
                    SLOTS,
                    "--min-disk",
                    "1",
                    "--min-memory",
                    "1",
                ]);
                Member { name, home, machine, args, process: None, stopped: false }
            })
            .collect();
        servers.iter_mut().chain(&mut runners).for_each(Member::start);
        let api = Api(Arc::new(urls));
        for server in 0..servers.len() {
            eventually("a server is ready", Duration::from_secs(60), || {
                api.ask(server, "GET", "/readyz", &[], "")
                    .is_some_and(|answer| answer.status == 200)
            });
        }
        Self { servers, runners, nats, postgres, api, traces, _network: network }
    }

    /// All that there is, running and connected.
    pub(crate) fn calm_down(&mut self) {
        self.nats.resume();
        let _ = self.postgres.resume();
        for member in self.servers.iter_mut().chain(&mut self.runners) {
            member.connect();
            if member.stopped {
                member.go_on();
            }
            // Whoever gave itself up is started again, as a service manager does.
            if member.process.as_mut().is_some_and(|process| !process.lives()) {
                member.process = None;
            }
            member.start();
        }
    }
}

/// The servers, as those see them who ask.
#[derive(Clone)]
pub(crate) struct Api(Arc<Vec<String>>);

impl Api {
    /// Asks one of the servers; none when it does not answer soon.
    pub(crate) fn ask(
        &self,
        server: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<http::Answer> {
        let url = format!("{}{path}", self.0[server % self.0.len()]);
        let bearer = format!("Bearer {API}");
        let mut all = vec![("Content-Type", "application/json")];
        if !headers.iter().any(|(name, _)| *name == "Authorization") {
            all.push(("Authorization", &bearer));
        }
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        all.extend(headers);
        http::send_within(Duration::from_secs(3), method, &url, &all, body.as_bytes())
    }

    /// Asks one server after another until one answers that it did it, as senders do.
    pub(crate) fn insist(
        &self,
        first: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Answer {
        let begin = Instant::now();
        let mut last = None;
        for server in first.. {
            match self.ask(server, method, path, headers, body) {
                // Also one that another server has under way, which may not live any more.
                Some(answer) if answer.status < 500 && answer.header("retry-after").is_none() => {
                    return answer;
                }
                answer => last = answer.or(last),
            }
            assert!(begin.elapsed() < Duration::from_secs(120), "{method} {path}: {last:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        unreachable!("there are enough servers")
    }

    pub(crate) fn get(&self, path: &str) -> serde_json::Value {
        let answer = self.insist(0, "GET", path, &[], "");
        assert!(answer.status < 300, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
    }

    /// Tells of an event, at a server that takes it.
    pub(crate) fn tell(&self, first: usize, event: &str) {
        let bearer = format!("Bearer {HOOK}");
        let headers =
            [("Authorization", &*bearer), ("Content-Type", "application/cloudevents+json")];
        let answer = self.insist(first, "POST", "/webhooks/bench", &headers, event);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

/// What is done beside the test, and must have been done before it ends.
#[derive(Default)]
pub(crate) struct Errands(Vec<std::thread::JoinHandle<()>>);

impl Errands {
    pub(crate) fn run(&mut self, errand: impl FnOnce() + Send + 'static) {
        self.0.push(std::thread::spawn(errand));
    }

    pub(crate) fn all_done(self) {
        for errand in self.0 {
            errand.join().unwrap();
        }
    }
}

/// Something that errands bring together.
pub(crate) type Shared<T> = Arc<Mutex<Vec<T>>>;

pub(crate) fn add<T>(shared: &Shared<T>, value: T) {
    shared.lock().unwrap_or_else(PoisonError::into_inner).push(value);
}
