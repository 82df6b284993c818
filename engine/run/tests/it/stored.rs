//! The stored form: every fact reads back as it was, old journals stay readable, and what is not a
//! record is told.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_plan::{Item, Outcome, RunOutcome};
use fairlead_run::{
    AttemptToken, CancelReason, Decision, DecodeError, Epoch, Failure, Kept, KeptOutputs, Origin,
    Purpose, Record, RecordHash, Request, ResultRef, RunEvent, RunStatus, SealError, Seq,
    SkipReason, StepResult, Vote, Voter, check_chain,
};
use fairlead_step::{
    CheckoutOptions, Digest, ErrorClass, GitWorkspace, HumanDuration, RunId, Verdict, Workspace,
};
use serde_json::json;

use crate::world::{World, after, id, plan, start_time, step};

/// A journal of version 1 with every fact in it. Never edited: a later version gets its own file.
const GOLDEN_V1: &str = include_str!("../../../../schemas/golden/journal.v1.jsonl");

/// A journal of version 2 with every fact that version 1 cannot say. Never edited, either.
const GOLDEN_V2: &str = include_str!("../../../../schemas/golden/journal.v2.jsonl");

/// A journal of version 3 with every fact that the versions before it cannot say.
const GOLDEN_V3: &str = include_str!("../../../../schemas/golden/journal.v3.jsonl");

/// A journal of version 4 with every fact that the versions before it cannot say.
const GOLDEN_V4: &str = include_str!("../../../../schemas/golden/journal.v4.jsonl");

/// A journal of version 5 with every fact that the versions before it cannot say.
const GOLDEN_V5: &str = include_str!("../../../../schemas/golden/journal.v5.jsonl");

/// Every fact that version 1 can say, in every form. The journal is not one that a run would write: the facts only have to
/// read back.
fn every_fact() -> Vec<RunEvent> {
    let run = RunId::mint(1_790_000_000_000, 1);
    let token = |step: &str, attempt| AttemptToken::mint(&run, &id(step), attempt, Epoch(3));
    let started = |step: &str, attempt| RunEvent::Started {
        step: id(step),
        attempt,
        token: token(step, attempt),
        pool: None,
    };
    let finished = |step: &str, attempt, result| RunEvent::Finished {
        step: id(step),
        attempt,
        token: token(step, attempt),
        result,
    };
    let failure = |class, hint: Option<&str>| Failure {
        class,
        message: "cannot reach registry.example.com: connection refused".into(),
        hint: hint.map(str::to_owned),
    };
    let seconds = |seconds| HumanDuration(Duration::from_secs(seconds));
    vec![
        RunEvent::Requested(Box::new(Request {
            pipeline: "release".into(),
            plan: Digest::sha256(b"plan"),
            params: json!({ "version": "v1.2.3", "count": 3, "ratio": 0.5, "dry": false }),
            event: json!({ "type": "image.pushed", "paths": null }),
            event_id: Some("8f0a".into()),
            by: "git.example.com".into(),
            workspace: Workspace::local("/srv/source"),
            engine: "0.1.0".into(),
            group: None,
            origin: None,
        })),
        RunEvent::Requested(Box::new(Request {
            pipeline: "hello".into(),
            plan: Digest::sha256(b"plan"),
            params: json!({}),
            event: json!({}),
            event_id: None,
            by: "ada".into(),
            workspace: Workspace::local("/srv/größe"),
            engine: "0.1.0".into(),
            group: None,
            origin: None,
        })),
        started("build", 1),
        RunEvent::AttemptLost {
            step: id("build"),
            attempt: 1,
            reason: "the process that ran it ended".into(),
        },
        RunEvent::Resumed { epoch: Epoch(3) },
        finished(
            "build",
            2,
            StepResult::Failure(failure(ErrorClass::Retryable, Some("is it up?"))),
        ),
        RunEvent::RetryScheduled { step: id("build"), attempt: 3, due: start_time() },
        finished("build", 3, StepResult::Failure(failure(ErrorClass::Terminal, None))),
        finished("build", 4, StepResult::Failure(failure(ErrorClass::Cancelled, None))),
        finished("build", 5, StepResult::TimedOut { after: seconds(90) }),
        finished("build", 6, StepResult::Cancelled { message: "ended by SIGKILL".into() }),
        finished("sbom", 1, StepResult::Verdict(Verdict::passed(json!({ "packages": [1, "ü"] })))),
        finished(
            "scan",
            1,
            StepResult::Verdict(Verdict::Rejected {
                reason: "2 critical findings".into(),
                outputs: json!({ "findings": 2 }),
            }),
        ),
        finished(
            "deploy",
            1,
            StepResult::Verdict(Verdict::Skipped { reason: "no difference".into() }),
        ),
        RunEvent::Skipped { step: id("sign"), reason: SkipReason::Condition },
        RunEvent::Skipped {
            step: id("promote"),
            reason: SkipReason::Need {
                step: id("sign"),
                outcome: Outcome::Skipped,
                root: id("scan"),
                root_outcome: Outcome::Rejected,
            },
        },
        RunEvent::Skipped {
            step: id("notify"),
            reason: SkipReason::NotFor { outcome: RunOutcome::Rejected },
        },
        RunEvent::NotStarted { step: id("extra"), failure: failure(ErrorClass::Terminal, None) },
        RunEvent::CancelRequested {
            by: "ada".into(),
            reason: CancelReason::Asked { why: Some("wrong version".into()) },
        },
        RunEvent::CancelRequested { by: "ada".into(), reason: CancelReason::Asked { why: None } },
        RunEvent::CancelRequested {
            by: "fairlead".into(),
            reason: CancelReason::TimedOut { after: seconds(3600) },
        },
        RunEvent::Ended { outcome: RunOutcome::Passed },
        RunEvent::Ended { outcome: RunOutcome::Rejected },
        RunEvent::Ended { outcome: RunOutcome::Failed },
        RunEvent::Ended { outcome: RunOutcome::Cancelled },
    ]
}

