//! The journal and the events in memory: for tests, and for runs that nobody needs to find again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fairlead_run::{
    AppendError, Created, Epoch, EventRun, EventStore, Inserted, Journal, Lease, LeaseError,
    NewEvent, NewRun, PlanBlob, Record, RunEvent, RunFilter, RunStatus, RunSummary, Seq,
    StoreError, StoredEvent, StoredRun,
};
use fairlead_step::{BoxFuture, Digest, RunId};
use jiff::Timestamp;

use crate::{check_new_event, check_new_run, place_before};

#[derive(Default)]
struct State {
    plans: BTreeMap<Digest, Bytes>,
    runs: BTreeMap<RunId, MemoryRun>,
    held: BTreeSet<RunId>,
    events: Vec<StoredEvent>,
    by_key: BTreeMap<String, usize>,
    started: BTreeMap<(String, String), RunId>,
}

struct MemoryRun {
    summary: RunSummary,
    plan: Digest,
    records: Vec<Record>,
    epoch: Epoch,
}

/// Everything, behind one lock that is never held across a wait.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

/// Gives a lease back when dropped.
struct Guard {
    memory: Memory,
    run: RunId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.memory.state().held.remove(&self.run);
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ready<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl State {
    fn create(&mut self, run: NewRun) -> Result<Created, StoreError> {
        let RunEvent::Requested(request) = run.first.event() else {
            let problem = "its first record is not a request".to_owned();
            return Err(StoreError::BadRun { run: run.id, problem });
        };
        let link = run.started_by.map(|key| (key, request.pipeline.clone()));
        if let Some(link) = &link {
            if let Some(earlier) = self.started.get(link) {
                return Ok(Created::Already(earlier.clone()));
            }
            if !self.by_key.contains_key(&link.0) {
                let problem = format!("event `{}`, which should start it, is not stored", link.0);
                return Err(StoreError::BadRun { run: run.id, problem });
            }
        }
        if self.runs.contains_key(&run.id) {
            return Err(StoreError::RunExists { run: run.id });
        }
        let summary = RunSummary {
            id: run.id.clone(),
            pipeline: request.pipeline.clone(),
            status: RunStatus::Running,
            by: request.by.clone(),
            requested_at: run.first.at(),
            ended_at: None,
            held: false,
        };
        let plan = run.plan.digest().clone();
        self.plans.insert(plan.clone(), run.plan.bytes().clone());
        if let Some(link) = link {
            self.started.insert(link, run.id.clone());
        }
        let run_state =
            MemoryRun { summary, plan, records: vec![run.first], epoch: Epoch::default() };
        self.runs.insert(run.id, run_state);
        Ok(Created::New)
    }

    fn append(
        &mut self,
        id: &RunId,
        held: Epoch,
        before: Seq,
        records: Vec<Record>,
    ) -> Result<(), AppendError> {
        let run = self.runs.get_mut(id).ok_or_else(|| StoreError::NoSuchRun { run: id.clone() })?;
        if run.epoch != held {
            return Err(AppendError::Fenced { run: id.clone(), held, current: run.epoch });
        }
        if run.summary.ended_at.is_some() {
            return Err(AppendError::Ended { run: id.clone() });
        }
        let found = run.records.last().map_or(Seq(0), Record::seq);
        if found != before {
            return Err(AppendError::Conflict { run: id.clone(), expected: before, found });
        }
        for record in &records {
            run.summary.status = run.summary.status.after(record.event());
            if let RunStatus::Ended(_) = run.summary.status {
                run.summary.ended_at = Some(record.at());
            }
        }
        run.records.extend(records);
        Ok(())
    }

    fn load(&self, id: &RunId) -> Result<StoredRun, StoreError> {
        let no_run = || StoreError::NoSuchRun { run: id.clone() };
        let run = self.runs.get(id).ok_or_else(no_run)?;
        let plan = self.plans.get(&run.plan).ok_or_else(no_run)?;
        Ok(StoredRun {
            id: id.clone(),
            plan: PlanBlob::new(plan.clone()),
            records: run.records.clone(),
        })
    }

    fn list(&self, filter: &RunFilter) -> Vec<RunSummary> {
        let wanted = |run: &&MemoryRun| {
            filter.before.as_ref().is_none_or(|before| run.summary.id < *before)
                && filter.pipeline.as_ref().is_none_or(|name| run.summary.pipeline == *name)
                && !(filter.unfinished && run.summary.ended_at.is_some())
        };
        let limit = filter.limit.min(RunFilter::MOST);
        let newest_first = self.runs.values().rev().filter(wanted).take(limit);
        newest_first
            .map(|run| RunSummary {
                held: self.held.contains(&run.summary.id),
                ..run.summary.clone()
            })
            .collect()
    }

    fn mark(
        &mut self,
        key: &str,
        note: impl Fn(&mut StoredEvent) -> &mut Option<Timestamp>,
        at: Timestamp,
    ) {
        if let Some(&place) = self.by_key.get(key) {
            note(&mut self.events[place]).get_or_insert(at);
        }
    }
}

impl Journal for Memory {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        ready(check_new_run(&run).and_then(|()| self.state().create(run)))
    }

    fn acquire(&self, run: &RunId) -> BoxFuture<'_, Result<Lease, LeaseError>> {
        let mut state = self.state();
        let State { runs, held, .. } = &mut *state;
        let Some(known) = runs.get_mut(run) else {
            return ready(Err(StoreError::NoSuchRun { run: run.clone() }.into()));
        };
        if !held.insert(run.clone()) {
            return ready(Err(LeaseError::Held { run: run.clone() }));
        }
        known.epoch = Epoch(known.epoch.0 + 1);
        let guard = Guard { memory: self.clone(), run: run.clone() };
        ready(Ok(Lease::new(run.clone(), known.epoch, Box::new(guard))))
    }

    fn append(
        &self,
        run: &RunId,
        epoch: Epoch,
        records: Vec<Record>,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        ready(match place_before(run, &records) {
            Ok(Some(before)) => self.state().append(run, epoch, before, records),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        ready(self.state().load(run))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        ready(Ok(self.state().list(&filter)))
    }
}

impl EventStore for Memory {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        if let Err(error) = check_new_event(&event) {
            return ready(Err(error));
        }
        let mut state = self.state();
        if let Some(&place) = state.by_key.get(&event.key) {
            let known = &state.events[place].event;
            let (id, received_at) = (known.id.clone(), known.received_at);
            return ready(Ok(Inserted::Duplicate { id, received_at }));
        }
        let place = state.events.len();
        state.by_key.insert(event.key.clone(), place);
        state.events.push(StoredEvent { event, published_at: None, handled_at: None });
        ready(Ok(Inserted::New))
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        let state = self.state();
        ready(Ok(state.by_key.get(key).map(|&place| state.events[place].clone())))
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let waiting = state.events.iter().filter(|event| event.published_at.is_none());
        ready(Ok(waiting.take(limit).cloned().collect()))
    }

    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let waiting = state.events.iter().filter(|event| event.handled_at.is_none());
        ready(Ok(waiting.take(limit).cloned().collect()))
    }

    fn mark_published(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state().mark(key, |event| &mut event.published_at, at);
        ready(Ok(()))
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state().mark(key, |event| &mut event.handled_at, at);
        ready(Ok(()))
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        let state = self.state();
        let of_key = state.started.iter().filter(|((of, _), _)| of == key);
        let run = |((_, pipeline), run): (&(String, String), &RunId)| EventRun {
            pipeline: pipeline.clone(),
            run: run.clone(),
        };
        ready(Ok(of_key.map(run).collect()))
    }
}
