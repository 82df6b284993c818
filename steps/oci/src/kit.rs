//! A fake registry for tests: in memory, on a loopback port, with faults on demand.
//!
//! It speaks enough of the distribution specification to be read, written, mounted and listed, and
//! it can be told to be busy, to cut connections, to damage bytes, to want tokens, or to page its
//! lists. It proves how the client takes faults; that the client speaks to real registries is
//! proven against real registries.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fairlead_step::{
    BoxFuture, Digest, Image, Registries, RegistryAccess, RegistryAuth, Repository, StepError,
};
use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use self::wire::{Answer, Request, basic, read_request, split, write_answer};
use crate::media_type;

/// How a [`FakeRegistry`] behaves.
#[derive(Debug, Clone)]
pub struct Behavior {
    /// Whether it has the referrers API and answers `OCI-Subject`.
    pub referrers_api: bool,
    /// How many referrers or tags a page holds.
    pub page: usize,
    /// Whether it mounts blobs.
    pub mounts: bool,
    /// Whether it says `Docker-Content-Digest`.
    pub digest_header: bool,
    /// Whether it answers `OCI-Subject` without the referrers API, as one large registry once did.
    pub false_subject: bool,
    /// What it answers where the referrers API would be, when it has none.
    pub without_referrers: WithoutReferrers,
    /// Which uploads it takes.
    pub uploads: Uploads,
    /// The smallest piece that it takes, which it says as `OCI-Chunk-Min-Length`.
    pub least_chunk: Option<usize>,
    /// The login it wants.
    pub login: Login,
    /// How it lists tags.
    pub tag_lists: TagLists,
    /// Whether it deletes tags, and whether the manifest goes with its last one.
    pub deletes_tags: Option<bool>,
}

/// How a [`FakeRegistry`] says that it has no referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutReferrers {
    /// This status, and no error of the specification.
    Status(u16),
    /// 404 with the specification's word for a name that is not known.
    UnknownName,
    /// 200 and a page for people, as a front that answers everything.
    Page,
    /// 200 and a document that is no index.
    Document,
}

/// How a [`FakeRegistry`] lists tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagLists {
    /// In order, and on from `last`.
    Lexical,
    /// In order, and from the start whatever is asked.
    FromStart,
    /// In another order, and from the start.
    Unordered,
}

/// Which uploads a [`FakeRegistry`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploads {
    /// All.
    Any,
    /// Whole ones, and pieces of at most so many bytes (GHCR: 4 MiB).
    PiecesUpTo(usize),
    /// Whole ones alone (Google's registry).
    Whole,
}

/// The login that a [`FakeRegistry`] wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// None.
    Open,
    /// User and password with each request.
    Basic(String, String),
    /// A token for each set of scopes, which user and password buy.
    Token(String, String),
    /// A token, which an identity token buys.
    Identity(String),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It answers this status, with `Retry-After` where given.
    Status(u16, Option<String>),
    /// It does as asked but ends the connection before it answers.
    Mute,
    /// It ends the connection after so many bytes of the body.
    CutAfter(usize),
    /// It changes the last byte of the body.
    Damage,
    /// It leaves out the last byte of the body, and says so in the length.
    Shorten,
    /// It never answers.
    Hang,
    /// It answers this status, with these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// It does as asked, and at once another writer points the tag to this digest, as one who read
    /// before does; with `None` he deletes the tag.
    Overtaken(Option<String>),
}

/// A fake registry. It ends when it is dropped.
pub struct FakeRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    address: SocketAddr,
    behavior: Behavior,
    /// By repository and digest.
    manifests: HashMap<(String, String), (String, Bytes)>,
    tags: BTreeMap<(String, String), String>,
    blobs: HashMap<(String, String), Bytes>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashMap<String, Vec<String>>,
    faults: Vec<(String, Fault, u32)>,
    log: Vec<String>,
    logins: Vec<String>,
    count: usize,
}

