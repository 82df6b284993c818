//! A run is asked for, once for each trigger, and begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_exec::{Engine, RequestError, Requested, RunRequest};
use fairlead_run::EventStore;
use fairlead_step::{RunId, Workspace, error_chain};
use serde_json::Value;

use crate::ports::{ImageResolver, Pipeline, resolve_images};
use crate::runs::Supervisor;

/// What starts a run.
pub(crate) struct Trigger<'a> {
    /// The identity of the event: it starts one run of a pipeline.
    pub(crate) key: &'a str,
    /// What expressions see as `event`.
    pub(crate) event: Value,
    /// Who asked.
    pub(crate) by: String,
    /// What the run works on.
    pub(crate) workspace: Workspace,
}

/// What a trigger came to.
pub(crate) enum Started {
    /// It has this run.
    Run(RunId),
    /// There cannot be a run, and this is why. The log has it, too.
    Refused(String),
}

/// What asks for runs.
#[derive(Clone)]
pub(crate) struct Starter {
    pub(crate) engine: Engine,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) images: Arc<dyn ImageResolver>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// How long one question to a registry may take.
    pub(crate) registry: Duration,
}

impl Starter {
    /// Creates a run that somebody asked for by itself, or finds the one that the same request made, and
    /// begins to drive it. `id` is what the request was given for its run, if it may come twice.
    pub(crate) async fn begin(
        &self,
        id: Option<RunId>,
        request: RunRequest,
    ) -> Result<Requested, RequestError> {
        let id = id.unwrap_or_else(|| self.engine.new_id());
        let requested = self.engine.request_as(id, request).await?;
        if let Requested::New(run) = &requested {
            tracing::info!(%run, "a run is asked for");
            self.supervisor.begin(run.clone());
        }
        Ok(requested)
    }

    /// The run of a pipeline that an event has started, if it has.
    async fn earlier_run(&self, key: &str, pipeline: &str) -> Result<Option<RunId>, String> {
        let runs = self.events.runs_of(key).await.map_err(|error| error_chain(&error))?;
        Ok(runs.into_iter().find(|run| run.pipeline == pipeline).map(|run| run.run))
    }

    /// Creates the run of this pipeline that the trigger starts, or finds it, and begins to drive it. An
    /// error says what was away.
    pub(crate) async fn request_run(
        &self,
        pipeline: &Pipeline,
        given: &BTreeMap<String, Value>,
        trigger: Trigger<'_>,
    ) -> Result<Started, String> {
        let (key, name) = (trigger.key, pipeline.plan.name());
        let mut params = match pipeline.plan.bind(given) {
            Ok(params) => params,
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let why = problems.join("; ");
                tracing::error!(event = key, "`{name}` cannot be started: {why}");
                return Ok(Started::Refused(why));
            }
        };
        if !pipeline.plan.params().unresolved(&params).is_empty() {
            // The run that there is knows what the tag stood for; what it stands for now is nothing to it.
            if let Some(run) = self.earlier_run(key, name).await? {
                return Ok(Started::Run(run));
            }
            let deadline = self.registry;
            let images = &*self.images;
            if let Err(problems) =
                resolve_images(images, &pipeline.plan, &mut params, deadline).await
            {
                let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let why = texts.join("; ");
                if problems.iter().all(|problem| problem.away) {
                    return Err(format!("cannot start `{name}`: {why}"));
                }
                tracing::error!(event = key, "`{name}` cannot be started: {why}");
                return Ok(Started::Refused(why));
            }
        }
        let request = RunRequest {
            plan: Arc::clone(&pipeline.plan),
            params,
            event: trigger.event,
            event_id: Some(key.to_owned()),
            started_by: Some(key.to_owned()),
            by: trigger.by,
            workspace: trigger.workspace,
            origin: None,
        };
        match self.engine.request(request).await {
            Ok(Requested::New(run)) => {
                tracing::info!(event = key, %run, "`{name}` is started");
                self.supervisor.begin(run.clone());
                Ok(Started::Run(run))
            }
            Ok(Requested::Already(run)) => {
                tracing::debug!(event = key, %run, "`{name}` was started by this event before");
                Ok(Started::Run(run))
            }
            Err(
                error @ (RequestError::Kinds(_)
                | RequestError::Refused(_)
                | RequestError::Seal(_)
                | RequestError::Plan(_)
                | RequestError::Values(_)
                | RequestError::Untrusted(_)
                | RequestError::Group(_)),
            ) => {
                let why = error_chain(&error);
                tracing::error!(event = key, "`{name}` cannot be started: {why}");
                Ok(Started::Refused(why))
            }
            Err(error) => Err(format!("cannot start `{name}`: {}", error_chain(&error))),
        }
    }
}
