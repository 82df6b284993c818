//! Writing blobs: looked for first, mounted where the registry can, and sent in one request, which
//! is begun anew when it fails. Only who asks for pieces sends pieces, which are taken up again.

use bytes::{Bytes, BytesMut};
use fairlead_step::{Digest, ErrorClass, Repository};
use futures::stream::{Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use url::Url;

use crate::body::{self, Unfed};
use crate::client::Rights;
use crate::host::Host;
use crate::request::{self, Broken, Call, Reply, backoff, transport_failure};
use crate::{Client, Descriptor, Error};

/// The largest answer to an upload that is read.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Up to so many bytes go up from memory, as one piece.
const AT_ONCE: u64 = 1 << 20;
/// The pieces in which a larger blob is fed from memory to its request.
const FED: usize = 256 << 10;
/// The largest piece that a registry may ask for; beyond it a blob goes up in one request.
const LARGEST_PIECE: usize = 256 << 20;
/// How quickly a registry must be able to put away what it was sent, in bytes a second: it may move
/// and hash the whole before it answers.
const PUT_AWAY: u64 = 16 << 20;

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
    Target(request::Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Target(error.into())
    }
}

/// An upload that a registry has opened.
pub(crate) struct Opened {
    url: Url,
    /// The smallest piece that it takes, but for the last.
    least: usize,
}

