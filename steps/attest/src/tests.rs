//! Tests of the step against the fake registry of `fairlead-oci`.

use std::sync::Arc;

use fairlead_evidence::kit::{key, other_key, pem_of};
use fairlead_evidence::{Answer, Demand, PredicateType, attestations};
use fairlead_oci::Client;
use fairlead_oci::kit::{FakeRegistry, Fault};
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{
    AttemptHistory, Digest, History, Image, JournalHead, RegistryAuth, Step, StepHistory, Verdict,
    Workspace, erase,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Attest;

fn step() -> Arc<dyn Step> {
    erase(Attest)
}

fn passed(verdict: Verdict) -> Value {
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    outputs
}

fn with(image: &Image, kind: &str) -> Value {
    json!({ "image": image, "type": kind, "key": pem_of(&key()) })
}

fn client() -> Client {
    Client::new(FakeRegistry::registries(RegistryAuth::Anonymous))
}

async fn said(image: &Image, kind: &str) -> Vec<Value> {
    let kinds: [PredicateType; 1] = [kind.parse().unwrap()];
    let key = key();
    let (proven, failure) =
        attestations(&client(), image, key.public_key(), &kinds, &Demand::default()).await;
    assert!(failure.is_none(), "{failure:?}");
    proven[0].statements().map(|statement| statement.predicate.clone()).collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn history(image: &Image) -> History {
    let step = |id: &str, kind: &str, status: &str| StepHistory {
        id: id.parse().unwrap(),
        kind: kind.into(),
        version: "1".into(),
        status: status.into(),
        reason: None,
        input: Some(Digest::sha256(id.as_bytes())),
        attempts: vec![AttemptHistory {
            number: 1,
            started_at: at(1),
            ended_at: Some(at(5)),
            end: Some("passed".into()),
        }],
        approvers: Vec::new(),
        images: Vec::new(),
        documents: Vec::new(),
        ended_at: Some(at(5)),
    };
    History {
        engine: "0.1.0".into(),
        pipeline: "release".into(),
        pipeline_file: "pipelines/release.yaml".into(),
        pipeline_digest: Digest::sha256(b"file"),
        plan: Digest::sha256(b"plan"),
        requested_at: at(0),
        requested_by: "ann".into(),
        event_id: None,
        params: json!({ "version": "v1.0.0" }),
        workspace: Workspace::local("/nowhere"),
        local_commit: None,
        origin: None,
        journal: JournalHead { records: 9, digest: Digest::sha256(b"journal") },
        steps: vec![
            StepHistory { images: vec![image.clone()], ..step("build", "build", "passed") },
            StepHistory { approvers: vec!["bob".into()], ..step("gate", "approval", "passed") },
        ],
    }
}

#[tokio::test]
async fn what_is_said_once_is_said_once_in_both_formats() {
    for api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", None, "x");
        let mut input = with(&image, "test-result");
        input["data"] = json!({ "result": "PASSED", "configuration": [], "passedTests": ["a"] });
        let outputs = passed(conformance(&TestHost::new(), &*step(), input).await.unwrap());
        assert_eq!(outputs["type"], PredicateType::TEST_RESULT);
        let found = said(&image, "test-result").await;
        assert_eq!(found.len(), 2, "one of each format");
        assert_eq!(found[0]["passedTests"], json!(["a"]));
        assert_eq!(said(&image, "spdx").await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn provenance_tells_every_step_its_approvers_and_what_went_in() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let host = TestHost::new().with_history(history(&image));
    std::fs::create_dir_all(host.workspace().join(".git")).unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    std::fs::write(host.workspace().join(".git/HEAD"), commit).unwrap();
    passed(conformance(&host, &*step(), with(&image, "provenance")).await.unwrap());
    let found = said(&image, "provenance").await;
    let (definition, details) = (&found[0]["buildDefinition"], &found[0]["runDetails"]);
    assert_eq!(definition["externalParameters"]["parameters"]["version"], "v1.0.0");
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    assert_eq!(dependencies[0]["digest"]["gitCommit"], commit);
    assert_eq!(dependencies[1]["digest"]["sha256"], Digest::sha256(b"file").hex());
    assert_eq!(definition["internalParameters"]["requestedBy"], "ann");
    let steps = details["fairlead_steps"].as_array().unwrap();
    assert_eq!(steps[0]["images"][0], image.to_string());
    assert_eq!(steps[0]["input"]["digest"]["sha256"], Digest::sha256(b"build").hex());
    assert_eq!(steps[0]["attempts"][0]["number"], 1);
    assert_eq!(steps[1]["approvedBy"], json!(["bob"]));
    assert_eq!(details["fairlead_journal"]["records"], 9);
    assert_eq!(details["builder"]["id"], "https://fairlead.dev/engine/v1");
}

#[tokio::test]
async fn a_report_of_findings_becomes_cosigns_and_a_bill_stays_as_it_is() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let host = TestHost::new();
    let report = json!({ "schema": "fairlead.dev/scan/v1", "findings": [] }).to_string();
    let mut input = with(&image, "vuln");
    input["document"] = json!(host.store("findings.json", "application/json", report));
    passed(conformance(&host, &*step(), input).await.unwrap());
    let found = said(&image, "vuln").await;
    assert_eq!(found[0]["scanner"]["result"]["schema"], "fairlead.dev/scan/v1");
    assert!(found[0]["metadata"]["scanFinishedOn"].is_string());

    let bill = json!({ "spdxVersion": "SPDX-2.3", "name": "shop" });
    let mut input = with(&image, "spdx");
    input["document"] = json!(host.store("a.json", "application/spdx+json", bill.to_string()));
    passed(host.run(&*step(), input.clone()).await.unwrap());
    assert_eq!(said(&image, "spdx").await, [bill.clone(), bill]);
    input["type"] = json!("cyclonedx");
    let error = host.run(&*step(), input).await.unwrap_err();
    assert!(error.to_string().contains("bomFormat"), "{error}");
}

#[tokio::test]
async fn a_large_document_is_attached_and_its_digest_signed() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let host = TestHost::new();
    let bill = json!({ "spdxVersion": "SPDX-2.3", "name": "x".repeat(17 << 20) }).to_string();
    let digest = Digest::sha256(bill.as_bytes());
    let mut input = with(&image, "spdx");
    input["document"] = json!(host.store("big.json", "application/spdx+json", bill));
    let outputs = passed(host.run(&*step(), input).await.unwrap());
    assert_eq!(outputs["type"], PredicateType::REFERENCE);
    let found = said(&image, "reference").await;
    let reference = &found[0]["references"][0];
    assert_eq!(reference["digest"]["sha256"], digest.hex());
    assert_eq!(reference["annotations"]["predicateType"], PredicateType::SPDX);
    assert_eq!(registry.asked(&format!("blobs/{digest}")), 1, "it is looked for, and not read");
}

#[tokio::test]
async fn an_attempt_that_was_lost_midway_is_finished_in_the_same_words() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let host = TestHost::new().with_history(history(&image));
    registry.fail("PUT /v2/shop/manifests/sha256:", Fault::Status(403, None), 1);
    host.run(&*step(), with(&image, "provenance")).await.unwrap_err();
    assert_eq!(said(&image, "provenance").await.len(), 1);
    // The journal has gone on since.
    let mut later = history(&image);
    later.journal.records = 30;
    let host = host.with_history(later);
    passed(host.run(&*step(), with(&image, "provenance")).await.unwrap());
    let found = said(&image, "provenance").await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0]["runDetails"]["fairlead_journal"]["records"], 9);
}

