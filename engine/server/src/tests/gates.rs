//! Runs that wait: for people, for admission, and across a restart.

use std::time::Duration;

use fairlead_run::RunSummary;

use super::harness::{Harness, Serving};

/// Starts a run through the API, and answers its id.
pub(super) async fn start(serving: &Serving, pipeline: &str) -> String {
    let path = format!("/api/v1/pipelines/{pipeline}/runs");
    let started = serving.api("POST", &path, "").await;
    started.json()["run"].as_str().expect("a run").to_owned()
}

/// Waits until the run is where `wanted` says, and nobody holds it.
pub(super) async fn parked(harness: &Harness, run: &str, wanted: &str) -> RunSummary {
    let parked = async {
        loop {
            let runs = harness.runs().await;
            let found = runs.into_iter().find(|line| line.id.as_str() == run);
            if let Some(line) = found.filter(|line| line.status.name() == wanted && !line.held) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), parked).await.expect("the run waits")
}

#[tokio::test]
async fn a_gate_is_opened_by_who_may_and_a_run_that_waits_is_held_by_nobody() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = start(&serving, "gated").await;
    parked(&harness, &run, "waiting").await;
    let explained = serving.api("GET", &format!("/api/v1/runs/{run}/explain"), "").await.json();
    assert_eq!(explained["unblocks"][0]["by"], "approval", "{explained}");
    assert_eq!(explained["unblocks"][0]["from"][1], "qa", "{explained}");

    let vote = |step: &str, what: &str| format!("/api/v1/runs/{run}/steps/{step}/{what}");
    for (path, body, status, says) in [
        (vote("ask", "approve"), r#"{"by": "eve"}"#, 403, "ann, qa"),
        (vote("none", "approve"), r#"{"by": "ann"}"#, 404, "none"),
        (vote("note", "approve"), r#"{"by": "ann"}"#, 409, "note"),
        (vote("ask", "approve"), r#"{"by": "ann", "x": 1}"#, 400, "x"),
        (vote("ask", "settle"), r#"{"by": "ann", "decision": "again"}"#, 409, "ask"),
    ] {
        let answer = serving.api("POST", &path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.body.contains(says), "{path} {body}: {}", answer.body);
    }
    let counted = serving.api("POST", &vote("ask", "approve"), r#"{"by": "bob"}"#).await;
    assert!(matches!(counted.status, 200 | 202), "{}", counted.body);
    assert_eq!(harness.ended(1).await[0].status.name(), "passed");
    let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
    assert_eq!(shown["steps"][0]["outputs"]["approved_by"][0], "bob", "{shown}");
    let late = serving.api("POST", &vote("ask", "approve"), r#"{"by": "ann"}"#).await;
    assert_eq!(late.status, 409, "{}", late.body);
    serving.stop().await;
}

#[tokio::test]
async fn runs_of_a_group_take_turns_in_the_order_of_request() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(start(&serving, "gated").await);
    }
    parked(&harness, &runs[0], "waiting").await;
    for run in &runs[1..] {
        parked(&harness, run, "queued").await;
    }
    let shown = serving.api("GET", &format!("/api/v1/runs/{}", runs[1]), "").await.json();
    assert_eq!(shown["queued"]["behind"], runs[0].as_str(), "{shown}");
    // One that waits to be admitted is told to stop, one that has it is rejected: both make room.
    let stop = serving.api("POST", &format!("/api/v1/runs/{}/cancel", runs[1]), "").await;
    assert!(matches!(stop.status, 200 | 202), "{}", stop.body);
    let reject = format!("/api/v1/runs/{}/steps/ask/reject", runs[0]);
    let reject = serving.api("POST", &reject, r#"{"by": "ann", "reason": "no"}"#).await;
    assert!(matches!(reject.status, 200 | 202), "{}", reject.body);
    parked(&harness, &runs[2], "waiting").await;
    parked(&harness, &runs[3], "queued").await;
    let over = harness.ended(2).await;
    let status = |run: &str| {
        let line = over.iter().find(|line| line.id.as_str() == run).expect("a run");
        line.status.name()
    };
    assert_eq!((status(&runs[0]), status(&runs[1])), ("rejected", "cancelled"));
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_again_goes_on_with_runs_that_wait() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let first = start(&serving, "gated").await;
    let second = start(&serving, "gated").await;
    parked(&harness, &first, "waiting").await;
    parked(&harness, &second, "queued").await;
    serving.stop().await;

    let serving = harness.serve().await;
    let approve = |run: &str| format!("/api/v1/runs/{run}/steps/ask/approve");
    let counted = serving.api("POST", &approve(&first), r#"{"by": "ann"}"#).await;
    assert!(matches!(counted.status, 200 | 202), "{}", counted.body);
    harness.ended(1).await;
    parked(&harness, &second, "waiting").await;
    let counted = serving.api("POST", &approve(&second), r#"{"by": "ann"}"#).await;
    assert!(matches!(counted.status, 200 | 202), "{}", counted.body);
    let over = harness.ended(2).await;
    assert!(over.iter().all(|run| run.status.name() == "passed"), "{over:?}");
    serving.stop().await;
}

/// Whoever takes a vote holds the run for a moment, while the hint of that very vote makes the server
/// take it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_run_is_left_lying_behind_its_vote() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let mut runs = Vec::new();
    for _ in 0..80 {
        runs.push(start(&serving, "free").await);
    }
    for run in &runs {
        parked(&harness, run, "waiting").await;
        let path = format!("/api/v1/runs/{run}/steps/ask/approve");
        let counted = serving.api("POST", &path, r#"{"by": "ann"}"#).await;
        assert!(matches!(counted.status, 200 | 202), "{}", counted.body);
    }
    let over = harness.ended(80).await;
    assert!(over.iter().all(|run| run.status.name() == "passed"));
    let nobody = format!("/api/v1/runs/{}/steps/ask/approve", runs[0]);
    assert_eq!(serving.api("POST", &nobody, r#"{"by": " "}"#).await.status, 400);
    serving.stop().await;
}
