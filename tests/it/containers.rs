//! The `command` step in a container on a real engine: its workspace, its exit code, and its end.

use std::time::Duration;

use fairlead_step::kit::TestHost;
use fairlead_step::{ByteSize, Confinement, Limits, Verdict, erase};
use fairlead_step_command::Command;
use fairlead_tests::{BASE_IMAGE, Fairlead, docker_host, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

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

/// Held while a step of the kit runs in a container.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What `script` in a container that is shut in so comes to: what it wrote, or what went wrong.
async fn shut_in(
    confinement: &Confinement,
    script: &str,
    container: Value,
) -> Result<String, String> {
    let step = erase(Command::new(docker_host().parse().unwrap()));
    let mut boxed = json!({ "image": BASE_IMAGE, "network": "none" });
    boxed.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let with = json!({
        "program": "sh", "args": ["-c", script], "capture": "stdout", "container": boxed,
    });
    let host = TestHost::new().with_confinement(confinement.clone());
    // Every run of the kit has one name, and so has its container.
    let _alone = ALONE.lock().await;
    match host.run(&*step, with).await {
        Ok(Verdict::Passed { outputs }) => Ok(outputs["stdout"].as_str().unwrap().to_owned()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.chain()),
    }
}

#[tokio::test]
async fn a_container_has_no_more_rights_than_its_host_gives() {
    let open = Confinement::default();
    let restricted = Confinement { restricted: true, ..Confinement::default() };
    let rights =
        "grep -E '^(NoNewPrivs|CapEff|CapBnd)' /proc/self/status | tr '\\t\\n' '  '; id -u";
    let nothing = "NoNewPrivs: 1";
    let none = "0000000000000000";
    let of = async |confinement: &Confinement, container| {
        shut_in(confinement, rights, container).await.unwrap()
    };
    assert!(of(&open, json!({})).await.contains("NoNewPrivs: 0"));
    let said = of(&restricted, json!({})).await;
    assert!(said.contains(nothing) && said.contains(&format!("CapBnd: {none}")), "{said}");
    // NET_RAW is number 13.
    let said = of(&restricted, json!({ "capabilities": ["NET_RAW"] })).await;
    assert!(said.contains("CapBnd: 0000000000002000"), "{said}");
    let user = Confinement { user: Some("1234:1234".into()), ..restricted.clone() };
    assert!(of(&user, json!({})).await.ends_with(" 1234"));

    let write = "echo x > /made && echo made; echo x > /tmp/made && echo temporary";
    assert_eq!(shut_in(&open, write, json!({})).await.unwrap(), "made\ntemporary");
    let sealed = json!({ "read_only": true });
    assert_eq!(shut_in(&open, write, sealed).await.unwrap(), "temporary");
}

#[tokio::test]
async fn a_container_uses_no_more_than_its_host_gives() {
    let limits = Limits { memory: Some(ByteSize(32 << 20)), cpu_millis: Some(500), pids: Some(16) };
    let confinement = Confinement { limits, ..Confinement::default() };
    // One line without an end is kept in memory.
    let error = shut_in(&confinement, "tail /dev/zero", json!({})).await.unwrap_err();
    assert!(
        error.contains("`sh` was killed: the container ran out of its memory of 32MiB"),
        "{error}"
    );
    let many = "for n in $(seq 40); do sleep 5 & done; wait";
    let error = shut_in(&confinement, many, json!({})).await;
    let told = format!("{error:?}");
    assert!(told.contains("fork"), "{told}");
    let quota = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    assert!(shut_in(&confinement, quota, json!({})).await.unwrap().starts_with("50000"));
}
