//! Where people log in, for the command line. It is asked before anybody is known, and says nothing that an
//! issuer does not say to everybody.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::identity::{Identity, LoginToken};

/// Where people log in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Logins {
    issuers: Vec<LoginShown>,
}

/// An issuer at which people log in.
#[derive(Serialize, ToSchema)]
struct LoginShown {
    /// What this server calls it.
    name: String,
    /// Its address, as its tokens say it.
    issuer: String,
    /// What the command line is called there.
    client_id: String,
    /// What is asked for.
    scopes: Vec<String>,
    /// Whether the access token is shown to this server, and not the identity token.
    shows_access_token: bool,
}

/// `GET /api/v1/login`.
pub(crate) async fn show(State(identity): State<Arc<Identity>>) -> Json<Logins> {
    let issuers = identity.issuers.logins().map(|(name, issuer, login)| LoginShown {
        name: name.to_owned(),
        issuer: issuer.to_owned(),
        client_id: login.client_id.clone(),
        scopes: login.scopes.clone(),
        shows_access_token: login.token == LoginToken::Access,
    });
    Json(Logins { issuers: issuers.collect() })
}
