//! Signatures, both ways: cosign 2 and 3 read what Fairlead signed, Fairlead reads what they signed,
//! and a changed byte, another key and no signature are told apart.

use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_step::Digest;
use fairlead_tests::{Fairlead, Oracle, Registry, oracle, stdout_of};
use serde_json::Value;

use crate::main_job::assert_cosign_accepts;
use crate::registry_view::{BUNDLE, beside, crane, manifest, referrers};
use crate::registry_write::{put_blob, put_manifest, small_image};
use crate::release::plain_key;

pub(crate) const PASSWORD: &str = "mizzen-top-gallant";

/// A registry with one image, and a project beside it.
pub(crate) struct Bench {
    pub(crate) fairlead: Fairlead,
    pub(crate) registry: Registry,
    pub(crate) image: String,
}

/// An encrypted key as cosign makes it.
pub(crate) struct CosignKey {
    folder: PathBuf,
}

impl CosignKey {
    pub(crate) fn public(&self) -> PathBuf {
        self.folder.join("cosign.pub")
    }

    pub(crate) fn private(&self) -> PathBuf {
        self.folder.join("cosign.key")
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let registry = Registry::start();
        let image = small_image(&registry, "apps/tiny", "v1", "content");
        Self { fairlead: Fairlead::new(), registry, image }
    }

    /// cosign, with a home of its own and the password of its keys.
    pub(crate) fn cosign(&self, which: Oracle) -> Command {
        let mut command = Command::new(oracle(which));
        command.env("HOME", self.fairlead.home()).env("COSIGN_PASSWORD", PASSWORD);
        command.current_dir(self.fairlead.home());
        command
    }

    pub(crate) fn key(&self, which: Oracle) -> CosignKey {
        let folder = self.fairlead.home().join(format!("{which:?}"));
        std::fs::create_dir_all(&folder).unwrap();
        stdout_of(self.cosign(which).current_dir(&folder).arg("generate-key-pair"));
        CosignKey { folder }
    }

    fn sign_with_cosign2(&self, key: &CosignKey) {
        let mut cosign = self.cosign(Oracle::Cosign2);
        cosign.args(["sign", "--tlog-upload=false", "--yes", "--key"]).arg(key.private());
        stdout_of(cosign.arg(&self.image));
    }

    fn sign_with_cosign3(&self, key: &CosignKey) {
        // A configuration that names no services: a signature that lives on the key alone.
        let config = self.fairlead.home().join("signing-config.json");
        let empty = stdout_of(self.cosign(Oracle::Cosign3).args(["signing-config", "create"]));
        std::fs::write(&config, empty).unwrap();
        let mut cosign = self.cosign(Oracle::Cosign3);
        cosign.args(["sign", "--yes", "--signing-config"]).arg(config).arg("--key");
        stdout_of(cosign.arg(key.private()).arg(&self.image));
    }

    /// `fairlead steps run sign`, with the key in `private`.
    pub(crate) fn sign(&self, private: &Path, password: bool) {
        let mut args = vec![
            "steps".to_owned(),
            "run".to_owned(),
            "sign".to_owned(),
            format!("--with=image={}", self.image),
            "--with=key={{ secrets.cosign }}".to_owned(),
            format!("--secret=cosign=file:{}", private.display()),
        ];
        if password {
            args.push("--with=password={{ secrets.cosign_password }}".to_owned());
        }
        let mut command = self.fairlead.command(args);
        stdout_of(command.env("COSIGN_PASSWORD", PASSWORD));
    }

