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
    ), @"fine");
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
        "a: {b: .nan}",
        "name: \u{0}",
    ];
    let said: Vec<String> =
        cases.iter().map(|yaml| format!("{yaml:?}\n   {}", check(yaml))).collect();
    assert_snapshot!(said.join("\n"), @r#"
    ""
       1:1: error[FL0001]: the file is empty (begin with `apiVersion: fairlead.dev/v1`)
    "steps: ["
       1:8: error[FL0001]: this is not YAML: unclosed bracket '['
    "a: b: c"
       1:5: error[FL0001]: this is not YAML: mapping values are not allowed in this context
    "a:\n\t- b"
       2:2: error[FL0001]: this is not YAML: tabs disallowed within this context (block indentation)
    "a: 'b"
       1:4: error[FL0001]: this is not YAML: unclosed quote
    "a: &x 1\nb: *y"
       2:4: error[FL0001]: this is not YAML: alias references unknown anchor
    "- a\nb: c"
       2:1: error[FL0001]: this is not YAML: while parsing a block collection, did not find expected '-' indicator
    "a: 1\n---\nb: 2"
       3:1: error[FL0001]: the file has more than one YAML document (one file is one pipeline)
    "a: !!python/object x"
       1:20: error[FL0001]: this is not YAML: unsupported tag `!!python/object`
    "a: {b: .nan}"
       1:8: error[FL0001]: this is not YAML: non-finite float `.nan` rejected by the configured policy
    "name: \0"
       1:7: error[FL0001]: this is not YAML: unexpected character: `\u{0}'
    "#);
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
    assert_snapshot!(said.join("\n"), @r#"
    1:25: error[FL0003]: the file is beyond a limit: recursion limit exceeded
    25:25: error[FL0003]: the file has more than 24 levels or 100000 parts
    5:38: error[FL0003]: the file is beyond a limit: alias replay limit exceeded: total_replayed_events=100001 > 100000
    1:1: error[FL0003]: the file has more than 1048576 bytes
    "#);
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
    ), @r#"
    2:13: error[FL0104]: `apiVersion` cannot be `fairlead.dev/v2` (did you mean `fairlead.dev/v1`?)
    3:7: error[FL0104]: `kind` cannot be `Pipelin` (did you mean `Pipeline`?)
    4:7: error[FL0106]: `My Release` is not a name: it must begin with a lower-case letter
    5:1: error[FL0101]: a pipeline has no key `nam` (did you mean `name`?)
    6:14: error[FL0103]: `description` wants a text, and this is a list
    7:10: error[FL0107]: `timeout` wants a duration, and `90` has no unit (write `90s` for seconds)
    8:1: error[FL0002]: the key `timeout` stands twice (remove one of the two)
    11:3: error[FL0106]: `2x` is not a parameter's name (use letters, digits and `_`, and begin with a letter)
    12:7: error[FL0101]: parameter `a` has no key `typ` (did you mean `type`?)
    12:26: error[FL0104]: `type` cannot be `text` (it can be `string`, `integer`, `number`, `boolean`, `image`)
    13:16: error[FL0108]: `(` is not a regular expression (unclosed group)
    13:30: error[FL0110]: parameter `b`: its default `1` is not a string
    14:3: error[FL0104]: parameter `c`: only a string can have a pattern
    14:31: error[FL0110]: parameter `c`: its default is a text, not the integer itself (write it without quotes)
    15:30: error[FL0110]: parameter `d`: its default `c` is not one of `a`, `b`
    16:28: error[FL0103]: `enum` wants a list with at least one value
    17:6: error[FL0103]: parameter `f` wants a mapping, and this is a text
    19:3: error[FL0106]: `Build` is not a name: it must begin with a lower-case letter
    20:17: error[FL0201]: there is no step kind `bulid` (did you mean `build`?)
    20:24: error[FL0101]: step `build` has no key `retries` (did you mean `retry`?)
    20:60: error[FL0107]: `5 minutes` is not a duration: the units are d, h, m, s and ms
    20:71: error[FL0112]: step `build` stands under `steps`, where no `on` may stand (it says after which end of the run a step under `on_failure` or `finally` runs; a main step has `when`, and `needs` with outcomes)
    21:3: error[FL0102]: step `scan` has no `uses` (name a step kind; `fairlead steps list` has them all. A gate has `approval` or `wait` instead)
    21:16: error[FL0103]: `with` wants a mapping, and this is a list
    21:37: error[FL0104]: `needs` cannot be `pased` (did you mean `passed`?)
    21:51: error[FL0104]: `needs`: the list of outcomes is empty (the outcomes are `passed`, `rejected`, `skipped`, `failed`, `cancelled`)
    21:69: error[FL0104]: `max` wants a whole number from 0 to 20
    21:82: error[FL0107]: `1m..2s` begins with the longer wait (write `2s..1m`)
    21:94: error[FL0104]: `on` cannot be `always` (it can be `infra`, `timeout`, `any`)
    22:16: error[FL0103]: `uses` wants a text, and this is a number
    22:26: error[FL0103]: `needs` wants a list of steps, and this is a text (write `[scan]`)
    22:38: error[FL0103]: `when` wants an expression, and this is a list
    22:50: error[FL0102]: `retry` has no `max` (say how many times, as in `max: 2`)
    22:60: error[FL0107]: `soon` is not a duration: write whole numbers with units, as in `30s`, `5m` or `1h30m` (write the first and the longest wait, as in `2s..1m`)
    22:76: error[FL0107]: `timeout` cannot be zero
    24:9: error[FL0103]: step `note` wants a mapping, and this is a text
    26:3: error[FL0106]: step `build` stands under `steps` already
    26:28: error[FL0104]: `on` cannot be `faild` (did you mean `failed`?)
    "#);
}

#[test]
fn what_is_missing_is_told() {
    assert_snapshot!(check("{}"), @r#"
    1:1: error[FL0102]: the pipeline has no `apiVersion` (add `apiVersion: fairlead.dev/v1`)
    1:1: error[FL0102]: the pipeline has no `kind` (add `kind: Pipeline`)
    1:1: error[FL0102]: the pipeline has no `name` (add `name: …`)
    1:1: error[FL0102]: the pipeline has no `steps` (add `steps:` with at least one step)
    "#);
    assert_snapshot!(check("[1, 2]"), @"1:1: error[FL0103]: a pipeline wants a mapping, and this is a list");
    assert_snapshot!(check("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\nsteps: {}\n"), @"4:8: error[FL0104]: `steps` has no steps");
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
    ), @r#"
    7:41: error[FL0109]: `branches` of `git.push`: `[` is not a pattern: unclosed character class; missing ']'
    7:53: error[FL0101]: `git.push` has no key `path` (did you mean `paths`?)
    8:14: error[FL0109]: `tags` of `git.push`: `semver(">=x")` is not a pattern: unexpected character 'x' while parsing major version number
    8:50: error[FL0301]: `event.branch = "main"`: unexpected input after expression
    9:7: error[FL0103]: `git.push` wants a mapping, and this is a text
    10:31: error[FL0109]: `repository` of `registry.push`: invalid type: integer `3`, expected a pattern or a list of patterns
    10:40: error[FL0302]: there is no `steps` before a run starts (a trigger's condition sees `event` and `params`)
    10:53: error[FL0305]: the event has no `tagg` (did you mean `tag`?)
    11:12: error[FL0101]: `manual` has no key `who` (it has `inputs`)
    13:3: error[FL0101]: there is no trigger `gitpush` (did you mean `git.push`?)
    15:3: warning[FL0111]: parameter `v` has no default, so `registry.push`, `git.push`, `schedule` can never start this pipeline (give it a default, or a value under `params` of the trigger)
    "#);
}

#[test]
fn an_event_is_known_by_its_triggers() {
    let with = |on: &str| {
        check(&format!(
            "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\non: {on}\nsteps:\n  a: {{uses: \
             scan, with: {{image: '{{{{ event.image }}}}', within: '{{{{ event.digest }}}}'}}}}\n"
        ))
    };
    assert_snapshot!(with("{registry.push: {}}"), @"6:62: error[FL0306]: input `within` wants a duration, and `event.digest` is a digest");
    assert_snapshot!(with("{registry.push: {}, manual: {}}"), @r#"
    6:37: warning[FL0404]: `event.image` is absent when `manual` starts the run (write `event.image | default(…)`)
    6:66: warning[FL0404]: `event.digest` is absent when `manual` starts the run (write `event.digest | default(…)`)
    "#);
    assert_snapshot!(with("{git.push: {}}"), @r#"
    6:37: error[FL0305]: the event has no `image` (there are `kind`, `repository`, `clone_url`, `ssh_url`, `ref`, `branch`, `tag`, `before`, `after`, `commit`, `created`, `forced`, …)
    6:66: error[FL0305]: the event has no `digest` (there are `kind`, `repository`, `clone_url`, `ssh_url`, `ref`, `branch`, `tag`, `before`, `after`, `commit`, `created`, `forced`, …)
    "#);
    assert_snapshot!(with("{}"), @r#"
    6:37: error[FL0305]: no event starts this pipeline, so `event` has nothing in it (add a trigger under `on`)
    6:66: error[FL0305]: no event starts this pipeline, so `event` has nothing in it (add a trigger under `on`)
    "#);
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
    ), @r#"
    3:19: error[FL0203]: `build` wants an input `image`: a repository
    3:33: error[FL0202]: `build` has no input `imag` (did you mean `image`?)
    3:51: error[FL0204]: input `context` wants a text, and this is a number (put it in quotes)
    3:65: error[FL0204]: input `platforms` wants a list, and this is a text (write `[linux/amd64]`)
    3:88: error[FL0204]: input `args.A` wants a text, and this is a number (put it in quotes)
    4:39: error[FL0204]: input `image`: `registry.example.com/shop:v1` is not an image: it has no digest; write `registry/repository@sha256:…`, or let a parameter of type `image` or a `resolve` step find it
    4:91: error[FL0204]: input `fail_on.severity` cannot be `hihg` (it can be `low`, `critical`)
    4:97: error[FL0202]: input `fail_on` has no `fix` (it has `fixable`, `severity`)
    4:116: error[FL0204]: input `limit` wants a whole number, and this is a text (write it without quotes)
    4:129: error[FL0204]: input `within` wants a duration, and this is a number (put it in quotes)
    4:141: error[FL0204]: input `offline` wants a boolean, and this is a text
    5:39: error[FL0204]: input `image`: `shop` is not an image reference: write `registry.example.com/path/name`, with `:tag` or `@sha256:…` behind it
    5:52: error[FL0204]: input `limit` must be at most 255, and this is 500
    5:66: error[FL0204]: input `fail_on` wants a mapping, and this is a text
    5:86: error[FL0204]: input `baseline` wants an artifact, and this is a text
    6:39: error[FL0204]: input `image`: `registry.example.com/shop` is not an image: it has no digest; write `registry/repository@sha256:…`, or let a parameter of type `image` or a `resolve` step find it
    6:78: error[FL0204]: input `key.type` cannot be `keyles` (did you mean `keyless`?)
    7:19: error[FL0203]: `sign` wants an input `image`: an image with its digest
    7:38: error[FL0203]: input `key` wants `issuer`: a text
    7:53: error[FL0202]: input `key` has no `pem` (it has `issuer`, `type`)
    8:19: error[FL0203]: `sign` wants an input `image`: an image with its digest
    8:37: error[FL0204]: input `key` wants a mapping, and this is a number
    10:19: error[FL0201]: there is no step kind `scna` (did you mean `scan`?)
    11:19: error[FL0203]: `build` wants an input `image`: a repository
    "#);
}

#[test]
fn a_kind_checks_what_types_cannot_say() {
    assert_snapshot!(check_steps(
        "a: {uses: note, with: {text: hey!, lines: [one, 'two!',\n 'three!']}}"
    ), @r#"
    2:30: error[FL0205]: input `text`: it shouts (speak lower)
    2:49: error[FL0205]: input `lines.1`: it shouts (speak lower)
    3:2: error[FL0205]: input `lines.2`: it shouts (speak lower)
    "#);
    // With something left to fill, the kind itself is asked when the step runs.
    assert_snapshot!(check_steps("a: {uses: note, with: {text: hey!, lines: ['{{ run.id }}']}}"), @"fine");
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
    ), @r#"
    5:42: error[FL0303]: there is no step `biuld` (did you mean `build`?)
    5:79: error[FL0304]: step `build` has no output `imag` (did you mean `image`?)
    5:102: error[FL0304]: this output of step `build` has no `tag` (it has no outputs)
    6:42: error[FL0303]: there is no step `my` (a name with `-` is written `steps['my-scan']`)
    6:51: error[FL0302]: there is no `scan` (a name with `-` is written `steps['my-scan']`)
    7:42: error[FL0302]: there is no `param` (did you mean `params`?)
    7:73: error[FL0305]: there is no parameter `verson` (did you mean `version`?)
    7:96: error[FL0305]: parameter `version` is a text, with nothing in it
    7:122: error[FL0305]: the event has no `tga` (did you mean `tag`?)
    8:42: error[FL0305]: `run.summary` is known only when every main step has ended (read it in a step under `on_failure` or `finally`)
    8:59: error[FL0305]: `run` has no `it` (did you mean `id`?)
    8:83: error[FL0302]: there is no `version` (expressions see `params`, `event`, `vars`, `steps`, `run`, `secrets`; a text stands in quotes)
    8:100: error[FL0305]: what this reads of `steps` cannot be known beforehand (write `steps.<name>`, so that it can be checked)
    8:133: error[FL0305]: what this reads of `steps` cannot be known beforehand (write `steps.<name>`, so that it can be checked)
    8:148: error[FL0304]: which output this reads cannot be known beforehand (write `steps.build.<output>`)
    9:42: error[FL0401]: step `e` reads itself
    9:69: error[FL0402]: `last` runs after every step under `steps`, so none can read it (move `last` from `finally` to `steps`)
    10:33: error[FL0303]: step `f` needs `biuld`, which is not there (did you mean `build`?)
    10:50: error[FL0306]: a condition must be true or false, and `steps.build.image` is an image with its digest (compare it with something: `… == "…"`)
    11:47: error[FL0303]: there is no step `nope` (there are `a`, `b`, `build`, `c`, `d`, `e`, `f`, `g`, `last`, `more`, `my-scan`)
    13:45: warning[FL0404]: `build` may have no `image`: it may have ended skipped or failed or cancelled (add `| default(…)`)
    14:36: error[FL0402]: `more` runs after every step under `steps`, and cannot need `build` (to look at how it ended: `when: steps.build.outcome == "passed"`)
    "#);
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
    ), @r#"
    3:39: error[FL0301]: a `{{` has no `}}` (to write two braces as they are: `{{ "{{" }}`)
    3:70: error[FL0301]: ``: the expression is empty
    3:82: error[FL0301]: `1 +`: unexpected end of input, expected expression
    3:110: error[FL0308]: there is no filter `uper` (did you mean `upper`?)
    4:31: error[FL0301]: a condition is an expression already, and takes no braces (write `params.fast`)
    4:71: error[FL0308]: there is no function `range`; expressions have none (use a filter: `… | lower`)
    4:103: error[FL0308]: there is no function `upper`; expressions have none (write it as a filter: `… | upper`)
    4:139: error[FL0308]: there is no test `odd` (there are boolean, defined, endingwith, in, integer, mapping, none, number, sequence, startingwith, string, undefined)
    5:43: error[FL0301]: `params.fast and`: unexpected end of input, expected expression
    5:62: error[FL0301]: an expression cannot stand in a key
    6:31: warning[FL0403]: step `d` never runs: its condition is always false
    7:33: warning[FL0403]: step `e` never runs: `d` never does
    9:31: error[FL0302]: there is no `no` (expressions see `params`, `event`, `vars`, `steps`, `run`, `secrets`; a text stands in quotes)
    10:31: warning[FL0403]: step `h` never runs: its condition is always false
    "#);
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
    ), @r#"
    4:79: error[FL0306]: input `baseline` wants an artifact, and `steps.build.image` is an image with its digest
    5:39: error[FL0306]: input `image` wants an image with its digest, and `steps.scan.report` is an artifact
    5:73: error[FL0306]: input `limit` wants a whole number, and `steps.build.image` is an image with its digest
    5:109: error[FL0306]: input `offline` wants a boolean, and `params.count` is a whole number
    6:39: error[FL0306]: input `image` wants an image with its digest, and `steps.build.digest` is a digest
    8:78: error[FL0306]: input `platforms.0` wants a text, and `steps.build.platforms` is a list
    8:120: error[FL0306]: input `args.A` wants a text, and `params.count` is a whole number (add `| string`)
    9:100: error[FL0306]: input `limit` wants a whole number, and this is a text (one expression with nothing beside it keeps its type)
    "#);
}

#[test]
fn a_secret_stands_alone_where_secrets_may_stand() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop, context: "{{ secrets.a }}", secrets: {ok: "{{ secrets.b }}", no: plain, mixed: "x{{ secrets.c }}", from: "{{ params.version }}"}}},
        sign: {uses: sign, when: secrets.x == "1", with: {image: "{{ steps.build.image }}", key: {type: private, pem: "{{ secrets.key | upper }}"}}},
        note: {uses: note, with: {text: "{{ secrets.a }}", token: "{{ secrets.b }}", data: {deep: ["{{ secrets.c }}"]}, lines: ["{{ secrets }}", "{{ secrets['d'] }}"]}}
"#
    ), @r#"
    3:80: error[FL0307]: input `context` takes no secret (a value given here may be shown and stored; use an input that is made for secrets)
    3:136: error[FL0307]: input `secrets.no` is a secret, and a secret is never written into the file (write `{{ secrets.NAME }}`)
    3:150: error[FL0307]: input `secrets.mixed` takes nothing but a secret (write `{{ secrets.NAME }}` and nothing beside it)
    3:155: error[FL0307]: a secret stands alone: it cannot be part of a text or of an expression (write `{{ secrets.NAME }}` and nothing beside it)
    3:176: error[FL0307]: input `secrets.from` takes nothing but a secret (write `{{ secrets.NAME }}` and nothing beside it)
    4:34: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
    4:119: error[FL0307]: input `key.pem` takes nothing but a secret (write `{{ secrets.NAME }}` and nothing beside it)
    4:123: error[FL0307]: a secret stands alone: it cannot be part of a text or of an expression (write `{{ secrets.NAME }}` and nothing beside it)
    5:41: error[FL0307]: input `text` takes no secret (a value given here may be shown and stored; use an input that is made for secrets)
    5:67: error[FL0307]: step kind `note` may not receive secrets
    5:100: error[FL0307]: input `data.deep.0` takes no secret (a value given here may be shown and stored; use an input that is made for secrets)
    5:133: error[FL0307]: a secret stands alone: it cannot be part of a text or of an expression (write `{{ secrets.NAME }}` and nothing beside it)
    5:146: error[FL0307]: input `lines.1` takes no secret (a value given here may be shown and stored; use an input that is made for secrets)
    "#);
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
    ), @r#"
    3:33: error[FL0401]: these steps wait for each other: `a → c → b → a`
    6:33: error[FL0401]: step `d` needs itself
    7:42: error[FL0401]: these steps wait for each other: `e → f → e`
    11:33: error[FL0401]: these steps wait for each other: `x → y → x`
    "#);
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
    ), @r#"
    4:77: warning[FL0404]: `build` may have no `image`: it may have ended skipped (add `| default(…)`)
    6:66: warning[FL0404]: `build` may have no `image`: it may have ended failed (add `| default(…)`)
    "#);
}
