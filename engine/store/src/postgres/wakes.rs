//! Hints between the processes that share a database: `NOTIFY` by whoever has one, `LISTEN` on one
//! connection of whoever wants them. A process that died says nothing: the same connection looks for
//! leases that have ended, when the first of them would.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::Wake;
use fairlead_step::RunId;
use futures::stream::BoxStream;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Begun, CONNECT_DEADLINE};
use crate::notifier::Notifier;

/// The channel of every store in a database. What is said names the schema first: channels are not
/// of a schema, and their names are not as free as those are.
pub(super) const CHANNEL: &str = "fairlead_wakes";

/// Between two tries to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The least time between two looks at the leases.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The most leases that one look sees, those that end first.
const LEASES: i64 = 1000;

/// What is said of admission in a schema.
pub(super) fn admission(schema: &str) -> String {
    format!("{schema}\nturns")
}

/// What is said of a run.
pub(super) fn run(schema: &str, run: &RunId) -> String {
    format!("{schema}\n{run}")
}

fn heard(schema: &str, said: &str) -> Option<Wake> {
    let (theirs, what) = said.rsplit_once('\n')?;
    match what {
        _ if theirs != schema => None,
        "turns" => Some(Wake::Admission),
        run => run.parse().ok().map(Wake::Run),
    }
}

pub(super) struct Wakes {
    options: PgConnectOptions,
    pub(super) schema: String,
    /// How long a lease lasts.
    ttl: Duration,
    notifier: Arc<Notifier>,
    /// Begun by the first who listens, because it is a connection, and most commands do not listen.
    listener: Begun,
}

impl Wakes {
    pub(super) fn new(options: PgConnectOptions, schema: String, ttl: Duration) -> Self {
        Self { options, schema, ttl, notifier: Arc::default(), listener: Begun::new() }
    }

    /// Rings here; the others are told by the statement that gave rise to it.
    pub(super) fn notify(&self, wake: Wake) {
        self.notifier.notify(wake);
    }

    pub(super) fn listen(&self) -> BoxStream<'static, Wake> {
        let stream = self.notifier.listen();
        self.listener.get_or_init(|| {
            let (options, schema) = (self.options.clone(), self.schema.clone());
            tokio::spawn(listen(options, schema, self.ttl, Arc::clone(&self.notifier)))
                .abort_handle()
        });
        stream
    }

    pub(super) fn end(&self) {
        self.notifier.silence();
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.end();
    }
}

async fn listen(options: PgConnectOptions, schema: String, ttl: Duration, notifier: Arc<Notifier>) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_DEADLINE)
        .connect_lazy_with(options);
    let mut backoff = BACKOFF.0;
    loop {
        match begin(&pool).await {
            Ok(mut listener) => {
                backoff = BACKOFF.0;
                // Whatever was said until now was not heard.
                notifier.notify(Wake::All);
                let error = hear(&mut listener, &schema, ttl, &notifier).await;
                tracing::warn!(%error, "the database's hints are not heard; connecting again");
            }
            Err(error) => tracing::debug!(%error, "the database's hints are not heard yet"),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

async fn begin(pool: &PgPool) -> sqlx::Result<PgListener> {
    let begun = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    timeout(CONNECT_DEADLINE, begun).await.unwrap_or_else(|_| Err(super::late()))
}

/// Passes on what is heard, and rings for the runs whose leases end, until the connection breaks.
async fn hear(
    listener: &mut PgListener,
    schema: &str,
    ttl: Duration,
    notifier: &Notifier,
) -> sqlx::Error {
    // A connection that broke without a word is silent: the looks tell that, too.
    let mut look = Instant::now();
    loop {
        match timeout_at(look, listener.try_recv()).await {
            Ok(Ok(Some(said))) => {
                if let Some(wake) = heard(schema, said.payload()) {
                    notifier.notify(wake);
                }
            }
            Ok(Ok(None)) => return sqlx::Error::WorkerCrashed,
            Ok(Err(error)) => return error,
            Err(_) => {
                let looked = timeout(CONNECT_DEADLINE, lapsed(listener)).await;
                match looked.unwrap_or_else(|_| Err(super::late())) {
                    Ok((runs, next)) => {
                        for run in runs {
                            notifier.notify(Wake::Run(run));
                        }
                        // One that is taken meanwhile does not end before that, either.
                        look = Instant::now() + next.unwrap_or(ttl).clamp(LOOK_AGAIN, ttl);
                    }
                    Err(error) => return error,
                }
            }
        }
    }
}

/// The runs whose leases were not renewed: their holder has died, or let them go and could not say so.
/// Whoever takes such a run up removes its lease. Answers also when the next one ends, unless it is
/// renewed.
async fn lapsed(listener: &mut PgListener) -> sqlx::Result<(Vec<RunId>, Option<Duration>)> {
    let leases: Vec<(String, i64)> = sqlx::query_as(
        "SELECT run, (extract(epoch FROM until - clock_timestamp()) * 1000000)::bigint \
         FROM lease ORDER BY until LIMIT $1",
    )
    .bind(LEASES)
    .fetch_all(&mut *listener)
    .await?;
    let left = |micros: i64| u64::try_from(micros).ok().filter(|left| *left > 0);
    let next = leases.iter().find_map(|(_, micros)| left(*micros)).map(Duration::from_micros);
    let ended = leases.into_iter().take_while(|(_, micros)| left(*micros).is_none());
    Ok((ended.filter_map(|(run, _)| run.parse().ok()).collect(), next))
}
