//! What is wrong with a file is found, all of it, each at its place.

use insta::assert_snapshot;

use super::{check, check_steps};

#[test]
fn a_good_file_is_fine() {
    assert_snapshot!(check(
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: release
description: Everything, once
on:
  git.push: {repository: "*/shop", branches: [main], paths: ["src/**", Dockerfile]}
  registry.push: {repository: base/*, tags: 'semver(">=1")', when: event.tag != params.last_base}
  manual: {}
params:
  last_base: {default: none}
  version: {type: string, default: v1.0.0, pattern: '^v\d+\.\d+\.\d+$', description: The release to cut}
timeout: 1h
steps:
  build:
    uses: build
    with: {context: ., image: "registry.example.com/apps/shop", platforms: [linux/amd64, linux/arm64], secrets: {npm_token: "{{ secrets.npm }}"}}
    retry: {max: 2, backoff: 2s..1m, on: infra}
  scan: {uses: scan, with: {image: "{{ steps.build.image }}", fail_on: {severity: critical, fixable: true}, limit: "{{ 2 + 3 }}"}}
  sign: {uses: sign, needs: {scan: [passed, skipped]}, with: {image: "{{ steps.build.image }}", key: {type: private, pem: "{{ secrets.cosign }}"}}, timeout: 5m}
  tell: {uses: note, when: steps.scan.outcome == "rejected", with: {text: "{{ steps.build.image }} for {{ params.version | upper }}", data: "{{ steps.build }}"}}
finally:
  notify: {uses: note, on: [failed, rejected], with: {text: "{{ run.summary }}"}}
"#
    ), @"");
}

#[test]
fn text_that_is_not_yaml_is_told_with_its_place() {
    let cases = [
        "",
        "steps: [",
        "a: b: c",
        "a:\n\t- b",
        "a: 'b",
        "a: &x 1\nb: *y",
        "- a\nb: c",
        "a: 1\n---\nb: 2",
        "a: !!python/object x",
        "a: 123456789012345678901234567890",
        "name: \u{0}",
    ];
    let said: Vec<String> = cases.iter().map(|yaml| format!("{yaml:?}\n   {}", check(yaml))).collect();
    assert_snapshot!(said.join("\n"), @"");
}

#[test]
fn bombs_and_depths_end_early() {
    let deep = "[".repeat(5000);
    let nested = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..9 {
        let many = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("a{n}: &a{n} [{many}]\n"));
    }
    let large = format!("# {}", "x".repeat(crate::MAX_SOURCE_BYTES));
    let said: Vec<String> = [deep, nested, bomb, large].iter().map(|yaml| check(yaml)).collect();
    assert_snapshot!(said.join("\n"), @"");
}

#[test]
fn every_wrong_key_and_shape_is_told_in_one_pass() {
    assert_snapshot!(check(
        r#"
apiVersion: fairlead.dev/v2
kind: Pipelin
name: My Release
nam: x
description: [1]
timeout: 90
timeout: 5m
concurrency: {group: x}
params:
  2x: {}
  a: {typ: string, type: text}
  b: {pattern: '(', default: 1}
  c: {type: integer, default: "3", pattern: x}
  d: {enum: [a, b], default: c}
  e: {type: boolean, enum: []}
  f: text
steps:
  Build: {uses: build}
  build: {uses: bulid, retries: 3, for_each: [1], timeout: 5 minutes, on: [failed]}
  scan: {with: [1], needs: {build: [pased], sign: []}, retry: {max: 99, backoff: 1m..2s, on: always}}
  sign: {uses: 3, needs: scan, when: [x], retry: {backoff: soon}, timeout: 0s}
  wait: {approval: {from: [x]}}
  note: note
finally:
  build: {uses: note, on: [faild, passed]}
  last: {uses: note, on: always}
"#
    ), @"");
}

#[test]
fn what_is_missing_is_told() {
    assert_snapshot!(check("{}"), @"");
    assert_snapshot!(check("[1, 2]"), @"");
    assert_snapshot!(check("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\nsteps: {}\n"), @"");
}

#[test]
fn triggers_are_checked_filter_by_filter() {
    assert_snapshot!(check(
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: a
on:
  git.push:
    - {repository: "*/shop", branches: ["[", main], path: [x]}
    - {tags: 'semver(">=x")', when: event.branch = "main"}
    - x
  registry.push: {repository: 3, when: steps.a.x == event.tagg}
  manual: {who: me}
  schedule: {cron: "0 3 * * 1"}
  gitpush: {}
params:
  v: {}
steps:
  a: {uses: note, with: {text: "{{ event.branch }}"}}
"#
    ), @"");
}

#[test]
fn an_event_is_known_by_its_triggers() {
    let with = |on: &str| {
        check(&format!(
            "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\non: {on}\nsteps:\n  a: {{uses: \
             scan, with: {{image: '{{{{ event.image }}}}', within: '{{{{ event.digest }}}}'}}}}\n"
        ))
    };
    assert_snapshot!(with("{registry.push: {}}"), @"");
    assert_snapshot!(with("{registry.push: {}, manual: {}}"), @"");
    assert_snapshot!(with("{git.push: {}}"), @"");
    assert_snapshot!(with("{}"), @"");
}

#[test]
fn inputs_are_checked_by_the_schema_of_the_kind() {
    assert_snapshot!(check_steps(
        r#"
        a: {uses: build, with: {imag: x, context: 3, platforms: linux/amd64, args: {A: 1, B: yes}}},
        b: {uses: scan, with: {image: "registry.example.com/shop:v1", fail_on: {severity: hihg, fix: true}, limit: "5", within: 5, offline: no}},
        c: {uses: scan, with: {image: shop, limit: 500, fail_on: critical, baseline: x}},
        d: {uses: sign, with: {image: registry.example.com/shop, key: {type: keyles}}},
        e: {uses: sign, with: {key: {type: keyless, pem: x}}},
        f: {uses: sign, with: {key: 3}},
        g: {uses: note},
        h: {uses: scna},
        i: {uses: build}
"#
    ), @"");
}

#[test]
fn a_kind_checks_what_types_cannot_say() {
    assert_snapshot!(check_steps(
        "a: {uses: note, with: {text: hey!, lines: [one, 'two!',\n 'three!']}}"
    ), @"");
    // With something left to fill, the kind itself is asked when the step runs.
    assert_snapshot!(check_steps("a: {uses: note, with: {text: hey!, lines: ['{{ run.id }}']}}"), @"");
}

#[test]
fn references_lead_somewhere_or_are_errors() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop}},
        my-scan: {uses: scan, with: {image: "{{ steps.build.image }}"}},
        a: {uses: note, with: {text: "{{ steps.biuld.image }}", lines: ["x {{ steps.build.imag }} {{ steps.build.image.tag }}"]}},
        b: {uses: note, with: {text: "{{ steps.my-scan.report }}", data: "{{ steps['my-scan'].report }}"}},
        c: {uses: note, with: {text: "{{ param.version }}", lines: ["{{ params.verson }}", "{{ params.version.x }}", "{{ event.tga }}"]}},
        d: {uses: note, with: {text: "{{ run.summary }}{{ run.it }}", lines: ["{{ version }}", "{{ steps[params.version].x }}", "{{ steps }}", "{{ steps.build[params.version] }}"]}},
        e: {uses: note, with: {text: "{{ steps.e.x }}", lines: ["{{ steps.last.x }}"]}},
        f: {uses: note, needs: [biuld, g], when: steps.build.image},
        g: {uses: note, when: params.fast and steps.nope.x, with: {lines: ["{{ steps['my-scan'].findings }} {{ steps['my-scan'].worst }}"]}}
        ---
        last: {uses: note, with: {text: "{{ steps.build.image }} {{ steps.build.outcome }}"}},
        more: {uses: note, needs: [build]}
