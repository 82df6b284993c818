//! The real program and what can happen to it: it is killed at every write, stopped past its lease,
//! its disk is full, its database goes away, and several of it share a store. Nothing is lost, and
//! nothing is done twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fairlead_tests::{Fairlead, Postgres, Running, eventually, postgres_schema};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Five steps in a row. Each looks whether its line is there, as a step that may be made again must.
fn five_steps(seconds: &str) -> String {
    let mut yaml = "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: five\nsteps:\n".to_owned();
    for n in 1..=5 {
        let needs = if n > 1 { format!(", needs: [s{}]", n - 1) } else { String::new() };
        yaml.push_str(&format!(
            "  s{n}: {{uses: command, with: {{program: sh, args: [-c, 'sleep {seconds}; grep -qx s{n} \
             done || echo s{n} >> done']}}{needs}}}\n"
        ));
    }
    yaml
}

/// A project with the five steps; with a store in Postgres when `url` is given.
fn project(seconds: &str, url: Option<&str>) -> Fairlead {
    let fairlead = Fairlead::new();
    fairlead.write("five.yaml", &five_steps(seconds));
    fairlead.write("done", "");
    match url {
        Some(url) => fairlead.env("FAIRLEAD_STORE", url),
        None => fairlead,
    }
}

fn runs(fairlead: &Fairlead) -> Vec<Value> {
    let listed = fairlead.run(["runs", "--json"]).code(0);
    serde_json::from_str(&listed.stdout).unwrap()
}

/// The id of the only run.
fn the_run(fairlead: &Fairlead) -> String {
    let runs = runs(fairlead);
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0]["run"].as_str().unwrap().to_owned()
}

