//! The one task that appends. It takes every batch that waits and writes all of them in one
//! statement: many runs share the cost of one round trip and of one sync to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fairlead_run::{AppendError, Batch, Epoch};
use fairlead_step::RunId;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::{
    CONNECT_DEADLINE, DEADLINE, FRESH, TRIES, connect, is_gone, late, may_succeed_now, store_error,
    unavailable,
};
use crate::accept::Follows;
use crate::runs::Stand;
use crate::values::{micros, stored};

/// Batches that may wait. Each is one run's next step, so a longer queue would only hide that the
/// server is slower than the work.
const QUEUE: usize = 1024;
/// The most batches in one statement, so that the first of them does not wait for ever.
const MOST_IN_ONE: usize = 128;
/// The most bytes of records in one statement, beside its first batch.
const MOST_BYTES: usize = 8 << 20;
/// How long a caller waits: for the statement that is under way, and for its own.
const PATIENCE: Duration = DEADLINE.saturating_mul(2);

/// Statements look up a few rows by their keys, whatever the server believes of sizes that it has
/// not looked at lately.
const PLANNING: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan";

/// A batch whose caller waits.
struct Waiting {
    batch: Batch,
    follows: Follows,
    reply: oneshot::Sender<Result<bool, AppendError>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.batch.records.iter().map(|record| record.bytes().len()).sum()
    }
}

/// The handle to the task.
pub(super) struct Appender(mpsc::Sender<Option<Waiting>>);

impl Appender {
    pub(super) fn start(options: PgConnectOptions, schema: String) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { options, schema, db: None, used: Instant::now() }.run(receiver));
        Self(sender)
    }

    /// Writes a batch, and answers whether that can admit another run.
    pub(super) async fn append(&self, batch: Batch, follows: Follows) -> Result<bool, AppendError> {
        let run = batch.run.clone();
        let doing = || format!("append to run {run}");
        let stopped = || unavailable(doing(), "the store is closed");
        let (reply, answer) = oneshot::channel();
        let written = async {
            let waiting = Some(Waiting { batch, follows, reply });
            self.0.send(waiting).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        match timeout(PATIENCE, written).await {
            Ok(done) => done,
            Err(_) => Err(store_error(doing(), late()).into()),
        }
    }

    /// Lets what was asked for be written, and closes the connection.
    pub(super) async fn close(&self) {
        if self.0.send(None).await.is_ok() {
            self.0.closed().await;
        }
    }
}

struct Writer {
    options: PgConnectOptions,
    schema: String,
    db: Option<PgConnection>,
    used: Instant,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Option<Waiting>>) {
        let mut arrived = Vec::new();
        // What has to wait for the next statement.
        let mut later: Vec<Waiting> = Vec::new();
        let mut open = true;
        while open || !later.is_empty() {
            if later.is_empty() && queue.recv_many(&mut arrived, MOST_IN_ONE).await == 0 {
                break;
            }
            while arrived.len() < MOST_IN_ONE
                && let Ok(more) = queue.try_recv()
            {
                arrived.push(more);
            }
            for waiting in arrived.drain(..) {
                match waiting {
                    Some(waiting) => later.push(waiting),
                    None => open = false,
                }
            }
            let (now, rest) = select(std::mem::take(&mut later));
            later = rest;
            self.write(now).await;
        }
        if let Some(db) = self.db {
            let _ = timeout(CONNECT_DEADLINE, db.close()).await;
        }
    }

    async fn write(&mut self, all: Vec<Waiting>) {
        let done = self.transact(&all.iter().collect::<Vec<_>>()).await;
        match done {
            Ok(mut moved) => {
                for waiting in all {
                    let answer = moved.remove(&waiting.batch.run);
                    answer_one(waiting, answer);
                }
            }
            // What the server refuses of one must not hold up the others.
            Err(error) if all.len() > 1 && !is_gone(&error) => {
                for waiting in all {
                    match self.transact(&[&waiting]).await {
                        Ok(mut moved) => {
                            let answer = moved.remove(&waiting.batch.run);
                            answer_one(waiting, answer);
                        }
                        Err(error) => fail_one(waiting, &Arc::new(error)),
                    }
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                all.into_iter().for_each(|waiting| fail_one(waiting, &error));
            }
        }
    }

    /// Writes batches of different runs. Answers, for each run that is there, whether its batch was
    /// written.
    async fn transact(&mut self, all: &[&Waiting]) -> sqlx::Result<BTreeMap<RunId, Answer>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let schema = self.schema.clone();
            let db = self.connection().await?;
            let done = timeout(DEADLINE, append(db, &schema, all)).await;
            let done = done.unwrap_or_else(|_| Err(late()));
            self.used = Instant::now();
            match done {
                Err(error) if tries < TRIES && may_succeed_now(&error) => {}
                Err(error) => {
                    if is_gone(&error) {
                        self.db = None;
                    }
                    return Err(error);
                }
                Ok(answers) => return Ok(answers),
            }
        }
    }

    async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        if let Some(db) = &mut self.db
            && self.used.elapsed() > FRESH
            && !timeout(CONNECT_DEADLINE, db.ping()).await.is_ok_and(|ping| ping.is_ok())
        {
            self.db = None;
        }
        match &mut self.db {
            Some(db) => Ok(db),
            none => {
                let mut db = connect(&self.options).await?;
                db.execute(PLANNING).await?;
                Ok(none.insert(db))
            }
        }
    }
}

