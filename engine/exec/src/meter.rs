//! The port to measures: told of what is written to journals, by whoever writes it.

use fairlead_run::{Record, Run};
use fairlead_step::RunId;

/// Told what happens, to count and measure it. It must not wait, and nothing is decided by it.
pub trait Meter: Send + Sync {
    /// A record was written to the journal of a run, which is this with all that was written together.
    fn recorded(&self, run: &Run, record: &Record);

    /// The lease of a run could not be renewed in time, and its attempts were ended.
    fn lease_lost(&self, run: &RunId);
}

/// Nobody measures.
pub(crate) struct NoMeter;

impl Meter for NoMeter {
    fn recorded(&self, _: &Run, _: &Record) {}

    fn lease_lost(&self, _: &RunId) {}
}
