//! What people decide, and time: settlements, cancellations, gates, and what is seen of them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gates::{parked, start};
use super::harness::{Harness, Serving, TOKEN};

/// A run whose step that must not be made twice was lost, and the server that found it so.
pub(super) async fn lost(harness: &Harness) -> (String, Serving) {
    harness.leave.forget_permits(1000);
    let serving = harness.serve().await;
    let run = start(&serving, "deeds").await;
    harness.went_on(&run).await;
    serving.stop().await;
    let serving = harness.serve().await;
    parked(harness, &run, "needs-attention").await;
    (run, serving)
}

#[tokio::test]
async fn a_lost_attempt_is_settled() {
    let decided = [
        // What it is to give, how many attempts it has then, and what comes of the run.
        (r#""passed", "outputs": {"text": "by hand"}"#, "by hand", 1, "passed"),
        (r#""again""#, "done", 2, "passed"),
        (r#""failed""#, "", 1, "failed"),
    ];
    for (decision, text, attempts, outcome) in decided {
        let harness = Harness::new();
        let (run, serving) = lost(&harness).await;
        let path = format!("/api/v1/runs/{run}/steps/deed/settle");
        let body =
            format!(r#"{{"by": "ann", "attempt": 1, "decision": {decision}, "reason": "r"}}"#);
        let other = body.replace(r#""attempt": 1"#, r#""attempt": 2"#);
        assert_eq!(serving.api("POST", &path, &other).await.status, 409, "another attempt");
        harness.leave.add_permits(10);
        let settled = serving.api("POST", &path, &body).await;
        assert_eq!(settled.status, 200, "{decision}: {}", settled.body);
        let over = harness.ended(1).await;
        assert_eq!(over[0].status.name(), outcome, "{decision}");
        let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
        let (deed, note) = (&shown["steps"][0], &shown["steps"][1]);
        assert_eq!(deed["attempts"].as_array().unwrap().len(), attempts, "{shown}");
        if outcome == "passed" {
            assert_eq!(
                (&deed["outputs"]["text"], &note["outputs"]["text"]),
                (&text.into(), &text.into())
            );
        }
        let late = serving.api("POST", &path, &body).await;
        assert_eq!(late.status, 409, "{decision}: {}", late.body);
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_run_that_is_parked_at_a_gate_is_told_to_stop() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let (run, next) = (start(&serving, "gated").await, start(&serving, "gated").await);
    parked(&harness, &run, "waiting").await;
    parked(&harness, &next, "queued").await;
    let path = format!("/api/v1/runs/{run}/cancel");
    let body = r#"{"by": "ann", "reason": "wrong version"}"#;
    let told = serving.api("POST", &path, body).await;
    assert_eq!(told.status, 200, "nobody drives it, so it is written here: {}", told.body);
    let over = harness.ended(1).await;
    let line = over.iter().find(|line| line.id.as_str() == run).unwrap();
    assert_eq!(line.status.name(), "cancelled");
    let explained = serving.api("GET", &format!("/api/v1/runs/{run}/explain"), "").await;
    assert!(explained.body.contains("ann told it to stop"), "{}", explained.body);
    assert!(explained.body.contains("wrong version"), "{}", explained.body);
    assert_eq!(serving.api("POST", &path, body).await.status, 409);
    parked(&harness, &next, "waiting").await;
    serving.stop().await;
}

#[tokio::test]
async fn a_run_is_abandoned_where_nobody_drives_it() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let (driver, other) = (harness.serve().await, harness.serve().await);
    let body = r#"{"by": "ann", "reason": "the disk was lost"}"#;
    let driven = start(&driver, "build").await;
    harness.went_on(&driven).await;
    let refused = other.api("POST", &format!("/api/v1/runs/{driven}/abandon"), body).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body.contains("driven by another process"), "{}", refused.body);

    let (run, next) = (start(&driver, "gated").await, start(&driver, "gated").await);
    parked(&harness, &run, "waiting").await;
    parked(&harness, &next, "queued").await;
    let path = format!("/api/v1/runs/{run}/abandon");
    assert_eq!(other.api("POST", &path, r#"{"by": " "}"#).await.status, 400, "somebody does it");
    let told = other.api("POST", &path, body).await;
    assert_eq!((told.status, &told.json()["status"]), (200, &"cancelled".into()), "{}", told.body);
    let explained = other.api("GET", &format!("/api/v1/runs/{run}/explain"), "").await;
    assert!(
        explained.body.contains("abandoned: api on behalf of ann: the disk was lost"),
        "{}",
        explained.body
    );
    parked(&harness, &next, "waiting").await;
    assert_eq!(other.api("POST", &path, body).await.status, 409, "it has ended");
    other.stop().await;
    driver.stop().await;
}

#[tokio::test]
async fn a_run_that_another_server_drives_is_told_to_stop() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let (driver, other) = (harness.serve().await, harness.serve().await);
    let run = start(&driver, "build").await;
    harness.went_on(&run).await;
    let told = other.api("POST", &format!("/api/v1/runs/{run}/cancel"), r#"{"by": "ann"}"#).await;
    assert_eq!((told.status, &told.json()["status"]), (202, &"told".into()), "{}", told.body);
    assert_eq!(harness.ended(1).await[0].status.name(), "cancelled");
    let explained = other.api("GET", &format!("/api/v1/runs/{run}/explain"), "").await;
    assert!(explained.body.contains("ann told it to stop"), "{}", explained.body);
    other.stop().await;
    driver.stop().await;
}

#[tokio::test]
async fn a_gate_whose_time_comes_wakes_its_run_and_nobody_looks_before() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = start(&serving, "later").await;
    let waits = parked(&harness, &run, "waiting").await;
    let wake_at = waits.wake_at.expect("time matters to it");
    let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
    assert_eq!(shown["wake_at"], wake_at.to_string(), "{shown}");
    let soak = &shown["steps"][0];
    assert_eq!((&soak["gate"]["kind"], &soak["gate"]["duration"]), (&"wait".into(), &"1h".into()));
    assert_eq!((&soak["gate"]["due"], &soak["due"]), (&shown["wake_at"], &shown["wake_at"]));

    harness.clock.flow_from(Duration::from_secs(3600) - Duration::from_secs(2));
    // That another run is parked meanwhile is no reason to look at this one.
    let other = start(&serving, "free").await;
    parked(&harness, &other, "waiting").await;
    let before = harness.takings().await;
    let over = harness.ended(1).await;
    let line = over.iter().find(|line| line.id.as_str() == run).unwrap();
    assert_eq!(line.status.name(), "passed");
    assert!(line.ended_at.unwrap() >= wake_at, "{line:?}");
    assert_eq!(harness.takings().await - before, 1, "it was taken up once, at its time");

    let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
    assert_eq!((&shown["wake_at"], &shown["steps"][0]["due"]), (&().into(), &().into()));
    let item = &shown["steps"][2];
    let key = item["item_key"].as_str().expect("a key");
    assert_eq!(item["id"], format!("each[{key}]"), "{shown}");
    assert_eq!((&item["item"]["name"], &item["gate"]), (&"web".into(), &().into()), "{shown}");
    serving.stop().await;
}

#[tokio::test]
async fn a_gate_shows_what_it_asks_for() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = start(&serving, "both").await;
    let waits = parked(&harness, &run, "waiting").await;
    let due = waits.wake_at.expect("it expires").to_string();
    let path = format!("/api/v1/runs/{run}");
    let shown = serving.api("GET", &path, "").await.json();
    let gate = serde_json::json!({
        "kind": "approval", "from": ["ann", "qa"], "min": 2, "ordered": false, "not": ["eve"],
        "expires": "1d", "missing": 2, "due": due,
    });
    assert_eq!(shown["steps"][0]["gate"], gate);
    assert_eq!(shown["wake_at"], due.as_str());
    let vote = serving.api("POST", &format!("{path}/steps/ask/approve"), r#"{"by": "bob"}"#).await;
    assert_eq!(vote.status, 200, "{}", vote.body);
    let shown = serving.api("GET", &path, "").await.json();
    assert_eq!(shown["steps"][0]["gate"]["missing"], 1);
    assert_eq!(shown["steps"][0]["approvals"][0]["by"], "bob");
    serving.stop().await;
}

/// Reads what the server sends until `wanted` has come.
async fn read_until(stream: &mut TcpStream, text: &mut String, wanted: &str) {
    let read = async {
        let mut bytes = [0; 4096];
        while !text.contains(wanted) {
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the stream ended: {text}");
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert!(read.is_ok(), "`{wanted}` does not come: {text}");
}

#[tokio::test]
async fn a_vote_is_seen_by_those_who_watch() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = start(&serving, "both").await;
    parked(&harness, &run, "waiting").await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let request = format!(
        "GET /api/v1/runs/{run}/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        serving.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, r#""type":"gate_opened""#).await;
    assert!(!seen.contains("voted"), "{seen}");

    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let vote = serving.api("POST", &path, r#"{"by": "ann", "reason": "looks good"}"#).await;
    assert_eq!(vote.status, 200, "{}", vote.body);
    // One approval is missing: the run waits, and the stream goes on.
    read_until(&mut stream, &mut seen, r#""type":"voted""#).await;
    read_until(&mut stream, &mut seen, "looks good").await;
    assert_eq!(parked(&harness, &run, "waiting").await.status.name(), "waiting");
    let vote = serving.api("POST", &path, r#"{"by": "bob"}"#).await;
    assert_eq!(vote.status, 200, "{}", vote.body);
    read_until(&mut stream, &mut seen, r#""type":"ended""#).await;
    assert_eq!(seen.matches(r#""type":"voted""#).count(), 2, "each once: {seen}");
    serving.stop().await;
}
