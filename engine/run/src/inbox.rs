//! The port to the stored events: what happened outside, once each, until it is published and
//! handled, or set aside as a dead letter.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_step::{BoxFuture, Digest, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// When the store hands it out itself, unless the bus has it by then.
    pub due_at: Timestamp,
    /// The CloudEvent, as structured JSON.
    pub document: String,
    /// The place that it takes in the history of a tag, when it is a push to one.
    pub push: Option<TagPush>,
}

impl NewEvent {
    /// The most bytes of a document.
    pub const MAX_BYTES: usize = 1 << 20;
}

/// A push in the history of a tag. The history tells a push that is reported again from one that
/// happened again, and outlives the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPush {
    /// The tag, as `registry/repository:tag`.
    pub tag: String,
    /// Its place: one more than that of the push before it. The numbers may have gaps.
    pub number: u64,
    /// The key of its event, which may be gone.
    pub key: String,
    /// What the tag was set to.
    pub digest: Digest,
    /// When, as the sender says.
    pub at: Option<Timestamp>,
}

impl TagPush {
    /// How many of the newest pushes to a tag are kept.
    pub const KEPT: usize = 64;
}

/// What storing an event came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is there now.
    New,
    /// The same happening was reported before, at this time. The event itself may be gone.
    Duplicate {
        /// When it was received.
        received_at: Timestamp,
    },
    /// Another push took the place in the history of the tag meanwhile: look at it again.
    Overtaken,
}

/// Where an event is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// It is to be handled, now or later.
    Pending,
    /// Every pipeline had its say about it.
    Handled,
    /// It could not be handled, and is not tried again unless somebody asks for it.
    Dead,
}

impl EventState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Handled, Self::Dead];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Handled => "handled",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for EventState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is none of the states of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a state of an event: say pending, handled or dead")]
pub struct UnknownState {
    text: String,
}

impl FromStr for EventState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| UnknownState { text: text.chars().take(40).collect() })
    }
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The hash of what happened.
    pub key: String,
    /// The id of the CloudEvent.
    pub id: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// The CloudEvent, as structured JSON.
    pub document: String,
    /// When it was put on the bus, or was found not to fit on it.
    pub published_at: Option<Timestamp>,
    /// When every pipeline had its say about it, if so.
    pub handled_at: Option<Timestamp>,
    /// When it was given up, if so.
    pub dead_at: Option<Timestamp>,
    /// How often somebody began to handle it.
    pub attempts: u32,
    /// While it is pending: when the store hands it out.
    pub due_at: Timestamp,
    /// Why the last attempt did not handle it.
    pub reason: Option<String>,
}

impl StoredEvent {
    /// Where it is on its way.
    #[must_use]
    pub const fn state(&self) -> EventState {
        match (&self.handled_at, &self.dead_at) {
            (Some(_), _) => EventState::Handled,
            (None, Some(_)) => EventState::Dead,
            (None, None) => EventState::Pending,
        }
    }

    /// The event as people and programs are shown it.
    #[must_use]
    pub fn view(&self) -> EventView {
        let document: Value = serde_json::from_str(&self.document).unwrap_or_default();
        let text = |field: &str| document[field].as_str().map(str::to_owned);
        let state = self.state();
        EventView {
            id: self.key.clone(),
            state,
            kind: text("type"),
            source: text("source"),
            subject: text("subject"),
            received_at: self.received_at,
            published_at: self.published_at,
            handled_at: self.handled_at,
            dead_at: self.dead_at.filter(|_| state == EventState::Dead),
            attempts: self.attempts,
            next_at: (state == EventState::Pending).then_some(self.due_at),
            reason: self.reason.clone(),
        }
    }
}

/// An event in lists, without what it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventView {
    /// Its id.
    pub id: String,
    /// Where it is on its way.
    pub state: EventState,
    /// The type of the CloudEvent, when it can be read.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its source.
    pub source: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it was received.
    pub received_at: Timestamp,
    /// When it was put on the bus.
    pub published_at: Option<Timestamp>,
    /// When it was handled.
    pub handled_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// How often somebody began to handle it.
    pub attempts: u32,
    /// When the store hands it out, while it is pending.
    pub next_at: Option<Timestamp>,
    /// Why it is not handled.
    pub reason: Option<String>,
}

/// Which events to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those in this state; every state when none is given.
    pub state: Option<EventState>,
    /// Those whose key begins with this.
    pub prefix: Option<String>,
    /// Those older than the event with this key.
    pub before: Option<String>,
    /// At most so many, and at most [`EventFilter::MOST`].
    pub limit: usize,
}

impl EventFilter {
    /// The most events of one page.
    pub const MOST: usize = 1000;
}

/// A pending event, as whoever hands out needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    /// Its key.
    pub key: String,
    /// When the store hands it out.
    pub due_at: Timestamp,
    /// Whether nobody has begun to handle it.
    pub fresh: bool,
}

/// What asking for an event to handle came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is to be handled by whoever asked, who is the only one for as long as the claim lasts.
    Yes(Box<StoredEvent>),
    /// Somebody else handles it.
    Held,
    /// It is handled, or was given up.
    Over(EventState),
    /// There is no such event.
    Unknown,
}

/// What asking for an event to be handed out again came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// It is pending, and due at once, as if it had just come.
    Due,
    /// It is handled: there is nothing to try again.
    Handled,
    /// There is no such event.
    Unknown,
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
/// An event is stored before its sender is answered, marked as published after the bus took it, and
/// marked as handled after each pipeline that wanted it has its run. The bus hands an event out
/// once, soon; everything else is the store's: it knows when an event is due (at first when the bus
/// should long have handed it out), who has claimed it, how often it was tried and why it was not
/// handled. Which run an event started is written by [`crate::Journal::create`], in one transaction
/// with the run.
pub trait EventStore: Send + Sync {
    /// Stores an event unless its happening is known, durably. What is known outlives the event: its
    /// key, or its place in the history of its tag.
    ///
    /// # Errors
    /// When the store fails.
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>>;

