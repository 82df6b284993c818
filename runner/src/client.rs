//! The client of a remote server: commands ask it for what they otherwise have in the store.
//!
//! Every request has a deadline, and is made again when the server is away for a moment: it changes nothing,
//! or the server knows it again by its `Idempotency-Key` or its digest.

mod credentials;
mod follow;
mod login;
mod ports;
mod profile;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fairlead_run::MAX_EXPORT_BYTES;
use fairlead_step::{Clock, Digest, RunId, Secret};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use self::credentials::Login;
use crate::exit::Stop;

pub(crate) use credentials::{Credentials, Kept};
pub(crate) use follow::Followed;
pub(crate) use login::{Issuer, Session};
pub(crate) use profile::{Remote, Said, Shows, server_of};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request with a small answer may take in all.
const REQUEST: Duration = Duration::from_secs(60);
/// How long the server may be silent while bytes are on their way.
const SILENCE: Duration = Duration::from_secs(60);
/// How long bytes may take in all.
const TRANSFER: Duration = Duration::from_secs(1800);
/// How often a request is made before it counts as failed.
const ATTEMPTS: u32 = 5;
/// The first pause between two of them; it doubles.
const PAUSE: Duration = Duration::from_millis(300);
/// The longest pause, also where the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The most bytes of a small answer.
const MOST_ANSWER: u64 = 64 << 20;
/// How much of a file is read at a time.
const PIECE: usize = 256 << 10;

/// A server, and who to be there. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    shows: Arc<Mutex<Shows>>,
    credentials: Option<Credentials>,
    clock: Arc<dyn Clock>,
}

