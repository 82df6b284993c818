//! Requests that show an `Idempotency-Key` are done once, whatever they ask for.

use std::time::Duration;

use fairlead_exec::RunRequest;
use fairlead_plan::Source;
use fairlead_run::{KeyedEnd, KeyedRequest, KeyedStart};
use fairlead_step::{Clock as _, Digest, Workspace};
use fairlead_store::Store;
use serde_json::json;

use super::access::caller;
use super::gates::{parked, start};
use super::harness::{Answer, Harness, Serving, TOKEN};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn file(text: &str) -> String {
    let pipeline = format!(
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: mine\n\
         steps: {{note: {{uses: note, with: {{text: {text}}}}}}}\n"
    );
    json!({ "source": { "name": "mine.yaml", "text": pipeline } }).to_string()
}

async fn post(serving: &Serving, path: &str, shown: &str, key: &str, body: &str) -> Answer {
    let headers = [("Authorization", shown), ("Idempotency-Key", key)];
    serving.send("POST", path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_file_a_retry_and_an_undo_make_one_run_for_one_key() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::memory(), Store::open(folder.path()).await.unwrap()] {
        let mut harness = Harness::new();
        harness.store = store;
        let serving = harness.serve().await;
        let admin = format!("Bearer {TOKEN}");
        let other = caller(&harness, "ann", &["admin"]).await;
        let hi = file("hi");
        let first = post(&serving, "/api/v1/runs", &admin, "k1", &hi).await;
        assert_eq!(first.status, 201, "{}", first.body);
        let again = post(&serving, "/api/v1/runs", &admin, "k1", &hi).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert!(again.headers.contains("idempotency-replayed: true"), "{}", again.headers);
        let another = post(&serving, "/api/v1/runs", &admin, "k1", &file("ho")).await;
        assert_eq!(another.status, 422, "{}", another.body);
        assert!(another.body.contains("/idempotency-key"), "{}", another.body);
        // What somebody else calls so is another request.
        let theirs = post(&serving, "/api/v1/runs", &other, "k1", &hi).await;
        assert_eq!(theirs.status, 201, "{}", theirs.body);
        harness.ended(2).await;
        assert_eq!(harness.runs().await.len(), 2);

        let run = first.json()["run"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/runs/{run}/retry");
        let body = r#"{"from": ["note"]}"#;
        let made = post(&serving, &path, &admin, "k1", body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let again = post(&serving, &path, &admin, "k1", body).await;
        assert_eq!((again.status, &again.body), (200, &made.body));
        assert_eq!(post(&serving, &path, &admin, "k1", "{}").await.status, 422);
        harness.ended(3).await;

        // What was refused may be asked for otherwise with the same key.
        let refused = post(&serving, "/api/v1/runs", &admin, "k2", "{}").await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert_eq!(post(&serving, "/api/v1/runs", &admin, "k2", &hi).await.status, 201);
        harness.ended(4).await;
        for bad in ["", " ", &"k".repeat(256)] {
            let answer = post(&serving, "/api/v1/runs", &admin, bad, &hi).await;
            assert_eq!(answer.status, 400, "{bad:?}: {}", answer.body);
        }

        // After a day a key is a new one.
        harness.clock.flow_from(DAY);
        let late = post(&serving, "/api/v1/runs", &admin, "k1", &file("ho")).await;
        assert_eq!(late.status, 201, "{}", late.body);
        harness.ended(5).await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_done_under_the_id_that_it_was_given() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let (admin, keyed) = (format!("Bearer {TOKEN}"), harness.store.keyed_requests());
    let engine = harness.engine();
    let body = file("hi");
    for (key, is_there) in [("before", false), ("behind", true)] {
        let id = engine.new_id();
        let whole = format!("{key}\n/api/v1/runs\napi");
        let request = KeyedRequest {
            key: Digest::sha256(whole.as_bytes()),
            content: Digest::sha256(body.as_bytes()),
            run: id.clone(),
        };
        let hash = request.key.clone();
        let begun = keyed.begin(request, harness.clock.now(), DAY).await.unwrap();
        assert_eq!(begun, KeyedStart::Do(id.clone()));
        if is_there {
            let source = serde_json::from_str::<serde_json::Value>(&body).unwrap();
            let source = Source::new("mine.yaml", source["source"]["text"].as_str().unwrap());
            let plan = harness.compiled(&source);
            let request = RunRequest {
                params: plan.bind(&std::collections::BTreeMap::new()).unwrap(),
                plan,
                event: json!({}),
                event_id: None,
                started_by: None,
                by: "api".to_owned(),
                workspace: Workspace::EMPTY,
                origin: None,
            };
            engine.request_as(id.clone(), request).await.unwrap();
        }
        let waits = post(&serving, "/api/v1/runs", &admin, key, &body).await;
        assert_eq!(waits.status, 409, "{}", waits.body);
        assert!(waits.body.contains("/under-way"), "{}", waits.body);
        assert!(waits.headers.contains("retry-after: "), "{}", waits.headers);
        keyed.end(&hash, KeyedEnd::Unknown).await.unwrap();
        let done = post(&serving, "/api/v1/runs", &admin, key, &body).await;
        assert_eq!(done.status, if is_there { 200 } else { 201 }, "{}", done.body);
        assert_eq!(done.json()["run"], id.as_str(), "{}", done.body);
    }
    assert_eq!(harness.runs().await.len(), 2);
    serving.stop().await;
}

#[tokio::test]
async fn a_vote_counts_once_and_a_token_is_shown_once() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let admin = format!("Bearer {TOKEN}");
    let run = start(&serving, "gated").await;
    parked(&harness, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let body = r#"{"by": "bob"}"#;
    let first = post(&serving, &path, &admin, "v", body).await;
    assert!(matches!(first.status, 200 | 202), "{}", first.body);
    let again = post(&serving, &path, &admin, "v", body).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    harness.ended(1).await;

    let body = r#"{"subject": "ann", "grants": ["viewer"]}"#;
    let made = post(&serving, "/api/v1/tokens", &admin, "t", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let again = post(&serving, "/api/v1/tokens", &admin, "t", body).await;
    assert_eq!(again.status, 409, "{}", again.body);
    assert!(again.body.contains("/done-before"), "{}", again.body);
    assert_eq!(harness.store.tokens().tokens().await.unwrap().len(), 1);
    serving.stop().await;
}
