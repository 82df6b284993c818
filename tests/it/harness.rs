//! The harness itself: what it starts works, and is gone when its value is.

use std::time::Duration;

use fairlead_oci::Client;
use fairlead_step::{ErrorClass, StepError};
use fairlead_tests::{
    BareRepository, GitServer, Nats, Oracle, Registry, RegistryLogin, eventually, git, oracle,
    repository_root,
};

use crate::build::Logins;

fn gitops() -> BareRepository {
    BareRepository::of(&repository_root().join("examples/shop/gitops"))
}

#[test]
fn a_registry_ends_with_its_value_and_keeps_what_it_holds_over_a_pause() {
    let mut registry = Registry::start();
    let host = registry.host();
    registry.pause();
    assert!(std::net::TcpStream::connect(&host).is_err());
    registry.resume();
    let crane = std::process::Command::new(oracle(Oracle::Crane))
        .args(["catalog", "--insecure", &host])
        .output()
        .unwrap();
    assert!(crane.status.success(), "{}", String::from_utf8_lossy(&crane.stderr));
    drop(registry);
    assert!(std::net::TcpStream::connect(&host).is_err());
}

#[tokio::test]
async fn a_private_registry_knows_one_user() {
    let registry = Registry::private(RegistryLogin::CI);
    let repository = format!("{}/apps/shop", registry.host()).parse().unwrap();
    let digest = fairlead_step::Digest::sha256(b"nothing");
    let nobody = Client::new(Logins::none());
    let error: StepError = nobody.has_manifest(&repository, &digest).await.unwrap_err().into();
    assert_eq!(error.class(), ErrorClass::Terminal);
    let ci = Client::new(Logins::of(RegistryLogin::CI));
    assert!(!ci.has_manifest(&repository, &digest).await.unwrap());
}

#[test]
fn nats_comes_back_on_its_port_after_a_cut() {
    let mut nats = Nats::start();
    let address = nats.url().replace("nats://", "");
    nats.cut();
    assert!(std::net::TcpStream::connect(&address).is_err());
    nats.resume();
    let answers = || std::net::TcpStream::connect(&address).is_ok();
    eventually("NATS to listen", Duration::from_secs(5), answers);
}

#[test]
fn a_git_remote_is_read_and_written_over_http_by_who_may() {
    let remote = gitops();
    assert!(remote.file("main", "environments/prod/values.yaml").contains("pullPolicy"));
    remote.commit("main", "notes/hello.txt", "hello\n", "Say hello");
    assert_eq!(remote.messages("main"), ["Say hello", "The beginning"]);

    let server = GitServer::start(&remote, Some(("ci", "pw")));
    let work = tempfile::tempdir().unwrap();
    let url = server.url();
    let refused = std::process::Command::new("git")
        .args(["ls-remote", &url])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let with_login = url.replace("http://", "http://ci:pw@");
    git(work.path(), &["clone", "--quiet", &with_login, "."]);
    git(work.path(), &["commit", "--quiet", "--allow-empty", "--message", "Over HTTP"]);
    git(work.path(), &["push", "--quiet", "origin", "main"]);
    assert_eq!(remote.messages("main")[0], "Over HTTP");
}
