//! A bus that stands in for NATS.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fairlead_bus::InProcess;
use fairlead_event::{
    Acknowledge, Bus, BusError, CloudEvent, Deliveries, Headers, SubscribedDeliveries,
    SubscribedDelivery,
};
use fairlead_step::BoxFuture;
use futures::StreamExt as _;
use tokio::sync::Notify;

/// What a bus has against an event.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    TooLarge,
    Refused,
    /// It takes the event, and never hands it out.
    Loses,
}

/// A bus that may be away, as NATS may; what it has taken it keeps. Others publish on its subjects.
pub(super) struct FakeNats {
    inner: InProcess,
    away: AtomicBool,
    back: Notify,
    refused: Notify,
    /// What it says of events about these subjects, and how often it was asked to take one.
    faults: Mutex<BTreeMap<String, Fault>>,
    foreign: Mutex<Option<tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>>>,
    publish: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
}

impl FakeNats {
    pub(super) fn new() -> Self {
        let (publish, foreign) = tokio::sync::mpsc::unbounded_channel();
        Self {
            inner: InProcess::default(),
            away: AtomicBool::new(false),
            back: Notify::new(),
            refused: Notify::new(),
            faults: Mutex::default(),
            foreign: Mutex::new(Some(foreign)),
            publish,
        }
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        if !away {
            self.back.notify_waiters();
        }
    }

    /// It does not treat events about this subject, or what begins with it, as it should.
    pub(super) fn fail(&self, subject: &str, fault: Fault) {
        self.faults.lock().unwrap().insert(subject.to_owned(), fault);
    }

    fn fault(&self, event: &CloudEvent) -> Option<Fault> {
        let subject = event.subject.as_deref().unwrap_or_default();
        let faults = self.faults.lock().unwrap();
        faults.iter().find(|(of, _)| subject.starts_with(of.as_str())).map(|(_, fault)| *fault)
    }

    /// Waits until it has refused an event.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }

    pub(super) fn published_by_others(&self, body: Vec<u8>) {
        self.publish.send(body).unwrap();
    }
}

struct Taken;

impl Acknowledge for Taken {
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn later(self: Box<Self>, _: Duration) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn progress(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}

impl Bus for FakeNats {
    fn publish<'a>(&'a self, event: &'a CloudEvent) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            if self.away.load(Ordering::SeqCst) {
                self.refused.notify_one();
                let doing = "take the event".to_owned();
                return Err(BusError::Unavailable { doing, source: "not connected".into() });
            }
            match self.fault(event) {
                Some(Fault::TooLarge) => Err(BusError::TooLarge { size: 2, limit: 1 }),
                Some(Fault::Refused) => {
                    let doing = "take the event".to_owned();
                    Err(BusError::Unavailable { doing, source: "no".into() })
                }
                Some(Fault::Loses) => Ok(()),
                None => self.inner.publish(event).await,
            }
        })
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<Deliveries, BusError>> {
        self.inner.subscribe()
    }

    fn subscribe_to<'a>(
        &'a self,
        _name: &'a str,
        _subject: &'a str,
    ) -> BoxFuture<'a, Result<SubscribedDeliveries, BusError>> {
        let receiver = self.foreign.lock().unwrap().take().unwrap();
        let bodies = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let deliveries =
            bodies.map(|body| SubscribedDelivery::new(Headers::default(), body, Box::new(Taken)));
        Box::pin(async move { Ok(Box::pin(deliveries) as SubscribedDeliveries) })
    }

    fn publish_on<'a>(
        &'a self,
        _subject: &'a str,
        _id: &'a str,
        _body: &'a [u8],
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async { Err(BusError::Unsupported { what: "tell others" }) })
    }

    fn recovered(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let back = self.back.notified();
            let mut back = std::pin::pin!(back);
            back.as_mut().enable();
            if self.away.load(Ordering::SeqCst) {
                back.await;
            }
        })
    }

    fn reachable(&self) -> bool {
        !self.away.load(Ordering::SeqCst)
    }
}
