//! Tokens of issuers: good ones, and every way in which one can be wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fairlead_step::BoxFuture;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};
use url::Url;

use super::issuers::{Issuers, NotBelieved};
use super::keys::IssuerDocuments;

/// A key of 2048 bits, and a token that OpenSSL has signed with it: what is checked here is what others make.
const MODULUS: &str = concat!(
    "k4WfM1vAi46ngyXJ6dGE0N1JrsgRyykcfP4ev-VJkGZ4FMfocDAZ6lOyoOetOWCmOK3U57sy3EUGsTBOUkHskUXw",
    "eNMfgt43Z3YI6OTH6nFgmFDKFQzWMIwf5GwQ1hKHZlhMSpSKg738s5ojg5Hsj_BlUBbC7COJOVZYPT6C7rooi1ug",
    "-htszIhGKs5977buPKrQ8vfmAB2JoeMItpqJP1AgtCfYsqLSumqLRJKg_6R5sv8-",
    "zf9rHg25WL3WAtSSkFueXL8vDyGQRi3FWXetI-",
    "GDxdwGXdteG2meOG4VLwEpmlHUJiaWIfy3E6z6LPOSjcxyOfILCRPb3Vjy1S_3CQ",
);
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2NpLmV4YW1wbGU",
    "uY29tIiwiYXVkIjoiaHR0cHM6Ly9mYWlybGVhZC5leGFtcGxlLmNvbSIsInN1YiI6InJlcG86YWNtZS9zaG9wOnJ",
    "lZjpyZWZzL2hlYWRzL21haW4iLCJyZXBvc2l0b3J5IjoiYWNtZS9zaG9wIiwicmVmIjoicmVmcy9oZWFkcy9tYWl",
    "uIiwiaWF0IjoxNzkwMDAwMDAwLCJuYmYiOjE3ODk5OTk5OTUsImV4cCI6MTc5MDAwMDYwMH0.hM3RaUXm0u2ZZy7",
    "wodsgSP3-eCRswyt0-650kJCjduyHqFofYHy7wlyPE95STg5pM2gfMHMRCP6CLmjziwtW6uBPMJHYxn-",
    "Z1DSlTAFXMuUkhzpjMvbbrgVHwbNsR1A1FbxyJGtBLbmTMudE3khEaITzcel21Kjcnddyu5ntpV3fVwY-",
    "jScM5oQ4WAIKfUO3gC11ph-uTenpoMxn97mONZ2iryPxXl2ihKeMQrto18iwaQ3_CdKtveIeaqnh2snL2ykSXFCK",
    "eSfJtyIV8yIRmcXaqCOF9mMJ58FwPrEM7BGyrc7GbLrgNs0c4KjOcO1u22kvgJZxVdnmgaZsbqxysg",
);

const NOW: i64 = 1_790_000_100;
const ISSUER: &str = "https://ci.example.com";
const AUDIENCE: &str = "https://fairlead.example.com";

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer that answers for its documents, and may be away.
#[derive(Default)]
struct Ci {
    documents: Mutex<BTreeMap<String, Value>>,
    asked: AtomicUsize,
    away: AtomicBool,
}

impl IssuerDocuments for Ci {
    fn fetch<'a>(
        &'a self,
        url: &'a Url,
        _: &'a [u8],
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.documents.lock().unwrap().get(url.as_str()).cloned();
        let away = self.away.load(Ordering::SeqCst);
        Box::pin(async move {
            match found {
                Some(found) if !away => Ok(found.to_string().into_bytes()),
                Some(_) | None => Err("it does not answer".to_owned()),
            }
        })
    }
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// A token with these parts.
fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", b64(signature))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/shop", "repository": "acme/shop",
        "ref": "refs/heads/main", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
        "teams": ["qa", "release"],
    })
}

/// A good token but for what `change` does to it.
fn token(change: impl Fn(&mut Value, &mut Value)) -> String {
    let (mut header, mut claims) = (json!({ "alg": "EdDSA", "kid": "ed" }), claims());
    change(&mut header, &mut claims);
    signed(&header, &claims, |message| ed25519().sign(message).as_ref().to_vec())
}

fn keys() -> Value {
    json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": MODULUS, "e": "AQAB" },
        { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(ed25519().public_key()) },
        { "kty": "OKP", "kid": "sealed", "crv": "Ed25519", "use": "enc", "x": b64(ed25519().public_key()) },
        { "kty": "oct", "kid": "shared", "k": b64("secret") },
        "nonsense",
    ]})
}

/// The issuer, and the server's view of it.
fn ci() -> (Arc<Ci>, Issuers) {
    let ci = Arc::new(Ci::default());
    let discovery = json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys") });
    let at = format!("{ISSUER}/.well-known/openid-configuration");
    ci.documents.lock().unwrap().insert(at, discovery);
    ci.documents.lock().unwrap().insert(format!("{ISSUER}/keys"), keys());
    let issuers = issuers(&ci, json!({})).unwrap();
    (ci, issuers)
}

