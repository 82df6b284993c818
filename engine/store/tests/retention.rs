//! What retention removes and what it leaves alone, in every store.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod server;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fairlead_plan::{Outcome, RunOutcome};
use fairlead_run::{
    Batch, CachedResult, Inserted, Kept, KeptOutputs, LogKey, LogLine, NewEvent, NewRun, Origin,
    PlanBlob, Purpose, Record, RecordHash, Request, ResultRef, RunEvent, RunFilter, RunStatus, Seq,
    StepResult, StoreError, TagPush,
};
use fairlead_step::{ArtifactError, Digest, RunId, Stream, Verdict, Workspace};
use fairlead_store::{Amount, PruneReport, PruneRules, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use server::Schema;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One store, and the time on this machine.
struct Harness {
    store: Store,
    now: Timestamp,
}

fn now() -> Timestamp {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let modified = file.path().metadata().and_then(|about| about.modified()).expect("its time");
    Timestamp::try_from(modified).expect("a time of today")
}

fn run_id(number: u64) -> RunId {
    RunId::mint(1_790_000_000_000 + number, number)
}

fn digest(number: u64) -> Digest {
    Digest::sha256(format!("key {number}").as_bytes())
}

fn text(of: &str) -> Bytes {
    Bytes::from(format!("the artifact of {of}"))
}

fn named(of: &str) -> Value {
    json!({ "report": { "name": of, "digest": Digest::sha256(&text(of)).to_string() } })
}

fn plan(name: &str) -> PlanBlob {
    PlanBlob::new(json!({ "name": name }).to_string())
}

impl Harness {
    fn new(store: Store) -> Self {
        Self { store, now: now() }
    }

    fn days_ago(&self, days: u32) -> Timestamp {
        self.now - SignedDuration::try_from(DAY * days).expect("a few days")
    }

    fn rules(&self) -> PruneRules {
        // All artifacts are put now, and are to be old enough.
        PruneRules::at(self.now + SignedDuration::from_hours(2))
    }

    fn new_run(&self, number: u64, pipeline: &str, origin: Option<Origin>) -> NewRun {
        let plan = plan(pipeline);
        let request = Request {
            pipeline: pipeline.to_owned(),
            plan: plan.digest().clone(),
            params: json!({}),
            event: json!({}),
            event_id: None,
            by: "somebody".into(),
            workspace: Workspace::local("/srv"),
            engine: "0.1.0".into(),
            group: None,
            origin,
        };
        let first = Record::first(self.days_ago(100), request).expect("a record");
        NewRun { id: run_id(number), plan, first, started_by: None, group: None }
    }

    async fn create(&self, run: NewRun) {
        self.store.journal().create(run).await.expect("created");
    }

    async fn put(&self, of: &str) {
        self.store.artifacts().put(of, "text/plain", text(of)).await.expect("stored");
    }

    async fn has(&self, of: &str) -> bool {
        match self.store.artifacts().get(&Digest::sha256(&text(of))).await {
            Ok(_) => true,
            Err(ArtifactError::NotFound { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Writes facts to a run, of which the last is `status`; `days` ago.
    async fn write(&self, number: u64, days: u32, events: Vec<RunEvent>, status: RunStatus) {
        let journal = self.store.journal();
        let lease = journal.acquire(&run_id(number)).await.expect("a lease");
        let stored = journal.load(&run_id(number)).await.expect("the run is there");
        let last = stored.records.last().expect("a record");
        let (mut seq, mut hash): (Seq, RecordHash) = (last.seq(), last.hash());
        let mut records = Vec::new();
        for event in events {
            let record = Record::seal(seq.next(), self.days_ago(days), hash, event).expect("fits");
            (seq, hash) = (record.seq(), record.hash());
            records.push(record);
        }
        let batch = Batch {
            run: run_id(number),
            epoch: lease.epoch(),
            records,
            status,
            wake_at: None,
            taken: vec![],
        };
        journal.append(batch).await.expect("appended");
    }

    /// A run that gave the artifact `of`, has a log, and ended `days` ago.
    async fn ended(&self, number: u64, pipeline: &str, days: u32, of: &str) {
        self.create(self.new_run(number, pipeline, None)).await;
        self.end(number, days, of).await;
    }

    async fn end(&self, number: u64, days: u32, of: &str) {
        self.put(of).await;
        self.log(number).await;
        let outcome = RunOutcome::Passed;
        let events = vec![passed(of), RunEvent::Ended { outcome }];
        self.write(number, days, events, RunStatus::Ended(outcome)).await;
    }

    async fn log(&self, number: u64) {
        let key = log_key(number);
        let line = LogLine { at: self.now, stream: Stream::Step, text: "a line".to_owned() };
        self.store.logs().append(&key, vec![line]).await.expect("written");
    }

    async fn event(&self, key: &str, handled: Option<u32>) {
        let event = NewEvent {
            key: key.to_owned(),
            id: key.to_owned(),
            received_at: self.days_ago(90),
            due_at: self.days_ago(90),
            document: "{}".to_owned(),
            push: None,
        };
        assert_eq!(self.store.events().insert(event).await.expect("stored"), Inserted::New);
        if let Some(days) = handled {
            let at = self.days_ago(days);
            self.store.events().mark_handled(key, at).await.expect("noted");
        }
    }

    /// Stores a push to the tag `stable` that was received so many days ago.
    async fn push(&self, number: u64, days: u32) -> Inserted {
        let push = TagPush {
            tag: "registry.example.com/shop:stable".to_owned(),
            number,
            key: format!("push-{number}"),
            digest: digest(number),
            at: Some(self.days_ago(days)),
        };
        let event = NewEvent {
            key: push.key.clone(),
            id: push.key.clone(),
            received_at: self.days_ago(days),
            due_at: self.days_ago(days),
            document: "{}".to_owned(),
            push: Some(push),
        };
        self.store.events().insert(event).await.expect("an answer")
    }

    /// What the tag `stable` was set to, newest first.
    async fn pushes(&self) -> Vec<u64> {
        let events = self.store.events();
        let history = events.history("registry.example.com/shop:stable").await.expect("a list");
        history.iter().map(|push| push.number).collect()
    }

    async fn remember(&self, number: u64, days: u32, of: &str) {
        let result = CachedResult {
            run: run_id(number),
            step: "scan".parse().expect("a step name"),
            at: self.days_ago(days),
            outputs: named(of),
        };
        self.store.result_cache().remember(&digest(number), result).await.expect("kept");
    }

    /// Prunes, after a rehearsal that must say the same and change nothing.
    async fn prune(&self, rules: &PruneRules) -> PruneReport {
        let before = self.picture().await;
        let rehearsal = self.store.prune(rules, true).await.expect("a report");
        assert_eq!(self.picture().await, before, "a rehearsal changes nothing");
        let report = self.store.prune(rules, false).await.expect("a report");
        assert_eq!(report, rehearsal, "a rehearsal says what comes");
        report
    }

    /// What can be seen from outside.
    async fn picture(&self) -> Vec<(RunId, usize, usize)> {
        let mut picture = Vec::new();
        for run in self.runs().await {
            let records = self.store.journal().load(&run).await.expect("a run").records.len();
            let logs = self.store.logs().logs_of(&run).await.expect("a list").len();
            picture.push((run, records, logs));
        }
        picture
    }

    /// Oldest first.
    async fn runs(&self) -> Vec<RunId> {
        let all = RunFilter { limit: RunFilter::MOST, ..RunFilter::default() };
        let runs = self.store.journal().list(all).await.expect("a list");
        runs.into_iter().rev().map(|run| run.id).collect()
    }
}

fn passed(of: &str) -> RunEvent {
    let token = fairlead_run::AttemptToken::mint(
        &run_id(0),
        &"scan".parse().expect("a step name"),
        1,
        fairlead_run::Epoch(1),
    );
    RunEvent::Finished {
        step: "scan".parse().expect("a step name"),
        attempt: 1,
        token,
        result: StepResult::Verdict(Verdict::passed(named(of))),
    }
}

fn log_key(number: u64) -> LogKey {
    LogKey { run: run_id(number), step: "scan".parse().expect("a step name"), attempt: 1 }
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<RunId> {
    numbers.into_iter().map(run_id).collect()
}

/// Calls a check with a new, empty store of each kind.
macro_rules! in_each {
    ($($check:ident)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::Harness::new(super::Store::memory())).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let folder = tempfile::tempdir().expect("an answer");
                let store = super::Store::open(folder.path()).await.expect("an answer");
                super::$check(super::Harness::new(store)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let Some(schema) = super::Schema::new().await else { return };
                let folder = tempfile::tempdir().expect("an answer");
                let store = super::Store::connect(&schema.url, folder.path()).await.expect("an answer");
                super::$check(super::Harness::new(store)).await;
            })+
        }
    };
}

in_each! {
    old_runs_go_with_all_they_left
    the_last_runs_of_each_pipeline_stay
    a_run_that_is_needed_stays
    a_run_whose_results_stand_for_another_stays
    what_is_named_stays
    the_young_stay
    events_and_results_go_by_their_age
    what_tells_events_apart_outlives_them
    what_tells_events_apart_goes_in_its_time
    what_was_given_up_goes_as_what_was_handled
    what_a_killed_pass_left_is_found
    runs_may_be_written_meanwhile
}

async fn old_runs_go_with_all_they_left(harness: Harness) {
    for number in 1..=40 {
        let days = if number % 2 == 0 { 40 } else { 20 };
        let pipeline = if number % 2 == 0 { "old" } else { "new" };
        harness.ended(number, pipeline, days, &number.to_string()).await;
    }
    harness.create(harness.new_run(41, "old", None)).await;
    harness.write(41, 50, vec![passed("2")], RunStatus::Waiting).await;
    let nothing = harness.prune(&harness.rules()).await;
    assert_eq!(nothing, PruneReport::default(), "without a rule no run goes");

    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    let even: Vec<u64> = (1..=40).filter(|n| n % 2 == 0).collect();
    assert_eq!(report.runs, ids(even.clone()));
    assert_eq!((report.records.count, report.logs.count), (60, 20));
    assert!(report.records.bytes > 60 * 100 && report.logs.bytes > 20 * 6, "{report:?}");
    assert_eq!(report.artifacts.count, 19, "what run 41 names stays");
    assert_eq!(report.artifacts.bytes, even[1..].iter().map(size).sum::<u64>());
    assert_eq!(report.plans, Amount::default(), "run 41 has the plan of those that went");
    assert!(harness.has("1").await && harness.has("2").await && !harness.has("4").await);
    let gone = harness.store.journal().load(&run_id(4)).await;
    assert!(matches!(gone, Err(StoreError::NoSuchRun { .. })), "{gone:?}");
    assert_eq!(harness.store.logs().logs_of(&run_id(4)).await.expect("an answer"), []);
    assert_eq!(harness.store.logs().logs_of(&run_id(5)).await.expect("an answer"), [log_key(5)]);
    assert_eq!(harness.store.journal().load(&run_id(5)).await.expect("an answer").records.len(), 3);
    assert_eq!(harness.runs().await.len(), 21);

    let outcome = RunOutcome::Failed;
    harness.write(41, 40, vec![RunEvent::Ended { outcome }], RunStatus::Ended(outcome)).await;
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.runs, ids([41]));
    let bytes = plan("old").bytes().len() as u64;
    assert_eq!(report.plans, Amount { count: 1, bytes });
    assert!(!harness.has("2").await);
    let again = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(again, PruneReport::default(), "nothing is left to do");
    // A plan that went comes again with the next run.
    harness.create(harness.new_run(50, "old", None)).await;
    assert_eq!(
        harness.store.journal().load(&run_id(50)).await.expect("an answer").plan,
        plan("old")
    );
}

fn size(number: &u64) -> u64 {
    text(&number.to_string()).len() as u64
}

async fn the_last_runs_of_each_pipeline_stay(harness: Harness) {
    // The order is that of the ends, not of the ids.
    for (number, pipeline, days) in
        [(1, "a", 1), (2, "a", 2), (3, "a", 3), (4, "a", 4), (5, "b", 90), (6, "b", 80)]
    {
        harness.ended(number, pipeline, days, &number.to_string()).await;
    }
    harness.create(harness.new_run(7, "b", None)).await;
    let both = harness.rules().keep_last(2).older_than(DAY * 30);
    assert_eq!(harness.store.prune(&both, true).await.expect("an answer").runs, []);
    let both = harness.rules().keep_last(1).older_than(DAY * 30);
    assert_eq!(harness.store.prune(&both, true).await.expect("an answer").runs, ids([5]));
    let report = harness.prune(&harness.rules().keep_last(2)).await;
    assert_eq!(report.runs, ids([3, 4]));
    assert_eq!(report.events, Amount::default());
    let report = harness.prune(&harness.rules().keep_last(0)).await;
    assert_eq!(report.runs, ids([1, 2, 5, 6]));
    assert_eq!(harness.runs().await, ids([7]), "what has not ended stays");
}

async fn a_run_that_is_needed_stays(harness: Harness) {
    for number in 1..=4 {
        harness.ended(number, "a", 60, &number.to_string()).await;
    }
    let origin = |run| Origin { run, purpose: Purpose::Retry, from: vec![], kept: vec![] };
    harness.create(harness.new_run(10, "a", Some(origin(run_id(1))))).await;
    harness.event("unhandled", None).await;
    harness.event("handled", Some(60)).await;
    for (number, key) in [(20, "unhandled"), (21, "handled")] {
        let run = NewRun { started_by: Some(key.into()), ..harness.new_run(number, "e", None) };
        harness.create(run).await;
        harness.end(number, 60, &number.to_string()).await;
    }
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    // Run 20 would be started again by its event.
    assert_eq!(report.runs, ids([2, 3, 4, 21]));
    assert_eq!(report.events.count, 1);
    assert_eq!(harness.store.events().event("handled").await.expect("an answer"), None);
    assert_eq!(
        harness.store.events().runs_of("unhandled").await.expect("an answer")[0].run,
        run_id(20)
    );

    harness.end(10, 40, "10").await;
    harness.store.events().mark_handled("unhandled", harness.days_ago(1)).await.expect("an answer");
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.runs, ids([1, 10, 20]));
    assert!(
        harness.store.events().event("unhandled").await.expect("an answer").is_some(),
        "it is young"
    );
    let late =
        harness.store.journal().create(harness.new_run(30, "a", Some(origin(run_id(1))))).await;
    assert!(matches!(late, Err(StoreError::BadRun { .. })), "{late:?}");
}

async fn a_run_whose_results_stand_for_another_stays(harness: Harness) {
    for number in 1..=3 {
        harness.ended(number, "a", 60, &number.to_string()).await;
    }
    let result = |run| {
        let digest = Digest::sha256(named("1").to_string().as_bytes());
        KeptOutputs::Result(ResultRef { run: run_id(run), record: Seq(2), attempt: 1, digest })
    };
    // It begins from run 2, and what it keeps was made by run 1.
    let origin = |from, of| {
        let outputs = Some(result(of));
        let step = "scan".parse().expect("a step name");
        let kept = vec![Kept { step, outcome: Outcome::Passed, outputs }];
        Origin { run: run_id(from), purpose: Purpose::Retry, from: vec![], kept }
    };
    harness.create(harness.new_run(10, "a", Some(origin(2, 1)))).await;
    harness.end(10, 1, "10").await;
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.runs, ids([2, 3]), "run 1 is needed, although everything of it has ended");
    let stored = harness.store.journal().load(&run_id(10)).await.expect("the run is there");
    let kept: Vec<(RunId, Seq)> = stored.kept.keys().cloned().collect();
    assert_eq!(kept, [(run_id(1), Seq(2))], "and what it gave comes with the run");
    assert_eq!(stored.kept[&kept[0]].event(), &passed("1"));
    assert!(harness.has("1").await, "with the artifacts that it names");
    // Neither a run that is gone nor one that never was can be referred to.
    for of in [2, 77] {
        let late =
            harness.store.journal().create(harness.new_run(30, "a", Some(origin(1, of)))).await;
        assert!(matches!(late, Err(StoreError::BadRun { .. })), "{late:?}");
    }
    // As soon as nothing refers to it any more, it goes.
    let all = harness.rules().keep_last(0);
    assert_eq!(harness.prune(&all).await.runs, ids([10]));
    assert_eq!(harness.prune(&all).await.runs, ids([1]));
}

