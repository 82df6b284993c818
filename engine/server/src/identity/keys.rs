//! The keys of an issuer: fetched when they are needed, kept, and fetched again when an issuer has new ones.

use std::sync::Arc;
use std::time::Duration;

use fairlead_step::BoxFuture;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::jws::{Key, Unverified};

/// How long keys are used without looking for new ones.
const FRESH: Duration = Duration::from_secs(600);
/// How long they are used while the issuer does not answer. What it has withdrawn stays good for so long.
const STALE: Duration = Duration::from_secs(3600);
/// The shortest time between two looks: whoever sends tokens that nobody has signed must not make this
/// server ask an issuer for each.
const AGAIN: Duration = Duration::from_secs(30);
/// The most bytes of a document of an issuer.
const MAX_DOCUMENT: usize = 256 << 10;

/// The port to the documents of issuers.
pub trait IssuerDocuments: Send + Sync {
    /// The document at `url`, of at most `limit` bytes, within seconds, without following redirects.
    /// `ca` holds more certificates to trust, as PEM.
    ///
    /// # Errors
    /// What went wrong, as a lower-case fragment.
    fn fetch<'a>(
        &'a self,
        url: &'a Url,
        ca: &'a [u8],
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// Where the keys of an issuer are, and those that were found there.
pub(crate) struct Keys {
    documents: Arc<dyn IssuerDocuments>,
    issuer: String,
    /// Where the keys are; asked of the issuer when the configuration does not say it.
    place: Option<Url>,
    ca: Vec<u8>,
    /// Held while somebody fetches: whoever else needs the keys waits for the same answer.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: Arc<[Key]>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    problem: Option<String>,
}

impl Keys {
    pub(crate) fn new(
        documents: Arc<dyn IssuerDocuments>,
        issuer: String,
        place: Option<Url>,
        ca: Vec<u8>,
    ) -> Self {
        Self { documents, issuer, place, ca, kept: Mutex::default() }
    }

    /// The keys to check `token` with. An error says why there are none.
    pub(crate) async fn of(&self, token: &Unverified<'_>) -> Result<Arc<[Key]>, String> {
        let mut kept = self.kept.lock().await;
        let within = |time: Option<Instant>, limit| time.is_some_and(|at| at.elapsed() < limit);
        let fresh = within(kept.fetched, FRESH) && token.knows_key(&kept.keys);
        if !fresh && !within(kept.tried, AGAIN) {
            match self.fetch().await {
                Ok(keys) => {
                    kept.keys = keys.into();
                    kept.fetched = Some(Instant::now());
                    kept.problem = None;
                }
                Err(problem) => {
                    tracing::warn!(issuer = self.issuer, "its keys cannot be fetched: {problem}");
                    kept.problem = Some(problem);
                }
            }
            kept.tried = Some(Instant::now());
        }
        if within(kept.fetched, STALE) {
            return Ok(Arc::clone(&kept.keys));
        }
        Err(kept.problem.clone().unwrap_or_else(|| "they were never fetched".to_owned()))
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let place = match &self.place {
            Some(place) => place.clone(),
            None => self.discovered().await?,
        };
        let document = self.documents.fetch(&place, &self.ca, MAX_DOCUMENT).await?;
        Key::all_of(&document)
    }

    /// Where the issuer itself says that its keys are.
    async fn discovered(&self) -> Result<Url, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let at: Url = at.parse().map_err(|error| format!("{at} is no address: {error}"))?;
        let document = self.documents.fetch(&at, &self.ca, MAX_DOCUMENT).await?;
        let found: Discovery = serde_json::from_slice(&document)
            .map_err(|error| format!("{at} is no configuration of an issuer: {error}"))?;
        if found.issuer != self.issuer {
            return Err(format!("{at} is of another issuer: {}", found.issuer));
        }
        let place: Url = found
            .jwks_uri
            .parse()
            .map_err(|error| format!("{at} names no address of keys: {error}"))?;
        // What a document says must not lead this server elsewhere.
        if place.origin() != at.origin() {
            return Err(format!(
                "{at} says that the keys are at another host; name their address as `keys`"
            ));
        }
        Ok(place)
    }
}
