//! Logging in, as registries do it: `WWW-Authenticate` challenges (RFC 9110, section 11.6.1) and the
//! token endpoint of the distribution project (its "Token Authentication Specification").

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fairlead_step::{RegistryAuth, Secret};
use serde::Deserialize;
use url::Url;

/// What a registry asks for before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token, which `realm` hands out.
    Bearer {
        /// The token endpoint.
        realm: Url,
        /// The name of the service, which the endpoint wants to hear again.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the challenges of one answer; Bearer wins over Basic.
    pub(crate) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut best = None;
        for header in headers {
            for (scheme, params) in schemes(header) {
                let get = |name: &str| {
                    params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v)
                };
                if scheme.eq_ignore_ascii_case("bearer") {
                    if let Some(realm) = get("realm").and_then(|realm| Url::parse(realm).ok()) {
                        return Some(Self::Bearer { realm, service: get("service").cloned() });
                    }
                } else if scheme.eq_ignore_ascii_case("basic") {
                    best = Some(Self::Basic);
                }
            }
        }
        best
    }
}

/// Splits a header into its challenges: a scheme, and its parameters.
fn schemes(header: &str) -> Vec<(&str, Vec<(String, String)>)> {
    let mut found: Vec<(&str, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let word_end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let word = &rest[..word_end];
        rest = rest[word_end..].trim_start();
        match rest.strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after.trim_start());
                if let Some((_, params)) = found.last_mut() {
                    params.push((word.to_owned(), value));
                }
                rest = after;
            }
            None => found.push((word, Vec::new())),
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    found
}

/// A token or a quoted string at the start of `text`, and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The `Authorization` value of a user and password.
pub(crate) fn basic(user: &str, password: &Secret<String>) -> Secret<String> {
    let pair = Secret::new(format!("{user}:{}", password.expose()));
    Secret::new(format!("Basic {}", BASE64.encode(pair.expose())))
}

/// A token and when it ends.
pub(crate) struct Token {
    /// The `Authorization` value.
    pub(crate) header: Secret<String>,
    /// It is not used beyond this.
    pub(crate) until: Instant,
}

/// What the token endpoint answers.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// The token, which counts from `asked`; a tenth of its life is kept in reserve.
    pub(crate) fn into_token(self, asked: Instant) -> Option<Token> {
        let text = Secret::new(self.token.or(self.access_token).filter(|t| !t.is_empty())?);
        // The specification: at least 60 seconds, and 60 where nothing is said. A day is enough.
        let life = self.expires_in.unwrap_or(60).clamp(10, 86_400);
        Some(Token {
            header: Secret::new(format!("Bearer {}", text.expose())),
            until: asked + Duration::from_secs(life) * 9 / 10,
        })
    }
}

/// A request for a token.
pub(crate) enum TokenRequest {
    /// GET, with the query already in the URL and perhaps a login.
    Get { url: Url, authorization: Option<Secret<String>> },
    /// POST of a form (OAuth 2.0 refresh, RFC 6749 section 6).
    Post { url: Url, form: Secret<String> },
}

/// How to ask `realm` for a token that covers all of `scopes`.
pub(crate) fn token_request(
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    auth: &RegistryAuth,
) -> TokenRequest {
    match auth {
        RegistryAuth::IdentityToken(identity) => {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", "fairlead")
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", identity.expose())
                .finish();
            TokenRequest::Post { url: realm.clone(), form: Secret::new(form) }
        }
        RegistryAuth::Anonymous | RegistryAuth::Basic { .. } => {
            let mut url = realm.clone();
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in scopes {
                    query.append_pair("scope", scope);
                }
            }
            let authorization = match auth {
                RegistryAuth::Basic { user, password } => Some(basic(user, password)),
                RegistryAuth::Anonymous | RegistryAuth::IdentityToken(_) => None,
            };
            TokenRequest::Get { url, authorization }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: Url::parse(realm).unwrap(),
                service: service.map(str::to_owned),
            })
        };
        for (headers, want) in [
            (
                vec![
                    r#"Bearer realm="https://auth.example.com/token",service="r.example.com",scope="repository:a/b:pull,push""#,
                ],
                bearer("https://auth.example.com/token", Some("r.example.com")),
            ),
            (
                vec![r#"bearer realm="https://a.example.com/t?x=a,b" , error="invalid_token""#],
                bearer("https://a.example.com/t?x=a,b", None),
            ),
            (
                vec![r#"Basic realm="x", Bearer realm="https://a.example.com/t",service=s"#],
                bearer("https://a.example.com/t", Some("s")),
            ),
            (vec![r#"Basic realm="a \"quoted\" realm""#], Some(Challenge::Basic)),
            (vec!["Negotiate", "Basic"], Some(Challenge::Basic)),
            (vec![r#"Bearer realm="not a url""#], None),
            (vec![r#"Bearer realm="unclosed"#], None),
            (vec!["", " , ,", "="], None),
        ] {
            assert_eq!(Challenge::parse(headers.iter().copied()), want, "{headers:?}");
        }
    }

    #[test]
    fn one_token_covers_every_scope() {
        let realm = Url::parse("https://auth.example.com/token").unwrap();
        let scopes = ["repository:a:pull".to_owned(), "repository:b:pull,push".to_owned()];
        let auth = RegistryAuth::Basic { user: "robot".into(), password: Secret::new("pw".into()) };
        let TokenRequest::Get { url, authorization } =
            token_request(&realm, Some("r"), &scopes, &auth)
        else {
            panic!("a login asks by GET");
        };
        assert_eq!(
            url.as_str(),
            "https://auth.example.com/token?service=r&scope=repository%3Aa%3Apull\
             &scope=repository%3Ab%3Apull%2Cpush"
        );
        assert_eq!(authorization.unwrap().expose(), "Basic cm9ib3Q6cHc=");
        let identity = RegistryAuth::IdentityToken(Secret::new("refresh/1".into()));
        let TokenRequest::Post { form, .. } = token_request(&realm, None, &scopes, &identity)
        else {
            panic!("an identity token asks by POST");
        };
        assert!(form.expose().contains("refresh_token=refresh%2F1"), "{}", form.expose());
        assert!(form.expose().contains("scope=repository%3Aa%3Apull+repository%3Ab"));
    }

    #[test]
    fn a_token_ends_before_the_registry_forgets_it() {
        let now = Instant::now();
        let answer = |text: &str| serde_json::from_str::<TokenAnswer>(text).unwrap();
        let token = answer(r#"{"access_token":"t","expires_in":300}"#).into_token(now).unwrap();
        assert_eq!(token.header.expose(), "Bearer t");
        assert_eq!(token.until, now + Duration::from_secs(270));
        let default = answer(r#"{"token":"t"}"#).into_token(now).unwrap();
        assert_eq!(default.until, now + Duration::from_secs(54));
        assert!(answer(r#"{"token":""}"#).into_token(now).is_none());
    }
}