async fn what_is_named_stays(harness: Harness) {
    harness.ended(1, "a", 60, "shared").await;
    harness.ended(2, "a", 1, "shared").await;
    harness.ended(3, "a", 60, "kept").await;
    let kept = Kept {
        step: "scan".parse().expect("an answer"),
        outcome: Outcome::Passed,
        outputs: Some(KeptOutputs::Copied(named("kept"))),
    };
    let origin = Origin { run: run_id(3), purpose: Purpose::Retry, from: vec![], kept: vec![kept] };
    harness.create(harness.new_run(4, "a", Some(origin))).await;
    harness.end(4, 1, "own").await;
    harness.ended(5, "a", 60, "cached").await;
    harness.remember(5, 1, "cached").await;
    harness.ended(6, "a", 60, "signaled").await;
    let notice =
        fairlead_run::Signal::Notice { about: named("signaled").to_string(), why: "".into() };
    harness.create(harness.new_run(7, "a", None)).await;
    harness.store.journal().post(&run_id(7), harness.now, notice).await.expect("an answer");
    harness.put("nobody's").await;

    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.runs, ids([1, 3, 5, 6]));
    assert_eq!(report.artifacts.count, 1);
    for of in ["shared", "kept", "own", "cached", "signaled"] {
        assert!(harness.has(of).await, "{of}");
    }
    assert!(!harness.has("nobody's").await);
}

