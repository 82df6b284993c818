//! Commands at a server: a folder is packed, run there and watched from afar; what is said and shown is as
//! it is on the server's own machine.

use fairlead_tests::{Fairlead, eventually};
use serde_json::{Value, json};

use crate::events::{Harbor, PATIENCE};

const JOB: &str = r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: job
params:
  word: {default: none}
steps:
  note: {uses: command, with: {program: cat, args: [greeting, docs/more], capture: stdout}}
  say: {uses: command, with: {program: echo, args: ["{{ params.word }}"], capture: stdout}}
  gate: {approval: {from: [ann]}, needs: [note]}
  last: {uses: command, needs: [gate], with: {program: cat, args: [link], capture: stdout}}
  tell: {uses: command, needs: [gate], with: {program: echo, args: [going on]}}
"#;

/// A client with a folder to pack, far from the server's.
fn client(harbor: &Harbor) -> Fairlead {
    let client = Fairlead::new().env("FAIRLEAD_SERVER", &harbor.url(""));
    client.write("source/greeting", "packed here\n");
    client.write("source/docs/more", "and more\n");
    client.write("source/.git/config", "nobody's\n");
    std::os::unix::fs::symlink("docs/more", client.project().join("source/link")).unwrap();
    client.write("job.yaml", JOB);
    client
}

#[test]
fn a_folder_is_packed_and_run_at_a_server_and_watched_from_afar() {
    let mut harbor = Harbor::new(&json!({}), None);
    // Who is at the keyboard of the server.
    harbor.fairlead = harbor.fairlead.env("USER", "ann");
    let server = harbor.serve();
    let client = client(&harbor);
    let start = ["run", "job.yaml", "--workspace", "source", "--set", "word=ahoy", "--no-wait"];
    let begun = client.run(start).code(6);
    assert!(begun.stderr.contains("packed 4 files"), "{}", begun.stderr);
    let listed = client.run(["runs", "--json"]).code(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let run = listed[0]["run"].as_str().unwrap().to_owned();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["pipeline"]), (1, &json!("job")));

    // What is shown from afar is what is shown there.
    for command in [
        vec!["show", &run, "--json"],
        vec!["show", &run, "--journal"],
        vec!["explain", &run],
        vec!["logs", &run],
        vec!["journal", "export", &run],
        vec!["journal", "verify", &run],
        vec!["runs"],
    ] {
        let (far, near) = (client.run(&command), harbor.fairlead.run(&command));
        assert_eq!((far.code, far.stdout), (near.code, near.stdout), "{command:?}");
    }
    let _ = client.run(["show", "01m3250v0000000002"]).code(1);

    // Somebody follows, somebody votes, and both see the end.
    let follower = client.start(["logs", "-f", &run]);
    eventually("what was written before", PATIENCE, || {
        follower.log().contains("the workspace is archive")
    });
    let refused = client.run(["approve", &run, "gate", "--as", "bob"]).code(2);
    assert!(refused.stderr.contains("in the name of another"), "{}", refused.stderr);
    let _ = client.run(["approve", &run, "gate", "--reason", "fine"]).code(0);
    eventually("what was written after", PATIENCE, || follower.log().contains("going on"));
    let shown = client.run(["show", &run, "--json"]).code(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["status"], "passed");
    assert_eq!(shown["workspace"]["kind"], "archive");
    let said = |step: &str| shown["steps"][step]["outputs"]["stdout"].as_str().unwrap().to_owned();
    assert_eq!((said("note"), said("say")), ("packed here\nand more".into(), "ahoy".into()));
    assert_eq!(said("last"), "and more");

    // Made again there, from the same archive; the server's own folder went with the run.
    let again = client.run(["retry", &run, "--from", "last", "--json"]).code(0);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["steps"]["last"]["outputs"]["stdout"], "and more");
    assert_ne!(again["run"], run.as_str());
    let pruned = client.run(["prune", "--json"]).code(0);
    assert!(pruned.stdout.contains("\"removed\": false"), "{}", pruned.stdout);
    let _ = client.run(["events", "list"]).code(0);

    // A file may not take the name of a pipeline of the server, and that one is asked for by its name.
    client.write("ci.yaml", &JOB.replace("name: job", "name: ci"));
    let taken = client.run(["run", "ci.yaml", "--workspace", "source"]).code(2);
    assert!(taken.stderr.contains("a pipeline `ci` of its own"), "{}", taken.stderr);
    let bad = client.write("bad.yaml", &JOB.replace("uses: command", "uses: comand"));
    let refused = client.run(["run", bad.to_str().unwrap(), "--workspace", "source"]).code(2);
    assert!(refused.stderr.contains("comand"), "{}", refused.stderr);
    std::os::unix::fs::symlink("/etc/passwd", client.project().join("source/out")).unwrap();
    let refused = client.run(["run", "job.yaml", "--workspace", "source"]).code(2);
    assert!(refused.stderr.contains("outside of the folder"), "{}", refused.stderr);
    drop(server);
    let away = client.run(["runs"]).code(1);
    assert!(away.stderr.contains("does not answer"), "{}", away.stderr);
}
