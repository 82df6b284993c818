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
    let layer = fairlead_step::Digest::sha256(b"amd");
    here.fail(&format!("GET /v2/apps/shop/blobs/{layer}"), Fault::Damage, 1);
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
    let closure = client().closure(&image).await.unwrap();
    assert_eq!(closure.members.len(), 1);
    assert!(closure.findings[0].contains("is not attached to it"), "{:?}", closure.findings);

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

/// What a stranger attached to `subject`, with a layer that says `size` of itself.
fn attached(registry: &FakeRegistry, subject: &Image, text: &str, size: usize) -> Image {
    let layer = registry.seed_blob("apps/shop", text.to_owned());
    let config = registry.seed_blob("apps/shop", "{}");
    let length = registry.manifest("apps/shop", &subject.digest.to_string()).unwrap().len();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.example.stranger",
        "config": { "mediaType": media_type::OCI_EMPTY, "digest": config, "size": 2 },
        "layers": [{ "mediaType": "text/plain", "digest": layer, "size": size }],
        "subject": {
            "mediaType": media_type::OCI_MANIFEST, "digest": subject.digest, "size": length,
        },
    });
    registry.seed_manifest("apps/shop", None, &document)
}

#[tokio::test]
async fn what_a_stranger_attached_is_never_the_end_of_a_copy() {
    for api in [true, false] {
        let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
        here.behave(|b| b.referrers_api = api);
        let client = client();
        let index = seeded(&here, &client).await;
        // Attached, but no manifest; larger than any manifest; with a layer of another size, and
        // something attached to that; with a layer that is gone.
        let subject = json!({ "digest": index.digest, "mediaType": "x", "size": 1 });
        let odd = json!({ "schemaVersion": 2, "subject": subject, "blobs": [] });
        let huge = json!({ "schemaVersion": 2, "subject": subject, "x": "x".repeat(5 << 20) });
        let (odd, huge) = (
            here.seed_manifest("apps/shop", None, &odd),
            here.seed_manifest("apps/shop", None, &huge),
        );
        let wrong = attached(&here, &index, "wrong size", 3);
        let upon = note(&client, &wrong, "on the stranger's").await;
        let gone = attached(&here, &index, "soon gone", 9);
        here.remove_blob("apps/shop", &fairlead_step::Digest::sha256(b"soon gone").to_string());
        if !api {
            let tag = format!("sha256-{}", index.digest.hex());
            let digest = here.tag("apps/shop", &tag).unwrap();
            let bytes = here.manifest("apps/shop", &digest).unwrap();
            let mut list: Value = serde_json::from_slice(&bytes).unwrap();
            let entries = list["manifests"].as_array_mut().unwrap();
            for digest in [&odd.digest, &huge.digest, &wrong.digest, &gone.digest] {
                let kind = media_type::OCI_MANIFEST;
                entries.push(json!({ "mediaType": kind, "digest": digest, "size": 1 }));
            }
            entries.push(json!({ "mediaType": 1, "digest": "no digest" }));
            here.seed_manifest("apps/shop", Some(&tag), &list);
        }
        // A legacy tag that is nothing of the kind, and one of which one document is bad.
        let att = LegacyTag::Att.of(&index.digest);
        here.seed_manifest("apps/shop", Some(&att), &json!(["no manifest"]));
        let mut document = signatures(&here, "apps/shop", &index, &["signed", "lost"]);
        let lost = fairlead_step::Digest::sha256(b"lost").to_string();
        here.remove_blob("apps/shop", &lost);
        document["layers"].as_array_mut().unwrap().push(json!({ "digest": "none" }));
        here.seed_manifest("apps/shop", Some(&LegacyTag::Sig.of(&index.digest)), &document);

        let to = there.repository("prod/shop");
        let report = client.copy(&index, &to, &|_| {}).await.unwrap();
        // The index, two platforms, three notes, and the good one of the signatures.
        assert_eq!(report.closure.members.len(), 7, "{:#?}", report.closure.findings);
        let findings = report.closure.findings.join("\n");
        let ids = [&odd.digest, &huge.digest, &wrong.digest, &gone.digest];
        for text in ids.map(ToString::to_string).iter().chain([&att, &lost]) {
            assert!(findings.contains(text), "{text} is not in\n{findings}");
        }
        let copy = to.at(index.digest.clone());
        let found = client.closure(&copy).await.unwrap();
        assert_eq!((found.digest(), found.findings), (report.closure_digest.clone(), vec![]));
        assert!(!client.has_manifest(&to, &upon.digest).await.unwrap());
        let sig = there.tag("prod/shop", &LegacyTag::Sig.of(&index.digest)).unwrap();
        let sig: Value =
            serde_json::from_slice(&there.manifest("prod/shop", &sig).unwrap()).unwrap();
        assert_eq!(sig["layers"].as_array().unwrap().len(), 1);
        // The same again, with the same answer.
        let again = client.copy(&index, &to, &|_| {}).await.unwrap();
        assert_eq!((again.copied, again.closure_digest), (0, report.closure_digest));

        // A registry that cannot be reached is no finding.
        here.fail(&format!("GET /v2/apps/shop/manifests/{att}"), Fault::Status(503, None), 9);
        let error = client.copy(&index, &to, &|_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_the_destination_does_not_take_is_told_and_left() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let client = client();
    let index = seeded(&here, &client).await;
    let extra = note(&client, &index, "refused").await;
    there.fail(
        &format!("PUT /v2/prod/shop/manifests/{}", extra.digest),
        Fault::Status(400, None),
        1,
    );
    let to = there.repository("prod/shop");
    let report = client.copy(&index, &to, &|_| {}).await.unwrap();
    assert_eq!(report.closure.members.len(), 7);
    let findings = &report.closure.findings;
    assert!(findings[0].contains(&extra.digest.to_string()), "{findings:?}");
    // Who may not write is told so.
    there.fail(
        &format!("PUT /v2/prod/shop/manifests/{}", extra.digest),
        Fault::Status(403, None),
        9,
    );
    let error = client.copy(&index, &to, &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
}

#[tokio::test]
async fn a_child_that_is_no_manifest_travels_as_the_bytes_it_is() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "x");
    let odd = json!({ "mediaType": "application/vnd.example.odd+json", "what": ["ever"] });
    let odd = here.seed_manifest("apps/shop", None, &odd);
    let child = |image: &Image| {
        let size = here.manifest("apps/shop", &image.digest.to_string()).unwrap().len();
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": image.digest, "size": size })
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [child(&image), child(&odd)],
    });
    let index = here.seed_manifest("apps/shop", None, &index);
    let to = there.repository("prod/shop");
    let report = client().copy(&index, &to, &|_| {}).await.unwrap();
    assert_eq!(report.closure.members.len(), 3);
    let digest = odd.digest.to_string();
    assert_eq!(there.manifest("prod/shop", &digest), here.manifest("apps/shop", &digest));
    assert!(report.closure.findings[0].contains(&digest), "{:?}", report.closure.findings);
}
