//! [`EventStore`] in memory.

use std::time::Duration;

use fairlead_run::{
    Claimed, DueEvent, EventFilter, EventRun, EventState, EventStore, Inserted, NewEvent, Retried,
    StoreError, StoredEvent, TagPush,
};
use fairlead_step::{BoxFuture, RunId};
use jiff::{SignedDuration, Timestamp};

use super::{Memory, MemoryEvent, State, ready};
use crate::{accept, events};

impl State {
    fn event_mut(&mut self, key: &str) -> Option<&mut MemoryEvent> {
        self.events.get_mut(self.number_of.get(key)?)
    }

    /// The pending event that `by` has claimed.
    fn claimed_mut(&mut self, key: &str, by: &str) -> Option<&mut MemoryEvent> {
        self.event_mut(key).filter(|event| {
            event.stored.state() == EventState::Pending
                && event.claim.as_ref().is_some_and(|(holder, _)| holder == by)
        })
    }

    fn pending(&self) -> impl Iterator<Item = &StoredEvent> {
        let stored = self.events.values().map(|event| &event.stored);
        stored.filter(|event| event.state() == EventState::Pending)
    }

    fn insert(&mut self, event: NewEvent) -> Inserted {
        let NewEvent { key, id, received_at, due_at, document, push } = event;
        if let Some(known) = self.event(&key) {
            return Inserted::Duplicate { received_at: known.received_at };
        }
        if let Some(&received_at) = self.keys.get(&key) {
            return Inserted::Duplicate { received_at };
        }
        let tag = push.as_ref().map(|push| push.tag.clone());
        if let Some(push) = push {
            let history = self.tags.entry(push.tag.clone()).or_default();
            if history.contains_key(&push.number) {
                return Inserted::Overtaken;
            }
            let (number, kept) = (push.number, TagPush::KEPT as u64);
            history.insert(number, (received_at, push));
            history.retain(|&other, _| number < kept || other > number - kept);
        }
        let number = self.next();
        self.number_of.insert(key.clone(), number);
        let stored = StoredEvent {
            key,
            id,
            received_at,
            document,
            published_at: None,
            handled_at: None,
            dead_at: None,
            attempts: 0,
            due_at,
            reason: None,
        };
        self.events.insert(number, MemoryEvent { stored, claim: None, tag });
        Inserted::New
    }

    fn claim(&mut self, key: &str, by: &str, at: Timestamp, lease: Duration) -> Claimed {
        let Some(event) = self.event_mut(key) else { return Claimed::Unknown };
        match event.stored.state() {
            EventState::Pending => {}
            state @ (EventState::Handled | EventState::Dead) => return Claimed::Over(state),
        }
        if event.claim.as_ref().is_some_and(|(_, until)| *until > at) {
            return Claimed::Held;
        }
        event.stored.attempts += 1;
        event.hold(by, at, lease);
        Claimed::Yes(Box::new(event.stored.clone()))
    }
}

impl MemoryEvent {
    fn hold(&mut self, by: &str, at: Timestamp, lease: Duration) {
        let lease = SignedDuration::try_from(lease).unwrap_or(SignedDuration::MAX);
        let until = at.saturating_add(lease).unwrap_or(Timestamp::MAX);
        self.claim = Some((by.to_owned(), until));
        self.stored.due_at = until;
    }
}

