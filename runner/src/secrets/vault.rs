//! Secrets from a server with Vault's API (HashiCorp Vault, OpenBao): the key-value engine, version 2.
//!
//! Who Fairlead is there: a token in a file (as an agent keeps it), AppRole, or the service account of a
//! Kubernetes pod. A token that was logged in for is renewed when two thirds of its time have passed, and logged
//! in for again when it cannot be renewed or is refused. It is kept in memory alone, and so is nothing else:
//! each secret is asked for when an attempt needs it.

#[cfg(test)]
mod fake;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fairlead_http::reqwest::{self, Method, StatusCode, Url};
use fairlead_step::{Egress, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::file::guarded;
use super::{MAX_SECRET, Refused};

/// How long the server has for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// How often it is asked when it is busy or away.
const ATTEMPTS: u32 = 3;
/// The pause behind the first attempt, which doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// The most bytes of an answer: a secret's map may hold others.
const MOST: usize = 4 << 20;
/// The most characters of the server's own words that are repeated.
const QUOTED: usize = 200;

/// A server with Vault's API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSettings {
    /// Where it is, such as `https://vault.example.com:8200`. Plain HTTP is for this machine alone.
    address: String,
    /// The namespace, where it has them.
    namespace: Option<String>,
    /// Where the key-value engine (version 2) is mounted; `secret` when it is not given.
    #[serde(default = "default_mount")]
    mount: String,
    /// A file with certificates (PEM) that it may use besides the system's.
    ca: Option<PathBuf>,
    /// Who to be there.
    auth: AuthSettings,
}

fn default_mount() -> String {
    "secret".to_owned()
}

/// Who to be: one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum AuthSettings {
    /// Whoever the token in this file is of. It is read anew for each secret: an agent may renew it.
    TokenFile(PathBuf),
    /// A role for machines.
    AppRole(AppRole),
    /// The role that the service account of the pod stands for.
    Kubernetes(Kubernetes),
}

/// A role for machines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppRole {
    /// Where the method is mounted; `approle` when it is not given.
    #[serde(default = "app_role_mount")]
    mount: String,
    /// The id of the role.
    role_id: String,
    /// The file with the secret id.
    secret_id_file: PathBuf,
}

fn app_role_mount() -> String {
    "approle".to_owned()
}

/// The service account of a pod.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kubernetes {
    /// Where the method is mounted; `kubernetes` when it is not given.
    #[serde(default = "kubernetes_mount")]
    mount: String,
    /// The role.
    role: String,
    /// The file with the service account's token; where Kubernetes puts it when it is not given.
    #[serde(default = "kubernetes_token")]
    token_file: PathBuf,
}

fn kubernetes_mount() -> String {
    "kubernetes".to_owned()
}

fn kubernetes_token() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// A client of one server.
pub(crate) struct Vault {
    base: Url,
    settings: VaultSettings,
    http: reqwest::Client,
    session: tokio::sync::Mutex<Option<Session>>,
}

/// A token that was logged in for.
#[derive(Clone)]
struct Session {
    token: Secret<String>,
    renewable: bool,
    /// When to renew it, or to log in again; never for a token without an end.
    renew_at: Option<Instant>,
}

