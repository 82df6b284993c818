//! One registry as this process knows it: where it is, who we are there, which tokens it gave.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fairlead_step::{Egress, EgressDenied, RegistryAccess, RegistryAuth, Repository, Secret};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use crate::address::lead;
use crate::auth::{Challenge, Token, TokenAnswer, TokenRequest, basic, token_request};
use crate::request::{Broken, Failure, detail, patiently, read, retry_after};
use crate::{Error, Options, Transport, is_loopback};

/// The largest answer of a token endpoint.
const TOKEN_LIMIT: u64 = 1 << 20;

/// One registry.
pub(crate) struct Host {
    /// The name that people write, such as `registry.example.com:5000`.
    pub(crate) name: String,
    /// `https://registry.example.com:5000/`.
    pub(crate) base: Url,
    /// Connections to the registry itself.
    http: reqwest::Client,
    /// What makes connections to where it leads.
    transport: Transport,
    extra_ca: Vec<u8>,
    egress: Egress,
    options: Options,
    auth: RegistryAuth,
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<String, Token>>,
    /// Held while a token is fetched, so that many requests that start together ask for it once.
    fetching: tokio::sync::Mutex<()>,
    /// Whether it has the referrers API, once it is known.
    pub(crate) referrers_api: Mutex<Option<bool>>,
    /// The scopes that one token is to cover, where several repositories are used together.
    together: Mutex<Vec<String>>,
}

/// Whether `url`, which the registry called `name` is at or leads to, may be asked.
fn may_ask(egress: &Egress, url: &Url, name: &str) -> Result<(), Error> {
    let host = url.host_str().unwrap_or_default();
    egress
        .asks(host, url.port_or_known_default())
        .map_err(|denied| Error::OffLimits { registry: name.to_owned(), denied })
}

