//! People who log in: the real program and the real server, with an issuer that is a fake and says so. Its
//! tokens are signed for real, and it does with them what a wrong or hostile issuer could do.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fairlead_step::Digest;
use fairlead_tests::http::{self, Answer};
use fairlead_tests::{Fairlead, Running, free_port};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// How the issuer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Right,
    /// Its tokens end in 30 s, so that each command asks for the next.
    Short,
    OtherAudience,
    OtherIssuer,
    Expired,
    NoAlgorithm,
    OtherKey,
    OtherNonce,
}

struct State {
    way: Way,
    /// What was asked for with each code.
    challenge: String,
    nonce: String,
    /// How often the device has asked.
    polls: u32,
    /// The token that the next one is asked for with.
    refresh: u32,
    refreshed: u32,
}

/// An issuer: a fake, on a port of this machine.
struct Issuer {
    url: String,
    state: Arc<Mutex<State>>,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn form(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        match (first, more) {
            (b'%', [a, b, more @ ..]) => {
                let hex = String::from_utf8(vec![*a, *b]).unwrap();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                rest = more;
            }
            (b'+', more) => {
                bytes.push(b' ');
                rest = more;
            }
            (first, more) => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            way: Way::Right,
            challenge: String::new(),
            nonce: String::new(),
            polls: 0,
            refresh: 0,
            refreshed: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let keys = [0, 1].map(|_| {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
        });
        let (shared, base) = (Arc::clone(&state), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut bytes = Vec::new();
                let mut piece = [0; 4096];
                let (head, body) = loop {
                    let Ok(count @ 1..) = stream.read(&mut piece) else { break Default::default() };
                    bytes.extend_from_slice(&piece[..count]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let lower = head.to_ascii_lowercase();
                    let length =
                        lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.map_or(0, |length| length.parse().unwrap());
                    if body.len() >= length {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = answer(&base, &keys, &mut shared.lock().unwrap(), &path, &body);
                send(&mut stream, answer);
            }
        });
        Self { url, state }
    }

    fn behave(&self, way: Way) {
        self.state.lock().unwrap().way = way;
    }
}

/// A status, a place to go to, and a body.
type Said = (u16, Option<String>, Value);

fn send(stream: &mut TcpStream, (status, place, body): Said) {
    let place = place.map_or(String::new(), |place| format!("Location: {place}\r\n"));
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n{place}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes());
}

fn answer(
    base: &str,
    keys: &[Ed25519KeyPair; 2],
    state: &mut State,
    path: &str,
    body: &str,
) -> Said {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let refused = |why: &str| (400, None, json!({ "error": why }));
    match path {
        "/.well-known/openid-configuration" => (
            200,
            None,
            json!({ "issuer": base, "jwks_uri": format!("{base}/keys"),
                "authorization_endpoint": format!("{base}/authorize"),
                "token_endpoint": format!("{base}/token"),
                "device_authorization_endpoint": format!("{base}/device") }),
        ),
        "/keys" => {
            let x = b64(keys[0].public_key());
            (200, None, json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x }] }))
        }
        "/authorize" => {
            let asked = form(query);
            assert_eq!(asked["code_challenge_method"], "S256");
            assert_eq!(asked["response_type"], "code");
            assert_eq!(asked["client_id"], "fairlead");
            assert!(asked["scope"].contains("openid"), "{asked:?}");
            state.challenge.clone_from(&asked["code_challenge"]);
            state.nonce.clone_from(&asked["nonce"]);
            let back = format!("{}?code=c1&state={}", asked["redirect_uri"], asked["state"]);
            (302, Some(back), Value::Null)
        }
        "/device" => {
            let place = format!("{base}/activate");
            (
                200,
                None,
                json!({ "device_code": "d1", "user_code": "ABCD-EFGH", "verification_uri": place,
                    "expires_in": 60, "interval": 1 }),
            )
        }
        "/token" => {
            let asked = form(body);
            match asked["grant_type"].as_str() {
                "authorization_code" => {
                    let digest = Digest::sha256(asked["code_verifier"].as_bytes());
                    let bytes: Vec<u8> = (0..32)
                        .map(|at| {
                            u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16).unwrap()
                        })
                        .collect();
                    if asked["code"] != "c1" || b64(bytes) != state.challenge {
                        return refused("invalid_grant");
                    }
                }
                "urn:ietf:params:oauth:grant-type:device_code" => {
                    state.nonce.clear();
                    state.polls += 1;
                    if state.polls < 2 {
                        return refused("authorization_pending");
                    }
                }
                // Good once: whoever shows an older one is a thief.
                "refresh_token" => {
                    if asked["refresh_token"] != format!("r{}", state.refresh) {
                        return refused("invalid_grant");
                    }
                    state.refreshed += 1;
                }
                other => panic!("{other}"),
            }
            (200, None, tokens(base, keys, state))
        }
        _ => (404, None, Value::Null),
    }
}

