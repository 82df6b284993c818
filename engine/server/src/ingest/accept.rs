//! The ingest: an event is stored once, under the identity of what happened, before anybody is told
//! that it was taken.

use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{
    ChangedPaths, CloudEvent, DedupKey, ImagePushed, KnownPush, Place, SourceEvent, repeated,
};
use fairlead_run::{EventStore, Inserted, NewEvent, StoreError, TagPush};
use fairlead_step::{Clock, Digest};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::telemetry::TraceParent;

/// How often a tag is looked at again when others keep writing to it.
const RACES: usize = 16;

/// The most bytes of a stored event. A NATS server takes messages of 1 MiB, headers included.
const MAX_DOCUMENT: usize = 512 << 10;
const _: () = assert!(MAX_DOCUMENT <= NewEvent::MAX_BYTES);

/// What taking an event came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The id under which it is stored.
    pub(crate) id: String,
    /// What it is about.
    pub(crate) subject: String,
    /// Whether it was stored before.
    pub(crate) duplicate: bool,
}

/// Why an event was not taken. Its sender must not be told otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the event cannot be written down: {reason}")]
    Envelope { reason: String },
    #[error("too many reports of `{subject}` at once")]
    Contended { subject: String },
}

/// The one door to the store of events.
pub(crate) struct Ingest {
    events: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    /// How long the outbox has to put an event on the bus, before the store hands it out itself.
    direct: Duration,
    /// Told when something new is stored.
    stored: Notify,
}

impl Ingest {
    pub(crate) fn new(
        events: Arc<dyn EventStore>,
        clock: Arc<dyn Clock>,
        direct: Duration,
    ) -> Self {
        Self { events, clock, direct, stored: Notify::new() }
    }

    /// Waits until something new is stored.
    pub(super) async fn stored(&self) {
        self.stored.notified().await;
    }

    /// Stores an event that `source` reports, unless it is stored.
    pub(crate) async fn accept(
        &self,
        source: &str,
        event: SourceEvent,
    ) -> Result<Accepted, IngestError> {
        self.accept_within(source, event, None).await
    }

    /// The same of an event that is part of a trace, which the runs that it starts continue.
    pub(crate) async fn accept_within(
        &self,
        source: &str,
        event: SourceEvent,
        trace: Option<&str>,
    ) -> Result<Accepted, IngestError> {
        let trace = trace.filter(|trace| TraceParent::parse(trace).is_some());
        let tagged = if let SourceEvent::ImagePushed(push) = &event
            && let (Some(place), Some(digest)) = (event.place(), push.digest.clone())
        {
            Some((push, place, digest))
        } else {
            None
        };
        let accepted = match tagged {
            Some((push, place, digest)) => {
                self.accept_at(source, &place, push, &digest, trace).await?
            }
            None => {
                let (key, subject) = (event.key_from(source), event.subject());
                let inserted =
                    self.insert(source, &key, event, None, self.clock.now(), trace).await?;
                let duplicate = inserted != Inserted::New;
                Accepted { id: key.to_string(), subject, duplicate }
            }
        };
        if !accepted.duplicate {
            self.stored.notify_one();
        }
        Ok(accepted)
    }

    /// Stores a push to a tag as the next thing that happened there, unless it is known.
    async fn accept_at(
        &self,
        source: &str,
        place: &Place,
        push: &ImagePushed,
        digest: &Digest,
        trace: Option<&str>,
    ) -> Result<Accepted, IngestError> {
        let event = SourceEvent::ImagePushed(push.clone());
        let subject = event.subject();
        for _ in 0..RACES {
            let history = self.events.history(place.as_str()).await?;
            let known: Vec<KnownPush> = history
                .iter()
                .map(|push| KnownPush { digest: push.digest.clone(), at: push.at })
                .collect();
            if let Some(same) = repeated(push, &known) {
                return Ok(Accepted { id: history[same].key.clone(), subject, duplicate: true });
            }
            let received_at = self.clock.now();
            // Others may be forgotten, and numbers may have gaps: only the newest counts.
            let number = history.first().map_or(1, |newest| newest.number + 1);
            let key = place.key(number, digest, received_at);
            let next = TagPush {
                tag: place.as_str().to_owned(),
                number,
                key: key.to_string(),
                digest: digest.clone(),
                at: push.at,
            };
            let inserted =
                self.insert(source, &key, event.clone(), Some(next), received_at, trace).await?;
            match inserted {
                Inserted::New => {
                    return Ok(Accepted { id: key.to_string(), subject, duplicate: false });
                }
                // Somebody took the number meanwhile; what they stored may be the same push.
                Inserted::Overtaken | Inserted::Duplicate { .. } => {}
            }
        }
        Err(IngestError::Contended { subject })
    }

    async fn insert(
        &self,
        source: &str,
        key: &DedupKey,
        mut event: SourceEvent,
        push: Option<TagPush>,
        received_at: Timestamp,
        trace: Option<&str>,
    ) -> Result<Inserted, IngestError> {
        let envelope = |event: &SourceEvent| {
            event
                .to_cloud_event(source, key, received_at)
                .map(|event| traced(event.to_json(), trace))
                .map_err(|e| IngestError::Envelope { reason: e.to_string() })
        };
        let mut document = envelope(&event)?;
        if document.len() > MAX_DOCUMENT
            && let SourceEvent::GitPushed(push) = &mut event
        {
            // A list of files that long is as good as unknown.
            push.paths = ChangedPaths::Unknown;
            document = envelope(&event)?;
        }
        if document.len() > MAX_DOCUMENT {
            let reason = format!("it has more than {MAX_DOCUMENT} bytes");
            return Err(IngestError::Envelope { reason });
        }
        let key = key.to_string();
        let due_at = later(received_at, self.direct);
        let new = NewEvent { id: key.clone(), key, received_at, due_at, document, push };
        Ok(self.events.insert(new).await?)
    }
}

