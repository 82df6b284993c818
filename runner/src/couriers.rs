//! What takes messages to others: CloudEvents over HTTP, signed, and on a NATS subject; statuses of commits to
//! forges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Bus, CommitStatus, Forge, STRUCTURED, SenderKind, webhook_headers};
use fairlead_exec::SecretProvider;
use fairlead_http::reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use fairlead_http::reqwest::{self, StatusCode, Url};
use fairlead_run::StoredDelivery;
use fairlead_server::{
    Courier, DeliveryError, Destination, Destinations, EventWants, SourceSettings,
};
use fairlead_step::{BoxFuture, Clock, Egress, Globs, Secret, error_chain};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::forges::ForgeLogins;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Who hears of what happens here, as CloudEvents.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SinkSettings {
    /// The address that each event is sent to, with `POST`.
    pub(crate) url: Option<String>,
    /// The NATS subject that they are published on, instead of `url`.
    subject: Option<String>,
    /// The name of the server's own secret with which messages are signed (Standard Webhooks): a key behind
    /// `whsec_`, as base64, or any text.
    secret: Option<String>,
    /// Sends over HTTP without a signature.
    #[serde(default)]
    unsigned: bool,
    /// The types of events, as patterns such as `dev.fairlead.run.*`; all when it is not given.
    types: Option<Globs>,
    /// The projects; all when it is not given.
    projects: Option<Globs>,
    /// The pipelines; all when it is not given.
    pipelines: Option<Globs>,
}

/// What couriers are made with.
pub(crate) struct Means<'a> {
    pub(crate) secrets: &'a Arc<dyn SecretProvider>,
    pub(crate) egress: &'a Egress,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) bus: &'a Arc<dyn Bus>,
    /// Who to be at forges whose source names no token.
    pub(crate) logins: &'a ForgeLogins,
    /// Where people reach this server.
    pub(crate) url: Option<&'a str>,
}

/// The destinations that the sinks and sources of a configuration make.
///
/// # Errors
/// Everything that is wrong.
pub(crate) async fn destinations(
    sinks: &BTreeMap<String, SinkSettings>,
    sources: &BTreeMap<String, SourceSettings>,
    means: &Means<'_>,
) -> Result<Destinations, Vec<String>> {
    let (mut made, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, settings) in sinks {
        match sink(name, settings, means).await {
            Ok(courier) => {
                let events = EventWants {
                    types: settings.types.clone(),
                    projects: settings.projects.clone(),
                    pipelines: settings.pipelines.clone(),
                };
                made.insert(name.clone(), Destination { courier, events: Some(events) });
            }
            Err(problem) => problems.push(format!("sink `{name}`: {problem}")),
        }
    }
    for (name, settings) in sources.iter().filter(|(_, settings)| settings.statuses) {
        match statuses(settings, means) {
            Ok(courier) => {
                let courier: Arc<dyn Courier> = Arc::new(courier);
                let name = Destinations::of_statuses(name);
                made.insert(name, Destination { courier, events: None });
            }
            Err(problem) => problems.push(format!("source `{name}`: {problem}")),
        }
    }
    if problems.is_empty() { Ok(Destinations(made)) } else { Err(problems) }
}

