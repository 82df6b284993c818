//! Attestations, both ways: cosign 2 and 3 read what Fairlead says of an image, Fairlead reads what they say;
//! keys of every kind; and the walk from a promoted digest back to its commit.

use std::path::Path;
use std::process::Command;

use fairlead_tests::{Oracle, stdout_of};
use serde_json::Value;

use crate::main_job::assert_cosign_accepts;
use crate::signatures::{Bench, CosignKey, PASSWORD};

/// `fairlead steps run KIND`, with these inputs and the key in `private`.
fn step(bench: &Bench, kind: &str, private: &Path, with: &[String]) {
    let mut args = vec!["steps".to_owned(), "run".to_owned(), kind.to_owned(), "-q".to_owned()];
    args.push("--with=key={{ secrets.cosign }}".to_owned());
    args.push("--with=password={{ secrets.cosign_password }}".to_owned());
    args.push(format!("--secret=cosign=file:{}", private.display()));
    args.extend(with.iter().map(|one| format!("--with={one}")));
    let mut command = bench.fairlead.command(args);
    stdout_of(command.env("COSIGN_PASSWORD", PASSWORD));
}

fn verify_attestation(
    bench: &Bench,
    which: Oracle,
    key: &Path,
    kind: &str,
    image: &str,
) -> Command {
    let mut cosign = bench.cosign(which);
    cosign.args(["verify-attestation", "--insecure-ignore-tlog=true", "--type", kind, "--key"]);
    cosign.arg(key).arg(image);
    cosign
}

