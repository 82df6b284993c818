//! The runners that a server has heard of, and whether they have room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_run::AttemptToken;
use tokio::time::Instant;

use super::wire::{Presence, RunnerRef};
use crate::attempts::{Demand, NoRoom};

/// After how long a runner that says nothing is taken for away. One that has nothing to do says something
/// every [`PRESENCE`](super::PRESENCE).
pub(super) const AWAY: Duration = Duration::from_secs(75);

/// How long a runner has to say that it is there, when it was asked.
const REPORT: Duration = Duration::from_secs(3);

/// A runner, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerView {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// How many attempts it makes at a time.
    pub slots: usize,
    /// How many it makes.
    pub busy: usize,
    /// Why it takes nothing, where it does not.
    pub closed: Option<String>,
    /// Its version.
    pub version: String,
}

/// A runner, and when it was heard of.
#[derive(Debug)]
struct SeenRunner {
    presence: Presence,
    at: Instant,
}

/// The runners of all pools, by name.
#[derive(Debug, Default)]
pub(super) struct Runners {
    seen: BTreeMap<String, SeenRunner>,
    /// When all of them were asked to say that they are there.
    asked: Option<Instant>,
}

impl Runners {
    /// Takes note of what a runner says of itself. Answers whether that changes anything.
    pub(super) fn seen(&mut self, presence: Presence) -> bool {
        let name = presence.runner.name.clone();
        let changed = self.seen.get(&name).is_none_or(|seen| seen.presence != presence);
        self.seen.insert(name, SeenRunner { presence, at: Instant::now() });
        changed
    }

    /// Takes note that all of them are asked to say that they are there. False when they have been, and may
    /// still answer.
    pub(super) fn ask(&mut self) -> bool {
        let first = self.asked.is_none();
        self.asked.get_or_insert_with(Instant::now);
        first
    }

    /// Forgets those that are away, or did not answer when they were asked. Answers whether there were any.
    pub(super) fn forget_away(&mut self) -> bool {
        let before = self.seen.len();
        let now = Instant::now();
        let asked = self.asked.take_if(|asked| now >= *asked + REPORT);
        self.seen.retain(|_, seen| now < seen.at + AWAY && asked.is_none_or(|at| seen.at >= at));
        before > self.seen.len()
    }

    /// When somebody may have to be forgotten, where there is anybody.
    pub(super) fn next_away(&self) -> Option<Instant> {
        let away = self.seen.values().map(|seen| seen.at + AWAY).min();
        away.into_iter().chain(self.asked.map(|asked| asked + REPORT)).min()
    }

    pub(super) fn views(&self) -> Vec<RunnerView> {
        let view = |SeenRunner { presence, .. }: &SeenRunner| RunnerView {
            name: presence.runner.name.clone(),
            pool: presence.pool.clone(),
            labels: presence.labels.clone(),
            slots: presence.slots,
            busy: presence.tokens.len(),
            closed: presence.closed.clone(),
            version: presence.version.clone(),
        };
        self.seen.values().map(view).collect()
    }

    /// Whether a job of this demand would be taken now. `ours` are the claims that this server has
    /// granted, and `unclaimed` the jobs of the pool that it has offered, or is about to, and that nobody
    /// has claimed.
    pub(super) fn room(
        &self,
        demand: &Demand,
        ours: &BTreeMap<RunnerRef, BTreeSet<AttemptToken>>,
        unclaimed: usize,
    ) -> Result<(), NoRoom> {
        let pool = demand.pool.as_deref().unwrap_or_default();
        let no = |why: String| Err(NoRoom { why });
        let members: Vec<&Presence> = self
            .seen
            .values()
            .map(|seen| &seen.presence)
            .filter(|presence| presence.pool == pool)
            .collect();
        if members.is_empty() {
            return no(format!("no runner of pool `{pool}` is connected"));
        }
        let has = |of: &Presence| {
            demand.labels.iter().all(|(name, value)| of.labels.get(name) == Some(value))
        };
        let labeled: Vec<&Presence> = members.iter().copied().filter(|of| has(of)).collect();
        if labeled.is_empty() {
            let labels: Vec<String> =
                demand.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (count, labels) = (members.len(), labels.join(" "));
            return no(format!("none of the {count} runners of pool `{pool}` has {labels}"));
        }
        let able: Vec<&Presence> = labeled
            .iter()
            .copied()
            .filter(|of| {
                let kind = demand.kind.as_ref();
                kind.is_none_or(|(kind, version)| of.kinds.get(kind) == Some(version))
            })
            .collect();
        if let (true, Some((kind, version))) = (able.is_empty(), &demand.kind) {
            return no(format!(
                "no runner of pool `{pool}` has `{kind}` version {version}: servers and runners are \
                 of different versions"
            ));
        }
        let open: Vec<&Presence> = able.iter().copied().filter(|of| of.closed.is_none()).collect();
        if open.is_empty() {
            let why = able.iter().find_map(|of| of.closed.as_deref()).unwrap_or_default();
            return no(format!("the runners of pool `{pool}` take nothing: {why}"));
        }
        let none = BTreeSet::new();
        let free = open.iter().map(|of| {
            let granted = ours.get(&of.runner).unwrap_or(&none);
            of.slots.saturating_sub(of.tokens.union(granted).count())
        });
        if free.sum::<usize>() > unclaimed {
            return Ok(());
        }
        let (count, slots) = (open.len(), open.iter().map(|of| of.slots).sum::<usize>());
        no(match count {
            1 => format!("all {slots} slots of the one runner of pool `{pool}` are taken"),
            _ => format!("all {slots} slots of the {count} runners of pool `{pool}` are taken"),
        })
    }
}

