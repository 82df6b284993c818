//! Artifacts in storage that speaks S3.
//!
//! How old an object is says nothing there: it cannot be renewed without being sent again, and servers
//! that share a bucket do not see each other's doings. So age goes by reference. Whoever puts an
//! artifact says so first, in a mark beside it, and then looks whether it is there already; whoever
//! removes one says that first, and then looks whether a mark has come meanwhile. As what was written is
//! seen by every later read, one of the two sees the other: either the remover lets it be, or the one who
//! puts waits until it is gone and sends it anew.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fairlead_step::{
    Artifact, ArtifactError, ArtifactPieces, Artifacts, BoxFuture, Digest, MAX_ARTIFACT_BYTES,
    Secret,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig, path};

use super::{
    ArtifactRetention, MAX_WHOLE_BYTES, digest_at, is_before, place, streams, unavailable,
};
use crate::OpenError;

/// What the names of marks begin with.
const MARKS: &str = "seen";
/// What the names of objects begin with that say that an artifact is being removed.
const LEAVING: &str = "leaving";
/// How long a removal may take. One that takes longer gives up before it removes anything.
const REMOVAL: Duration = Duration::from_secs(30);
/// After how long a removal that does not end is taken for one whose process was killed.
const KILLED: Duration = Duration::from_secs(120);
/// How often to look whether a removal has ended.
const AGAIN: Duration = Duration::from_millis(250);
/// How long one request may take, with all of its bytes.
const REQUEST: Duration = Duration::from_secs(120);
/// How long a request is tried again for.
const RETRIES: Duration = Duration::from_secs(60);

/// Storage that speaks S3, and who to be there.
pub struct S3Options {
    /// `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`: the prefix, the endpoint and the region may be
    /// left out, for the whole bucket, Amazon's own endpoint, and `us-east-1`.
    pub url: String,
    /// The id of the access key.
    pub access_key_id: Secret<String>,
    /// The access key.
    pub secret_access_key: Secret<String>,
    /// The session token that temporary keys come with.
    pub session_token: Option<Secret<String>>,
}

/// What an address names.
struct Address {
    bucket: String,
    prefix: path::Path,
    endpoint: Option<String>,
    region: String,
}

impl Address {
    fn read(url: &str) -> Result<Self, OpenError> {
        let fail = |problem: String| OpenError::ArtifactAddress { problem };
        let rest = url
            .strip_prefix("s3://")
            .ok_or_else(|| fail("it does not begin with `s3://`".to_owned()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if bucket.is_empty() || bucket.len() > 63 || !bucket.chars().all(plain) {
            return Err(fail("it names no bucket, or one with odd characters".to_owned()));
        }
        let prefix = path::Path::parse(prefix.trim_matches('/'))
            .map_err(|error| fail(format!("the prefix is not usable: {error}")))?;
        let mut address =
            Self { bucket: bucket.to_owned(), prefix, endpoint: None, region: "us-east-1".into() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", value)) if value.contains('@') => {
                    return Err(fail(
                        "keys do not belong into it; give them as secrets".to_owned(),
                    ));
                }
                Some(("endpoint", value))
                    if ["http://", "https://"].iter().any(|it| value.starts_with(it)) =>
                {
                    address.endpoint = Some(value.trim_end_matches('/').to_owned());
                }
                Some(("region", value)) if !value.is_empty() => address.region = value.to_owned(),
                _ => {
                    let key = pair.split('=').next().unwrap_or_default();
                    return Err(fail(format!(
                        "`{key}` is not usable: write `endpoint=https://HOST` or `region=NAME`"
                    )));
                }
            }
        }
        Ok(address)
    }
}

/// Artifacts in a bucket.
pub(crate) struct Bucket {
    store: PrefixStore<AmazonS3>,
    /// Where what comes piece by piece is gathered.
    folder: std::path::PathBuf,
}

