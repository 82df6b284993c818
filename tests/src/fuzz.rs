//! What must hold whatever comes in, as plain functions over bytes: the fuzzer calls them with what it thinks
//! of (`fuzz/`), and a test calls them for a moment with what a seeded mutator makes of real inputs.
//!
//! Each panics when something does not hold.

use std::path::Path;

use fairlead_event::{CloudEvent, CommentCommand, SenderKind, SourceEvent, samples};
use fairlead_plan::{Plan, Source, compile};
use fairlead_run::{AuditRecord, Grant, Record, Run, Signal, StoredRun, token_hash};
use fairlead_step::{Catalog, StepId};

use crate::repository_root;

/// A target: its name, and what is called.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("senders", senders),
    ("cloud_events", cloud_events),
    ("comments", comments),
    ("pipelines", pipelines),
    ("records", records),
    ("tokens", tokens),
];

/// Every proof and every normalizer: the first byte picks the sender.
pub fn senders(data: &[u8]) {
    samples::exercise(data);
}

/// Stored events and whatever comes as a CloudEvent: what is read is written and read again as the same.
pub fn cloud_events(data: &[u8]) {
    let Ok(event) = CloudEvent::from_json(data) else { return };
    let again = CloudEvent::from_json(event.to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(&event));
    if let Ok(source) = SourceEvent::from_cloud_event(&event) {
        let _ = (source.subject(), source.template_value(), source.dedup_key());
    }
}

/// Commands in comments, which anybody may write.
pub fn comments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Some(command)) = CommentCommand::in_comment(text) {
        assert!(!command.verb.is_empty() && command.args.len() <= 32);
    }
}

/// Pipeline files: findings or a plan, whose stored form is read as the same plan.
pub fn pipelines(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match compile(&Source::new("fuzz.yaml", text), &Catalog::new()) {
        Err(findings) => assert!(!findings.to_string().is_empty()),
        Ok(compiled) => {
            let stored = serde_json::to_string(&compiled.plan).expect("a stored form");
            let read: Plan = serde_json::from_str(&stored).expect("a plan that was stored");
            assert_eq!(read, compiled.plan);
        }
    }
}

/// Records, exported journals, entries of the audit log, and signals.
pub fn records(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(record) = Record::read(text) {
        assert_eq!(record.bytes(), text, "a record is its bytes");
    }
    if let Ok(entry) = text.parse::<AuditRecord>() {
        assert_eq!(entry.bytes(), text, "an entry is its bytes");
    }
    let _ = Signal::decode(text);
    if let Ok(stored) = StoredRun::import(text)
        && let Ok(run) = Run::restore(&stored)
    {
        let _ = (run.status(), run.commands(run.requested_at()), run.steps().count());
    }
}

/// What callers show, and what they may be given.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if token_hash(text).is_some() {
        assert!(text.len() == 68 && text.is_ascii());
    }
    if let Ok(grant) = text.parse::<Grant>() {
        assert_eq!(grant.to_string().parse::<Grant>().as_ref(), Ok(&grant));
    }
    if let Ok(step) = text.parse::<StepId>() {
        assert_eq!(step.as_str(), text);
    }
}

/// Inputs to begin from: a message of each sender, the project's own pipelines and golden records, and the
/// webhooks in the folder that `FAIRLEAD_WEBHOOKS` names, where it names one.
#[must_use]
pub fn seeds(target: &str, webhooks: Option<&Path>) -> Vec<Vec<u8>> {
    let root = repository_root();
    let lines = |name: &str| -> Vec<Vec<u8>> {
        let text = std::fs::read_to_string(root.join("schemas/golden").join(name));
        text.unwrap_or_default().lines().map(|line| line.as_bytes().to_vec()).collect()
    };
    let mut seeds: Vec<Vec<u8>> = match target {
        "senders" => {
            let kinds = (0_u8..).zip(SenderKind::ALL);
            let message = |kind| samples::message(kind).body.to_string().into_bytes();
            kinds.map(|(at, kind)| [&[at, 1][..], &message(kind)].concat()).collect()
        }
        "cloud_events" => vec![
            br#"{"specversion":"1.0","id":"1","source":"/x","type":"dev.fairlead.image.pushed.v1",
                "time":"2026-11-22T03:13:52Z","data":{"repository":"registry.example.com/a","tag":"1",
                "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "media_type":null,"actor":null,"at":null}}"#
                .to_vec(),
        ],
        "comments" => vec![b"hello\n/fairlead run release version=v1.2.3 dry=true\nbye".to_vec()],
        "pipelines" => {
            let folder = std::fs::read_dir(root.join("pipelines"));
            let files = folder.into_iter().flatten().flatten();
            files.filter_map(|file| std::fs::read(file.path()).ok()).collect()
        }
        "records" => [
            "journal.v1.jsonl",
            "journal.v2.jsonl",
            "journal.v3.jsonl",
            "journal.v4.jsonl",
            "audit.v1.jsonl",
        ]
        .iter()
        .flat_map(|name| lines(name))
        .collect(),
        "tokens" => vec![
            format!("flt_{}", "ab".repeat(32)).into_bytes(),
            b"operator:shop".to_vec(),
            b"scan[web]".to_vec(),
        ],
        _ => Vec::new(),
    };
    if target == "senders"
        && let Some(folder) = webhooks
    {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let of = |kind: &SenderKind| name.starts_with(&kind.to_string());
            let at = SenderKind::ALL.iter().position(of).and_then(|at| u8::try_from(at).ok());
            let (Some(at), true) = (at, name.ends_with(".body.json")) else { continue };
            if let Ok(body) = std::fs::read(entry.path()) {
                seeds.push([&[at, 1][..], &body].concat());
            }
        }
    }
    seeds
}

/// Makes inputs of other inputs, the same ones for the same seed.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

/// The most bytes of an input.
const MOST: usize = 64 << 10;
/// What readers of text and of JSON trip over.
const AWKWARD: [&str; 20] = [
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    "\n",
    "\u{feff}",
    "\u{202e}",
    "../",
    "{{",
    "}}",
];

impl Mutator {
    /// A mutator.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, or 0 (SplitMix64).
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        usize::try_from(z % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// One of the seeds, changed in one to eight places.
    #[must_use]
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            let at = self.below(data.len() + 1);
            let end = at + self.below((data.len() - at).min(64) + 1);
            match self.below(7) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 if at < data.len() => data[at] = u8::try_from(self.below(256)).unwrap_or(0),
                2 => drop(data.drain(at..end)),
                3 => {
                    let again = data[at..end].to_vec();
                    data.splice(at..at, again);
                }
                4 => {
                    let word = AWKWARD[self.below(AWKWARD.len())].bytes();
                    data.splice(at..at, word);
                }
                5 => data.truncate(at),
                _ => {
                    let other = seeds.get(self.below(seeds.len())).map_or(&[][..], Vec::as_slice);
                    let from = self.below(other.len() + 1);
                    let to = from + self.below((other.len() - from).min(256) + 1);
                    data.splice(at..end, other[from..to].iter().copied());
                }
            }
            data.truncate(MOST);
        }
        data
    }
}
