//! The port to what is to be told to others: each message to each destination once, until it is delivered or
//! given up.

use std::sync::Arc;
use std::time::Duration;

use fairlead_step::{BoxFuture, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EventState, StoreError};

/// A message to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Where it goes.
    pub destination: String,
    /// Its id: there is one of each at a destination, and it stays the same however often it is sent.
    pub id: String,
    /// Its type, such as `dev.fairlead.run.ended.v1`.
    pub kind: String,
    /// What it is about. Two messages about the same are not sent at one time.
    pub about: String,
    /// Whether what was to be said earlier about the same need not be said any more.
    pub replaces: bool,
    /// The run that it is of. It goes when that does.
    pub run: Option<RunId>,
    /// What is sent.
    pub document: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl NewDelivery {
    /// The most bytes of a document.
    pub const MAX_BYTES: usize = 256 << 10;
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its place among all.
    pub number: u64,
    /// The message.
    pub message: NewDelivery,
    /// When it is sent, while it is pending.
    pub due_at: Timestamp,
    /// How often somebody began to send it.
    pub attempts: u32,
    /// When it was delivered, or was not needed any more.
    pub delivered_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// Why the last attempt did not deliver it.
    pub reason: Option<String>,
}

impl StoredDelivery {
    /// Where it is on its way: `handled` is delivered.
    #[must_use]
    pub const fn state(&self) -> EventState {
        match (&self.delivered_at, &self.dead_at) {
            (Some(_), _) => EventState::Handled,
            (None, Some(_)) => EventState::Dead,
            (None, None) => EventState::Pending,
        }
    }

    /// The message as people and programs are shown it.
    #[must_use]
    pub fn view(&self) -> DeliveryView {
        let NewDelivery { destination, id, kind, about, run, created_at, .. } = &self.message;
        DeliveryView {
            number: self.number,
            destination: destination.clone(),
            id: id.clone(),
            kind: kind.clone(),
            about: about.clone(),
            run: run.clone(),
            state: match self.state() {
                EventState::Pending => "pending",
                EventState::Handled => "delivered",
                EventState::Dead => "dead",
            }
            .to_owned(),
            created_at: *created_at,
            attempts: self.attempts,
            next_at: (self.state() == EventState::Pending).then_some(self.due_at),
            delivered_at: self.delivered_at,
            dead_at: self.dead_at,
            reason: self.reason.clone(),
        }
    }

    /// The document as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.message.document).unwrap_or_default()
    }
}

/// A message in lists, without what it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Its place among all.
    pub number: u64,
    /// Where it goes.
    pub destination: String,
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub about: String,
    /// The run that it is of.
    pub run: Option<RunId>,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How often somebody began to send it.
    pub attempts: u32,
    /// When it is sent next.
    pub next_at: Option<Timestamp>,
    /// When it was delivered.
    pub delivered_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// Why it is not delivered.
    pub reason: Option<String>,
}

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Those to this destination.
    pub destination: Option<String>,
    /// Those in this state.
    pub state: Option<EventState>,
    /// Those before this number.
    pub before: Option<u64>,
    /// At most so many, and at most [`DeliveryFilter::MOST`].
    pub limit: usize,
}

impl DeliveryFilter {
    /// The most messages of one page.
    pub const MOST: usize = 1000;
}

/// The messages to others: an outbox for each destination. A message is added once for each thing that
/// happened, is sent by whoever takes it, and goes with its run; a destination that is away holds up no other.
pub trait DeliveryStore: Send + Sync {
    /// Adds messages, durably; those that are there already stay as they are. Answers how many are new.
    ///
    /// # Errors
    /// When the store fails, or a document is larger than [`NewDelivery::MAX_BYTES`].
    fn add(&self, messages: Vec<NewDelivery>) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Takes messages that are due, in their order, for so long; each counts an attempt. What a later one
    /// replaces is not sent any more. Nothing is taken while an earlier one about the same is being sent.
    ///
    /// # Errors
    /// When the store fails.
    fn take(
        &self,
        wanted: TakeDeliveries,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>>;

    /// Notes what became of a message that `by` has taken. Nothing changes when it is no longer `by`'s.
    ///
    /// # Errors
    /// When the store fails.
    fn settle(
        &self,
        number: u64,
        by: &str,
        became: DeliveryOutcome,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// When the next message to this destination is due; none when none is pending.
    ///
    /// # Errors
    /// When the store fails.
    fn next_due(&self, destination: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;

    /// Makes a message that is dead or waits due at once, with its attempts counted from 0 again. False when
    /// there is no such message, or it was delivered.
    ///
    /// # Errors
    /// When the store fails.
    fn send_again(&self, number: u64, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Messages, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>>;
}

/// What is taken to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeDeliveries {
    /// The messages to this destination.
    pub destination: String,
    /// Who sends them.
    pub by: String,
    /// The time now.
    pub at: Timestamp,
    /// For how long they are taken: others may have them after that.
    pub lease: Duration,
    /// At most so many.
    pub limit: usize,
}

/// What became of a message that was to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It was taken.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// It is sent again.
    Later {
        /// When.
        due_at: Timestamp,
        /// Why it was not taken.
        reason: String,
    },
    /// It is not sent any more.
    GivenUp {
        /// When that was decided.
        at: Timestamp,
        /// Why it was not taken.
        reason: String,
    },
}

impl<S: DeliveryStore + ?Sized> DeliveryStore for Arc<S> {
    fn add(&self, messages: Vec<NewDelivery>) -> BoxFuture<'_, Result<usize, StoreError>> {
        (**self).add(messages)
    }

    fn take(
        &self,
        wanted: TakeDeliveries,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        (**self).take(wanted)
    }

    fn settle(
        &self,
        number: u64,
        by: &str,
        became: DeliveryOutcome,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).settle(number, by, became)
    }

    fn next_due(&self, destination: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        (**self).next_due(destination)
    }

    fn send_again(&self, number: u64, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        (**self).send_again(number, at)
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        (**self).deliveries(filter)
    }
}