async fn the_young_stay(harness: Harness) {
    harness.put("just put").await;
    harness.ended(1, "a", 60, "given").await;
    let report = harness.prune(&PruneRules::at(harness.now).older_than(DAY * 30)).await;
    assert_eq!(report.runs, ids([1]));
    assert_eq!(report.artifacts, Amount::default(), "a record may still come to name them");
    assert!(harness.has("just put").await && harness.has("given").await);

    // While a run is driven that began before they were put, its attempt may still tell of them.
    harness.create(harness.new_run(2, "a", None)).await;
    let lease = harness.store.journal().acquire(&run_id(2)).await.expect("an answer");
    let report = harness.prune(&harness.rules()).await;
    assert_eq!(report.artifacts, Amount::default());
    drop(lease);
    let report = harness.prune(&harness.rules()).await;
    assert_eq!(report.artifacts.count, 2);
    harness.put("given").await;
    assert!(harness.has("given").await, "what went may come again");
}

async fn events_and_results_go_by_their_age(harness: Harness) {
    for (key, handled) in
        [("old", Some(60)), ("young", Some(1)), ("waiting", None), ("linked", Some(60))]
    {
        harness.event(key, handled).await;
    }
    let run = NewRun { started_by: Some("linked".into()), ..harness.new_run(1, "a", None) };
    harness.create(run).await;
    for (number, days) in [(1, 60), (2, 1)] {
        harness.put(&number.to_string()).await;
        harness.remember(number, days, &number.to_string()).await;
    }
    let nothing = harness.prune(&harness.rules().keep_last(1)).await;
    assert_eq!(nothing, PruneReport::default(), "they go by age alone");
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.events, Amount { count: 1, bytes: 2 });
    let bytes = named("1").to_string().len() as u64;
    assert_eq!(report.cached_results, Amount { count: 1, bytes });
    for (key, stays) in [("old", false), ("young", true), ("waiting", true), ("linked", true)] {
        assert_eq!(
            harness.store.events().event(key).await.expect("an answer").is_some(),
            stays,
            "{key}"
        );
    }
    assert_eq!(harness.store.result_cache().recall(&digest(1)).await.expect("an answer"), None);
    assert!(harness.store.result_cache().recall(&digest(2)).await.expect("an answer").is_some());
    assert!(harness.has("1").await, "a run may just have recalled it");
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report.artifacts, Amount { count: 1, bytes: size(&1) });
    assert!(!harness.has("1").await && harness.has("2").await);
}

