//! Requests that may come twice: what is kept of one that shows an `Idempotency-Key`, and the port to where
//! that is kept.

use std::time::Duration;

use fairlead_step::{BoxFuture, Digest, RunId};
use jiff::Timestamp;

use crate::StoreError;

/// For how long a request is known again.
pub const KEYED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The most bytes of an answer that is kept. Of a larger one it is known that it was given.
pub const MAX_KEPT_ANSWER: usize = 256 << 10;

/// A request that shows a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The hash of who asks, of where, and of the key: what others show is another key.
    pub key: Digest,
    /// The hash of what is asked for.
    pub content: Digest,
    /// The id of the run that it creates, if it creates one. Whoever does the request once more does it
    /// under the id that was given first, so that there is one run, wherever the first one was cut off.
    pub run: RunId,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Its body as JSON; none when it had a secret in it, or was too large to be kept.
    pub body: Option<String>,
}

/// What beginning a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedStart {
    /// It is to be done, a run that it creates under this id.
    Do(RunId),
    /// It was done, and answered so.
    Done(KeptAnswer),
    /// It is being done, or was cut off; from this time on it may be done once more.
    UnderWay(Timestamp),
    /// Something else was asked for with this key.
    Another,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedEnd {
    /// It was done.
    Done(KeptAnswer),
    /// It was refused, and nothing is left of it: its key may be used for another one.
    Refused,
    /// Nobody knows how far it came. It may be done once more at once, under the same id.
    Unknown,
}

/// The port to what is kept of requests that show a key.
pub trait IdempotencyStore: Send + Sync {
    /// Begins a request, which then counts as under way for `lease`. Of several that begin the same at
    /// once, one is told to do it. What is older than [`KEYED_FOR`] is forgotten.
    ///
    /// # Errors
    /// When the store fails. Nothing may be done then.
    fn begin(
        &self,
        request: KeyedRequest,
        now: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<KeyedStart, StoreError>>;

    /// Says what became of a request. One that was answered stays so.
    ///
    /// # Errors
    /// When the store fails. The request is done once more then, when it comes again after its lease.
    fn end(&self, key: &Digest, end: KeyedEnd) -> BoxFuture<'_, Result<(), StoreError>>;
}
