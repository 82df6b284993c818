//! What a server lets its pipelines do, by the real program: refused with everything at once, allowed by name,
//! secrets apart, and nothing of them where other processes look.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlead_tests::http::{self, Answer};
use fairlead_tests::{Fairlead, Running, eventually, free_port};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server over the pipelines of a project.
struct Serving {
    fairlead: Fairlead,
    server: Running,
    port: u16,
}

impl Serving {
    fn start(fairlead: Fairlead, more: &[&str]) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut args = vec!["serve", "--pipelines", "pipelines", "--listen", &listen, "-v"];
        args.extend(more);
        let mut server = fairlead.start(args);
        let ready = format!("http://{listen}/readyz");
        server.wait_until(PATIENCE, || {
            http::send("GET", &ready, &[], b"").is_some_and(|answer| answer.status == 200)
        });
        Self { fairlead, server, port }
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let token = format!("Bearer {token}");
        http::send(method, &url, &[("Authorization", &token)], b"").expect("a server")
    }

    fn run_ends(&self, status: &str) {
        eventually("the run to end", PATIENCE, || {
            let listed = self.fairlead.run(["runs", "--json"]).code(0);
            let runs: Value = serde_json::from_str(&listed.stdout).unwrap();
            runs.as_array().unwrap().iter().any(|run| run["status"] == status)
        });
    }
}

const PIPELINE: &str = r#"apiVersion: fairlead.dev/v1
kind: Pipeline
name: shop-ci
on: {manual: {}}
steps:
  host: {uses: command, with: {program: make, args: [test]}}
  boxed:
    uses: command
    with:
      program: "true"
      secret_env: {TOKEN: "{{ secrets.npm }}"}
      container: {image: "docker.io/library/node:22"}
"#;

#[test]
fn what_is_not_allowed_is_told_at_once_and_never_run() {
    let fairlead = Fairlead::new();
    fairlead.write("pipelines/ci.yaml", PIPELINE);
    fairlead.write("none.yaml", "{}");
    let lint = fairlead.run(["lint", "pipelines", "--config", "none.yaml", "--format", "json"]);
    let lint = lint.code(2).stdout;
    let found: Value = serde_json::from_str(&lint).unwrap();
    let found = found[0]["findings"].as_array().unwrap();
    for (line, message) in [
        (6, "step `host`: the kind `command` is not allowed in project `default`"),
        (6, "step `host`: the program `make` on the host is not allowed in project `default`"),
        (7, "step `boxed`: the network `bridge` is not allowed in project `default`"),
        (
            7,
            "step `boxed`: a container of docker.io/library/node:22, which no digest names, is not allowed",
        ),
        (1, "the secret `npm` is none of project `default`"),
    ] {
        let told = found.iter().any(|finding| {
            finding["code"] == "FL0501"
                && finding["span"]["line"] == line
                && finding["message"].as_str().unwrap().starts_with(message)
        });
        assert!(told, "{line} {message}\n{lint}");
    }

    let serving = Serving::start(fairlead, &["--config", "none.yaml"]);
    let log = serving.server.log();
    assert!(log.contains("`shop-ci`: step `host`: the program `make` on the host"), "{log}");
    let refused = serving.ask("POST", "/api/v1/pipelines/shop-ci/runs", "");
    assert_eq!(refused.status, 422, "{}", refused.text());
    for what in ["kind `command`", "program `make`", "network `bridge`", "projects.default.allow"] {
        assert!(refused.text().contains(what), "{what}: {}", refused.text());
    }
    assert_eq!(serving.fairlead.run(["runs", "--json"]).code(0).stdout.trim(), "[]");
}

/// The server's own secrets, and those of a pipeline: none may be where it does not belong.
const HOOK: &str = "mizzen-topgallant-hook-41d0";
const FILED: &str = "jigger-staysail-token-9a2c";
const STORE: &str = "spritsail-yard-store-e77b";
const ENV: &str = "gaff-topsail-ambient-03fe";
const OURS: &str = "capstan-bar-listed-5d18";
const FOLDER: &str = "hawse-hole-folder-b6c3";
const ASKED: &str = "futtock-shroud-asked-27ea";

