//! Whether the server lives, and whether it can take events.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fairlead_event::Bus;
use fairlead_run::EventStore;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::problem::Problem;

/// How long the store has to answer: a load balancer asks again soon, and must not be held.
const ANSWER: Duration = Duration::from_secs(3);

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Readiness {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) stopping: CancellationToken,
}

/// That the server takes events.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `reachable`.
    store: &'static str,
    /// `reachable` or `away`.
    bus: &'static str,
}

pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Ready means: what is sent is stored. A bus that is away does not make a server unready, for then
/// the senders' events would be lost; it is told all the same.
pub(crate) async fn ready(State(on): State<Readiness>) -> Result<Json<Ready>, Problem> {
    if on.stopping.is_cancelled() {
        return Err(Problem::unavailable("the server is stopping"));
    }
    let asked = tokio::time::timeout(ANSWER, on.events.unpublished(1)).await;
    asked.map_err(|_| Problem::unavailable("the store does not answer in time"))??;
    let bus = if on.bus.reachable() { "reachable" } else { "away" };
    Ok(Json(Ready { store: "reachable", bus }))
}
