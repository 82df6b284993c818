//! The audit log: what callers have changed, each entry with the hash of the one before it, and the port
//! to where it is kept.
//!
//! The chain shows that no entry was changed, taken out or put in between. That none was cut off at the
//! end only somebody can tell who has seen the end before: whoever exports the log keeps its last hash.

use std::fmt;
use std::str::FromStr;

use fairlead_step::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::record::check_place;
use crate::{ChainError, RecordHash, Seq, StoreError};

/// The version of the stored form.
const VERSION: u32 = 1;
/// The most bytes of a text in an entry. Callers choose some of them.
const MAX_TEXT: usize = 512;

/// What was done, or was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuditAction {
    /// A run was asked for. The target is the pipeline.
    #[serde(rename = "run.request")]
    RunRequest,
    /// A run was told to stop.
    #[serde(rename = "run.cancel")]
    RunCancel,
    /// A run was ended that could not be driven.
    #[serde(rename = "run.abandon")]
    RunAbandon,
    /// A run is made again.
    #[serde(rename = "run.retry")]
    RunRetry,
    /// What a run has done is taken back.
    #[serde(rename = "run.undo")]
    RunUndo,
    /// A vote for a step.
    #[serde(rename = "step.approve")]
    StepApprove,
    /// A vote against a step.
    #[serde(rename = "step.reject")]
    StepReject,
    /// A decision about a lost attempt.
    #[serde(rename = "step.settle")]
    StepSettle,
    /// An event is handed out again.
    #[serde(rename = "event.retry")]
    EventRetry,
    /// Runs, logs and events are removed.
    #[serde(rename = "store.prune")]
    StorePrune,
    /// A token was made.
    #[serde(rename = "token.create")]
    TokenCreate,
    /// A token was revoked.
    #[serde(rename = "token.revoke")]
    TokenRevoke,
    /// Somebody was not let in. Not each time is written down.
    #[serde(rename = "login.refused")]
    LoginRefused,
    /// Somebody known wanted what they may not. Not each time is written down.
    #[serde(rename = "access.refused")]
    AccessRefused,
}

impl AuditAction {
    /// Every action.
    pub const ALL: [Self; 14] = [
        Self::RunRequest,
        Self::RunCancel,
        Self::RunAbandon,
        Self::RunRetry,
        Self::RunUndo,
        Self::StepApprove,
        Self::StepReject,
        Self::StepSettle,
        Self::EventRetry,
        Self::StorePrune,
        Self::TokenCreate,
        Self::TokenRevoke,
        Self::LoginRefused,
        Self::AccessRefused,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunRequest => "run.request",
            Self::RunCancel => "run.cancel",
            Self::RunAbandon => "run.abandon",
            Self::RunRetry => "run.retry",
            Self::RunUndo => "run.undo",
            Self::StepApprove => "step.approve",
            Self::StepReject => "step.reject",
            Self::StepSettle => "step.settle",
            Self::EventRetry => "event.retry",
            Self::StorePrune => "store.prune",
            Self::TokenCreate => "token.create",
            Self::TokenRevoke => "token.revoke",
            Self::LoginRefused => "login.refused",
            Self::AccessRefused => "access.refused",
        }
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What somebody did, before it has a place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Who.
    pub actor: String,
    /// How it is known who that is: a token by its id, an issuer, the command line.
    pub via: String,
    /// In whose name, where that is somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What.
    pub action: AuditAction,
    /// To what: a run, a step as `RUN/STEP`, a pipeline, an event, a token.
    pub target: String,
    /// What else there is to know. No secret belongs here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

impl AuditEntry {
    /// The most bytes of an entry with everything in it.
    pub const MAX_BYTES: usize = 16 << 10;

