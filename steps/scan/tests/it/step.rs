//! The step at its boundary: inputs in, verdict and reports out.

use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{ErrorClass, Verdict, erase};
use fairlead_step_scan::Scan;
use serde_json::{Value, json};

use crate::dumps;

const PURLS: [&str; 6] = [
    "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
    "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
    "pkg:pypi/demo-lib@1.2",
    "pkg:pypi/other@1.0",
    "pkg:npm/left@1.0.0",
    "pkg:deb/debian/x@1",
];

pub(crate) struct Bench {
    pub(crate) host: TestHost,
    pub(crate) db: tempfile::TempDir,
    sbom: Value,
}

async fn bench() -> Bench {
    let packages: Vec<Value> = PURLS
        .iter()
        .map(|purl| {
            json!({"name": "x", "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl", "referenceLocator": purl}]})
        })
        .collect();
    Bench::new(&json!({"spdxVersion": "SPDX-2.3", "packages": packages})).await
}

impl Bench {
    /// A bill of materials, and the database of the samples.
    pub(crate) async fn new(bill: &Value) -> Self {
        let (host, db) = (TestHost::new(), tempfile::tempdir().unwrap());
        let folder = tempfile::tempdir().unwrap();
        dumps::put_samples(folder.path());
        dumps::update(folder.path(), db.path()).await;
        let sbom = host.store("shop.json", "application/json", bill.to_string());
        Self { db, sbom: serde_json::to_value(sbom).unwrap(), host }
    }

    /// What a check says before anything runs.
    pub(crate) fn problems(&self, more: &Value) -> Vec<String> {
        let mut with = json!({"sbom": self.sbom});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problems = erase(Scan::new(self.db.path().to_owned())).check(&with).unwrap_err();
        problems.into_iter().map(|problem| problem.pointer).collect()
    }

    /// The verdict in a word or the reason of its no, and the JSON report.
    pub(crate) async fn answer(&self, more: Value) -> (String, Value) {
        let (answer, outputs) = match self.run(more).await.unwrap() {
            Verdict::Passed { outputs } => ("passed".to_owned(), outputs),
            Verdict::Rejected { reason, outputs } => (reason, outputs),
            Verdict::Skipped { reason } => panic!("a scan skips nothing: {reason}"),
        };
        (answer, serde_json::from_str(&self.text(&outputs, "findings")).unwrap())
    }

    pub(crate) async fn run(&self, more: Value) -> Result<Verdict, fairlead_step::StepError> {
        let mut with = json!({"sbom": self.sbom});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        conformance(&self.host, &*erase(Scan::new(self.db.path().to_owned())), with).await
    }

