//! What starts a pipeline: filters, what an event gives to parameters, schedules, people.

use std::collections::BTreeMap;

use fairlead_event::{
    Association, ChangedPaths, Comment, CommentCommand, Custom, ForgeRepository, GitPushed,
    ObjectId, PullRequest, PullRequestAction, PullRequestHead, Release, ReleaseAction, Requested,
    RunEnd, RunFinished, Scheduled, SourceEvent,
};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{check, fakes};
use crate::{Answer, Plan, Source, compile, is_trusted};

fn yaml(on: &str, params: &str) -> String {
    format!(
        "{{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, params: {{{params}}}, \
         steps: {{a: {{uses: note}}}}, on: {{\n{on}\n}}}}\n"
    )
}

/// The findings of a pipeline with this `on`, whose first line is line 2.
fn check_on(on: &str, params: &str) -> String {
    check(&yaml(on, params))
}

fn plan(on: &str, params: &str) -> Plan {
    let source = Source::new("pipeline.yaml", yaml(on, params));
    compile(&source, &fakes::catalog()).unwrap_or_else(|found| panic!("{found}")).plan
}

fn push(reference: &str) -> SourceEvent {
    SourceEvent::GitPushed(GitPushed {
        repository: "acme/shop".into(),
        clone_url: None,
        ssh_url: None,
        reference: reference.parse().unwrap(),
        before: None,
        after: ObjectId::parse_end(&"a".repeat(40)).unwrap(),
        commit: None,
        forced: false,
        paths: ChangedPaths::Unknown,
        actor: None,
    })
}

fn ended(pipeline: &str, depth: u32) -> SourceEvent {
    SourceEvent::RunFinished(RunFinished {
        run: fairlead_step::RunId::mint(1, 1),
        pipeline: pipeline.into(),
        outcome: RunEnd::Passed,
        by: "ann".into(),
        params: json!({ "version": "v7" }),
        depth,
        untrusted: false,
    })
}

fn requested(params: Value) -> SourceEvent {
    SourceEvent::Requested(Requested {
        pipeline: "test".into(),
        params: params.as_object().cloned().unwrap_or_default(),
        by: "ann".into(),
        key: "k".into(),
    })
}

/// What the plan answers, in one line.
fn answer(plan: &Plan, event: &SourceEvent) -> String {
    match plan.answer(event) {
        Answer::Starts(pulled) => {
            let given = serde_json::to_string(&pulled.given).unwrap();
            assert_eq!(pulled.event["kind"], pulled.kind.key());
            format!("{}[{}] {given}", pulled.kind, pulled.index)
        }
        Answer::No(reasons) => {
            let reasons: Vec<String> = reasons
                .iter()
                .map(|unfit| format!("{unfit}{}", if unfit.broken { " (!)" } else { "" }))
                .collect();
            format!("no: {}", reasons.join(" | "))
        }
    }
}

fn repository() -> ForgeRepository {
    ForgeRepository { name: "acme/shop".into(), clone_url: None, ssh_url: None }
}

fn pull_request(action: PullRequestAction, is_fork: bool, labels: &[&str]) -> SourceEvent {
    SourceEvent::PullRequest(PullRequest {
        repository: repository(),
        number: 7,
        action,
        title: None,
        head: PullRequestHead::default(),
        base_branch: "main".into(),
        base_commit: None,
        merge_commit: None,
        is_fork,
        draft: labels.contains(&"draft"),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        author: None,
        actor: None,
        at: None,
    })
}

fn comment(text: &str, association: Association, is_fork: bool) -> SourceEvent {
    SourceEvent::Comment(Comment {
        repository: repository(),
        number: 7,
        id: "1".into(),
        command: CommentCommand::in_comment(text).unwrap().unwrap(),
        author: Some("eve".into()),
        association,
        head: PullRequestHead::default(),
        is_fork,
    })
}

fn custom(kind: &str, data: Value) -> SourceEvent {
    SourceEvent::Custom(Custom {
        r#type: kind.into(),
        source: "/ci".into(),
        subject: None,
        id: "1".into(),
        time: None,
        data,
    })
}

