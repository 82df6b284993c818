//! The port to the stored events: what happened outside, once each, until it is published and
//! handled.

use std::sync::Arc;

use fairlead_step::{BoxFuture, RunId};
use jiff::Timestamp;

use crate::StoreError;

/// An event to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The hash of what happened; two reports of one happening have the same.
    pub key: String,
    /// The id of the CloudEvent.
    pub id: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// The CloudEvent, as structured JSON.
    pub document: String,
}

impl NewEvent {
    /// The most bytes of a document.
    pub const MAX_BYTES: usize = 1 << 20;
}

/// What storing an event came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is there now.
    New,
    /// The same happening was reported before.
    Duplicate {
        /// The id of the CloudEvent that is stored.
        id: String,
        /// When that one was received.
        received_at: Timestamp,
    },
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// What was stored.
    pub event: NewEvent,
    /// When it was put on the bus, if it was.
    pub published_at: Option<Timestamp>,
    /// When every pipeline had its say about it, if so.
    pub handled_at: Option<Timestamp>,
}

/// A run that an event started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRun {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run: RunId,
}

/// The stored events: the inbox of what senders report, and the outbox to the bus.
///
/// An event is stored before its sender is answered, marked as published after the bus took it,
/// and marked as handled after each pipeline that wanted it has its run. A process that starts
/// publishes what [`EventStore::unpublished`] answers; where the bus does not outlive the process,
/// it hands out again what [`EventStore::unhandled`] answers. Which run an event started is
/// written by [`crate::Journal::create`], in one transaction with the run.
pub trait EventStore: Send + Sync {
    /// Stores an event unless its happening is known, durably.
    ///
    /// # Errors
    /// When the store fails.
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>>;

    /// The event with this dedup key.
    ///
    /// # Errors
    /// When the store fails.
    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>>;

    /// Events that were not published, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>>;

    /// Events that were not handled, published or not, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>>;

    /// Notes that the bus took an event. The first time stands; an unknown key changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    fn mark_published(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes that an event was handled. The first time stands; an unknown key changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The runs that an event started, by pipeline.
    ///
    /// # Errors
    /// When the store fails.
    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>>;
}

impl<S: EventStore + ?Sized> EventStore for Arc<S> {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        (**self).insert(event)
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        (**self).event(key)
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        (**self).unpublished(limit)
    }

    fn unhandled(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        (**self).unhandled(limit)
    }

    fn mark_published(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).mark_published(key, at)
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).mark_handled(key, at)
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        (**self).runs_of(key)
    }
}
