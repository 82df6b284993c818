//! Who may do what: every route, for every role in every project, and every state that a token can be in.

use std::collections::BTreeMap;

use fairlead_run::{Grant, Right, Role, RunEvent, Seq, StoredToken, new_token, token_hash};
use fairlead_step::Clock as _;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::gates::{parked, start};
use super::harness::{Answer, Harness, Serving, TOKEN};
use crate::api::routes::{Needs, table};
use crate::{ApiAccess, Limits};

/// Every route and what it takes, written out a second time: a route that is added, or that takes less than
/// before, has to be added here as well.
const ROUTES: &str = "
GET  /healthz                                    nothing
GET  /readyz                                     nothing
GET  /metrics                                    everywhere view
GET  /api/openapi.json                           nothing
POST /webhooks/{source}                          proof
OPTIONS /webhooks/{source}                       proof
POST /webhooks/{source}/{end}                    proof
OPTIONS /webhooks/{source}/{end}                 proof
GET  /api/v1/login                               nothing
GET  /api/v1/whoami                              caller
GET  /api/v1/events                              everywhere view
GET  /api/v1/events/{event}                      everywhere view
POST /api/v1/events/{event}/retry                everywhere operate
POST /api/v1/events/{event}/replay               everywhere operate
GET  /api/v1/deliveries                          everywhere view
POST /api/v1/deliveries/{delivery}/retry         everywhere operate
GET  /api/v1/pipelines                           somewhere view
POST /api/v1/pipelines/{pipeline}/runs           pipeline operate
PUT  /api/v1/artifacts/{digest}                  somewhere operate
POST /api/v1/prune                               everywhere administer
GET  /api/v1/runs                                somewhere view
POST /api/v1/runs                                everywhere operate
GET  /api/v1/runs/stream                         somewhere view
GET  /api/v1/runs/{run}                          run view
POST /api/v1/runs/{run}/cancel                   run operate
POST /api/v1/runs/{run}/abandon                  run operate
GET  /api/v1/runs/{run}/artifacts/{digest}       run view
GET  /api/v1/runs/{run}/explain                  run view
GET  /api/v1/runs/{run}/journal                  run view
GET  /api/v1/runs/{run}/logs                     run view
POST /api/v1/runs/{run}/retry                    run operate
POST /api/v1/runs/{run}/undo                     run operate
POST /api/v1/runs/{run}/steps/{step}/approve     run approve
POST /api/v1/runs/{run}/steps/{step}/reject      run approve
POST /api/v1/runs/{run}/steps/{step}/settle      run operate
GET  /api/v1/runs/{run}/logs/{step}              run view
GET  /api/v1/runs/{run}/events                   run view
GET  /api/v1/tokens                              everywhere administer
POST /api/v1/tokens                              everywhere administer
POST /api/v1/tokens/{token}/revoke               everywhere administer
GET  /api/v1/audit                               everywhere administer
";

/// What a route answers, as far as it is about who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// The caller is not known.
    Unknown,
    /// There is no such thing, as far as the caller may know.
    Hidden,
    /// The caller is known and may not.
    Forbidden,
    /// The route itself answers, whatever it says.
    Answered,
}

impl Class {
    fn of(answer: &Answer) -> Self {
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let kind = problem["type"].as_str().unwrap_or_default();
        match answer.status {
            401 => Self::Unknown,
            403 if kind.ends_with("/forbidden") => Self::Forbidden,
            404 if kind.ends_with("/not-found") => Self::Hidden,
            _ => Self::Answered,
        }
    }
}

fn words(needs: Needs) -> String {
    let word = |right| match right {
        Right::View => "view",
        Right::Operate => "operate",
        Right::Approve => "approve",
        Right::Administer => "administer",
    };
    match needs {
        Needs::Nothing => "nothing".to_owned(),
        Needs::Proof => "proof".to_owned(),
        Needs::Caller => "caller".to_owned(),
        Needs::Somewhere(right) => format!("somewhere {}", word(right)),
        Needs::OfPipeline(right) => format!("pipeline {}", word(right)),
        Needs::OfRun(right) => format!("run {}", word(right)),
        Needs::Everywhere(right) => format!("everywhere {}", word(right)),
    }
}

/// What a role may do, written out a second time.
fn allows(role: Role, right: &str) -> bool {
    match role {
        Role::Viewer => right == "view",
        Role::Operator => ["view", "operate"].contains(&right),
        Role::Approver => ["view", "approve"].contains(&right),
        Role::Admin => true,
    }
}

