//! A forged message of every sender at the door: it starts nothing, and nobody else hears of it.

use fairlead_event::samples::{Message, Shown, message, proof};
use fairlead_event::{MAX_BODY, Proof, SenderKind};

use super::harness::{Answer, EVERY_SECRET, Harness, Serving};

async fn send(
    serving: &Serving,
    kind: SenderKind,
    message: &Message,
    shown: &Shown,
    body: &[u8],
) -> Answer {
    let end = shown.address_end.iter().map(|end| format!("/{end}")).collect::<String>();
    let headers: Vec<(&str, &str)> =
        message.headers.iter().chain(&shown.headers).map(|(n, v)| (*n, v.as_str())).collect();
    serving.send("POST", &format!("/webhooks/every-{kind}{end}"), &headers, body).await
}

#[tokio::test]
async fn a_forged_event_of_any_sender_starts_nothing_and_reaches_nobody() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    for kind in SenderKind::ALL {
        let message = message(kind);
        let body = message.body.to_string().into_bytes();
        let wrong = "another-secret-that-is-long-enough";
        let mut forged = vec![Shown::default(), proof(kind, wrong, &body)];
        if kind.proof() == Proof::Signature {
            forged.push(proof(kind, EVERY_SECRET, b"another body"));
        }
        for shown in forged {
            let answer = send(&serving, kind, &message, &shown, &body).await;
            assert_eq!(answer.status, 401, "{kind}: {shown:?}: {}", answer.body);
            assert!(!answer.body.contains(EVERY_SECRET), "{kind}: {}", answer.body);
        }
    }
    harness.settled().await;
    assert_eq!(harness.stored_events().await, 0);
    assert!(harness.runs().await.is_empty());
    assert_eq!(harness.registry.questions(), 0);
    assert!(harness.forge.asked().is_empty());

    // It is the proof that was missing: with it each is taken, and asks about nothing but the places
    // of its source, whatever addresses stand in it.
    for kind in SenderKind::ALL {
        let message = message(kind);
        let body = message.body.to_string().into_bytes();
        let shown = proof(kind, EVERY_SECRET, &body);
        let answer = send(&serving, kind, &message, &shown, &body).await;
        assert_eq!(answer.status, 202, "{kind}: {}", answer.body);
        assert!(!answer.body.contains("elsewhere"), "{kind}: {}", answer.body);
    }
    harness.settled().await;
    assert!(harness.stored_events().await > 10);
    assert!(harness.forge.asked().iter().all(|address| address.starts_with(super::forge::FORGE)));
    serving.stop().await;
}

#[tokio::test]
async fn hostile_requests_are_refused_with_a_reason() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    for kind in SenderKind::ALL {
        let message = message(kind);
        let body = message.body.to_string().into_bytes();
        let truncated = &body[..body.len() - 1];
        let huge = vec![b' '; MAX_BODY + 1];
        for (hostile, want) in [(truncated, 400), (b"\xff", 400), (huge.as_slice(), 413)] {
            let shown = proof(kind, EVERY_SECRET, hostile);
            let answer = send(&serving, kind, &message, &shown, hostile).await;
            assert_eq!(answer.status, want, "{kind}: {}", answer.body);
            assert!(answer.json()["detail"].as_str().is_some_and(|it| !it.is_empty()), "{kind}");
        }
    }
    assert_eq!(harness.stored_events().await, 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_proof_in_the_head_is_checked_before_the_body_has_come() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let harness = Harness::new();
    let serving = harness.serve().await;
    for kind in SenderKind::ALL {
        let mut stream = tokio::net::TcpStream::connect(serving.address).await.unwrap();
        let head = format!(
            "POST /webhooks/every-{kind} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\n",
            serving.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Nothing of the body is sent, and the answer comes all the same.
        let mut answer = [0; 12];
        let read = tokio::time::timeout(
            std::time::Duration::from_secs(10),
            stream.read_exact(&mut answer),
        );
        read.await.unwrap_or_else(|_| panic!("{kind}: the body is waited for")).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401", "{kind}");
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_sender_that_asks_whether_it_may_is_answered() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let path = format!("/webhooks/every-acr/{EVERY_SECRET}");
    let origin = [("WebHook-Request-Origin", "eventgrid.example.com")];
    let answer = serving.send("OPTIONS", &path, &origin, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.headers.contains("webhook-allowed-origin: eventgrid.example.com"));
    let stranger = serving.send("OPTIONS", "/webhooks/every-acr", &origin, b"").await;
    assert_eq!(stranger.status, 401);
    let validation = br#"[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent",
        "data":{"validationCode":"512d38b6","validationUrl":"https://elsewhere.example.com/"}}]"#;
    let kind = [("aeg-event-type", "SubscriptionValidation")];
    let answer = serving.send("POST", &path, &kind, validation).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json(), serde_json::json!({ "validationResponse": "512d38b6" }));
    assert_eq!(serving.send("POST", "/webhooks/every-acr", &kind, validation).await.status, 401);
    serving.stop().await;
}

