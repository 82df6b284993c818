//! What a server says of itself to other machines: measures for Prometheus, and a trace of each run.

mod export;
mod levels;
mod metrics;
mod traces;

pub(crate) use export::Exports;
pub use export::{ExportError, TraceExporter};
pub(crate) use levels::LevelsOf;
pub use metrics::Metrics;
pub(crate) use traces::TraceParent;