/// Goes on with a run, as soon as the lease of the process that died is over.
fn resume(fairlead: &Fairlead, run: &str) {
    let begin = Instant::now();
    loop {
        let resumed = fairlead.run(["resume", run, "--quiet"]);
        let held = resumed.stderr.contains("is being driven by another process");
        if !held {
            let _ = resumed.code(0);
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", resumed.stderr);
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Every step took effect once, and the journal is whole and says so.
fn assert_done_once(fairlead: &Fairlead) {
    let done = std::fs::read_to_string(fairlead.project().join("done")).unwrap();
    assert_eq!(done, "s1\ns2\ns3\ns4\ns5\n");
    let verified = fairlead.run(["journal", "verify", "--all"]).code(0);
    assert!(verified.stdout.contains("  whole  "), "{}", verified.stdout);
    let shown = fairlead.run(["show", &the_run(fairlead), "--json", "--journal"]).code(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["status"], "passed");
    let records = shown["journal"].as_array().unwrap();
    let count = |kind: &str| records.iter().filter(|r| r["fact"]["type"] == kind).count();
    assert_eq!(count("started"), count("finished") + count("attempt_lost"));
    assert_eq!((count("finished"), count("ended")), (5, 1));
}

/// Kills a run right before or after a write, goes on with it, and checks what came out. False when
/// the run has no such write.
fn killed_at(write: u32, when: &str, url: Option<&str>) -> bool {
    let fairlead = project("0", url);
    let fault = format!("process=killed-{when}@{write}");
    let killed = fairlead.run(["run", "five.yaml", "--quiet", "--inject", &fault]);
    if killed.code.is_some() {
        let _ = killed.code(0);
        assert_done_once(&fairlead);
        return false;
    }
    let run = the_run(&fairlead);
    let shown = fairlead.run(["show", &run, "--json"]).code(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    if shown["status"] != "passed" {
        resume(&fairlead, &run);
    }
    assert_done_once(&fairlead);
    true
}

#[test]
fn a_run_killed_at_every_write_is_finished_once_in_sqlite() {
    for when in ["before", "after"] {
        let writes = (1..100).take_while(|write| killed_at(*write, when, None)).count();
        // One for each start, with the end of the step before it, and one for the end of the run.
        assert_eq!(writes, 6, "{when}");
    }
}

#[test]
fn a_run_killed_at_every_write_is_finished_once_in_postgres() {
    // A lease outlives its process for a while there: all of them wait at the same time.
    let killed: Vec<_> = ["before", "after"]
        .into_iter()
        .flat_map(|when| (1..=6).map(move |write| (when, write)))
        .map(|(when, write)| {
            std::thread::spawn(move || killed_at(write, when, Some(&postgres_schema())))
        })
        .collect();
    for killed in killed {
        assert!(killed.join().unwrap(), "the run has so many writes");
    }
    assert!(!killed_at(7, "before", Some(&postgres_schema())));
}

fn signal(process: &Running, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

#[test]
fn a_process_that_slept_past_its_lease_has_no_say_any_more() {
    let fairlead = project("2", Some(&postgres_schema()));
    let mut sleeper = fairlead.start(["run", "five.yaml", "--quiet"]);
    sleeper.wait_until(Duration::from_secs(60), || {
        std::fs::read_to_string(fairlead.project().join("done")).unwrap().contains("s1")
    });
    signal(&sleeper, Signal::STOP);
    // Another process takes the run over, and brings it to its end.
    resume(&fairlead, &the_run(&fairlead));
    assert_done_once(&fairlead);
    signal(&sleeper, Signal::CONT);
    let ended = sleeper.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(5), "{}", sleeper.log());
    let said = sleeper.log();
    assert!(
        said.contains("was taken over")
            || said.contains("could not be renewed")
            || said.contains("has ended"),
        "{said}"
    );
    assert_done_once(&fairlead);
}

#[test]
fn a_server_takes_over_the_runs_of_a_process_that_died() {
    let fairlead = project("1", Some(&postgres_schema()));
    fairlead.write("pipelines/five.yaml", &five_steps("1"));
    // It has looked for what was left before the run begins, and does so again after five minutes.
    let allow = "projects: {default: {allow: {kinds: command, host_programs: sh}}}\n";
    fairlead.write("serve.yaml", allow);
    let listen = ["--config", "serve.yaml", "--listen", "127.0.0.1:0"];
    let mut server = fairlead.start([&["serve", "--pipelines", "pipelines"], &listen[..]].concat());
    server.wait_until(Duration::from_secs(60), || told(&fairlead, "listening on"));
    let mut dies = fairlead.start(["run", "five.yaml", "--quiet"]);
    dies.wait_until(Duration::from_secs(60), || {
        std::fs::read_to_string(fairlead.project().join("done")).unwrap().contains("s2")
    });
    signal(&dies, Signal::KILL);
    let _ = dies.wait(Duration::from_secs(60));
    eventually("the server to bring the run to its end", Duration::from_secs(120), || {
        runs(&fairlead).iter().all(|run| run["status"] == "passed")
    });
    assert_done_once(&fairlead);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(Duration::from_secs(60)).code(), Some(0), "{}", server.log());
}

#[test]
fn a_database_that_goes_away_is_waited_for_and_a_run_that_was_let_go_is_resumed() {
    let server = Postgres::start();
    let fairlead = project("0.5", Some(&server.url()));
    let done = |line: &str| {
        std::fs::read_to_string(fairlead.project().join("done")).unwrap().contains(line)
    };
    // Away for a moment: the run goes on by itself.
    let mut process = fairlead.start(["run", "five.yaml", "--quiet"]);
    process.wait_until(Duration::from_secs(60), || done("s1"));
    server.pause();
    process.wait_until(Duration::from_secs(30), || done("s2") || done("s3"));
    server.resume();
    let ended = process.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(0), "{}", process.log());
    assert_done_once(&fairlead);

    // Away for longer than a lease lasts: the run is let go with a word, and resumed.
    let fairlead = project("0.5", Some(&server.url()));
    let mut process = fairlead.start(["run", "five.yaml", "--quiet"]);
    process.wait_until(Duration::from_secs(60), || {
        std::fs::read_to_string(fairlead.project().join("done")).unwrap().contains("s1")
    });
    server.pause();
    let ended = process.wait(Duration::from_secs(90));
    assert_eq!(ended.code(), Some(5), "{}", process.log());
    assert!(process.log().contains("fairlead resume"), "{}", process.log());
    server.resume();
    let left = runs(&fairlead).into_iter().find(|run| run["status"] != "passed");
    let left = left.expect("the run waits to be resumed");
    resume(&fairlead, left["run"].as_str().unwrap());
    let text = std::fs::read_to_string(fairlead.project().join("done")).unwrap();
    assert_eq!(text, "s1\ns2\ns3\ns4\ns5\n");
}

/// A small disk of its own at `folder`, which ends with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this user may not mount, which is told.
    fn at(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "fairlead-test"])
            .arg(folder)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder.to_owned()));
        }
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "SKIPPED: no small disk can be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.0.as_os_str()]).status();
    }
}

