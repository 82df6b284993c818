//! The Bus in process and on NATS JetStream.
//!
//! [`InProcess`] is a bounded queue for a server that is one process. [`JetStream`] carries events
//! between processes and takes in what others publish on NATS. Neither decides what was done: the
//! store does, and whoever publishes keeps an event until the bus has taken it. [`JetStream`] also has
//! the queue of jobs for runners ([`fairlead_event::JobBus`]), and [`InProcessJobs`] is one for tests. No
//! stable API.

mod in_process;
mod in_process_jobs;
mod jetstream;

pub use in_process::InProcess;
pub use in_process_jobs::InProcessJobs;
pub use jetstream::{ConnectError, JetStream, JetStreamOptions};
