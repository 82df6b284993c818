//! One request to a registry: log in when asked to, try again when that can help, and say plainly
//! what went wrong when it cannot.

use std::error::Error as StdError;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fairlead_step::EgressDenied;
use http::header::{AUTHORIZATION, DATE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use jiff::fmt::rfc2822;
use rand::RngExt as _;
use serde::Deserialize;
use url::Url;

use crate::host::Host;
use crate::{Error, Options};

/// The most bytes of an answer that are read for the sake of its error message.
const ERROR_BODY_LIMIT: u64 = 64 << 10;

/// A request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The scopes that a token must cover.
    pub(crate) scopes: Vec<String>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<Bytes>,
    /// What it is for, in errors: `manifest v1 of …`.
    pub(crate) what: String,
    /// Whether it may be sent again when nobody knows if it arrived.
    pub(crate) repeatable: bool,
}

/// An answer, read to its end. Its status is never 401, 403, 429 or 5xx (but 501).
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The error for a status that the operation has no meaning for.
    pub(crate) fn refused(&self, host: &Host, what: &str) -> Error {
        refused(host, what, self.status, &self.body)
    }
}

/// Whether an attempt may be followed by another.
pub(crate) enum Failure {
    /// It may, after this pause where the registry names one.
    Again { error: Error, after: Option<Duration> },
    /// It would fail the same way.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Sends `call` and reads the answer, at most `limit` bytes of it.
pub(crate) async fn call(
    host: &Host,
    call: &Call,
    limit: u64,
    options: &Options,
) -> Result<Reply, Error> {
    with_retries(options, |attempt| once(host, call, limit, options, attempt)).await
}

/// Sends `call` a single time, for who has to begin further ahead when it fails.
pub(crate) async fn once(
    host: &Host,
    call: &Call,
    limit: u64,
    options: &Options,
    attempt: u32,
) -> Result<Reply, Failure> {
    let response = exchange(host, call, Some(options.request_timeout), options, attempt).await?;
    whole(host, call, response, limit, options).await
}

/// Sends `call` and hands the answer over before its body is read. There is no limit on the time
/// the body takes in all, only on each silence within it.
pub(crate) async fn open(
    host: &Host,
    call: &Call,
    options: &Options,
) -> Result<reqwest::Response, Error> {
    with_retries(options, |attempt| exchange(host, call, None, options, attempt)).await
}

/// Sends `call` with a body that can be sent a single time. Who calls watches that it gets on: there
/// is no deadline here.
pub(crate) async fn stream(
    host: &Host,
    call: &Call,
    body: reqwest::Body,
    limit: u64,
    options: &Options,
    attempt: u32,
) -> Result<Reply, Failure> {
    let ours = host.is_own(&call.url);
    let mut request = prepare(host, call, &call.url)?.body(body);
    let mut logged_in = false;
    if ours && let Some(login) = host.authorization(&call.scopes, &call.what).await? {
        request = request.header(AUTHORIZATION, login);
        logged_in = true;
    }
    let sent = request.send().await;
    let response = sent.map_err(|error| transport_failure(host, call, Broken::Http(error)))?;
    if ours && response.status() == StatusCode::UNAUTHORIZED {
        host.challenged(response.headers(), &call.scopes, logged_in)
            .map_err(|detail| host.unauthorized(&call.what, detail))?;
        // The token has ended since; the next attempt has a new one.
        let error = host.unauthorized(&call.what, String::new());
        return Err(match attempt {
            1 => Failure::Again { error, after: None },
            _ => Failure::Final(error),
        });
    }
    let response = judge(host, call, response, ours, options, attempt).await?;
    whole(host, call, response, limit, options).await
}

/// Reads an answer to its end.
async fn whole(
    host: &Host,
    call: &Call,
    response: reqwest::Response,
    limit: u64,
    options: &Options,
) -> Result<Reply, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    match read(response, limit, options.idle_timeout).await {
        Ok(Some(body)) => Ok(Reply { status, headers, body }),
        Ok(None) => Err(Failure::Final(Error::TooLarge { what: call.what.clone(), limit })),
        Err(broken) => Err(transport_failure(host, call, broken)),
    }
}

