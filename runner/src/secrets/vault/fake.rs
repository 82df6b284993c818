//! A fake of Vault's HTTP API, in this process: as much of it as Fairlead asks for, with faults on demand. It
//! is not Vault, and says nothing about how Vault behaves beyond its documented answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with the next answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Status(u16),
    NotJson,
    Huge,
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    path: String,
    pub(super) namespace: Option<String>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Value>,
    forbidden: BTreeSet<String>,
    tokens: BTreeSet<String>,
    minted: u32,
    lease: u64,
    fault: Option<(Fault, u32)>,
    asked: Vec<Asked>,
}

pub(super) struct Fake {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tokens = BTreeSet::from(["root".to_owned()]);
        let state = Arc::new(Mutex::new(State { tokens, lease: 3600, ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { answer(stream, &state).await });
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn put(&self, path: &str, data: Value) {
        self.state().secrets.insert(format!("v1/{path}"), data);
    }

    /// How many seconds the tokens of logins last.
    pub(super) fn lease(&self, seconds: u64) {
        self.state().lease = seconds;
    }

    /// Takes back every token that was logged in for.
    pub(super) fn revoke(&self) {
        self.state().tokens.retain(|token| token == "root");
    }

    pub(super) fn forbid(&self, path: &str) {
        self.state().forbidden.insert(format!("v1/{path}"));
    }

    /// The next `times` answers go wrong.
    pub(super) fn fail(&self, fault: Fault, times: u32) {
        self.state().fault = Some((fault, times));
    }

    pub(super) fn requests(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    pub(super) fn count(&self, path: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.path == path).count()
    }
}

async fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut received = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut piece).await else { return };
        received.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").and_then(|text| text.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let (status, text) = {
        let mut state = state.lock().unwrap();
        respond(&mut state, &head, &body)
    };
    let more = if (300..400).contains(&status) { "location: http://127.0.0.1:1/\r\n" } else { "" };
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

fn respond(state: &mut State, head: &str, body: &str) -> (u16, String) {
    let mut words = head.split([' ', '\r']);
    let (method, path) = (words.next().unwrap(), words.next().unwrap().trim_start_matches('/'));
    state.asked.push(Asked { path: path.to_owned(), namespace: header(head, "x-vault-namespace") });
    assert_eq!(header(head, "x-vault-request").as_deref(), Some("true"));
    match &mut state.fault {
        Some((fault, times)) if *times > 0 => {
            *times -= 1;
            return match fault {
                Fault::Status(status) => (*status, json!({ "errors": ["as asked"] }).to_string()),
                Fault::NotJson => (200, "hunter2".to_owned()),
                Fault::Huge => (200, "x".repeat(5 << 20)),
            };
        }
        Some(_) | None => {}
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let denied = || (403, json!({ "errors": ["permission denied"] }).to_string());
    let role = json!({ "role_id": "fairlead", "secret_id": "s-1" });
    let pod = json!({ "role": "fairlead", "jwt": "jwt-1" });
    match (method, path) {
        ("POST", "v1/auth/approle/login") if body == role => return (200, mint(state)),
        ("POST", "v1/auth/kubernetes/login") if body == pod => return (200, mint(state)),
        ("POST", login) if login.ends_with("/login") => {
            return (400, json!({ "errors": ["invalid role or secret ID"] }).to_string());
        }
        _ => {}
    }
    let token = header(head, "x-vault-token").unwrap_or_default();
    if !state.tokens.contains(&token) || state.forbidden.contains(path) {
        return denied();
    }
    match (method, path) {
        ("GET", "v1/auth/token/lookup-self") => (200, json!({ "data": {} }).to_string()),
        ("POST", "v1/auth/token/renew-self") => (200, session(&token, state.lease)),
        ("GET", _) => match state.secrets.get(path) {
            Some(data) => (200, json!({ "data": { "data": data, "metadata": {} } }).to_string()),
            None => (404, json!({ "errors": [] }).to_string()),
        },
        _ => (405, json!({ "errors": ["unsupported operation"] }).to_string()),
    }
}

fn mint(state: &mut State) -> String {
    state.minted += 1;
    let token = format!("hvs.{}", state.minted);
    state.tokens.insert(token.clone());
    session(&token, state.lease)
}

fn session(token: &str, lease: u64) -> String {
    json!({ "auth": { "client_token": token, "lease_duration": lease, "renewable": true } })
        .to_string()
}