#[test]
fn a_full_disk_is_told_and_the_run_goes_on_when_there_is_room() {
    let fairlead = project("0.2", None);
    let state = fairlead.project().join("state");
    let Some(_disk) = SmallDisk::at(&state) else { return };
    let fairlead = fairlead.env("FAIRLEAD_STATE", &state.display().to_string());
    let filler = state.join("filler");
    let fill = || {
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=1k", &format!("of={}", filler.display())])
            .stderr(std::process::Stdio::null())
            .status();
    };
    let done = |line: &str| {
        std::fs::read_to_string(fairlead.project().join("done")).unwrap().contains(line)
    };

    // Full for a moment.
    let mut process = fairlead.start(["run", "five.yaml", "--quiet"]);
    process.wait_until(Duration::from_secs(60), || done("s1"));
    fill();
    process.wait_until(Duration::from_secs(60), || told(&fairlead, "trying again in"));
    std::fs::remove_file(&filler).unwrap();
    let ended = process.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(0), "{}", process.log());
    assert!(process.log().contains("trying again in"), "{}", process.log());
    assert_done_once(&fairlead);
}

/// Whether some process of `fairlead` has said this.
fn told(fairlead: &Fairlead, words: &str) -> bool {
    let logs = std::fs::read_dir(fairlead.home()).unwrap();
    logs.flatten()
        .any(|log| std::fs::read_to_string(log.path()).is_ok_and(|text| text.contains(words)))
}

#[test]
fn processes_that_share_a_store_take_turns_and_one_run_has_one_driver() {
    for url in [None, Some(postgres_schema())] {
        let fairlead = project("0", url.as_deref());
        fairlead.write(
            "turns.yaml",
            "apiVersion: fairlead.dev/v1
kind: Pipeline
name: turns
concurrency: {group: one, max: 1}
steps:
  only: {uses: command, with: {program: sh, args: [-c, 'echo in >> seen; sleep 0.2; echo out >> seen']}}
",
        );
        let mut all: Vec<Running> =
            (0..5).map(|_| fairlead.start(["run", "turns.yaml", "--quiet"])).collect();
        for process in &mut all {
            let ended = process.wait(Duration::from_secs(90));
            assert_eq!(ended.code(), Some(0), "{}", process.log());
        }
        let seen = std::fs::read_to_string(fairlead.project().join("seen")).unwrap();
        assert_eq!(seen, "in\nout\n".repeat(5), "nobody came in before the other was out");
        let verified = fairlead.run(["journal", "verify", "--all"]).code(0);
        assert_eq!(verified.stdout.matches("  whole  ").count(), 5, "{}", verified.stdout);
    }
}

