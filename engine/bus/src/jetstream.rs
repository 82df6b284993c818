//! The bus on NATS JetStream: a stream of our own, and the subjects of others.

mod jobs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind, Context, ErrorCode, stream};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use fairlead_event::{
    Acknowledge, Bus, BusError, CloudEvent, Deliveries, Delivery, Headers, STRUCTURED,
    SubscribedDeliveries, SubscribedDelivery,
};
use fairlead_step::{BoxFuture, Secret};
use futures::StreamExt as _;
use tokio::sync::{Notify, watch};

/// How long one request to the server may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The pause after something failed although the server is reachable.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a message is kept. What is older was handled long ago, or is found in the store.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many messages are kept.
const MAX_MESSAGES: i64 = 1_000_000;
/// How long the server remembers the ids of messages, to drop a second one.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// After how long a message of somebody else is handed out again. It is only stored, which is quick,
/// and nobody but its acknowledgment says that it was: what reached a process that ended must not
/// wait long.
const SUBJECT_ACK_WAIT: Duration = Duration::from_secs(5);
/// How many messages are fetched at once.
const BATCH: usize = 32;
/// How often the server must give a sign of life while there is nothing to fetch.
const HEARTBEAT: Duration = Duration::from_secs(12);
/// Room for the headers of a message: its id, its type, and what the client adds.
const HEADERS: usize = 512;
/// Under which subject our events are published.
const SUBJECT: &str = "fairlead.events";

/// How to reach NATS, and what to call things there.
#[derive(Debug, Clone)]
pub struct JetStreamOptions {
    /// The servers: `nats://host:4222`, `tls://…`, with user and password where needed; several
    /// with commas between them.
    pub url: String,
    /// The text of a credentials file, where the server asks for one.
    pub credentials: Option<Secret<String>>,
    /// The name of the stream. It is created when absent.
    pub stream: String,
    /// The name under which the servers that share one database take turns.
    pub consumer: String,
    /// After how long a message that nobody answered is handed out again.
    pub ack_wait: Duration,
}

impl JetStreamOptions {
    /// The options that suit most: stream `FAIRLEAD`, consumer `fairlead`, 30 s.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: None,
            stream: "FAIRLEAD".into(),
            consumer: "fairlead".into(),
            ack_wait: Duration::from_secs(30),
        }
    }
}

/// Why the options are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is malformed.
    #[error("the URL of NATS is malformed")]
    Url(#[source] std::io::Error),
    /// The credentials are malformed.
    #[error("the credentials for NATS are malformed")]
    Credentials(#[source] std::io::Error),
    /// A name would not do for a stream or a consumer.
    #[error("`{name}` cannot name a stream or a consumer: use letters, digits, `_` and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// The client could not be set up.
    #[error("the NATS client cannot be started")]
    Client(#[source] async_nats::ConnectError),
}

/// The bus on JetStream. Cheap to clone; every clone uses one connection.
#[derive(Clone)]
pub struct JetStream(Arc<Shared>);

struct Shared {
    options: JetStreamOptions,
    client: Client,
    context: Context,
    link: Arc<Link>,
    queues: jobs::Queues,
}

/// What the client's events change.
#[derive(Default)]
struct Link {
    /// Whether our stream was seen to exist since the last connect. A server that comes back may
    /// have lost it.
    stream_exists: AtomicBool,
    /// The same of the stream with jobs.
    jobs_exist: AtomicBool,
    connected: Notify,
    /// How many connections there were.
    connections: watch::Sender<u64>,
}

impl JetStream {
    /// Sets the client up and begins to connect. It does not wait for the server: while NATS is
    /// away, [`Bus::publish`] fails at once and the streams are silent.
    ///
    /// # Errors
    /// When the options are malformed.
    pub async fn connect(options: JetStreamOptions) -> Result<Self, ConnectError> {
        for name in [&options.stream, &options.consumer] {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
                return Err(ConnectError::Name { name: name.chars().take(80).collect() });
            }
        }
        let servers = options
            .url
            .split(',')
            .map(|url| url.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(ConnectError::Url)?;
        let link = Arc::new(Link::default());
        let told = Arc::clone(&link);
        let mut connect = ConnectOptions::new()
            .name("fairlead")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(DEADLINE)
            .request_timeout(Some(DEADLINE))
            .reconnect_delay_callback(|attempt| {
                let doublings = u32::try_from(attempt.min(8)).unwrap_or(8);
                Duration::from_millis(50 << doublings).min(MAX_PAUSE)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => {
                        tracing::info!("connected to NATS");
                        told.stream_exists.store(false, Ordering::Release);
                        told.jobs_exist.store(false, Ordering::Release);
                        told.connected.notify_waiters();
                        told.connections.send_modify(|count| *count += 1);
                    }
                    // A refused login is a server's error, and lasts until somebody mends it.
                    Event::Disconnected | Event::LameDuckMode | Event::ServerError(_) => {
                        tracing::warn!("NATS: {event}");
                    }
                    Event::Draining
                    | Event::Closed
                    | Event::SlowConsumer(_)
                    | Event::ClientError(_) => tracing::debug!("NATS: {event}"),
                }
                std::future::ready(())
            });
        if let Some(credentials) = &options.credentials {
            connect =
                connect.credentials(credentials.expose()).map_err(ConnectError::Credentials)?;
        }
        let client = connect.connect(servers).await.map_err(ConnectError::Client)?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(DEADLINE);
        let queues = jobs::Queues::default();
        Ok(Self(Arc::new(Shared { options, client, context, link, queues })))
    }
}

/// What a stream of ours looks like.
fn stream_config(name: &str, subject: String) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: vec![subject],
        storage: stream::StorageType::File,
        retention: stream::RetentionPolicy::Limits,
        discard: stream::DiscardPolicy::Old,
        max_age: MAX_AGE,
        max_messages: MAX_MESSAGES,
        duplicate_window: DUPLICATE_WINDOW,
        description: Some("Events on their way to the pipelines of Fairlead".to_owned()),
        ..stream::Config::default()
    }
}

