//! Blobs that need not be in the registry: fetched from the addresses that their descriptors name
//! (image-spec v1.1, "urls"), where that is safe.
//!
//! Whoever writes a manifest chooses these addresses, so they are a stranger's: HTTPS alone, to
//! hosts of the public internet alone, whatever their names resolve to and wherever they redirect,
//! and never with a login. Size and digest are the descriptor's.

use std::time::Duration;

use bytes::Bytes;
use fairlead_step::Egress;
use futures::stream;
use http::StatusCode;
use url::Url;

use crate::blob::{BlobStream, Hasher};
use crate::model::BLOB_LIMIT;
use crate::request::{backoff, causes};
use crate::{Client, Descriptor, Error, Options};

/// How many addresses of one descriptor are tried.
const ADDRESSES: usize = 4;

/// How often each is asked.
const ATTEMPTS: u32 = 3;

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// How long one of them may take in all: a stranger's server could send a byte a minute for ever.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Why a blob cannot be fetched from its own addresses. No text holds an address: it may carry a
/// signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElsewhereError {
    /// The descriptor names none.
    #[error("its descriptor names no address")]
    NoAddress,
    /// It is larger than any blob that is read.
    #[error("it is {size} bytes long, more than the {BLOB_LIMIT} that are read of a blob")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// No address gave it. One reason for each.
    #[error("{}", .0.join("; "))]
    Failed(Vec<String>),
}

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Elsewhere {
    /// HTTPS, and hosts of the public internet.
    #[default]
    Public,
    /// Anything: for the tests, whose servers are on this machine and have no certificates.
    #[cfg(any(test, feature = "kit"))]
    Anything,
}

impl Elsewhere {
    const fn is_public(self) -> bool {
        match self {
            Self::Public => true,
            #[cfg(any(test, feature = "kit"))]
            Self::Anything => false,
        }
    }

    /// Whether `url` may be asked; the reason where it may not.
    fn allows(self, url: &Url) -> Result<(), &'static str> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address carries a login");
        }
        if !self.is_public() {
            return Ok(());
        }
        if url.scheme() != "https" {
            return Err("the address is not https");
        }
        // What a name leads to is seen when it is resolved. Nobody configures a stranger's address.
        let asked = url.host_str().map(|host| Egress::public_and(Vec::new()).asks(host, None));
        let public = asked.is_some_and(|answer| answer.is_ok());
        if public { Ok(()) } else { Err("the host is not of the public internet") }
    }
}