async fn what_tells_events_apart_outlives_them(harness: Harness) {
    for (key, handled) in [("old", Some(60)), ("waiting", None)] {
        harness.event(key, handled).await;
    }
    for number in [1, 2, 7] {
        assert_eq!(harness.push(number, 90).await, Inserted::New);
    }
    let handled = harness.days_ago(80);
    for key in ["push-1", "push-2", "push-7"] {
        harness.store.events().mark_handled(key, handled).await.expect("noted");
    }
    let run = NewRun { started_by: Some("old".into()), ..harness.new_run(1, "a", None) };
    harness.create(run).await;
    harness.end(1, 60, "1").await;
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!((report.runs.len(), report.events.count, report.keys.count), (1, 4, 0));
    assert_eq!(harness.store.events().event("old").await.expect("an answer"), None);

    // The same delivery once more, of what the store has forgotten but for its key.
    let again = NewEvent {
        key: "old".to_owned(),
        id: "another".to_owned(),
        received_at: harness.now,
        due_at: harness.now,
        document: "{}".to_owned(),
        push: None,
    };
    let events = harness.store.events();
    let known = events.insert(again.clone()).await.expect("an answer");
    assert!(matches!(known, Inserted::Duplicate { .. }), "{known:?}");
    assert_eq!(events.event("old").await.expect("an answer"), None);
    let new = NewEvent { key: "new".to_owned(), ..again };
    assert_eq!(events.insert(new).await.expect("an answer"), Inserted::New);

    // A tag goes on where it was, whatever of its events is left.
    assert_eq!(harness.pushes().await, [7, 2, 1]);
    assert_eq!(harness.push(7, 0).await, Inserted::Overtaken);
    assert_eq!(harness.push(8, 0).await, Inserted::New);
    assert_eq!(harness.pushes().await, [8, 7, 2, 1]);
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!(report, PruneReport::default(), "and nothing of it goes with the next pass");
}

