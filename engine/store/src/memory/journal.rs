//! [`Journal`] in memory.

use std::num::NonZeroU32;

use fairlead_run::{
    Admission, AppendError, Batch, Created, Epoch, Head, Journal, KeptRecords, Lease, LeaseError,
    NewRun, PlanBlob, Record, Request, RunFilter, RunSummary, Seq, Signal, SignalId, StoreError,
    StoredRun, StoredSignal, Wake,
};
use fairlead_step::{BoxFuture, CancelHandle, CancelToken, RunId};
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::{Memory, MemoryRun, State, ready};
use crate::accept::{self, Follows};
use crate::admission::{self, Others, Wish};
use crate::kept;

/// Gives a lease back when dropped. It never says that the lease is lost.
struct Guard {
    memory: Memory,
    run: RunId,
    _never: CancelHandle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.memory.state().held.remove(&self.run);
    }
}

impl State {
    fn create(&mut self, run: NewRun, request: &Request) -> Result<Created, StoreError> {
        let link = run.started_by.clone().map(|key| (key, request.pipeline.clone()));
        if let Some(link) = &link {
            if let Some(earlier) = self.started.get(link) {
                return Ok(Created::Already(earlier.clone()));
            }
            if self.event(&link.0).is_none() {
                return Err(accept::no_event(&run, &link.0));
            }
        }
        if self.runs.contains_key(&run.id) {
            return Err(StoreError::RunExists { run: run.id });
        }
        for origin in kept::needed(request) {
            if !self.runs.contains_key(origin) {
                return Err(accept::no_origin(&run, origin));
            }
        }
        let origin = request.origin.as_ref().map(|origin| origin.run.clone());
        let summary = RunSummary {
            id: run.id.clone(),
            pipeline: request.pipeline.clone(),
            status: accept::first_status(&run),
            by: request.by.clone(),
            requested_at: run.first.at(),
            ended_at: None,
            held: false,
            number: self.next(),
            group: run.group.as_ref().map(|group| group.name.clone()),
            origin,
            wake_at: None,
            signaled: false,
        };
        let plan = run.plan.digest().clone();
        self.plans.insert(plan.clone(), run.plan.bytes().clone());
        if let Some(link) = link {
            self.started.insert(link, run.id.clone());
        }
        let stored = MemoryRun {
            summary,
            plan,
            records: vec![run.first],
            epoch: Epoch::default(),
            group: run.group,
            admitted: false,
        };
        self.runs.insert(run.id, stored);
        Ok(Created::New)
    }

    /// The run that a batch may be written to.
    fn writable(&self, batch: &Batch, follows: Follows) -> Result<&MemoryRun, AppendError> {
        let id = &batch.run;
        let run = self.runs.get(id).ok_or_else(|| StoreError::NoSuchRun { run: id.clone() })?;
        if run.epoch != batch.epoch {
            let (held, current) = (batch.epoch, run.epoch);
            return Err(AppendError::Fenced { run: id.clone(), held, current });
        }
        if run.has_ended() {
            return Err(AppendError::Ended { run: id.clone() });
        }
        let found = run.records.last().map_or(Seq(0), Record::seq);
        match follows.before {
            Some(expected) if found != expected => {
                Err(AppendError::Conflict { run: id.clone(), expected, found })
            }
            Some(_) | None => Ok(run),
        }
    }

    /// Writes a batch, and answers whether that can admit another run.
    fn append(&mut self, batch: Batch, follows: Follows) -> Result<bool, AppendError> {
        self.writable(&batch, follows)?;
        let Some(run) = self.runs.get_mut(&batch.run) else { return Ok(false) };
        run.records.extend(batch.records);
        run.summary.status = batch.status;
        run.summary.ended_at = follows.ended_at;
        run.summary.wake_at = batch.wake_at.filter(|_| follows.ended_at.is_none());
        if run.has_ended() {
            self.signals.remove(&batch.run);
        } else if let Some(signals) = self.signals.get_mut(&batch.run) {
            signals.retain(|signal| !batch.taken.contains(&signal.id));
        }
        let frees = run.has_ended() || run.summary.status.rests();
        Ok(frees && (run.admitted || run.group.is_some()))
    }

    fn others(&self, run: &MemoryRun) -> Others {
        let mut others = Others::default();
        let Some(group) = &run.group else { return others };
        let mut members: Vec<_> = self.runs.values().filter(|other| !other.has_ended()).collect();
        members.sort_by_key(|other| other.summary.number);
        for other in members {
            let Some(theirs) = other.group.as_ref().filter(|theirs| theirs.name == group.name)
            else {
                continue;
            };
            let id = || other.summary.id.clone();
            if other.admitted {
                others.holders.push(id());
            } else if other.summary.number < run.summary.number {
                others.before = Some(id());
                others.waiting_before += 1;
            }
            if other.summary.number > run.summary.number && admission::takes_places(theirs.policy) {
                others.successor = Some(id());
            }
        }
        others
    }

    fn admit(
        &mut self,
        batch: Batch,
        most: Option<NonZeroU32>,
        follows: Follows,
    ) -> Result<(Admission, bool), AppendError> {
        let run = self.writable(&batch, follows)?;
        if !run.admitted {
            let others = self.others(run);
            let refused = run.group.as_ref().and_then(|group| {
                admission::in_group(Wish { policy: group.policy, max: group.max }, &others)
            });
            let goes =
                |run: &&MemoryRun| run.admitted && !run.has_ended() && !run.summary.status.rests();
            let going = self.runs.values().filter(goes).count();
            let refused = refused.or_else(|| admission::in_store(most, going as u64, &others));
            if let Some(refused) = refused {
                return Ok((refused, false));
            }
        }
        let id = batch.run.clone();
        if let Some(run) = self.runs.get_mut(&id) {
            run.admitted = true;
        }
        Ok((Admission::Admitted, self.append(batch, follows)?))
    }

