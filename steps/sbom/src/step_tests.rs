//! The step against a small registry in this process: what goes in, what comes out, what is refused.

use std::collections::BTreeSet;
use std::io::Write as _;

use bytes::Bytes;
use fairlead_oci::kit::{FakeRegistry, Fault};
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Digest, Image, Outputs, Step, Verdict, erase};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::Sbom;
use crate::laid_tests::{E, archive};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const OS: E<'_> = E::File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
const STATUS: E<'_> = E::File(
    "var/lib/dpkg/status",
    "Package: python3-six\nStatus: install ok installed\nArchitecture: all\nVersion: 1.16.0-4\n\
     Source: six\n",
);
const LIST: E<'_> = E::File(
    "var/lib/dpkg/info/python3-six.list",
    "/usr/lib/python3/dist-packages/six-1.16.0.egg-info\n",
);
const SIX: E<'_> = E::File(
    "usr/lib/python3/dist-packages/six-1.16.0.egg-info",
    "Name: six\nVersion: 1.16.0\nLicense: MIT\n",
);
const CORE: E<'_> = E::File(
    "app/node_modules/@s/core/package.json",
    r#"{"name":"@s/core","version":"1.0.0","license":"see LICENSE.txt"}"#,
);

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Stores an image of `layers`, each with its media type.
fn seed(registry: &FakeRegistry, config: &Value, layers: &[(&str, Vec<u8>)]) -> Image {
    let descriptor = |media_type: &str, bytes: Vec<u8>| {
        let size = bytes.len();
        let digest = registry.seed_blob("apps/shop", bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let config = config.to_string().into_bytes();
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    let layers: Vec<Value> =
        layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes.clone())).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    registry.seed_manifest("apps/shop", None, &manifest)
}

fn config(architecture: &str) -> Value {
    json!({
        "created": "2024-03-01T12:30:00.123456789+01:00", "os": "linux",
        "architecture": architecture,
        "config": {"Labels": {"org.opencontainers.image.title": "shop"}},
    })
}

fn small_image(registry: &FakeRegistry) -> Image {
    let layers = [
        (GZIP, gzip(&archive(&[OS, STATUS, LIST, SIX]))),
        (ZSTD, zstd::encode_all(&archive(&[CORE])[..], 1).unwrap()),
    ];
    seed(registry, &config("amd64"), &layers)
}

pub(crate) fn outputs(verdict: Verdict<Outputs>) -> Outputs {
    match verdict {
        Verdict::Passed { outputs } => outputs,
        other @ (Verdict::Rejected { .. } | Verdict::Skipped { .. }) => panic!("{other:?}"),
    }
}

pub(crate) fn document(host: &TestHost, outputs: &Outputs, which: &str) -> Bytes {
    let digest: Digest = outputs[which]["digest"].as_str().unwrap().parse().unwrap();
    host.artifact(&digest).unwrap()
}

/// The document as a person reads it, without what changes with each version of Fairlead or of the
/// libraries that pack the layers.
fn readable(bytes: &Bytes) -> String {
    let mut json: Value = serde_json::from_slice(bytes).unwrap();
    for changing in ["documentNamespace", "serialNumber"] {
        if let Some(value) = json.get_mut(changing) {
            *value = json!("[by digest and version]");
        }
    }
    let mut text = serde_json::to_string_pretty(&json).unwrap();
    let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let hashes: BTreeSet<String> = words.filter(is_hash).map(str::to_owned).collect();
    let mut by_place: Vec<&String> = hashes.iter().collect();
    by_place.sort_by_key(|hash| text.find(hash.as_str()));
    for (number, hash) in by_place.into_iter().enumerate() {
        text = text.replace(hash.as_str(), &format!("[hash {number}]"));
    }
    text.replace(env!("CARGO_PKG_VERSION"), "[version]")
}

