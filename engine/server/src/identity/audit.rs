//! What callers change is written down before it is done. What they are refused is, too, but only so often:
//! whoever is refused again and again must not fill the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_run::{AuditEntry, AuditLog, StoreError};
use fairlead_step::{Clock, error_chain};
use tokio::time::Instant;

/// How many refusals are written down in a minute.
const REFUSALS: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// The audit log, as the server writes to it.
#[derive(Clone)]
pub(crate) struct Audit {
    log: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    refusals: Arc<Mutex<Refusals>>,
}

/// The refusals of this minute.
struct Refusals {
    since: Instant,
    written: u32,
    /// How many were left out since one was written.
    left_out: u64,
}

impl Audit {
    pub(crate) fn new(log: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        let refusals = Refusals { since: Instant::now(), written: 0, left_out: 0 };
        Self { log, clock, refusals: Arc::new(Mutex::new(refusals)) }
    }

    /// Writes down what is about to be done. Where that is not possible it must not be done.
    pub(crate) async fn write(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.log.append(self.clock.now(), entry).await.map(drop)
    }

    /// Writes down what was refused, unless much was refused in this minute.
    pub(crate) async fn refused(&self, mut entry: AuditEntry) {
        let left_out = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if refusals.since.elapsed() >= MINUTE {
                (refusals.since, refusals.written) = (Instant::now(), 0);
            }
            if refusals.written >= REFUSALS {
                refusals.left_out += 1;
                return;
            }
            refusals.written += 1;
            std::mem::take(&mut refusals.left_out)
        };
        if left_out > 0 {
            entry.detail.insert("left_out_before".to_owned(), left_out.into());
        }
        if let Err(error) = self.write(entry).await {
            tracing::error!("a refusal is not in the audit log: {}", error_chain(&error));
        }
    }

    /// The log itself, for those who may read it.
    pub(crate) fn log(&self) -> &dyn AuditLog {
        &*self.log
    }
}

#[cfg(test)]
mod tests {
    use fairlead_run::{AuditAction, Seq};
    use jiff::Timestamp;

    use super::*;

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_refusals_some_are_written_and_all_are_counted() {
        let audit = Audit::new(fairlead_store::Store::memory().audit(), Arc::new(Epoch));
        let refusal = || AuditEntry {
            actor: "?".to_owned(),
            via: "nothing".to_owned(),
            on_behalf_of: None,
            address: Some("192.0.2.1".to_owned()),
            action: AuditAction::LoginRefused,
            target: "/api/v1/runs".to_owned(),
            detail: serde_json::Map::new(),
        };
        for _ in 0..REFUSALS + 40 {
            audit.refused(refusal()).await;
        }
        assert_eq!(audit.log.read(Seq(0), 1000).await.unwrap().len(), REFUSALS as usize);
        tokio::time::advance(MINUTE).await;
        audit.refused(refusal()).await;
        let written = audit.log.read(Seq(u64::from(REFUSALS)), 10).await.unwrap();
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].entry().detail["left_out_before"], 40);
    }
}
