//! Tests against real OSV dumps, in the folder that the variable `FAIRLEAD_OSV` names.

use std::fs::File;
use std::path::PathBuf;

use fairlead_step::Digest;
use jiff::Timestamp;
use zip::ZipArchive;

use crate::database::{Database, Source, UpdateOptions, UpdateReport};
use crate::ecosystem::Ecosystem;
use crate::finding::{self, Finding, Resolved};
use crate::osv::{Advisory, Record};
use crate::range::evaluate;
use crate::sbom::{Bill, Listed};

/// The folder, or nothing and a line that says so.
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
fn dumps() -> Option<PathBuf> {
    let folder = std::env::var_os("FAIRLEAD_OSV").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: FAIRLEAD_OSV names no folder with OSV dumps");
    }
    folder
}

fn update(folder: PathBuf) -> (tempfile::TempDir, UpdateReport) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = UpdateOptions::new(Timestamp::from_second(1_790_000_000).unwrap());
    let report = runtime.block_on(Database::update(Source::Folder(folder), dir.path(), options));
    (dir, report.unwrap())
}

fn advisories(folder: &std::path::Path, ecosystem: Ecosystem) -> Vec<Advisory> {
    let file = File::open(folder.join(ecosystem.name()).join("all.zip")).unwrap();
    let mut archive = ZipArchive::new(file).unwrap();
    (0..archive.len())
        .flat_map(|number| {
            let mut bytes = Vec::new();
            std::io::copy(&mut archive.by_index(number).unwrap(), &mut bytes).unwrap();
            Record::read(&bytes).unwrap().advisories(ecosystem).unwrap()
        })
        .map(|(_, _, advisory)| advisory)
        .collect()
}

#[test]
fn known_facts_come_out() {
    let Some(folder) = dumps() else { return };
    let (dir, first) = update(folder.clone());
    assert!(first.feeds.iter().all(|feed| feed.bad == 0), "{:?}", first.feeds);
    let (_other, second) = update(folder);
    assert_eq!(first.digest, second.digest);

    let database = Database::open(dir.path()).unwrap();
    let found = |purl: &str| -> Vec<Finding> {
        let listed = Listed { purl: purl.to_owned(), ..Listed::default() };
        let bill = Bill { packages: vec![listed], ..Bill::default() };
        let matched = finding::find(Resolved::of(&bill, &database), &database).unwrap();
        assert_eq!(matched.packages, 1, "{purl}: {:?}", matched.gaps);
        matched.findings
    };
    for (purl, id, want) in [
        // Bookworm is not affected by either, and no record says so of it.
        (
            "pkg:deb/debian/liblzma5@5.4.1-0.2?distro=debian-12&upstream=xz-utils",
            "CVE-2024-3094",
            false,
        ),
        ("pkg:deb/debian/coreutils@9.1-1?distro=debian-12", "CVE-2024-0684", false),
        // Alpine does not build what is affected.
        ("pkg:apk/alpine/zlib@1.2.13-r0?distro=alpine-3.19.1", "CVE-2023-45853", false),
        (
            "pkg:apk/alpine/libcrypto3@3.0.1-r0?distro=alpine-3.19.0&upstream=openssl",
            "CVE-2022-0778",
            true,
        ),
        (
            "pkg:apk/alpine/libcrypto3@3.0.2-r0?distro=alpine-3.19.0&upstream=openssl",
            "CVE-2022-0778",
            false,
        ),
        (
            "pkg:deb/debian/libsystemd0@252.6-1?distro=debian-12&upstream=systemd",
            "CVE-2013-4392",
            true,
        ),
        ("pkg:npm/lodash@4.17.20", "CVE-2021-23337", true),
        ("pkg:npm/lodash@4.17.21", "CVE-2021-23337", false),
        ("pkg:golang/github.com/sigstore/cosign@v1.11.1", "CVE-2022-36056", true),
        ("pkg:golang/github.com/sigstore/cosign@v1.12.0", "CVE-2022-36056", false),
        ("pkg:golang/github.com/Masterminds/goutils@v1.1.0", "CVE-2021-4238", true),
        ("pkg:pypi/torch@2.3.1", "CVE-2024-7804", true),
        ("pkg:pypi/torch@2.3.1%2Bcu118", "CVE-2024-7804", true),
        ("pkg:golang/stdlib@go1.24rc1", "CVE-2025-22865", true),
        ("pkg:golang/stdlib@1.24rc2", "CVE-2025-22865", false),
        ("pkg:maven/org.apache.tomcat/tomcat-catalina@11.0.0-M10", "CVE-2024-56337", true),
        ("pkg:maven/org.apache.tomcat/tomcat-catalina@11.0.2", "CVE-2024-56337", false),
        ("pkg:cargo/rust-crypto@0.2.36", "RUSTSEC-2016-0005", true),
    ] {
        let findings = found(purl);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids.contains(&id), want, "{purl}: {ids:?}");
    }
    let systemd = found("pkg:deb/debian/systemd@252.6-1?distro=debian-12");
    let old = systemd.iter().find(|finding| finding.id == "CVE-2013-4392").unwrap();
    assert_eq!(old.severity.name(), "negligible");
    assert_ne!(*database.digest(), Digest::sha256(b""));
}

/// Every record is put to its own bounds and to every version it lists, in every ecosystem: an
/// answer comes for each. What PyPA lists and what its ranges say are two ways to one answer.
#[test]
fn listed_versions_and_ranges_agree() {
    let Some(folder) = dumps() else { return };
    let (mut compared, mut disagreements) = (0, Vec::new());
    for ecosystem in Ecosystem::ALL {
        if !folder.join(ecosystem.name()).is_dir() {
            continue;
        }
        let order = ecosystem.order();
        for mut advisory in advisories(&folder, ecosystem) {
            for event in advisory.ranges.iter().flat_map(|range| range.events.clone()) {
                let bounds = [event.introduced, event.fixed, event.last_affected, event.limit];
                for bound in bounds.into_iter().flatten() {
                    let _ = evaluate(&advisory, &bound, order);
                }
            }
            let listed = std::mem::take(&mut advisory.versions);
            let ranged = advisory.ranges.iter().any(|range| !range.events.is_empty());
            if ecosystem != Ecosystem::PyPi || !ranged {
                continue;
            }
            for version in &listed {
                compared += 1;
                if !evaluate(&advisory, version, order).affected {
                    disagreements.push(format!("{} lists {version}", advisory.id));
                }
            }
            // The other way: a fixed version must not be listed.
            for fixed in
                advisory.ranges.iter().flat_map(|r| &r.events).filter_map(|e| e.fixed.as_ref())
            {
                if listed.contains(fixed) && !evaluate(&advisory, fixed, order).affected {
                    disagreements.push(format!("{} lists its fix {fixed}", advisory.id));
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
    #[expect(clippy::print_stderr, reason = "the disagreements are what the test reports")]
    for line in &disagreements {
        eprintln!("{line}");
    }
    // A handful of records contradict themselves; a wrong order would make thousands do so.
    assert!(disagreements.len() * 1000 < compared, "{} of {compared}", disagreements.len());
}
