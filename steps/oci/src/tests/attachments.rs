//! Attaching: by the referrers API and by the tag that stands in for it.

use bytes::Bytes;
use fairlead_step::Image;
use serde_json::{Value, json};

use super::client;
use crate::kit::{FakeRegistry, Fault};
use crate::{Artifact, Client, Descriptor, Error, Layer, media_type};

fn artifact(text: &str) -> Artifact {
    Artifact {
        artifact_type: "application/vnd.example.note".into(),
        layers: vec![Layer {
            media_type: "text/plain".into(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            annotations: [("title".to_owned(), text.to_owned())].into(),
        }],
        annotations: [("note".to_owned(), text.to_owned())].into(),
        config: None,
    }
}

async fn subject(client: &Client, image: &Image) -> Descriptor {
    client.manifest(image).await.unwrap().descriptor()
}

fn fallback(registry: &FakeRegistry, image: &Image) -> Value {
    let tag = format!("sha256-{}", image.digest.hex());
    let digest = registry.tag("shop", &tag).unwrap();
    serde_json::from_slice(&registry.manifest("shop", &digest).unwrap()).unwrap()
}

#[tokio::test]
async fn the_same_artifact_is_attached_once_with_and_without_the_api() {
    for api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", Some("v1"), "x");
        let client = client();
        let subject = subject(&client, &image).await;
        assert_eq!(client.referrers(&image).await.unwrap(), []);
        let first = client.attach(&image.repository, &subject, &artifact("one")).await.unwrap();
        assert!(!first.was_there);
        registry.clear_log();
        let second = client.attach(&image.repository, &subject, &artifact("one")).await.unwrap();
        assert!(second.was_there);
        assert_eq!(registry.asked("PUT") + registry.asked("POST"), 0, "{:?}", registry.log());
        let listed = client.referrers(&image).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].digest, first.descriptor.digest);
        assert_eq!(registry.tag("shop", &format!("sha256-{}", image.digest.hex())).is_some(), !api);
    }
}

#[tokio::test]
async fn a_list_that_was_lost_is_mended() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    let client = client();
    let subject = subject(&client, &image).await;
    registry.fail(
        &format!("PUT /v2/shop/manifests/sha256-{}", image.digest.hex()),
        Fault::Status(403, None),
        1,
    );
    client.attach(&image.repository, &subject, &artifact("one")).await.unwrap_err();
    assert_eq!(client.referrers(&image).await.unwrap(), []);
    let mended = client.attach(&image.repository, &subject, &artifact("one")).await.unwrap();
    assert!(!mended.was_there);
    assert_eq!(client.referrers(&image).await.unwrap().len(), 1);
}

#[tokio::test]
async fn writers_side_by_side_lose_nothing_and_keep_what_others_wrote() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    let foreign = registry.seed_image("shop", None, "foreign");
    let entry = json!({
        "mediaType": media_type::OCI_MANIFEST,
        "digest": foreign.digest,
        "size": 7,
        "artifactType": "application/vnd.oci.empty.v1+json",
        "x-unknown": { "kept": [1, 2.5, null] },
    });
    registry.seed_manifest(
        "shop",
        Some(&format!("sha256-{}", image.digest.hex())),
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [entry],
            "annotations": { "theirs": "too" },
        }),
    );
    let subject = subject(&client(), &image).await;
    // Each has a client of its own, as the steps of different runs have.
    let texts: Vec<String> = (0..8).map(|number| format!("note {number}")).collect();
    let writers = texts.iter().map(|text| {
        let (repository, subject) = (&image.repository, &subject);
        async move { client().attach(repository, subject, &artifact(text)).await }
    });
    futures::future::try_join_all(writers).await.unwrap();
    let list = fallback(&registry, &image);
    assert_eq!(list["manifests"].as_array().unwrap().len(), 9);
    assert_eq!(list["manifests"][0], entry);
    assert_eq!(list["annotations"], json!({ "theirs": "too" }));
    let ours = &list["manifests"][1];
    assert_eq!(ours["artifactType"], "application/vnd.example.note");
    assert!(ours["annotations"]["note"].as_str().unwrap().starts_with("note "));
}

#[tokio::test]
async fn referrers_are_listed_to_the_last_page_and_a_failure_is_not_an_empty_list() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let client = client();
    let subject = subject(&client, &image).await;
    for number in 0..5 {
        let note = artifact(&format!("note {number}"));
        client.attach(&image.repository, &subject, &note).await.unwrap();
    }
    registry.behave(|b| b.page = 2);
    registry.clear_log();
    assert_eq!(client.referrers(&image).await.unwrap().len(), 5);
    assert_eq!(registry.asked("/referrers/"), 3);

    registry.fail("/referrers/", Fault::Status(500, None), 9);
    let error = client.referrers(&image).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");

    let other = FakeRegistry::start().await;
    other.behave(|b| b.referrers_api = false);
    let image = other.seed_image("shop", None, "x");
    other.fail("manifests/sha256-", Fault::Status(500, None), 9);
    let error = client.referrers(&image).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    let other = FakeRegistry::start().await;
    other.behave(|b| b.referrers_api = false);
    let image = other.seed_image("shop", None, "x");
    other.seed_image("shop", Some(&format!("sha256-{}", image.digest.hex())), "no index");
    let error = client.referrers(&image).await.unwrap_err();
    assert!(error.to_string().contains("it is not an index"), "{error}");
}

#[tokio::test]
async fn a_list_without_end_is_refused() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    let entries: Vec<Value> = (0..1001)
        .map(|number| {
            let digest = fairlead_step::Digest::sha256(format!("{number}").as_bytes());
            json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1 })
        })
        .collect();
    let list = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    registry.seed_manifest("shop", Some(&format!("sha256-{}", image.digest.hex())), &list);
    let error = client().referrers(&image).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { limit: 1000, .. }), "{error}");
}
