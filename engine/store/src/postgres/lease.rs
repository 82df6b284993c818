//! Leases as rows that end by themselves: one task renews those of this store, all in one statement,
//! and tells their holders when they may have become another's.
//!
//! Time is measured twice. The end of a lease is by the server's clock, which every process sees;
//! how old the last renewal is, is measured here by a clock that only goes forward, from before the
//! renewal was asked for. So a holder always believes its lease to end before it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fairlead_run::{Epoch, Lease, LeaseError, StoreError};
use fairlead_step::{CancelHandle, CancelToken, RunId};
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Pool, on};
use crate::values::counted;

/// How often renewing and giving back are tried while the server does not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Names one holding of one lease.
type Token = i64;

struct Held {
    /// From before the last renewal that succeeded was asked for.
    since: Instant,
    lost: CancelHandle,
}

#[derive(Default)]
struct State {
    held: BTreeMap<Token, Held>,
    /// Given back, and not yet removed. They count as free for this store already.
    given_back: BTreeSet<Token>,
    closed: bool,
}

struct Inner {
    /// Which store this is, among all that share the database.
    holder: String,
    ttl: Duration,
    state: Mutex<State>,
    changed: Notify,
}

/// Gives a lease back when dropped.
struct Guard {
    token: Token,
    inner: Arc<Inner>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        // Whoever listens hears that it is over, if it did not hear that it is lost.
        state.held.remove(&self.token);
        state.given_back.insert(self.token);
        drop(state);
        self.inner.changed.notify_one();
    }
}

pub(super) struct Leases {
    inner: Arc<Inner>,
    pool: Pool,
}

impl Leases {
    pub(super) fn start(pool: Pool, ttl: Duration) -> Self {
        let inner = Arc::new(Inner {
            holder: format!("{:016x}", rand::random::<u64>()),
            ttl,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(renew(Arc::downgrade(&inner), pool.clone()));
        Self { inner, pool }
    }

    /// The leases that this store has given back, though the rows may still be there.
    pub(super) fn given_back(&self) -> Vec<Token> {
        self.inner.state().given_back.iter().copied().collect()
    }

    pub(super) async fn acquire(&self, pool: &Pool, run: RunId) -> Result<Lease, LeaseError> {
        let asked = Instant::now();
        // Dropped unless the lease is ours; a row whose answer got lost is then removed.
        let guard = Guard { token: rand::random(), inner: Arc::clone(&self.inner) };
        let (token, free) = (guard.token, self.given_back());
        let (holder, ttl) = (self.inner.holder.clone(), self.inner.ttl);
        let id = run.clone();
        let work =
            on(move |db| Box::pin(take(db, id.clone(), holder.clone(), token, ttl, free.clone())));
        match pool.call(|| format!("take the lease of run {run}"), work).await? {
            Taken::Yes(epoch) => {
                let epoch = Epoch(counted(epoch).map_err(LeaseError::Store)?);
                let (lost, token) = CancelToken::new();
                self.inner.state().held.insert(guard.token, Held { since: asked, lost });
                self.inner.changed.notify_one();
                Ok(Lease::new(run, epoch, token, Box::new(guard)))
            }
            Taken::ByAnother => {
                self.inner.forget(&[guard.token]);
                Err(LeaseError::Held { run })
            }
            Taken::NoRun => Err(StoreError::NoSuchRun { run }.into()),
        }
    }

    /// Ends the task that renews, as if the process had been stopped.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.inner.state().closed = true;
        self.inner.changed.notify_one();
    }

    /// Gives back what is to be given back.
    pub(super) async fn close(&self) {
        let free = {
            let mut state = self.inner.state();
            state.closed = true;
            state.given_back.iter().copied().collect::<Vec<_>>()
        };
        self.inner.changed.notify_one();
        if let Err(error) = give_back(&self.pool, free).await {
            tracing::debug!(%error, "leases were not given back; they end by themselves");
        }
        self.pool.close().await;
    }
}

enum Taken {
    Yes(i64),
    ByAnother,
    NoRun,
}

async fn take(
    db: &mut PgConnection,
    run: RunId,
    holder: String,
    token: Token,
    ttl: Duration,
    free: Vec<Token>,
) -> sqlx::Result<Taken> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "WITH taken AS (\
           INSERT INTO lease (run, holder, token, until) \
           SELECT id, $2, $3, clock_timestamp() + $4 * interval '1 microsecond' \
           FROM run WHERE id = $1 \
           ON CONFLICT (run) DO UPDATE \
           SET holder = excluded.holder, token = excluded.token, until = excluded.until \
           WHERE lease.until <= clock_timestamp() OR lease.token = ANY ($5) \
           RETURNING run) \
         UPDATE run SET epoch = epoch + 1 FROM taken WHERE run.id = taken.run RETURNING run.epoch",
    )
    .bind(run.as_str())
    .bind(holder)
    .bind(token)
    .bind(micros(ttl))
    .bind(free)
    .fetch_optional(&mut *db)
    .await?;
    if let Some(epoch) = epoch {
        return Ok(Taken::Yes(epoch));
    }
    let there: Option<i32> = sqlx::query_scalar("SELECT 1 FROM run WHERE id = $1")
        .bind(run.as_str())
        .fetch_optional(db)
        .await?;
    Ok(if there.is_some() { Taken::ByAnother } else { Taken::NoRun })
}

