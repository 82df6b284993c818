//! Answering on each connection. A caller that does not send a whole head in time loses its place.

use std::pin::pin;
use std::sync::Arc;
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
use crate::identity::TrustedProxies;

/// How long a connection may take until the head of its next request is whole, however many of its bytes
/// come meanwhile.
const HEAD: Duration = Duration::from_secs(30);
/// The most bytes of a head.
const MAX_HEAD: usize = 64 << 10;

/// Answers what comes until the server stops, and then what had come by then. Whoever drops this ends every
/// connection.
pub(crate) async fn serve(
    listener: Bounded,
    router: Router,
    proxies: TrustedProxies,
    stopping: CancellationToken,
) {
    serve_with(listener, router, proxies, stopping, HEAD).await;
}

async fn serve_with(
    mut listener: Bounded,
    router: Router,
    proxies: TrustedProxies,
    stopping: CancellationToken,
    head: Duration,
) {
    let proxies = Arc::new(proxies);
    let mut connections = JoinSet::new();
    loop {
        let (connection, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let (router, proxies, stopping) = (router.clone(), Arc::clone(&proxies), stopping.clone());
        let peer = Peer(address.ip().to_canonical());
        let answers = Answers { router, proxies, peer };
        connections.spawn(async move { answer(connection, answers, stopping, head).await });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// What answers the requests of one connection.
struct Answers {
    router: Router,
    proxies: Arc<TrustedProxies>,
    peer: Peer,
}

async fn answer(
    connection: Connection,
    Answers { router, proxies, peer }: Answers,
    stopping: CancellationToken,
    head: Duration,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let client = Peer(proxies.client(peer.0, request.headers()));
        request.extensions_mut().insert(client);
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

    async fn served(
        listener: TcpListener,
        router: Router,
        stopping: CancellationToken,
        limit: Duration,
    ) {
        let (none, listener) = (TrustedProxies::default(), Bounded::new(listener, None));
        serve_with(listener, router, none, stopping, limit).await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "ok" }));
        let serving = tokio::spawn(served(listener, router, stopping.clone(), HEAD));
        for (lines, size) in [(1, 2 * MAX_HEAD), (200, MAX_HEAD / 100)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut head = String::from("GET / HTTP/1.1\r\nHost: x\r\n");
            for line in 0..lines {
                head.push_str(&format!("x-{line}: {}\r\n", "y".repeat(size)));
            }
            head.push_str("\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let mut said = Vec::new();
            // It may close before it has read all of it, and then the answer is lost.
            let _ = stream.read_to_end(&mut said).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
        }
        stopping.cancel();
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_sends_a_head_too_slowly_loses_the_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "ok" }));
        let limit = Duration::from_millis(400);
        let serving = tokio::spawn(served(listener, router, stopping.clone(), limit));

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
