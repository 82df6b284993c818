//! Two hundred mutated bundles, signatures and attestations, by a seed: each is refused, with the reason that
//! fits what was done to it. cosign has one answer to all of them, which is no.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fairlead_oci::Descriptor;
use fairlead_step::{Digest, Image};
use serde_json::{Value, json};

use crate::attestation::judge as judge_attestation;
use crate::bundle::judge as judge_signature;
use crate::dsse::Envelope;
use crate::gather::{Content, Held, PREDICATE_TYPE};
use crate::kit::{key, other_key};
use crate::legacy::{FINGERPRINT, judge_layer};
use crate::payload::Payload;
use crate::{Answer, Demand, Format, PredicateType, SigningKey, Statement, Subject};

/// Numbers that the seed alone decides (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn of(seed: u64) -> Self {
        let mut numbers = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.below(2);
        numbers
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn image(fill: &str) -> Image {
    format!("localhost/shop@sha256:{}", fill.repeat(64)).parse().unwrap()
}

/// A bundle that signs `kind` of `of` by `by`, as JSON.
fn bundle(of: &Image, by: &SigningKey, kind: &str) -> Value {
    let kind = PredicateType::of_uri(kind);
    let annotations = (kind.uri() == PredicateType::SIGNATURE).then(BTreeMap::new);
    let subject = Subject { annotations, ..Subject::of(of) };
    let statement = Statement::new(subject, &kind, json!({})).to_bytes().unwrap();
    let envelope = futures::executor::block_on(Envelope::sign(&statement, by)).unwrap();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": by.public_key().hint() } },
        "dsseEnvelope": envelope,
    })
}

/// `text`, base64, with one bit of its bytes another.
fn flipped(text: &str, numbers: &mut Numbers) -> String {
    let mut bytes = BASE64.decode(text).unwrap();
    let at = numbers.below(bytes.len());
    bytes[at] ^= 1 << numbers.below(8);
    BASE64.encode(bytes)
}

/// What is done to a bundle, and the answers that fit.
fn mutate(
    kind: &str,
    number: u64,
    numbers: &mut Numbers,
) -> (&'static str, String, &'static [Answer]) {
    const INVALID: &[Answer] = &[Answer::Invalid];
    const FOREIGN: &[Answer] = &[Answer::Foreign];
    const EITHER: &[Answer] = &[Answer::Invalid, Answer::Foreign];
    let good = bundle(&image("a"), &key(), kind);
    let mut changed = good.clone();
    let envelope = &mut changed["dsseEnvelope"];
    let (what, answers) = match number % 12 {
        0 => {
            let text = envelope["payload"].as_str().unwrap().to_owned();
            envelope["payload"] = json!(flipped(&text, numbers));
            ("a bit of the payload", INVALID)
        }
        1 => {
            let text = envelope["signatures"][0]["sig"].as_str().unwrap().to_owned();
            envelope["signatures"][0]["sig"] = json!(flipped(&text, numbers));
            ("a bit of the signature", INVALID)
        }
        2 => {
            changed = bundle(&image("a"), &other_key(), kind);
            ("another key", FOREIGN)
        }
        3 => {
            changed = bundle(&image("a"), &other_key(), kind);
            changed["verificationMaterial"] = good["verificationMaterial"].clone();
            ("another key under our hint", INVALID)
        }
        4 => {
            changed = bundle(&image("b"), &key(), kind);
            ("another subject", INVALID)
        }
        5 => {
            let other = bundle(&image("b"), &key(), kind);
            envelope["payload"] = other["dsseEnvelope"]["payload"].clone();
            ("a payload of another digest", INVALID)
        }
        6 => {
            let other = bundle(&image("b"), &key(), kind);
            envelope["signatures"] = other["dsseEnvelope"]["signatures"].clone();
            ("the signature of another statement", INVALID)
        }
        7 => {
            envelope["signatures"] = json!([]);
            ("no signature", INVALID)
        }
        8 => {
            envelope["payloadType"] = json!("application/vnd.in-toto+xml");
            ("another type of payload", INVALID)
        }
        9 => {
            let text = changed.to_string();
            let end = 1 + numbers.below(text.len() - 2);
            return ("cut off", text[..end].to_owned(), EITHER);
        }
        10 => {
            changed["dsseEnvelope"] = Value::Null;
            changed["messageSignature"] = json!({ "signature": "AAAA" });
            ("a bare message", FOREIGN)
        }
        _ => {
            changed["verificationMaterial"]["publicKey"]["hint"] =
                json!(other_key().public_key().hint());
            let text = envelope_signature(&changed);
            changed["dsseEnvelope"]["signatures"][0]["sig"] = json!(flipped(&text, numbers));
            ("a bit of the signature under another hint", EITHER)
        }
    };
    (what, changed.to_string(), answers)
}

