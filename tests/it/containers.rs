//! The `command` step in a container on a real engine: its workspace, its exit code, and its end.

use std::time::Duration;

use fairlead_tests::{BASE_IMAGE, Fairlead, eventually};
use rustix::process::Signal;
use serde_json::Value;

use crate::cli::{marker, runs};

const PATIENCE: Duration = Duration::from_secs(60);

fn pipeline(program: &str, more: &str) -> String {
    format!(
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: x\nsteps:\n  boxed:\n    uses: command\n    \
         with:\n      program: sh\n      args: [-c, '{program}']\n      \
         container: {{image: \"{BASE_IMAGE}\", network: none}}\n{more}"
    )
}

#[test]
fn a_program_runs_in_a_container_over_the_workspace() {
    let fairlead = Fairlead::new().with_engine();
    fairlead.write("given", "from the workspace");
    let program =
        "cat given; . /etc/os-release; echo \" $ID\"; echo made > made; ls /sys/class/net";
    fairlead.write("x.yaml", &pipeline(program, "      capture: stdout\n"));
    let done = fairlead.run(["run", "x.yaml", "--json"]).code(0);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    let said = run["steps"]["boxed"]["outputs"]["stdout"].as_str().unwrap();
    assert_eq!(said, "from the workspace debian\nlo");
    assert_eq!(std::fs::read_to_string(fairlead.project().join("made")).unwrap(), "made\n");
}

#[test]
fn its_exit_code_counts_as_on_the_host() {
    let fairlead = Fairlead::new().with_engine();
    for (more, code) in
        [("", 1), ("      success_codes: [3]\n", 0), ("      reject_codes: [3]\n", 3)]
    {
        fairlead.write("x.yaml", &pipeline("exit 3", more));
        let _ = fairlead.run(["run", "x.yaml"]).code(code);
    }
}

#[test]
fn cancel_ends_the_container_and_leaves_none() {
    let fairlead = Fairlead::new().with_engine();
    let marker = marker(7);
    fairlead.write("x.yaml", &pipeline(&format!("sleep {marker}; true"), ""));
    let mut process = fairlead.start(["run", "x.yaml"]);
    process.wait_until(PATIENCE, || runs(&marker));
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(4), "{}", process.log());
    let journal = fairlead.run(["show", "latest", "--journal"]).code(0).stdout;
    assert!(journal.contains("told to stop, and `sh` ended after SIGTERM"), "{journal}");
    eventually("the container to end", PATIENCE, || !runs(&marker));
}
