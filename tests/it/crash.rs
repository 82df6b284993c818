//! SIGKILL at random moments of a release, and `resume`: everything is done once, and the journal
//! says what was lost.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::release::{Release, Yard};

/// How often a release is killed.
const ROUNDS: u64 = 30;

/// Steele, Lea and Flood's SplitMix64: moments that a printed seed brings back.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without 1.
    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
    }
}

/// What the journal says of the attempts that a crash broke off.
struct Account {
    lost: usize,
    again: usize,
}

fn facts(run: &Value) -> impl Iterator<Item = &Value> {
    run["journal"].as_array().unwrap().iter().map(|record| &record["fact"])
}

/// Checks that every attempt that began has an end, or is told to be lost and was made again.
fn account(run: &Value) -> Account {
    let of = |wanted: &str| -> Vec<(String, u64)> {
        facts(run)
            .filter(|fact| fact["type"] == wanted)
            .map(|fact| {
                (fact["step"].as_str().unwrap().to_owned(), fact["attempt"].as_u64().unwrap())
            })
            .collect()
    };
    let (started, finished, lost) = (of("started"), of("finished"), of("attempt_lost"));
    for attempt in &started {
        let ends = [&finished, &lost].map(|all| all.iter().filter(|a| *a == attempt).count());
        assert_eq!(ends.iter().sum::<usize>(), 1, "{attempt:?}: finished and lost {ends:?}");
    }
    let again = lost.iter().filter(|(step, n)| started.contains(&(step.clone(), n + 1))).count();
    assert_eq!(again, lost.len(), "what was lost was done again: {lost:?}, {started:?}");
    Account { lost: lost.len(), again }
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed brings the moments of a failure back")]
fn a_release_killed_at_thirty_moments_is_finished_once() {
    let yard = Yard::new();
    let whole = Release::new("whole", "v1.0.0");
    let begin = Instant::now();
    let _ = yard.fairlead.run(yard.args(&whole)).code(0);
    let mut length = begin.elapsed();
    yard.assert_done_once(&whole);

    let seed = std::env::var("FAIRLEAD_TEST_SEED").ok().map_or_else(
        || u64::from(std::process::id()) << 20 | u64::from(begin.elapsed().subsec_micros()),
        |text| text.parse().expect("a seed"),
    );
    println!("FAIRLEAD_TEST_SEED={seed}; a whole release takes {length:?}");
    let mut moments = Moments(seed);
    let (mut interrupted, mut lost, mut untouched) = (0, 0, 0);
    for round in 0..ROUNDS {
        // One moment out of each thirtieth of the run, so that no part of it is left out.
        let offset = length.mul_f64((round as f64 + moments.share()) / ROUNDS as f64);
        let release = Release::new(&format!("tiny-{round}"), &format!("v1.0.{round}"));
        let begin = Instant::now();
        let mut process = yard.fairlead.start(yard.args(&release));
        while process.lives() && begin.elapsed() < offset {
            std::thread::yield_now();
        }
        if !process.lives() {
            // The machine has less to do by now.
            length = begin.elapsed();
        }
        process.kill();

        let runs = yard.fairlead.run(["runs", "--unfinished", "--json"]).code(0);
        let runs: Value = serde_json::from_str(&runs.stdout).unwrap();
        let finished = match runs.as_array().unwrap().as_slice() {
            [] => {
                // It was killed before the run was on record, or after it had ended.
                untouched += 1;
                yard.fairlead.run(yard.args(&release))
            }
            [run] => {
                interrupted += 1;
                yard.fairlead.run(["resume", run["run"].as_str().unwrap(), "--json"])
            }
            more => panic!("round {round}: {more:#?}"),
        };
        let finished = finished.code(0);
        let run: Value = serde_json::from_str(&finished.stdout).unwrap();
        let id = run["run"].as_str().unwrap();
        let shown = yard.fairlead.run(["show", id, "--json", "--journal"]).code(0);
        let Account { lost: lost_here, again } =
            account(&serde_json::from_str(&shown.stdout).unwrap());
        println!("round {round}: killed at {offset:?}, lost {lost_here}, again {again}");
        lost += lost_here;
        yard.assert_done_once(&release);
    }
    println!("{interrupted} interrupted, {lost} attempts lost, {untouched} outside of the run");
    assert!(interrupted >= ROUNDS / 2, "most moments lie within the run: {interrupted}");
    assert!(lost > 0, "no attempt was ever broken off");
    assert!(begin.elapsed() < Duration::from_secs(600));
}

#[test]
fn each_step_in_turn_is_lost_told_and_made_again() {
    let yard = Yard::new();
    let release = Release::new("tiny", "v1.0.0");
    let steps = ["build", "sbom", "scan", "sign", "promote", "deploy"];
    let mut args = yard.args(&release);
    for step in steps {
        args.push(format!("--inject={step}=lost@1"));
        let stopped = yard.fairlead.run(&args).code(5);
        assert!(stopped.stderr.contains("fairlead resume"), "{}", stopped.stderr);
        let runs = yard.fairlead.run(["runs", "--unfinished", "--json"]).code(0);
        let runs: Value = serde_json::from_str(&runs.stdout).unwrap();
        let run = runs[0]["run"].as_str().unwrap().to_owned();
        args = vec!["resume".to_owned(), run, "--json".to_owned()];
    }
    let done = yard.fairlead.run(&args).code(0);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    for step in steps {
        assert_eq!(run["steps"][step]["attempts"].as_array().unwrap().len(), 2, "{step}");
    }
    yard.assert_done_once(&release);
    let shown = yard.fairlead.run(["show", &args[1], "--json", "--journal"]).code(0);
    assert_eq!(account(&serde_json::from_str(&shown.stdout).unwrap()).lost, steps.len());
}
