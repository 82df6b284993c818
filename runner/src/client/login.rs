//! Logging in at the issuer that a server believes (OpenID Connect): in a browser on this machine, with a code
//! that comes back to a loopback port (RFC 8252) and is worth nothing without what only this process knows
//! (PKCE, RFC 7636); or on another machine, with a code that a person types there (RFC 8628). And asking for the
//! next token when one ends.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fairlead_step::{Clock, Digest, Secret, error_chain};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::credentials::Login;
use super::profile::is_here;
use crate::exit::Stop;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the issuer may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The most bytes of an answer of the issuer.
const MOST_ANSWER: usize = 1 << 20;
/// The most bytes of the head of a request that comes back from the browser.
const MOST_HEAD: usize = 16 << 10;
/// How much slower a device asks that is told to.
const SLOWER: Duration = Duration::from_secs(5);
/// How long before its end a token is renewed.
const EARLY: SignedDuration = SignedDuration::from_secs(60);

/// Where and as what people log in, as the server says it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Issuer {
    /// What the server calls it.
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
    /// Whether the server wants the access token to be shown, and not the identity token.
    #[serde(default)]
    pub(crate) shows_access_token: bool,
}

/// What an issuer says of itself.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

/// The tokens that an issuer gives.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    id_token: Option<String>,
    refresh_token: Option<String>,
    /// For how many seconds they are good.
    expires_in: Option<i64>,
}

/// What an issuer says of a device.
#[derive(Deserialize)]
struct Device {
    device_code: String,
    user_code: String,
    verification_uri: String,
    /// For how many seconds the codes are good.
    expires_in: u64,
    /// How many seconds to wait between two questions.
    interval: Option<u64>,
}

/// What an issuer says when it gives nothing.
#[derive(Deserialize)]
struct No {
    error: String,
    error_description: Option<String>,
}

/// What happens at the issuer, and what goes wrong there.
pub(crate) struct Session<'s> {
    http: &'s reqwest::Client,
    clock: &'s dyn Clock,
    issuer: Issuer,
    found: Discovery,
}

/// Why an issuer gives nothing.
enum Refused {
    /// It says no, with a word for it.
    Said(No),
    /// It does not answer, or not as it should.
    Other(String),
}

impl Refused {
    fn text(self) -> String {
        match self {
            Self::Said(No { error, error_description: Some(more) }) => {
                format!("the issuer says no: {}", crate::output::tame(&format!("{error}: {more}")))
            }
            Self::Said(No { error, .. }) => {
                format!("the issuer says no: {}", crate::output::tame(&error))
            }
            Self::Other(why) => why,
        }
    }

    fn stop(self) -> Stop {
        Stop::failed(self.text())
    }
}

impl<'s> Session<'s> {
    /// Asks the issuer where its doors are.
    pub(crate) async fn open(
        http: &'s reqwest::Client,
        clock: &'s dyn Clock,
        issuer: Issuer,
    ) -> Result<Self, Stop> {
        let base = issuer.issuer.trim_end_matches('/');
        let place = format!("{base}/.well-known/openid-configuration");
        safe(&place)?;
        let (status, body) = answered(http.get(&place)).await.map_err(Stop::failed)?;
        if status != StatusCode::OK {
            return Err(Stop::failed(format!("{place} is answered with {status}")));
        }
        let found: Discovery = serde_json::from_slice(body.expose()).map_err(|e| {
            Stop::failed(format!("{place} is no configuration of an issuer")).because(&e)
        })?;
        if found.issuer != issuer.issuer {
            let message = format!("{place} is of another issuer: {}", found.issuer);
            return Err(Stop::failed(message).hint("ask whoever runs the server about `identity`"));
        }
        for endpoint in [&found.authorization_endpoint, &found.token_endpoint] {
            safe(endpoint)?;
        }
        found.device_authorization_endpoint.as_deref().map(safe).transpose()?;
        Ok(Self { http, clock, issuer, found })
    }

