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

/// Where messages of other senders lie, beside that folder.
const HARBOR: &str = "../harbor/webhooks";
const GITHUB: &str = "../peers/github-webhooks/payload-examples/api.github.com";

#[expect(clippy::print_stderr, reason = "a test that is skipped must say so")]
#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
fn folder(beside: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("FAIRLEAD_WEBHOOKS").map(PathBuf::from) else {
        eprintln!("skipped: FAIRLEAD_WEBHOOKS names no folder with captured webhooks");
        return None;
    };
    let folder = folder.join(beside);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: there is no {}", folder.display());
    None
}

/// Every captured message whose name begins with `prefix`, in the order of sending.
fn captured(prefix: &str) -> Vec<Captured> {
    captured_in("", prefix)
}

fn captured_in(beside: &str, prefix: &str) -> Vec<Captured> {
    let Some(folder) = folder(beside) else { return Vec::new() };
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
    let registry = kind.reports_images().then_some("registry.example.com");
    Sender::new(kind, secret, registry, forge).unwrap()
}

fn receive(sender: &Sender, message: &Captured) -> Result<Received, ReceiveError> {
    sender.receive(Incoming {
        headers: &message.headers,
        address_end: None,
        body: &message.body,
        now: Timestamp::UNIX_EPOCH,
        trusted_channel: false,
    })
}

