//! Runs that wait to be admitted: in which order they get it, and what each free place costs.

use std::num::NonZeroU32;

use fairlead_exec::cancellation;
use fairlead_run::{CancelReason, RunSummary, Signal};

use super::gates::{parked, start};
use super::harness::{Harness, Serving};

/// How many runs wait behind the first.
const BEHIND: usize = 40;

async fn vote(serving: &Serving, run: &str, what: &str) {
    let path = format!("/api/v1/runs/{run}/steps/ask/{what}");
    let counted = serving.api("POST", &path, r#"{"by": "ann"}"#).await;
    assert!(matches!(counted.status, 200 | 202), "{}", counted.body);
}

async fn stop(serving: &Serving, run: &str) {
    let stopped = serving.api("POST", &format!("/api/v1/runs/{run}/cancel"), "").await;
    assert!(matches!(stopped.status, 200 | 202), "{}", stopped.body);
}

/// The runs of `pipeline`, of which as many as `room` are admitted and the others wait for it.
async fn queue(harness: &Harness, serving: &Serving, pipeline: &str, room: usize) -> Vec<String> {
    let mut runs = Vec::new();
    for _ in 0..room + BEHIND {
        runs.push(start(serving, pipeline).await);
    }
    for run in &runs[room..] {
        parked(harness, run, "queued").await;
    }
    runs
}

#[tokio::test]
async fn a_free_place_is_offered_to_the_first_alone() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let runs = queue(&harness, &serving, "gated", 1).await;
    parked(&harness, &runs[0], "waiting").await;
    let mut before = harness.takings().await;
    for place in 0..5 {
        vote(&serving, &runs[place], "approve").await;
        parked(&harness, &runs[place + 1], "waiting").await;
        let after = harness.takings().await;
        // One for the vote, one or two for what follows from it, one or two for the next in line, and
        // the question whether there is room for one more.
        assert!(after - before <= 8, "{} takings for one place", after - before);
        before = after;
        for run in &runs[place + 2..] {
            parked(&harness, run, "queued").await;
        }
    }
    serving.stop().await;
}

#[tokio::test]
async fn whoever_leaves_the_line_hands_the_turn_on() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let runs = queue(&harness, &serving, "gated", 1).await;
    parked(&harness, &runs[0], "waiting").await;
    // The first in line is told to stop while the place becomes free.
    for place in [0, 2, 4, 6] {
        let (stopped, voted) = tokio::join!(
            stop(&serving, &runs[place + 1]),
            vote(&serving, &runs[place], if place % 4 == 0 { "approve" } else { "reject" })
        );
        let ((), ()) = (stopped, voted);
        parked(&harness, &runs[place + 2], "waiting").await;
        parked(&harness, &runs[place + 3], "queued").await;
    }
    // Nobody who stands further back was passed over, or let in too early.
    for run in &runs[9..] {
        parked(&harness, run, "queued").await;
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_newcomer_ends_those_whose_places_it_takes_and_waits_in_their_stead() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let first = start(&serving, "newest").await;
    parked(&harness, &first, "waiting").await;
    let mut waits = start(&serving, "newest").await;
    parked(&harness, &waits, "queued").await;
    for count in 1..=5 {
        let newcomer = start(&serving, "newest").await;
        let over = harness.ended(count).await;
        let gone = over.iter().find(|run| run.id.as_str() == waits).expect("the run");
        assert_eq!(gone.status.name(), "cancelled");
        waits = newcomer;
        parked(&harness, &waits, "queued").await;
    }
    vote(&serving, &first, "approve").await;
    parked(&harness, &waits, "waiting").await;
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_room_for_some_is_filled_up() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let runs = queue(&harness, &serving, "three", 3).await;
    for run in &runs[..3] {
        parked(&harness, run, "waiting").await;
    }
    // All places become free at once, and the hints may come as one.
    let all = runs[..3].iter().map(|run| vote(&serving, run, "approve"));
    futures::future::join_all(all).await;
    for run in &runs[3..6] {
        parked(&harness, run, "waiting").await;
    }
    for run in &runs[6..] {
        parked(&harness, run, "queued").await;
    }
    serving.stop().await;
}

