//! What is asked over HTTP, and what is answered.

use super::harness::{Harness, TOKEN};
use crate::ApiAccess;

#[tokio::test]
async fn bad_webhooks_are_refused_with_the_reason() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let token = [("Authorization", "Bearer registry-secret")];
    for (path, body, status, want) in [
        ("/webhooks/unknown", &b"{}"[..], 404, "no such source"),
        ("/webhooks/registry", b"{", 400, "not a notification"),
        ("/webhooks/registry", b"{}", 400, "events"),
        ("/elsewhere", b"", 404, "nothing under this path"),
    ] {
        let answer = serving.send("POST", path, &token, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(want), "{path}: {}", answer.body);
        assert!(answer.headers.contains("application/problem+json"), "{}", answer.headers);
    }
    let answer = serving.send("GET", "/webhooks/registry", &token, b"").await;
    assert_eq!(answer.status, 405);
    assert_eq!(harness.stored_events().await, 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let body = vec![b' '; fairlead_event::MAX_BODY + 1];
    let token = [("Authorization", "Bearer registry-secret")];
    let answer = serving.send("POST", "/webhooks/registry", &token, &body).await;
    // The connection may be reset before the answer is read; then there is none.
    assert!(matches!(answer.status, 413 | 0), "{}", answer.status);
    assert_eq!(serving.send("GET", "/healthz", &[], b"").await.status, 200);
    serving.stop().await;
}

#[tokio::test]
async fn a_run_can_be_asked_for_once() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str()), ("Idempotency-Key", "k1")];
    let path = "/api/v1/pipelines/build/runs";
    let body = br#"{"params":{"version":"v1"}}"#;
    let first = serving.send("POST", path, &headers, body).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let again = serving.send("POST", path, &headers, body).await;
    assert_eq!((again.status, &again.json()["run"]), (200, &first.json()["run"]));
    let other = serving.send("POST", path, &headers, br#"{"params":{"version":"v2"}}"#).await;
    assert_eq!(other.status, 422, "{}", other.body);
    // Without a key, each request is its own.
    assert_eq!(serving.api("POST", path, "").await.status, 201);
    harness.ended(2).await;
    harness.settled().await;
    assert_eq!(harness.runs().await.len(), 2);
    assert!(harness.store.events().unpublished(1).await.unwrap().is_empty());

    for (path, body, status, want) in [
        ("/api/v1/pipelines/none/runs", "", 404, "no such pipeline"),
        ("/api/v1/pipelines/nightly/runs", "", 403, "`manual`"),
        (path, "[", 400, "params"),
        (path, r#"{"params":{"versoin":"v1"}}"#, 422, "did you mean `version`?"),
    ] {
        let answer = serving.api("POST", path, body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(want), "{}", answer.body);
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_run_is_shown_with_its_steps_logs_and_records() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let started = serving.api("POST", "/api/v1/pipelines/build/runs", "").await;
    let run = started.json()["run"].as_str().unwrap().to_owned();
    // The stream ends when the run does.
    let live = serving.api("GET", &format!("/api/v1/runs/{run}/events"), "").await;
    assert!(live.headers.contains("text/event-stream"), "{}", live.headers);
    for want in ["id: 1\n", "\"type\":\"requested\"", "\"type\":\"ended\""] {
        assert!(live.body.contains(want), "{want}: {}", live.body);
    }
    let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
    assert_eq!((&shown["status"], &shown["by"]), (&"passed".into(), &"api".into()), "{shown}");
    assert_eq!(shown["steps"][0]["outputs"]["text"], "build none");
    let log = serving.api("GET", &format!("/api/v1/runs/{run}/logs/note"), "").await.json();
    assert_eq!(log["lines"][0]["text"], "build none");
    let list = serving.api("GET", "/api/v1/runs?pipeline=build&limit=1", "").await.json();
    assert_eq!(list["runs"][0]["run"], run.as_str());
    assert_eq!(list["next"], run.as_str());
    let pipelines = serving.api("GET", "/api/v1/pipelines", "").await.json();
    assert_eq!(pipelines["pipelines"].as_array().unwrap().len(), 18);
    for (path, status) in [
        ("/api/v1/runs/nonsense".to_owned(), 400),
        ("/api/v1/runs/000000000000000000".to_owned(), 404),
        (format!("/api/v1/runs/{run}/logs/none"), 404),
        ("/api/v1/runs?limt=1".to_owned(), 400),
    ] {
        assert_eq!(serving.api("GET", &path, "").await.status, status, "{path}");
    }
    let cancel = serving.api("POST", &format!("/api/v1/runs/{run}/cancel"), "").await;
    assert_eq!(cancel.status, 409, "{}", cancel.body);
    serving.stop().await;
}

#[tokio::test]
async fn a_run_can_be_told_to_stop() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let serving = harness.serve().await;
    let started = serving.api("POST", "/api/v1/pipelines/build/runs", "").await;
    let run = started.json()["run"].as_str().unwrap().to_owned();
    let cancelled = async {
        while serving.api("POST", &format!("/api/v1/runs/{run}/cancel"), "").await.status != 202 {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), cancelled).await.unwrap();
    assert_eq!(harness.ended(1).await[0].status.name(), "cancelled");
    serving.stop().await;
}

#[tokio::test]
async fn the_api_is_for_those_who_may() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let answer = serving.send("GET", "/api/v1/runs", &[], b"").await;
    assert_eq!(answer.status, 401);
    assert!(answer.headers.contains("www-authenticate: bearer"), "{}", answer.headers);
    assert_eq!(serving.send("GET", "/readyz", &[], b"").await.status, 200);
    serving.stop().await;

    let open = Harness::new();
    let serving =
        open.serve_with(None, ApiAccess::LoopbackWithoutToken { user: "ann".into() }).await;
    assert_eq!(serving.send("GET", "/api/v1/runs", &[], b"").await.status, 200);
    let page = [("Origin", "https://evil.example.com")];
    assert_eq!(serving.send("GET", "/api/v1/runs", &page, b"").await.status, 403);
    serving.stop().await;
}

#[tokio::test]
async fn an_open_api_is_not_served_to_the_network() {
    let exposed = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let harness = Harness::new();
    let server = harness.server(None, ApiAccess::LoopbackWithoutToken { user: "ann".into() }).await;
    let refused = server.serve(exposed, std::future::pending()).await;
    assert!(matches!(refused, Err(crate::ServeError::Exposed { .. })));
}