#[tokio::test]
async fn strangers_words_and_replays_count_for_nothing() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let mut input = with(&image, "test-result");
    input["key"] = json!(pem_of(&other_key()));
    input["data"] = json!({ "result": "PASSED", "configuration": [] });
    passed(TestHost::new().run(&*step(), input).await.unwrap());
    let kinds = ["test-result".parse().unwrap()];
    let key = key();
    let look = async |image: &Image, demand: Demand| {
        let found = attestations(&client(), image, key.public_key(), &kinds, &demand).await;
        found.0[0].answer()
    };
    assert_eq!(look(&image, Demand::default()).await, Answer::Foreign);
    let mut input = with(&image, "test-result");
    input["data"] = json!({ "result": "PASSED", "configuration": [] });
    passed(TestHost::new().run(&*step(), input).await.unwrap());
    assert_eq!(look(&image, Demand::default()).await, Answer::Verified);
    // Copied with the image to another place, it is still about the digest, and names where it was made.
    let to = registry.repository("elsewhere/shop");
    client().copy(&image, &to, &|_| {}).await.unwrap();
    let copied = to.at(image.digest.clone());
    assert_eq!(look(&copied, Demand::default()).await, Answer::Verified);
    let here = Demand { reference: Some(to), ..Demand::default() };
    assert_eq!(look(&copied, here).await, Answer::Foreign);
}

#[test]
fn inputs_that_say_nothing_or_too_much_are_refused() {
    let image = format!("localhost/shop@{}", Digest::sha256(b""));
    for (fields, pointer) in [
        (json!({ "type": "spdx" }), ""),
        (json!({ "type": "spdx", "data": {}, "predicate": "a.json" }), ""),
        (json!({ "type": "provenance", "data": {} }), "/type"),
        (json!({ "type": "signature", "data": {} }), "/type"),
        (json!({ "type": "spdx", "predicate": "../a.json" }), "/predicate"),
        (json!({ "type": "spdx", "data": {}, "formats": [] }), "/formats"),
        (json!({ "type": "spdx", "data": {}, "builder": "me" }), "/builder"),
    ] {
        let mut whole = json!({ "image": image, "key": "x" });
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let problems = step().check(&whole).unwrap_err();
        assert_eq!(problems[0].pointer, pointer, "{problems:?}");
    }
    let problems =
        step().check(&json!({ "image": image, "key": "x", "type": "sbom" })).unwrap_err();
    assert!(problems[0].message.contains("no type of a predicate"), "{problems:?}");
}
