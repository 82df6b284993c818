//! Retention in memory.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_run::{EventState, Record, StoreError};
use fairlead_step::{BoxFuture, Digest, RunId};
use jiff::Timestamp;

use super::{Memory, MemoryEvent, MemoryRun, State, ready};
use crate::kept;
use crate::prune::{Amount, Choice, Gone, Retention};

impl State {
    /// Whether a finished run may go, as far as others need it.
    fn may_go(&self, run: &RunId) -> bool {
        let ended = self.runs.get(run).is_some_and(MemoryRun::has_ended);
        let is_origin = |other: &MemoryRun| {
            let begins = !other.has_ended() && other.summary.origin.as_ref() == Some(run);
            begins || kept::referred(other.records.first()).contains_key(run)
        };
        let is_handled = |((key, _), of): (&(String, String), &RunId)| {
            of != run || self.event(key).is_none_or(|event| event.state() != EventState::Pending)
        };
        ended && !self.runs.values().any(is_origin) && self.started.iter().all(is_handled)
    }

    fn choose(&self, choice: Choice) -> Vec<RunId> {
        let mut by_pipeline: BTreeMap<&str, Vec<(Timestamp, &RunId)>> = BTreeMap::new();
        for run in self.runs.values() {
            if let Some(at) = run.summary.ended_at {
                let of = by_pipeline.entry(&run.summary.pipeline).or_default();
                of.push((at, &run.summary.id));
            }
        }
        let mut chosen = Vec::new();
        for mut runs in by_pipeline.into_values() {
            runs.sort_by(|one, other| other.cmp(one));
            let old = runs.into_iter().skip(choice.keep_last.unwrap_or(0));
            chosen.extend(
                old.filter(|(at, run)| {
                    choice.ended_before.is_none_or(|cutoff| *at < cutoff) && self.may_go(run)
                })
                .map(|(_, run)| run.clone()),
            );
        }
        chosen.sort();
        chosen
    }

    fn remove_run(&mut self, id: RunId, dry: bool, gone: &mut Gone) {
        if !self.may_go(&id) {
            return;
        }
        let Some(run) = self.runs.get(&id) else { return };
        for record in &run.records {
            gone.records.one(record.bytes().len() as u64);
        }
        if !dry {
            self.runs.remove(&id);
            self.signals.remove(&id);
            self.started.retain(|_, run| *run != id);
            self.deliveries.retain(|it| it.stored.message.run.as_ref() != Some(&id));
        }
        gone.runs.push(id);
    }

    fn remove_plans(&mut self, gone: &BTreeSet<RunId>, dry: bool) -> Amount {
        let left = self.runs.values().filter(|run| !gone.contains(&run.summary.id));
        let named: BTreeSet<Digest> = left.map(|run| run.plan.clone()).collect();
        let mut amount = Amount::default();
        self.plans.retain(|digest, bytes| {
            let stays = named.contains(digest);
            if !stays {
                amount.one(bytes.len() as u64);
            }
            stays || dry
        });
        amount
    }

    fn remove_events(&mut self, cutoff: Timestamp, gone: &BTreeSet<RunId>, dry: bool) -> Amount {
        let left = self.started.iter().filter(|(_, run)| !gone.contains(*run));
        let named: BTreeSet<String> = left.map(|((key, _), _)| key.clone()).collect();
        let mut amount = Amount::default();
        let Self { events, number_of, keys, .. } = self;
        events.retain(|_, MemoryEvent { stored, tag, .. }| {
            let over = stored.handled_at.or(stored.dead_at);
            let goes = over.is_some_and(|at| at < cutoff) && !named.contains(&stored.key);
            if goes {
                amount.one(stored.document.len() as u64);
                if !dry {
                    number_of.remove(&stored.key);
                    if tag.is_none() {
                        keys.insert(stored.key.clone(), stored.received_at);
                    }
                }
            }
            !goes || dry
        });
        amount
    }

    fn remove_keys(&mut self, cutoff: Timestamp, most: u64, dry: bool) -> Amount {
        let mut amount = Amount::default();
        let Self { keys, tags, number_of, .. } = self;
        let last = excess(keys.values().copied(), most);
        keys.retain(|key, at| {
            let goes = *at < cutoff || last.is_some_and(|last| *at <= last);
            if goes {
                amount.one(key.len() as u64);
            }
            !goes || dry
        });
        let pushes = tags.values().flat_map(|history| history.values());
        let last = excess(pushes.map(|(at, _)| *at), most);
        for (tag, history) in &mut *tags {
            history.retain(|_, (at, push)| {
                let goes = (*at < cutoff || last.is_some_and(|last| *at <= last))
                    && !number_of.contains_key(&push.key);
                if goes {
                    amount.one(tag.len() as u64);
                }
                !goes || dry
            });
        }
        tags.retain(|_, history| !history.is_empty());
        amount
    }
}

/// The newest of the times that are too many.
fn excess(times: impl Iterator<Item = Timestamp>, most: u64) -> Option<Timestamp> {
    let mut times: Vec<Timestamp> = times.collect();
    times.sort_unstable_by(|one, other| other.cmp(one));
    times.get(usize::try_from(most).unwrap_or(usize::MAX)).copied()
}

impl Retention for Memory {
    fn choose(&self, choice: Choice) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        ready(Ok(self.state().choose(choice)))
    }

    fn remove_runs(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Gone, StoreError>> {
        let (mut gone, mut state) = (Gone::default(), self.state());
        for run in runs {
            state.remove_run(run, dry, &mut gone);
        }
        ready(Ok(gone))
    }

    fn unknown(&self, mut runs: Vec<RunId>) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>> {
        let state = self.state();
        runs.retain(|run| !state.runs.contains_key(run));
        ready(Ok(runs))
    }

    fn remove_plans<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>> {
        ready(Ok(self.state().remove_plans(gone, dry)))
    }

    fn remove_events<'a>(
        &'a self,
        cutoff: Timestamp,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>> {
        ready(Ok(self.state().remove_events(cutoff, gone, dry)))
    }

    fn remove_keys(
        &self,
        cutoff: Timestamp,
        most: u64,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>> {
        ready(Ok(self.state().remove_keys(cutoff, most, dry)))
    }

    fn remove_cached_results(
        &self,
        cutoff: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>> {
        let mut amount = Amount::default();
        self.state().cached.retain(|_, result| {
            let goes = result.at < cutoff;
            if goes {
                amount.one(result.outputs.to_string().len() as u64);
            }
            !goes || dry
        });
        ready(Ok(amount))
    }

    fn oldest_driven(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let state = self.state();
        let driven = state.held.iter().filter_map(|run| state.runs.get(run));
        ready(Ok(driven.map(|run| run.summary.requested_at).min()))
    }

    fn show_texts<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        see: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let state = self.state();
        for run in state.runs.values().filter(|run| !gone.contains(&run.summary.id)) {
            run.records.iter().map(Record::bytes).for_each(|text| see(text.as_bytes()));
            state.plans.get(&run.plan).into_iter().for_each(|plan| see(plan));
        }
        for signal in state.signals.values().flatten() {
            if let Ok(text) = signal.signal.encode() {
                see(text.as_bytes());
            }
        }
        for result in state.cached.values() {
            see(result.outputs.to_string().as_bytes());
        }
        ready(Ok(()))
    }
}
