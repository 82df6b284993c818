//! GitHub's webhooks: `X-Hub-Signature-256` over the raw body, `X-GitHub-Event` says what it is. Pushes,
//! pull requests, comments with a command, releases, and images at GitHub's registry.

use fairlead_step::Secret;

use super::pull_request_body::{self, Kind};
use super::{Head, ReceiveError, Received, clip, ghcr, push_body, signature};
use crate::{Headers, SourceEvent};

const SIGNATURE: &str = "X-Hub-Signature-256";
const NAME: &str = "x-hub-signature-256";

pub(super) fn head(head: &Head<'_>) -> Result<(), ReceiveError> {
    signature::required(head.headers, NAME, SIGNATURE).map(drop)
}

pub(super) fn verify(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
) -> Result<(), ReceiveError> {
    // `X-Hub-Signature` beside it is HMAC-SHA1 and proves nothing today.
    signature::hub(secret, headers, body, (NAME, SIGNATURE))
}

/// What a webhook says that it is.
pub(super) fn event(headers: &Headers) -> Result<&str, ReceiveError> {
    let malformed = |reason: &str| ReceiveError::Malformed {
        what: "webhook of GitHub",
        reason: reason.to_owned(),
    };
    let form = "application/x-www-form-urlencoded";
    if headers.get("content-type").is_some_and(|t| t.starts_with(form)) {
        return Err(malformed("it is a form; set the webhook's content type to JSON"));
    }
    headers.get("x-github-event").ok_or_else(|| malformed("there is no `X-GitHub-Event` header"))
}

pub(super) fn read(
    headers: &Headers,
    body: &[u8],
    registry: Option<&str>,
) -> Result<Received, ReceiveError> {
    match event(headers)? {
        "push" => Ok(match push_body::read("push of GitHub", body)? {
            Ok(push) => Received::one(SourceEvent::GitPushed(push)),
            Err(why) => Received::nothing(why),
        }),
        event if ghcr::is_package(event) => ghcr::package(body, registry),
        other => match Kind::of(other) {
            Some(kind) => pull_request_body::read(kind, "webhook of GitHub", body),
            None => Ok(Received::nothing(format!("`{}`: of no interest", clip(other)))),
        },
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
    fn what_is_no_event_is_nothing() {
        let headers = |event: &str, kind: &str| -> Headers {
            [("X-GitHub-Event", event), ("Content-Type", kind)].into_iter().collect()
        };
        let ping = read(&headers("ping", "application/json"), b"{}", None).unwrap();
        assert_eq!(ping.events, []);
        assert!(read(&headers("push", "application/json"), b"{}", None).is_err());
        let form = read(&headers("push", "application/x-www-form-urlencoded"), b"payload=", None);
        assert!(form.unwrap_err().to_string().contains("content type to JSON"));
        assert!(read(&Headers::default(), b"{}", None).is_err());
    }
}
