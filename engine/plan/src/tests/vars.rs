//! `vars`: values that a file names once.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{check, fakes};
use crate::{Plan, Source, compile};

fn yaml(vars: &str, steps: &str) -> String {
    format!(
        "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, on: {{git.push: {{}}}}, params: \
         {{version: {{default: v1}}, n: {{type: integer, default: 3}}}}, vars: {{\n{vars}\n}}, steps: \
         {{\n{steps}\n}}}}\n"
    )
}

fn plan(vars: &str, steps: &str) -> Plan {
    let source = Source::new("pipeline.yaml", yaml(vars, steps));
    compile(&source, &fakes::catalog()).unwrap_or_else(|found| panic!("{found}")).plan
}

#[test]
fn values_are_made_in_the_order_in_which_they_need_one_another() {
    let plan = plan(
        r#"full: "{{ vars.base }}:{{ vars.tag }}", tag: "{{ params.version | upper }}", base: r.example.com/shop,
        more: {n: "{{ params.n + 1 }}", list: ["{{ vars.tag }}", fixed, 7]}"#,
        r#"a: {uses: note, when: vars.more.n > 3, with: {text: "{{ vars.full }}", lines: "{{ vars.more.list }}", data: "{{ vars.more }}"}}"#,
    );
    let params = plan.bind(&BTreeMap::new()).unwrap();
    let scope = plan.whole_scope(&params, &Value::Null).unwrap();
    assert_eq!(
        scope.vars,
        json!({
            "full": "r.example.com/shop:V1", "tag": "V1", "base": "r.example.com/shop",
            "more": { "n": 4, "list": ["V1", "fixed", 7] },
        })
    );
    let step = &plan.steps()[0];
    assert!(step.condition(&scope, None).unwrap());
    assert_eq!(step.foresee_condition(&scope), Some(true));
    let input = step.render(&scope, None).unwrap();
    assert_eq!(input.display()["text"], "r.example.com/shop:V1");
    let stored = serde_json::to_value(&plan).unwrap();
    assert_eq!(stored["format"], "fairlead.dev/plan/v3");
    let back: Plan = serde_json::from_value(stored).unwrap();
    assert_eq!(back.whole_scope(&params, &Value::Null).unwrap(), scope);
}

#[test]
fn a_value_that_cannot_be_made_is_told_and_keeps_no_other_from_being_made() {
    let plan =
        plan(r#"a: "x{{ event.tag }}", b: "{{ vars.a }}", c: "{{ params.n }}""#, "a: {uses: note}");
    let params = plan.bind(&BTreeMap::new()).unwrap();
    let event = json!({ "tag": null });
    assert_eq!(plan.scope(&params, &event).vars, json!({ "c": 3 }));
    let error = plan.whole_scope(&params, &event).unwrap_err().to_string();
    assert!(error.starts_with("vars.a: "), "{error}");
}

#[test]
fn what_is_wrong_with_values_is_told() {
    assert_snapshot!(check(&yaml(
        r#"a: "{{ vars.b }}", b: "{{ vars.c }}", c: "x{{ vars.a }}", d: "{{ vars.d }}", e: "{{ vars.aa }}",
        f: "{{ secrets.x }}", g: "{{ steps.a.outcome }}", h: "{{ run.id }}", i: "{{ event.nothing }}", j: ,
        1k: 1, l: "{{ vars | tojson }}", m: "{{ event.tag | upper }}", n: {deep: ["{{ params.m }}"]}"#,
        "a: {uses: note}",
    )), @r#"
    2:8: error[FL0406]: these values need each other: `a → b → c → a`
    2:66: error[FL0406]: `vars.d` needs itself
    2:85: error[FL0305]: there is no `vars.aa` (did you mean `a`?)
    3:16: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
    3:38: error[FL0302]: there is no `steps` when a run is asked for (`vars` see `params`, `event` and one another)
    3:66: error[FL0302]: there is no `run` when a run is asked for (`vars` see `params`, `event` and one another)
    3:85: error[FL0305]: the event has no `nothing` (there are `kind`, `repository`, `clone_url`, `ssh_url`, `ref`, `branch`, `tag`, `before`, `after`, `commit`, `created`, `forced`, …)
    3:104: error[FL0104]: `j` of `vars` has no value
    4:9: error[FL0106]: `1k` is not the name of a value (use letters, digits and `_`, and begin with a letter)
    4:23: error[FL0305]: what this reads of `vars` cannot be known beforehand (write `vars.<name>`, so that it can be checked)
    4:49: warning[FL0405]: `event.tag` may be null: a pushed branch has no tag (write `event.tag | default("…")`, let nothing but tags in, with `tags` under `git.push`, or let it in with `when: event.tag is not none` under the trigger alone)
    4:87: error[FL0305]: there is no parameter `m` (did you mean `n`?)
    "#);
}

#[test]
fn what_is_read_of_values_is_checked() {
    assert_snapshot!(check(&yaml(
        r#"base: r.example.com/shop, count: "{{ params.n }}", map: {one: 1, two: {three: x}}, list: [1, 2]"#,
        r#"a: {uses: note, with: {text: "{{ vars.bse }}", lines: "{{ vars.base }}", data: "{{ vars.map.twoo }}"}, when: vars.count},
        b: {uses: note, with: {text: "{{ vars.map.two.three }}", data: "{{ vars.map.two.four }}", lines: "{{ vars.list }}"}, for_each: "{{ vars.list }}"},
        c: {uses: note, with: {text: "{{ vars.map }}"}, for_each: "{{ vars.base }}"}"#,
    )), @r#"
    4:34: error[FL0305]: there is no `vars.bse` (did you mean `base`?)
    4:55: error[FL0306]: input `lines` wants a list, and `vars.base` is a text
    4:84: error[FL0305]: `vars.map` has no `twoo` (did you mean `two`?)
    4:110: error[FL0306]: a condition must be true or false, and `vars.count` is a whole number (compare it with something: `… == "…"`)
    5:76: error[FL0305]: `vars.map` has no `four` (it has `three`)
    5:106: error[FL0306]: input `lines` wants a list, and `vars.list` is a list
    6:38: error[FL0306]: input `text` wants a text, and `vars.map` is a mapping
    6:67: error[FL0306]: `for_each` wants a list, and `vars.base` is a text
    "#);
}

#[test]
fn the_name_of_a_group_reads_values() {
    let text = yaml("lane: \"{{ params.version }}-{{ event.repository }}\"", "a: {uses: note}");
    let text = text.replace("name: test,", "name: test, concurrency: \"deploy/{{ vars.lane }}\",");
    let source = Source::new("pipeline.yaml", text);
    let plan = compile(&source, &fakes::catalog()).unwrap_or_else(|found| panic!("{found}")).plan;
    let params = plan.bind(&BTreeMap::new()).unwrap();
    let scope = plan.whole_scope(&params, &json!({ "repository": "acme/shop" })).unwrap();
    assert_eq!(plan.concurrency().unwrap().name(&scope).unwrap(), "deploy/v1-acme/shop");
}
