//! What a good file compiles to, and what its plan does.

use std::collections::BTreeMap;

use fairlead_event::{ImagePushed, SourceEvent};
use fairlead_step::{Catalog, Secret};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{fakes, pipeline};
use crate::draw::{self, StepStatus};
use crate::{Answer, Outcome, Plan, PlanStep, Scope, Source, compile};

fn plan(yaml: &str) -> Plan {
    match compile(&Source::new("pipeline.yaml", yaml), &fakes::catalog()) {
        Ok(compiled) => compiled.plan,
        Err(findings) => panic!("{findings}"),
    }
}

fn steps(text: &str) -> Plan {
    plan(&pipeline(text))
}

const RELEASE: &str = r#"
    sign: {uses: sign, needs: [scan], with: {image: "{{ steps.build.image }}", key: {type: private, pem: "{{ secrets.cosign }}"}}},
    build: {uses: build, with: {image: registry.example.com/shop, secrets: {npm: "{{ secrets.npm }}"}}, retry: {max: 2, backoff: 1s..8s, on: any}, timeout: 5m},
    scan: {uses: scan, with: {image: "{{ steps.build.image }}"}},
    lint: {uses: note},
    tell: {uses: note, needs: {sign: [passed, skipped], lint: passed}, when: steps.scan.outcome == "passed", with: {text: "{{ params.version }}"}}
    ---
    report: {uses: note, on: [failed, rejected], with: {text: "{{ run.summary }}"}},
    clean: {uses: note, needs: [report]}
"#;

fn shown(step: &PlanStep) -> String {
    let needs: Vec<String> = step
        .needs
        .iter()
        .map(|need| format!("{} {:?} {:?}", need.step, need.from, need.outcomes))
        .collect();
    format!(
        "{} {} {} {:?} {:?} {needs:?}",
        step.id, step.kind, step.kind_version, step.phase, step.effect
    )
}

