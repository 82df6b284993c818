//! What a server measures of itself, for Prometheus.
//!
//! Labels have few values: kinds are those of the build, sources those of the configuration, pools those of the
//! plan's own words and at most [`POOLS`] of them. No run, step, image or person is in a label.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fairlead_exec::Meter;
use fairlead_run::{AttemptEnd, Record, Run, RunEvent, StepResult};
use fairlead_step::{ErrorClass, RunId, StepId, Verdict};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// The most pools that are told apart; others are `other`.
const POOLS: usize = 32;
/// How many runs may wait for their trace to be exported. More are counted and not exported.
const TRACES: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    kind: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Gate {
    gate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

/// A histogram with its buckets, in seconds.
#[derive(Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms<L> = Family<L, Histogram, Buckets>;

/// What takes from a moment to an hour.
const WORK: Buckets =
    Buckets(&[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0]);
/// What should take no time.
const WAIT: Buckets =
    Buckets(&[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0]);
/// What people take.
const PEOPLE: Buckets = Buckets(&[
    10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
]);

/// What the store says at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Whether it answered.
    pub(crate) store_up: bool,
    /// Whether the bus can be reached.
    pub(crate) bus_up: bool,
    /// Events that the bus has not taken yet, as far as they are counted.
    pub(crate) outbox: usize,
    /// Dead letters, as far as they are counted.
    pub(crate) dead_letters: usize,
    /// Runs that have not ended, by status.
    pub(crate) runs: Vec<(&'static str, usize)>,
}

/// What is measured. One for a process: its engine tells it of records, its server of events.
pub struct Metrics {
    registry: Registry,
    steps: Histograms<Step>,
    queue: Histograms<Pool>,
    admission: Histogram,
    gates: Histograms<Gate>,
    retries: Family<Class, Counter>,
    lost: Counter,
    leases: Counter,
    runs: Family<Outcome, Counter>,
    events: Histograms<Source>,
    traces_dropped: Counter,
    store_up: Gauge,
    bus_up: Gauge,
    outbox: Gauge,
    dead_letters: Gauge,
    unfinished: Family<Status, Gauge>,
    pools: Mutex<BTreeSet<String>>,
    ended: mpsc::Sender<RunId>,
    /// Taken by whoever exports traces.
    to_trace: Mutex<Option<mpsc::Receiver<RunId>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing is measured yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("fairlead");
        let steps = Histograms::<Step>::new_with_constructor(WORK);
        registry.register(
            "step_seconds",
            "How long attempts of steps took, by kind and how they ended",
            steps.clone(),
        );
        let queue = Histograms::<Pool>::new_with_constructor(WAIT);
        registry.register(
            "step_queue_seconds",
            "How long steps that could begin waited for a place, by pool",
            queue.clone(),
        );
        let admission = WAIT.new_metric();
        registry.register(
            "run_queue_seconds",
            "How long runs waited to be admitted, those that had to",
            admission.clone(),
        );
        let gates = Histograms::<Gate>::new_with_constructor(PEOPLE);
        registry.register(
            "gate_seconds",
            "How long gates were open, by what they wait for",
            gates.clone(),
        );
        let retries = Family::<Class, Counter>::default();
        registry.register("retries", "Attempts that are made again, by why", retries.clone());
        let lost = Counter::default();
        registry.register("attempts_lost", "Attempts whose end nobody saw", lost.clone());
        let leases = Counter::default();
        registry.register(
            "leases_lost",
            "Leases of runs that could not be renewed in time",
            leases.clone(),
        );
        let runs = Family::<Outcome, Counter>::default();
        registry.register("runs_ended", "Runs that ended here, by outcome", runs.clone());
        let events = Histograms::<Source>::new_with_constructor(WAIT);
        registry.register(
            "event_lag_seconds",
            "How long after an event came it was handled or given up, by source",
            events.clone(),
        );
        let traces_dropped = Counter::default();
        registry.register(
            "traces_dropped",
            "Traces of runs that were not exported",
            traces_dropped.clone(),
        );
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let store_up = gauge(&mut registry, "store_up", "Whether the store answers");
        let bus_up = gauge(&mut registry, "bus_up", "Whether the bus can be reached");
        let outbox = gauge(
            &mut registry,
            "outbox_events",
            "Events that the bus has not taken, counted up to 1000",
        );
        let dead_letters =
            gauge(&mut registry, "dead_letters", "Events that were given up, counted up to 1000");
        let unfinished = Family::<Status, Gauge>::default();
        registry.register(
            "runs_unfinished",
            "Runs that have not ended, by status, counted up to 1000",
            unfinished.clone(),
        );
        let (ended, to_trace) = mpsc::channel(TRACES);
        Self {
            registry,
            steps,
            queue,
            admission,
            gates,
            retries,
            lost,
            leases,
            runs,
            events,
            traces_dropped,
            store_up,
            bus_up,
            outbox,
            dead_letters,
            unfinished,
            pools: Mutex::default(),
            ended,
            to_trace: Mutex::new(Some(to_trace)),
        }
    }

    /// The runs that end from now on, for whoever exports their traces; none the second time.
    pub(crate) fn ended_runs(&self) -> Option<mpsc::Receiver<RunId>> {
        self.to_trace.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A trace was not exported.
    pub(crate) fn trace_dropped(&self) {
        self.traces_dropped.inc();
    }

    /// An event of a source was handled, or given up.
    pub(crate) fn event_over(&self, source: &str, lag: Duration, handled: bool) {
        let outcome = if handled { "handled" } else { "dead" };
        let label = Source { source: source.to_owned(), outcome };
        self.events.get_or_create(&label).observe(lag.as_secs_f64());
    }

    /// Everything, in the text form of OpenMetrics.
    pub(crate) fn text(&self, levels: &Levels) -> String {
        self.store_up.set(levels.store_up.into());
        self.bus_up.set(levels.bus_up.into());
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        // What is not known is not told: an old number would be believed.
        if levels.store_up {
            self.outbox.set(count(levels.outbox));
            self.dead_letters.set(count(levels.dead_letters));
            for (status, runs) in &levels.runs {
                self.unfinished.get_or_create(&Status { status }).set(count(*runs));
            }
        }
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# the measures cannot be written down");
        }
        text
    }

    /// The label of a pool, of which there are few whatever pipelines say.
    fn pool(&self, name: &str) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if !pools.contains(name) {
            if pools.len() >= POOLS {
                return Pool { pool: "other".to_owned() };
            }
            pools.insert(name.to_owned());
        }
        Pool { pool: name.to_owned() }
    }

    /// An attempt ended at `at`.
    fn step_ended(&self, run: &Run, step: &StepId, attempt: u32, at: Timestamp, how: &'static str) {
        let Some(view) = run.step(step) else { return };
        let attempts = view.attempts().iter();
        let Some(begun) = attempts.rev().find(|made| made.number == attempt) else { return };
        let label = Step { kind: view.plan().kind.clone(), outcome: how };
        self.steps.get_or_create(&label).observe(seconds(begun.started_at, at));
    }

    /// An attempt began at `at`: it waited for a place since all that it needs had ended.
    fn step_began(&self, run: &Run, step: &StepId, attempt: u32, at: Timestamp) {
        // When a later attempt was due is no fact that is kept beyond its start.
        if attempt != 1 {
            return;
        }
        let Some(ready) = ready_at(run, step) else { return };
        let pool = self.pool("default");
        self.queue.get_or_create(&pool).observe(seconds(ready, at));
    }

    /// A gate was left at `at`.
    fn gate_left(&self, run: &Run, step: &StepId, at: Timestamp) {
        let Some(view) = run.step(step) else { return };
        let Some(gate) = &view.plan().gate else { return };
        let Some(opened) = ready_at(run, step) else { return };
        if view.ended_at() == Some(at) {
            self.gates.get_or_create(&Gate { gate: gate.kind() }).observe(seconds(opened, at));
        }
    }

    /// How the last attempt of a step that is tried again ended.
    fn class_of(run: &Run, step: &StepId) -> &'static str {
        let last = run.step(step).and_then(|view| view.attempts().last().cloned());
        match last.and_then(|attempt| attempt.ended) {
            Some((_, AttemptEnd::Failed(failure))) => match failure.class {
                ErrorClass::Retryable => "retryable",
                ErrorClass::Terminal => "terminal",
                ErrorClass::Cancelled => "cancelled",
            },
            Some((_, AttemptEnd::TimedOut { .. })) => "timeout",
            Some((_, AttemptEnd::Lost { .. })) => "lost",
            Some(_) | None => "other",
        }
    }
}

