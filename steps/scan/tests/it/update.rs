//! Updates from a folder: what is taken, what is told, and what a failure leaves behind.

use fairlead_step_scan::{Database, DbError, Source, UpdateError, UpdateOptions};
use serde_json::json;

use crate::dumps::{self, archive, archive_of, put, record};

#[tokio::test]
async fn the_same_dumps_give_the_same_digest_wherever_they_lie() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = tempfile::tempdir().unwrap();
    for folder in [&first, &second] {
        dumps::put_samples(folder.path());
    }
    let before = dumps::update(first.path(), db.path()).await;
    assert!(before.changed() && before.previous.is_none());
    assert_eq!((before.records, before.faults), (5, 1));
    let python = before.feeds.iter().find(|feed| feed.ecosystem == "PyPI").unwrap();
    assert_eq!((python.records, python.withdrawn, python.bad), (4, 1, 0));
    let after = dumps::update(second.path(), db.path()).await;
    assert!(!after.changed());

    let info = Database::open(db.path()).unwrap().info();
    assert_eq!(info.digest, before.digest);
    assert_eq!(info.ecosystems, [("Debian:12".into(), 1), ("PyPI".into(), 4)].into());
    assert_eq!(info.newest.unwrap().to_string(), "2026-09-20T00:00:00Z");
    assert_eq!(info.source, second.path().display().to_string());
}

#[tokio::test]
async fn bad_records_are_counted_and_unknown_ecosystems_are_skipped() {
    let (folder, db) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = record("A-1", &[], ("npm", "x"), &[("introduced", "0")]);
    let files = [
        ("A-1.json", good.to_string()),
        ("A-2.json", "{\"id\": \"A-2\", \"affected\": 7}".into()),
        ("A-3.json", "not json".into()),
        ("README.md", "no record".into()),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes()));
    put(folder.path(), "npm", &archive_of(files));
    put(folder.path(), "Moon Base", &archive(&[json!({"id": "M-1"})]));
    let report = dumps::update(folder.path(), db.path()).await;
    assert_eq!((report.feeds[0].records, report.feeds[0].bad), (1, 2));
    assert!(report.feeds[0].first_bad.as_ref().unwrap().starts_with("A-2.json: not an OSV record"));
    assert_eq!(report.skipped, ["Moon Base"]);
}

#[tokio::test]
async fn an_update_that_fails_leaves_the_database_as_it_was() {
    let (folder, db) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dumps::put_samples(folder.path());
    let before = dumps::update(folder.path(), db.path()).await;
    let attempt = |source: Source, ecosystems: Option<&str>| {
        let ecosystems = ecosystems.map(|name| vec![name.to_owned()]);
        let options = UpdateOptions { ecosystems, ..UpdateOptions::new(dumps::now()) };
        Database::update(source, db.path(), options)
    };
    let here = || Source::Folder(folder.path().to_owned());
    let empty = tempfile::tempdir().unwrap();

    put(folder.path(), "PyPI", b"PK\x03\x04 broken off");
    let error = attempt(here(), None).await.unwrap_err();
    assert!(matches!(error, UpdateError::Archive { .. }), "{error}");
    put(folder.path(), "PyPI", &archive(&[json!({"id": "X", "affected": 7})]));
    let error = attempt(here(), Some("pypi")).await.unwrap_err();
    assert!(error.to_string().contains("no record in it can be used"), "{error}");
    let error = attempt(here(), Some("npm")).await.unwrap_err();
    assert!(error.to_string().contains("has no `npm/all.zip`"), "{error}");
    let error = attempt(here(), Some("Moon Base")).await.unwrap_err();
    assert!(error.hint().contains("crates.io"), "{}", error.hint());
    let error = attempt(Source::Folder(empty.path().to_owned()), None).await.unwrap_err();
    assert!(matches!(error, UpdateError::Missing { .. }), "{error}");
    let error = attempt(Source::Url("ftp://example.com/".into()), None).await.unwrap_err();
    assert!(matches!(error, UpdateError::Url { .. }), "{error}");

    assert_eq!(Database::open(db.path()).unwrap().info().digest, before.digest);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_why() {
    let (folder, db) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(matches!(Database::open(db.path()), Err(DbError::Absent { .. })));
    dumps::put_samples(folder.path());
    dumps::update(folder.path(), db.path()).await;
    let pointer = db.path().join("current.json");
    let text = std::fs::read_to_string(&pointer).unwrap();

    std::fs::write(&pointer, text.replace("\"format\": 2", "\"format\": 1")).unwrap();
    assert!(matches!(Database::open(db.path()), Err(DbError::Format { found: 1, .. })));
    std::fs::write(&pointer, "{").unwrap();
    assert!(matches!(Database::open(db.path()), Err(DbError::Damaged { .. })));
    std::fs::write(&pointer, &text).unwrap();
    let database = Database::open(db.path()).unwrap();
    let held = format!("sha256-{}.advisories", database.info().digest.hex());
    std::fs::remove_file(db.path().join(held)).unwrap();
    let error = Database::open(db.path()).unwrap_err();
    assert!(error.to_string().contains("the file is gone"), "{error}");
    assert!(error.hint().contains("fairlead db update"));
}
