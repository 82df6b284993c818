//! Tests of the step against the fake registry of `fairlead-oci`.

use std::sync::Arc;

use fairlead_oci::kit::{FakeRegistry, Fault};
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{Digest, ErrorClass, Step, StepError, Verdict, erase};
use serde_json::{Value, json};

use super::Resolve;

fn step() -> Arc<dyn Step> {
    erase(Resolve)
}

fn outputs(verdict: Result<Verdict, StepError>) -> Value {
    let verdict = verdict.unwrap();
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    outputs
}

async fn refused(with: Value) -> StepError {
    TestHost::new().run(&*step(), with).await.unwrap_err()
}

#[tokio::test]
async fn a_tag_becomes_the_digest_that_it_stands_for() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("apps/shop", Some("stable"), "one");
    let repository = registry.repository("apps/shop");
    for with in [
        json!({ "image": format!("{repository}:stable") }),
        json!({ "repository": repository, "tag": "stable" }),
    ] {
        let outputs = outputs(conformance(&TestHost::new(), &*step(), with).await);
        assert_eq!(
            outputs,
            json!({
                "image": image, "tag": "stable", "digest": image.digest,
                "media_type": "application/vnd.oci.image.manifest.v1+json",
            })
        );
    }
    // A digest is looked up as it is, with a tag beside it or without.
    let pinned = format!("{repository}@{}", image.digest);
    let by_digest = outputs(TestHost::new().run(&*step(), json!({ "image": pinned })).await);
    assert_eq!((&by_digest["image"], by_digest.get("tag")), (&json!(image), None));
    let both = format!("{repository}:old@{}", image.digest);
    let both = outputs(TestHost::new().run(&*step(), json!({ "image": both })).await);
    assert_eq!((&both["image"], &both["tag"]), (&json!(image), &json!("old")));
}

#[tokio::test]
async fn the_newest_that_fits_is_taken() {
    let registry = FakeRegistry::start().await;
    let tags = [
        "v1.2.0",
        "v1.10.0",
        "1.9.9",
        "v2.0.0-rc.1",
        "v2.0.0-rc.2",
        "v1.11.0-rc.1",
        "latest",
        "1.99",
        "nightly-9",
        "nightly-10",
        "2026-02-28",
        "2026-11-28",
    ];
    for tag in tags {
        registry.seed_image("apps/shop", Some(tag), tag);
    }
    let evidence = format!("sha256-{}.sig", "a".repeat(64));
    registry.seed_image("apps/shop", Some(&evidence), "evidence");
    registry.behave(|behavior| behavior.page = 3);
    let repository = registry.repository("apps/shop");
    for (asked, want) in [
        (json!({ "semver": ">=1 <2" }), "v1.10.0"),
        (json!({ "semver": "^1" }), "v1.10.0"),
        (json!({ "semver": ">=1, <1.10" }), "1.9.9"),
        (json!({ "semver": ">=2.0.0-rc.1" }), "v2.0.0-rc.2"),
        (json!({ "tags": "semver(\">=1 <2\")" }), "v1.10.0"),
        (json!({ "tags": ["semver(\"^1\")", "!v1.10.*"] }), "1.9.9"),
        (json!({ "tags": "nightly-*", "order": "number" }), "nightly-10"),
        (json!({ "tags": "nightly-*", "order": "text" }), "nightly-9"),
        (json!({ "tags": "2026-*", "order": "text" }), "2026-11-28"),
        (json!({ "tags": "v*", "order": "semver" }), "v2.0.0-rc.2"),
        (
            json!({ "tags": ["*", "!latest", "!nightly-*", "!v*", "!1.*", "!2026-*"], "order": "text" }),
            "",
        ),
    ] {
        let mut with = asked.clone();
        with["repository"] = json!(repository);
        if want.is_empty() {
            // The tags of evidence are no releases.
            assert!(refused(with).await.to_string().contains("no tag of"), "{asked}");
            continue;
        }
        let outputs = outputs(TestHost::new().run(&*step(), with).await);
        assert_eq!(outputs["tag"], want, "{asked}");
        let digest = registry.tag("apps/shop", want);
        assert_eq!(outputs["digest"].as_str().map(str::to_owned), digest, "{asked}");
    }
}

