//! Edits of one text: what stays, what changes, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fairlead_step::Digest;
use fairlead_step_gitops::{Edit, EditError, apply};
use serde_json::json;

fn edited(text: &str, edit: &Edit) -> Result<String, EditError> {
    apply(text, edit).map(|edited| edited.text)
}

/// Makes edits one after another.
fn all(text: &str, edits: &[serde_json::Value]) -> String {
    edits.iter().fold(text.to_owned(), |text, json| edited(&text, &edit(json.clone())).unwrap())
}

fn error(text: &str, json: serde_json::Value) -> String {
    apply(text, &edit(json)).unwrap_err().to_string()
}

fn notes(text: &str, json: serde_json::Value) -> String {
    apply(text, &edit(json)).unwrap().notes.join("\n")
}

const HELM: &str = "\
# values of the shop   (keep this comment)
replicas:   2
image:
  repository: registry.example.com/apps/shop   # where it is
  tag: 'v1.0.0'
  # the digest decides
  digest: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"

odd:    {flow: [1,2,   3], image: old.example.com/x:1}
url: http://x
";

fn edit(json: serde_json::Value) -> Edit {
    let mut json = json;
    json["file"] = "values.yaml".into();
    serde_json::from_value(json).unwrap()
}

fn image() -> String {
    format!("registry.example.com/prod/shop@{}", Digest::sha256(b"new"))
}

fn changed(before: &str, after: &str) -> String {
    let lines = before.lines().zip(after.lines()).filter(|(b, a)| b != a);
    let mut text: String = lines.map(|(b, a)| format!("-{b}\n+{a}\n")).collect();
    for added in after.lines().skip(before.lines().count()) {
        text.push_str(&format!("+{added}\n"));
    }
    text
}