fn issuers(ci: &Arc<Ci>, change: Value) -> Result<Issuers, String> {
    let mut settings = json!({ "ci": {
        "issuer": ISSUER, "audience": AUDIENCE, "groups": "teams",
        "roles": [
            { "claims": { "repository": "acme/*", "ref": "refs/heads/main" }, "role": "operator",
              "project": "shop", "pipelines": "rel*" },
            { "claims": { "teams": "qa" }, "role": "approver", "project": "*" },
        ],
    }});
    for (name, value) in change.as_object().unwrap() {
        settings["ci"][name] = value.clone();
    }
    let settings = serde_json::from_value(settings).map_err(|error| error.to_string())?;
    let documents: Arc<dyn IssuerDocuments> = ci.clone();
    Issuers::new(settings, &documents).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_token_of_a_known_issuer_is_its_subject_with_the_roles_of_its_claims() {
    let (_, issuers) = ci();
    let subject = issuers.subject(&token(|_, _| {}), now()).await.unwrap();
    assert_eq!((subject.name.as_str(), subject.via.as_str()), ("ci:repo:acme/shop", "issuer ci"));
    let grants: Vec<_> = subject.grants.iter().map(ToString::to_string).collect();
    assert_eq!(grants, ["operator:shop", "approver"]);
    assert!(subject.grants[0].pipelines.is_match("release") && !subject.speaks_for_others);
    assert!(subject.groups.contains("qa"));
    // Another branch, and nobody's team: known, and allowed nothing.
    let other = token(|_, claims| {
        claims["ref"] = "refs/heads/mine".into();
        claims["teams"] = json!(["guests"]);
    });
    assert!(issuers.subject(&other, now()).await.unwrap().grants.is_empty());
    // What others sign, by the other two algorithms.
    let subject = issuers.subject(RSA_TOKEN, now()).await.unwrap();
    assert_eq!(subject.name, "ci:repo:acme/shop:ref:refs/heads/main");

    let (ci, _) = ci();
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let key = json!({ "kty": "EC", "kid": "ec", "crv": "P-256", "alg": "ES256",
        "x": b64(&point[1..33]), "y": b64(&point[33..]) });
    let place = format!("{ISSUER}/keys");
    ci.documents.lock().unwrap().insert(place, json!({ "keys": [key] }));
    let issuers = self::issuers(&ci, json!({ "prefix": "", "name": "repository" })).unwrap();
    let by_ec = signed(&json!({ "alg": "ES256", "kid": "ec" }), &claims(), |message| {
        pair.sign(&random, message).unwrap().as_ref().to_vec()
    });
    assert_eq!(issuers.subject(&by_ec, now()).await.unwrap().name, "acme/shop");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_found() {
    let (ci, issuers) = ci();
    let set =
        |name: &'static str, value: Value| token(move |_, claims| claims[name] = value.clone());
    let without = |name: &'static str| {
        token(move |_, claims| drop(claims.as_object_mut().unwrap().remove(name)))
    };
    let bad = [
        (set("aud", "https://other.example.com".into()), "for somebody else"),
        (set("aud", json!([])), "for somebody else"),
        (without("aud"), "for somebody else"),
        (set("exp", json!(NOW - 31)), "its time is over"),
        (set("exp", json!("never")), "a time in it is none"),
        (without("exp"), "no end"),
        (without("iat"), "since when"),
        (set("iat", json!(NOW + 60)), "in the future"),
        (set("nbf", json!(NOW + 60)), "has not come"),
        (set("nbf", json!("1")), "a time in it is none"),
        (without("sub"), "does not name"),
        (set("sub", "a\nb".into()), "cannot be used"),
        (set("sub", "x".repeat(300).into()), "cannot be used"),
    ];
    for (token, why) in bad {
        let answer = issuers.subject(&token, now()).await;
        let Err(NotBelieved::Bad(said)) = answer else { panic!("{why}: {answer:?}") };
        assert!(said.contains(why), "{said}: {why}");
    }
    assert!(issuers.subject(&set("exp", json!(NOW - 29)), now()).await.is_ok(), "clocks differ");
    assert!(issuers.subject(&set("aud", json!(["x", AUDIENCE])), now()).await.is_ok());

    // The signature: of other claims, of another key, none at all, by what the token itself would choose.
    let good = token(|_, _| {});
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let mut admin = claims();
    admin["sub"] = "root".into();
    let moved = format!("{header}.{}.{signature}", b64(admin.to_string()));
    let other_key = signed(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims(), |message| {
        Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap().sign(message).as_ref().to_vec()
    });
    for forged in [
        moved,
        other_key,
        format!("{message}."),
        token(|header, _| header["kid"] = "rsa".into()),
        token(|header, _| header["kid"] = "sealed".into()),
        token(|header, _| header["kid"] = "unknown".into()),
        token(|header, _| header["alg"] = "RS256".into()),
    ] {
        let answer = issuers.subject(&forged, now()).await;
        assert_eq!(answer, Err(NotBelieved::Bad("its signature is wrong")), "{forged}");
    }
    let by_secret = signed(&json!({ "alg": "HS256", "kid": "shared" }), &claims(), |_| vec![0; 32]);
    for foreign in [
        by_secret,
        signed(&json!({ "alg": "none" }), &claims(), |_| Vec::new()),
        token(|header, _| header["crit"] = json!(["b64"])),
        set("iss", "https://evil.example.com".into()),
        set("iss", format!("{ISSUER}/").into()),
        without("iss"),
        String::new(),
        "a.b.c".to_owned(),
        format!("{good}="),
        format!("{good}.x"),
        format!("{}.{good}", "x".repeat(20_000)),
    ] {
        assert_eq!(issuers.subject(&foreign, now()).await, Err(NotBelieved::Foreign), "{foreign}");
    }
    assert!(ci.asked.load(Ordering::SeqCst) <= 4, "nobody makes this server ask again and again");

    let verified = self::issuers(&ci, json!({ "name": "email" })).unwrap();
    let mail = |told: Value| {
        token(move |_, claims| {
            claims["email"] = "ann@example.com".into();
            claims["email_verified"] = told.clone();
        })
    };
    assert!(verified.subject(&mail(true.into()), now()).await.is_ok());
    for told in [json!(false), json!("true"), Value::Null] {
        assert!(verified.subject(&mail(told), now()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_when_they_are_new_and_outlive_an_outage() {
    let (ci, issuers) = ci();
    let good = token(|_, _| {});
    assert!(issuers.subject(&good, now()).await.is_ok());
    let asked = ci.asked.load(Ordering::SeqCst);
    assert!(issuers.subject(&good, now()).await.is_ok());
    assert_eq!(ci.asked.load(Ordering::SeqCst), asked, "they are kept");

    // The issuer has a new key, by a name that is not known yet.
    let mut keys = keys();
    keys["keys"][1]["kid"] = "next".into();
    ci.documents.lock().unwrap().insert(format!("{ISSUER}/keys"), keys);
    let next = token(|header, _| header["kid"] = "next".into());
    assert!(issuers.subject(&next, now()).await.is_err(), "it was asked a moment ago");
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(issuers.subject(&next, now()).await.is_ok());
    assert!(issuers.subject(&good, now()).await.is_err(), "the old one was withdrawn");

    ci.away.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(1800)).await;
    assert!(issuers.subject(&next, now()).await.is_ok());
    tokio::time::advance(Duration::from_secs(1801)).await;
    let away = issuers.subject(&next, now()).await;
    assert!(matches!(away, Err(NotBelieved::Away(_))), "not for ever: {away:?}");
}

#[tokio::test]
async fn an_issuer_leads_nowhere_else() {
    let (ci, issuers) = ci();
    let at = format!("{ISSUER}/.well-known/openid-configuration");
    for discovery in [
        json!({ "issuer": ISSUER, "jwks_uri": "https://evil.example.com/keys" }),
        json!({ "issuer": ISSUER, "jwks_uri": "http://ci.example.com/keys" }),
        json!({ "issuer": "https://evil.example.com", "jwks_uri": format!("{ISSUER}/keys") }),
        json!({ "issuer": ISSUER }),
    ] {
        ci.documents.lock().unwrap().insert(at.clone(), discovery.clone());
        let issuers = self::issuers(&ci, json!({})).unwrap();
        let answer = issuers.subject(&token(|_, _| {}), now()).await;
        assert!(matches!(answer, Err(NotBelieved::Away(_))), "{discovery}: {answer:?}");
    }
    drop(issuers);
    for change in [
        json!({ "issuer": "http://ci.example.com" }),
        json!({ "issuer": "https://user:secret@ci.example.com" }),
        json!({ "issuer": "file:///etc/passwd" }),
        json!({ "keys": "http://169.254.169.254/keys" }),
        json!({ "audience": "" }),
        json!({ "roles": [{ "claims": {}, "role": "admin", "project": "*" }] }),
        json!({ "roles": [{ "claims": { "sub": "**" }, "role": "admin", "project": "A b" }] }),
        json!({ "roles": [{ "claims": { "sub": "**" }, "role": "root", "project": "*" }] }),
        json!({ "ca": "/nowhere.pem" }),
    ] {
        assert!(self::issuers(&ci, change.clone()).is_err(), "{change}");
    }
    assert!(self::issuers(&ci, json!({ "issuer": "http://127.0.0.1:5556/dex" })).is_ok());
}
