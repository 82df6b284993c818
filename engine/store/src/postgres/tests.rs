//! What only a database that several servers share can show.

#[path = "../../tests/server/mod.rs"]
mod server;

use std::time::Duration;

use fairlead_plan::{ConcurrencyPolicy, RunOutcome};
use fairlead_run::{
    Admission, AppendError, Batch, Epoch, Group, Inserted, Journal, LeaseError, LogKey, LogLine,
    NewEvent, NewRun, PlanBlob, Record, Request, RunEvent, RunFilter, RunStatus, Signal,
    StoreError, Wake,
};
use fairlead_step::{RunId, Stream, Workspace};
use futures::StreamExt as _;
use futures::future::{join, join_all};
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::json;
use server::{Schema, Server};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::Options;
use crate::{Base, OpenError, Store};

/// Short enough to wait for, and long enough for a machine that is busy.
const TTL: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    schema: Schema,
    folder: TempDir,
}

impl House {
    async fn new() -> Option<Self> {
        Some(Self { schema: Schema::new().await?, folder: tempfile::tempdir().unwrap() })
    }

    /// One more server.
    async fn store(&self) -> Store {
        open(&self.schema.url, &self.folder).await
    }
}

async fn open(url: &str, folder: &TempDir) -> Store {
    Store::connect_with(url, folder.path(), Options { lease_ttl: TTL }).await.unwrap()
}

fn run_id(number: u64) -> RunId {
    RunId::mint(1_790_000_000_000 + number, number)
}

