//! Pushes of a real forge (git over HTTP, with a login): what is fetched is what the forge has, from
//! where it is, and its password goes nowhere else, whatever a signed message says.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use fairlead_tests::http::Answer;
use fairlead_tests::{BareRepository, GitServer, Running, eventually, git};
use serde_json::{Value, json};

use crate::events::{Harbor, PATIENCE, TOKEN, hmac_sha256, projects, push_body};

const PASSWORD: &str = "lateen-rig";

/// A pipeline that shows what it works on, by branches, and one that shows the commit of a tag.
const PIPELINES: [(&str, &str); 2] = [
    (
        "pipelines/ci.yaml",
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: ci
on:
  git.push: {branches: [main]}
steps:
  note: {uses: command, with: {program: cat, args: [src/main.rs], capture: stdout}}
"#,
    ),
    (
        "pipelines/tags.yaml",
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: tags
on:
  git.push: {tags: "v*"}
steps:
  note: {uses: command, with: {program: echo, args: ["{{ event.commit }}"], capture: stdout}}
"#,
    ),
];

/// A repository `acme/shop` at a forge, and a project whose server is configured for it.
struct Shop {
    repository: BareRepository,
    forge: GitServer,
    harbor: Harbor,
}

impl Shop {
    /// `sources` are those of the configuration besides `github`.
    fn new(sources: &Value) -> Self {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("src")).unwrap();
        std::fs::write(tree.path().join("src/main.rs"), "the pushed one\n").unwrap();
        let repository = BareRepository::of(tree.path());
        repository.also_at("acme/shop");
        let forge = GitServer::start(&repository, Some(("robot", PASSWORD)));
        let mut harbor = Harbor::new(&json!({}), None);
        // As a person gives it, by where they are.
        harbor.fairlead = harbor.fairlead.env("FAIRLEAD_STATE", "kept");
        let mut all =
            json!({"github": {"kind": "github", "secret": "hook", "forge": forge.base()}});
        let mut logins = json!({forge.host(): {"username": "robot", "password": "forge"}});
        for (name, source) in sources.as_object().unwrap() {
            let base = source["forge"].as_str().unwrap();
            logins[base.trim_start_matches("http://")] = logins[forge.host()].clone();
            all[name] = source.clone();
        }
        let config = json!({"sources": all, "forges": logins, "projects": projects()});
        harbor.fairlead.write("serve.yaml", &config.to_string());
        harbor.fairlead.write("secrets/forge", &format!("{PASSWORD}\n"));
        for (path, text) in PIPELINES {
            harbor.fairlead.write(path, text);
        }
        Self { repository, forge, harbor }
    }

    fn rev(&self, name: &str) -> String {
        git(&self.repository.path(), &["rev-parse", name]).trim().to_owned()
    }

    /// Reports a push of `commit` to `main`, as GitHub would, with what a test changes in it.
    fn push(&self, source: &str, commit: &str, change: impl FnOnce(&mut Value)) -> Answer {
        let mut body = push_body("acme/shop");
        body["after"] = commit.into();
        body["head_commit"]["id"] = commit.into();
        body["repository"]["clone_url"] = format!("{}/acme/shop.git", self.forge.base()).into();
        change(&mut body);
        let body = body.to_string();
        let proof = format!("sha256={}", hmac_sha256(TOKEN.as_bytes(), body.as_bytes()));
        let headers = [
            ("Content-Type", "application/json"),
            ("X-GitHub-Event", "push"),
            ("X-Hub-Signature-256", &*proof),
        ];
        self.harbor.post(source, &headers, body.as_bytes())
    }

    fn until_told(&self, server: &Running, text: &str) {
        eventually(text, PATIENCE, || server.log().contains(text));
    }
}

/// A host that nobody trusts: it remembers what it was sent, and answers by a fixed head.
struct Stranger {
    host: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Stranger {
    fn start(head: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 8192];
                let count = stream.read(&mut buffer).unwrap_or(0);
                all.lock().unwrap().push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{rest}").as_bytes());
            }
        });
        Self { host, seen }
    }

    fn asking() -> Self {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\n";
        Self::start(head.to_owned())
    }
}