    /// Logs in with a browser on this machine. `tell` is given the address that it is to be sent to.
    pub(crate) async fn in_browser(&self, tell: impl FnOnce(&str)) -> Result<Login, Stop> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener =
            listener.map_err(|e| Stop::failed("cannot wait for the browser").because(&e))?;
        let port = listener.local_addr().map_err(|e| Stop::of(&e))?.port();
        let back = format!("http://127.0.0.1:{port}/callback");
        let (verifier, state, nonce) = (chance(), chance(), chance());
        let mut address = Url::parse(&self.found.authorization_endpoint)
            .map_err(|e| Stop::failed("the issuer has an address that is none").because(&e))?;
        address.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.issuer.client_id),
            ("redirect_uri", &back),
            ("scope", &self.issuer.scopes.join(" ")),
            ("state", state.expose()),
            ("nonce", nonce.expose()),
            ("code_challenge", &challenge(verifier.expose())),
            ("code_challenge_method", "S256"),
        ]);
        tell(address.as_str());
        let waiting = tokio::time::timeout(PATIENCE, self.code(&listener, state.expose())).await;
        let code = waiting.map_err(|_| {
            Stop::failed("nobody has logged in within ten minutes").hint("try it again")
        })??;
        let asked = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &back),
            ("client_id", &self.issuer.client_id),
            ("code_verifier", verifier.expose()),
        ];
        let tokens: Tokens =
            post(self.http, &self.found.token_endpoint, &asked).await.map_err(Refused::stop)?;
        self.login(&tokens, Some(nonce.expose()))
    }

    /// Waits for the browser to come back with a code.
    async fn code(&self, listener: &TcpListener, state: &str) -> Result<String, Stop> {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let reading = tokio::time::timeout(Duration::from_secs(10), head(&mut stream)).await;
            let Ok(Some(path)) = reading else { continue };
            let came = self.came_back(&path, state);
            let (status, said) = match &came {
                None => ("404 Not Found", "There is nothing here."),
                Some(Ok(_)) => ("200 OK", "You are logged in. This page can be closed."),
                Some(Err(_)) => ("400 Bad Request", "That did not work. The terminal says why."),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
                 Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{said}",
                said.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            if let Some(came) = came {
                return came;
            }
        }
    }

    /// The code in what the browser asked for; none when it asked for something else, or somebody else did.
    fn came_back(&self, path: &str, state: &str) -> Option<Result<String, Stop>> {
        let url = Url::parse("http://127.0.0.1").ok()?.join(path).ok()?;
        if url.path() != "/callback" {
            return None;
        }
        let said = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        // Whoever does not know what this process has asked for is not the issuer.
        if said("state").as_deref() != Some(state) {
            return None;
        }
        if said("iss").is_some_and(|issuer| issuer != self.issuer.issuer) {
            return Some(Err(Stop::failed(
                "another issuer than the one that was asked has answered",
            )));
        }
        if let Some(error) = said("error") {
            let what =
                said("error_description").map_or(error.clone(), |more| format!("{error}: {more}"));
            return Some(Err(Stop::failed(format!(
                "the issuer says no: {}",
                crate::output::tame(&what)
            ))));
        }
        Some(said("code").ok_or_else(|| Stop::failed("the issuer has answered without a code")))
    }

    /// Logs in with a browser on any machine. `tell` is given where to go, and the code to type there.
    pub(crate) async fn on_device(&self, tell: impl FnOnce(&str, &str)) -> Result<Login, Stop> {
        let Some(endpoint) = &self.found.device_authorization_endpoint else {
            let message = format!("{} has no device flow", self.issuer.issuer);
            return Err(Stop::usage(message).hint("leave `--device` away where there is a browser"));
        };
        let scope = self.issuer.scopes.join(" ");
        let asked = [("client_id", self.issuer.client_id.as_str()), ("scope", &scope)];
        let device: Device = post(self.http, endpoint, &asked).await.map_err(Refused::stop)?;
        tell(&device.verification_uri, &device.user_code);
        let asked = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", &device.device_code),
            ("client_id", &self.issuer.client_id),
        ];
        let limit = PATIENCE.min(Duration::from_secs(device.expires_in));
        let end = tokio::time::Instant::now() + limit;
        let mut pause = Duration::from_secs(device.interval.unwrap_or(5).clamp(1, 60));
        while tokio::time::Instant::now() + pause < end {
            tokio::time::sleep(pause).await;
            match post(self.http, &self.found.token_endpoint, &asked).await {
                Ok(tokens) => return self.login(&tokens, None),
                Err(Refused::Said(no)) if no.error == "authorization_pending" => {}
                Err(Refused::Said(no)) if no.error == "slow_down" => pause += SLOWER,
                Err(refused) => return Err(refused.stop()),
            }
        }
        Err(Stop::failed("nobody has typed the code in time").hint("try it again"))
    }

    fn login(&self, tokens: &Tokens, nonce: Option<&str>) -> Result<Login, Stop> {
        let login = Login {
            token: String::new(),
            expires_at: None,
            refresh_token: None,
            issuer: self.issuer.issuer.clone(),
            client_id: self.issuer.client_id.clone(),
            token_endpoint: self.found.token_endpoint.clone(),
            shows_access_token: self.issuer.shows_access_token,
        };
        renewed(login, tokens, nonce, self.clock.now())
    }
}