fn private(fairlead: &Fairlead, path: &str, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = fairlead.write(path, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Whether a file below `/proc` of some process holds `secret`; the process where it does.
fn seen_in(file: &str, secret: &str) -> Option<(u32, Vec<u8>)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    ids.find_map(|id| {
        let found = std::fs::read(format!("/proc/{id}/{file}")).ok()?;
        found.windows(secret.len()).any(|it| it == secret.as_bytes()).then_some((id, found))
    })
}

fn holders(folder: &Path, secret: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(secret.len()).any(|it| it == secret.as_bytes()))
            {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_canary_in_every_source_is_seen_nowhere() {
    let store = fairlead_tests::postgres_schema();
    // Trust is what the server of the tests lets in by: any password does.
    let store = store.replacen("@", &format!(":{STORE}@"), 1);
    let fairlead = Fairlead::new()
        .env("FAIRLEAD_SECRET_HOOK", HOOK)
        .env("SOME_DATABASE_DSN", ENV)
        .env("FAIRLEAD_STORE", &store);
    fairlead.write("own/api", FILED);
    let listed = private(&fairlead, "project/listed", OURS, 0o400);
    private(&fairlead, "project/more/folder", FOLDER, 0o400);
    let provider = format!("#!/bin/sh\ncat >/dev/null; echo '{{\"value\":\"{ASKED}\"}}'\n");
    let provider = private(&fairlead, "project/provider", &provider, 0o700);
    let config = json!({
        "sources": { "hook": { "kind": "github", "secret": "hook", "checkout": false } },
        "secret_stores": { "helper": { "command": { "program": provider } } },
        "projects": { "default": {
            "allow": { "kinds": "command", "host_programs": "sh" },
            "secrets": { "listed": { "file": listed }, "asked": { "store": "helper" } },
            "secrets_folder": fairlead.project().join("project/more"),
        } },
    });
    fairlead.write("serve.yaml", &config.to_string());
    // Each secret reaches its step; whatever the step does with it stays masked. Nothing of the server's is
    // in a program's environment.
    let pipeline = json!({
        "apiVersion": "fairlead.dev/v1", "kind": "Pipeline", "name": "canary", "on": { "manual": {} },
        "steps": {
            "shows": { "uses": "command", "with": {
                "program": "sh", "args": ["-c", "env; sleep 3; touch went-on"],
                "secret_env": {
                    "LISTED": "{{ secrets.listed }}",
                    "FOLDER": "{{ secrets.folder }}",
                    "ASKED": "{{ secrets.asked }}",
                },
            } },
        },
    });
    fairlead.write("pipelines/canary.yaml", &pipeline.to_string());
    // One who names a secret of the server's own.
    let thief = json!({
        "apiVersion": "fairlead.dev/v1", "kind": "Pipeline", "name": "thief", "on": { "manual": {} },
        "steps": { "a": { "uses": "command", "with": {
            "program": "sh", "args": ["-c", "env"], "secret_env": { "X": "{{ secrets.api }}" },
        } } },
    });
    fairlead.write("pipelines/thief.yaml", &thief.to_string());

    let doctor = fairlead.run(["doctor", "--config", "serve.yaml"]).stdout;
    for good in
        ["`helper` lets us in", "`listed` of project `default` is set", "`asked` of project"]
    {
        assert!(doctor.contains(good), "{doctor}");
    }
    let own = fairlead.project().join("own").display().to_string();
    let args = ["--config", "serve.yaml", "--secrets-dir", &own, "--api-token", "api", "-vv"];
    let serving = Serving::start(fairlead, &args);
    let refused = serving.ask("POST", "/api/v1/pipelines/thief/runs", FILED);
    assert!(refused.status >= 400, "{}", refused.text());
    let started = serving.ask("POST", "/api/v1/pipelines/canary/runs", FILED);
    assert_eq!(started.status, 201, "{}", started.text());

    let server = serving.server.id();
    let all = [HOOK, FILED, STORE, ENV, OURS, FOLDER, ASKED];
    // While the step runs, with the secrets in its own environment.
    eventually("the step to run", PATIENCE, || seen_in("environ", OURS).is_some());
    for secret in all {
        assert!(seen_in("cmdline", secret).is_none(), "{secret} on a command line");
        let (mine, shown) = (
            std::fs::read(format!("/proc/{server}/environ")).unwrap_or_default(),
            seen_in("environ", secret),
        );
        let in_mine = mine.windows(secret.len()).any(|it| it == secret.as_bytes());
        assert!(!in_mine, "{secret} in the environment of the server");
        let pipelines = [OURS, FOLDER, ASKED].contains(&secret);
        match shown {
            None => assert!(!pipelines, "{secret} is not where it belongs"),
            Some((id, _)) => assert!(pipelines, "{secret} in the environment of process {id}"),
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    serving.run_ends("passed");

    let runs = serving.ask("GET", "/api/v1/runs", FILED).text();
    let id = serde_json::from_str::<Value>(&runs).unwrap()["runs"][0]["run"].clone();
    let id = id.as_str().unwrap();
    let mut told = vec![serving.server.log(), runs];
    for path in [format!("/api/v1/runs/{id}"), format!("/api/v1/runs/{id}/steps/shows/log")] {
        told.push(serving.ask("GET", &path, FILED).text());
    }
    told.push(serving.fairlead.run(["show", "latest", "--json", "--journal"]).code(0).stdout);
    told.push(serving.fairlead.run(["logs", "latest"]).code(0).stdout);
    assert!(told.last().unwrap().contains("LISTED=****"), "{}", told.last().unwrap());
    for secret in all {
        for text in &told {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        let kept = holders(serving.fairlead.project(), secret);
        let planted = |path: &PathBuf| {
            path.starts_with(serving.fairlead.project().join("own"))
                || path.starts_with(serving.fairlead.project().join("project"))
        };
        let kept: Vec<_> = kept.iter().filter(|path| !planted(path)).collect();
        assert!(kept.is_empty(), "{secret}: {kept:?}");
    }
}