/// One hint tells of three places, and runs that go on give no other: each who is admitted lets the
/// next one ask.
#[tokio::test]
async fn places_that_became_free_at_once_are_all_given() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let serving = harness.serve().await;
    let runs = queue(&harness, &serving, "busy", 3).await;
    for run in &runs[..3] {
        harness.went_on(run).await;
    }
    serving.stop().await;
    let engine = harness.engine();
    for run in &runs[..3] {
        let run = run.parse().unwrap();
        let stop = Signal::Cancel { by: "ann".into(), reason: CancelReason::Asked { why: None } };
        engine.signal(&run, stop).await.unwrap();
        let (_canceller, mut cancellation) = cancellation();
        engine.drive(&run, &mut cancellation).await.unwrap();
    }
    harness.ended(3).await;
    let serving = harness.serve().await;
    for run in &runs[3..6] {
        harness.went_on(run).await;
    }
    for run in &runs[6..] {
        parked(&harness, run, "queued").await;
    }
    serving.stop().await;
}

/// The runs of a pipeline, in the order in which they ended.
fn by_end(mut runs: Vec<RunSummary>) -> Vec<String> {
    runs.retain(|run| run.ended_at.is_some());
    runs.sort_by_key(|run| run.ended_at);
    runs.into_iter().map(|run| run.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_all_runs_keeps_the_order_over_all_groups() {
    let mut harness = Harness::new();
    harness.max_runs = NonZeroU32::new(1);
    harness.leave.forget_permits(1000);
    let serving = harness.serve().await;
    let pipelines = ["build", "one", "two"];
    let mut runs = Vec::new();
    for place in 0..=BEHIND {
        runs.push(start(&serving, pipelines[place % 3]).await);
        if place > 0 {
            parked(&harness, &runs[place], "queued").await;
        } else {
            harness.went_on(&runs[0]).await;
        }
    }
    let mut before = harness.takings().await;
    for count in 1..=10 {
        harness.leave.add_permits(1);
        assert_eq!(by_end(harness.ended(count).await), runs[..count]);
        let after = harness.takings().await;
        // The first of the line, the next of its group, and the first of the two other groups.
        assert!(after - before <= 8, "{} takings for one place", after - before);
        before = after;
    }
    // When places become free faster than hints travel, the order within each group still holds.
    harness.leave.add_permits(1000);
    let over = by_end(harness.ended(runs.len()).await);
    for first in 0..3 {
        let of = |all: &[String]| -> Vec<String> {
            let wanted: Vec<&String> = runs.iter().skip(first).step_by(3).collect();
            all.iter().filter(|run| wanted.contains(run)).cloned().collect()
        };
        assert_eq!(of(&over), of(&runs));
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_group_without_a_name_is_refused() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let path = "/api/v1/pipelines/named/runs";
    for body in ["", r#"{"params": {"version": " "}}"#] {
        let refused = serving.api("POST", path, body).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        for says in ["concurrency.group", "`{{ params.version }}` gives no text", "such as"] {
            assert!(detail.contains(says), "{says}: {detail}");
        }
    }
    harness.settled().await;
    assert_eq!(harness.runs().await, []);
    let taken = serving.api("POST", path, r#"{"params": {"version": "1"}}"#).await;
    assert_eq!(taken.status, 201, "{}", taken.body);
    assert_eq!(harness.ended(1).await[0].group.as_deref(), Some("1"));
    serving.stop().await;
}

#[tokio::test]
async fn a_server_that_starts_again_keeps_the_line() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let runs = queue(&harness, &serving, "gated", 1).await;
    parked(&harness, &runs[0], "waiting").await;
    serving.stop().await;
    let before = harness.takings().await;
    let serving = harness.serve().await;
    let begun = harness.takings().await - before;
    assert!(begun <= 3, "{begun} takings at the start");
    vote(&serving, &runs[0], "approve").await;
    parked(&harness, &runs[1], "waiting").await;
    parked(&harness, &runs[2], "queued").await;
    serving.stop().await;
}
