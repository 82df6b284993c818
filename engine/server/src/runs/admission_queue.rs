//! Who waits to be admitted, group by group, in the order of admission; and which groups are to be asked
//! whether the first of them has one now. A store admits in that order alone, so whoever stands
//! behind the first of a group need not ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fairlead_run::RunSummary;
use fairlead_step::RunId;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The group it waits in; none for a run that only the limit of all runs may hold back.
    group: Option<String>,
    /// Its place in the order of admission.
    number: u64,
}

impl Position {
    pub(crate) fn of(run: &RunSummary) -> Self {
        Self { group: run.group.clone(), number: run.number }
    }
}

/// The runs that wait to be admitted, as far as this process knows of them.
#[derive(Debug, Default)]
pub(crate) struct AdmissionQueue {
    groups: HashMap<Option<String>, BTreeMap<u64, RunId>>,
    /// The groups in which a place may be free.
    due: BTreeSet<Option<String>>,
}

impl AdmissionQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(crate) fn join(&mut self, run: RunId, position: &Position) {
        self.groups.entry(position.group.clone()).or_default().insert(position.number, run);
    }

    pub(crate) fn leave(&mut self, position: &Position) {
        if let Some(group) = self.groups.get_mut(&position.group) {
            group.remove(&position.number);
            if group.is_empty() {
                self.groups.remove(&position.group);
                self.due.remove(&position.group);
            }
        }
    }

    /// A place may be free in every group.
    pub(crate) fn all_due(&mut self) {
        self.due.extend(self.groups.keys().cloned());
    }

    /// A place may be free in the group of whoever stands there. True when somebody waits for it.
    pub(crate) fn due(&mut self, position: &Position) -> bool {
        let waits = self.groups.contains_key(&position.group);
        if waits {
            self.due.insert(position.group.clone());
        }
        waits
    }

    /// The next run that is to ask to be admitted: of the first of each group that is due, the one that
    /// stands first of all. Its group is due no more.
    pub(crate) fn next(&mut self) -> Option<RunId> {
        let first = |group: &Option<String>| {
            let (number, run) = self.groups.get(group)?.first_key_value()?;
            Some((*number, run.clone(), group.clone()))
        };
        let (_, run, group) = self.due.iter().filter_map(first).min()?;
        self.due.remove(&group);
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(group: &str, number: u64) -> Position {
        Position { group: Some(group.to_owned()), number }
    }

    fn run(number: u64) -> RunId {
        RunId::mint(number, u64::MAX - number)
    }

    fn asked(queue: &mut AdmissionQueue) -> Vec<RunId> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn the_first_of_each_group_asks_in_the_order_of_all() {
        let mut queue = AdmissionQueue::default();
        let free = Position { group: None, number: 4 };
        for (run, position) in [
            (run(9), position("a", 5)),
            (run(1), position("a", 6)),
            (run(2), position("b", 3)),
            (run(3), position("b", 2)),
            (run(4), free.clone()),
        ] {
            queue.join(run, &position);
        }
        assert_eq!(asked(&mut queue), [], "nothing says that a place is free");
        queue.all_due();
        assert_eq!(asked(&mut queue), [run(3), run(4), run(9)], "by number, not by id");
        assert_eq!(asked(&mut queue), [], "each was asked");
        // The first of a group leaves, whatever became of it: the next one is the first.
        queue.leave(&position("a", 5));
        assert!(queue.due(&position("a", 5)));
        assert_eq!(asked(&mut queue), [run(1)]);
        queue.leave(&free);
        assert!(!queue.due(&free), "nobody is left");
        queue.leave(&position("a", 6));
        queue.leave(&position("b", 2));
        queue.leave(&position("b", 3));
        queue.all_due();
        assert!(queue.is_empty() && asked(&mut queue).is_empty());
    }
}