async fn what_tells_events_apart_goes_in_its_time(harness: Harness) {
    harness.event("old", Some(60)).await;
    for (number, days) in [(1, 90), (2, 90), (3, 10)] {
        harness.push(number, days).await;
    }
    harness.store.events().mark_handled("push-1", harness.days_ago(60)).await.expect("noted");
    let rules = harness.rules().older_than(DAY * 30);
    let report = harness.prune(&rules.clone().keys(DAY * 1, 100)).await;
    assert_eq!((report.events.count, report.keys.count), (2, 0), "it was not gone before");
    let report = harness.prune(&rules.clone().keys(DAY * 61, 100)).await;
    assert_eq!(report, PruneReport::default(), "its time counts behind that of events");
    let report = harness.prune(&rules.clone().keys(DAY * 50, 100)).await;
    assert_eq!(report.keys.count, 2, "the key, and the first push to the tag");
    assert_eq!(harness.pushes().await, [3, 2], "what has an event stays, which would come again");

    for number in 0..8 {
        harness.event(&format!("many-{number}"), Some(60)).await;
    }
    harness.prune(&rules).await;
    let report = harness.prune(&rules.clone().keys(DAY * 400, 8)).await;
    assert_eq!(report, PruneReport::default(), "there are not too many");
    // They were received at the same moment, so none of them is newer than the others.
    let report = harness.prune(&rules.keys(DAY * 400, 7)).await;
    assert_eq!(report.keys.count, 8);
}

