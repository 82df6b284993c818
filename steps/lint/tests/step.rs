//! The step, in the host of the conformance kit.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Digest, Step, Verdict, erase};
use fairlead_step_lint::Lint;
use serde_json::{Value, json};

fn step() -> Arc<dyn Step> {
    erase(Lint)
}

fn host(files: &[(&str, &str)]) -> TestHost {
    let host = TestHost::new();
    for (name, text) in files {
        let path = host.workspace().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    host
}

fn artifact(host: &TestHost, artifact: &Value) -> Value {
    let digest: Digest = serde_json::from_value(artifact["digest"].clone()).unwrap();
    serde_json::from_slice(&host.artifact(&digest).unwrap()).unwrap()
}

#[tokio::test]
async fn findings_are_reported_and_reject_where_it_is_asked() {
    let host = host(&[("app/Dockerfile", "FROM debian\nUSER 1\nRUN sudo ls\n")]);
    let with = json!({"file": "app/Dockerfile", "context": "app"});
    let Verdict::Passed { outputs } = conformance(&host, &*step(), with.clone()).await.unwrap()
    else {
        panic!("it passes without `fail_on`");
    };
    assert_eq!(outputs["counts"]["error"], 1);
    assert_eq!(outputs["counts"]["warning"], 1);
    let report = artifact(&host, &outputs["findings"]);
    assert_eq!(report["format"], "fairlead.dev/lint/v1");
    let found = report["findings"].as_array().unwrap();
    let sudo = found.iter().find(|f| f["alias"] == "DL3004").unwrap();
    assert_eq!((&sudo["place"]["line"], &sudo["place"]["column"]), (&json!(3), &json!(5)));
    let sarif = artifact(&host, &outputs["sarif"]);
    let run = &sarif["runs"][0];
    assert_eq!(run["results"].as_array().unwrap().len(), found.len());
    let first = &run["results"][0];
    let rule = &run["tool"]["driver"]["rules"][first["ruleIndex"].as_u64().unwrap() as usize];
    assert_eq!(first["ruleId"], rule["id"]);
    assert!(rule["help"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(
        host.log_text().contains("app/Dockerfile:3:5: error[FLD0303 DL3004]"),
        "{}",
        host.log_text()
    );

    for (threshold, rejected) in [("error", true), ("warning", true)] {
        let mut with = with.clone();
        with["fail_on"] = json!(threshold);
        let verdict = conformance(&host, &*step(), with).await.unwrap();
        assert_eq!(
            matches!(verdict, Verdict::Rejected { .. }),
            rejected,
            "{threshold}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_configuration_of_the_workspace_counts() {
    let config = "severity: {DL3004: off}\nignore: [{rule: DL3006, owner: o, reason: r, expires: 2999-01-01}]\n";
    let host = host(&[("Dockerfile", "FROM debian\nUSER 1\nRUN sudo ls\n"), ("lint.yaml", config)]);
    let with = json!({"config": "lint.yaml", "fail_on": "warning"});
    let Verdict::Passed { outputs } = conformance(&host, &*step(), with).await.unwrap() else {
        panic!("nothing is left that weighs as much")
    };
    assert_eq!(outputs["ignored"], 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let host = host(&[("Dockerfile", "FROM a:1\n"), ("bad.yaml", "severity: {NOPE: off}\n")]);
    std::os::unix::fs::symlink("/etc/passwd", host.workspace().join("link")).unwrap();
    for (with, want) in [
        (json!({"file": "missing"}), "cannot read the Dockerfile `missing`"),
        (json!({"file": "link"}), "leads out of the workspace"),
        (json!({"config": "bad.yaml"}), "bad.yaml:1: there is no rule `NOPE`"),
        (json!({"file": "."}), "is not a file"),
    ] {
        let error = host.run(&*step(), with).await.unwrap_err().to_string();
        assert!(error.contains(want), "{want}: {error}");
    }
    let problems = step().check(&json!({"file": "../x", "context": "/"})).unwrap_err();
    assert_eq!(problems.len(), 2);
}
