//! Tests of the step against the fake registry of `fairlead-oci`.

use fairlead_evidence::kit::{key, pem_of};
use fairlead_evidence::{
    Demand, attach_bundle, attach_legacy, attestations, find_bundles, find_legacy,
};
use fairlead_oci::Client;
use fairlead_oci::kit::{FakeRegistry, Fault, Login, TagLists};
use fairlead_step::kit::{TestHost, conformance};
use fairlead_step::{
    Digest, ErrorClass, Image, RegistryAuth, Secret, Step, StepError, Verdict, erase,
};
use serde_json::{Value, json};
use std::sync::Arc;

use super::Promote;

fn step() -> Arc<dyn Step> {
    erase(Promote)
}

fn with(image: &Image, to: &FakeRegistry, tags: &[&str], channels: &[&str]) -> Value {
    json!({
        "image": image, "to": to.repository("prod/shop"), "tags": tags, "channels": channels,
    })
}

fn outputs(verdict: Result<Verdict, StepError>) -> Value {
    let verdict = verdict.unwrap();
    let Verdict::Passed { outputs } = verdict else { panic!("{verdict:?}") };
    outputs
}

#[tokio::test]
async fn a_promotion_made_twice_answers_the_same() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", Some("v1"), "new");
    let old = there.seed_image("prod/shop", Some("stable"), "old");
    let host = TestHost::new();
    let input = with(&image, &there, &["v1.0.0"], &["stable", "first"]);
    let outputs = outputs(conformance(&host, &*step(), input).await);
    assert_eq!(
        outputs["image"],
        there.repository("prod/shop").at(image.digest.clone()).to_string()
    );
    assert_eq!(outputs["tags"], json!(["v1.0.0"]));
    assert_eq!(
        outputs["channels"],
        json!([
            { "name": "stable", "from": old.digest, "to": image.digest },
            { "name": "first", "from": null, "to": image.digest },
        ])
    );
    for tag in ["v1.0.0", "stable", "first"] {
        assert_eq!(there.tag("prod/shop", tag), Some(image.digest.to_string()), "{tag}");
    }
    let writes = |line: &&String| line.starts_with("PUT");
    let last: Vec<String> = there.log().iter().filter(writes).rev().take(4).cloned().collect();
    assert!(last[0].contains("/first") && last[1].contains("/stable"), "{last:?}");
    assert!(last[2].contains("/sha256:") && last[3].contains("/blobs/"), "{last:?}");
}

#[tokio::test]
async fn a_version_tag_never_moves_and_nothing_else_does_either() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    let old = there.seed_image("prod/shop", Some("v1.0.0"), "old");
    let input = with(&image, &there, &["v0.9.9", "v1.0.0"], &["stable"]);
    let error = TestHost::new().run(&*step(), input).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Terminal);
    let text = error.to_string();
    assert!(text.contains(&old.digest.to_string()), "{text}");
    assert!(text.contains(&image.digest.to_string()), "{text}");
    assert_eq!(there.asked("PUT") + there.asked("POST"), 0, "{:?}", there.log());
}

#[tokio::test]
async fn a_channel_moves_only_from_where_it_was_expected() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    let wanted = there.seed_image("prod/shop", None, "wanted");
    let found = there.seed_image("prod/shop", Some("stable"), "found");
    let mut input = with(&image, &there, &[], &["stable"]);
    input["expect"] = json!({ "stable": wanted.digest });
    let error = TestHost::new().run(&*step(), input.clone()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&wanted.digest.to_string()), "{text}");
    assert!(text.contains(&found.digest.to_string()), "{text}");
    assert_eq!(there.asked("PUT") + there.asked("POST"), 0, "{:?}", there.log());

    input["expect"] = json!({ "stable": found.digest });
    outputs(TestHost::new().run(&*step(), input).await);
    assert_eq!(there.tag("prod/shop", "stable"), Some(image.digest.to_string()));
}

