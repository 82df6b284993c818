//! The envelope: CloudEvents 1.0, structured (JSON format) and binary (headers).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{DedupKey, SourceEvent};

/// The media type of the structured mode (CloudEvents JSON format 1.0, section 3).
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The longest attribute that is taken, in bytes.
const MAX_ATTRIBUTE: usize = 2048;

/// The headers of a message, their names in lower case. Of a repeated header the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The value of `name`, which is written in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}

impl<K: AsRef<str>, V: Into<String>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(headers: I) -> Self {
        let lower = |(name, value): (K, V)| (name.as_ref().to_ascii_lowercase(), value.into());
        Self(headers.into_iter().map(lower).collect())
    }
}

/// One CloudEvent (specification 1.0.2), its data as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// `id`: with `source`, what tells it from others.
    pub id: String,
    /// `source`: who says it, a URI reference.
    pub source: String,
    /// `type`: what happened, such as `dev.fairlead.image.pushed.v1`.
    pub kind: String,
    /// `subject`: what it happened to.
    pub subject: Option<String>,
    /// `time`: when it happened.
    pub time: Option<Timestamp>,
    /// `data`.
    pub data: Value,
}

/// Why bytes are not a CloudEvent, or not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudEventError {
    /// The bytes are not JSON.
    #[error("the {what} is not JSON: {reason}")]
    NotJson {
        /// Which bytes: the event or its data.
        what: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// An attribute is missing or wrong.
    #[error("the attribute `{attribute}` of the CloudEvent {problem}")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// It is not of a type that Fairlead defines.
    #[error("`{kind}` is not a type of event that Fairlead defines")]
    ForeignType {
        /// The type.
        kind: String,
    },
    /// The data is not what the type promises.
    #[error("the data of the `{kind}` event is malformed: {reason}")]
    Data {
        /// The type.
        kind: String,
        /// What the reader said.
        reason: String,
    },
}

impl CloudEvent {
    /// Reads a message in whichever mode it is: structured when its content type says so or when
    /// there are no `ce-` headers, else binary.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(headers: &Headers, body: &[u8]) -> Result<Self, CloudEventError> {
        let structured = headers.get("content-type").is_some_and(|t| t.starts_with(STRUCTURED));
        if structured || headers.get("ce-specversion").is_none() {
            Self::from_json(body)
        } else {
            Self::from_headers(headers, body)
        }
    }

    /// Reads the structured mode.
    ///
    /// # Errors
    /// When the bytes are not a CloudEvent of version 1.0 whose data is JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CloudEventError> {
        let object = serde_json::from_slice(bytes)
            .map_err(|e| CloudEventError::NotJson { what: "event", reason: e.to_string() })?;
        Self::from_object(object)
    }

    /// Reads the object of the structured mode.
    pub(crate) fn from_object(mut object: Map<String, Value>) -> Result<Self, CloudEventError> {
        let data = match (object.remove("data"), object.remove("data_base64")) {
            (Some(data), None) => data,
            (None, Some(Value::String(text))) => {
                let bytes = STANDARD.decode(text).map_err(|_| CloudEventError::Attribute {
                    attribute: "data_base64",
                    problem: "is not base64",
                })?;
                json_data(&bytes)?
            }
            (None, None) => Value::Null,
            (_, Some(_)) => {
                return Err(CloudEventError::Attribute {
                    attribute: "data_base64",
                    problem: "must be text and stand without `data`",
                });
            }
        };
        let attribute = |name: &str| match object.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        Self::with_attributes(attribute, data)
    }

    /// Reads the binary mode: `ce-` headers, the body is the data alone (HTTP protocol binding 1.0,
    /// section 3.1; the NATS binding uses the same names).
    ///
    /// # Errors
    /// When the headers are not those of a CloudEvent of version 1.0, or the body is not JSON.
    pub fn from_headers(headers: &Headers, body: &[u8]) -> Result<Self, CloudEventError> {
        let data = if body.is_empty() { Value::Null } else { json_data(body)? };
        Self::with_attributes(|name| headers.get(&format!("ce-{name}")).map(str::to_owned), data)
    }

    fn with_attributes(
        attribute: impl Fn(&str) -> Option<String>,
        data: Value,
    ) -> Result<Self, CloudEventError> {
        let wrong = |attribute, problem| CloudEventError::Attribute { attribute, problem };
        let required = |name: &'static str| match attribute(name) {
            None => Err(wrong(name, "is missing")),
            Some(text) if text.is_empty() => Err(wrong(name, "is empty")),
            Some(text) if text.len() > MAX_ATTRIBUTE => {
                Err(wrong(name, "is longer than 2048 bytes"))
            }
            Some(text) => Ok(text),
        };
        if required("specversion")? != "1.0" {
            return Err(wrong("specversion", "is not 1.0"));
        }
        let time = attribute("time")
            .map(|text| text.parse().map_err(|_| wrong("time", "is not a time (RFC 3339)")))
            .transpose()?;
        let subject = attribute("subject").filter(|s| !s.is_empty() && s.len() <= MAX_ATTRIBUTE);
        Ok(Self {
            id: required("id")?,
            source: required("source")?,
            kind: required("type")?,
            subject,
            time,
            data,
        })
    }

    /// The structured form.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.kind,
            "datacontenttype": "application/json",
            "data": self.data,
        });
        if let Some(subject) = &self.subject {
            object["subject"] = json!(subject);
        }
        if let Some(time) = &self.time {
            object["time"] = json!(time);
        }
        object.to_string()
    }
}

