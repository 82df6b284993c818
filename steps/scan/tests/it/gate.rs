//! The gate stays shut for what was not assessed.

use fairlead_step::ErrorClass;
use fairlead_step_scan::{Database, Source, UpdateOptions};
use serde_json::{Value, json};

use crate::dumps::{self, archive, put, record};
use crate::step::Bench;

const GATE: &str = r#"{"fail_on": {"severity": "critical"}}"#;

fn gate() -> Value {
    serde_json::from_str(GATE).unwrap()
}

fn cyclonedx(components: &[Value], marks: &[&str]) -> Value {
    let marks: Vec<Value> =
        marks.iter().map(|mark| json!({"name": "fairlead:unassessed", "value": mark})).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"component": {"type": "container", "name": "shop", "properties": marks}},
        "components": components,
    })
}

fn library(purl: &str) -> Value {
    let name = purl.rsplit('/').next().unwrap().split(['@', '?']).next().unwrap();
    json!({"type": "library", "name": name, "purl": purl})
}

#[tokio::test]
async fn what_was_seen_and_not_read_is_a_no() {
    let good = library("pkg:pypi/other@1.0");
    for (bill, want) in [
        (
            cyclonedx(
                std::slice::from_ref(&good),
                &["rpm:/var/lib/rpm/rpmdb.sqlite", "distribution:rhel 9"],
            ),
            "not assessed: distribution:rhel 9, rpm:/var/lib/rpm/rpmdb.sqlite",
        ),
        (cyclonedx(&[], &["go-binary:/kubelet"]), "not assessed: go-binary:/kubelet"),
        (
            cyclonedx(&[], &["a:1", "b:2", "c:3", "d:4", "e:5"]),
            "not assessed: a:1, b:2, c:3 and 2 more",
        ),
        // An image of nothing but a program that says nothing of itself.
        (cyclonedx(&[], &[]), "passed"),
        (cyclonedx(std::slice::from_ref(&good), &[]), "passed"),
        (
            cyclonedx(&[library("pkg:npm/a@1"), library("pkg:npm/b@1")], &[]),
            "not assessed: ecosystem:npm (2 packages)",
        ),
        (
            cyclonedx(&[library("pkg:nuget/A@1"), library("pkg:cargo/b@1")], &[]),
            "not assessed: ecosystem:crates.io (1 package), ecosystem:nuget (1 package)",
        ),
        (
            cyclonedx(&[library("pkg:deb/debian/x@1?distro=debian-10")], &[]),
            "not assessed: distribution:debian 10 (1 package)",
        ),
        (
            cyclonedx(
                &[library("pkg:rpm/redhat/bash@5?distro=rhel-9.3")],
                &["distribution:rhel 9.3"],
            ),
            "not assessed: distribution:rhel 9.3 (1 package)",
        ),
        (
            cyclonedx(&[json!({"type": "operating-system", "name": "rocky", "version": "9"})], &[]),
            "not assessed: distribution:rocky 9",
        ),
        (
            cyclonedx(
                &[json!({"type": "operating-system", "name": "debian", "version": "12.5"})],
                &[],
            ),
            "passed",
        ),
        // What nobody could build from a source of its name shows that the bill names no sources.
        (
            cyclonedx(
                &[
                    library("pkg:deb/debian/libc6@2.36-9?distro=debian-12"),
                    library("pkg:deb/debian/bash@5.2?distro=debian-12"),
                    library("pkg:deb/debian/dash@0.5?distro=debian-12&upstream=dash"),
                ],
                &[],
            ),
            "not assessed: no-source:debian 12 (2 packages)",
        ),
        (cyclonedx(&[library("pkg:deb/debian/bash@5.2?distro=debian-12")], &[]), "passed"),
        (
            cyclonedx(&[library("pkg:pypi/demo-lib")], &[]),
            "not assessed: no-version:pkg:pypi/demo-lib (1 package)",
        ),
        (cyclonedx(&[library("nonsense")], &[]), "not assessed: bad-purl:nonsense (1 package)"),
        (
            cyclonedx(&[json!({"type": "library", "name": "by-hand"})], &[]),
            "not assessed: no-purl:by-hand (1 package)",
        ),
        (
            json!({"spdxVersion": "SPDX-2.3", "packages": [], "annotations": [
                {"annotationType": "OTHER", "comment": "fairlead:unassessed too-large:/x"},
                {"annotationType": "OTHER", "comment": "fairlead:unassessed-omitted 12"}]}),
            "not assessed: omitted (12), too-large:/x",
        ),
        (
            json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [],
                "compositions": [{"aggregate": "unknown", "assemblies": ["x"]}]}),
            "not assessed: composition:unknown",
        ),
    ] {
        let bench = Bench::new(&bill).await;
        let (answer, report) = bench.answer(gate()).await;
        assert_eq!(answer, want, "{bill:#}");
        // Without a gate, and with this one turned off, it is told and passes.
        for with in [
            json!({}),
            json!({"fail_on": {"severity": "critical", "unassessed": false}}),
            json!({"fail_on": {"unassessed": false}}),
            json!({"fail_on": {"unassessed": true}, "ignore_unassessed": ["*"]}),
        ] {
            let (answer, told) = bench.answer(with.clone()).await;
            assert_eq!(answer, "passed", "{with}");
            let count = |report: &Value| report["unassessed"].as_array().unwrap().len();
            assert_eq!(count(&told), count(&report));
        }
        let (answer, _) = bench.answer(json!({"fail_on": {"unassessed": true}})).await;
        assert_eq!(answer, want, "the gate needs no severity");
    }
}

