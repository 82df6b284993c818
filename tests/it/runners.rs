//! Real runners on a real NATS server, for a real server: killed, stopped past their lease, drained; NATS
//! and the server restarted meanwhile. What they make is made once at a time, and its log is whole.
#![expect(clippy::print_stdout, reason = "it says what it did to whom, and what was measured")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fairlead_tests::{Fairlead, Nats, Running, eventually, free_port, http};
use rustix::process::Signal;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// How long a runner is believed here.
const LEASE: &str = "6s";

/// A value that must appear nowhere but in the step that asks for it.
const CANARY: &str = "canary-8c1f27b1e6d04f1c";

/// A server with its store, and runners beside it.
struct Yard {
    server: Fairlead,
    nats: Nats,
    port: u16,
    /// Where steps leave traces: a folder that all machines of this yard have.
    traces: tempfile::TempDir,
}

impl Yard {
    fn new(script: &str) -> Self {
        Self::with(script, "")
    }

    /// The same with more of the step: its resources.
    fn with(script: &str, more: &str) -> Self {
        let server = Fairlead::new();
        let traces = tempfile::tempdir().unwrap();
        let script = script.replace("TRACES", traces.path().to_str().unwrap());
        server.write(
            "pipelines/work.yaml",
            &format!(
                "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: work\non: {{manual: {{}}}}\nsteps:\n  \
                 work:\n    uses: command\n    with: {script}\n{more}"
            ),
        );
        server.write(
            "serve.yaml",
            "projects: {default: {allow: {kinds: command, host_programs: sh}}}\n",
        );
        Self { server, nats: Nats::start(), port: free_port(), traces }
    }

    fn serve(&self) -> Running {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut server = self.server.start([
            "serve",
            "--pipelines",
            "pipelines",
            "--config",
            "serve.yaml",
            "--listen",
            &listen,
            "--nats",
            &self.nats.url(),
            "--default-pool",
            "yard",
            "--runner-lease",
            LEASE,
            "-v",
        ]);
        let ready = self.url("/readyz");
        server.wait_until(SOON, || {
            http::send("GET", &ready, &[], b"").is_some_and(|answer| answer.status == 200)
        });
        server
    }

    fn runner(&self, machine: &Fairlead, name: &str) -> Running {
        self.runner_in(machine, name, &machine.home().join("state"))
    }

    /// A runner whose state is in this folder.
    fn runner_in(&self, machine: &Fairlead, name: &str, state: &Path) -> Running {
        machine.start([
            "--state",
            state.to_str().unwrap(),
            "runner",
            "--nats",
            &self.nats.url(),
            "--pool",
            "yard",
            "--name",
            name,
            "--slots",
            "2",
            "--min-disk",
            "1",
            "--min-memory",
            "1",
            "-v",
        ])
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn get(&self, path: &str) -> Value {
        let answer = http::send("GET", &self.url(path), &[], b"").expect("a server");
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
    }

    fn start(&self) -> String {
        let json = [("Content-Type", "application/json")];
        let url = self.url("/api/v1/pipelines/work/runs");
        let answer = http::send("POST", &url, &json, b"{}").expect("a server");
        assert!(answer.status < 300, "{}", answer.text());
        let started: Value = serde_json::from_slice(&answer.body).unwrap();
        started["run"].as_str().unwrap().to_owned()
    }

    fn traced(&self, name: &str) -> usize {
        std::fs::read_to_string(self.traces.path().join(name)).unwrap_or_default().lines().count()
    }

    /// Waits for the end of a run, and answers how it ended.
    fn end(&self, run: &str) -> String {
        let mut status = String::new();
        eventually("the run ends", SOON, || {
            let Some(answer) =
                http::send("GET", &self.url(&format!("/api/v1/runs/{run}")), &[], b"")
            else {
                return false;
            };
            let shown: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            status = shown["status"].as_str().unwrap_or_default().to_owned();
            matches!(&*status, "passed" | "failed" | "cancelled" | "rejected")
        });
        status
    }

    fn log(&self, run: &str) -> String {
        let logs = self.server.run(["logs", run]).code(0);
        logs.stdout
    }

    fn journal(&self, run: &str) -> String {
        let shown = self.server.run(["show", run, "--json", "--journal"]).code(0);
        shown.stdout
    }
}

fn sh(script: &str) -> String {
    json!({ "program": "sh", "args": ["-c", script] }).to_string()
}

#[test]
fn a_log_of_fifty_megabytes_arrives_whole_and_in_order() {
    let yard = Yard::new(&sh(
        "seq -f '%.0f xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' 1 540000; echo done >> TRACES/done",
    ));
    let (machine, _server) = (Fairlead::new(), yard.serve());
    let _runner = yard.runner(&machine, "r1");
    let begin = Instant::now();
    let run = yard.start();
    assert_eq!(yard.end(&run), "passed", "{}", yard.log(&run));
    println!("50 MB of log in {:?}", begin.elapsed());
    assert_eq!(yard.traced("done"), 1);
    let log = yard.log(&run);
    let mut next = 1_u64;
    for line in said(&log) {
        let number = line.split(' ').find_map(|word| word.parse::<u64>().ok());
        assert_eq!(number, Some(next), "{line}");
        next += 1;
    }
    assert_eq!(next, 540_001);
    assert!(log.len() > 50_000_000, "{}", log.len());
}

/// What the steps of a run logged: the lines without those that say which log it is and who makes it.
fn said(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| !line.starts_with("──") && !line.contains("is made on runner"))
}

