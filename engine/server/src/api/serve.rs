//! Answering on each connection. A caller that does not send a whole head in time loses its place.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::guard::Peer;
use super::listener::{Bounded, Connection};

/// How long a connection may take until the head of its next request is whole, however many of its bytes
/// come meanwhile.
const HEAD: Duration = Duration::from_secs(30);
/// The most bytes of a head.
const MAX_HEAD: usize = 64 << 10;

/// Answers what comes until the server stops, and then what had come by then. Whoever drops this ends every
/// connection.
pub(crate) async fn serve(listener: Bounded, router: Router, stopping: CancellationToken) {
    serve_with(listener, router, stopping, HEAD).await;
}

async fn serve_with(
    mut listener: Bounded,
    router: Router,
    stopping: CancellationToken,
    head: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let (router, stopping) = (router.clone(), stopping.clone());
        let peer = Peer(address.ip().to_canonical());
        connections.spawn(async move { answer(connection, peer, router, stopping, head).await });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn answer(
    connection: Connection,
    peer: Peer,
    router: Router,
    stopping: CancellationToken,
    head: Duration,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD);
    let mut serving = pin!(http.serve_connection(TokioIo::new(connection), service));
    let done = tokio::select! {
        done = serving.as_mut() => done,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(peer = %peer.0, "a connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn who_sends_a_head_too_slowly_loses_the_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "ok" }));
        let limit = Duration::from_millis(400);
        let serving =
            tokio::spawn(serve_with(Bounded::new(listener), router, stopping.clone(), limit));

        let mut slow = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        // Never silent, and never done.
        let (mut from, mut to) = slow.split();
        let trickle = async {
            while to.write_all(b"x: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut said = Vec::new();
        tokio::select! {
            () = trickle => {}
            read = from.read_to_end(&mut said) => drop(read),
        }
        assert!(begun.elapsed() >= limit && begun.elapsed() < Duration::from_secs(5));
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));

        let mut quick = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        quick.write_all(request).await.unwrap();
        let mut said = String::new();
        quick.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("ok"), "{said}");

        stopping.cancel();
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    }
}
