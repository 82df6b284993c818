//! The port to the bus, which carries events from where they are stored to where they are handled.

use std::fmt;
use std::time::Duration;

use fairlead_step::BoxFuture;
use futures::stream::BoxStream;

use crate::{CloudEvent, CloudEventError, Headers};

/// The error beneath one of the bus's.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the bus did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// It cannot be reached, or did not answer in time. It may be back later.
    #[error("the bus did not {doing}")]
    Unavailable {
        /// What was asked, such as `take event 1f2e…`.
        doing: String,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// It holds as much as it may. There is room again when somebody has handled something.
    #[error("the bus is full: {held} events wait to be handled")]
    Full {
        /// How many.
        held: usize,
    },
    /// The event can never be put on it.
    #[error("the event has {size} bytes, and the bus takes {limit}")]
    TooLarge {
        /// How large its message would be.
        size: usize,
        /// The most that it takes.
        limit: usize,
    },
    /// It cannot do this at all.
    #[error("this bus cannot {what}")]
    Unsupported {
        /// What was asked.
        what: &'static str,
    },
}

/// How a delivery is answered. Implemented by each bus.
pub trait Acknowledge: Send + Sync {
    /// Says that the message is done with.
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>>;

    /// Asks for the message again, not before `delay` has passed.
    fn later(self: Box<Self>, delay: Duration) -> BoxFuture<'static, Result<(), BusError>>;

    /// Says that the message is still being handled, so that it is not handed out again yet.
    fn progress(&self) -> BoxFuture<'_, Result<(), BusError>>;

    /// After how long without an answer, or without progress, the message is handed out again; none
    /// when it never is while its holder lives.
    fn patience(&self) -> Option<Duration>;
}

/// An event handed out to be handled.
///
/// It is not gone from the bus before [`Delivery::done`] has answered. A delivery that is dropped,
/// or whose holder dies, comes again.
pub struct Delivery {
    /// The event, or why the message is none. A message that is no event is to be told and done
    /// with, for it will never be one.
    pub event: Result<CloudEvent, CloudEventError>,
    /// How often it was handed out, this time included; from 1.
    pub attempt: u64,
    acknowledge: Box<dyn Acknowledge>,
}

impl Delivery {
    /// A delivery; for implementations of [`Bus`].
    #[must_use]
    pub fn new(
        event: Result<CloudEvent, CloudEventError>,
        attempt: u64,
        acknowledge: Box<dyn Acknowledge>,
    ) -> Self {
        Self { event, attempt, acknowledge }
    }

    /// Says that the event is handled. Call it after what the event led to is committed, never
    /// before.
    ///
    /// # Errors
    /// When the bus cannot be told. The event then comes again, and its handler finds it handled.
    pub fn done(self) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.done()
    }

    /// Asks for the event again, not before `delay` has passed.
    ///
    /// # Errors
    /// When the bus cannot be told. The event then comes again at a time of the bus's choosing.
    pub fn later(self, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.later(delay)
    }
}

impl Delivery {
    /// Says that the event is still being handled.
    ///
    /// # Errors
    /// When the bus cannot be told. The event may then come again although it is being handled.
    pub fn progress(&self) -> BoxFuture<'_, Result<(), BusError>> {
        self.acknowledge.progress()
    }

    /// After how long without a word the event comes again; none when it does not while this lives.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.acknowledge.patience()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("event", &self.event)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// A message that somebody else put on a subject of the bus.
pub struct SubscribedDelivery {
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    acknowledge: Box<dyn Acknowledge>,
}

impl SubscribedDelivery {
    /// A delivery; for implementations of [`Bus`].
    #[must_use]
    pub fn new(headers: Headers, body: Vec<u8>, acknowledge: Box<dyn Acknowledge>) -> Self {
        Self { headers, body, acknowledge }
    }

    /// Says that the message is stored, or that it is of no use.
    ///
    /// # Errors
    /// When the bus cannot be told. The message then comes again.
    pub fn done(self) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.done()
    }

    /// Asks for the message again, not before `delay` has passed.
    ///
    /// # Errors
    /// When the bus cannot be told. The message then comes again at a time of the bus's choosing.
    pub fn later(self, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.later(delay)
    }
}

impl fmt::Debug for SubscribedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribedDelivery")
            .field("headers", &self.headers)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Events as they are handed out. It does not end: an outage is a pause.
pub type Deliveries = BoxStream<'static, Delivery>;

/// Messages of somebody else as they are handed out. It does not end: an outage is a pause.
pub type SubscribedDeliveries = BoxStream<'static, SubscribedDelivery>;

/// The bus.
///
/// It hands out each event at least once, to one of those who are subscribed. It never decides what
/// was done: the store does. Events are stored before they are published, and whoever publishes
/// keeps them until the bus has taken them, so a bus that is away costs time and nothing else.
pub trait Bus: Send + Sync {
    /// Puts an event on the bus. When it answers with success, the bus has the event as safely as
    /// it keeps anything. Publishing the same id again is harmless; the bus may drop the second.
    ///
    /// # Errors
    /// [`BusError::Unavailable`], within a deadline of seconds, when it cannot be reached;
    /// [`BusError::Full`] when there is no room.
    fn publish<'a>(&'a self, event: &'a CloudEvent) -> BoxFuture<'a, Result<(), BusError>>;

    /// The events to be handled, from the oldest that is not done with. Several subscribers, in one
    /// process or in many, share them.
    ///
    /// # Errors
    /// When subscribing is refused. That the bus is away is no reason: the stream begins when it is
    /// back.
    fn subscribe(&self) -> BoxFuture<'_, Result<Deliveries, BusError>>;

    /// The messages that others put on `subject`. `name` is the name of the source, under which the
    /// bus remembers how far it has come.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] when nobody else can reach this bus.
    fn subscribe_to<'a>(
        &'a self,
        name: &'a str,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<SubscribedDeliveries, BusError>>;

    /// Puts a message of another kind on `subject`, which somebody else reads: a CloudEvent as structured JSON.
    /// The bus may drop a second one with the same id.
    ///
    /// # Errors
    /// As [`Bus::publish`], and [`BusError::Unsupported`] when nobody else can reach this bus.
    fn publish_on<'a>(
        &'a self,
        subject: &'a str,
        id: &'a str,
        body: &'a [u8],
    ) -> BoxFuture<'a, Result<(), BusError>>;

    /// Waits until publishing may work again after it failed: the bus is reachable once more, or has
    /// room. It may answer too often, and must not answer too late.
    fn recovered(&self) -> BoxFuture<'_, ()>;

    /// Whether it can be reached now, for the page that says if the server is ready.
    fn reachable(&self) -> bool;
}
