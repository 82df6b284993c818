//! The pipelines that events and people may start.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_plan::Plan;

/// A compiled pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The plan.
    pub plan: Arc<Plan>,
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
        let mut by_name: BTreeMap<String, Pipeline> = BTreeMap::new();
        for pipeline in pipelines {
            let name = pipeline.plan.name().to_owned();
            if let Some(first) = by_name.get(&name) {
                return Err(PipelinesError {
                    first: first.plan.source_name().to_owned(),
                    second: pipeline.plan.source_name().to_owned(),
                    name,
                });
            }
            by_name.insert(name, pipeline);
        }
        Ok(Self(by_name))
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
