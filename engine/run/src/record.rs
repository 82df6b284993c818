//! Records: a fact with its place, its time, and the hash of the record before it.

use std::fmt;
use std::sync::Arc;

use fairlead_step::Digest;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::limit;
use crate::stored::{self, DecodeError};
use crate::{Head, RunEvent, Seq};

/// The SHA-256 of a record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordHash([u8; 32]);

impl RecordHash {
    /// What the first record names as the hash before it.
    pub const ZERO: Self = Self([0; 32]);

    pub(crate) fn of(bytes: &str) -> Self {
        Self(Sha256::digest(bytes.as_bytes()).into())
    }

    /// The hash that `text`, 64 hex digits, stands for.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }

    /// The same as a digest.
    #[must_use]
    pub fn digest(self) -> Digest {
        Digest::from_sha256(&self.0)
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a fact does not become a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It is larger than a journal takes.
    #[error("the record has {size} bytes, more than the {limit} that a journal takes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It has no JSON form, such as a workspace whose path is not UTF-8.
    #[error("the record cannot be written as JSON")]
    NotJson(#[source] serde_json::Error),
}

/// One record of a journal: a fact and the bytes it is stored as. The bytes are made once, when
/// the record is sealed, and are what the next record's hash speaks of. A clone shares both.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    seq: Seq,
    at: Timestamp,
    prev: RecordHash,
    event: Arc<RunEvent>,
    bytes: Arc<str>,
    hash: RecordHash,
}

impl Record {
    /// The most bytes of one record: the outputs of a step are at most 1 MiB.
    pub const MAX_BYTES: usize = 4 << 20;

    /// Makes the record that stands at `seq` behind the one whose hash is `prev`. A fact that is too
    /// large is written smaller where that is possible: texts are cut, and a result or a list becomes the
    /// failure of its step.
    ///
    /// # Errors
    /// When the fact is too large all the same, as a request is, or has no JSON form.
    pub fn seal(
        seq: Seq,
        at: Timestamp,
        prev: RecordHash,
        event: RunEvent,
    ) -> Result<Self, SealError> {
        let encode =
            |event: &RunEvent| stored::encode(seq, at, prev, event).map_err(SealError::NotJson);
        let mut event = event;
        let mut bytes = encode(&event)?;
        if bytes.len() > Self::MAX_BYTES
            && let Some(smaller) = limit::smaller(&event, bytes.len())
        {
            bytes = encode(&smaller)?;
            event = smaller;
        }
        if bytes.len() > Self::MAX_BYTES {
            return Err(SealError::TooLarge { size: bytes.len(), limit: Self::MAX_BYTES });
        }
        let hash = RecordHash::of(&bytes);
        Ok(Self { seq, at, prev, event: Arc::new(event), bytes: bytes.into(), hash })
    }

    /// Makes the first record of a journal.
    ///
    /// # Errors
    /// When the request is too large, or has no JSON form.
    pub fn first(at: Timestamp, request: crate::Request) -> Result<Self, SealError> {
        Self::seal(Seq(1), at, RecordHash::ZERO, RunEvent::Requested(Box::new(request)))
    }

    /// Reads a record as it was stored. Whether it fits behind another is for the chain to say:
    /// [`crate::Run::apply`] and [`check_chain`] do.
    ///
    /// # Errors
    /// When the bytes are no record, or one of a newer version.
    pub fn read(bytes: &str) -> Result<Self, DecodeError> {
        let (seq, at, prev, event) = stored::decode(bytes)?;
        let event = Arc::new(event);
        Ok(Self { seq, at, prev, event, bytes: bytes.into(), hash: RecordHash::of(bytes) })
    }

    /// Its place.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// When the fact was written down.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The hash of the record before it.
    #[must_use]
    pub const fn prev(&self) -> RecordHash {
        self.prev
    }

    /// The fact.
    #[must_use]
    pub fn event(&self) -> &RunEvent {
        &self.event
    }

    /// The bytes as stored, one line of JSON.
    #[must_use]
    pub fn bytes(&self) -> &str {
        &self.bytes
    }

    /// The bytes as stored, shared.
    #[must_use]
    pub fn shared_bytes(&self) -> Arc<str> {
        Arc::clone(&self.bytes)
    }

    /// The hash of the bytes.
    #[must_use]
    pub const fn hash(&self) -> RecordHash {
        self.hash
    }
}

impl Head {
    /// The end of a journal whose last record has these bytes, of whichever version; none where it is
    /// not there although the run stands at `seq`.
    #[must_use]
    pub fn of(seq: Seq, last: Option<&str>) -> Self {
        let hash = last.map_or(RecordHash::ZERO, RecordHash::of);
        Self { seq, hash, at: last.and_then(stored::written_at) }
    }
}

/// Where a journal is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A record is missing, or stands twice.
    #[error("record {expected} is missing: {found} stands in its place")]
    Gap {
        /// The record that should be here.
        expected: Seq,
        /// The record that is here.
        found: Seq,
    },
    /// A record, or the one before it, was changed.
    #[error("record {seq} does not follow from the record before it: one of the two was changed")]
    Broken {
        /// The later of the two.
        seq: Seq,
    },
}

/// Checks that `next` stands behind the record at `seq` whose hash is `head`.
///
/// # Errors
/// When it does not.
pub(crate) fn check_link(seq: Seq, head: RecordHash, next: &Record) -> Result<(), ChainError> {
    check_place((seq, head), (next.seq, next.prev))
}

/// Checks that what stands at a place, and names a hash as that before it, stands behind `last`.
pub(crate) fn check_place(
    last: (Seq, RecordHash),
    next: (Seq, RecordHash),
) -> Result<(), ChainError> {
    let expected = last.0.next();
    if next.0 != expected {
        return Err(ChainError::Gap { expected, found: next.0 });
    }
    if next.1 != last.1 {
        return Err(ChainError::Broken { seq: next.0 });
    }
    Ok(())
}

/// Checks that `records` are a journal from its beginning, whole and in order.
///
/// # Errors
/// The first place where they are not.
pub fn check_chain(records: &[Record]) -> Result<(), ChainError> {
    let mut last = (Seq(0), RecordHash::ZERO);
    for record in records {
        check_link(last.0, last.1, record)?;
        last = (record.seq, record.hash);
    }
    Ok(())
}
