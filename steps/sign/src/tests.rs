//! Tests of both steps against the fake registry of `fairlead-oci`: what others left on an image,
//! and how often the registry is asked.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fairlead_oci::kit::{FakeRegistry, Fault};
use fairlead_oci::{LegacyTag, media_type};
use fairlead_step::kit::TestHost;
use fairlead_step::{Digest, Image, Step, StepError, Verdict, erase};
use serde_json::{Value, json};

use fairlead_evidence::SigningKey;
use fairlead_evidence::kit::{key, numbered, other_key, pem_of};

use crate::{Sign, Verify};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

async fn signed(image: &Image, key: &SigningKey, formats: &[&str]) -> Result<Verdict, StepError> {
    let input = json!({ "image": image, "key": pem_of(key), "formats": formats });
    let step: Arc<dyn Step> = erase(Sign);
    TestHost::new().run(&*step, input).await
}

async fn verified(image: &Image, key: &SigningKey) -> Result<Value, StepError> {
    let input = json!({ "image": image, "key": key.public_key().to_pem() });
    let step: Arc<dyn Step> = erase(Verify);
    Ok(match TestHost::new().run(&*step, input).await? {
        Verdict::Passed { outputs } | Verdict::Rejected { outputs, .. } => outputs,
        other @ Verdict::Skipped { .. } => panic!("{other:?}"),
    })
}

/// Something attached to `image`, with one layer that says it has `size` bytes.
fn attached(
    registry: &FakeRegistry,
    image: &Image,
    kind: &str,
    predicate: Option<&str>,
    size: usize,
) -> Image {
    let bytes = vec![b'x'; size.min(5 << 20)];
    let layer = registry.seed_blob("shop", bytes);
    let config = registry.seed_blob("shop", "{}");
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": { "mediaType": media_type::OCI_EMPTY, "digest": config, "size": 2 },
        "layers": [{ "mediaType": kind, "digest": layer, "size": size }],
        "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": image.digest, "size": 1 },
    });
    if let Some(predicate) = predicate {
        document["annotations"] = json!({ "dev.sigstore.bundle.predicateType": predicate });
    }
    registry.seed_manifest("shop", None, &document)
}

/// A list of referrers as cosign writes it: with the type of the empty config, without annotations.
fn listed(registry: &FakeRegistry, image: &Image, entries: &[&Digest]) {
    let entries: Vec<Value> = entries
        .iter()
        .map(|digest| {
            json!({
                "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 9,
                "artifactType": media_type::OCI_EMPTY,
            })
        })
        .collect();
    let list = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    registry.seed_manifest("shop", Some(&format!("sha256-{}", image.digest.hex())), &list);
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_read_and_what_cannot_be_read_is_a_finding() {
    for api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", Some("v1"), "x");
        // The bill of material of a large image, attested; one that does not say what it is; a
        // document of another kind; what is no manifest; and a bundle whose bytes are gone.
        let attested =
            attached(&registry, &image, BUNDLE, Some("https://spdx.dev/Document"), 5 << 20);
        let large = attached(&registry, &image, BUNDLE, None, 5 << 20);
        let other = attached(&registry, &image, "application/spdx+json", None, 77);
        let subject = json!({ "mediaType": "x", "digest": image.digest, "size": 1 });
        let odd = json!({ "schemaVersion": 2, "artifactType": BUNDLE, "subject": subject });
        let odd = registry.seed_manifest("shop", None, &odd);
        let gone = attached(&registry, &image, BUNDLE, None, 33);
        registry.remove_blob("shop", &Digest::sha256(&[b'x'; 33]).to_string());
        if !api {
            let all = [&attested, &large, &other, &odd, &gone];
            listed(&registry, &image, &all.map(|image| &image.digest));
        }
        let before = verified(&image, &key()).await.unwrap();
        assert_eq!(before["answer"], "invalid");
        assert_eq!(before["signatures"].as_array().unwrap().len(), 3, "{before:#}");
        let blob = Digest::sha256(&vec![b'x'; 5 << 20]).to_string();
        assert_eq!(registry.asked(&format!("GET /v2/shop/blobs/{blob}")), 0);
        if api {
            assert_eq!(registry.asked(&format!("manifests/{}", other.digest)), 0);
        }

        signed(&image, &key(), &["v2", "v3"]).await.unwrap();
        let after = verified(&image, &key()).await.unwrap();
        assert_eq!(after["answer"], "verified");
        assert_eq!(after["signatures"].as_array().unwrap().len(), 5, "{after:#}");
    }
}