#[test]
fn a_helm_image_is_edited_in_place() {
    let after =
        edited(HELM, &edit(json!({"path": "image", "image": image(), "tag": "v1.1.0"}))).unwrap();
    insta::assert_snapshot!(changed(HELM, &after), @r#"
        -  repository: registry.example.com/apps/shop   # where it is
        +  repository: registry.example.com/prod/shop   # where it is
        -  tag: 'v1.0.0'
        +  tag: 'v1.1.0'
        -  digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        +  digest: "sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
        "#);
}

#[test]
fn a_scalar_is_edited_in_place_even_in_flow_style() {
    let after = edited(HELM, &edit(json!({"path": "odd.image", "image": image()}))).unwrap();
    insta::assert_snapshot!(changed(HELM, &after), @r"
        -odd:    {flow: [1,2,   3], image: old.example.com/x:1}
        +odd:    {flow: [1,2,   3], image: registry.example.com/prod/shop@sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437}
        ");
    let after = edited(HELM, &edit(json!({"path": "odd.flow[2]", "value": 4}))).unwrap();
    assert!(after.contains("[1,2,   4]"));
    let after = edited(HELM, &edit(json!({"path": "replicas", "value": 3}))).unwrap();
    assert!(after.contains("replicas:   3\n"));
}

#[test]
fn a_value_that_is_there_already_is_no_difference() {
    let same = edit(json!({"path": "image.tag", "value": "v1.0.0"}));
    assert_eq!(edited(HELM, &same).unwrap(), HELM);
}

#[test]
fn a_kustomization_entry_is_edited_and_completed() {
    let before = "images:\n- name: other\n  newTag: x\n- name: shop\n  newName: old/shop\n";
    let after =
        edited(before, &edit(json!({"kustomize": "shop", "image": image(), "tag": "1.10"})))
            .unwrap();
    insta::assert_snapshot!(after, @r#"
        images:
        - name: other
          newTag: x
        - name: shop
          newName: registry.example.com/prod/shop
          newTag: "1.10"
          digest: sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437
        "#);
}

#[test]
fn what_cannot_be_edited_is_named() {
    for (text, json, want) in [
        (HELM, json!({"path": "image.nope", "value": "x"}), "has nothing at `image.nope`"),
        (HELM, json!({"path": "image", "value": "x"}), "not a scalar on one line"),
        (HELM, json!({"path": "odd", "image": image()}), "neither `repository`"),
        ("a: [", json!({"path": "a", "value": "x"}), "not well-formed YAML"),
        ("a: 1\n---\nb: 2\n", json!({"path": "a", "value": "x"}), "several documents"),
        ("a: &x 1\nb: *x\n", json!({"path": "b", "value": "x"}), "through an alias"),
        ("a: &x {c: 1}\nb: *x\n", json!({"path": "b.c", "value": 2}), "through an alias"),
        ("a: |\n  x\n", json!({"path": "a", "value": "x"}), "not a scalar on one line"),
        ("images: []\n", json!({"kustomize": "a", "image": image()}), "no entry named `a`"),
    ] {
        let error = apply(text, &edit(json)).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

const DIGEST: &str = "sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437";

/// The text with what stands for the image of the tests written out.
fn filled(text: &str) -> String {
    text.replace("DIGEST", DIGEST).replace("REPOSITORY", "registry.example.com/prod/shop")
}

#[test]
fn a_key_is_added_between_braces_and_nothing_else_changes() {
    let anchored = "\
web: { image: { repository: x/web, tag: &version \"1.2.3\" } }
worker: { image: { repository: x/worker, tag: *version } }
";
    assert_eq!(
        all(anchored, &[json!({"path": "web.image", "image": image()})]),
        filled(
            "\
web: { image: { repository: REPOSITORY, tag: &version \"1.2.3\", digest: \"DIGEST\" } }
worker: { image: { repository: x/worker, tag: *version } }
"
        )
    );
    let quoted = "\
web: {image: {repository: r.example.com/web, tag: \"1234567e8\", pullPolicy: IfNotPresent}}
api: {image: {repository: r.example.com/api, tag: \"0123456\", pullPolicy: \"yes\"}}
";
    let edits = ["web.image", "api.image"].map(|path| json!({"path": path, "image": image()}));
    assert_eq!(
        all(quoted, &edits),
        filled("\
web: {image: {repository: REPOSITORY, tag: \"1234567e8\", pullPolicy: IfNotPresent, digest: \"DIGEST\"}}
api: {image: {repository: REPOSITORY, tag: \"0123456\", pullPolicy: \"yes\", digest: \"DIGEST\"}}
")
    );
}

#[test]
fn a_key_is_added_between_braces_over_several_lines() {
    let edits = [json!({"path": "image", "image": image()})];
    for (before, after) in [
        (
            "image: {\n    repository: x,\n    tag: v1,  # first\n  }\n",
            "image: {\n    repository: REPOSITORY,\n    tag: v1,  # first\n    digest: \"DIGEST\",\n  }\n",
        ),
        (
            "image: {\n  repository: x,\n  tag: v1  # first\n}\n",
            "image: {\n  repository: REPOSITORY,\n  tag: v1,  # first\n  digest: \"DIGEST\"\n}\n",
        ),
        (
            "{\r\n  \"image\": {\r\n    \"repository\": \"x\",\r\n    \"tag\": \"v1\"\r\n  }\r\n}",
            "{\r\n  \"image\": {\r\n    \"repository\": \"REPOSITORY\",\r\n    \"tag\": \"v1\",\r\n    \
             \"digest\": \"DIGEST\"\r\n  }\r\n}",
        ),
        (
            "image: { repository: x,\n         tag: }\n",
            "image: { repository: REPOSITORY,\n         tag: , digest: \"DIGEST\"}\n",
        ),
        (
            "image: {repository: x, tag}\n",
            "image: {repository: REPOSITORY, tag , digest: \"DIGEST\"}\n",
        ),
    ] {
        assert_eq!(all(before, &edits), filled(after), "{before}");
    }
    let null = "{\"image\": {\"repository\": null, \"digest\": null}}";
    let after = "{\"image\": {\"repository\": \"REPOSITORY\", \"digest\": \"DIGEST\"}}";
    assert_eq!(all(null, &edits), filled(after));
}

#[test]
fn the_lines_of_a_file_end_as_they_did() {
    let before = "image:\r\n  tag: \"v1\" # keep me\r\n\r\nservice:\r\n  tag: v1\r\n  port: 80";
    assert_eq!(
        all(
            before,
            &[
                json!({"path": "image", "image": image()}),
                json!({"path": "service", "image": image()}),
            ]
        ),
        filled(
            "\
image:\r\n  tag: \"v1\" # keep me\r\n  repository: REPOSITORY\r\n  digest: DIGEST\r\n\r\n\
service:\r\n  tag: v1\r\n  port: 80\r\n  repository: REPOSITORY\r\n  digest: DIGEST"
        )
    );
}

#[test]
fn added_and_changed_values_are_texts_for_every_reader() {
    for tag in ["yes", "on", "NO", "1_000", "2024-01-01", "0123", "1e3", "0x1f", "y", "null"] {
        for (before, quote) in [
            ("image:\n  repository: a/b\n", "\""),
            ("image:\n  repository: a/b\n  tag: v1\n", "\""),
            ("image:\n  repository: a/b\n  tag:\n", "\""),
            ("image:\n  repository: a/b\n  tag: 'v1'\n", "'"),
            ("image: {repository: a/b}\n", "\""),
        ] {
            let after = all(before, &[json!({"path": "image", "image": image(), "tag": tag})]);
            assert!(after.contains(&format!("tag: {quote}{tag}{quote}")), "{after}");
        }
    }
    for value in ["~", "=", "<<", "", " a ", "a: b", "a #b", "12:30:45", "é", "a\nb\u{85}"] {
        for before in ["a: v1 # c\nb: 1\n", "a: # c\nb: 1\n", "{a: v1, b: 1}", "{a, b: 1}"] {
            let after = all(before, &[json!({"path": "a", "value": value})]);
            let read: yaml_serde::Value = yaml_serde::from_str(&after).unwrap();
            assert_eq!(read["a"].as_str(), Some(value), "{after}");
            assert_eq!(before.contains("# c"), after.contains("# c"), "{after}");
        }
    }
}

#[test]
fn a_key_without_a_value_is_filled() {
    let before = "\
image:
  repository: cr.example.com/fluent/bit
  # Overrides the tag; \"-\" means none
  tag:
  digest:   # by hand
  pullPolicy: IfNotPresent
other:
  image:
    repository: busybox
    tag: ~
    digest: null
list:
- # nothing yet
- b
";
    let edits = [
        json!({"path": "image", "image": image(), "tag": "v2"}),
        json!({"path": "other.image", "image": image(), "tag": "v2"}),
        json!({"path": "list[0]", "value": "a"}),
    ];
    assert_eq!(
        all(before, &edits),
        filled(
            "\
image:
  repository: REPOSITORY
  # Overrides the tag; \"-\" means none
  tag: v2
  digest: DIGEST   # by hand
  pullPolicy: IfNotPresent
other:
  image:
    repository: REPOSITORY
    tag: v2
    digest: DIGEST
list:
- a # nothing yet
- b
"
        )
    );
    assert_eq!(
        all("a: &x\nb: !!str # c\n", &[json!({"path": "a", "value": "v"})]),
        "a: &x v\nb: !!str # c\n"
    );
    assert_eq!(
        all("b: !!str # c\n", &[json!({"path": "b", "value": "1"})]),
        "b: !!str \"1\" # c\n"
    );
    let error = error("? a\n? b\n", json!({"path": "a", "value": "x"}));
    assert!(error.contains("no `:`, so no value can stand there"), "{error}");
}

#[test]
fn an_anchor_and_a_comment_are_no_values() {
    let before = "image: &image\n  # a comment first\n  repository: a/b\n  tag: v1\n";
    let after = all(before, &[json!({"path": "image", "image": image(), "tag": "v2"})]);
    assert_eq!(
        after,
        filled(
            "image: &image\n  # a comment first\n  repository: REPOSITORY\n  tag: v2\n  digest: DIGEST\n"
        )
    );
    let after = all("a: &x # c\n  v1\nb: 1\n", &[json!({"path": "a", "value": "v2"})]);
    assert_eq!(after, "a: &x # c\n  v2\nb: 1\n");
}

#[test]
fn complex_keys_are_keys() {
    let before = "? image\n: repository: a/b\n  tag: v1\n? [c, d]\n: e\n? other\n: v1 # c\n";
    let edits =
        [json!({"path": "image", "image": image()}), json!({"path": "other", "value": "v2"})];
    assert_eq!(
        all(before, &edits),
        filled(
            "? image\n: repository: REPOSITORY\n  tag: v1\n  digest: DIGEST\n? [c, d]\n: e\n? other\n: v2 # c\n"
        )
    );
    let before = "? tag\n: v1\n";
    assert_eq!(
        all(
            &format!("image:\n  {}", before.replace('\n', "\n  ").trim_end()),
            &[json!({"path": "image", "image": image()})]
        ),
        filled("image:\n  ? tag\n  : v1\n  repository: REPOSITORY\n  digest: DIGEST")
    );
}

#[test]
fn what_stands_in_several_places_is_edited_in_all_of_them_or_not() {
    let scalar = "a: &x v1\nb: *x\n";
    let container = "base: &b\n  image: {tag: v1}\nweb: *b\n";
    let merged = "base: &b {tag: v1, x: 1}\nweb:\n  <<: *b\n  y: 2\n";
    for (text, path, want) in [
        (scalar, "a", "stands in 2 places"),
        (scalar, "b", "through an alias, `*x`"),
        (container, "base.image.tag", "stands in 2 places"),
        (container, "web.image.tag", "through an alias, `*b`"),
        (merged, "base.tag", "stands in 2 places"),
        (merged, "web.tag", "through a merge key"),
    ] {
        let edit = json!({"path": path, "value": "v2"});
        let error = error(text, edit.clone());
        assert!(error.contains(want) && error.contains("aliases: follow"), "{error}");
        let mut follow = edit;
        follow["aliases"] = "follow".into();
        assert_eq!(all(text, &[follow]), text.replace("v1", "v2"));
    }
    // A key of its own stands before the one that is merged, so this is the mapping's alone.
    let after = all(
        "base: &b {tag: v1, digest: x}\nweb:\n  <<: *b\n  repository: a\n",
        &[json!({"path": "web", "image": image(), "tag": "v2"})],
    );
    assert_eq!(
        after,
        filled(
            "base: &b {tag: v1, digest: x}\nweb:\n  <<: *b\n  repository: REPOSITORY\n  tag: v2\n  digest: DIGEST\n"
        )
    );
    // An anchor that nothing uses, and the second of two of one name.
    assert_eq!(all("a: &x v1\n", &[json!({"path": "a", "value": "v2"})]), "a: &x v2\n");
    let twice = "a: &x v1\nb: *x\nc: &x v1\n";
    assert_eq!(all(twice, &[json!({"path": "c", "value": "v2"})]), "a: &x v1\nb: *x\nc: &x v2\n");
}

const SEVERAL: &str = "\
---
kind: Namespace
metadata:
  name: blog
---
# Source: the deployment
kind: Deployment
metadata:
  name: blog
spec:
  containers:
    - name: blog
      image: registry.example.com/apps/shop:v1
---
";

#[test]
fn a_document_of_several_is_chosen() {
    let path = "spec.containers[0].image";
    for document in [json!(1), json!("1"), json!("Deployment/blog")] {
        let edit = json!({"document": document, "path": path, "image": image()});
        let after = all(SEVERAL, &[edit]);
        assert_eq!(
            after,
            filled(&SEVERAL.replace("registry.example.com/apps/shop:v1", "REPOSITORY@DIGEST"))
        );
    }
    for (document, want) in [
        (
            json!(null),
            "several documents (0: Namespace/blog, 1: Deployment/blog, 2: empty): say which",
        ),
        (json!(7), "no document `7`: it holds 0: Namespace/blog"),
        (json!("Deployment/shop"), "no document `Deployment/shop`"),
        (
            json!("Namespace/blog"),
            "has nothing at `spec.containers[0].image`: the document has no key `spec`",
        ),
        (json!(2), "has nothing at"),
    ] {
        let error = error(SEVERAL, json!({"document": document, "path": path, "value": "x"}));
        assert!(error.contains(want), "{error}");
    }
    let twins = SEVERAL.replace("Namespace", "Deployment");
    let error = error(&twins, json!({"document": "Deployment/blog", "path": path, "value": "x"}));
    assert!(error.contains("several documents `Deployment/blog`"), "{error}");
    // A document that is empty is none to choose from.
    let one = "# head\n---\na: v1\n---\n# nothing\n";
    assert_eq!(all(one, &[json!({"path": "a", "value": "v2"})]), one.replace("v1", "v2"));
}

#[test]
fn a_document_within_a_text_is_edited_inside() {
    let before = "\
spec:
  source:
    helm:
      parameters:
        - name: image.tag
          value: v1.0.0
      values: |
        app:

          image:   # c
            repository: repo
            tag: latest
      x: 1
";
    let edit = json!({"within": "spec.source.helm.values", "path": "app.image", "image": image(), "tag": "v2"});
    let after = all(before, std::slice::from_ref(&edit));
    assert_eq!(
        after,
        filled(
            &before
                .replace("repository: repo", "repository: REPOSITORY")
                .replace("tag: latest", "tag: v2\n            digest: DIGEST")
        )
    );
    let strip = before.replace("|\n", "|-\n").replace("      x: 1\n", "");
    let after = all(strip.trim_end(), std::slice::from_ref(&edit));
    assert!(after.ends_with(&format!("tag: v2\n            digest: {DIGEST}")), "{after}");
    let crlf = before.replace('\n', "\r\n");
    let after = all(&crlf, std::slice::from_ref(&edit));
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
    assert!(after.contains(&format!("tag: v2\r\n            digest: {DIGEST}\r\n      x: 1\r\n")));
    let flow = "v: \"a:\\n  tag: v1\\n\"\n";
    let after = all(flow, &[json!({"within": "v", "path": "a.tag", "value": "v2"})]);
    assert_eq!(after, flow.replace("v1", "v2"));

    for (text, edit, want) in [
        (
            before,
            json!({"path": "spec.source.helm.values.app.image", "image": image()}),
            "say `within: spec.source.helm.values` and `path: app.image`",
        ),
        (
            before,
            json!({"within": "spec.source.helm.values", "path": "app.nope", "value": "x"}),
            "in the text at `spec.source.helm.values` has nothing at `app.nope`: `app` has no key `nope`",
        ),
        (before, json!({"within": "spec.source", "path": "a", "value": "x"}), "a mapping, no text"),
        (
            "v: >\n  a: v1\n",
            json!({"within": "v", "path": "a", "value": "v2"}),
            "lines of a folded text",
        ),
    ] {
        let error = error(text, edit);
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn what_a_chart_may_not_read_is_said() {
    let edit = |tag: Option<&str>| match tag {
        Some(tag) => json!({"path": "image", "image": image(), "tag": tag}),
        None => json!({"path": "image", "image": image()}),
    };
    let bare = "image:\n  repository: a/b\n  tag: v1\n";
    let found = notes(bare, edit(None));
    assert!(
        found.contains("values.yaml: `image` had no `digest`, and `tag` stays `v1`"),
        "{found}"
    );
    assert!(found.contains("deploys nothing new"), "{found}");
    assert!(notes(bare, edit(Some("v1"))).contains("`tag` stays `v1`"));
    assert_eq!(notes(bare, edit(Some("v2"))), "");
    assert!(notes("image:\n  repository: a/b\n", edit(None)).contains("no `tag` is set"));
    let named =
        notes("image:\n  registry: r.example.com\n  name: a/b\n  tag: v1\n", edit(Some("v2")));
    assert!(named.contains("had no `repository` beside its `name`"), "{named}");
    for knows in [
        "image:\n  repository: a/b\n  tag: v1\n  digest:\n",
        "image:\n  registry: r.example.com\n  repository: a/b\n  digest: ''\n",
        "image: a/b:v1\n",
        "image:\n",
    ] {
        assert_eq!(notes(knows, edit(None)), "", "{knows}");
    }
    let apart = all(
        "image:\n  registry: r.example.com\n  repository: a/b\n  tag: v1\n",
        &[edit(Some("v2"))],
    );
    assert_eq!(
        apart,
        filled(
            "image:\n  registry: registry.example.com\n  repository: prod/shop\n  tag: v2\n  digest: DIGEST\n"
        )
    );
    let joined = notes("image: a/b\nimageTag: v1\n", edit(None));
    assert_eq!(joined, "", "keys of the document's root are too many to judge by");
    let nested = json!({"path": "web.image", "image": image()});
    let joined = notes("web:\n  image: a/b\n  tag: v1\n", nested);
    assert!(joined.contains("a chart that joins the two"), "{joined}");
    // The digest is behind the tag already, where a chart reads no other.
    let behind = "image:\n  repository: a/b\n  tag: \"v1@sha256:00\" # c\n";
    assert_eq!(notes(behind, edit(None)), "");
    for (tag, want) in [(None, "v1"), (Some("v2"), "v2")] {
        assert_eq!(
            all(behind, &[edit(tag)]),
            filled(&format!("image:\n  repository: REPOSITORY\n  tag: \"{want}@DIGEST\" # c\n"))
        );
    }
    let part = error(bare, json!({"path": "image.tag", "image": image()}));
    assert!(part.contains("it is a part of an image"), "{part}");
}

#[test]
fn keys_are_added_behind_every_kind_of_last_value() {
    let edit = || [json!({"path": "i", "image": image()})];
    let line = filled("  digest: DIGEST\n");
    for last in [
        "  x: |\n    a\n    b\n\n",
        "  x: |+\n    a\n\n\n",
        "  x: >-\n    a\n",
        "  x:\n    - a\n    -\n",
        "  x:\n  - y: 1\n    z:   # c\n",
        "  x: [a,\n    b]  # c\n",
        "  x: {a: 1\n    }\n",
        "  x: \"a\n    b\"\n",
        "  x: a\n    b\n",
        "  x: &a !!str # c\n",
        "  ? x\n",
        "  x:\n    y:\n      z: 1\n",
    ] {
        for behind in ["", "z: 1\n", "# c\nz: 1\n", "\n\n# c\n"] {
            let before = format!("i:\n  repository: REPOSITORY\n{last}{behind}");
            let after = all(&filled(&before), &edit());
            let mut lines: Vec<&str> = after.split_inclusive('\n').collect();
            let at = lines.iter().position(|found| *found == line).expect(&after);
            lines.remove(at);
            assert_eq!(lines.concat(), filled(&before), "{after}");
        }
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, edit, want) in [
        ("a: !ref v1\n", json!({"path": "a", "value": "v2"}), "it has the tag `!ref`"),
        ("a: !!int 1\n", json!({"path": "a", "value": "v2"}), "it has the tag `int`"),
        ("a: v1\na: v2\n", json!({"path": "a", "value": "v3"}), "the key `a` stands twice"),
        ("a: v1\n  v2\n", json!({"path": "a", "value": "v3"}), "a text over several lines"),
        ("a: [b]\n", json!({"path": "a[1]", "value": "x"}), "`a` has 1 entries, from 0 on"),
        ("a: [b]\n", json!({"path": "a.b", "value": "x"}), "`a` is a list, not a mapping"),
        ("", json!({"path": "a", "value": "x"}), "it is empty"),
        ("# only this\n", json!({"path": "a", "value": "x"}), "it is empty"),
        (
            "a: {{ x }}\n",
            json!({"path": "a", "value": "x"}),
            "`a` is not a scalar on one line but a mapping",
        ),
        ("a: &a [*a]\nb: v1\n", json!({"path": "b", "value": "x"}), "deeper than"),
        ("- [tag: v1]\n", json!({"path": "[0][0]", "image": image()}), "has no braces"),
        (
            "images: [{name: a}, {name: a}]\n",
            json!({"kustomize": "a", "image": image()}),
            "several entries are named `a`",
        ),
    ] {
        let error = error(text, edit);
        assert!(error.contains(want), "{text}: {error}");
    }
    // Aliases of aliases: a thousand bytes that would be a thousand million values.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    bomb.push_str("tag: v1\n");
    let error = error(&bomb, json!({"path": "tag", "value": "v2"}));
    assert!(error.contains("more than 1048576 values"), "{error}");
}

#[test]
fn odd_files_are_edited_as_plain_ones() {
    let edit = || [json!({"path": "image", "image": image(), "tag": "v2"})];
    let head = "# a line of the license\n".repeat(300);
    for (before, after) in [
        // A byte-order mark, a head of comments, directives and ends.
        (
            "\u{feff}image:\r\n  tag: v1",
            "\u{feff}image:\r\n  tag: v2\r\n  repository: REPOSITORY\r\n  digest: DIGEST",
        ),
        (
            "%YAML 1.1\n---\nimage: # c\n  tag: v1\n...\n",
            "%YAML 1.1\n---\nimage: # c\n  tag: v2\n  repository: REPOSITORY\n  digest: DIGEST\n...\n",
        ),
        (
            &format!("{head}image:\n  tag: v1\n"),
            &format!("{head}image:\n  tag: v2\n  repository: REPOSITORY\n  digest: DIGEST\n"),
        ),
        ("image:\n  tag:", "image:\n  tag: v2\n  repository: REPOSITORY\n  digest: DIGEST"),
        ("image:\n  tag:  \n", "image:\n  tag: v2  \n  repository: REPOSITORY\n  digest: DIGEST\n"),
        (
            "image:\n    tag:\n      v1 # c\nx: é\n",
            "image:\n    tag:\n      v2 # c\n    repository: REPOSITORY\n    digest: DIGEST\nx: é\n",
        ),
        (
            "\"image\": {\"tag\": \"v1\"}",
            "\"image\": {\"tag\": \"v2\", \"repository\": \"REPOSITORY\", \"digest\": \"DIGEST\"}",
        ),
        (
            "image:\n  tag: v1\nx: 1\nx: 2\n",
            "image:\n  tag: v2\n  repository: REPOSITORY\n  digest: DIGEST\nx: 1\nx: 2\n",
        ),
    ] {
        assert_eq!(all(before, &edit()), filled(after));
    }
    let wide = "images:\n-   name: shop\n    x: 1 # c\n- - name: no\n";
    assert_eq!(
        all(wide, &[json!({"kustomize": "shop", "image": image()})]),
        filled(
            "images:\n-   name: shop\n    x: 1 # c\n    newName: REPOSITORY\n    digest: DIGEST\n- - name: no\n"
        )
    );
}

proptest::proptest! {
    /// Whatever a file is, an edit of it is made rightly or refused, and nothing panics.
    #[test]
    fn no_text_breaks_the_editor(
        text in "([a-c]: |\\? |- |&a |\\*a|!!str |'|\"|[|>][+-]?|\\{|\\}|\\[|\\]|, |: |# c|---|\\.\\.\\.|<<: |v1|é|\n|\r\n|\n  |\n    |\t|\u{feff}){0,24}",
        path in "[a-c](\\.[a-c]|\\[[01]\\]){0,2}",
        follow in proptest::bool::ANY,
    ) {
        let aliases = if follow { "follow" } else { "refuse" };
        for change in [
            json!({"path": path, "value": "n: o", "aliases": aliases}),
            json!({"path": path, "value": 7, "aliases": aliases}),
            json!({"within": path, "path": "a", "value": "v2", "aliases": aliases}),
        ] {
            let Ok(after) = edited(&text, &edit(change)) else { continue };
            // What is read once reads the new value, whoever reads it.
            let read = |text: &str| -> Option<yaml_serde::Value> { yaml_serde::from_str(text).ok() };
            if let Some(before) = read(&text) {
                let after = read(&after);
                proptest::prop_assert!(after.is_some(), "{text:?}");
                if after.as_ref() != Some(&before) {
                    let written = format!("{after:?}");
                    let new = ["n: o", "Number(7)", "v2"];
                    proptest::prop_assert!(new.iter().any(|new| written.contains(new)));
                }
            }
        }
    }
}
