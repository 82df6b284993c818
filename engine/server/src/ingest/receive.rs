//! What a source has sent, by whichever door: its proof, then what it says, then the store.

use std::sync::Arc;

use fairlead_event::{Head, Headers, Incoming, ReceiveError};
use fairlead_step::Clock;
use serde_json::Value;

use super::accept::{Accepted, Ingest, IngestError};
use super::sources::{Source, Sources};
use crate::current::Current;

/// What is made of messages.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) sources: Current<Sources>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a message came to.
pub(crate) struct Received {
    /// The events in it, each of which is stored.
    pub(crate) events: Vec<Accepted>,
    /// What in it is no event, and why.
    pub(crate) ignored: Vec<String>,
    /// What in it can be no event, and why.
    pub(crate) refused: Vec<String>,
    /// What the sender wants to read as the answer, where it asks whether it may send at all.
    pub(crate) answer: Option<Value>,
}

/// How a message came.
#[derive(Clone, Copy)]
pub(crate) enum Door<'a> {
    /// Over HTTP, to an address with this end behind the name of the source.
    Http { address_end: Option<&'a str> },
    /// On a subject whose permissions say who may publish there.
    Nats,
}

/// Why a message was not taken. Its sender must not be told otherwise.
pub(crate) enum NotTaken {
    /// It has no proof, or says nothing that can be read.
    Refused(ReceiveError),
    /// It could not be stored.
    NotStored(IngestError),
}

impl Receiver {
    /// The source called `name`, when it may be sent to over HTTP.
    pub(crate) fn by_http(&self, name: &str) -> Option<Arc<Source>> {
        self.sources.get().shared(name).filter(|source| source.http)
    }

    /// Checks what of the proof stands in the head of a message that came over HTTP.
    pub(crate) fn head(
        &self,
        source: &Source,
        headers: &Headers,
        address_end: Option<&str>,
    ) -> Result<(), ReceiveError> {
        source.sender.head(Head { headers, address_end, now: self.clock.now() })
    }

    /// Stores what `source`, called `name`, has sent.
    pub(crate) async fn take(
        &self,
        name: &str,
        source: &Source,
        headers: &Headers,
        body: &[u8],
        door: Door<'_>,
    ) -> Result<Received, NotTaken> {
        let (address_end, trusted_channel) = match door {
            Door::Http { address_end } => (address_end, false),
            Door::Nats => (None, true),
        };
        let now = self.clock.now();
        let incoming = Incoming { headers, address_end, body, now, trusted_channel };
        let received = source.sender.receive(incoming).map_err(NotTaken::Refused)?;
        let is_batch = received.events.len() + received.ignored.len() + received.refused.len() > 1;
        // What is part of a trace says so itself, or by the request that brings it.
        let trace = headers.get("ce-traceparent").or_else(|| headers.get("traceparent"));
        let (mut events, mut refused) = (Vec::new(), received.refused);
        for event in received.events {
            let subject = event.subject();
            let accepted = match self.ingest.accept_within(name, event, trace).await {
                Ok(accepted) => accepted,
                // What can never be stored must not take the rest of its message with it.
                Err(error @ IngestError::Envelope { .. }) if is_batch => {
                    refused.push(format!("{subject}: {error}"));
                    continue;
                }
                Err(error) => return Err(NotTaken::NotStored(error)),
            };
            let (id, duplicate) = (&accepted.id, accepted.duplicate);
            tracing::info!(source = name, event = id, duplicate, "{}", accepted.subject);
            events.push(accepted);
        }
        for why in &received.ignored {
            tracing::debug!(source = name, "ignored: {why}");
        }
        for why in &refused {
            tracing::warn!(source = name, "a part of a message is refused: {why}");
        }
        Ok(Received { events, ignored: received.ignored, refused, answer: received.answer })
    }
}
