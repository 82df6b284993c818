//! Who may use the API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fairlead_event::same_text;

use super::problem::Problem;
use crate::ApiAccess;
use crate::server::Shared;

pub(crate) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    match allowed(&shared.ports.access, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let mut response = problem.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let challenge = header::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

fn allowed(access: &ApiAccess, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    match access {
        ApiAccess::Token(token) => {
            let given = text(header::AUTHORIZATION).and_then(|value| {
                let (scheme, given) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
            });
            match given {
                Some(given) if same_text(token.line(), given) => Ok(()),
                Some(_) => Err(Problem::unauthorized("the token is not that of this server")),
                None => Err(Problem::unauthorized("there is no `Authorization: Bearer …` header")),
            }
        }
        // A web page that somebody on this machine looks at can reach the port as well. Browsers
        // say where a page is from, and under which name they believe to have reached us.
        ApiAccess::LoopbackWithoutToken => {
            let host = text(header::HOST).unwrap_or_default();
            let name = host.rsplit_once(':').map_or(host, |(name, port)| {
                if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
            });
            let ours = name == "localhost"
                || name == "[::1]"
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
            if ours && !headers.contains_key(header::ORIGIN) {
                return Ok(());
            }
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "web-page",
                "the API is not for web pages",
                "the API has no token, so requests from web pages and other host names are refused",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_step::Secret;

    use super::*;

    #[test]
    fn a_token_is_asked_for() {
        let access = ApiAccess::Token(Secret::new("tok".to_owned()));
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header::HeaderValue::from_static(value));
            allowed(&access, &headers).is_ok()
        };
        assert!(with("Bearer tok") && with("bearer tok"));
        assert!(!with("Bearer to") && !with("tok") && !with("Basic tok") && !with("Bearer "));
        assert!(allowed(&access, &HeaderMap::new()).is_err());
    }

    #[test]
    fn without_a_token_web_pages_are_refused() {
        let with = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, header::HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, header::HeaderValue::from_static(origin));
            }
            allowed(&ApiAccess::LoopbackWithoutToken, &headers).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080"] {
            assert!(with(host, None), "{host}");
            assert!(!with(host, Some("http://evil.example.com")), "{host}");
        }
        assert!(!with("evil.example.com:8080", None) && !with("", None));
    }
}