/// What a caller with one grant is answered.
fn expected(needs: &str, role: Role, place: Place) -> Class {
    let (what, right) = needs.split_once(' ').unwrap_or((needs, ""));
    let may = allows(role, right);
    match (what, place) {
        ("nothing" | "proof" | "caller", _) => Class::Answered,
        ("somewhere", _) if may => Class::Answered,
        ("everywhere", Place::Everywhere) if may => Class::Answered,
        ("somewhere" | "everywhere", _) => Class::Forbidden,
        ("pipeline" | "run", Place::Elsewhere | Place::OtherPipelines) => Class::Hidden,
        ("pipeline" | "run", Place::Here | Place::Everywhere) if may => Class::Answered,
        ("pipeline" | "run", Place::Here | Place::Everywhere) => Class::Forbidden,
        _ => panic!("{needs}"),
    }
}

/// Where the grant of a caller is, seen from the run and the pipeline that the paths name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Elsewhere,
    /// In the same project, for others of its pipelines.
    OtherPipelines,
    Everywhere,
}

impl Place {
    const ALL: [Self; 4] = [Self::Here, Self::Elsewhere, Self::OtherPipelines, Self::Everywhere];

    fn grant(self, role: Role) -> Grant {
        let project = match self {
            Self::Here | Self::OtherPipelines => "shop",
            Self::Elsewhere => "bank",
            Self::Everywhere => "*",
        };
        let mut grant: Grant = format!("{role}:{project}").parse().unwrap();
        if self == Self::OtherPipelines {
            grant.pipelines = serde_json::from_value(json!(["gated"])).unwrap();
        }
        grant
    }
}

