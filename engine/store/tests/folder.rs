//! A store in a folder: opened again, opened twice, and refused when it is not ours to open.

use std::path::Path;
use std::time::Duration;

use fairlead_plan::{ConcurrencyPolicy, Plan, RunOutcome};
use fairlead_run::{
    Admission, AppendError, Batch, Created, Epoch, Group, Journal, LeaseError, LogKey, NewRun,
    PlanBlob, Record, Request, Run, RunEvent, RunFilter, RunStatus, Signal, StoreError, Wake,
};
use fairlead_step::{Digest, RunId, Workspace};
use fairlead_store::{OpenError, Store};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

fn run_id(number: u64) -> RunId {
    RunId::mint(1_790_000_000_000 + number, number)
}

fn time() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("test data")
}

fn new_run(number: u64) -> NewRun {
    new_run_with(number, None)
}

fn new_run_in(number: u64, group: Group) -> NewRun {
    new_run_with(number, Some(group))
}

fn new_run_with(number: u64, group: Option<Group>) -> NewRun {
    let plan: Plan = serde_json::from_value(json!({
        "format": "fairlead.dev/plan/v1", "name": "test", "source_name": "test.yaml",
        "source_digest": Digest::sha256(b"test"), "steps": [],
    }))
    .expect("test data");
    let plan = PlanBlob::of(&plan).expect("test data");
    let request = Request {
        pipeline: "test".into(),
        plan: plan.digest().clone(),
        params: json!({}),
        event: json!({}),
        event_id: None,
        by: "somebody".into(),
        workspace: Workspace::local("/srv"),
        engine: "0.1.0".into(),
        group: group.as_ref().map(|group| group.name.clone()),
        origin: None,
    };
    NewRun {
        id: run_id(number),
        plan,
        first: Record::first(time(), request).expect("test data"),
        started_by: None,
        group,
    }
}

fn batch(number: u64, epoch: Epoch, records: Vec<Record>) -> Batch {
    let status = RunStatus::Running;
    Batch { run: run_id(number), epoch, records, status, wake_at: None, taken: vec![] }
}

async fn next(journal: &dyn Journal, number: u64, epoch: Epoch) -> Vec<Record> {
    let run =
        Run::restore(&journal.load(&run_id(number)).await.expect("test data")).expect("test data");
    run.seal(time(), vec![RunEvent::Resumed { epoch }]).expect("test data")
}

#[tokio::test]
async fn what_was_kept_is_found_again_however_the_store_was_left() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..6 {
        let store = Store::open(folder.path()).await.unwrap();
        let created = store.journal().create(new_run(number)).await.unwrap();
        assert_eq!(created, Created::New);
        let lease = store.journal().acquire(&run_id(number)).await.unwrap();
        let records = next(&*store.journal(), number, lease.epoch()).await;
        store.journal().append(batch(number, lease.epoch(), records)).await.unwrap();
        if number % 2 == 0 {
            store.close().await;
            let late = store.journal().create(new_run(99)).await;
            assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
        }
    }
    let store = Store::open(folder.path()).await.unwrap();
    let all = store.journal().list(RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap();
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|run| !run.held), "a lease goes with its holder");
    for number in 0..6 {
        assert_eq!(store.journal().load(&run_id(number)).await.unwrap().records.len(), 2);
    }
    let locks = std::fs::read_dir(folder.path().join("leases")).unwrap().count();
    assert_eq!(locks, 1, "only the gate is left of the locks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_folder_at_once_and_write_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let stores = join_all((0..6).map(|_| Store::open(folder.path()))).await;
    let stores: Vec<Store> = stores.into_iter().map(Result::unwrap).collect();
    let created = stores.iter().enumerate().flat_map(|(i, store)| {
        (0..5).map(move |n| async move {
            store.journal().create(new_run(i as u64 * 5 + n)).await.unwrap()
        })
    });
    assert_eq!(join_all(created).await.len(), 30);
    let all = RunFilter { limit: 100, ..RunFilter::default() };
    assert_eq!(stores[0].journal().list(all).await.unwrap().len(), 30);
}