impl Client {
    /// Opens the blob at the addresses that `descriptor` itself names, one after the other.
    /// [`BlobStream`] has the rules. To be asked when the registry does not have it.
    ///
    /// # Errors
    /// When no address may be asked, or none of them has it.
    pub async fn blob_elsewhere(
        &self,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, ElsewhereError> {
        if descriptor.urls.is_empty() {
            return Err(ElsewhereError::NoAddress);
        }
        if descriptor.size > BLOB_LIMIT {
            return Err(ElsewhereError::TooLarge { size: descriptor.size });
        }
        let mut reasons = Vec::new();
        for address in descriptor.urls.iter().take(ADDRESSES) {
            match open(address, descriptor, self.options()).await {
                Ok(blob) => return Ok(blob),
                Err(reason) => reasons.push(reason),
            }
        }
        if descriptor.urls.len() > ADDRESSES {
            reasons.push(format!("{} more were not asked", descriptor.urls.len() - ADDRESSES));
        }
        reasons.dedup();
        Err(ElsewhereError::Failed(reasons))
    }
}

async fn open(
    address: &str,
    descriptor: &Descriptor,
    options: &Options,
) -> Result<BlobStream, String> {
    let url = Url::parse(address).map_err(|error| format!("it has no address: {error}"))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let told = |reason: &dyn std::fmt::Display| match host.as_str() {
        "" => reason.to_string(),
        host => format!("`{host}`: {reason}"),
    };
    options.elsewhere.allows(&url).map_err(|reason| told(&reason))?;
    let http = connections(options).map_err(causes)?;
    let mut attempt = 1;
    let response = loop {
        let again = match http.get(url.clone()).send().await {
            Ok(response) if response.status() == StatusCode::OK => break response,
            Ok(response) => {
                let status = response.status();
                let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                (format!("it answered {}", status.as_u16()), busy)
            }
            Err(error) => {
                let busy = error.is_timeout()
                    || (error.is_connect() && fairlead_http::denial(&error).is_none());
                (causes(error), busy)
            }
        };
        match again {
            (_, true) if attempt < ATTEMPTS.min(options.attempts) => {
                tokio::time::sleep(backoff(options, attempt)).await;
                attempt += 1;
            }
            (reason, _) => return Err(told(&reason)),
        }
    };
    let download = Download {
        response,
        what: format!("blob {} at {host}", descriptor.digest),
        host,
        hasher: Hasher::new(descriptor.digest.algorithm()),
        descriptor: descriptor.clone(),
        received: 0,
    };
    Ok(BlobStream::new(stream::try_unfold(download, |mut download| async move {
        Ok(download.next().await?.map(|piece| (piece, download)))
    })))
}

/// Connections of their own: no proxy, since a proxy would resolve the names itself, and none of
/// the certificates that a registry's settings add.
fn connections(options: &Options) -> reqwest::Result<reqwest::Client> {
    let rules = options.elsewhere;
    let egress = if rules.is_public() { Egress::public_and(Vec::new()) } else { Egress::open() };
    let builder = fairlead_http::builder(&egress)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.idle_timeout)
        .timeout(LONGEST)
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS {
                return attempt.error(format!("it redirects more than {REDIRECTS} times"));
            }
            match rules.allows(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(reason) => attempt.error(format!("it redirects, and {reason}")),
            }
        }));
    if rules.is_public() {
        builder.https_only(true).build()
    } else {
        builder.tls_certs_only([]).build()
    }
}

/// A blob on its way from somebody's server.
struct Download {
    response: reqwest::Response,
    host: String,
    what: String,
    hasher: Hasher,
    descriptor: Descriptor,
    received: u64,
}

