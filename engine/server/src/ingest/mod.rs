//! From a sender's message to an event on the bus: its proof, what it says, the store, the outbox.

mod accept;
mod outbox;
mod receive;
mod replay;
mod sources;
mod subscriptions;

pub(crate) use accept::{Ingest, IngestError, later, read};
pub(crate) use outbox::Outbox;
pub(crate) use receive::{Door, NotTaken, Receiver};
pub use replay::once_more;
pub(crate) use sources::Source;
pub use sources::{SourceProblem, SourceSettings, Sources};
pub(crate) use subscriptions::Subscription;