    /// The entry with all its texts cut to what a log takes.
    fn bounded(self) -> Self {
        let cut = |text: String| -> String {
            match text.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_TEXT) {
                None => text,
                Some((at, _)) => format!("{}…", &text[..at]),
            }
        };
        let mut detail: Map<String, Value> = self
            .detail
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name, Value::String(cut(text))),
                value @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_)) => (name, value),
            })
            .collect();
        if serde_json::to_string(&detail).is_ok_and(|text| text.len() > Self::MAX_BYTES / 2) {
            detail = Map::from_iter([("cut".to_owned(), Value::Bool(true))]);
        }
        Self {
            actor: cut(self.actor),
            via: cut(self.via),
            on_behalf_of: self.on_behalf_of.map(cut),
            address: self.address.map(cut),
            action: self.action,
            target: cut(self.target),
            detail,
        }
    }
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    seq: Seq,
    prev: RecordHash,
    at: Timestamp,
    entry: AuditEntry,
    bytes: String,
    hash: RecordHash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    v: u32,
    seq: u64,
    at: Timestamp,
    prev: String,
    entry: AuditEntry,
}

/// Why stored bytes are no entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditDecodeError {
    /// They are not what any build writes.
    #[error("the bytes are no entry of an audit log")]
    Malformed(#[source] serde_json::Error),
    /// A newer build wrote it.
    #[error("the entry has version {found}, and this build reads version {VERSION}")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It names a hash that is none.
    #[error("the entry names a hash before it that is not 64 hex digits")]
    BadHash,
}

impl AuditRecord {
    /// The entry that stands behind `last`, or first of all.
    ///
    /// # Errors
    /// When it has no JSON form, which nothing that callers can say leads to.
    pub fn seal(
        last: Option<(Seq, RecordHash)>,
        at: Timestamp,
        entry: AuditEntry,
    ) -> Result<Self, serde_json::Error> {
        let (seq, prev) = last.unwrap_or((Seq(0), RecordHash::ZERO));
        let seq = seq.next();
        let entry = entry.bounded();
        let envelope = Envelope { v: VERSION, seq: seq.0, at, prev: prev.to_string(), entry };
        let bytes = serde_json::to_string(&envelope)?;
        let hash = RecordHash::of(&bytes);
        Ok(Self { seq, prev, at, entry: envelope.entry, bytes, hash })
    }

    /// Its place: the first has 1, and there are no gaps.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// When it was written.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What it says.
    #[must_use]
    pub const fn entry(&self) -> &AuditEntry {
        &self.entry
    }

    /// The bytes as stored: one line of JSON.
    #[must_use]
    pub fn bytes(&self) -> &str {
        &self.bytes
    }

    /// The hash of the bytes, which the next entry carries.
    #[must_use]
    pub const fn hash(&self) -> RecordHash {
        self.hash
    }
}

/// Reads an entry as it was stored.
impl FromStr for AuditRecord {
    type Err = AuditDecodeError;

    fn from_str(bytes: &str) -> Result<Self, AuditDecodeError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version = serde_json::from_str(bytes).map_err(AuditDecodeError::Malformed)?;
        if version.v > VERSION {
            return Err(AuditDecodeError::Newer { found: version.v });
        }
        let envelope: Envelope =
            serde_json::from_str(bytes).map_err(AuditDecodeError::Malformed)?;
        let Envelope { seq, at, prev, entry, .. } = envelope;
        let prev = RecordHash::from_hex(&prev).ok_or(AuditDecodeError::BadHash)?;
        let hash = RecordHash::of(bytes);
        Ok(Self { seq: Seq(seq), prev, at, entry, bytes: bytes.to_owned(), hash })
    }
}

/// Checks that `records` follow one another behind `last`, and answers the place and the hash of the
/// last of them.
///
/// # Errors
/// The first place where they do not.
pub fn check_audit(
    last: Option<(Seq, RecordHash)>,
    records: &[AuditRecord],
) -> Result<Option<(Seq, RecordHash)>, ChainError> {
    let mut end = last;
    for record in records {
        let (seq, hash) = end.unwrap_or((Seq(0), RecordHash::ZERO));
        check_place((seq, hash), (record.seq, record.prev))?;
        end = Some((record.seq, record.hash));
    }
    Ok(end)
}

/// The most entries of a page.
pub const MOST_ENTRIES: usize = 1000;

