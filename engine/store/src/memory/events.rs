//! [`EventStore`] in memory.

use fairlead_run::{EventRun, EventStore, Inserted, NewEvent, StoreError, StoredEvent};
use fairlead_step::{BoxFuture, RunId};
use jiff::Timestamp;

use super::{Memory, State, ready};
use crate::accept;

impl State {
    fn mark(
        &mut self,
        key: &str,
        note: impl Fn(&mut StoredEvent) -> &mut Option<Timestamp>,
        at: Timestamp,
    ) {
        if let Some(event) = self.number_of.get(key).and_then(|n| self.events.get_mut(n)) {
            note(event).get_or_insert(at);
        }
    }
}

impl EventStore for Memory {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        if let Err(error) = accept::new_event(&event) {
            return ready(Err(error));
        }
        let mut state = self.state();
        if let Some(StoredEvent { event: known, .. }) = state.event(&event.key) {
            let (id, received_at) = (known.id.clone(), known.received_at);
            return ready(Ok(Inserted::Duplicate { id, received_at }));
        }
        let number = state.next();
        state.number_of.insert(event.key.clone(), number);
        let stored = StoredEvent { event, published_at: None, handled_at: None };
        state.events.insert(number, stored);
        ready(Ok(Inserted::New))
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        ready(Ok(self.state().event(key).cloned()))
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let waiting = state.events.values().filter(|event| event.published_at.is_none());
        ready(Ok(waiting.take(limit).cloned().collect()))
    }

    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        let state = self.state();
        let waiting = state.events.values().filter(|event| event.handled_at.is_none());
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