"#
    ), @"");
}

#[test]
fn expressions_are_checked_before_anything_runs() {
    assert_snapshot!(check_steps(
        r#"
        a: {uses: note, with: {text: "{{ params.version", lines: ["{{ }}", "{{ 1 + }}", "{{ params.version | uper }}"]}},
        b: {uses: note, when: "{{ params.fast }}", with: {lines: ["{{ range(3) }}", "{{ params.version.upper() }}", "{{ params.version is odd }}"]}},
        c: {uses: note, when: params.fast and, with: {data: {"{{ params.version }}": 1}}},
        d: {uses: note, when: 1 > 2},
        e: {uses: note, needs: [d]},
        f: {uses: note, needs: {d: [passed, skipped]}},
        g: {uses: note, when: no, with: {text: "{% if x %} {# stays #}"}},
        h: {uses: note, when: false}
"#
    ), @"");
}

#[test]
fn types_flow_from_outputs_to_inputs() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop}},
        scan: {uses: scan, with: {image: "{{ steps.build.image }}", baseline: "{{ steps.build.image }}"}},
        a: {uses: scan, with: {image: "{{ steps.scan.report }}", limit: "{{ steps.build.image }}", offline: "{{ params.count }}"}},
        b: {uses: scan, with: {image: "{{ steps.build.digest }}", baseline: "{{ steps.scan.report }}", limit: "{{ steps.scan.findings }}"}},
        c: {uses: build, with: {image: "{{ params.version }}", platforms: "{{ steps.build.platforms }}", args: "{{ steps.build }}"}},
        d: {uses: build, with: {image: "{{ event.repository }}", platforms: ["{{ steps.build.platforms }}"], args: {A: "{{ params.count }}", B: "n {{ params.count }}"}}},
        e: {uses: scan, with: {image: "registry.example.com/shop@{{ steps.build.digest }}", limit: "{{ params.count }}{{ params.count }}", offline: "{{ params.fast }}"}}
