//! Measures what the journal costs: opening a store, appends one after another as a chain of steps
//! makes them, and appends of many runs at once. Prints microseconds and transitions a second.
//!
//! `latency sqlite [FOLDER]` measures in a new folder within FOLDER, `latency postgres URL` in an
//! empty schema of a database.

#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use fairlead_run::{
    Batch, Epoch, Journal, NewRun, PlanBlob, Record, RecordHash, Request, RunEvent, RunStatus, Seq,
};
use fairlead_step::{Digest, RunId, Workspace};
use fairlead_store::Store;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;

const APPENDS: usize = 800;
/// How long appends of so many runs at once are measured.
const WHILE: Duration = Duration::from_secs(5);

/// A run, and where its chain ends.
struct Chain {
    run: RunId,
    epoch: Epoch,
    seq: Seq,
    hash: RecordHash,
}

fn now() -> Result<Timestamp, Box<dyn Error>> {
    Ok(Timestamp::from_second(1_790_000_000)?)
}

async fn begin(
    journal: &dyn Journal,
    number: u64,
) -> Result<(Chain, fairlead_run::Lease), Box<dyn Error>> {
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
        workspace: Workspace::local("/srv"),
        engine: "0.1.0".into(),
        group: None,
        origin: None,
    };
    let run = RunId::mint(1_790_000_000_000 + number, rand::random());
    let first = Record::first(now()?, request)?;
    let (seq, hash) = (first.seq(), first.hash());
    let new = NewRun { id: run.clone(), plan, first, started_by: None, group: None };
    journal.create(new).await?;
    let lease = journal.acquire(&run).await?;
    Ok((Chain { run, epoch: lease.epoch(), seq, hash }, lease))
}

async fn append(journal: &dyn Journal, chain: &mut Chain) -> Result<(), Box<dyn Error>> {
    let event = RunEvent::Resumed { epoch: chain.epoch };
    let record = Record::seal(chain.seq.next(), now()?, chain.hash, event)?;
    (chain.seq, chain.hash) = (record.seq(), record.hash());
    let batch = Batch {
        run: chain.run.clone(),
        epoch: chain.epoch,
        records: vec![record],
        status: RunStatus::Running,
        wake_at: None,
        taken: vec![],
    };
    Ok(journal.append(batch).await?)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    println!("{what}: median {} µs, 10th {} µs, 90th {} µs", at(50), at(10), at(90));
}

/// Opens stores one after another, the last of which is answered.
async fn opened(
    open: impl AsyncFn() -> Result<Store, Box<dyn Error>>,
) -> Result<Store, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let store = open().await?;
        times.push(begun.elapsed());
        store.close().await;
    }
    report("open", times);
    open().await
}

/// What the disk alone takes.
fn probe(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut synced = Vec::new();
    let mut file = std::fs::File::create(folder.join("probe"))?;
    for _ in 0..200 {
        let begun = Instant::now();
        std::io::Write::write_all(&mut file, &[0; 4096])?;
        file.sync_data()?;
        synced.push(begun.elapsed());
    }
    report("write and sync 4 KiB, for comparison", synced);
    Ok(())
}

async fn measure(store: &Store) -> Result<(), Box<dyn Error>> {
    let journal = store.journal();
    let (mut chain, _lease) = begin(&*journal, 1).await?;
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let begun = Instant::now();
        append(&*journal, &mut chain).await?;
        times.push(begun.elapsed());
    }
    report("append, one after another", times);

    for runs in [1, 8, 50, 200] {
        let begun = try_join_all((0..runs).map(|number| begin(&*journal, 100 + number))).await?;
        let until = Instant::now() + WHILE;
        let tasks = begun.into_iter().map(|(mut chain, _lease)| {
            let journal = &journal;
            async move {
                let mut appends: u64 = 0;
                while Instant::now() < until {
                    append(&**journal, &mut chain).await?;
                    appends += 1;
                }
                Ok::<_, Box<dyn Error>>(appends)
            }
        });
        let appends: u64 = try_join_all(tasks).await?.into_iter().sum();
        println!("{runs} runs at once: {} transitions a second", appends / WHILE.as_secs());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let folder = match arguments[..] {
        ["sqlite", within] => tempfile::tempdir_in(within)?,
        _ => tempfile::tempdir()?,
    };
    let store = match arguments[..] {
        [] | ["sqlite"] | ["sqlite", _] => {
            opened(async || Ok(Store::open(folder.path()).await?)).await?
        }
        ["postgres", url] => opened(async || Ok(Store::connect(url, folder.path()).await?)).await?,
        _ => return Err("say: latency sqlite [FOLDER] | latency postgres URL".into()),
    };
    probe(folder.path())?;
    measure(&store).await?;
    store.close().await;
    Ok(())
}
