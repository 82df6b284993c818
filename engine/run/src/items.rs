//! Steps that are made once for each item of a list.

use std::collections::BTreeSet;

use fairlead_plan::{Item, Outcome};
use jiff::Timestamp;
use serde_json::Map;

use crate::kept::outputs_of_items;
use crate::run::{Node, State, Why};
use crate::{ApplyError, Run};

impl Run {
    /// Takes in the items of step `i`.
    pub(crate) fn expanded(
        &mut self,
        i: usize,
        items: &[Item],
        at: Timestamp,
    ) -> Result<(), ApplyError> {
        self.may_begin(i)?;
        let bad = |problem: &str| ApplyError::BadItems {
            step: self.name(i),
            problem: problem.to_owned(),
        };
        let each = self.planned(i).for_each.as_ref().ok_or_else(|| bad("it has none"))?;
        let most = each.max_parallel.map_or(usize::MAX, |most| most.max(1) as usize);
        let mut seen = BTreeSet::new();
        let mut ids = Vec::with_capacity(items.len());
        for item in items {
            let id = self.name(i).item(&item.key).map_err(|error| bad(&error.to_string()))?;
            if !seen.insert(&item.key) || self.index.contains_key(&id) {
                return Err(bad("a key stands twice"));
            }
            ids.push(id);
        }
        if items.is_empty() {
            self.keep_outputs(i, outputs_of_items(Vec::new(), Map::new()));
            self.end(i, Outcome::Passed, at, None);
            return Ok(());
        }
        let planned = self.nodes[i].planned;
        let first = self.nodes.len();
        for (n, (id, item)) in ids.into_iter().zip(items).enumerate() {
            let mut node = Node::new(id.clone(), planned, 0);
            node.item = Some((i, item.clone()));
            self.index.insert(id, first + n);
            self.nodes.push(node);
        }
        let all = first..self.nodes.len();
        self.nodes[i].items = all.clone().collect();
        self.set(i, State::Items { left: items.len() });
        // Those that are done already never had a place, so none becomes free with them.
        self.take_over_items(i, at);
        self.nodes[i].held_back = all.filter(|&n| self.nodes[n].state == State::Waiting).collect();
        for _ in 0..most.min(items.len()) {
            self.let_in(i);
        }
        Ok(())
    }

    /// The items that an earlier run made, and that are not made again, are done.
    fn take_over_items(&mut self, i: usize, at: Timestamp) {
        for n in self.nodes[i].items.clone() {
            let Some(from) = self.request.origin.as_ref().map(|origin| origin.run.clone()) else {
                return;
            };
            if let Some(kept) = self.kept_items.remove(&self.nodes[n].id) {
                self.end_kept(n, kept, from, at);
            }
        }
    }

    /// Lets the next item of step `i` be worked on.
    fn let_in(&mut self, i: usize) {
        while let Some(next) = self.nodes[i].held_back.pop_front() {
            // One that was cancelled or kept meanwhile needs no place.
            if self.nodes[next].state == State::Waiting {
                self.consider(next);
                return;
            }
        }
    }

    /// One more item of step `i` has ended.
    pub(crate) fn item_ended(&mut self, i: usize, at: Timestamp) {
        let State::Items { left } = &mut self.nodes[i].state else { return };
        *left -= 1;
        if *left > 0 {
            self.let_in(i);
            return;
        }
        let mut worst = None;
        let mut not_passed = 0;
        let (mut list, mut by_key) = (Vec::new(), Map::new());
        for &n in &self.nodes[i].items {
            let node = &self.nodes[n];
            if let State::Ended { outcome, .. } = node.state {
                not_passed += usize::from(rank(outcome) > rank(Outcome::Passed));
                worst = worst.max(Some((rank(outcome), outcome)));
            }
            if let (Some(outputs), Some((_, item))) = (&node.outputs, &node.item) {
                list.push(outputs.clone());
                by_key.insert(item.key.clone(), outputs.clone());
            }
        }
        let of = self.nodes[i].items.len();
        let outcome = worst.map_or(Outcome::Passed, |(_, outcome)| outcome);
        self.keep_outputs(i, outputs_of_items(list, by_key));
        let why = (not_passed > 0).then_some(Why::Items { not_passed, of });
        self.end(i, outcome, at, why);
    }
}

/// How much the end of an item weighs in that of its step. It is skipped only when all of them are.
const fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skipped => 0,
        Outcome::Passed => 1,
        Outcome::Rejected => 2,
        Outcome::Failed => 3,
        Outcome::Cancelled => 4,
    }
}
