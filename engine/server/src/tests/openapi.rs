//! The description of the API has every route, and real answers are as it says.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_step::Digest;
use jsonschema::Draft;
use serde_json::{Value, json};

use super::decisions::lost;
use super::gates::{parked, start};
use super::harness::{Answer, Harness, Serving, TOKEN};
use crate::api::routes::{Needs, table};
use crate::openapi;

/// The description, and which of its answers were given.
struct Described {
    document: Value,
    given: BTreeMap<(String, String), BTreeSet<u16>>,
    /// What was seen to be written to the audit log.
    written: BTreeSet<String>,
}

impl Described {
    fn new() -> Self {
        let mut document = openapi().unwrap();
        // Whoever is told more than the description says is told of it here.
        let schemas = document["components"]["schemas"].as_object_mut().unwrap();
        for (name, schema) in schemas {
            // It is a part of another one.
            if schema.get("properties").is_some() && name != "EventLine" {
                schema["unevaluatedProperties"] = false.into();
            }
        }
        Self { document, given: BTreeMap::new(), written: BTreeSet::new() }
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.document["paths"][path][method.to_ascii_lowercase()]
    }

    /// Holds an answer against what is said of it.
    fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let told = format!("{method} {path}: {} {}", answer.status, answer.body);
        let responses = &self.operation(method, path)["responses"];
        let status = answer.status.to_string();
        let response = responses.get(&status).or_else(|| {
            // What is done is said by its status.
            (answer.status >= 400).then(|| responses.get("default")).flatten()
        });
        let response = response.unwrap_or_else(|| panic!("not described: {told}"));
        let kind = answer.headers.lines().find_map(|line| line.strip_prefix("content-type: "));
        let contents = response.get("content").and_then(Value::as_object);
        match (kind, contents) {
            (Some(kind), Some(contents)) => {
                let (_, content) = contents
                    .iter()
                    .find(|(known, _)| kind.starts_with(known.as_str()))
                    .unwrap_or_else(|| panic!("{kind} is not described: {told}"));
                if kind.contains("json") && kind != "application/x-ndjson" {
                    let body = answer.json();
                    let schema = content["schema"].clone();
                    if schema["type"] != "string" {
                        self.validate(&schema, &body, &told);
                    }
                }
            }
            (_, contents) => assert!(contents.is_none(), "no content: {told}"),
        }
        let key = (method.to_owned(), path.to_owned());
        self.given.entry(key).or_default().insert(answer.status);
    }

    fn validate(&self, schema: &Value, instance: &Value, told: &str) {
        let mut root = schema.clone();
        root["components"] = self.document["components"].clone();
        let validator = jsonschema::options().with_draft(Draft::Draft202012).build(&root);
        let validator = validator.unwrap_or_else(|error| panic!("{error}: {told}"));
        let wrong: Vec<String> = validator
            .iter_errors(instance)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}: {told}");
    }

    /// Holds a body that is to be sent against what is said of it.
    fn takes(&self, method: &str, path: &str, body: &str) {
        let taken = &self.operation(method, path)["requestBody"]["content"]["application/json"];
        if !body.is_empty() && !taken.is_null() {
            let body: Value = serde_json::from_str(body).unwrap();
            self.validate(&taken["schema"], &body, &format!("{method} {path}"));
        }
    }

    /// Asks as an admin, and looks at what is answered; and whether what was changed was written down.
    async fn ask(
        &mut self,
        (serving, harness): (&Serving, &Harness),
        method: &str,
        path: &str,
        names: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.takes(method, path, body);
        let filled = names.iter().fold(path.to_owned(), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), value)
        });
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", authorization.as_str())];
        let written = async || harness.store.audit().head().await.unwrap().map(|(seq, _)| seq.0);
        let before = written().await;
        let answer = serving.send(method, &filled, &headers, body.as_bytes()).await;
        self.check(method, path, &answer);
        // Bytes by their digest change nothing for anybody, and neither does a question.
        let changes = method == "POST" && self.operation(method, path)["security"].is_array();
        let done = changes && answer.status < 300 && !body.contains("\"dry_run\": true");
        if done {
            assert!(written().await > before, "not in the audit log: {method} {path}");
            self.written.insert(path.to_owned());
        } else if method == "GET" {
            assert_eq!(written().await, before, "{method} {path}");
        }
        answer
    }
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described = Described::new();
    assert!(described.document["openapi"].as_str().unwrap().starts_with("3.1."));
    let paths = described.document["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    let mut routes = BTreeSet::new();
    for route in table() {
        let operation = described.operation(route.method.as_str(), route.path);
        let told = format!("{} {}", route.method, route.path);
        assert!(operation.is_object(), "{told}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{told}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{told}");
        assert!(!operation["description"].as_str().unwrap().is_empty(), "{told}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let of = |place: &str| -> BTreeSet<String> {
            let these = parameters.iter().filter(|it| it["in"] == place);
            these.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let named = route.path.split('/');
        let named = named.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let named: BTreeSet<String> = named.map(str::to_owned).collect();
        assert_eq!(of("path"), named, "{told}");
        for parameter in &parameters {
            assert!(!parameter["description"].as_str().unwrap_or_default().is_empty(), "{told}");
        }
        let responses = operation["responses"].as_object().unwrap();
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        let problems = responses
            .iter()
            .filter(|(status, _)| status.as_str() == "default" || status.as_str() >= "400");
        for (status, response) in problems {
            let schema = &response["content"]["application/problem+json"]["schema"];
            assert_eq!(*schema, problem, "{told} {status}");
        }
        assert!(responses.contains_key("default"), "{told}");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{told}");
        let guarded = !matches!(route.needs, Needs::Nothing | Needs::Proof);
        assert_eq!(operation["security"].is_array(), guarded, "{told}");
        assert_eq!(responses.contains_key("401"), guarded, "{told}");
        let keyed = guarded && route.method == "POST";
        assert_eq!(of("header").contains("idempotency-key"), keyed, "{told}");
        routes.insert((route.path.to_owned(), route.method.as_str().to_ascii_lowercase()));
    }
    let written = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    });
    assert_eq!(written.collect::<BTreeSet<_>>(), routes);
    // What is referred to is there.
    let text = described.document.to_string();
    for (at, _) in text.match_indices("\"#/components/schemas/") {
        let name = text[at..].split(['/', '"']).nth(4).unwrap();
        assert!(!described.document["components"]["schemas"][name].is_null(), "{name}");
    }
}

