//! The main job, end to end: build, scan, SBOM, sign, tag, GitOps commit; and all of it again.

use std::process::Command;

use fairlead_tests::{Oracle, oracle, stdout_of, validators_folder};
use serde_json::Value;

use crate::registry_view::{manifest, referrers};
use crate::release::{Release, Yard};

/// The check of an SPDX and a CycloneDX document by the tools of their makers.
pub(crate) fn assert_valid(spdx: &std::path::Path, cyclonedx: &std::path::Path) {
    let bin = validators_folder();
    stdout_of(Command::new(bin.join("pyspdxtools")).arg("-i").arg(spdx));
    let strict = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n\
        sys.exit(str(wrong) if wrong else 0)";
    stdout_of(Command::new(bin.join("python")).args(["-c", strict]).arg(cyclonedx));
}

/// `cosign verify` of `image` by both cosigns with the key in `key`.
pub(crate) fn assert_cosign_accepts(image: &str, key: &std::path::Path) {
    for which in [Oracle::Cosign2, Oracle::Cosign3] {
        let told = stdout_of(
            Command::new(oracle(which))
                .args(["verify", "--insecure-ignore-tlog=true", "--key"])
                .arg(key)
                .arg(image),
        );
        let digest = image.split_once('@').unwrap().1;
        assert!(told.contains(digest), "{which:?}: {told}");
    }
}

#[test]
fn a_release_from_source_to_production_and_the_same_again() {
    let yard = Yard::new();
    let release = Release::new("tiny", "v1.0.0");
    let done = yard.fairlead.run(yard.args(&release)).code(0);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(run["status"], "passed");
    let output = |step: &str, name: &str| run["steps"][step]["outputs"][name].clone();

    let promoted = yard.assert_done_once(&release);
    assert_eq!(output("promote", "image"), promoted.as_str());
    let built = output("build", "image").as_str().unwrap().to_owned();
    assert_eq!(built.split('@').nth(1), promoted.split('@').nth(1), "promotion keeps the digest");
    assert!(manifest(&built)["config"]["digest"].is_string());
    for image in [&built, &promoted] {
        assert_cosign_accepts(image, &yard.public_key());
    }

    // The documents: in the store, valid, attached, and telling of all three packages.
    assert_eq!(output("sbom", "packages"), 3);
    let id = run["run"].as_str().unwrap();
    let mut files = Vec::new();
    for name in ["spdx", "cyclonedx"] {
        let shown = yard.fairlead.run(["show", id, "--artifact", &format!("sbom.{name}")]).code(0);
        for purl in
            ["pkg:deb/debian/zlib1g@", "pkg:pypi/eager-listener@1.2.0", "pkg:npm/left-lean@"]
        {
            assert!(shown.stdout.contains(purl), "{name} lacks {purl}:\n{}", shown.stdout);
        }
        files.push(yard.fairlead.write(&format!("{name}.{name}.json"), &shown.stdout));
    }
    let spdx = files[0].with_file_name("sbom.spdx.json");
    std::fs::rename(&files[0], &spdx).unwrap();
    assert_valid(&spdx, &files[1]);
    for media_type in ["application/spdx+json", "application/vnd.cyclonedx+json"] {
        assert_eq!(referrers(&promoted, media_type).len(), 1, "{media_type} came along once");
    }

    // The finding: told, and no reason to stop.
    assert_eq!(output("scan", "counts")["high"], 1, "{}", output("scan", "counts"));
    let table = yard.fairlead.run(["show", id, "--artifact", "scan.table"]).code(0).stdout;
    assert!(table.contains("PYSEC-2026-9001") && table.contains("1.3.0"), "{table}");

    // Again: the same inputs leave everything as it is.
    let again = yard.fairlead.run(yard.args(&release)).code(0);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(yard.assert_done_once(&release), promoted);
    assert_eq!(again["steps"]["build"]["outputs"]["image"], built.as_str());
    assert_eq!(again["steps"]["deploy"]["outputs"]["commit"], Value::Null, "no second commit");
}

#[test]
fn a_policy_that_says_no_ends_the_release_before_anything_is_signed() {
    let yard = Yard::new();
    let release = Release::new("tiny", "v1.0.0");
    let strict = crate::release::PIPELINE.replace("severity: critical", "severity: high");
    yard.fairlead.write("release.yaml", &strict);
    let done = yard.fairlead.run(yard.args(&release)).code(3);
    let run: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(run["status"], "rejected");
    assert_eq!(run["steps"]["scan"]["status"], "rejected");
    assert_eq!(run["steps"]["scan"]["reason"], "1 high finding with a fix");
    for step in ["sign", "promote", "deploy"] {
        assert_eq!(run["steps"][step]["status"], "skipped", "{step}");
    }
    let built = run["steps"]["build"]["outputs"]["image"].as_str().unwrap();
    let none = crate::registry_view::Signatures { v2: 0, v3: 0 };
    assert_eq!(crate::registry_view::signatures(built), none);
    assert_eq!(release.remote.messages("main").len(), 1);
    let table = yard.fairlead.run(["show", "latest", "--artifact", "scan.table"]).code(0).stdout;
    assert!(table.contains("PYSEC-2026-9001"), "the findings of a no are kept: {table}");
}
