//! Copies of closures: order, repair, joining, and what a hostile source may try.

use std::sync::Mutex;

use bytes::Bytes;
use fairlead_step::Image;
use serde_json::{Value, json};

use super::client;
use crate::closure::LegacyTag;
use crate::kit::{FakeRegistry, Fault};
use crate::{Artifact, Client, CopyEvent, Error, Layer, media_type};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A manifest of the kind that stands under a legacy tag.
fn signatures(registry: &FakeRegistry, repository: &str, subject: &Image, texts: &[&str]) -> Value {
    let layers: Vec<Value> = texts
        .iter()
        .map(|text| {
            let digest = registry.seed_blob(repository, (*text).to_owned());
            json!({
                "mediaType": SIMPLE_SIGNING, "digest": digest, "size": text.len(),
                "annotations": { "dev.cosignproject.cosign/signature": format!("sig of {text}") },
            })
        })
        .collect();
    let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": ids }, "history": [] });
    let config = config.to_string();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {
            "mediaType": media_type::OCI_CONFIG,
            "digest": registry.seed_blob(repository, config.clone()),
            "size": config.len(),
        },
        "layers": layers,
    });
    let tag = LegacyTag::Sig.of(&subject.digest);
    registry.seed_manifest(repository, Some(&tag), &document);
    document
}

/// An index of two platforms, a note attached to the index, a note to that note, a note to one
/// platform, and a legacy signature on the index.
async fn seeded(registry: &FakeRegistry, client: &Client) -> Image {
    let (amd, arm) = (
        registry.seed_image("apps/shop", None, "amd"),
        registry.seed_image("apps/shop", None, "arm"),
    );
    let child = |image: &Image, arch: &str| {
        let size = registry.manifest("apps/shop", &image.digest.to_string()).unwrap().len();
        json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": image.digest, "size": size,
            "platform": { "os": "linux", "architecture": arch },
        })
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [child(&amd, "amd64"), child(&arm, "arm64")],
    });
    let index = registry.seed_manifest("apps/shop", Some("v1"), &document);
    let first = note(client, &index, "on the index").await;
    note(client, &first, "on the note").await;
    note(client, &amd, "on a platform").await;
    signatures(registry, "apps/shop", &index, &["signed"]);
    index
}

async fn note(client: &Client, image: &Image, text: &str) -> Image {
    let subject = client.manifest(image).await.unwrap().descriptor();
    let artifact = Artifact {
        artifact_type: "application/vnd.example.note".into(),
        layers: vec![Layer {
            media_type: "text/plain".into(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            ..Layer::default()
        }],
        ..Artifact::default()
    };
    let attached = client.attach(&image.repository, &subject, &artifact).await.unwrap();
    image.repository.at(attached.descriptor.digest)
}

#[tokio::test]
async fn everything_comes_along_whatever_the_registries_can_do() {
    for (from_api, to_api, same) in [
        (true, true, false),
        (true, false, false),
        (false, true, false),
        (false, false, false),
        (false, false, true),
        (true, true, true),
    ] {
        let (here, other) = (FakeRegistry::start().await, FakeRegistry::start().await);
        here.behave(|b| b.referrers_api = from_api);
        other.behave(|b| b.referrers_api = to_api);
        let there = if same { &here } else { &other };
        let client = client();
        let index = seeded(&here, &client).await;
        let to = there.repository("prod/shop");
        let report = client.copy(&index, &to, &|_| {}).await.unwrap();
        // The index, two platforms, three notes, one legacy signature.
        assert_eq!(report.closure.members.len(), 7);
        assert_eq!(report.mounted > 0, same);
        let copy = to.at(index.digest.clone());
        let found = client.closure(&copy).await.unwrap();
        assert_eq!(found.digest(), report.closure_digest);
        for member in &report.closure.members {
            let digest = member.manifest.digest.to_string();
            assert_eq!(there.manifest("prod/shop", &digest).unwrap(), member.manifest.bytes);
        }
        let again = client.copy(&index, &to, &|_| {}).await.unwrap();
        assert_eq!((again.copied, again.mounted), (0, 0));
        assert_eq!(again.closure_digest, report.closure_digest);
    }
}

#[tokio::test]
async fn nobody_sees_an_image_before_what_it_points_to() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let client = client();
    let index = seeded(&here, &client).await;
    let events = Mutex::new(Vec::new());
    // The fake takes no manifest before its blobs and children.
    client
        .copy(&index, &there.repository("prod/shop"), &|event| events.lock().unwrap().push(event))
        .await
        .unwrap();
    let events = events.into_inner().unwrap();
    let place = |want: &dyn Fn(&CopyEvent) -> bool| events.iter().position(want).unwrap();
    let root =
        place(&|e| matches!(e, CopyEvent::Manifest { digest, .. } if *digest == index.digest));
    let last_blob = events.iter().rposition(|e| matches!(e, CopyEvent::Blob { .. })).unwrap();
    assert!(matches!(events[0], CopyEvent::Found { manifests: 7, .. }));
    assert!(last_blob < root);
    // Two platforms before it; the four attachments after it; the look at the end.
    assert_eq!(root, last_blob + 3);
    assert_eq!(events.len(), root + 6);
    assert_eq!(events.last(), Some(&CopyEvent::Verified));
}