"#
    ), @"");
}

#[test]
fn a_secret_stands_alone_where_secrets_may_stand() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop, context: "{{ secrets.a }}", secrets: {ok: "{{ secrets.b }}", no: plain, mixed: "x{{ secrets.c }}", from: "{{ params.version }}"}}},
        sign: {uses: sign, when: secrets.x == "1", with: {image: "{{ steps.build.image }}", key: {type: private, pem: "{{ secrets.key | upper }}"}}},
        note: {uses: note, with: {text: "{{ secrets.a }}", token: "{{ secrets.b }}", data: {deep: ["{{ secrets.c }}"]}, lines: ["{{ secrets }}", "{{ secrets['d'] }}"]}}
"#
    ), @"");
}

#[test]
fn circles_are_shown_as_paths() {
    assert_snapshot!(check_steps(
        r#"
        a: {uses: note, needs: [c]},
        b: {uses: note, needs: [a]},
        c: {uses: note, needs: [b], with: {text: "{{ steps.d.outcome }}"}},
        d: {uses: note, needs: [d]},
        e: {uses: note, with: {data: "{{ steps.f }}"}},
        f: {uses: note, with: {data: "{{ steps.e }}"}},
        g: {uses: note, needs: [f]}
        ---
        x: {uses: note, needs: [y]},
        y: {uses: note, needs: [x]}
"#
    ), @"");
}

#[test]
fn outputs_that_may_be_absent_are_told() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop}},
        a: {uses: note, needs: {build: [passed, skipped]}, with: {text: "{{ steps.build.image }}", lines: ["{{ steps.build.image | default('none') }}"]}},
        b: {uses: note, needs: {build: [passed, rejected]}, with: {text: "{{ steps.build.image }}"}},
        c: {uses: note, needs: {build: failed}, with: {text: "{{ steps.build.image }}"}}
        ---
        last: {uses: note, on: [passed], with: {text: "{{ steps.build.image }}"}}
"#
    ), @"");
}