#[tokio::test]
async fn a_small_image_is_described_in_both_formats() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let with = json!({"image": small_image(&registry)});
    let out = outputs(conformance(&host, &*step, with).await.unwrap());
    assert_eq!(out["packages"], 3);
    assert_eq!(out["ecosystems"], json!({"deb": 1, "npm": 1, "pypi": 1}));
    assert_eq!((&out["complete"], &out["unassessed"]), (&json!(true), &json!(0)));
    assert_eq!(out["document"], out["spdx"]);
    assert_eq!(out["spdx"]["name"], "shop.spdx.json");
    assert_snapshot!("spdx", readable(&document(&host, &out, "spdx")));
    assert_snapshot!("cyclonedx", readable(&document(&host, &out, "cyclonedx")));
    assert!(host.log_text().contains("3 packages on debian-12 (1 deb, 1 npm, 1 pypi)"));
}

#[tokio::test]
async fn one_digest_has_one_document_wherever_it_lies() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let mut digests = Vec::new();
    for registry in [&here, &there, &here] {
        let out = outputs(host.run(&*step, json!({"image": small_image(registry)})).await.unwrap());
        digests.push((out["spdx"]["digest"].clone(), out["cyclonedx"]["digest"].clone()));
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[tokio::test]
async fn a_layer_that_is_known_is_not_read_again() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let base = (GZIP, gzip(&archive(&[OS, STATUS, LIST, SIX])));
    let image = |top: (&str, Vec<u8>)| seed(&registry, &config("amd64"), &[base.clone(), top]);
    let first = image((GZIP, gzip(&archive(&[CORE]))));
    let second = image((GZIP, gzip(&archive(&[E::File("app/.wh.node_modules", "")]))));
    let digest = Digest::sha256(&base.1);
    let asked = || registry.asked(&format!("/blobs/{digest}"));
    let mut documents = Vec::new();
    for image in [&first, &second, &first] {
        let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
        documents.push((out["packages"].clone(), out["spdx"]["digest"].clone()));
    }
    assert_eq!(asked(), 1);
    assert_eq!((&documents[0], &documents[1].0), (&documents[2], &json!(2)));
    // Another process knows nothing, and says the same.
    let fresh = outputs(host.run(&*erase(Sbom::default()), json!({"image": first})).await.unwrap());
    assert_eq!((asked(), &fresh["spdx"]["digest"]), (2, &documents[0].1));
}

#[tokio::test]
async fn documents_are_attested_once_signed_and_unsigned() {
    use fairlead_evidence::kit::{key, pem_of};
    use fairlead_evidence::{Answer, Demand, attestations};
    let registry = FakeRegistry::start().await;
    let image = small_image(&registry);
    let mut with = json!({"image": image, "attach": "attestation", "formats": ["spdx-json"]});
    let host = TestHost::new();
    let step = erase(Sbom::default());
    for signed in [false, true] {
        if signed {
            with["key"] = json!(pem_of(&key()));
        }
        let first = host.run(&*step, with.clone()).await.unwrap();
        let before = registry.log().len();
        assert_eq!(first, host.run(&*step, with.clone()).await.unwrap());
        let writes = |line: &&String| line.starts_with("PUT") || line.starts_with("POST");
        assert_eq!(registry.log()[before..].iter().filter(writes).count(), 0);
        let client = fairlead_oci::Client::new(FakeRegistry::registries(
            fairlead_step::RegistryAuth::Anonymous,
        ));
        let (kinds, any, key) = (["spdx".parse().unwrap()], Demand::default(), key());
        let found = attestations(&client, &image, key.public_key(), &kinds, &any).await.0;
        let want = if signed { Answer::Verified } else { Answer::Absent };
        assert_eq!(found[0].answer(), want);
    }
    with["attach"] = json!("referrer");
    assert_eq!(step.check(&with).unwrap_err()[0].pointer, "/key");
}

#[tokio::test]
async fn documents_are_attached_once() {
    for referrers_api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = referrers_api);
        let (host, step) = (TestHost::new(), erase(Sbom::default()));
        let image = small_image(&registry);
        let with = json!({"image": image, "attach": "referrer"});
        let out = outputs(conformance(&host, &*step, with).await.unwrap());
        let listed = fairlead_oci::Client::new(FakeRegistry::registries(
            fairlead_step::RegistryAuth::Anonymous,
        ))
        .referrers(&image)
        .await
        .unwrap();
        let mut listed: Vec<Value> = listed.iter().map(|d| json!(d.digest)).collect();
        let mut attached = out["attached"].as_array().unwrap().clone();
        let spdx = attached[0].as_str().unwrap().to_owned();
        listed.sort_by_key(Value::to_string);
        attached.sort_by_key(Value::to_string);
        assert_eq!(listed, attached, "referrers API: {referrers_api}");
        let manifest = registry.manifest("apps/shop", &spdx).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["artifactType"], "application/spdx+json");
        assert_eq!(manifest["subject"]["digest"], json!(image.digest));
        assert_eq!(manifest["layers"][0]["digest"], out["spdx"]["digest"]);
    }
}

