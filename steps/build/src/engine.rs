//! The engine: the client for its HTTP API, and raw connections for its gRPC.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::Docker;
use fairlead_step::{EngineAddress, EngineSocket, StepError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How long the engine may take to answer a first word.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request of the HTTP API may take, in seconds. A push runs longer, but streams.
const REQUEST_SECONDS: u64 = 120;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;

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

/// The engine at one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Engine(pub(crate) EngineAddress);

impl Engine {
    /// A client whose API version both sides speak.
    pub(crate) async fn client(&self) -> Result<Docker, EngineError> {
        let unreachable = |e: bollard::errors::Error| self.unreachable(e);
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match self.0.socket() {
            EngineSocket::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), REQUEST_SECONDS, version)
            }
            EngineSocket::Tcp(host) => {
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
    pub(crate) async fn version(&self) -> Result<String, StepError> {
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
        EngineError::Unreachable { address: self.0.to_string(), source: source.into() }
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
        let stream = match self.0.socket() {
            EngineSocket::Unix(socket) => {
                UnixStream::connect(socket).await.map(|s| Raw(Box::pin(s)))
            }
            EngineSocket::Tcp(host) => TcpStream::connect(host).await.map(|s| Raw(Box::pin(s))),
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
            return Err(EngineError::Foreign { address: self.0.to_string(), answer });
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

    #[tokio::test]
    async fn nobody_and_a_stranger_are_told_apart() {
        let nobody = Engine("unix:///nonexistent/docker.sock".parse().unwrap());
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
        let stranger = Engine(format!("tcp://{address}").parse().unwrap());
        let error = stranger.hijack("/session", &[]).await.err().unwrap().to_string();
        assert!(error.ends_with("it answered `HTTP/1.1 404 Not Found`"), "{error}");
    }
}