#[tokio::test]
async fn what_somebody_accepts_is_told_in_every_form() {
    let bill = cyclonedx(&[library("pkg:npm/a@1")], &["go-binary:/usr/bin/dockerd", "rpm:/x"]);
    let bench = Bench::new(&bill).await;
    let with = json!({
        "fail_on": {"severity": "critical"},
        "ignore_unassessed": ["go-binary:/usr/bin/*", "ecosystem:npm", "java-archive"],
    });
    let verdict = bench.run(with.clone()).await.unwrap();
    let fairlead_step::Verdict::Rejected { reason, outputs } = verdict else {
        panic!("rpm is left")
    };
    assert_eq!(reason, "not assessed: rpm:/x");
    assert_eq!((&outputs["unassessed"], &outputs["unmatched"]), (&json!(1), &json!(1)));
    let table = bench.text(&outputs, "table");
    for line in [
        "not assessed  rpm:/x  the bill of materials says that it was seen and not read",
        "not assessed  go-binary:/usr/bin/dockerd  accepted (ignore_unassessed: go-binary:/usr/bin/*)",
        "not assessed  ecosystem:npm  1 package: accepted (ignore_unassessed: ecosystem:npm)",
        "`ignore_unassessed` has `java-archive`, which accepts nothing",
    ] {
        assert!(table.contains(line), "{table}");
    }
    let sarif: Value = serde_json::from_str(&bench.text(&outputs, "sarif")).unwrap();
    let told = sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
    let levels: Vec<&str> = told.iter().map(|told| told["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["warning", "note", "note"], "{told:#?}");
    assert!(told[0]["message"]["text"].as_str().unwrap().contains("rpm:/x could not be assessed"));
    assert!(bench.host.log_text().contains("not assessed: rpm:/x"), "{}", bench.host.log_text());

    let with = json!({"ignore_unassessed": ["", "go-binary", "x:["], "fail_on": {"fixable": true}});
    let problems = bench.problems(&with);
    assert_eq!(problems, ["/fail_on/fixable", "/ignore_unassessed/0", "/ignore_unassessed/2"]);
    assert_eq!(bench.problems(&json!({"fail_on": {}})), ["/fail_on"]);
}

#[tokio::test]
async fn the_packages_of_the_distribution_answer_for_what_they_brought() {
    const OWNER: &str = "pkg:deb/debian/python3-demo@1?distro=debian-12";
    let owned = |purl: &str, owners: &[Option<&str>]| {
        let mut properties = Vec::new();
        for (number, owner) in owners.iter().enumerate() {
            let name = |what: &str| format!("fairlead:location:{number}:{what}");
            properties.push(json!({"name": name("path"), "value": format!("/{number}")}));
            if let Some(owner) = owner {
                properties.push(json!({"name": name("owner"), "value": owner}));
            }
        }
        let mut library = library(purl);
        library["properties"] = properties.into();
        library
    };
    let demo = "pkg:pypi/demo-lib@1.2";
    for (components, want, apart) in [
        (vec![owned(demo, &[Some(OWNER)]), library(OWNER)], "passed", 2),
        // The owner that the bill does not list is looked up by its name.
        (vec![owned(demo, &[Some(OWNER)])], "passed", 2),
        // In one of its places it is the application's own.
        (vec![owned(demo, &[Some(OWNER), None]), library(OWNER)], "1 critical finding", 0),
        (vec![owned(demo, &[Some(OWNER)]), library(demo), library(OWNER)], "1 critical finding", 0),
        // Nobody answers for an owner that cannot be looked up.
        (
            vec![owned(demo, &[Some("pkg:deb/debian/python3-demo@1?distro=debian-10")])],
            "1 critical finding",
            0,
        ),
        (vec![owned(demo, &[Some("pkg:pypi/other@1")])], "1 critical finding", 0),
        // What no advisory can be about is answered for as well.
        (vec![owned("pkg:npm/left@1", &[Some(OWNER)]), library(OWNER)], "passed", 0),
        // A package of the distribution is nobody's.
        (
            vec![owned("pkg:deb/debian/openssl@1?distro=debian-12", &[Some(OWNER)])],
            "1 critical finding",
            0,
        ),
    ] {
        let bench = Bench::new(&cyclonedx(&components, &[])).await;
        let (answer, report) = bench.answer(gate()).await;
        assert_eq!(answer, want, "{components:#?}");
        let told = report["distribution_owned"].as_array().unwrap();
        assert_eq!(told.len(), apart, "{report:#}");
        assert_eq!(report["summary"]["distribution_owned"], apart);
        if let Some(finding) = told.first() {
            assert_eq!(finding["package"]["owners"], json!([OWNER]));
            assert_eq!(report["summary"]["counts"]["critical"], 0);
        }
    }
}

#[tokio::test]
async fn bills_of_others_are_matched_by_source_package() {
    let mut trivy =
        library("pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12.5");
    trivy["properties"] = [
        ("SrcName", "openssl"),
        ("SrcVersion", "3.0.11"),
        ("SrcRelease", "1~deb12u2"),
        ("PkgType", "debian"),
    ]
    .iter()
    .map(|(name, value)| json!({"name": format!("aquasecurity:trivy:{name}"), "value": value}))
    .collect();
    // The whole image says what it is, its packages do not.
    let mut bare =
        cyclonedx(&[library("pkg:deb/debian/libssl3@3.0.11-1~deb12u2?upstream=openssl")], &[]);
    bare["components"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "operating-system", "name": "debian", "version": "12.5"}));
    let spdx = json!({"spdxVersion": "SPDX-2.3", "packages": [{
        "name": "libssl3",
        "sourceInfo": "built package from: openssl 3.0.11-1~deb12u2",
        "externalRefs": [{"referenceType": "purl",
            "referenceLocator": "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?distro=debian-12.5"}],
    }]});
    for bill in [cyclonedx(&[trivy], &[]), bare, spdx] {
        let bench = Bench::new(&bill).await;
        let (answer, report) = bench.answer(gate()).await;
        assert_eq!(answer, "1 critical finding", "{bill:#}");
        assert_eq!(report["findings"][0]["package"]["name"], "openssl");
    }
}

#[tokio::test]
async fn two_installed_versions_are_two_results_with_fingerprints_of_their_own() {
    let at = |version: &str, path: &str| {
        let mut library = library(&format!("pkg:pypi/demo-lib@{version}"));
        library["properties"] = json!([{"name": "fairlead:location:0:path", "value": path}]);
        library
    };
    let prints = async |components: &[Value]| {
        let bench = Bench::new(&cyclonedx(components, &[])).await;
        let fairlead_step::Verdict::Passed { outputs } = bench.run(json!({})).await.unwrap() else {
            panic!("nothing is asked for")
        };
        let sarif: Value = serde_json::from_str(&bench.text(&outputs, "sarif")).unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap().clone();
        let print = |result: &Value| result["partialFingerprints"].to_string();
        results.iter().map(print).collect::<std::collections::BTreeSet<String>>()
    };
    let two = prints(&[at("1.2", "/a"), at("1.3", "/b")]).await;
    assert_eq!(two.len(), 4, "two vulnerabilities in two versions");
    assert_eq!(two, prints(&[at("1.3", "/b"), at("1.2", "/a")]).await);
    let elsewhere = prints(&[at("1.2", "/c"), at("1.3", "/b")]).await;
    assert_eq!(two.intersection(&elsewhere).count(), 2, "one of them is in another place");
}

#[tokio::test]
async fn the_age_is_that_of_the_ecosystems_that_the_bill_needs() {
    let bill = cyclonedx(&[library("pkg:pypi/other@1.0")], &[]);
    let bench = Bench::new(&bill).await;
    let folder = tempfile::tempdir().unwrap();
    dumps::put_samples(folder.path());
    let mut old = record("OLD-1", &[], ("npm", "left"), &[("introduced", "9")]);
    old["modified"] = json!("2024-01-01T00:00:00Z");
    put(folder.path(), "npm", &archive(&[old]));
    let mut undated = record("OLD-2", &[], ("crates.io", "left"), &[("introduced", "9")]);
    undated["modified"] = Value::Null;
    put(folder.path(), "crates.io", &archive(&[undated]));
    let source = || Source::Folder(folder.path().to_owned());
    let options = UpdateOptions::new(dumps::now());
    Database::update(source(), bench.db.path(), options).await.unwrap();
    let with = json!({"fail_on": {"severity": "critical"}, "max_db_age": "30d"});
    assert_eq!(bench.answer(with.clone()).await.0, "passed", "npm is old, and nobody needs it");

    for (purl, want) in [
        ("pkg:npm/left@1.0.0", "npm is 994d14h old (its newest record is of 2024-01-01"),
        ("pkg:cargo/left@1.0.0", "no record of crates.io has a date"),
    ] {
        let other =
            Bench::new(&cyclonedx(&[library("pkg:pypi/other@1.0"), library(purl)], &[])).await;
        let options = UpdateOptions::new(dumps::now());
        Database::update(source(), other.db.path(), options).await.unwrap();
        let error = other.run(with.clone()).await.unwrap_err();
        assert!(error.chain().contains(want), "{}", error.chain());
        assert!(!error.chain().contains("PyPI"), "{}", error.chain());
        assert_eq!(error.class(), ErrorClass::Terminal);
    }
}

#[tokio::test]
async fn the_names_of_npm_keep_their_case() {
    let folder = tempfile::tempdir().unwrap();
    let records = [
        record("GHSA-1", &[], ("npm", "JSONStream"), &[("introduced", "0")]),
        record("GHSA-2", &[], ("npm", "@Scope/Name"), &[("introduced", "0")]),
        record("GHSA-3", &[], ("npm", "jsonstream"), &[("introduced", "0")]),
    ];
    put(folder.path(), "npm", &archive(&records));
    for (purl, want) in [
        ("pkg:npm/JSONStream@1.0.0", Some("GHSA-1")),
        ("pkg:npm/jsonstream@1.0.0", Some("GHSA-3")),
        ("pkg:npm/%40Scope/Name@1.0.0", Some("GHSA-2")),
        ("pkg:npm/%40scope/name@1.0.0", None),
    ] {
        let bench = Bench::new(&cyclonedx(&[library(purl)], &[])).await;
        let source = Source::Folder(folder.path().to_owned());
        Database::update(source, bench.db.path(), UpdateOptions::new(dumps::now())).await.unwrap();
        let (_, report) = bench.answer(json!({})).await;
        let ids: Vec<&str> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, Vec::from_iter(want), "{purl}");
    }
}
