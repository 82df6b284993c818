//! What must be true of a cluster when all has been said and done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::members::{Api, Cluster};
use super::{LINES, STEPS};

/// How long all of it may take to end once nothing more happens to it.
const CALM: Duration = Duration::from_secs(150);

/// Checks all that there is. `raced` are the runs that were cancelled soon after they were asked for.
pub(crate) fn all_of_it(cluster: &Cluster, runs: usize, raced: &[String]) {
    let api = &cluster.api;
    let ended = every_run_ends(api, runs);
    no_event_is_lost(api);
    let raced: BTreeSet<&str> = raced.iter().map(String::as_str).collect();
    let passed = outcomes(&ended, &raced, runs);
    effects(cluster, &passed, &raced);
    let mut gaps = 0;
    for run in &passed {
        gaps += whole_logs(api, run);
    }
    println!("{gaps} gaps in the logs of {} runs, each with its line", passed.len());
    for member in cluster.servers.iter().chain(&cluster.runners) {
        let log = member.log();
        assert!(!log.contains("panicked at"), "{}: {log}", member.name);
    }
}

fn every_run_ends(api: &Api, runs: usize) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let found = all(api, "runs");
        let open: Vec<&Value> = found.iter().filter(|run| run["ended_at"].is_null()).collect();
        if found.len() >= runs && open.is_empty() {
            return found;
        }
        if begin.elapsed() > CALM {
            for run in &open {
                println!("open: {run}");
                let run = run["run"].as_str().unwrap_or_default();
                for path in ["", "/explain", "/journal"] {
                    let answer =
                        api.insist(0, "GET", &format!("/api/v1/runs/{run}{path}"), &[], "");
                    println!("  {path} {}", answer.text());
                }
            }
            panic!("{} of {runs} runs, {} of them open", found.len(), open.len());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn no_event_is_lost(api: &Api) {
    let events = all(api, "events");
    let open: Vec<&Value> = events.iter().filter(|event| event["state"] != "handled").collect();
    assert!(open.is_empty(), "{open:?}");
}

/// All that a list of the API has.
fn all(api: &Api, list: &str) -> Vec<Value> {
    let (mut found, mut before) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/api/v1/{list}?limit=500{before}"));
        found.extend(page[list].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return found,
        }
    }
}

/// How the runs ended; answers those that passed.
fn outcomes(ended: &[Value], raced: &BTreeSet<&str>, runs: usize) -> Vec<String> {
    let id = |run: &Value| run["run"].as_str().unwrap_or_default().to_owned();
    // Three copies of each event are one run, and a request that is made again is one, too.
    assert_eq!(ended.len(), runs, "as many runs as were asked for");
    let mut passed = Vec::new();
    let mut cancelled = 0;
    for run in ended {
        match run["status"].as_str() {
            Some("passed") => passed.push(id(run)),
            Some("cancelled") if raced.contains(&*id(run)) => cancelled += 1,
            other => panic!("{other:?}: {run}"),
        }
    }
    println!("{} passed, {cancelled} were cancelled in time", passed.len());
    passed
}

/// Every step of every run that passed took effect once, no step of any run twice, and no two attempts of a
/// step were made at a time.
fn effects(cluster: &Cluster, passed: &[String], raced: &BTreeSet<&str>) {
    let traces = cluster.traces.path();
    let overlaps = std::fs::read_to_string(traces.join("overlaps")).unwrap_or_default();
    assert_eq!(overlaps, "", "attempts of one step were made at the same time");
    let done = std::fs::read_to_string(traces.join("done")).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in done.lines() {
        *counts.entry(line).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for run in passed {
        for (step, ..) in STEPS {
            let line = format!("{run} {step}");
            assert!(counts.remove(&*line).is_some(), "`{line}` is missing");
        }
    }
    let strange: Vec<&&str> = counts
        .keys()
        .filter(|line| !raced.contains(line.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

/// The log of the last attempt of each step has all its lines in order, or a line where some are missing.
/// Answers how many such lines there are.
fn whole_logs(api: &Api, run: &str) -> usize {
    let mut gaps = 0;
    for (step, ..) in STEPS {
        let log = api.get(&format!("/api/v1/runs/{run}/logs/{step}?max_bytes=1000000"));
        let texts = log["lines"].as_array().into_iter().flatten();
        let texts: Vec<&str> = texts.filter_map(|line| line["text"].as_str()).collect();
        let gap = texts.iter().filter(|text| text.contains("lines are missing here")).count();
        let numbers: Vec<u32> =
            texts.iter().filter_map(|text| text.strip_prefix("line ")?.parse().ok()).collect();
        assert!(numbers.is_sorted_by(|one, two| one < two), "{run} {step}: {texts:?}");
        if gap == 0 {
            assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "{run} {step}: {texts:?}");
        }
        gaps += gap;
    }
    gaps
}