#[tokio::test]
async fn a_platform_is_chosen_from_the_index() {
    let registry = FakeRegistry::start().await;
    let (amd, arm) = (
        registry.seed_image("apps/shop", None, "amd"),
        registry.seed_image("apps/shop", None, "arm"),
    );
    let child = |image: &fairlead_step::Image, architecture: &str| {
        let bytes = registry.manifest("apps/shop", &image.digest.to_string()).unwrap();
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest,
            "size": bytes.len(), "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let index = registry.seed_manifest(
        "apps/shop",
        Some("v1"),
        &json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [child(&amd, "amd64"), child(&arm, "arm64")],
        }),
    );
    let with = |platform: Value| {
        let mut with = json!({ "repository": registry.repository("apps/shop"), "tag": "v1" });
        if !platform.is_null() {
            with["platform"] = platform;
        }
        with
    };
    let whole = outputs(TestHost::new().run(&*step(), with(Value::Null)).await);
    assert_eq!(whole["image"], json!(index));
    assert_eq!(whole["media_type"], "application/vnd.oci.image.index.v1+json");
    let one = outputs(TestHost::new().run(&*step(), with(json!("linux/arm64"))).await);
    assert_eq!(one["image"], json!(arm));
    assert_eq!(one["media_type"], "application/vnd.oci.image.manifest.v1+json");
    let none = refused(with(json!("linux/s390x"))).await;
    assert!(none.to_string().contains("linux/amd64, linux/arm64"), "{none}");
}

#[tokio::test]
async fn what_cannot_be_resolved_is_told() {
    let registry = FakeRegistry::start().await;
    registry.seed_image("apps/shop", Some("v0.9.0"), "old");
    let repository = registry.repository("apps/shop");
    let absent = refused(json!({ "repository": repository, "tag": "v1" })).await;
    assert_eq!(absent.class(), ErrorClass::Terminal);
    assert_eq!(absent.to_string(), format!("there is no tag `v1` in {repository}"));
    let none = refused(json!({ "repository": repository, "semver": ">=1" })).await;
    assert_eq!(none.class(), ErrorClass::Terminal);
    assert_eq!(none.to_string(), format!("no tag of {repository} fits the range `>=1`"));
    assert_eq!(none.way_out(), Some("it has 1: v0.9.0"));
    let nowhere = registry.repository("apps/none");
    let nowhere = refused(json!({ "repository": nowhere, "semver": ">=1" })).await;
    assert_eq!(nowhere.class(), ErrorClass::Terminal, "{nowhere}");
    registry.fail("HEAD /v2/apps/shop/manifests/v0.9.0", Fault::Status(403, None), 9);
    let denied = refused(json!({ "repository": repository, "tag": "v0.9.0" })).await;
    assert_eq!(denied.class(), ErrorClass::Terminal);
    assert!(denied.to_string().contains("denies"), "{denied}");
}

#[test]
fn exactly_one_thing_is_asked_for() {
    let repository = "localhost/apps/shop";
    let digest = Digest::sha256(b"x");
    for (with, pointer, want) in [
        (json!({}), "", "nothing to resolve"),
        (json!({ "image": "localhost/a:v1", "repository": repository }), "/repository", "already"),
        (json!({ "image": "localhost/a:v1", "tag": "v2" }), "/tag", "its own tag"),
        (json!({ "image": "localhost/a" }), "/image", "neither a tag nor a digest"),
        (json!({ "repository": repository }), "/repository", "which of its tags?"),
        (json!({ "repository": repository, "tag": "v1", "semver": "^1" }), "/semver", "already"),
        (json!({ "repository": repository, "tag": "a b" }), "/tag", "is not a tag"),
        (json!({ "repository": repository, "semver": "newest" }), "/semver", "not a range"),
        (json!({ "repository": repository, "tags": "v*" }), "/tags", "which of them is the newest"),
        (json!({ "repository": repository, "tag": "v1", "order": "text" }), "/order", "nothing"),
        (
            json!({ "repository": repository, "tag": "v1", "platform": "linux" }),
            "/platform",
            "platform",
        ),
    ] {
        let problems = step().check(&with).unwrap_err();
        assert_eq!(problems[0].pointer, pointer, "{with}: {problems:?}");
        assert!(problems[0].message.contains(want), "{with}: {problems:?}");
    }
    for with in [
        json!({ "image": format!("localhost/a:v1@{digest}") }),
        json!({ "repository": repository, "tags": ["semver(\"^1\")"], "order": "semver" }),
    ] {
        assert_eq!(step().check(&with), Ok(()), "{with}");
    }
}
