//! Events start pipelines: notifications of a real registry, a real NATS server, signed pushes of
//! three forges; each once per thing that happened, whatever is sent twice or goes away meanwhile.

use std::time::{Duration, Instant};

use fairlead_step::Digest;
use fairlead_tests::http::{self, Answer};
use fairlead_tests::{Fairlead, Nats, Registry, Running, eventually, free_port};
use serde_json::{Value, json};

use crate::registry_view::crane;
use crate::registry_write::{put_blob, put_manifest, small_image};
use crate::release::plain_key;

/// Header fields: names and values.
type Fields<'a> = &'a [(&'a str, &'a str)];

pub(crate) const TOKEN: &str = "spanker-boom-vang";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline that a push to a registry starts, and one that a push to a repository starts. Each run
/// proves what it was told by writing it down.
const PIPELINES: [(&str, &str); 2] = [
    (
        "pipelines/intake.yaml",
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: intake
on:
  registry.push: {repository: "apps/*", tags: "v*"}
steps:
  note: {uses: command, with: {program: echo, args: ["{{ event.image }}"], capture: stdout}}
"#,
    ),
    (
        "pipelines/ci.yaml",
        r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: ci
on:
  git.push: {branches: [main], paths: ["src/**"]}
steps:
  note: {uses: command, with: {program: echo, args: ["{{ event.repository }}"], capture: stdout}}
"#,
    ),
];

/// What the pipelines of these tests may do on their server.
pub(crate) fn projects() -> Value {
    json!({"default": {"allow": {"kinds": ["command", "verify"], "host_programs": ["echo", "cat"]}}})
}

/// A server's project, kept across restarts of the server.
pub(crate) struct Harbor {
    pub(crate) fairlead: Fairlead,
    port: u16,
    nats: Option<String>,
}

impl Harbor {
    pub(crate) fn new(sources: &Value, nats: Option<&Nats>) -> Self {
        Self::on(free_port(), sources, nats)
    }

    fn on(port: u16, sources: &Value, nats: Option<&Nats>) -> Self {
        let fairlead = Fairlead::new().env("FAIRLEAD_SECRET_HOOK", TOKEN);
        let fairlead = fairlead.env("FAIRLEAD_SECRETS_DIR", "secrets");
        for (path, text) in PIPELINES {
            fairlead.write(path, text);
        }
        // JSON is YAML.
        let config = json!({"sources": sources, "projects": projects()});
        fairlead.write("serve.yaml", &config.to_string());
        Self { fairlead, port, nats: nats.map(Nats::url) }
    }