#[tokio::test]
async fn a_push_without_a_digest_is_one_push_however_many_tell_of_it() {
    let harness = Harness::new();
    harness.registry.put("apps/shop:1.0", "a");
    let serving = harness.serve().await;
    let send = async |kind: SenderKind, body: serde_json::Value| {
        let (body, headers) = (body.to_string(), message(kind).headers);
        let shown = proof(kind, EVERY_SECRET, body.as_bytes());
        let message = Message { headers, body: serde_json::Value::Null };
        let answer = send(&serving, kind, &message, &shown, body.as_bytes()).await;
        assert_eq!(answer.status, 202, "{kind}: {}", answer.body);
    };
    let hub = serde_json::json!({ "push_data": { "tag": "1.0", "pushed_at": 1_767_225_600 },
        "repository": { "repo_name": "apps/shop" } });
    let quay = serde_json::json!({ "repository": "apps/shop", "updated_tags": ["1.0"] });
    // Twice by one, once by another that tells no time, and by one that knows the digest.
    send(SenderKind::DockerHub, hub.clone()).await;
    send(SenderKind::DockerHub, hub).await;
    send(SenderKind::Quay, quay.clone()).await;
    assert_eq!(serving.notify("1", "apps/shop", "1.0", "a").await.status, 202);
    harness.settled().await;
    let promoted = async || {
        let runs = harness.runs().await;
        runs.iter().filter(|run| run.pipeline.as_str() == "promote").count()
    };
    assert_eq!(promoted().await, 1);
    // What the tag holds next is another push.
    harness.registry.put("apps/shop:1.0", "b");
    send(SenderKind::Quay, quay).await;
    harness.settled().await;
    assert_eq!(promoted().await, 2);
    serving.stop().await;
}

#[tokio::test]
async fn what_no_pipeline_waits_for_is_stored_and_handled() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let shown = |body: &str| proof(SenderKind::CloudEvents, EVERY_SECRET, body.as_bytes());
    let custom = r#"{"specversion":"1.0","id":"7","source":"/b","type":"com.example.built"}"#;
    let message = message(SenderKind::CloudEvents);
    for duplicate in [false, true] {
        let kind = SenderKind::CloudEvents;
        let answer = send(&serving, kind, &message, &shown(custom), custom.as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert_eq!(answer.json()["events"][0]["duplicate"], duplicate);
    }
    harness.settled().await;
    let handled = fairlead_run::EventFilter {
        state: Some(fairlead_run::EventState::Handled),
        limit: 10,
        ..fairlead_run::EventFilter::default()
    };
    assert_eq!(harness.store.events().list(handled).await.unwrap().len(), 1);
    assert!(harness.runs().await.is_empty());
    serving.stop().await;
}