fn json_data(bytes: &[u8]) -> Result<Value, CloudEventError> {
    serde_json::from_slice(bytes)
        .map_err(|e| CloudEventError::NotJson { what: "data", reason: e.to_string() })
}

/// The types that Fairlead defines. The number at the end is the version of the data's shape.
const IMAGE_PUSHED: &str = "dev.fairlead.image.pushed.v1";
const GIT_PUSHED: &str = "dev.fairlead.git.pushed.v1";
const RUN_REQUESTED: &str = "dev.fairlead.run.requested.v1";
const PULL_REQUEST: &str = "dev.fairlead.git.pull_request.v1";
const COMMENT: &str = "dev.fairlead.git.commented.v1";
const RELEASE: &str = "dev.fairlead.git.released.v1";
const IMAGE_DELETED: &str = "dev.fairlead.image.deleted.v1";
const IMAGE_SCANNED: &str = "dev.fairlead.image.scanned.v1";
const CUSTOM: &str = "dev.fairlead.event.received.v1";
const SCHEDULE_DUE: &str = "dev.fairlead.schedule.due.v1";
const RUN_FINISHED: &str = "dev.fairlead.run.finished.v1";

impl SourceEvent {
    /// The event in its envelope. `source` is the name of the source in the configuration of the
    /// server, `key` the identity under which it is stored, `time` when it was received.
    ///
    /// # Errors
    /// Never for an event that one of the senders made; when a text in it is no JSON otherwise.
    pub fn to_cloud_event(
        &self,
        source: &str,
        key: &DedupKey,
        time: Timestamp,
    ) -> Result<CloudEvent, CloudEventError> {
        let (kind, data) = match self {
            Self::ImagePushed(push) => (IMAGE_PUSHED, serde_json::to_value(push)),
            Self::GitPushed(push) => (GIT_PUSHED, serde_json::to_value(push)),
            Self::Requested(request) => (RUN_REQUESTED, serde_json::to_value(request)),
            Self::PullRequest(request) => (PULL_REQUEST, serde_json::to_value(request)),
            Self::Comment(comment) => (COMMENT, serde_json::to_value(comment)),
            Self::Release(release) => (RELEASE, serde_json::to_value(release)),
            Self::ImageDeleted(deleted) => (IMAGE_DELETED, serde_json::to_value(deleted)),
            Self::ImageScanned(scanned) => (IMAGE_SCANNED, serde_json::to_value(scanned)),
            Self::Custom(event) => (CUSTOM, serde_json::to_value(event)),
            Self::Scheduled(due) => (SCHEDULE_DUE, serde_json::to_value(due)),
            Self::RunFinished(ended) => (RUN_FINISHED, serde_json::to_value(ended)),
        };
        let data = data
            .map_err(|e| CloudEventError::Data { kind: kind.to_owned(), reason: e.to_string() })?;
        Ok(CloudEvent {
            id: key.to_string(),
            source: format!("/fairlead/sources/{source}"),
            kind: kind.to_owned(),
            subject: Some(self.subject()),
            time: Some(time),
            data,
        })
    }

