//! Updates over HTTP, from a server of a few lines that remembers what it was asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fairlead_step::Digest;
use fairlead_step_scan::{Database, Source, UpdateError, UpdateOptions, UpdateReport};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::dumps::{self, archive, record};

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Path and status of every answer.
    answers: Vec<(String, u16)>,
    /// Every answer with a body breaks off half-way.
    breaks_off: bool,
    /// The status to answer everything with.
    refuses: Option<u16>,
}

struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

async fn serve(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Server {
    let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    let state = Arc::new(Mutex::new(State { files, ..State::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}/dumps", listener.local_addr().unwrap());
    let shared = Arc::clone(&state);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&shared)));
        }
    });
    Server { url, state }
}

async fn answer(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut lines = BufReader::new(stream);
    let (mut path, mut tag) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(rest) = line.strip_prefix("GET /dumps/") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("if-none-match")
        {
            tag = value.trim().to_owned();
        }
    }
    let (head, body) = {
        let mut state = state.lock().unwrap();
        let file = state.files.get(&path).cloned();
        let current = file.as_ref().map(|bytes| format!("\"{}\"", Digest::sha256(bytes).short()));
        let (status, body) = match (state.refuses, file, current == Some(tag)) {
            (Some(status), _, _) => (status, Vec::new()),
            (None, None, _) => (404, Vec::new()),
            (None, Some(_), true) => (304, Vec::new()),
            (None, Some(bytes), false) => (200, bytes),
        };
        state.answers.push((path, status));
        let head = format!(
            "HTTP/1.1 {status} x\r\nETag: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            current.unwrap_or_default(),
            body.len()
        );
        let sent = if state.breaks_off { body.len() / 2 } else { body.len() };
        (head, body[..sent].to_vec())
    };
    let mut stream = lines.into_inner();
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}

impl Server {
    async fn update(&self, dir: &Path) -> Result<UpdateReport, UpdateError> {
        let source = Source::parse(&self.url);
        Database::update(source, dir, UpdateOptions::new(dumps::now())).await
    }

    fn answers(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut self.state.lock().unwrap().answers)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

fn sample(id: &str, ecosystem: &str) -> Vec<u8> {
    let record: Value = record(id, &[], (ecosystem, "x"), &[("introduced", "0")]);
    archive(&[record])
}

#[tokio::test]
async fn nothing_unchanged_is_fetched_twice() {
    let list = b"npm\nPyPI\nDebian:12\nMoon Base\n".to_vec();
    let server = serve([
        ("ecosystems.txt", list),
        ("npm/all.zip", sample("A-1", "npm")),
        ("PyPI/all.zip", sample("B-1", "PyPI")),
    ])
    .await;
    let db = tempfile::tempdir().unwrap();
    let first = server.update(db.path()).await.unwrap();
    assert_eq!((first.records, first.skipped.as_slice()), (2, &["Moon Base".to_owned()][..]));
    let info = Database::open(db.path()).unwrap().info();
    assert!(!info.source.contains("secret"), "{}", info.source);
    assert_eq!(server.answers().iter().filter(|(_, status)| *status == 200).count(), 3);

    let second = server.update(db.path()).await.unwrap();
    assert!(!second.changed() && second.feeds.is_empty());
    let answers = server.answers();
    assert!(answers.contains(&("npm/all.zip".into(), 304)), "{answers:?}");
    assert!(answers.contains(&("PyPI/all.zip".into(), 304)), "{answers:?}");

    server.change(|state| {
        state.files.insert("npm/all.zip".into(), sample("A-2", "npm"));
    });
    let third = server.update(db.path()).await.unwrap();
    assert!(third.changed());
    let fetched: Vec<bool> = third.feeds.iter().map(|feed| feed.fetched).collect();
    assert_eq!(fetched, [false, true], "PyPI is held, npm is new");
    assert_eq!(third.records, 2);
}

#[tokio::test]
async fn without_a_list_everything_that_can_be_matched_is_asked_for() {
    let server = serve([("crates.io/all.zip", sample("A-1", "crates.io"))]).await;
    let db = tempfile::tempdir().unwrap();
    let report = server.update(db.path()).await.unwrap();
    assert_eq!(report.feeds.len(), 1);
    assert!(server.answers().contains(&("Debian/all.zip".into(), 404)));
}

#[tokio::test]
async fn a_server_that_fails_leaves_the_database_as_it_was() {
    let server = serve([("npm/all.zip", sample("A-1", "npm"))]).await;
    let db = tempfile::tempdir().unwrap();
    let before = server.update(db.path()).await.unwrap();

    server.change(|state| state.refuses = Some(403));
    let error = server.update(db.path()).await.unwrap_err();
    assert!(matches!(error, UpdateError::Refused { status: 403, .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");

    server.change(|state| {
        state.refuses = None;
        state.breaks_off = true;
        state.files.insert("npm/all.zip".into(), sample("A-2", "npm"));
    });
    let error = server.update(db.path()).await.unwrap_err();
    assert!(matches!(error, UpdateError::Http { .. }), "{error}");
    assert_eq!(Database::open(db.path()).unwrap().info().digest, before.digest);

    let closed = Source::Url("http://127.0.0.1:9/".into());
    let options = UpdateOptions::new(dumps::now());
    let error = Database::update(closed, db.path(), options).await.unwrap_err();
    assert!(matches!(error, UpdateError::Http { .. }), "{error}");
}
