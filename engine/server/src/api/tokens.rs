//! Tokens: making one, the list, revoking one; and who the caller is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_run::{AuditAction, Grant, Revoked, StoredToken, TokenStore, new_token, token_hash};
use fairlead_step::{Clock, Globs, HumanDuration};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::read;
use super::problem::Problem;
use crate::identity::Caller;

/// How long a token is good when nobody says.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// What tokens are kept in.
#[derive(Clone)]
pub(crate) struct TokensApi {
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Who the caller is, and what they may do.
pub(crate) async fn whoami(Extension(caller): Extension<Caller>) -> Json<Value> {
    let subject = caller.subject();
    Json(json!({
        "subject": subject.name,
        "via": subject.via,
        "groups": subject.groups,
        "grants": subject.grants,
        "speaks_for_others": subject.speaks_for_others,
    }))
}

pub(crate) async fn list(State(api): State<TokensApi>) -> Result<Json<Value>, Problem> {
    let tokens = api.tokens.tokens().await?;
    Ok(Json(json!({ "tokens": tokens })))
}

/// A token to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    subject: String,
    /// `ROLE` or `ROLE:PROJECT`.
    grants: Vec<String>,
    /// The pipelines that the grants are about.
    #[serde(default)]
    pipelines: Globs,
    #[serde(default)]
    speaks_for_others: bool,
    /// How long it is good; 90 days when nothing is said.
    #[serde(default)]
    expires_in: Option<HumanDuration>,
}

/// Makes a token. The answer is the only place where it is ever shown.
pub(crate) async fn create(
    State(api): State<TokensApi>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Problem> {
    let NewToken { subject, grants, pipelines, speaks_for_others, expires_in } = read(&body)?;
    let grants = grants.iter().map(|text| {
        let grant: Grant = text.parse()?;
        Ok(Grant { pipelines: pipelines.clone(), ..grant })
    });
    let grants = grants
        .collect::<Result<Vec<Grant>, fairlead_run::GrantError>>()
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let lifetime = expires_in.unwrap_or(HumanDuration(LIFETIME));
    let secret = new_token(rand::random());
    let now = api.clock.now();
    let token = StoredToken {
        id: format!("tok_{:016x}", rand::random::<u64>()),
        hash: token_hash(secret.expose())
            .ok_or_else(|| Problem::unavailable("no token came out"))?,
        subject,
        grants,
        speaks_for_others,
        created_by: caller.name().to_owned(),
        created_at: now,
        expires_at: Some(lifetime.after(now)),
        revoked_at: None,
        last_used_at: None,
    };
    token.check().map_err(|error| Problem::bad_request(error.to_string()))?;
    caller.record(AuditAction::TokenCreate, token.id.clone(), None, token.told()).await?;
    api.tokens.create(token.clone()).await?;
    let answer =
        json!({ "token": secret.expose(), "id": token.id, "expires_at": token.expires_at });
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    // No cache on the way keeps it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(crate) async fn revoke(
    State(api): State<TokensApi>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    caller.record(AuditAction::TokenRevoke, id.clone(), None, Map::new()).await?;
    match api.tokens.revoke(&id, api.clock.now()).await? {
        Revoked::Now(token) => Ok(Json(json!({ "id": id, "revoked_at": token.revoked_at }))),
        Revoked::Before(at) => Ok(Json(json!({ "id": id, "revoked_at": at }))),
        Revoked::Unknown => Err(Problem::missing(format!("there is no token `{id}`"))),
    }
}
