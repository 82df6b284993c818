//! A strict, streaming reader of tar archives: headers only, data on request.

mod header;
mod pax;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use header::{EntryKind, looks_like_an_archive};
pub use reader::TarError;
pub(crate) use reader::{Entries, Entry, TarReader};