#[tokio::test]
async fn an_attempt_that_was_lost_midway_is_finished_with_the_same_answer() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    let old = there.seed_image("prod/shop", Some("first"), "old");
    there.seed_image("prod/shop", Some("second"), "old");
    let host = TestHost::new();
    let input = with(&image, &there, &["v1"], &["first", "second"]);
    there.fail("PUT /v2/prod/shop/manifests/second", Fault::Status(403, None), 1);
    host.run(&*step(), input.clone()).await.unwrap_err();
    assert_eq!(there.tag("prod/shop", "first"), Some(image.digest.to_string()));
    assert_eq!(there.tag("prod/shop", "second"), Some(old.digest.to_string()));
    let outputs = outputs(host.run(&*step(), input.clone()).await);
    for channel in outputs["channels"].as_array().unwrap() {
        assert_eq!(channel["from"], json!(old.digest));
    }
    assert_eq!(there.tag("prod/shop", "second"), Some(image.digest.to_string()));

    // What a person moved since is not moved back by an attempt that is late.
    let person = there.seed_image("prod/shop", Some("second"), "by hand");
    let error = host.run(&*step(), input).await.unwrap_err();
    assert!(error.to_string().contains(&person.digest.to_string()), "{error}");
    assert_eq!(there.tag("prod/shop", "second"), Some(person.digest.to_string()));
}

#[tokio::test]
async fn wrong_bytes_move_no_tag() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    here.fail("GET /v2/apps/shop/blobs", Fault::Damage, 1);
    let input = with(&image, &there, &["v1"], &["stable"]);
    let error = TestHost::new().run(&*step(), input).await.unwrap_err();
    assert!(error.to_string().contains("does not match its digest"), "{error}");
    assert_eq!((there.tag("prod/shop", "v1"), there.tag("prod/shop", "stable")), (None, None));
    assert_eq!(there.asked("PUT /v2/prod/shop/manifests"), 0, "{:?}", there.log());
}

#[tokio::test]
async fn tags_can_be_set_within_one_repository() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("prod/shop", None, "new");
    let input = with(&image, &registry, &["v1"], &["stable"]);
    outputs(conformance(&TestHost::new(), &*step(), input).await);
    assert_eq!(registry.tag("prod/shop", "stable"), Some(image.digest.to_string()));
}

#[test]
fn names_are_checked_before_anything_runs() {
    let evidence = format!("sha256-{}.sig", "0".repeat(64));
    for (with, pointer, want) in [
        (json!({ "tags": ["a b"] }), "/tags/0", "is not a tag"),
        (json!({ "tags": ["v1"], "channels": ["v1"] }), "/channels/0", "also in `tags`"),
        (json!({ "channels": [evidence] }), "/channels/0", "evidence"),
        (
            json!({ "expect": { "stable": fairlead_step::Digest::sha256(b"") } }),
            "/expect/stable",
            "not one of the channels",
        ),
        (json!({ "tags": vec!["v"; 51] }), "/tags", "more than 50"),
    ] {
        let mut whole = json!({
            "image": format!("localhost/shop@{}", fairlead_step::Digest::sha256(b"")),
            "to": "localhost/prod",
        });
        whole.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let problems = step().check(&whole).unwrap_err();
        assert_eq!(problems[0].pointer, pointer);
        assert!(problems[0].message.contains(want), "{problems:?}");
    }
}

#[tokio::test]
async fn what_strangers_attached_is_told_and_stops_nothing() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    there.behave(|b| b.referrers_api = false);
    let image = here.seed_image("apps/shop", None, "new");
    let subject = json!({ "mediaType": "x", "digest": image.digest, "size": 1 });
    let odd = here.seed_manifest("apps/shop", None, &json!({ "subject": subject }));
    let tag = format!("sha256-{}.att", image.digest.hex());
    here.seed_manifest("apps/shop", Some(&tag), &json!("no manifest"));
    let host = TestHost::new();
    let input = with(&image, &there, &["v1"], &["stable"]);
    let outputs = outputs(conformance(&host, &*step(), input).await);
    let findings = outputs["findings"].to_string();
    assert!(findings.contains(&odd.digest.to_string()) && findings.contains(&tag), "{findings}");
    assert_eq!(there.tag("prod/shop", "v1"), Some(image.digest.to_string()));
}

