//! The queue of jobs on JetStream, and the talk of servers and runners on plain NATS.
//!
//! All jobs are in one stream that keeps a message until it is acknowledged, under a subject for each
//! attempt, so that one can be looked for and taken out. Of messages under one subject only the last is
//! kept: to offer a job again is harmless, for a claim of it is granted once.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use async_nats::{Client, Request, Subject};
use bytes::Bytes;
use fairlead_event::{AskError, BusError, Heard, JobBus, JobOffer, Reply, is_pool_name};
use fairlead_step::BoxFuture;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{DEADLINE, JetStream, Out, PAUSE, Shared, unavailable};

/// Under which subject jobs are: the pool and the token stand behind it.
const SUBJECT: &str = "fairlead.jobs";
/// Under which subject is talked: the address stands behind it.
const TALK: &str = "fairlead.talk";
/// How long one request for a job waits for one. What comes back at the end of it, or does not, also tells
/// whether the connection is one.
const TAKE: Duration = Duration::from_secs(30);
/// How much later than that the server's answer may come.
const TAKE_ANSWER: Duration = Duration::from_secs(2);
/// After how long a job that was offered to somebody who does not answer is offered again.
const OFFER_WAIT: Duration = Duration::from_secs(15);
/// How long a job is kept that nobody takes. The server that offered it knows of it much longer.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Room for what stands around a message on the wire.
const AROUND: usize = 1024;

/// What is kept for jobs beside the connection.
#[derive(Default)]
pub(super) struct Queues {
    /// The consumers that were seen to exist.
    consumers: Mutex<HashMap<String, Consumer<pull::Config>>>,
}

impl Queues {
    fn known(&self, pool: &str) -> Option<Consumer<pull::Config>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner).get(pool).cloned()
    }

    fn keep(&self, pool: &str, consumer: Option<Consumer<pull::Config>>) {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        match consumer {
            Some(consumer) => consumers.insert(pool.to_owned(), consumer),
            None => consumers.remove(pool),
        };
    }
}

fn subject(pool: &str, token: &str) -> String {
    format!("{SUBJECT}.{pool}.{token}")
}

fn not_connected(doing: &str) -> BusError {
    unavailable(doing, "not connected to NATS")
}

impl Shared {
    fn jobs_stream(&self) -> String {
        format!("{}-JOBS", self.options.stream)
    }

    /// The stream with jobs, which is looked for once for each connection.
    async fn ensure_jobs(&self) -> Result<stream::Stream<()>, BusError> {
        let doing = || format!("create the stream {}", self.jobs_stream());
        if !self.link.jobs_exist.load(Ordering::Acquire) {
            self.create_jobs().await?;
            self.link.jobs_exist.store(true, Ordering::Release);
        }
        let stream = self.context.get_stream_no_info(self.jobs_stream()).await;
        stream.map_err(|error| unavailable(doing(), error))
    }

