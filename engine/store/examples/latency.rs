//! Measures what the journal costs: opening a new store, appends one after another as a chain of
//! steps makes them, and appends of many runs at once. Prints microseconds.

#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

use std::error::Error;
use std::time::{Duration, Instant};

use fairlead_run::{Epoch, Journal, NewRun, PlanBlob, Record, Request, Run, RunEvent};
use fairlead_step::{Digest, RunId};
use fairlead_store::Store;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;

const APPENDS: usize = 800;
const RUNS: u64 = 50;

async fn begin(journal: &dyn Journal, number: u64) -> Result<Run, Box<dyn Error>> {
    let plan = PlanBlob::of(&serde_json::from_value(json!({
        "format": "fairlead.dev/plan/v1", "name": "latency", "source_name": "latency.yaml",
        "source_digest": Digest::sha256(b"latency"), "steps": [],
    }))?)?;
    let request = Request {
        pipeline: "latency".into(),
        plan: plan.digest().clone(),
        params: json!({}),
        event: json!({}),
        event_id: None,
        by: "somebody".into(),
        workspace: "/srv".into(),
        engine: "0.1.0".into(),
    };
    let id = RunId::mint(1_790_000_000_000 + number, number);
    let first = Record::first(Timestamp::from_second(1_790_000_000)?, request)?;
    journal.create(NewRun { id: id.clone(), plan, first, started_by: None }).await?;
    Ok(Run::restore(&journal.load(&id).await?)?)
}

async fn append(journal: &dyn Journal, run: &mut Run, epoch: Epoch) -> Result<(), Box<dyn Error>> {
    let records = run.seal(run.requested_at(), vec![RunEvent::Resumed { epoch }])?;
    journal.append(run.id(), epoch, records.clone()).await?;
    for record in &records {
        run.apply(record)?;
    }
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    println!("{what}: median {} µs, 10th {} µs, 90th {} µs", at(50), at(10), at(90));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut opened = Vec::new();
    for _ in 0..20 {
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        let store = Store::open(folder.path()).await?;
        opened.push(begun.elapsed());
        store.close().await;
    }
    report("open a new store", opened);

    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path()).await?;
    let journal = store.journal();
    let mut run = begin(&*journal, 1).await?;
    let lease = journal.acquire(run.id()).await?;
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let begun = Instant::now();
        append(&*journal, &mut run, lease.epoch()).await?;
        times.push(begun.elapsed());
    }
    report("append, one after another", times);

    let mut synced = Vec::new();
    let mut file = std::fs::File::create(folder.path().join("probe"))?;
    for _ in 0..200 {
        let begun = Instant::now();
        std::io::Write::write_all(&mut file, &[0; 4096])?;
        file.sync_data()?;
        synced.push(begun.elapsed());
    }
    report("write and sync 4 KiB, for comparison", synced);

    let begun = Instant::now();
    try_join_all((100..100 + RUNS).map(|number| {
        let journal = &journal;
        async move {
            let mut run = begin(&**journal, number).await?;
            let lease = journal.acquire(run.id()).await?;
            for _ in 0..20 {
                append(&**journal, &mut run, lease.epoch()).await?;
            }
            Ok::<_, Box<dyn Error>>(())
        }
    }))
    .await?;
    let each = begun.elapsed() / (u32::try_from(RUNS)? * 20);
    println!("append, {RUNS} runs at once: {} µs each", each.as_micros());
    store.close().await;
    Ok(())
}