/// Every fact that only version 2 can say, in every form.
fn every_new_fact() -> Vec<RunEvent> {
    let run = RunId::mint(1_790_000_000_000, 1);
    let other = RunId::mint(1_790_000_000_000, 2);
    let ada = || Voter { name: "ada".into(), groups: BTreeSet::from(["qa".into(), "dev".into()]) };
    let bob = || Voter { name: "bob".into(), groups: BTreeSet::new() };
    let request = |group: Option<&str>, origin| {
        RunEvent::Requested(Box::new(Request {
            pipeline: "release".into(),
            plan: Digest::sha256(b"plan"),
            params: json!({}),
            event: json!({}),
            event_id: None,
            by: "ada".into(),
            workspace: Workspace::local("/srv/source"),
            engine: "0.2.0".into(),
            group: group.map(str::to_owned),
            origin,
        }))
    };
    let kept = |step: &str, outcome, outputs: Option<serde_json::Value>| {
        let outputs = outputs.map(KeptOutputs::Copied);
        Kept { step: id(step), outcome, outputs }
    };
    let retry = Origin {
        run: other.clone(),
        purpose: Purpose::Retry,
        from: vec![id("scan"), id("scan[web]")],
        kept: vec![
            kept("build", Outcome::Passed, Some(json!({ "image": "x" }))),
            kept("extra", Outcome::Skipped, None),
        ],
    };
    let undo =
        Origin { run: other.clone(), purpose: Purpose::Undo, from: Vec::new(), kept: Vec::new() };
    let settled = |decision, reason: Option<&str>| RunEvent::Settled {
        step: id("deploy"),
        attempt: 2,
        by: bob(),
        decision,
        reason: reason.map(str::to_owned),
    };
    let voted = |by, vote, reason: Option<&str>| RunEvent::Voted {
        step: id("approve"),
        by,
        vote,
        reason: reason.map(str::to_owned),
    };
    vec![
        request(Some("release/web"), None),
        request(None, Some(retry)),
        request(Some("release/web"), Some(undo)),
        RunEvent::Queued { group: Some("release/web".into()), behind: Some(other.clone()) },
        RunEvent::Queued { group: None, behind: None },
        RunEvent::Admitted,
        RunEvent::Expanded {
            step: id("scan"),
            items: vec![
                Item { key: "web".into(), value: json!("web") },
                Item { key: "b".into(), value: json!({ "name": "b" }) },
            ],
        },
        RunEvent::Expanded { step: id("scan"), items: Vec::new() },
        RunEvent::GateOpened { step: id("approve"), due: Some(start_time()) },
        RunEvent::GateOpened { step: id("approve"), due: None },
        voted(ada(), Vote::Approve, Some("looks good")),
        voted(bob(), Vote::Reject, None),
        RunEvent::GateDue { step: id("approve") },
        RunEvent::Woken { step: id("evidence"), why: "a signature was pushed".into() },
        settled(Decision::Passed { outputs: json!({ "tag": "v1" }) }, Some("it is there")),
        settled(Decision::Failed, None),
        settled(Decision::Again, None),
        RunEvent::CacheHit {
            step: id("scan[web]"),
            attempt: 1,
            token: AttemptToken::mint(&run, &id("scan[web]"), 1, Epoch(3)),
            key: Digest::sha256(b"all that went in"),
            run: other.clone(),
            outputs: json!({ "findings": 0 }),
        },
        RunEvent::CancelRequested {
            by: "fairlead".into(),
            reason: CancelReason::Superseded { by: other.clone() },
        },
        RunEvent::CancelRequested {
            by: "fairlead".into(),
            reason: CancelReason::Busy { holder: other },
        },
    ]
}