fn envelope_signature(bundle: &Value) -> String {
    bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap().to_owned()
}

#[test]
fn mutated_bundles_are_refused_for_what_was_done_to_them() {
    let demand = Demand::default();
    let (key, image) = (key(), image("a"));
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..140_u64 {
        let mut numbers = Numbers::of(seed);
        let kind = if seed % 2 == 0 { PredicateType::SIGNATURE } else { PredicateType::SPDX };
        let (what, text, answers) = mutate(kind, seed / 2, &mut numbers);
        let content = Content::of_bundle(text.as_bytes());
        let answer = if kind == PredicateType::SIGNATURE {
            judge_signature(&content, &image, key.public_key(), &demand).map(|f| f.answer)
        } else {
            let annotations = BTreeMap::from([(PREDICATE_TYPE.to_owned(), kind.to_owned())]);
            let digest = Digest::sha256(b"");
            let held = Held { format: Format::V3, digest, annotations, content };
            let (_, judged) = judge_attestation(&held, &image, key.public_key(), &demand);
            assert!(judged.statement.is_none(), "{seed}: {what}");
            Some(judged.finding.answer)
        };
        let answer = answer.unwrap_or(Answer::Absent);
        // A bit of the payload may make a signature another kind of statement, which claims the key.
        assert!(answers.contains(&answer), "seed {seed}, {what}: {answer}");
        *done.entry(what).or_default() += 1;
    }
    assert_eq!(done.len(), 12, "{done:?}");
    // Untouched, each is good.
    for kind in [PredicateType::SIGNATURE, PredicateType::SPDX] {
        let content = Content::of_bundle(bundle(&image, &key, kind).to_string().as_bytes());
        let Content::Envelope { envelope, .. } = content else { panic!("{content:?}") };
        assert!(envelope.is_signed_by(key.public_key()));
    }
}

#[test]
fn mutated_signatures_of_cosign_2_are_refused_for_what_was_done_to_them() {
    const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
    let (ours, image) = (key(), image("a"));
    let signed = |of: &Image, by: &SigningKey| {
        let payload = Payload::new(of, &BTreeMap::new()).to_bytes().unwrap();
        let mut layer =
            Descriptor::of("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
        let signature = BASE64.encode(by.sign_now(&payload).unwrap());
        layer.annotations.insert(SIGNATURE.into(), signature);
        layer.annotations.insert(FINGERPRINT.into(), by.public_key().fingerprint().to_string());
        (layer, payload)
    };
    for seed in 0..60_u64 {
        let mut numbers = Numbers::of(seed);
        let (mut layer, mut payload) = signed(&image, &ours);
        let (what, answer) = match seed % 6 {
            0 => {
                let at = numbers.below(payload.len());
                payload[at] ^= 1 << numbers.below(8);
                ("a bit of the payload", Answer::Invalid)
            }
            1 => {
                let text = layer.annotations[SIGNATURE].clone();
                layer.annotations.insert(SIGNATURE.into(), flipped(&text, &mut numbers));
                ("a bit of the signature", Answer::Invalid)
            }
            2 => {
                (layer, payload) = signed(&image, &other_key());
                ("another key", Answer::Foreign)
            }
            3 => {
                (layer, payload) = signed(&self::image("b"), &ours);
                ("another digest", Answer::Invalid)
            }
            4 => {
                layer.annotations.insert(SIGNATURE.into(), "not base64!".into());
                ("no base64", Answer::Invalid)
            }
            _ => {
                let (other, _) = signed(&image, &other_key());
                let text = other.annotations[SIGNATURE].clone();
                layer.annotations.insert(SIGNATURE.into(), text);
                ("another's signature under our name", Answer::Invalid)
            }
        };
        let demand = Demand::default();
        let found = judge_layer(&layer, &payload, &image, ours.public_key(), &demand).0;
        assert_eq!(found, answer, "seed {seed}, {what}");
    }
}
