//! What real senders sent: bodies and headers captured on a loopback, in the folder that the variable
//! `FAIRLEAD_WEBHOOKS` names (`NAME.body.json`, `NAME.headers.json`). They are not part of this
//! repository; without them the tests say so and pass, and the small bodies in each sender's own
//! tests stand for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fairlead_step::Secret;
use jiff::Timestamp;

use super::{Incoming, ReceiveError, Received, Sender, SenderKind};
use crate::{ChangedPaths, Forge, GitPushed, Headers, ImagePushed, SourceEvent};

struct Captured {
    name: String,
    headers: Headers,
    body: Vec<u8>,
}

/// Every captured message whose name begins with `prefix`, in the order of sending.
#[expect(clippy::print_stderr, reason = "a test that is skipped must say so")]
#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
fn captured(prefix: &str) -> Vec<Captured> {
    let Some(folder) = std::env::var_os("FAIRLEAD_WEBHOOKS").map(PathBuf::from) else {
        eprintln!("skipped: FAIRLEAD_WEBHOOKS names no folder with captured webhooks");
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".body.json").filter(|n| n.starts_with(prefix)) else {
            continue;
        };
        let headers = match std::fs::read(folder.join(format!("{name}.headers.json"))) {
            Ok(bytes) => serde_json::from_slice::<BTreeMap<String, String>>(&bytes).unwrap(),
            Err(_) => BTreeMap::new(),
        };
        found.push(Captured {
            name: name.to_owned(),
            headers: headers.into_iter().collect(),
            body: std::fs::read(folder.join(&file)).unwrap(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn sender(kind: SenderKind, secret: Option<&str>) -> Sender {
    let secret = secret.map(|secret| Secret::new(secret.to_owned()));
    // The address that the captured forge was reached at.
    let forge = kind.is_forge().then(|| Forge::new("http://127.0.0.1:3999", None).unwrap());
    Sender::new(kind, secret, Some("registry.example.com"), forge).unwrap()
}

fn receive(sender: &Sender, message: &Captured) -> Result<Received, ReceiveError> {
    sender.receive(Incoming {
        headers: &message.headers,
        body: &message.body,
        now: Timestamp::UNIX_EPOCH,
        trusted_channel: false,
    })
}

fn images(sender: &Sender, prefix: &str) -> BTreeMap<String, Vec<ImagePushed>> {
    let read = |message: &Captured| {
        let received = receive(sender, message).unwrap_or_else(|e| panic!("{}: {e}", message.name));
        let events = received.events.into_iter().map(|event| match event {
            SourceEvent::ImagePushed(push) => push,
            SourceEvent::GitPushed(_) | SourceEvent::Requested(_) => panic!("{}", message.name),
        });
        (message.name.clone(), events.collect())
    };
    captured(prefix).iter().map(read).collect()
}

#[test]
fn gitea_pushes_are_verified_and_read() {
    let gitea = sender(SenderKind::Gitea, Some("a-test-secret"));
    let stranger = sender(SenderKind::Gitea, Some("another-secret"));
    let messages = captured("gitea-");
    let mut pushes: BTreeMap<String, GitPushed> = BTreeMap::new();
    for message in &messages {
        let number = message.name["gitea-1.26-".len()..][..2].to_owned();
        assert_eq!(
            receive(&stranger, message),
            Err(ReceiveError::WrongSignature { header: "X-Gitea-Signature" }),
            "{}",
            message.name
        );
        for event in receive(&gitea, message).unwrap().events {
            match event {
                SourceEvent::GitPushed(push) => {
                    pushes.insert(number.clone(), push);
                }
                SourceEvent::ImagePushed(push) => {
                    assert_eq!(number, "14");
                    assert_eq!(push.reference().to_string(), "registry.example.com/adm/shop:1.0.0");
                    assert!(push.digest.is_none() && push.at.is_some());
                }
                SourceEvent::Requested(_) => panic!("{}", message.name),
            }
        }
    }
    if messages.is_empty() {
        return;
    }
    let numbers: Vec<&str> = pushes.keys().map(String::as_str).collect();
    assert_eq!(numbers, ["01", "02", "04", "08", "10", "12", "13"]);
    let first = &pushes["01"];
    assert_eq!(first.repository, "adm/shop");
    assert_eq!(first.clone_url.as_deref(), Some("http://127.0.0.1:3999/adm/shop.git"));
    assert_eq!(first.ssh_url.as_deref(), Some("ssh://git@127.0.0.1/adm/shop.git"));
    assert_eq!(first.paths, ChangedPaths::Known(["src/a".to_owned()].into()));
    assert_eq!(first.actor.as_deref(), Some("adm"));
    // The annotated tag points to its tag object, the commit is the head.
    let annotated = &pushes["02"];
    assert_eq!(annotated.reference.tag(), Some("v1.0.0"));
    assert_ne!(annotated.after, annotated.commit);
    assert_eq!(annotated.commit, first.after);
    assert_eq!(pushes["04"].commit, first.after);
    // A new branch, a long push and a rewritten history cannot say what they touched.
    assert!(pushes["08"].created());
    for number in ["02", "08", "12", "13"] {
        assert_eq!(pushes[number].paths, ChangedPaths::Unknown, "{number}");
    }
    assert!(matches!(&pushes["10"].paths, ChangedPaths::Known(paths) if !paths.is_empty()));
}

#[test]
fn one_changed_byte_breaks_the_signature() {
    let gitea = sender(SenderKind::Gitea, Some("a-test-secret"));
    let github = sender(SenderKind::GitHub, Some("a-test-secret"));
    for mut message in captured("gitea-1.26-01") {
        // Gitea signs as GitHub does besides, and means the same.
        assert_eq!(receive(&github, &message), receive(&gitea, &message));
        message.body[10] ^= 1;
        for sender in [&gitea, &github] {
            let error = receive(sender, &message).unwrap_err();
            assert!(error.is_signature(), "{error}");
        }
    }
}

#[test]
fn both_versions_of_the_cncf_registry_say_the_same() {
    let registry = sender(SenderKind::Distribution, Some("a-test-token"));
    let stranger = sender(SenderKind::Distribution, Some("another-token"));
    for message in captured("distribution-") {
        assert!(receive(&stranger, &message).unwrap_err().is_signature(), "{}", message.name);
    }
    let (old, new) = (images(&registry, "distribution-2.8"), images(&registry, "distribution-3.1"));
    if old.is_empty() {
        return;
    }
    let read =
        |events: &BTreeMap<String, Vec<ImagePushed>>| -> Vec<(String, Option<String>, bool)> {
            let each = events.values().flatten();
            each.map(|p| (p.repository.path().to_owned(), p.tag.clone(), p.is_evidence())).collect()
        };
    let shop = |tag: &str| ("apps/shop".to_owned(), Some(tag.to_owned()), false);
    let old = read(&old);
    assert_eq!(old.len(), 5, "blobs, mounts and deletes are no pushes: {old:?}");
    assert_eq!(old[0], shop("1.0.0"));
    assert_eq!(old[1], shop("stable"));
    assert_eq!(old[2], shop("multi"));
    assert_eq!(old[3], ("apps/shop".to_owned(), None, false));
    assert_eq!(old[4], ("prod/shop".to_owned(), Some("1.0.0".to_owned()), false));
    let new = read(&new);
    assert_eq!(new.len(), 6, "{new:?}");
    assert_eq!(new.iter().filter(|(_, _, evidence)| *evidence).count(), 1, "{new:?}");
}

#[test]
fn zot_says_the_same_over_http_and_nats() {
    let zot = sender(SenderKind::Zot, None);
    let (http, nats) = (images(&zot, "zot-2-http"), images(&zot, "zot-2-nats"));
    if http.is_empty() {
        return;
    }
    let (http, nats): (Vec<_>, Vec<_>) =
        (http.into_values().flatten().collect(), nats.into_values().flatten().collect());
    assert_eq!(http, nats);
    let tags: Vec<Option<&str>> = http.iter().map(|push| push.tag.as_deref()).collect();
    assert_eq!(tags, [Some("1.0.0"), Some("stable"), None, Some("multi")]);
    // The same push told by another sink is the same thing that happened.
    for (one, other) in http.into_iter().zip(nats) {
        assert_eq!(
            SourceEvent::ImagePushed(one).dedup_key(),
            SourceEvent::ImagePushed(other).dedup_key()
        );
    }
}