/// Every fact that only version 3 can say, in every form.
fn every_fact_of_version_3() -> Vec<RunEvent> {
    let other = RunId::mint(1_790_000_000_000, 2);
    let result = |run: u64, record: u64, attempt: u32, of: &[u8]| {
        KeptOutputs::Result(ResultRef {
            run: RunId::mint(1_790_000_000_000, run),
            record: Seq(record),
            attempt,
            digest: Digest::sha256(of),
        })
    };
    let kept = |step: &str, outcome, outputs| Kept { step: id(step), outcome, outputs };
    let origin = |purpose, from, kept| Origin { run: other.clone(), purpose, from, kept };
    let request = |event_id: Option<&str>, group: Option<&str>, origin| {
        RunEvent::Requested(Box::new(Request {
            pipeline: "release".into(),
            plan: Digest::sha256(b"plan"),
            params: json!({ "version": "v1" }),
            event: json!({}),
            event_id: event_id.map(str::to_owned),
            by: "ada".into(),
            workspace: Workspace::local("/srv/source"),
            engine: "0.3.0".into(),
            group: group.map(str::to_owned),
            origin: Some(origin),
        }))
    };
    let abandoned = |reason: Option<&str>, problem: Option<&str>| RunEvent::Abandoned {
        by: "ada".into(),
        reason: reason.map(str::to_owned),
        problem: problem.map(str::to_owned),
    };
    let items = vec![
        ("web".to_owned(), result(2, 12, 1, b"web")),
        ("api".to_owned(), KeptOutputs::Copied(json!({ "findings": 0 }))),
    ];
    let all = vec![
        kept("build", Outcome::Passed, Some(result(1, 7, 2, b"build"))),
        kept("approve", Outcome::Passed, Some(KeptOutputs::Copied(json!({ "approved_by": [] })))),
        kept("scan", Outcome::Rejected, Some(KeptOutputs::Items(items))),
        kept("extra", Outcome::Skipped, None),
    ];
    let one = vec![kept("scan[web]", Outcome::Passed, Some(result(2, 12, 1, b"web")))];
    vec![
        request(None, None, origin(Purpose::Undo, Vec::new(), all)),
        request(
            Some("8f0a"),
            Some("release/web"),
            origin(Purpose::Retry, vec![id("scan[api]")], one),
        ),
        abandoned(Some("the disk was lost"), Some("the stored plan cannot be read")),
        abandoned(None, None),
    ]
}

