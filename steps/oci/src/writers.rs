//! Writers side by side, where a registry has no way to compare and swap: those of this machine
//! take turns, and those elsewhere are waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt as _;

/// The longest wait for a writer elsewhere.
const LONGEST_SETTLE: Duration = Duration::from_secs(3);

/// The turn of one writer. It ends when this is dropped.
pub(crate) struct Turn {
    _process: tokio::sync::OwnedMutexGuard<()>,
    _machine: machine::Lock,
}

/// Waits until nobody else on this machine writes what `name` names. It is for reading, changing and
/// writing, and not for more.
pub(crate) async fn turn(name: &str) -> Turn {
    // The steps of several runs, with a client each, may write to one place.
    let process = lock_for(name).lock_owned().await;
    Turn { _process: process, _machine: machine::lock(name).await }
}

fn lock_for(name: &str) -> Arc<tokio::sync::Mutex<()>> {
    static LOCKS: Mutex<Option<HashMap<String, Weak<tokio::sync::Mutex<()>>>>> = Mutex::new(None);
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let locks = locks.get_or_insert_default();
    if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
        return lock;
    }
    locks.retain(|_, lock| lock.strong_count() > 0);
    let lock = Arc::default();
    locks.insert(name.to_owned(), Arc::downgrade(&lock));
    lock
}

/// Waits until a writer elsewhere who read before our write ended has most likely written too. Such
/// a writer needs about as long from his read to his write as we did, `window`. Where others were
/// seen at work, `rivals` times, they slow each other down and are given more time.
pub(crate) async fn settle(window: Duration, rivals: u32) {
    let pause = window.mul_f64(rand::rng().random_range(2.0..=3.0)) * (rivals + 1);
    tokio::time::sleep(pause.min(LONGEST_SETTLE)).await;
}

/// A lock that all processes of one machine see: the name of a socket in the abstract namespace,
/// which one process at a time can have, and which is free again when the process ends, however it
/// ends. It is a courtesy: after a bounded wait the writer goes on without it, and what it writes is
/// read back all the same.
#[cfg(target_os = "linux")]
mod machine {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::{Duration, Instant};

    use fairlead_step::Digest;
    use rand::RngExt as _;

    /// How long others are waited for. A turn takes a few requests.
    const PATIENCE: Duration = Duration::from_secs(20);

    pub(super) type Lock = Option<UnixDatagram>;

    pub(super) async fn lock(name: &str) -> Lock {
        let name = format!("fairlead-writer-{}", Digest::sha256(name.as_bytes()).hex());
        let address = SocketAddr::from_abstract_name(name).ok()?;
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixDatagram::bind_addr(&address) {
                Ok(socket) => return Some(socket),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                // Where there are no such sockets, there is no such lock.
                Err(_) => return None,
            }
            if Instant::now() > until {
                tracing::warn!("another process has kept its turn to write too long");
                return None;
            }
            let pause = rand::rng().random_range(2..=12);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod machine {
    pub(super) type Lock = ();

    pub(super) async fn lock(_name: &str) -> Lock {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_writer_has_the_turn_and_the_next_has_it_after_him() {
        let first = turn("a").await;
        let other = turn("b").await;
        let mut second = std::pin::pin!(turn("a"));
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut second).await.is_err());
        drop(first);
        drop(second.await);
        drop(other);
    }
}
