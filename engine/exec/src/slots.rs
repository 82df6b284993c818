//! Who may begin an attempt: a slot for each that runs at a time, in this process or in a pool of
//! runners, and a fair order of those that wait for one.
//!
//! A slot that is free goes to the share that has the fewest, and within it to whoever waits longest:
//! a thousand steps of one pipeline do not keep the only step of another waiting.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use fairlead_step::RunId;

use crate::attempts::{Attempts, Demand, NoRoom};

/// The slots of an engine. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Shared>);

struct Shared {
    /// How many attempts may run at a time in this process.
    here: usize,
    elsewhere: Option<Arc<dyn Attempts>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    here: Pool,
    pools: BTreeMap<Arc<str>, Pool>,
    /// The number of the next who waits.
    next: u64,
}

#[derive(Default)]
struct Pool {
    in_use: usize,
    /// How many of them each share has.
    shares: HashMap<Arc<str>, usize>,
    waiting: Vec<Waiter>,
}

struct Waiter {
    number: u64,
    run: RunId,
    demand: Demand,
    share: Arc<str>,
    granted: Arc<Mutex<Granted>>,
}

#[derive(Default)]
struct Granted {
    yes: bool,
    waker: Option<Waker>,
}

/// The right to run one attempt, given back when it is dropped.
pub struct Slot {
    slots: Weak<Shared>,
    pool: Option<Arc<str>>,
    share: Arc<str>,
}

/// A place in the queue for a slot; left when it is dropped. It is `Sync`, so that the drive of a run may
/// move between threads.
pub(crate) struct Place {
    slots: Slots,
    pool: Option<Arc<str>>,
    share: Arc<str>,
    number: u64,
    granted: Arc<Mutex<Granted>>,
    taken: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    /// So many slots in this process, and as many elsewhere as there are.
    pub(crate) fn new(here: usize, elsewhere: Option<Arc<dyn Attempts>>) -> Self {
        let slots = Self(Arc::new(Shared { here, elsewhere, state: Mutex::default() }));
        if let Some(elsewhere) = &slots.0.elsewhere {
            let changed = Arc::downgrade(&slots.0);
            elsewhere.when_room_changes(Box::new(move || {
                if let Some(shared) = changed.upgrade() {
                    shared.grant_elsewhere();
                }
            }));
        }
        slots
    }

    /// A slot, where one is free.
    pub(crate) fn try_take(&self, demand: &Demand, share: &Arc<str>) -> Option<Slot> {
        let mut state = locked(&self.0.state);
        let pool = state.pool(demand.pool.as_ref());
        self.0.room(demand, pool.in_use).ok()?;
        pool.hand_out(share);
        Some(Slot {
            slots: Arc::downgrade(&self.0),
            pool: demand.pool.clone(),
            share: Arc::clone(share),
        })
    }

    /// A place in the queue.
    pub(crate) fn wait(&self, run: &RunId, demand: &Demand, share: &Arc<str>) -> Place {
        let granted = Arc::<Mutex<Granted>>::default();
        let mut state = locked(&self.0.state);
        let number = state.next;
        state.next += 1;
        state.pool(demand.pool.as_ref()).waiting.push(Waiter {
            number,
            run: run.clone(),
            demand: demand.clone(),
            share: Arc::clone(share),
            granted: Arc::clone(&granted),
        });
        drop(state);
        // One may have become free since it was asked for.
        self.0.grant(demand.pool.as_ref());
        Place {
            slots: self.clone(),
            pool: demand.pool.clone(),
            share: Arc::clone(share),
            number,
            granted,
            taken: false,
        }
    }

    /// What keeps the steps of a run waiting, by what they demand.
    pub(crate) fn why_waiting(&self, run: &RunId) -> BTreeMap<Demand, String> {
        let state = locked(&self.0.state);
        let pools = state.pools.values().chain([&state.here]);
        let mut found = BTreeMap::new();
        for pool in pools {
            for waiter in pool.waiting.iter().filter(|waiter| waiter.run == *run) {
                let before = pool.waiting.iter().filter(|other| other.number < waiter.number);
                let before = match before.count() {
                    0 => String::new(),
                    1 => "; one other run waits longer".to_owned(),
                    n => format!("; {n} other runs wait longer"),
                };
                let why = match self.0.room(&waiter.demand, pool.in_use) {
                    Ok(()) => "a machine is about to take it".to_owned(),
                    Err(no_room) => format!("{no_room}{before}"),
                };
                found.insert(waiter.demand.clone(), why);
            }
        }
        found
    }
}

impl State {
    fn pool(&mut self, name: Option<&Arc<str>>) -> &mut Pool {
        match name {
            None => &mut self.here,
            Some(name) => self.pools.entry(Arc::clone(name)).or_default(),
        }
    }
}

impl Pool {
    fn hand_out(&mut self, share: &Arc<str>) {
        self.in_use += 1;
        match self.shares.get_mut(share) {
            Some(has) => *has += 1,
            None => {
                self.shares.insert(Arc::clone(share), 1);
            }
        }
    }

    fn take_back(&mut self, share: &Arc<str>) {
        self.in_use -= 1;
        if let Some(has) = self.shares.get_mut(share) {
            *has -= 1;
            if *has == 0 {
                self.shares.remove(share);
            }
        }
    }