/// Whether a token for `all` is good for `some`: each repository with no more actions.
fn covers(all: &[String], some: &[String]) -> bool {
    let parts = |scope: &str| {
        let (name, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
        (name.to_owned(), actions.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    !all.is_empty()
        && some.iter().all(|scope| {
            let (name, actions) = parts(scope);
            all.iter()
                .map(|scope| parts(scope))
                .any(|(of, may)| of == name && actions.iter().all(|action| may.contains(action)))
        })
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    pub(crate) fn new(
        name: &str,
        access: RegistryAccess,
        transport: &Transport,
        options: &Options,
    ) -> Result<Self, Error> {
        // The one registry whose API does not live under its own name.
        let address = match name {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if access.plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{address}/")).map_err(|e| Error::Settings {
            registry: name.to_owned(),
            problem: format!("`{address}` is not an address: {e}"),
        })?;
        // On an open machine, whoever names a registry means it, wherever it is.
        if !access.egress.is_open() {
            may_ask(&access.egress, &base, name)?;
        }
        let (plain_http, egress) = (access.plain_http, access.egress);
        let http = transport.pool(address, plain_http, &access.extra_ca, &egress, options)?;
        Ok(Self {
            name: name.to_owned(),
            base,
            http,
            transport: transport.clone(),
            extra_ca: access.extra_ca,
            egress,
            options: options.clone(),
            auth: access.auth,
            challenge: Mutex::default(),
            tokens: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            referrers_api: Mutex::default(),
            together: Mutex::default(),
        })
    }

    /// The URL of `rest` under the repository's API root.
    pub(crate) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, Error> {
        let hub = self.base.host_str() == Some("registry-1.docker.io");
        let library = if hub && !repository.path().contains('/') { "library/" } else { "" };
        let path = format!("v2/{library}{}/{rest}", repository.path());
        self.base.join(&path).map_err(|e| Error::Malformed {
            what: format!("the address of {repository}"),
            problem: e.to_string(),
        })
    }

    /// Whether `url` is the registry's own: its scheme, host and port.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Where `target`, an address in an answer to a request for `here`, leads.
    pub(crate) fn follow(&self, here: &Url, target: &str, what: &str) -> Result<Url, Error> {
        lead(&self.base, here, target)
            .map_err(|problem| Error::Malformed { what: what.to_owned(), problem: problem.into() })
    }

    /// The connections for `url`, which may be elsewhere and speak TLS where the registry does not.
    pub(crate) fn connections(&self, url: &Url) -> Result<reqwest::Client, Error> {
        if !(self.egress.is_open() && url.host() == self.base.host()) {
            may_ask(&self.egress, url, &self.name)?;
        }
        let host = url.host_str().unwrap_or_default();
        let own = self.base.host_str().unwrap_or_default();
        if url.scheme() == self.base.scheme() && is_loopback(host) == is_loopback(own) {
            return Ok(self.http.clone());
        }
        let (plain, egress) = (url.scheme() == "http", &self.egress);
        self.transport.pool(host, plain, &self.extra_ca, egress, &self.options)
    }

    pub(crate) fn off_limits(&self, denied: EgressDenied) -> Error {
        Error::OffLimits { registry: self.name.clone(), denied }
    }

    pub(crate) fn unauthorized(&self, what: &str, detail: String) -> Error {
        Error::Unauthorized {
            registry: self.name.clone(),
            what: what.to_owned(),
            logged_in: !matches!(self.auth, RegistryAuth::Anonymous),
            detail,
        }
    }

    /// The `Authorization` of a request that needs `scopes`; nothing before the first challenge.
    pub(crate) async fn authorization(
        &self,
        scopes: &[String],
        what: &str,
    ) -> Result<Option<HeaderValue>, Failure> {
        let Some(challenge) = locked(&self.challenge).clone() else {
            return Ok(None);
        };
        let (realm, service) = match (challenge, &self.auth) {
            (Challenge::Basic, RegistryAuth::Basic { user, password }) => {
                return self.header(&basic(user, password)).map(Some);
            }
            (Challenge::Basic, RegistryAuth::Anonymous | RegistryAuth::IdentityToken(_)) => {
                return Ok(None);
            }
            (Challenge::Bearer { realm, service }, _) => (realm, service),
        };
        let key = scopes.join(" ");
        let together = locked(&self.together).clone();
        let shared = covers(&together, scopes).then(|| together.join(" "));
        let known = || self.cached(&key).or_else(|| self.cached(shared.as_ref()?));
        if let Some(header) = known() {
            return self.header(&header).map(Some);
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(header) = known() {
            return self.header(&header).map(Some);
        }
        if let Some(shared) = &shared {
            match self.fetch_token(&realm, service.as_deref(), &together, what).await {
                Ok(token) => {
                    let header = self.header(&token.header)?;
                    locked(&self.tokens).insert(shared.clone(), token);
                    return Ok(Some(header));
                }
                Err(again @ Failure::Again { .. }) => return Err(again),
                // Some token services give none for two repositories at once.
                Err(Failure::Final(_)) => locked(&self.together).clear(),
            }
        }
        let token = self.fetch_token(&realm, service.as_deref(), scopes, what).await?;
        let header = self.header(&token.header)?;
        locked(&self.tokens).insert(key, token);
        Ok(Some(header))
    }

    /// Says that requests for all of `scopes` are to come: one token is asked for.
    pub(crate) fn use_together(&self, scopes: Vec<String>) {
        *locked(&self.together) = scopes;
    }

    fn cached(&self, key: &str) -> Option<Secret<String>> {
        let tokens = locked(&self.tokens);
        tokens.get(key).filter(|token| token.until > Instant::now()).map(|t| t.header.clone())
    }

    fn header(&self, text: &Secret<String>) -> Result<HeaderValue, Failure> {
        let mut value = HeaderValue::from_str(text.expose()).map_err(|_| Error::Settings {
            registry: self.name.clone(),
            problem: "the login or token holds characters that no header may have".into(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Takes note of a 401 of the registry itself to a request for `scopes`. The error is the
    /// detail to show when no second try can help.
    ///
    /// The token endpoint may be anywhere, since the registry is who the login is for: but over
    /// TLS unless the registry itself has none, and not where `address.rs` leads nobody.
    pub(crate) fn challenged(
        &self,
        headers: &HeaderMap,
        scopes: &[String],
        sent_login: bool,
    ) -> Result<(), String> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let Some(challenge) = Challenge::parse(texts) else {
            return Err(": it does not say how to log in".into());
        };
        let mut challenge = challenge;
        match (&mut challenge, &self.auth) {
            (Challenge::Basic, RegistryAuth::Anonymous) => {
                return Err(": it wants a user and a password".into());
            }
            (Challenge::Basic, RegistryAuth::IdentityToken(_)) => {
                return Err(": it takes a user and a password, not an identity token".into());
            }
            (Challenge::Basic, RegistryAuth::Basic { .. }) if sent_login => {
                return Err(String::new());
            }
            (Challenge::Bearer { realm, .. }, _) => {
                *realm = lead(&self.base, &self.base, realm.as_str())
                    .map_err(|problem| format!(": its token endpoint is not asked: {problem}"))?;
            }
            (Challenge::Basic, RegistryAuth::Basic { .. }) => {}
        }
        *locked(&self.challenge) = Some(challenge);
        locked(&self.tokens).remove(&scopes.join(" "));
        if sent_login {
            // A token for several repositories may be worth less than it was asked for.
            let together = std::mem::take(&mut *locked(&self.together));
            locked(&self.tokens).remove(&together.join(" "));
        }
        Ok(())
    }

    async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        what: &str,
    ) -> Result<Token, Failure> {
        let asked = Instant::now();
        let http = self.connections(realm)?;
        let request = match token_request(realm, service, scopes, &self.auth) {
            TokenRequest::Get { url, authorization } => {
                let request = http.get(url);
                match authorization {
                    Some(login) => request.header(AUTHORIZATION, self.header(&login)?),
                    None => request,
                }
            }
            TokenRequest::Post { url, form } => http
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose().clone()),
        };
        let place = format!("a token for {what}");
        let unreachable = |broken: Broken| match broken.denial() {
            Some(source) => Failure::Final(self.off_limits(source)),
            None => Failure::Again {
                error: Error::Unreachable {
                    registry: self.name.clone(),
                    what: place.clone(),
                    cause: broken.cause(),
                },
                after: None,
            },
        };
        let (idle, whole) = (self.options.idle_timeout, self.options.request_timeout);
        let request = request.header(ACCEPT, "application/json").timeout(whole);
        let response = patiently(idle, request.send()).await.map_err(unreachable)?;
        let (status, after) = (response.status(), retry_after(response.headers()));
        if status.is_redirection() {
            return Err(Failure::Final(Error::Malformed {
                what: place,
                problem: "the token endpoint redirects, and a login is not sent on".into(),
            }));
        }
        let body = read(response, TOKEN_LIMIT, idle)
            .await
            .map_err(unreachable)?
            .ok_or_else(|| Error::TooLarge { what: place.clone(), limit: TOKEN_LIMIT })?;
        match status {
            StatusCode::OK => {
                let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
                answer.and_then(|answer| answer.into_token(asked)).ok_or_else(|| {
                    Failure::Final(Error::Malformed {
                        what: place,
                        problem: "the answer holds no token".into(),
                    })
                })
            }
            StatusCode::TOO_MANY_REQUESTS => Err(self.busy(place, status, &body, after)),
            _ if status.is_server_error() => Err(self.busy(place, status, &body, after)),
            _ => Err(Failure::Final(self.unauthorized(what, detail(&body)))),
        }
    }

    fn busy(
        &self,
        what: String,
        status: StatusCode,
        body: &[u8],
        after: Option<Duration>,
    ) -> Failure {
        let error = Error::Busy {
            registry: self.name.clone(),
            what,
            status: status.as_u16(),
            attempts: 1,
            detail: detail(body),
        };
        Failure::Again { error, after }
    }
}
