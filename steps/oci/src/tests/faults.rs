//! Busy registries, cut connections, wrong bytes, endless lists.

use fairlead_step::{Digest, ErrorClass, StepError};
use futures::TryStreamExt as _;
use serde_json::json;

use super::{client, tagged};
use crate::kit::{FakeRegistry, Fault};
use crate::{Descriptor, Error};

#[tokio::test]
async fn a_tag_is_resolved_by_head_and_by_get_where_head_says_too_little() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    let reference = tagged(&image.repository, "v1");
    let resolved = client().resolve(&reference).await.unwrap();
    assert_eq!(resolved.image, image);
    assert_eq!(registry.asked("GET"), 0);

    registry.behave(|b| b.digest_header = false);
    assert_eq!(client().resolve(&reference).await.unwrap(), resolved);
    assert_eq!(registry.asked("GET"), 1);

    let error = client().resolve(&tagged(&image.repository, "v2")).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("manifest v2 of 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_as_often_as_it_may_be() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    for fault in [
        Fault::Status(429, Some("0".into())),
        Fault::Status(503, None),
        Fault::Status(500, None),
        Fault::Mute,
    ] {
        registry.clear_log();
        registry.fail("GET /v2/shop/manifests", fault.clone(), 3);
        client().manifest(&image).await.unwrap();
        assert_eq!(registry.asked("GET /v2/shop/manifests"), 4, "{fault:?}");
    }

    registry.clear_log();
    registry.fail("GET /v2/shop/manifests", Fault::Status(503, None), 4);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Busy { status: 503, attempts: 4, .. }), "{error}");
    assert_eq!(StepError::from(error).class(), ErrorClass::Retryable);

    // A registry that wants to be left alone for an hour is not waited for.
    registry.clear_log();
    registry.fail("GET /v2/shop/manifests", Fault::Status(429, Some("3600".into())), 1);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Busy { status: 429, attempts: 1, .. }), "{error}");
    assert_eq!(registry.asked("GET"), 1);
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    registry.fail("GET /v2/shop/manifests", Fault::Hang, 1);
    client().manifest(&image).await.unwrap();
    registry.fail("GET /v2/shop/manifests", Fault::Hang, 9);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn a_manifest_has_a_size_that_fits_in_memory() {
    let registry = FakeRegistry::start().await;
    let huge = json!({ "schemaVersion": 2, "manifests": [], "x": "x".repeat(5 << 20) });
    let image = registry.seed_manifest("shop", None, &huge);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn what_is_denied_is_not_asked_for_again() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    registry.fail("manifests", Fault::Status(403, None), 9);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Terminal);
    assert_eq!(registry.asked("manifests"), 1);
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let closed = FakeRegistry::start().await;
    let image = closed.repository("shop").at(Digest::sha256(b"x"));
    drop(closed);
    let error = client().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(image.repository.registry()), "{error}");
    assert!(error.hint().unwrap().contains("is the registry up"));
    assert_eq!(error.class(), ErrorClass::Retryable);
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_refused() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    registry.fail("GET /v2/shop/manifests", Fault::Damage, 2);
    for error in [
        client().manifest(&image).await.unwrap_err(),
        client().manifest_at_tag(&image.repository, "v1").await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_its_descriptor_never_ends_well() {
    let registry = FakeRegistry::start().await;
    let repository = registry.repository("shop");
    let content = "0123456789".repeat(20_000);
    let descriptor = Descriptor::of("text/plain", content.as_bytes());
    registry.seed_blob("shop", content.clone());

    registry.fail("GET /v2/shop/blobs", Fault::Damage, 1);
    let mut stream = client().blob(&repository, &descriptor).await.unwrap();
    let mut got = 0;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(piece)) => got += piece.len(),
            Ok(None) => panic!("damaged bytes were accepted"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(got < content.len(), "the last piece was handed out");

    registry.fail("GET /v2/shop/blobs", Fault::Shorten, 1);
    let error = client().blob_bytes(&repository, &descriptor, 1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { found: 199_999, .. }), "{error}");

    let short = Descriptor { size: 10, ..descriptor.clone() };
    let error = client().blob_bytes(&repository, &short, 1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { expected: 10, .. }), "{error}");

    let error = client().blob_bytes(&repository, &descriptor, 1000).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{error}");
}

