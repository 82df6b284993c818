//! The port between servers and runners: a queue of jobs for each pool, and the talk about them.
//!
//! The bus carries jobs and messages, and decides nothing: a job that comes twice is claimed once, from
//! the server that offered it, and what a message says counts for whom the journal names.

use std::time::Duration;

use bytes::Bytes;
use fairlead_step::BoxFuture;
use futures::stream::BoxStream;

use crate::{Acknowledge, BusError};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens there now.
    #[error("nobody listens at `{address}`")]
    Nobody {
        /// Where it was asked.
        address: String,
    },
    /// No answer came in time. It may have been heard all the same.
    #[error("no answer from `{address}` within {} ms", .after.as_millis())]
    TimedOut {
        /// Where it was asked.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The bus did not carry it.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// How a question is answered. Implemented by each bus.
pub trait Reply: Send + Sync {
    /// Sends the answer. That it does not arrive is the asker's to find out.
    fn send(self: Box<Self>, answer: Bytes) -> BoxFuture<'static, ()>;
}

/// A message that was sent to an address.
pub struct Heard {
    /// What it says.
    pub message: Bytes,
    /// How to answer, where an answer is waited for.
    pub reply: Option<Box<dyn Reply>>,
}

/// A job that was taken out of a queue, and comes again unless its answer says otherwise.
pub struct JobOffer {
    /// What it says.
    pub job: Bytes,
    /// Which attempt it is about.
    pub token: String,
    /// How often it was offered, this time included; from 1.
    pub times: u64,
    acknowledge: Box<dyn Acknowledge>,
}

impl JobOffer {
    /// An offer; for implementations of [`JobBus`].
    #[must_use]
    pub fn new(job: Bytes, token: String, times: u64, acknowledge: Box<dyn Acknowledge>) -> Self {
        Self { job, token, times, acknowledge }
    }

    /// Says that it need not be offered again: it is claimed, or nobody's any more.
    ///
    /// # Errors
    /// When the bus does not hear it; then it comes again.
    pub fn done(self) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.done()
    }

    /// Hands it back, to be offered again after `delay`.
    ///
    /// # Errors
    /// When the bus does not hear it; then it comes again by itself.
    pub fn later(self, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        self.acknowledge.later(delay)
    }
}

/// The port to the queue of jobs, and to the talk of servers and runners. An address is a few words of
/// lower-case letters, digits, `-` and `_`, with dots between them.
///
/// Nothing here waits longer than it says, whatever becomes of the connection.
pub trait JobBus: Send + Sync {
    /// Puts a job into the queue of a pool, durably. A job with the token of one that is there already
    /// changes nothing.
    fn offer<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
        job: Bytes,
    ) -> BoxFuture<'a, Result<(), BusError>>;

    /// Takes a job out of the queue, so that nobody is offered it any more.
    fn withdraw<'a>(&'a self, pool: &'a str, token: &'a str)
    -> BoxFuture<'a, Result<(), BusError>>;

    /// Whether a job waits in the queue, or is offered to somebody who has not answered.
    fn is_offered<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, BusError>>;

    /// The next job of a pool, of those that nobody else is offered; none when there is none for a while,
    /// or the bus is away or came back. A future that is dropped may have taken one, which then comes again.
    fn take<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Option<JobOffer>>;

    /// Sends a message to whoever listens at an address, and answers the first answer.
    fn ask<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>>;

    /// Sends a message to everybody who listens at an address, if anybody does.
    fn tell<'a>(&'a self, address: &'a str, message: Bytes) -> BoxFuture<'a, Result<(), BusError>>;

    /// What is sent to an address from now on. Messages that come while the bus is away, or faster than
    /// they are read, are lost: who needs an answer asks again.
    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Heard>, BusError>>;

    /// The most bytes of a message.
    fn largest(&self) -> usize;

    /// Whether the bus can be reached now.
    fn connected(&self) -> bool;

    /// An item for each connection to the bus: the one that there is, and each that comes. What was said
    /// while there was none is to be said again.
    fn connections(&self) -> BoxStream<'static, ()>;
}

/// Whether a text can name a pool: part of an address.
#[must_use]
pub fn is_pool_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.len() <= 63 && text.bytes().all(good)
}
