//! What a store keeps when it is opened again.

use fairlead_plan::ConcurrencyPolicy::Queue;
use fairlead_step::Digest;

use super::admission::group;
use super::driver::{Driver, fact, listed};
use super::result_cache::result;
use super::signals::every_signal;
use super::{run_again, run_id, run_in, time};
use crate::{Admission, AppendError, Journal, ResultCache, RunStatus, check_chain};

/// Checks that a store finds again what it kept. Each call of `open` opens the same store, which is
/// empty at first; what was opened before is dropped then, and the leases that it gave are free soon.
///
/// # Panics
/// At the first promise that is broken.
pub async fn reopened_conformance<J: Journal, R: ResultCache>(open: impl AsyncFn() -> (J, R)) {
    let key = Digest::sha256(b"what went in");
    let (journal, cache) = open().await;
    for number in 1..=3 {
        journal.create(run_in(number, group("g", Queue, 1))).await.expect("created");
    }
    journal.create(run_again(4, run_id(3))).await.expect("created");
    let mut first = Driver::of(&journal, &run_id(1)).await;
    assert_eq!(first.ask(None).await, Admission::Admitted);
    let mut parked = first.batch(vec![fact()], RunStatus::Waiting);
    parked.wake_at = Some(time(7000));
    first.append(parked).await.expect("appended");
    let late = first.batch(vec![fact()], RunStatus::Running);
    for signal in every_signal() {
        journal.post(&run_id(2), time(1), signal).await.expect("posted");
    }
    let posted = journal.signals(&run_id(2)).await.expect("a list");
    cache.remember(&key, result(1)).await.expect("kept");
    let mut lines = Vec::new();
    for number in 1..=4 {
        lines.push(listed(&journal, &run_id(number)).await);
    }
    drop(first);
    drop((journal, cache));

    let (journal, cache) = open().await;
    assert_eq!(cache.recall(&key).await.expect("an answer"), Some(result(1)));
    for mut line in lines {
        line.held = false;
        let mut again = listed(&journal, &line.id).await;
        again.held = false;
        assert_eq!(again, line);
    }
    let stored = journal.load(&run_id(1)).await.expect("the run is there");
    check_chain(&stored.records).expect("a whole chain");
    assert_eq!(stored.records.len(), 3);
    assert_eq!(journal.signals(&run_id(2)).await.expect("a list"), posted);

    let mut second = Driver::of(&journal, &run_id(2)).await;
    let mut third = Driver::of(&journal, &run_id(3)).await;
    let holders = vec![run_id(1)];
    let behind = Some(run_id(1));
    assert_eq!(second.ask(None).await, Admission::Wait { behind, holders: holders.clone() });
    let mut first = Driver::of(&journal, &run_id(1)).await;
    let refused = journal.append(late).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    assert_eq!(first.ask(None).await, Admission::Admitted);
    // The order of creation goes on, too: a newcomer stands behind.
    journal.create(run_in(0, group("g", Queue, 1))).await.expect("created");
    let mut newcomer = Driver::of(&journal, &run_id(0)).await;
    let behind = Some(run_id(3));
    assert_eq!(newcomer.ask(None).await, Admission::Wait { behind, holders });
    first.end().await;
    assert_eq!(second.ask(None).await, Admission::Admitted);
    let later = journal.post(&run_id(3), time(2), every_signal().remove(0)).await.expect("posted");
    assert!(posted.iter().all(|earlier| earlier.id < later), "numbers rise on");
    let holders = vec![run_id(2)];
    let behind = Some(run_id(2));
    assert_eq!(third.ask(None).await, Admission::Wait { behind, holders });
}
