//! Who is admitted. Each store counts what there is to count, in one transaction; what follows from
//! it is decided here.

use std::num::NonZeroU32;

use fairlead_plan::ConcurrencyPolicy;
use fairlead_run::Admission;
use fairlead_step::RunId;

/// The runs of a group beside the one that asks to be admitted, none of which has ended.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// The latest of those that were created later and take the place of those before them.
    pub(crate) successor: Option<RunId>,
    /// The latest of those that were created earlier and wait.
    pub(crate) before: Option<RunId>,
    /// How many of those there are.
    pub(crate) waiting_before: u64,
    /// Those that are admitted, in the order of their creation.
    pub(crate) holders: Vec<RunId>,
}

/// What the run itself wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) policy: ConcurrencyPolicy,
    pub(crate) max: NonZeroU32,
}

/// Whether a newcomer with this policy takes the place of those that wait.
pub(crate) const fn takes_places(policy: ConcurrencyPolicy) -> bool {
    match policy {
        ConcurrencyPolicy::Supersede | ConcurrencyPolicy::CancelRunning => true,
        ConcurrencyPolicy::Queue | ConcurrencyPolicy::Reject => false,
    }
}

/// Why a run of a group has not been admitted yet; none when the group has room for it.
pub(crate) fn in_group(wish: Wish, others: &Others) -> Option<Admission> {
    if let Some(by) = &others.successor {
        return Some(Admission::Superseded { by: by.clone() });
    }
    let max = u64::from(wish.max.get());
    let holders = others.holders.len() as u64;
    match wish.policy {
        // Who does not wait is refused as soon as those before it will fill the group: whether they
        // asked to be admitted a moment earlier or later must not decide.
        ConcurrencyPolicy::Reject => {
            let holder = others.holders.first().or(others.before.as_ref());
            let full = holders + others.waiting_before >= max;
            holder.filter(|_| full).map(|holder| Admission::Busy { holder: holder.clone() })
        }
        ConcurrencyPolicy::Queue if others.before.is_some() => {
            Some(wait(others.before.clone(), others))
        }
        ConcurrencyPolicy::Queue
        | ConcurrencyPolicy::Supersede
        | ConcurrencyPolicy::CancelRunning => {
            (holders >= max).then(|| wait(others.holders.first().cloned(), others))
        }
    }
}

/// Why a run has not been admitted yet although its group, if it has one, has room: `going` runs of the store
/// have theirs.
pub(crate) fn in_store(most: Option<NonZeroU32>, going: u64, others: &Others) -> Option<Admission> {
    most.filter(|most| going >= u64::from(most.get())).map(|_| wait(None, others))
}

fn wait(behind: Option<RunId>, others: &Others) -> Admission {
    Admission::Wait { behind, holders: others.holders.clone() }
}
