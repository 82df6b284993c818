//! One request to a registry: log in when asked to, try again when that can help, and say plainly
//! what went wrong when it cannot.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, DATE, HeaderName, RETRY_AFTER};
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
    with_retries(options, |attempt| async move {
        let response = exchange(host, call, Some(options.request_timeout), attempt).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match read(response, limit).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                return Err(Failure::Final(Error::TooLarge { what: call.what.clone(), limit }));
            }
            Err(error) => return Err(transport_failure(host, call, error)),
        };
        Ok(Reply { status, headers, body })
    })
    .await
}

/// Sends `call` and hands the answer over before its body is read. There is no limit on the time
/// the body takes in all, only on each silence within it.
pub(crate) async fn open(
    host: &Host,
    call: &Call,
    options: &Options,
) -> Result<reqwest::Response, Error> {
    with_retries(options, |attempt| exchange(host, call, None, attempt)).await
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

async fn exchange(
    host: &Host,
    call: &Call,
    timeout: Option<Duration>,
    attempt: u32,
) -> Result<reqwest::Response, Failure> {
    let mut challenged = false;
    loop {
        let mut request = host.http.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        // Only the registry itself may see the login; an upload may go elsewhere.
        let ours = call.url.origin() == host.base.origin();
        let authorization =
            if ours { host.authorization(&call.scopes, &call.what).await? } else { None };
        if let Some(value) = &authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let response =
            request.send().await.map_err(|error| transport_failure(host, call, error))?;
        let status = response.status();
        match status.as_u16() {
            401 if ours && !challenged => {
                host.challenged(response.headers(), &call.scopes, authorization.is_some())
                    .map_err(|detail| host.unauthorized(&call.what, detail))?;
                challenged = true;
            }
            401 => {
                let detail = detail(&error_body(response).await);
                return Err(Failure::Final(host.unauthorized(&call.what, detail)));
            }
            403 => {
                return Err(Failure::Final(Error::Denied {
                    registry: host.name.clone(),
                    what: call.what.clone(),
                    detail: detail(&error_body(response).await),
                }));
            }
            501 | 505 => return Ok(response),
            408 | 429 | 500.. => {
                let after = retry_after(response.headers());
                let error = Error::Busy {
                    registry: host.name.clone(),
                    what: call.what.clone(),
                    status: status.as_u16(),
                    attempts: attempt,
                    detail: detail(&error_body(response).await),
                };
                // A 429 was certainly not carried out.
                let again = call.repeatable || status == StatusCode::TOO_MANY_REQUESTS;
                return Err(if again {
                    Failure::Again { error, after }
                } else {
                    Failure::Final(error)
                });
            }
            _ => return Ok(response),
        }
    }
}

/// What a failed send or read means.
fn transport_failure(host: &Host, call: &Call, error: reqwest::Error) -> Failure {
    let (connect, redirect) = (error.is_connect(), error.is_redirect());
    let cause = causes(error);
    if redirect {
        return Failure::Final(Error::Malformed {
            what: format!("the answer of {} for {}", host.name, call.what),
            problem: cause,
        });
    }
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
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

async fn error_body(response: reqwest::Response) -> Bytes {
    read(response, ERROR_BODY_LIMIT).await.ok().flatten().unwrap_or_default()
}

/// The error for a status that the operation has no meaning for.
pub(crate) fn refused(host: &Host, what: &str, status: StatusCode, body: &[u8]) -> Error {
    let (what, detail) = (what.to_owned(), detail(body));
    if status == StatusCode::NOT_FOUND {
        return Error::NotFound { what, detail };
    }
    Error::Refused { registry: host.name.clone(), what, status: status.as_u16(), detail }
}

/// What the registry says of an error (distribution-spec v1.1, "Error Codes"), with `: ` before it,
/// cleaned of control characters and shortened.
pub(crate) fn detail(body: &[u8]) -> String {
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
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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