/// The batches for one statement: no run twice, and not too many bytes. The order of each run's
/// batches stays.
fn select(waiting: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let (mut now, mut later) = (Vec::new(), Vec::new());
    let mut runs = BTreeSet::new();
    let mut bytes = 0;
    for waiting in waiting {
        let size = waiting.bytes();
        let fits = now.is_empty() || (now.len() < MOST_IN_ONE && bytes + size <= MOST_BYTES);
        // One that waits keeps those behind it of the same run waiting, too.
        if runs.insert(waiting.batch.run.clone()) && fits {
            bytes += size;
            now.push(waiting);
        } else {
            later.push(waiting);
        }
    }
    (now, later)
}

/// What became of a batch.
pub(super) enum Answer {
    /// It was written; whether that can admit another run.
    Written(bool),
    /// It was not, because its run stands elsewhere.
    Refused(Stand),
}

fn answer_one(waiting: Waiting, answer: Option<Answer>) {
    let Waiting { batch, follows, reply } = waiting;
    // Whoever asked may have gone; what was written stays written.
    let _ = reply.send(answer_of(batch.run, batch.epoch, follows, answer));
}

pub(super) fn answer_of(
    run: RunId,
    held: Epoch,
    follows: Follows,
    answer: Option<Answer>,
) -> Result<bool, AppendError> {
    match answer {
        Some(Answer::Written(frees)) => Ok(frees),
        Some(Answer::Refused(stand)) => Err(Stand::refusal(Some(stand), run, held, follows)),
        None => Err(Stand::refusal(None, run, held, follows)),
    }
}

fn fail_one(waiting: Waiting, error: &Arc<sqlx::Error>) {
    let doing = format!("append to run {}", waiting.batch.run);
    let _ = waiting.reply.send(Err(unavailable(doing, Arc::clone(error)).into()));
}

macro_rules! append {
    ($then:literal, $select:literal) => {
        concat!(
            "WITH moved AS (\
               UPDATE run SET seq = coalesce(given.last, run.seq), status = given.status, \
                 ended_at = given.ended_at, wake_at = given.wake_at \
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], \
                 $6::bigint[], $7::bigint[]) \
                 AS given (run, epoch, before, last, status, ended_at, wake_at) \
               WHERE run.id = given.run AND run.epoch = given.epoch AND run.ended_at IS NULL \
                 AND (given.before IS NULL OR run.seq = given.before) \
               RETURNING run.id, run.ended_at IS NOT NULL AS ended, \
                 run.status IN ('waiting', 'needs-attention') AS rests, \
                 run.admitted OR run.group_name IS NOT NULL AS has_place), \
             put AS (\
               INSERT INTO record (run, seq, bytes) SELECT new.run, new.seq, new.bytes \
               FROM unnest($8::text[], $9::bigint[], $10::text[]) AS new (run, seq, bytes) \
               WHERE (new.run IN (SELECT id FROM moved)) IS TRUE)",
            $then,
            $select
        )
    };
}

