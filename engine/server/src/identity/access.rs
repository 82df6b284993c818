//! Who may use the API, and who that is.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use fairlead_event::same_text;
use fairlead_run::{StoreError, TokenStore, token_hash};
use fairlead_step::{Clock, Secret, error_chain};
use jiff::{SignedDuration, Timestamp};

use super::issuers::{Issuers, NotBelieved};
use super::rates::TooMany;
use super::subject::Subject;

/// Who may use the API under `/api/`, besides those who show a token of the store or of an issuer.
#[derive(Debug, Clone)]
pub enum ApiAccess {
    /// Whoever shows this token as `Authorization: Bearer …`. They may do everything.
    Token(Secret<String>),
    /// Nobody else.
    KnownCallers,
    /// Whoever reaches the port, in the name of this user. Taken only on a loopback address, and never
    /// from a web page.
    LoopbackWithoutToken {
        /// Who runs the server on a machine of their own.
        user: String,
    },
}

/// How often it is noted that a token is used.
const USED: Duration = Duration::from_secs(300);

/// Why a request is not answered.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It shows no token.
    NoToken,
    /// It shows one that is not known.
    WrongToken,
    /// It shows one that was revoked.
    Revoked,
    /// It shows one whose time is over.
    Expired(Timestamp),
    /// It comes, or may come, from a web page.
    WebPage,
    /// Its address has to wait.
    TooMany(TooMany),
    /// It shows a token of an issuer, and this is wrong with it.
    Bad(&'static str),
    /// It shows a token of an issuer that cannot be asked for its keys.
    Away(String),
    /// Nobody could be asked who it is.
    Store(StoreError),
}

/// What tells who somebody is.
pub(crate) struct Identity {
    pub(crate) access: ApiAccess,
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) issuers: Issuers,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Identity {
    /// Who a request with these headers is of.
    pub(crate) async fn subject(&self, headers: &HeaderMap) -> Result<Subject, Refusal> {
        match (bearer(headers)?, &self.access) {
            (Some(given), _) => self.shown(given).await,
            (None, ApiAccess::LoopbackWithoutToken { user }) => {
                if may_be_a_page(headers) {
                    return Err(Refusal::WebPage);
                }
                Ok(Subject::at_the_keyboard(user))
            }
            (None, ApiAccess::Token(_) | ApiAccess::KnownCallers) => Err(Refusal::NoToken),
        }
    }

    async fn shown(&self, given: &str) -> Result<Subject, Refusal> {
        if let ApiAccess::Token(token) = &self.access
            && same_text(token.line(), given)
        {
            return Ok(Subject::of_configuration());
        }
        // Looked up by its hash: how long that takes says nothing about tokens that are there.
        let Some(hash) = token_hash(given) else {
            let brought = self.issuers.subject(given, self.clock.now()).await;
            return brought.map_err(|error| match error {
                NotBelieved::Foreign => Refusal::WrongToken,
                NotBelieved::Bad(why) => Refusal::Bad(why),
                NotBelieved::Away(why) => Refusal::Away(why),
            });
        };
        let found = self.tokens.by_hash(&hash).await.map_err(Refusal::Store)?;
        let Some(token) = found else { return Err(Refusal::WrongToken) };
        let now = self.clock.now();
        if token.revoked_at.is_some() {
            return Err(Refusal::Revoked);
        }
        if let Some(at) = token.expires_at
            && at <= now
        {
            return Err(Refusal::Expired(at));
        }
        let used = SignedDuration::try_from(USED).unwrap_or(SignedDuration::MAX);
        if token.last_used_at.is_none_or(|at| now.duration_since(at) >= used)
            && let Err(error) = self.tokens.used(&token.id, now).await
        {
            // Nobody is kept out for that.
            tracing::warn!("the use of a token cannot be noted: {}", error_chain(&error));
        }
        Ok(Subject::of_token(token))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// What is shown as `Authorization: Bearer …`, where something is. Whatever else the header says is no token.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Refusal::WrongToken)?.trim();
    let (scheme, given) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::WrongToken);
    }
    let given = given.trim();
    Ok((!given.is_empty()).then_some(given))
}

/// A web page that somebody on this machine looks at can reach the port as well. Browsers say where a page
/// is from, and under which name they believe to have reached us.
fn may_be_a_page(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
    });
    let ours = name == "localhost"
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    !ours || headers.contains_key(header::ORIGIN)
}

