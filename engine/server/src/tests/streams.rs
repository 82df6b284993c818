//! What is followed live, also when another server drives it.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::access::caller;
use super::harness::{Harness, Serving, TOKEN};

/// A stream of events that is being read.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(serving: &Serving, path: &str, shown: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(serving.address).await.unwrap();
        let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {shown}\r\n{last}\r\n",
            serving.address
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// Reads until something was said.
    async fn until(&mut self, want: impl Fn(&str) -> bool) -> &str {
        let reading = async {
            let mut piece = [0; 4096];
            while !want(&self.text) {
                let count = self.socket.read(&mut piece).await.unwrap();
                assert!(count > 0, "the stream ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(20), reading).await;
        assert!(done.is_ok(), "not said: {}", self.text);
        &self.text
    }

    fn last_id(&self) -> &str {
        let mut ids = self.text.lines().rev().filter_map(|line| line.strip_prefix("id: "));
        ids.next().unwrap()
    }
}

#[tokio::test]
async fn a_run_that_another_server_drives_is_followed_from_the_store() {
    let harness = Harness::new();
    harness.leave.forget_permits(1000);
    let (here, there) = (harness.serve().await, harness.serve().await);
    let admin = format!("Bearer {TOKEN}");
    let mut all = Stream::open(&here, "/api/v1/runs/stream", &admin, None).await;
    all.until(|text| text.contains("200 OK")).await;
    let started = there.api("POST", "/api/v1/pipelines/build/runs", "").await;
    let run = started.json()["run"].as_str().unwrap().to_owned();
    harness.went_on(&run).await;
    let path = format!("/api/v1/runs/{run}/events");
    let mut one = Stream::open(&here, &path, &admin, None).await;
    one.until(|text| text.contains("\"type\":\"started\"")).await;
    let seen = one.last_id().to_owned();
    drop(one);
    let mut one = Stream::open(&here, &path, &admin, Some(&seen)).await;
    one.until(|text| text.contains("200 OK")).await;
    harness.leave.add_permits(1000);
    let told = one.until(|text| text.contains("\"type\":\"ended\"")).await;
    assert!(!told.contains("\"type\":\"started\""), "what was seen is not sent again: {told}");
    let ended = |text: &str| text.contains(&run) && text.contains("\"status\":\"passed\"");
    all.until(ended).await;

    // Whoever comes back is told what has ended meanwhile.
    let since = all.last_id().to_owned();
    drop(all);
    let started = there.api("POST", "/api/v1/pipelines/build/runs", "").await;
    let later = started.json()["run"].as_str().unwrap().to_owned();
    harness.ended(2).await;
    let mut all = Stream::open(&here, "/api/v1/runs/stream", &admin, Some(&since)).await;
    all.until(|text| text.contains(&later) && text.contains("\"status\":\"passed\"")).await;
    let headers = [("Authorization", admin.as_str()), ("Last-Event-ID", "x")];
    let bad = here.send("GET", "/api/v1/runs/stream", &headers, b"").await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn all_runs_are_those_that_one_may_look_at() {
    let mut harness = Harness::new();
    harness.projects(serde_json::json!({"shop": ["build"], "bank": "gated"}));
    let serving = harness.serve().await;
    let ann = caller(&harness, "ann", &["viewer:shop"]).await;
    let mut all = Stream::open(&serving, "/api/v1/runs/stream", &ann, None).await;
    all.until(|text| text.contains("200 OK")).await;
    let hidden = serving.api("POST", "/api/v1/pipelines/gated/runs", "").await.json();
    let shown = serving.api("POST", "/api/v1/pipelines/build/runs", "").await.json();
    let text = |value: &Value| value["run"].as_str().unwrap().to_owned();
    let (hidden, shown) = (text(&hidden), text(&shown));
    let told = all.until(|text| text.contains(&shown) && text.contains("passed")).await;
    assert!(!told.contains(&hidden), "{told}");
    serving.stop().await;
}
