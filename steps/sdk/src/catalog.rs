//! The catalog: every step kind this build knows, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Step, StepKind, StepSpec, erase};

/// The step kinds of one build. Filled once, at start-up, from one readable list.
#[derive(Clone, Default)]
pub struct Catalog {
    kinds: BTreeMap<&'static str, Arc<dyn Step>>,
}

/// Why a kind was not taken into the catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two steps are both called `{kind}`; rename one")]
pub struct CatalogError {
    kind: &'static str,
}

impl Catalog {
    /// A catalog without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    ///
    /// # Errors
    /// When the name is taken: nothing is overwritten in silence.
    pub fn add<K: StepKind>(&mut self, kind: K) -> Result<(), CatalogError> {
        if self.kinds.contains_key(K::KIND) {
            return Err(CatalogError { kind: K::KIND });
        }
        self.kinds.insert(K::KIND, erase(kind));
        Ok(())
    }

    /// The step called `kind`.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Step>> {
        self.kinds.get(kind)
    }

    /// What every kind says of itself, in order of name.
    pub fn specs(&self) -> impl Iterator<Item = &StepSpec> {
        self.kinds.values().map(|step| step.spec())
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}
