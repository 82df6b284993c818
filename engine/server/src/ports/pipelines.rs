//! The pipelines that events and people may start.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_plan::Plan;
use fairlead_step::ObjectId;
use serde::Serialize;

/// A compiled pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The place in a repository that it comes from; none for a file of the server's own.
    pub origin: Option<Arc<PipelineOrigin>>,
}

impl Pipeline {
    /// A pipeline of a file of the server's own.
    #[must_use]
    pub fn of_file(plan: impl Into<Arc<Plan>>) -> Self {
        Self { plan: plan.into(), origin: None }
    }
}

/// The place in a repository that a pipeline comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineOrigin {
    /// The source in the configuration whose forge has the repository.
    pub source: String,
    /// The repository.
    pub repository: String,
    /// The branch that is followed.
    pub branch: String,
    /// The commit that the file was read at.
    pub commit: ObjectId,
    /// The file within the repository.
    pub path: String,
}

impl PipelineOrigin {
    /// What the file is called in findings and in runs: `forge:platform/pipelines@4f1c…:pipelines/release.yaml`.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { source, repository, commit, path, .. } = self;
        format!("{source}:{repository}@{commit}:{path}")
    }
}

/// What a server lets its pipelines do, as far as it is known before anybody asks for a run.
pub trait PlanRules: Send + Sync {
    /// What is refused to the steps of this plan, one line each. It may be allowed before a run is asked for.
    fn refusals(&self, plan: &Plan) -> Vec<String>;
}

/// The pipelines of a server, by name.
#[derive(Debug, Clone, Default)]
pub struct Pipelines(BTreeMap<String, Pipeline>);

/// Two pipelines have one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two pipelines are both called `{name}`: `{first}` and `{second}`")]
pub struct PipelinesError {
    name: String,
    first: String,
    second: String,
}

impl Pipelines {
    /// Gathers pipelines.
    ///
    /// # Errors
    /// When two have the same name: which of them an event started would be chance.
    pub fn new(pipelines: impl IntoIterator<Item = Pipeline>) -> Result<Self, PipelinesError> {
        let mut known = Self::default();
        for pipeline in pipelines {
            known.add(pipeline)?;
        }
        Ok(known)
    }

    /// Adds a pipeline.
    ///
    /// # Errors
    /// When another has its name.
    pub(crate) fn add(&mut self, pipeline: Pipeline) -> Result<(), PipelinesError> {
        let name = pipeline.plan.name().to_owned();
        if let Some(first) = self.0.get(&name) {
            return Err(PipelinesError {
                first: first.plan.source_name().to_owned(),
                second: pipeline.plan.source_name().to_owned(),
                name,
            });
        }
        self.0.insert(name, pipeline);
        Ok(())
    }

    /// The pipeline called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Pipeline> {
        self.0.get(name)
    }

    /// Each pipeline, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Pipeline> {
        self.0.values()
    }
}
