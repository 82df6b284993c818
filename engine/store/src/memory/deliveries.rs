//! [`DeliveryStore`] in memory.

use fairlead_run::{
    DeliveryFilter, DeliveryOutcome, DeliveryStore, EventState, NewDelivery, StoreError,
    StoredDelivery, TakeDeliveries,
};
use fairlead_step::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::{Memory, ready};
use crate::{accept, events};

/// A message, and who sends it until when.
pub(super) struct MemoryDelivery {
    pub(super) stored: StoredDelivery,
    claim: Option<(String, Timestamp)>,
}

impl MemoryDelivery {
    fn is_pending(&self, destination: &str) -> bool {
        self.stored.message.destination == destination && self.stored.state() == EventState::Pending
    }

    fn is_held(&self, at: Timestamp) -> bool {
        self.claim.as_ref().is_some_and(|(_, until)| *until > at)
    }
}

fn take(all: &mut [MemoryDelivery], wanted: &TakeDeliveries) -> Vec<StoredDelivery> {
    let TakeDeliveries { destination, by, at, lease, limit } = wanted;
    let at = *at;
    let lease = SignedDuration::try_from(*lease).unwrap_or(SignedDuration::MAX);
    let until = at.saturating_add(lease).unwrap_or(Timestamp::MAX);
    let mut taken = Vec::new();
    for place in 0..all.len() {
        let this = &all[place];
        if !this.is_pending(destination) || this.is_held(at) {
            continue;
        }
        let same = |other: &MemoryDelivery| {
            let (other, this) = (&other.stored.message, &this.stored.message);
            other.destination == this.destination && other.about == this.about
        };
        let replaced = all[place + 1..].iter().any(|it| same(it) && it.stored.message.replaces);
        // What this very call takes is held from its end on.
        let earlier = all[..place].iter().any(|it| {
            same(it)
                && it.is_pending(destination)
                && it.is_held(at)
                && !taken.contains(&it.stored.number)
        });
        let is_due = this.stored.due_at <= at && !earlier && taken.len() < *limit;
        let this = &mut all[place];
        if replaced {
            this.stored.delivered_at = Some(at);
            this.stored.reason = Some("a later one took its place".to_owned());
            this.claim = None;
        } else if is_due {
            this.claim = Some((by.clone(), until));
            this.stored.due_at = until;
            this.stored.attempts += 1;
            taken.push(this.stored.number);
        }
    }
    let taken = all.iter().filter(|it| taken.contains(&it.stored.number));
    taken.map(|it| it.stored.clone()).collect()
}

impl DeliveryStore for Memory {
    fn add(&self, messages: Vec<NewDelivery>) -> BoxFuture<'_, Result<usize, StoreError>> {
        if let Err(error) = accept::new_deliveries(&messages) {
            return ready(Err(error));
        }
        let mut state = self.state();
        let mut added = 0;
        for message in messages {
            let same = |it: &MemoryDelivery| {
                it.stored.message.destination == message.destination
                    && it.stored.message.id == message.id
            };
            if state.deliveries.iter().any(same) {
                continue;
            }
            added += 1;
            let number = state.next();
            let due_at = message.created_at;
            let stored = StoredDelivery {
                number,
                message,
                due_at,
                attempts: 0,
                delivered_at: None,
                dead_at: None,
                reason: None,
            };
            state.deliveries.push(MemoryDelivery { stored, claim: None });
        }
        ready(Ok(added))
    }

    fn take(
        &self,
        wanted: TakeDeliveries,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        ready(Ok(take(&mut self.state().deliveries, &wanted)))
    }

    fn settle(
        &self,
        number: u64,
        by: &str,
        became: DeliveryOutcome,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        let found = state.deliveries.iter_mut().find(|it| {
            it.stored.number == number
                && it.stored.state() == EventState::Pending
                && it.claim.as_ref().is_some_and(|(holder, _)| holder == by)
        });
        if let Some(MemoryDelivery { stored, claim }) = found {
            *claim = None;
            match became {
                DeliveryOutcome::Delivered { at } => {
                    (stored.delivered_at, stored.reason) = (Some(at), None);
                }
                DeliveryOutcome::Later { due_at, reason } => {
                    (stored.due_at, stored.reason) = (due_at, Some(events::reason(&reason)));
                }
                DeliveryOutcome::GivenUp { at, reason } => {
                    (stored.dead_at, stored.reason) = (Some(at), Some(events::reason(&reason)));
                }
            }
        }
        ready(Ok(()))
    }

    fn next_due(&self, destination: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let state = self.state();
        let pending = state.deliveries.iter().filter(|it| it.is_pending(destination));
        ready(Ok(pending.map(|it| it.stored.due_at).min()))
    }

    fn send_again(&self, number: u64, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut state = self.state();
        let found = state.deliveries.iter_mut().map(|it| &mut it.stored);
        let mut found = found.filter(|it| it.number == number && it.delivered_at.is_none());
        let Some(stored) = found.next() else { return ready(Ok(false)) };
        (stored.dead_at, stored.reason) = (None, None);
        (stored.attempts, stored.due_at) = (0, at);
        ready(Ok(true))
    }

    fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> BoxFuture<'_, Result<Vec<StoredDelivery>, StoreError>> {
        let state = self.state();
        let fits = |it: &&StoredDelivery| {
            let of = |wanted: &String| *wanted == it.message.destination;
            filter.state.is_none_or(|wanted| it.state() == wanted)
                && filter.destination.as_ref().is_none_or(of)
                && filter.before.is_none_or(|before| it.number < before)
        };
        let newest = state.deliveries.iter().rev().map(|it| &it.stored).filter(fits);
        let limit = filter.limit.min(DeliveryFilter::MOST);
        ready(Ok(newest.take(limit).cloned().collect()))
    }
}