async fn what_was_given_up_goes_as_what_was_handled(harness: Harness) {
    for (key, days) in [("old", 60), ("young", 1)] {
        harness.event(key, None).await;
        let (events, at) = (harness.store.events(), harness.days_ago(days));
        events.claim(key, "one", at, DAY).await.expect("an answer");
        events.give_up(key, "one", at, "no use").await.expect("noted");
    }
    let run = NewRun { started_by: Some("old".into()), ..harness.new_run(1, "a", None) };
    harness.create(run).await;
    harness.end(1, 60, "1").await;
    let report = harness.prune(&harness.rules().older_than(DAY * 30)).await;
    assert_eq!((report.runs.len(), report.events.count), (1, 1));
    assert_eq!(harness.store.events().event("old").await.expect("an answer"), None);
    assert!(harness.store.events().event("young").await.expect("an answer").is_some());
}

async fn what_a_killed_pass_left_is_found(harness: Harness) {
    harness.ended(1, "a", 60, "1").await;
    // As after a pass that was killed as early as it can be: the run is gone, all else is there.
    harness.log(99).await;
    harness.put("99").await;
    harness.log(1).await;
    let report = harness.prune(&harness.rules()).await;
    assert_eq!((report.logs.count, report.artifacts.count), (1, 1));
    assert_eq!(harness.store.logs().logs_of(&run_id(99)).await.expect("an answer"), []);
    assert_eq!(harness.store.logs().logs_of(&run_id(1)).await.expect("an answer"), [log_key(1)]);
    assert!(harness.has("1").await);

    // Dropped somewhere in the middle, again and again: each time what is named is there.
    for number in 2..=60 {
        harness.ended(number, "a", 60, &number.to_string()).await;
    }
    harness.ended(61, "a", 1, "60").await;
    let rules = harness.rules().older_than(DAY * 30);
    for rounds in 0.. {
        let mut left = rounds;
        let pass = harness.store.prune(&rules, false);
        let mut pass = std::pin::pin!(pass);
        let done = std::future::poll_fn(|context| match pass.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            std::task::Poll::Pending => {
                left -= 1;
                std::task::Poll::Pending
            }
        })
        .await;
        for run in harness.runs().await {
            let stored = match harness.store.journal().load(&run).await {
                // What was asked of the store when the pass was dropped is done all the same.
                Err(StoreError::NoSuchRun { .. }) => continue,
                stored => stored.expect("an answer"),
            };
            assert_eq!(stored.records.len(), 3, "a run is there as a whole");
            let of = stored.records[1].bytes();
            let digest = of
                .split_once("\"digest\":\"")
                .expect("an answer")
                .1
                .split_once('"')
                .expect("an answer")
                .0;
            harness
                .store
                .artifacts()
                .get(&digest.parse().expect("an answer"))
                .await
                .expect("an answer");
            assert_eq!(harness.store.logs().logs_of(&run).await.expect("an answer").len(), 1);
        }
        if done.is_some() {
            break;
        }
    }
    assert_eq!(harness.runs().await, ids([61]));
    assert!(harness.has("60").await && !harness.has("59").await);
    let nothing = harness.prune(&rules).await;
    assert_eq!(nothing, PruneReport::default());
}