#[test]
fn a_vote_in_another_process_lets_a_run_on_that_waits() {
    let fairlead = project("0", None).env("USER", "ann");
    fairlead.write(
        "gate.yaml",
        "apiVersion: fairlead.dev/v1
kind: Pipeline
name: gate
steps:
  ask: {approval: {from: [qa], not: [requester]}}
  after: {uses: command, needs: [ask], with: {program: echo, args: [done]}}
",
    );
    fairlead.write("groups.yaml", "qa: [ann, bob]\n");
    let mut waiting = fairlead.start(["run", "gate.yaml", "--quiet"]);
    eventually("the gate", Duration::from_secs(60), || {
        runs(&fairlead).iter().any(|run| run["status"] == "waiting")
    });
    let run = the_run(&fairlead);
    let vote = |name: &str| {
        let args = ["approve", &run, "ask", "--as", name, "--groups", "groups.yaml"];
        fairlead.run(args)
    };
    let refused = vote("ann").code(2);
    assert!(refused.stderr.contains("who asked for the run"), "{}", refused.stderr);
    let refused = vote("eve").code(2);
    assert!(refused.stderr.contains("it asks for qa"), "{}", refused.stderr);
    let explained = fairlead.run(["explain", &run]).code(0);
    assert!(explained.stdout.contains("one approval at `ask` by qa"), "{}", explained.stdout);
    let _ = vote("bob").code(0);
    let ended = waiting.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(0), "{}", waiting.log());
    let late = vote("bob").code(2);
    assert!(late.stderr.contains("ended"), "{}", late.stderr);
}

#[test]
fn the_example_with_gates_waits_goes_on_and_is_taken_back() {
    let fairlead = Fairlead::new().env("USER", "ann");
    let example = fairlead_tests::repository_root().join("examples/gated.yaml");
    let example = example.display().to_string();
    let mut waiting = fairlead.start(["run", &example, "--quiet"]);
    eventually("the gate", Duration::from_secs(60), || {
        runs(&fairlead).iter().any(|run| run["status"] == "waiting")
    });
    let run = the_run(&fairlead);
    // The gate of time comes first; the approval waits behind it.
    eventually("the approval", Duration::from_secs(60), || {
        fairlead.run(["approve", &run, "approve"]).code == Some(0)
    });
    let ended = waiting.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(0), "{}", waiting.log());
    let planned = fairlead.run(["undo", &run, "--dry-run"]).code(0);
    assert!(planned.stdout.contains("undo-deploy"), "{}", planned.stdout);
    let _ = fairlead.run(["undo", &run, "--quiet"]).code(0);
    let twice = fairlead.run(["undo", &run, "--quiet"]).code(2);
    assert!(twice.stderr.contains("takes it back already"), "{}", twice.stderr);
    let nothing = fairlead.run(["retry", &run]).code(2);
    assert!(nothing.stderr.contains("nothing of run"), "{}", nothing.stderr);
    let again = fairlead.run(["retry", &run, "--from", "deploy", "--quiet"]).code(0);
    assert!(again.stderr.contains("approve") && again.stderr.contains("kept"), "{}", again.stderr);
    let rehearsed = fairlead.run(["prune", "--keep-last", "1"]).code(0);
    assert!(rehearsed.stderr.contains("would go"), "{}", rehearsed.stderr);
    let before = runs(&fairlead).len();
    let _ = fairlead.run(["prune", "--keep-last", "1", "--yes"]).code(0);
    assert!(runs(&fairlead).len() < before);
}

#[test]
fn a_run_that_begins_from_another_is_exported_with_the_results_that_it_keeps() {
    let fairlead = project("0", None);
    fairlead.write(
        "two.yaml",
        "apiVersion: fairlead.dev/v1
kind: Pipeline
name: two
steps:
  first: {uses: command, with: {program: echo, args: [first]}}
  last: {uses: command, needs: [first], with: {program: echo, args: [last]}}
",
    );
    let _ = fairlead.run(["run", "two.yaml", "--quiet"]).code(0);
    let run = the_run(&fairlead);
    let _ = fairlead.run(["retry", &run, "--from", "last", "--quiet"]).code(0);
    let export = fairlead.run(["journal", "export", "latest"]).code(0);
    let kept = format!("\"of\":\"{run}\"");
    assert!(export.stdout.contains(&kept), "{}", export.stdout);
    fairlead.write("again.jsonl", &export.stdout);
    let verified = fairlead.run(["journal", "verify", "again.jsonl"]).code(0);
    assert!(verified.stdout.contains("  whole  "), "{}", verified.stdout);
    let _ = fairlead.run(["journal", "replay", "again.jsonl"]).code(0);
    // What was kept is proven by its digest.
    let lines: Vec<&str> = export.stdout.lines().filter(|line| !line.contains(&kept)).collect();
    fairlead.write("less.jsonl", &(lines.join("\n") + "\n"));
    let told = fairlead.run(["journal", "verify", "less.jsonl"]).code(1);
    assert!(told.stdout.contains("is kept from another run"), "{}", told.stdout);
}

