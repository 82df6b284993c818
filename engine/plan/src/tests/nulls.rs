//! Values of the event that may be null are told where a value is needed, and only there.

use super::check;

/// The findings about null in a step under these triggers, or `fine`.
fn nulls(on: &str, step: &str) -> String {
    let yaml = format!(
        "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, params: {{x: {{default: v1}}}},\n\
         on: {on}, steps: {{\na: {step}}}}}\n"
    );
    let said = check(&yaml);
    let lines: Vec<&str> = said
        .lines()
        .map(|line| {
            let about = line.split_once("`event.").map_or(line, |(_, rest)| rest);
            let (field, rest) = about.split_once('`').unwrap_or((about, ""));
            match (line.contains("FL0405"), rest.split_once(':')) {
                (true, Some((how, _))) => &about[..field.len() + 1 + how.len()],
                _ => line,
            }
        })
        .collect();
    lines.join("; ").replace('`', "")
}

fn text(on: &str, text: &str) -> String {
    nulls(on, &format!("{{uses: note, with: {{text: \"{text}\"}}}}"))
}

const BOTH: &str = "{git.push: {}}";
const BRANCHES: &str = "{git.push: {branches: main}}";
const TAGS: &str = "{git.push: {tags: 'v*'}}";
const IMAGES: &str = "{registry.push: {}}";
const UNTAGGED: &str = "{registry.push: {untagged: true}}";

#[test]
fn what_may_be_null_follows_from_the_filters() {
    for (on, leaf, want) in [
        (BOTH, "{{ event.tag }}", "tag may be null"),
        (BOTH, "v{{ event.tag }}", "tag may be null"),
        (BOTH, "{{ event.branch }}", "branch may be null"),
        (TAGS, "{{ event.tag }}", "fine"),
        (TAGS, "v{{ event.tag }}", "fine"),
        (TAGS, "{{ event.branch }}", "branch is always null here"),
        (TAGS, "{{ event.commit }}", "commit may be null"),
        (TAGS, "{{ event.commit[:7] }}", "commit may be null"),
        (TAGS, "{{ event.after }}", "fine"),
        (BRANCHES, "{{ event.branch }}", "fine"),
        (BRANCHES, "{{ event.tag }}", "tag is always null here"),
        (BRANCHES, "{{ event.commit }}", "fine"),
        (BRANCHES, "{{ event.before }}", "before may be null"),
        (BRANCHES, "{{ event.clone_url }}", "clone_url may be null"),
        (BRANCHES, "{{ event.actor }}", "actor may be null"),
        (BRANCHES, "{{ event.paths | join(',') }}", "paths may be null"),
        (BRANCHES, "{{ event.ref }} of {{ event.repository }}", "fine"),
        ("{git.push: {branches: main, tags: 'v*'}}", "{{ event.tag }}", "tag may be null"),
        ("{git.push: [{branches: main}, {tags: 'v*'}]}", "{{ event.tag }}", "tag may be null"),
        (IMAGES, "{{ event.repository }}:{{ event.tag }}", "fine"),
        (IMAGES, "{{ event.image }} {{ event.digest }}", "fine"),
        (IMAGES, "{{ event.media_type }}", "media_type may be null"),
        (UNTAGGED, "{{ event.tag }}", "tag may be null"),
        ("{registry.push: [{tags: 'v*'}, {untagged: true}]}", "{{ event.tag }}", "tag may be null"),
        (
            "{registry.push: {untagged: true, when: event.tag is not none}}",
            "{{ event.tag }}",
            "fine",
        ),
        ("{git.push: {when: event.branch == 'main'}}", "{{ event.branch }}", "fine"),
        ("{git.push: {when: event.branch == 'main'}}", "{{ event.commit }}", "fine"),
        ("{registry.push: {}, git.push: {tags: 'v*'}}", "{{ event.tag }}", "fine"),
        ("{manual: {}}", "{{ event.actor }}", "fine"),
    ] {
        assert_eq!(text(on, leaf), want, "{leaf} under {on}");
    }
}

