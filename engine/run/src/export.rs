//! A run's journal by itself: JSON, a line each. A head names the format and the run, then comes the stored
//! plan, then the records of other runs whose results stand for this one, and the records byte for byte as
//! they are kept, whose hashes so stay what they are.

use fairlead_step::RunId;
use serde::{Deserialize, Serialize};

use crate::{KeptRecords, PlanBlob, Record, StoredRun};

/// The name of the exported form.
const FORMAT: &str = "fairlead.dev/journal/v1";

/// The same for a run that refers to results of other runs: their records stand behind the plan.
const FORMAT_WITH_KEPT: &str = "fairlead.dev/journal/v2";

/// The most bytes of an exported journal that is read.
pub const MAX_EXPORT_BYTES: u64 = 256 << 20;

/// Why a text is no exported journal.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ImportError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    run: RunId,
}

/// A record of another run, byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptLine {
    kept: String,
    of: RunId,
}

impl StoredRun {
    /// The run as text that [`StoredRun::import`] reads, a line each, with an end behind the last.
    ///
    /// # Errors
    /// When a part of it has no JSON form.
    pub fn export(&self) -> Result<String, serde_json::Error> {
        let format = if self.kept.is_empty() { FORMAT } else { FORMAT_WITH_KEPT };
        let head = Head { format: format.to_owned(), run: self.id.clone() };
        let mut text = serde_json::to_string(&head)?;
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(self.plan.bytes()));
        text.push('\n');
        for ((run, _), record) in &self.kept {
            let kept = KeptLine { kept: record.bytes().to_owned(), of: run.clone() };
            text.push_str(&serde_json::to_string(&kept)?);
            text.push('\n');
        }
        for record in &self.records {
            text.push_str(record.bytes());
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads what [`StoredRun::export`] wrote. Whether the records make a run is for
    /// [`crate::Run::restore`] to say.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn import(text: &str) -> Result<Self, ImportError> {
        let wrong = |line: usize, problem: String| ImportError { line, problem };
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
        let (_, head) = lines.next().ok_or_else(|| wrong(1, "the file is empty".to_owned()))?;
        let head: Head =
            serde_json::from_str(head).map_err(|e| wrong(1, format!("it is no head: {e}")))?;
        if head.format != FORMAT && head.format != FORMAT_WITH_KEPT {
            return Err(wrong(1, format!("it is in the format `{}`, not `{FORMAT}`", head.format)));
        }
        let (_, plan) = lines.next().ok_or_else(|| wrong(2, "the plan is missing".to_owned()))?;
        let plan = PlanBlob::new(plan.to_owned());
        let read = |n: usize, line: &str| Record::read(line).map_err(|e| wrong(n, e.to_string()));
        let (mut kept, mut records) = (KeptRecords::new(), Vec::new());
        for (n, line) in lines {
            match serde_json::from_str::<KeptLine>(line) {
                Ok(line) if records.is_empty() => {
                    let record = read(n, &line.kept)?;
                    kept.insert((line.of, record.seq()), record);
                }
                Ok(_) | Err(_) => records.push(read(n, line)?),
            }
        }
        Ok(Self { id: head.run, plan, records, kept })
    }
}
