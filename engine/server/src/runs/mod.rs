//! The runs of a server: those that it drives, those that wait to be admitted, and those that were left.

mod admission_queue;
mod supervisor;
mod sweep;

pub(crate) use supervisor::Supervisor;
pub(crate) use sweep::Sweep;