fn tokens(base: &str, keys: &[Ed25519KeyPair; 2], state: &mut State) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let way = state.way;
    let of =
        |wrong: Way, other: &str, right: &str| if way == wrong { other } else { right }.to_owned();
    let lasts = if way == Way::Short { 30 } else { 3600 };
    let (issued, expires) =
        if way == Way::Expired { (now - 7200, now - 3600) } else { (now, now + lasts) };
    let algorithm = of(Way::NoAlgorithm, "none", "EdDSA");
    let header = json!({ "alg": algorithm, "kid": "1" });
    let claims = json!({
        "iss": of(Way::OtherIssuer, "https://elsewhere.example.com", base),
        "aud": of(Way::OtherAudience, "another", "fairlead"),
        "sub": "ann", "iat": issued, "exp": expires,
        "nonce": of(Way::OtherNonce, "another", &state.nonce),
    });
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let key = &keys[usize::from(way == Way::OtherKey)];
    let signature =
        if way == Way::NoAlgorithm { String::new() } else { b64(key.sign(message.as_bytes())) };
    state.refresh += 1;
    json!({ "access_token": "opaque", "token_type": "Bearer", "expires_in": lasts,
        "refresh_token": format!("r{}", state.refresh), "id_token": format!("{message}.{signature}") })
}

struct Place {
    fairlead: Fairlead,
    issuer: Issuer,
    url: String,
    _server: Running,
}

fn place() -> Place {
    let (fairlead, issuer) = (Fairlead::new(), Issuer::start());
    fairlead.write(
        "pipelines/release.yaml",
        "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: release\non: {manual: {}}\n\
         steps: {ask: {approval: {from: [ann]}}}\n",
    );
    let config = json!({ "identity": { "issuers": { "company": {
        "issuer": issuer.url, "audience": "fairlead", "prefix": "",
        "login": { "client_id": "fairlead" },
        "roles": [{ "claims": { "sub": "ann" }, "role": "approver", "project": "*" }],
    } } } });
    fairlead.write("serve.yaml", &config.to_string());
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["serve", "--pipelines", "pipelines", "--config", "serve.yaml", "--listen", &listen];
    let mut server = fairlead.start(args);
    let url = format!("http://{listen}");
    server.wait_until(Duration::from_secs(60), || {
        http::send("GET", &format!("{url}/readyz"), &[], b"").is_some_and(|it| it.status == 200)
    });
    Place { fairlead, issuer, url, _server: server }
}

impl Place {
    /// Logs in with a browser, which this test is.
    fn in_browser(&self) -> (Option<i32>, String) {
        let mut login = self.fairlead.start(["--server", &self.url, "login", "--no-browser"]);
        let mut address = None;
        login.wait_until(Duration::from_secs(60), || {
            let log = login_log(&self.fairlead, &self.issuer.url);
            address = log;
            address.is_some()
        });
        let gone = http::send("GET", &address.unwrap(), &[], b"").unwrap();
        let back = gone.header("location").unwrap().to_owned();
        // Somebody else on this machine guesses: nothing comes of it.
        let guessed = back.split("state=").next().unwrap().to_owned() + "state=guessed";
        assert_eq!(http::send("GET", &guessed, &[], b"").unwrap().status, 404);
        let page: Answer = http::send("GET", &back, &[], b"").unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        let ended = login.wait(Duration::from_secs(60));
        (ended.code(), login.log())
    }
}

