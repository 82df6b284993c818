//! The audit log, for those who may read it.

use axum::Json;
use axum::extract::{Query, State};
use fairlead_run::{MOST_ENTRIES, Seq};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::identity::Audit;

/// How many entries a page has when nobody says.
const PAGE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The entry that the page begins behind. Without one it is the newest entries.
    #[serde(default)]
    after: Option<u64>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Entries in the order in which they were written, each as the text that its hash is of.
pub(crate) async fn list(
    State(audit): State<Audit>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MOST_ENTRIES);
    let head = audit.log().head().await?;
    let last = head.map_or(0, |(seq, _)| seq.0);
    let after = query.after.unwrap_or_else(|| last.saturating_sub(limit as u64));
    let records = audit.log().read(Seq(after), limit).await?;
    let next = records.last().map(|record| record.seq().0).filter(|seq| *seq < last);
    let entries = records
        .iter()
        .map(|record| json!({ "hash": record.hash().to_string(), "record": record.bytes() }));
    Ok(Json(json!({
        "entries": entries.collect::<Vec<_>>(),
        "next": next,
        "head": head.map(|(seq, hash)| json!({ "seq": seq.0, "hash": hash.to_string() })),
    })))
}
