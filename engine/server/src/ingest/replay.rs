//! An event once more, under an identity of its own, so that it starts once more what it starts.

use fairlead_event::{CloudEvent, CloudEventError};
use fairlead_run::NewEvent;
use fairlead_step::Digest;
use jiff::Timestamp;

/// The event in `document` as one that happens now.
///
/// # Errors
/// When it is no CloudEvent.
pub fn once_more(document: &str, now: Timestamp) -> Result<NewEvent, CloudEventError> {
    let envelope = CloudEvent::from_json(document.as_bytes())?;
    let whole = format!("replay/{}/{now}", envelope.id);
    let key = Digest::sha256(whole.as_bytes()).hex().to_owned();
    let document = CloudEvent { id: key.clone(), time: Some(now), ..envelope }.to_json();
    let id = key.clone();
    Ok(NewEvent { key, id, received_at: now, due_at: now, document, push: None })
}