#[test]
fn a_run_is_abandoned_by_a_person_and_a_retry_without_its_folder_says_so() {
    let fairlead = project("0", None).env("USER", "ann");
    fairlead.write(
        "gate.yaml",
        "apiVersion: fairlead.dev/v1
kind: Pipeline
name: gate
concurrency: {group: one, policy: queue}
steps:
  ask: {approval: {from: [bob]}}
",
    );
    let folder = fairlead.project().join("work");
    std::fs::create_dir(&folder).unwrap();
    let place = folder.display().to_string();
    let _ = fairlead.run(["run", "gate.yaml", "--workspace", &place, "--no-wait"]).code(6);
    let run = the_run(&fairlead);
    let _ = fairlead.run(["abandon", &run, "--reason", "nobody is left"]).code(0);
    let shown = fairlead.run(["show", &run]).code(0);
    assert!(shown.stdout.contains("by ann: abandoned: nobody is left"), "{}", shown.stdout);
    let twice = fairlead.run(["abandon", &run]).code(2);
    assert!(twice.stderr.contains("has ended"), "{}", twice.stderr);
    let verified = fairlead.run(["journal", "verify", &run]).code(0);
    assert!(verified.stdout.contains("  cancelled  "), "{}", verified.stdout);
    std::fs::remove_dir(folder).unwrap();
    let gone = fairlead.run(["retry", &run, "--no-wait"]).code(2);
    assert!(
        gone.stderr.contains("is gone") && gone.stderr.contains("--workspace"),
        "{}",
        gone.stderr
    );
    let _ = fairlead.run(["retry", &run, "--workspace", ".", "--no-wait"]).code(6);
}

#[test]
fn a_journal_that_was_changed_is_told_with_its_place() {
    let fairlead = project("0", None);
    let _ = fairlead.run(["run", "five.yaml", "--quiet"]).code(0);
    let run = the_run(&fairlead);
    let export = fairlead.run(["journal", "export", &run]).code(0);
    fairlead.write("good.jsonl", &export.stdout);
    let _ = fairlead.run(["journal", "verify", "good.jsonl"]).code(0);
    let replayed =
        fairlead.run(["journal", "replay", "good.jsonl", "--until", "3", "--json"]).code(0);
    let replayed: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!(replayed["journal"]["records"], 3);

    let lines: Vec<&str> = export.stdout.lines().collect();
    let changed = |n: usize, from: &str, to: &str| {
        let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        assert!(lines[n].contains(from), "{}", lines[n]);
        lines[n] = lines[n].replacen(from, to, 1);
        lines.join("\n")
    };
    for (name, text, says) in [
        ("plan.jsonl", changed(1, "five", "nine"), "plan"),
        ("fact.jsonl", changed(3, "s1", "s2"), "record"),
        ("newer.jsonl", changed(3, "\"v\":1", "\"v\":9"), "version 9"),
        ("gap.jsonl", [&lines[..4], &lines[5..]].concat().join("\n"), "record"),
        ("cut.jsonl", export.stdout[..export.stdout.len() - 30].to_owned(), "cut.jsonl:"),
        ("other.jsonl", changed(0, "journal/v1", "journal/v7"), "journal/v7"),
    ] {
        fairlead.write(name, &text);
        let told = fairlead.run(["journal", "verify", name]).code(1);
        assert!(
            told.stdout.contains("DAMAGED") && told.stdout.contains(says),
            "{name}: {}",
            told.stdout
        );
    }
}