/// What became of a request.
enum Failure {
    /// It does not have it (404).
    NotFound,
    /// It does not let us (403): the token may be over.
    Forbidden(String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("address", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Checks the settings; nobody is asked yet.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn new(settings: VaultSettings) -> Result<Self, String> {
        let wrong = |problem: &str| format!("`address` is `{}`, and {problem}", settings.address);
        let mut base = Url::parse(&settings.address).map_err(|e| wrong(&e.to_string()))?;
        let host = base.host_str().unwrap_or_default();
        match base.scheme() {
            "https" => {}
            "http" if fairlead_oci::is_loopback(host) => {}
            "http" => return Err(wrong("plain HTTP would show the token to the network")),
            _ => return Err(wrong("must begin with `https://`")),
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(wrong("holds more than a host and a path"));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // An operator who names it means it, wherever it is. It redirects standby to active nodes; a token is
        // not sent on, so the address must be one that forwards.
        let mut builder =
            fairlead_http::builder(&Egress::open()).connect_timeout(CONNECT).timeout(ANSWER);
        if base.scheme() == "http" {
            builder = builder.no_proxy();
        }
        if let Some(path) = &settings.ca {
            let fail = |problem: String| format!("`ca`: {}: {problem}", path.display());
            let pem = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
            let found =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| fail(e.to_string()))?;
            if found.is_empty() {
                return Err(fail("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_merge(found);
        }
        let http = builder.build().map_err(|e| fairlead_step::error_chain(&e))?;
        Ok(Self { base, settings, http, session: tokio::sync::Mutex::default() })
    }

    /// The text at `field` of the secret at `path`.
    pub(crate) async fn get(&self, path: &str, field: &str) -> Result<Secret<String>, Refused> {
        let what = format!("{}/{path}", self.settings.mount);
        let place = || format!("`{what}` at {}", self.base);
        let unavailable = |problem: String| Refused::Unavailable(format!("{}: {problem}", place()));
        let mut logged_in_again = false;
        let answer = loop {
            let token = self.token().await.map_err(unavailable)?;
            match self.read(path, &token).await {
                Ok(answer) => break answer,
                Err(Failure::NotFound) => {
                    return Err(Refused::Missing(format!("put it into {}", place())));
                }
                // The token may have been revoked; a new one tells.
                Err(Failure::Forbidden(_)) if !logged_in_again && self.logs_in() => {
                    logged_in_again = true;
                    self.forget(&token).await;
                }
                Err(Failure::Forbidden(said) | Failure::Other(said)) => {
                    return Err(unavailable(said));
                }
            }
        };
        match answer.pointer("/data/data").and_then(|data| data.get(field)) {
            Some(Value::String(text)) if text.len() as u64 <= MAX_SECRET => {
                Ok(Secret::new(text.clone()))
            }
            Some(Value::String(_)) => Err(unavailable(format!("it is over {MAX_SECRET} bytes"))),
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_),
            ) => Err(unavailable(format!("its field `{field}` is no text"))),
            None => Err(Refused::Missing(format!("put a field `{field}` into {}", place()))),
        }
    }

    /// Whether it lets us in, for `fairlead doctor`.
    pub(crate) async fn look(&self) -> Result<(), String> {
        let token = self.token().await.map_err(|e| format!("{}: {e}", self.base))?;
        let asked = self.ask(Method::GET, "v1/auth/token/lookup-self", None, Some(&token)).await;
        match asked {
            Ok(_) => Ok(()),
            Err(Failure::NotFound) => Err(format!("{}: it has no such API", self.base)),
            Err(Failure::Forbidden(said) | Failure::Other(said)) => {
                Err(format!("{}: {said}", self.base))
            }
        }
    }

    const fn logs_in(&self) -> bool {
        match self.settings.auth {
            AuthSettings::TokenFile(_) => false,
            AuthSettings::AppRole(_) | AuthSettings::Kubernetes(_) => true,
        }
    }

    async fn read(&self, path: &str, token: &Secret<String>) -> Result<Value, Failure> {
        let mount = self.settings.mount.trim_matches('/');
        self.ask(Method::GET, &format!("v1/{mount}/data/{path}"), None, Some(token)).await
    }

    /// A token that is good as far as we know. Many who ask at the same time log in once.
    async fn token(&self) -> Result<Secret<String>, String> {
        if let AuthSettings::TokenFile(path) = &self.settings.auth {
            return line_of(path);
        }
        let mut session = self.session.lock().await;
        if let Some(held) = &*session {
            if held.renew_at.is_none_or(|at| Instant::now() < at) {
                return Ok(held.token.clone());
            }
            if held.renewable
                && let Ok(renewed) = self.renew(&held.token).await
            {
                return Ok(session.insert(renewed).token.clone());
            }
        }
        *session = None;
        Ok(session.insert(self.log_in().await?).token.clone())
    }

    /// Lets go of a token that was refused, unless there is another by now.
    async fn forget(&self, token: &Secret<String>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|held| held.token.expose() == token.expose()) {
            *session = None;
        }
    }

    async fn log_in(&self) -> Result<Session, String> {
        let (mount, body) = match &self.settings.auth {
            AuthSettings::TokenFile(_) => return Err("there is nothing to log in with".to_owned()),
            AuthSettings::AppRole(role) => {
                let id = line_of(&role.secret_id_file)?;
                (&role.mount, json!({ "role_id": role.role_id, "secret_id": id.expose() }))
            }
            AuthSettings::Kubernetes(kubernetes) => {
                // Kubernetes itself decides who can read it.
                let jwt = super::file::text_of(&kubernetes.token_file)?;
                (&kubernetes.mount, json!({ "role": kubernetes.role, "jwt": jwt.line() }))
            }
        };
        let path = format!("v1/auth/{}/login", mount.trim_matches('/'));
        let answer = self.ask(Method::POST, &path, Some(body), None).await;
        let answer = answer.map_err(|failure| match failure {
            Failure::NotFound => format!("there is no way to log in at `auth/{mount}`"),
            Failure::Forbidden(said) | Failure::Other(said) => format!("the login failed: {said}"),
        })?;
        session_of(&answer).ok_or_else(|| "its answer to the login holds no token".to_owned())
    }

    async fn renew(&self, token: &Secret<String>) -> Result<Session, Failure> {
        let answer = self
            .ask(Method::POST, "v1/auth/token/renew-self", Some(json!({})), Some(token))
            .await?;
        session_of(&answer).ok_or_else(|| Failure::Other("it did not renew the token".to_owned()))
    }

    /// One question, asked again where the server is busy or away.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        token: Option<&Secret<String>>,
    ) -> Result<Value, Failure> {
        let url = self.base.join(path).map_err(|e| Failure::Other(e.to_string()))?;
        let mut attempt = 1;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            request = request.header("X-Vault-Request", "true");
            if let Some(namespace) = &self.settings.namespace {
                request = request.header("X-Vault-Namespace", namespace);
            }
            if let Some(token) = token {
                let mut value = reqwest::header::HeaderValue::from_str(token.expose())
                    .map_err(|_| Failure::Other("the token is no token".to_owned()))?;
                value.set_sensitive(true);
                request = request.header("X-Vault-Token", value);
            }
            if let Some(body) = &body {
                let bytes = serde_json::to_vec(body).map_err(|e| Failure::Other(e.to_string()))?;
                request = request.header("Content-Type", "application/json").body(bytes);
            }
            let (failure, again) = match self.once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !again || attempt == ATTEMPTS {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE * (1 << (attempt - 1))).await;
            attempt += 1;
        }
    }

