//! The listening socket, with limits: how many connections there may be, and how long one may say
//! nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::identity::TrustedProxies;

/// The most connections at a time. More wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// The most connections of one address, so that nobody has all of them. Not of this machine: a proxy on it
/// speaks for many.
const MOST_OF_ONE: usize = 256;
/// How long a connection may be silent in both directions. Live streams send a sign of life more
/// often.
const SILENCE: Duration = Duration::from_secs(75);

/// A listener with limits.
#[derive(Debug)]
pub(crate) struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    peers: Peers,
    /// They speak for many.
    proxies: TrustedProxies,
    silence: Duration,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener, proxies: Option<TrustedProxies>) -> Self {
        let proxies = proxies.unwrap_or_default();
        Self { proxies, ..Self::with(listener, MAX_CONNECTIONS, SILENCE) }
    }

    fn with(listener: TcpListener, connections: usize, silence: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(connections));
        let proxies = TrustedProxies::default();
        Self { listener, slots, peers: Peers::default(), proxies, silence }
    }
}

/// How many connections each address has. It has no more entries than there are connections.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// A place for a connection of `address`; none when it has as many as one may have.
    fn enter(&self, address: IpAddr, speaks_for_many: bool) -> Option<PeerPlace> {
        let address = address.to_canonical();
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(address).or_default();
        if *count >= MOST_OF_ONE && !address.is_loopback() && !speaks_for_many {
            return None;
        }
        *count += 1;
        drop(peers);
        Some(PeerPlace { peers: self.clone(), address })
    }
}

/// One of the connections of an address.
#[derive(Debug)]
struct PeerPlace {
    peers: Peers,
    address: IpAddr,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = match Arc::clone(&self.slots).acquire_owned().await {
            Ok(slot) => slot,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        };
        let (stream, address, place) = loop {
            // The listener of axum tells passing errors from lasting ones and waits between attempts.
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            if let Some(place) = self.peers.enter(address.ip(), self.proxies.have(address.ip())) {
                break (stream, address, place);
            }
        };
        let connection = Connection {
            stream,
            silence: self.silence,
            deadline: Box::pin(tokio::time::sleep(self.silence)),
            _slot: slot,
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that is closed when nothing has passed through it for too long.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Duration,
    deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
    _place: PeerPlace,
}

impl Connection {
    fn heard(&mut self) {
        let deadline = Instant::now() + self.silence;
        self.deadline.as_mut().reset(deadline);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.heard();
            return Poll::Ready(read);
        }
        ready!(this.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write(context, bytes) {
            this.heard();
            return Poll::Ready(written);
        }
        ready!(this.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::with(listener, 1, Duration::from_millis(50));
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The second is accepted once the first is gone.
        let _second = TcpStream::connect(address).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), bounded.accept()).await;
        assert!(early.is_err());
        drop(connection);
        bounded.accept().await;
    }

    #[test]
    fn no_address_has_all_the_places() {
        let peers = Peers::default();
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut places: Vec<_> =
            (0..MOST_OF_ONE).map(|_| peers.enter(one, false).unwrap()).collect();
        assert!(peers.enter(one, false).is_none() && peers.enter(other, false).is_some());
        places.pop();
        assert!(peers.enter(one, false).is_some());
        let proxy = peers.enter(one, true);
        assert!(proxy.is_some(), "a proxy speaks for many");
        drop((places, proxy));
        assert!(peers.0.lock().unwrap().is_empty(), "who is gone is forgotten");
        let here = [127, 0, 0, 1].into();
        let many: Vec<_> = (0..=MOST_OF_ONE).map(|_| peers.enter(here, false)).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
