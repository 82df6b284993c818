//! Where attempts are made, and on what: `pool`, `labels`, `resources`, `workspace`.

use std::collections::BTreeMap;

use fairlead_step::CheckoutOptions;
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{check, check_steps, fakes, pipeline};
use crate::{Placement, Plan, Resources, Source, compile};

fn planned(steps: &str) -> Plan {
    let source = Source::new("pipeline.yaml", pipeline(steps));
    compile(&source, &fakes::catalog()).unwrap().plan
}

#[test]
fn a_step_says_where_its_attempts_are_made_and_what_each_may_take() {
    let plan = planned(
        "a: {uses: note, pool: arm64, labels: {zone: b, gpu: \"1\"}, resources: {memory: 512Mi, \
         cpu: 0.5, pids: 64, disk: 1000}, on_undo: {uses: note}}, b: {uses: note}",
    );
    let step = |id: &str| plan.step(&id.parse().unwrap()).unwrap();
    let wanted = Placement {
        pool: Some("arm64".into()),
        labels: BTreeMap::from([("gpu".into(), "1".into()), ("zone".into(), "b".into())]),
        resources: Resources {
            memory: Some(512 << 20),
            cpu_millis: Some(500),
            pids: Some(64),
            disk: Some(1000),
        },
    };
    assert_eq!(step("a").placement, wanted);
    assert!(step("b").placement.is_empty());
    let undo = plan.undo(&[("a".parse().unwrap(), None)]).unwrap();
    assert_eq!(undo.steps()[0].placement, wanted);
}

#[test]
fn a_plan_that_says_it_is_stored_in_a_version_of_its_own() {
    let plain = planned("a: {uses: note, on_undo: {uses: note}}");
    assert_eq!(serde_json::to_value(&plain).unwrap()["format"], "fairlead.dev/plan/v2");
    for steps in [
        "a: {uses: note, pool: arm64}",
        "a: {uses: note, labels: {zone: b}}",
        "a: {uses: note, resources: {pids: 1}, on_undo: {uses: note}}",
    ] {
        let plan = planned(steps);
        let stored = serde_json::to_value(&plan).unwrap();
        assert_eq!(stored["format"], "fairlead.dev/plan/v3");
        let back: Plan = serde_json::from_value(stored).unwrap();
        assert_eq!(back, plan);
        assert_eq!(back.digest(), plan.digest());
    }
    let stored: Value = serde_json::to_value(planned("a: {uses: note, pool: arm64}")).unwrap();
    assert_eq!(stored["steps"][0]["placement"], json!({ "pool": "arm64" }));
    let text = stored.to_string();
    assert_eq!(crate::newer_format(text.as_bytes()), None);
    let newer = text.replace("plan/v3", "plan/v5");
    assert_eq!(crate::newer_format(newer.as_bytes()).as_deref(), Some("fairlead.dev/plan/v5"));
}

fn with_workspace(workspace: &str) -> String {
    let text = pipeline("a: {uses: note, pool: arm64, on_undo: {uses: note}}");
    text.replacen("steps:", &format!("workspace: {workspace}, steps:"), 1)
}

#[test]
fn a_pipeline_says_how_much_of_a_commit_it_works_on() {
    let compiled = |workspace| {
        let source = Source::new("pipeline.yaml", with_workspace(workspace));
        compile(&source, &fakes::catalog()).unwrap().plan
    };
    let plan = compiled("{depth: all, sparse: [apps/shop, deploy/], partial: true}");
    let wanted = CheckoutOptions {
        depth: 0,
        sparse: vec!["apps/shop".into(), "deploy/".into()],
        partial: true,
    };
    assert_eq!(*plan.checkout(), wanted);
    assert_eq!(*plan.undo(&[("a".parse().unwrap(), None)]).unwrap().checkout(), wanted);
    let stored = serde_json::to_value(&plan).unwrap();
    assert_eq!(stored["format"], "fairlead.dev/plan/v4");
    let back: Plan = serde_json::from_value(stored).unwrap();
    assert_eq!((&back, back.digest()), (&plan, plan.digest()));
    // What is usual needs no version of its own.
    let usual = compiled("{depth: 1, sparse: []}");
    assert_eq!(serde_json::to_value(&usual).unwrap()["format"], "fairlead.dev/plan/v3");
}

