//! The stored form of records: shadows of the facts, with versions. A version is never changed once
//! released; a new one is added beside it, and every older one stays readable.
//!
//! A fact is written in the oldest version that can say it. So an older build reads every run that
//! uses nothing new, and tells the others by the number that it does not know.

mod v1;
mod v2;
mod v3;
mod v4;
mod v5;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{RecordHash, RunEvent, Seq, StepResult};

pub(crate) use v2::{CancelV2, SettledV2, VotedV2};

/// The newest version that this build writes and reads.
pub const RECORD_VERSION: u32 = 5;

/// Why stored bytes are no record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A newer build wrote it.
    #[error(
        "the record has version {found}, and this build reads up to {RECORD_VERSION}: a newer build of Fairlead wrote it, and reads it"
    )]
    Newer {
        /// The version of the record.
        found: u32,
    },
    /// It is not what any build writes.
    #[error("the bytes are not a record")]
    Malformed(#[source] serde_json::Error),
    /// It names a hash that is none.
    #[error("the record names a hash before it that is not 64 hex digits")]
    BadHash,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The envelope is the same in every version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<F> {
    v: u32,
    seq: u64,
    at: Timestamp,
    prev: String,
    fact: F,
}

/// The bytes of a record, in the oldest version that can say it.
pub(crate) fn encode(
    seq: Seq,
    at: Timestamp,
    prev: RecordHash,
    event: &RunEvent,
) -> Result<String, serde_json::Error> {
    let (seq, prev) = (seq.0, prev.to_string());
    if let Some(fact) = v1::FactV1::of(event) {
        return serde_json::to_string(&Envelope { v: 1, seq, at, prev, fact });
    }
    if let Some(fact) = v2::FactV2::of(event) {
        return serde_json::to_string(&Envelope { v: 2, seq, at, prev, fact });
    }
    if let Some(fact) = v3::FactV3::of(event) {
        return serde_json::to_string(&Envelope { v: 3, seq, at, prev, fact });
    }
    if let Some(fact) = v4::FactV4::of(event) {
        return serde_json::to_string(&Envelope { v: 4, seq, at, prev, fact });
    }
    let fact = v5::FactV5::of(event);
    serde_json::to_string(&Envelope { v: 5, seq, at, prev, fact })
}

/// Reads a record of any version.
pub(crate) fn decode(bytes: &str) -> Result<(Seq, Timestamp, RecordHash, RunEvent), DecodeError> {
    let Version { v } = serde_json::from_str(bytes).map_err(DecodeError::Malformed)?;
    match v {
        ..=1 => opened::<v1::FactV1>(bytes),
        2 => opened::<v2::FactV2>(bytes),
        3 => opened::<v3::FactV3>(bytes),
        4 => opened::<v4::FactV4>(bytes),
        5 => opened::<v5::FactV5>(bytes),
        6.. => Err(DecodeError::Newer { found: v }),
    }
}

/// When a record was written, of whichever version it is.
pub(crate) fn written_at(bytes: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct At {
        at: Timestamp,
    }
    serde_json::from_str::<At>(bytes).ok().map(|record| record.at)
}

fn opened<'b, F: Deserialize<'b> + Into<RunEvent>>(
    bytes: &'b str,
) -> Result<(Seq, Timestamp, RecordHash, RunEvent), DecodeError> {
    let record: Envelope<F> = serde_json::from_str(bytes).map_err(DecodeError::Malformed)?;
    let prev = RecordHash::from_hex(&record.prev).ok_or(DecodeError::BadHash)?;
    Ok((Seq(record.seq), record.at, prev, record.fact.into()))
}

/// A result travels in the form in which it is stored.
impl Serialize for StepResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        v1::ResultV1::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StepResult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        v1::ResultV1::deserialize(deserializer).map(Into::into)
    }
}
