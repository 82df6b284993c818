//! Fakes of what these steps do not use, and a clock that can be set.

use std::sync::atomic::{AtomicI64, Ordering};

use fairlead_exec::{SecretError, SecretProvider};
use fairlead_step::{BoxFuture, Clock, Registries, RegistryAccess, Secret, StepError};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub(crate) struct Nothing;

impl Registries for Nothing {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        Box::pin(std::future::ready(Err(StepError::terminal("there are no registries here"))))
    }
}

impl SecretProvider for Nothing {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let (name, hint) = (name.to_owned(), "there are none".to_owned());
        Box::pin(std::future::ready(Err(SecretError::Missing { name, hint })))
    }
}

/// The clock of one server: virtual time, and how far it is off.
pub(crate) struct SimClock {
    begin: Instant,
    off: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(begin: Instant) -> Self {
        Self { begin, off: AtomicI64::new(0) }
    }

    pub(crate) fn jump(&self, millis: i64) {
        self.off.fetch_add(millis, Ordering::Relaxed);
    }
}

/// Where time begins.
pub(crate) fn dawn() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("a time")
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let gone = SignedDuration::try_from(self.begin.elapsed()).expect("not for ever");
        dawn() + gone + SignedDuration::from_millis(self.off.load(Ordering::Relaxed))
    }
}
