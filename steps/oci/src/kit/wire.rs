//! Requests and answers of the fake registry, as they go over the wire.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Fault;

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", kind)
    }
}

pub(super) async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

/// Whether the connection may go on.
pub(super) async fn write_answer(
    stream: &mut BufReader<TcpStream>,
    request: &Request,
    answer: Answer,
    fault: Option<Fault>,
) -> bool {
    let mut body = answer.body.to_vec();
    let mut cut = body.len();
    match fault {
        Some(Fault::Mute) => return false,
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::CutAfter(bytes)) => cut = bytes.min(body.len()),
        Some(Fault::Damage) => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
        }
        Some(Fault::Shorten) => {
            body.pop();
            cut = body.len();
        }
        Some(Fault::Status(..) | Fault::Answer(..) | Fault::Overtaken(_)) | None => {}
    }
    let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", answer.status, body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let whole = cut == body.len();
    if request.method != "HEAD" {
        body.truncate(cut);
    } else {
        body.clear();
    }
    // In one piece: two small writes would wait for each other's acknowledgment.
    let mut answer = head.into_bytes();
    answer.append(&mut body);
    stream.write_all(&answer).await.is_ok() && stream.flush().await.is_ok() && whole
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

impl Request {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// `/v2/apps/shop/manifests/v1` → repository, kind, name.
pub(super) fn split(path: &str) -> Option<(String, &'static str, String)> {
    let path = path.strip_prefix("/v2/")?;
    for (part, kind) in [
        ("/blobs/uploads/", "uploads"),
        ("/manifests/", "manifests"),
        ("/blobs/", "blobs"),
        ("/referrers/", "referrers"),
        ("/tags/", "tags"),
    ] {
        if let Some((repository, name)) = path.split_once(part) {
            return Some((repository.to_owned(), kind, name.to_owned()));
        }
    }
    None
}
