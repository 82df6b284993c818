//! Removing what is over.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use fairlead_run::AuditAction;
use fairlead_step::HumanDuration;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::identity::Caller;
use crate::ports::{PruneRequest, Retention};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    older_than: Option<HumanDuration>,
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
    let body: Body =
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