/// When all that a step needs had ended. A gate opens then.
fn ready_at(run: &Run, step: &StepId) -> Option<Timestamp> {
    let needs = run.step(step)?.plan().needs.iter();
    let ends = needs.filter_map(|need| run.step(&need.step)?.ended_at());
    Some(ends.max().unwrap_or_else(|| run.requested_at()))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).max(SignedDuration::ZERO).as_secs_f64()
}

impl Meter for Metrics {
    fn recorded(&self, run: &Run, record: &Record) {
        let at = record.at();
        match record.event() {
            RunEvent::Started { step, attempt, .. } => self.step_began(run, step, *attempt, at),
            RunEvent::Finished { step, attempt, result, .. } => {
                let how = match result {
                    StepResult::Verdict(Verdict::Passed { .. }) => "passed",
                    StepResult::Verdict(Verdict::Rejected { .. }) => "rejected",
                    StepResult::Verdict(Verdict::Skipped { .. }) => "skipped",
                    StepResult::Failure(_) => "failed",
                    StepResult::TimedOut { .. } => "timed-out",
                    StepResult::Cancelled { .. } => "cancelled",
                };
                self.step_ended(run, step, *attempt, at, how);
            }
            RunEvent::CacheHit { step, attempt, .. } => {
                self.step_ended(run, step, *attempt, at, "cached");
            }
            RunEvent::AttemptLost { .. } => {
                self.lost.inc();
            }
            RunEvent::RetryScheduled { step, .. } => {
                let class = Self::class_of(run, step);
                self.retries.get_or_create(&Class { class }).inc();
            }
            RunEvent::Voted { step, .. } | RunEvent::GateDue { step } => {
                self.gate_left(run, step, at);
            }
            RunEvent::Admitted => self.admission.observe(seconds(run.requested_at(), at)),
            RunEvent::Requested(_)
            | RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Expanded { .. }
            | RunEvent::GateOpened { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => {}
        }
        if let Some(outcome) = record.event().ends_as() {
            self.runs.get_or_create(&Outcome { outcome: outcome.name() }).inc();
            match self.ended.try_send(run.id().clone()) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(_)) => self.trace_dropped(),
            }
        }
    }

    fn lease_lost(&self, _: &RunId) {
        self.leases.inc();
    }
}
