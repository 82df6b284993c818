//! The simulator: random pipelines with every feature, driven by the real dispatcher on several
//! servers over one store, while servers crash, appends fail, leases are stolen, hints are lost and
//! clocks jump. Time is virtual, and everything follows from a seed.
//!
//! `FAIRLEAD_SIM_SEEDS` says how many seeds are tried (10,000), `FAIRLEAD_SIM_FROM` with which they
//! begin, and `FAIRLEAD_SIM_SEED` repeats one of them with its story. A seed that fails is made smaller
//! until nothing can be left out, and shown.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a case that fails is shown, and so is progress"
)]

mod case;
mod check;
mod ports;
mod rng;
mod shrink;
mod simulation;
mod steps;
mod store;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use case::Case;
use store::Plant;

/// How many seeds are tried where nobody says.
const SEEDS: u64 = 10_000;

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how many seeds")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Tries the seeds on every processor, and answers the first that failed, with its problem.
fn try_seeds(seeds: std::ops::Range<u64>, plant: Option<Plant>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let loud = seeds.end - seeds.start > 100_000;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().expect("no panic").is_some() {
                        break;
                    }
                    if loud && seed.is_multiple_of(10_000) {
                        eprintln!("seed {seed} of {}", seeds.end);
                    }
                    if let Err(problem) = simulation::live(&Case::random(seed), plant).problem() {
                        failed.lock().expect("no panic").get_or_insert((seed, problem));
                    }
                }
            });
        }
    });
    failed.into_inner().expect("no panic")
}

/// Panics inside a simulated step are part of the case; only the test's own are shown.
fn quiet() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let planned = info.payload().downcast_ref::<&str>() == Some(&steps::PANIC);
        if !planned {
            told(info);
        }
    }));
}

#[test]
fn every_seed_keeps_the_promises() {
    quiet();
    if let Some(seed) = setting("FAIRLEAD_SIM_SEED") {
        println!("{}", Case::random(seed));
        let end = simulation::live(&Case::random(seed), None);
        println!("{}", end.story);
        end.problem().expect("the seed keeps the promises");
        return;
    }
    let from = setting("FAIRLEAD_SIM_FROM").unwrap_or(0);
    let seeds = setting("FAIRLEAD_SIM_SEEDS").unwrap_or(SEEDS);
    if let Some((seed, problem)) = try_seeds(from..from + seeds, None) {
        let (case, end) = shrink::smaller(Case::random(seed), None);
        panic!(
            "seed {seed}: {problem}\n\nthe smallest case:\n{case}\n{}\n{}\n\nagain: \
             FAIRLEAD_SIM_SEED={seed} cargo test -p fairlead-exec --test sim",
            end.problem().err().unwrap_or_default(),
            end.story
        );
    }
}

/// A test that cannot fail proves nothing: faults of the engine's own are planted, and found.
#[test]
fn planted_faults_are_found() {
    quiet();
    for plant in Plant::ALL {
        let found = try_seeds(0..3000, Some(plant));
        let (seed, problem) = found.unwrap_or_else(|| panic!("{plant:?} was not found"));
        println!("{plant:?}: seed {seed}: {problem}");
        assert!(problem.contains(plant.shows()), "{plant:?}: {problem}");
    }
}