impl Download {
    /// The next piece, or `None` at the good end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.response.chunk().await.map_err(|error| Error::Unreachable {
            registry: self.host.clone(),
            what: self.what.clone(),
            cause: causes(error),
        })?;
        let Some(piece) = piece else {
            return if self.received < self.descriptor.size {
                Err(self.wrong_size())
            } else {
                if self.descriptor.size == 0 {
                    self.verify()?;
                }
                Ok(None)
            };
        };
        self.received += piece.len() as u64;
        if self.received > self.descriptor.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(&piece);
        // The last piece is handed out only when the whole is right.
        if self.received == self.descriptor.size && !piece.is_empty() {
            self.verify()?;
        }
        Ok(Some(piece))
    }

    fn verify(&mut self) -> Result<(), Error> {
        self.hasher.check(&self.descriptor.digest).map_err(|found| Error::DigestMismatch {
            what: self.what.clone(),
            expected: self.descriptor.digest.clone(),
            found,
        })
    }

    fn wrong_size(&self) -> Error {
        Error::SizeMismatch {
            what: self.what.clone(),
            expected: self.descriptor.size,
            found: self.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_step::{Digest, RegistryAuth};
    use futures::TryStreamExt as _;

    use super::*;
    use crate::Transport;
    use crate::kit::{FakeRegistry, Fault, Login};

    #[test]
    fn addresses_of_strangers_are_looked_at_first() {
        for (address, want) in [
            ("https://layers.example.com/x?sig=1", Ok(())),
            ("https://8.8.8.8:8443/x", Ok(())),
            ("http://layers.example.com/x", Err("the address is not https")),
            ("file:///etc/passwd", Err("the address is not https")),
            ("ftp://layers.example.com/x", Err("the address is not https")),
            ("https://u:p@layers.example.com/x", Err("the address carries a login")),
            ("https://u@layers.example.com/x", Err("the address carries a login")),
            ("https://127.0.0.1/x", Err("the host is not of the public internet")),
            ("https://2130706433/x", Err("the host is not of the public internet")),
            ("https://0x7f.1/x", Err("the host is not of the public internet")),
            ("https://[::1]/x", Err("the host is not of the public internet")),
            ("https://[::ffff:10.0.0.1]/x", Err("the host is not of the public internet")),
            ("https://169.254.169.254/latest", Err("the host is not of the public internet")),
            ("https://localhost/x", Err("the host is not of the public internet")),
            ("https://a.localhost:443/x", Err("the host is not of the public internet")),
        ] {
            assert_eq!(Elsewhere::Public.allows(&address.parse().unwrap()), want, "{address}");
        }
    }

    fn client(elsewhere: Elsewhere) -> Client {
        let options = Options { elsewhere, attempts: 2, ..Options::default() };
        Client::with(FakeRegistry::registries(RegistryAuth::Anonymous), Transport::new(), options)
    }

    fn foreign(bytes: &[u8], urls: Vec<String>) -> Descriptor {
        let media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        Descriptor { urls, ..Descriptor::of(media_type, bytes) }
    }

    async fn fetch(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        let blob = client.blob_elsewhere(descriptor).await.map_err(|e| e.to_string())?;
        let pieces: Vec<Bytes> = blob.try_collect().await.map_err(|e| e.to_string())?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn the_first_address_that_has_it_gives_it_without_a_login() {
        let server = FakeRegistry::start().await;
        let digest = server.seed_blob("base", "content");
        let host = server.repository("base").registry().to_owned();
        let at = |digest: &Digest| format!("http://{host}/v2/base/blobs/{digest}");
        let other = Digest::sha256(b"other");
        let client = client(Elsewhere::Anything);
        let descriptor = foreign(b"content", vec![at(&other), at(&digest)]);
        assert_eq!(fetch(&client, &descriptor).await.unwrap(), b"content");
        server.fail(&digest.to_string(), Fault::Status(503, None), 1);
        assert_eq!(fetch(&client, &descriptor).await.unwrap(), b"content");

        server.behave(|b| b.login = Login::Basic("u".into(), "p".into()));
        let error = fetch(&client, &foreign(b"content", vec![at(&digest)])).await.unwrap_err();
        assert_eq!(error, "`127.0.0.1`: it answered 401");
    }

    #[tokio::test]
    async fn size_and_digest_are_the_descriptors() {
        let server = FakeRegistry::start().await;
        let digest = server.seed_blob("base", "content");
        let host = server.repository("base").registry().to_owned();
        let url = format!("http://{host}/v2/base/blobs/{digest}");
        let client = client(Elsewhere::Anything);
        for (bytes, want) in [
            (&b"contenT"[..], "is not what its digest says"),
            (b"con", "bytes"),
            (b"content and more", "bytes"),
        ] {
            let error = fetch(&client, &foreign(bytes, vec![url.clone()])).await.unwrap_err();
            assert!(error.contains(want) || error.contains("digest"), "{error}");
            assert!(!error.contains("/v2/"), "{error}");
        }
    }

    #[tokio::test]
    async fn nothing_inside_is_ever_asked() {
        let server = FakeRegistry::start().await;
        let digest = server.seed_blob("base", "content");
        let host = server.repository("base").registry().to_owned();
        let port = host.rsplit_once(':').unwrap().1.to_owned();
        let client = client(Elsewhere::Public);
        for url in [
            format!("http://{host}/v2/base/blobs/{digest}"),
            format!("https://{host}/v2/base/blobs/{digest}"),
            format!("https://localhost:{port}/v2/base/blobs/{digest}"),
            "no address".to_owned(),
        ] {
            let error = fetch(&client, &foreign(b"content", vec![url.clone()])).await.unwrap_err();
            assert!(!error.is_empty(), "{url}");
        }
        assert!(server.log().is_empty(), "{:?}", server.log());
        let error = fetch(&client, &foreign(b"content", Vec::new())).await.unwrap_err();
        assert_eq!(error, "its descriptor names no address");
    }
}