#[tokio::test]
async fn an_index_is_described_for_the_platform_asked_for() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let mut children = Vec::new();
    for (architecture, layer) in [("arm64", CORE), ("amd64", SIX)] {
        let layers = [(GZIP, gzip(&archive(&[layer])))];
        let image = seed(&registry, &config(architecture), &layers);
        let size = registry.manifest("apps/shop", &image.digest.to_string()).unwrap().len();
        children.push(json!({
            "mediaType": MANIFEST, "digest": image.digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": children,
    });
    let index = registry.seed_manifest("apps/shop", None, &index);
    let mut found = Vec::new();
    for with in [
        json!({"image": index}),
        json!({"image": index, "platform": "linux/arm64"}),
        json!({"image": index, "platform": "linux/s390x"}),
        json!({"image": index.repository.at(found_digest(&children[0])), "platform": "linux/amd64"}),
    ] {
        found.push(match host.run(&*step, with).await {
            Ok(verdict) => outputs(verdict)["ecosystems"].to_string(),
            Err(error) => error.to_string().split(" of ").next().unwrap().to_owned(),
        });
    }
    assert_eq!(found[0], r#"{"pypi":1}"#);
    assert_eq!(found[1], r#"{"npm":1}"#);
    assert!(found[2].contains("platform linux/s390x"), "{}", found[2]);
    assert!(found[3].ends_with("is for linux/arm64, not for linux/amd64"), "{}", found[3]);
}

/// What a document says was seen and not read: each text, and how many it leaves out.
fn unassessed(document: &Bytes) -> (Vec<String>, u64) {
    const MARK: &str = "fairlead:unassessed";
    let json: Value = serde_json::from_slice(document).unwrap();
    let mut found = (Vec::new(), 0);
    let mut add = |name: &str, value: &str| match name.strip_prefix(MARK) {
        Some("") => found.0.push(value.to_owned()),
        Some("-omitted") => found.1 = value.parse().unwrap(),
        _ => panic!("{name}"),
    };
    if json["bomFormat"] == "CycloneDX" {
        for property in json["metadata"]["properties"].as_array().into_iter().flatten() {
            add(property["name"].as_str().unwrap(), property["value"].as_str().unwrap());
        }
        let aggregate = if found.0.is_empty() { "complete" } else { "incomplete" };
        assert_eq!(json["compositions"][0]["aggregate"], aggregate);
        let image = &json["metadata"]["component"]["bom-ref"];
        assert_eq!(&json["compositions"][0]["assemblies"][0], image);
    } else {
        let image = &json["packages"][0];
        assert_eq!(image["SPDXID"], "SPDXRef-Image");
        for annotation in image["annotations"].as_array().into_iter().flatten() {
            assert_eq!(annotation["annotationType"], "OTHER");
            let (name, value) = annotation["comment"].as_str().unwrap().split_once(' ').unwrap();
            add(name, value);
        }
    }
    found
}

#[tokio::test]
async fn what_was_not_read_is_in_both_documents_the_outputs_and_the_log() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let jars: Vec<String> = (0..1000).map(|at| format!("app/lib/{at:04}.jar")).collect();
    let mut entries = vec![OS, STATUS, LIST, SIX, E::File("var/lib/rpm/rpmdb.sqlite", "SQLite")];
    entries.extend(jars.iter().map(|jar| E::File(jar, "PK\u{3}\u{4}")));
    let image = seed(&registry, &config("amd64"), &[(GZIP, gzip(&archive(&entries)))]);
    let out = outputs(conformance(&host, &*step, json!({"image": image})).await.unwrap());
    assert_eq!((&out["complete"], &out["unassessed"]), (&json!(false), &json!(1001)));
    assert_eq!(out["packages"], 2);
    let (spdx, cyclonedx) = (
        unassessed(&document(&host, &out, "spdx")),
        unassessed(&document(&host, &out, "cyclonedx")),
    );
    assert_eq!(spdx, cyclonedx);
    assert_eq!((spdx.0.len() as u64) + spdx.1, 1001);
    assert!(spdx.0.len() <= 400 && spdx.0.is_sorted());
    assert_eq!(spdx.0[0], "java-archive:/app/lib/0000.jar");
    assert_eq!(spdx.0.last().unwrap(), "rpm:/var/lib/rpm/rpmdb.sqlite");
    let log = host.log_text();
    assert!(log.contains("1000 Java archives (/app/lib/0000.jar,"), "{log}");
    assert!(log.contains("1 RPM database (/var/lib/rpm/rpmdb.sqlite)"), "{log}");
}

#[tokio::test]
async fn an_image_whose_own_database_is_lost_is_not_described() {
    let registry = FakeRegistry::start().await;
    let step = erase(Sbom::default());
    for (entry, want) in [
        (E::File("var/lib/dpkg/status", "\u{0}\u{1}"), "`/var/lib/dpkg/status`"),
        (
            E::File("usr/lib/sysimage/rpm/Packages.db", "RpmP"),
            "`/usr/lib/sysimage/rpm/Packages.db`",
        ),
        (E::Holes("lib/apk/db/installed"), "`/lib/apk/db/installed`"),
    ] {
        let host = TestHost::new();
        let image = seed(&registry, &config("amd64"), &[(GZIP, gzip(&archive(&[OS, entry])))]);
        let error = host.run(&*step, json!({"image": image})).await.unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert!(host.log_text().contains("passed over"), "{}", host.log_text());
    }
    // Another system's, in a folder, is told and no more.
    let tree = E::File("srv/var/lib/dpkg/status", "x");
    let image = seed(&registry, &config("amd64"), &[(GZIP, gzip(&archive(&[OS, STATUS, tree])))]);
    let out = outputs(TestHost::new().run(&*step, json!({"image": image})).await.unwrap());
    assert_eq!((&out["packages"], &out["unassessed"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn the_bytes_of_a_layer_say_how_it_is_packed() {
    const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
    let registry = FakeRegistry::start().await;
    let step = erase(Sbom::default());
    let tar = archive(&[OS, STATUS, LIST, SIX]);
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    let mut found = BTreeSet::new();
    for label in [PLAIN, GZIP, ZSTD, "application/vnd.docker.image.rootfs.diff.tar.gzip"] {
        for bytes in [tar.clone(), gzip(&tar), zstd.clone()] {
            let host = TestHost::new();
            let image = seed(&registry, &config("amd64"), &[(label, bytes)]);
            let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
            found.insert(out["ecosystems"].to_string());
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [r#"{"deb":1,"pypi":1}"#]);
}

#[tokio::test]
async fn another_operating_system_is_told() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let config = json!({"os": "windows", "os.version": "10.0.20348.1", "architecture": "amd64"});
    let layer = (GZIP, gzip(&archive(&[E::Dir("Files"), E::File("Files/License.txt", "x")])));
    let image = seed(&registry, &config, &[layer]);
    let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
    let want = (vec!["distribution:windows 10.0.20348.1".to_owned()], 0);
    assert_eq!(unassessed(&document(&host, &out, "spdx")), want);
    assert_eq!(unassessed(&document(&host, &out, "cyclonedx")), want);
}

/// Stores an image with a layer that only `urls` have, over a layer that the registry has.
fn seed_with_foreign(registry: &FakeRegistry, layer: &[u8], urls: &[String]) -> (Image, Digest) {
    let image = seed(registry, &config("amd64"), &[(GZIP, gzip(&archive(&[OS, STATUS, LIST])))]);
    let manifest = registry.manifest("apps/shop", &image.digest.to_string()).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let digest = Digest::sha256(layer);
    manifest["layers"].as_array_mut().unwrap().push(json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": digest, "size": layer.len(), "urls": urls,
    }));
    (registry.seed_manifest("apps/shop", None, &manifest), digest)
}

#[tokio::test]
async fn a_foreign_layer_is_read_where_it_is_or_told_as_not_seen() {
    let (registry, elsewhere) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let step = erase(Sbom::default());
    let layer = gzip(&archive(&[SIX]));
    let at = elsewhere.seed_blob("base", layer.clone());
    let url = format!("http://{}/v2/base/blobs/{at}", elsewhere.repository("base").registry());
    // Nobody is asked whom a stranger's manifest names within our walls.
    for urls in [vec![], vec![url.clone()], vec![url.replace("http:", "https:")]] {
        let host = TestHost::new();
        let (image, digest) = seed_with_foreign(&registry, &layer, &urls);
        let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
        assert_eq!(out["ecosystems"], json!({"deb": 1}), "the rest of the bill is right");
        let text = format!("foreign-layer:{digest}");
        for which in ["spdx", "cyclonedx"] {
            assert_eq!(unassessed(&document(&host, &out, which)), (vec![text.clone()], 0));
        }
        let log = host.log_text();
        let told = format!("layer 2 ({digest}) lives outside of the registry and was not seen: ");
        assert!(log.contains(&told), "{log}");
        assert!(!log.contains("/v2/base"), "{log}");
    }
    assert!(elsewhere.log().is_empty(), "{:?}", elsewhere.log());

    // Where it may be fetched, it is as any other layer, if its bytes are the right ones.
    let options = fairlead_oci::Options {
        elsewhere: fairlead_oci::Elsewhere::Anything,
        ..fairlead_oci::Options::default()
    };
    let client = fairlead_oci::Client::with(
        FakeRegistry::registries(fairlead_step::RegistryAuth::Anonymous),
        fairlead_oci::Transport::new(),
        options,
    );
    let described = async |image: &Image| {
        let image = client.platform(image, &"linux/amd64".parse().unwrap()).await.unwrap();
        let log = TestHost::new().context(&*step, 1).0.shared_log();
        crate::read_image(&client, &image, &crate::Limits::default(), &log).await.unwrap().inventory
    };
    let (image, digest) = seed_with_foreign(&registry, &layer, std::slice::from_ref(&url));
    let inventory = described(&image).await;
    assert_eq!((inventory.packages.len(), inventory.is_complete()), (2, true));
    assert_eq!(elsewhere.asked(&digest.to_string()), 1);
    elsewhere.fail(&digest.to_string(), Fault::Damage, 1);
    let inventory = described(&image).await;
    assert_eq!((inventory.packages.len(), inventory.is_complete()), (1, false));

    // The registry has it: nobody else is asked.
    registry.seed_blob("apps/shop", layer.clone());
    elsewhere.clear_log();
    let out = outputs(TestHost::new().run(&*step, json!({"image": image})).await.unwrap());
    assert_eq!((&out["packages"], &out["complete"]), (&json!(2), &json!(true)));
    assert!(elsewhere.log().is_empty());
}

#[tokio::test]
async fn an_owner_is_said_only_of_what_the_owner_brought() {
    let registry = FakeRegistry::start().await;
    let (host, step) = (TestHost::new(), erase(Sbom::default()));
    let copy = E::File("usr/local/lib/six-1.16.0.egg-info", "Name: six\nVersion: 1.16.0\n");
    let mut owners = Vec::new();
    for entries in [&[OS, STATUS, LIST, SIX][..], &[OS, STATUS, LIST, SIX, copy]] {
        let image = seed(&registry, &config("amd64"), &[(GZIP, gzip(&archive(entries)))]);
        let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
        let spdx: Value = serde_json::from_slice(&document(&host, &out, "spdx")).unwrap();
        let contained = spdx["relationships"].as_array().unwrap().iter().filter(|relation| {
            relation["relationshipType"] == "CONTAINS"
                && relation["spdxElementId"].as_str().unwrap().starts_with("SPDXRef-deb-")
        });
        let cyclonedx: Value = serde_json::from_slice(&document(&host, &out, "cyclonedx")).unwrap();
        let six = cyclonedx["components"].as_array().unwrap().iter().find(|c| c["name"] == "six");
        let marks = six.unwrap()["properties"].as_array().unwrap();
        let ending = |end: &str| {
            marks.iter().filter(|mark| mark["name"].as_str().unwrap().ends_with(end)).count()
        };
        owners.push((contained.count(), ending(":owner"), ending(":path")));
    }
    // The second six is nobody's: no reader may take it for the distribution's.
    assert_eq!(owners, [(1, 1, 1), (0, 1, 2)]);

    // A path that looks like an owner is none.
    let odd =
        E::File("x (layer a, of pkg:deb/a@1), /package.json", r#"{"name":"a","version":"1"}"#);
    let image = seed(&registry, &config("amd64"), &[(GZIP, gzip(&archive(&[odd])))]);
    let out = outputs(host.run(&*step, json!({"image": image})).await.unwrap());
    let spdx: Value = serde_json::from_slice(&document(&host, &out, "spdx")).unwrap();
    let text = spdx["packages"][1]["sourceInfo"].as_str().unwrap();
    assert_eq!(text.matches(" (layer ").count(), 1, "{text}");
    assert!(text.split_once(" (layer ").unwrap().1.starts_with("sha256:"), "{text}");
}

fn found_digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

/// The message, without the names that change, and the way out.
async fn refusal(registry: &FakeRegistry, step: &dyn Step, image: &Image) -> (String, String) {
    let error = TestHost::new().run(step, json!({"image": image})).await.unwrap_err();
    let text = error.chain().replace(image.repository.registry(), "[registry]");
    registry.clear_log();
    (text, error.way_out().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_bad_layer_is_refused_by_its_number_and_digest() {
    let registry = FakeRegistry::start().await;
    let step = erase(Sbom::default());
    let good = (GZIP, gzip(&archive(&[OS])));
    for (layer, want) in [
        ((GZIP, gzip(&archive(&[E::File("../x", "")]))), "entry `../x`: the name leads out"),
        ((GZIP, gzip(&archive(&[E::File("/x", "")]))), "entry `/x`: the name is absolute"),
        ((GZIP, b"no gzip".to_vec()), "it cannot be unpacked: "),
        ((GZIP, gzip(b"no archive")), "the tar archive is damaged at byte 10"),
        (("application/x-chart", b"x".to_vec()), "`application/x-chart` names no tar archive"),
    ] {
        let digest = Digest::sha256(&layer.1);
        let image = seed(&registry, &config("amd64"), &[good.clone(), layer]);
        let (message, hint) = refusal(&registry, &*step, &image).await;
        let place = format!("layer 2 ({digest}) of [registry]/apps/shop: ");
        assert!(message.starts_with(&place) && message.contains(want), "{message}");
        assert!(!hint.is_empty() && !hint.contains("honest"), "{hint}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_their_digests_are_told_before_what_they_broke() {
    let step = erase(Sbom::default());
    for fault in [Fault::Damage, Fault::Shorten] {
        let registry = FakeRegistry::start().await;
        let layer = gzip(&archive(&[OS, STATUS]));
        let digest = Digest::sha256(&layer);
        let image = seed(&registry, &config("amd64"), &[(GZIP, layer)]);
        registry.fail(&digest.to_string(), fault, 100);
        let (message, _) = refusal(&registry, &*step, &image).await;
        assert!(message.contains(&digest.to_string()), "{message}");
        assert!(!message.contains("gzip") && !message.contains("archive"), "{message}");
    }
}

#[test]
fn inputs_are_checked_without_a_registry() {
    let step = erase(Sbom::default());
    let image = format!("r.example.com/shop@{}", Digest::sha256(b"x"));
    for (with, pointer) in [
        (json!({"image": image, "formats": []}), "/formats"),
        (json!({"image": image, "formats": ["spdx"]}), "/formats/0"),
        (json!({"image": image, "platform": "amd64"}), "/platform"),
        (json!({"image": "r.example.com/shop:v1"}), "/image"),
        (json!({"image": image, "attach": "always"}), "/attach"),
    ] {
        let problems = step.check(&with).unwrap_err();
        assert_eq!(problems[0].pointer, pointer, "{problems:?}");
    }
}
