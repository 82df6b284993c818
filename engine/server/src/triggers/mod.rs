//! From an event to the runs that it starts: it is claimed, matched with the triggers of every pipeline,
//! confirmed at its source, and a run of each that wants it is asked for.

mod attempts;
mod commits;
mod confirm;
mod decide;
mod deliveries;
mod evidence;
mod redelivery;
mod run_ends;
mod schedules;
mod starts;

pub(crate) use attempts::{EventAttempts, Patience};
pub(crate) use confirm::Confirmation;
pub(crate) use decide::Triggers;
pub(crate) use deliveries::Deliveries;
pub(crate) use evidence::Evidence;
pub(crate) use redelivery::Redelivery;
pub(crate) use run_ends::RunEnds;
pub(crate) use schedules::Schedules;
pub(crate) use starts::{Started, Starter, Trigger};