#[tokio::test]
async fn a_record_that_a_stranger_wrote_in_our_name_stops_nothing() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    there.seed_image("prod/shop", None, "new");
    let host = TestHost::new();
    let input = with(&image, &there, &[], &["stable"]);
    // What an earlier attempt left is damaged since.
    outputs(host.run(&*step(), input.clone()).await);
    let record = there.log().iter().rev().find_map(|line| {
        let digest = line.strip_prefix("PUT /v2/prod/shop/manifests/")?.split(' ').next()?;
        digest.starts_with("sha256:").then(|| digest.to_owned())
    });
    let manifest = there.manifest("prod/shop", &record.unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    there.remove_blob("prod/shop", manifest["layers"][0]["digest"].as_str().unwrap());
    let again = outputs(host.run(&*step(), input).await);
    assert_eq!(again["channels"][0]["to"], json!(image.digest));
}

/// What the brief of a small image asks: its manifest, its blobs, its attachments, its tag, and no more.
#[tokio::test]
async fn a_small_image_takes_few_requests_and_none_twice() {
    for (api, list, most, again) in
        [(true, true, 10, 10), (false, true, 10, 10), (true, false, 14, 12)]
    {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| b.referrers_api = api);
        let image = registry.seed_image("apps/shop", Some("latest"), "new");
        registry.seed_image("prod/shop", Some("v0"), "old");
        if !list {
            registry.fail("/tags/list", Fault::Status(403, None), 99);
        }
        registry.clear_log();
        let input = with(&image, &registry, &["v1"], &[]);
        outputs(TestHost::new().run(&*step(), input.clone()).await);
        let log = registry.log();
        assert!(log.len() <= most, "{api} {list}: {} requests: {log:#?}", log.len());
        assert_eq!(registry.tag("prod/shop", "v1"), Some(image.digest.to_string()));
        // A tag is looked at before anything is written, right before it is set, and behind that.
        assert_eq!(registry.asked("HEAD /v2/prod/shop/manifests/v1"), 3);
        registry.clear_log();
        outputs(TestHost::new().run(&*step(), input).await);
        let log = registry.log();
        assert!(log.len() <= again, "{api} {list}: {} requests: {log:#?}", log.len());
        assert_eq!(registry.asked("PUT") + registry.asked("POST"), 0, "{log:#?}");
    }
}

#[tokio::test]
async fn one_token_is_asked_for_both_repositories() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("apps/shop", Some("latest"), "new");
    registry.behave(|b| b.login = Login::Token("u".into(), "p".into()));
    let auth = RegistryAuth::Basic { user: "u".into(), password: Secret::new("p".into()) };
    let host = TestHost::new().with_registries(FakeRegistry::registries(auth));
    outputs(host.run(&*step(), with(&image, &registry, &["v1"], &[])).await);
    assert_eq!(registry.asked("/token"), 1, "{:#?}", registry.log());
    let log = registry.log();
    assert!(log.len() <= 12, "{} requests: {log:#?}", log.len());
}

