//! Attaching: by the referrers API and by the tag that stands in for it.

use bytes::Bytes;
use fairlead_step::Image;
use serde_json::{Value, json};

use super::client;
use crate::closure::LegacyTag;
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

#[tokio::test]
async fn a_registry_says_in_many_ways_that_it_has_no_referrers_api_and_is_asked_once() {
    use crate::kit::WithoutReferrers::{Document, Page, Status, UnknownName};
    for form in [
        Status(404),
        Status(400),
        Status(405),
        Status(406),
        Status(501),
        UnknownName,
        Page,
        Document,
    ] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| {
            b.referrers_api = false;
            b.without_referrers = form;
        });
        let client = client();
        for repository in ["shop", "apps/web"] {
            let image = registry.seed_image(repository, None, "x");
            let subject = subject(&client, &image).await;
            client.attach(&image.repository, &subject, &artifact("one")).await.unwrap();
            let listed = client.referrers(&image).await.unwrap();
            assert_eq!(listed.len(), 1, "{form:?}");
        }
        // A name that is not known may be known soon: only a write proves that it is not that.
        let most = if form == UnknownName { 2 } else { 1 };
        assert_eq!(registry.asked("/referrers/"), most, "{form:?}: {:?}", registry.log());
    }
}

#[tokio::test]
async fn a_list_of_referrers_that_cannot_be_read_to_its_end_is_a_failure() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let kind = vec![("content-type", media_type::OCI_INDEX.to_owned())];
    registry.fail("/referrers/", Fault::Answer(200, kind, "{\"manifests\": [".into()), 1);
    let error = client().referrers(&image).await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    for (status, body) in [(200, "{\"manifests\": ["), (422, ""), (410, "")] {
        let kind = vec![("content-type", media_type::OCI_INDEX.to_owned())];
        registry.fail("/referrers/", Fault::Answer(status, kind, body.into()), 1);
        client().closure(&image).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_hides_no_other() {
    for api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", None, "x");
        let good = fairlead_step::Digest::sha256(b"good");
        let bad = json!({ "mediaType": 7, "digest": "md5:0", "size": -1 });
        let list = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [
                bad, 7, null,
                { "mediaType": media_type::OCI_MANIFEST, "digest": good, "size": 1 },
            ],
        });
        if api {
            let kind = vec![("content-type", media_type::OCI_INDEX.to_owned())];
            registry.fail("/referrers/", Fault::Answer(200, kind, list.to_string()), 1);
        } else {
            let tag = format!("sha256-{}", image.digest.hex());
            registry.seed_manifest("shop", Some(&tag), &list);
        }
        let listed = client().referrers(&image).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].digest, good);
    }
}

#[tokio::test]
async fn a_writer_elsewhere_who_wrote_over_the_list_loses_nothing_and_nobody_else_does() {
    for legacy in [false, true] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = false);
        let image = registry.seed_image("shop", None, "x");
        let client = client();
        let subject = subject(&client, &image).await;
        let key = if legacy { "layers" } else { "manifests" };
        let tag = match legacy {
            true => LegacyTag::Sig.of(&image.digest),
            false => format!("sha256-{}", image.digest.hex()),
        };
        let item = |text: &str| {
            registry.seed_blob("shop", text.to_owned());
            json!(Descriptor::of("text/plain", text.as_bytes()))
        };
        let list = |items: Vec<Value>| {
            let kind = if legacy { media_type::OCI_MANIFEST } else { media_type::OCI_INDEX };
            let mut document = json!({ "schemaVersion": 2, "mediaType": kind });
            document[key] = Value::Array(items);
            document
        };
        // He read what was there at first, and wrote after us, twice; then he deleted it all.
        registry.seed_manifest("shop", Some(&tag), &list(vec![item("first")]));
        let his = list(vec![item("first"), item("his")]);
        let his = registry.seed_manifest("shop", None, &his).digest.to_string();
        let put = format!("PUT /v2/shop/manifests/{tag}");
        registry.fail(&put, Fault::Overtaken(Some(his)), 2);
        registry.fail(&put, Fault::Overtaken(None), 1);
        if legacy {
            let text = "ours";
            registry.seed_blob("shop", text);
            let ours = Descriptor::of("text/plain", text.as_bytes());
            let (to, of) = (&image.repository, &image.digest);
            client.add_documents(to, of, LegacyTag::Sig, &[ours]).await.unwrap();
        } else {
            client.attach(&image.repository, &subject, &artifact("ours")).await.unwrap();
        }
        let digest = registry.tag("shop", &tag).unwrap();
        let document: Value =
            serde_json::from_slice(&registry.manifest("shop", &digest).unwrap()).unwrap();
        let items = document[key].as_array().unwrap();
        assert_eq!(items.len(), 3, "{document:#}");
        for text in ["first", "his"] {
            let digest = json!(fairlead_step::Digest::sha256(text.as_bytes()));
            assert!(items.iter().any(|item| item["digest"] == digest), "{text}: {document:#}");
        }
        if legacy {
            let config: fairlead_step::Digest =
                serde_json::from_value(document["config"]["digest"].clone()).unwrap();
            let config = Descriptor {
                digest: config,
                size: document["config"]["size"].as_u64().unwrap(),
                ..Descriptor::of("", b"")
            };
            let config = client.blob_bytes(&image.repository, &config, 9999).await.unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            let ids: Vec<&Value> = items.iter().map(|item| &item["digest"]).collect();
            assert_eq!(config["rootfs"]["diff_ids"], json!(ids));
            assert_eq!(config["history"].as_array().unwrap().len(), 3);
        }
    }
}

#[tokio::test]
async fn one_who_writes_over_the_list_again_and_again_is_told_and_not_fought_for_ever() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    let tag = LegacyTag::Sig.of(&image.digest);
    registry.fail(&format!("PUT /v2/shop/manifests/{tag}"), Fault::Overtaken(None), 99);
    let document = Descriptor::of("text/plain", b"ours");
    registry.seed_blob("shop", "ours");
    let (to, of) = (&image.repository, &image.digest);
    let error = client().add_documents(to, of, LegacyTag::Sig, &[document]).await.unwrap_err();
    assert!(matches!(error, Error::LostUpdate { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_list_is_not_overwritten() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    let client = client();
    let subject = subject(&client, &image).await;
    let tag = format!("sha256-{}", image.digest.hex());
    let theirs = registry.seed_image("shop", Some(&tag), "somebody's");
    let error = client.attach(&image.repository, &subject, &artifact("one")).await.unwrap_err();
    assert!(error.to_string().contains("remove the tag"), "{error}");
    assert_eq!(registry.tag("shop", &tag), Some(theirs.digest.to_string()));
    assert_eq!(client.list_referrers(&image).await.unwrap().findings.len(), 1);
}

#[tokio::test]
async fn a_registry_that_says_it_lists_and_does_not_gets_a_list() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| {
        b.referrers_api = false;
        b.false_subject = true;
    });
    let image = registry.seed_image("shop", None, "x");
    let client = client();
    let subject = subject(&client, &image).await;
    client.attach(&image.repository, &subject, &artifact("one")).await.unwrap();
    assert_eq!(client.referrers(&image).await.unwrap().len(), 1);
}
