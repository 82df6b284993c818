//! A forged message of every sender: whatever is wrong with its proof, nothing of it is taken.

use fairlead_step::Secret;
use jiff::Timestamp;

use super::{Head, Incoming, MAX_BODY, Proof, ReceiveError, Sender, SenderKind};
use crate::samples::{Message, Shown, message, proof};
use crate::{Forge, Headers};

const SECRET: &str = "0123456789abcdef01234567";
const WRONG: &str = "76543210fedcba9876543210";

fn sender(kind: SenderKind) -> Sender {
    let forge = kind.is_forge().then(|| Forge::new("https://git.example.com", None).unwrap());
    let registry = kind.reports_images().then_some("r.example.com");
    Sender::new(kind, Some(Secret::new(SECRET.into())), registry, forge).unwrap()
}

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
