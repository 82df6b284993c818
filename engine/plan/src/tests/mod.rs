//! Tests at the boundary: a file goes in, findings or a plan come out.

mod editors;
mod fakes;
mod findings;
mod images;
mod language;
mod nulls;
mod placement;
mod plans;
mod properties;
mod starts;
mod timetable;
mod vars;

use crate::{Compiled, Source, compile};

/// The findings of a file, one a line, warnings of a good file included.
fn check(yaml: &str) -> String {
    let source = Source::new("pipeline.yaml", yaml);
    let findings = match compile(&source, &fakes::catalog()) {
        Ok(Compiled { warnings, .. }) => warnings,
        Err(findings) => findings,
    };
    let text = findings.to_string().replace("pipeline.yaml:", "");
    if text.is_empty() { "fine".to_owned() } else { text }
}

/// The findings of a file that has only these steps, lines counted from the first step.
fn check_steps(steps: &str) -> String {
    check(&pipeline(steps))
}

/// A pipeline with these steps; the head is one line, so that steps begin in line 2.
fn pipeline(steps: &str) -> String {
    let head = "{apiVersion: fairlead.dev/v1, kind: Pipeline, name: test, params: {version: \
                {default: v1}, count: {type: integer, default: 3}, fast: {type: boolean, default: \
                false}}, on: {registry.push: {repository: apps/*}}, steps: {\n";
    let (main, end) = steps.split_once("---\n").unwrap_or((steps, ""));
    format!("{head}{main}}}, finally: {{\n{end}}}}}\n")
}

/// A pipeline with every key of the language in it.
const EVERY_KEY: &str = r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: release
on: {git.push: {branches: [main]}}
params: {version: {default: v1}, at: {default: "2026-12-01T08:00:00Z"}}
concurrency: {group: "release/{{ params.version }}/{{ event.branch }}/{{ run.pipeline }}", policy: cancel-running, max: 2}
workspace: {depth: all, sparse: [apps/shop, deploy], partial: true}
steps:
  build:
    uses: build
    for_each: {items: [{name: web, dir: ./web}, {name: api, dir: "./{{ params.version }}"}], key: item.name, max_parallel: 1}
    with: {context: "{{ item.dir }}", image: "registry.example.com/{{ item_key }}"}
    when: item.name != "api" or params.version != "v0"
    on_undo:
      uses: note
      with: {text: "{{ steps.build.image }} of {{ item.name }}, {{ params.version }}", data: "{{ steps.build.outcome }}"}
      retry: {max: 2, backoff: 1s..4s}
      timeout: 1m
  scan:
    uses: scan
    for_each: "{{ steps.build.items }}"
    with: {image: "{{ item.image }}"}
    cache: {ttl: 7d}
    wait: {deadline: 2h, every: 1m}
    retry: {max: 1}
    timeout: 5m
  one: {uses: build, pool: arm64, labels: {kubernetes.io/arch: arm64, disk: fast}, resources: {memory: 512Mi, cpu: 1.5, pids: 200, disk: 10G}, with: {image: registry.example.com/one}}
  plain: {uses: scan, for_each: [web, api, 3, true], cache: true, with: {image: "{{ steps.one.image }}"}}
  soak: {wait: {for: 30m}, needs: [scan]}
  moment: {wait: {until: "{{ params.at }}"}, when: params.version != "v0"}
  fixed: {wait: {until: "2026-12-01T08:00:00+01:00"}, description: Monday}
  approve: {approval: {from: [qa, release-managers], min: 2, order: any, expires: 24h, not: [requester, builder, approvers, somebody]}, needs: {soak: [passed, skipped]}}
  turn: {approval: {from: [qa, security, owner], order: sequential, min: 3}}
  tell: {uses: note, with: {lines: "{{ steps.approve.approved_by }}", data: "{{ steps.scan.by_key['web'].report }}", text: "{{ steps.plain.items[0].findings }}{{ steps.soak.outcome }}{{ steps.scan.outcome }}"}, cache: false}
on_failure:
  clean: {uses: note, with: {text: "{{ run.outcome }}: {{ run.summary }}"}}
  more: {uses: note, on: [failed, cancelled], needs: [clean]}
  ask: {approval: {from: [qa]}, on: rejected}
finally:
  report: {uses: note, on: [failed], with: {text: "{{ steps.clean.outcome }}"}}
  pause: {wait: {for: 1s}, on: always}
"#;
