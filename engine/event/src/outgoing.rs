//! What Fairlead tells others of itself, as CloudEvents, and how that is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_step::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;

use crate::senders::webhook_key;

/// The types of the events that go out.
pub const OUTGOING_TYPES: [&str; 6] =
    [RUN_STARTED, RUN_ENDED, STEP_ENDED, IMAGE_BUILT, IMAGE_PROMOTED, FINDING_REPORTED];

/// A run was asked for.
pub const RUN_STARTED: &str = "dev.fairlead.run.started.v1";
/// A run has ended.
pub const RUN_ENDED: &str = "dev.fairlead.run.ended.v1";
/// A step has ended, or an attempt of it.
pub const STEP_ENDED: &str = "dev.fairlead.step.ended.v1";
/// A step has pushed an image that it has built.
pub const IMAGE_BUILT: &str = "dev.fairlead.image.built.v1";
/// A step has promoted an image.
pub const IMAGE_PROMOTED: &str = "dev.fairlead.image.promoted.v1";
/// A step has looked for what is wrong with an image.
pub const FINDING_REPORTED: &str = "dev.fairlead.finding.reported.v1";

/// The headers of a message that is signed as Standard Webhooks 1.0 has it. `secret` is a key behind
/// `whsec_`, as base64; any other text is taken as the bytes of the key. None when it is empty.
#[must_use]
pub fn webhook_headers(
    secret: &Secret<String>,
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> Option<[(&'static str, String); 3]> {
    let key = match webhook_key(secret) {
        Some(key) => key,
        None => Secret::new(secret.line().as_bytes().to_vec()),
    };
    if key.expose().is_empty() {
        return None;
    }
    let time = now.as_second().to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).ok()?;
    for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
        mac.update(part);
    }
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    Some([
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", time),
        ("webhook-signature", signature),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Headers, Incoming, Sender, SenderKind};

    /// The vector of the specification of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let now = Timestamp::from_second(1_614_265_330).unwrap();
        let headers = webhook_headers(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            now,
            br#"{"test": 2432232314}"#,
        );
        let [id, time, signature] = headers.unwrap();
        assert_eq!(id.1, "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(time.1, "1614265330");
        assert_eq!(signature.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(webhook_headers(&Secret::new(String::new()), "x", now, b"").is_none());
    }

    /// What goes out is taken by a source of another Fairlead that has the same secret.
    #[test]
    fn what_is_signed_is_believed() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let sender =
            Sender::new(SenderKind::CloudEvents, Some(secret.clone()), None, None).unwrap();
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let body =
            br#"{"specversion":"1.0","id":"1","source":"/x","type":"dev.fairlead.run.ended.v1"}"#;
        let signed = webhook_headers(&secret, "1", now, body).unwrap();
        let structured = ("content-type", crate::STRUCTURED.to_owned());
        let headers: Headers = signed.into_iter().chain([structured]).collect();
        let incoming = |body| Incoming {
            headers: &headers,
            address_end: None,
            body,
            now,
            trusted_channel: false,
        };
        let refused = |body| sender.receive(incoming(body)).is_err_and(|it| it.is_signature());
        assert!(!refused(body) && refused(b"{}"));
    }
}
