//! Writing blobs: looked for first, mounted where the registry can, sent whole when small, and in
//! pieces that are taken up again when large.

use bytes::{Bytes, BytesMut};
use fairlead_step::{Digest, ErrorClass, Repository};
use futures::stream::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use url::Url;

use crate::client::Rights;
use crate::host::Host;
use crate::request::{Call, Reply, backoff};
use crate::{Client, Descriptor, Error};

/// The largest answer to an upload that is read.
const ANSWER_LIMIT: u64 = 1 << 20;

/// How content came to be where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Landed {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Copied,
}

/// Where the bytes of an upload come from.
enum Source<'a> {
    Memory(&'a Bytes),
    Registry(&'a Repository),
}

enum Failure {
    /// The bytes could not be had; trying the upload again does not help.
    Source(Error),
    /// The upload failed.
    Target(Error),
}

/// An open upload.
struct Session<'a> {
    client: &'a Client,
    host: &'a Host,
    to: &'a Repository,
    what: &'a str,
    url: Url,
}

impl Client {
    /// Writes a blob from memory, unless it is there.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn put_blob(&self, to: &Repository, bytes: &Bytes) -> Result<Landed, Error> {
        let digest = Digest::sha256(bytes);
        if self.has_blob(to, &digest).await? {
            return Ok(Landed::Present);
        }
        self.upload(to, &digest, bytes.len() as u64, &Source::Memory(bytes), None).await?;
        Ok(Landed::Copied)
    }

    /// Brings a blob from one repository to another: nothing is done when it is there, the
    /// registry is asked to mount it when both are on the same registry, and it is streamed
    /// otherwise, a few pieces of it in memory at a time.
    ///
    /// # Errors
    /// What reading or writing fails with.
    pub async fn copy_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Landed, Error> {
        if self.has_blob(to, &descriptor.digest).await? {
            return Ok(Landed::Present);
        }
        match self.try_mount(from, to, &descriptor.digest).await?.left_to_send() {
            None => Ok(Landed::Mounted),
            Some(session) => {
                self.stream_blob(from, to, descriptor, session).await?;
                Ok(Landed::Copied)
            }
        }
    }

    /// Streams a blob that the destination does not have, into `session` where one is open.
    pub(crate) async fn stream_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
        session: Option<Url>,
    ) -> Result<(), Error> {
        let source = Source::Registry(from);
        self.upload(to, &descriptor.digest, descriptor.size, &source, session).await
    }

    /// Mounts a blob where both repositories are on one registry and it can.
    pub(crate) async fn try_mount(
        &self,
        from: &Repository,
        to: &Repository,
        digest: &Digest,
    ) -> Result<Mount, Error> {
        if from.registry() != to.registry() || from == to {
            return Ok(Mount::Refused);
        }
        self.mount(from, to, digest).await
    }

    /// Asks a registry to take `digest` into `to` from its own repository `from`
    /// (distribution-spec v1.1, "Mounting a blob from another repository").
    async fn mount(
        &self,
        from: &Repository,
        to: &Repository,
        digest: &Digest,
    ) -> Result<Mount, Error> {
        let host = self.host(to).await?;
        let what = format!("mounting blob {digest} from {from} into {to}");
        let mut url = host.url(to, "blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.path());
        let call = Call::read(Method::POST, url.clone(), Rights::Mount { to, from }, &what);
        match self.call(&host, &call, ANSWER_LIMIT).await {
            Ok(reply) if reply.status == StatusCode::CREATED => Ok(Mount::Done),
            // It would not mount, and has opened an upload instead, which is then used.
            Ok(reply) if reply.status == StatusCode::ACCEPTED => {
                Ok(Mount::Session(location(&host, &url, &reply, &what)?))
            }
            // Some token services give no token for two repositories at once, and some
            // registries know no mounts. Copying needs neither.
            Ok(_) | Err(Error::Unauthorized { .. } | Error::Denied { .. }) => Ok(Mount::Refused),
            Err(error) => Err(error),
        }
    }

    async fn upload(
        &self,
        to: &Repository,
        digest: &Digest,
        size: u64,
        source: &Source<'_>,
        mut opened: Option<Url>,
    ) -> Result<(), Error> {
        let host = self.host(to).await?;
        let what = format!("writing blob {digest} to {to}");
        let mut attempt = 1;
        loop {
            let url = match opened.take() {
                Some(url) => url,
                None => self.open_upload(&host, to, &what).await?,
            };
            let mut session = Session { client: self, host: &host, to, what: &what, url };
            let error = match session.send(digest, size, source).await {
                Ok(()) => return Ok(()),
                Err(Failure::Source(error)) => {
                    session.cancel().await;
                    return Err(error);
                }
                Err(Failure::Target(error)) => error,
            };
            // The answer may have been lost after the registry had everything.
            if self.has_blob(to, digest).await? {
                return Ok(());
            }
            let lost = error.is_not_found() || error.class() == ErrorClass::Retryable;
            if !lost || attempt >= self.options().attempts {
                session.cancel().await;
                return Err(error);
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
            attempt += 1;
        }
    }

    async fn open_upload(&self, host: &Host, to: &Repository, what: &str) -> Result<Url, Error> {
        let url = host.url(to, "blobs/uploads/")?;
        let call = Call::read(Method::POST, url.clone(), Rights::Push(to), what);
        let reply = self.call(host, &call, ANSWER_LIMIT).await?;
        if reply.status != StatusCode::ACCEPTED {
            return Err(reply.refused(host, what));
        }
        location(host, &url, &reply, what)
    }
}

/// What a registry answered to a mount.
pub(crate) enum Mount {
    Done,
    /// It opened an upload instead.
    Session(Url),
    Refused,
}

impl Mount {
    /// `None` when nothing is left to send; else the upload that is open, if one is.
    pub(crate) fn left_to_send(self) -> Option<Option<Url>> {
        match self {
            Self::Done => None,
            Self::Session(url) => Some(Some(url)),
            Self::Refused => Some(None),
        }
    }
}

fn location(host: &Host, here: &Url, reply: &Reply, what: &str) -> Result<Url, Error> {
    let target = reply.headers.get(LOCATION).and_then(|v| v.to_str().ok());
    target.and_then(|target| host.follow(here, target)).ok_or_else(|| Error::Malformed {
        what: what.to_owned(),
        problem: "the registry does not say where to send the bytes".into(),
    })
}

impl Session<'_> {
    async fn send(
        &mut self,
        digest: &Digest,
        size: u64,
        source: &Source<'_>,
    ) -> Result<(), Failure> {
        let chunk = self.client.options().chunk.max(1);
        match source {
            Source::Memory(bytes) if bytes.len() <= chunk => {
                self.finish(digest, (*bytes).clone()).await
            }
            Source::Memory(bytes) => {
                let pieces = (0..bytes.len())
                    .step_by(chunk)
                    .map(|at| Ok(bytes.slice(at..bytes.len().min(at + chunk))));
                self.send_pieces(digest, futures::stream::iter(pieces)).await
            }
            Source::Registry(from) => {
                let descriptor = Descriptor {
                    digest: digest.clone(),
                    size,
                    ..Descriptor::of("application/octet-stream", &[])
                };
                let blob = self.client.blob(from, &descriptor).await.map_err(Failure::Source)?;
                if size <= chunk as u64 {
                    let bytes = blob.bytes(size, self.what).await.map_err(Failure::Source)?;
                    return self.finish(digest, bytes).await;
                }
                self.send_pieces(digest, blob).await
            }
        }
    }

    /// Sends one piece while the next is read.
    async fn send_pieces(
        &mut self,
        digest: &Digest,
        source: impl Stream<Item = Result<Bytes, Error>>,
    ) -> Result<(), Failure> {
        let chunk = self.client.options().chunk.max(1);
        let mut source = std::pin::pin!(source.fuse());
        let mut piece = fill(&mut source, chunk).await.map_err(Failure::Source)?;
        let mut offset = 0;
        while !piece.is_empty() {
            let length = piece.len() as u64;
            let (sent, next) =
                futures::join!(self.send_piece(offset, piece), fill(&mut source, chunk));
            piece = next.map_err(Failure::Source)?;
            sent.map_err(Failure::Target)?;
            offset += length;
        }
        self.finish(digest, Bytes::new()).await
    }

    /// Sends the bytes from `offset` on; after a failure, what the registry has of them is asked
    /// for and only the rest is sent again.
    async fn send_piece(&mut self, offset: u64, piece: Bytes) -> Result<(), Error> {
        let mut sent = 0;
        let mut failures = 0;
        loop {
            let (first, last) = (offset + sent as u64, offset + piece.len() as u64 - 1);
            let mut call =
                Call::read(Method::PATCH, self.url.clone(), Rights::Push(self.to), self.what)
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_RANGE, format!("{first}-{last}"));
            call.body = Some(piece.slice(sent..));
            call.repeatable = false;
            let error = match self.client.call(self.host, &call, ANSWER_LIMIT).await {
                Ok(reply) => match reply.status {
                    StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => {
                        self.url = location(self.host, &self.url, &reply, self.what)?;
                        return Ok(());
                    }
                    _ => reply.refused(self.host, self.what),
                },
                Err(error) => error,
            };
            failures += 1;
            let out_of_step = matches!(error, Error::Refused { status: 416, .. });
            let again = out_of_step || error.class() == ErrorClass::Retryable;
            if !again || failures >= self.client.options().attempts {
                return Err(error);
            }
            tokio::time::sleep(backoff(self.client.options(), failures)).await;
            let received = self.received().await?;
            match received.checked_sub(offset).and_then(|part| usize::try_from(part).ok()) {
                Some(part) if part == piece.len() => return Ok(()),
                Some(part) if part < piece.len() => sent = part,
                // It has less than it confirmed, or more than it was sent.
                Some(_) | None => return Err(error),
            }
        }
    }

    /// How many bytes of the upload the registry has.
    async fn received(&mut self) -> Result<u64, Error> {
        let call = Call::read(Method::GET, self.url.clone(), Rights::Push(self.to), self.what);
        let reply = self.client.call(self.host, &call, ANSWER_LIMIT).await?;
        if !matches!(reply.status, StatusCode::NO_CONTENT | StatusCode::OK) {
            return Err(reply.refused(self.host, self.what));
        }
        let last = reply
            .header(RANGE.as_str())
            .and_then(|r| r.trim_start_matches("bytes=").strip_prefix("0-")?.parse::<u64>().ok());
        self.url = location(self.host, &self.url, &reply, self.what)?;
        // `0-0` stands for nothing: no registry stops after one byte.
        Ok(last.filter(|last| *last > 0).map_or(0, |last| last + 1))
    }

    /// Ends the upload, with its last or only bytes.
    async fn finish(&self, digest: &Digest, bytes: Bytes) -> Result<(), Failure> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut call = Call::read(Method::PUT, url, Rights::Push(self.to), self.what)
            .header(CONTENT_TYPE, "application/octet-stream");
        call.body = Some(bytes);
        call.repeatable = false;
        let reply =
            self.client.call(self.host, &call, ANSWER_LIMIT).await.map_err(Failure::Target)?;
        if !matches!(reply.status, StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK) {
            return Err(Failure::Target(reply.refused(self.host, self.what)));
        }
        Ok(())
    }

    /// Gives the upload up, so that the registry need not keep its bytes. Best effort: registries
    /// forget open uploads by themselves in time.
    async fn cancel(&self) {
        let call = Call::read(Method::DELETE, self.url.clone(), Rights::Push(self.to), self.what);
        if let Err(error) = self.client.call(self.host, &call, ANSWER_LIMIT).await {
            tracing::debug!(%error, "an upload could not be cancelled");
        }
    }
}

/// Reads `size` bytes, or what is left.
async fn fill<S>(source: &mut S, size: usize) -> Result<Bytes, Error>
where
    S: Stream<Item = Result<Bytes, Error>> + Unpin,
{
    let mut piece = BytesMut::new();
    while piece.len() < size {
        match source.try_next().await? {
            Some(bytes) if piece.is_empty() && bytes.len() >= size => return Ok(bytes),
            Some(bytes) => piece.extend_from_slice(&bytes),
            None => break,
        }
    }
    Ok(piece.freeze())
}