impl Login {
    /// Whether it is time for the next token.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| now >= at.saturating_sub(EARLY).unwrap_or(at))
    }

    /// Asks for the next token.
    ///
    /// # Errors
    /// When there is none any more: somebody has to log in again.
    pub(crate) async fn next(
        &self,
        http: &reqwest::Client,
        now: Timestamp,
    ) -> Result<Self, String> {
        let over = || format!("the login at {} has ended", self.issuer);
        let Some(refresh) = &self.refresh_token else { return Err(over()) };
        safe(&self.token_endpoint).map_err(|stop| stop.message)?;
        let asked = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("client_id", &self.client_id),
        ];
        let tokens: Tokens = post(http, &self.token_endpoint, &asked)
            .await
            .map_err(|refused| format!("{}: {}", over(), refused.text()))?;
        renewed(self.clone(), &tokens, None, now).map_err(|stop| stop.message)
    }
}

/// The login with the tokens that were given.
fn renewed(
    login: Login,
    tokens: &Tokens,
    nonce: Option<&str>,
    now: Timestamp,
) -> Result<Login, Stop> {
    let id_token = tokens.id_token.clone();
    let claims = id_token.as_deref().and_then(claims);
    if let (Some(nonce), Some(claims)) = (nonce, &claims)
        && claims.nonce.as_deref() != Some(nonce)
    {
        return Err(Stop::failed("the issuer has answered with a token for another login"));
    }
    let lasts = tokens.expires_in.map(SignedDuration::from_secs);
    let by_answer = lasts.and_then(|time| now.checked_add(time).ok());
    let (token, expires_at) = if login.shows_access_token {
        (tokens.access_token.clone(), by_answer)
    } else {
        let Some(token) = id_token else {
            return Err(Stop::failed(format!("{} gives no identity token", login.issuer))
                .hint("is `openid` among the scopes of the server's `login`?"));
        };
        let end = claims.and_then(|claims| Timestamp::from_second(claims.exp).ok());
        (token, end.or(by_answer))
    };
    let refresh_token = tokens.refresh_token.clone().or(login.refresh_token);
    Ok(Login { token, expires_at, refresh_token, ..login })
}

/// What this process needs to know of an identity token. Whether it is to be believed is for the server to say:
/// the token came straight from the issuer.
#[derive(Deserialize)]
struct Claims {
    exp: i64,
    nonce: Option<String>,
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Refuses an address to which nothing secret may be sent.
fn safe(address: &str) -> Result<(), Stop> {
    let url = Url::parse(address);
    let fine = url.is_ok_and(|url| {
        let here = url.host_str().is_some_and(is_here);
        url.scheme() == "https" || (url.scheme() == "http" && here)
    });
    if fine {
        return Ok(());
    }
    Err(Stop::failed(format!("`{}` is not https", crate::output::tame(address))))
}

/// 256 bits that nobody can guess.
fn chance() -> Secret<String> {
    Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// What is told beforehand of a verifier (RFC 7636, S256).
fn challenge(verifier: &str) -> String {
    let digest = Digest::sha256(verifier.as_bytes());
    let hex = digest.hex().as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    URL_SAFE_NO_PAD.encode(hex.filter_map(byte).collect::<Vec<u8>>())
}

/// Asks an issuer for something, by a form.
async fn post<T: DeserializeOwned>(
    http: &reqwest::Client,
    address: &str,
    form: &[(&str, &str)],
) -> Result<T, Refused> {
    let mut body = Url::parse("http://form/").map_err(|e| Refused::Other(e.to_string()))?;
    body.query_pairs_mut().extend_pairs(form);
    let body = body.query().unwrap_or_default().to_owned();
    let request = http
        .post(address)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(body);
    let (status, body) = answered(request).await.map_err(Refused::Other)?;
    // What cannot be read may have a token in it, and is told nowhere.
    if status.is_success() {
        let read = serde_json::from_slice(body.expose());
        return read.map_err(|_| Refused::Other("the issuer's answer cannot be read".to_owned()));
    }
    match serde_json::from_slice::<No>(body.expose()) {
        Ok(no) => Err(Refused::Said(no)),
        Err(_) => Err(Refused::Other(format!("the issuer answers {status}"))),
    }
}

/// One request to an issuer.
async fn answered(
    request: reqwest::RequestBuilder,
) -> Result<(StatusCode, Secret<Vec<u8>>), String> {
    let asking = async {
        let mut answer = request.send().await?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if body.len() + piece.len() > MOST_ANSWER {
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok::<_, reqwest::Error>((answer.status(), Secret::new(body)))
    };
    match tokio::time::timeout(ANSWER, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let why = error_chain(&error.without_url());
            Err(format!("the issuer does not answer: {why}"))
        }
        Err(_) => Err(format!("the issuer did not answer in {} s", ANSWER.as_secs())),
    }
}

/// The path of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MOST_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let text = std::str::from_utf8(&head).ok()?;
    let mut words = text.lines().next()?.split(' ');
    (words.next()? == "GET").then_some(())?;
    let path = words.next()?;
    path.starts_with('/').then(|| path.to_owned())
}