/// An open upload.
struct Session<'a> {
    client: &'a Client,
    host: &'a Host,
    to: &'a Repository,
    what: &'a str,
    url: Url,
    least: usize,
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
        session: Option<Opened>,
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
                Ok(Mount::Session(opened(&host, &url, &reply, &what)?))
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
        mut open: Option<Opened>,
    ) -> Result<(), Error> {
        let host = self.host(to).await?;
        let what = format!("writing blob {digest} to {to}");
        let options = self.options();
        let mut attempt = 1;
        loop {
            let Opened { url, least } = match open.take() {
                Some(opened) => opened,
                None => self.open_upload(&host, to, &what).await?,
            };
            let mut session = Session { client: self, host: &host, to, what: &what, url, least };
            let (error, after) = match session.send(digest, size, source, attempt).await {
                Ok(()) => return Ok(()),
                Err(Failure::Source(error)) => {
                    session.cancel().await;
                    return Err(error);
                }
                Err(Failure::Target(request::Failure::Final(error)))
                    if !error.is_not_found() && error.class() != ErrorClass::Retryable =>
                {
                    session.cancel().await;
                    return Err(error);
                }
                Err(Failure::Target(request::Failure::Final(error))) => (error, None),
                Err(Failure::Target(request::Failure::Again { error, after })) => (error, after),
            };
            // The answer may have been lost after the registry had everything.
            if self.has_blob(to, digest).await? {
                return Ok(());
            }
            let too_long = after.is_some_and(|pause| pause > options.longest_pause);
            if attempt >= options.attempts || too_long {
                session.cancel().await;
                return Err(error);
            }
            let pause = after.unwrap_or_default().max(backoff(options, attempt));
            tracing::debug!(%error, attempt, ?pause, "beginning the upload anew");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn open_upload(&self, host: &Host, to: &Repository, what: &str) -> Result<Opened, Error> {
        let url = host.url(to, "blobs/uploads/")?;
        let call = Call::read(Method::POST, url.clone(), Rights::Push(to), what);
        let reply = self.call(host, &call, ANSWER_LIMIT).await?;
        if reply.status != StatusCode::ACCEPTED {
            return Err(reply.refused(host, what));
        }
        opened(host, &url, &reply, what)
    }
}

/// What a registry answered to a mount.
pub(crate) enum Mount {
    Done,
    /// It opened an upload instead.
    Session(Opened),
    Refused,
}

impl Mount {
    /// `None` when nothing is left to send; else the upload that is open, if one is.
    pub(crate) fn left_to_send(self) -> Option<Option<Opened>> {
        match self {
            Self::Done => None,
            Self::Session(opened) => Some(Some(opened)),
            Self::Refused => Some(None),
        }
    }
}

/// Where the bytes of an upload go.
fn location(host: &Host, here: &Url, reply: &Reply, what: &str) -> Result<Url, Error> {
    match reply.headers.get(LOCATION).and_then(|v| v.to_str().ok()) {
        Some(target) => host.follow(here, target, what),
        None => Err(Error::Malformed {
            what: what.to_owned(),
            problem: "the registry does not say where to send the bytes".into(),
        }),
    }
}

fn opened(host: &Host, here: &Url, reply: &Reply, what: &str) -> Result<Opened, Error> {
    let least = reply.header("oci-chunk-min-length").and_then(|least| least.trim().parse().ok());
    Ok(Opened { url: location(host, here, reply, what)?, least: least.unwrap_or(0) })
}

impl Session<'_> {
    /// The size of pieces, where the blob is to go in pieces.
    fn pieces(&self, size: u64) -> Option<usize> {
        let chunk = self.client.options().chunk?.max(self.least).max(1);
        (chunk <= LARGEST_PIECE && size > chunk as u64).then_some(chunk)
    }

    async fn send(
        &mut self,
        digest: &Digest,
        size: u64,
        source: &Source<'_>,
        attempt: u32,
    ) -> Result<(), Failure> {
        let slices = |bytes: &Bytes, of: usize| {
            let bytes = bytes.clone();
            let starts = (0..bytes.len()).step_by(of);
            let pieces = starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + of))));
            futures::stream::iter(pieces)
        };
        match (source, self.pieces(size)) {
            (Source::Memory(bytes), Some(chunk)) => {
                self.send_pieces(digest, slices(bytes, chunk), chunk, attempt).await
            }
            (Source::Memory(bytes), None) if size <= AT_ONCE => {
                self.finish(digest, (*bytes).clone(), attempt).await
            }
            (Source::Memory(bytes), None) => {
                self.send_streamed(digest, size, slices(bytes, FED), attempt).await
            }
            (Source::Registry(from), chunk) => {
                let descriptor = Descriptor {
                    digest: digest.clone(),
                    size,
                    ..Descriptor::of("application/octet-stream", &[])
                };
                let blob = self.client.blob(from, &descriptor).await.map_err(Failure::Source)?;
                match chunk {
                    Some(chunk) => self.send_pieces(digest, blob, chunk, attempt).await,
                    None if size <= AT_ONCE => {
                        let bytes = blob.bytes(size, self.what).await.map_err(Failure::Source)?;
                        self.finish(digest, bytes, attempt).await
                    }
                    None => self.send_streamed(digest, size, blob, attempt).await,
                }
            }
        }
    }

    /// Sends everything in one request while it is read, a few pieces of it in memory.
    async fn send_streamed(
        &self,
        digest: &Digest,
        size: u64,
        source: impl Stream<Item = Result<Bytes, Error>>,
        attempt: u32,
    ) -> Result<(), Failure> {
        let options = self.client.options();
        let call = self.last(digest);
        let (body, feed) = body::pieces(size);
        let body = reqwest::Body::wrap(body);
        let sent = request::stream(self.host, &call, body, ANSWER_LIMIT, options, attempt);
        let mut sent = std::pin::pin!(sent);
        let silent =
            |idle| Failure::Target(transport_failure(self.host, &call, Broken::Silent(idle)));
        let fed = tokio::select! {
            // What the registry says before it has everything, and what breaks.
            reply = &mut sent => return self.landed(&reply.map_err(Failure::Target)?),
            fed = feed.all(source, options.idle_timeout) => fed,
        };
        match fed {
            Ok(()) => {}
            Err(Unfed::Source(error)) => return Err(Failure::Source(error)),
            Err(Unfed::Stuck(idle)) => return Err(silent(idle)),
        }
        let patience = options.request_timeout + std::time::Duration::from_secs(size / PUT_AWAY);
        match tokio::time::timeout(patience, sent).await {
            Ok(reply) => self.landed(&reply.map_err(Failure::Target)?),
            Err(_) => Err(silent(patience)),
        }
    }

    /// Sends one piece while the next is read.
    async fn send_pieces(
        &mut self,
        digest: &Digest,
        source: impl Stream<Item = Result<Bytes, Error>>,
        chunk: usize,
        attempt: u32,
    ) -> Result<(), Failure> {
        let source = std::pin::pin!(source.fuse());
        let mut source = Cut { source, size: chunk, rest: BytesMut::new() };
        let mut piece = source.next().await.map_err(Failure::Source)?;
        let mut offset = 0;
        while !piece.is_empty() {
            let length = piece.len() as u64;
            let (sent, next) = futures::join!(self.send_piece(offset, piece), source.next());
            piece = next.map_err(Failure::Source)?;
            sent?;
            offset += length;
        }
        self.finish(digest, Bytes::new(), attempt).await
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

    /// The request that ends the upload. The upload as a whole can be made again, so that this
    /// one's answer may be lost.
    fn last(&self, digest: &Digest) -> Call {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        Call::read(Method::PUT, url, Rights::Push(self.to), self.what)
            .header(CONTENT_TYPE, "application/octet-stream")
    }

    /// Ends the upload, with its last or only bytes.
    async fn finish(&self, digest: &Digest, bytes: Bytes, attempt: u32) -> Result<(), Failure> {
        let mut call = self.last(digest);
        call.body = Some(bytes);
        let options = self.client.options();
        let reply = request::once(self.host, &call, ANSWER_LIMIT, options, attempt).await;
        self.landed(&reply.map_err(Failure::Target)?)
    }

    fn landed(&self, reply: &Reply) -> Result<(), Failure> {
        match reply.status {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(reply.refused(self.host, self.what).into()),
        }
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

/// A stream in pieces of one size.
struct Cut<S> {
    source: S,
    size: usize,
    /// What was read beyond the piece before.
    rest: BytesMut,
}

impl<S: Stream<Item = Result<Bytes, Error>> + Unpin> Cut<S> {
    /// The next piece: shorter where the source ends, and empty behind that.
    async fn next(&mut self) -> Result<Bytes, Error> {
        while self.rest.len() < self.size
            && let Some(bytes) = self.source.try_next().await?
        {
            self.rest.extend_from_slice(&bytes);
        }
        let piece = self.rest.split_to(self.rest.len().min(self.size));
        Ok(piece.freeze())
    }
}