#[cfg(test)]
mod tests {
    use fairlead_run::{Grant, Role, StoredToken, new_token};

    use super::*;

    struct Now;

    impl Clock for Now {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_790_000_000).unwrap()
        }
    }

    fn identity(access: ApiAccess) -> Identity {
        let tokens = fairlead_store::Store::memory().tokens();
        Identity { access, tokens, issuers: Issuers::default(), clock: Arc::new(Now) }
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_token_is_asked_for() {
        let identity = identity(ApiAccess::Token(Secret::new("tok".to_owned())));
        let with = async |value: &str| {
            let headers = headers(&[(header::AUTHORIZATION, value)]);
            identity.subject(&headers).await.is_ok_and(|it| it.name == "api")
        };
        assert!(with("Bearer tok").await && with("bearer tok").await);
        for bad in ["Bearer to", "tok", "Basic tok", "Bearer ", "Bearer"] {
            assert!(!with(bad).await, "{bad}");
        }
        let none = identity.subject(&HeaderMap::new()).await;
        assert!(matches!(none, Err(Refusal::NoToken)), "{none:?}");
    }

    #[tokio::test]
    async fn a_token_of_the_store_is_its_subject_until_it_ends() {
        let identity = identity(ApiAccess::KnownCallers);
        let now = Now.now();
        let at = |seconds: i64| now + SignedDuration::from_secs(seconds);
        let tokens = [("good", None), ("later", Some(at(1))), ("over", Some(now)), ("gone", None)];
        let mut shown = Vec::new();
        for (n, (id, expires_at)) in (1..).zip(tokens) {
            let token = new_token([n; 32]);
            let stored = StoredToken {
                id: id.to_owned(),
                hash: token_hash(token.expose()).unwrap(),
                subject: "ann".to_owned(),
                grants: vec![Grant::everywhere(Role::Viewer)],
                speaks_for_others: false,
                created_by: "root".to_owned(),
                created_at: at(-10),
                expires_at,
                revoked_at: None,
                last_used_at: None,
            };
            identity.tokens.create(stored).await.unwrap();
            shown.push(format!("Bearer {}", token.expose()));
        }
        identity.tokens.revoke("gone", at(-5)).await.unwrap();
        let ask =
            async |text: &str| identity.subject(&headers(&[(header::AUTHORIZATION, text)])).await;
        let subject = ask(&shown[0]).await.unwrap();
        assert_eq!((subject.name.as_str(), subject.via.as_str()), ("ann", "token good"));
        assert!(!subject.speaks_for_others);
        assert!(ask(&shown[1]).await.is_ok());
        assert!(matches!(ask(&shown[2]).await, Err(Refusal::Expired(at)) if at == now));
        assert!(matches!(ask(&shown[3]).await, Err(Refusal::Revoked)));
        let unknown = new_token([9; 32]);
        let unknown = ask(&format!("Bearer {}", unknown.expose())).await;
        assert!(matches!(unknown, Err(Refusal::WrongToken)));
        let listed = identity.tokens.tokens().await.unwrap();
        let used: Vec<_> = listed.iter().map(|token| token.last_used_at).collect();
        assert_eq!(used, [None, None, Some(now), Some(now)]);
    }

    #[tokio::test]
    async fn without_a_token_web_pages_are_refused() {
        let identity = identity(ApiAccess::LoopbackWithoutToken { user: "ann".to_owned() });
        let with = async |host: &str, origin: Option<&str>| {
            let mut pairs = vec![(header::HOST, host)];
            pairs.extend(origin.map(|origin| (header::ORIGIN, origin)));
            identity.subject(&headers(&pairs)).await.is_ok_and(|it| it.name == "ann")
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080"] {
            assert!(with(host, None).await, "{host}");
            assert!(!with(host, Some("http://evil.example.com")).await, "{host}");
        }
        assert!(!with("evil.example.com:8080", None).await && !with("", None).await);
        // Whoever shows something shows the right thing.
        let wrong = headers(&[(header::HOST, "localhost"), (header::AUTHORIZATION, "Bearer x")]);
        assert!(matches!(identity.subject(&wrong).await, Err(Refusal::WrongToken)));
    }
}