impl FakeRegistry {
    /// Starts an empty registry on a free loopback port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            address,
            behavior: Behavior {
                referrers_api: true,
                page: 1000,
                mounts: true,
                digest_header: true,
                false_subject: false,
                without_referrers: WithoutReferrers::Status(404),
                uploads: Uploads::Any,
                least_chunk: None,
                login: Login::Open,
                tag_lists: TagLists::Lexical,
                deletes_tags: None,
            },
            manifests: HashMap::new(),
            tags: BTreeMap::new(),
            blobs: HashMap::new(),
            uploads: HashMap::new(),
            tokens: HashMap::new(),
            faults: Vec::new(),
            log: Vec::new(),
            logins: Vec::new(),
            count: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A repository on it.
    ///
    /// # Panics
    /// When `path` is no repository path.
    #[must_use]
    pub fn repository(&self, path: &str) -> Repository {
        Repository::new(&self.address.to_string(), path).expect("a repository path")
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.state().behavior);
    }

    /// Makes the next `times` requests fail whose line, such as `GET /v2/shop/manifests/v1`,
    /// contains `part`.
    pub fn fail(&self, part: &str, fault: Fault, times: u32) {
        self.state().faults.push((part.to_owned(), fault, times));
    }

    /// Takes back every fault that is still to come.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Every request so far, such as `GET /v2/shop/manifests/v1 200`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// How many requests so far contain `part`.
    #[must_use]
    pub fn asked(&self, part: &str) -> usize {
        self.state().log.iter().filter(|line| line.contains(part)).count()
    }

    /// Every `Authorization` that came, with the line of its request.
    #[must_use]
    pub fn logins(&self) -> Vec<String> {
        self.state().logins.clone()
    }

    /// Its address, such as `http://127.0.0.1:4711`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state().log.clear();
    }

    /// Where a tag points.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.state().tags.get(&(repository.to_owned(), tag.to_owned())).cloned()
    }

    /// Puts a blob there, as if somebody had pushed it.
    pub fn seed_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.state().blobs.insert((repository.to_owned(), digest.to_string()), bytes);
        digest
    }

    /// Puts a manifest there, and a tag on it where one is given.
    pub fn seed_manifest(&self, repository: &str, tag: Option<&str>, document: &Value) -> Image {
        let bytes = Bytes::from(document.to_string());
        let digest = Digest::sha256(&bytes);
        let kind = document["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST).to_owned();
        let mut state = self.state();
        state.manifests.insert((repository.to_owned(), digest.to_string()), (kind, bytes));
        if let Some(tag) = tag {
            state.tags.insert((repository.to_owned(), tag.to_owned()), digest.to_string());
        }
        drop(state);
        self.repository(repository).at(digest)
    }

    /// Puts a small image there: a config and one layer that holds `content`.
    pub fn seed_image(&self, repository: &str, tag: Option<&str>, content: &str) -> Image {
        let config = format!(r#"{{"architecture":"amd64","os":"linux","note":"{content}"}}"#);
        let (config_digest, size) = (self.seed_blob(repository, config.clone()), config.len());
        let layer = self.seed_blob(repository, content.to_owned());
        self.seed_manifest(
            repository,
            tag,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": {
                    "mediaType": media_type::OCI_CONFIG, "digest": config_digest, "size": size,
                },
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer, "size": content.len(),
                }],
            }),
        )
    }

    /// The bytes of a manifest there.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let key = (repository.to_owned(), digest.to_owned());
        self.state().manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// Takes a manifest away.
    pub fn remove_manifest(&self, repository: &str, digest: &str) {
        self.state().manifests.remove(&(repository.to_owned(), digest.to_owned()));
    }

    /// Takes a blob away.
    pub fn remove_blob(&self, repository: &str, digest: &str) {
        self.state().blobs.remove(&(repository.to_owned(), digest.to_owned()));
    }

    /// The registry settings of a host that logs in as `auth` everywhere.
    #[must_use]
    pub fn registries(auth: RegistryAuth) -> Arc<dyn Registries> {
        struct Fixed(RegistryAuth);
        impl Registries for Fixed {
            fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
                let auth = self.0.clone();
                Box::pin(std::future::ready(Ok(RegistryAccess {
                    auth,
                    plain_http: true,
                    extra_ca: Vec::new(),
                    egress: fairlead_step::Egress::open(),
                })))
            }
        }
        Arc::new(Fixed(auth))
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let line = format!("{} {}", request.method, request.path);
        let (answer, fault) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(login) = request.headers.get("authorization") {
                state.logins.push(format!("{line} {login}"));
            }
            let fault = state.next_fault(&line);
            let answer = match &fault {
                Some(Fault::Answer(status, headers, body)) => {
                    let mut answer = Answer::new(*status);
                    for (name, value) in headers {
                        answer = answer.header(name, value);
                    }
                    answer.body = Bytes::from(body.clone());
                    answer
                }
                Some(Fault::Overtaken(by)) => {
                    let answer = state.answer(&request);
                    state.overtake(&request, by.clone());
                    answer
                }
                Some(Fault::Status(status, after)) => {
                    let answer = Answer::new(*status);
                    match after {
                        Some(after) => answer.header("retry-after", after),
                        None => answer,
                    }
                }
                Some(
                    Fault::Mute | Fault::CutAfter(_) | Fault::Damage | Fault::Shorten | Fault::Hang,
                )
                | None => state.answer(&request),
            };
            state.log.push(format!("{line} {}", answer.status));
            (answer, fault)
        };
        if !write_answer(&mut stream, &request, answer, fault).await {
            return;
        }
    }
}

