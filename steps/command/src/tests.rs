//! The step on the kit's host; containers are tested against a real engine elsewhere.

use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{ErrorClass, Step, erase};
use serde_json::json;
use std::sync::Arc;

use super::*;

fn step() -> Arc<dyn Step> {
    erase(Command::new("unix:///nowhere/docker.sock".parse().unwrap()))
}

fn sh(script: &str) -> Value {
    json!({ "program": "sh", "args": ["-c", script] })
}

fn with(mut input: Value, more: Value) -> Value {
    let (Value::Object(input), Value::Object(more)) = (&mut input, more) else {
        panic!("not objects")
    };
    input.extend(more);
    Value::Object(std::mem::take(input))
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let verdict = conformance(&TestHost::new(), &*step(), sh("echo hello")).await.unwrap();
    let outputs = json!({ "exit_code": 0, "stdout": null, "json": null });
    assert_eq!(verdict, Verdict::Passed { outputs });
}

#[tokio::test]
async fn programs_get_what_the_input_says() {
    let host = TestHost::new();
    std::fs::create_dir(host.workspace().join("sub")).unwrap();
    let input = json!({
        "program": "sh",
        "args": ["-c", "pwd; echo \"$A-$B\"; cat; echo", "not $expanded"],
        "env": { "A": "1" },
        "secret_env": { "B": "2" },
        "cwd": "sub",
        "stdin": "from stdin",
        "capture": "stdout",
    });
    let Verdict::Passed { outputs } = host.run(&*step(), input).await.unwrap() else {
        panic!("it did not pass")
    };
    let text = outputs["stdout"].as_str().unwrap();
    let folder = host.workspace().join("sub").canonicalize().unwrap();
    assert_eq!(text, format!("{}\n1-2\nfrom stdin", folder.display()));
}

#[tokio::test]
async fn each_exit_has_its_meaning() {
    let reject = json!({ "reject_codes": [3] });
    for (input, want) in [
        (sh("exit 0"), "passed"),
        (with(sh("exit 2"), json!({ "success_codes": [0, 2] })), "passed"),
        (
            with(sh("echo too old >&2; exit 3"), reject.clone()),
            "rejected: `sh` answered no with exit code 3: too old",
        ),
        (with(sh("exit 4"), reject), "`sh` ended with exit code 4"),
        (
            sh("echo first >&2; echo last >&2; echo >&2; exit 1"),
            "`sh` ended with exit code 1: last",
        ),
        (sh("kill -9 $$"), "`sh` was ended by SIGKILL"),
        (sh("exec no-such-program"), "`sh` ended with exit code 127: "),
        (json!({ "program": "no-such-program" }), "`no-such-program` is not on this machine"),
        (json!({ "program": "./nothing" }), "there is no program at `./nothing`"),
        (with(sh("echo '{\"a\":'"), json!({ "capture": "json" })), "`sh` wrote is not JSON"),
        (with(sh("printf '\\377'"), json!({ "capture": "stdout" })), "`sh` wrote is not UTF-8"),
        (
            with(sh("head -c 600000 /dev/zero"), json!({ "capture": "stdout" })),
            "wrote more than 524288 bytes",
        ),
    ] {
        let said = match TestHost::new().run(&*step(), input.clone()).await {
            Ok(Verdict::Passed { .. }) => "passed".to_owned(),
            Ok(Verdict::Rejected { reason, .. }) => format!("rejected: {reason}"),
            Ok(Verdict::Skipped { reason }) => format!("skipped: {reason}"),
            Err(error) => {
                assert_eq!(error.class(), ErrorClass::Terminal, "{input}");
                error.chain()
            }
        };
        assert!(said.contains(want), "{input}: {said}");
    }
}

#[tokio::test]
async fn json_is_parsed() {
    let input = with(sh("echo '{\"a\": [1]}'"), json!({ "capture": "json" }));
    let outputs = json!({ "exit_code": 0, "stdout": null, "json": { "a": [1] } });
    let verdict = TestHost::new().run(&*step(), input).await.unwrap();
    assert_eq!(verdict, Verdict::Passed { outputs });
}

#[tokio::test]
async fn an_engine_that_is_away_is_worth_another_attempt() {
    let input = with(sh("true"), json!({ "container": { "image": "localhost/x:1" } }));
    let error = TestHost::new().run(&*step(), input).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retryable);
    assert!(error.chain().contains("unix:///nowhere/docker.sock"), "{}", error.chain());
}

#[test]
fn bad_inputs_are_all_named() {
    let input = json!({
        "program": "npm ci",
        "env": { "A=B": "x", "TOKEN": "x" },
        "secret_env": { "TOKEN": "y" },
        "cwd": "../elsewhere",
        "success_codes": [0, 1],
        "reject_codes": [1],
        "container": { "image": "localhost/x:1", "mount": false },
    });
    let problems = step().check(&input).unwrap_err();
    let text: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
        /program: `npm ci` is not a program
        /env: `A=B` is not the name of a variable
        /secret_env/TOKEN: `TOKEN` stands under `env`, too
        /cwd: `../elsewhere` leaves the workspace
        /reject_codes: 1 stands under `success_codes`, too
        /cwd: the workspace is not mounted: `mount` is false
        "#);
    for (bad, want) in [
        (json!({}), "missing field `program`"),
        (json!({ "program": "" }), "no name"),
        (json!({ "program": "a", "args": ["x\0"] }), "NUL"),
        (json!({ "program": "a", "cwd": "/etc" }), "leaves the workspace"),
        (json!({ "program": "a", "success_codes": [] }), "never pass"),
        (json!({ "program": "a", "success_codes": [256] }), "256"),
        (json!({ "program": "a", "container": { "image": "node" } }), "not an image reference"),
    ] {
        let problems = step().check(&bad).unwrap_err();
        assert!(problems[0].message.contains(want), "{bad}: {problems:?}");
    }
}