/// Keeps a token that is good, and answers it.
async fn token(harness: &Harness, subject: &str, grants: Vec<Grant>) -> StoredToken {
    let stored = StoredToken {
        id: format!("tok_{}", rand::random::<u32>()),
        hash: fairlead_step::Digest::sha256(b""),
        subject: subject.to_owned(),
        grants,
        speaks_for_others: false,
        created_by: "root".to_owned(),
        created_at: harness.clock.now(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    stored.check().unwrap();
    stored
}

/// Keeps a token, and answers what is shown of it.
async fn kept(harness: &Harness, token: StoredToken) -> String {
    let secret = new_token(rand::random());
    let hash = token_hash(secret.expose()).unwrap();
    harness.store.tokens().create(StoredToken { hash, ..token }).await.unwrap();
    format!("Bearer {}", secret.expose())
}

pub(super) async fn caller(harness: &Harness, subject: &str, grants: &[&str]) -> String {
    let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    kept(harness, token(harness, subject, grants).await).await
}

/// Leaves a message that nobody takes, and answers its number.
pub(super) async fn undelivered(harness: &Harness) -> u64 {
    let deliveries = harness.store.deliveries();
    let message = fairlead_run::NewDelivery {
        destination: "nobody".to_owned(),
        id: "1".to_owned(),
        kind: "test".to_owned(),
        about: "test".to_owned(),
        replaces: false,
        run: None,
        document: "{}".to_owned(),
        created_at: harness.clock.now(),
    };
    deliveries.add(vec![message]).await.unwrap();
    let filter = fairlead_run::DeliveryFilter { limit: 1, ..Default::default() };
    deliveries.deliveries(filter).await.unwrap().remove(0).number
}

/// The paths of one walk through all routes: what the names in them stand for.
struct Names(BTreeMap<&'static str, String>);

impl Names {
    async fn of(harness: &Harness, serving: &Serving) -> Self {
        let run = start(serving, "build").await;
        harness.ended(1).await;
        // A document that the run's journal names.
        let stored = harness.store.journal().load(&run.parse().unwrap()).await.unwrap();
        let plan = stored.plan.bytes().clone();
        let plan = harness.store.artifacts().put("plan", "application/json", plan).await.unwrap();
        let events = harness.store.events();
        let filter = fairlead_run::EventFilter { limit: 1, ..Default::default() };
        let event = events.list(filter).await.unwrap().remove(0).key;
        let delivery = undelivered(harness).await;
        let revocable = token(harness, "x", vec![Grant::everywhere(Role::Viewer)]).await;
        let id = revocable.id.clone();
        kept(harness, revocable).await;
        Self(BTreeMap::from([
            ("{run}", run),
            ("{digest}", plan.digest.to_string()),
            ("{step}", "note".to_owned()),
            ("{pipeline}", "build".to_owned()),
            ("{event}", event),
            ("{delivery}", delivery.to_string()),
            ("{token}", id),
            ("{source}", "registry".to_owned()),
            ("{end}", "x".to_owned()),
        ]))
    }

    fn fill(&self, path: &str) -> String {
        let filled =
            self.0.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        assert!(!filled.contains('{'), "{filled}");
        filled
    }
}

async fn ask(serving: &Serving, method: &str, path: &str, shown: Option<&str>) -> Answer {
    let headers: Vec<(&str, &str)> = shown.iter().map(|shown| ("Authorization", *shown)).collect();
    serving.send(method, path, &headers, b"").await
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let mut routes = Vec::new();
    for line in ROUTES.trim().lines() {
        let mut parts = line.split_whitespace();
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        routes.push((method, path, parts.collect::<Vec<_>>().join(" ")));
    }
    let listed: Vec<_> = table()
        .iter()
        .map(|route| (route.method.to_string(), route.path.to_owned(), words(route.needs)))
        .collect();
    let written: Vec<_> = routes
        .iter()
        .map(|(method, path, needs)| ((*method).to_owned(), (*path).to_owned(), needs.clone()))
        .collect();
    assert_eq!(listed, written, "the table of the routes and that of this test");

    let mut harness = Harness::new();
    harness.projects(json!({"shop": ["build", "gated"], "bank": "ship"}));
    let serving = harness.serve().await;
    let names = Names::of(&harness, &serving).await;
    let now = harness.clock.now();

    // The states of a token, of somebody who may do everything.
    let admin = || async { token(&harness, "root", vec![Grant::everywhere(Role::Admin)]).await };
    let over = StoredToken {
        created_at: now - SignedDuration::from_hours(2),
        expires_at: Some(now - SignedDuration::from_hours(1)),
        ..admin().await
    };
    let revoked = StoredToken { revoked_at: Some(now), ..admin().await };
    let good = kept(&harness, admin().await).await;
    let unknown = format!("Bearer {}", new_token([7; 32]).expose());
    let states = [
        ("no token", None, false),
        ("an unknown one", Some(unknown), false),
        ("one whose time is over", Some(kept(&harness, over).await), false),
        ("one that was revoked", Some(kept(&harness, revoked).await), false),
        ("a part of a good one", Some(good[..good.len() - 1].to_owned()), false),
        ("a good one by another scheme", Some(good.replace("Bearer", "Basic")), false),
        ("nothing behind the scheme", Some("Bearer".to_owned()), false),
        ("that of the configuration", Some(format!("Bearer {TOKEN}")), true),
        ("a good one", Some(good), true),
    ];
    let mut asked = 0;
    for (method, path, needs) in &routes {
        let filled = names.fill(path);
        let is_open = ["nothing", "proof"].contains(&needs.as_str());
        for (what, shown, known) in &states {
            let answer = ask(&serving, method, &filled, shown.as_deref()).await;
            let class = Class::of(&answer);
            match (is_open, known) {
                // The proof of a webhook is its own.
                (true, _) if needs == "proof" => assert_eq!(answer.status, 401, "{what}"),
                (true, _) | (false, true) => {
                    assert_eq!(
                        class,
                        Class::Answered,
                        "{method} {path} with {what}: {}",
                        answer.body
                    );
                }
                (false, false) => {
                    assert_eq!(
                        class,
                        Class::Unknown,
                        "{method} {path} with {what}: {}",
                        answer.body
                    );
                    assert!(answer.headers.contains("www-authenticate: bearer"), "{path}");
                }
            }
            asked += 1;
        }
        for place in Place::ALL {
            for role in Role::ALL {
                if is_open {
                    continue;
                }
                let shown = token(&harness, "ann", vec![place.grant(role)]).await;
                let shown = kept(&harness, shown).await;
                let answer = ask(&serving, method, &filled, Some(&shown)).await;
                let told = format!("{method} {path} for {role} {place:?}: {}", answer.body);
                assert_eq!(Class::of(&answer), expected(needs, role, place), "{told}");
                asked += 1;
            }
        }
        // Whatever else may be said to a path is not let in either.
        let others = ["PUT", "DELETE", "PATCH", "POST", "GET"];
        let known: Vec<_> = routes.iter().filter(|it| it.1 == *path).map(|it| it.0).collect();
        for other in others.iter().filter(|other| !known.contains(other)) {
            let answer = ask(&serving, other, &filled, None).await;
            assert_eq!(answer.status, 405, "{other} {path}");
        }
    }
    assert!(asked > 500, "{asked}");
    // A list shows what its reader may look at, and no more.
    for (grants, seen) in [(&["viewer:shop"][..], 1), (&["viewer:bank"], 0), (&["viewer"], 1)] {
        let shown = caller(&harness, "ann", grants).await;
        let runs = ask(&serving, "GET", "/api/v1/runs?pipeline=build&limit=1", Some(&shown)).await;
        let count = runs.json()["runs"].as_array().unwrap().len();
        assert_eq!(count, seen, "{grants:?}: {}", runs.body);
        let pipelines = ask(&serving, "GET", "/api/v1/pipelines", Some(&shown)).await.json();
        let named = |name: &str| {
            pipelines["pipelines"].as_array().unwrap().iter().any(|it| it["name"] == name)
        };
        assert_eq!((named("build"), named("ship")), (seen == 1, grants != ["viewer:shop"]));
    }
    serving.stop().await;
}

#[test]
fn no_route_stands_outside_of_the_table() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![folder];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                for word in [".route(", ".nest(", ".merge(", ".route_service(", ".nest_service("] {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    found.extend(shipped.matches(word).map(|word| format!("{name} {word}")));
                }
            }
        }
    }
    assert_eq!(found, ["routes.rs .route("]);
}