#[cfg(test)]
mod tests {
    use fairlead_run::Epoch;
    use fairlead_step::RunId;

    use super::*;

    fn token(n: u32) -> AttemptToken {
        AttemptToken::mint(&RunId::mint(1, 1), &"a".parse().unwrap(), n, Epoch(1))
    }

    fn presence(name: &str, slots: usize, held: &[u32]) -> Presence {
        Presence {
            runner: RunnerRef { name: name.into(), incarnation: "1".into() },
            pool: "arm64".into(),
            labels: BTreeMap::from([("disk".into(), "fast".into())]),
            slots,
            tokens: held.iter().map(|n| token(*n)).collect(),
            kinds: BTreeMap::from([("build".into(), "2".into())]),
            closed: None,
            version: "1".into(),
        }
    }

    fn demand(labels: &[(&str, &str)], version: &str) -> Demand {
        Demand {
            pool: Some("arm64".into()),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            kind: Some(("build".into(), version.into())),
        }
    }

    #[test]
    fn why_there_is_no_room_is_told() {
        let mut runners = Runners::default();
        let ours = BTreeMap::new();
        let why = |runners: &Runners, demand: &Demand, unclaimed| {
            runners.room(demand, &ours, unclaimed).err().map(|no| no.why).unwrap_or_default()
        };
        let plain = demand(&[], "2");
        assert_eq!(why(&runners, &plain, 0), "no runner of pool `arm64` is connected");
        assert!(runners.seen(presence("a", 2, &[])) && !runners.seen(presence("a", 2, &[])));
        assert_eq!(why(&runners, &plain, 1), "");
        assert_eq!(
            why(&runners, &plain, 2),
            "all 2 slots of the one runner of pool `arm64` are taken"
        );
        assert_eq!(
            why(&runners, &demand(&[("disk", "slow")], "2"), 0),
            "none of the 1 runners of pool `arm64` has disk=slow"
        );
        assert_eq!(why(&runners, &demand(&[("disk", "fast")], "2"), 0), "");
        assert!(why(&runners, &demand(&[], "3"), 0).contains("`build` version 3"));
        runners.seen(Presence { closed: Some("it drains".into()), ..presence("a", 2, &[]) });
        assert!(why(&runners, &plain, 0).ends_with("take nothing: it drains"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_and_does_not_answer_is_away() {
        let mut runners = Runners::default();
        assert!(runners.next_away().is_none());
        runners.seen(presence("a", 2, &[]));
        runners.seen(presence("b", 2, &[]));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!runners.forget_away(), "they say little when there is little to do");
        assert!(runners.ask() && !runners.ask());
        runners.seen(presence("b", 2, &[]));
        assert!(!runners.forget_away(), "the other may still answer");
        tokio::time::advance(REPORT).await;
        assert!(runners.next_away().is_some_and(|at| at <= Instant::now()));
        assert!(runners.forget_away() && runners.views().len() == 1);
        tokio::time::advance(AWAY).await;
        assert!(runners.forget_away() && runners.views().is_empty());
    }

    #[test]
    fn what_others_gave_a_runner_and_what_was_granted_are_counted_once() {
        let mut runners = Runners::default();
        runners.seen(presence("a", 3, &[1, 2]));
        let runner = RunnerRef { name: "a".into(), incarnation: "1".into() };
        // One that it has said, one that it has not said yet.
        let ours = BTreeMap::from([(runner, BTreeSet::from([token(2), token(3)]))]);
        assert!(runners.room(&demand(&[], "2"), &ours, 0).is_err());
        assert!(runners.room(&demand(&[], "2"), &BTreeMap::new(), 0).is_ok());
    }
}