/// A file system of few megabytes in memory, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]);
        let mounted = command.arg(folder.path()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn what_the_disk_of_a_runner_does_not_take_is_told_and_the_runner_goes_on() {
    let Some(disk) = SmallDisk::mount(12) else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let yard = Yard::new(&sh(
        "[ -e TRACES/done ] || seq -f '%.0f xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' 1 500000; \
         echo the last line; echo done >> TRACES/done",
    ));
    let (machine, _server) = (Fairlead::new(), yard.serve());
    let _runner = yard.runner_in(&machine, "r1", disk.0.path());
    let run = yard.start();
    assert_eq!(yard.end(&run), "passed", "a full disk is no fault of the step");
    let log = yard.log(&run);
    let marks: Vec<&str> =
        log.lines().filter(|line| line.contains("lines are missing here")).collect();
    assert!(!marks.is_empty() && marks[0].contains("No space left on device"), "{marks:?}");
    let (mut seen, mut missing) = (0, 0);
    for line in said(&log) {
        match line.split_once(" lines are missing here") {
            Some((count, _)) => {
                missing += count.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
            }
            None => seen += 1,
        }
    }
    assert_eq!(seen + missing, 500_001, "every line is there, or counted: {marks:?}");
    // What the server has makes room for the next one.
    let again = yard.start();
    assert_eq!(yard.end(&again), "passed");
    assert!(yard.log(&again).contains("the last line"), "{}", yard.log(&again));
}

#[test]
fn what_a_step_may_use_is_bounded_by_a_control_group() {
    let limits = "    resources: {memory: 48Mi, pids: 24}\n";
    let yard = Yard::with(
        &sh("if [ -e TRACES/second ]; then tail /dev/zero; fi; echo once > TRACES/second; \
             for n in $(seq 40); do sleep 3.739 & done; wait"),
        limits,
    );
    let (machine, _server) = (Fairlead::new(), yard.serve());
    let mut runner = yard.runner(&machine, "r1");
    runner.wait_until(SOON, || runner_says(&machine).contains("with 2 slots"));
    let said = runner_says(&machine);
    if !said.contains("control groups: memory, pids") {
        println!("skipped: no control groups here that bound memory and processes: {said}");
        return;
    }
    let forks = yard.start();
    assert_eq!(yard.end(&forks), "failed", "{}", yard.log(&forks));
    assert!(yard.log(&forks).to_lowercase().contains("fork"), "{}", yard.log(&forks));
    assert_eq!(sleeping("3.739"), 0, "what it had begun is gone");
    let eats = yard.start();
    assert_eq!(yard.end(&eats), "failed", "{}", yard.log(&eats));
    let step = &yard.get(&format!("/api/v1/runs/{eats}"))["steps"][0];
    let reason = step["reason"].to_string();
    assert!(reason.contains("it ran out of memory") && reason.contains("48 MiB"), "{step}");
    assert_eq!(step["attempts"].as_array().unwrap().len(), 1, "it is the step's fault: {step}");
}

/// What the runner of this machine has said so far.
fn runner_says(machine: &Fairlead) -> String {
    let entries = std::fs::read_dir(machine.home()).unwrap().flatten();
    let logs =
        entries.map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "log"));
    logs.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
}

