//! What lies in the workspace: layouts, saved images, folders; and what is refused of them.

use std::fs;
use std::path::Path;

use fairlead_step::kit::TestHost;
use fairlead_step::{Digest, erase};
use serde_json::{Value, json};

use crate::Sbom;
use crate::laid_tests::{E, archive};
use crate::step_tests::{document, gzip, outputs};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OS: E<'_> = E::File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
const STATUS: E<'_> = E::File(
    "var/lib/dpkg/status",
    "Package: bash\nStatus: install ok installed\nVersion: 5.2\nArchitecture: amd64\n",
);
const CORE: E<'_> = E::File("app/package.json", r#"{"name": "core", "version": "1.0.0"}"#);

fn put_blob(folder: &Path, bytes: &[u8]) -> Value {
    let digest = Digest::sha256(bytes);
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest.hex()), bytes).unwrap();
    json!({"digest": digest, "size": bytes.len()})
}

fn typed(mut descriptor: Value, media_type: &str) -> Value {
    descriptor["mediaType"] = json!(media_type);
    descriptor
}

/// An image of these layers, and its descriptor.
pub(crate) fn put_image(folder: &Path, architecture: &str, layers: &[&[E<'_>]]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|entries| typed(put_blob(folder, &gzip(&archive(entries))), GZIP))
        .collect();
    let config = json!({"os": "linux", "architecture": architecture}).to_string();
    let config = put_blob(folder, config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": typed(config, "application/vnd.oci.image.config.v1+json"), "layers": layers,
    });
    let manifest = put_blob(folder, manifest.to_string().as_bytes());
    typed(manifest, "application/vnd.oci.image.manifest.v1+json")
}

pub(crate) fn put_index(folder: &Path, manifests: &[Value]) {
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

/// Packs a folder into an archive, as `tar` would.
fn pack(folder: &Path, to: &Path) {
    let mut builder = tar::Builder::new(fs::File::create(to).unwrap());
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
}

async fn run(host: &TestHost, with: Value) -> Result<Value, String> {
    let step = erase(Sbom::default());
    let verdict = host.run(&*step, with).await.map_err(|error| error.to_string())?;
    Ok(outputs(verdict))
}

#[tokio::test]
async fn a_layout_is_read_as_a_folder_and_as_an_archive() {
    let host = TestHost::new();
    let folder = host.workspace().join("image");
    fs::create_dir_all(&folder).unwrap();
    let image = put_image(&folder, "amd64", &[&[OS, STATUS], &[CORE]]);
    put_index(&folder, std::slice::from_ref(&image));
    pack(&folder, &host.workspace().join("image.tar"));
    let mut documents = Vec::new();
    for path in ["image", "image.tar"] {
        let out = run(&host, json!({"path": path})).await.unwrap();
        assert_eq!((&out["packages"], &out["digest"]), (&json!(2), &image["digest"]));
        assert_eq!(out["described"], Value::Null);
        documents.push(out["spdx"]["digest"].clone());
    }
    assert_eq!(documents[0], documents[1]);
    assert_eq!(
        run(&host, json!({"path": "image"})).await.unwrap()["spdx"]["name"],
        "image.spdx.json"
    );
}

#[tokio::test]
async fn one_of_several_images_is_chosen_by_name_and_platform() {
    let host = TestHost::new();
    let folder = host.workspace();
    let old = put_image(folder, "amd64", &[&[OS, STATUS]]);
    let arm = put_image(folder, "arm64", &[&[CORE]]);
    let mut listed = vec![old.clone(), arm];
    for (image, architecture) in listed.iter_mut().zip(["amd64", "arm64"]) {
        image["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    let index = json!({"schemaVersion": 2, "manifests": listed,
        "mediaType": "application/vnd.oci.image.index.v1+json"});
    let index = put_blob(folder, index.to_string().as_bytes());
    let index = typed(index, "application/vnd.oci.image.index.v1+json");
    let named = |mut image: Value, name: &str| {
        image["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        image
    };
    put_index(folder, &[named(index, "new"), named(old, "old")]);
    let ecosystems =
        async |with: Value| run(&host, with).await.map(|out| out["ecosystems"].to_string());
    assert_eq!(ecosystems(json!({"path": ".", "reference": "new"})).await.unwrap(), r#"{"deb":1}"#);
    let arm = json!({"path": ".", "reference": "new", "platform": "linux/arm64"});
    assert_eq!(ecosystems(arm).await.unwrap(), r#"{"npm":1}"#);
    for (with, want) in [
        (json!({"path": "."}), "the layout has 2 images: new, old"),
        (json!({"path": ".", "reference": "x"}), "the layout has no image `x`: new, old"),
        (
            json!({"path": ".", "reference": "new", "platform": "linux/s390x"}),
            "the image is not for linux/s390x: it is for linux/amd64, linux/arm64",
        ),
    ] {
        let error = ecosystems(with).await.unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}

/// What `docker save` wrote before it wrote layouts, of two layers.
fn put_saved(folder: &Path) {
    let layers = [archive(&[OS, STATUS]), archive(&[CORE])];
    let ids: Vec<Digest> = layers.iter().map(|bytes| Digest::sha256(bytes)).collect();
    for (at, bytes) in layers.iter().enumerate() {
        fs::create_dir_all(folder.join(at.to_string())).unwrap();
        fs::write(folder.join(format!("{at}/layer.tar")), bytes).unwrap();
    }
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ids}});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["shop:1"],
        "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

#[tokio::test]
async fn what_docker_saved_is_read() {
    let host = TestHost::new();
    let folder = host.workspace().join("saved");
    fs::create_dir_all(&folder).unwrap();
    put_saved(&folder);
    pack(&folder, &host.workspace().join("saved.tar"));
    for with in [json!({"path": "saved.tar"}), json!({"path": "saved.tar", "reference": "shop:1"})]
    {
        let out = run(&host, with).await.unwrap();
        assert_eq!(out["ecosystems"], json!({"deb": 1, "npm": 1}));
    }
    let error = run(&host, json!({"path": "saved.tar", "reference": "x"})).await.unwrap_err();
    assert!(error.contains("the archive has no image `x`: shop:1"), "{error}");
    // A layer that is not the one that the configuration names.
    fs::write(folder.join("1/layer.tar"), archive(&[E::File("x", "y")])).unwrap();
    pack(&folder, &host.workspace().join("saved.tar"));
    let error = run(&host, json!({"path": "saved.tar"})).await.unwrap_err();
    assert!(error.contains("`1/layer.tar` is not what it says"), "{error}");
}

#[tokio::test]
async fn a_folder_is_read_with_its_lock_files() {
    let host = TestHost::new();
    let root = host.workspace().join("shop");
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n");
    put("var/lib/dpkg/status", "Package: bash\nStatus: install ok installed\nVersion: 5.2\n");
    put("src/Cargo.lock", "[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n");
    fs::create_dir_all(root.join("etc")).unwrap();
    std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    // What a link leads to out of the folder is not in it.
    std::os::unix::fs::symlink("/", root.join("out")).unwrap();
    let out = run(&host, json!({"path": "shop"})).await.unwrap();
    assert_eq!(out["ecosystems"], json!({"cargo": 1, "deb": 1}));
    assert_eq!(out["complete"], true);
    let again = run(&host, json!({"path": "shop"})).await.unwrap();
    assert_eq!(out["cyclonedx"]["digest"], again["cyclonedx"]["digest"]);
    let text = String::from_utf8(document(&host, &out, "cyclonedx").to_vec());
    let text = text.unwrap();
    assert!(text.contains("pkg:deb/debian/bash@5.2?distro=debian-12"), "{text}");
    assert!(text.contains(r#""value":"/src/Cargo.lock""#) && text.contains("pre-build"), "{text}");
}

#[tokio::test]
async fn what_is_no_image_or_leads_out_is_refused() {
    let host = TestHost::new();
    let folder = host.workspace().to_owned();
    fs::write(folder.join("text.tar"), "not an archive at all".repeat(100)).unwrap();
    fs::write(folder.join("packed.tar"), gzip(&archive(&[OS]))).unwrap();
    fs::write(folder.join("other.tar"), archive(&[OS])).unwrap();
    std::os::unix::fs::symlink("/etc", folder.join("out")).unwrap();
    let broken = folder.join("broken");
    fs::create_dir_all(&broken).unwrap();
    let image = put_image(&broken, "amd64", &[&[OS]]);
    put_index(&broken, std::slice::from_ref(&image));
    let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    fs::write(broken.join("blobs/sha256").join(digest.hex()), "{}").unwrap();
    // The paths of a saved image's manifest lead nowhere but into an archive.
    let lured = folder.join("lured");
    fs::create_dir_all(&lured).unwrap();
    fs::write(lured.join("oci-layout"), "{}").unwrap();
    fs::write(lured.join("manifest.json"), r#"[{"Config": "../text.tar", "Layers": []}]"#).unwrap();
    pack(&lured, &folder.join("lured.tar"));
    for (with, want) in [
        (json!({"path": "lured"}), "it has no `index.json`"),
        (json!({"path": "lured.tar"}), "`../text.tar` cannot be read"),
        (json!({"path": "nothing"}), "cannot read `nothing`"),
        (json!({"path": "out"}), "it leads out of the workspace"),
        (json!({"path": "text.tar"}), "the archive cannot be read"),
        (json!({"path": "packed.tar"}), "the archive cannot be read"),
        (json!({"path": "other.tar"}), "it has no `index.json` and no `manifest.json`"),
        (json!({"path": "broken"}), "is not what it says"),
        (json!({"path": "../x"}), "the path leaves the workspace"),
        (json!({"path": "x", "attach": "referrer"}), "has no registry"),
        (json!({}), "neither `image` nor `path`"),
    ] {
        let error = run(&host, with.clone()).await.unwrap_err();
        assert!(error.contains(want), "{with}: {error}");
    }
}