/// Runs `attempt` until it succeeds, fails for good, or has been made often enough.
pub(crate) async fn with_retries<T, F>(
    options: &Options,
    mut attempt: impl FnMut(u32) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut number = 1;
    loop {
        match attempt(number).await {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again { error, after }) => {
                let too_long = after.is_some_and(|pause| pause > options.longest_pause);
                if number >= options.attempts || too_long {
                    return Err(error);
                }
                let pause = after.unwrap_or_default().max(backoff(options, number));
                tracing::debug!(%error, attempt = number, ?pause, "trying again");
                tokio::time::sleep(pause).await;
                number += 1;
            }
        }
    }
}

/// The pause after attempt `number`: doubling, bounded, and shortened at random by up to a half so
/// that many clients do not come back at once.
pub(crate) fn backoff(options: &Options, number: u32) -> Duration {
    let doubled = options.first_pause.saturating_mul(1 << (number - 1).min(16));
    doubled.min(options.longest_pause).mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// The most redirects of one request that are followed.
const REDIRECTS: usize = 5;

fn prepare(host: &Host, call: &Call, url: &Url) -> Result<reqwest::RequestBuilder, Failure> {
    let mut request = host.connections(url)?.request(call.method.clone(), url.clone());
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    Ok(request)
}

async fn exchange(
    host: &Host,
    call: &Call,
    timeout: Option<Duration>,
    options: &Options,
    attempt: u32,
) -> Result<reqwest::Response, Failure> {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let mut challenged = false;
    loop {
        let Hop { response, ours, logged_in } = send(host, call, until, options).await?;
        if response.status() == StatusCode::UNAUTHORIZED && ours && !challenged {
            host.challenged(response.headers(), &call.scopes, logged_in)
                .map_err(|detail| host.unauthorized(&call.what, detail))?;
            challenged = true;
            continue;
        }
        return judge(host, call, response, ours, options, attempt).await;
    }
}

/// Where a request came to its end.
struct Hop {
    response: reqwest::Response,
    /// Whether the answer is the registry's own: a request that was led elsewhere is never the
    /// registry's again, wherever it ends.
    ours: bool,
    logged_in: bool,
}

/// Sends `call`, and follows it to where it is led. Only the registry itself hears the login, and
/// only before it leads elsewhere.
async fn send(
    host: &Host,
    call: &Call,
    until: Option<Instant>,
    options: &Options,
) -> Result<Hop, Failure> {
    let mut url = call.url.clone();
    let mut ours = host.is_own(&url);
    for _ in 0..=REDIRECTS {
        let mut request = prepare(host, call, &url)?;
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        if let Some(until) = until {
            request = request.timeout(until.saturating_duration_since(Instant::now()));
        }
        let login = if ours { host.authorization(&call.scopes, &call.what).await? } else { None };
        let logged_in = login.is_some();
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        let response = patiently(options.idle_timeout, request.send())
            .await
            .map_err(|broken| transport_failure(host, call, broken))?;
        let Some(target) = redirect(&response) else {
            return Ok(Hop { response, ours, logged_in });
        };
        let next = host.follow(&url, target, &call.what)?;
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        // What is written stays with the registry, and is not turned into a read on the way.
        let keeps = matches!(response.status().as_u16(), 307 | 308) && host.is_own(&next);
        let may_follow = reads || (ours && keeps);
        if !may_follow {
            return Err(Failure::Final(Error::Malformed {
                what: call.what.clone(),
                problem: format!(
                    "the registry redirects it to {}, and what is written goes to the registry \
                     alone",
                    place(&next)
                ),
            }));
        }
        ours = ours && host.is_own(&next);
        url = next;
    }
    Err(Failure::Final(Error::Malformed {
        what: call.what.clone(),
        problem: format!("it redirects more than {REDIRECTS} times"),
    }))
}

/// Where an answer sends the request.
fn redirect(response: &reqwest::Response) -> Option<&str> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    response.headers().get(LOCATION).filter(|_| moved).and_then(|target| target.to_str().ok())
}