    fn post(&mut self, id: &RunId, at: Timestamp, signal: Signal) -> Result<SignalId, StoreError> {
        match self.runs.get(id) {
            None => return Err(StoreError::NoSuchRun { run: id.clone() }),
            Some(run) if run.has_ended() => return Err(StoreError::RunEnded { run: id.clone() }),
            Some(_) => {}
        }
        let number = SignalId(self.next());
        self.signals.entry(id.clone()).or_default().push(StoredSignal { id: number, at, signal });
        Ok(number)
    }

    fn load(&self, id: &RunId) -> Result<StoredRun, StoreError> {
        let no_run = || StoreError::NoSuchRun { run: id.clone() };
        let run = self.runs.get(id).ok_or_else(no_run)?;
        let plan = self.plans.get(&run.plan).ok_or_else(no_run)?;
        let mut kept = KeptRecords::new();
        for (other, places) in kept::referred(run.records.first()) {
            let there = self.runs.get(&other).map(|run| run.records.as_slice()).unwrap_or_default();
            let there = there.iter().filter(|record| places.contains(&record.seq()));
            kept.extend(there.map(|record| ((other.clone(), record.seq()), record.clone())));
        }
        let (plan, records) = (PlanBlob::new(plan.clone()), run.records.clone());
        Ok(StoredRun { id: id.clone(), plan, records, kept })
    }

    fn head(&self, id: &RunId) -> Result<Head, StoreError> {
        let run = self.runs.get(id).ok_or_else(|| StoreError::NoSuchRun { run: id.clone() })?;
        let last = run.records.last();
        Ok(Head::of(last.map_or(Seq(0), Record::seq), last.map(Record::bytes)))
    }

    fn list(&self, filter: &RunFilter) -> Vec<RunSummary> {
        let wanted = |run: &&MemoryRun| {
            filter.before.as_ref().is_none_or(|before| run.summary.id < *before)
                && filter.pipeline.as_ref().is_none_or(|name| run.summary.pipeline == *name)
                && filter.run.as_ref().is_none_or(|id| run.summary.id == *id)
                && filter.origin.as_ref().is_none_or(|of| run.summary.origin.as_ref() == Some(of))
                && !(filter.unfinished && run.has_ended())
                && (filter.ended_since).is_none_or(|since| run.summary.ended_at >= Some(since))
        };
        let limit = filter.limit.min(RunFilter::MOST);
        let newest_first = self.runs.values().rev().filter(wanted).take(limit);
        newest_first
            .map(|run| RunSummary {
                held: self.held.contains(&run.summary.id),
                signaled: self.signals.get(&run.summary.id).is_some_and(|s| !s.is_empty()),
                ..run.summary.clone()
            })
            .collect()
    }
}

impl Journal for Memory {
    fn create(&self, run: NewRun) -> BoxFuture<'_, Result<Created, StoreError>> {
        let request = match accept::new_run(&run) {
            Ok(request) => request.clone(),
            Err(error) => return ready(Err(error)),
        };
        let in_group = run.group.is_some();
        let created = self.state().create(run, &request);
        if in_group && matches!(created, Ok(Created::New)) {
            self.notifier.notify(Wake::Admission);
        }
        ready(created)
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
        let (never, lost) = CancelToken::new();
        let guard = Guard { memory: self.clone(), run: run.clone(), _never: never };
        ready(Ok(Lease::new(run.clone(), known.epoch, lost, Box::new(guard))))
    }

    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        let done = accept::batch(&batch).and_then(|follows| self.state().append(batch, follows));
        if let Ok(true) = done {
            self.notifier.notify(Wake::Admission);
        }
        ready(done.map(|_| ()))
    }

    fn admit(
        &self,
        batch: Batch,
        most: Option<NonZeroU32>,
    ) -> BoxFuture<'_, Result<Admission, AppendError>> {
        let done = accept::batch(&batch).and_then(|seq| self.state().admit(batch, most, seq));
        if let Ok((_, true)) = done {
            self.notifier.notify(Wake::Admission);
        }
        ready(done.map(|(admission, _)| admission))
    }

    fn post(
        &self,
        run: &RunId,
        at: Timestamp,
        signal: Signal,
    ) -> BoxFuture<'_, Result<SignalId, StoreError>> {
        let posted = accept::signal(&signal).and_then(|_| self.state().post(run, at, signal));
        if posted.is_ok() {
            self.notifier.notify(Wake::Run(run.clone()));
        }
        ready(posted)
    }

    fn signals(&self, run: &RunId) -> BoxFuture<'_, Result<Vec<StoredSignal>, StoreError>> {
        ready(Ok(self.state().signals.get(run).cloned().unwrap_or_default()))
    }

    fn wakes(&self) -> BoxStream<'static, Wake> {
        self.notifier.listen()
    }

    fn load(&self, run: &RunId) -> BoxFuture<'_, Result<StoredRun, StoreError>> {
        ready(self.state().load(run))
    }

    fn head(&self, run: &RunId) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(self.state().head(run))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, StoreError>> {
        ready(Ok(self.state().list(&filter)))
    }
}
