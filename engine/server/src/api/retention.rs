//! Removing what is over.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use fairlead_run::AuditAction;
use fairlead_step::HumanDuration;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::identity::Caller;
use crate::ports::{PruneRequest, Retention};

/// What may be removed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneBody {
    /// Runs that ended longer ago than this, such as `30d`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    older_than: Option<HumanDuration>,
    /// Runs that are not among the last so many of their pipeline.
    #[serde(default)]
    keep_last: Option<usize>,
    /// Nobody removes anything by leaving this out.
    dry_run: bool,
}

pub(crate) async fn prune(
    State(retention): State<Arc<dyn Retention>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let body: PruneBody =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    if !body.dry_run {
        let detail = Map::from_iter([
            ("older_than".to_owned(), json!(body.older_than)),
            ("keep_last".to_owned(), json!(body.keep_last)),
        ]);
        caller.record(AuditAction::StorePrune, "store", None, detail).await?;
    }
    let asked = PruneRequest {
        older_than: body.older_than.map(|age| age.0),
        keep_last: body.keep_last,
        dry_run: body.dry_run,
    };
    Ok(Json(retention.prune(asked).await?))
}