/// The host of an address that is not the registry's; the rest may carry a signature.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What the status of an answer means for the attempt.
async fn judge(
    host: &Host,
    call: &Call,
    response: reqwest::Response,
    ours: bool,
    options: &Options,
    attempt: u32,
) -> Result<reqwest::Response, Failure> {
    let status = response.status();
    let after = retry_after(response.headers());
    let elsewhere = place(response.url());
    let error_detail = async |response: reqwest::Response| {
        let body = read(response, ERROR_BODY_LIMIT, options.idle_timeout).await;
        detail(&body.ok().flatten().unwrap_or_default())
    };
    match status.as_u16() {
        // No login of ours is at stake there, and none would help.
        401 | 403 if !ours => Err(Failure::Final(Error::Refused {
            registry: host.name.clone(),
            what: format!("{}, which it leads to {elsewhere}", call.what),
            status: status.as_u16(),
            detail: error_detail(response).await,
        })),
        401 => {
            let detail = error_detail(response).await;
            Err(Failure::Final(host.unauthorized(&call.what, detail)))
        }
        403 => Err(Failure::Final(Error::Denied {
            registry: host.name.clone(),
            what: call.what.clone(),
            detail: error_detail(response).await,
        })),
        501 | 505 => Ok(response),
        408 | 429 | 500.. => {
            let error = Error::Busy {
                registry: host.name.clone(),
                what: call.what.clone(),
                status: status.as_u16(),
                attempts: attempt,
                detail: error_detail(response).await,
            };
            // A 429 was certainly not carried out.
            let again = call.repeatable || status == StatusCode::TOO_MANY_REQUESTS;
            Err(if again { Failure::Again { error, after } } else { Failure::Final(error) })
        }
        _ => Ok(response),
    }
}

/// What broke a request.
pub(crate) enum Broken {
    /// The connection.
    Http(reqwest::Error),
    /// The patience for a silence of so long.
    Silent(Duration),
}

impl Broken {
    /// Why the rules of egress refused the connection, where they did.
    pub(crate) fn denial(&self) -> Option<EgressDenied> {
        match self {
            Self::Http(error) => fairlead_http::denial(error).cloned(),
            Self::Silent(_) => None,
        }
    }

    /// The cause on one line.
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Http(error) => causes(error),
            Self::Silent(idle) => format!("timed out after {idle:?} of silence"),
        }
    }
}

