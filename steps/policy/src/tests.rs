//! Tests of policies: the judge by the tests beside a policy, the gate against the fake registry.

use std::path::Path;
use std::sync::Arc;

use fairlead_evidence::kit::{key, other_key, pem_of};
use fairlead_evidence::{Attestation, Format, attest};
use fairlead_oci::kit::FakeRegistry;
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Image, Step, Verdict, erase};
use fairlead_step_attest::Attest;
use fairlead_step_sign::Sign;
use jiff::civil::date;
use serde_json::{Value, json};

use crate::{Policy, PolicyStep, run_cases};

fn text() -> String {
    let indented =
        |pem: String| pem.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "apiVersion: fairlead.dev/v1\n\
kind: Policy\n\
name: prod\n\
images: ['**/prod/*']\n\
keys:\n  release:\n    pem: |\n{}  second:\n    pem: |\n{}\
rules:\n\
\x20 - name: signed\n    signature: {{by: [release]}}\n\
\x20 - name: here\n    mode: warn\n    signature: {{by: [release, second], min: 2, here: true}}\n\
\x20 - name: tested\n    attestation:\n      type: test-result\n      by: [release]\n      where:\n\
\x20       - predicate.result == 'PASSED'\n        - predicate.failedTests.size() == 0\n\
exceptions:\n\
\x20 - {{rule: tested, images: ['**/prod/legacy'], owner: ann, reason: no tests yet, expires: 2026-12-31}}\n\
tests:\n\
\x20 - name: all is there\n    repository: r.example.com/prod/shop\n    passes: true\n\
\x20   signatures: [{{by: release}}]\n\
\x20   attestations: [{{type: test-result, by: release, predicate: {{result: PASSED, failedTests: []}}}}]\n\
\x20   rules: {{signed: verified, here: unmet, tested: verified}}\n\
\x20 - name: nothing is there\n    repository: r.example.com/prod/shop\n    passes: false\n\
\x20   rules: {{signed: absent, tested: absent}}\n\
\x20 - name: a test failed\n    repository: r.example.com/prod/shop\n    passes: false\n\
\x20   signatures: [{{by: release}}, {{by: second, here: false}}]\n\
\x20   attestations: [{{type: test-result, by: release, predicate: {{result: FAILED}}}}]\n\
\x20   rules: {{tested: unmet, here: unmet}}\n\
\x20 - name: somebody answers for it\n    repository: r.example.com/prod/legacy\n    on: 2026-12-31\n\
\x20   passes: true\n    signatures: [{{by: release}}]\n\
\x20 - name: and no longer does\n    repository: r.example.com/prod/legacy\n    on: 2027-01-01\n\
\x20   passes: false\n    signatures: [{{by: release}}]\n\
\x20 - name: another place\n    repository: r.example.com/dev/shop\n    passes: false\n\
\x20   signatures: [{{by: release}}]\n",
        indented(key().public_key().to_pem()),
        indented(other_key().public_key().to_pem()),
    )
}

fn read(text: &str) -> Result<Policy, crate::PolicyError> {
    Policy::read(Path::new("prod.yaml"), text, |file| Err(format!("`{file}` is not there")))
}

#[test]
fn the_tests_beside_a_policy_pass_and_tell_when_they_do_not() {
    let today = date(2026, 11, 29);
    let policy = read(&text()).unwrap();
    assert_eq!(run_cases(&policy, today), (6, Vec::new()));
    let wrong = text().replace("signed: absent, tested: absent", "signed: verified");
    let (_, failures) = run_cases(&read(&wrong).unwrap(), today);
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].problems, ["signed is absent, and verified is expected"]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    for (from, to, want) in [
        ("kind: Policy", "kind: Polizei", "`Polizei`"),
        ("predicate.result ==", "subject.result ==", "speaks of `subject`"),
        ("by: [release]}", "by: [nobody]}", "the key `nobody` is not there"),
        ("min: 2", "min: 3", "`min` is 3"),
        ("rule: tested,", "rule: teste,", "names the rule `teste`"),
        ("signature: {by: [release]}", "mode: require", "either `signature` or `attestation`"),
        ("name: here", "name: signed", "is there twice"),
        ("owner: ann", "owner: ''", "no owner"),
        ("mode: warn", "mode: maybe", "maybe"),
        ("-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC-----", "key `release`"),
    ] {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from}");
        let error = read(&changed).unwrap_err().to_string();
        assert!(error.contains(want), "{from}: {error}");
    }
}

async fn ran<K: fairlead_step::StepKind>(kind: K, host: &TestHost, with: Value) {
    let step: Arc<dyn Step> = erase(kind);
    host.run(&*step, with).await.unwrap();
}

#[tokio::test]
async fn the_gate_opens_when_everything_is_there() {
    let registry = FakeRegistry::start().await;
    let image: Image = registry.seed_image("prod/shop", None, "x");
    let host = TestHost::new();
    std::fs::create_dir_all(host.workspace().join("policies")).unwrap();
    let file = text().replacen("    pem: |", "    file: release.pub\n    pem: |", 1);
    let start = file.find("    pem: |").unwrap();
    let end = file.find("  second:").unwrap();
    let file = format!("{}{}", &file[..start], &file[end..]);
    std::fs::write(host.workspace().join("policies/prod.yaml"), file).unwrap();
    let public = key().public_key().to_pem();
    std::fs::write(host.workspace().join("policies/release.pub"), public).unwrap();
    let step: Arc<dyn Step> = erase(PolicyStep);
    let with = json!({ "image": image, "policy": "policies/prod.yaml" });
    let verdict = host.run(&*step, with.clone()).await.unwrap();
    let Verdict::Rejected { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason, "the policy prod says no: signed is absent, tested is absent");

    let signer = key();
    let key = pem_of(&signer);
    ran(Sign, &host, json!({ "image": image, "key": key })).await;
    let mut said = json!({ "image": image, "key": key, "type": "test-result" });
    said["data"] = json!({ "result": "PASSED", "configuration": [], "failedTests": ["one"] });
    ran(Attest, &host, said).await;
    let verdict = host.run(&*step, with.clone()).await.unwrap();
    let Verdict::Rejected { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason, "the policy prod says no: tested is unmet");
    assert!(host.log_text().contains("`predicate.failedTests.size() == 0` is false"));

    // A later run says better things, and one good statement is enough.
    let client =
        fairlead_oci::Client::new(FakeRegistry::registries(fairlead_step::RegistryAuth::Anonymous));
    let later = Attestation {
        kind: "test-result".parse().unwrap(),
        predicate: json!({ "result": "PASSED", "configuration": [], "failedTests": [] }),
        mark: None,
    };
    let subject = client.manifest(&image).await.unwrap().descriptor();
    attest(&client, &image, &subject, &signer, &later, &[Format::V3]).await.unwrap();
    let verdict = conformance(&host, &*step, with).await.unwrap();
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    assert_eq!(outputs["rules"][1], json!({ "name": "here", "answer": "unmet" }));
}