    pub(crate) fn serve(&self) -> Running {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut args = vec!["serve", "--pipelines", "pipelines", "--config", "serve.yaml", "-v"];
        args.extend(["--listen", &listen]);
        if let Some(url) = &self.nats {
            args.extend(["--nats", url]);
        }
        let mut server = self.fairlead.start(args);
        let ready = self.url("/readyz");
        server.wait_until(PATIENCE, || {
            http::send("GET", &ready, &[], b"").is_some_and(|answer| answer.status == 200)
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn post(&self, source: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = http::send("POST", &self.url(&format!("/webhooks/{source}")), headers, body);
        answer.expect("a server")
    }

    /// What the registry says of a push of `tag`, under this delivery id.
    fn notify(&self, id: &str, image: &str, tag: &str) -> Answer {
        let body = notification(id, image, tag);
        let proof = format!("Bearer {TOKEN}");
        self.post("registry", &[("Authorization", &proof)], body.as_bytes())
    }

    /// What each run wrote down, sorted: the images or repositories of all runs that ended well.
    pub(crate) fn noted(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .runs()
            .into_iter()
            .filter(|run| run["status"] == "passed")
            .map(|run| {
                let id = run["run"].as_str().unwrap();
                let shown = self.fairlead.run(["show", id, "--json"]).code(0);
                let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
                shown["steps"]["note"]["outputs"]["stdout"].as_str().unwrap().to_owned()
            })
            .collect();
        notes.sort();
        notes
    }

    pub(crate) fn runs(&self) -> Vec<Value> {
        let runs = self.fairlead.run(["runs", "--json", "--limit", "100"]).code(0);
        serde_json::from_str(&runs.stdout).unwrap()
    }

    /// Waits for the run of `wanted`, and checks that there are these runs then, and no others.
    pub(crate) fn until_noted(&self, wanted: &[&str]) {
        let mut wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        wanted.sort();
        let begin = Instant::now();
        eventually("runs", PATIENCE * 2, || {
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "no runs of {wanted:?} but {}\n{}", self.shown(), self.told());
            self.noted().len() >= wanted.len()
        });
        assert_eq!(self.noted(), wanted);
        assert_eq!(self.runs().len(), wanted.len());
    }

    /// Every run, as a person is shown it.
    pub(crate) fn shown(&self) -> String {
        let runs = self.runs();
        let ids = runs.iter().map(|run| run["run"].as_str().unwrap());
        ids.map(|id| self.fairlead.run(["show", id, "--journal"]).stdout).collect()
    }

    /// What all servers here have written.
    pub(crate) fn told(&self) -> String {
        let entries = std::fs::read_dir(self.fairlead.home()).unwrap().flatten();
        let logs = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "log"));
        logs.map(|log| std::fs::read_to_string(log).unwrap()).collect::<Vec<_>>().join("\n---\n")
    }
}

fn notification(id: &str, image: &str, tag: &str) -> String {
    let (name, digest) = image.split_once('@').unwrap();
    let (_, repository) = name.split_once('/').unwrap();
    json!({"events": [{
        "id": id,
        "timestamp": "2026-11-22T03:13:51.782418964Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 943,
            "digest": digest,
            "repository": repository,
            "tag": tag,
        },
        "actor": {},
    }]})
    .to_string()
}

fn is_duplicate(answer: &Answer) -> bool {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let said: Value = serde_json::from_str(&answer.text()).unwrap();
    said["events"][0]["duplicate"] == true
}

fn registry_source(registry: &str) -> Value {
    json!({"registry": {"kind": "distribution", "registry": registry, "secret": "hook"}})
}

#[test]
fn a_push_to_the_registry_starts_one_run_whatever_is_told_twice_or_goes_away() {
    let mut nats = Nats::start();
    let port = free_port();
    let hook = format!("http://127.0.0.1:{port}/webhooks/registry");
    let proof = format!("Bearer {TOKEN}");
    let registry = Registry::notifying(&hook, &[("Authorization", &proof)]);
    let harbor = Harbor::on(port, &registry_source(&registry.host()), Some(&nats));
    let mut server = harbor.serve();

    // Told by the registry itself.
    let first = small_image(&registry, "apps/shop", "v1", "first");
    harbor.until_noted(&[&first]);

    // Told again, by another delivery.
    assert!(is_duplicate(&harbor.notify("again", &first, "v1")));
    crane(&["tag", &first, "v1"]);

    // NATS is away: the push is taken, and kept through a restart of the server.
    nats.cut();
    let second = small_image(&registry, "apps/shop", "v2", "second");
    server.wait_until(PATIENCE, || harbor.notify("probe", &second, "v2").status == 202);
    eventually("the registry's own notification", PATIENCE, || {
        is_duplicate(&harbor.notify("while away", &second, "v2"))
    });
    assert_eq!(harbor.runs().len(), 1, "nothing starts around NATS");
    drop(server);
    let server = harbor.serve();
    assert!(is_duplicate(&harbor.notify("after the restart", &second, "v2")));
    assert!(is_duplicate(&harbor.notify("after the restart, too", &first, "v1")));
    nats.resume();
    harbor.until_noted(&[&first, &second]);

    // The server is away: the registry sends again until it is back.
    drop(server);
    let third = small_image(&registry, "apps/shop", "v3", "third");
    let server = harbor.serve();
    harbor.until_noted(&[&first, &second, &third]);

    // Killed in the middle, and started again: the same three, and the fourth.
    let mut server = server;
    let fourth = small_image(&registry, "apps/shop", "v4", "fourth");
    server.kill();
    let _server = harbor.serve();
    for (image, tag) in [(&first, "v1"), (&second, "v2"), (&third, "v3"), (&fourth, "v4")] {
        assert_eq!(harbor.notify("last", image, tag).status, 202);
    }
    harbor.until_noted(&[&first, &second, &third, &fourth]);
}

