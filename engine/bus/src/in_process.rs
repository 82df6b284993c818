//! The bus of a server that is one process: a bounded queue in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_event::{
    Acknowledge, Bus, BusError, CloudEvent, Deliveries, Delivery, SubscribedDeliveries,
};
use fairlead_step::BoxFuture;
use futures::stream;
use tokio::sync::Notify;

/// The bus in process. Cheap to clone; every clone is the same bus.
#[derive(Clone)]
pub struct InProcess(Arc<Shared>);

struct Shared {
    capacity: usize,
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Queued>,
    /// Events that are ready, handed out or waiting for their time: all that the bus answers for.
    held: usize,
}

struct Queued {
    event: CloudEvent,
    attempt: u64,
}

impl InProcess {
    /// How many events wait at most. What does not fit stays where it is stored until there is
    /// room, so the number bounds memory and loses nothing.
    pub const CAPACITY: usize = 1024;

    /// A bus that holds at most `capacity` events that are not done with.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            capacity,
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        }))
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new(Self::CAPACITY)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under the lock, so what a poisoned one guards is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, queued: Queued) {
        self.queue().ready.push_back(queued);
        self.filled.notify_waiters();
    }

    async fn take(&self) -> Queued {
        loop {
            let filled = self.filled.notified();
            let mut filled = std::pin::pin!(filled);
            // Registered before the queue is looked at, so that nothing put in between is missed.
            filled.as_mut().enable();
            if let Some(queued) = self.queue().ready.pop_front() {
                return queued;
            }
            filled.await;
        }
    }
}

/// One event handed out. When it is dropped unanswered, the event goes back.
struct Out {
    shared: Arc<Shared>,
    queued: Option<Queued>,
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(Queued { event, attempt }) = self.queued.take() {
            self.shared.put(Queued { event, attempt: attempt + 1 });
        }
    }
}

impl Acknowledge for Out {
    fn done(mut self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>> {
        self.queued = None;
        self.shared.queue().held -= 1;
        self.shared.emptied.notify_waiters();
        Box::pin(async { Ok(()) })
    }

    fn later(self: Box<Self>, delay: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        // The timer owns the event; dropping it at the end is what puts the event back.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop(self);
        });
        Box::pin(async { Ok(()) })
    }

    fn progress(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}

impl Bus for InProcess {
    fn publish<'a>(&'a self, event: &'a CloudEvent) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            {
                let mut queue = self.0.queue();
                if queue.held >= self.0.capacity {
                    return Err(BusError::Full { held: queue.held });
                }
                queue.held += 1;
            }
            self.0.put(Queued { event: event.clone(), attempt: 1 });
            Ok(())
        })
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<Deliveries, BusError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let deliveries = stream::unfold(shared, |shared| async move {
                let queued = shared.take().await;
                let event = Ok(queued.event.clone());
                let attempt = queued.attempt;
                let out = Out { shared: Arc::clone(&shared), queued: Some(queued) };
                Some((Delivery::new(event, attempt, Box::new(out)), shared))
            });
            Ok(Box::pin(deliveries) as Deliveries)
        })
    }

    fn subscribe_to<'a>(
        &'a self,
        _name: &'a str,
        _subject: &'a str,
    ) -> BoxFuture<'a, Result<SubscribedDeliveries, BusError>> {
        Box::pin(async {
            Err(BusError::Unsupported { what: "hear others: start with a NATS URL" })
        })
    }

    fn publish_on<'a>(
        &'a self,
        _subject: &'a str,
        _id: &'a str,
        _body: &'a [u8],
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async {
            Err(BusError::Unsupported { what: "tell others: start with a NATS URL" })
        })
    }

    fn recovered(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let emptied = self.0.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable();
            if self.0.queue().held >= self.0.capacity {
                emptied.await;
            }
        })
    }

    fn reachable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn event(id: &str) -> CloudEvent {
        CloudEvent {
            id: id.to_owned(),
            source: "/test".to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            data: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let suite = fairlead_event::conformance::bus_conformance(|| async {
            InProcess::new(InProcess::CAPACITY)
        });
        tokio::time::timeout(Duration::from_secs(20), suite).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_bus_refuses_until_something_is_done_with() {
        let bus = InProcess::new(2);
        bus.publish(&event("1")).await.unwrap();
        bus.publish(&event("2")).await.unwrap();
        assert!(matches!(bus.publish(&event("3")).await, Err(BusError::Full { held: 2 })));
        let recovered = bus.recovered();
        let mut recovered = std::pin::pin!(recovered);
        assert!(recovered.as_mut().now_or_never().is_none());
        let mut deliveries = bus.subscribe().await.unwrap();
        let first = deliveries.next().await.unwrap();
        // Handed out is not done with: it may come back, and must find room then.
        assert!(bus.publish(&event("3")).await.is_err());
        first.done().await.unwrap();
        recovered.await;
        bus.publish(&event("3")).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_else_can_be_heard() {
        let refused = InProcess::default().subscribe_to("zot", "zot.events").await;
        assert!(matches!(refused, Err(BusError::Unsupported { .. })));
    }
}