fn images(sender: &Sender, prefix: &str) -> BTreeMap<String, Vec<ImagePushed>> {
    let read = |message: &Captured| {
        let received = receive(sender, message).unwrap_or_else(|e| panic!("{}: {e}", message.name));
        let events = received.events.into_iter().filter_map(|event| {
            if let SourceEvent::ImagePushed(push) = event {
                return Some(push);
            }
            assert!(matches!(event, SourceEvent::ImageDeleted(_)), "{}: {event:?}", message.name);
            None
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
    let mut requests = Vec::new();
    for message in &messages {
        let number = message.name["gitea-1.26-".len()..][..2].to_owned();
        assert_eq!(
            receive(&stranger, message),
            Err(ReceiveError::WrongSignature { header: "X-Gitea-Signature" }),
            "{}",
            message.name
        );
        for event in receive(&gitea, message).unwrap().events {
            if let SourceEvent::GitPushed(push) = event {
                pushes.insert(number.clone(), push);
            } else if let SourceEvent::PullRequest(request) = event {
                requests.push((number.clone(), request));
            } else if let SourceEvent::ImagePushed(push) = event {
                assert_eq!(number, "14");
                assert_eq!(push.reference().to_string(), "registry.example.com/adm/shop:1.0.0");
                assert!(push.digest.is_none() && push.at.is_some());
            } else {
                panic!("{}: {event:?}", message.name);
            }
        }
    }
    let told: Vec<_> = requests
        .iter()
        .map(|(number, request)| (number.as_str(), request.action.name(), request.is_fork))
        .collect();
    if !messages.is_empty() {
        assert_eq!(told, [("06", "opened", false), ("09", "merged", false)]);
        let merged = &requests[1].1;
        assert_eq!((merged.base_branch.as_str(), merged.number), ("main", 1));
        assert!(merged.merge_commit.is_some() && requests[0].1.merge_commit.is_none());
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

/// What Harbor sent, and whether it is an error: none is.
#[test]
fn whatever_harbor_sent_is_read() {
    let harbor = sender(SenderKind::Harbor, Some("a-test-token"));
    let stranger = sender(SenderKind::Harbor, Some("another-token"));
    // Some were sent by a webhook without an `Authorization`.
    let unsigned = sender(SenderKind::Harbor, None);
    let receive = |message: &Captured| match message.headers.get("authorization") {
        Some(_) => {
            assert!(receive(&stranger, message).unwrap_err().is_signature(), "{}", message.name);
            receive(&harbor, message)
        }
        None => receive(&unsigned, message),
    };
    let messages = captured_in(HARBOR, "");
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for message in &messages {
        let received = receive(message).unwrap_or_else(|e| panic!("{}: {e}", message.name));
        assert_eq!(received.refused, [""; 0], "{}", message.name);
        let is_pull = message.name.contains("-pull-by-") || message.name.ends_with("-cache-pull");
        assert_eq!(received.events.is_empty(), is_pull, "{}", message.name);
        for event in &received.events {
            *told.entry(event.kind().key()).or_default() += 1;
            if let SourceEvent::ImagePushed(push) = event {
                assert_eq!(push.repository.registry(), "registry.example.com");
                assert!(push.digest.is_some() && push.at.is_some(), "{}", message.name);
            }
            if let SourceEvent::ImageScanned(scan) = event {
                // What found nothing has no map of findings, and is told as not known.
                let without = ["clean", "failed", "stopped", "sbom"];
                let want = without.iter().any(|word| message.name.contains(word));
                assert_eq!(scan.findings.is_none(), want, "{}: {scan:?}", message.name);
            }
        }
    }
    if messages.is_empty() {
        return;
    }
    let want =
        [("event", 16), ("registry.delete", 7), ("registry.push", 28), ("registry.scan", 11)];
    assert_eq!(told, want.into());
    let subjects = |name: &str| -> Vec<String> {
        let found = messages.iter().filter(|message| message.name.contains(name));
        found
            .flat_map(|message| receive(message).unwrap().events)
            .map(|event| event.subject())
            .collect()
    };
    let pushed = subjects("default-001-push-new-tag");
    assert!(pushed[0].starts_with("registry.example.com/team/app/api:1.0.0@sha256:"), "{pushed:?}");
    let child = subjects("default-011-push-index-child");
    assert!(child[0].starts_with("registry.example.com/team/app/api@sha256:"), "{child:?}");
}

/// The list of a policy's executions, as Harbor answered it.
#[test]
fn what_harbor_could_not_deliver_is_read_back() {
    let Some(folder) = folder("../harbor/api") else { return };
    let answer = std::fs::read(folder.join("webhook-executions.json")).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let message = Captured {
        name: "webhook-executions".into(),
        headers: Headers::default(),
        body: answer["response"]["body"].to_string().into_bytes(),
    };
    let received = receive(&sender(SenderKind::Harbor, None), &message).unwrap();
    assert_eq!((received.events.len(), received.refused.len()), (2, 0), "{received:?}");
}

/// The examples that GitHub publishes. They carry no signature, and speak of GitHub.
#[test]
fn whatever_github_shows_is_read() {
    let Some(folder) = folder(GITHUB) else { return };
    let github = Sender::new(SenderKind::GitHub, None, Some("registry.example.com"), None).unwrap();
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    for kind in std::fs::read_dir(&folder).unwrap() {
        let kind = kind.unwrap();
        let event = kind.file_name().into_string().unwrap();
        for file in std::fs::read_dir(kind.path()).unwrap() {
            let path = file.unwrap().path();
            let headers =
                [("X-GitHub-Event", event.as_str()), ("Content-Type", "application/json")];
            let message = Captured {
                name: path.display().to_string(),
                headers: headers.into_iter().collect(),
                body: std::fs::read(&path).unwrap(),
            };
            let received = receive(&github, &message);
            let received = received.unwrap_or_else(|e| panic!("{}: {e}", message.name));
            assert_eq!(received.refused, [""; 0], "{}", message.name);
            for event in received.events {
                *told.entry(event.kind().key()).or_default() += 1;
            }
            count += 1;
        }
    }
    assert!(count > 90, "{count}");
    for kind in ["git.push", "git.pull_request", "git.release", "registry.push"] {
        assert!(told.get(kind).is_some_and(|count| *count > 0), "{kind}: {told:?}");
    }
    // Its comments are on issues.
    assert_eq!(told.get("git.comment"), None);
}
