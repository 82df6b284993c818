//! The triggers: events are matched with the triggers of every pipeline, and start
//! runs, each event at most one of each pipeline.

use std::sync::Arc;

use fairlead_event::{Requested, SourceEvent};
use fairlead_plan::Answer;
use fairlead_run::StoredEvent;
use fairlead_step::Workspace;

use super::attempts::Failure;
use super::confirm::{Confirmation, From};
use super::evidence::Evidence;
use super::starts::{Started, Starter, Trigger};
use crate::current::Current;
use crate::definitions::Definitions;
use crate::ingest;
use crate::ports::Pipelines;

/// What decides which runs an event starts.
pub(crate) struct Triggers {
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) pipelines: Current<Pipelines>,
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
        let by = match &event {
            SourceEvent::Requested(request) => return self.requested(key, request, &event).await,
            SourceEvent::Scheduled(_) => "schedule".to_owned(),
            // Whoever asked for the run that ended asked for what follows: they may not approve it
            // where a requester may not.
            SourceEvent::RunFinished(ended) => ended.by.clone(),
            SourceEvent::ImagePushed(_)
            | SourceEvent::GitPushed(_)
            | SourceEvent::PullRequest(_)
            | SourceEvent::Comment(_)
            | SourceEvent::Release(_)
            | SourceEvent::ImageDeleted(_)
            | SourceEvent::ImageScanned(_)
            | SourceEvent::Custom(_) => format!("source {source}"),
        };
        if let SourceEvent::ImagePushed(push) = &event {
            self.evidence.tell(push, self.confirmation.young(from.received_at)).await?;
        }
        self.definitions.ready().await;
        let moved = self.definitions.follows(&event).await;
        let is_wanted = self.pipelines.get().iter().any(|it| it.plan.triggers().matches(&event))
            || !moved.is_empty()
            || self.definitions.may_have_own(&event).await;
        if !is_wanted {
            tracing::debug!(event = key, "no pipeline waits for {}", event.subject());
            return Ok(());
        }
        let confirmed = Box::pin(self.confirmation.confirmed(from, event)).await?;
        let Some(event) = confirmed else { return Ok(()) };
        // What a push changes of the pipelines themselves holds for what it starts.
        self.definitions.pushed(&moved).await?;
        let pipelines = self.definitions.pipelines_for(&event).await?;
        let wanted = pipelines.iter().filter(|it| it.plan.triggers().matches(&event));
        let workspace = self.confirmation.workspace(source, &event);
        // One pipeline that cannot be started keeps no other from it.
        let mut refused = Vec::new();
        for pipeline in wanted {
            let name = pipeline.plan.name();
            let pulled = match pipeline.plan.answer(&event) {
                Answer::Starts(pulled) => pulled,
                Answer::No(reasons) => {
                    let broken = reasons.iter().filter(|unfit| unfit.broken);
                    let broken: Vec<String> = broken.map(ToString::to_string).collect();
                    if broken.is_empty() {
                        tracing::debug!(event = key, "`{name}` does not want the event");
                    } else {
                        let why = broken.join("; ");
                        refused.push(format!("`{name}` cannot be started by an event: {why}"));
                    }
                    continue;
                }
            };
            let workspace = workspace.clone().with_options(pipeline.plan.checkout());
            let trigger = Trigger { key, event: pulled.event, by: by.clone(), workspace };
            match self.starter.request_run(pipeline, &pulled.given, trigger).await? {
                Started::Run(_) => {}
                Started::Refused(why) => {
                    refused.push(format!("`{name}` cannot be started: {why}"));
                }
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Failure::Never(refused.join("; "))) }
    }

    /// Starts what somebody asked for.
    async fn requested(
        &self,
        key: &str,
        request: &Requested,
        event: &SourceEvent,
    ) -> Result<(), Failure> {
        let name = &request.pipeline;
        self.definitions.ready().await;
        let pipelines = self.pipelines.get();
        let Some(pipeline) = pipelines.get(name) else {
            return Err(Failure::Never(format!("there is no pipeline `{name}` any more")));
        };
        match pipeline.plan.answer(event) {
            Answer::Starts(pulled) => {
                let by = request.by.clone();
                let trigger = Trigger { key, event: pulled.event, by, workspace: Workspace::EMPTY };
                match self.starter.request_run(pipeline, &pulled.given, trigger).await? {
                    Started::Run(_) => Ok(()),
                    Started::Refused(why) => Err(Failure::Never(why)),
                }
            }
            Answer::No(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(|unfit| unfit.why.clone()).collect();
                Err(Failure::Never(match reasons.as_slice() {
                    [] => format!("pipeline `{name}` takes no requests any more"),
                    _ => reasons.join("; "),
                }))
            }
        }
    }
}

/// The name of the source in a stored event.
pub(super) fn source_of(document: &str) -> String {
    let event = fairlead_event::CloudEvent::from_json(document.as_bytes());
    let source = event.map(|event| event.source).unwrap_or_default();
    source.rsplit('/').next().unwrap_or_default().to_owned()
}
