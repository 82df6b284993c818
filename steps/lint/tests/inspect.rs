//! What is wasted in an image: from layouts, from archives, from a registry.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fairlead_oci::kit::FakeRegistry;
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Digest, Image, Verdict, erase};
use fairlead_step_lint::{Inspect, Inspection, draw, inspect_path};
use serde_json::{Value, json};

/// A layer: names and sizes, each with the byte that fills it. A folder ends with `/`.
fn layer(files: &[(&str, usize, u8)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, size, byte) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(*size as u64);
        header.set_mode(0o644);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        archive.append_data(&mut header, name, vec![*byte; *size].as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn layers() -> [Vec<u8>; 3] {
    let long = "deep/".repeat(60) + "file";
    [
        gzip(&layer(&[("etc/", 0, 0), ("etc/a", 4000, 1), ("var/b", 2000, 2), ("var/c", 3000, 3)])),
        zstd::encode_all(
            layer(&[("etc/a", 6000, 4), ("var/.wh.b", 0, 0), ("copy", 6000, 4)]).as_slice(),
            1,
        )
        .unwrap(),
        layer(&[("var/.wh..wh..opq", 0, 0), ("var/d", 500, 5), (&long, 700, 6)]),
    ]
}

fn config() -> Value {
    json!({"history": [
        {"created_by": "/bin/sh -c #(nop) ADD file:1 in / "},
        {"created_by": "ENV A=1", "empty_layer": true},
        {"created_by": "RUN /bin/sh -c make # buildkit"},
        {"created_by": "COPY . . # buildkit"},
    ]})
}

fn layout(folder: &Path) {
    let put = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        std::fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let all: Vec<Value> = layers().iter().map(|layer| put(layer)).collect();
    let config = put(config().to_string().as_bytes());
    let manifest = put(json!({"config": config, "layers": all}).to_string().as_bytes());
    let index = json!({"manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn check(found: &Inspection) {
    let sizes: Vec<_> = found.layers.iter().map(|l| (l.size, l.files, l.hidden)).collect();
    assert_eq!(sizes, [(9000, 3, 9000), (12000, 2, 0), (1200, 2, 0)]);
    assert_eq!((found.size, found.visible, found.wasted), (22200, 13200, 9000));
    // etc/a 4000 and 6000; var/b 2000 and its deletion 2000; the others once.
    let (least, took) =
        (4000 + 2000 + 3000 + 6000 + 500 + 700, 10000 + 4000 + 3000 + 6000 + 500 + 700);
    assert!(
        (found.efficiency - f64::from(least) / f64::from(took)).abs() < 1e-9,
        "{}",
        found.efficiency
    );
    let wasted: Vec<_> =
        found.wasted_files.iter().map(|w| (w.path.as_str(), w.bytes, w.times, w.deleted)).collect();
    assert_eq!(
        wasted,
        [("etc/a", 4000, 2, false), ("var/c", 3000, 1, true), ("var/b", 2000, 2, true)]
    );
    assert_eq!(found.duplicated, 6000);
    assert_eq!(found.duplicates[0].paths, ["copy", "etc/a"]);
    assert_eq!((found.largest[0].path.as_str(), found.largest[0].layer), ("copy", 2));
    assert!(found.largest.iter().any(|file| file.path.ends_with("deep/file") && file.size == 700));
    assert_eq!(found.stable, 21000);
    assert_eq!(found.layers[1].created_by, "RUN /bin/sh -c make # buildkit");
}

#[test]
fn a_layout_in_a_folder_and_in_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let found = inspect_path(folder.path(), "linux/amd64").unwrap();
    check(&found);
    let picture = draw(&found);
    assert!(picture.contains("RUN make\n") && picture.contains("COPY . ."), "{picture}");
    assert!(picture.contains("9.0 kB wasted (40 %)"), "{picture}");

    let packed = tempfile::tempdir().unwrap();
    let path = packed.path().join("image.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive.append_dir_all(".", folder.path()).unwrap();
    archive.finish().unwrap();
    check(&inspect_path(&path, "linux/amd64").unwrap());
}

#[test]
fn an_archive_of_docker_save() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("saved.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    let names = ["1/layer.tar", "2/layer.tar", "3/layer.tar"];
    for (name, layer) in names.iter().zip(layers()) {
        add(name, &layer);
    }
    add("config.json", config().to_string().as_bytes());
    let manifest = json!([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]);
    add("manifest.json", manifest.to_string().as_bytes());
    archive.finish().unwrap();
    drop(archive);
    check(&inspect_path(&path, "linux/amd64").unwrap());
}

#[test]
fn what_is_no_image_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| inspect_path(path, "linux/amd64").unwrap_err().to_string();
    assert!(told(folder.path()).contains("neither an OCI layout nor"));
    assert!(told(&folder.path().join("missing")).contains("cannot read"));
    std::fs::write(folder.path().join("index.json"), "{").unwrap();
    assert!(told(folder.path()).contains("index.json"));
    let outside = json!({"manifests": [{"digest": "sha256:../../../../etc/passwd"}]});
    std::fs::write(folder.path().join("index.json"), outside.to_string()).unwrap();
    assert!(told(folder.path()).contains("has no digest"));
}

fn seed(registry: &FakeRegistry, name: &str, layers: &[Vec<u8>]) -> Image {
    let blob = |media_type: &str, bytes: Vec<u8>| {
        let size = bytes.len();
        let digest = registry.seed_blob(name, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let all: Vec<Value> = layers
        .iter()
        .map(|layer| blob("application/vnd.oci.image.layer.v1.tar+gzip", layer.clone()))
        .collect();
    let config =
        blob("application/vnd.oci.image.config.v1+json", config().to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": all,
    });
    registry.seed_manifest(name, Some("1"), &manifest)
}

#[tokio::test]
async fn the_step_reads_a_registry_and_keeps_a_budget() {
    let registry = FakeRegistry::start().await;
    let image = seed(&registry, "apps/shop", &layers());
    let base = seed(&registry, "base/os", &layers()[..1]);
    let (host, step) = (TestHost::new(), erase(Inspect));
    let with = json!({"image": image, "base": base});
    let Verdict::Passed { outputs } = conformance(&host, &*step, with).await.unwrap() else {
        panic!("there is no budget")
    };
    assert_eq!((&outputs["size"], &outputs["wasted"]), (&json!(22200), &json!(9000)));
    let digest: Digest = serde_json::from_value(outputs["report"]["digest"].clone()).unwrap();
    let report: Value = serde_json::from_slice(&host.artifact(&digest).unwrap()).unwrap();
    assert_eq!((&report["own"], &report["layers"][0]["of_base"]), (&json!(13200), &json!(true)));

    for (budget, reason) in [
        (json!({"max_size": "22kB"}), "22.2 kB is more than"),
        (json!({"max_wasted": 8999}), "9.0 kB wasted is more than"),
        (json!({"min_efficiency": 0.9}), "an efficiency of 0.669 is less than 0.9"),
    ] {
        let with = json!({"image": image, "budget": budget});
        let verdict = host.run(&*step, with).await.unwrap();
        let Verdict::Rejected { reason: told, .. } = verdict else { panic!("{verdict:?}") };
        assert!(told.contains(reason), "{told}");
    }
    let within = json!({"image": image, "budget": {"max_size": "1MB", "min_efficiency": 0.5}});
    assert!(matches!(host.run(&*step, within).await.unwrap(), Verdict::Passed { .. }));
    let wrong = json!({"image": image, "platform": "x", "budget": {"min_efficiency": 95}});
    assert_eq!(step.check(&wrong).unwrap_err().len(), 2);
}