#[tokio::test]
async fn what_a_broken_copy_left_out_is_mended_though_the_image_is_there() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    there.behave(|b| b.referrers_api = false);
    let client = client();
    let index = seeded(&here, &client).await;
    let to = there.repository("prod/shop");
    there.fail(
        &format!("PUT /v2/prod/shop/manifests/sha256-{}", index.digest.hex()),
        Fault::Status(403, None),
        1,
    );
    client.copy(&index, &to, &|_| {}).await.unwrap_err();
    assert!(client.has_manifest(&to, &index.digest).await.unwrap());
    let report = client.copy(&index, &to, &|_| {}).await.unwrap();
    let found = client.closure(&to.at(index.digest)).await.unwrap();
    assert_eq!(found.digest(), report.closure_digest);
}

#[tokio::test]
async fn legacy_signatures_are_joined_and_never_replaced() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let client = client();
    let image = here.seed_image("apps/shop", None, "x");
    signatures(&here, "apps/shop", &image, &["builder", "shared"]);
    signatures(&there, "prod/shop", &image, &["promoter", "shared"]);
    let to = there.repository("prod/shop");
    client.copy(&image, &to, &|_| {}).await.unwrap();
    let tag = LegacyTag::Sig.of(&image.digest);
    let read = || {
        let digest = there.tag("prod/shop", &tag).unwrap();
        let bytes = there.manifest("prod/shop", &digest).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let joined = read();
    let names: Vec<&str> = joined["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sig of promoter", "sig of shared", "sig of builder"]);
    client.copy(&image, &to, &|_| {}).await.unwrap();
    assert_eq!(read(), joined);
}

#[tokio::test]
async fn a_source_that_lies_is_refused_before_the_image_arrives() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let client = client();
    let index = seeded(&here, &client).await;
    let to = there.repository("prod/shop");
    here.fail("GET /v2/apps/shop/blobs", Fault::Damage, 1);
    let error = client.copy(&index, &to, &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(!client.has_manifest(&to, &index.digest).await.unwrap());

    let broken = FakeRegistry::start().await;
    let index = seeded(&broken, &client).await;
    let child = client.platforms(&index).await.unwrap()[1].image.digest.to_string();
    broken.remove_manifest("apps/shop", &child);
    let error = client.copy(&index, &to, &|_| {}).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(&child), "{error}");
}

#[tokio::test]
async fn lists_that_lie_are_found_out() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    let foreign = registry.seed_image("shop", None, "not attached");
    let list = |digest: &Value| {
        let entry = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1 });
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry],
        })
    };
    let tag = format!("sha256-{}", image.digest.hex());
    registry.seed_manifest("shop", Some(&tag), &list(&json!(foreign.digest)));
    let error = client().closure(&image).await.unwrap_err();
    assert!(error.to_string().contains("is not attached to it"), "{error}");

    // A list may outlive what it lists, and a tag may point to itself.
    let gone = fairlead_step::Digest::sha256(b"gone");
    registry.seed_manifest("shop", Some(&tag), &list(&json!(gone)));
    let document = signatures(&registry, "shop", &image, &["signed"]);
    let signed = fairlead_step::Digest::sha256(document.to_string().as_bytes());
    registry.seed_manifest("shop", Some(&LegacyTag::Sig.of(&signed)), &document);
    let closure = client().closure(&image).await.unwrap();
    assert_eq!(closure.dangling[0].digest, gone);
    assert_eq!(closure.members.len(), 3);
}