impl EventStore for Memory {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        if let Err(error) = accept::new_event(&event) {
            return ready(Err(error));
        }
        ready(Ok(self.state().insert(event)))
    }

    fn history(&self, tag: &str) -> BoxFuture<'_, Result<Vec<TagPush>, StoreError>> {
        let state = self.state();
        let pushes = state.tags.get(tag).into_iter().flat_map(|history| history.values().rev());
        ready(Ok(pushes.map(|(_, push)| push.clone()).collect()))
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        ready(Ok(self.state().event(key).cloned()))
    }

    fn list(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let before = filter.before.as_ref().map(|key| state.number_of.get(key).copied());
        let before = before.map_or(u64::MAX, Option::unwrap_or_default);
        let fits = |event: &&StoredEvent| {
            filter.state.is_none_or(|wanted| event.state() == wanted)
                && filter.prefix.as_ref().is_none_or(|prefix| event.key.starts_with(prefix))
        };
        let older = state.events.range(..before).rev().map(|(_, event)| &event.stored);
        let limit = filter.limit.min(EventFilter::MOST);
        ready(Ok(older.filter(fits).take(limit).cloned().collect()))
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let waiting = state.pending().filter(|event| event.published_at.is_none());
        ready(Ok(waiting.take(limit).cloned().collect()))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>, StoreError>> {
        let state = self.state();
        let mut due: Vec<DueEvent> = state
            .pending()
            .map(|event| DueEvent {
                key: event.key.clone(),
                due_at: event.due_at,
                fresh: event.attempts == 0,
            })
            .collect();
        due.sort_by_key(|event| event.due_at);
        due.truncate(limit);
        ready(Ok(due))
    }

    fn mark_published(
        &self,
        keys: Vec<String>,
        at: Timestamp,
        due_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        for key in keys {
            let event = state.event_mut(&key).map(|event| &mut event.stored);
            if let Some(event) = event.filter(|event| event.published_at.is_none()) {
                event.published_at = Some(at);
                if event.attempts == 0 {
                    event.due_at = due_at;
                }
            }
        }
        ready(Ok(()))
    }

    fn claim(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        ready(Ok(self.state().claim(key, by, at, lease)))
    }

    fn renew(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut state = self.state();
        let event = state.claimed_mut(key, by).map(|event| event.hold(by, at, lease));
        ready(Ok(event.is_some()))
    }

    fn postpone(
        &self,
        key: &str,
        by: &str,
        due_at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some(event) = self.state().claimed_mut(key, by) {
            event.claim = None;
            event.stored.due_at = due_at;
            event.stored.reason = Some(events::reason(reason));
        }
        ready(Ok(()))
    }

    fn give_up(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some(event) = self.state().claimed_mut(key, by) {
            event.claim = None;
            event.stored.dead_at = Some(at);
            event.stored.reason = Some(events::reason(reason));
        }
        ready(Ok(()))
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        let event = state.event_mut(key);
        if let Some(event) = event.filter(|event| event.stored.handled_at.is_none()) {
            event.claim = None;
            event.stored.handled_at = Some(at);
            event.stored.dead_at = None;
            event.stored.reason = None;
        }
        ready(Ok(()))
    }

    fn retry(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<Retried, StoreError>> {
        let mut state = self.state();
        let Some(MemoryEvent { stored, .. }) = state.event_mut(key) else {
            return ready(Ok(Retried::Unknown));
        };
        if stored.handled_at.is_some() {
            return ready(Ok(Retried::Handled));
        }
        (stored.dead_at, stored.reason) = (None, None);
        (stored.attempts, stored.due_at) = (0, at);
        ready(Ok(Retried::Due))
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

    fn watermark(&self, name: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        ready(Ok(self.state().watermarks.get(name).copied()))
    }

    fn raise_watermark(&self, name: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        let mark = state.watermarks.entry(name.to_owned()).or_insert(at);
        *mark = at.max(*mark);
        ready(Ok(()))
    }

    fn take_turn(
        &self,
        name: &str,
        at: Timestamp,
        next: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut state = self.state();
        let has_come = state.watermarks.get(name).is_none_or(|turn| *turn <= at);
        if has_come {
            state.watermarks.insert(name.to_owned(), next);
        }
        ready(Ok(has_come))
    }

    fn checkpoint(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        ready(Ok(self.state().checkpoints.get(name).cloned()))
    }

    fn save_checkpoint(&self, name: &str, body: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        let accepted = accept::checkpoint(name, body);
        if accepted.is_ok() {
            self.state().checkpoints.insert(name.to_owned(), body.to_owned());
        }
        ready(accepted)
    }
}
