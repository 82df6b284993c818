//! Retention: runs that ended long ago go, and with them what nobody else needs.
//!
//! The order makes it safe to be killed at any point. A run goes first, with its records, in one
//! transaction; what it leaves behind (logs, plans, artifacts) is then named by nobody, and is found
//! by this pass or by any later one. It is safe beside servers that write: each step looks again
//! within its own transaction, and an artifact that is younger than an hour, or that was put again
//! in the meantime, stays.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_run::StoreError;
use fairlead_step::{ArtifactError, BoxFuture, Digest, RunId};
use jiff::{SignedDuration, Timestamp};

use crate::artifacts::ArtifactRetention;

/// What a step stored may not stand in a record yet; this long, it is never touched.
pub const ARTIFACT_GRACE: Duration = Duration::from_secs(3600);
/// For how long what tells events apart is kept behind the time for which events are: the keys of those
/// that are gone, and what tags were set to. A sender may tell of what happened long ago, such as a
/// registry that is restored or mirrored, and a tag that is a year old may still hold what it held.
pub const KEYS_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// How many keys of events that are gone are kept at most, and how many pushes to tags: about 150 MB of
/// each.
pub const MOST_KEYS: u64 = 1_000_000;
/// Runs in one transaction: few, because the writers of other runs wait for it.
const RUNS_AT_ONCE: usize = 16;

/// Which finished runs may go: those that break every rule that is given. Without a rule no run
/// goes, and what nobody names goes all the same.
///
/// Whatever the rules say, a run stays that has not ended, or that an unfinished one makes again or
/// takes back, or of whose results one stands for another run that is there, or whose event is still
/// to be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneRules {
    /// The time now.
    pub now: Timestamp,
    /// Runs that ended longer ago than this. It is also the rule for cached results and for
    /// events that were handled or given up, which stay without it.
    pub older_than: Option<Duration>,
    /// Runs that are not among this many that ended last of their pipeline.
    pub keep_last: Option<usize>,
    /// For how long the keys of events that are gone and the history of tags are kept, behind
    /// `older_than`: [`KEYS_KEPT`] when nobody says.
    pub keys_kept: Duration,
    /// How many of each are kept at most: [`MOST_KEYS`] when nobody says.
    pub most_keys: u64,
}

impl PruneRules {
    /// No rule yet.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self { now, older_than: None, keep_last: None, keys_kept: KEYS_KEPT, most_keys: MOST_KEYS }
    }

    /// Only runs that ended longer ago than `age`.
    #[must_use]
    pub const fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only runs that are not among the last `count` of their pipeline.
    #[must_use]
    pub const fn keep_last(mut self, count: usize) -> Self {
        self.keep_last = Some(count);
        self
    }

    /// The keys of events that are gone, and the history of tags, for so long and so many of each.
    #[must_use]
    pub const fn keys(mut self, age: Duration, most: u64) -> Self {
        self.keys_kept = age;
        self.most_keys = most;
        self
    }

    fn before(&self, age: Duration) -> Timestamp {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        self.now.checked_sub(age).unwrap_or(Timestamp::MIN)
    }
}

/// Things that went, or would go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// How large they are together, in bytes, as far as they are data of ours.
    pub bytes: u64,
}

impl Amount {
    pub(crate) const fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }

    pub(crate) const fn one(&mut self, bytes: u64) {
        self.add(Self { count: 1, bytes });
    }
}

/// What a pass removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// The runs, oldest first.
    pub runs: Vec<RunId>,
    /// Their records.
    pub records: Amount,
    /// Logs of attempts, theirs and those of runs that are gone.
    pub logs: Amount,
    /// Plans that no run names.
    pub plans: Amount,
    /// Events that were handled or given up long ago, and that no run names.
    pub events: Amount,
    /// Keys of events that went long ago, and pushes to tags.
    pub keys: Amount,
    /// Results that were cached long ago.
    pub cached_results: Amount,
    /// Artifacts that neither a record nor a cached result names. What only a result of this
    /// pass named goes with the next one.
    pub artifacts: Amount,
}

/// What a pass needs to know to choose runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) ended_before: Option<Timestamp>,
    pub(crate) keep_last: Option<usize>,
}

/// Runs that went in one transaction, or would.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) runs: Vec<RunId>,
    pub(crate) records: Amount,
}

/// What a store can do for a pass. Where `dry` is said, nothing is changed and the same is answered.
/// `gone` are the runs of this pass, which count as not there.
pub(crate) trait Retention: Send + Sync {
    /// The finished runs that may go, oldest first.
    fn choose(&self, choice: Choice) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>>;

    /// Removes runs with their records, signals and links to events, unless they may not go any more.
    fn remove_runs(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Gone, StoreError>>;

    /// Those of `runs` that are not there.
    fn unknown(&self, runs: Vec<RunId>) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>>;

    /// Removes plans that no run names.
    fn remove_plans<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>>;

    /// Removes events that were handled or given up before `cutoff` and that no run names. What tells
    /// them apart from others stays.
    fn remove_events<'a>(
        &'a self,
        cutoff: Timestamp,
        gone: &'a BTreeSet<RunId>,
        dry: bool,
    ) -> BoxFuture<'a, Result<Amount, StoreError>>;

