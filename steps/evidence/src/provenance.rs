//! SLSA provenance v1, made from what a run's journal says up to the step that attests.

use fairlead_step::{History, RunInfo, StepHistory, Workspace};
use serde_json::{Map, Value, json};

/// How the rest of the document is to be read: parameters are those of a pipeline file.
const BUILD_TYPE: &str = "https://fairlead.dev/pipeline/v1";

/// The predicate of SLSA provenance v1 for what `info`'s run has made so far. `builder` says who built
/// it, as a URI. No secret can be in it: a journal holds none.
///
/// What a standard reader looks for stands where the specification puts it; every step with its attempts,
/// approvers and the digest of its input stands in the vendor's own fields, as the specification allows.
#[must_use]
pub fn provenance(history: &History, info: &RunInfo, builder: &str) -> Value {
    let steps: Vec<Value> = history.steps.iter().map(step).collect();
    let finished = history.steps.iter().filter_map(|step| step.ended_at).max();
    let byproducts: Vec<Value> = history
        .steps
        .iter()
        .flat_map(|step| step.documents.iter().map(move |document| (step, document)))
        .map(|(step, document)| {
            json!({
                "name": format!("{}/{}", step.id, document.name),
                "digest": { document.digest.algorithm().name(): document.digest.hex() },
                "mediaType": document.media_type,
            })
        })
        .collect();
    let mut metadata = json!({
        "invocationId": info.run,
        "startedOn": history.requested_at,
    });
    if let Some(finished) = finished {
        metadata["finishedOn"] = json!(finished);
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "pipeline": history.pipeline,
                "parameters": history.params,
                "workspace": workspace_name(&history.workspace),
            },
            "internalParameters": internal(history),
            "resolvedDependencies": dependencies(history),
        },
        "runDetails": {
            "builder": { "id": builder, "version": { "fairlead": history.engine } },
            "metadata": metadata,
            "byproducts": byproducts,
            "fairlead_steps": steps,
            "fairlead_journal": {
                "records": history.journal.records,
                "digest": { "sha256": history.journal.digest.hex() },
            },
        },
    })
}

fn internal(history: &History) -> Value {
    let mut internal = json!({
        "requestedBy": history.requested_by,
        "plan": { "digest": { "sha256": history.plan.hex() } },
    });
    if let Some(event) = &history.event_id {
        internal["event"] = json!(event);
    }
    if let Some(origin) = &history.origin {
        internal["origin"] = json!({ "run": origin.run, "purpose": origin.purpose });
    }
    internal
}

fn workspace_name(workspace: &Workspace) -> &'static str {
    match workspace {
        Workspace::Empty {} => "empty",
        Workspace::Git(_) => "git",
        Workspace::Archive { .. } => "archive",
        Workspace::Local { .. } => "local",
    }
}

/// What went in, by digest: the source, the pipeline file, and the images that steps were given.
fn dependencies(history: &History) -> Vec<Value> {
    let mut all = Vec::new();
    match &history.workspace {
        Workspace::Git(git) => {
            let place = git.clone_url.as_deref().unwrap_or(&git.repository);
            let reference = git.reference.iter().map(|name| format!("@{name}")).collect::<String>();
            all.push(json!({
                "name": "source",
                "uri": format!("git+{place}{reference}"),
                "digest": { "gitCommit": git.commit },
            }));
        }
        Workspace::Archive { digest } => all.push(json!({
            "name": "source",
            "digest": { digest.algorithm().name(): digest.hex() },
        })),
        // A folder has no digest; where it is a checkout, its commit is told as what it is: a claim.
        Workspace::Local { .. } => {
            if let Some(commit) = &history.local_commit {
                all.push(json!({
                    "name": "source",
                    "digest": { "gitCommit": commit },
                    "annotations": { "fairlead_local": true },
                }));
            }
        }
        Workspace::Empty {} => {}
    }
    all.push(json!({
        "name": "pipeline",
        "uri": history.pipeline_file,
        "digest": { "sha256": history.pipeline_digest.hex() },
    }));
    all
}

fn step(step: &StepHistory) -> Value {
    let mut told = Map::from_iter([
        ("id".to_owned(), json!(step.id)),
        ("kind".to_owned(), json!(step.kind)),
        ("status".to_owned(), json!(step.status)),
    ]);
    let mut tell = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
    if !step.version.is_empty() {
        tell("version", json!(step.version));
    }
    if let Some(input) = &step.input {
        tell("input", json!({ "digest": { "sha256": input.hex() } }));
    }
    if !step.attempts.is_empty() {
        tell("attempts", json!(step.attempts));
    }
    if !step.approvers.is_empty() {
        tell("approvedBy", json!(step.approvers));
    }
    if !step.images.is_empty() {
        tell("images", json!(step.images));
    }
    if let Some(reason) = &step.reason {
        tell("reason", json!(reason));
    }
    Value::Object(told)
}