#[tokio::test]
async fn what_is_attached_comes_along_whatever_the_list_of_tags_tells() {
    for (page, lists) in [
        (1000, TagLists::Lexical),
        (2, TagLists::Lexical),
        (2, TagLists::FromStart),
        (1000, TagLists::Unordered),
        (2, TagLists::Unordered),
    ] {
        for api in [true, false] {
            let registry = FakeRegistry::start().await;
            registry.behave(|b| {
                b.referrers_api = api;
                b.page = page;
                b.tag_lists = lists;
            });
            let image = registry.seed_image("apps/shop", Some("latest"), "new");
            for n in 0..5 {
                registry.seed_image("apps/shop", Some(&format!("v{n}")), "other");
                registry.seed_image("apps/shop", Some(&format!("a{n}")), "other");
                let other = Digest::sha256(format!("{n}").as_bytes());
                registry.seed_image("apps/shop", Some(&format!("sha256-{}.sig", other.hex())), "x");
            }
            let client = Client::new(FakeRegistry::registries(RegistryAuth::Anonymous));
            let subject = client.manifest(&image).await.unwrap().descriptor();
            let none = std::collections::BTreeMap::new();
            attach_legacy(&client, &image, &key(), &none).await.unwrap();
            attach_bundle(&client, &image, &subject, &key(), &none).await.unwrap();
            outputs(TestHost::new().run(&*step(), with(&image, &registry, &["v1"], &[])).await);
            let client = Client::new(FakeRegistry::registries(RegistryAuth::Anonymous));
            let copied = registry.repository("prod/shop").at(image.digest.clone());
            let (key, any) = (key(), Demand::default());
            let v2 = find_legacy(&client, &copied, key.public_key(), &any).await;
            let v3 = find_bundles(&client, &copied, key.public_key(), &any).await;
            assert!(v2.is_verified() && v3.is_verified(), "{page} {lists:?} {api}: {v2:?} {v3:?}");
        }
    }
}

#[tokio::test]
async fn everything_is_at_every_destination_before_a_tag_moves_at_any() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = here.seed_image("apps/shop", None, "new");
    let mut input = with(&image, &there, &["v1"], &["stable"]);
    input["also_to"] = json!([there.repository("eu/shop"), here.repository("backup/shop")]);
    // The last one takes nothing.
    here.fail("POST /v2/backup/shop/blobs/uploads/", Fault::Status(403, None), 99);
    TestHost::new().run(&*step(), input.clone()).await.unwrap_err();
    let tags = || {
        let names = ["v1", "stable"];
        let at = |registry: &FakeRegistry, path: &str| {
            names.iter().filter(|name| registry.tag(path, name).is_some()).count()
        };
        at(&there, "prod/shop") + at(&there, "eu/shop") + at(&here, "backup/shop")
    };
    assert_eq!(tags(), 0, "{:#?}", there.log());
    here.heal();
    let outputs = outputs(conformance(&TestHost::new(), &*step(), input).await);
    assert_eq!(tags(), 6);
    assert_eq!(outputs["also"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_release_is_attested_where_it_went_before_its_tag_is_set() {
    for same in [false, true] {
        let registry = FakeRegistry::start().await;
        let image = registry.seed_image(if same { "prod/shop" } else { "apps/shop" }, None, "new");
        let mut input = with(&image, &registry, &["v1"], &["stable"]);
        input["key"] = json!(pem_of(&key()));
        input["environment"] = json!("prod");
        let outputs = outputs(conformance(&TestHost::new(), &*step(), input).await);
        let client = Client::new(FakeRegistry::registries(RegistryAuth::Anonymous));
        let to = registry.repository("prod/shop");
        let demand = Demand { reference: Some(to.clone()), ..Demand::default() };
        let kinds = ["release".parse().unwrap()];
        let key = key();
        let copied = to.at(image.digest.clone());
        let (proven, _) = attestations(&client, &copied, key.public_key(), &kinds, &demand).await;
        let said: Vec<_> = proven[0].statements().collect();
        assert_eq!(said.len(), 2, "{proven:?}");
        let told = &said[0].predicate["fairlead"];
        assert_eq!(told["from"], image.to_string());
        assert_eq!(told["repository"], to.to_string());
        assert_eq!((&told["environment"], &told["tags"][0]), (&json!("prod"), &json!("v1")));
        assert_eq!(told["closure"], outputs["closure_digest"]);
        assert!(said[0].predicate["purl"].as_str().unwrap().starts_with("pkg:oci/shop@sha256%3A"));
        let place =
            |part: &str| registry.log().iter().position(|line| line.contains(part)).unwrap();
        let tag = place("PUT /v2/prod/shop/manifests/v1");
        assert!(
            place(&format!("PUT /v2/prod/shop/manifests/{}", outputs["release"].as_str().unwrap()))
                < tag
        );
    }
}