impl State {
    fn next_fault(&mut self, line: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(part, _, left)| *left > 0 && line.contains(part))?;
        let (_, fault, left) = &mut self.faults[at];
        *left -= 1;
        Some(fault.clone())
    }

    fn answer(&mut self, request: &Request) -> Answer {
        if request.path == "/token" {
            return self.sell_token(request);
        }
        let Some((repository, kind, name)) = split(&request.path) else {
            return Answer::new(404);
        };
        if let Some(refusal) = self.refuse_login(request, &repository) {
            return refusal;
        }
        match (request.method.as_str(), kind) {
            ("GET" | "HEAD", "manifests") => self.get_manifest(&repository, &name),
            ("PUT", "manifests") => self.put_manifest(request, &repository, &name),
            ("DELETE", "manifests") => self.delete_tag(repository, name),
            ("GET" | "HEAD", "blobs") => self.get_blob(request, &repository, &name),
            (_, "uploads") => self.upload(request, &repository, &name),
            ("GET", "tags") => {
                let tags = self.tags.keys().filter(|(r, _)| *r == repository);
                let lists = self.behavior.tag_lists;
                let last = request.get("last").filter(|_| lists == TagLists::Lexical);
                let tags = tags.filter(|(_, tag)| last.is_none_or(|last| tag.as_str() > last));
                let mut tags: Vec<Value> = tags.map(|(_, tag)| json!(tag)).collect();
                if lists == TagLists::Unordered {
                    tags.reverse();
                }
                self.page(request, &tags, |tags| json!({ "name": repository, "tags": tags }))
            }
            ("GET", "referrers") if self.behavior.referrers_api => {
                let entries = self.referrers(&repository, &name);
                self.page(request, &entries, |entries| {
                    json!({
                        "schemaVersion": 2,
                        "mediaType": media_type::OCI_INDEX,
                        "manifests": entries,
                    })
                })
            }
            ("GET", "referrers") => self.no_referrers(),
            _ => Answer::new(404),
        }
    }

    fn no_referrers(&self) -> Answer {
        match self.behavior.without_referrers {
            WithoutReferrers::Status(status) => {
                Answer::new(status).body("text/plain", "404 page not found")
            }
            WithoutReferrers::UnknownName => {
                let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}"#;
                Answer::new(404).body("application/json", body)
            }
            WithoutReferrers::Page => Answer::new(200).body("text/html", "<html>Welcome</html>"),
            WithoutReferrers::Document => {
                Answer::new(200).body("application/json", r#"{"message":"ok"}"#)
            }
        }
    }

    /// Another writer writes the tag that `request` has just written.
    fn overtake(&mut self, request: &Request, by: Option<String>) {
        let Some((repository, _, tag)) = split(&request.path) else { return };
        match by {
            Some(digest) => self.tags.insert((repository, tag), digest),
            None => self.tags.remove(&(repository, tag)),
        };
    }

    fn delete_tag(&mut self, repository: String, name: String) -> Answer {
        let Some(wholly) = self.behavior.deletes_tags else { return Answer::new(405) };
        match self.tags.remove(&(repository.clone(), name)) {
            Some(digest) if wholly => drop(self.manifests.remove(&(repository, digest))),
            Some(_) => {}
            None => return Answer::new(404),
        }
        Answer::new(202)
    }

    fn get_manifest(&self, repository: &str, name: &str) -> Answer {
        let digest = match self.tags.get(&(repository.to_owned(), name.to_owned())) {
            Some(digest) => digest.clone(),
            None => name.to_owned(),
        };
        match self.manifests.get(&(repository.to_owned(), digest.clone())) {
            None => Answer::new(404),
            Some((kind, bytes)) => {
                let answer = Answer::new(200).body(kind, bytes.clone());
                if self.behavior.digest_header {
                    answer.header("docker-content-digest", digest)
                } else {
                    answer
                }
            }
        }
    }

    fn put_manifest(&mut self, request: &Request, repository: &str, name: &str) -> Answer {
        let bytes = Bytes::copy_from_slice(&request.body);
        let digest = Digest::sha256(&bytes).to_string();
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        // Like real registries, it takes no manifest whose content it does not have.
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        let has = |d: &Value, manifests: bool| {
            let key = (repository.to_owned(), d["digest"].as_str().unwrap_or("").to_owned());
            if manifests {
                self.manifests.contains_key(&key)
            } else {
                self.blobs.contains_key(&key)
            }
        };
        let config = Some(document["config"].clone()).filter(|config| !config.is_null());
        let blobs_here = config.iter().chain(&list("layers")).all(|blob| has(blob, false));
        let is_list = self.is_fallback(name);
        if !blobs_here || !(is_list || list("manifests").iter().all(|child| has(child, true))) {
            return Answer::new(400);
        }
        let kind = request.headers.get("content-type").cloned().unwrap_or_default();
        self.manifests.insert((repository.to_owned(), digest.clone()), (kind, bytes));
        if !name.contains(':') {
            self.tags.insert((repository.to_owned(), name.to_owned()), digest.clone());
        }
        let answer = Answer::new(201).header("docker-content-digest", digest);
        match document["subject"]["digest"].as_str() {
            Some(subject) if self.behavior.referrers_api || self.behavior.false_subject => {
                answer.header("oci-subject", subject)
            }
            Some(_) | None => answer,
        }
    }

    fn is_fallback(&self, name: &str) -> bool {
        !self.behavior.referrers_api && name.starts_with("sha256-")
    }

    fn referrers(&self, repository: &str, subject: &str) -> Vec<Value> {
        let mut entries: Vec<Value> = self
            .manifests
            .iter()
            .filter(|((r, _), _)| r == repository)
            .filter_map(|((_, digest), (kind, bytes))| {
                let document: Value = serde_json::from_slice(bytes).ok()?;
                (document["subject"]["digest"].as_str() == Some(subject)).then(|| {
                    json!({
                        "mediaType": kind,
                        "digest": digest,
                        "size": bytes.len(),
                        "artifactType": document["artifactType"],
                    })
                })
            })
            .collect();
        entries.sort_by_key(|entry| entry["digest"].to_string());
        entries
    }

    fn page(&self, request: &Request, all: &[Value], wrap: impl Fn(&[Value]) -> Value) -> Answer {
        let from: usize = request.get("from").and_then(|at| at.parse().ok()).unwrap_or(0);
        let to = (from + self.behavior.page).min(all.len());
        let body = wrap(&all[from.min(to)..to]).to_string();
        let answer = Answer::new(200).body(media_type::OCI_INDEX, body);
        if to < all.len() {
            let last = request.get("last").map(|last| format!("&last={last}")).unwrap_or_default();
            let next = format!("<{}?from={to}{last}>; rel=\"next\"", request.path);
            return answer.header("link", next);
        }
        answer
    }

    fn get_blob(&self, request: &Request, repository: &str, digest: &str) -> Answer {
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Answer::new(404);
        };
        let kind = "application/octet-stream";
        let from = request
            .headers
            .get("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            Some(from) if from < bytes.len() => Answer::new(206)
                .header(
                    "content-range",
                    format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
                )
                .body(kind, bytes.slice(from..)),
            Some(_) | None => Answer::new(200).body(kind, bytes.clone()),
        }
    }

    fn upload(&mut self, request: &Request, repository: &str, id: &str) -> Answer {
        let place = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}");
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (request.get("mount"), request.get("from")) {
                    let blob = self.blobs.get(&(from.to_owned(), digest.to_owned())).cloned();
                    let allowed = self.allows(request, from, "pull");
                    if let Some(blob) = blob.filter(|_| self.behavior.mounts && allowed) {
                        self.blobs.insert((repository.to_owned(), digest.to_owned()), blob);
                        return Answer::new(201);
                    }
                }
                self.count += 1;
                let id = format!("upload-{}", self.count);
                self.uploads.insert(id.clone(), Vec::new());
                let answer = Answer::new(202).header("location", place(&id));
                match self.behavior.least_chunk {
                    Some(least) => answer.header("oci-chunk-min-length", least.to_string()),
                    None => answer,
                }
            }
            "DELETE" => match self.uploads.remove(id) {
                Some(_) => Answer::new(204),
                None => Answer::new(404),
            },
            "GET" => match self.uploads.get(id) {
                Some(part) => Answer::new(204)
                    .header("range", format!("0-{}", part.len().saturating_sub(1)))
                    .header("location", place(id)),
                None => Answer::new(404),
            },
            "PATCH" if !self.takes_piece(request.body.len()) => Answer::new(413),
            "PATCH" | "PUT" => {
                let Some(part) = self.uploads.get_mut(id) else {
                    return Answer::new(404);
                };
                let from = request
                    .headers
                    .get("content-range")
                    .and_then(|r| r.split_once('-')?.0.parse::<usize>().ok());
                if from.is_some_and(|from| from != part.len()) {
                    return Answer::new(416);
                }
                part.extend_from_slice(&request.body);
                let Some(digest) = request.get("digest") else {
                    return Answer::new(202).header("location", place(id));
                };
                let bytes = Bytes::from(self.uploads.remove(id).unwrap_or_default());
                if Digest::sha256(&bytes).to_string() != digest {
                    return Answer::new(400);
                }
                self.blobs.insert((repository.to_owned(), digest.to_owned()), bytes);
                Answer::new(201).header("docker-content-digest", digest)
            }
            _ => Answer::new(405),
        }
    }

    fn takes_piece(&self, size: usize) -> bool {
        match self.behavior.uploads {
            Uploads::Any => true,
            Uploads::PiecesUpTo(most) => size <= most,
            Uploads::Whole => false,
        }
    }

    /// A 401 with a challenge, where the request may not do what it does.
    fn refuse_login(&self, request: &Request, repository: &str) -> Option<Answer> {
        let action =
            if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "push" };
        if self.allows(request, repository, action) {
            return None;
        }
        let challenge = match &self.behavior.login {
            Login::Basic(..) => "Basic realm=\"fake\"".to_owned(),
            Login::Open | Login::Token(..) | Login::Identity(_) => format!(
                "Bearer realm=\"http://{}/token\",service=\"fake\",\
                 scope=\"repository:{repository}:{action}\"",
                self.address
            ),
        };
        Some(Answer::new(401).header("www-authenticate", challenge))
    }

    fn allows(&self, request: &Request, repository: &str, action: &str) -> bool {
        let sent = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
        match &self.behavior.login {
            Login::Open => true,
            Login::Basic(user, password) => sent == basic(user, password),
            Login::Token(..) | Login::Identity(_) => {
                let scopes = sent.strip_prefix("Bearer ").and_then(|t| self.tokens.get(t));
                scopes.is_some_and(|scopes| {
                    scopes.iter().any(|scope| {
                        scope
                            .strip_prefix(&format!("repository:{repository}:"))
                            .is_some_and(|actions| actions.split(',').any(|a| a == action))
                    })
                })
            }
        }
    }

    fn sell_token(&mut self, request: &Request) -> Answer {
        let sent = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let form: Vec<(String, String)> =
            url::form_urlencoded::parse(&request.body).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        let scopes: Vec<String> = match &self.behavior.login {
            Login::Token(user, password) if sent == basic(user, password) => {
                let scopes = request.query.iter().filter(|(key, _)| key == "scope");
                scopes.map(|(_, scope)| scope.clone()).collect()
            }
            Login::Identity(token) if field("refresh_token") == Some(token) => {
                field("scope").unwrap_or_default().split(' ').map(str::to_owned).collect()
            }
            Login::Open | Login::Basic(..) | Login::Token(..) | Login::Identity(_) => {
                return Answer::new(401);
            }
        };
        self.count += 1;
        let token = format!("token-{}", self.count);
        self.tokens.insert(token.clone(), scopes);
        let body = json!({ "token": token, "expires_in": 300 }).to_string();
        Answer::new(200).body("application/json", body)
    }
}