/// Waits for one sign of life, and no longer than `idle`. The library's own such limit counts the
/// time in which a body goes up as silence.
pub(crate) async fn patiently<T>(
    idle: Duration,
    work: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Broken> {
    match tokio::time::timeout(idle, work).await {
        Ok(done) => done.map_err(Broken::Http),
        Err(_) => Err(Broken::Silent(idle)),
    }
}

/// What a failed send or read means.
pub(crate) fn transport_failure(host: &Host, call: &Call, broken: Broken) -> Failure {
    let connect = match &broken {
        Broken::Http(error) => error.is_connect(),
        Broken::Silent(_) => false,
    };
    if let Some(source) = broken.denial() {
        return Failure::Final(host.off_limits(source));
    }
    let cause = broken.cause();
    if connect && cause.contains("invalid peer certificate") {
        return Failure::Final(Error::Settings {
            registry: host.name.clone(),
            problem: format!("its certificate is not trusted: {cause}"),
        });
    }
    if connect && cause.contains("received corrupt message") {
        return Failure::Final(Error::Settings {
            registry: host.name.clone(),
            problem: "it does not speak TLS, and plain HTTP is not allowed for it".into(),
        });
    }
    let error = Error::Unreachable { registry: host.name.clone(), what: call.what.clone(), cause };
    if connect || call.repeatable {
        Failure::Again { error, after: None }
    } else {
        Failure::Final(error)
    }
}

/// The chain of causes on one line. The URL is left out: it may carry a signature.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let timeout = error.is_timeout();
    let error = error.without_url();
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn StdError> = Some(&error);
    while let Some(cause) = next {
        parts.push(cause.to_string());
        next = cause.source();
    }
    // What the layers between say of themselves tells nobody anything.
    let said =
        |part: &&String| part.starts_with("error sending") || part.starts_with("client error");
    let passing = parts.iter().take_while(said).count();
    if passing < parts.len() {
        parts.drain(..passing);
    }
    let mut text = String::new();
    for part in parts {
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    if timeout && !text.contains("timed out") {
        text.push_str(": timed out");
    }
    text
}

/// Reads a body; `None` when it is larger than `limit`.
pub(crate) async fn read(
    mut response: reqwest::Response,
    limit: u64,
    idle: Duration,
) -> Result<Option<Bytes>, Broken> {
    // An answer to HEAD, of which nothing is read, names the length of what it does not have.
    if limit > 0 && response.content_length().is_some_and(|length| length > limit) {
        return Ok(None);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = patiently(idle, response.chunk()).await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// The error for a status that the operation has no meaning for.
pub(crate) fn refused(host: &Host, what: &str, status: StatusCode, body: &[u8]) -> Error {
    let (what, detail) = (what.to_owned(), detail(body));
    if status == StatusCode::NOT_FOUND {
        return Error::NotFound { what, detail };
    }
    Error::Refused { registry: host.name.clone(), what, status: status.as_u16(), detail }
}

/// One error of a registry (distribution-spec v1.1, "Error Codes").
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Problems {
    errors: Vec<Problem>,
}

/// Whether the registry gives one of these codes as its reason.
pub(crate) fn has_code(body: &[u8], codes: &[&str]) -> bool {
    serde_json::from_slice::<Problems>(body)
        .is_ok_and(|problems| problems.errors.iter().any(|p| codes.contains(&p.code.as_str())))
}

/// What the registry says of an error, with `: ` before it, cleaned of control characters and
/// shortened.
pub(crate) fn detail(body: &[u8]) -> String {
    let Ok(problems) = serde_json::from_slice::<Problems>(body) else {
        return String::new();
    };
    let texts: Vec<String> = problems
        .errors
        .iter()
        .take(3)
        .map(|p| format!("{} {}", p.code, p.message).trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    if texts.is_empty() {
        return String::new();
    }
    let clean = texts.join("; ");
    let clean = clean.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    format!(": {clean}")
}

/// The pause that the registry asks for (RFC 9110, section 10.2.3). A date is measured against the
/// registry's own clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let now = rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    let then = rfc2822::parse(text).ok()?;
    Duration::try_from(then.timestamp().duration_since(now.timestamp())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let ask = |after: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            retry_after(&headers)
        };
        assert_eq!(ask("7", None), Some(Duration::from_secs(7)));
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        assert_eq!(ask("Wed, 21 Oct 2026 07:28:30 GMT", Some(date)), Some(Duration::from_secs(30)));
        assert_eq!(ask("Wed, 21 Oct 2026 07:27:00 GMT", Some(date)), None);
        assert_eq!(ask("soon", Some(date)), None);
    }

    #[test]
    fn what_the_registry_says_is_shortened_and_cleaned() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nway\u001b[31m"}]}"#;
        assert_eq!(detail(body), ": DENIED noway[31m");
        assert_eq!(detail(b"<html>"), "");
        assert_eq!(detail(br#"{"errors":[{}]}"#), "");
        let long = format!(r#"{{"errors":[{{"code":"X","message":"{}"}}]}}"#, "y".repeat(9000));
        assert!(detail(long.as_bytes()).len() < 310);
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        let options = Options::default();
        for (number, most) in [(1, 200), (2, 400), (3, 800), (30, 20_000)] {
            let pause = backoff(&options, number);
            let most = Duration::from_millis(most);
            assert!(pause <= most && pause >= most / 2, "{number}: {pause:?}");
        }
    }
}
