//! Compiles OSV records into a database file.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use fairlead_step::Digest;
use jiff::Timestamp;

use super::format::{Content, Writer};
use crate::ecosystem::Ecosystem;
use crate::osv::{Advisory, Borrowed, Record, RecordError, Score};
use crate::range;

/// Faulty ranges that are told by name; the others are counted.
const MAX_FAULTS_NAMED: usize = 20;

/// Gathers records and writes them out in order.
#[derive(Default)]
pub(super) struct Compiler {
    ids: HashSet<Box<str>>,
    newest: BTreeMap<Ecosystem, Timestamp>,
    /// Ecosystem and name → record id → what is kept.
    packages: BTreeMap<(String, String), BTreeMap<String, Kept>>,
    /// CVE → the vectors of the record with the smallest id that states any.
    scores: BTreeMap<String, (String, Vec<Score>)>,
    pub(super) faults: u64,
    pub(super) faults_named: Vec<String>,
}

struct Kept {
    modified: String,
    /// It states no severity; one for the same CVE may be borrowed when everything is read.
    lacks_severity: bool,
    json: Box<[u8]>,
}

impl Compiler {
    /// Takes one record of the dump of `ecosystem`; answers whether it was withdrawn.
    pub(super) fn add(&mut self, ecosystem: Ecosystem, bytes: &[u8]) -> Result<bool, RecordError> {
        let record = Record::read(bytes)?;
        if record.withdrawn() {
            return Ok(true);
        }
        let advisories = record.advisories(ecosystem)?;
        if let Ok(modified) = record.modified.parse::<Timestamp>() {
            let newest = self.newest.entry(ecosystem).or_insert(modified);
            *newest = modified.max(*newest);
        }
        self.ids.insert(record.id().into());
        if !record.scores().is_empty() {
            for cve in record.cves() {
                let offer = || (record.id().to_owned(), record.scores().to_vec());
                let held = self.scores.entry(cve.to_owned()).or_insert_with(offer);
                if held.0.as_str() > record.id() {
                    *held = offer();
                }
            }
        }
        for (release, name, advisory) in advisories {
            self.note_faults(ecosystem, &name, &advisory);
            let kept = Kept {
                modified: record.modified.clone(),
                lacks_severity: advisory.scores.is_empty() && advisory.label.is_none(),
                json: serde_json::to_vec(&advisory)?.into(),
            };
            let records = self.packages.entry((release, name)).or_default();
            // A dump may hold a record twice; the later revision stands.
            let newer = |old: &Kept| (&old.modified, &old.json) < (&kept.modified, &kept.json);
            if records.get(record.id()).is_none_or(newer) {
                records.insert(record.id().to_owned(), kept);
            }
        }
        Ok(false)
    }

    fn note_faults(&mut self, ecosystem: Ecosystem, name: &str, advisory: &Advisory) {
        for range in &advisory.ranges {
            if let Some(fault) = range::fault(range, ecosystem.order()) {
                self.faults += 1;
                if self.faults_named.len() < MAX_FAULTS_NAMED {
                    self.faults_named.push(format!("{} ({name}): {fault}", advisory.id));
                }
            }
        }
    }

    /// Distinct records taken so far.
    pub(super) fn records(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Writes everything; answers the digest of the database and what is in it.
    pub(super) fn write<W: Write>(self, out: W) -> io::Result<(Digest, Content)> {
        let mut content = Content {
            newest: self.newest.values().max().map(ToString::to_string),
            records: self.records(),
            ecosystems: BTreeMap::new(),
            newest_of: self
                .newest
                .iter()
                .map(|(ecosystem, time)| (ecosystem.name().to_owned(), time.to_string()))
                .collect(),
        };
        let mut writer = Writer::new(out)?;
        let mut json = Vec::new();
        for ((release, name), records) in &self.packages {
            json.clear();
            for kept in records.values() {
                json.push(if json.is_empty() { b'[' } else { b',' });
                match kept.lacks_severity.then(|| self.with_borrowed(&kept.json)).flatten() {
                    Some(advisory) => serde_json::to_writer(&mut json, &advisory)?,
                    None => json.extend_from_slice(&kept.json),
                }
            }
            json.push(b']');
            writer.add(release, name, &json)?;
            match content.ecosystems.get_mut(release) {
                Some(count) => *count += records.len() as u64,
                None => {
                    content.ecosystems.insert(release.clone(), records.len() as u64);
                }
            }
        }
        let (digest, _) = writer.finish(content.clone())?;
        Ok((digest, content))
    }

    fn with_borrowed(&self, json: &[u8]) -> Option<Advisory> {
        let mut advisory: Advisory = serde_json::from_slice(json).ok()?;
        let upstream = if advisory.upstream.len() == 1 { &advisory.upstream[..] } else { &[] };
        let (from, scores) =
            advisory.aliases.iter().chain(upstream).find_map(|id| self.scores.get(id))?;
        advisory.borrowed = Some(Borrowed { from: from.clone(), scores: scores.clone() });
        Some(advisory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, extra: &str, ecosystem: &str, name: &str, events: &str) -> String {
        format!(
            r#"{{"id":"{id}","modified":"2026-01-02T00:00:00Z"{extra},"affected":[{{"package":
            {{"ecosystem":"{ecosystem}","name":"{name}"}},
            "ranges":[{{"type":"ECOSYSTEM","events":[{events}]}}]}}]}}"#
        )
    }

    #[test]
    fn the_order_of_the_dumps_does_not_change_the_digest() {
        let vector = r#","aliases":["CVE-2026-1"],"severity":[{"type":"CVSS_V3",
            "score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]"#;
        let records = [
            (Ecosystem::PyPi, record("GHSA-1", vector, "PyPI", "b", r#"{"introduced":"0"}"#)),
            (
                Ecosystem::Debian,
                record(
                    "DEBIAN-CVE-2026-1",
                    r#","upstream":["CVE-2026-1"]"#,
                    "Debian:12",
                    "a",
                    r#"{"introduced":"0"},{"fixed":"2"}"#,
                ),
            ),
            (Ecosystem::PyPi, record("PYSEC-2", "", "PyPI", "B", r#"{"introduced":"0"}"#)),
        ];
        let compile = |order: [usize; 3]| {
            let mut compiler = Compiler::default();
            for place in order {
                let (ecosystem, text) = &records[place];
                assert!(!compiler.add(*ecosystem, text.as_bytes()).unwrap());
            }
            compiler.write(Vec::new()).unwrap()
        };
        let (digest, content) = compile([0, 1, 2]);
        assert_eq!((digest, content.clone()), compile([2, 1, 0]));
        assert_eq!(content.records, 3);
        assert_eq!(content.ecosystems, [("Debian:12".into(), 1), ("PyPI".into(), 2)].into());
        assert_eq!(content.newest.as_deref(), Some("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn faults_are_counted_and_named_and_withdrawn_records_are_left_out() {
        let mut compiler = Compiler::default();
        let inverted = record("X-1", "", "npm", "a", r#"{"introduced":"2.0.0"},{"fixed":"1.0.0"}"#);
        compiler.add(Ecosystem::Npm, inverted.as_bytes()).unwrap();
        let gone = record("X-2", r#","withdrawn":"2026-01-01T00:00:00Z""#, "npm", "a", "");
        assert!(compiler.add(Ecosystem::Npm, gone.as_bytes()).unwrap());
        assert_eq!((compiler.faults, compiler.records()), (1, 1));
        assert!(compiler.faults_named[0].starts_with("X-1 (a): it is inverted"));
    }
}
