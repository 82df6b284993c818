//! The targets of the fuzzer, for a moment each: `FAIRLEAD_FUZZ_SECONDS` says for how long,
//! `FAIRLEAD_FUZZ_SEED` from where. `cargo fuzz` does the same without an end.

#![expect(clippy::print_stderr, reason = "it says what it skipped, and how much was tried")]

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fairlead_tests::fuzz::{Mutator, TARGETS, seeds};

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_comes_in_is_survived() {
    let webhooks = std::env::var_os("FAIRLEAD_WEBHOOKS").map(PathBuf::from);
    if webhooks.is_none() {
        eprintln!(
            "SKIPPED: no recorded webhooks among the seeds: FAIRLEAD_WEBHOOKS names no folder"
        );
    }
    let time = Duration::from_secs(number("FAIRLEAD_FUZZ_SECONDS", 2));
    let seed = number("FAIRLEAD_FUZZ_SEED", 1);
    for (name, target) in TARGETS {
        let seeds = seeds(name, webhooks.as_deref());
        assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()), "{name}: no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let (mut mutator, begun, mut tried) = (Mutator::new(seed), Instant::now(), 0_u64);
        while begun.elapsed() < time || tried < 500 {
            let input = mutator.next(&seeds);
            tried += 1;
            if catch_unwind(|| target(&input)).is_err() {
                let kept =
                    std::env::temp_dir().join(format!("fairlead-fuzz-{name}-{seed}-{tried}"));
                std::fs::write(&kept, &input).unwrap();
                panic!("{name} does not survive input {tried} of seed {seed}: {}", kept.display());
            }
        }
        eprintln!("{name}: {tried} inputs from {} seeds", seeds.len());
    }
}

#[test]
fn a_seed_makes_the_same_inputs_again() {
    let seeds = [b"one".to_vec(), b"two".to_vec()];
    let made = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..100).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
