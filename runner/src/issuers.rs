//! The documents of issuers, fetched within the rules of egress.

use std::time::Duration;

use fairlead_http::reqwest;
use fairlead_server::IssuerDocuments;
use fairlead_step::{BoxFuture, Egress, error_chain};
use reqwest::Url;

/// How long an issuer may take to answer for a document.
const DEADLINE: Duration = Duration::from_secs(5);

/// Fetches the documents of issuers. It shows no login and follows no redirect.
pub(crate) struct Documents(pub(crate) Egress);

impl IssuerDocuments for Documents {
    fn fetch<'a>(
        &'a self,
        url: &'a Url,
        ca: &'a [u8],
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let fetched = tokio::time::timeout(DEADLINE, self.get(url, ca, limit)).await;
            fetched
                .unwrap_or_else(|_| Err(format!("{url} did not come in {} s", DEADLINE.as_secs())))
        })
    }
}

impl Documents {
    async fn get(&self, url: &Url, ca: &[u8], limit: usize) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| error_chain(&error.without_url());
        let host = url.host_str().unwrap_or_default();
        let asks = self.0.asks(host, url.port_or_known_default());
        asks.map_err(|denied| error_chain(&denied))?;
        let builder = fairlead_http::builder(&self.0);
        let builder = match ca {
            [] => builder,
            pem => {
                let trusted = reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?;
                builder.tls_certs_merge(trusted)
            }
        };
        let client = builder.build().map_err(failed)?;
        let answer = client.get(url.clone()).send().await;
        let mut answer = answer.map_err(|error| format!("{url}: {}", failed(error)))?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} is answered with {}", answer.status()));
        }
        let mut document = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if document.len() + piece.len() > limit {
                return Err(format!("{url} has more than {limit} bytes"));
            }
            document.extend_from_slice(&piece);
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What is fetched from a server that answers with this.
    async fn fetched(answer: &'static str, egress: Egress) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        Documents(egress).fetch(&url, &[], 8).await
    }

    #[tokio::test]
    async fn a_document_comes_whole_from_where_it_was_asked_for_or_not_at_all() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\n12345678";
        assert_eq!(fetched(good, Egress::open()).await.unwrap(), b"12345678");
        let long = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n123456789";
        let moved =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        for (answer, why) in [(long, "more than 8 bytes"), (moved, "302"), ("", "keys")] {
            let error = fetched(answer, Egress::open()).await.unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let inside = fetched(good, Egress::public_and(Vec::new())).await.unwrap_err();
        assert!(inside.contains("not of the public internet"), "{inside}");
    }
}
