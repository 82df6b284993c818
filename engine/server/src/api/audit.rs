//! The audit log, for those who may read it.

use axum::Json;
use axum::extract::{Query, State};
use fairlead_run::{MOST_ENTRIES, Seq};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::identity::Audit;

/// How many entries a page has when nobody says.
const PAGE: usize = 100;

/// A page of the audit log, in the order in which it was written.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<EntryShown>,
    /// What to ask for as `after` for the next page; null when there is none.
    next: Option<u64>,
    /// The last entry of the log.
    head: Option<AuditHead>,
}

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
struct EntryShown {
    hash: String,
    /// The entry, as the text that the hash is of.
    record: String,
}

/// Where the audit log ends.
#[derive(Serialize, ToSchema)]
struct AuditHead {
    seq: u64,
    hash: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The entry that the page begins behind. Without one it is the newest entries.
    #[serde(default)]
    after: Option<u64>,
    /// How many a page has: 100 when nothing is said, at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// Entries in the order in which they were written, each as the text that its hash is of.
pub(crate) async fn list(
    State(audit): State<Audit>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<AuditPage>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MOST_ENTRIES);
    let head = audit.log().head().await?;
    let last = head.map_or(0, |(seq, _)| seq.0);
    let after = query.after.unwrap_or_else(|| last.saturating_sub(limit as u64));
    let records = audit.log().read(Seq(after), limit).await?;
    let next = records.last().map(|record| record.seq().0).filter(|seq| *seq < last);
    let entries = records
        .iter()
        .map(|it| EntryShown { hash: it.hash().to_string(), record: it.bytes().to_owned() });
    let head = head.map(|(seq, hash)| AuditHead { seq: seq.0, hash: hash.to_string() });
    Ok(Json(AuditPage { entries: entries.collect(), next, head }))
}