async fn sink(
    name: &str,
    settings: &SinkSettings,
    means: &Means<'_>,
) -> Result<Arc<dyn Courier>, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        return Err("use at most 63 lower-case letters, digits and `-` as its name".to_owned());
    }
    match (&settings.url, &settings.subject) {
        (Some(url), None) => {
            let secret = match (&settings.secret, settings.unsigned) {
                (Some(name), false) => {
                    let secret = means.secrets.get(name).await;
                    Some(secret.map_err(|error| error_chain(&error))?)
                }
                (None, true) => None,
                (Some(_), true) => return Err("take `secret` or `unsigned` away".to_owned()),
                (None, false) => {
                    return Err("name a `secret` to sign with, or set `unsigned: true`".to_owned());
                }
            };
            let url = http_url(url)?;
            let http = client(means.egress, &url)?;
            let clock = Arc::clone(means.clock);
            let courier = HttpCourier { url, http, egress: means.egress.clone(), secret, clock };
            // One that can never sign is told now.
            if let Some(secret) = &courier.secret
                && webhook_headers(secret, "x", means.clock.now(), b"").is_none()
            {
                return Err("its secret is empty".to_owned());
            }
            Ok(Arc::new(courier))
        }
        (None, Some(subject)) => {
            if settings.secret.is_some() || settings.unsigned {
                return Err(
                    "on NATS nothing is signed: the permissions of its server say who may \
                            publish; take `secret` and `unsigned` away"
                        .to_owned(),
                );
            }
            let bus = Arc::clone(means.bus);
            Ok(Arc::new(NatsCourier { bus, subject: subject.clone() }))
        }
        (Some(_), Some(_)) | (None, None) => Err("give a `url` or a `subject`".to_owned()),
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`url` is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`url` begins with `https://` or `http://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`url` holds a login, which does not belong there".to_owned());
    }
    Ok(url)
}

fn client(egress: &Egress, url: &Url) -> Result<reqwest::Client, String> {
    let mut builder = fairlead_http::builder(egress).connect_timeout(CONNECT).timeout(ANSWER);
    if url.host_str().is_some_and(fairlead_oci::is_loopback) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| error_chain(&error))
}

/// Sends CloudEvents in the structured mode, signed.
struct HttpCourier {
    url: Url,
    http: reqwest::Client,
    egress: Egress,
    secret: Option<Secret<String>>,
    clock: Arc<dyn Clock>,
}

impl Courier for HttpCourier {
    fn deliver<'a>(
        &'a self,
        message: &'a StoredDelivery,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let body = &message.message.document;
            let mut request = self.http.post(self.url.clone()).header("content-type", STRUCTURED);
            if let Some(secret) = &self.secret {
                let id = &message.message.id;
                let headers = webhook_headers(secret, id, self.clock.now(), body.as_bytes());
                for (name, value) in headers.into_iter().flatten() {
                    request = request.header(name, value);
                }
            }
            send(&self.egress, &self.url, request.body(body.clone())).await
        })
    }
}

/// Publishes CloudEvents on a NATS subject, each with its id.
struct NatsCourier {
    bus: Arc<dyn Bus>,
    subject: String,
}

impl Courier for NatsCourier {
    fn deliver<'a>(
        &'a self,
        message: &'a StoredDelivery,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let message = &message.message;
            let body = message.document.as_bytes();
            let published = self.bus.publish_on(&self.subject, &message.id, body).await;
            published.map_err(|error| {
                use fairlead_event::BusError::{Full, TooLarge, Unavailable, Unsupported};
                let again = match &error {
                    Unavailable { .. } | Full { .. } => true,
                    TooLarge { .. } | Unsupported { .. } => false,
                    _ => true,
                };
                DeliveryError { message: error_chain(&error), again, after: None }
            })
        })
    }
}

/// Sets the statuses of commits at a forge.
struct StatusCourier {
    kind: SenderKind,
    forge: Forge,
    api: Option<String>,
    server: Option<String>,
    /// The name of the secret with the token: it is asked for each time, so that it may be changed.
    token: String,
    secrets: Arc<dyn SecretProvider>,
    egress: Egress,
    http: reqwest::Client,
}

fn statuses(settings: &SourceSettings, means: &Means<'_>) -> Result<StatusCourier, String> {
    let kind = settings.kind;
    if !kind.takes_statuses() {
        return Err(format!("`{kind}` takes no statuses of commits; take `statuses` away"));
    }
    let forge = settings.forge().map_err(|error| error_chain(&error))?;
    let forge = forge.ok_or("`statuses` need the `forge` of the source")?;
    let login = format!("{}/x/x.git", forge.base()).parse().ok();
    let login = login.and_then(|remote| means.logins.of(&remote)).and_then(|login| login.password);
    let token = settings.token.clone().or(login).ok_or(
        "`statuses` need a token of the forge's API: name its secret as `token`, or as the `password` of \
         the forge under `forges`",
    )?;
    let base = Url::parse(settings.api.as_deref().unwrap_or_else(|| forge.base()));
    let base = base.map_err(|error| format!("`api` is no address: {error}"))?;
    Ok(StatusCourier {
        kind,
        api: settings.api.clone(),
        server: means.url.map(str::to_owned),
        token,
        secrets: Arc::clone(means.secrets),
        egress: means.egress.clone(),
        http: client(means.egress, &base)?,
        forge,
    })
}

impl Courier for StatusCourier {
    fn deliver<'a>(
        &'a self,
        message: &'a StoredDelivery,
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let never = |message: String| DeliveryError { message, again: false, after: None };
            let status: CommitStatus = serde_json::from_str(&message.message.document)
                .map_err(|error| never(format!("the message is no status: {error}")))?;
            let (api, server) = (self.api.as_deref(), self.server.as_deref());
            let request = status.request(self.kind, &self.forge, api, server).map_err(never)?;
            let token = self.secrets.get(&self.token).await.map_err(|error| DeliveryError {
                message: error_chain(&error),
                again: true,
                after: None,
            })?;
            let (name, before) = request.token;
            let value = HeaderValue::from_str(&format!("{before}{}", token.line()));
            let mut value = value.map_err(|_| never("the token is no header".to_owned()))?;
            value.set_sensitive(true);
            let sent = self
                .http
                .post(request.url.clone())
                .header(HeaderName::from_static(name), value)
                .header("accept", "application/json")
                .header("content-type", "application/json")
                .body(request.body.to_string());
            send(&self.egress, &request.url, sent).await
        })
    }
}

/// Sends a request, and reads from the answer whether it was taken.
async fn send(
    egress: &Egress,
    url: &Url,
    request: reqwest::RequestBuilder,
) -> Result<(), DeliveryError> {
    let failed = |message: String, again: bool| DeliveryError { message, again, after: None };
    let host = url.host_str().unwrap_or_default();
    egress.asks(host, url.port_or_known_default()).map_err(|denied| {
        // It is let through once the configuration says so.
        failed(format!("{denied}; {}", denied.hint()), true)
    })?;
    let answer =
        request.send().await.map_err(|error| failed(error_chain(&error.without_url()), true))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
    let after = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
    // What is wrong with the request stays wrong; who may not ask may be let in later.
    let never = [
        StatusCode::BAD_REQUEST,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::GONE,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    let again = !never.contains(&status) && !status.is_redirection();
    let what = if status.is_redirection() { ", and no redirect is followed" } else { "" };
    Err(DeliveryError { message: format!("{host} answered {status}{what}"), again, after })
}

#[cfg(test)]
mod tests {
    use fairlead_bus::InProcess;
    use fairlead_event::{CommitState, Headers, Incoming, Sender};
    use fairlead_run::NewDelivery;
    use jiff::Timestamp;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::settings::SystemClock;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// Stands in for an endpoint, or for the API of a forge that cannot run here: it answers one request, and
    /// gives what it was sent.
    async fn answering(answer: &'static str) -> (u16, tokio::task::JoinHandle<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            loop {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                bytes.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return (head.to_owned(), body.to_owned());
                }
            }
        });
        (port, task)
    }

    struct Known;

    impl SecretProvider for Known {
        fn get<'a>(
            &'a self,
            name: &'a str,
        ) -> BoxFuture<'a, Result<Secret<String>, fairlead_exec::SecretError>> {
            Box::pin(async move {
                match name {
                    "hook" => Ok(Secret::new(KEY.to_owned())),
                    "token" => Ok(Secret::new("s3cret-token\n".to_owned())),
                    _ => Err(fairlead_exec::SecretError::Missing {
                        name: name.to_owned(),
                        hint: "set it".to_owned(),
                    }),
                }
            })
        }
    }

    async fn made(
        sinks: serde_json::Value,
        sources: serde_json::Value,
    ) -> Result<Destinations, Vec<String>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> = Arc::new(InProcess::default());
        let secrets: Arc<dyn SecretProvider> = Arc::new(Known);
        let (egress, logins) = (Egress::open(), ForgeLogins::default());
        let means = Means {
            secrets: &secrets,
            egress: &egress,
            clock: &clock,
            bus: &bus,
            logins: &logins,
            url: Some("https://ci.example.com"),
        };
        let sinks = serde_json::from_value(sinks).unwrap();
        let sources = serde_json::from_value(sources).unwrap();
        destinations(&sinks, &sources, &means).await
    }

    fn message(document: String) -> StoredDelivery {
        StoredDelivery {
            number: 1,
            message: NewDelivery {
                destination: "x".into(),
                id: "01h-7".into(),
                kind: "dev.fairlead.run.ended.v1".into(),
                about: "01h".into(),
                replaces: false,
                run: None,
                document,
                created_at: Timestamp::UNIX_EPOCH,
            },
            due_at: Timestamp::UNIX_EPOCH,
            attempts: 1,
            delivered_at: None,
            dead_at: None,
            reason: None,
        }
    }

    #[tokio::test]
    async fn an_event_is_signed_and_the_answer_says_whether_to_send_it_again() {
        for (answer, want) in [
            ("HTTP/1.1 204 X\r\nconnection: close\r\n\r\n", None),
            (
                "HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Some((true, None)),
            ),
            (
                "HTTP/1.1 403 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Some((true, None)),
            ),
            (
                "HTTP/1.1 410 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Some((false, None)),
            ),
            (
                "HTTP/1.1 302 X\r\nlocation: http://x/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Some((false, None)),
            ),
            (
                "HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Some((true, Some(7))),
            ),
        ] {
            let (port, task) = answering(answer).await;
            let url = format!("http://127.0.0.1:{port}/hook");
            let sinks = serde_json::json!({ "x": { "url": url, "secret": "hook" } });
            let made = made(sinks, serde_json::json!({})).await.unwrap();
            let body = r#"{"specversion":"1.0","id":"1","source":"/x","type":"some.type"}"#;
            let sent = made.0["x"].courier.deliver(&message(body.to_owned())).await;
            let sent = sent.err().map(|it| (it.again, it.after.map(|after| after.as_secs())));
            assert_eq!(sent, want, "{answer}");
            let (head, got) = task.await.unwrap();
            assert!(head.starts_with("POST /hook "), "{head}");
            assert_eq!(got, body);
            // Whoever has the secret believes it.
            let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let headers: Headers = pairs.collect();
            assert_eq!(headers.get("webhook-id"), Some("01h-7"));
            let secret = Secret::new(KEY.to_owned());
            let sender = Sender::new(SenderKind::CloudEvents, Some(secret), None, None).unwrap();
            let incoming = Incoming {
                headers: &headers,
                address_end: None,
                body: got.as_bytes(),
                now: SystemClock.now(),
                trusted_channel: false,
            };
            assert_eq!(sender.receive(incoming).unwrap().events.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_status_goes_to_the_api_of_the_forge_with_its_token() {
        let (port, task) =
            answering("HTTP/1.1 201 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
        let sources = serde_json::json!({ "forge": { "kind": "github", "secret": "hook",
            "forge": "https://github.com", "api": format!("http://127.0.0.1:{port}"),
            "statuses": true, "token": "token" } });
        let made = made(serde_json::json!({}), sources).await.unwrap();
        let status = CommitStatus {
            repository: "acme/shop".into(),
            commit: "a".repeat(40),
            context: "fairlead/release".into(),
            state: CommitState::Success,
            description: "passed".into(),
            path: "/api/v1/runs/01h".into(),
        };
        let document = serde_json::to_string(&status).unwrap();
        made.0["status:forge"].courier.deliver(&message(document)).await.unwrap();
        let (head, body) = task.await.unwrap();
        let path = format!("POST /repos/acme/shop/statuses/{} ", "a".repeat(40));
        assert!(head.starts_with(&path), "{head}");
        assert!(head.contains("authorization: Bearer s3cret-token"), "{head}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["state"], "success");
        assert_eq!(body["target_url"], "https://ci.example.com/api/v1/runs/01h");
    }

    #[tokio::test]
    async fn what_is_wrong_with_destinations_is_told() {
        let forge = "https://git.example.com";
        let problems = made(
            serde_json::json!({
                "a": {}, "B": { "url": "https://x.example.com", "secret": "hook" },
                "c": { "url": "https://x.example.com" },
                "d": { "url": "ftp://x.example.com", "secret": "hook" },
                "e": { "url": "https://u:p@x.example.com", "secret": "hook" },
                "f": { "url": "https://x.example.com", "secret": "unknown" },
                "g": { "subject": "x", "secret": "hook" },
            }),
            serde_json::json!({
                "h": { "kind": "harbor", "secret": "hook", "registry": "r.example.com", "statuses": true },
                "i": { "kind": "gitea", "secret": "hook", "forge": forge, "statuses": true },
                "j": { "kind": "gitea", "secret": "hook", "checkout": false, "statuses": true, "token": "token" },
            }),
        );
        let problems = problems.await.err().unwrap();
        assert_eq!(problems.len(), 10, "{problems:#?}");
    }
}
