//! Where messages go, and what takes them there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_run::StoredDelivery;
use fairlead_step::{BoxFuture, Globs};

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// What went wrong, one lower-case sentence fragment.
    pub message: String,
    /// Whether the same again may work.
    pub again: bool,
    /// How long the destination wants to be left alone.
    pub after: Option<Duration>,
}

/// The port to a destination: takes a message there.
pub trait Courier: Send + Sync {
    /// Takes a message there. The same message may come again; its id stays the same.
    ///
    /// # Errors
    /// When it is not taken.
    fn deliver<'a>(
        &'a self,
        message: &'a StoredDelivery,
    ) -> BoxFuture<'a, Result<(), DeliveryError>>;
}

/// Which events go to a destination. What is not said lets everything through.
#[derive(Debug, Clone, Default)]
pub struct EventWants {
    /// Their types, as patterns.
    pub types: Option<Globs>,
    /// The projects of their pipelines.
    pub projects: Option<Globs>,
    /// Their pipelines.
    pub pipelines: Option<Globs>,
}

/// A destination.
#[derive(Clone)]
pub struct Destination {
    /// What takes messages there.
    pub courier: Arc<dyn Courier>,
    /// Which events go there; none for one that is told of commits.
    pub events: Option<EventWants>,
}

/// The destinations by name. One that is told of commits at the forge of a source is called `status:` and the
/// name of the source.
#[derive(Clone, Default)]
pub struct Destinations(pub BTreeMap<String, Destination>);

impl Destinations {
    /// The name of the destination that is told of commits at the forge of this source.
    #[must_use]
    pub fn of_statuses(source: &str) -> String {
        format!("status:{source}")
    }

    /// Those that want such an event.
    pub(super) fn wanting<'a>(
        &'a self,
        kind: &'a str,
        pipeline: &'a str,
        projects: &'a [&str],
    ) -> impl Iterator<Item = &'a str> {
        let fits = |patterns: &Option<Globs>, text: &str| {
            patterns.as_ref().is_none_or(|patterns| patterns.is_match(text))
        };
        let wants = move |wants: &EventWants| {
            fits(&wants.types, kind)
                && fits(&wants.pipelines, pipeline)
                && projects.iter().any(|project| fits(&wants.projects, project))
        };
        let told = self.0.iter().filter(move |(_, it)| it.events.as_ref().is_some_and(wants));
        told.map(|(name, _)| name.as_str())
    }

    /// Whether anybody is told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
