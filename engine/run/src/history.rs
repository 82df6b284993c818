//! What a run has done so far, as data for the steps that tell of it.

use fairlead_step::{
    Artifact, AttemptHistory, Digest, History, Image, JournalHead, OriginHistory, StepHistory,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::gates::GateEnd;
use crate::run::Why;
use crate::view::StepView;
use crate::{Run, bounded_text};

/// The most images and documents of one step that are told.
const MOST_FOUND: usize = 1000;

impl Run {
    /// What it has done up to now. The journal has all of it; no secret is in either.
    #[must_use]
    pub fn history(&self) -> History {
        let (plan, request) = (self.plan(), self.request());
        History {
            engine: request.engine.clone(),
            pipeline: request.pipeline.clone(),
            pipeline_file: plan.source_name().to_owned(),
            pipeline_digest: plan.source_digest().clone(),
            plan: request.plan.clone(),
            requested_at: self.requested_at(),
            requested_by: request.by.clone(),
            event_id: request.event_id.clone(),
            params: request.params.clone(),
            workspace: request.workspace.clone(),
            local_commit: None,
            origin: request.origin.as_ref().map(|origin| OriginHistory {
                run: origin.run.clone(),
                purpose: origin.purpose.to_string(),
            }),
            journal: JournalHead { records: self.seq().0, digest: self.head().digest() },
            steps: self.steps().map(|step| self.step_history(step)).collect(),
        }
    }

    fn step_history(&self, step: StepView<'_>) -> StepHistory {
        let began = !step.attempts().is_empty();
        // What it was given is what it would be given now: outputs of steps that ended stay.
        let input = self.render(step.id()).ok().filter(|_| began);
        let mut found = Found::default();
        if let Some(outputs) = step.outputs() {
            found.look(outputs);
        }
        let approvers = match step.why() {
            Some(Why::Gate(GateEnd::Approved(by))) => by.clone(),
            Some(
                Why::Gate(GateEnd::Rejected { .. } | GateEnd::Expired { .. } | GateEnd::TimeCame)
                | Why::Skipped(_)
                | Why::NotStarted(_)
                | Why::RunCancelled
                | Why::Undecided(_)
                | Why::LostForGood(_)
                | Why::TooOftenLost
                | Why::Kept(_)
                | Why::Settled { .. }
                | Why::Items { .. },
            )
            | None => Vec::new(),
        };
        StepHistory {
            id: step.id().clone(),
            kind: step.plan().kind.clone(),
            version: step.plan().kind_version.clone(),
            status: step.status().name().to_owned(),
            reason: step.reason().map(bounded_text),
            input: input.map(|input| Digest::sha256(input.display().to_string().as_bytes())),
            attempts: step
                .attempts()
                .iter()
                .map(|attempt| AttemptHistory {
                    number: attempt.number,
                    started_at: attempt.started_at,
                    ended_at: attempt.ended.as_ref().map(|(at, _)| *at),
                    end: attempt.ended.as_ref().map(|(_, end)| bounded_text(end.to_string())),
                })
                .collect(),
            approvers,
            images: found.images,
            documents: found.documents,
            ended_at: step.ended_at(),
        }
    }
}

/// What outputs name by digest.
#[derive(Default)]
struct Found {
    images: Vec<Image>,
    documents: Vec<Artifact>,
}

impl Found {
    fn look(&mut self, value: &Value) {
        if self.images.len() + self.documents.len() >= MOST_FOUND {
            return;
        }
        match value {
            Value::String(text) => {
                if let Ok(image) = text.parse::<Image>()
                    && !self.images.contains(&image)
                {
                    self.images.push(image);
                }
            }
            Value::Object(fields) => {
                if let Ok(document) = Artifact::deserialize(value) {
                    if !self.documents.contains(&document) {
                        self.documents.push(document);
                    }
                    return;
                }
                fields.values().for_each(|field| self.look(field));
            }
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