/// Every fact that only version 4 can say, in every form.
fn every_fact_of_version_4() -> Vec<RunEvent> {
    let request = |workspace, group: Option<&str>, origin| {
        RunEvent::Requested(Box::new(Request {
            pipeline: "release".into(),
            plan: Digest::sha256(b"plan"),
            params: json!({ "version": "v1" }),
            event: json!({}),
            event_id: None,
            by: "source github".into(),
            workspace,
            engine: "0.5.0".into(),
            group: group.map(str::to_owned),
            origin,
        }))
    };
    let git = GitWorkspace {
        source: "github".into(),
        repository: "acme/shop".into(),
        commit: "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf".parse().expect("a commit"),
        reference: Some("refs/heads/main".into()),
        clone_url: Some("https://git.example.com/acme/shop.git".into()),
        ssh_url: Some("ssh://git@git.example.com/acme/shop.git".into()),
        options: CheckoutOptions::default(),
    };
    let options =
        CheckoutOptions { depth: 0, sparse: vec!["src".into(), "docs".into()], partial: true };
    let bare =
        GitWorkspace { reference: None, clone_url: None, ssh_url: None, options, ..git.clone() };
    let origin = Origin {
        run: RunId::mint(1_790_000_000_000, 2),
        purpose: Purpose::Retry,
        from: vec![id("scan")],
        kept: vec![Kept { step: id("extra"), outcome: Outcome::Skipped, outputs: None }],
    };
    vec![
        request(Workspace::EMPTY, None, None),
        request(Workspace::Git(git), Some("release/web"), None),
        request(Workspace::Git(bare), None, Some(origin)),
        request(Workspace::Archive { digest: Digest::sha256(b"packed") }, None, None),
    ]
}

fn every_fact_of_version_5() -> Vec<RunEvent> {
    let run = RunId::mint(1_790_000_000_000, 1);
    let token = AttemptToken::mint(&run, &id("build"), 2, Epoch(3));
    vec![RunEvent::Started { step: id("build"), attempt: 2, token, pool: Some("arm64".into()) }]
}

/// How many forms each fact has in the two lists. A new fact does not compile until it is counted.
pub(crate) fn kind_of(event: &RunEvent) -> &'static str {
    match event {
        RunEvent::Requested(_) => "requested",
        RunEvent::Resumed { .. } => "resumed",
        RunEvent::Queued { .. } => "queued",
        RunEvent::Admitted => "admitted",
        RunEvent::Expanded { .. } => "expanded",
        RunEvent::GateOpened { .. } => "gate_opened",
        RunEvent::Voted { .. } => "voted",
        RunEvent::GateDue { .. } => "gate_due",
        RunEvent::Woken { .. } => "woken",
        RunEvent::Settled { .. } => "settled",
        RunEvent::CacheHit { .. } => "remembered",
        RunEvent::Started { .. } => "started",
        RunEvent::Finished { .. } => "finished",
        RunEvent::AttemptLost { .. } => "attempt_lost",
        RunEvent::RetryScheduled { .. } => "retry_scheduled",
        RunEvent::Skipped { .. } => "skipped",
        RunEvent::NotStarted { .. } => "not_started",
        RunEvent::CancelRequested { .. } => "cancel_requested",
        RunEvent::Abandoned { .. } => "abandoned",
        RunEvent::Ended { .. } => "ended",
    }
}

fn journal_of_every_fact() -> Vec<Record> {
    journal_of(every_fact())
}

fn journal_of(facts: Vec<RunEvent>) -> Vec<Record> {
    let (mut seq, mut head) = (Seq(0), RecordHash::ZERO);
    let seal = |event| {
        seq = seq.next();
        let record = Record::seal(seq, start_time(), head, event).expect("a record");
        head = record.hash();
        record
    };
    facts.into_iter().map(seal).collect()
}

#[test]
fn the_golden_journal_of_version_1_reads_as_it_was_written() {
    let golden: Vec<Record> =
        GOLDEN_V1.lines().map(|line| Record::read(line).expect("a record of version 1")).collect();
    check_chain(&golden).expect("a whole chain");
    let facts: Vec<RunEvent> = golden.iter().map(|record| record.event().clone()).collect();
    assert_eq!(facts, every_fact(), "the facts of version 1 mean what they meant");
}

