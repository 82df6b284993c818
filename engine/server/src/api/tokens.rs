//! Tokens: making one, the list, revoking one; and who the caller is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fairlead_run::{
    AuditAction, Grant, MOST_TOKENS, Revoked, StoredToken, TokenStore, new_token, token_hash,
};
use fairlead_step::{Clock, Globs, HumanDuration};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::{IntoParams, ToSchema};

use super::body::read;
use super::problem::Problem;
use crate::identity::Caller;

/// How long a token is good when nobody says.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// How many tokens a page has when nobody says.
const PAGE: usize = 100;

/// What tokens are kept in.
#[derive(Clone)]
pub(crate) struct TokensApi {
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Who the caller is, and what they may do.
pub(crate) async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    let subject = caller.subject();
    Json(WhoAmI {
        subject: subject.name.clone(),
        via: subject.via.clone(),
        groups: subject.groups.clone(),
        grants: subject.grants.clone(),
        speaks_for_others: subject.speaks_for_others,
    })
}

pub(crate) async fn list(
    State(api): State<TokensApi>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<TokenPage>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MOST_TOKENS);
    let known = api.tokens.tokens().await?;
    let behind = match &query.before {
        None => 0,
        Some(id) => known.iter().position(|token| token.id == *id).map_or(known.len(), |at| at + 1),
    };
    let tokens: Vec<StoredToken> = known.iter().skip(behind).take(limit).cloned().collect();
    let more = known.len() > behind + tokens.len();
    let next = tokens.last().filter(|_| more).map(|token| token.id.clone());
    Ok(Json(TokenPage { tokens, next }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only tokens that are older than this one: `next` of the page before.
    #[serde(default)]
    before: Option<String>,
    /// How many a page has: 100 when nothing is said, at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// Who the caller is.
#[derive(Serialize, ToSchema)]
pub(crate) struct WhoAmI {
    /// The name that stands in runs, votes and the audit log.
    subject: String,
    /// What shows it: a token, an issuer, or the machine.
    via: String,
    groups: BTreeSet<String>,
    #[schema(value_type = Vec<GrantShown>)]
    grants: Vec<Grant>,
    /// Whether they may vote in the names of others.
    speaks_for_others: bool,
}

/// A role in one project, or in all of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes `Grant`, which knows nothing of descriptions")]
struct GrantShown {
    /// `viewer`, `operator`, `approver` or `admin`.
    role: String,
    /// The project; `*` for all.
    project: String,
    /// The pipelines of it that the grant is about, by patterns; all when nothing is said.
    pipelines: Option<PatternsShown>,
}

/// One pattern, or a list of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes `Globs`, which knows nothing of descriptions")]
enum PatternsShown {
    One(String),
    Many(Vec<String>),
}

/// A page of tokens, newest first. What they open with is kept nowhere.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenPage {
    #[schema(value_type = Vec<TokenShown>)]
    tokens: Vec<StoredToken>,
    /// What to ask for as `before` for the next page; null when there is none.
    next: Option<String>,
}

/// A token, without what it opens with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes `StoredToken`, which knows nothing of descriptions")]
struct TokenShown {
    id: String,
    subject: String,
    grants: Vec<GrantShown>,
    speaks_for_others: bool,
    created_by: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

/// A token that was made: the only time that it is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenMade {
    token: String,
    id: String,
    expires_at: Option<Timestamp>,
}

/// A token that is revoked.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenRevoked {
    id: String,
    revoked_at: Option<Timestamp>,
}

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Who shows it.
    subject: String,
    /// `ROLE` or `ROLE:PROJECT`.
    grants: Vec<String>,
    /// The pipelines that the grants are about.
    #[serde(default)]
    #[schema(value_type = Option<PatternsShown>)]
    pipelines: Globs,
    /// Whether its subject may vote in the names of others.
    #[serde(default)]
    speaks_for_others: bool,
    /// How long it is good; 90 days when nothing is said.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
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
    let shown = secret.expose().clone();
    let answer = TokenMade { token: shown, id: token.id, expires_at: token.expires_at };
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    // No cache on the way keeps it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(crate) async fn revoke(
    State(api): State<TokensApi>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TokenRevoked>, Problem> {
    caller.record(AuditAction::TokenRevoke, id.clone(), None, Map::new()).await?;
    match api.tokens.revoke(&id, api.clock.now()).await? {
        Revoked::Now(token) => Ok(Json(TokenRevoked { id, revoked_at: token.revoked_at })),
        Revoked::Before(at) => Ok(Json(TokenRevoked { id, revoked_at: Some(at) })),
        Revoked::Unknown => Err(Problem::missing(format!("there is no token `{id}`"))),
    }
}