impl Bucket {
    /// Opens a bucket. It is not asked whether it is there; [`Bucket::try_out`] does that.
    pub(crate) fn open(options: &S3Options, folder: std::path::PathBuf) -> Result<Self, OpenError> {
        let address = Address::read(&options.url)?;
        let client = ClientOptions::new()
            .with_timeout(REQUEST)
            .with_connect_timeout(Duration::from_secs(10))
            .with_allow_http(
                address.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
            );
        let retry =
            RetryConfig { max_retries: 6, retry_timeout: RETRIES, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(address.bucket)
            .with_region(address.region)
            .with_access_key_id(options.access_key_id.expose().trim())
            .with_secret_access_key(options.secret_access_key.expose().trim())
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = address.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(token) = &options.session_token {
            builder = builder.with_token(token.expose().trim());
        }
        let store = builder.build().map_err(|error| OpenError::Artifacts { source: error })?;
        Ok(Self { store: PrefixStore::new(store, address.prefix), folder })
    }

    /// Asks for something, so that a wrong key or bucket is told when a process begins.
    pub(crate) async fn try_out(&self) -> Result<(), OpenError> {
        match self.store.head(&path::Path::from("there-is-no-such-object")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(OpenError::Artifacts { source: error }),
        }
        // A bucket that is not there is not found, either; a list of it is an error.
        match self.store.list(Some(&path::Path::from(LEAVING))).next().await {
            Some(Err(error)) => Err(OpenError::Artifacts { source: error }),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Says that the artifact is needed, and answers whether it is there already, to stay.
    async fn claimed(&self, digest: &Digest, size: u64) -> Result<bool, ArtifactError> {
        let (mark, leaving) = (beside(MARKS, digest), beside(LEAVING, digest));
        self.store.put(&mark, Bytes::new().into()).await.map_err(unavailable)?;
        let mut waited = Duration::ZERO;
        loop {
            match self.store.head(&leaving).await {
                Err(object_store::Error::NotFound { .. }) if waited.is_zero() => break,
                // It may be gone by now; what is sent anew is there in any case.
                Err(object_store::Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(unavailable(error)),
                Ok(_) if waited >= KILLED => {
                    self.store.delete(&leaving).await.map_err(unavailable)?;
                    return Ok(false);
                }
                Ok(_) => {
                    tokio::time::sleep(AGAIN).await;
                    waited += AGAIN;
                }
            }
        }
        match self.store.head(&place(digest)).await {
            Ok(found) => Ok(found.size == size),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn remove_claimed(
        &self,
        digest: &Digest,
        before: Timestamp,
    ) -> Result<bool, ArtifactError> {
        let mark = beside(MARKS, digest);
        let blob = place(digest);
        // Without a mark it is as old as it is; somebody put it there by hand.
        let seen = match self.store.head(&mark).await {
            Err(object_store::Error::NotFound { .. }) => self.store.head(&blob).await,
            seen => seen,
        };
        match seen {
            Ok(seen) if is_before(&seen, before) => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(unavailable(error)),
        }
        self.store.delete(&blob).await.map_err(unavailable)?;
        // One that is lost with the mark of somebody who waits for us is sent anew, and is young.
        match self.store.delete(&mark).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// What is under a name, by digest: when it was written, and its size.
    async fn listed(
        &self,
        prefix: &str,
    ) -> Result<BTreeMap<String, object_store::ObjectMeta>, ArtifactError> {
        let mut found = BTreeMap::new();
        let prefix = path::Path::from(prefix);
        let mut all = self.store.list(Some(&prefix));
        while let Some(object) = all.next().await {
            let object = object.map_err(unavailable)?;
            let location = match object.location.prefix_match(&prefix) {
                Some(parts) if prefix.as_ref() == MARKS => path::Path::from_iter(parts),
                Some(_) | None => object.location.clone(),
            };
            if let Some(digest) = digest_at(&location) {
                found.insert(digest, object);
            }
        }
        Ok(found)
    }

    async fn older(&self, before: Timestamp) -> Result<BTreeMap<String, u64>, ArtifactError> {
        // In this order: an artifact whose mark is listed too early is looked at again before it goes.
        let marks = self.listed(MARKS).await?;
        let mut blobs = self.listed("sha256").await?;
        blobs.extend(self.listed("sha512").await?);
        let old = blobs
            .into_iter()
            .filter(|(digest, blob)| is_before(marks.get(digest).unwrap_or(blob), before));
        Ok(old.map(|(digest, blob)| (digest, blob.size)).collect())
    }
}

/// `seen/sha256/ab/abcdef…`: what stands beside an artifact.
fn beside(what: &str, digest: &Digest) -> path::Path {
    path::Path::from(format!("{what}/{}", place(digest)))
}

impl ArtifactRetention for Bucket {
    fn older(
        &self,
        before: Timestamp,
        _dry: bool,
    ) -> BoxFuture<'_, Result<BTreeMap<String, u64>, ArtifactError>> {
        Box::pin(self.older(before))
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        before: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ArtifactError>> {
        Box::pin(async move {
            let leaving = beside(LEAVING, digest);
            self.store.put(&leaving, Bytes::new().into()).await.map_err(unavailable)?;
            let removed = self.remove_claimed(digest, before);
            let removed = tokio::time::timeout(REMOVAL, removed).await.unwrap_or_else(|_| {
                let message = format!("artifact {digest} could not be removed in {REMOVAL:?}");
                Err(ArtifactError::Unavailable { message })
            });
            match self.store.delete(&leaving).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(unavailable(error)),
            }
            removed
        })
    }
}

impl Artifacts for Bucket {
    fn put(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        Box::pin(async move {
            let size = bytes.len() as u64;
            if size > MAX_WHOLE_BYTES {
                return Err(ArtifactError::TooLarge { name });
            }
            let digest = Digest::sha256(&bytes);
            if !self.claimed(&digest, size).await? {
                self.store.put(&place(&digest), bytes.into()).await.map_err(unavailable)?;
            }
            Ok(Artifact { name, media_type, digest, size })
        })
    }

    fn get(&self, digest: &Digest) -> BoxFuture<'_, Result<Bytes, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move { super::whole(&self.store, &digest).await })
    }

    fn write(
        &self,
        name: &str,
        media_type: &str,
        expected: Option<&Digest>,
        pieces: ArtifactPieces,
    ) -> BoxFuture<'_, Result<Artifact, ArtifactError>> {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        let expected = expected.cloned();
        Box::pin(async move {
            let folder = Some(self.folder.as_path());
            let spooled =
                streams::spool(folder, (&name, &media_type), expected.as_ref(), pieces).await?;
            let artifact = spooled.artifact.clone();
            debug_assert!(artifact.size <= MAX_ARTIFACT_BYTES);
            if self.claimed(&artifact.digest, artifact.size).await? {
                return Ok(artifact);
            }
            streams::upload(&self.store, &place(&artifact.digest), spooled).await
        })
    }

    fn read(&self, digest: &Digest) -> BoxFuture<'_, Result<ArtifactPieces, ArtifactError>> {
        let digest = digest.clone();
        Box::pin(async move { streams::download(&self.store, &place(&digest), &digest).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_never_a_key() {
        let read = |url: &str| {
            Address::read(url).map(|it| (it.bucket, it.prefix.to_string(), it.endpoint, it.region))
        };
        let (bucket, prefix, endpoint, region) =
            read("s3://kept/fair/lead?endpoint=http://127.0.0.1:9000/&region=eu-1").unwrap();
        assert_eq!((&*bucket, &*prefix, &*region), ("kept", "fair/lead", "eu-1"));
        assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        let (bucket, prefix, endpoint, region) = read("s3://kept").unwrap();
        assert_eq!((&*bucket, &*prefix, endpoint, &*region), ("kept", "", None, "us-east-1"));
        for (bad, why) in [
            ("gs://kept", "does not begin with"),
            ("s3:///x", "names no bucket"),
            ("s3://key:secret@kept", "names no bucket"),
            ("s3://kept?endpoint=ftp://x", "`endpoint` is not usable"),
            ("s3://kept?endpoint=https://key:secret@x", "keys do not belong"),
            ("s3://kept?secret=x", "`secret` is not usable"),
            ("s3://kept/a//b", "the prefix is not usable"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(!error.contains("key:"), "{error}");
        }
    }
}