#[test]
fn this_build_writes_version_1_byte_for_byte() {
    let written: String =
        journal_of_every_fact().iter().map(|record| format!("{}\n", record.bytes())).collect();
    assert_eq!(written, GOLDEN_V1);
}

#[test]
fn the_golden_journal_of_version_2_reads_as_it_was_written_and_is_written_so() {
    let golden: Vec<Record> =
        GOLDEN_V2.lines().map(|line| Record::read(line).expect("a record of version 2")).collect();
    check_chain(&golden).expect("a whole chain");
    let facts: Vec<RunEvent> = golden.iter().map(|record| record.event().clone()).collect();
    assert_eq!(facts, every_new_fact(), "the facts of version 2 mean what they meant");
    let records = journal_of(every_new_fact());
    let written: String = records.iter().map(|record| format!("{}\n", record.bytes())).collect();
    assert_eq!(written, GOLDEN_V2);
}

#[test]
fn the_golden_journal_of_version_3_reads_as_it_was_written_and_is_written_so() {
    let records = journal_of(every_fact_of_version_3());
    let written: String = records.iter().map(|record| format!("{}\n", record.bytes())).collect();
    assert_eq!(written, GOLDEN_V3);
    let golden: Vec<Record> =
        GOLDEN_V3.lines().map(|line| Record::read(line).expect("a record of version 3")).collect();
    check_chain(&golden).expect("a whole chain");
    let facts: Vec<RunEvent> = golden.iter().map(|record| record.event().clone()).collect();
    assert_eq!(facts, every_fact_of_version_3(), "the facts of version 3 mean what they meant");
}

#[test]
fn the_golden_journal_of_version_4_reads_as_it_was_written_and_is_written_so() {
    let records = journal_of(every_fact_of_version_4());
    let written: String = records.iter().map(|record| format!("{}\n", record.bytes())).collect();
    assert_eq!(written, GOLDEN_V4);
    let golden: Vec<Record> =
        GOLDEN_V4.lines().map(|line| Record::read(line).expect("a record of version 4")).collect();
    check_chain(&golden).expect("a whole chain");
    let facts: Vec<RunEvent> = golden.iter().map(|record| record.event().clone()).collect();
    assert_eq!(facts, every_fact_of_version_4(), "the facts of version 4 mean what they meant");
}

#[test]
fn the_golden_journal_of_version_5_reads_as_it_was_written_and_is_written_so() {
    let records = journal_of(every_fact_of_version_5());
    let written: String = records.iter().map(|record| format!("{}\n", record.bytes())).collect();
    assert_eq!(written, GOLDEN_V5);
    let golden: Vec<Record> =
        GOLDEN_V5.lines().map(|line| Record::read(line).expect("a record of version 5")).collect();
    check_chain(&golden).expect("a whole chain");
    let facts: Vec<RunEvent> = golden.iter().map(|record| record.event().clone()).collect();
    assert_eq!(facts, every_fact_of_version_5(), "the facts of version 5 mean what they meant");
}

#[test]
fn every_fact_is_in_a_golden_journal_in_the_oldest_version_that_can_say_it() {
    let version = |record: &Record| {
        let value: serde_json::Value = serde_json::from_str(record.bytes()).expect("JSON");
        value["v"].as_u64()
    };
    let (old, new) = (journal_of_every_fact(), journal_of(every_new_fact()));
    let kept = journal_of(every_fact_of_version_3());
    let workspaces = journal_of(every_fact_of_version_4());
    let newest = journal_of(every_fact_of_version_5());
    assert!(kept.iter().all(|record| version(record) == Some(3)));
    assert!(workspaces.iter().all(|record| version(record) == Some(4)));
    assert!(newest.iter().all(|record| version(record) == Some(5)));
    assert!(old.iter().all(|record| version(record) == Some(1)));
    assert!(new.iter().all(|record| version(record) == Some(2)));
    let all = || old.iter().chain(&new).chain(&kept).chain(&workspaces).chain(&newest);
    let kinds: BTreeSet<&str> = all().map(|record| kind_of(record.event())).collect();
    assert_eq!(kinds.len(), 20, "{kinds:?}");
    let page = include_str!("../../../../docs/journal.md");
    for record in all() {
        let kind = kind_of(record.event());
        let v = version(record).expect("a version");
        let row = page.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let since = row.and_then(|row| row.split('|').nth(2)).unwrap_or_default();
        assert!(
            since.contains(&v.to_string()),
            "docs/journal.md on `{kind}` of version {v}: {row:?}"
        );
    }
}