#[test]
fn a_runner_that_is_killed_or_stopped_loses_its_work_and_its_processes() {
    let yard = Yard::new(&sh(
        "echo began >> TRACES/began; sleep 20.731 & wait; echo ended >> TRACES/ended",
    ));
    let machines = [Fairlead::new(), Fairlead::new()];
    let _server = yard.serve();
    let mut first = yard.runner(&machines[0], "r1");
    let run = yard.start();
    eventually("it begins", SOON, || yard.traced("began") == 1);
    first.kill();
    // Nobody is there to end it but the guardian.
    eventually("its processes end", Duration::from_secs(10), || sleeping("20.731") == 0);
    let mut second = yard.runner(&machines[1], "r2");
    eventually("it is made again", SOON, || yard.traced("began") == 2);
    second.signal(Signal::STOP);
    eventually("its processes end before its lease", Duration::from_secs(6), || {
        sleeping("20.731") == 0
    });
    let _third = yard.runner(&machines[0], "r1");
    eventually("it is made once more", SOON, || yard.traced("began") == 3);
    second.signal(Signal::CONT);
    assert_eq!(yard.end(&run), "passed", "{}", yard.log(&run));
    assert_eq!(yard.traced("ended"), 1);
    let journal = yard.journal(&run);
    assert_eq!(journal.matches("attempt_lost").count(), 2, "{journal}");
}

/// How many processes sleep for so many seconds: a number that nobody else on the machine sleeps for.
fn sleeping(seconds: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let wanted = format!("sleep\0{seconds}\0");
    entries
        .filter(|entry| {
            let path: PathBuf = entry.path().join("cmdline");
            std::fs::read(path).is_ok_and(|line| line == wanted.as_bytes())
        })
        .count()
}

#[test]
fn nats_and_the_server_restart_while_a_runner_works_and_it_is_made_once() {
    let mut yard = Yard::new(&sh(
        "echo began >> TRACES/began; for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 1; done",
    ));
    let machine = Fairlead::new();
    let mut server = yard.serve();
    let _runner = yard.runner(&machine, "r1");
    let run = yard.start();
    eventually("it begins", SOON, || yard.traced("began") == 1);
    yard.nats.cut();
    std::thread::sleep(Duration::from_millis(500));
    yard.nats.resume();
    std::thread::sleep(Duration::from_millis(1500));
    server.kill();
    let _again = yard.serve();
    assert_eq!(yard.end(&run), "passed", "{}", yard.log(&run));
    assert_eq!(yard.traced("began"), 1);
    let journal = yard.journal(&run);
    assert!(!journal.contains("attempt_lost"), "{journal}");
    let log = yard.log(&run);
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.find("line ").map(|at| &line[at..])).collect();
    let wanted: Vec<String> = (1..=8).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, wanted, "{log}");
}