#[tokio::test]
async fn a_blob_is_taken_up_where_the_connection_broke() {
    let registry = FakeRegistry::start().await;
    let repository = registry.repository("shop");
    let content = "0123456789".repeat(20_000);
    registry.seed_blob("shop", content.clone());
    registry.fail("GET /v2/shop/blobs", Fault::CutAfter(50_000), 3);
    let descriptor = Descriptor::of("text/plain", content.as_bytes());
    let got = client().blob_bytes(&repository, &descriptor, 1 << 20).await.unwrap();
    assert!(got == content.as_bytes());
    assert_eq!(registry.asked(" 206"), 3);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = FakeRegistry::start().await;
    registry.seed_blob("shop", "");
    let descriptor = Descriptor::of("text/plain", b"");
    let got = client().blob_bytes(&registry.repository("shop"), &descriptor, 10).await.unwrap();
    assert!(got.is_empty());
}

#[tokio::test]
async fn tags_are_listed_to_the_last_page() {
    let registry = FakeRegistry::start().await;
    for number in 0..25 {
        registry.seed_image("shop", Some(&format!("v{number:02}")), "x");
    }
    registry.behave(|b| b.page = 10);
    let tags = client().tags(&registry.repository("shop")).await.unwrap();
    assert_eq!(tags.len(), 25);
    assert_eq!(registry.asked("tags/list"), 3);
}

#[tokio::test]
async fn a_tag_moves_only_from_where_it_was_expected() {
    let registry = FakeRegistry::start().await;
    let old = registry.seed_image("shop", Some("stable"), "old");
    let new = registry.seed_image("shop", None, "new");
    let foreign = Digest::sha256(b"somebody else's");

    let error = client().move_tag(&new, "stable", Some(&foreign)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&old.digest.to_string()) && text.contains(&foreign.to_string()));
    let error = client().move_tag(&new, "stable", None).await.unwrap_err();
    assert!(error.to_string().contains("but nothing was expected"), "{error}");
    assert_eq!(registry.tag("shop", "stable"), Some(old.digest.to_string()));

    let moved = client().move_tag(&new, "stable", Some(&old.digest)).await.unwrap();
    assert_eq!(moved.from, Some(old.digest.clone()));
    assert_eq!(registry.tag("shop", "stable"), Some(new.digest.to_string()));
    let again = client().move_tag(&new, "stable", Some(&old.digest)).await.unwrap();
    assert_eq!(again.from, Some(new.digest));
}

#[tokio::test]
async fn platforms_are_chosen_and_attestations_left_out() {
    let registry = FakeRegistry::start().await;
    let (amd, arm) =
        (registry.seed_image("shop", None, "amd"), registry.seed_image("shop", None, "arm"));
    let proof = registry.seed_image("shop", None, "proof");
    let child = |image: &fairlead_step::Image, os: &str, arch: &str, kind: Option<&str>| {
        json!({
            "mediaType": crate::media_type::OCI_MANIFEST,
            "digest": image.digest,
            "size": registry.manifest("shop", &image.digest.to_string()).unwrap().len(),
            "platform": { "os": os, "architecture": arch },
            "annotations": kind.map(|kind| json!({ "vnd.docker.reference.type": kind })),
        })
    };
    let index = registry.seed_manifest(
        "shop",
        None,
        &json!({
            "schemaVersion": 2,
            "mediaType": crate::media_type::OCI_INDEX,
            "manifests": [
                child(&amd, "linux", "amd64", None),
                child(&arm, "linux", "arm64", None),
                child(&proof, "unknown", "unknown", Some("attestation-manifest")),
            ],
        }),
    );
    let all = client().platforms(&index).await.unwrap();
    assert_eq!(all.iter().map(|p| &p.image).collect::<Vec<_>>(), [&amd, &arm]);
    let wanted = "linux/arm64/v8".parse().unwrap();
    let chosen = client().platform(&index, &wanted).await.unwrap();
    assert_eq!((chosen.image, chosen.layers.len()), (arm, 1));
    let error = client().platform(&index, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("it has linux/amd64, linux/arm64"), "{error}");
    assert_eq!(client().platforms(&amd).await.unwrap()[0].image, amd);
}