    /// One request; the failure says whether it is worth another.
    async fn once(&self, request: reqwest::RequestBuilder) -> Result<Value, (Failure, bool)> {
        let away = |error: reqwest::Error| {
            (Failure::Other(fairlead_step::error_chain(&error.without_url())), true)
        };
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MOST {
                return Err((Failure::Other("it answers too much".to_owned()), false));
            }
        }
        let bytes = Secret::new(bytes);
        let answer: Option<Value> = serde_json::from_slice(bytes.expose()).ok();
        if status.is_success() {
            return answer.ok_or_else(|| (Failure::Other("it answers no JSON".to_owned()), false));
        }
        let said = |answer: Option<Value>| {
            let errors = answer.as_ref().and_then(|answer| answer.get("errors"));
            let texts = errors.and_then(Value::as_array).into_iter().flatten();
            let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
            let text: String = texts.join("; ").chars().take(QUOTED).collect();
            if text.is_empty() {
                format!("it answered {status}")
            } else {
                format!("it answered {status}: {text}")
            }
        };
        Err(match status {
            StatusCode::NOT_FOUND => (Failure::NotFound, false),
            StatusCode::FORBIDDEN => (Failure::Forbidden(said(answer)), false),
            // 412: a standby that has not heard of what was written yet.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PRECONDITION_FAILED => {
                (Failure::Other(said(answer)), true)
            }
            _ if status.is_redirection() => {
                let text = "it redirects, and a token is not sent on: name the active node or a load balancer";
                (Failure::Other(text.to_owned()), false)
            }
            _ => (Failure::Other(said(answer)), status.is_server_error()),
        })
    }
}

/// The one line in a file, such as a token.
fn line_of(path: &std::path::Path) -> Result<Secret<String>, String> {
    let text = guarded(path).map_err(|refused| match refused {
        Refused::Missing(hint) => hint,
        Refused::Unavailable(problem) => problem,
    })?;
    Ok(Secret::new(text.line().to_owned()))
}