    /// Who is next of those for whom there is room: where in the queue.
    fn next(&self, room: impl Fn(&Demand, usize) -> bool) -> Option<usize> {
        let mut order: Vec<(usize, u64, usize)> = self
            .waiting
            .iter()
            .enumerate()
            .map(|(at, w)| (self.shares.get(&w.share).copied().unwrap_or(0), w.number, at))
            .collect();
        order.sort_unstable();
        let mut full: Vec<&Demand> = Vec::new();
        for (_, _, at) in order {
            let demand = &self.waiting[at].demand;
            if full.contains(&demand) {
                continue;
            }
            if room(demand, self.in_use) {
                return Some(at);
            }
            full.push(demand);
        }
        None
    }
}

impl Shared {
    fn room(&self, demand: &Demand, in_use: usize) -> Result<(), NoRoom> {
        match (&demand.pool, &self.elsewhere) {
            (None, _) if in_use < self.here => Ok(()),
            (None, _) => {
                let why = format!("all {} slots of this process are taken", self.here);
                Err(NoRoom { why })
            }
            (Some(_), Some(elsewhere)) => elsewhere.room(demand, in_use),
            (Some(pool), None) => {
                let why = format!(
                    "pool `{pool}` needs runners, and this process has no way to them: give it \
                     `--nats`"
                );
                Err(NoRoom { why })
            }
        }
    }

    fn grant_elsewhere(&self) {
        let pools: Vec<Arc<str>> = locked(&self.state).pools.keys().cloned().collect();
        pools.iter().for_each(|pool| self.grant(Some(pool)));
    }

    /// Hands out what is free to those who wait.
    fn grant(&self, name: Option<&Arc<str>>) {
        let mut wakers: Vec<Waker> = Vec::new();
        let mut state = locked(&self.state);
        let pool = state.pool(name);
        while !pool.waiting.is_empty() {
            let Some(at) = pool.next(|demand, in_use| self.room(demand, in_use).is_ok()) else {
                break;
            };
            let waiter = pool.waiting.remove(at);
            pool.hand_out(&waiter.share);
            let mut granted = locked(&waiter.granted);
            granted.yes = true;
            wakers.extend(granted.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.slots.upgrade() else { return };
        let waits = {
            let mut state = locked(&slots.state);
            let pool = state.pool(self.pool.as_ref());
            pool.take_back(&self.share);
            !pool.waiting.is_empty()
        };
        if waits {
            slots.grant(self.pool.as_ref());
        }
    }
}

impl Future for Place {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Slot> {
        {
            let mut granted = locked(&self.granted);
            if !granted.yes {
                granted.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.taken = true;
        Poll::Ready(self.slot())
    }
}

impl Place {
    fn slot(&self) -> Slot {
        Slot {
            slots: Arc::downgrade(&self.slots.0),
            pool: self.pool.clone(),
            share: Arc::clone(&self.share),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let granted = {
            let mut state = locked(&self.slots.0.state);
            let number = self.number;
            state.pool(self.pool.as_ref()).waiting.retain(|waiter| waiter.number != number);
            locked(&self.granted).yes
        };
        // It was handed out meanwhile, and goes to the next.
        if granted {
            drop(self.slot());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn run(n: u64) -> RunId {
        RunId::mint(n, 1)
    }

    #[test]
    fn a_slot_goes_to_the_share_that_has_the_fewest() {
        let slots = Slots::new(2, None);
        let (here, big, small) = (Demand::default(), Arc::from("big"), Arc::from("small"));
        let first = slots.try_take(&here, &big).unwrap();
        let second = slots.try_take(&here, &big).unwrap();
        assert!(slots.try_take(&here, &small).is_none());
        let mut more = slots.wait(&run(1), &here, &big);
        let mut other = slots.wait(&run(2), &here, &small);
        assert!((&mut more).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        assert_eq!(
            slots.why_waiting(&run(2))[&here],
            "all 2 slots of this process are taken; one other run waits longer"
        );
        drop(first);
        let got = (&mut other).now_or_never().expect("it has none, the other share has one");
        assert!((&mut more).now_or_never().is_none());
        drop((got, second));
        assert!(more.now_or_never().is_some());
    }

    #[test]
    fn a_place_that_is_left_hands_its_slot_on() {
        let slots = Slots::new(1, None);
        let (here, share) = (Demand::default(), Arc::from("p"));
        let slot = slots.try_take(&here, &share).unwrap();
        let first = slots.wait(&run(1), &here, &share);
        let second = slots.wait(&run(2), &here, &share);
        drop(slot);
        drop(first);
        let slot = second.now_or_never().expect("what was granted to the first");
        drop(slot);
        assert!(slots.try_take(&here, &share).is_some());
    }

    #[test]
    fn a_pool_without_a_way_to_it_says_so_and_holds_nobody_up() {
        let slots = Slots::new(1, None);
        let pool = Demand { pool: Some("arm64".into()), ..Demand::default() };
        let share = Arc::from("p");
        assert!(slots.try_take(&pool, &share).is_none());
        let _place = slots.wait(&run(1), &pool, &share);
        assert!(slots.why_waiting(&run(1))[&pool].contains("`--nats`"));
        assert!(slots.try_take(&Demand::default(), &share).is_some());
    }
}