#[test]
fn what_is_covered_is_fine() {
    for leaf in [
        "{{ event.tag | default('none') }}",
        "v{{ event.tag | default(params.x) }}",
        "{{ event.tag | default('x') | lower }}",
        "{{ event.tag | default(event.branch) }}",
        "{{ event.branch or event.tag }}",
        "{{ event.tag or 'x' }}",
        "{{ event.tag if event.tag is not none else 'x' }}",
        "{{ event.branch if event.tag is none else event.tag }}",
        "{{ event.tag if event.tag else params.x }}",
        "{{ 'x' if event.tag == 'v1' else 'y' }}",
        "{{ event.tag | tojson }}",
    ] {
        assert_eq!(text(BOTH, leaf), "fine", "{leaf}");
    }
    for (leaf, want) in [
        ("{{ event.tag | default(event.actor) }}", "actor may be null"),
        ("{{ event.tag | lower }}", "tag may be null"),
        ("{{ 'v' ~ event.tag }}", "tag may be null"),
        ("{{ event.tag if params.x else 'x' }}", "tag may be null"),
    ] {
        assert_eq!(text(BOTH, leaf), want, "{leaf}");
    }
    // An input that takes null takes this one.
    assert_eq!(nulls(BOTH, "{uses: note, with: {data: '{{ event.tag }}'}}"), "fine");
    assert_eq!(
        nulls(BOTH, "{uses: note, with: {data: {deep: ['{{ event.tag | upper }}']}}}"),
        "tag may be null"
    );
}

#[test]
fn conditions_of_steps_rule_null_out() {
    let step = |when: &str| {
        nulls(
            BOTH,
            &format!("{{uses: note, when: \"{when}\", with: {{text: 'v{{{{ event.tag }}}}'}}}}"),
        )
    };
    for when in ["event.tag is not none", "event.tag == 'v1'", "event.branch is none"] {
        assert_eq!(step(when), "fine", "{when}");
    }
    assert_eq!(step("event.tag is defined"), "tag may be null");
    assert_eq!(step("event.branch is not none"), "tag is always null here");
    // Who waits for a step that passed knows what its condition knew.
    let after = |needs: &str| {
        nulls(
            BOTH,
            &format!(
                "{{uses: note, when: event.tag != none}}, b: {{uses: note, needs: {needs}, with: \
                 {{text: '{{{{ event.tag }}}}'}}}}"
            ),
        )
    };
    assert_eq!(after("[a]"), "fine");
    assert_eq!(after("{a: [passed, rejected]}"), "fine");
    assert_eq!(after("{a: [passed, skipped]}"), "tag may be null");
}

#[test]
fn other_places_need_values_too() {
    for (step, want) in [
        ("{uses: note, for_each: '{{ event.paths }}'}", "paths may be null"),
        ("{uses: note, for_each: '{{ event.paths | default([]) }}'}", "fine"),
        ("{uses: note, for_each: [a, 'x{{ event.tag }}']}", "tag may be null"),
        ("{uses: note, when: \"'src' in event.paths\"}", "paths may be null"),
        ("{uses: note, when: event.paths is not none and 'src' in event.paths}", "fine"),
        ("{wait: {until: '{{ event.tag }}'}}", "tag may be null"),
        ("{uses: note, on_undo: {uses: note, with: {text: '{{ event.tag }}'}}}", "tag may be null"),
    ] {
        assert_eq!(nulls(BOTH, step), want, "{step}");
    }
    let grouped = |group: &str| {
        check(&format!(
            "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: t, on: {BOTH}, concurrency: \
             \"{group}\", steps: {{a: {{uses: note}}}}}}\n"
        ))
    };
    assert!(grouped("{{ event.branch }}").contains("FL0405"));
    assert!(grouped("x/{{ event.branch }}").contains("FL0405"));
    assert_eq!(grouped("x/{{ event.branch | default('tags') }}"), "fine");
    let trigger = "{git.push: {when: event.actor | lower == 'ann'}}";
    assert_eq!(nulls(trigger, "{uses: note}"), "actor may be null");
    // Nothing is told twice: what only some triggers have is told as absent.
    let absent = text("{git.push: {}, manual: {}}", "{{ event.tag }}");
    assert!(absent.contains("FL0404") && !absent.contains("FL0405"), "{absent}");
}

#[test]
fn the_way_out_is_told() {
    let yaml = format!(
        "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: t, on: {BOTH}, steps: {{\n\
         a: {{uses: note, with: {{text: \"v{{{{ event.tag }}}}\"}}}}}}}}\n"
    );
    let said = check(&yaml);
    let (_, said) = said.split_once(" ").unwrap();
    assert_eq!(
        said,
        "warning[FL0405]: `event.tag` may be null: a pushed branch has no tag (write `event.tag | \
         default(\"…\")`, let nothing but tags in, with `tags` under `git.push`, or skip the step \
         with `when: event.tag is not none`)"
    );
}
