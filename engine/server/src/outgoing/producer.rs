//! From the runs to messages in the store: at once from what the engine of this process tells, and now and
//! again from the journals, for what nobody told. A message that is there already is not made again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_event::CommitStatus;
use fairlead_exec::{Update, Updates};
use fairlead_run::{
    DeliveryStore, EventStore, Journal, NewDelivery, Projects, Record, Run, RunEvent, RunFilter,
    StoreError,
};
use fairlead_step::{Clock, RunId, error_chain};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::couriers::Destinations;
use super::messages::{About, is_told};
use crate::current::Current;

/// The watermark of the runs that were looked at.
const WATERMARK: &str = "outgoing";
/// How far before it is looked again: clocks of several servers differ.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// The runs of a page.
const BATCH: usize = 1000;
/// How many runs are remembered, so that their journals need not be read for each record.
const MOST_RUNS: usize = 4096;
/// The type of messages with the status of a commit.
pub(super) const STATUS: &str = "commit.status";

/// The outbox of messages.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) deliveries: Arc<dyn DeliveryStore>,
    pub(crate) destinations: Current<Destinations>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when there is something to send.
    pub(crate) added: Arc<watch::Sender<()>>,
}

impl Outgoing {
    async fn add(&self, messages: Vec<NewDelivery>) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        if self.deliveries.add(messages).await? > 0 {
            self.added.send_replace(());
        }
        Ok(())
    }

    /// Sets the status of a commit at the forge of a source, where that is told of commits. What is said
    /// again under the same `id` is not said twice.
    pub(crate) async fn set_status(&self, source: &str, id: String, status: CommitStatus) {
        let Some(message) = self.status(source, id, None, &status, self.clock.now()) else {
            return;
        };
        if let Err(error) = self.add(vec![message]).await {
            tracing::warn!("the status of a commit cannot be kept: {}", error_chain(&error));
        }
    }

    fn status(
        &self,
        source: &str,
        id: String,
        run: Option<RunId>,
        status: &CommitStatus,
        created_at: Timestamp,
    ) -> Option<NewDelivery> {
        let destination = Destinations::of_statuses(source);
        self.destinations.get().has(&destination).then(|| NewDelivery {
            destination,
            id,
            kind: STATUS.to_owned(),
            // Of one context the last status counts, whichever run says it.
            about: format!("{}@{}/{}", status.repository, status.commit, status.context),
            replaces: true,
            run,
            document: serde_json::to_string(status).unwrap_or_default(),
            created_at,
        })
    }
}

/// What makes messages of runs.
pub(crate) struct Producer {
    pub(crate) outgoing: Outgoing,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) projects: Current<Projects>,
    /// How often is looked for what was not told.
    pub(crate) every: Duration,
    pub(crate) stopping: CancellationToken,
    pub(crate) known: Known,
}

/// What is remembered.
#[derive(Default)]
pub(crate) struct Known {
    runs: Mutex<BTreeMap<RunId, Arc<About>>>,
    /// Since when each destination hears of what happens.
    since: Mutex<BTreeMap<String, Timestamp>>,
}