/// The journal of a run as a build that knew only version 1 wrote it: a lost attempt of a step that
/// must not be made twice was a failure at once.
fn of_an_older_build(cancelled: bool, cut: usize) -> World {
    let mut ship = step("ship");
    ship["effect"] = "once".into();
    let mut world = World::new(plan(vec![ship, after("tell", &["ship"])], None));
    let (step, attempt) = (id("ship"), 1);
    let token = AttemptToken::mint(world.run.id(), &step, attempt, Epoch(1));
    let lost = RunEvent::AttemptLost { step: step.clone(), attempt, reason: "it ended".into() };
    let need = SkipReason::Need {
        step: step.clone(),
        outcome: Outcome::Failed,
        root: step.clone(),
        root_outcome: Outcome::Failed,
    };
    let by = CancelReason::Asked { why: None };
    let facts = match cancelled {
        true => vec![
            RunEvent::Started { step, attempt, token, pool: None },
            RunEvent::CancelRequested { by: "ada".into(), reason: by },
            RunEvent::Resumed { epoch: Epoch(2) },
            lost,
            RunEvent::Ended { outcome: RunOutcome::Cancelled },
        ],
        false => vec![
            RunEvent::Started { step, attempt, token, pool: None },
            RunEvent::Resumed { epoch: Epoch(2) },
            lost,
            RunEvent::Skipped { step: id("tell"), reason: need },
            RunEvent::Ended { outcome: RunOutcome::Failed },
        ],
    };
    let (mut seq, mut head) = (world.run.seq(), world.run.head());
    for fact in facts.into_iter().take(cut) {
        seq = seq.next();
        let record = Record::seal(seq, start_time(), head, fact).expect("a record");
        assert!(record.bytes().starts_with("{\"v\":1,"), "{}", record.bytes());
        head = record.hash();
        world.records.push(record);
    }
    World::from_journal(world.plan, world.records)
}

#[test]
fn an_older_journal_in_which_a_lost_attempt_was_a_failure_means_what_it_meant() {
    let whole = of_an_older_build(false, 5);
    assert_eq!(whole.run.ended().map(|(outcome, _)| outcome), Some(RunOutcome::Failed));
    assert_eq!(
        whole.reason("ship"),
        "an attempt that must not be made twice was lost (it ended), which the build of then took \
         for a failure"
    );
    // One that was left in the middle goes on.
    let mut left = of_an_older_build(false, 4);
    left.restart(1);
    assert_eq!(left.run.ended().map(|(outcome, _)| outcome), Some(RunOutcome::Failed));
    // Where nothing followed from it yet, a person is asked as everywhere else.
    let open = of_an_older_build(false, 3);
    assert_eq!(open.run.status(), RunStatus::NeedsAttention);
    let stopped = of_an_older_build(true, 5);
    assert_eq!(stopped.run.ended().map(|(outcome, _)| outcome), Some(RunOutcome::Cancelled));
}