fn time() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn new_run(number: u64, group: Option<Group>) -> NewRun {
    let plan = PlanBlob::new("{}");
    let request = Request {
        pipeline: "test".to_owned(),
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
    let first = Record::first(time(), request).unwrap();
    NewRun { id: run_id(number), plan, first, started_by: None, group }
}

/// What comes behind `last`.
fn batch(run: &RunId, epoch: Epoch, last: &Record, event: RunEvent) -> Batch {
    let status = if let RunEvent::Ended { outcome } = &event {
        RunStatus::Ended(*outcome)
    } else {
        RunStatus::Running
    };
    let record = Record::seal(last.seq().next(), time(), last.hash(), event).unwrap();
    Batch { run: run.clone(), epoch, records: vec![record], status, wake_at: None, taken: vec![] }
}

fn resumed() -> RunEvent {
    RunEvent::Resumed { epoch: Epoch(1) }
}

async fn append(journal: &dyn Journal, number: u64, epoch: Epoch) -> Result<(), AppendError> {
    let stored = journal.load(&run_id(number)).await?;
    let last = stored.records.last().unwrap();
    journal.append(batch(&run_id(number), epoch, last, resumed())).await
}

impl Store {
    /// As if the process were stopped, or cut off: nothing is renewed, nothing is given back.
    fn stop_renewing(&self) {
        let Base::Postgres(postgres) = &self.base else { panic!("a store in Postgres") };
        postgres.leases.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_renewed_is_taken_over_and_its_holder_fenced() {
    let Some(house) = House::new().await else { return };
    let (one, two) = (house.store().await, house.store().await);
    let (mine, yours) = (one.journal(), two.journal());
    mine.create(new_run(1, None)).await.unwrap();
    let begun = Instant::now();
    let lease = mine.acquire(&run_id(1)).await.unwrap();
    // As long as it is renewed, it lasts.
    while begun.elapsed() < TTL * 2 {
        let refused = yours.acquire(&run_id(1)).await;
        assert!(matches!(refused, Err(LeaseError::Held { .. })), "{refused:?}");
        sleep(TTL / 6).await;
    }
    assert!(!lease.lost().is_cancelled());
    append(&*mine, 1, lease.epoch()).await.unwrap();

    let mut heard = yours.wakes();
    hear(&mut heard, &Wake::All).await;
    one.stop_renewing();
    let stopped = Instant::now();
    // Nobody posts anything: that the lease has ended is the hint.
    hear(&mut heard, &Wake::Run(run_id(1))).await;
    let taken = yours.acquire(&run_id(1)).await.expect("it has ended");
    assert!(stopped.elapsed() > TTL / 2, "too early: {:?}", stopped.elapsed());
    assert!(taken.epoch() > lease.epoch());
    match append(&*mine, 1, lease.epoch()).await {
        Err(AppendError::Fenced { held, current, .. }) => {
            assert_eq!((held, current), (lease.epoch(), taken.epoch()));
        }
        other => panic!("an old epoch wrote: {other:?}"),
    }
    append(&*yours, 1, taken.epoch()).await.unwrap();
    // Giving back the old one does not give back the new one.
    drop(lease);
    one.close().await;
    let third = house.store().await;
    let refused = third.journal().acquire(&run_id(1)).await;
    assert!(matches!(refused, Err(LeaseError::Held { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_cannot_renew_hears_of_it_before_the_lease_ends() {
    let Some(house) = House::new().await else { return };
    let (one, two) = (house.store().await, house.store().await);
    one.journal().create(new_run(1, None)).await.unwrap();
    let lease = one.journal().acquire(&run_id(1)).await.unwrap();
    // The server hangs over the renewals.
    let mut other = house.schema.connection().await;
    let mut hold = other.begin().await.unwrap();
    hold.execute("LOCK TABLE lease IN SHARE MODE").await.unwrap();
    let begun = Instant::now();
    timeout(PATIENCE, lease.lost().cancelled()).await.expect("the holder hears of it");
    assert!(begun.elapsed() < TTL, "too late: {:?}", begun.elapsed());
    let list = two.journal().list(RunFilter { limit: 1, ..RunFilter::default() }).await.unwrap();
    assert!(list[0].held, "nobody can have it yet");
    hold.rollback().await.unwrap();
    // It is not renewed any more, though the server answers again.
    let begun = Instant::now();
    while two.journal().acquire(&run_id(1)).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "a lost lease does not end");
        sleep(TTL / 30).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_lease_is_anothers_hears_of_it() {
    let Some(house) = House::new().await else { return };
    // Of that one must hear with the next renewal, and not only when time is up.
    let ttl = TTL * 4;
    let options = Options { lease_ttl: ttl };
    let store = Store::connect_with(&house.schema.url, house.folder.path(), options).await.unwrap();
    for number in 1..=2 {
        store.journal().create(new_run(number, None)).await.unwrap();
    }
    let lost = store.journal().acquire(&run_id(1)).await.unwrap();
    let kept = store.journal().acquire(&run_id(2)).await.unwrap();
    let mut db = house.schema.connection().await;
    sqlx::query("UPDATE lease SET token = 1, holder = 'another' WHERE run = $1")
        .bind(run_id(1).as_str())
        .execute(&mut db)
        .await
        .unwrap();
    timeout(ttl / 2, lost.lost().cancelled()).await.expect("the holder hears of it");
    sleep(ttl).await;
    assert!(!kept.lost().is_cancelled(), "the others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_is_free_for_all_soon() {
    let Some(house) = House::new().await else { return };
    // With leases that would last long.
    let long = Options { lease_ttl: Duration::from_secs(3600) };
    let one = Store::connect_with(&house.schema.url, house.folder.path(), long).await.unwrap();
    let two = house.store().await;
    one.journal().create(new_run(1, None)).await.unwrap();
    drop(one.journal().acquire(&run_id(1)).await.unwrap());
    // Here at once.
    drop(one.journal().acquire(&run_id(1)).await.unwrap());
    let begun = Instant::now();
    while two.journal().acquire(&run_id(1)).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "it was not given back");
        sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let lease = loop {
        if let Ok(lease) = one.journal().acquire(&run_id(1)).await {
            break lease;
        }
        assert!(begun.elapsed() < PATIENCE, "it was not given back");
        sleep(Duration::from_millis(20)).await;
    };
    drop(lease);
    one.close().await;
    two.journal().acquire(&run_id(1)).await.expect("closing waits for it");
}

async fn hear(wakes: &mut BoxStream<'static, Wake>, wanted: &Wake) {
    let heard = async { while wakes.next().await.expect("the store is open") != *wanted {} };
    timeout(PATIENCE, heard).await.expect("a hint");
}

fn group() -> Group {
    let policy = ConcurrencyPolicy::Queue;
    Group { name: "g".to_owned(), policy, max: std::num::NonZeroU32::MIN }
}

fn notice() -> Signal {
    Signal::Notice { about: "sha256:abc".to_owned(), why: "it is there".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_wake_each_other() {
    let Some(house) = House::new().await else { return };
    let (one, two) = (house.store().await, house.store().await);
    let mut heard = two.journal().wakes();
    hear(&mut heard, &Wake::All).await;
    // Another schema of the same database is another store.
    let Some(next_door) = House::new().await else { return };
    let third = next_door.store().await;
    third.journal().create(new_run(7, None)).await.unwrap();
    third.journal().post(&run_id(7), time(), notice()).await.unwrap();

    one.journal().create(new_run(1, Some(group()))).await.unwrap();
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Wake::Admission));
    one.journal().post(&run_id(1), time(), notice()).await.unwrap();
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Wake::Run(run_id(1))));
    let lease = one.journal().acquire(&run_id(1)).await.unwrap();
    let last = one.journal().load(&run_id(1)).await.unwrap().records.remove(0);
    let admitted = batch(&run_id(1), lease.epoch(), &last, RunEvent::Admitted);
    let last = admitted.records[0].clone();
    let admission = one.journal().admit(admitted, None).await.unwrap();
    assert_eq!(admission, Admission::Admitted);
    let end = RunEvent::Ended { outcome: RunOutcome::Passed };
    one.journal().append(batch(&run_id(1), lease.epoch(), &last, end)).await.unwrap();
    assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Wake::Admission));

    // A listener whose connection breaks hears that it may have missed something.
    let mut db = house.schema.connection().await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE (query LIKE 'LISTEN%' OR query LIKE '%FROM lease ORDER BY until%') \
           AND pid <> pg_backend_pid()",
    )
    .execute(&mut db)
    .await
    .unwrap();
    hear(&mut heard, &Wake::All).await;
    one.journal().create(new_run(2, Some(group()))).await.unwrap();
    hear(&mut heard, &Wake::Admission).await;
    two.close().await;
    assert!(timeout(PATIENCE, heard.count()).await.is_ok(), "closing ends the stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_leaves_room_is_told_to_every_server_whose_runs_may_be_next() {
    let Some(house) = House::new().await else { return };
    let (one, two) = (house.store().await, house.store().await);
    let pair = Group { max: std::num::NonZeroU32::new(2).unwrap(), ..group() };
    for number in 1..=3 {
        one.journal().create(new_run(number, Some(pair.clone()))).await.unwrap();
    }
    let mut heard = two.journal().wakes();
    hear(&mut heard, &Wake::All).await;
    let mut leases = Vec::new();
    for number in 1..=2 {
        let lease = one.journal().acquire(&run_id(number)).await.unwrap();
        let last = one.journal().load(&run_id(number)).await.unwrap().records.remove(0);
        let batch = batch(&run_id(number), lease.epoch(), &last, RunEvent::Admitted);
        assert_eq!(one.journal().admit(batch, None).await.unwrap(), Admission::Admitted);
        leases.push(lease);
        assert_eq!(timeout(PATIENCE, heard.next()).await.unwrap(), Some(Wake::Admission));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_see_each_others_logs_and_runs() {
    let Some(house) = House::new().await else { return };
    let (one, two) = (house.store().await, house.store().await);
    one.journal().create(new_run(1, None)).await.unwrap();
    let key = LogKey { run: run_id(1), step: "scan".parse().unwrap(), attempt: 1 };
    let line = |text: &str| LogLine { at: time(), stream: Stream::Stdout, text: text.to_owned() };
    one.logs().append(&key, vec![line("a\u{0}b")]).await.unwrap();
    two.logs().append(&key, vec![line("c")]).await.unwrap();
    let page = two.logs().read(&key, 0, 1000).await.unwrap();
    assert_eq!(page.lines, [line("a\u{0}b"), line("c")]);
    assert!(page.at_end);
    // Many at once, from both: every line is there once.
    let lines = (0..60).map(|n| {
        let (store, key) = (if n % 2 == 0 { &one } else { &two }, &key);
        let lines = vec![line(&n.to_string())];
        async move { store.logs().append(key, lines).await.unwrap() }
    });
    join_all(lines).await;
    let page = one.logs().read(&key, page.next, 100_000).await.unwrap();
    let mut texts: Vec<u32> = page.lines.iter().map(|line| line.text.parse().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, (0..60).collect::<Vec<_>>());

    // Both admit runs, and never too many.
    let journals = [one.journal(), two.journal()];
    for number in 10..30 {
        one.journal().create(new_run(number, None)).await.unwrap();
    }
    let most = std::num::NonZeroU32::new(5);
    let asked = (10..30_u64).map(|number| {
        let journal = &journals[usize::from(number % 2 == 0)];
        async move {
            let lease = journal.acquire(&run_id(number)).await.unwrap();
            let stored = journal.load(&run_id(number)).await.unwrap();
            let batch =
                batch(&run_id(number), lease.epoch(), &stored.records[0], RunEvent::Admitted);
            journal.admit(batch, most).await.unwrap()
        }
    });
    let admissions = join_all(asked).await;
    let admitted = admissions.iter().filter(|a| **a == Admission::Admitted).count();
    assert_eq!(admitted, 5, "{admissions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_one_run_at_once_are_written_in_their_order() {
    let Some(house) = House::new().await else { return };
    let store = house.store().await;
    let journal = store.journal();
    for number in 1..=30 {
        journal.create(new_run(number, None)).await.unwrap();
    }
    let all = (1..=30).map(|number| {
        let (journal, run) = (&journal, run_id(number));
        async move {
            let lease = journal.acquire(&run).await.unwrap();
            let mut last = journal.load(&run).await.unwrap().records.remove(0);
            let mut batches = Vec::new();
            for _ in 0..5 {
                let batch = batch(&run, lease.epoch(), &last, resumed());
                last = batch.records[0].clone();
                batches.push(journal.append(batch));
            }
            // Asked for before any of them is answered.
            let done = join_all(batches).await;
            assert!(done.iter().all(Result::is_ok), "{done:?}");
            assert_eq!(journal.load(&run).await.unwrap().records.len(), 6);
        }
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_open_a_new_schema_one_makes_the_tables() {
    let Some(house) = House::new().await else { return };
    let stores = join_all((0..6).map(|_| house.store())).await;
    let (one, other) = join(
        stores[0].journal().create(new_run(1, None)),
        stores[5].journal().create(new_run(2, None)),
    )
    .await;
    one.unwrap();
    other.unwrap();
    let all = RunFilter { limit: 9, ..RunFilter::default() };
    assert_eq!(stores[3].journal().list(all).await.unwrap().len(), 2);
    let mut db = house.schema.connection().await;
    let versions: Vec<i32> =
        sqlx::query_scalar("SELECT version FROM fairlead_store").fetch_all(&mut db).await.unwrap();
    assert_eq!(versions, [6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_tags_is_found_in_a_schema_of_the_first_version() {
    let Some(house) = House::new().await else { return };
    let mut db = house.schema.connection().await;
    db.execute(include_str!("../../migrations/postgres/0001_store.sql")).await.unwrap();
    db.execute("INSERT INTO fairlead_store (version) VALUES (1)").await.unwrap();
    let digest = |n: u32| fairlead_step::Digest::sha256(&n.to_be_bytes()).to_string();
    let pushed = |tag: Option<&str>, digest: &str| {
        let document = json!({
            "type": "dev.fairlead.image.pushed.v1",
            "data": {
                "repository": "registry.example.com/shop", "tag": tag, "digest": digest,
                "at": "2026-01-02T03:04:05.000000007Z",
            },
        });
        document.to_string()
    };
    let mut events = vec![
        ("no json".to_owned(), "dev.fairlead.image.pushed.v1".to_owned()),
        ("damaged".to_owned(), "{\"dev.fairlead.image.pushed.v1\"".to_owned()),
        ("zero".to_owned(), pushed(Some("a\0"), &digest(0))),
        ("untagged".to_owned(), pushed(None, &digest(0))),
    ];
    events.extend((1..=70).map(|n| (format!("key-{n}"), pushed(Some("stable"), &digest(n)))));
    for (key, document) in events {
        sqlx::query("INSERT INTO event (key, id, received_at, document) VALUES ($1, $1, 5, $2)")
            .bind(&key)
            .bind(&document)
            .execute(&mut db)
            .await
            .unwrap();
    }
    db.execute("UPDATE event SET handled_at = 7 WHERE key <> 'key-70'").await.unwrap();

    let events = house.store().await.events();
    let history = events.history("registry.example.com/shop:stable").await.unwrap();
    let keys: Vec<String> = history.iter().map(|push| push.key.clone()).collect();
    let wanted: Vec<String> = (7..=70).rev().map(|n| format!("key-{n}")).collect();
    assert_eq!(keys, wanted, "the last 64");
    assert_eq!((history[0].number, history[0].digest.to_string()), (70, digest(70)));
    let at = history[0].at.map(|at| at.to_string());
    assert_eq!(at.as_deref(), Some("2026-01-02T03:04:05.000000007Z"));
    let due = events.due(9).await.unwrap();
    assert_eq!(due.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["key-70"]);
}

/// A report that comes again while its event goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_known_at_every_moment_while_its_event_goes() {
    let Some(house) = House::new().await else { return };
    let store = house.store().await;
    let new = NewEvent {
        key: "key".to_owned(),
        id: "id".to_owned(),
        received_at: time(),
        due_at: time(),
        document: "{}".to_owned(),
        push: None,
    };
    store.events().insert(new.clone()).await.unwrap();
    store.events().mark_handled("key", time()).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    let now = time().checked_add(day * 3).unwrap();
    let rules = crate::PruneRules::at(now).older_than(day);
    let reports = async {
        for _ in 0..200 {
            let again = store.events().insert(new.clone()).await.unwrap();
            assert_eq!(again, Inserted::Duplicate { received_at: time() });
        }
    };
    let (report, ()) = join(store.prune(&rules, false), reports).await;
    assert_eq!(report.unwrap().events.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signals_of_a_run_go_with_its_end() {
    let Some(house) = House::new().await else { return };
    let store = house.store().await;
    let journal = store.journal();
    for number in 1..=2 {
        journal.create(new_run(number, None)).await.unwrap();
        journal.post(&run_id(number), time(), notice()).await.unwrap();
    }
    let lease = journal.acquire(&run_id(1)).await.unwrap();
    let last = journal.load(&run_id(1)).await.unwrap().records.remove(0);
    let end = RunEvent::Ended { outcome: RunOutcome::Passed };
    journal.append(batch(&run_id(1), lease.epoch(), &last, end)).await.unwrap();
    let mut db = house.schema.connection().await;
    let left: Vec<String> =
        sqlx::query_scalar("SELECT run FROM signal").fetch_all(&mut db).await.unwrap();
    assert_eq!(left, [run_id(2).to_string()]);
}

async fn refused(url: &str) -> OpenError {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::connect(url, folder.path()).await.unwrap_err();
    let mut said = format!("{error} {error:?} {}", error.hint());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        said.push_str(&error.to_string());
        cause = error.source();
    }
    assert!(!said.contains("s3cret"), "the password is shown: {said}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_or_not_there_is_told() {
    let Some(house) = House::new().await else { return };
    let url = house.schema.url.as_str();
    let mut db = house.schema.connection().await;
    db.execute("CREATE TABLE recipes (name text)").await.unwrap();
    assert!(matches!(refused(url).await, OpenError::Foreign { .. }));
    db.execute("DROP TABLE recipes").await.unwrap();
    house.store().await.close().await;
    db.execute("UPDATE fairlead_store SET version = 7").await.unwrap();
    assert!(matches!(refused(url).await, OpenError::Newer { found: 7, known: 6, .. }));
    let nowhere = url.replace(&house.schema.name, "nowhere");
    assert!(matches!(refused(&nowhere).await, OpenError::Unfit { .. }));

    for url in [
        "mysql://u:s3cret@localhost/d",
        "postgres://u:s3cret@localhost:notaport/d",
        "postgres://u:s3cret@localhost/d?sslmode=perhaps",
    ] {
        let error = refused(url).await;
        assert!(matches!(error, OpenError::Address { .. }), "{error}");
    }
    // Nobody listens there.
    let error = refused("postgres://u:s3cret@127.0.0.1:9/d").await;
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot open database d of u at 127.0.0.1:9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_found_again() {
    // The server may run as another user.
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let data = tempfile::Builder::new().permissions(open_to_all).tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some((server, url)) = Server::start(&data.path().join("server"), free) else { return };
    let long = Options { lease_ttl: Duration::from_secs(600) };
    let store = Store::connect_with(&url, folder.path(), long).await.unwrap();
    let journal = store.journal();
    for number in 1..=3 {
        journal.create(new_run(number, None)).await.unwrap();
    }
    let mut heard = journal.wakes();
    hear(&mut heard, &Wake::All).await;
    let lease = journal.acquire(&run_id(1)).await.unwrap();
    append(&*journal, 1, lease.epoch()).await.unwrap();
    let last = journal.load(&run_id(1)).await.unwrap().records.pop().unwrap();
    let next = batch(&run_id(1), lease.epoch(), &last, resumed());

    server.down().unwrap();
    let away = journal.append(next.clone()).await;
    let told = matches!(away, Err(AppendError::Store(StoreError::Unavailable { .. })));
    assert!(told, "{away:?}");
    let away = journal.load(&run_id(1)).await;
    assert!(matches!(away, Err(StoreError::Unavailable { .. })), "{away:?}");
    assert!(store.logs().logs_of(&run_id(1)).await.is_err());
    assert!(!lease.lost().is_cancelled());

    server.up().unwrap();
    journal.append(next).await.expect("the next call works again");
    assert_eq!(journal.load(&run_id(1)).await.expect("and so does this").records.len(), 3);
    store.logs().logs_of(&run_id(1)).await.expect("and this");
    hear(&mut heard, &Wake::All).await;
    journal.post(&run_id(2), time(), notice()).await.unwrap();
    hear(&mut heard, &Wake::Run(run_id(2))).await;

    // Restarted between two calls: no call meets a connection of before.
    server.down().unwrap();
    server.up().unwrap();
    append(&*journal, 1, lease.epoch()).await.expect("what was idle is looked at first");
    store.close().await;
}
