//! Small dumps in the layout of OSV, written for these tests.

use std::io::{Cursor, Write as _};
use std::path::Path;

use fairlead_step_scan::{Database, Source, UpdateOptions, UpdateReport};
use jiff::Timestamp;
use serde_json::{Value, json};
use zip::write::{SimpleFileOptions, ZipWriter};

/// A vector that scores 9.8.
pub(crate) const CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
/// A vector that scores 5.3.
pub(crate) const MEDIUM: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:L";

/// When the tests take place; the test host's clock stands at the same second.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

/// A record about one package: `events` are pairs such as `("introduced", "0")`.
pub(crate) fn record(
    id: &str,
    aliases: &[&str],
    (ecosystem, name): (&str, &str),
    events: &[(&str, &str)],
) -> Value {
    let events: Vec<Value> = events.iter().map(|(kind, at)| json!({ *kind: at })).collect();
    json!({
        "id": id,
        "modified": "2026-09-20T00:00:00Z",
        "summary": format!("what {id} is about"),
        "aliases": aliases,
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }],
    })
}

/// The archive of some records.
pub(crate) fn archive(records: &[Value]) -> Vec<u8> {
    let files = records.iter().map(|record| {
        (format!("{}.json", record["id"].as_str().unwrap()), serde_json::to_vec(record).unwrap())
    });
    archive_of(files)
}

/// The archive of some files.
pub(crate) fn archive_of(files: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Writes `<ecosystem>/all.zip` into a folder of dumps.
pub(crate) fn put(folder: &Path, ecosystem: &str, archive: &[u8]) {
    std::fs::create_dir_all(folder.join(ecosystem)).unwrap();
    std::fs::write(folder.join(ecosystem).join("all.zip"), archive).unwrap();
}

/// The dumps that most tests use.
pub(crate) fn put_samples(folder: &Path) {
    let mut urgent = record(
        "PYSEC-1",
        &["CVE-2026-0001"],
        ("PyPI", "Demo_Lib"),
        &[("introduced", "1.0"), ("fixed", "1.5")],
    );
    urgent["severity"] = json!([{"type": "CVSS_V3", "score": CRITICAL}]);
    let mut same = record(
        "GHSA-aaaa-bbbb-cccc",
        &["CVE-2026-0001"],
        ("PyPI", "demo-lib"),
        &[("introduced", "0"), ("fixed", "1.5.0")],
    );
    same["database_specific"] = json!({"severity": "HIGH"});
    let mut lesser = record("PYSEC-2", &[], ("PyPI", "demo-lib"), &[("introduced", "0")]);
    lesser["severity"] = json!([{"type": "CVSS_V3", "score": MEDIUM}]);
    let inverted =
        record("PYSEC-3", &[], ("PyPI", "demo-lib"), &[("introduced", "2.0"), ("fixed", "1.0")]);
    let mut gone = record("PYSEC-4", &[], ("PyPI", "demo-lib"), &[("introduced", "0")]);
    gone["withdrawn"] = json!("2026-09-01T00:00:00Z");
    put(folder, "PyPI", &archive(&[urgent, same, lesser, inverted, gone]));

    let mut debian = record(
        "DEBIAN-CVE-2026-0001",
        &[],
        ("Debian:12", "openssl"),
        &[("introduced", "0"), ("fixed", "3.0.11-1~deb12u3")],
    );
    debian["upstream"] = json!(["CVE-2026-0001"]);
    put(folder, "Debian", &archive(&[debian]));
}

/// Updates the database in `dir` from a folder.
pub(crate) async fn update(folder: &Path, dir: &Path) -> UpdateReport {
    let source = Source::Folder(folder.to_owned());
    Database::update(source, dir, UpdateOptions::new(now())).await.unwrap()
}
