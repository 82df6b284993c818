//! GitHub's webhooks: `X-Hub-Signature-256` over the raw body, `X-GitHub-Event` says what it is.

use fairlead_step::Secret;

use super::{ReceiveError, Received, push_body, signature};
use crate::{Headers, SourceEvent};

const SIGNATURE: &str = "X-Hub-Signature-256";

pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    let value =
        headers.get("x-hub-signature-256").ok_or(ReceiveError::Unsigned { header: SIGNATURE })?;
    // `X-Hub-Signature` beside it is HMAC-SHA1 and proves nothing today.
    let fits = value
        .strip_prefix("sha256=")
        .is_some_and(|hex| signature::hmac_hex_fits(secret.expose().as_bytes(), body, hex));
    if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header: SIGNATURE }) }
}

pub(super) fn read(headers: &Headers, body: &[u8]) -> Result<Received, ReceiveError> {
    let malformed = |reason: String| ReceiveError::Malformed { what: "webhook of GitHub", reason };
    let form = "application/x-www-form-urlencoded";
    if headers.get("content-type").is_some_and(|t| t.starts_with(form)) {
        return Err(malformed("it is a form; set the webhook's content type to JSON".into()));
    }
    match headers.get("x-github-event") {
        Some("push") => Ok(match push_body::read("push of GitHub", body)? {
            Ok(push) => Received::one(SourceEvent::GitPushed(push)),
            Err(why) => Received::nothing(why),
        }),
        Some(other) => {
            let other: String = other.chars().take(120).collect();
            Ok(Received::nothing(format!("`{other}`: not a push")))
        }
        None => Err(malformed("there is no `X-GitHub-Event` header".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's own documentation, "Validating webhook deliveries".
    #[test]
    fn the_documented_signature_is_accepted_and_no_other() {
        let secret = Secret::new("It's a Secret to Everybody".to_owned());
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check = |value: &str, body: &[u8]| {
            verify(&secret, &[("X-Hub-Signature-256", value)].into_iter().collect(), body)
        };
        assert_eq!(check(&format!("sha256={hex}"), b"Hello, World!"), Ok(()));
        for (value, body) in [
            (format!("sha256={hex}"), &b"Hello, World?"[..]),
            (hex.to_owned(), b"Hello, World!"),
            (format!("sha1={hex}"), b"Hello, World!"),
        ] {
            assert!(matches!(check(&value, body), Err(ReceiveError::WrongSignature { .. })));
        }
        let unsigned = verify(&secret, &Headers::default(), b"Hello, World!");
        assert!(matches!(unsigned, Err(ReceiveError::Unsigned { .. })));
    }

    #[test]
    fn only_pushes_are_events() {
        let headers = |event: &str, kind: &str| -> Headers {
            [("X-GitHub-Event", event), ("Content-Type", kind)].into_iter().collect()
        };
        let ping = read(&headers("ping", "application/json"), b"{}").unwrap();
        assert_eq!(ping.events, []);
        assert!(read(&headers("push", "application/json"), b"{}").is_err());
        let form = read(&headers("push", "application/x-www-form-urlencoded"), b"payload=");
        assert!(form.unwrap_err().to_string().contains("content type to JSON"));
        assert!(read(&Headers::default(), b"{}").is_err());
    }
}
