//! Schedules and the ends of runs: what starts by itself.

use std::time::Duration;

use fairlead_run::{Run, RunSummary};
use fairlead_step::RunId;
use serde_json::{Value, json};

use super::harness::Harness;

const EVERY_TEN: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: tick
on: {schedule: [{cron: '*/10 * * * *', params: {at: '{{ event.local }}'}}, {cron: '5 * * * *', missed: all, timezone: Asia/Kathmandu}]}
params: {at: {default: none}}
steps: {a: {uses: note, with: {text: '{{ params.at }}'}}}
";
const FIRST: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: first
on: {manual: {inputs: {version: {}}}}
params: {version: {default: v0}, hidden: {default: x}}
steps: {a: {uses: note, with: {text: '{{ params.version }}'}}}
";
const SECOND: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: second
on: {run.finished: {pipeline: first, outcome: passed, params: {version: '{{ event.params.version }}'}}}
params: {version: {}}
vars: {greeting: 'after {{ params.version }}'}
steps: {a: {uses: note, with: {text: '{{ vars.greeting }}'}}}
";
const PING: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: ping
on: {manual: {}, run.finished: {pipeline: pong}}
steps: {a: {uses: note, with: {text: ping}}}
";
const PONG: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: pong
on: {run.finished: {pipeline: ping}}
steps: {a: {uses: note, with: {text: pong}}}
";

const MINUTE: Duration = Duration::from_secs(60);

async fn request_of(harness: &Harness, run: &RunId) -> (Value, Value, String) {
    let stored = harness.store.journal().load(run).await.unwrap();
    let request = Run::restore(&stored).unwrap().request().clone();
    (request.event, request.params, request.by)
}

fn of<'a>(runs: &'a [RunSummary], pipeline: &str) -> Vec<&'a RunSummary> {
    runs.iter().filter(|run| run.pipeline == pipeline).collect()
}

#[tokio::test]
async fn a_time_starts_one_run_however_many_servers_there_are() {
    let mut harness = Harness::new();
    harness.more = vec![EVERY_TEN];
    // It is midnight: the schedules are seen for the first time, and have missed nothing.
    let (one, two) = (harness.serve().await, harness.serve().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(harness.runs().await.len(), 0);
    one.stop().await;
    two.stop().await;

    // Nobody was there at 00:10 and 00:20; the other schedule has 00:20, which is 06:05 in Nepal.
    harness.clock.flow_from(25 * MINUTE);
    let (one, two) = (harness.serve().await, harness.serve().await);
    let runs = harness.ended(2).await;
    harness.settled().await;
    let mut given = Vec::new();
    for run in &runs {
        let (event, params, by) = request_of(&harness, &run.id).await;
        assert_eq!((event["kind"].as_str(), by.as_str()), (Some("schedule"), "schedule"));
        assert_eq!(event["missed"], true);
        assert_eq!(event["due"], "2026-01-01T00:20:00Z");
        given.push(params["at"].as_str().unwrap().to_owned());
    }
    given.sort();
    assert_eq!(given, ["2026-01-01T00:20:00", "none"]);
    one.stop().await;
    two.stop().await;

    // A restart without a time in between starts nothing; the next time is not missed.
    harness.clock.flow_from(5 * MINUTE - Duration::from_millis(700));
    let (one, two) = (harness.serve().await, harness.serve().await);
    let runs = harness.ended(3).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 3);
    let (event, ..) = request_of(&harness, &runs[0].id).await;
    assert_eq!((&event["due"], &event["missed"]), (&json!("2026-01-01T00:30:00Z"), &json!(false)));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn the_end_of_a_run_starts_what_waits_for_it_and_gives_it_values() {
    let mut harness = Harness::new();
    harness.more = vec![FIRST, SECOND];
    let serving = harness.serve().await;
    let hidden =
        serving.api("POST", "/api/v1/pipelines/first/runs", r#"{"params": {"hidden": "y"}}"#).await;
    assert_eq!(hidden.status, 422, "{}", hidden.body);
    assert!(hidden.body.contains("a request may not give it"), "{}", hidden.body);
    let body = r#"{"params": {"version": "v9"}}"#;
    let answer = serving.api("POST", "/api/v1/pipelines/first/runs", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let runs = harness.ended(2).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 2);
    let (first, second) = (of(&runs, "first")[0], of(&runs, "second")[0]);
    let (event, params, by) = request_of(&harness, &second.id).await;
    assert_eq!(params, json!({ "version": "v9" }));
    assert_eq!(
        (event["run"].as_str(), event["depth"].as_i64()),
        (Some(first.id.as_str()), Some(0))
    );
    // Whoever asked for the first one is who the second one is for.
    assert_eq!(by, first.by);
    serving.stop().await;
}

#[tokio::test]
async fn an_end_that_nobody_told_of_is_found() {
    let mut harness = Harness::new();
    harness.more = vec![FIRST, SECOND];
    harness.clock.flow_from(MINUTE);
    let serving = harness.serve().await;
    let events = harness.store.events();
    while events.watermark("run.finished").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    serving.stop().await;
    // The run ends in a process that tells nobody.
    harness.leave_lying("first", 1).await;
    let run = harness.runs().await[0].id.clone();
    let (_canceller, cancel) = fairlead_exec::cancellation();
    harness.engine().finish(&run, cancel, |_| {}).await.unwrap();
    let serving = harness.serve().await;
    let runs = harness.ended(2).await;
    assert_eq!(of(&runs, "second").len(), 1);
    serving.stop().await;
    // It is told once.
    let serving = harness.serve().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 2);
    serving.stop().await;
}

#[tokio::test]
async fn runs_that_start_one_another_come_to_an_end() {
    let mut harness = Harness::new();
    harness.more = vec![PING, PONG];
    let serving = harness.serve().await;
    assert_eq!(serving.api("POST", "/api/v1/pipelines/ping/runs", "").await.status, 201);
    harness.ended(17).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 17);
    serving.stop().await;
}