/// The newest address that a login has printed.
fn login_log(fairlead: &Fairlead, issuer: &str) -> Option<String> {
    let mut logs: Vec<_> = std::fs::read_dir(fairlead.home())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort_by_key(|path| std::fs::metadata(path).unwrap().created().ok());
    let text = std::fs::read_to_string(logs.last()?).ok()?;
    let begin = format!("{issuer}/authorize?");
    text.lines().find(|line| line.starts_with(&begin)).map(str::to_owned)
}

#[test]
fn a_person_logs_in_with_a_browser_and_is_who_the_issuer_says() {
    let place = place();
    let at = ["--server", place.url.as_str()];
    let fairlead = &place.fairlead;
    let stranger = fairlead.run([&at[..], &["whoami"]].concat()).code(2);
    assert!(stranger.stderr.contains("fairlead login"), "{}", stranger.stderr);

    place.issuer.behave(Way::Short);
    let (code, log) = place.in_browser();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("as ann"), "{log}");
    let kept = fairlead.home().join(".config/fairlead/credentials.json");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(!log.contains(text.split("\"token\": \"").nth(1).unwrap().split('"').next().unwrap()));

    // Each command finds a token that is about to end, and asks for the next, with one that is good once.
    let before = place.issuer.state.lock().unwrap().refreshed;
    let who = fairlead.run([&at[..], &["whoami"]].concat()).code(0);
    assert!(who.stdout.contains("approver in all projects"), "{}", who.stdout);
    assert!(
        fairlead.run([&at[..], &["whoami", "--json"]].concat()).code(0).stdout.contains("\"ann\"")
    );
    assert_eq!(place.issuer.state.lock().unwrap().refreshed, before + 2);
    // Several at once take turns.
    let many: Vec<Running> =
        (0..4).map(|_| fairlead.start([&at[..], &["runs"]].concat())).collect();
    for mut one in many {
        let ended = one.wait(Duration::from_secs(60));
        assert!(ended.success(), "{}", one.log());
    }

    let _ = fairlead.run([&at[..], &["logout"]].concat()).code(0);
    let _ = fairlead.run([&at[..], &["whoami"]].concat()).code(2);
    assert!(!std::fs::read_to_string(&kept).unwrap().contains("id_token"));
}

#[test]
fn a_code_is_typed_on_another_machine_and_a_wrong_issuer_gets_nobody_in() {
    let place = place();
    let at = ["--server", place.url.as_str()];
    let device = [&at[..], &["login", "--device"]].concat();
    let done = place.fairlead.run(&device).code(0);
    assert!(
        done.stderr.contains("ABCD-EFGH") && done.stderr.contains("/activate"),
        "{}",
        done.stderr
    );
    let kept = place.fairlead.home().join(".config/fairlead/credentials.json");
    let good = std::fs::read_to_string(&kept).unwrap();
    for (way, why) in [
        (Way::OtherAudience, "for somebody else"),
        (Way::Expired, "its time is over"),
        (Way::OtherIssuer, "not one that this server knows"),
        (Way::NoAlgorithm, "not one that this server knows"),
        (Way::OtherKey, "signature is wrong"),
    ] {
        place.issuer.behave(way);
        let refused = place.fairlead.run(&device).code(2);
        assert!(refused.stderr.contains(why), "{way:?}: {}", refused.stderr);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), good, "{way:?} is not kept");
    }
    place.issuer.behave(Way::OtherNonce);
    let (code, log) = place.in_browser();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("for another login"), "{log}");
}