#[tokio::test]
async fn real_answers_are_as_the_description_says() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let mut api = Described::new();
    let (get, at) = ("GET", (&serving, &harness));
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/openapi.json",
        "/api/v1/login",
        "/api/v1/whoami",
        "/api/v1/pipelines",
    ] {
        assert_eq!(api.ask(at, get, path, &[], "").await.status, 200, "{path}");
    }
    harness.registry.put("apps/shop:1.0", "a");
    let pushed = serving.notify("1", "apps/shop", "1.0", "a").await;
    api.check("POST", "/webhooks/{source}", &pushed);
    harness.ended(1).await;
    harness.settled().await;
    let proof = [("Authorization", "Bearer registry-secret")];
    let may = serving.send("OPTIONS", "/webhooks/registry", &proof, b"").await;
    api.check("OPTIONS", "/webhooks/{source}", &may);
    for (path, source) in
        [("/webhooks/{source}", "registry"), ("/webhooks/{source}/{end}", "every-quay")]
    {
        let names = [("source", source), ("end", super::harness::EVERY_SECRET)];
        api.ask(at, "OPTIONS", path, &names, "").await;
        api.ask(at, "POST", path, &names, "{}").await;
    }

    let started = "/api/v1/pipelines/{pipeline}/runs";
    let build = [("pipeline", "build")];
    let made = api.ask(at, "POST", started, &build, r#"{"params":{"version":"v1"}}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    api.ask(at, "POST", started, &build, r#"{"params":{"versoin":"v1"}}"#).await;
    harness.ended(2).await;
    let run = made.json()["run"].as_str().unwrap().to_owned();
    let one = [("run", run.as_str()), ("step", "note")];
    for path in [
        "/api/v1/runs",
        "/api/v1/runs/{run}",
        "/api/v1/runs/{run}/explain",
        "/api/v1/runs/{run}/journal",
        "/api/v1/runs/{run}/logs",
        "/api/v1/runs/{run}/logs/{step}",
        "/api/v1/runs/{run}/events",
    ] {
        assert_eq!(api.ask(at, get, path, &one, "").await.status, 200, "{path}");
        let nowhere = [("run", "000000000000000000"), ("step", "note")];
        let missing = api.ask(at, get, path, &nowhere, "").await;
        assert_eq!(missing.status == 404, path != "/api/v1/runs", "{path}");
    }

    let source = json!({ "name": "mine.yaml", "text": "apiVersion: fairlead.dev/v1\nkind: Pipeline\n\
        name: mine\nsteps: {note: {uses: note, with: {text: hi}}}\n" });
    let body = json!({ "source": source }).to_string();
    let made = api.ask(at, "POST", "/api/v1/runs", &[], &body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let bad = json!({ "source": { "name": "x", "text": "nonsense" } }).to_string();
    assert_eq!(api.ask(at, "POST", "/api/v1/runs", &[], &bad).await.status, 422);
    harness.ended(3).await;
    let run = made.json()["run"].as_str().unwrap().to_owned();
    let one = [("run", run.as_str()), ("step", "note")];
    let again = "/api/v1/runs/{run}/retry";
    let made = api.ask(at, "POST", again, &one, r#"{"from": ["note"]}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    harness.ended(4).await;
    api.ask(at, "POST", "/api/v1/runs/{run}/undo", &one, r#"{"dry_run": true}"#).await;
    let settle = "/api/v1/runs/{run}/steps/{step}/settle";
    api.ask(at, "POST", settle, &one, r#"{"decision": "failed"}"#).await;

    for what in ["steps/{step}/approve", "steps/{step}/reject", "cancel", "abandon"] {
        let gated = start(&serving, "gated").await;
        parked(&harness, &gated, "waiting").await;
        let names = [("run", gated.as_str()), ("step", "ask")];
        let explain = api.ask(at, get, "/api/v1/runs/{run}/explain", &names, "").await;
        assert!(explain.body.contains("\"by\":\"approval\""), "{}", explain.body);
        api.ask(at, get, "/api/v1/runs/{run}", &names, "").await;
        let path = format!("/api/v1/runs/{{run}}/{what}");
        let told = api.ask(at, "POST", &path, &names, r#"{"by": "bob"}"#).await;
        assert!(matches!(told.status, 200 | 202), "{}", told.body);
    }
    harness.ended(8).await;

    let bytes = "some bytes";
    let digest = Digest::sha256(bytes.as_bytes()).to_string();
    let names = [("digest", digest.as_str()), ("run", run.as_str())];
    let kept = api.ask(at, "PUT", "/api/v1/artifacts/{digest}", &names, bytes).await;
    assert_eq!(kept.status, 201, "{}", kept.body);
    api.ask(at, get, "/api/v1/runs/{run}/artifacts/{digest}", &names, "").await;

    let events = api.ask(at, get, "/api/v1/events", &[], "").await.json();
    let pushed = events["events"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
    let names = [("event", pushed)];
    let shown = api.ask(at, get, "/api/v1/events/{event}", &names, "").await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    api.ask(at, "POST", "/api/v1/events/{event}/retry", &names, "").await;
    let replay = "/api/v1/events/{event}/replay";
    let asked = api.ask(at, "POST", replay, &names, r#"{"dry_run": true}"#).await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    assert_eq!(api.ask(at, "POST", replay, &names, "").await.status, 201);
    harness.settled().await;
    for prune in [r#"{"dry_run": true, "older_than": "30d"}"#, r#"{"dry_run": false}"#] {
        assert_eq!(api.ask(at, "POST", "/api/v1/prune", &[], prune).await.status, 200);
    }

    let delivery = super::access::undelivered(&harness).await.to_string();
    let names = [("delivery", delivery.as_str())];
    assert_eq!(api.ask(at, get, "/api/v1/deliveries", &[], "").await.status, 200);
    let due = api.ask(at, "POST", "/api/v1/deliveries/{delivery}/retry", &names, "").await;
    assert_eq!(due.status, 202, "{}", due.body);

    let body =
        r#"{"subject": "ann", "grants": ["viewer"], "pipelines": ["a*"], "expires_in": "1d"}"#;
    let made = api.ask(at, "POST", "/api/v1/tokens", &[], body).await.json();
    let names = [("token", made["id"].as_str().unwrap())];
    assert_eq!(api.ask(at, get, "/api/v1/tokens", &[], "").await.status, 200);
    api.ask(at, "POST", "/api/v1/tokens/{token}/revoke", &names, "").await;
    assert_eq!(api.ask(at, get, "/api/v1/audit", &[], "").await.status, 200);
    serving.stop().await;
    let harness = Harness::new();
    let (run, serving) = lost(&harness).await;
    let names = [("run", run.as_str()), ("step", "deed")];
    let settled =
        api.ask((&serving, &harness), "POST", settle, &names, r#"{"decision": "failed"}"#);
    assert_eq!(settled.await.status, 200);
    serving.stop().await;

    // Each was asked, and nearly each has answered with what it is for, and was written down.
    let follow = "/api/v1/runs/stream";
    for route in table().iter().filter(|route| route.path != follow) {
        let key = (route.method.to_string(), route.path.to_owned());
        let given = api.given.get(&key).unwrap_or_else(|| panic!("{key:?} was not asked"));
        // A handled event is not retried, and `note` takes nothing back: other tests have such.
        let needs_more = ["{event}/retry", "undo", "{end}", "{digest}"];
        let may_refuse = needs_more.iter().any(|end| route.path.ends_with(end));
        let done = given.iter().any(|status| *status < 300);
        assert!(done || may_refuse, "{key:?} has only answered {given:?}");
        let guarded = !matches!(route.needs, Needs::Nothing | Needs::Proof);
        let written = api.written.contains(route.path) || may_refuse;
        assert!(written || !guarded || route.method != "POST", "{key:?} is not written down");
    }
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    for name in ["a", "b", "c"] {
        let body = format!(r#"{{"subject": "{name}", "grants": ["viewer"]}}"#);
        assert_eq!(serving.api("POST", "/api/v1/tokens", &body).await.status, 201);
        start(&serving, "build").await;
    }
    harness.ended(3).await;
    harness.settled().await;
    for (path, list, cursor, name, least) in [
        ("/api/v1/tokens", "tokens", "before", "id", 3),
        ("/api/v1/runs", "runs", "before", "run", 3),
        ("/api/v1/events", "events", "before", "id", 3),
        ("/api/v1/pipelines", "pipelines", "after", "name", 15),
        ("/api/v1/audit", "entries", "after", "hash", 6),
    ] {
        let whole = serving.api("GET", &format!("{path}?limit=100"), "").await.json();
        let names = |page: &Value| -> Vec<String> {
            let entries = page[list].as_array().unwrap().iter();
            entries.map(|entry| entry[name].as_str().unwrap().to_owned()).collect()
        };
        let whole = names(&whole);
        assert!(whole.len() >= least, "{path}: {whole:?}");
        let begin = if list == "entries" { "&after=0" } else { "" };
        let mut next = begin.to_owned();
        let mut seen = Vec::new();
        for _ in 0..=whole.len() {
            let page = serving.api("GET", &format!("{path}?limit=2{next}"), "").await.json();
            seen.extend(names(&page));
            if page["next"].is_null() {
                break;
            }
            let at = page["next"].as_str().map_or_else(|| page["next"].to_string(), str::to_owned);
            next = format!("&{cursor}={at}");
        }
        assert_eq!(seen, whole, "{path}");
    }
    serving.stop().await;
}