/// The document of an event that is part of a trace (the extension attribute of CloudEvents for that).
fn traced(document: String, trace: Option<&str>) -> String {
    match (trace, document.strip_prefix('{')) {
        // It has been read, and is digits and dashes.
        (Some(trace), Some(rest)) => format!("{{\"traceparent\":\"{}\",{rest}", trace.trim()),
        _ => document,
    }
}

/// So much later; at the end of time when there is no such moment.
pub(crate) fn later(at: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    at.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// Reads a stored event.
pub(crate) fn read(document: &str) -> Result<SourceEvent, fairlead_event::CloudEventError> {
    SourceEvent::from_cloud_event(&CloudEvent::from_json(document.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn ingest() -> Arc<Ingest> {
        let events = fairlead_store::Store::memory().events();
        intake_of(events)
    }

    fn intake_of(events: Arc<dyn EventStore>) -> Arc<Ingest> {
        let direct = Duration::from_secs(2);
        Arc::new(Ingest::new(events, Arc::new(Epoch), direct))
    }

    fn push(content: &str, at: i64) -> SourceEvent {
        SourceEvent::ImagePushed(ImagePushed {
            repository: "r.example.com/shop".parse().unwrap(),
            tag: Some("stable".into()),
            digest: Some(Digest::sha256(content.as_bytes())),
            media_type: None,
            actor: None,
            at: Some(Timestamp::from_second(at).unwrap()),
        })
    }

    #[tokio::test]
    async fn a_tag_may_come_back_and_a_report_may_not() {
        let ingest = ingest();
        let mut ids = Vec::new();
        for (content, at, duplicate) in [
            ("a", 1, false),
            ("a", 1, true),
            ("a", 5, true),
            ("b", 10, false),
            ("a", 1, true),
            ("a", 20, false),
            ("b", 10, true),
            ("b", 30, false),
            ("c", 40, false),
            ("d", 50, false),
            ("a", 20, true),
        ] {
            let accepted = ingest.accept("test", push(content, at)).await.unwrap();
            assert_eq!(accepted.duplicate, duplicate, "{content} at {at}");
            if !duplicate {
                assert!(!ids.contains(&accepted.id));
                ids.push(accepted.id);
            } else {
                assert!(ids.contains(&accepted.id), "a duplicate names the event that is stored");
            }
        }
    }

    #[tokio::test]
    async fn what_is_known_of_a_tag_outlives_its_events() {
        let store = fairlead_store::Store::memory();
        let ingest = intake_of(store.events());
        let git = SourceEvent::GitPushed(fairlead_event::GitPushed {
            repository: "acme/shop".into(),
            clone_url: None,
            ssh_url: None,
            reference: "refs/heads/main".parse().unwrap(),
            before: None,
            after: Some("b".repeat(40).parse().unwrap()),
            commit: None,
            forced: false,
            paths: ChangedPaths::Unknown,
            actor: None,
        });
        let accepted = async |event: SourceEvent| ingest.accept("test", event).await.unwrap();
        let first = accepted(push("a", 1)).await;
        let second = accepted(push("b", 10)).await;
        let pushed = accepted(git.clone()).await;
        for event in [&first, &second, &pushed] {
            let done = Timestamp::UNIX_EPOCH;
            ingest.events.mark_handled(&event.id, done).await.unwrap();
        }
        let day = Duration::from_secs(24 * 3600);
        let rules = fairlead_store::PruneRules::at(later(Timestamp::UNIX_EPOCH, day * 90));
        let report = store.prune(&rules.older_than(day), false).await.unwrap();
        assert_eq!(report.events.count, 3);
        // The same deliveries: what the tag holds, what it held before, a push to a branch.
        for (event, of) in [(push("b", 10), &second), (push("a", 1), &first), (git, &pushed)] {
            let again = accepted(event).await;
            assert!(again.duplicate && again.id == of.id, "{again:?}");
        }
        // Something new, and something that comes back.
        for (content, at) in [("c", 20), ("a", 30), ("b", 40)] {
            let new = accepted(push(content, at)).await;
            assert!(!new.duplicate, "{content}");
            assert!(ingest.events.event(&new.id).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn of_many_reports_at_once_one_is_new() {
        let ingest = ingest();
        let reports = (0..32).map(|_| {
            let ingest = Arc::clone(&ingest);
            tokio::spawn(async move { ingest.accept("test", push("a", 1)).await.unwrap() })
        });
        let accepted = futures::future::join_all(reports).await;
        let new = accepted.into_iter().filter(|a| !a.as_ref().unwrap().duplicate).count();
        assert_eq!(new, 1);
    }

    #[tokio::test]
    async fn a_list_of_files_that_is_too_long_is_unknown() {
        let ingest = ingest();
        let event = SourceEvent::GitPushed(fairlead_event::GitPushed {
            repository: "acme/shop".into(),
            clone_url: None,
            ssh_url: None,
            reference: "refs/heads/main".parse().unwrap(),
            before: Some("a".repeat(40).parse().unwrap()),
            after: Some("b".repeat(40).parse().unwrap()),
            commit: None,
            forced: false,
            paths: ChangedPaths::Known(
                (0..5000).map(|n| format!("{n}-{}", "x".repeat(250))).collect(),
            ),
            actor: None,
        });
        let accepted = ingest.accept("test", event).await.unwrap();
        let stored = ingest.events.event(&accepted.id).await.unwrap().unwrap();
        let SourceEvent::GitPushed(push) = read(&stored.document).unwrap() else {
            panic!("it is a git push");
        };
        assert_eq!(push.paths, ChangedPaths::Unknown);
    }
}