/// Whether the run that the plan starts may read secrets; none when it starts none.
fn trusted(plan: &Plan, event: &SourceEvent) -> Option<bool> {
    match plan.answer(event) {
        Answer::Starts(pulled) => Some(is_trusted(&pulled.event)),
        Answer::No(_) => None,
    }
}

#[test]
fn pull_requests_of_forks_start_runs_without_secrets() {
    use PullRequestAction::{Closed, Merged, Opened, Updated};
    let any = plan("git.pull_request: {}", VERSION);
    for (event, want) in [
        (pull_request(Opened, false, &[]), Some(true)),
        (pull_request(Updated, true, &[]), Some(false)),
        (pull_request(Closed, false, &[]), None),
    ] {
        assert_eq!(trusted(&any, &event), want, "{event:?}");
    }
    let merged = plan("git.pull_request: {actions: merged, branches: [main]}", VERSION);
    assert_eq!(trusted(&merged, &pull_request(Merged, true, &[])), Some(true));
    let strict =
        "git.pull_request: {repository: acme/*, forks: ignore, labels: [ready], draft: false}";
    let strict = plan(strict, VERSION);
    assert_eq!(trusted(&strict, &pull_request(Opened, false, &["ready"])), Some(true));
    let said: Vec<String> = [
        pull_request(Opened, true, &["ready"]),
        pull_request(Opened, false, &["other"]),
        pull_request(Opened, false, &["ready", "draft"]),
        pull_request(Merged, false, &["ready"]),
    ]
    .iter()
    .map(|event| answer(&strict, event))
    .collect();
    assert_snapshot!(said.join("\n"), @r#"
    no: git.pull_request: `forks` does not let `what comes from a fork` in
    no: git.pull_request: `labels` does not let `what it is labeled` in
    no: git.pull_request: `draft` does not let `a draft` in
    no: git.pull_request: `actions` does not let `merged` in
    "#);
}

#[test]
fn a_member_asks_for_a_run_with_a_comment() {
    use Association::{Contributor, Member, Stranger};
    let usual = plan("git.comment: {inputs: [version]}", VERSION);
    let run = "/fairlead run test version=v3";
    assert_eq!(answer(&usual, &comment(run, Member, true)), r#"git.comment[0] {"version":"v3"}"#);
    assert_eq!(trusted(&usual, &comment(run, Member, true)), Some(true));
    let said: Vec<String> = [
        comment(run, Stranger, false),
        comment(run, Contributor, true),
        comment("/fairlead run other", Member, false),
        comment("/fairlead stop test", Member, false),
        comment("/fairlead run test n=3", Member, false),
        comment("/fairlead run test version=3", Member, false),
    ]
    .iter()
    .map(|event| answer(&usual, event))
    .collect();
    assert_snapshot!(said.join("\n"), @r#"
    no: git.comment: `from` does not let `eve (stranger)` in
    no: git.comment: `from` does not let `eve (contributor)` in
    no: git.comment: it asks for `other`
    no: git.comment: `command` does not let `stop` in
    no: git.comment: parameter `n`: a comment may not give it (!)
    no: git.comment: parameter `version`: `3` does not match `^(none|v[0-9]+)$` (!)
    "#);
    let open = plan("git.comment: {command: try, from: anyone}", VERSION);
    assert_eq!(trusted(&open, &comment("/fairlead try", Stranger, true)), Some(false));
}

#[test]
fn an_event_of_any_type_is_held_against_its_schema() {
    let on = r#"event: {type: "com.example.*", source: /ci, when: event.data.level > 3, params: {n: "{{ event.data.level }}"},
        schema: {type: object, required: [level], properties: {level: {type: integer}, name: {type: string}}, additionalProperties: false}}"#;
    let typed = plan(on, VERSION);
    let said: Vec<String> = [
        custom("com.example.alert", json!({ "level": 4 })),
        custom("com.example.alert", json!({ "level": 3 })),
        custom("com.example.alert", json!({ "level": "4" })),
        custom("org.example.alert", json!({ "level": 4 })),
    ]
    .iter()
    .map(|event| answer(&typed, event))
    .collect();
    assert_snapshot!(said.join("\n"), @r#"
    event[0] {"n":4}
    no: event: `event.data.level > 3` is false
    no: event: its data does not fit the schema: "4" is not of type "integer"
    no: event: `type` does not let `org.example.alert` in
    "#);
    let wrong = on
        .replace("event.data.level > 3", "event.data.levl > 3")
        .replace("{{ event.data.level }}", "{{ event.data.name }}");
    assert_snapshot!(check_on(&wrong, VERSION), @r#"
    2:51: error[FL0305]: the data of the event has no `levl` (did you mean `level`?)
    2:84: error[FL0114]: parameter `n` is a whole number, and `event.data.name` is a text (add `| int`)
    "#);
    assert_snapshot!(check_on("event: {schema: {type: nothing}}, git.comment: {inputs: [m], from: [me]}", VERSION), @r#"
    2:17: error[FL0109]: `schema` of `event` is no JSON Schema: "nothing" is not valid under any of the schemas listed in the 'anyOf' keyword
    2:58: error[FL0114]: the pipeline has no parameter `m` (did you mean `n`?)
    2:69: error[FL0109]: `from` of `git.comment`: `me` is not one of `owner`, `member`, `collaborator`, `contributor`, `anyone`
    "#);
}

#[test]
fn a_release_starts_what_waits_for_it() {
    let release = |tag: &str, draft: bool, prerelease: bool| {
        SourceEvent::Release(Release {
            repository: repository(),
            action: ReleaseAction::Published,
            tag: tag.into(),
            name: None,
            draft,
            prerelease,
            commit: None,
            actor: None,
            at: None,
        })
    };
    let on =
        r#"git.release: {tags: "v*", prerelease: false, params: {version: "{{ event.tag }}"}}"#;
    let plan = plan(on, VERSION);
    assert_eq!(answer(&plan, &release("v1", false, false)), r#"git.release[0] {"version":"v1"}"#);
    let said: Vec<String> =
        [release("v1", true, false), release("v1", false, true), release("x", false, false)]
            .iter()
            .map(|event| answer(&plan, event))
            .collect();
    assert_snapshot!(said.join("\n"), @r#"
    no: git.release: `git.release` does not let `a draft` in
    no: git.release: `prerelease` does not let `a pre-release` in
    no: git.release: `tags` does not let `x` in
    "#);
}

const VERSION: &str =
    "version: {default: none, pattern: '^(none|v[0-9]+)$'}, n: {type: integer, default: 1}";

#[test]
fn an_event_gives_values_to_parameters() {
    let on = r#"git.push: [{tags: "v*", params: {version: "{{ event.tag }}", n: 5}}, {branches: [main], params: {n: "{{ event.branch | length }}"}}],
        git.tag: {tags: "x*", params: {version: "{{ event.tag }}"}}"#;
    let plan = plan(on, VERSION);
    assert_eq!(answer(&plan, &push("refs/tags/v12")), r#"git.push[0] {"n":5,"version":"v12"}"#);
    assert_eq!(answer(&plan, &push("refs/heads/main")), r#"git.push[1] {"n":4}"#);
    // The pattern of the parameter refuses it.
    assert_snapshot!(answer(&plan, &push("refs/tags/x1")), @"no: git.push: `tags` does not let `x1` in | git.push[1]: `tags` does not let `x1` in | git.tag: parameter `version`: `x1` does not match `^(none|v[0-9]+)$` (!)");
    assert_snapshot!(answer(&plan, &push("refs/heads/dev")), @"no: git.push: `branches` does not let `dev` in | git.push[1]: `branches` does not let `dev` in | git.tag: `git.tag` does not let `branch dev` in");
}

#[test]
fn the_condition_of_a_filter_sees_what_it_gives() {
    let on = r#"git.push: {params: {version: "{{ event.tag }}"}, when: params.version == "v1" or event.branch == "main"}"#;
    let plan = plan(on, VERSION);
    assert_eq!(answer(&plan, &push("refs/tags/v1")), r#"git.push[0] {"version":"v1"}"#);
    // Null leaves the parameter to its default.
    assert_eq!(answer(&plan, &push("refs/heads/main")), "git.push[0] {}");
    assert_snapshot!(answer(&plan, &push("refs/tags/v2")), @r#"no: git.push: `params.version == "v1" or event.branch == "main"` is false"#);
}

#[test]
fn the_end_of_a_run_starts_others_in_a_chain_that_has_an_end() {
    let on = r#"run.finished: {pipeline: "re*", outcome: passed, params: {version: "{{ event.params.version }}"}}"#;
    let plan = plan(on, VERSION);
    assert_eq!(answer(&plan, &ended("release", 0)), r#"run.finished[0] {"version":"v7"}"#);
    assert_eq!(answer(&plan, &ended("release", 15)), r#"run.finished[0] {"version":"v7"}"#);
    assert_snapshot!(answer(&plan, &ended("release", 16)), @"no: run.finished: 17 runs have started one another by now, which looks like a loop");
    let on = "run.finished: {}";
    let any = self::plan(on, VERSION);
    assert_snapshot!(answer(&any, &ended("test", 0)), @"no: run.finished: its own runs do not start it");
    let Answer::Starts(pulled) = any.answer(&ended("other", 3)) else { panic!() };
    assert_eq!(pulled.event["depth"], 3);
}

#[test]
fn a_time_is_for_one_schedule_of_one_pipeline() {
    let on = r#"schedule: [{cron: "0 3 * * *", params: {n: 2}}, {cron: "0 4 * * *"}]"#;
    let plan = plan(on, VERSION);
    let tables = plan.timetables().unwrap();
    let at = "2026-03-01T02:59:00Z".parse().unwrap();
    let now = "2026-03-01T03:00:10Z".parse().unwrap();
    let due: Vec<Scheduled> = tables[0].due(at, now).events;
    assert_eq!(due.len(), 1);
    let event = SourceEvent::Scheduled(due[0].clone());
    assert_eq!(answer(&plan, &event), r#"schedule[0] {"n":2}"#);
    let other = Scheduled { pipeline: "other".into(), ..due[0].clone() };
    assert_snapshot!(answer(&plan, &SourceEvent::Scheduled(other)), @"no: schedule: it is a time of `other` | schedule[1]: `schedule` does not let `0 3 * * *` in");
    let gone = Scheduled { schedule: "gone".into(), ..due[0].clone() };
    assert_snapshot!(answer(&plan, &SourceEvent::Scheduled(gone)), @"no: schedule: `schedule` does not let `0 3 * * *` in | schedule[1]: `schedule` does not let `0 3 * * *` in");
}

#[test]
fn people_give_what_they_may() {
    let on = "manual: {inputs: {n: {default: 3, enum: [2, 3], description: how many}}}";
    let plan = plan(on, VERSION);
    assert_eq!(answer(&plan, &requested(json!({}))), r#"manual[0] {"n":3}"#);
    assert_eq!(answer(&plan, &requested(json!({"n": "2"}))), r#"manual[0] {"n":"2"}"#);
    assert_snapshot!(answer(&plan, &requested(json!({"n": 1, "version": "v1"}))), @"no: manual: parameter `version`: a request may not give it; parameter `n`: `1` is not one of `2`, `3` (!)");
    let on = "manual: {}";
    let all = self::plan(on, VERSION);
    assert_eq!(answer(&all, &requested(json!({"version": "v1"}))), r#"manual[0] {"version":"v1"}"#);
    assert_eq!(all.requested(&BTreeMap::new()).unwrap(), BTreeMap::new());
}

#[test]
fn what_a_trigger_gives_is_checked() {
    assert_snapshot!(check_on(
        r#"git.push: [{params: {verson: "{{ event.tag }}", n: "{{ event.branch }}", must: "{{ event.tag }}"}},
        {params: {version: "{{ event.tga }}", n: x, image: "{{ event.created }}", must: "{{ params.n }}"}}],
        git.tag: {params: {must: "{{ event.tag }}", version: 3}},
        registry.push: {params: {image: "{{ event.image }}", must: "{{ steps.a.x }}{{ secrets.b }}{{ vars.c }}"}}"#,
        "version: {default: v1}, n: {type: integer, default: 1}, must: {}, image: {type: image, default: r.example.com/a:1}",
    ), @r#"
    2:22: error[FL0114]: the pipeline has no parameter `verson` (did you mean `version`?)
    2:52: error[FL0114]: parameter `n` is a whole number, and `event.branch` is a text (add `| int`)
    2:84: warning[FL0405]: `event.tag` may be null: a pushed branch has no tag (write `event.tag | default("…")`, let nothing but tags in, with `tags` under `git.push`, or let it in with `when: event.tag is not none` under the trigger alone)
    3:32: error[FL0305]: the event has no `tga` (did you mean `tag`?)
    3:50: error[FL0114]: parameter `n`: `x` is not an integer
    3:60: error[FL0114]: parameter `image` is a text, and `event.created` is a boolean
    3:93: error[FL0302]: there are no `params` yet: this is what gives them (what a trigger gives to parameters sees `event`)
    4:62: error[FL0114]: parameter `version`: `3` is not a string
    5:72: error[FL0302]: there is no `steps` before a run starts (what a trigger gives to parameters sees `event`)
    5:87: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
    5:102: error[FL0302]: there is no `vars` before a run starts (what a trigger gives to parameters sees `event`)
    "#);
}

#[test]
fn what_starts_a_pipeline_gives_every_parameter_that_has_no_default() {
    assert_snapshot!(check_on(
        r#"git.push: {params: {a: x}}, schedule: {cron: "@daily"}, manual: {inputs: {b: {}}}"#,
        "a: {}, b: {}",
    ), @r#"
    1:68: warning[FL0111]: parameter `a` has no default, so `schedule` can never start this pipeline (give it a default, or a value under `params` of the trigger)
    1:75: warning[FL0111]: parameter `b` has no default, so `git.push`, `schedule` can never start this pipeline (give it a default, or a value under `params` of the trigger)
    2:66: warning[FL0111]: no request can start this pipeline: `a` must be given, and may not be
    "#);
}

#[test]
fn a_jitter_is_no_longer_than_the_interval() {
    let told = |jitter: &str| {
        check_on(&format!(r#"schedule: {{cron: "0 3,5 * * *", jitter: {jitter}}}"#), "")
    };
    assert!(!told("2h").contains("error"), "{}", told("2h"));
    let told = told("3h");
    let want = "a `jitter` of 3h is longer than the 2h from one time to the next";
    assert!(told.contains(want), "{told}");
}

#[test]
fn a_pattern_that_takes_away_stands_behind_another() {
    let told = |paths: &str| check_on(&format!("git.push: {{paths: {paths}}}"), "");
    let good = told(r#"["src/**", "!src/docs/**"]"#);
    assert!(!good.contains("error"), "{good}");
    assert!(told(r#"["!src/docs/**", "src/**"]"#).contains("nothing does"));
    assert!(told(r#"["src/**", "!["]"#).contains("is not a pattern"));
}

#[test]
fn schedules_are_checked() {
    assert_snapshot!(check_on(
        r#"schedule: [{cron: "0 3 * *"}, {cron: "0 25 * * *", timezone: Europe/Berln}, {cron: "0 0 30 2 *"},
        {timezone: UTC}, {cron: "* * * * * *"}, {cron: 5, missed: never, jitter: 5}, {cron: "", when: event.due > 1, parms: {}}]"#,
        "",
    ), @r#"
    2:19: error[FL0115]: `0 3 * *` is not a cron expression: invalid pattern: Pattern must have 5 fields when seconds are disallowed (minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`)
    2:38: error[FL0115]: `0 25 * * *` is not a cron expression: component error: Number out of bounds (minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`)
    2:62: error[FL0115]: there is no time zone `Europe/Berln` (write its IANA name, as in `Europe/Berlin` or `UTC`)
    2:84: error[FL0115]: `0 0 30 2 *` never comes (minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`)
    3:9: error[FL0102]: `schedule` has no `cron`
    3:33: error[FL0115]: `* * * * * *` is not a cron expression: invalid pattern: Pattern must have 5 fields when seconds are disallowed (minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`)
    3:56: error[FL0109]: `cron` of `schedule`: invalid type: integer `5`, expected a string
    3:67: error[FL0109]: `missed` of `schedule`: unknown variant `never`, expected one of `skip`, `once`, `all`
    3:82: error[FL0109]: `jitter` of `schedule`: invalid type: integer `5`, expected a string
    3:93: error[FL0115]: `` is not a cron expression (minute, hour, day of the month, month, day of the week, as in `0 3 * * 1-5`)
    3:118: error[FL0101]: `schedule` has no key `parms` (did you mean `params`?)
    "#);
    assert_snapshot!(check_on("schedule: ", ""), @r#"2:1: error[FL0102]: `schedule` has no `cron` (as in `schedule: {cron: "0 3 * * *"}`)"#);
    assert_eq!(
        check_on(
            r#"schedule: {cron: "30 4 1,15 * MON-FRI", timezone: America/New_York, missed: skip, jitter: 90s, when: not event.missed}"#,
            ""
        ),
        "fine"
    );
}

#[test]
fn a_pipeline_does_not_wait_for_its_own_runs() {
    assert_snapshot!(check_on(
        "run.finished: [{pipeline: [other, test]}, {pipeline: test, outcome: [good]}, {pipeline: '*'}]",
        "",
    ), @r#"
    2:35: error[FL0407]: `test` is this pipeline, and its own runs do not start it (name the pipeline whose runs it is to wait for)
    2:54: error[FL0407]: `test` is this pipeline, and its own runs do not start it (name the pipeline whose runs it is to wait for)
    2:70: error[FL0109]: `outcome` of `run.finished`: unknown variant `good`, expected one of `passed`, `rejected`, `failed`, `cancelled`
    "#);
}

#[test]
fn what_people_may_give_is_checked() {
    assert_snapshot!(check_on(
        "manual: {inputs: {nn: {}, n: {default: 4, enum: [1, two]}, version: {default: 5, pattern: x}}}",
        "version: {}, n: {type: integer, default: 1}",
    ), @r#"
    2:18: error[FL0109]: `inputs` of `manual`: unknown field `pattern`, expected one of `default`, `enum`, `description`
    2:19: error[FL0114]: the pipeline has no parameter `nn` (did you mean `n`?)
    2:40: error[FL0114]: input `n`: its default is not one of those that may be given
    2:53: error[FL0114]: input `n`: `two` is not an integer
    2:79: error[FL0114]: input `version`: its default `5` is not a string
    "#);
}

#[test]
fn more_of_what_starts_a_pipeline_makes_another_version_of_its_stored_form() {
    let format = |on: &str| {
        let plan = plan(on, VERSION);
        let stored = serde_json::to_value(&plan).unwrap();
        let back: Plan = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!((&back, back.digest()), (&plan, plan.digest()));
        stored["format"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    };
    for (on, want) in [
        ("git.push: {branches: [main]}, registry.push: {}, manual: {}", "v1"),
        ("git.push: {params: {n: 1}}", "v3"),
        ("git.tag: {}", "v3"),
        ("run.finished: {}", "v3"),
        ("schedule: {cron: '@daily'}", "v3"),
        ("manual: {inputs: {n: {}}}", "v3"),
    ] {
        assert_eq!(format(on), want, "{on}");
    }
}