/// The runs move and their records land.
const APPEND: &str = append!("", " SELECT id, false FROM moved");
/// And signals go, and whoever waits to be admitted is woken.
const APPEND_AND_FORGET: &str = append!(
    ", gone AS (DELETE FROM signal USING moved WHERE signal.run = moved.id \
       AND (moved.ended OR signal.number = ANY ($11))), \
     told AS MATERIALIZED (SELECT pg_notify($12, $13) FROM moved \
       WHERE (ended OR rests) AND has_place LIMIT 1)",
    " SELECT id, (ended OR rests) AND has_place FROM moved LEFT JOIN told ON true"
);

/// Writes batches of different runs in one statement.
async fn append(
    db: &mut PgConnection,
    schema: &str,
    all: &[&Waiting],
) -> sqlx::Result<BTreeMap<RunId, Answer>> {
    let batches: Vec<(&Batch, Follows)> =
        all.iter().map(|waiting| (&waiting.batch, waiting.follows)).collect();
    append_all(db, schema, &batches).await
}

pub(super) async fn append_all(
    db: &mut PgConnection,
    schema: &str,
    all: &[(&Batch, Follows)],
) -> sqlx::Result<BTreeMap<RunId, Answer>> {
    let runs: Vec<&str> = all.iter().map(|(batch, _)| batch.run.as_str()).collect();
    let records: Vec<_> = all
        .iter()
        .flat_map(|(batch, _)| batch.records.iter().map(|record| (batch.run.as_str(), record)))
        .collect();
    let taken: Vec<i64> =
        all.iter().flat_map(|(batch, _)| &batch.taken).map(|signal| stored(signal.0)).collect();
    let frees =
        |(batch, follows): &(&Batch, Follows)| follows.ended_at.is_some() || batch.status.rests();
    let forgets = !taken.is_empty() || all.iter().any(frees);
    let column = |of: &dyn Fn(&Batch, Follows) -> Option<i64>| -> Vec<Option<i64>> {
        all.iter().map(|(batch, follows)| of(batch, *follows)).collect()
    };
    let mut query = sqlx::query_as(if forgets { APPEND_AND_FORGET } else { APPEND })
        .bind(&runs)
        .bind(all.iter().map(|(batch, _)| stored(batch.epoch.0)).collect::<Vec<_>>())
        .bind(column(&|_, follows| follows.before.map(|seq| stored(seq.0))))
        .bind(column(&|batch, _| batch.records.last().map(|record| stored(record.seq().0))))
        .bind(all.iter().map(|(batch, _)| batch.status.name()).collect::<Vec<_>>())
        .bind(column(&|_, follows| follows.ended_at.map(micros)))
        .bind(column(&|batch, follows| {
            batch.wake_at.filter(|_| follows.ended_at.is_none()).map(micros)
        }))
        .bind(records.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        .bind(records.iter().map(|(_, record)| stored(record.seq().0)).collect::<Vec<_>>())
        .bind(records.iter().map(|(_, record)| record.bytes()).collect::<Vec<_>>());
    if forgets {
        query = query.bind(taken).bind(super::wakes::CHANNEL).bind(super::wakes::admission(schema));
    }
    let moved: Vec<(String, bool)> = query.fetch_all(&mut *db).await?;
    let mut answers = BTreeMap::new();
    for (run, frees) in moved {
        if let Ok(run) = run.parse() {
            answers.insert(run, Answer::Written(frees));
        }
    }
    if answers.len() < all.len() {
        let stands: Vec<(String, i64, i64, Option<i64>)> =
            sqlx::query_as("SELECT id, seq, epoch, ended_at FROM run WHERE id = ANY ($1)")
                .bind(&runs)
                .fetch_all(db)
                .await?;
        for (run, seq, epoch, ended_at) in stands {
            if let Ok(run) = run.parse() {
                answers.entry(run).or_insert(Answer::Refused(Stand(seq, epoch, ended_at)));
            }
        }
    }
    Ok(answers)
}