async fn runs_may_be_written_meanwhile(harness: Harness) {
    for number in 1..=60 {
        harness.ended(number, "a", 60, &number.to_string()).await;
    }
    let rules = harness.rules().older_than(DAY * 30);
    let writing = async {
        for number in 100..140 {
            // With the plan that those have that go, and an artifact that they named.
            harness.ended(number, "a", 1, &(number - 90).to_string()).await;
        }
    };
    let pruning = async {
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.extend(harness.store.prune(&rules, false).await.expect("a report").runs);
        }
        runs
    };
    let ((), runs) = futures::future::join(writing, pruning).await;
    assert_eq!(runs, ids(1..=60));
    assert_eq!(harness.runs().await, ids(100..140));
    for number in 100..140_u64 {
        harness.store.journal().load(&run_id(number)).await.expect("an answer");
    }
}

/// Files: what the folder looks like, and what only a folder can have.
#[tokio::test]
async fn artifacts_that_are_put_again_stay_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().expect("an answer");
    let store = Store::open(folder.path()).await.expect("an answer");
    let harness = Harness::new(store);
    let file = |of: &str| {
        let hex = Digest::sha256(&text(of)).hex().to_owned();
        folder.path().join("artifacts/sha256").join(&hex[..2]).join(hex)
    };
    let age = |path: &Path| {
        let then = path.metadata().expect("an answer").modified().expect("an answer")
            - Duration::from_secs(7200);
        std::fs::File::options()
            .append(true)
            .open(path)
            .expect("an answer")
            .set_modified(then)
            .expect("an answer");
    };
    for of in ["a", "b", "c"] {
        harness.put(of).await;
        age(&file(of));
    }
    harness.put("b").await;
    let report = harness.prune(&PruneRules::at(harness.now)).await;
    assert_eq!(report.artifacts.count, 2, "whoever puts it again may be about to name it");
    assert!(harness.has("b").await && !harness.has("a").await && !harness.has("c").await);
    let left =
        std::fs::read_dir(folder.path().join("artifacts/.leaving")).expect("an answer").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_a_killed_pass_took_away_is_put_back_and_looked_at_again() {
    let folder = tempfile::tempdir().expect("an answer");
    let harness = Harness::new(Store::open(folder.path()).await.expect("an answer"));
    harness.ended(1, "a", 1, "needed").await;
    harness.put("not needed").await;
    let leaving = folder.path().join("artifacts/.leaving");
    std::fs::create_dir_all(&leaving).expect("an answer");
    for of in ["needed", "not needed"] {
        let hex = Digest::sha256(&text(of)).hex().to_owned();
        let file = folder.path().join("artifacts/sha256").join(&hex[..2]).join(&hex);
        std::fs::rename(file, leaving.join(format!("sha256-{hex}"))).expect("an answer");
    }
    assert!(!harness.has("needed").await);
    let report = harness.store.prune(&harness.rules(), false).await.expect("an answer");
    assert_eq!(report.artifacts.count, 1);
    assert!(harness.has("needed").await && !harness.has("not needed").await);
    assert_eq!(std::fs::read_dir(&leaving).expect("an answer").count(), 0);
}