#[tokio::test]
async fn a_vote_is_that_of_its_subject_and_the_log_says_who_spoke() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let bob = caller(&harness, "bob", &["approver"]).await;
    let run = start(&serving, "gated").await;
    parked(&harness, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let authorization = [("Authorization", bob.as_str())];
    let forged = serving.send("POST", &path, &authorization, br#"{"by": "ann"}"#).await;
    assert_eq!(forged.status, 403, "{}", forged.body);
    assert!(forged.body.contains("in the name of another"), "{}", forged.body);
    let own = serving.send("POST", &path, &authorization, br#"{"reason": "looks good"}"#).await;
    assert!(matches!(own.status, 200 | 202), "{}", own.body);
    harness.ended(1).await;
    let shown = serving.api("GET", &format!("/api/v1/runs/{run}"), "").await.json();
    assert_eq!(shown["steps"][0]["outputs"]["approved_by"][0], "bob", "{shown}");

    // Whoever may speak for others does so by name.
    let run = start(&serving, "gated").await;
    parked(&harness, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let told = serving.api("POST", &path, r#"{"by": "ann", "reason": "on the phone"}"#).await;
    assert!(matches!(told.status, 200 | 202), "{}", told.body);
    harness.ended(2).await;
    let journal = harness.store.journal().load(&run.parse().unwrap()).await.unwrap();
    let votes: Vec<_> = journal
        .records
        .iter()
        .filter_map(|record| {
            let RunEvent::Voted { by, reason, .. } = record.event() else { return None };
            Some((by.name.clone(), reason.clone().unwrap()))
        })
        .collect();
    assert_eq!(votes, [("ann".to_owned(), "api on behalf of ann: on the phone".to_owned())]);
    let log = harness.store.audit().read(Seq(0), 100).await.unwrap();
    let votes: Vec<_> = log
        .iter()
        .map(|record| record.entry())
        .filter(|entry| entry.action.name() == "step.approve")
        .map(|entry| (entry.actor.as_str(), entry.on_behalf_of.as_deref()))
        .collect();
    assert_eq!(votes, [("bob", None), ("api", Some("ann"))]);
    serving.stop().await;
}

#[tokio::test]
async fn a_server_of_ones_own_takes_no_vote_in_anothers_name() {
    let harness = Harness::new();
    let open = ApiAccess::LoopbackWithoutToken { user: "ann".to_owned() };
    let serving = harness.serve_with(None, open).await;
    let started = ask(&serving, "POST", "/api/v1/pipelines/gated/runs", None).await;
    let run = started.json()["run"].as_str().unwrap().to_owned();
    parked(&harness, &run, "waiting").await;
    let path = format!("/api/v1/runs/{run}/steps/ask/approve");
    let forged = serving.send("POST", &path, &[], br#"{"by": "bob"}"#).await;
    assert_eq!(forged.status, 403, "{}", forged.body);
    let own = serving.send("POST", &path, &[], b"{}").await;
    assert!(matches!(own.status, 200 | 202), "{}", own.body);
    assert_eq!(harness.ended(1).await[0].by, "ann", "who asked for the run is known, too");
    serving.stop().await;
}

#[tokio::test]
async fn what_callers_change_is_in_the_log_before_it_is_done() {
    let harness = Harness::new();
    let serving = harness.serve().await;
    let run = start(&serving, "gated").await;
    parked(&harness, &run, "waiting").await;
    let made = serving.api("POST", "/api/v1/tokens", r#"{"subject": "ann", "grants": ["viewer"]}"#);
    let made = made.await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(made.headers.contains("cache-control: no-store"), "{}", made.headers);
    let made = made.json();
    let shown = format!("Bearer {}", made["token"].as_str().unwrap());
    let who = ask(&serving, "GET", "/api/v1/whoami", Some(&shown)).await.json();
    assert_eq!((&who["subject"], &who["grants"][0]["role"]), (&"ann".into(), &"viewer".into()));
    let path = format!("/api/v1/runs/{run}/cancel");
    assert_eq!(ask(&serving, "POST", &path, Some(&shown)).await.status, 403);
    let id = made["id"].as_str().unwrap();
    let path_of = format!("/api/v1/tokens/{id}/revoke");
    assert_eq!(serving.api("POST", &path_of, "").await.status, 200);
    assert_eq!(ask(&serving, "GET", "/api/v1/whoami", Some(&shown)).await.status, 401);
    assert_eq!(serving.api("POST", &path, r#"{"reason": "late"}"#).await.status, 200);

    let log = serving.api("GET", "/api/v1/audit", "").await.json();
    let entries: Vec<Value> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| serde_json::from_str::<Value>(it["record"].as_str().unwrap()).unwrap())
        .map(|record| record["entry"].clone())
        .collect();
    let said: Vec<_> = entries
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap(), entry["actor"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("run.request", "api"),
            ("token.create", "api"),
            ("access.refused", "ann"),
            ("token.revoke", "api"),
            ("login.refused", "unknown"),
            ("run.cancel", "api"),
        ],
        "{log}"
    );
    assert_eq!(entries[5]["target"], run.as_str());
    assert_eq!(entries[5]["detail"]["reason"], "late");
    assert_eq!(entries[5]["address"], "127.0.0.1");
    assert!(!log.to_string().contains(&shown["Bearer ".len()..]), "no token is in the log");
    serving.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_it_is_the_client_who_has_to_wait() {
    let mut harness = Harness::new();
    harness.limits = Limits { failures: 3, local: true, ..harness.limits };
    harness.proxies = crate::TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let serving = harness.serve().await;
    let from = async |address: &str, token: &str| {
        // The first is what the client has written itself.
        let chain = format!("203.0.113.77, {address}");
        let token = format!("Bearer {token}");
        let headers = [("Authorization", token.as_str()), ("X-Forwarded-For", chain.as_str())];
        serving.send("GET", "/api/v1/runs", &headers, b"").await.status
    };
    for _ in 0..3 {
        assert_eq!(from("198.51.100.1", "wrong").await, 401);
    }
    assert_eq!(from("198.51.100.1", TOKEN).await, 429);
    assert_eq!(from("198.51.100.2", TOKEN).await, 200, "others are not locked out with it");
    assert_eq!(from("203.0.113.77", TOKEN).await, 200, "nobody is by what a client has written");
    let log = harness.store.audit().read(Seq(0), 100).await.unwrap();
    assert_eq!(log[0].entry().address.as_deref(), Some("198.51.100.1"));
    serving.stop().await;

    // Who is no proxy is not believed.
    harness.proxies = crate::TrustedProxies::default();
    let serving = harness.serve().await;
    let told = [("Authorization", "Bearer wrong"), ("X-Forwarded-For", "198.51.100.3")];
    for _ in 0..3 {
        assert_eq!(serving.send("GET", "/api/v1/runs", &told, b"").await.status, 401);
    }
    assert_eq!(serving.api("GET", "/api/v1/runs", "").await.status, 429);
    serving.stop().await;
}

#[tokio::test]
async fn who_is_wrong_again_and_again_has_to_wait() {
    let mut harness = Harness::new();
    harness.limits = Limits { failures: 3, local: true, ..harness.limits };
    let serving = harness.serve().await;
    for _ in 0..3 {
        let wrong = ask(&serving, "GET", "/api/v1/runs", Some("Bearer wrong")).await;
        assert_eq!(wrong.status, 401);
    }
    let waits = serving.api("GET", "/api/v1/runs", "").await;
    assert_eq!(waits.status, 429, "{}", waits.body);
    assert!(waits.headers.contains("retry-after: "), "{}", waits.headers);
    // What is not a login goes on.
    assert_eq!(ask(&serving, "GET", "/healthz", None).await.status, 200);
    serving.stop().await;
}
