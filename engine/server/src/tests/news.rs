//! Runs that wait for evidence: what wakes them, and what does not.

use std::sync::atomic::Ordering;

use fairlead_run::RunFilter;
use fairlead_step::Digest;

use super::gates::{parked, start};
use super::house::{House, Serving};

/// The image that the pipelines ask about.
const HEX: &str = "bf07a7fbb825fc0aae7bf4a1177b2b31fcf8a3feeaf7092761e18c859ee52a9c";

fn digest() -> Digest {
    format!("sha256:{HEX}").parse().unwrap()
}

async fn passed(house: &House, run: &str) {
    let over = house.ended(1).await;
    let over = over.iter().find(|line| line.id.as_str() == run).expect("the run");
    assert_eq!(over.status.name(), "passed");
}

/// A run that asks for proof, which there is now, and would ask again after hours.
async fn asks(house: &House, serving: &Serving, pipeline: &str) -> String {
    let run = start(serving, pipeline).await;
    let waits = parked(house, &run, "waiting").await;
    assert!(waits.wake_at.is_some(), "it asks again by itself, too");
    house.proven.store(true, Ordering::Relaxed);
    run
}

#[tokio::test]
async fn a_signature_that_is_pushed_wakes_who_asks_for_it() {
    // One names the image with its repository, the other one by its digest alone.
    for pipeline in ["asking", "asking-there"] {
        let house = House::new();
        let serving = house.serve().await;
        let run = asks(&house, &serving, pipeline).await;
        let before = house.takings().await;
        // Another image's signature is no news for it.
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
        house.settled().await;
        assert_eq!(house.takings().await, before, "nobody looked at it");
        parked(&house, &run, "waiting").await;
        serving.notify("n2", "apps/shop", &format!("sha256-{HEX}.sig"), "sig").await;
        passed(&house, &run).await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn what_is_attached_by_digest_wakes_who_asks_for_it() {
    for pipeline in ["asking", "asking-there"] {
        let house = House::new();
        house.registry.attach("apps/shop", "of another", &Digest::sha256(b"another"));
        house.registry.attach("apps/shop", "signature", &digest());
        let serving = house.serve().await;
        let run = asks(&house, &serving, pipeline).await;
        let before = house.takings().await;
        serving.notify("n1", "apps/shop", "", "a platform").await;
        serving.notify("n2", "apps/shop", "", "of another").await;
        house.settled().await;
        assert_eq!(house.takings().await, before, "nobody looked at it");
        house.registry.asked().await;
        // The registry is away when it is to say what the manifest is about.
        house.registry.set_away(true);
        serving.notify("n3", "apps/shop", "", "signature").await;
        house.registry.asked().await;
        house.registry.set_away(false);
        passed(&house, &run).await;
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_registry_that_says_nothing_keeps_no_event() {
    let house = House::new();
    let serving = house.serve().await;
    let run = asks(&house, &serving, "asking").await;
    house.registry.set_away(true);
    serving.notify("n1", "apps/shop", "", "signature").await;
    house.settled().await;
    parked(&house, &run, "waiting").await;
    serving.stop().await;
}

#[tokio::test]
async fn a_run_whose_other_steps_go_on_hears_of_it_too() {
    let house = House::new();
    house.leave.forget_permits(1000);
    let serving = house.serve().await;
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
    house.proven.store(true, Ordering::Relaxed);
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
    house.leave.add_permits(1);
    passed(&house, &run).await;
    serving.stop().await;
}

#[tokio::test]
async fn the_oldest_of_many_runs_hears_of_it_too() {
    let house = House::new();
    let serving = house.serve().await;
    let run = asks(&house, &serving, "asking-there").await;
    house.leave_lying("free", RunFilter::MOST + 50).await;
    let before = house.takings().await;
    serving.notify("n1", "apps/shop", &format!("sha256-{HEX}.att"), "sig").await;
    let ended = async {
        let this = RunFilter { run: Some(run.parse().unwrap()), limit: 1, ..RunFilter::default() };
        while house.store.journal().list(this.clone()).await.unwrap()[0].ended_at.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("it is woken");
    assert!(house.takings().await - before <= 3, "only those that ask are taken up");
    serving.stop().await;
}
