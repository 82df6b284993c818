//! The triggers: events are matched with the triggers of every pipeline, and start
//! runs, each event at most one of each pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_event::SourceEvent;
use fairlead_run::StoredEvent;
use fairlead_step::Workspace;
use serde_json::{Value, json};

use super::attempts::Failure;
use super::confirm::{Confirmation, From};
use super::evidence::Evidence;
use super::starts::{Started, Starter, Trigger};
use crate::ingest;
use crate::ports::{Pipeline, Pipelines};

/// What decides which runs an event starts.
pub(crate) struct Triggers {
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) confirmation: Confirmation,
    pub(crate) evidence: Evidence,
    pub(crate) starter: Starter,
}

impl Triggers {
    /// Lets every pipeline have its say about an event that this server has claimed, and starts the runs.
    pub(super) async fn handle(&self, stored: &StoredEvent) -> Result<(), Failure> {
        let event = ingest::read(&stored.document)
            .map_err(|error| Failure::Never(format!("the event cannot be read: {error}")))?;
        let source = source_of(&stored.document);
        let from = From { key: &stored.key, source: &source, received_at: stored.received_at };
        self.start(from, event).await
    }

    /// Starts what the event starts.
    async fn start(&self, from: From<'_>, event: SourceEvent) -> Result<(), Failure> {
        let From { key, source, .. } = from;
        let event = match event {
            SourceEvent::Requested(request) => {
                return match self.pipelines.get(&request.pipeline) {
                    Some(pipeline) => {
                        let given: BTreeMap<String, Value> = request.params.into_iter().collect();
                        let trigger = Trigger {
                            key,
                            event: json!({ "kind": "manual", "actor": request.by }),
                            by: request.by,
                            workspace: Workspace::EMPTY,
                        };
                        match self.starter.request_run(pipeline, &given, trigger).await? {
                            Started::Run(_) => Ok(()),
                            Started::Refused(why) => Err(Failure::Never(why)),
                        }
                    }
                    None => {
                        let name = request.pipeline;
                        Err(Failure::Never(format!("there is no pipeline `{name}` any more")))
                    }
                };
            }
            SourceEvent::ImagePushed(_)
            | SourceEvent::GitPushed(_)
            | SourceEvent::PullRequest(_)
            | SourceEvent::Comment(_)
            | SourceEvent::Release(_)
            | SourceEvent::ImageDeleted(_)
            | SourceEvent::ImageScanned(_)
            | SourceEvent::Custom(_) => event,
        };
        if let SourceEvent::ImagePushed(push) = &event {
            self.evidence.tell(push, self.confirmation.young(from.received_at)).await?;
        }
        let wanted = |pipeline: &&Pipeline| pipeline.plan.triggers().matches(&event);
        let wanted: Vec<&Pipeline> = self.pipelines.iter().filter(wanted).collect();
        if wanted.is_empty() {
            tracing::debug!(event = key, "no pipeline waits for {}", event.subject());
            return Ok(());
        }
        let confirmed = Box::pin(self.confirmation.confirmed(from, event)).await?;
        let Some(event) = confirmed else { return Ok(()) };
        let workspace = self.confirmation.workspace(source, &event);
        // One pipeline that cannot be started keeps no other from it.
        let mut refused = Vec::new();
        for pipeline in wanted {
            let name = pipeline.plan.name();
            let given = BTreeMap::new();
            let params = match pipeline.plan.bind(&given) {
                Ok(params) => params,
                Err(problems) => {
                    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    let problems = problems.join("; ");
                    refused.push(format!("`{name}` cannot be started by an event: {problems}"));
                    continue;
                }
            };
            match pipeline.plan.triggered_by(&event, &params) {
                Ok(Some(_)) => {
                    let by = format!("source {source}");
                    let workspace = workspace.clone();
                    let trigger = Trigger { key, event: event.template_value(), by, workspace };
                    match self.starter.request_run(pipeline, &given, trigger).await? {
                        Started::Run(_) => {}
                        Started::Refused(why) => {
                            refused.push(format!("`{name}` cannot be started: {why}"));
                        }
                    }
                }
                Ok(None) => tracing::debug!(event = key, "`{name}` does not want the event"),
                Err(error) => {
                    refused.push(format!("`{name}` cannot decide about the event: {error}"));
                }
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Failure::Never(refused.join("; "))) }
    }
}

/// The name of the source in a stored event.
pub(super) fn source_of(document: &str) -> String {
    let event = fairlead_event::CloudEvent::from_json(document.as_bytes());
    let source = event.map(|event| event.source).unwrap_or_default();
    source.rsplit('/').next().unwrap_or_default().to_owned()
}