/// The token in an answer to a login or a renewal.
fn session_of(answer: &Value) -> Option<Session> {
    let auth = answer.get("auth")?;
    let token = Secret::new(auth.get("client_token")?.as_str()?.to_owned());
    let lease = auth.get("lease_duration").and_then(Value::as_u64).unwrap_or(0);
    let renewable = auth.get("renewable").and_then(Value::as_bool).unwrap_or(false);
    // A lease of nothing is one without an end.
    let renew_at =
        (lease > 0).then(|| Instant::now() + Duration::from_secs(lease).mul_f64(2.0 / 3.0));
    Some(Session { token, renewable, renew_at })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::fake::{Fake, Fault};
    use super::*;

    fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        path
    }

    fn vault(fake: &Fake, auth: AuthSettings) -> Vault {
        Vault::new(VaultSettings {
            address: fake.address(),
            namespace: Some("platform".to_owned()),
            mount: "kv".to_owned(),
            ca: None,
            auth,
        })
        .unwrap()
    }

    fn app_role(folder: &Path) -> AuthSettings {
        AuthSettings::AppRole(AppRole {
            mount: app_role_mount(),
            role_id: "fairlead".to_owned(),
            secret_id_file: private(folder, "secret-id", "s-1\n"),
        })
    }

    fn text(refused: Refused) -> String {
        let (Refused::Missing(text) | Refused::Unavailable(text)) = refused;
        text
    }

    #[tokio::test]
    async fn each_way_in_leads_to_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start().await;
        fake.put("kv/data/shop/npm", json!({ "token": "hunter2", "n": 7 }));
        let kubernetes = Kubernetes {
            mount: kubernetes_mount(),
            role: "fairlead".to_owned(),
            token_file: private(folder.path(), "jwt", "jwt-1\n"),
        };
        for auth in [
            AuthSettings::TokenFile(private(folder.path(), "token", "root\n")),
            app_role(folder.path()),
            AuthSettings::Kubernetes(kubernetes),
        ] {
            let vault = vault(&fake, auth);
            assert_eq!(vault.get("shop/npm", "token").await.unwrap().expose(), "hunter2");
            assert_eq!(vault.look().await, Ok(()));
            let missing = vault.get("shop/npm", "other").await.unwrap_err();
            assert!(matches!(&missing, Refused::Missing(hint) if hint.contains("field `other`")));
            let missing = vault.get("shop/gone", "token").await.unwrap_err();
            assert!(matches!(&missing, Refused::Missing(hint) if hint.contains("kv/shop/gone")));
            assert!(text(vault.get("shop/npm", "n").await.unwrap_err()).contains("is no text"));
        }
        assert!(
            fake.requests().iter().all(|request| request.namespace.as_deref() == Some("platform"))
        );
    }

    #[tokio::test]
    async fn many_who_ask_log_in_once_and_a_token_is_renewed_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start().await;
        fake.put("kv/data/a", json!({ "value": "1" }));
        fake.lease(1);
        let vault = vault(&fake, app_role(folder.path()));
        let many = (0..8).map(|_| vault.get("a", "value"));
        assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
        assert_eq!(fake.count("v1/auth/approle/login"), 1);
        tokio::time::sleep(Duration::from_millis(800)).await;
        vault.get("a", "value").await.unwrap();
        assert_eq!(fake.count("v1/auth/token/renew-self"), 1);
        assert_eq!(fake.count("v1/auth/approle/login"), 1);
    }

    #[tokio::test]
    async fn a_token_that_is_revoked_is_logged_in_for_again_once() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start().await;
        fake.put("kv/data/a", json!({ "value": "1" }));
        let vault = vault(&fake, app_role(folder.path()));
        vault.get("a", "value").await.unwrap();
        fake.revoke();
        vault.get("a", "value").await.unwrap();
        assert_eq!(fake.count("v1/auth/approle/login"), 2);
        fake.forbid("kv/data/a");
        let error = text(vault.get("a", "value").await.unwrap_err());
        assert!(error.contains("403 Forbidden: permission denied"), "{error}");
        assert_eq!(fake.count("v1/auth/approle/login"), 3);
    }

    #[tokio::test]
    async fn what_is_busy_is_asked_again_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start().await;
        fake.put("kv/data/a", json!({ "value": "hunter2" }));
        let vault = vault(&fake, app_role(folder.path()));
        fake.fail(Fault::Status(503), 2);
        assert_eq!(vault.get("a", "value").await.unwrap().expose(), "hunter2");
        fake.fail(Fault::Status(503), 9);
        let error = text(vault.get("a", "value").await.unwrap_err());
        assert!(error.contains("503"), "{error}");
        for (fault, want) in [
            (Fault::Status(307), "it redirects"),
            (Fault::NotJson, "it answers no JSON"),
            (Fault::Huge, "it answers too much"),
        ] {
            fake.fail(fault, 1);
            let error = text(vault.get("a", "value").await.unwrap_err());
            assert!(error.contains(want) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn its_settings_are_checked() {
        let settings = |address: &str| VaultSettings {
            address: address.to_owned(),
            namespace: None,
            mount: default_mount(),
            ca: None,
            auth: AuthSettings::TokenFile("/no/such".into()),
        };
        for (address, want) in [
            ("vault.example.com", "relative URL"),
            ("ftp://vault.example.com", "must begin with `https://`"),
            ("http://vault.example.com", "plain HTTP"),
            ("https://u:p@vault.example.com", "more than a host"),
        ] {
            let error = Vault::new(settings(address)).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        assert!(Vault::new(settings("https://vault.example.com:8200")).is_ok());
        let settings = VaultSettings { ca: Some("/no/such.pem".into()), ..settings("https://v") };
        assert!(Vault::new(settings).unwrap_err().contains("/no/such.pem"));
    }
}