#[test]
fn what_is_no_record_is_told() {
    let good = journal_of_every_fact()[2].bytes().to_owned();
    let newer = good.replacen("\"v\":1", "\"v\":6", 1);
    assert!(matches!(Record::read(&newer), Err(DecodeError::Newer { found: 6 })));
    let text = Record::read(&newer).unwrap_err().to_string();
    assert_eq!(
        text,
        "the record has version 6, and this build reads up to 5: a newer build of Fairlead wrote it, and reads it"
    );
    for (bad, why) in [
        (String::new(), "nothing"),
        (good[..good.len() - 5].to_owned(), "cut short"),
        (good.replacen("\"type\":\"started\"", "\"type\":\"begun\"", 1), "an unknown fact"),
        (good.replacen("\"attempt\":1", "\"attempt\":1,\"x\":1", 1), "an unknown field"),
        (good.replacen("\"attempt\":1", "\"attempt\":-1", 1), "no attempt"),
        (good.replacen("\"step\":\"build\"", "\"step\":\"Build\"", 1), "no step name"),
        ("[".repeat(100_000), "a deep nest"),
    ] {
        assert!(Record::read(&bad).is_err(), "{why}");
    }
    let hash = journal_of_every_fact()[2].prev().to_string();
    assert!(matches!(Record::read(&good.replace(&hash, "abc")), Err(DecodeError::BadHash)));
}

#[test]
fn a_record_has_a_limit() {
    let large = "x".repeat(Record::MAX_BYTES);
    let RunEvent::Requested(mut request) = every_fact().swap_remove(0) else { panic!() };
    request.event = json!({ "body": large });
    let sealed = Record::first(start_time(), *request);
    assert!(
        matches!(sealed, Err(SealError::TooLarge { .. })),
        "it is refused when it is asked for"
    );
}

#[test]
fn a_fact_that_is_too_large_is_written_smaller_and_says_so() {
    let large = || "x".repeat(Record::MAX_BYTES);
    let (run, step) = (RunId::mint(1, 1), || id("a"));
    let token = || AttemptToken::mint(&run, &id("a"), 1, Epoch(1));
    let finished = |result| RunEvent::Finished { step: step(), attempt: 1, token: token(), result };
    let items = (0..200_000).map(|n| Item { key: format!("k{n}"), value: json!(n) }).collect();
    let ada = || Voter { name: "ada".into(), groups: BTreeSet::new() };
    let outputs = || json!({ "text": large() });
    let failure =
        || Failure { class: ErrorClass::Retryable, message: large(), hint: Some(large()) };
    for event in [
        RunEvent::Expanded { step: step(), items },
        finished(StepResult::Verdict(Verdict::passed(outputs()))),
        finished(StepResult::Verdict(Verdict::Rejected { reason: large(), outputs: json!({}) })),
        finished(StepResult::Verdict(Verdict::Skipped { reason: large() })),
        finished(StepResult::Failure(failure())),
        finished(StepResult::Cancelled { message: large() }),
        RunEvent::CacheHit {
            step: step(),
            attempt: 1,
            token: token(),
            key: Digest::sha256(b"key"),
            run: run.clone(),
            outputs: outputs(),
        },
        RunEvent::NotStarted { step: step(), failure: failure() },
        RunEvent::AttemptLost { step: step(), attempt: 1, reason: large() },
        RunEvent::Voted { step: step(), by: ada(), vote: Vote::Reject, reason: Some(large()) },
        RunEvent::Settled {
            step: step(),
            attempt: 1,
            by: ada(),
            decision: Decision::Failed,
            reason: Some(large()),
        },
        RunEvent::Woken { step: step(), why: large() },
        RunEvent::CancelRequested {
            by: "ada".into(),
            reason: CancelReason::Asked { why: Some(large()) },
        },
        RunEvent::Abandoned { by: "ada".into(), reason: Some(large()), problem: Some(large()) },
    ] {
        let kind = kind_of(&event);
        let record = Record::seal(Seq(2), start_time(), RecordHash::ZERO, event)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(record.bytes().len() < 64 << 10, "{kind}: {}", record.bytes().len());
        match (kind, record.event()) {
            ("expanded", RunEvent::NotStarted { failure, .. }) => {
                assert!(failure.message.contains("200000 items"), "{}", failure.message);
                assert!(failure.message.contains("4194304"), "{}", failure.message);
            }
            ("remembered", RunEvent::Finished { .. }) => {}
            (kind, event) => assert_eq!(kind_of(event), kind),
        }
        assert_eq!(Record::read(record.bytes()).expect("a record"), record);
    }
}