#[test]
fn a_secret_stays_on_its_runner_a_cancel_ends_it_and_a_drain_says_so() {
    let with = json!({ "program": "sh", "args": ["-c",
        "echo began >> TRACES/began; echo \"token $TOKEN\"; setsid sleep 30.733 & sleep 30.733"],
        "secret_env": { "TOKEN": "{{ secrets.canary }}" } });
    let yard = Yard::new(&with.to_string());
    let machine = Fairlead::new().env("FAIRLEAD_SECRET_CANARY", CANARY);
    let _server = yard.serve();
    let run = yard.start();
    let explain = format!("/api/v1/runs/{run}/explain");
    eventually("it says what it waits for", SOON, || {
        let why = yard.get(&explain)["steps"][0]["why"].to_string();
        why.contains("it waits for a machine: no runner of pool `yard` is connected")
    });
    let mut runner = yard.runner(&machine, "r1");
    eventually("it begins", SOON, || yard.traced("began") == 1);
    let json = [("Content-Type", "application/json")];
    let cancel = yard.url(&format!("/api/v1/runs/{run}/cancel"));
    eventually("the log arrives", SOON, || yard.log(&run).contains("token ****"));
    let holders = processes_with(CANARY.as_bytes());
    assert!(!holders.is_empty(), "its step has it");
    for holder in holders {
        assert!(
            holder.starts_with("environ of sh") || holder.starts_with("environ of sleep"),
            "{holder}"
        );
    }
    http::send("POST", &cancel, &json, b"{}").expect("a server");
    assert_eq!(yard.end(&run), "cancelled");
    assert_eq!(sleeping("30.733"), 0, "also what left its group");
    runner.signal(Signal::TERM);
    assert_eq!(runner.wait(SOON).code(), Some(0), "{}", runner.log());
    // Nothing that was sent or spooled holds it, nor what the server keeps or says.
    for path in ["", "/journal", "/logs/work", "/explain"] {
        let url = yard.url(&format!("/api/v1/runs/{run}{path}"));
        let answer = http::send("GET", &url, &[], b"").expect("a server");
        assert!(answer.status == 200 && !answer.text().contains(CANARY), "{path}");
    }
    let (server, machine) = (&yard.server, &machine);
    let homes = [server.home(), server.project(), machine.home(), machine.project()];
    for folder in homes.into_iter().chain([yard.nats.folder()]) {
        assert_eq!(files_with(folder, CANARY.as_bytes()), Vec::<PathBuf>::new());
    }
    assert!(!runner.log().contains(CANARY) && !yard.journal(&run).contains(CANARY));
}

/// What of which processes holds these bytes: of their environment and their command line.
fn processes_with(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for what in ["environ", "cmdline"] {
            let path = entry.path();
            let held = std::fs::read(path.join(what)).unwrap_or_default();
            if held.windows(bytes.len()).any(|window| window == bytes) {
                let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                found.push(format!("{what} of {} ({})", name.trim(), path.display()));
            }
        }
    }
    found
}

#[test]
fn a_runner_without_work_is_small_and_seldom_wakes() {
    let yard = Yard::new(&sh("true"));
    let machine = Fairlead::new();
    let (_server, runner) = (yard.serve(), yard.runner(&machine, "r1"));
    let run = yard.start();
    assert_eq!(yard.end(&run), "passed", "{}", yard.log(&run));
    // What it says more often for a while after something changed is over then.
    std::thread::sleep(Duration::from_secs(9));
    let before = wakes_of(&runner);
    std::thread::sleep(Duration::from_secs(12));
    let since = |(thread, wakes): (String, u64)| {
        wakes.saturating_sub(before.get(&thread).copied().unwrap_or_default())
    };
    let woken: u64 = wakes_of(&runner).into_iter().map(since).sum();
    let own = own_memory_of(&runner);
    println!("an idle runner woke {woken} times in 12 s, and has {} MiB of its own", own >> 20);
    assert!(woken < 60, "{woken}: it waits for somebody to tell it something");
    assert!(own < 30_000_000, "{own}");
}

/// How often each thread of a process waited, and was woken. Threads come and go.
fn wakes_of(process: &Running) -> BTreeMap<String, u64> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().flatten();
    let woken = |thread: std::fs::DirEntry| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let name = thread.file_name().to_string_lossy().into_owned();
        Some((name, line.trim().parse().ok()?))
    };
    threads.filter_map(woken).collect()
}

/// What a process has allocated, in bytes: without the pages of its file, which others share.
fn own_memory_of(process: &Running) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// The files below a folder that hold these bytes.
fn files_with(folder: &std::path::Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|c| c.windows(bytes.len()).any(|w| w == bytes))
            {
                found.push(path);
            }
        }
    }
    found
}