#[test]
fn steps_stand_behind_what_they_need_and_otherwise_as_in_the_file() {
    let plan = steps(RELEASE);
    let lines: Vec<String> = plan.steps().iter().map(shown).collect();
    assert_snapshot!(lines.join("\n"), @r#"
    build build 1.0 Main Idempotent []
    scan scan 1.0 Main Pure ["build Reference {Passed}"]
    sign sign 1.0 Main CheckThenAct ["build Reference {Passed}", "scan Explicit {Passed}"]
    lint note 1.0 Main Once []
    tell note 1.0 Main Once ["sign Explicit {Passed, Skipped}", "scan Reference {Passed, Rejected, Skipped, Failed, Cancelled}", "lint Explicit {Passed}"]
    report note 1.0 Finally Once []
    clean note 1.0 Finally Once ["report Explicit {Passed}"]
    "#);
    assert_eq!(plan.secrets().into_iter().collect::<Vec<_>>(), ["cosign", "npm"]);
}

#[test]
fn a_plan_is_stored_and_comes_back_the_same() {
    let first = steps(RELEASE);
    let json = serde_json::to_string(&first).unwrap();
    let back: Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(back, first);
    assert_eq!(back.digest(), first.digest());
    assert_ne!(steps(&RELEASE.replace("5m", "6m")).digest(), first.digest());
    // The name of the first version stands in every journal, and never changes.
    assert!(json.starts_with(r#"{"format":"fairlead.dev/plan/v1","name":"test""#), "{json}");
}

#[test]
fn a_damaged_plan_is_refused() {
    let stored = serde_json::to_value(steps(RELEASE)).unwrap();
    let said = |change: &dyn Fn(&mut Value)| {
        let mut stored = stored.clone();
        change(&mut stored);
        serde_json::from_value::<Plan>(stored).unwrap_err().to_string()
    };
    let swapped = said(&|stored| stored["steps"].as_array_mut().unwrap().reverse());
    let twice = said(&|stored| stored["steps"][1]["id"] = "build".into());
    let other = said(&|stored| stored["format"] = "fairlead.dev/plan/v9".into());
    assert_snapshot!([swapped, twice, other].join("\n"), @r#"
    the stored plan is damaged: step `clean` stands before `report`, which it needs
    the stored plan is damaged: step `build` stands twice
    unknown variant `fairlead.dev/plan/v9`, expected one of `fairlead.dev/plan/v1`, `fairlead.dev/plan/v2`, `fairlead.dev/plan/v3`, `fairlead.dev/plan/v4`
    "#);
}

#[test]
fn an_attempt_meets_the_kind_that_its_plan_knew_or_it_is_said_which_changed() {
    let check = |plan: &Plan, catalog: &Catalog| -> Vec<String> {
        let steps = plan.steps().iter().filter_map(|step| step.kind_in(catalog).err());
        steps.map(|mismatch| mismatch.to_string()).collect()
    };
    let plan = steps(RELEASE);
    assert_eq!(check(&plan, &fakes::catalog()), [] as [&str; 0]);
    let mut less = Catalog::new();
    less.add(fakes::Scan).unwrap();
    less.add(fakes::Build).unwrap();
    less.add(fakes::Sign).unwrap();
    let gone = check(&plan, &less);
    let mut stored = serde_json::to_value(&plan).unwrap();
    stored["steps"][0]["kind_version"] = "0.9".into();
    let older: Plan = serde_json::from_value(stored).unwrap();
    let changed = check(&older, &fakes::catalog());
    assert_snapshot!([gone, changed].concat().join("\n"), @r#"
    step `lint` was planned with `note` version 1.0, and this build has no such kind
    step `tell` was planned with `note` version 1.0, and this build has no such kind
    step `report` was planned with `note` version 1.0, and this build has no such kind
    step `clean` was planned with `note` version 1.0, and this build has no such kind
    step `build` was planned with `build` version 0.9, and this build has version 1.0
    "#);
}

fn scope() -> Scope {
    Scope {
        params: json!({"version": "v1.2.3", "count": 3, "fast": true}),
        event: json!({"tag": "1.0", "actor": null, "paths": ["a", "b"]}),
        vars: json!({}),
        steps: BTreeMap::from([
            (
                "build".parse().unwrap(),
                json!({"image": "r.example.com/shop@sha256:1", "n": 18446744073709551615_u64, "ratio": 1.5, "list": [1, null, {"a": true}]}),
            ),
            ("my-scan".parse().unwrap(), json!({"outcome": "own"})),
        ]),
        outcomes: BTreeMap::from([
            ("build".parse().unwrap(), Outcome::Passed),
            ("lint".parse().unwrap(), Outcome::Skipped),
            ("my-scan".parse().unwrap(), Outcome::Rejected),
        ]),
        run: json!({"id": "r1"}),
    }
}

/// Renders one leaf, past the checks: what a step would meet whose file was not checked.
fn render(leaf: &str) -> String {
    match crate::template::render("with", &json!({ "x": leaf }), (&scope()).into()) {
        Ok(input) => input.display()["x"].to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn a_whole_expression_keeps_its_type_and_a_part_becomes_text() {
    let leaves = [
        "plain",
        "{{ params.version }}",
        "{{ params.count }}",
        "{{ params.fast and not false }}",
        "{{ steps.build.n }}",
        "{{ steps.build.ratio }}",
        "{{ steps.build.list }}",
        "{{ steps.build }}",
        "{{ {'a': [1, params.count]} }}",
        "{{ event.actor }}",
        "v{{ params.count }}-{{ params.fast }}-{{ event.tag }}",
        "{{ '}}' ~ \"{{\" }}",
        "{{ steps.lint.outcome }} {{ steps['my-scan'].outcome }}",
        "{{ steps.lint.report | default('none') }}",
        "{{ event.paths | join(',') }}",
        "{{ params }}",
        "a {{ event.actor }}",
        "a {{ steps.build.list }}",
        "{{ steps.build.nope }}",
        "{{ steps.lint.report }}",
        "{{ steps.later.report }}",
        "{{ params.nope }}",
        "{{ event.nope.more }}",
        "{{ run.summary }}",
        "{{ 1 / 0 }}",
        "{{ 9223372036854775807 + 9223372036854775807 }}",
        "{{ 99999999999999999999999 }}",
        "{{ unclosed",
        "{{ secrets.a ~ 'x' }}",
    ];
    let said: Vec<String> =
        leaves.iter().map(|leaf| format!("{leaf}  =>  {}", render(leaf))).collect();
    assert_snapshot!(said.join("\n"), @r#"
    plain  =>  "plain"
    {{ params.version }}  =>  "v1.2.3"
    {{ params.count }}  =>  3
    {{ params.fast and not false }}  =>  true
    {{ steps.build.n }}  =>  18446744073709551615
    {{ steps.build.ratio }}  =>  1.5
    {{ steps.build.list }}  =>  [1,null,{"a":true}]
    {{ steps.build }}  =>  {"image":"r.example.com/shop@sha256:1","list":[1,null,{"a":true}],"n":18446744073709551615,"outcome":"passed","ratio":1.5}
    {{ {'a': [1, params.count]} }}  =>  {"a":[1,3]}
    {{ event.actor }}  =>  null
    v{{ params.count }}-{{ params.fast }}-{{ event.tag }}  =>  "v3-true-1.0"
    {{ '}}' ~ "{{" }}  =>  "}}{{"
    {{ steps.lint.outcome }} {{ steps['my-scan'].outcome }}  =>  "skipped own"
    {{ steps.lint.report | default('none') }}  =>  "none"
    {{ event.paths | join(',') }}  =>  "a,b"
    {{ params }}  =>  {"count":3,"fast":true,"version":"v1.2.3"}
    a {{ event.actor }}  =>  error: with.x: `event.actor` is null, and a text cannot hold that
    a {{ steps.build.list }}  =>  error: with.x: `steps.build.list` is a list or a mapping within a text; add `| join(",")` or `| tojson`
    {{ steps.build.nope }}  =>  error: with.x: `steps.build.nope`: step `build` ended passed and gave no `nope`
    {{ steps.lint.report }}  =>  error: with.x: `steps.lint.report`: step `lint` ended skipped and gave no `report`
    {{ steps.later.report }}  =>  error: with.x: `steps.later.report`: step `later` has not ended, so it has no `report`
    {{ params.nope }}  =>  error: with.x: `params.nope`: there is no parameter `nope`
    {{ event.nope.more }}  =>  error: with.x: `event.nope.more`: this run's event has no `nope`
    {{ run.summary }}  =>  error: with.x: `run.summary`: `run` has no `summary` yet
    {{ 1 / 0 }}  =>  error: with.x: `1 / 0`: unable to calculate 1 / 0
    {{ 9223372036854775807 + 9223372036854775807 }}  =>  18446744073709551614
    {{ 99999999999999999999999 }}  =>  error: with.x: `99999999999999999999999`: its value is a number beyond 64 bits
    {{ unclosed  =>  error: with.x: a `{{` has no `}}`
    {{ secrets.a ~ 'x' }}  =>  error: with.x: `secrets.a ~ 'x'`: it reads what is not there
    "#);
}

#[test]
fn a_value_cannot_make_structure_or_another_expression() {
    let hostile = "x\", \"admin\": true, \"{{ secrets.root }} {{ 1 + 1 }}";
    let scope = Scope { params: json!({ "v": hostile }), ..Scope::default() };
    let with = json!({"a": "{{ params.v }}", "b": ["- {{ params.v }}"], "{{ params.v }}": 1});
    let input = crate::template::render("with", &with, (&scope).into()).unwrap();
    assert_eq!(
        *input.display(),
        json!({"a": hostile, "b": [format!("- {hostile}")], "{{ params.v }}": 1})
    );
    assert!(input.secrets().is_empty());
    assert_eq!(input.fill(|_| None).unwrap(), *input.display());
}

#[test]
fn secrets_are_filled_by_place_and_never_by_text() {
    let with = json!({"k/~": {"pem": "{{secrets.cosign}}"}, "note": "{{ params.v }}", "list": ["{{ secrets['npm'] }}"]});
    let scope = Scope { params: json!({"v": "{{ secrets.cosign }}"}), ..Scope::default() };
    let input = crate::template::render("with", &with, (&scope).into()).unwrap();
    assert_eq!(input.secrets().into_iter().collect::<Vec<_>>(), ["cosign", "npm"]);
    assert_eq!(
        serde_json::to_value(&input).unwrap(),
        json!({"k/~": {"pem": "{{ secrets.cosign }}"}, "note": "{{ secrets.cosign }}", "list": ["{{ secrets.npm }}"]})
    );
    let filled = input.fill(|name| Some(Secret::new(format!("<{name}>")))).unwrap();
    assert_eq!(
        filled,
        json!({"k/~": {"pem": "<cosign>"}, "note": "{{ secrets.cosign }}", "list": ["<npm>"]})
    );
    assert_eq!(
        input.fill(|name| (name == "npm").then(|| Secret::new(String::new()))),
        Err(vec!["cosign".into()])
    );
}

#[test]
fn conditions_are_decided() {
    let decide = |when: &str| crate::template::condition("when", when, (&scope()).into());
    assert_eq!(decide("params.fast"), Ok(true));
    assert_eq!(decide("steps.build.outcome == 'passed' and params.count > 3"), Ok(false));
    assert_eq!(decide("steps.lint.report is defined"), Ok(false));
    let said: Vec<String> = ["params.count", "steps.lint.report == 1", "params.fast and"]
        .iter()
        .map(|when| decide(when).unwrap_err().to_string())
        .collect();
    assert_snapshot!(said.join("\n"), @r#"
    when: a condition must give true or false, and this one gives `3`
    when: `steps.lint.report == 1`: step `lint` ended skipped and gave no `report`
    when: unexpected end of input, expected expression
    "#);
}

#[test]
fn parameters_are_bound_by_their_types() {
    let plan = plan(
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: a
params:
  version: {pattern: '^v\d+$', description: The release to cut}
  count: {type: integer, default: 3, enum: [1, 2, 3]}
  ratio: {type: number, default: 1}
  fast: {type: boolean, default: false}
steps:
  a: {uses: note}
"#,
    );
    let bind = |given: &[(&str, Value)]| {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        match plan.bind(&given.collect()) {
            Ok(bound) => bound.to_string(),
            Err(problems) => {
                let said =
                    problems.iter().map(|p| format!("{p} ({})", p.hint.as_deref().unwrap_or("-")));
                said.collect::<Vec<_>>().join("\n")
            }
        }
    };
    let said = [
        bind(&[("version", json!("v1"))]),
        bind(&[
            ("version", json!("v1")),
            ("count", json!("2")),
            ("ratio", json!("0.5")),
            ("fast", json!("true")),
        ]),
        bind(&[
            ("count", json!("9")),
            ("ratio", json!("NaN")),
            ("fast", json!("yes")),
            ("verison", json!("v1")),
        ]),
        bind(&[("version", json!("1")), ("count", json!("1.5"))]),
        bind(&[("version", json!(1))]),
    ];
    assert_snapshot!(said.join("\n--\n"), @r#"
    {"count":3,"fast":false,"ratio":1,"version":"v1"}
    --
    {"count":2,"fast":true,"ratio":0.5,"version":"v1"}
    --
    parameter `verison`: the pipeline has no such parameter (did you mean `version`?)
    parameter `version`: it has no default and was not given (give it with `--set version=…`)
    parameter `count`: `9` is not one of `1`, `2`, `3` (-)
    parameter `ratio`: `NaN` is not a number (-)
    parameter `fast`: `yes` is not a boolean (-)
    --
    parameter `version`: `1` does not match `^v\d+$` (The release to cut)
    parameter `count`: `1.5` is not an integer (-)
    --
    parameter `version`: `1` is not a string (The release to cut)
    "#);
}

#[test]
fn an_event_pulls_the_trigger_whose_condition_holds() {
    let plan = plan(
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: a
on: {registry.push: [{repository: apps/*, when: event.tag != params.last}, {repository: base/*}]}
params: {last: {default: v1}}
steps: {a: {uses: note}}
"#,
    );
    let pulled = |repository: &str, tag: &str| {
        let event = SourceEvent::ImagePushed(ImagePushed {
            repository: repository.parse().unwrap(),
            tag: Some(tag.into()),
            digest: None,
            media_type: None,
            actor: None,
            at: None,
        });
        matches!(plan.answer(&event), Answer::Starts(_))
    };
    assert!(pulled("r.example.com/apps/shop", "v2"));
    assert!(!pulled("r.example.com/apps/shop", "v1"));
    assert!(pulled("r.example.com/base/debian", "v1"));
    assert!(!pulled("r.example.com/other/x", "v2"));
}

#[test]
fn a_plan_is_drawn_in_three_ways() {
    let plan = steps(RELEASE);
    let none = BTreeMap::new();
    let statuses = BTreeMap::from([
        ("build".parse().unwrap(), StepStatus::Ended(Outcome::Passed)),
        ("scan".parse().unwrap(), StepStatus::Running),
        ("sign".parse().unwrap(), StepStatus::Waiting),
    ]);
    assert_snapshot!(draw::terminal(&plan, &none), @r#"
    ● build
    ├─● scan  ← build
    ●─┤ sign  ← build, scan
    │ │ ● lint (note)
    ●─┴─╯ tell (note)  ← sign [passed or skipped], scan [ended], lint  when steps.scan.outcome == "passed"
    ── finally
    ● report (note)  on rejected, failed
    ● clean (note)  ← report
    "#);
    assert_snapshot!(draw::terminal(&plan, &statuses), @r#"
    ✔ build  passed
    ├─◐ scan  running  ← build
    ○─┤ sign  waiting  ← build, scan
    │ │ ● lint (note)
    ●─┴─╯ tell (note)  ← sign [passed or skipped], scan [ended], lint  when steps.scan.outcome == "passed"
    ── finally
    ● report (note)  on rejected, failed
    ● clean (note)  ← report
    "#);
    assert_snapshot!(draw::dot(&plan, &statuses), @r#"
    digraph "test" {
      rankdir=LR;
      node [shape=box, style="rounded,filled", fillcolor=white];
      "build" [label="build\npassed", fillcolor=palegreen];
      "scan" [label="scan\nrunning", fillcolor=lightblue];
      "sign" [label="sign\nwaiting", fillcolor=white];
      "lint" [label="lint (note)"];
      "tell" [label="tell (note)"];
      "report" [label="report (note)", shape=note, style=filled];
      "clean" [label="clean (note)", shape=note, style=filled];
      "build" -> "scan";
      "build" -> "sign";
      "scan" -> "sign" [style=dashed];
      "sign" -> "tell" [style=dashed, label="passed or skipped"];
      "scan" -> "tell" [label="ended"];
      "lint" -> "tell" [style=dashed];
      "report" -> "clean" [style=dashed];
    }
    "#);
    assert_snapshot!(draw::mermaid(&plan, &none), @r#"
    flowchart LR
      s0["build"]
      s1["scan"]
      s2["sign"]
      s3["lint (note)"]
      s4["tell (note)"]
      s5(["report (note)"])
      s6(["clean (note)"])
      s0 --> s1
      s0 --> s2
      s1 -.-> s2
      s2 -.->|"passed or skipped"| s4
      s1 -->|"ended"| s4
      s3 -.-> s4
      s5 -.-> s6
    "#);
}

#[test]
fn lanes_cross_and_close() {
    let plan = steps(
        r"
        a: {uses: note},
        b: {uses: note},
        c: {uses: note, needs: [a]},
        d: {uses: note, needs: [a, b]},
        e: {uses: note},
        f: {uses: note, needs: [b]},
        g: {uses: note, needs: [c, f]},
        h: {uses: note, needs: [d, e, g]}
",
    );
    assert_snapshot!(draw::terminal(&plan, &BTreeMap::new()), @r#"
    ● a (note)
    │ ● b (note)
    ├─┼─● c (note)  ← a
    ●─┤ │ d (note)  ← a, b
    │ │ │ ● e (note)
    │ ● │ │ f (note)  ← b
    │ ●─╯ │ g (note)  ← c, f
    ●─┴───╯ h (note)  ← d, e, g
    "#);
}

#[test]
fn what_is_known_before_a_run_is_foreseen() {
    let plan = steps(
        r#"
    a: {uses: build, when: params.fast, with: {image: "registry.example.com/{{ params.version }}", context: "{{ event.actor }}", args: {X: "{{ run.id }}"}, secrets: {npm: "{{ secrets.npm }}", other: "{{ secrets.other }}"}}},
    b: {uses: scan, when: steps.a.outcome == "passed", with: {image: "{{ steps.a.image }}"}}
"#,
    );
    let scope = Scope { params: json!({"version": "v1", "fast": false}), ..Scope::default() };
    let [a, b] = plan.steps() else { panic!("two steps") };
    let known = a
        .foresee(&scope)
        .fill_known(|name| (name == "npm").then(|| Secret::new("token".to_owned())));
    assert_eq!(
        known,
        json!({
            "image": "registry.example.com/v1", "context": null, "args": { "X": null },
            "secrets": { "npm": "token", "other": null },
        })
    );
    assert_eq!(b.foresee(&scope).fill_known(|_| None), json!({ "image": null }));
    assert_eq!((a.foresee_condition(&scope), b.foresee_condition(&scope)), (Some(false), None));
}