#[tokio::test]
async fn one_good_signature_wins_over_any_number_of_broken_ones() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.referrers_api = false);
    let image = registry.seed_image("shop", None, "x");
    signed(&image, &key(), &["v2"]).await.unwrap();
    // A stranger with the right to push fills the tag and the list of referrers.
    let tag = LegacyTag::Sig.of(&image.digest);
    let digest = registry.tag("shop", &tag).unwrap();
    let mut document: Value =
        serde_json::from_slice(&registry.manifest("shop", &digest).unwrap()).unwrap();
    let ours = document["layers"][0].clone();
    let kind = ours["mediaType"].clone();
    let mut layers: Vec<Value> = (0..1200)
        .map(|number| {
            json!({
                "mediaType": kind, "digest": Digest::sha256(format!("{number}").as_bytes()),
                "size": 300 + number % 7, "annotations": {
                    "dev.cosignproject.cosign/signature": BASE64.encode([number as u8; 70]),
                },
            })
        })
        .collect();
    layers.push(json!({ "mediaType": kind, "digest": "none" }));
    layers.push(json!(7));
    layers.push(ours.clone());
    // The same payload, which somebody says is larger than it is.
    let mut larger = ours;
    larger["size"] = json!(1_u64 << 40);
    layers.push(larger);
    document["layers"] = Value::Array(layers);
    registry.seed_manifest("shop", Some(&tag), &document);
    registry.seed_manifest(
        "shop",
        Some(&format!("sha256-{}", image.digest.hex())),
        &json!({ "schemaVersion": 2, "manifests": "none" }),
    );
    let outputs = verified(&image, &key()).await.unwrap();
    assert_eq!(outputs["answer"], "verified");
    let found = outputs["signatures"].as_array().unwrap();
    assert!(found.iter().any(|finding| finding["format"] == "v3"), "the list is not told of");
    let answer = verified(&image, &other_key()).await.unwrap()["answer"].clone();
    assert_eq!(answer, "invalid");
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_is_no_finding_unless_a_good_signature_was_seen() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", None, "x");
    signed(&image, &key(), &["v2", "v3"]).await.unwrap();
    let tag = LegacyTag::Sig.of(&image.digest);
    for part in [format!("GET /v2/shop/manifests/{tag}"), "/referrers/".to_owned()] {
        registry.fail(&part, Fault::Status(403, None), 1);
        let outputs = verified(&image, &key()).await.unwrap();
        assert_eq!(outputs["answer"], "verified", "{part}");
        registry.fail(&part, Fault::Status(403, None), 1);
        let error = verified(&image, &other_key()).await.unwrap_err();
        assert!(error.to_string().contains("denies"), "{error}");
    }
}

#[tokio::test]
async fn signers_side_by_side_lose_no_signature() {
    for api in [true, false] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", None, "x");
        let keys: Vec<SigningKey> = (1..=16).map(numbered).collect();
        let signers = keys.iter().map(|key| signed(&image, key, &["v2", "v3"]));
        for done in futures::future::join_all(signers).await {
            done.unwrap();
        }
        let digest = registry.tag("shop", &LegacyTag::Sig.of(&image.digest)).unwrap();
        let document: Value =
            serde_json::from_slice(&registry.manifest("shop", &digest).unwrap()).unwrap();
        assert_eq!(document["layers"].as_array().unwrap().len(), 16);
        for key in &keys {
            let outputs = verified(&image, key).await.unwrap();
            let good = |finding: &&Value| finding["answer"] == "verified";
            let found = outputs["signatures"].as_array().unwrap();
            assert_eq!((found.len(), found.iter().filter(good).count()), (32, 2));
        }
    }
}

/// How often signing and verifying ask the registry. More would be slower for everybody.
#[tokio::test]
async fn the_registry_is_asked_no_more_often_than_needed() {
    for (api, formats, sign, again, verify) in [
        (true, &["v2"][..], 16, 6, 4),
        (true, &["v3"], 13, 7, 5),
        (true, &["v2", "v3"], 26, 10, 6),
        (false, &["v2"], 17, 7, 5),
        (false, &["v3"], 17, 8, 6),
        (false, &["v2", "v3"], 30, 11, 7),
    ] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("shop", None, "x");
        let mut counts = Vec::new();
        for _ in 0..2 {
            registry.clear_log();
            signed(&image, &key(), formats).await.unwrap();
            counts.push(registry.log().len());
        }
        registry.clear_log();
        verified(&image, &key()).await.unwrap();
        counts.push(registry.log().len());
        assert!(
            counts[0] <= sign && counts[1] <= again && counts[2] <= verify,
            "{api} {formats:?}: {counts:?}, at most {:?}",
            [sign, again, verify]
        );
    }
}
