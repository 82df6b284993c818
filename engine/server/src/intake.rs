//! The intake: an event is stored once, under the identity of what happened, before anybody is told
//! that it was taken.

use std::sync::Arc;

use fairlead_event::{
    ChangedPaths, CloudEvent, DedupKey, HISTORY, ImagePushed, Place, SourceEvent, repeated,
};
use fairlead_run::{EventStore, Inserted, NewEvent, StoreError};
use fairlead_step::Clock;
use tokio::sync::Notify;

/// How often a place is looked at again when others keep writing to it.
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
pub(crate) enum IntakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the event cannot be written down: {reason}")]
    Envelope { reason: String },
    #[error("too many reports of `{subject}` at once")]
    Contended { subject: String },
}

pub(crate) struct Intake {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when something new is stored.
    pub(crate) stored: Notify,
}

impl Intake {
    /// Stores an event that `source` reports, unless it is stored.
    pub(crate) async fn accept(
        &self,
        source: &str,
        event: SourceEvent,
    ) -> Result<Accepted, IntakeError> {
        let accepted = match (event.place(), &event) {
            (Some(place), SourceEvent::ImagePushed(push)) => {
                self.accept_at(source, &place, push).await?
            }
            (Some(_) | None, _) => {
                let key = event.dedup_key();
                let duplicate = !self.insert(source, &key, event.clone()).await?;
                Accepted { id: key.to_string(), subject: event.subject(), duplicate }
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
    ) -> Result<Accepted, IntakeError> {
        let event = SourceEvent::ImagePushed(push.clone());
        let subject = event.subject();
        for _ in 0..RACES {
            let next = self.next_number(place).await?;
            let (history, numbers) = self.history(place, next).await?;
            if let Some(known) = repeated(push, &history) {
                let id = place.key(numbers[known]).to_string();
                return Ok(Accepted { id, subject, duplicate: true });
            }
            let key = place.key(next);
            if self.insert(source, &key, event.clone()).await? {
                return Ok(Accepted { id: key.to_string(), subject, duplicate: false });
            }
            // Somebody took the number meanwhile; what they stored may be the same push.
        }
        Err(IntakeError::Contended { subject })
    }

    /// The first number of a place that is free. The numbers have no gaps.
    async fn next_number(&self, place: &Place) -> Result<u64, StoreError> {
        if !self.is_taken(place, 0).await? {
            return Ok(0);
        }
        let (mut taken, mut free) = (0, 1);
        while self.is_taken(place, free).await? {
            taken = free;
            free *= 2;
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if self.is_taken(place, middle).await? {
                taken = middle;
            } else {
                free = middle;
            }
        }
        Ok(free)
    }

    async fn is_taken(&self, place: &Place, number: u64) -> Result<bool, StoreError> {
        Ok(self.events.event(place.key(number).as_str()).await?.is_some())
    }

    /// What happened at a place before `next`, newest first, with the numbers.
    async fn history(
        &self,
        place: &Place,
        next: u64,
    ) -> Result<(Vec<ImagePushed>, Vec<u64>), StoreError> {
        let (mut pushes, mut numbers) = (Vec::new(), Vec::new());
        for number in (0..next).rev().take(HISTORY) {
            let stored = self.events.event(place.key(number).as_str()).await?;
            let event = stored.and_then(|stored| read(&stored.event.document).ok());
            if let Some(SourceEvent::ImagePushed(push)) = event {
                pushes.push(push);
                numbers.push(number);
            }
        }
        Ok((pushes, numbers))
    }

    /// Whether the event was new.
    async fn insert(
        &self,
        source: &str,
        key: &DedupKey,
        mut event: SourceEvent,
    ) -> Result<bool, IntakeError> {
        let received_at = self.clock.now();
        let envelope = |event: &SourceEvent| {
            event
                .to_cloud_event(source, key, received_at)
                .map(|event| event.to_json())
                .map_err(|e| IntakeError::Envelope { reason: e.to_string() })
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
            return Err(IntakeError::Envelope { reason });
        }
        let key = key.to_string();
        let new = NewEvent { id: key.clone(), key, received_at, document };
        Ok(match self.events.insert(new).await? {
            Inserted::New => true,
            Inserted::Duplicate { .. } => false,
        })
    }
}

/// Reads a stored event.
pub(crate) fn read(document: &str) -> Result<SourceEvent, fairlead_event::CloudEventError> {
    SourceEvent::from_cloud_event(&CloudEvent::from_json(document.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use fairlead_step::Digest;
    use jiff::Timestamp;

    use super::*;

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn intake() -> Arc<Intake> {
        let events = fairlead_store::Store::memory().events();
        Arc::new(Intake { events, clock: Arc::new(Epoch), stored: Notify::new() })
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
        let intake = intake();
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
            let accepted = intake.accept("test", push(content, at)).await.unwrap();
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
    async fn of_many_reports_at_once_one_is_new() {
        let intake = intake();
        let reports = (0..32).map(|_| {
            let intake = Arc::clone(&intake);
            tokio::spawn(async move { intake.accept("test", push("a", 1)).await.unwrap() })
        });
        let accepted = futures::future::join_all(reports).await;
        let new = accepted.into_iter().filter(|a| !a.as_ref().unwrap().duplicate).count();
        assert_eq!(new, 1);
    }

    #[tokio::test]
    async fn a_list_of_files_that_is_too_long_is_unknown() {
        let intake = intake();
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
        let accepted = intake.accept("test", event).await.unwrap();
        let stored = intake.events.event(&accepted.id).await.unwrap().unwrap();
        let SourceEvent::GitPushed(push) = read(&stored.event.document).unwrap() else {
            panic!("it is a git push");
        };
        assert_eq!(push.paths, ChangedPaths::Unknown);
    }
}
