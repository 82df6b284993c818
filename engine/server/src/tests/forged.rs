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
