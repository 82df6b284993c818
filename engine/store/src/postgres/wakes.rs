//! Hints between the processes that share a database: `NOTIFY` by whoever has one, `LISTEN` on one
//! connection of whoever wants them.

use std::sync::Arc;
use std::time::Duration;

use fairlead_run::Wake;
use fairlead_step::RunId;
use futures::stream::BoxStream;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::time::timeout;

use super::{Begun, CONNECT_DEADLINE};
use crate::bell::Bell;

/// The channel of every store in a database. What is said names the schema first: channels are not
/// of a schema, and their names are not as free as those are.
pub(super) const CHANNEL: &str = "fairlead_wakes";

/// Between two tries to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// After so much silence the server is asked whether it is there: a connection that broke without a
/// word is silent, too.
const SILENCE: Duration = Duration::from_secs(30);

/// What is said of the turns in a schema.
pub(super) fn turns(schema: &str) -> String {
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
        "turns" => Some(Wake::Turns),
        run => run.parse().ok().map(Wake::Run),
    }
}

pub(super) struct Wakes {
    options: PgConnectOptions,
    pub(super) schema: String,
    bell: Arc<Bell>,
    /// Begun by the first who listens, because it is a connection, and most commands do not listen.
    listener: Begun,
}

impl Wakes {
    pub(super) fn new(options: PgConnectOptions, schema: String) -> Self {
        Self { options, schema, bell: Arc::default(), listener: Begun::new() }
    }

    /// Rings here; the others are told by the statement that gave rise to it.
    pub(super) fn ring(&self, wake: Wake) {
        self.bell.ring(wake);
    }

    pub(super) fn listen(&self) -> BoxStream<'static, Wake> {
        let stream = self.bell.listen();
        self.listener.get_or_init(|| {
            let (options, schema) = (self.options.clone(), self.schema.clone());
            tokio::spawn(listen(options, schema, Arc::clone(&self.bell))).abort_handle()
        });
        stream
    }

    pub(super) fn end(&self) {
        self.bell.silence();
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

async fn listen(options: PgConnectOptions, schema: String, bell: Arc<Bell>) {
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
                bell.ring(Wake::All);
                let error = hear(&mut listener, &schema, &bell).await;
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

/// Passes on what is heard, until the connection breaks.
async fn hear(listener: &mut PgListener, schema: &str, bell: &Bell) -> sqlx::Error {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(said))) => {
                if let Some(wake) = heard(schema, said.payload()) {
                    bell.ring(wake);
                }
            }
            Ok(Ok(None)) => return sqlx::Error::WorkerCrashed,
            Ok(Err(error)) => return error,
            Err(_) => {
                let asked = sqlx::query("SELECT 1").execute(&mut *listener);
                match timeout(CONNECT_DEADLINE, asked).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return super::late(),
                }
            }
        }
    }
}
