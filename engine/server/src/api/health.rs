//! Whether the server lives, and whether it can take events.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::server::Shared;

pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Ready means: what is sent is stored. A bus that is away does not make a server unready, for then
/// the senders' events would be lost; it is told all the same.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    if shared.stopping.is_cancelled() {
        return Err(Problem::unavailable("the server is stopping"));
    }
    shared.ports.events.unpublished(1).await?;
    let bus = if shared.ports.bus.reachable() { "reachable" } else { "away" };
    Ok(Json(json!({ "store": "reachable", "bus": bus })))
}
