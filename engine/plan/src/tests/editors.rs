//! The JSON Schema of a file takes what compiles, and refuses what cannot.

use serde_json::Value;

use super::{fakes, pipeline};
use crate::{Source, compile, pipeline_schema};

fn as_json(yaml: &str) -> Value {
    let mut found = Vec::new();
    let node = crate::yaml::parse(&Source::new("pipeline.yaml", yaml), &mut found);
    node.unwrap_or_else(|| panic!("{found:?}")).json()
}

#[test]
fn good_files_fit_the_schema() {
    let catalog = fakes::catalog();
    let schema = jsonschema::draft202012::new(&pipeline_schema(&catalog)).unwrap();
    for steps in [
        r#"a: {uses: build, with: {image: r.example.com/shop, platforms: ["{{ params.version }}"], secrets: {x: "{{ secrets.x }}"}}}"#,
        r#"a: {uses: scan, with: {image: "{{ event.image }}", limit: "{{ params.count }}", offline: "{{ params.fast }}", fail_on: {severity: critical}}}"#,
        r#"a: {uses: sign, with: {image: "{{ event.image }}", key: {type: private, pem: "{{ secrets.x }}"}}}"#,
        "a: {uses: note}, b: {uses: note, with: {lines: [x]}, needs: {a: [passed, failed]}, when: true, retry: {max: 2, backoff: 1s..2m, on: any}, timeout: 5m}\n---\nz: {uses: note, on: always}",
        "a: {uses: note, pool: arm64, labels: {kubernetes.io/arch: arm64}, resources: {memory: 512Mi, cpu: 1.5, pids: 100, disk: 1000000}}, b: {uses: note, resources: {cpu: 500m, memory: 2G}}",
    ] {
        let yaml = pipeline(steps);
        compile(&Source::new("pipeline.yaml", yaml.as_str()), &catalog).unwrap();
        let problems: Vec<String> = schema
            .iter_errors(&as_json(&yaml))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{yaml}\n{problems:?}");
    }
}

#[test]
fn bad_files_do_not() {
    let catalog = fakes::catalog();
    let schema = jsonschema::draft202012::new(&pipeline_schema(&catalog)).unwrap();
    for steps in [
        "a: {uses: bulid}",
        "a: {uses: build}",
        "a: {}",
        "A: {uses: note}",
        "a: {uses: note, with: {txt: x}}",
        "a: {uses: note, with: {lines: x}}",
        "a: {uses: note, with: '{{ params.version }}'}",
        "a: {uses: scan, with: {image: '{{ event.image }}', limit: 999}}",
        "a: {uses: scan, with: {image: '{{ event.image }}', fail_on: {severity: high}}}",
        "a: {uses: sign, with: {image: '{{ event.image }}', key: {type: other}}}",
        "a: {uses: note, retry: {backoff: 1s}}",
        "a: {uses: note, timeout: 5}",
        "a: {uses: note, needs: {b: [gone]}}",
        "a: {uses: note, on: [failed]}",
        "a: {uses: note, pool: 'a b'}",
        "a: {uses: note, labels: {a: 1}}",
        "a: {uses: note, resources: {memory: 1.5Gi}}",
        "a: {uses: note, resources: {cpu: 0}}",
        "a: {uses: note, resources: {gpu: 1}}",
        "a: {approval: {from: [qa]}, pool: arm64}",
    ] {
        let yaml = pipeline(steps);
        assert!(!schema.is_valid(&as_json(&yaml)), "{yaml}");
        assert!(compile(&Source::new("pipeline.yaml", yaml.as_str()), &catalog).is_err(), "{yaml}");
    }
}
