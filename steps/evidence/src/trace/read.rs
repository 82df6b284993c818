//! What statements of the usual types say, in a line each. What a stranger wrote is read here: every field
//! may be missing or of another kind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Stage;
use crate::PredicateType;
use crate::statement::Statement;

/// BuildKit's and everybody's unsigned statements.
pub(super) fn is_statement(media_type: &str) -> bool {
    media_type == "application/vnd.in-toto+json"
}

/// What a document of this media type is that hangs at an image by itself.
pub(super) fn document(media_type: &str) -> Option<(Stage, String)> {
    Some(match media_type {
        "application/spdx+json" | "text/spdx+json" => {
            (Stage::Contents, "a bill of materials (SPDX)".to_owned())
        }
        "application/vnd.cyclonedx+json" => {
            (Stage::Contents, "a bill of materials (CycloneDX)".to_owned())
        }
        "application/vnd.dev.fairlead.promotion.v1+json" => {
            (Stage::Promotion, "a record of a promotion".to_owned())
        }
        _ => return None,
    })
}

/// One thing that a statement tells.
pub(super) struct Told {
    pub(super) stage: Stage,
    pub(super) summary: String,
    pub(super) details: BTreeMap<String, Value>,
}

impl Told {
    fn new(stage: Stage, summary: String) -> Self {
        Self { stage, summary, details: BTreeMap::new() }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        if !value.is_null() {
            self.details.insert(name.to_owned(), value);
        }
        self
    }
}

/// A text as it may stand in a line: bounded, and without what moves cursors.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What `statement` tells.
pub(super) fn tell(statement: &Statement) -> Vec<Told> {
    let predicate = &statement.predicate;
    match statement.predicate_type.as_str() {
        PredicateType::PROVENANCE => {
            provenance(predicate, "/buildDefinition/resolvedDependencies", "/runDetails/builder/id")
        }
        "https://slsa.dev/provenance/v0.2" => provenance(predicate, "/materials", "/builder/id"),
        PredicateType::SPDX => {
            let version = text(predicate, "/spdxVersion").map_or_else(|| "SPDX".to_owned(), plain);
            let count = list(predicate, "/packages").len();
            vec![Told::new(Stage::Contents, format!("{version}, {count} packages"))]
        }
        PredicateType::CYCLONEDX => {
            let version = text(predicate, "/specVersion").map_or_else(String::new, plain);
            let count = list(predicate, "/components").len();
            vec![Told::new(Stage::Contents, format!("CycloneDX {version}, {count} components"))]
        }
        PredicateType::VULN => vec![vulnerabilities(predicate)],
        PredicateType::TEST_RESULT => {
            let result = text(predicate, "/result").map_or_else(|| "no result".to_owned(), plain);
            let count = |name: &str| list(predicate, name).len();
            let (good, bad) = (count("/passedTests"), count("/failedTests"));
            let counts = format!("{result}: {good} passed, {bad} failed");
            vec![Told::new(Stage::Tests, counts)]
        }
        PredicateType::RELEASE => vec![release(predicate)],
        PredicateType::REFERENCE => {
            let kind = text(predicate, "/references/0/annotations/predicateType");
            let stage = match kind {
                Some(PredicateType::SPDX | PredicateType::CYCLONEDX) => Stage::Contents,
                Some(PredicateType::VULN) => Stage::Findings,
                Some(_) | None => Stage::Other,
            };
            let name = text(predicate, "/references/0/name").map_or_else(String::new, plain);
            let told = Told::new(stage, format!("a document by its digest: {name}"));
            vec![told.with("digest", predicate["references"][0]["digest"].clone())]
        }
        other => vec![Told::new(Stage::Other, plain(other))],
    }
}

