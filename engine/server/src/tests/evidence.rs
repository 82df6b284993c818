//! Runs that wait for evidence: what wakes them, and what does not.

use std::sync::atomic::Ordering;

use fairlead_run::RunFilter;
use fairlead_step::Digest;

use super::gates::{parked, start};
use super::harness::{Harness, Serving};

/// The image that the pipelines ask about.
const HEX: &str = "bf07a7fbb825fc0aae7bf4a1177b2b31fcf8a3feeaf7092761e18c859ee52a9c";

fn digest() -> Digest {
    format!("sha256:{HEX}").parse().unwrap()
}

async fn passed(harness: &Harness, run: &str) {
    let over = harness.ended(1).await;
    let over = over.iter().find(|line| line.id.as_str() == run).expect("the run");
    assert_eq!(over.status.name(), "passed");
}

/// A run that asks for proof, which there is now, and would ask again after hours.
async fn asks(harness: &Harness, serving: &Serving, pipeline: &str) -> String {
    let run = start(serving, pipeline).await;
    let waits = parked(harness, &run, "waiting").await;
    assert!(waits.wake_at.is_some(), "it asks again by itself, too");
    harness.proven.store(true, Ordering::Relaxed);
    run
}

#[tokio::test]
async fn a_signature_that_is_pushed_wakes_who_asks_for_it() {
    // One names the image with its repository, the other one by its digest alone.
    for pipeline in ["asking", "asking-there"] {
        let harness = Harness::new();
        let serving = harness.serve().await;
        let run = asks(&harness, &serving, pipeline).await;
        let before = harness.takings().await;
        // Another image's signature does not wake it.
        let other = format!("sha256-{}.sig", HEX.replace('b', "c"));
        serving.notify("n1", "apps/shop", &other, "sig").await;
        if pipeline == "asking-there" {
            for (n, name) in
                ["shop", "apps/shop/shop", "my/apps/shop", "apps/sho"].iter().enumerate()
            {
                let tag = format!("sha256-{HEX}.sig");
                serving.notify(&format!("other{n}"), name, &tag, "sig").await;
            }
        }
        harness.settled().await;
        assert_eq!(harness.takings().await, before, "nobody looked at it");
        parked(&harness, &run, "waiting").await;
        serving.notify("n2", "apps/shop", &format!("sha256-{HEX}.sig"), "sig").await;
        passed(&harness, &run).await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn what_is_attached_by_digest_wakes_who_asks_for_it() {
    for pipeline in ["asking", "asking-there"] {
        let harness = Harness::new();
        harness.registry.attach("apps/shop", "of another", &Digest::sha256(b"another"));
        harness.registry.attach("apps/shop", "signature", &digest());
        let serving = harness.serve().await;
        let run = asks(&harness, &serving, pipeline).await;
        let before = harness.takings().await;
        serving.notify("n1", "apps/shop", "", "a platform").await;
        serving.notify("n2", "apps/shop", "", "of another").await;
        harness.settled().await;
        assert_eq!(harness.takings().await, before, "nobody looked at it");
        harness.registry.asked().await;
        // The registry is away when it is to say what the manifest is about.
        harness.registry.set_away(true);
        serving.notify("n3", "apps/shop", "", "signature").await;
        harness.registry.asked().await;
        harness.registry.set_away(false);
        passed(&harness, &run).await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_registry_that_says_nothing_keeps_no_event() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = asks(&harness, &serving, "asking").await;
    harness.registry.set_away(true);
    serving.notify("n1", "apps/shop", "", "signature").await;
    harness.settled().await;
    parked(&harness, &run, "waiting").await;
    serving.stop().await;
}

#[tokio::test]
async fn a_run_whose_other_steps_go_on_hears_of_it_too() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let serving = harness.serve().await;
    let run = start(&serving, "asking-there").await;
    let asking = async {
        loop {
            let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
            if shown["steps"][0]["status"] == "asking" {
                return shown;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let shown = tokio::time::timeout(std::time::Duration::from_secs(10), asking).await.unwrap();
    assert_eq!((&shown["status"], &shown["wake_at"]), (&"running".into(), &().into()), "{shown}");
    assert!(shown["steps"][0]["due"].is_string(), "{shown}");
    harness.proven.store(true, Ordering::Relaxed);
    serving.notify("n1", "apps/shop", &format!("sha256-{HEX}"), "sig").await;
    let proven = async {
        loop {
            let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
            if shown["steps"][0]["status"] == "passed" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), proven).await.expect("it is woken");
    harness.leave.add_permits(1);
    passed(&harness, &run).await;
    serving.stop().await;
}

#[tokio::test]
async fn the_oldest_of_many_runs_hears_of_it_too() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = asks(&harness, &serving, "asking-there").await;
    harness.leave_lying("free", RunFilter::MOST + 50).await;
    let before = harness.takings().await;
    serving.notify("n1", "apps/shop", &format!("sha256-{HEX}.att"), "sig").await;
    let ended = async {
        let this = RunFilter { run: Some(run.parse().unwrap()), limit: 1, ..RunFilter::default() };
        while harness.store.journal().list(this.clone()).await.unwrap()[0].ended_at.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("it is woken");
    assert!(harness.takings().await - before <= 3, "only those that ask are taken up");
    serving.stop().await;
}