    /// A server may have lost the stream: the next one who needs it looks again.
    fn lost_jobs(
        &self,
        doing: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BusError {
        self.link.jobs_exist.store(false, Ordering::Release);
        unavailable(doing, source)
    }

    async fn create_jobs(&self) -> Result<(), BusError> {
        let config = stream::Config {
            name: self.jobs_stream(),
            subjects: vec![format!("{SUBJECT}.*.*")],
            storage: stream::StorageType::File,
            retention: stream::RetentionPolicy::WorkQueue,
            discard: stream::DiscardPolicy::Old,
            max_messages_per_subject: 1,
            max_age: MAX_AGE,
            description: Some("Jobs of Fairlead on their way to runners".to_owned()),
            ..stream::Config::default()
        };
        let doing = || format!("create the stream {}", self.jobs_stream());
        let made = self.context.get_or_create_stream(config);
        match tokio::time::timeout(DEADLINE, made).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unavailable(doing(), error)),
            Err(late) => Err(unavailable(doing(), late)),
        }
    }

    async fn offer_job(&self, pool: &str, token: &str, job: Bytes) -> Result<(), BusError> {
        let doing = format!("take the job {token} for pool `{pool}`");
        if !self.is_connected() {
            return Err(not_connected(&doing));
        }
        let (size, limit) = (job.len() + AROUND, self.client.max_payload());
        if size > limit {
            return Err(BusError::TooLarge { size, limit });
        }
        self.ensure_jobs().await?;
        let message = PublishMessage::build().payload(job);
        let sent = async { self.context.send_publish(subject(pool, token), message).await?.await };
        match tokio::time::timeout(DEADLINE, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost_jobs(&doing, error)),
            Err(late) => Err(self.lost_jobs(&doing, late)),
        }
    }

    async fn withdraw_job(&self, pool: &str, token: &str) -> Result<(), BusError> {
        let doing = format!("take the job {token} out of pool `{pool}`");
        if !self.is_connected() {
            return Err(not_connected(&doing));
        }
        let stream = self.ensure_jobs().await?;
        let purged = async { stream.purge().filter(subject(pool, token)).await };
        match tokio::time::timeout(DEADLINE, purged).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost_jobs(&doing, error)),
            Err(late) => Err(self.lost_jobs(&doing, late)),
        }
    }

    async fn has_job(&self, pool: &str, token: &str) -> Result<bool, BusError> {
        let doing = format!("look for the job {token} in pool `{pool}`");
        if !self.is_connected() {
            return Err(not_connected(&doing));
        }
        let stream = self.ensure_jobs().await?;
        let subject = subject(pool, token);
        let found = stream.get_last_raw_message_by_subject(&subject);
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => {
                Ok(false)
            }
            Ok(Err(error)) => Err(self.lost_jobs(&doing, error)),
            Err(late) => Err(self.lost_jobs(&doing, late)),
        }
    }

    async fn pool_consumer(&self, pool: &str) -> Result<Consumer<pull::Config>, BusError> {
        if let Some(consumer) = self.queues.known(pool) {
            return Ok(consumer);
        }
        let durable = format!("pool-{pool}");
        let config = pull::Config {
            durable_name: Some(durable.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: OFFER_WAIT,
            deliver_policy: DeliverPolicy::All,
            filter_subject: format!("{SUBJECT}.{pool}.*"),
            ..pull::Config::default()
        };
        let stream = self.ensure_jobs().await?;
        let doing = || format!("hand out the jobs of pool `{pool}`");
        let made = stream.get_or_create_consumer(&durable, config);
        let consumer = match tokio::time::timeout(DEADLINE, made).await {
            Ok(Ok(consumer)) => consumer,
            Ok(Err(error)) => return Err(self.lost_jobs(&doing(), error)),
            Err(late) => return Err(self.lost_jobs(&doing(), late)),
        };
        self.queues.keep(pool, Some(consumer.clone()));
        Ok(consumer)
    }

    async fn take_job(&self, pool: &str) -> Result<Option<JobOffer>, BusError> {
        let consumer = self.pool_consumer(pool).await?;
        let doing = || format!("hand out a job of pool `{pool}`");
        let mut connected = pin!(self.link.connected.notified());
        connected.as_mut().enable();
        let asked = consumer.batch().max_messages(1).expires(TAKE).messages();
        let mut messages = asked.await.map_err(|e| unavailable(doing(), e))?;
        let next = async {
            tokio::select! {
                next = messages.next() => next,
                // Nobody answers what was asked over a connection that is gone.
                () = connected => None,
            }
        };
        let message = match tokio::time::timeout(TAKE + TAKE_ANSWER, next).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                return Err(BusError::Unavailable { doing: doing(), source: error });
            }
            Ok(None) => return Ok(None),
            Err(late) => {
                // It is open, and says nothing.
                let _ = self.client.force_reconnect().await;
                return Err(unavailable(doing(), late));
            }
        };
        let times = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
        let (message, acker) = message.split();
        let token = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        let out = Out { acker, ack_wait: OFFER_WAIT };
        Ok(Some(JobOffer::new(message.payload, token, times, Box::new(out))))
    }
}