    /// The last pushes to a tag, newest first, at most [`TagPush::KEPT`].
    ///
    /// # Errors
    /// When the store fails.
    fn history(&self, tag: &str) -> BoxFuture<'_, Result<Vec<TagPush>, StoreError>>;

    /// The event with this dedup key.
    ///
    /// # Errors
    /// When the store fails.
    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>>;

    /// Events, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn list(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>>;

    /// Pending events that were not published, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>>;

    /// Pending events, by the time at which they are due, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>, StoreError>>;

    /// Notes that the bus took these events, and when the store hands out those of them that nobody
    /// has begun to handle. The first time stands; an unknown key changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    fn mark_published(
        &self,
        keys: Vec<String>,
        at: Timestamp,
        due_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Claims a pending event for `by`, for so long, unless somebody else has; and counts an
    /// attempt. It is not due again before the claim ends.
    ///
    /// # Errors
    /// When the store fails.
    fn claim(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claimed, StoreError>>;

    /// Makes a claim last so long from now on. False when the event is no longer `by`'s to handle.
    ///
    /// # Errors
    /// When the store fails.
    fn renew(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Gives a claim back: the event is due again at that time. Nothing changes when it is no longer
    /// `by`'s.
    ///
    /// # Errors
    /// When the store fails.
    fn postpone(
        &self,
        key: &str,
        by: &str,
        due_at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives an event up: it is a dead letter. Nothing changes when it is no longer `by`'s.
    ///
    /// # Errors
    /// When the store fails.
    fn give_up(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes that an event was handled, whoever has claimed it. The first time stands; an unknown key
    /// changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes an event that is dead or waits due at once, with its attempts counted from 0 again.
    ///
    /// # Errors
    /// When the store fails.
    fn retry(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<Retried, StoreError>>;

    /// The runs that an event started, by pipeline.
    ///
    /// # Errors
    /// When the store fails.
    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>>;

    /// Up to where what is called `name` was looked at: the times of a schedule, the runs that ended.
    /// None when nobody has begun.
    ///
    /// # Errors
    /// When the store fails.
    fn watermark(&self, name: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;

    /// Notes that it was looked at up to `at`. It never goes back: of several who note it, the
    /// farthest stands.
    ///
    /// # Errors
    /// When the store fails.
    fn raise_watermark(&self, name: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes the turn called `name`, which is one at a time of several servers: whether it has come `at`
    /// this time, and nobody else took it. The next one comes at `next`.
    ///
    /// # Errors
    /// When the store fails.
    fn take_turn(
        &self,
        name: &str,
        at: Timestamp,
        next: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// What was kept last under this name: of the files of a repository, of the tags of a registry.
    ///
    /// # Errors
    /// When the store fails.
    fn checkpoint(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// Keeps `body` under this name, in the place of what was there.
    ///
    /// # Errors
    /// When the store fails, or it has more than [`MAX_CHECKPOINT_BYTES`].
    fn save_checkpoint(&self, name: &str, body: &str) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// The most bytes of a checkpoint.
pub const MAX_CHECKPOINT_BYTES: usize = 32 << 20;

/// The most bytes of a reason that is kept.
pub const MAX_REASON_BYTES: usize = 4 << 10;

impl<S: EventStore + ?Sized> EventStore for Arc<S> {
    fn insert(&self, event: NewEvent) -> BoxFuture<'_, Result<Inserted, StoreError>> {
        (**self).insert(event)
    }

    fn history(&self, tag: &str) -> BoxFuture<'_, Result<Vec<TagPush>, StoreError>> {
        (**self).history(tag)
    }

    fn event(&self, key: &str) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        (**self).event(key)
    }

    fn list(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        (**self).list(filter)
    }

    fn unpublished(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        (**self).unpublished(limit)
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DueEvent>, StoreError>> {
        (**self).due(limit)
    }

    fn mark_published(
        &self,
        keys: Vec<String>,
        at: Timestamp,
        due_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).mark_published(keys, at, due_at)
    }

    fn claim(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        (**self).claim(key, by, at, lease)
    }

    fn renew(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        (**self).renew(key, by, at, lease)
    }

    fn postpone(
        &self,
        key: &str,
        by: &str,
        due_at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).postpone(key, by, due_at, reason)
    }

    fn give_up(
        &self,
        key: &str,
        by: &str,
        at: Timestamp,
        reason: &str,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).give_up(key, by, at, reason)
    }

    fn mark_handled(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).mark_handled(key, at)
    }

    fn retry(&self, key: &str, at: Timestamp) -> BoxFuture<'_, Result<Retried, StoreError>> {
        (**self).retry(key, at)
    }

    fn runs_of(&self, key: &str) -> BoxFuture<'_, Result<Vec<EventRun>, StoreError>> {
        (**self).runs_of(key)
    }

    fn watermark(&self, name: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        (**self).watermark(name)
    }

    fn raise_watermark(&self, name: &str, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).raise_watermark(name, at)
    }

    fn take_turn(
        &self,
        name: &str,
        at: Timestamp,
        next: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        (**self).take_turn(name, at, next)
    }

    fn checkpoint(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        (**self).checkpoint(name)
    }

    fn save_checkpoint(&self, name: &str, body: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).save_checkpoint(name, body)
    }
}
