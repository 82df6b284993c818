//! What others are told: the list, and sending a message again.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use fairlead_run::{AuditAction, DeliveryFilter, EventState, StoredDelivery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::identity::Caller;
use crate::outgoing::Outgoing;

/// What messages are looked up in.
#[derive(Clone)]
pub(crate) struct DeliveriesApi {
    pub(crate) outgoing: Outgoing,
}

/// How many messages a page has when nobody says.
const PAGE: usize = 50;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only messages to this destination.
    #[serde(default)]
    destination: Option<String>,
    /// Only those that are `pending`, `delivered` or `dead`.
    #[serde(default)]
    state: Option<String>,
    /// Only those before this one: `next` of the page before.
    #[serde(default)]
    before: Option<u64>,
    /// How many a page has, at most 1000, and 50 when nothing is said.
    #[serde(default)]
    limit: Option<usize>,
}

/// What others are told.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryPage {
    /// Each with its `number`, `destination`, `id`, `type`, `about`, `run`, `state`, `attempts` and times, the
    /// `reason` why it was not taken, and the `message` itself.
    #[schema(value_type = Vec<Object>)]
    deliveries: Vec<Value>,
    /// What to ask for as `before` for the next page; null when there is none.
    next: Option<u64>,
}

/// A message that is sent again.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryDue {
    number: u64,
    state: &'static str,
}

pub(crate) async fn list(
    State(api): State<DeliveriesApi>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<DeliveryPage>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let state = match query.state.as_deref() {
        None => None,
        Some("delivered") => Some(EventState::Handled),
        Some("pending") => Some(EventState::Pending),
        Some("dead") => Some(EventState::Dead),
        Some(_) => return Err(Problem::bad_request("`state` is pending, delivered or dead")),
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, DeliveryFilter::MOST);
    let filter =
        DeliveryFilter { destination: query.destination, state, before: query.before, limit };
    let found = api.outgoing.deliveries.deliveries(filter).await?;
    let next = (found.len() == limit).then(|| found.last().map(|message| message.number));
    let shown = |it: &StoredDelivery| {
        let mut shown = serde_json::to_value(it.view()).unwrap_or_default();
        shown["message"] = it.json();
        shown
    };
    let deliveries = found.iter().map(shown).collect();
    Ok(Json(DeliveryPage { deliveries, next: next.flatten() }))
}

pub(crate) async fn retry(
    State(api): State<DeliveriesApi>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<u64>,
) -> Result<(StatusCode, Json<DeliveryDue>), Problem> {
    let target = format!("delivery {number}");
    caller.record(AuditAction::EventRetry, target, None, Map::new()).await?;
    let now = api.outgoing.clock.now();
    if !api.outgoing.deliveries.send_again(number, now).await? {
        return Err(Problem::missing(format!(
            "there is no message {number} that is not delivered"
        )));
    }
    api.outgoing.added.send_replace(());
    Ok((StatusCode::ACCEPTED, Json(DeliveryDue { number, state: "pending" })))
}
