//! What is kept of a followed repository: the files that were taken, each as it was last good, so that
//! another server and the next start have them when the forge is away.

use std::collections::BTreeMap;

use fairlead_step::ObjectId;
use serde::{Deserialize, Serialize};

/// The version of the stored form.
const VERSION: u32 = 1;
/// The most bytes of all files of a repository together.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// The most files.
pub(super) const MOST_FILES: usize = 500;

/// The files of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The commit that was looked at last.
    pub(super) commit: Option<ObjectId>,
    /// The files that are in use, by path.
    pub(super) files: BTreeMap<String, KeptFile>,
    /// The files of that commit that are not, by path.
    pub(super) refused: BTreeMap<String, Vec<String>>,
}

/// A file as it was last good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFile {
    /// The commit that it was read at.
    pub(super) commit: ObjectId,
    /// Its text.
    pub(super) text: String,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    #[serde(flatten)]
    kept: &'a Kept,
}

#[derive(Deserialize)]
struct Read {
    v: u32,
    #[serde(flatten)]
    kept: Kept,
}

impl Kept {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&Written { v: VERSION, kept: self }).unwrap_or_default()
    }

    /// What was stored; none when a newer build wrote it, or nobody can read it. It is read from the forge
    /// again then.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        let read: Read = serde_json::from_str(text).ok()?;
        (read.v == VERSION).then_some(read.kept)
    }
}
