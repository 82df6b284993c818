//! Who may use the API.

use axum::http::{HeaderMap, header};
use fairlead_event::same_text;
use fairlead_step::Secret;

/// Who may use the API under `/api/`.
#[derive(Debug, Clone)]
pub enum ApiAccess {
    /// Whoever shows this token as `Authorization: Bearer …`.
    Token(Secret<String>),
    /// Whoever reaches the port. Taken only on a loopback address, and never from a web page.
    LoopbackWithoutToken,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It shows no token.
    NoToken,
    /// It shows one that is not known.
    WrongToken,
    /// It comes, or may come, from a web page.
    WebPage,
}

impl ApiAccess {
    /// Whether a request with these headers may use the API.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text =
            |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        match self {
            Self::Token(token) => {
                let given = text(header::AUTHORIZATION).and_then(|value| {
                    let (scheme, given) = value.split_once(' ')?;
                    scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
                });
                match given {
                    Some(given) if same_text(token.line(), given) => Ok(()),
                    Some(_) => Err(Refusal::WrongToken),
                    None => Err(Refusal::NoToken),
                }
            }
            // A web page that somebody on this machine looks at can reach the port as well. Browsers
            // say where a page is from, and under which name they believe to have reached us.
            Self::LoopbackWithoutToken => {
                let host = text(header::HOST).unwrap_or_default();
                let name = host.rsplit_once(':').map_or(host, |(name, port)| {
                    if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
                });
                let ours = name == "localhost"
                    || name == "[::1]"
                    || name
                        .parse::<std::net::Ipv4Addr>()
                        .is_ok_and(|address| address.is_loopback());
                let is_page = !ours || headers.contains_key(header::ORIGIN);
                if is_page { Err(Refusal::WebPage) } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for() {
        let access = ApiAccess::Token(Secret::new("tok".to_owned()));
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header::HeaderValue::from_static(value));
            access.check(&headers).is_ok()
        };
        assert!(with("Bearer tok") && with("bearer tok"));
        assert!(!with("Bearer to") && !with("tok") && !with("Basic tok") && !with("Bearer "));
        assert!(access.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_a_token_web_pages_are_refused() {
        let with = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, header::HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, header::HeaderValue::from_static(origin));
            }
            ApiAccess::LoopbackWithoutToken.check(&headers).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080"] {
            assert!(with(host, None), "{host}");
            assert!(!with(host, Some("http://evil.example.com")), "{host}");
        }
        assert!(!with("evil.example.com:8080", None) && !with("", None));
    }
}