#[test]
fn a_run_that_a_push_starts_works_on_the_pushed_commit_and_does_so_again_a_month_later() {
    let shop = Shop::new(&json!({}));
    let pushed = shop.rev("main");
    let server = shop.harbor.serve();
    // The branch has moved on by the time that the push is heard of.
    shop.repository.commit("main", "src/main.rs", "a later one\n", "later");
    assert_eq!(shop.push("github", &pushed, |_| ()).status, 202);
    shop.harbor.until_noted(&["the pushed one"]);
    let run = shop.harbor.runs()[0]["run"].as_str().unwrap().to_owned();
    let shown = shop.harbor.fairlead.run(["show", &run, "--json"]).code(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["workspace"]["kind"], "git");
    assert_eq!(shown["workspace"]["commit"], pushed);
    let log = shop.harbor.fairlead.run(["logs", &run]).code(0).stdout;
    assert!(log.contains(&format!("commit {pushed} of acme/shop (github)")), "{log}");
    // The folder went with the run.
    let state = shop.harbor.fairlead.project().join("kept");
    eventually("the end of the folder", PATIENCE, || {
        std::fs::read_dir(state.join("workspaces")).unwrap().next().is_none()
    });
    drop(server);

    // What was kept of the repository is gone, and so is the commit from its branch.
    std::fs::remove_dir_all(state.join("mirrors")).unwrap();
    git(&shop.repository.path(), &["update-ref", "refs/heads/elsewhere", "main~1"]);
    let tree = shop.rev("main^{tree}");
    let other = git(&shop.repository.path(), &["commit-tree", &tree, "-m", "anew"]);
    git(&shop.repository.path(), &["update-ref", "refs/heads/main", other.trim()]);
    let retry = ["retry", &run, "--from", "note"];
    // Without a login the forge gives nothing, which is the failure of the step.
    let refused = shop.harbor.fairlead.run(retry).code(1);
    assert!(refused.stderr.contains("refused the login"), "{}", refused.stderr);
    let _ = shop.harbor.fairlead.run(retry.iter().chain(&["--config", "serve.yaml"])).code(0);
    assert_eq!(shop.harbor.noted(), ["the pushed one"; 2]);

    // With the mirror that was made then, the forge may be away.
    drop(shop.forge);
    let _ = shop.harbor.fairlead.run(retry.iter().chain(&["--config", "serve.yaml"])).code(0);
    assert_eq!(shop.harbor.noted(), ["the pushed one"; 3]);
}

#[test]
fn what_the_forge_does_not_have_under_its_name_starts_nothing() {
    let shop = Shop::new(&json!({}));
    let first = shop.rev("main");
    let bare = shop.repository.path();
    // In the store of the forge, as a fork's commits are, and on no branch.
    let tree = shop.rev("main^{tree}");
    let stray = git(&bare, &["commit-tree", &tree, "-p", &first, "-m", "from a fork"]);
    git(&bare, &["tag", "-a", "v1", "-m", "one"]);
    git(&bare, &["tag", "v2"]);
    let server = shop.harbor.serve();
    assert_eq!(shop.push("github", stray.trim(), |_| ()).status, 202);
    assert_eq!(shop.push("github", &"c".repeat(40), |_| ()).status, 202);
    let gone = shop.push("github", &first, |body| body["ref"] = "refs/heads/other".into());
    assert_eq!(gone.status, 202);
    // No pipeline waits for that branch; one waits for these tags, of which one was moved.
    for (tag, after) in [("v1", shop.rev("v1")), ("v2", first.clone()), ("v3", first.clone())] {
        let told = shop.push("github", &after, |body| {
            body["ref"] = format!("refs/tags/{tag}").into();
            body["head_commit"] = Value::Null;
        });
        assert_eq!(told.status, 202);
    }
    let moved = shop.push("github", stray.trim(), |body| body["ref"] = "refs/tags/v2".into());
    assert_eq!(moved.status, 202);
    shop.harbor.until_noted(&[&first, &first]);
    for told in [
        format!("does not hold {} any more", stray.trim()),
        format!("does not hold {} any more", "c".repeat(40)),
        "acme/shop@refs/tags/v3 is not at its forge any more".to_owned(),
    ] {
        shop.until_told(&server, &told);
    }
    assert_eq!(shop.harbor.runs().len(), 2);
}

#[test]
fn the_password_of_a_forge_is_shown_to_nobody_else() {
    let stranger = Stranger::asking();
    let location = format!("Location: http://{}/acme/shop.git/info/refs", stranger.host);
    let moved = Stranger::start(format!("HTTP/1.1 302 Found\r\n{location}\r\n"));
    let base = format!("http://{}", moved.host);
    let shop = Shop::new(&json!({"moved": {"kind": "github", "secret": "hook", "forge": base}}));
    let (commit, good) = (shop.rev("main"), shop.forge.host());
    let server = shop.harbor.serve();
    let bad = &stranger.host;
    for address in [
        format!("http://{bad}#@{good}/acme/shop.git"),
        format!("http://{bad}?@{good}/acme/shop.git"),
        format!("http://{bad}\\@{good}/acme/shop.git"),
        format!("http://{good}@{bad}/acme/shop.git"),
        format!("http://{good}%2F@{bad}/acme/shop.git"),
        format!("http://{bad}/acme/shop.git"),
        format!("file://{}", shop.repository.path().display()),
        shop.repository.path().display().to_string(),
        "ext::sh -c true".to_owned(),
    ] {
        let told = shop.push("github", &commit, |body| {
            body["repository"]["clone_url"] = address.as_str().into();
        });
        assert_eq!(told.status, 422, "{address}: {}", told.text());
        assert!(told.text().contains("the forge of this source"), "{address}: {}", told.text());
    }
    let told = shop.push("moved", &commit, |body| {
        body["repository"]["clone_url"] = format!("{base}/acme/shop.git").into();
    });
    assert_eq!(told.status, 202, "{}", told.text());
    shop.until_told(&server, "redirects are not followed");
    // The rightful one is fetched, by a login.
    assert_eq!(shop.push("github", &commit, |_| ()).status, 202);
    shop.harbor.until_noted(&["the pushed one"]);
    assert_eq!(*stranger.seen.lock().unwrap(), Vec::<String>::new());
}
