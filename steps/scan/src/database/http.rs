//! Fetches dumps over HTTP, each at most once for each change at the server.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{
    ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tempfile::NamedTempFile;

use super::update::{FeedState, UpdateError};

/// The most that one dump may hold; the largest real one has some hundred MiB.
const MAX_ARCHIVE: u64 = 4 * 1024 * 1024 * 1024;
/// The most that `ecosystems.txt` may hold.
const MAX_LIST: usize = 256 * 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may send nothing.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// How long one dump may take.
const TOTAL_DEADLINE: Duration = Duration::from_secs(3600);
/// The pauses before the second and the third attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// What a conditional request came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The server has nothing newer than what is held.
    Unchanged,
    /// A new dump is in place.
    New(FeedState),
    /// The server has no such dump.
    Missing,
}

/// A server with the layout of the OSV dumps.
pub(super) struct Server {
    client: Client,
    base: Url,
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, UpdateError> {
        let refuse = |problem: &str| {
            let url = url.chars().take(300).collect();
            Err(UpdateError::Url { url, problem: problem.to_owned() })
        };
        let mut base = match Url::parse(url) {
            Ok(base) => base,
            Err(error) => return refuse(&error.to_string()),
        };
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return refuse("it must begin with `https://` or `http://` and name a host");
        }
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The result is an error when the program has chosen a provider already, which serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let loopback = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let mut builder = Client::builder()
            .user_agent(concat!("fairlead/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .timeout(TOTAL_DEADLINE)
            .redirect(redirect::Policy::limited(5));
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|source| UpdateError::Http { url: shown(&base), source: source.into() })?;
        Ok(Self { client, base })
    }

    /// The address, without a password.
    pub(super) fn shown(&self) -> String {
        shown(&self.base)
    }

    /// The ecosystems that the server lists, when it has a list.
    pub(super) async fn ecosystems(&self) -> Result<Option<Vec<String>>, UpdateError> {
        let url = self.address(&["ecosystems.txt"]);
        let Some(mut response) = self.get(&url, &HeaderMap::new()).await? else { return Ok(None) };
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| http_error(&url, error))? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_LIST {
                return Err(UpdateError::TooLarge { url: shown(&url), limit: MAX_LIST as u64 });
            }
        }
        let text = String::from_utf8_lossy(&text);
        Ok(Some(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()))
    }

    /// Fetches `<ecosystem>/all.zip` to `target`, unless the server says that `held` is current.
    pub(super) async fn fetch(
        &self,
        ecosystem: &str,
        held: Option<&FeedState>,
        target: &Path,
    ) -> Result<Fetched, UpdateError> {
        let url = self.address(&[ecosystem, super::feed::ARCHIVE]);
        let mut conditions = HeaderMap::new();
        if let Some(held) = held {
            let stated = [(IF_NONE_MATCH, &held.etag), (IF_MODIFIED_SINCE, &held.last_modified)];
            for (name, value) in stated {
                if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
                    conditions.insert(name, value);
                }
            }
        }
        let mut attempt = 0;
        loop {
            let outcome = self.fetch_once(&url, &conditions, target).await;
            match (outcome, PAUSES.get(attempt)) {
                (Err(UpdateError::Http { .. }), Some(pause)) => tokio::time::sleep(*pause).await,
                (outcome, _) => return outcome,
            }
            attempt += 1;
        }
    }

    async fn fetch_once(
        &self,
        url: &Url,
        conditions: &HeaderMap,
        target: &Path,
    ) -> Result<Fetched, UpdateError> {
        let Some(mut response) = self.get(url, conditions).await? else {
            return Ok(Fetched::Missing);
        };
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Fetched::Unchanged);
        }
        let too_large = || UpdateError::TooLarge { url: shown(url), limit: MAX_ARCHIVE };
        if response.content_length().is_some_and(|length| length > MAX_ARCHIVE) {
            return Err(too_large());
        }
        let header = |name: HeaderName| {
            Some(response.headers().get(name)?.to_str().ok()?.chars().take(512).collect())
        };
        let mut state =
            FeedState { etag: header(ETAG), last_modified: header(LAST_MODIFIED), size: 0 };
        let folder = target.parent().unwrap_or(Path::new("."));
        let failed = |source| UpdateError::io(target, source);
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        while let Some(chunk) = response.chunk().await.map_err(|error| http_error(url, error))? {
            state.size += chunk.len() as u64;
            if state.size > MAX_ARCHIVE {
                return Err(too_large());
            }
            file.write_all(&chunk).map_err(failed)?;
        }
        file.persist(target).map_err(|error| failed(error.error))?;
        Ok(Fetched::New(state))
    }

    /// The response, nothing when there is no such file.
    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Option<Response>, UpdateError> {
        let request = self.client.get(url.clone()).headers(headers.clone());
        let response = request.send().await.map_err(|error| http_error(url, error))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(Some(response));
        }
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let refused = format!("the server answered {status}");
        Err(match again {
            true => UpdateError::Http { url: shown(url), source: refused.into() },
            false => UpdateError::Refused { url: shown(url), status: status.as_u16() },
        })
    }

    fn address(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }
}

fn http_error(url: &Url, error: reqwest::Error) -> UpdateError {
    UpdateError::Http { url: shown(url), source: error.without_url().into() }
}

/// An address without user and password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