/// The port to the audit log.
pub trait AuditLog: Send + Sync {
    /// Writes an entry behind the last one, whoever else does at the same time, and answers when it is
    /// durable.
    ///
    /// # Errors
    /// When the store fails; then nothing was written.
    fn append(
        &self,
        at: Timestamp,
        entry: AuditEntry,
    ) -> BoxFuture<'_, Result<AuditRecord, StoreError>>;

    /// The entries behind the one at `after`, oldest first, at most `limit` and [`MOST_ENTRIES`].
    ///
    /// # Errors
    /// When the store fails, or an entry cannot be read.
    fn read(&self, after: Seq, limit: usize)
    -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>>;

    /// The place and the hash of the last entry; none while there is none.
    ///
    /// # Errors
    /// When the store fails.
    fn head(&self) -> BoxFuture<'_, Result<Option<(Seq, RecordHash)>, StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../schemas/golden/audit.v1.jsonl");

    fn entry(target: &str) -> AuditEntry {
        AuditEntry {
            actor: "ann".into(),
            via: "token tok_1".into(),
            on_behalf_of: None,
            address: None,
            action: AuditAction::RunCancel,
            target: target.into(),
            detail: Map::new(),
        }
    }

    fn chain(count: i64) -> Vec<AuditRecord> {
        let mut records: Vec<AuditRecord> = Vec::new();
        for n in 0..count {
            let last = records.last().map(|record| (record.seq(), record.hash()));
            let at = Timestamp::from_second(1_790_000_000 + n).unwrap();
            records.push(AuditRecord::seal(last, at, entry(&format!("run {n}"))).unwrap());
        }
        records
    }

    #[test]
    fn whatever_is_done_to_a_log_shows() {
        let records = chain(5);
        let end = check_audit(None, &records).unwrap();
        assert_eq!(end, Some((Seq(5), records[4].hash())));
        // A page at a time is the same.
        let first = check_audit(None, &records[..2]).unwrap();
        assert_eq!(check_audit(first, &records[2..]).unwrap(), end);

        let read = |text: &str| text.parse::<AuditRecord>().unwrap();
        let mut changed = records.clone();
        changed[2] = read(&records[2].bytes().replace("ann", "bob"));
        assert_eq!(check_audit(None, &changed), Err(ChainError::Broken { seq: Seq(4) }));
        let mut without = records.clone();
        without.remove(1);
        assert!(check_audit(None, &without).is_err());
        let mut swapped = records.clone();
        swapped.swap(1, 2);
        assert!(check_audit(None, &swapped).is_err());
        assert!(check_audit(None, &records[1..]).is_err(), "the first one is missing");
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let golden: Vec<AuditRecord> = GOLDEN.lines().map(|line| line.parse().unwrap()).collect();
        let end = check_audit(None, &golden).unwrap();
        assert_eq!(end.map(|(seq, _)| seq), Some(Seq(2)));
        for (record, line) in golden.iter().zip(GOLDEN.lines()) {
            let last = (record.seq().0 > 1).then(|| (Seq(record.seq().0 - 1), record.prev));
            let again = AuditRecord::seal(last, record.at(), record.entry().clone()).unwrap();
            assert_eq!(again.bytes(), line);
        }
        assert!("{}".parse::<AuditRecord>().is_err());
        let newer = GOLDEN.lines().next().unwrap().replace("\"v\":1", "\"v\":2");
        assert!(matches!(newer.parse::<AuditRecord>(), Err(AuditDecodeError::Newer { found: 2 })));
    }

    #[test]
    fn what_callers_say_is_cut() {
        let mut long = entry(&"é".repeat(MAX_TEXT));
        long.detail.insert("reason".into(), "x".repeat(1 << 20).into());
        long.detail.insert("params".into(), vec!["y".repeat(100); 1000].into());
        let record = AuditRecord::seal(None, Timestamp::UNIX_EPOCH, long).unwrap();
        assert!(record.bytes().len() < AuditEntry::MAX_BYTES, "{}", record.bytes().len());
        assert!(record.entry().target.ends_with('…'));
    }
}