fn micros(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}

async fn give_back(pool: &Pool, tokens: Vec<Token>) -> Result<(), StoreError> {
    if tokens.is_empty() {
        return Ok(());
    }
    pool.call(
        || "give leases back".to_owned(),
        move |db| {
            let tokens = tokens.clone();
            Box::pin(async move {
                let query = sqlx::query("DELETE FROM lease WHERE token = ANY ($1)").bind(tokens);
                query.execute(db).await.map(|_| ())
            })
        },
    )
    .await
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, tokens: &[Token]) {
        let mut state = self.state();
        for token in tokens {
            state.given_back.remove(token);
        }
    }

    /// When a lease counts as lost that was last renewed at `since`.
    fn lost_at(&self, since: Instant) -> Instant {
        since + self.ttl * 2 / 3
    }

    /// Tells the holders of leases that were not renewed in time. Asked before anything else: the
    /// process may have been stopped for longer than a lease lasts.
    fn give_up_the_late(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let late: Vec<Token> = state
            .held
            .iter()
            .filter(|(_, held)| self.lost_at(held.since) <= now)
            .map(|(token, _)| *token)
            .collect();
        give_up(&mut state, &late);
    }

    /// What to renew, and when the first of it counts as lost; none before it is time.
    fn due(&self) -> Option<(Vec<Token>, Instant)> {
        let state = self.state();
        let oldest = state.held.values().map(|held| held.since).min()?;
        let due = oldest + self.ttl / 3 <= Instant::now();
        due.then(|| (state.held.keys().copied().collect(), self.lost_at(oldest)))
    }

    /// Takes in that of `asked` only `renewed` are still ours.
    fn renewed(&self, asked: &[Token], renewed: &[Token], since: Instant) {
        let renewed: BTreeSet<Token> = renewed.iter().copied().collect();
        let mut state = self.state();
        for token in &renewed {
            if let Some(held) = state.held.get_mut(token) {
                held.since = since;
            }
        }
        let gone: Vec<Token> =
            asked.iter().filter(|token| !renewed.contains(token)).copied().collect();
        give_up(&mut state, &gone);
    }

    /// How long there is nothing to do.
    fn rest(&self) -> Duration {
        let now = Instant::now();
        let state = self.state();
        let next = state.held.values().map(|held| held.since + self.ttl / 3).min();
        next.map_or(self.ttl, |next| next.saturating_duration_since(now))
    }

    async fn round(&self, pool: &Pool) -> Duration {
        self.give_up_the_late();
        if let Some((tokens, until)) = self.due() {
            let since = Instant::now();
            let work = renew_rows(pool, self.holder.clone(), tokens.clone(), self.ttl);
            match timeout_at(until, work).await {
                Ok(Ok(renewed)) => self.renewed(&tokens, &renewed, since),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "leases were not renewed");
                    self.give_up_the_late();
                    return AGAIN.min(until.saturating_duration_since(Instant::now()));
                }
                Err(_) => self.give_up_the_late(),
            }
        }
        let free: Vec<Token> = self.state().given_back.iter().copied().collect();
        if !free.is_empty() {
            let until = Instant::now() + self.rest().min(self.ttl / 3);
            match timeout_at(until, give_back(pool, free.clone())).await {
                Ok(Ok(())) => self.forget(&free),
                Ok(Err(_)) | Err(_) => return AGAIN.min(self.rest()),
            }
        }
        self.rest()
    }
}

fn give_up(state: &mut State, tokens: &[Token]) {
    for token in tokens {
        if let Some(held) = state.held.remove(token) {
            held.lost.cancel();
        }
    }
}

async fn renew_rows(
    pool: &Pool,
    holder: String,
    tokens: Vec<Token>,
    ttl: Duration,
) -> Result<Vec<Token>, StoreError> {
    pool.call(
        || "renew leases".to_owned(),
        move |db| {
            let (holder, tokens) = (holder.clone(), tokens.clone());
            Box::pin(async move {
                sqlx::query_scalar(
                    "UPDATE lease SET until = clock_timestamp() + $3 * interval '1 microsecond' \
                     WHERE holder = $1 AND token = ANY ($2) RETURNING token",
                )
                .bind(holder)
                .bind(tokens)
                .bind(micros(ttl))
                .fetch_all(db)
                .await
            })
        },
    )
    .await
}

/// Lasts as long as the store, or a lease that it gave.
async fn renew(inner: Weak<Inner>, pool: Pool) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        if inner.state().closed {
            return;
        }
        let rest = inner.round(&pool).await;
        // The store must be able to go while nothing is to be done.
        let rest = rest.min(Duration::from_secs(1));
        let _ = tokio::time::timeout(rest, inner.changed.notified()).await;
    }
}