    pub(crate) fn text(&self, outputs: &Value, name: &str) -> String {
        let digest = outputs[name]["digest"].as_str().unwrap().parse().unwrap();
        String::from_utf8(self.host.artifact(&digest).unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn findings_alone_do_not_fail_and_come_out_in_three_forms() {
    let bench = bench().await;
    let Verdict::Passed { outputs } = bench.run(json!({})).await.unwrap() else {
        panic!("without `fail_on` a scan passes")
    };
    assert_eq!(outputs["counts"]["critical"], 2);
    assert_eq!((&outputs["fixable"], &outputs["packages"]), (&json!(2), &json!(4)));
    let table = bench.text(&outputs, "table");
    let table = table.rsplit_once("database ").unwrap().0;
    insta::assert_snapshot!(table, @r"
    SEVERITY  ID             PACKAGE   INSTALLED         FIXED IN          TITLE
    critical  CVE-2026-0001  demo-lib  1.2               1.5               what GHSA-aaaa-bbbb-cccc is…
    critical  CVE-2026-0001  openssl   3.0.11-1~deb12u2  3.0.11-1~deb12u3  what DEBIAN-CVE-2026-0001 is…
    medium    PYSEC-2        demo-lib  1.2               -                 what PYSEC-2 is about

    3 findings in 4 packages: 2 critical, 1 medium; 2 with a fix
    not assessed  distribution:debian  1 package: no advisories are about a distribution or release of this name
    not assessed  ecosystem:npm  1 package: the database has no advisories for npm
    faulty data  PYSEC-3 demo-lib: it is inverted: it begins at `2.0` and ends before, at `1.0`
    ");

    let report: Value = serde_json::from_str(&bench.text(&outputs, "findings")).unwrap();
    let python = &report["findings"][0];
    assert_eq!(python["id"], "CVE-2026-0001");
    assert_eq!(python["records"], json!(["GHSA-aaaa-bbbb-cccc", "PYSEC-1"]));
    assert_eq!(python["severity_from"][0]["kind"], "cvss_v3");
    let debian = &report["findings"][1];
    assert_eq!(debian["package"]["purls"].as_array().unwrap().len(), 2, "{debian:#}");
    assert_eq!(debian["severity_from"][0]["kind"], "same_cve");
    assert_eq!(report["data_faults"][0]["record"], "PYSEC-3");
    assert_eq!(report["origin"]["database"], outputs["database"]);

    let sarif: Value = serde_json::from_str(&bench.text(&outputs, "sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(
            result["partialFingerprints"]["vulnerabilityPackage/v1"].as_str().unwrap().len(),
            64
        );
        let place = &result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"];
        assert!(place.as_str().unwrap().starts_with("pkg:"), "{place}");
    }
}

#[tokio::test]
async fn a_threshold_that_is_met_is_a_no_with_the_same_outputs() {
    let bench = bench().await;
    for (fail_on, want) in [
        (
            json!({"severity": "critical", "fixable": true, "unassessed": false}),
            "2 critical findings with a fix",
        ),
        (json!({"severity": "low", "unassessed": false}), "2 critical and 1 medium findings"),
        (
            json!({"severity": "low"}),
            "2 critical and 1 medium findings; not assessed: distribution:debian (1 package), \
             ecosystem:npm (1 package)",
        ),
    ] {
        let verdict = bench.run(json!({"fail_on": fail_on})).await.unwrap();
        let Verdict::Rejected { reason, outputs } = verdict else { panic!("{fail_on}") };
        assert_eq!(reason, want);
        assert!(bench.text(&outputs, "table").contains("CVE-2026-0001"));
    }
}

#[tokio::test]
async fn ignored_findings_do_not_count_and_expired_entries_ignore_nothing() {
    let bench = bench().await;
    let file = "ignore:\n\
        \x20 - {id: CVE-2026-0001, package: openssl, owner: web, reason: not reachable, expires: 2026-12-31}\n\
        \x20 - {id: GHSA-aaaa-bbbb-cccc, package: demo-lib, owner: web, reason: soon, expires: 2026-01-31}\n\
        \x20 - {id: CVE-1999-1, owner: web, reason: old, expires: 2026-12-31}\n";
    std::fs::write(bench.host.workspace().join("ignore.yaml"), file).unwrap();
    let with = json!({
        "ignore": "./ignore.yaml",
        "fail_on": {"severity": "critical", "unassessed": false},
    });
    let Verdict::Rejected { reason, outputs } = bench.run(with).await.unwrap() else {
        panic!("one critical finding is left")
    };
    assert_eq!(reason, "1 critical finding");
    assert_eq!(outputs["ignored"], 1);
    let log = bench.host.log_text();
    assert!(log.contains("line 3 of the ignore file (GHSA-aaaa-bbbb-cccc, web) expired"), "{log}");
    assert!(log.contains("line 4 of the ignore file (CVE-1999-1, web) matches no"), "{log}");
    let sarif = bench.text(&outputs, "sarif");
    assert!(sarif.contains("not reachable (web, until 2026-12-31)"));
}

#[tokio::test]
async fn what_cannot_be_scanned_ends_in_an_error_with_the_place_and_the_way_out() {
    let bench = bench().await;
    std::fs::write(bench.host.workspace().join("bad.yaml"), "ignore:\n  - {id: x}\n").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", bench.host.workspace().join("link")).unwrap();
    for (more, want) in [
        (json!({"ignore": "none.yaml"}), "`none.yaml`"),
        (json!({"ignore": "bad.yaml"}), "bad.yaml:2: the entry has no `owner`"),
        (json!({"ignore": "link"}), "leads out of the workspace"),
        (json!({"max_db_age": "1s"}), "its newest record is of 2026-09-20"),
    ] {
        let error = bench.run(more).await.unwrap_err();
        assert!(error.chain().contains(want), "{}", error.chain());
        assert_eq!(error.class(), ErrorClass::Terminal);
    }
    let step = erase(Scan::new(bench.db.path().to_owned()));
    for path in ["../x", "/etc/hostname"] {
        let problems = step.check(&json!({"sbom": bench.sbom, "ignore": path})).unwrap_err();
        assert_eq!(problems[0].pointer, "/ignore");
    }
    let text = bench.host.store("x.json", "application/json", "{}");
    let error = bench.host.run(&*step, json!({"sbom": text})).await.unwrap_err();
    assert!(
        error.to_string().contains("`x.json`: it is neither SPDX 2 nor CycloneDX 1"),
        "{error}"
    );

    let nothing = tempfile::tempdir().unwrap();
    let step = erase(Scan::new(nothing.path().to_owned()));
    let error = bench.host.run(&*step, json!({"sbom": bench.sbom})).await.unwrap_err();
    assert!(error.to_string().contains("there is no advisory database"), "{error}");
    assert!(error.way_out().unwrap().contains("fairlead db update"));
}
