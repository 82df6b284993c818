//! What every store refuses, whatever it is kept in.

use fairlead_run::{
    AppendError, Batch, MAX_CHECKPOINT_BYTES, NewDelivery, NewEvent, NewRun, Record, Request,
    RunEvent, RunStatus, Seq, StoreError,
};
use fairlead_step::RunId;
use jiff::Timestamp;

/// The request of a new run, when it is one that fits.
pub(crate) fn new_run(run: &NewRun) -> Result<&Request, StoreError> {
    let fail =
        |problem: &str| StoreError::BadRun { run: run.id.clone(), problem: problem.to_owned() };
    let RunEvent::Requested(request) = run.first.event() else {
        return Err(fail("its first record is not a request"));
    };
    if request.plan != *run.plan.digest() {
        return Err(fail("its request names another plan"));
    }
    if request.group.as_ref() != run.group.as_ref().map(|group| &group.name) {
        return Err(fail("its request names another group"));
    }
    if run.first.seq() == Seq(1) {
        Ok(request)
    } else {
        Err(fail("its first record is not number 1"))
    }
}

/// A new run names another one, from which it begins, that is not there.
pub(crate) fn no_origin(run: &NewRun, origin: &RunId) -> StoreError {
    let problem = format!("run {origin}, from which it begins, is not there");
    StoreError::BadRun { run: run.id.clone(), problem }
}

/// A new run names an event that is not there.
pub(crate) fn no_event(run: &NewRun, key: &str) -> StoreError {
    let problem = format!("event `{key}`, which should start it, is not stored");
    StoreError::BadRun { run: run.id.clone(), problem }
}

/// What follows from the records of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follows {
    /// The place behind which the records are to stand; none when there are none.
    pub(crate) before: Option<Seq>,
    /// When the run ended, if it does.
    pub(crate) ended_at: Option<Timestamp>,
}

impl Follows {
    /// The place that a conflict is about.
    pub(crate) fn expected(self) -> Seq {
        self.before.unwrap_or_default()
    }
}

/// Looks whether a batch makes sense by itself: its records follow one another, and it says that the
/// run ended when they do.
pub(crate) fn batch(batch: &Batch) -> Result<Follows, AppendError> {
    for pair in batch.records.windows(2) {
        let (expected, found) = (pair[0].seq().next(), pair[1].seq());
        if expected != found {
            return Err(AppendError::Conflict { run: batch.run.clone(), expected, found });
        }
    }
    let end = batch.records.iter().find_map(|record| {
        let outcome = record.event().ends_as()?;
        Some((record.seq(), record.at(), outcome))
    });
    let last = batch.records.last().map(Record::seq);
    let ended_at = match (end, batch.status) {
        (Some((seq, at, outcome)), RunStatus::Ended(said))
            if outcome == said && last == Some(seq) =>
        {
            Some(at)
        }
        (None, status) if !matches!(status, RunStatus::Ended(_)) => None,
        (_, status) => {
            let problem = format!("its status `{status}` does not fit its records");
            return Err(StoreError::BadBatch { run: batch.run.clone(), problem }.into());
        }
    };
    let first = batch.records.first();
    let before = first.map(|first| Seq(first.seq().0.saturating_sub(1)));
    Ok(Follows { before, ended_at })
}

/// What every event store refuses about a new event.
pub(crate) fn new_event(event: &NewEvent) -> Result<(), StoreError> {
    let size = event.document.len();
    if size > NewEvent::MAX_BYTES {
        return Err(StoreError::TooLarge {
            what: format!("event `{}`", event.id),
            size,
            limit: NewEvent::MAX_BYTES,
        });
    }
    Ok(())
}

/// What every store refuses about a checkpoint.
pub(crate) fn checkpoint(name: &str, body: &str) -> Result<(), StoreError> {
    let (size, limit) = (body.len(), MAX_CHECKPOINT_BYTES);
    if size > limit {
        return Err(StoreError::TooLarge { what: format!("checkpoint `{name}`"), size, limit });
    }
    Ok(())
}

/// What every store refuses about messages to others.
pub(crate) fn new_deliveries(messages: &[NewDelivery]) -> Result<(), StoreError> {
    let limit = NewDelivery::MAX_BYTES;
    let large = messages.iter().find(|message| message.document.len() > limit);
    large.map_or(Ok(()), |message| {
        let what = format!("message `{}`", message.id);
        Err(StoreError::TooLarge { what, size: message.document.len(), limit })
    })
}

/// The most bytes of a signal: a settlement carries the outputs of a step, which are at most 1 MiB.
const MOST_OF_SIGNAL: usize = 2 << 20;

/// The stored form of a signal.
pub(crate) fn signal(signal: &fairlead_run::Signal) -> Result<String, StoreError> {
    let text = signal.encode().map_err(|error| StoreError::Unavailable {
        doing: "post a signal".to_owned(),
        source: error.into(),
    })?;
    if text.len() > MOST_OF_SIGNAL {
        let what = "the signal".to_owned();
        return Err(StoreError::TooLarge { what, size: text.len(), limit: MOST_OF_SIGNAL });
    }
    Ok(text)
}

/// The status of a run that was just created.
pub(crate) const fn first_status(run: &NewRun) -> RunStatus {
    if run.group.is_some() { RunStatus::Queued } else { RunStatus::Running }
}