/// Where an answer is waited for.
struct NatsReply {
    client: Client,
    inbox: Subject,
}

impl Reply for NatsReply {
    fn send(self: Box<Self>, answer: Bytes) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.client.publish(self.inbox, answer).await {
                tracing::debug!("NATS: an answer was not sent: {error}");
            }
        })
    }
}

impl JobBus for JetStream {
    fn offer<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
        job: Bytes,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(self.0.offer_job(pool, token, job))
    }

    fn withdraw<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(self.0.withdraw_job(pool, token))
    }

    fn is_offered<'a>(
        &'a self,
        pool: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<bool, BusError>> {
        Box::pin(self.0.has_job(pool, token))
    }

    fn take<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Option<JobOffer>> {
        Box::pin(async move {
            debug_assert!(is_pool_name(pool), "{pool}");
            if !self.0.is_connected() {
                let _ = tokio::time::timeout(TAKE, self.0.connected()).await;
                return None;
            }
            match self.0.take_job(pool).await {
                Ok(offer) => offer,
                Err(error) => {
                    // A server that lost its streams has no such consumer any more.
                    self.0.queues.keep(pool, None);
                    tracing::debug!("{error}: {:?}", std::error::Error::source(&error));
                    tokio::time::sleep(PAUSE).await;
                    None
                }
            }
        })
    }

    fn ask<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>> {
        Box::pin(async move {
            if !self.0.is_connected() {
                return Err(not_connected("carry a question").into());
            }
            let request = Request::new().payload(message).timeout(Some(patience));
            let asked = self.0.client.send_request(format!("{TALK}.{address}"), request);
            // The client's own limit begins once the question is on its way.
            let answer = match tokio::time::timeout(patience + PAUSE, asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    return Err(AskError::TimedOut { address: address.into(), after: patience });
                }
            };
            answer.map(|answer| answer.payload).map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => AskError::Nobody { address: address.into() },
                RequestErrorKind::TimedOut => {
                    AskError::TimedOut { address: address.into(), after: patience }
                }
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => unavailable("carry a question", error).into(),
            })
        })
    }

    fn tell<'a>(&'a self, address: &'a str, message: Bytes) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            if !self.0.is_connected() {
                return Err(not_connected("carry a message"));
            }
            let sent = self.0.client.publish(format!("{TALK}.{address}"), message);
            match tokio::time::timeout(DEADLINE, sent).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(unavailable("carry a message", error)),
                Err(late) => Err(unavailable("carry a message", late)),
            }
        })
    }

    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Heard>, BusError>> {
        Box::pin(async move {
            let subscribed = self.0.client.subscribe(format!("{TALK}.{address}"));
            let messages = match tokio::time::timeout(DEADLINE, subscribed).await {
                Ok(Ok(messages)) => messages,
                Ok(Err(error)) => return Err(unavailable("listen", error)),
                Err(late) => return Err(unavailable("listen", late)),
            };
            let client = self.0.client.clone();
            let heard = messages.map(move |message| {
                let reply = message.reply.map(|inbox| {
                    let client = client.clone();
                    Box::new(NatsReply { client, inbox }) as Box<dyn Reply>
                });
                Heard { message: message.payload, reply }
            });
            Ok(Box::pin(heard) as BoxStream<'static, Heard>)
        })
    }

    fn largest(&self) -> usize {
        self.0.client.max_payload().saturating_sub(AROUND)
    }

    fn connected(&self) -> bool {
        self.0.is_connected()
    }

    fn connections(&self) -> BoxStream<'static, ()> {
        let state = (self.0.link.connections.subscribe(), 0);
        Box::pin(futures::stream::unfold(state, |(mut count, seen)| async move {
            let now = *count.wait_for(|now| *now > seen).await.ok()?;
            Some(((), (count, now)))
        }))
    }
}
