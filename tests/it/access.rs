//! Callers of the real program: a token that is made, used, revoked, and what the audit log says of it.

use std::time::Duration;

use fairlead_tests::http::{self, Answer};
use fairlead_tests::{Fairlead, eventually, free_port};
use serde_json::Value;

const PIPELINE: &str = "apiVersion: fairlead.dev/v1
kind: Pipeline
name: shop-release
on: {manual: {}}
steps:
  ask: {approval: {from: [ann]}}
";

#[test]
fn a_caller_has_a_name_until_the_token_ends_and_the_log_knows_what_was_done() {
    let fairlead = Fairlead::new();
    fairlead.write("pipelines/release.yaml", PIPELINE);
    fairlead.write("serve.yaml", "identity: {}\nprojects: {shop: {pipelines: \"shop-*\"}}\n");
    let token = |who: &str, role: &str| {
        let made = fairlead.run(["token", "create", who, "--role", role, "--json"]).code(0);
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        let of = |name: &str| made[name].as_str().unwrap().to_owned();
        (of("token"), of("id"))
    };
    let (ship, _) = token("ci-shop", "operator:shop");
    let (ann, ann_id) = token("ann", "approver:shop");
    let (eve, _) = token("eve", "admin:bank");

    let listen = format!("127.0.0.1:{}", free_port());
    let mut server = fairlead.start([
        "serve",
        "--pipelines",
        "pipelines",
        "--config",
        "serve.yaml",
        "--listen",
        &listen,
    ]);
    server.wait_until(Duration::from_secs(60), || {
        let ready = format!("http://{listen}/readyz");
        http::send("GET", &ready, &[], b"").is_some_and(|answer| answer.status == 200)
    });
    let ask = |method: &str, path: &str, token: &str, body: &str| -> Answer {
        let url = format!("http://{listen}{path}");
        let token = format!("Bearer {token}");
        let headers = [("Authorization", token.as_str())];
        http::send(method, &url, &headers, body.as_bytes()).expect("a server")
    };
    let start = "/api/v1/pipelines/shop-release/runs";
    assert_eq!(
        http::send("POST", &format!("http://{listen}{start}"), &[], b"").unwrap().status,
        401
    );
    assert_eq!(ask("POST", start, &ann, "").status, 403, "who approves starts nothing");
    assert_eq!(ask("POST", start, &eve, "").status, 404, "another project does not learn of it");
    let started = ask("POST", start, &ship, "");
    assert_eq!(started.status, 201, "{}", started.text());
    let run: Value = serde_json::from_str(&started.text()).unwrap();
    let run = run["run"].as_str().unwrap();

    eventually("the gate to open", Duration::from_secs(60), || {
        let shown = ask("GET", &format!("/api/v1/runs/{run}"), &ann, "").text();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["status"] == "waiting"
    });
    let vote = format!("/api/v1/runs/{run}/steps/ask/approve");
    assert_eq!(ask("POST", &vote, &ship, "{\"by\": \"ann\"}").status, 403, "who ships has no vote");
    let voted = ask("POST", &vote, &ann, "{}");
    assert!(matches!(voted.status, 200 | 202), "{}", voted.text());
    let _ = fairlead.run(["token", "revoke", &ann_id]).code(0);
    assert_eq!(ask("GET", "/api/v1/runs", &ann, "").status, 401, "at once");

    let listed = fairlead.run(["audit", "list", "--json"]).code(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let said: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["entry"]["action"], &entry["entry"]["actor"]))
        .map(|(action, actor)| format!("{} {}", action.as_str().unwrap(), actor.as_str().unwrap()))
        .filter(|said| !said.starts_with("token."))
        .collect();
    let refused = ["access.refused ann", "access.refused eve"];
    assert_eq!(said[..2], refused, "{listed}");
    assert_eq!(
        said[2..],
        [
            "run.request ci-shop",
            "access.refused ci-shop",
            "step.approve ann",
            "login.refused unknown"
        ],
        "{listed}"
    );
    let verified = fairlead.run(["audit", "verify"]).code(0).stdout;
    let _ = fairlead.run(["audit", "verify", "--through", verified.trim()]).code(0);
    let other = verified.trim().replace(':', ":f");
    let other = &other[..verified.trim().len()];
    let _ = fairlead.run(["audit", "verify", "--through", other]).code(1);
    let exported = fairlead.run(["audit", "export"]).code(0).stdout;
    assert_eq!(exported.lines().count(), listed.as_array().unwrap().len());
    for secret in [&ship, &ann, &eve] {
        assert!(!exported.contains(secret.as_str()), "a token is in the log");
    }
}