    /// Reads an event of one of the types that Fairlead defines.
    ///
    /// # Errors
    /// [`CloudEventError::ForeignType`] for any other type, [`CloudEventError::Data`] when the data
    /// does not fit.
    pub fn from_cloud_event(event: &CloudEvent) -> Result<Self, CloudEventError> {
        let wrong = |e: serde_json::Error| CloudEventError::Data {
            kind: event.kind.clone(),
            reason: e.to_string(),
        };
        let data = event.data.clone();
        match event.kind.as_str() {
            IMAGE_PUSHED => serde_json::from_value(data).map(Self::ImagePushed).map_err(wrong),
            GIT_PUSHED => serde_json::from_value(data).map(Self::GitPushed).map_err(wrong),
            RUN_REQUESTED => serde_json::from_value(data).map(Self::Requested).map_err(wrong),
            PULL_REQUEST => serde_json::from_value(data).map(Self::PullRequest).map_err(wrong),
            COMMENT => serde_json::from_value(data).map(Self::Comment).map_err(wrong),
            RELEASE => serde_json::from_value(data).map(Self::Release).map_err(wrong),
            IMAGE_DELETED => serde_json::from_value(data).map(Self::ImageDeleted).map_err(wrong),
            IMAGE_SCANNED => serde_json::from_value(data).map(Self::ImageScanned).map_err(wrong),
            CUSTOM => serde_json::from_value(data).map(Self::Custom).map_err(wrong),
            SCHEDULE_DUE => serde_json::from_value(data).map(Self::Scheduled).map_err(wrong),
            RUN_FINISHED => serde_json::from_value(data).map(Self::RunFinished).map_err(wrong),
            other => Err(CloudEventError::ForeignType { kind: other.chars().take(120).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Requested;

    fn request() -> SourceEvent {
        SourceEvent::Requested(Requested {
            pipeline: "release".into(),
            params: Map::new(),
            by: "ann".into(),
            key: "k".into(),
        })
    }

    #[test]
    fn our_own_events_come_back() {
        let event = request();
        let key = event.dedup_key();
        let sent = event.to_cloud_event("api", &key, "2026-01-01T00:00:00Z".parse().unwrap());
        let sent = sent.unwrap();
        let read = CloudEvent::from_json(sent.to_json().as_bytes()).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.id, key.as_str());
        assert_eq!(SourceEvent::from_cloud_event(&read).unwrap(), event);
    }

    #[test]
    fn both_modes_say_the_same() {
        let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t",
            "time":"2026-01-01T00:00:00Z","data":{"a":1},"anextension":"x"}"#;
        let headers: Headers = [
            ("Ce-Specversion", "1.0"),
            ("Ce-Id", "1"),
            ("Ce-Source", "/s"),
            ("Ce-Type", "t"),
            ("Ce-Time", "2026-01-01T00:00:00Z"),
        ]
        .into_iter()
        .collect();
        let binary = CloudEvent::read(&headers, br#"{"a":1}"#).unwrap();
        assert_eq!(CloudEvent::read(&Headers::default(), structured).unwrap(), binary);
        let encoded = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t",
            "time":"2026-01-01T00:00:00Z","data_base64":"eyJhIjoxfQ=="}"#;
        assert_eq!(CloudEvent::from_json(encoded).unwrap(), binary);
    }

    #[test]
    fn what_is_no_cloud_event_is_refused() {
        for (bytes, want) in [
            ("", "not JSON"),
            ("[]", "not JSON"),
            ("{}", "`specversion` of the CloudEvent is missing"),
            (r#"{"specversion":"0.3"}"#, "is not 1.0"),
            (r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, "`id`"),
            (r#"{"specversion":"1.0","id":"1","source":"s"}"#, "`type`"),
            (r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"x"}"#, "`time`"),
            (r#"{"specversion":"1.0","id":"1","data_base64":"%"}"#, "not base64"),
        ] {
            let error = CloudEvent::from_json(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{bytes}: {error}");
        }
        let mut event =
            request().to_cloud_event("api", &request().dedup_key(), Timestamp::UNIX_EPOCH).unwrap();
        event.data["more"] = json!(1);
        assert!(SourceEvent::from_cloud_event(&event).is_err());
        event.kind = "zotregistry.image.updated".into();
        assert!(matches!(
            SourceEvent::from_cloud_event(&event),
            Err(CloudEventError::ForeignType { .. })
        ));
    }
}
