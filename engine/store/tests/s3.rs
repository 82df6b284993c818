//! Artifacts in storage that speaks S3: `moto`, a server for tests of such clients. `FAIRLEAD_MOTO` names a Python
//! that has it, as `tests/setup/moto.sh` prints it; the test says when there is none.

#![expect(clippy::print_stderr, reason = "it says what it skipped")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "a test starts the server itself")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use fairlead_step::{ArtifactError, Digest, Secret};
use fairlead_store::{PruneRules, S3Options, Store};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

/// A server that ends with the test.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn moto() -> Option<Moto> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script =
        "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])";
    let python = std::env::var_os("FAIRLEAD_MOTO").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.args(["-c", script, &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut moto =
        Moto { child: command.spawn().ok()?, endpoint: format!("http://127.0.0.1:{port}") };
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(moto);
        }
        if moto.child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Makes a bucket; a client of artifacts never does.
fn make_bucket(endpoint: &str, name: &str) {
    use std::io::{Read as _, Write as _};
    let host = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!(
        "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn options(endpoint: &str, bucket: &str) -> S3Options {
    let secret = |text: &str| Secret::new(text.to_owned());
    S3Options {
        url: format!("s3://{bucket}/some/prefix?endpoint={endpoint}"),
        access_key_id: secret("key"),
        secret_access_key: secret("secret"),
        session_token: None,
    }
}

#[tokio::test]
async fn artifacts_are_kept_in_a_bucket_and_go_when_nothing_names_them() {
    let Some(moto) = moto() else {
        let told = std::env::var_os("FAIRLEAD_MOTO").is_some();
        assert!(!told, "the Python that FAIRLEAD_MOTO names has no moto");
        eprintln!("SKIPPED: there is no moto; `tests/setup/moto.sh` brings it");
        return;
    };
    // As the program does when it begins.
    let _ = rustls::crypto::ring::default_provider().install_default();
    make_bucket(&moto.endpoint, "kept");
    let folder = tempfile::tempdir().unwrap();
    let nowhere = options(&moto.endpoint, "none");
    let none = Store::memory().with_artifacts_in(&nowhere, folder.path());
    let error = none.await.unwrap_err();
    assert!(!fairlead_step::error_chain(&error).contains("secret"), "{error}");

    let local = Store::memory();
    let before =
        local.artifacts().put("a", "text/plain", Bytes::from_static(b"old")).await.unwrap();
    let kept = options(&moto.endpoint, "kept");
    let store = local.with_artifacts_in(&kept, folder.path()).await;
    let store = store.unwrap();
    let artifacts = store.artifacts();
    // What was there before there was a bucket is still found.
    assert_eq!(artifacts.get(&before.digest).await.unwrap(), "old");
    let one = artifacts.put("b", "text/plain", Bytes::from_static(b"a document")).await.unwrap();
    let again = artifacts.put("b", "text/plain", Bytes::from_static(b"a document")).await.unwrap();
    assert_eq!(one, again);
    assert_eq!(artifacts.get(&one.digest).await.unwrap(), "a document");
    let missing = artifacts.get(&Digest::sha256(b"none")).await;
    assert!(matches!(missing, Err(ArtifactError::NotFound { .. })), "{missing:?}");

    // In parts, and back in a stream.
    let piece = Bytes::from(vec![7; 1 << 20]);
    let pieces = || {
        let piece = piece.clone();
        stream::iter((0..20).map(move |_| Ok(piece.clone()))).boxed()
    };
    let wrong = artifacts.write("x", "text/plain", Some(&one.digest), pieces()).await;
    assert!(matches!(wrong, Err(ArtifactError::Damaged { .. })), "{wrong:?}");
    let large = artifacts.write("x", "text/plain", None, pieces()).await.unwrap();
    assert_eq!(large.size, 20 << 20);
    let mut read = artifacts.read(&large.digest).await.unwrap();
    let mut count = 0;
    while let Some(piece) = read.next().await {
        count += piece.unwrap().len();
    }
    assert_eq!(count, 20 << 20);

    // What was put an hour ago and nothing names goes; what was put since then stays.
    let now = Timestamp::now();
    let young = store.prune(&PruneRules::at(now), false).await.unwrap();
    assert_eq!(young.artifacts.count, 0);
    let later = now + jiff::SignedDuration::from_hours(3);
    let would = store.prune(&PruneRules::at(later), true).await.unwrap();
    assert_eq!(would.artifacts.count, 3);
    let gone = store.prune(&PruneRules::at(later), false).await.unwrap();
    assert_eq!(gone.artifacts.count, 3);
    assert!(artifacts.get(&one.digest).await.is_err());
    // Put again, it is there again.
    artifacts.put("b", "text/plain", Bytes::from_static(b"a document")).await.unwrap();
    assert_eq!(artifacts.get(&one.digest).await.unwrap(), "a document");
}