/// What `verify` answers of each type.
fn answers(bench: &Bench, key: &Path, image: &str, kinds: &[&str]) -> Vec<String> {
    let key = std::fs::read_to_string(key).unwrap();
    let done = bench.fairlead.run([
        "steps".to_owned(),
        "run".to_owned(),
        "verify".to_owned(),
        "-q".to_owned(),
        format!("--with=image={image}"),
        format!("--with=key={key}"),
        "--with=signature=false".to_owned(),
        format!("--with=attestations={}", serde_json::json!(kinds)),
    ]);
    let outputs: Value = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", done.stdout, done.stderr));
    let found = outputs["attestations"].as_array().unwrap();
    found.iter().map(|one| one["answer"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_cosigns_accept_what_fairlead_attests() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign2);
    let bill = bench.fairlead.write("bill.json", r#"{"spdxVersion":"SPDX-2.3","packages":[]}"#);
    let tests = bench.fairlead.write("t.json", r#"{"result":"PASSED","configuration":[]}"#);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let test_result = "https://in-toto.io/attestation/test-result/v0.1";
    for (kind, file) in [("spdx", &bill), ("custom", &tests), ("test-result", &tests)] {
        let with = [
            format!("image={}", bench.image),
            format!("type={kind}"),
            format!("predicate={}", name(file)),
        ];
        step(&bench, "attest", &key.private(), &with);
    }
    let with = [format!("image={}", bench.image), "type=provenance".to_owned()];
    step(&bench, "attest", &key.private(), &with);
    for which in [Oracle::Cosign2, Oracle::Cosign3] {
        for kind in ["spdx", "custom", test_result, "slsaprovenance1"] {
            stdout_of(&mut verify_attestation(&bench, which, &key.public(), kind, &bench.image));
        }
        // What nobody said is not there for them either.
        let mut absent = verify_attestation(&bench, which, &key.public(), "vuln", &bench.image);
        assert!(!absent.output().unwrap().status.success(), "{which:?}");
    }
    let kinds = ["spdx", "provenance", "vuln"];
    let found = answers(&bench, &key.public(), &bench.image, &kinds);
    assert_eq!(found, ["verified", "verified", "absent"]);
    let stranger = bench.key(Oracle::Cosign3);
    let found = answers(&bench, &stranger.public(), &bench.image, &kinds);
    assert_eq!(found, ["foreign", "foreign", "absent"]);
}

fn attest_with(bench: &Bench, which: Oracle, key: &CosignKey, kind: &str, predicate: &Path) {
    let mut cosign = bench.cosign(which);
    cosign.args(["attest", "--yes", "--type", kind, "--predicate"]).arg(predicate);
    if which == Oracle::Cosign3 {
        let config = bench.fairlead.home().join("signing-config.json");
        let empty = stdout_of(bench.cosign(Oracle::Cosign3).args(["signing-config", "create"]));
        std::fs::write(&config, empty).unwrap();
        cosign.arg("--signing-config").arg(&config);
    } else {
        cosign.arg("--tlog-upload=false");
    }
    stdout_of(cosign.arg("--key").arg(key.private()).arg(&bench.image));
}

#[test]
fn fairlead_accepts_what_both_cosigns_attest() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign2);
    let bill = bench.fairlead.write("bill.json", r#"{"bomFormat":"CycloneDX"}"#);
    let vex = bench.fairlead.write("vex.json", r#"{"@context":"https://openvex.dev/ns"}"#);
    attest_with(&bench, Oracle::Cosign2, &key, "cyclonedx", &bill);
    attest_with(&bench, Oracle::Cosign3, &key, "openvex", &vex);
    let kinds = ["cyclonedx", "openvex", "spdx"];
    let found = answers(&bench, &key.public(), &bench.image, &kinds);
    assert_eq!(found, ["verified", "verified", "absent"]);
}

#[test]
fn keys_of_every_kind_sign_for_both_cosigns() {
    let bench = Bench::new();
    let folder = bench.fairlead.home().join("kinds");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, algorithm, option) in [
        ("p384", "EC", Some("ec_paramgen_curve:P-384")),
        ("ed25519", "ED25519", None),
        ("rsa", "RSA", Some("rsa_keygen_bits:2048")),
    ] {
        let private = folder.join(name);
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", algorithm]);
        if let Some(option) = option {
            openssl.args(["-pkeyopt", option]);
        }
        stdout_of(openssl.arg("-out").arg(&private));
        let public = bench.fairlead.run(["key", "public", private.to_str().unwrap()]).code(0);
        let file = bench.fairlead.write(&format!("{name}.pub"), &public.stdout);
        bench.sign(&private, false);
        assert_cosign_accepts(&bench.image, &file);
    }
    // A key that Fairlead makes is one of cosign's.
    let out = folder.join("made");
    let mut generate = bench.fairlead.command([
        "key",
        "generate",
        "--out",
        out.to_str().unwrap(),
        "--password",
        "cosign_password",
    ]);
    stdout_of(generate.env("COSIGN_PASSWORD", PASSWORD));
    let mut cosign = bench.cosign(Oracle::Cosign2);
    let mut cosign3 = bench.cosign(Oracle::Cosign3);
    let (private, public) = (out.with_extension("key"), out.with_extension("pub"));
    cosign.args(["sign", "--tlog-upload=false", "--yes", "--key"]).arg(&private);
    stdout_of(cosign.arg(&bench.image));
    stdout_of(cosign3.args(["public-key", "--key"]).arg(&private));
    let mut cosign = bench.cosign(Oracle::Cosign2);
    cosign.args(["verify", "--insecure-ignore-tlog=true", "--key"]).arg(&public);
    stdout_of(cosign.arg(&bench.image));
    // Neither half is overwritten.
    let again = ["key", "generate", "--plain", "--out", out.to_str().unwrap()];
    let _ = bench.fairlead.run(again).code(2);
}

#[test]
fn a_promoted_digest_leads_back_to_its_commit() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign2);
    let to = format!("{}/prod/tiny", bench.registry.host());
    let sample = format!(
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: life\nsteps:\n  \
         provenance: {{uses: attest, with: {{image: '{image}', type: provenance, {key}}}}}\n  \
         tests: {{uses: attest, needs: [provenance], with: {{image: '{image}', type: test-result, \
         data: {{result: PASSED, configuration: [], passedTests: [a]}}, {key}}}}}\n  \
         bill: {{uses: attest, needs: [tests], with: {{image: '{image}', type: spdx, \
         data: {{spdxVersion: SPDX-2.3, packages: []}}, {key}}}}}\n  \
         sign: {{uses: sign, needs: [bill], with: {{image: '{image}', {key}}}}}\n  \
         promote: {{uses: promote, needs: [sign], with: {{image: '{image}', to: '{to}', \
         tags: [v1], channels: [stable], environment: prod, {key}}}}}\n",
        image = bench.image,
        key = "key: '{{ secrets.cosign }}', password: '{{ secrets.cosign_password }}'",
    );
    let file = bench.fairlead.write("life.yaml", &sample);
    let commit = "0123456789abcdef0123456789abcdef01234567";
    bench.fairlead.write(".git/HEAD", commit);
    let mut run = bench.fairlead.command([
        "run".to_owned(),
        file.display().to_string(),
        format!("--secret=cosign=file:{}", key.private().display()),
    ]);
    stdout_of(run.env("COSIGN_PASSWORD", PASSWORD));
    // Another store, on another machine: the registry alone tells it.
    let elsewhere = fairlead_tests::Fairlead::new();
    let image = format!("{to}:stable");
    let public = key.public();
    let args = ["trace", &image, "--key", public.to_str().unwrap()];
    let told = elsewhere.run(args).code(0);
    for line in [
        &format!("commit {commit}, as a local checkout says [verified: signed by cosign.pub]"),
        "pipeline life, run ",
        "SPDX-2.3, 0 packages [verified",
        "PASSED: 1 passed, 0 failed [verified",
        "signed by cosign.pub (v2, v3) [verified",
        &format!("promoted to {to} as v1 to channel stable for prod"),
    ] {
        assert!(told.stdout.contains(line), "{line}:\n{}", told.stdout);
    }
    assert!(!told.stderr.contains("not told by anything verified"), "{}", told.stderr);
    let json = elsewhere.run([&args[..], &["--json"]].concat()).code(0);
    let trace: Value = serde_json::from_str(&json.stdout).unwrap();
    let stages: Vec<&str> =
        trace["entries"].as_array().unwrap().iter().map(|e| e["stage"].as_str().unwrap()).collect();
    for stage in ["source", "build", "contents", "tests", "signature", "promotion"] {
        assert!(stages.contains(&stage), "{stage}: {stages:?}");
    }
    // By a key of somebody else, nothing is verified.
    let stranger = bench.key(Oracle::Cosign3);
    let other = stranger.public();
    let told = elsewhere.run(["trace", &image, "--key", other.to_str().unwrap()]).code(3);
    assert!(!told.stdout.contains("[verified"), "{}", told.stdout);
}