#[tokio::test]
async fn two_stores_on_one_folder_share_the_leases() {
    let folder = tempfile::tempdir().unwrap();
    let one = Store::open(folder.path()).await.unwrap();
    let two = Store::open(folder.path()).await.unwrap();
    one.journal().create(new_run(1)).await.unwrap();
    let lease = one.journal().acquire(&run_id(1)).await.unwrap();
    let refused = two.journal().acquire(&run_id(1)).await;
    assert!(matches!(refused, Err(LeaseError::Held { .. })), "{refused:?}");
    let list = two.journal().list(RunFilter { limit: 1, ..RunFilter::default() }).await.unwrap();
    assert!(list[0].held);

    let records = next(&*one.journal(), 1, lease.epoch()).await;
    let old = lease.epoch();
    drop(lease);
    let taken = two.journal().acquire(&run_id(1)).await.unwrap();
    let fenced = one.journal().append(batch(1, old, records.clone())).await;
    assert!(matches!(fenced, Err(AppendError::Fenced { .. })), "{fenced:?}");
    two.journal().append(batch(1, taken.epoch(), records)).await.unwrap();
}

async fn database(folder: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", folder.join("fairlead.db").display());
    SqliteConnection::connect(&format!("{url}?mode=rwc")).await.expect("a database")
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_alone() {
    let foreign = tempfile::tempdir().unwrap();
    let mut db = database(foreign.path()).await;
    db.execute("CREATE TABLE recipes (name TEXT)").await.unwrap();
    db.close().await.unwrap();
    let before = std::fs::read(foreign.path().join("fairlead.db")).unwrap();
    let error = Store::open(foreign.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read(foreign.path().join("fairlead.db")).unwrap(), before);

    let newer = tempfile::tempdir().unwrap();
    Store::open(newer.path()).await.unwrap().close().await;
    let mut db = database(newer.path()).await;
    db.execute("PRAGMA user_version = 9").await.unwrap();
    db.close().await.unwrap();
    let error = Store::open(newer.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9, known: 8, .. }), "{error}");
    assert!(error.to_string().ends_with("has version 9, and this build knows up to 8"), "{error}");

    let garbage = tempfile::tempdir().unwrap();
    std::fs::write(garbage.path().join("fairlead.db"), "not a database at all ".repeat(100))
        .unwrap();
    let error = Store::open(garbage.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(file.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");
}

#[tokio::test]
async fn what_was_changed_behind_our_back_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for number in [1, 2, 3] {
        store.journal().create(new_run(number)).await.unwrap();
    }
    let mut db = database(folder.path()).await;
    db.execute("UPDATE plan SET bytes = x'7b7d'").await.unwrap();
    let error = store.journal().load(&run_id(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");

    let plan = new_run(1).plan;
    sqlx::query("UPDATE plan SET bytes = ?")
        .bind(plan.bytes().to_vec())
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::query("UPDATE record SET bytes = replace(bytes, '\"v\":1', '\"v\":9') WHERE run = ?")
        .bind(run_id(2).as_str())
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::query("UPDATE record SET bytes = replace(bytes, 'somebody', 'nobody') WHERE run = ?")
        .bind(run_id(3).as_str())
        .execute(&mut db)
        .await
        .unwrap();
    store.journal().load(&run_id(1)).await.unwrap();
    let error = store.journal().load(&run_id(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
    // The hash of a record is in the one behind it, so the last one may lie until it has a follower.
    let lease = store.journal().acquire(&run_id(3)).await.unwrap();
    let stored = store.journal().load(&run_id(3)).await.unwrap();
    assert_ne!(stored.records[0], new_run(3).first);
    let honest = Run::replay(
        run_id(3),
        std::sync::Arc::new(serde_json::from_slice(plan.bytes()).unwrap()),
        &[new_run(3).first],
    )
    .unwrap();
    let records = honest.seal(time(), vec![RunEvent::Resumed { epoch: lease.epoch() }]).unwrap();
    store.journal().append(batch(3, lease.epoch(), records)).await.unwrap();
    let stored = store.journal().load(&run_id(3)).await.unwrap();
    assert!(Run::restore(&stored).is_err());
}

#[tokio::test]
async fn a_log_that_is_being_written_or_was_edited_is_shown_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let key = LogKey { run: run_id(1), step: "build".parse().unwrap(), attempt: 2 };
    let logs = folder.path().join("logs").join(run_id(1).as_str());
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("notes.txt"), "not a log").unwrap();
    let written = "2026-01-01T00:00:00Z o one\n\u{fffd} edited\n2026-01-01T00:00:00Z e hal";
    std::fs::write(logs.join("build.2.log"), written).unwrap();
    let page = store.logs().read(&key, 0, 1 << 16).await.unwrap();
    let texts: Vec<&str> = page.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["one", "\u{fffd} edited"]);
    assert_eq!(store.logs().logs_of(&run_id(1)).await.unwrap(), [key]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_folder_wake_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let one = Store::open(folder.path()).await.unwrap();
    let two = Store::open(folder.path()).await.unwrap();
    one.journal().create(new_run(1)).await.unwrap();
    let wakes = folder.path().join("wakes");
    assert!(!wakes.exists(), "who does not listen pays nothing");

    let mut heard = two.journal().wakes();
    let notice = Signal::Notice { about: "sha256:abc".to_owned(), why: "it is there".to_owned() };
    one.journal().post(&run_id(1), time(), notice.clone()).await.unwrap();
    hear(&mut heard, &Wake::Run(run_id(1))).await;
    let group = Group {
        name: "g".to_owned(),
        policy: ConcurrencyPolicy::Queue,
        max: std::num::NonZeroU32::MIN,
    };
    one.journal().create(new_run_in(2, group)).await.unwrap();
    hear(&mut heard, &Wake::Admission).await;
    let lease = one.journal().acquire(&run_id(2)).await.unwrap();
    let run = Run::restore(&one.journal().load(&run_id(2)).await.unwrap()).unwrap();
    let outcome = RunOutcome::Passed;
    let end = run.seal(time(), vec![RunEvent::Ended { outcome }]).unwrap();
    let end = Batch { status: RunStatus::Ended(outcome), ..batch(2, lease.epoch(), end) };
    one.journal().append(end).await.unwrap();
    hear(&mut heard, &Wake::Admission).await;
    assert_eq!(std::fs::read_dir(&wakes).unwrap().count(), 0, "nothing is left of the hints");

    // A folder that is gone wakes nobody, and breaks nothing.
    std::fs::remove_dir_all(&wakes).unwrap();
    one.journal().post(&run_id(1), time(), notice).await.unwrap();
    two.close().await;
    while heard.next().await.is_some() {}
}

async fn hear(wakes: &mut BoxStream<'static, Wake>, wanted: &Wake) {
    let heard = async { while wakes.next().await.expect("the store is open") != *wanted {} };
    tokio::time::timeout(Duration::from_secs(10), heard).await.expect("a hint");
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_forward() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = database(folder.path()).await;
    db.execute("PRAGMA journal_mode = WAL").await.unwrap();
    db.execute(include_str!("../migrations/0001_journal.sql")).await.unwrap();
    let plan = new_run(1).plan;
    sqlx::query("INSERT INTO plan (digest, bytes) VALUES (?, ?)")
        .bind(plan.digest().to_string())
        .bind(plan.bytes().to_vec())
        .execute(&mut db)
        .await
        .unwrap();
    // As the first version wrote them: one that has ended, one that was told to stop, one that runs.
    for (number, status, ended_at) in
        [(2_u64, "passed", Some(7_i64)), (3, "cancelling", None), (1, "running", None)]
    {
        sqlx::query(
            "INSERT INTO run (id, pipeline, plan, status, requested_by, requested_at, ended_at, \
             seq, epoch) VALUES (?, 'test', ?, ?, 'somebody', ?, ?, 1, 4)",
        )
        .bind(run_id(number).as_str())
        .bind(plan.digest().to_string())
        .bind(status)
        .bind(time().as_microsecond())
        .bind(ended_at)
        .execute(&mut db)
        .await
        .unwrap();
        sqlx::query("INSERT INTO record (run, seq, bytes) VALUES (?, 1, ?)")
            .bind(run_id(number).as_str())
            .bind(new_run(number).first.bytes())
            .execute(&mut db)
            .await
            .unwrap();
    }
    db.execute(
        "INSERT INTO event (key, id, received_at, document) VALUES ('key', 'id', 5, '{}'); \
         INSERT INTO event_run (key, pipeline, run) SELECT 'key', 'test', id FROM run \
         WHERE status = 'passed'",
    )
    .await
    .unwrap();
    db.close().await.unwrap();

    let store = Store::open(folder.path()).await.unwrap();
    let journal = store.journal();
    let all = journal.list(RunFilter { limit: 9, ..RunFilter::default() }).await.unwrap();
    let lines: Vec<_> = all.iter().map(|run| (run.id.clone(), run.status)).collect();
    let known = [
        (run_id(3), RunStatus::Cancelling),
        (run_id(2), RunStatus::Ended(RunOutcome::Passed)),
        (run_id(1), RunStatus::Running),
    ];
    assert_eq!(lines, known);
    assert!(all.iter().all(|run| run.group.is_none() && run.origin.is_none() && !run.signaled));
    assert_eq!(store.events().runs_of("key").await.unwrap()[0].run, run_id(2));

    let lease = journal.acquire(&run_id(1)).await.unwrap();
    assert_eq!(lease.epoch(), Epoch(5));
    let records = next(&*journal, 1, lease.epoch()).await;
    let most = std::num::NonZeroU32::new(1);
    let admitted = journal.admit(batch(1, lease.epoch(), records), most).await.unwrap();
    assert_eq!(admitted, Admission::Admitted);
    journal.create(new_run(4)).await.unwrap();
    store.close().await;

    let mut db = database(folder.path()).await;
    let numbers: Vec<(String, i64)> = sqlx::query_as("SELECT id, number FROM run ORDER BY number")
        .fetch_all(&mut db)
        .await
        .unwrap();
    let ids: Vec<_> = (1..).zip(1..=4).map(|(n, id)| (run_id(id).to_string(), n)).collect();
    assert_eq!(numbers, ids, "the order of creation goes on");
}

/// A push to the tag `stable` as an older build stored it: nothing but its document says what it is.
fn pushed(number: u64, digest: &str, at: Option<&str>) -> (String, String) {
    let document = json!({
        "specversion": "1.0", "type": "dev.fairlead.image.pushed.v1",
        "data": { "repository": "registry.example.com/shop", "tag": "stable", "digest": digest, "at": at },
    });
    (format!("key-{number}"), document.to_string())
}

#[tokio::test]
async fn the_history_of_tags_is_found_in_a_database_of_the_third_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = database(folder.path()).await;
    db.execute("PRAGMA journal_mode = WAL").await.unwrap();
    for migration in [
        include_str!("../migrations/0001_journal.sql"),
        include_str!("../migrations/0002_engine.sql"),
        include_str!("../migrations/0003_append.sql"),
    ] {
        db.execute(migration).await.unwrap();
    }
    let digest = |content: &str| fairlead_step::Digest::sha256(content.as_bytes()).to_string();
    let late = "2026-01-02T03:04:05.000000007Z";
    let mut events = vec![
        ("no json".to_owned(), "dev.fairlead.image.pushed.v1".to_owned()),
        ("damaged".to_owned(), "{\"dev.fairlead.image.pushed.v1\"".to_owned()),
        ("git".to_owned(), "{\"type\":\"dev.fairlead.git.pushed.v1\"}".to_owned()),
    ];
    events.extend((1..=70).map(|n| pushed(n, &digest(&n.to_string()), Some(late))));
    let untagged = pushed(99, "", None).1.replace("\"stable\"", "null");
    events.push(("untagged".to_owned(), untagged));
    for (key, document) in events {
        sqlx::query("INSERT INTO event (key, id, received_at, document) VALUES (?, ?, 5, ?)")
            .bind(&key)
            .bind(&key)
            .bind(&document)
            .execute(&mut db)
            .await
            .unwrap();
    }
    db.execute("UPDATE event SET published_at = 6, handled_at = 7 WHERE key <> 'key-70'")
        .await
        .unwrap();
    db.close().await.unwrap();

    let store = Store::open(folder.path()).await.unwrap();
    let events = store.events();
    let history = events.history("registry.example.com/shop:stable").await.unwrap();
    let keys: Vec<String> = history.iter().map(|push| push.key.clone()).collect();
    let wanted: Vec<String> = (7..=70).rev().map(|n| format!("key-{n}")).collect();
    assert_eq!(keys, wanted, "the last 64");
    assert_eq!(history[0].digest.to_string(), digest("70"));
    assert_eq!(history[0].at.map(|at| at.to_string()).as_deref(), Some(late));
    assert_eq!(history[0].number, 70);
    let due = events.due(9).await.unwrap();
    assert_eq!(due.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["key-70"]);
    assert_eq!(events.unpublished(9).await.unwrap().len(), 1);
}
