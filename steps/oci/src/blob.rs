//! Reading blobs: streamed, counted, hashed while they pass, and taken up again where a connection
//! broke.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use fairlead_step::{Algorithm, Digest, Repository};
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256, Sha512};

use crate::client::Rights;
use crate::host::Host;
use crate::model::BLOB_LIMIT;
use crate::request::{self, Call, backoff, patiently};
use crate::{Client, Descriptor, Error, Options};

/// A running hash of either algorithm.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Whether what was hashed is `expected`; the digest found where it is not.
    pub(crate) fn check(&mut self, expected: &Digest) -> Result<(), Digest> {
        let found = match self {
            Self::Sha256(hash) => hash.finalize_reset().to_vec(),
            Self::Sha512(hash) => hash.finalize_reset().to_vec(),
        };
        let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        if hex == expected.hex() {
            return Ok(());
        }
        Err(format!("{}:{hex}", expected.algorithm().name())
            .parse()
            .unwrap_or_else(|_| Digest::from_sha256(&[0; 32])))
    }
}

/// The bytes of a blob as they come from the registry, in pieces of any size.
///
/// The bytes are hashed and counted while they pass. The last piece is handed out only when the
/// whole matches the descriptor; otherwise the stream ends in [`Error::DigestMismatch`] or
/// [`Error::SizeMismatch`]. So what was read before must not be believed until the stream has
/// ended without an error. A connection that breaks is taken up again where it broke.
pub struct BlobStream {
    pieces: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
}

impl BlobStream {
    pub(crate) fn new(pieces: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        Self { pieces: Box::pin(pieces) }
    }

    /// Reads the whole into memory.
    ///
    /// # Errors
    /// What the stream ends in, or [`Error::TooLarge`] beyond `limit` bytes.
    pub async fn bytes(mut self, limit: u64, what: &str) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.pieces.try_next().await? {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(Error::TooLarge { what: what.to_owned(), limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(cx)
    }
}

struct Reader {
    host: Arc<Host>,
    call: Call,
    options: Options,
    descriptor: Descriptor,
    hasher: Hasher,
    received: u64,
    /// Bytes of the present answer that were received from an earlier one already.
    repeated: u64,
    response: Option<reqwest::Response>,
    failures: u32,
}

impl Reader {
    async fn open(&mut self) -> Result<reqwest::Response, Error> {
        let mut call = self.call.clone();
        if self.received > 0 {
            call = call.header(RANGE, format!("bytes={}-", self.received));
        }
        let response = request::open(&self.host, &call, &self.options).await?;
        let status = response.status();
        match status {
            StatusCode::OK => {
                self.repeated = self.received;
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT if self.received > 0 => {
                let begin = format!("bytes {}-", self.received);
                let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
                if range.is_some_and(|range| !range.starts_with(&begin)) {
                    return Err(Error::Malformed {
                        what: self.call.what.clone(),
                        problem: "the registry sent another part than it was asked for".into(),
                    });
                }
                self.repeated = 0;
                Ok(response)
            }
            _ => {
                let body = request::read(response, 64 << 10, self.options.idle_timeout).await;
                let body = body.ok().flatten();
                let body = body.unwrap_or_default();
                Err(request::refused(&self.host, &self.call.what, status, &body))
            }
        }
    }

    /// The next piece, or `None` at the good end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let mut response = match self.response.take() {
                Some(response) => response,
                None => self.open().await?,
            };
            match patiently(self.options.idle_timeout, response.chunk()).await {
                Ok(Some(mut piece)) => {
                    self.response = Some(response);
                    let skip = self.repeated.min(piece.len() as u64);
                    self.repeated -= skip;
                    let piece = piece.split_off(usize::try_from(skip).unwrap_or(usize::MAX));
                    if !piece.is_empty() {
                        return self.take(piece).map(Some);
                    }
                }
                Ok(None) => {
                    self.response = Some(response);
                    if self.received < self.descriptor.size {
                        return Err(self.wrong_size());
                    }
                    if self.descriptor.size == 0 {
                        self.verify()?;
                    }
                    return Ok(None);
                }
                Err(error) => {
                    self.failures += 1;
                    if self.failures >= self.options.attempts {
                        return Err(Error::Unreachable {
                            registry: self.host.name.clone(),
                            what: self.call.what.clone(),
                            cause: error.cause(),
                        });
                    }
                    tokio::time::sleep(backoff(&self.options, self.failures)).await;
                }
            }
        }
    }

    fn take(&mut self, piece: Bytes) -> Result<Bytes, Error> {
        self.received += piece.len() as u64;
        if self.received > self.descriptor.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(&piece);
        if self.received == self.descriptor.size {
            self.verify()?;
        }
        Ok(piece)
    }

    fn verify(&mut self) -> Result<(), Error> {
        self.hasher.check(&self.descriptor.digest).map_err(|found| Error::DigestMismatch {
            what: self.call.what.clone(),
            expected: self.descriptor.digest.clone(),
            found,
        })
    }

    fn wrong_size(&self) -> Error {
        Error::SizeMismatch {
            what: self.call.what.clone(),
            expected: self.descriptor.size,
            found: self.received,
        }
    }
}

impl Client {
    /// Whether the registry has the blob `digest` in `repository`.
    ///
    /// # Errors
    /// When the registry cannot say.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("blobs/{digest}"))?;
        let what = format!("blob {digest} of {repository}");
        let call = Call::read(Method::HEAD, url, Rights::Pull(repository), &what);
        let reply = self.call(&host, &call, 0).await?;
        match reply.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(reply.refused(&host, &what)),
        }
    }

    /// Opens the blob that `descriptor` names. [`BlobStream`] has the rules.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::TooLarge`] beyond [`BLOB_LIMIT`].
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, Error> {
        let digest = &descriptor.digest;
        let what = format!("blob {digest} of {repository}");
        if descriptor.size > BLOB_LIMIT {
            return Err(Error::TooLarge { what, limit: BLOB_LIMIT });
        }
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("blobs/{digest}"))?;
        let mut reader = Reader {
            call: Call::read(Method::GET, url, Rights::Pull(repository), &what),
            host,
            options: self.options().clone(),
            hasher: Hasher::new(digest.algorithm()),
            descriptor: descriptor.clone(),
            received: 0,
            repeated: 0,
            response: None,
            failures: 0,
        };
        reader.response = Some(reader.open().await?);
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|piece| (piece, reader)))
        });
        Ok(BlobStream::new(pieces))
    }

    /// Reads a small blob into memory, checked against its descriptor.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the descriptor already says more than `limit` bytes; otherwise as
    /// [`Client::blob`].
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let what = format!("blob {} of {repository}", descriptor.digest);
        if descriptor.size > limit {
            return Err(Error::TooLarge { what, limit });
        }
        self.blob(repository, descriptor).await?.bytes(limit, &what).await
    }
}
