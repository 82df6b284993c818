//! A password is shown to the origin of the address that is fetched, and to nobody else: not by the
//! way an address is written, and not by what a server answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use fairlead_git::{Checkout, Git, GitAuth, GitError, Remote};
use fairlead_step::Secret;
use fairlead_step::kit::TestHost;

use super::{git_as, laid_out, wanted};

/// Asks who is there.
const WHO: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";

/// An HTTP server that answers every request by a rule, and remembers what it was sent.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut text, mut buffer) = (String::new(), [0; 4096]);
                while !text.contains("\r\n\r\n") {
                    let count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        break;
                    }
                    text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
                let head = answer(&text);
                seen.lock().unwrap().push(text);
                let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{rest}").as_bytes());
            }
        });
        Self { port, requests }
    }

    /// One that asks for a password, whoever comes.
    fn asking() -> Self {
        Self::start(|_| WHO.to_owned())
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests showed a password.
    fn shown(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|text| text.to_lowercase().contains("\nauthorization:")).count()
    }
}

fn robot(host: &TestHost, folder: &std::path::Path) -> Git {
    let password = Secret::new("s3cr3t".to_owned());
    git_as(host, folder, &GitAuth::Password { user: "robot".into(), password })
}

/// Every operation that begins at an address, and how it ended.
async fn all(git: &Git, remote: &Remote, folder: &std::path::Path) -> Vec<GitError> {
    let commit = "a".repeat(40);
    let at = folder.join("history");
    let mut errors = vec![
        Checkout::clone(git, remote, None, &folder.join("clone")).await.err().unwrap(),
        laid_out(git, remote, wanted(&commit), folder, "at").await.unwrap_err(),
        git.history_has(remote, "refs/heads/main", &commit, &at).await.unwrap_err(),
    ];
    errors.push(git.ref_target(remote, "refs/heads/main").await.unwrap_err());
    errors
}

#[tokio::test]
async fn the_forge_of_the_address_gets_the_password() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let forge = Server::asking();
    let remote = format!("http://{}/a/b.git", forge.host()).parse().unwrap();
    let errors = all(&robot(&host, folder.path()), &remote, folder.path()).await;
    for error in &errors {
        assert!(matches!(error, GitError::Refused { .. }), "{error}");
    }
    assert_eq!(forge.shown(), errors.len());
}

#[tokio::test]
async fn a_redirect_does_not_lead_the_password_away() {
    let other = Server::asking();
    let location = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/a/b.git/", other.host());
    let redirect = move |request: &str| {
        let query = request.split_once('?').and_then(|(_, rest)| rest.split_once(' '));
        format!("{location}info/refs?{}\r\n", query.unwrap().0)
    };
    let after_login = redirect.clone();
    let at_once = Server::start(redirect);
    let later = Server::start(move |request| {
        let known = request.to_lowercase().contains("\nauthorization:");
        if known { after_login(request) } else { WHO.to_owned() }
    });
    for forge in [&at_once, &later] {
        let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
        let remote = format!("http://{}/a/b.git", forge.host()).parse().unwrap();
        for error in all(&robot(&host, folder.path()), &remote, folder.path()).await {
            assert!(matches!(error, GitError::Redirected { .. }), "{error}");
        }
    }
    assert_eq!(other.shown(), 0);
    assert_eq!(*other.requests.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn no_way_to_write_an_address_leads_the_password_away() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (forge, other) = (Server::asking(), Server::asking());
    let (good, bad) = (forge.host(), other.host());
    for text in [
        format!("http://{bad}#@{good}/a/b.git"),
        format!("http://{bad}?@{good}/a/b.git"),
        format!("http://{bad}/#@{good}/a/b.git"),
        format!("http://{bad}\\@{good}/a/b.git"),
        format!("http://{good}@{bad}/a/b.git"),
        format!("http://{good}:x@{bad}/a/b.git"),
        format!("http://{good}%2F@{bad}/a/b.git"),
        format!("http://{good}%00@{bad}/a/b.git"),
        format!("http://{bad}/a/b.git?x=@{good}/a/b.git"),
        format!("http:/{bad}/a/b.git"),
        format!("http:{bad}/a/b.git"),
        format!("http://{bad}\t@{good}/a/b.git"),
        format!("http://{bad}\n@{good}/a/b.git"),
        format!("http::http://{bad}/a/b.git"),
        format!("ext::git-remote-http http://{bad}/a/b.git"),
    ] {
        assert!(text.parse::<Remote>().is_err(), "{text}");
    }
    // What is left of such texts goes where it says that it goes.
    let remote: Remote = format!("http://{good}/@{bad}/b.git").parse().unwrap();
    assert_eq!(remote.origin(), Some(format!("http://{good}")));
    all(&robot(&host, folder.path()), &remote, folder.path()).await;
    assert_eq!((forge.shown() > 0, other.requests.lock().unwrap().len()), (true, 0));
}

/// The name of one remote in the working copy of another: the password stays with its own.
#[tokio::test]
async fn a_setting_that_rewrites_addresses_does_not_take_the_password_along() {
    let (host, folder) = (TestHost::new(), tempfile::tempdir().unwrap());
    let (forge, other) = (Server::asking(), Server::asking());
    let git = robot(&host, folder.path());
    let rewrite =
        format!("[url \"http://{}/\"]\n\tinsteadOf = http://{}/\n", other.host(), forge.host());
    std::fs::write(folder.path().join("home/.gitconfig"), rewrite).unwrap();
    let remote = format!("http://{}/a/b.git", forge.host()).parse().unwrap();
    all(&git, &remote, folder.path()).await;
    assert!(!other.requests.lock().unwrap().is_empty(), "the setting holds");
    assert_eq!((forge.shown(), other.shown()), (0, 0));
}
