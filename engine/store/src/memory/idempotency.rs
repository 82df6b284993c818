//! [`IdempotencyStore`] in memory.

use std::time::Duration;

use fairlead_run::{
    IdempotencyStore, KEYED_FOR, KeptAnswer, KeyedEnd, KeyedRequest, KeyedStart, StoreError,
};
use fairlead_step::{BoxFuture, Digest};
use jiff::{SignedDuration, Timestamp};

use super::{Memory, ready};
use crate::idempotency::kept;

/// What is kept of one request.
pub(super) struct Keyed {
    request: KeyedRequest,
    leased_until: Timestamp,
    expires_at: Timestamp,
    answer: Option<KeptAnswer>,
}

impl IdempotencyStore for Memory {
    fn begin(
        &self,
        request: KeyedRequest,
        now: Timestamp,
        lease: Duration,
    ) -> BoxFuture<'_, Result<KeyedStart, StoreError>> {
        let after = |time: Duration| {
            let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
            now.saturating_add(time).unwrap_or(Timestamp::MAX)
        };
        let mut state = self.state();
        state.keyed.retain(|_, keyed| keyed.expires_at > now);
        let Some(keyed) = state.keyed.get_mut(&request.key) else {
            let (key, run) = (request.key.clone(), request.run.clone());
            let (leased_until, expires_at) = (after(lease), after(KEYED_FOR));
            state.keyed.insert(key, Keyed { request, leased_until, expires_at, answer: None });
            return ready(Ok(KeyedStart::Do(run)));
        };
        ready(Ok(if keyed.request.content != request.content {
            KeyedStart::Another
        } else if let Some(answer) = &keyed.answer {
            KeyedStart::Done(answer.clone())
        } else if keyed.leased_until > now {
            KeyedStart::UnderWay(keyed.leased_until)
        } else {
            keyed.leased_until = after(lease);
            KeyedStart::Do(keyed.request.run.clone())
        }))
    }

    fn end(&self, key: &Digest, end: KeyedEnd) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        if let Some(keyed) = state.keyed.get_mut(key).filter(|keyed| keyed.answer.is_none()) {
            match end {
                KeyedEnd::Done(answer) => keyed.answer = Some(kept(answer)),
                KeyedEnd::Unknown => keyed.leased_until = Timestamp::MIN,
                KeyedEnd::Refused => drop(state.keyed.remove(key)),
            }
        }
        ready(Ok(()))
    }
}