    /// What `fairlead steps run verify` answers, which is also what its exit code says.
    fn verify(&self, public: &Path) -> String {
        let key = std::fs::read_to_string(public).unwrap();
        let done = self.fairlead.run([
            "steps",
            "run",
            "verify",
            "--with",
            &format!("image={}", self.image),
            "--with",
            &format!("key={key}"),
        ]);
        let outputs: Value = serde_json::from_str(&done.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", done.stdout, done.stderr));
        let answer = outputs["answer"].as_str().unwrap().to_owned();
        let _ = done.code(if answer == "verified" { 0 } else { 3 });
        answer
    }
}

#[test]
fn both_cosigns_accept_what_fairlead_signs_with_any_of_their_keys() {
    for which in [Oracle::Cosign2, Oracle::Cosign3] {
        let bench = Bench::new();
        let key = bench.key(which);
        bench.sign(&key.private(), true);
        assert_cosign_accepts(&bench.image, &key.public());
        assert_eq!(bench.verify(&key.public()), "verified");
    }
    let bench = Bench::new();
    let folder = bench.fairlead.home().join("plain");
    plain_key(&folder);
    bench.sign(&folder.join("cosign"), false);
    assert_cosign_accepts(&bench.image, &folder.join("cosign.pub"));
    // The same again leaves one of each.
    bench.sign(&folder.join("cosign"), false);
    assert_eq!(crate::registry_view::signatures(&bench.image), crate::registry_view::ONE_OF_EACH);
}

#[test]
fn fairlead_accepts_what_cosign_2_signs_and_tells_what_is_wrong_with_the_rest() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign2);
    assert_eq!(bench.verify(&key.public()), "absent");
    bench.sign_with_cosign2(&key);
    assert_eq!(bench.verify(&key.public()), "verified");
    let stranger = bench.fairlead.home().join("stranger");
    plain_key(&stranger);
    assert_eq!(bench.verify(&stranger.join("cosign.pub")), "foreign");

    // One byte of what was signed is another now; everything else fits together.
    let tag = beside(&bench.image, ".sig");
    let mut document = manifest(&tag);
    let layer = document["layers"][0]["digest"].as_str().unwrap().to_owned();
    let repository = bench.image.split_once('@').unwrap().0;
    let payload = crane(&["blob", &format!("{repository}@{layer}")]);
    let changed = payload.replacen("cosign container", "cosign c0ntainer", 1);
    assert_ne!(payload, changed);
    let digest = put_blob(&bench.registry, "apps/tiny", changed.as_bytes());
    document["layers"][0]["digest"] = digest.to_string().into();
    put_manifest(&bench.registry, "apps/tiny", tag.rsplit_once(':').unwrap().1, &document);
    assert_eq!(bench.verify(&key.public()), "invalid");
}

#[test]
fn fairlead_accepts_what_cosign_3_signs_and_tells_what_is_wrong_with_the_rest() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign3);
    assert_eq!(bench.verify(&key.public()), "absent");
    bench.sign_with_cosign3(&key);
    assert_eq!(bench.verify(&key.public()), "verified");
    let stranger = bench.fairlead.home().join("stranger");
    plain_key(&stranger);
    assert_eq!(bench.verify(&stranger.join("cosign.pub")), "foreign");

    // The statement in the bundle speaks of another image now, under the old signature.
    let attached = referrers(&bench.image, BUNDLE);
    assert_eq!(attached.len(), 1);
    let mut document = manifest(&attached[0]);
    let layer = document["layers"][0]["digest"].as_str().unwrap().to_owned();
    let repository = bench.image.split_once('@').unwrap().0;
    let bundle = crane(&["blob", &format!("{repository}@{layer}")]);
    let mut bundle: Value = serde_json::from_str(&bundle).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
    // A character of base64 within the payload: one byte of the statement.
    let middle = payload.len() / 2;
    let other = if payload.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &payload[..middle], &payload[middle + 1..]);
    bundle["dsseEnvelope"]["payload"] = changed.into();
    let bytes = bundle.to_string();
    let digest = put_blob(&bench.registry, "apps/tiny", bytes.as_bytes());
    document["layers"][0]["digest"] = digest.to_string().into();
    document["layers"][0]["size"] = bytes.len().into();
    let text = document.to_string();
    let replaced = Digest::sha256(text.as_bytes());
    put_manifest(&bench.registry, "apps/tiny", &replaced.to_string(), &document);
    let list = beside(&bench.image, "");
    let mut index = manifest(&list);
    index["manifests"][0]["digest"] = replaced.to_string().into();
    index["manifests"][0]["size"] = text.len().into();
    put_manifest(&bench.registry, "apps/tiny", list.rsplit_once(':').unwrap().1, &index);
    assert_eq!(bench.verify(&key.public()), "invalid");
}

