//! The keys of gates, items, waits, cache, undo and groups: good ones compile, wrong ones are told.

use insta::assert_snapshot;

use super::fakes::catalog;
use super::{EVERY_KEY, check, check_steps};

#[test]
fn every_key_is_fine_where_it_belongs() {
    assert_snapshot!(check(EVERY_KEY), @"fine");
    assert_snapshot!(check("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\nconcurrency: one at a time\nsteps: {a: {uses: note}}\n"), @"fine");
}

#[test]
fn a_group_is_checked() {
    let with = |group: &str| {
        check(&format!(
            "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\non: {{git.push: {{}}}}\nparams: {{v: \
             {{}}, n: {{type: integer, default: 1}}}}\nconcurrency: {group}\nsteps: {{a: {{uses: \
             note}}}}\n"
        ))
        .replace("warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default)", "warning of v")
    };
    let said: Vec<String> = [
        "{group: \"{{ params.v }}\", policy: supersed, max: 0, limit: 3}",
        "{policy: reject}",
        "{group: x, max: many}",
        "{group: x, max: -1, policy: 3}",
        "[x]",
        "\"\"",
        "{group: \" \"}",
        "\"{{ steps.a.outcome }} {{ secrets.x }} {{ run.summary }} {{ item }} {{ params.w }} {{ event.x }}\"",
        "\"{{ run.id\"",
        "\"{{ event.paths }}\"",
        "\"{{ params.n }}\"",
    ]
    .iter()
    .map(|group| format!("{group}\n   {}", with(group).replace('\n', "\n   ")))
    .collect();
    assert_snapshot!(said.join("\n"), @r#"
    {group: "{{ params.v }}", policy: supersed, max: 0, limit: 3}
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:48: error[FL0104]: `policy` cannot be `supersed` (did you mean `supersede`?)
       6:63: error[FL0104]: `max` wants a whole number from 1
       6:66: error[FL0101]: `concurrency` has no key `limit` (it has `group`, `policy`, `max`)
    {policy: reject}
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:14: error[FL0102]: `concurrency` has no `group` (name the group, as in `group: "release/{{ params.version }}"`)
    {group: x, max: many}
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:30: error[FL0104]: `max` wants a whole number from 1
    {group: x, max: -1, policy: 3}
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:30: error[FL0104]: `max` wants a whole number from 1
       6:42: error[FL0103]: `policy` wants a text, and this is a number
    [x]
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:14: error[FL0103]: `concurrency` wants a mapping, and this is a list
    ""
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:14: error[FL0104]: the name of the group is empty (name the group, as in `group: "release/{{ params.version }}"`)
    {group: " "}
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:22: error[FL0104]: the name of the group is empty (name the group, as in `group: "release/{{ params.version }}"`)
    "{{ steps.a.outcome }} {{ secrets.x }} {{ run.summary }} {{ item }} {{ params.w }} {{ event.x }}"
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:18: error[FL0302]: no step has run when a run asks to be admitted (the name of a group sees `params`, `event` and `run`)
       6:40: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
       6:56: error[FL0305]: `run.summary` is known only when every main step has ended (read it in a step under `on_failure` or `finally`)
       6:74: error[FL0302]: there is no `item` (expressions see `params`, `event`, `vars`, `run`; a text stands in quotes)
       6:85: error[FL0305]: there is no parameter `w` (did you mean `v`?)
       6:100: error[FL0305]: the event has no `x` (there are `kind`, `repository`, `clone_url`, `ssh_url`, `ref`, `branch`, `tag`, `before`, `after`, `commit`, `created`, `forced`, …)
    "{{ run.id"
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:15: error[FL0301]: a `{{` has no `}}` (to write two braces as they are: `{{ "{{" }}`)
    "{{ event.paths }}"
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
       6:14: error[FL0306]: the name of the group is a text, and `event.paths` is a list
    "{{ params.n }}"
       5:10: warning[FL0111]: parameter `v` has no default, so `git.push` can never start this pipeline (give it a default, or a value under `params` of the trigger)
    "#);
    let long = check(&format!(
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\nconcurrency: {}\nsteps: {{a: {{uses: note}}}}\n",
        "x".repeat(201)
    ));
    assert_snapshot!(long, @"4:14: error[FL0104]: the name of the group is longer than 200 bytes");
}

#[test]
fn the_name_of_a_group_is_never_empty() {
    let named = |group: &str| {
        let source = format!(
            "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\non: {{git.push: {{}}}}\nparams: {{v: {{default: \"\"}}, n: \
             {{type: integer, default: 1}}}}\nconcurrency: {group}\nsteps: {{a: {{uses: note, with: \
             {{text: x}}}}}}\n"
        );
        let compiled = crate::compile(&crate::Source::new("test.yaml", source), &catalog());
        let plan = compiled.unwrap_or_else(|found| panic!("{found:?}")).plan;
        let scope = crate::Scope {
            params: plan.bind(&std::collections::BTreeMap::new()).unwrap(),
            event: serde_json::json!({ "before": null, "actor": ["x"] }),
            vars: serde_json::json!({}),
            steps: std::collections::BTreeMap::new(),
            outcomes: std::collections::BTreeMap::new(),
            run: serde_json::json!({}),
        };
        match plan.concurrency().unwrap().name(&scope) {
            Ok(name) => format!("`{name}`"),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(named("'{{ params.n }}'"), "`1`");
    assert_eq!(named("'v{{ params.v }}'"), "`v`");
    for empty in ["'{{ params.v }}'", "' {{ params.v }} '", "'{{ event.before }}'"] {
        let said = named(empty);
        let text = empty.trim_matches('\'');
        assert_eq!(
            said,
            format!(
                "concurrency.group: the name of the group comes out empty: `{text}` gives no text; put \
                 a text of its own beside it, such as `turns-{text}`, or see to it that what it reads \
                 has a value"
            )
        );
    }
    let said = named("'{{ event.actor }}'");
    assert!(said.contains("is a text, and `{{ event.actor }}` gives `[\"x\"]`"), "{said}");
    let said = named(&format!("'{{{{ params.v }}}}{}'", "x".repeat(201)));
    assert!(said.contains("201 bytes") && said.contains("at most 200"), "{said}");
}

#[test]
fn an_approval_is_checked() {
    assert_snapshot!(check_steps(
        r#"
        a: {approval: {}},
        b: {approval: [qa]},
        c: {approval: {from: qa, min: 0, order: anyhow, expires: 0s, nto: [x]}},
        d: {approval: {from: [], not: [requestor, everybody]}},
        e: {approval: {from: [qa, qa, "", " x", 3, "{{ params.version }}"], min: 1.5, expires: 24}},
        f: {approval: {from: [qa, security], order: sequential, min: 3}},
        g: {approval: {from: [qa, bob], not: [bob, builders-guild]}},
        h: {approval: {from: [qa]}, uses: note, with: {text: x}},
        i: {approval: {from: [qa]}, with: {}, retry: {max: 1}, cache: true, for_each: [x], on_undo: {uses: note}, timeout: 5m, wait: {for: 5m}},
        j: {approval: {from: [qa]}, when: steps.a.approved_by == 1, needs: [k]},
        k: {uses: note, with: {text: "{{ steps.g.approvedby }} {{ steps.g.outcome }}"}},
        l: {uses: note, needs: {g: [rejected]}, with: {data: "{{ steps.g.approved_by }}"}}
"#
    ), @r#"
    3:23: error[FL0102]: `approval` has no `from` (say who may approve, as in `from: [release-managers]`)
    4:23: error[FL0103]: `approval` wants a mapping, and this is a list
    5:30: error[FL0103]: `from` wants a list of names, and this is a text (write `[qa]`)
    5:39: error[FL0104]: `min` wants a whole number from 1
    5:49: error[FL0104]: `order` cannot be `anyhow` (did you mean `any`?)
    5:66: error[FL0107]: `expires` cannot be zero
    5:70: error[FL0101]: `approval` has no key `nto` (did you mean `not`?)
    6:30: error[FL0104]: `from` names nobody
    6:40: warning[FL0104]: `requestor` is read as the name of a user or a group (did you mean `requester`?)
    7:35: error[FL0104]: `qa` stands twice under `from`
    7:39: error[FL0104]: `` is not a name (a name has 1 to 200 characters, and no blanks around it)
    7:43: error[FL0104]: ` x` is not a name (a name has 1 to 200 characters, and no blanks around it)
    7:49: error[FL0103]: an entry of `from` wants a text, and this is a number
    7:52: error[FL0104]: `from` takes names as they are, and no expressions
    7:82: error[FL0104]: `min` wants a whole number from 1
    7:96: error[FL0107]: `expires` wants a duration, and `24` has no unit (write `24s` for seconds)
    8:70: error[FL0104]: `min` is 3, and in order each of the 2 approves once (leave `min` away: it is the number of entries of `from`)
    9:35: error[FL0104]: `bob` stands under `from` and under `not` (remove one of the two)
    10:13: error[FL0112]: step `h` has both `uses` and `approval` (a gate is a step of its own, which this one may need)
    11:37: error[FL0112]: step `i` is a gate, and a gate takes no `with` (beside `approval` stand `needs`, `when` and `description`)
    11:47: error[FL0112]: step `i` is a gate, and a gate takes no `retry` (beside `approval` stand `needs`, `when` and `description`)
    11:64: error[FL0112]: step `i` is a gate, and a gate takes no `cache` (beside `approval` stand `needs`, `when` and `description`)
    11:77: error[FL0112]: step `i` is a gate, and a gate takes no `for_each` (beside `approval` stand `needs`, `when` and `description`)
    11:92: error[FL0112]: step `i` is a gate, and a gate takes no `on_undo` (beside `approval` stand `needs`, `when` and `description`)
    11:115: error[FL0112]: step `i` is a gate, and a gate takes no `timeout` (use `expires` within `approval`)
    11:128: error[FL0112]: step `i` has both `approval` and `wait` (write two steps; `expires` says how long an approval is waited for)
    13:42: error[FL0304]: step `g` has no output `approvedby` (did you mean `approved_by`?)
    14:66: warning[FL0404]: `g` may have no `approved_by`: it may have ended rejected (add `| default(…)`)
    "#);
}

#[test]
fn a_wait_is_checked() {
    assert_snapshot!(check_steps(
        r#"
        a: {wait: 30m},
        b: {wait: {}},
        c: {wait: {for: 30m, until: "2026-12-01T08:00:00Z"}},
        d: {wait: {for: 30, untl: x}},
        e: {wait: {until: "2026-12-01"}},
        f: {wait: {until: "{{ params.fast }}"}},
        g: {wait: {until: "{{ steps.nope.x }} {{ secrets.x }} {{ item }}"}},
        h: {wait: {deadline: 2h}},
        i: {wait: {for: soon}, with: {}, retry: {max: 1}, timeout: 5m},
        j: {uses: note, wait: {for: 30m}},
        k: {uses: note, wait: 2h},
        l: {uses: note, wait: {every: 1m}},
        m: {uses: note, wait: {deadline: 1m, every: 2m}},
        n: {uses: note, wait: {deadline: 0s, evry: 1m}},
        o: {uses: note, wait: [x]},
        p: {wait: {until: 3}},
        q: {uses: note, with: {text: "{{ steps.a.x }}"}}
"#
    ), @r#"
    3:19: error[FL0103]: `wait` wants a mapping, and this is a text (write `{for: 30m}`)
    4:19: error[FL0102]: `wait` has no `for` (write `for: 30m`, or `until: "2026-12-01T08:00:00Z"`)
    5:30: error[FL0112]: `wait` has both `for` and `until` (keep one of the two; two steps wait for both)
    6:25: error[FL0107]: `for` wants a duration, and `30` has no unit (write `30s` for seconds)
    6:29: error[FL0101]: `wait` has no key `untl` (did you mean `until`?)
    7:27: error[FL0104]: `2026-12-01` is not a time (write it with its zone, as in `2026-12-01T08:00:00Z`)
    8:27: error[FL0306]: `until` wants a time, and `params.fast` is a boolean
    9:31: error[FL0303]: there is no step `nope` (there are `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`, `i`, `j`, `k`, `l`, …)
    9:50: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
    9:66: error[FL0302]: there is no `item` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    10:20: error[FL0112]: `deadline` is for a kind that is asked again, and there is none (add `uses`, or write `for` or `until` for a pause of its own)
    11:25: error[FL0107]: `soon` is not a duration: write whole numbers with units, as in `30s`, `5m` or `1h30m`
    11:32: error[FL0112]: step `i` is a gate, and a gate takes no `with` (beside `wait` stand `needs`, `when` and `description`)
    11:42: error[FL0112]: step `i` is a gate, and a gate takes no `retry` (beside `wait` stand `needs`, `when` and `description`)
    11:59: error[FL0112]: step `i` is a gate, and a gate takes no `timeout` (`wait` says itself how long it is)
    12:32: error[FL0112]: `for` is for a pause of its own, and this step has `uses` (write a step with `wait` alone, which this one needs; beside `uses`, `deadline` says how long a "no" is asked again)
    13:31: error[FL0103]: `wait` wants a mapping, and this is a text (write `{deadline: 2h}`)
    14:31: error[FL0102]: `wait` has no `deadline` (say how long a "no" is no answer, as in `deadline: 2h`)
    15:53: error[FL0107]: `every` is longer than `deadline`, which is 1m
    16:42: error[FL0107]: `deadline` cannot be zero
    16:46: error[FL0101]: `wait` has no key `evry` (did you mean `every`?)
    17:31: error[FL0103]: `wait` wants a mapping, and this is a list
    18:27: error[FL0103]: `until` wants a text, and this is a number
    19:42: error[FL0304]: step `a` has no output `x` (it has no outputs)
    "#);
}

#[test]
fn the_items_of_a_step_are_checked() {
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    assert_snapshot!(check_steps(&format!("a: {{uses: note, for_each: [{}]}}", many.join(","))), @"2:27: error[FL0104]: `for_each` has 1001 items, and at most 1000 are made");
    assert_snapshot!(check_steps(
        r#"
        a: {uses: note, for_each: []},
        b: {uses: note, for_each: web},
        c: {uses: note, for_each: "x {{ params.version }}"},
        d: {uses: note, for_each: "{{ params.version }}"},
        e: {uses: note, for_each: {itms: [x]}},
        f: {uses: note, for_each: {items: {a: 1}, max_parallel: 0}},
        g: {uses: note, for_each: [web, api, web]},
        h: {uses: note, for_each: {items: [{name: "a/b"}, {name: ""}, {nam: x}, {name: [x]}, {name: ok}, {name: ok}], key: item.name}},
        i: {uses: note, for_each: {items: [web], key: "{{ item }}"}},
        j: {uses: note, for_each: {items: [web, api], key: params.version}},
        k: {uses: note, for_each: {items: [web], key: item_key}},
        l: {uses: note, for_each: {items: [{n: true}], key: item.n}},
        m: {uses: note, for_each: ["{{ item }}", "{{ secrets.x }}"]},
        n: {uses: note, for_each: "{{ params.versio"},
        o: {uses: note, for_each: 3},
        p: {uses: note, for_each: {items: ["{{ params.version }}", x, x], key: item ~ run.id}},
        q: {uses: note, for_each: ["{{ params.version }}", x, x]},
        r: {uses: note, for_each: {items: [x], key: item +}}
"#
    ), @r#"
    3:35: error[FL0104]: `for_each` has no items
    4:35: error[FL0103]: `for_each` wants a list, and this is a text (write `[web, api]`, or one whole expression such as `"{{ steps.build.images }}"`)
    5:35: error[FL0103]: `for_each` wants a list, and this is a text (write `[web, api]`, or one whole expression such as `"{{ steps.build.images }}"`)
    6:35: error[FL0306]: `for_each` wants a list, and `params.version` is a text
    7:35: error[FL0102]: `for_each` has no `items` (give the list, as in `items: [web, api]`)
    7:36: error[FL0101]: `for_each` has no key `itms` (did you mean `items`?)
    8:43: error[FL0103]: `items` wants a list, and this is a mapping
    8:65: error[FL0104]: `max_parallel` wants a whole number from 1
    9:46: error[FL0113]: two items have the key `web` (remove one of the two)
    10:44: error[FL0113]: `a/b` cannot be the key of an item: it has 1 to 63 letters, digits, `.`, `_` and `-`
    10:59: error[FL0113]: `` cannot be the key of an item: it has 1 to 63 letters, digits, `.`, `_` and `-`
    10:71: error[FL0113]: `item.name`: this item has no `name`
    10:81: error[FL0113]: a key is a text, and this is `["x"]`
    10:106: error[FL0113]: two items have the key `ok` (a key that tells them apart reads more of the item)
    10:124: error[FL0305]: an item has no `name` (did you mean `nam`?)
    11:55: error[FL0301]: the key of an item is an expression already, and takes no braces (write `item`)
    12:60: error[FL0113]: this key is the same for every item (read `item` in it, as in `item.name`)
    13:55: error[FL0302]: there is no `item_key` yet: this is what gives it (read the key out of `item`)
    14:44: error[FL0113]: a key is a text, and this is `true`
    14:61: error[FL0306]: the key of an item is a text, and `item.n` is a boolean
    15:40: error[FL0302]: there is no `item` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    15:54: error[FL0307]: no secret can be read here (secrets are for inputs of steps that are made for them)
    16:36: error[FL0301]: a `{{` has no `}}` (to write two braces as they are: `{{ "{{" }}`)
    17:35: error[FL0103]: `for_each` wants a list, and this is a number
    19:63: error[FL0113]: two items have the key `x` (remove one of the two)
    20:58: error[FL0301]: `item +`: unexpected end of input, expected expression
    "#);
}

#[test]
fn what_is_read_of_items_is_checked() {
    assert_snapshot!(check_steps(
        r#"
        build: {uses: build, with: {image: registry.example.com/shop}},
        all: {uses: scan, for_each: {items: [{name: web, n: 3}, {name: api}], key: item.name}, with: {image: "{{ item.name }}", limit: "{{ item.n }}", within: "{{ item.n | default('1s') }}"}},
        texts: {uses: scan, for_each: [web, api], with: {image: "{{ steps.build.image }}", limit: "{{ item }}", offline: "{{ item.name }}"}},
        mixed: {uses: note, for_each: [web, 3], with: {text: "{{ item }}", lines: "{{ item }}"}},
        platforms: {uses: note, for_each: "{{ steps.build.platforms }}", with: {text: "{{ item.os }}", data: "{{ item_key.x }}"}},
        open: {uses: note, for_each: "{{ steps.build.platforms | sort }}", with: {text: "{{ item.os }}"}, when: item == "x"},
        self: {uses: scan, for_each: "{{ steps.self.items }}", with: {image: "{{ steps.self.by_key.web.report }}"}},
        reads: {uses: note, with: {lines: ["{{ steps.all.report }}", "{{ steps.all.by_key.wbe.report }}", "{{ steps.all.by_key.web.repot }}", "{{ steps.all.items[0].repot }}", "{{ steps.all.items.report }}", "{{ steps.all[0] }}", "{{ steps.all.by_key[0] }}", "{{ steps.build.items }}"]}},
        types: {uses: scan, with: {image: "{{ steps.build.image }}", baseline: "{{ steps.all.by_key.web.report }}", limit: "{{ steps.all.items }}", offline: "{{ steps.all.by_key }}"}},
        item: {uses: note, with: {text: "{{ item }} {{ item_key }}"}, when: item_key == "x"},
        each: {uses: note, for_each: "{{ steps.all.by_key }}"},
        some: {uses: scan, for_each: [web], when: item == "web", with: {image: "{{ steps.build.image }}"}},
        of-some: {uses: note, with: {data: "{{ steps.some.items }}", text: "{{ steps.some.by_key.web.findings }}{{ steps.some.items[0].findings | default(0) }}"}},
        later: {uses: note, needs: {all: [passed, failed]}, with: {data: "{{ steps.all.items }}", text: "{{ steps.all.outcome }}"}}
"#
    ), @r#"
    4:140: error[FL0305]: not every item has `n` (give each item one, or write `| default(…)` behind `n`)
    5:99: error[FL0306]: input `limit` wants a whole number, and `item` is a text
    5:126: error[FL0305]: an item has no `name` (the items have nothing in them)
    6:83: error[FL0306]: input `lines` wants a list, and `item` is a text or a whole number
    7:91: error[FL0305]: an item has no `os` (the items have nothing in them)
    7:114: error[FL0305]: `item_key` is a text, with nothing in it
    9:42: error[FL0401]: step `self` reads itself
    9:82: error[FL0401]: step `self` reads itself
    10:48: error[FL0304]: step `all` has no output `report` but one for each item (`steps.all.items` is the list of what they gave, and `steps.all.by_key` has it by key)
    10:74: error[FL0304]: step `all` has no item `wbe` (did you mean `web`?)
    10:111: error[FL0304]: step `all` has no output `repot` (did you mean `report`?)
    10:147: error[FL0304]: step `all` has no output `repot` (did you mean `report`?)
    10:181: error[FL0304]: `steps.all.items` has no such part (one item is `steps.all.items[0]`, or `steps.all.by_key.<key>`)
    10:213: error[FL0304]: step `all` is a mapping, with `items` and `by_key` in it (write `steps.all.items[0]`)
    10:235: error[FL0304]: `steps.all.by_key` has no such part (one item is `steps.all.items[0]`, or `steps.all.by_key.<key>`)
    10:264: error[FL0304]: step `build` has no output `items` (there are `digest`, `image`, `platforms`)
    11:124: error[FL0306]: input `limit` wants a whole number, and `steps.all.items` is a list
    11:158: error[FL0306]: input `offline` wants a boolean, and `steps.all.by_key` is a mapping
    12:45: error[FL0302]: there is no `item` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    12:56: error[FL0302]: there is no `item_key` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    12:77: error[FL0302]: there is no `item_key` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    13:38: error[FL0306]: `for_each` wants a list, and `steps.all.by_key` is a mapping
    15:80: warning[FL0404]: `some` may have no such item: its `when` decides of each (read `items` or `by_key` as a whole, or add `| default(…)`)
    16:78: warning[FL0404]: `all` may have no `items`: it may have ended failed (add `| default(…)`)
    "#);
}

#[test]
fn what_is_cached_and_taken_back_is_checked() {
    let name = "n".repeat(59);
    assert_snapshot!(check_steps(
        &r#"
        a: {uses: note, cache: true},
        b: {uses: build, cache: {ttl: 5}, with: {image: registry.example.com/shop}},
        c: {uses: scan, cache: yes, with: {image: "{{ steps.b.image }}"}},
        d: {uses: scan, cache: {tl: 5m}, with: {image: "{{ steps.b.image }}"}},
        e: {uses: note, on_undo: {}},
        f: {uses: note, on_undo: note},
        g: {uses: note, on_undo: {uses: nte, wit: {}, retry: {max: 99}, timeout: 0s}},
        h: {uses: build, with: {image: registry.example.com/shop}, on_undo: {uses: scan, with: {image: "{{ steps.h.image }}", limit: "{{ steps.h.image }}", offline: "{{ steps.h.nope }}", baseline: "{{ run.summary }}"}}},
        i: {uses: note, on_undo: {uses: note, with: {text: "{{ item }} {{ steps.last.outcome }} {{ secrets.x }}", token: "{{ secrets.x }}", lines: ["{{ steps.a.outcome }}"]}}},
        NAME: {uses: note, on_undo: {uses: note}},
        undo-e: {uses: note},
        j: {uses: note, with: {text: "{{ steps.j.outcome }}"}, on_undo: {uses: note, with: {text: hey!}}},
        k: {uses: build, for_each: [web, api], with: {image: "registry.example.com/{{ item }}"}, on_undo: {uses: note, with: {text: "{{ steps.k.image }} {{ item }} {{ item_key }}", lines: ["{{ steps.k.by_key.web.image }}"]}}}
        ---
        last: {uses: note, on_undo: {uses: note, with: {text: "{{ run.summary }}"}}}
"#.replace("NAME", &name)
    ), @r#"
    3:25: error[FL0206]: the results of `note` cannot be cached: its kind is not pure, it changes things outside (leave `cache` away)
    4:26: error[FL0206]: the results of `build` cannot be cached: its kind is not pure, it changes things outside (leave `cache` away)
    4:39: error[FL0107]: `ttl` wants a duration, and `5` has no unit (write `5s` for seconds)
    5:32: error[FL0103]: `cache` wants `true`, `false`, or `{ttl: 7d}`, and this is a text
    6:33: error[FL0101]: `cache` has no key `tl` (did you mean `ttl`?)
    7:25: error[FL0102]: `on_undo` has no `uses` (name the step kind that takes the step back)
    8:34: error[FL0103]: `on_undo` wants a mapping, and this is a text
    9:41: error[FL0201]: there is no step kind `nte` (did you mean `note`?)
    9:46: error[FL0101]: `on_undo` has no key `wit` (did you mean `with`?)
    9:68: error[FL0104]: `max` wants a whole number from 0 to 20
    9:82: error[FL0107]: `timeout` cannot be zero
    10:134: error[FL0306]: input `limit` wants a whole number, and `steps.h.image` is an image with its digest
    10:170: error[FL0304]: step `h` has no output `nope` (there are `digest`, `image`, `platforms`)
    10:202: error[FL0305]: a run that takes steps back has no `run.summary` for them
    11:64: error[FL0302]: there is no `item` here (`item` and `item_key` are there where a step with `for_each` is made for each item: under `with`, `when` and `on_undo`)
    11:75: error[FL0402]: `last` runs after every step under `steps`, so none can read it (move `last` from `finally` to `steps`)
    11:100: error[FL0307]: a secret stands alone: it cannot be part of a text or of an expression (write `{{ secrets.NAME }}` and nothing beside it)
    11:122: error[FL0307]: step kind `note` may not receive secrets
    12:9: error[FL0106]: `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn` is longer than 58 characters (a step with `on_undo` has a shorter name: `undo-` and that name take it back)
    13:9: error[FL0106]: `undo-e` is the name of the step that takes `e` back (give it another name)
    14:42: error[FL0401]: step `j` reads itself
    14:99: error[FL0205]: input `text`: it shouts (speak lower)
    15:194: error[FL0304]: this output of step `k` has no `by_key` (there are `digest`, `image`, `platforms`)
    17:67: error[FL0305]: a run that takes steps back has no `run.summary` for them
    "#);
}

#[test]
fn phases_are_checked() {
    assert_snapshot!(check(
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: a
steps:
  a: {uses: note, on: [failed], with: {text: "{{ steps.clean.outcome }}"}}
  b: {uses: note, needs: [clean, report]}
on_failure:
  clean: {uses: note, on: [passed, failed], needs: [a]}
  more: {uses: note, on: always, with: {text: "{{ steps.report.outcome }}"}}
  none: {uses: note, on: []}
  a: {uses: note, on: [faild]}
  good: {uses: note, needs: [more], with: {text: "{{ steps.b.outcome }}{{ run.outcome }}"}}
finally:
  report: {uses: note, needs: [clean], on: {failed: true}}
"#
    ), @r#"
    6:19: error[FL0112]: step `a` stands under `steps`, where no `on` may stand (it says after which end of the run a step under `on_failure` or `finally` runs; a main step has `when`, and `needs` with outcomes)
    6:50: error[FL0402]: `clean` runs after every step under `steps`, so none can read it (move `clean` from `on_failure` to `steps`)
    7:27: error[FL0402]: `clean` runs after every step under `steps`, so `b` cannot need it
    7:34: error[FL0402]: `report` runs after every step under `steps`, so `b` cannot need it
    9:28: error[FL0104]: `on` of a step under `on_failure` cannot be `passed` (what runs after a good run, too, stands under `finally`)
    9:53: error[FL0402]: `clean` runs after every step under `steps`, and cannot need `a` (to look at how it ended: `when: steps.a.outcome == "passed"`)
    10:26: error[FL0104]: `on` of a step under `on_failure` cannot be `always` (what runs after a good run, too, stands under `finally`)
    10:51: error[FL0402]: `report` runs after every step under `on_failure`, so none can read it (move `report` from `finally` to `on_failure`)
    11:26: error[FL0104]: `on`: the list of outcomes is empty (the outcomes are `passed`, `rejected`, `failed`, `cancelled`)
    12:3: error[FL0106]: step `a` stands under `steps` already
    12:24: error[FL0104]: `on` cannot be `faild` (did you mean `failed`?)
    15:32: error[FL0402]: `report` runs after every step under `on_failure`, and cannot need `clean` (to look at how it ended: `when: steps.clean.outcome == "passed"`)
    15:44: error[FL0103]: `on` wants a list of outcomes, and this is a mapping
    "#);
    assert_snapshot!(check("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: a\nsteps: {a: {uses: note}}\non_failure: [x]\nfinaly: {}\n"), @r#"
    5:13: error[FL0103]: `on_failure` wants a mapping, and this is a list
    6:1: error[FL0101]: a pipeline has no key `finaly` (did you mean `finally`?)
    "#);
}
