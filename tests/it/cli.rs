//! The command line: what it needs, what it prints where, its exit codes, and how a run is broken
//! off, interrupted and gone on with.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use fairlead_tests::{Fairlead, Running, eventually, free_port, repository_root, stdout_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn hello() -> String {
    repository_root().join("examples/hello.yaml").display().to_string()
}

/// A pipeline with these lines under `steps:`.
fn pipeline(steps: &str) -> String {
    format!("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\nsteps:\n{steps}")
}

/// Whether a process runs whose last argument is `marker`.
pub(crate) fn runs(marker: &str) -> bool {
    !with_marker(marker).is_empty()
}

/// The processes whose last argument is `marker`.
fn with_marker(marker: &str) -> Vec<Pid> {
    let wanted = format!("\0{marker}\0").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        let line = std::fs::read(process.path().join("cmdline"));
        line.is_ok_and(|line| line.ends_with(&wanted))
    });
    ours.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?)).collect()
}

/// A number that no other process of this machine sleeps for.
pub(crate) fn marker(salt: u32) -> String {
    format!("{}{salt}", 90_000 + std::process::id())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn hello_needs_nothing_but_the_binary() {
    let fairlead = Fairlead::new();
    let programs = tempfile::tempdir().unwrap();
    for program in ["uname", "date", "echo"] {
        let found = stdout_of(Command::new("which").arg(program));
        symlink(found.trim(), programs.path().join(program)).unwrap();
    }
    let mut command = fairlead.command(["run", &hello(), "--set", "name=Ada"]);
    let output = command.env("PATH", programs.path()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(output.stdout.is_empty(), "there is no data unless it is asked for");
    assert!(told.contains("Hello, Ada!"), "{told}");
    assert!(!told.contains('\x1b'), "plain lines where nobody watches: {told}");
}

#[test]
fn every_exit_code_means_what_the_page_says() {
    let fairlead = Fairlead::new();
    let step = |with: &str| pipeline(&format!("  a: {{uses: command, with: {{{with}}}}}\n"));
    let cases: [(&str, &[&str], i32); 6] = [
        ("program: \"true\"", &[], 0),
        ("program: \"false\"", &[], 1),
        ("program: nothing-of-this-name", &[], 1),
        ("program: [x]", &[], 2),
        ("program: \"false\", reject_codes: [1]", &[], 3),
        ("program: \"true\"", &["--inject", "a=lost@1"], 5),
    ];
    for (with, extra, code) in cases {
        fairlead.write("x.yaml", &step(with));
        let done = fairlead.run([&["run", "x.yaml"], extra].concat());
        assert_eq!(done.code, Some(code), "{with}: {}", done.stderr);
        if code != 2 {
            let page = repository_root().join("docs/exit-codes.md");
            let page = std::fs::read_to_string(&page).unwrap();
            assert!(page.contains(&format!("| {code} |")), "exit code {code} has its row");
        }
    }
    assert_eq!(fairlead.run(["run"]).code, Some(2), "wrong usage");
    assert_eq!(fairlead.run(["--version"]).code, Some(0));
}

#[test]
fn data_goes_to_stdout_as_json_and_the_rest_to_stderr() {
    let fairlead = Fairlead::new();
    let done = fairlead.run(["run", &hello(), "--json", "--quiet"]).code(0);
    let run = json(&done.stdout);
    assert_eq!((&run["status"], &run["pipeline"]), (&"passed".into(), &"hello".into()));
    assert!(run["steps"]["greet"]["outputs"]["exit_code"] == 0, "{run:#}");
    assert!(!done.stderr.contains("Hello"), "{}", done.stderr);
    let listed = json(&fairlead.run(["runs", "--json"]).code(0).stdout);
    assert_eq!(listed[0]["run"], run["run"]);
    let shown = json(&fairlead.run(["show", "latest", "--json", "--journal"]).code(0).stdout);
    assert_eq!(shown["run"], run["run"]);
    // Each record carries the hash of the one before it; the first one carries none.
    let journal = shown["journal"].as_array().unwrap();
    assert_eq!(journal[0]["prev"].as_str().unwrap(), "0".repeat(64));
    assert_eq!(journal.last().unwrap()["fact"]["type"], "ended");
}

#[test]
fn logs_are_kept_by_step_and_attempt() {
    let fairlead = Fairlead::new();
    fairlead.write(
        "x.yaml",
        &pipeline(
            "  a: {uses: command, with: {program: sh, args: [-c, \"echo out; echo err >&2\"]}}\n  \
             b: {uses: command, retry: {max: 1, backoff: 1ms}, with: {program: echo, args: [of b]}}\n",
        ),
    );
    let _ = fairlead.run(["run", "x.yaml", "--inject", "b=fail@1"]).code(0);
    let all = fairlead.run(["logs", "latest"]).code(0).stdout;
    for line in ["── a (attempt 1)", "  out", "! err", "── b (attempt 2)", "of b"] {
        assert!(all.contains(line), "{line}: {all}");
    }
    let one = fairlead.run(["logs", "latest", "b", "--attempt", "2"]).code(0).stdout;
    assert!(one.contains("of b") && !one.contains("out"), "{one}");
}

/// Starts a pipeline whose only main step sleeps, once it does.
fn sleeping(fairlead: &Fairlead, marker: &str) -> Running {
    let steps = format!(
        "  sleep:\n    uses: command\n    with: {{program: sh, args: [-c, 'sleep {marker} & wait']}}\n  \
         after: {{uses: command, needs: [sleep], with: {{program: touch, args: [after]}}}}\n\
         finally:\n  \
         tidy: {{uses: command, with: {{program: touch, args: [tidied]}}}}\n"
    );
    fairlead.write("x.yaml", &pipeline(&steps));
    let mut process = fairlead.start(["run", "x.yaml"]);
    process.wait_until(PATIENCE, || runs(marker));
    process
}

#[test]
fn an_interrupt_ends_the_run_and_every_process_in_it() {
    for (salt, signal) in [(1, Signal::INT), (2, Signal::TERM)] {
        let fairlead = Fairlead::new();
        let marker = marker(salt);
        let mut process = sleeping(&fairlead, &marker);
        process.signal(signal);
        let status = process.wait(PATIENCE);
        assert_eq!(status.code(), Some(4), "{}", process.log());
        assert!(!runs(&marker), "the child of the program lives on");
        assert!(fairlead.project().join("tidied").exists(), "`finally` has run");
        assert!(!fairlead.project().join("after").exists());
        let run = json(&fairlead.run(["show", "latest", "--json"]).code(0).stdout);
        assert_eq!(run["status"], "cancelled");
        assert_eq!(run["steps"]["sleep"]["status"], "cancelled");
    }
}

#[test]
fn a_killed_run_is_gone_on_with_and_nobody_else_can_while_it_is_driven() {
    let fairlead = Fairlead::new();
    let marker = marker(3);
    let mut process = sleeping(&fairlead, &marker);
    let run = json(&fairlead.run(["runs", "--json"]).code(0).stdout)[0]["run"].clone();
    let run = run.as_str().unwrap();
    let refused = fairlead.run(["resume", run]).code(5);
    assert!(refused.stderr.contains("driven by another process"), "{}", refused.stderr);
    process.kill();
    let listed = fairlead.run(["runs"]).code(0).stdout;
    assert!(listed.contains(run) && listed.contains("interrupted"), "{listed}");

    // The second attempt is cut short by hand, so that the test need not wait for its sleep.
    let mut again = fairlead.start(["resume", run]);
    again.wait_until(PATIENCE, || again_runs(&fairlead, run));
    again.signal(Signal::INT);
    assert_eq!(again.wait(PATIENCE).code(), Some(4), "{}", again.log());
    let shown = json(&fairlead.run(["show", run, "--json", "--journal"]).code(0).stdout);
    let facts: Vec<&str> = shown["journal"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["fact"]["type"].as_str().unwrap())
        .collect();
    let lost = facts.iter().position(|fact| *fact == "attempt_lost").expect("what was lost");
    let restarted = facts.iter().rposition(|fact| *fact == "started").unwrap();
    assert!(lost < restarted, "{facts:?}");
    // What the killed process left behind has nobody who could end it.
    with_marker(&marker).into_iter().for_each(|id| {
        let _ = kill_process(id, Signal::KILL);
    });
    eventually("the orphan to end", PATIENCE, || !runs(&marker));
    let over = fairlead.run(["resume", run]).code(4);
    assert!(over.stderr.contains("has ended already"), "{}", over.stderr);
}

/// Whether the second attempt of `sleep` has begun.
fn again_runs(fairlead: &Fairlead, run: &str) -> bool {
    let shown = json(&fairlead.run(["show", run, "--json"]).code(0).stdout);
    shown["steps"]["sleep"]["attempts"].as_array().is_some_and(|attempts| attempts.len() == 2)
}

#[test]
fn what_a_run_waits_for_is_shown() {
    let fairlead = Fairlead::new();
    fairlead.write(
        "waits.yaml",
        &pipeline(
            "  ask: {approval: {from: [ann, qa], min: 2, expires: 1d}}
  soak: {wait: {for: 2d}}
  each: {for_each: [{name: Web}], uses: command, with: {program: 'true'}}
",
        ),
    );
    let _ = fairlead.run(["run", "waits.yaml", "--no-wait", "--quiet"]).code(6);
    let _ = fairlead.run(["approve", "latest", "ask", "--as", "ann"]).code(0);
    let shown = json(&fairlead.run(["show", "latest", "--json"]).code(0).stdout);
    let (ask, soak) = (&shown["steps"]["ask"], &shown["steps"]["soak"]);
    let gate = &ask["gate"];
    assert_eq!(gate["from"], serde_json::json!(["ann", "qa"]), "{shown}");
    assert_eq!((&gate["min"], &gate["missing"]), (&2.into(), &1.into()), "{shown}");
    assert_eq!(ask["approvals"][0]["by"], "ann", "{shown}");
    assert!(gate["due"].is_string() && gate["due"] == shown["wake_at"], "the first: {shown}");
    assert_eq!((&soak["gate"]["kind"], &soak["gate"]["duration"]), (&"wait".into(), &"2d".into()));
    let steps = shown["steps"].as_object().unwrap();
    let (id, item) = steps.iter().find(|(id, _)| id.starts_with("each[")).expect("an item");
    assert_eq!(format!("each[{}]", item["item_key"].as_str().unwrap()), *id, "{shown}");
    assert_eq!(item["item"]["name"], "Web", "{shown}");
    let text = fairlead.run(["show", "latest"]).code(0).stdout;
    let due = gate["due"].as_str().unwrap();
    for says in [
        &format!("1 of 2 approvals are missing, by ann, qa; it expires at {due}"),
        "ann approved at",
        "it lets 2d pass; it ends at",
        &format!("is looked at again at {due}"),
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn drawings_lists_references_and_completions_are_data() {
    let fairlead = Fairlead::new();
    let path = hello();
    let mut page = String::new();
    for format in ["terminal", "dot", "mermaid"] {
        let drawn = fairlead.run(["graph", &path, "--format", format]).code(0).stdout;
        page.push_str(&format!("# {format}\n\n{}\n\n", drawn.trim()));
    }
    insta::assert_snapshot!("graphs", page);
    let listed = fairlead.run(["steps", "list"]).code(0).stdout;
    for kind in ["build", "command", "gitops", "promote", "sbom", "scan", "sign", "verify"] {
        assert!(listed.lines().any(|line| line.starts_with(kind)), "{kind}: {listed}");
        let text = fairlead.run(["steps", "reference", kind]).code(0).stdout;
        assert!(text.contains("with:") && text.contains("outputs:"), "{kind}: {text}");
        let schemas = json(&fairlead.run(["steps", "reference", kind, "--json"]).code(0).stdout);
        assert!(schemas["input"]["properties"].is_object(), "{kind}");
    }
    let script = fairlead.run(["completions", "bash"]).code(0).stdout;
    let file = fairlead.write("completions.bash", &script);
    stdout_of(Command::new("bash").arg("-n").arg(file));
    let parsed = json(&fairlead.run(["schema"]).code(0).stdout);
    assert!(parsed["$schema"].is_string());
}

#[test]
fn lint_mends_what_is_certain_and_speaks_sarif() {
    let fairlead = Fairlead::new();
    let wrong = pipeline("  a: {uses: comand, with: {program: x}}\n");
    let path = fairlead.write("x.yaml", &wrong);
    let sarif = json(&fairlead.run(["lint", "x.yaml", "--format", "sarif"]).code(2).stdout);
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "FL0201");
    let found = json(&fairlead.run(["lint", "x.yaml", "--format", "json"]).code(2).stdout);
    assert_eq!(found[0]["findings"][0]["code"], "FL0201");
    let certain = !found[0]["findings"][0]["fix"].is_null();
    let fixed = fairlead.run(["lint", "x.yaml", "--fix"]).code(if certain { 0 } else { 2 });
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.contains("uses: command"), certain, "{}", fixed.stderr);
}

#[test]
fn an_event_from_a_file_is_what_expressions_see() {
    let fairlead = Fairlead::new();
    fairlead.write(
        "x.yaml",
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\non:\n  registry.push: {}\nsteps:\n  \
         a: {uses: command, with: {program: echo, args: [\"{{ event.image }}\"], capture: stdout}}\n",
    );
    let digest = format!("sha256:{}", "a".repeat(64));
    let event = serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/somewhere",
        "type": "dev.fairlead.image.pushed.v1",
        "subject": format!("registry.example.com/apps/shop:v1@{digest}"),
        "data": {
            "repository": "registry.example.com/apps/shop", "tag": "v1",
            "digest": digest,
        },
    });
    fairlead.write("event.json", &event.to_string());
    let done = fairlead.run(["run", "x.yaml", "--event", "event.json", "--json"]).code(0);
    let image = format!("registry.example.com/apps/shop@{digest}");
    assert_eq!(json(&done.stdout)["steps"]["a"]["outputs"]["stdout"], image.as_str());
    fairlead.write("event.json", "{}");
    let refused = fairlead.run(["run", "x.yaml", "--event", "event.json"]).code(2);
    assert!(refused.stderr.contains("event.json is not an event"), "{}", refused.stderr);
}

#[test]
fn the_doctor_says_what_is_there_what_is_missing_and_what_to_do() {
    let dead = format!("127.0.0.1:{}", free_port());
    let bare = Fairlead::new().env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let looked = bare.run(["doctor"]).code(0).stdout;
    assert!(looked.contains("– engine") && looked.contains("✓ git"), "{looked}");
    assert!(looked.contains("→ ") && looked.contains("– advisories"), "{looked}");
    let broken = bare.run(["doctor", "--registry", &dead]).code(1).stdout;
    assert!(broken.contains("✗ registry") && broken.contains(&dead), "{broken}");

    let equipped = Fairlead::new().with_engine().env("FAIRLEAD_SECRET_TOKEN", "x");
    let steps = "  a: {uses: command, with: {program: x, secret_env: {T: \"{{ secrets.token }}\", \
        U: \"{{ secrets.other }}\"}}}\n";
    equipped.write("x.yaml", &pipeline(steps));
    let looked = equipped.run(["doctor", "--pipeline", "x.yaml"]).code(1).stdout;
    assert!(looked.contains("✓ engine") && looked.contains("`token` is set"), "{looked}");
    assert!(looked.contains("`other` is not set"), "{looked}");
    assert!(looked.contains("FAIRLEAD_SECRET_OTHER"), "the way out: {looked}");
}