/// The registry's notification does not say what the manifest is about; the registry does.
#[test]
fn what_is_attached_by_digest_lets_a_step_ask_again() {
    let port = free_port();
    let hook = format!("http://127.0.0.1:{port}/webhooks/registry");
    let proof = format!("Bearer {TOKEN}");
    let registry = Registry::notifying(&hook, &[("Authorization", &proof)]);
    let harbor = Harbor::on(port, &registry_source(&registry.host()), None);
    let image = small_image(&registry, "apps/shop", "x1", "first");
    let keys = harbor.fairlead.home().join("keys");
    plain_key(&keys);
    let key = std::fs::read_to_string(keys.join("cosign.pub")).unwrap();
    let with = json!({ "image": image, "key": key, "mode": "require" });
    let guarded = json!({
        "apiVersion": "fairlead.dev/v1", "kind": "Pipeline", "name": "guarded", "on": { "manual": {} },
        "steps": { "proof": {
            "uses": "verify", "with": with, "wait": { "deadline": "2h", "every": "1h" },
        } },
    });
    harbor.fairlead.write("pipelines/guarded.yaml", &guarded.to_string());
    let _server = harbor.serve();
    let started = http::send("POST", &harbor.url("/api/v1/pipelines/guarded/runs"), &[], b"");
    assert_eq!(started.expect("a server").status, 201, "{}", harbor.told());
    let shown = || {
        let shown = harbor.fairlead.run(["show", "latest", "--json", "--journal"]).code(0);
        serde_json::from_str::<Value>(&shown.stdout).unwrap()
    };
    eventually("the first no", PATIENCE, || shown()["steps"]["proof"]["status"] == "asking");

    let (_, subject) = image.split_once('@').unwrap();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let attached = |subject: &str| {
        let empty = put_blob(&registry, "apps/shop", b"{}");
        let of = |digest: &str| {
            json!({ "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest, "size": 2 })
        };
        let document = json!({ "schemaVersion": 2, "mediaType": manifest,
            "artifactType": "application/vnd.example.proof", "config": of(&empty.to_string()),
            "layers": [of(&empty.to_string())],
            "subject": { "mediaType": manifest, "digest": subject, "size": 400 } });
        let digest = Digest::sha256(document.to_string().as_bytes()).to_string();
        put_manifest(&registry, "apps/shop", &digest, &document);
        digest
    };
    attached(&Digest::sha256(b"another").to_string());
    let pushed = attached(subject);
    let woken = |shown: &Value| -> Vec<String> {
        let facts = shown["journal"].as_array().unwrap().iter().map(|record| &record["fact"]);
        let woken = facts.filter(|fact| fact["type"] == "woken");
        woken.map(|fact| fact["why"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the second no", PATIENCE, || {
        shown()["steps"]["proof"]["attempts"].as_array().is_some_and(|all| all.len() == 2)
    });
    let why = format!("{}/apps/shop@{pushed} was pushed", registry.host());
    assert_eq!(woken(&shown()), [why], "by that alone");
}

#[test]
fn a_wrong_proof_starts_nothing_and_is_told() {
    let registry = Registry::start();
    let sources = json!({
        "registry": registry_source(&registry.host())["registry"],
        "github": {"kind": "github", "secret": "hook", "forge": "https://git.example.com"},
        "gitlab": {"kind": "gitlab", "secret": "hook", "checkout": false},
        "gitea": {"kind": "gitea", "secret": "hook", "checkout": false},
    });
    let harbor = Harbor::new(&sources, None);
    let server = harbor.serve();
    let image = small_image(&registry, "apps/shop", "v1", "first");
    let told = notification("1", &image, "v1");
    let push = push_body("acme/shop").to_string();
    let forged = hmac_sha256(b"another secret", push.as_bytes());
    let forged_hub = format!("sha256={forged}");
    let attempts: [(&str, &str, Fields); 6] = [
        ("registry", &told, &[("Authorization", "Bearer wrong")]),
        ("registry", &told, &[]),
        ("github", &push, &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &forged_hub)]),
        ("github", &push, &[("X-GitHub-Event", "push")]),
        ("gitlab", &push, &[("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", "wrong")]),
        ("gitea", &push, &[("X-Gitea-Event", "push"), ("X-Gitea-Signature", &forged)]),
    ];
    for (source, body, headers) in attempts {
        let answer = harbor.post(source, headers, body.as_bytes());
        assert_eq!(answer.status, 401, "{source} {headers:?}: {}", answer.text());
        assert!(answer.text().contains("secret of the "), "{}", answer.text());
    }
    assert_eq!(server.log().matches("a webhook is refused").count(), attempts.len());
    assert_eq!(harbor.post("nobody", &[], b"{}").status, 404);

    // The right proof still works, and what was refused has left nothing behind.
    assert!(!is_duplicate(&harbor.notify("1", &image, "v1")));
    harbor.until_noted(&[&image]);
}

#[test]
fn what_zot_publishes_on_nats_starts_a_run() {
    let nats = Nats::start();
    let registry = Registry::start();
    let sources = json!({
        "zot": {"kind": "zot", "registry": registry.host(), "subject": "zot.events"},
    });
    let harbor = Harbor::new(&sources, Some(&nats));
    let server = harbor.serve();
    let image = small_image(&registry, "apps/shop", "v1", "first");
    let event = |id: &str, kind: &str| {
        json!({
            "specversion": "1.0",
            "id": id,
            "source": "zotregistry.dev",
            "type": format!("zotregistry.{kind}"),
            "datacontenttype": "application/json",
            "time": "2026-11-22T03:19:43.239839133Z",
            "data": {
                "name": "apps/shop",
                "reference": "v1",
                "digest": image.split_once('@').unwrap().1,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "manifest": "{}",
            },
        })
        .to_string()
    };
    // zot does not wait for anybody to listen, and neither does it say anything twice; whoever
    // begins to listen after it has published has heard nothing.
    nats.publish("zot.events", b"not an event");
    let mut count = 0;
    eventually("the run", PATIENCE, || {
        count += 1;
        nats.publish("zot.events", event(&format!("{count}"), "image.updated").as_bytes());
        !harbor.runs().is_empty()
    });
    nats.publish("zot.events", event("deleted", "image.deleted").as_bytes());
    drop(server);

    // Published while no server is there: heard by the next one, once.
    let second = small_image(&registry, "apps/shop", "v2", "second");
    let told = event("second", "image.updated")
        .replace(image.split_once('@').unwrap().1, second.split_once('@').unwrap().1)
        .replace("\"v1\"", "\"v2\"");
    nats.publish("zot.events", told.as_bytes());
    nats.publish("zot.events", told.replace("\"second\"", "\"second again\"").as_bytes());
    let _server = harbor.serve();
    harbor.until_noted(&[&image, &second]);
}

/// A push of one commit that touches `src/main.rs`, as GitHub and Gitea send it.
pub(crate) fn push_body(repository: &str) -> Value {
    let after = "a".repeat(40);
    json!({
        "ref": "refs/heads/main",
        "before": "b".repeat(40),
        "after": after,
        "created": false,
        "deleted": false,
        "forced": false,
        "repository": {
            "full_name": repository,
            "clone_url": format!("https://git.example.com/{repository}.git"),
            "ssh_url": format!("git@git.example.com:{repository}.git"),
        },
        "pusher": {"name": "ada"},
        "commits": [{"id": after, "added": [], "removed": [], "modified": ["src/main.rs"]}],
        "head_commit": {"id": after},
        "total_commits": 1,
    })
}

fn gitlab_body(repository: &str) -> Value {
    let after = "a".repeat(40);
    json!({
        "object_kind": "push",
        "ref": "refs/heads/main",
        "before": "b".repeat(40),
        "after": after,
        "checkout_sha": after,
        "user_username": "ada",
        "project": {
            "path_with_namespace": repository,
            "git_http_url": format!("https://git.example.com/{repository}.git"),
            "git_ssh_url": format!("git@git.example.com:{repository}.git"),
        },
        "commits": [{"id": after, "added": ["src/new.rs"], "removed": [], "modified": []}],
        "total_commits_count": 1,
    })
}

#[test]
fn signed_pushes_of_three_forges_start_the_pipeline_once_each() {
    // The forges are not there to be fetched from.
    let source = |kind: &str| json!({"kind": kind, "secret": "hook", "checkout": false});
    let sources = json!({
        "github": source("github"), "gitlab": source("gitlab"), "gitea": source("gitea"),
    });
    let harbor = Harbor::new(&sources, None);
    let _server = harbor.serve();
    let send = |delivery: &str, repository: &str| -> [Answer; 3] {
        let hub = push_body(&format!("github/{repository}")).to_string();
        let lab = gitlab_body(&format!("gitlab/{repository}")).to_string();
        let tea = push_body(&format!("gitea/{repository}")).to_string();
        let hub_proof = format!("sha256={}", hmac_sha256(TOKEN.as_bytes(), hub.as_bytes()));
        let tea_proof = hmac_sha256(TOKEN.as_bytes(), tea.as_bytes());
        let json = ("Content-Type", "application/json");
        [
            harbor.post(
                "github",
                &[
                    json,
                    ("X-GitHub-Event", "push"),
                    ("X-GitHub-Delivery", delivery),
                    ("X-Hub-Signature-256", &hub_proof),
                ],
                hub.as_bytes(),
            ),
            harbor.post(
                "gitlab",
                &[json, ("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", TOKEN)],
                lab.as_bytes(),
            ),
            harbor.post(
                "gitea",
                &[
                    json,
                    ("X-Gitea-Event", "push"),
                    ("X-Gitea-Delivery", delivery),
                    ("X-Gitea-Signature", &tea_proof),
                ],
                tea.as_bytes(),
            ),
        ]
    };
    assert!(send("one", "shop").iter().all(|answer| !is_duplicate(answer)));
    harbor.until_noted(&["gitea/shop", "github/shop", "gitlab/shop"]);
    assert!(send("two", "shop").iter().all(is_duplicate));
    assert!(send("three", "till").iter().all(|answer| !is_duplicate(answer)));
    let all =
        ["gitea/shop", "gitea/till", "github/shop", "github/till", "gitlab/shop", "gitlab/till"];
    harbor.until_noted(&all);
}

/// HMAC-SHA256 (RFC 2104) in hexadecimal, written here so that the proof of a message is not made by
/// the code that checks it.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    assert!(key.len() <= 64);
    let padded = |pad: u8| -> Vec<u8> {
        (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ pad).collect()
    };
    let inner = Digest::sha256(&[padded(0x36), message.to_vec()].concat());
    let inner: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&inner.hex()[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    Digest::sha256(&[padded(0x5c), inner].concat()).hex().to_owned()
}

#[test]
fn the_proof_is_that_of_the_documentation_of_github() {
    let proof = hmac_sha256(b"It's a Secret to Everybody", b"Hello, World!");
    assert_eq!(proof, "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
}
