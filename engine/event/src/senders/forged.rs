//! A forged message of every sender: whatever is wrong with its proof, nothing of it is taken.

use jiff::Timestamp;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Head, Incoming, MAX_BODY, Proof, ReceiveError, Sender, SenderKind};
use crate::Headers;
use crate::samples::{Message, SECRET, Shown, attempt, exercise, message, proof, sender};

const WRONG: &str = "76543210fedcba9876543210";

fn receive(
    sender: &Sender,
    headers: &Headers,
    end: Option<&str>,
    body: &[u8],
) -> Result<usize, ReceiveError> {
    let now = Timestamp::UNIX_EPOCH;
    sender.head(Head { headers, address_end: end, now })?;
    let message = Incoming { headers, address_end: end, body, now, trusted_channel: false };
    sender.receive(message).map(|received| received.events.len())
}

#[test]
fn of_a_forged_message_nothing_is_taken() {
    for kind in SenderKind::ALL {
        let (sender, Message { headers, body }) = (sender(kind), message(kind));
        let body = body.to_string().into_bytes();
        let with = |proof: Vec<(&'static str, String)>| -> Headers {
            headers.iter().cloned().chain(proof).collect()
        };
        let Shown { headers: good, address_end: end } = proof(kind, SECRET, &body);
        // It is the proof that is missing below, and nothing else.
        let taken = receive(&sender, &with(good.clone()), end.as_deref(), &body);
        assert_eq!(taken, Ok(1), "{kind}");

        let Shown { headers: wrong, address_end: wrong_end } = proof(kind, WRONG, &body);
        let empty = good.iter().map(|(name, _)| (*name, String::new())).collect();
        let cut = good.iter().map(|(name, text)| (*name, text[..text.len() - 1].to_owned()));
        // A secret in the address, for who takes it in a header alone, and the other way around.
        let address = kind.proof().in_address();
        let elsewhere = (!address).then_some(SECRET);
        let in_header = vec![("Authorization", format!("Bearer {SECRET}"))];
        let mut forged = vec![
            ("no proof", with(vec![]), None),
            ("another secret", with(wrong), wrong_end.as_deref()),
            ("an empty proof", with(empty), end.as_deref().map(|_| "")),
            ("a proof that was cut", with(cut.collect()), end.as_deref().map(|end| &end[1..])),
            ("the secret in the address", with(vec![]), elsewhere),
        ];
        if kind.proof() == Proof::Address {
            forged.push(("the secret in a header", with(in_header), None));
        }
        for (what, headers, end) in forged {
            let error = receive(&sender, &headers, end, &body).unwrap_err();
            assert!(error.is_signature(), "{kind}: {what}: {error}");
            let text = error.to_string();
            assert!(!text.contains(SECRET) && !text.contains(WRONG), "{kind}: {text}");
        }
        // A signature is of its body: one byte more, one less, another, nothing.
        if kind.proof() == Proof::Signature {
            let mut changed = body.clone();
            changed[body.len() / 2] ^= 1;
            let more = [body.as_slice(), b" x"].concat();
            for other in [changed.as_slice(), &more, &body[1..], b""] {
                let error = receive(&sender, &with(good.clone()), None, other).unwrap_err();
                assert!(error.is_signature(), "{kind}: {error}");
            }
        }
    }
}

#[test]
fn with_a_proof_hostile_bodies_are_refused_all_the_same() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let huge = vec![b' '; MAX_BODY + 1];
    for kind in SenderKind::ALL {
        let (sender, Message { headers, body }) = (sender(kind), message(kind));
        let body = body.to_string().into_bytes();
        let truncated = &body[..body.len() - 1];
        for hostile in [truncated, b"", b"null", b"\xff\xfe", b"{\"a\":1e999}", &deep, &huge] {
            let Shown { headers: proof, address_end: end } = proof(kind, SECRET, hostile);
            let headers: Headers = headers.iter().cloned().chain(proof).collect();
            match receive(&sender, &headers, end.as_deref(), hostile) {
                Ok(events) => assert_eq!(events, 0, "{kind}"),
                Err(error) => assert!(!error.is_signature(), "{kind}: {error}"),
            }
        }
    }
}

/// The places of a JSON value, itself among them.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            places(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }
    }
    if let Value::Array(items) = value {
        for (index, value) in items.iter().enumerate() {
            places(value, &format!("{at}/{index}"), found);
        }
    }
}

/// What a stranger may write anywhere.
fn hostile() -> Vec<Value> {
    let long = "x".repeat(5000);
    let digest = format!("sha256:{}", "a".repeat(64));
    let texts = [
        "",
        "-x",
        "--upload-pack=x",
        "../../x",
        "a\nb",
        "\u{1b}[2J",
        "*",
        "sha256:12",
        "elsewhere.example.com/x",
        "https://x:y@elsewhere.example.com/a/b.git",
        "refs/heads/main",
        "refs/tags/../x",
        "{{ secrets.x }}",
        "~1",
        "0000000000000000000000000000000000000000",
        digest.as_str(),
        long.as_str(),
    ];
    let mut all: Vec<Value> = texts.into_iter().map(Value::from).collect();
    all.extend([
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!([null]),
        json!({ "a": { "b": [] } }),
        json!(["a", 1]),
    ]);
    all
}

/// Every place of every message is replaced by everything hostile, and signed: nothing panics, and no
/// event leaves the places of its source.
#[test]
fn whatever_stands_in_a_message_no_event_leaves_its_source() {
    for kind in SenderKind::ALL {
        let Message { headers, body } = message(kind);
        let mut all = Vec::new();
        places(&body, "", &mut all);
        for place in all {
            for value in hostile() {
                let mut body = body.clone();
                if let Some(at) = body.pointer_mut(&place) {
                    *at = value;
                }
                let body = body.to_string().into_bytes();
                let shown = proof(kind, SECRET, &body);
                let headers: Headers = headers.iter().cloned().chain(shown.headers).collect();
                attempt(kind, &headers, shown.address_end.as_deref(), &body, true);
            }
        }
    }
}

proptest! {
    /// What the fuzzer does, for a moment: the targets in `fuzz/` call the same.
    #[test]
    fn any_bytes_are_survived(
        kind in 0..16_u8,
        how in 0..4_u8,
        text in "[\\[{\":,a-z0-9}\\]\\n ]{0,80}",
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        for rest in [text.as_bytes(), bytes.as_slice()] {
            exercise(&[&[kind, how][..], rest].concat());
        }
    }

    #[test]
    fn a_message_that_is_cut_or_changed_anywhere_is_survived(
        kind in 0..16_usize,
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let kind = SenderKind::ALL[kind];
        let Message { headers, body } = message(kind);
        let mut body = body.to_string().into_bytes();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        let shown = proof(kind, SECRET, &body);
        let headers: Headers = headers.iter().cloned().chain(shown.headers).collect();
        attempt(kind, &headers, shown.address_end.as_deref(), &body, true);
    }
}