/// What is sent.
enum Content<'a> {
    Nothing,
    Json(&'a Value),
    File { path: &'a Path, size: u64 },
}

/// Why there is no answer that is of use.
pub(crate) enum Failed {
    /// The server refused; the problem is its own.
    Refused { status: StatusCode, problem: Value },
    /// There is no such server, or it does not answer.
    Away(String),
    /// The login has ended.
    LoggedOut(String),
}

impl Failed {
    pub(crate) fn stop(self) -> Stop {
        match self {
            Self::Away(why) => Stop::failed(why).hint(
                "is the address right (`--server`, FAIRLEAD_SERVER), and does the server run?",
            ),
            Self::LoggedOut(why) => Stop::usage(why).hint("`fairlead login` logs in again"),
            Self::Refused { status, problem } => {
                let text = |key: &str| problem.get(key).and_then(Value::as_str);
                let detail = text("detail").or_else(|| text("title"));
                let message = detail.map_or_else(
                    || format!("the server answers {status}"),
                    |detail| detail.to_owned(),
                );
                let errors = problem.get("errors").and_then(Value::as_array);
                let errors: Vec<&str> =
                    errors.into_iter().flatten().filter_map(Value::as_str).collect();
                let message = match errors.as_slice() {
                    [] => message,
                    errors => format!("{message}: {}", errors.join("; ")),
                };
                let mut stop = if status.is_server_error() {
                    Stop::failed(message)
                } else {
                    Stop::usage(message)
                };
                if status == StatusCode::UNAUTHORIZED {
                    stop = stop.hint(
                        "`fairlead login` logs in; FAIRLEAD_TOKEN has a token for one command",
                    );
                }
                match text("hint") {
                    Some(hint) => stop.hint(hint),
                    None => stop,
                }
            }
        }
    }
}

impl Client {
    /// A client. Nothing is asked of the server yet.
    pub(crate) fn new(remote: &Remote, clock: Arc<dyn Clock>) -> Result<Self, Stop> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // A token goes to the server that it is for, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fairlead/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Stop::internal("cannot make a client").because(&e))?;
        let shows = Arc::new(Mutex::new(remote.shows.clone()));
        let (base, credentials) = (remote.base.clone(), remote.credentials.clone());
        Ok(Self { http, base, shows, credentials, clock })
    }

    /// The same client, showing something else, whatever is kept for the server.
    pub(crate) fn showing(&self, kept: &Kept) -> Self {
        let shows = Arc::new(Mutex::new(Shows::kept(kept.clone())));
        Self { shows, credentials: None, ..self.clone() }
    }

    /// What is to be kept of `kept`, which this client shows: it may have been renewed meanwhile.
    pub(crate) async fn shown(&self, kept: Kept) -> Kept {
        match &*self.shows.lock().await {
            Shows::Login(login) => Kept::Login(login.clone()),
            Shows::Token(_) | Shows::Nothing => kept,
        }
    }

    /// The address of the server.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What speaks HTTP. It shows nothing by itself.
    pub(crate) const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Where logins are kept.
    pub(crate) const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Asks for JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failed> {
        let answer = self.send(Method::GET, path, Content::Nothing, None, REQUEST);
        json(answer.await?).await
    }

    /// Asks for text.
    async fn text(&self, path: &str) -> Result<(Response, String), Failed> {
        let answer = self.send(Method::GET, path, Content::Nothing, None, TRANSFER);
        let mut answer = answer.await?;
        let bytes = all_of(&mut answer, MAX_EXPORT_BYTES).await?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failed::Away("the server answers no text".to_owned()))?;
        Ok((answer, text))
    }

    /// Asks for something to be done. Each request has a key of its own, by which the server knows it
    /// again: it does it once, however often it is asked.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), Failed> {
        let key = format!("{:032x}", rand::random::<u128>());
        let answer =
            self.send(Method::POST, path, Content::Json(body), Some(&key), REQUEST).await?;
        Ok((answer.status(), json(answer).await?))
    }

    /// Brings a file to the artifacts of the server.
    pub(crate) async fn upload(
        &self,
        digest: &Digest,
        path: &Path,
        size: u64,
    ) -> Result<(), Failed> {
        let file = Content::File { path, size };
        let place = format!("/api/v1/artifacts/{digest}");
        self.send(Method::PUT, &place, file, None, TRANSFER).await.map(drop)
    }

    /// A document that a run left behind, checked.
    pub(crate) async fn artifact(&self, run: &RunId, digest: &Digest) -> Result<Bytes, Stop> {
        let path = format!("/api/v1/runs/{run}/artifacts/{digest}");
        let answer = self.send(Method::GET, &path, Content::Nothing, None, TRANSFER);
        let mut answer = answer.await.map_err(Failed::stop)?;
        let bytes = all_of(&mut answer, MAX_EXPORT_BYTES).await.map_err(Failed::stop)?;
        if digest.matches(&bytes) {
            return Ok(bytes.into());
        }
        Err(Stop::failed(format!("what the server has for {digest} is something else")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
        key: Option<&str>,
        deadline: Duration,
    ) -> Result<Response, Failed> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let request = self.request(&method, path, &content, key, deadline).await?;
            let last = attempt >= ATTEMPTS;
            let wait = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status();
                    let asked = answer.headers().get(RETRY_AFTER);
                    let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
                    let passing = match status {
                        StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                        | StatusCode::TOO_MANY_REQUESTS => true,
                        // The same request is still being done, by whoever heard it first.
                        StatusCode::CONFLICT => asked.is_some(),
                        _ => false,
                    };
                    if last || !passing {
                        let problem = json(answer).await.unwrap_or(Value::Null);
                        return Err(Failed::Refused { status, problem });
                    }
                    asked.map_or(pause, Duration::from_secs)
                }
                Err(error) if last => return Err(self.away(&error)),
                Err(_) => pause,
            };
            tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
        Err(Failed::Away("the server did not answer".to_owned()))
    }

    async fn request(
        &self,
        method: &Method,
        path: &str,
        content: &Content<'_>,
        key: Option<&str>,
        deadline: Duration,
    ) -> Result<reqwest::RequestBuilder, Failed> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        request = self.as_us(request).await?.timeout(deadline);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Ok(match content {
            Content::Nothing => request,
            Content::Json(body) => {
                request.header(CONTENT_TYPE, "application/json").body(body.to_string())
            }
            Content::File { path, size } => {
                let file = tokio::fs::File::open(path).await.map_err(|error| {
                    Failed::Away(format!("cannot read {}: {error}", path.display()))
                })?;
                let pieces = futures::stream::try_unfold(file, |mut file| async move {
                    let mut piece = vec![0; PIECE];
                    let count = tokio::io::AsyncReadExt::read(&mut file, &mut piece).await?;
                    piece.truncate(count);
                    std::io::Result::Ok((count > 0).then(|| (Bytes::from(piece), file)))
                });
                request
                    .header(CONTENT_TYPE, crate::workspaces::archive::MEDIA_TYPE)
                    .header(CONTENT_LENGTH, *size)
                    .body(reqwest::Body::wrap_stream(pieces))
            }
        })
    }

    async fn as_us(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::RequestBuilder, Failed> {
        let Some(token) = self.token().await? else { return Ok(request) };
        let value = format!("Bearer {}", token.expose().trim());
        let Ok(mut value) = reqwest::header::HeaderValue::from_str(&value) else {
            return Err(Failed::LoggedOut("the token has characters that no token has".to_owned()));
        };
        value.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, value))
    }

    /// What is shown now. A login that ends is renewed, once, whoever else needs it meanwhile.
    async fn token(&self) -> Result<Option<Secret<String>>, Failed> {
        let mut shows = self.shows.lock().await;
        let login = match &*shows {
            Shows::Nothing => return Ok(None),
            Shows::Token(token) => return Ok(Some(token.clone())),
            Shows::Login(login) => login.clone(),
        };
        if !login.is_over(self.clock.now()) {
            return Ok(Some(Secret::new(login.token)));
        }
        let login = self.renewed(login).await?;
        *shows = Shows::Login(login.clone());
        Ok(Some(Secret::new(login.token)))
    }

    /// The login with its next token. Another process may have asked for that: a token to refresh with is
    /// good once, so they take turns.
    async fn renewed(&self, login: Login) -> Result<Login, Failed> {
        let kept = self.credentials.clone();
        let failed = |stop: Stop| Failed::LoggedOut(stop.message);
        let lock = kept.clone().map(|kept| tokio::task::spawn_blocking(move || kept.lock()));
        let _alone = match lock {
            Some(lock) => {
                let lock = lock.await;
                let lock = lock.map_err(|error| Failed::LoggedOut(error.to_string()))?;
                Some(lock.map_err(failed)?)
            }
            None => None,
        };
        let known = kept.as_ref().map(|kept| kept.of(&self.base)).transpose().map_err(failed)?;
        let login = match known.flatten() {
            Some(Kept::Login(newer)) if newer.issuer == login.issuer => newer,
            Some(Kept::Login(_) | Kept::Token(_)) | None => login,
        };
        if !login.is_over(self.clock.now()) {
            return Ok(login);
        }
        let next = login.next(&self.http, self.clock.now()).await;
        let next = next.map_err(Failed::LoggedOut)?;
        if let Some(kept) = kept {
            kept.keep_locked(&self.base, Some(Kept::Login(next.clone()))).map_err(failed)?;
        }
        Ok(next)
    }

    fn away(&self, error: &reqwest::Error) -> Failed {
        let why = fairlead_step::error_chain(error);
        Failed::Away(format!("the server at {} does not answer: {why}", self.base))
    }
}

async fn all_of(answer: &mut Response, most: u64) -> Result<Vec<u8>, Failed> {
    let mut all = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(all),
            Ok(Some(piece)) if (all.len() + piece.len()) as u64 <= most => {
                all.extend_from_slice(&piece);
            }
            Ok(Some(_)) => {
                return Err(Failed::Away(format!("the server answers more than {most} bytes")));
            }
            Err(error) => {
                let why = fairlead_step::error_chain(&error);
                return Err(Failed::Away(format!("the answer of the server was cut: {why}")));
            }
        }
    }
}

async fn json(mut answer: Response) -> Result<Value, Failed> {
    let bytes = all_of(&mut answer, MOST_ANSWER).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failed::Away(format!(
            "the server answers no JSON, so it may be none of Fairlead's: {error}"
        ))
    })
}
