//! The advisory database: one file that an update compiles from OSV dumps and a scan reads.

mod compile;
mod feed;
mod format;
mod http;
mod store;
mod update;

pub use store::{Database, DatabaseInfo, DbError, StaleEcosystem};
pub use update::{
    FeedReport, FeedState, Progress, Source, UpdateError, UpdateOptions, UpdateReport,
};
