//! What others are told: CloudEvents of runs to whoever is configured to hear of them, and statuses of
//! commits to forges. Each is a message in the store before anybody is asked to take it, and is sent until it
//! is taken or given up; a destination that is away holds up no other, and no run.

mod couriers;
mod messages;
mod producer;
mod sender;

pub use couriers::{Courier, DeliveryError, Destination, Destinations, EventWants};
pub(crate) use producer::{Known, Outgoing, Producer};
pub(crate) use sender::Senders;
