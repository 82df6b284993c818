//! The three forms of a report: JSON for programs, SARIF for forges, a table for people.

mod document;
mod sarif;
mod table;

pub use document::Counts;
pub(crate) use document::{Origin, Report};
pub(crate) use sarif::sarif;
pub(crate) use table::{plain, table};