fn provenance(predicate: &Value, dependencies: &str, builder: &str) -> Vec<Told> {
    let mut told = Vec::new();
    for dependency in list(predicate, dependencies) {
        let commit = text(dependency, "/digest/gitCommit").or_else(|| {
            // Before version 1, a commit went by its hash alone.
            let is_git = text(dependency, "/uri").is_some_and(|uri| uri.starts_with("git+"));
            text(dependency, "/digest/sha1").filter(|_| is_git)
        });
        let Some(commit) = commit else { continue };
        let of = match text(dependency, "/uri") {
            Some(uri) => format!(" of {}", plain(uri)),
            None if dependency.pointer("/annotations/fairlead_local").is_some() => {
                ", as a local checkout says".to_owned()
            }
            None => String::new(),
        };
        told.push(
            Told::new(Stage::Source, format!("commit {}{of}", plain(commit)))
                .with("commit", json!(commit))
                .with("uri", dependency["uri"].clone()),
        );
    }
    let by = text(predicate, builder).map_or_else(|| "nobody named".to_owned(), plain);
    let mut summary = match text(predicate, "/buildDefinition/externalParameters/pipeline") {
        Some(pipeline) => format!("pipeline {}", plain(pipeline)),
        None => "built".to_owned(),
    };
    if let Some(run) = text(predicate, "/runDetails/metadata/invocationId") {
        summary.push_str(&format!(", run {}", plain(run)));
    }
    if let Some(asked) = text(predicate, "/buildDefinition/internalParameters/requestedBy") {
        summary.push_str(&format!(", asked for by {}", plain(asked)));
    }
    let steps = list(predicate, "/runDetails/fairlead_steps");
    let mut approvers: Vec<String> = steps
        .iter()
        .flat_map(|step| list(step, "/approvedBy"))
        .filter_map(|name| name.as_str().map(plain))
        .collect();
    approvers.sort();
    approvers.dedup();
    if !approvers.is_empty() {
        summary.push_str(&format!(", approved by {}", approvers.join(", ")));
    }
    summary.push_str(&format!(", by {by}"));
    let ids: Vec<&Value> = steps.iter().filter_map(|step| step.get("id")).collect();
    told.push(
        Told::new(Stage::Build, summary)
            .with("builder", json!(by))
            .with("steps", if ids.is_empty() { Value::Null } else { json!(ids) })
            .with("approvers", if approvers.is_empty() { Value::Null } else { json!(approvers) }),
    );
    told
}

fn vulnerabilities(predicate: &Value) -> Told {
    let scanner = text(predicate, "/scanner/uri").map_or_else(|| "a scanner".to_owned(), plain);
    let count = predicate.pointer("/scanner/result/summary/findings").and_then(Value::as_u64);
    let found = match count {
        Some(0) => "no findings".to_owned(),
        Some(1) => "1 finding".to_owned(),
        Some(count) => format!("{count} findings"),
        None => "a report".to_owned(),
    };
    Told::new(Stage::Findings, format!("{found}, by {scanner}"))
        .with("finishedOn", predicate["metadata"]["scanFinishedOn"].clone())
        .with("counts", predicate["scanner"]["result"]["summary"]["counts"].clone())
}

fn release(predicate: &Value) -> Told {
    let ours = &predicate["fairlead"];
    let Some(to) = text(ours, "/repository") else {
        let purl = text(predicate, "/purl").map_or_else(String::new, plain);
        return Told::new(Stage::Promotion, format!("released as {purl}"));
    };
    let names = |values: Vec<&str>| values.into_iter().map(plain).collect::<Vec<_>>().join(", ");
    let tags = names(list(ours, "/tags").iter().filter_map(Value::as_str).collect());
    let channels = ours["channels"].as_object();
    let channels = names(channels.into_iter().flatten().map(|(name, _)| name.as_str()).collect());
    let mut summary = format!("promoted to {}", plain(to));
    for (word, names) in [("as", tags), ("to channel", channels)] {
        if !names.is_empty() {
            summary.push_str(&format!(" {word} {names}"));
        }
    }
    if let Some(environment) = text(ours, "/environment") {
        summary.push_str(&format!(" for {}", plain(environment)));
    }
    if let Some(from) = text(ours, "/from") {
        let place = from.split_once('@').map_or(from, |(place, _)| place);
        summary.push_str(&format!(", from {}", plain(place)));
    }
    Told::new(Stage::Promotion, summary)
        .with("from", ours["from"].clone())
        .with("at", ours["at"].clone())
        .with("run", ours["run"].clone())
}
