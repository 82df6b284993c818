//! Secrets stay secret: one run that has them everywhere, and a search for each of them in all that
//! the run left behind and in what other users of the machine could see meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fairlead_tests::{BASE_IMAGE, Fairlead, GitServer, Registry};
use serde_json::Value;

use crate::registry_view::crane;
use crate::release::{Release, plain_key};

const TOKEN: &str = "fore-topmast-staysail-7f3a";
const BUILD: &str = "main-royal-studding-sail-19c4";
const PASSWORD: &str = "flying-jib-halyard-55be";

/// Every way for a secret to come in, and every way that we know for one to get out.
const PIPELINE: &str = r#"
apiVersion: fairlead.dev/v1
kind: Pipeline
name: secrets
params: {registry: {}, gitops: {}}
steps:
  loud:
    uses: command
    with:
      program: sh
      args:
        - -c
        - |
          echo "the token is $TOKEN"; echo "and again: $TOKEN" >&2
          printf %s "$TOKEN" > leaked-to-a-file-by-hand; rm leaked-to-a-file-by-hand
          printf '%s\n' "$KEY"
      secret_env: {TOKEN: "{{ secrets.token }}", KEY: "{{ secrets.cosign }}"}
  told:
    uses: command
    with:
      program: sh
      args: [-c, 'echo "$TOKEN"']
      secret_env: {TOKEN: "{{ secrets.token }}"}
      capture: stdout
  fails:
    uses: command
    with:
      program: sh
      args: [-c, 'echo "cannot log in with $TOKEN" >&2; exit 7']
      secret_env: {TOKEN: "{{ secrets.token }}"}
      reject_codes: [7]
  build:
    uses: build
    with:
      image: "{{ params.registry }}/apps/secrets"
      no_cache: true
      secrets: {npm: "{{ secrets.build }}"}
  sign:
    uses: sign
    with: {image: "{{ steps.build.image }}", key: "{{ secrets.cosign }}"}
  deploy:
    uses: gitops
    with:
      repository: "{{ params.gitops }}"
      username: ci
      password: "{{ secrets.git }}"
      edits:
        - {file: environments/prod/values.yaml, path: image, image: "{{ steps.sign.image }}"}
      message: "Deploy"
"#;

/// The files below `folder` that hold `secret`.
fn holders(folder: &Path, secret: &str) -> String {
    let found = Command::new("grep").args(["-rlaF", "--", secret]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&found.stdout).into_owned()
}

/// Whether a command line on this machine has `secret` in it.
fn on_a_command_line(secret: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| line.windows(secret.len()).any(|window| window == secret.as_bytes()))
    })
}

#[test]
fn no_secret_is_left_anywhere() {
    let registry = Registry::start();
    let release = Release::new("secrets", "v1.0.0");
    let server = GitServer::start(&release.remote, Some(("ci", PASSWORD)));
    let keys = tempfile::tempdir().unwrap();
    plain_key(keys.path());
    let key = std::fs::read_to_string(keys.path().join("cosign")).unwrap();
    let fairlead = Fairlead::new()
        .with_engine()
        .env("FAIRLEAD_SECRET_TOKEN", TOKEN)
        .env("FAIRLEAD_SECRET_BUILD", BUILD)
        .env("FAIRLEAD_SECRET_GIT", PASSWORD)
        .env("COSIGN_PRIVATE_KEY", &key);
    fairlead.write("secrets.yaml", PIPELINE);
    fairlead.write(
        "Dockerfile",
        &format!(
            "FROM {BASE_IMAGE} AS made\n\
             RUN --mount=type=secret,id=npm,required cat /run/secrets/npm && \
             sha256sum /run/secrets/npm > /proof\nFROM scratch\nCOPY --from=made /proof /\n"
        ),
    );
    fairlead.write(".dockerignore", "*\n");

    let mut args = vec!["run".to_owned(), "secrets.yaml".into(), "--json".into(), "-vv".into()];
    for (name, value) in [("registry", registry.host()), ("gitops", server.url())] {
        args.extend(["--set".to_owned(), format!("{name}={value}")]);
    }
    // The lines of the key, without those that every key has.
    let inner: Vec<&str> = key.lines().filter(|line| !line.contains("-----")).collect();
    let mut secrets = vec![TOKEN, BUILD, PASSWORD];
    secrets.extend(&inner);
    let mut process = fairlead.start(&args);
    let mut seen = None;
    process.wait_until(Duration::from_secs(120), || {
        seen = seen.or_else(|| secrets.iter().find(|secret| on_a_command_line(secret)).copied());
        ended(&fairlead)
    });
    let status = process.wait(Duration::from_secs(60));
    let told = process.log();
    assert_eq!(status.code(), Some(1), "{told}");
    assert_eq!(seen, None, "in the list of processes");

    // Everything did happen, with the secrets.
    let shown = fairlead.run(["show", "latest", "--json", "--journal"]).code(0).stdout;
    let run: Value = serde_json::from_str(&shown).unwrap();
    for step in ["loud", "build", "sign", "deploy"] {
        assert_eq!(run["steps"][step]["status"], "passed", "{step}: {told}");
    }
    assert_eq!(run["steps"]["fails"]["status"], "rejected");
    // Outputs are facts of the journal: what would put a secret there is refused.
    let why = run["steps"]["told"]["reason"].as_str().unwrap();
    assert!(why.contains("holds the secret `token`"), "{why}");
    let image = run["steps"]["build"]["outputs"]["image"].as_str().unwrap();
    let logs = fairlead.run(["logs", "latest"]).code(0).stdout;
    assert!(logs.contains("the token is ") && logs.contains("and again: "), "{logs}");

    for secret in secrets {
        for (what, text) in [("terminal", &told), ("show", &shown), ("logs", &logs)] {
            assert!(!text.contains(secret), "{what} tells `{secret}`:\n{text}");
        }
        // The harness keeps what the terminal showed in the home, too.
        for folder in
            [fairlead.home(), fairlead.project(), &registry.data(), &release.remote.path()]
        {
            assert_eq!(holders(folder, secret), "", "`{secret}` lies about");
        }
        assert!(!crane(&["config", image]).contains(secret));
    }
}

/// Whether the only run here has ended.
fn ended(fairlead: &Fairlead) -> bool {
    let runs = fairlead.run(["runs", "--json"]).code(0).stdout;
    let runs: Value = serde_json::from_str(&runs).unwrap();
    !runs[0]["ended_at"].is_null()
}