    /// Removes keys of events that are gone, and pushes to tags whose events are gone, which were
    /// received before `cutoff` or are not among the last `most`.
    fn remove_keys(
        &self,
        cutoff: Timestamp,
        most: u64,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>>;

    /// Removes results that were cached before `cutoff`.
    fn remove_cached_results(
        &self,
        cutoff: Timestamp,
        dry: bool,
    ) -> BoxFuture<'_, Result<Amount, StoreError>>;

    /// When the oldest of the runs was requested that somebody drives now.
    fn oldest_driven(&self) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;

    /// Shows every text that may name an artifact: plans, records, signals, cached results.
    fn show_texts<'a>(
        &'a self,
        gone: &'a BTreeSet<RunId>,
        see: &'a mut (dyn FnMut(&[u8]) + Send),
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What a store of logs can do for a pass.
pub(crate) trait LogRetention: Send + Sync {
    /// Lets each log have at most so many bytes, from now on.
    fn limit(&self, bytes: u64);

    /// The runs that have logs.
    fn runs(&self) -> BoxFuture<'_, Result<Vec<RunId>, StoreError>>;

    /// Removes the logs of runs.
    fn remove(&self, runs: Vec<RunId>, dry: bool) -> BoxFuture<'_, Result<Amount, StoreError>>;
}

pub(crate) async fn prune(
    retention: &dyn Retention,
    logs: &dyn LogRetention,
    artifacts: &dyn ArtifactRetention,
    rules: &PruneRules,
    dry: bool,
) -> Result<PruneReport, StoreError> {
    let mut report = PruneReport::default();
    let cutoff = rules.older_than.map(|age| rules.before(age));
    if cutoff.is_some() || rules.keep_last.is_some() {
        let choice = Choice { ended_before: cutoff, keep_last: rules.keep_last };
        let chosen = retention.choose(choice).await?;
        for some in chosen.chunks(RUNS_AT_ONCE) {
            let gone = retention.remove_runs(some.to_vec(), dry).await?;
            report.records.add(gone.records);
            report.logs.add(logs.remove(gone.runs.clone(), dry).await?);
            report.runs.extend(gone.runs);
        }
    }
    let gone: BTreeSet<RunId> = report.runs.iter().cloned().collect();

    // Asked in this order: a run that begins in between has its logs after both.
    let mut logged = logs.runs().await?;
    logged.retain(|run| !gone.contains(run));
    let left_behind = retention.unknown(logged).await?;
    report.logs.add(logs.remove(left_behind, dry).await?);

    report.plans = retention.remove_plans(&gone, dry).await?;
    // Before the events, so that the keys of those that go now are there at least until the next pass.
    let age = rules.older_than.unwrap_or_default().saturating_add(rules.keys_kept);
    report.keys = retention.remove_keys(rules.before(age), rules.most_keys, dry).await?;
    if let Some(cutoff) = cutoff {
        report.events = retention.remove_events(cutoff, &gone, dry).await?;
    }
    report.artifacts = remove_artifacts(retention, artifacts, rules, &gone, dry).await?;
    // After the artifacts, so that what these results name is not taken from under a run that has
    // just recalled one and not written it down yet.
    if let Some(cutoff) = cutoff {
        report.cached_results = retention.remove_cached_results(cutoff, dry).await?;
    }
    Ok(report)
}

async fn remove_artifacts(
    retention: &dyn Retention,
    artifacts: &dyn ArtifactRetention,
    rules: &PruneRules,
    gone: &BTreeSet<RunId>,
    dry: bool,
) -> Result<Amount, StoreError> {
    let fail = |source: ArtifactError| StoreError::Unavailable {
        doing: "remove artifacts".to_owned(),
        source: source.into(),
    };
    let mut before = rules.before(ARTIFACT_GRACE);
    // An attempt may be longer than the grace, and tell of its artifacts only at its end.
    if let Some(since) = retention.oldest_driven().await? {
        before = before.min(since);
    }
    let mut unnamed = artifacts.older(before, dry).await.map_err(fail)?;
    if unnamed.is_empty() {
        return Ok(Amount::default());
    }
    let mut see = |text: &[u8]| {
        for digest in digests(text) {
            unnamed.remove(digest);
        }
    };
    retention.show_texts(gone, &mut see).await?;
    let mut amount = Amount::default();
    for (digest, bytes) in unnamed {
        let Ok(digest) = digest.parse::<Digest>() else { continue };
        if dry || artifacts.remove(&digest, before).await.map_err(fail)? {
            amount.one(bytes);
        }
    }
    Ok(amount)
}

/// Every `sha256:…` and `sha512:…` in a text, wherever it stands.
fn digests(text: &[u8]) -> impl Iterator<Item = &str> {
    const ALGORITHMS: [(&[u8], usize); 2] = [(b"sha256:", 64), (b"sha512:", 128)];
    let colons = text.iter().enumerate().filter(|&(_, &byte)| byte == b':').map(|(at, _)| at);
    colons.filter_map(|colon| {
        let start = (colon + 1).checked_sub(7)?;
        let (_, hex) = ALGORITHMS.into_iter().find(|(name, _)| text[start..].starts_with(name))?;
        let whole = text.get(start..start + 7 + hex)?;
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        whole[7..].iter().all(is_hex).then_some(())?;
        std::str::from_utf8(whole).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let (short, long) = ("a1".repeat(32), "b2".repeat(64));
        let text = format!(
            "sha256:{short}\"sha512:{long}, sha256:{}, xsha256:{short}@sha512:{short} :sha256:",
            "A".repeat(64)
        );
        let found: Vec<&str> = digests(text.as_bytes()).collect();
        let (short, long) = (format!("sha256:{short}"), format!("sha512:{long}"));
        assert_eq!(found, [&short, &long, &short]);
    }
}