/// The bill of material of a large image, attested by both cosigns: more than any signature has.
fn attest_much(bench: &Bench, key: &CosignKey) {
    let predicate = bench.fairlead.home().join("predicate.json");
    let text = "x".repeat(4_900_000);
    std::fs::write(&predicate, serde_json::json!({ "text": text }).to_string()).unwrap();
    let config = bench.fairlead.home().join("signing-config.json");
    let empty = stdout_of(bench.cosign(Oracle::Cosign3).args(["signing-config", "create"]));
    std::fs::write(&config, empty).unwrap();
    for which in [Oracle::Cosign3, Oracle::Cosign2] {
        let mut cosign = bench.cosign(which);
        cosign.args(["attest", "--yes", "--type", "custom", "--predicate"]).arg(&predicate);
        if which == Oracle::Cosign3 {
            cosign.arg("--signing-config").arg(&config);
        } else {
            cosign.arg("--tlog-upload=false");
        }
        stdout_of(cosign.arg("--key").arg(key.private()).arg(&bench.image));
    }
}

#[test]
fn large_attestations_are_nothing_to_verify_and_sign_and_come_along() {
    let bench = Bench::new();
    let key = bench.key(Oracle::Cosign3);
    attest_much(&bench, &key);
    assert_eq!(bench.verify(&key.public()), "absent");
    bench.sign(&key.private(), true);
    assert_eq!(bench.verify(&key.public()), "verified");
    assert_cosign_accepts(&bench.image, &key.public());

    let to = format!("{}/prod/tiny", bench.registry.host());
    let with = [format!("--with=image={}", bench.image), format!("--with=to={to}")];
    let promote = ["steps", "run", "promote"].map(str::to_owned);
    let _ = bench.fairlead.run([&promote[..], &with].concat()).code(0);
    let promoted = format!("{to}@{}", bench.image.split_once('@').unwrap().1);
    assert_cosign_accepts(&promoted, &key.public());
    for which in [Oracle::Cosign2, Oracle::Cosign3] {
        let mut cosign = bench.cosign(which);
        cosign.args(["verify-attestation", "--insecure-ignore-tlog=true", "--type", "custom"]);
        stdout_of(cosign.arg("--key").arg(key.public()).arg(&promoted));
    }
}

#[test]
fn what_is_broken_beside_a_good_signature_stops_neither_verify_nor_promote() {
    let bench = Bench::new();
    let key = bench.fairlead.home().join("plain");
    plain_key(&key);
    bench.sign(&key.join("cosign"), false);
    // An entry that names what is not attached, and an attestation tag that holds an index.
    let list = beside(&bench.image, "");
    let mut index = manifest(&list);
    let other = small_image(&bench.registry, "apps/tiny", "v2", "other");
    let digest = other.split_once('@').unwrap().1;
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.push(serde_json::json!({ "mediaType": "text/plain", "digest": digest, "size": 11 }));
    put_manifest(&bench.registry, "apps/tiny", list.rsplit_once(':').unwrap().1, &index);
    let att = beside(&bench.image, ".att");
    put_manifest(&bench.registry, "apps/tiny", att.rsplit_once(':').unwrap().1, &index);
    assert_eq!(bench.verify(&key.join("cosign.pub")), "verified");

    let to = format!("{}/prod/tiny", bench.registry.host());
    let with = [format!("--with=image={}", bench.image), format!("--with=to={to}")];
    let promote = ["steps", "run", "promote"].map(str::to_owned);
    let _ = bench.fairlead.run([&promote[..], &with].concat()).code(0);
    let promoted = format!("{to}@{}", bench.image.split_once('@').unwrap().1);
    assert_cosign_accepts(&promoted, &key.join("cosign.pub"));
}

#[test]
fn sixteen_signers_at_once_lose_no_signature() {
    let bench = Bench::new();
    let keys: Vec<PathBuf> =
        (0..16).map(|number| bench.fairlead.home().join(format!("key-{number}"))).collect();
    for key in &keys {
        plain_key(key);
    }
    // Each is a process with a state of its own, as on as many machines.
    let signers: Vec<_> = keys
        .iter()
        .map(|key| {
            let place = Fairlead::new();
            let args = [
                "steps".to_owned(),
                "run".to_owned(),
                "sign".to_owned(),
                format!("--with=image={}", bench.image),
                "--with=key={{ secrets.cosign }}".to_owned(),
                format!("--secret=cosign=file:{}", key.join("cosign").display()),
            ];
            let mut command = place.command(args);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            (command.spawn().unwrap(), place)
        })
        .collect();
    for (signer, _place) in signers {
        let done = signer.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let found = crate::registry_view::signatures(&bench.image);
    assert_eq!((found.v2, found.v3), (16, 16));
    for key in &keys {
        assert_eq!(bench.verify(&key.join("cosign.pub")), "verified");
    }
}
