//! Who may use the API, as an answer says it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::identity::{ApiAccess, Refusal};

pub(crate) async fn check(
    State(access): State<Arc<ApiAccess>>,
    request: Request,
    next: Next,
) -> Response {
    let refusal = match access.check(request.headers()) {
        Ok(()) => return next.run(request).await,
        Err(refusal) => refusal,
    };
    let mut response = problem(refusal).into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn problem(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NoToken => Problem::unauthorized("there is no `Authorization: Bearer …` header"),
        Refusal::WrongToken => Problem::unauthorized("the token is not that of this server"),
        Refusal::WebPage => Problem::new(
            StatusCode::FORBIDDEN,
            "web-page",
            "the API is not for web pages",
            "the API has no token, so requests from web pages and other host names are refused",
        ),
    }
}
