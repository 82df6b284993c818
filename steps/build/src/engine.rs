//! The engine: where it listens, the client for its HTTP API, and raw connections for its gRPC.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::Docker;
use fairlead_step::StepError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How long the engine may take to answer a first word.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request of the HTTP API may take, in seconds. A push runs longer, but streams.
const REQUEST_SECONDS: u64 = 120;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;

/// Where the Docker engine listens, as `DOCKER_HOST` names it: `unix:///var/run/docker.sock` or
/// `tcp://127.0.0.1:2375`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAddress(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Unix(PathBuf),
    Tcp(String),
}

/// Why a text is no address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a Docker engine: {problem}")]
pub struct EngineAddressError {
    text: String,
    problem: &'static str,
}

impl Default for EngineAddress {
    /// The system's socket, `unix:///var/run/docker.sock`.
    fn default() -> Self {
        Self(Kind::Unix("/var/run/docker.sock".into()))
    }
}

impl FromStr for EngineAddress {
    type Err = EngineAddressError;

    fn from_str(text: &str) -> Result<Self, EngineAddressError> {
        let fail =
            |problem| Err(EngineAddressError { text: text.chars().take(200).collect(), problem });
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self(Kind::Unix(path.into()))),
            Some(("unix", _)) => fail("the path of the socket must be absolute"),
            Some(("tcp" | "http", host)) => {
                let host = host.trim_end_matches('/');
                if host.is_empty() || host.contains('/') {
                    return fail("write `tcp://host:port`");
                }
                let port = host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
                Ok(Self(Kind::Tcp(if port { host.to_owned() } else { format!("{host}:2375") })))
            }
            Some(("ssh" | "https" | "npipe", _)) => fail(
                "forward the engine to a local socket, as in `ssh -L /tmp/docker.sock:/var/run/docker.sock`",
            ),
            _ => fail("write `unix:///path/to/docker.sock` or `tcp://host:port`"),
        }
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Unix(path) => write!(f, "unix://{}", path.display()),
            Kind::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

/// Why the engine cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nobody listens, or not us.
    #[error("no Docker engine answers at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered, but not as Docker's engine does.
    #[error("what listens at {address} is no Docker engine with BuildKit: it answered `{answer}`")]
    Foreign { address: String, answer: String },
}

impl EngineAddress {
    /// A client whose API version both sides speak.
    pub(crate) async fn client(&self) -> Result<Docker, EngineError> {
        let unreachable = |e: bollard::errors::Error| self.unreachable(e);
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match &self.0 {
            Kind::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), REQUEST_SECONDS, version)
            }
            Kind::Tcp(host) => {
                Docker::connect_with_http(&format!("tcp://{host}"), REQUEST_SECONDS, version)
            }
        };
        let docker = docker.map_err(unreachable)?;
        match tokio::time::timeout(CONNECT_TIMEOUT, docker.negotiate_version()).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(self.unreachable("it accepted the connection and said nothing")),
        }
    }

    /// What the engine says of itself, such as `Docker 20.10.24`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn version(&self) -> Result<String, StepError> {
        let client = self.client().await?;
        let asked = tokio::time::timeout(CONNECT_TIMEOUT, client.version()).await;
        let answer = match asked {
            Ok(answer) => answer.map_err(|e| self.unreachable(e))?,
            Err(_) => return Err(self.unreachable("it did not say its version").into()),
        };
        Ok(format!("Docker {}", answer.version.as_deref().unwrap_or("of an unknown version")))
    }

    fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> EngineError {
        EngineError::Unreachable { address: self.to_string(), source: source.into() }
    }

    /// Opens `path` of the engine's API and takes the connection over for HTTP/2. `headers` are
    /// whole lines.
    pub(crate) async fn hijack(&self, path: &str, headers: &[String]) -> Result<Raw, EngineError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.hijack_now(path, headers)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable("it did not answer in time")),
        }
    }

    async fn hijack_now(&self, path: &str, headers: &[String]) -> Result<Raw, EngineError> {
        let stream = match &self.0 {
            Kind::Unix(socket) => UnixStream::connect(socket).await.map(|s| Raw(Box::pin(s))),
            Kind::Tcp(host) => TcpStream::connect(host).await.map(|s| Raw(Box::pin(s))),
        };
        let mut stream = stream.map_err(|e| self.unreachable(e))?;
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
             Content-Length: 0\r\n"
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|e| self.unreachable(e))?;

        // Byte by byte: what follows the empty line already belongs to HTTP/2.
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.map_err(|e| self.unreachable(e))?;
            head.push(byte);
            if head.len() > MAX_HEAD {
                break;
            }
        }
        let first = head.split(|b| *b == b'\r').next().unwrap_or_default();
        if !first.starts_with(b"HTTP/1.1 101") {
            let answer = String::from_utf8_lossy(&first[..first.len().min(100)]).into_owned();
            return Err(EngineError::Foreign { address: self.to_string(), answer });
        }
        Ok(stream)
    }
}

/// A connection that was taken over.
pub(crate) struct Raw(Pin<Box<dyn Duplex>>);

/// Both directions of a socket of either kind.
trait Duplex: AsyncRead + AsyncWrite + Send {}

impl Duplex for UnixStream {}
impl Duplex for TcpStream {}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

impl tonic::transport::server::Connected for Raw {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_docker_writes_it() {
        let show = |text: &str| match text.parse::<EngineAddress>() {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        let cases = [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://127.0.0.1:2375/", "tcp://127.0.0.1:2375"),
            ("tcp://engine", "tcp://engine:2375"),
            (
                "unix://docker.sock",
                "`unix://docker.sock` is not the address of a Docker engine: the path of the \
                 socket must be absolute",
            ),
            (
                "/var/run/docker.sock",
                "`/var/run/docker.sock` is not the address of a Docker engine: write \
                 `unix:///path/to/docker.sock` or `tcp://host:port`",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(show(text), expected);
        }
    }

    #[tokio::test]
    async fn nobody_and_a_stranger_are_told_apart() {
        let nobody: EngineAddress = "unix:///nonexistent/docker.sock".parse().unwrap();
        let error = nobody.client().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no Docker engine answers at unix:///nonexistent/docker.sock"
        );

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let stranger: EngineAddress = format!("tcp://{address}").parse().unwrap();
        let error = stranger.hijack("/session", &[]).await.err().unwrap().to_string();
        assert!(error.ends_with("it answered `HTTP/1.1 404 Not Found`"), "{error}");
    }
}
