//! The `scan` step: a bill of materials against an advisory database compiled from OSV dumps.
//! No stable API.
//!
//! ```text
//! <ECOSYSTEM>/all.zip ─ database::feed, http ─► osv ─► database::compile ─► one file, by digest
//! SPDX, CycloneDX ─ sbom ─► package URLs ─ package ─► ecosystem, name, version
//!     ─ database (look-up) ─► advisories ─ range, version ─► finding ─ ignore ─► report
//!     └ what cannot be looked up, what the bill says was not read ─► unassessed ─► report
//! ```
//!
//! * [`Scan`] is the step; [`Database`] is updated, opened and described.
//! * `range` has the evaluation rules of the OSV schema, `version` the order of versions of each
//!   ecosystem, `severity` who decides how bad a finding is.

mod clusters;
mod compare;
mod database;
mod distribution;
mod ecosystem;
mod finding;
mod ignore;
mod osv;
mod package;
mod range;
#[cfg(test)]
mod real_data;
mod report;
mod sbom;
mod severity;
mod step;
mod unassessed;
mod version;

pub use compare::{Change, CompareError, Comparison, Side};
pub use database::{
    Database, DatabaseInfo, DbError, FeedReport, FeedState, Progress, Source, StaleEcosystem,
    UpdateError, UpdateOptions, UpdateReport,
};
pub use report::Counts;
pub use severity::Severity;
pub use step::{FailOn, Scan, ScanInput, ScanOutput, Threshold};