impl Producer {
    /// Makes the messages, until the server stops. Nothing while nobody is told anything.
    pub(crate) async fn run(self, mut updates: Updates) {
        let mut look = tokio::time::interval(self.every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => self.look().await,
                update = updates.next() => match update.as_deref() {
                    Some(Update::Record { run, record }) => self.hear(run, record).await,
                    Some(Update::Missed { .. }) => self.look().await,
                    Some(Update::Line { .. } | Update::Progress { .. } | Update::Notice { .. }) => {
                        Ok(())
                    }
                    None => return,
                },
            };
            if let Err(error) = told {
                tracing::warn!("others are told later: {}", error_chain(&error));
            }
        }
    }

    async fn hear(&self, run: &RunId, record: &Record) -> Result<(), StoreError> {
        if self.outgoing.destinations.get().is_empty() || !is_told(record.event()) {
            return Ok(());
        }
        let known = self.runs().get(run).cloned();
        match known {
            Some(about) => {
                let messages = self.messages(&about, record).await?;
                self.outgoing.add(messages).await?;
            }
            None => self.tell_all(run).await?,
        }
        if record.event().ends_as().is_some() {
            self.runs().remove(run);
        }
        Ok(())
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Arc<About>>> {
        self.known.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the messages of all records of a run.
    async fn tell_all(&self, run: &RunId) -> Result<(), StoreError> {
        let stored = self.journal.load(run).await?;
        let Some(RunEvent::Requested(request)) = stored.records.first().map(Record::event) else {
            return Ok(());
        };
        let about = match Run::restore(&stored) {
            Ok(state) => Arc::new(About::of(run, request, state.plan())),
            // What a newer build wrote, that one tells of.
            Err(error) => {
                tracing::debug!(%run, "others are not told: {}", error_chain(&error));
                return Ok(());
            }
        };
        let mut messages = Vec::new();
        for record in stored.records.iter().filter(|record| is_told(record.event())) {
            messages.extend(self.messages(&about, record).await?);
        }
        self.outgoing.add(messages).await?;
        let ended = stored.records.last().is_some_and(|it| it.event().ends_as().is_some());
        if !ended {
            let mut runs = self.runs();
            if runs.len() >= MOST_RUNS {
                runs.clear();
            }
            runs.insert(run.clone(), about);
        }
        Ok(())
    }

    async fn messages(
        &self,
        about: &About,
        record: &Record,
    ) -> Result<Vec<NewDelivery>, StoreError> {
        let (projects, destinations) = (self.projects.get(), self.outgoing.destinations.get());
        let projects = projects.of(&about.pipeline);
        let mut messages = Vec::new();
        for event in about.events(record, &projects) {
            for destination in destinations.wanting(&event.kind, &about.pipeline, &projects) {
                messages.push(NewDelivery {
                    destination: destination.to_owned(),
                    id: event.id.clone(),
                    kind: event.kind.clone(),
                    about: about.run.to_string(),
                    replaces: false,
                    run: Some(about.run.clone()),
                    document: event.to_json(),
                    created_at: record.at(),
                });
            }
        }
        if let (Some(status), Some((source, ..))) = (about.status(record), &about.commit) {
            let id = format!("{}-{}", about.run, record.seq().0);
            let run = Some(about.run.clone());
            messages.extend(self.outgoing.status(source, id, run, &status, record.at()));
        }
        let mut heard = Vec::new();
        for message in messages {
            if record.at() >= self.since(&message.destination).await? {
                heard.push(message);
            }
        }
        Ok(heard)
    }

    /// Since when a destination hears of what happens. Who begins to hear, hears of what is to come.
    async fn since(&self, destination: &str) -> Result<Timestamp, StoreError> {
        let since = || self.known.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = since().get(destination) {
            return Ok(*since);
        }
        let name = format!("outgoing/{destination}");
        let found = match self.events.watermark(&name).await? {
            Some(found) => found,
            None => {
                let now = self.outgoing.clock.now();
                self.events.raise_watermark(&name, now).await?;
                now
            }
        };
        since().insert(destination.to_owned(), found);
        Ok(found)
    }

    /// Looks at the runs that have ended since it was looked last, and at those that have not.
    async fn look(&self) -> Result<(), StoreError> {
        let destinations = self.outgoing.destinations.get();
        if destinations.is_empty() {
            return Ok(());
        }
        for name in destinations.0.keys() {
            self.since(name).await?;
        }
        let now = self.outgoing.clock.now();
        let since = match self.events.watermark(WATERMARK).await? {
            Some(known) => known.min(now).saturating_sub(OVERLAP).unwrap_or(Timestamp::MIN),
            None => now,
        };
        for filter in [
            RunFilter { ended_since: Some(since), limit: BATCH, ..RunFilter::default() },
            RunFilter { unfinished: true, limit: BATCH, ..RunFilter::default() },
        ] {
            let mut filter = filter;
            loop {
                let page = self.journal.list(filter.clone()).await?;
                let is_full = page.len() == BATCH;
                filter.before = page.last().map(|run| run.id.clone()).filter(|_| is_full);
                for run in page {
                    if self.stopping.is_cancelled() {
                        return Ok(());
                    }
                    // One that cannot be read keeps no other from being told of.
                    if let Err(error) = self.tell_all(&run.id).await {
                        tracing::warn!(run = %run.id, "others are told later: {}", error_chain(&error));
                    }
                }
                if filter.before.is_none() {
                    break;
                }
            }
        }
        self.events.raise_watermark(WATERMARK, now).await
    }
}
