//! HTTP clients that keep the rules of egress ([`fairlead_step::Egress`]). No stable API.
//!
//! Every client of Fairlead is built here: its names are resolved by [`Resolver`], which hands out no address
//! that may not be connected to, whatever a name leads to by the time it is asked. A host that is an address
//! already is never resolved: whoever sends a request asks [`fairlead_step::Egress::asks`] about its URL first,
//! and about each URL that it is redirected to, for no client here follows redirects by itself.

use std::sync::Arc;
use std::time::Duration;

use fairlead_step::{Egress, EgressDenied};
pub use reqwest;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Two providers may be linked into one program; rustls then asks which. A provider that somebody
/// installed before us stays.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The beginnings of a client that connects where `egress` lets it, and follows no redirect.
pub fn builder(egress: &Egress) -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .user_agent(concat!("fairlead/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Resolver(egress.clone())))
}

/// Resolves names as the system does, to the addresses that may be connected to.
#[derive(Debug, Clone)]
pub struct Resolver(Egress);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            match egress.usable(name.as_str(), found) {
                (usable, Some(denied)) if usable.is_empty() => Err(denied.into()),
                (usable, _) => Ok(Box::new(usable.into_iter()) as Addrs),
            }
        })
    }
}

/// Why the rules refused a request, where they did. Asking again would not change that.
#[must_use]
pub fn denial(error: &reqwest::Error) -> Option<&EgressDenied> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(denied) = cause.downcast_ref() {
            return Some(denied);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server on this machine that answers every request with `200`, and its port.
    async fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                    )
                    .await;
            }
        });
        port
    }

    async fn ask(egress: &Egress, url: &str) -> Result<u16, reqwest::Error> {
        let client = builder(egress).no_proxy().build().unwrap();
        client.get(url).send().await.map(|answer| answer.status().as_u16())
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_as_it_is_resolved() {
        let port = server().await;
        let url = format!("http://localhost:{port}/");
        assert_eq!(ask(&Egress::open(), &url).await.unwrap(), 200);
        let error = ask(&Egress::public_and(Vec::new()), &url).await.unwrap_err();
        let denied = denial(&error).expect("it is the rules that refuse");
        assert!(
            denied.to_string().contains("`localhost` is not of the public internet"),
            "{denied}"
        );
        let rule = format!("localhost:{port}").parse().unwrap();
        assert_eq!(ask(&Egress::public_and(vec![rule]), &url).await.unwrap(), 200);
    }

    #[tokio::test]
    async fn a_name_that_is_nobodys_is_no_denial() {
        let error =
            ask(&Egress::public_and(Vec::new()), "http://nobody.invalid/").await.unwrap_err();
        assert!(denial(&error).is_none());
    }
}