#[test]
fn a_part_of_a_commit_that_cannot_be_had_is_told() {
    assert_snapshot!(check(&with_workspace(
        "{depth: 0, sparse: [/etc, \"..\", \"a/*\", 3], partial: 1, deep: 1}"
    )), @r#"
    1:230: error[FL0104]: `depth` wants a number of commits (write a whole number from 1, or `all`)
    1:242: error[FL0104]: `/etc` is not the path of a folder (write it from the root of the repository, without patterns, as in `apps/shop`)
    1:248: error[FL0104]: `..` is not the path of a folder (write it from the root of the repository, without patterns, as in `apps/shop`)
    1:254: error[FL0104]: `a/*` is not the path of a folder (write it from the root of the repository, without patterns, as in `apps/shop`)
    1:261: error[FL0103]: an item of `sparse` wants a text, and this is a number
    1:274: error[FL0103]: `partial` wants true or false, and this is a number
    1:277: error[FL0101]: `workspace` has no key `deep` (it has `depth`, `sparse`, `partial`)
    "#);
    assert_eq!(
        check(&with_workspace("shallow")),
        "1:222: error[FL0103]: `workspace` wants a mapping, and this is a text"
    );
    assert_eq!(
        check(&with_workspace("{depth: 4294967295, sparse: apps}")),
        "1:230: error[FL0104]: `depth` wants a number of commits (write a whole number from 1, or \
         `all`)\n1:250: error[FL0103]: `sparse` wants a list of folders, and this is a text"
    );
}

#[test]
fn what_no_machine_can_have_is_told() {
    assert_snapshot!(check_steps(
        r#"
        a: {uses: note, pool: "arm 64", labels: {"x y": b, ok: 3, no: "{{ params.version }}"}},
        b: {uses: note, resources: {memory: 1.5Gi, cpu: 0, pids: 0, disk: lots, gpu: 1}},
        c: {uses: note, pool: [a], labels: [a], resources: 3},
        d: {approval: {from: [qa]}, pool: arm64, labels: {a: b}, resources: {cpu: 1}}
"#
    ), @r#"
    3:31: error[FL0104]: `arm 64` is not the name of a pool (use letters, digits, `.`, `_`, `/` and `-`, at most 63, with a letter or a digit at both ends)
    3:50: error[FL0104]: `x y` is not the name of a label (use letters, digits, `.`, `_`, `/` and `-`, at most 63, with a letter or a digit at both ends)
    3:64: error[FL0103]: label `ok` wants a text, in quotes where it looks like more, and this is a number
    3:71: error[FL0104]: label `no` cannot be `{{ params.version }}` (use letters, digits, `.`, `_`, `/` and `-`, at most 63, with a letter or a digit at both ends)
    4:45: error[FL0104]: `memory` wants a number of bytes (write `512Mi`, `2Gi`, or `1G` for 1,000,000,000)
    4:57: error[FL0104]: `cpu` wants a number of processors (write `2`, `0.5` or `500m`, at most 1024)
    4:66: error[FL0104]: `pids` wants a whole number from 1
    4:75: error[FL0104]: `disk` wants a number of bytes (write `512Mi`, `2Gi`, or `1G` for 1,000,000,000)
    4:81: error[FL0101]: `resources` has no key `gpu` (did you mean `cpu`?)
    5:31: error[FL0103]: `pool` wants a text, and this is a list
    5:44: error[FL0103]: `labels` wants a mapping, and this is a list
    5:60: error[FL0103]: `resources` wants a mapping, and this is a number
    6:37: error[FL0112]: step `d` is a gate, and a gate takes no `pool` (beside `approval` stand `needs`, `when` and `description`)
    6:50: error[FL0112]: step `d` is a gate, and a gate takes no `labels` (beside `approval` stand `needs`, `when` and `description`)
    6:66: error[FL0112]: step `d` is a gate, and a gate takes no `resources` (beside `approval` stand `needs`, `when` and `description`)
    "#);
}
