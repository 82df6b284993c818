//! Parameters that are images: named by a tag, known by a digest.

use std::collections::BTreeMap;

use fairlead_event::SourceEvent;
use fairlead_step::Digest;
use serde_json::{Value, json};

use super::{check, fakes};
use crate::{Answer, Plan, Scope, Source, compile};

fn pipeline(params: &str, on: &str, step: &str) -> String {
    format!(
        "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, on: {on},\n\
         params: {params},\n\
         steps: {{\na: {step}}}}}\n"
    )
}

const SCAN: &str = "{uses: scan, with: {image: '{{ params.image }}'}}";

fn plan(params: &str) -> Plan {
    let text = pipeline(params, "{manual: {}}", SCAN);
    compile(&Source::new("p.yaml", text), &fakes::catalog()).unwrap().plan
}

fn bind(plan: &Plan, image: &str) -> Result<Value, String> {
    let given = BTreeMap::from([("image".to_owned(), json!(image))]);
    plan.bind(&given).map_err(|all| all.iter().map(ToString::to_string).collect())
}

#[test]
fn an_image_is_bound_by_tag_or_digest() {
    let plan = plan("{image: {type: image}}");
    let digest = Digest::sha256(b"x");
    for text in [
        "r.example.com/apps/shop:v1".to_owned(),
        format!("r.example.com/apps/shop@{digest}"),
        format!("r.example.com/apps/shop:v1@{digest}"),
    ] {
        assert_eq!(bind(&plan, &text), Ok(json!({ "image": text })));
    }
    for (text, want) in [
        ("r.example.com/apps/shop", "has neither a tag nor a digest"),
        ("shop:v1", "registry.example.com/path/name"),
        ("apps/shop:v1", "no default registry"),
        ("r.example.com/apps/shop:v1@sha256:12", "hex digits"),
        ("", "not an image reference"),
    ] {
        let said = bind(&plan, text).unwrap_err();
        assert!(said.starts_with("parameter `image`: ") && said.contains(want), "{said}");
    }
    let given = BTreeMap::from([("image".to_owned(), json!(3))]);
    assert_eq!(plan.bind(&given).unwrap_err()[0].message, "`3` is not an image");
}

#[test]
fn the_journal_has_both_and_expressions_see_the_digest() {
    let plan = plan("{image: {type: image}}");
    let digest = Digest::sha256(b"x");
    let mut bound = bind(&plan, "r.example.com/apps/shop:v1").unwrap();
    let unresolved = plan.params().unresolved(&bound);
    assert_eq!(unresolved[0].0, "image");
    assert_eq!(unresolved[0].1.to_string(), "r.example.com/apps/shop:v1");
    plan.params().resolved(&mut bound, "image", digest.clone());
    let kept = format!("r.example.com/apps/shop:v1@{digest}");
    assert_eq!(bound, json!({ "image": kept }));
    assert!(plan.params().unresolved(&bound).is_empty());
    let seen = plan.params().seen(&bound);
    assert_eq!(seen, json!({ "image": format!("r.example.com/apps/shop@{digest}") }));
    let scope = Scope { params: seen, ..Scope::default() };
    let input = plan.steps()[0].render(&scope, None).unwrap();
    assert_eq!(
        input.display()["image"].as_str().unwrap().parse::<fairlead_step::Image>().unwrap().digest,
        digest
    );
    // What a run was asked with can be given to another one, and is not resolved again.
    assert_eq!(bind(&plan, &kept), Ok(bound));
}

#[test]
fn choices_hold_for_what_was_asked() {
    let plan = plan("{image: {type: image, enum: ['r.example.com/a:v1', 'r.example.com/a:v2']}}");
    let digest = Digest::sha256(b"x");
    assert!(bind(&plan, "r.example.com/a:v1").is_ok());
    assert!(bind(&plan, &format!("r.example.com/a:v1@{digest}")).is_ok());
    assert!(bind(&plan, "r.example.com/a:v3").is_err());
    assert!(bind(&plan, &format!("r.example.com/a@{digest}")).is_err());
}

#[test]
fn images_are_checked_in_the_file() {
    let manual = "{manual: {}}";
    let fine = pipeline("{image: {type: image, default: 'r.example.com/a:v1'}}", manual, SCAN);
    assert_eq!(check(&fine), "fine");
    // By its type it fits an image and a text, and neither an artifact nor a repository.
    let text = "{uses: note, with: {text: 'of {{ params.image }}'}}";
    assert_eq!(check(&pipeline("{image: {type: image}}", manual, text)), "fine");
    let artifact =
        "{uses: scan, with: {image: '{{ params.image }}', baseline: '{{ params.image }}'}}";
    assert!(check(&pipeline("{image: {type: image}}", manual, artifact)).contains("FL0306"));
    for (params, want) in [
        ("{image: {type: image, default: shop}}", "FL0110"),
        ("{image: {type: image, default: r.example.com/shop}}", "neither a tag nor a digest"),
        ("{image: {type: image, enum: [shop]}}", "FL0104"),
        ("{image: {type: image, pattern: x}}", "only a string can have a pattern"),
    ] {
        let said = check(&pipeline(params, manual, SCAN));
        assert!(said.contains(want), "{params}: {said}");
    }
    let decided = "{registry.push: {when: params.image == event.image}}";
    let params = "{image: {type: image, default: 'r.example.com/a:v1'}}";
    let said = check(&pipeline(params, decided, SCAN));
    assert!(said.contains("becomes known only when the run is asked for"), "{said}");
}

#[test]
fn a_trigger_does_not_need_the_images() {
    let text = pipeline(
        "{image: {type: image, default: 'r.example.com/a:v1'}}",
        "{registry.push: {when: event.tag == 'v1'}}",
        SCAN,
    );
    let plan = compile(&Source::new("p.yaml", text), &fakes::catalog()).unwrap().plan;
    let push = serde_json::from_value::<SourceEvent>(json!({
        "kind": "registry.push", "repository": "r.example.com/a", "tag": "v1",
        "digest": Digest::sha256(b"a"), "media_type": null, "actor": null, "at": null,
    }));
    assert!(matches!(plan.answer(&push.unwrap()), Answer::Starts(_)));
}