fn unavailable(
    doing: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> BusError {
    BusError::Unavailable { doing: doing.into(), source: source.into() }
}

impl Shared {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits until the server is there.
    async fn connected(&self) {
        loop {
            let connected = self.link.connected.notified();
            let mut connected = std::pin::pin!(connected);
            connected.as_mut().enable();
            if self.is_connected() {
                return;
            }
            connected.await;
        }
    }

    async fn ensure_stream(&self) -> Result<(), BusError> {
        if self.link.stream_exists.load(Ordering::Acquire) {
            return Ok(());
        }
        let name = &self.options.stream;
        let config = stream_config(name, format!("{SUBJECT}.>"));
        self.context
            .get_or_create_stream(config)
            .await
            .map_err(|e| unavailable(format!("create the stream {name}"), e))?;
        self.link.stream_exists.store(true, Ordering::Release);
        Ok(())
    }

    async fn send(&self, event: &CloudEvent) -> Result<(), BusError> {
        let doing = || format!("take event {}", event.id);
        if !self.is_connected() {
            // The client would keep the message in memory and send it when nobody waits any more.
            return Err(unavailable(doing(), "not connected to NATS"));
        }
        let document = event.to_json();
        // The server closes the connection on whoever sends more than it takes, headers included.
        let (size, limit) = (document.len() + HEADERS, self.client.max_payload());
        if size > limit {
            return Err(BusError::TooLarge { size, limit });
        }
        self.ensure_stream().await?;
        let message = PublishMessage::build()
            .payload(document.into())
            .message_id(&event.id)
            .header("Content-Type", STRUCTURED);
        let sent =
            async { self.context.send_publish(subject_of(&event.kind), message).await?.await };
        match tokio::time::timeout(DEADLINE, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_too_large(&error) => Err(BusError::TooLarge { size, limit }),
            Ok(Err(error)) => {
                self.link.stream_exists.store(false, Ordering::Release);
                Err(unavailable(doing(), error))
            }
            Err(late) => Err(unavailable(doing(), late)),
        }
    }

    /// Publishes for others. Where no stream keeps the subject yet, one is made, so that what is told while
    /// nobody listens is not lost.
    async fn send_on(&self, subject: &str, id: &str, body: &[u8]) -> Result<(), BusError> {
        let doing = || format!("take message {id}");
        if !self.is_connected() {
            return Err(unavailable(doing(), "not connected to NATS"));
        }
        let (size, limit) = (body.len() + HEADERS, self.client.max_payload());
        if size > limit {
            return Err(BusError::TooLarge { size, limit });
        }
        let publish = async || {
            let message = PublishMessage::build()
                .payload(body.to_vec().into())
                .message_id(id)
                .header("Content-Type", STRUCTURED);
            self.context.send_publish(subject.to_owned(), message).await?.await
        };
        let sent = async {
            match publish().await {
                Ok(_) => Ok(()),
                Err(error) if is_too_large(&error) => Err(BusError::TooLarge { size, limit }),
                Err(error) => {
                    if self.context.stream_by_subject(subject).await.is_ok() {
                        return Err(unavailable(doing(), error));
                    }
                    let name = out_stream(&self.options.stream, subject);
                    let config = stream_config(&name, subject.to_owned());
                    self.context
                        .get_or_create_stream(config)
                        .await
                        .map_err(|e| unavailable(format!("create a stream for `{subject}`"), e))?;
                    publish().await.map(drop).map_err(|e| unavailable(doing(), e))
                }
            }
        };
        match tokio::time::timeout(DEADLINE, sent).await {
            Ok(sent) => sent,
            Err(late) => Err(unavailable(doing(), late)),
        }
    }

    /// The messages for one consumer, which is created when absent.
    async fn messages(&self, wanted: &Wanted) -> Result<pull::Stream, BusError> {
        let (stream, deliver_policy) = match wanted {
            Wanted::Ours => {
                self.ensure_stream().await?;
                (self.options.stream.clone(), DeliverPolicy::All)
            }
            Wanted::Subject { name, subject } => self.subject_stream(name, subject).await?,
        };
        let ack_wait = self.options.ack_wait;
        let (durable, filter_subject, ack_wait) = match wanted {
            Wanted::Ours => (self.options.consumer.clone(), String::new(), ack_wait),
            Wanted::Subject { name, subject } => {
                let durable = format!("{}-{name}", self.options.consumer);
                (durable, subject.clone(), ack_wait.min(SUBJECT_ACK_WAIT))
            }
        };
        let config = pull::Config {
            durable_name: Some(durable.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            deliver_policy,
            filter_subject,
            ..pull::Config::default()
        };
        let doing = || format!("hand out the messages of {stream}");
        let consumer = self
            .context
            .get_stream_no_info(&stream)
            .await
            .map_err(|e| unavailable(doing(), e))?
            .get_or_create_consumer(&durable, config)
            .await
            .map_err(|e| unavailable(doing(), e))?;
        consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|e| unavailable(doing(), e))
    }

    /// The stream that keeps a subject of somebody else, and where to begin in it. Where nobody
    /// keeps the subject yet, a stream is made, so that what is published while no server of ours
    /// runs is not lost.
    async fn subject_stream(
        &self,
        name: &str,
        subject: &str,
    ) -> Result<(String, DeliverPolicy), BusError> {
        let ours = format!("{}-{name}", self.options.stream);
        match self.context.stream_by_subject(subject).await {
            Ok(found) if found == ours => Ok((found, DeliverPolicy::All)),
            // Somebody else's stream may hold years of pushes; they are nothing new.
            Ok(found) => Ok((found, DeliverPolicy::New)),
            Err(_) => {
                let config = stream_config(&ours, subject.to_owned());
                self.context
                    .get_or_create_stream(config)
                    .await
                    .map_err(|e| unavailable(format!("create a stream for `{subject}`"), e))?;
                Ok((ours, DeliverPolicy::All))
            }
        }
    }

    /// The next message. Whatever goes wrong is told, waited out, and tried again.
    async fn next(&self, wanted: &Wanted, open: &mut Option<pull::Stream>) -> jetstream::Message {
        loop {
            let Some(messages) = open.as_mut() else {
                self.connected().await;
                match self.messages(wanted).await {
                    Ok(messages) => *open = Some(messages),
                    Err(error) => {
                        tell(&error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            // After a reconnect the request that the messages come for is gone with the old
            // connection, and the consumer may be too.
            let again = tokio::select! {
                next = messages.next() => match next {
                    Some(Ok(message)) => return message,
                    Some(Err(error)) => {
                        tracing::debug!("NATS: {error}");
                        true
                    }
                    None => true,
                },
                () = self.link.connected.notified() => true,
            };
            if again {
                *open = None;
                self.link.stream_exists.store(false, Ordering::Release);
            }
        }
    }
}

/// The stream for a subject that nobody else keeps.
fn out_stream(ours: &str, subject: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    format!("{ours}-OUT-{}", subject.chars().map(plain).collect::<String>())
}

/// Whether the stream takes no messages of that size, whatever the server takes.
fn is_too_large(error: &jetstream::context::PublishError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<jetstream::Error>() {
            return error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM;
        }
        source = error.source();
    }
    false
}

fn tell(error: &BusError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(cause, "NATS: {error}; trying again");
}

/// Whose messages.
enum Wanted {
    Ours,
    Subject { name: String, subject: String },
}

/// `dev.fairlead.image.pushed.v1` goes to `fairlead.events.image.pushed`.
fn subject_of(kind: &str) -> String {
    let kind = kind.strip_prefix("dev.fairlead.").unwrap_or(kind);
    let kind = match kind.rsplit_once(".v") {
        Some((name, version)) if version.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => kind,
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let tokens = kind.split('.').filter(|token| !token.is_empty());
    let tokens: Vec<String> = tokens.map(|token| token.chars().map(plain).collect()).collect();
    format!("{SUBJECT}.{}", tokens.join("."))
}

/// One message handed out. When it is dropped unanswered, the server hands it out again after the
/// time that the options say.
struct Out {
    acker: jetstream::message::Acker,
    ack_wait: Duration,
}

impl Out {
    async fn answer(&self, kind: AckKind) -> Result<(), BusError> {
        self.acker.ack_with(kind).await.map_err(|e| unavailable("take an answer", e))
    }
}

impl Acknowledge for Out {
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(async move { self.answer(AckKind::Ack).await })
    }

    fn later(self: Box<Self>, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(async move { self.answer(AckKind::Nak(Some(delay))).await })
    }

    fn progress(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.answer(AckKind::Progress))
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.ack_wait)
    }
}

fn headers_of(message: &async_nats::Message) -> Headers {
    let Some(headers) = &message.headers else { return Headers::default() };
    let last = |values: &Vec<async_nats::HeaderValue>| values.last().map(ToString::to_string);
    headers.iter().filter_map(|(name, values)| Some((name.to_string(), last(values)?))).collect()
}

impl Bus for JetStream {
    fn publish<'a>(&'a self, event: &'a CloudEvent) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(self.0.send(event))
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<Deliveries, BusError>> {
        let state = (Arc::clone(&self.0), None);
        Box::pin(async move {
            let deliveries = futures::stream::unfold(state, |(shared, mut open)| async move {
                let message = shared.next(&Wanted::Ours, &mut open).await;
                let delivered = message.info().map_or(1, |info| info.delivered);
                let attempt = u64::try_from(delivered).unwrap_or(1);
                let (message, acker) = message.split();
                let event = CloudEvent::read(&headers_of(&message), &message.payload);
                let out = Out { acker, ack_wait: shared.options.ack_wait };
                Some((Delivery::new(event, attempt, Box::new(out)), (shared, open)))
            });
            Ok(Box::pin(deliveries) as Deliveries)
        })
    }

    fn subscribe_to<'a>(
        &'a self,
        name: &'a str,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<SubscribedDeliveries, BusError>> {
        let wanted = Wanted::Subject { name: name.to_owned(), subject: subject.to_owned() };
        let state = (Arc::clone(&self.0), wanted, None);
        Box::pin(async move {
            let deliveries =
                futures::stream::unfold(state, |(shared, wanted, mut open)| async move {
                    let (message, acker) = shared.next(&wanted, &mut open).await.split();
                    let headers = headers_of(&message);
                    let body = message.payload.to_vec();
                    let ack_wait = shared.options.ack_wait.min(SUBJECT_ACK_WAIT);
                    let out = Out { acker, ack_wait };
                    let delivery = SubscribedDelivery::new(headers, body, Box::new(out));
                    Some((delivery, (shared, wanted, open)))
                });
            Ok(Box::pin(deliveries) as SubscribedDeliveries)
        })
    }

    fn publish_on<'a>(
        &'a self,
        subject: &'a str,
        id: &'a str,
        body: &'a [u8],
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(self.0.send_on(subject, id, body))
    }

    fn recovered(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.0.is_connected() {
                // It is there and refused all the same; asking at once would only be a busy loop.
                tokio::time::sleep(PAUSE).await;
            } else {
                self.0.connected().await;
            }
        })
    }

    fn reachable(&self) -> bool {
        self.0.is_connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_that_of_the_type() {
        for (kind, subject) in [
            ("dev.fairlead.image.pushed.v1", "fairlead.events.image.pushed"),
            ("dev.fairlead.git.pushed.v12", "fairlead.events.git.pushed"),
            ("com.example.x", "fairlead.events.com.example.x"),
            ("a b.>.*", "fairlead.events.a-b.-.-"),
        ] {
            assert_eq!(subject_of(kind), subject);
        }
    }

    #[tokio::test]
    async fn useless_options_are_refused_at_once() {
        let connect = |change: fn(&mut JetStreamOptions)| async move {
            let mut options = JetStreamOptions::new("nats://127.0.0.1:1");
            change(&mut options);
            JetStream::connect(options).await.map(|_| ())
        };
        assert!(matches!(connect(|o| o.url = "ftp://x".into()).await, Err(ConnectError::Url(_))));
        assert!(matches!(
            connect(|o| o.stream = "a.b".into()).await,
            Err(ConnectError::Name { .. })
        ));
        assert!(matches!(
            connect(|o| o.credentials = Some(Secret::new("x".into()))).await,
            Err(ConnectError::Credentials(_))
        ));
    }

    #[tokio::test]
    async fn a_bus_that_is_away_says_so_at_once() {
        // Nothing listens on port 1.
        let bus = JetStream::connect(JetStreamOptions::new("nats://127.0.0.1:1")).await.unwrap();
        assert!(!bus.reachable());
        let event = CloudEvent {
            id: "1".into(),
            source: "/test".into(),
            kind: "t".into(),
            subject: None,
            time: None,
            data: serde_json::Value::Null,
        };
        let refused = tokio::time::timeout(Duration::from_secs(1), bus.publish(&event)).await;
        assert!(matches!(refused, Ok(Err(BusError::Unavailable { .. }))));
        assert!(bus.subscribe().await.is_ok());
    }
}
