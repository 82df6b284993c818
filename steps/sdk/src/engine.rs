//! Where a container engine listens: [`EngineAddress`], for the steps that speak to one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a container engine listens, as `DOCKER_HOST` names it: `unix:///var/run/docker.sock` or
/// `tcp://127.0.0.1:2375`. Whether somebody is there shows when a step speaks to it.
///
/// ```
/// use fairlead_step::EngineAddress;
///
/// let engine: EngineAddress = "tcp://engine".parse()?;
/// assert_eq!(engine.to_string(), "tcp://engine:2375");
/// # Ok::<(), fairlead_step::EngineAddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAddress(EngineSocket);

/// What a client of the engine connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineSocket {
    /// The absolute path of a socket.
    Unix(PathBuf),
    /// `host:port`, spoken to in plain HTTP.
    Tcp(String),
}

/// Why a text is no address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a container engine: {problem}")]
pub struct EngineAddressError {
    text: String,
    problem: &'static str,
}

impl EngineAddress {
    /// What to connect to.
    #[must_use]
    pub const fn socket(&self) -> &EngineSocket {
        &self.0
    }
}

impl Default for EngineAddress {
    /// The system's socket, `unix:///var/run/docker.sock`.
    fn default() -> Self {
        Self(EngineSocket::Unix("/var/run/docker.sock".into()))
    }
}

impl FromStr for EngineAddress {
    type Err = EngineAddressError;

    fn from_str(text: &str) -> Result<Self, EngineAddressError> {
        let fail =
            |problem| Err(EngineAddressError { text: text.chars().take(200).collect(), problem });
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => {
                Ok(Self(EngineSocket::Unix(path.into())))
            }
            Some(("unix", _)) => fail("the path of the socket must be absolute"),
            Some(("tcp" | "http", host)) => {
                let host = host.trim_end_matches('/');
                if host.is_empty() || host.contains('/') {
                    return fail("write `tcp://host:port`");
                }
                let port = host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
                let host = if port { host.to_owned() } else { format!("{host}:2375") };
                Ok(Self(EngineSocket::Tcp(host)))
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
            EngineSocket::Unix(path) => write!(f, "unix://{}", path.display()),
            EngineSocket::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
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
                "`unix://docker.sock` is not the address of a container engine: the path of the \
                 socket must be absolute",
            ),
            (
                "/var/run/docker.sock",
                "`/var/run/docker.sock` is not the address of a container engine: write \
                 `unix:///path/to/docker.sock` or `tcp://host:port`",
            ),
            (
                "ssh://host",
                "`ssh://host` is not the address of a container engine: forward the engine to a \
                 local socket, as in `ssh -L /tmp/docker.sock:/var/run/docker.sock`",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(show(text), expected);
        }
    }
}
