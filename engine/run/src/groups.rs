//! Who belongs to which group, as whoever takes votes is told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Voter;

/// Groups, each with the names of its users.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups(BTreeMap<String, BTreeSet<String>>);

impl Groups {
    /// The user called `name`, with the groups of theirs.
    #[must_use]
    pub fn voter(&self, name: impl Into<String>) -> Voter {
        let name = name.into();
        let groups = self.0.iter().filter(|(_, users)| users.contains(&name));
        Voter { groups: groups.map(|(group, _)| group.clone()).collect(), name }
    }
}

impl FromIterator<(String, BTreeSet<String>)> for Groups {
    fn from_iter<I: IntoIterator<Item = (String, BTreeSet<String>)>>(groups: I) -> Self {
        Self(groups.into_iter().collect())
    }
}
