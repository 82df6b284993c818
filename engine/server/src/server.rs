//! The server: what it is made of, and its life from the first request to the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Bus, BusError, SubscribedDeliveries};
use fairlead_exec::{Engine, Updates};
use fairlead_run::{
    AuditLog, DeliveryStore, EventStore, Groups, IdempotencyStore, Journal, LogStore, TokenStore,
    Wake,
};
use fairlead_step::{Artifacts, Catalog, Clock, RunId};
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{
    self, Api, ArtifactsApi, Bounded, Decisions, DeliveriesApi, EventsApi, FileRequests,
    MetricsApi, Readiness, Requests, RunsApi, TokensApi,
};
use crate::current::Current;
use crate::definitions::{Definitions, Live, Setup, Tools};
use crate::identity::{ApiAccess, Audit, Guard, Identity, Issuers, Rates, TrustedProxies};
use crate::ingest::{Ingest, Outbox, Receiver, Subscription};
use crate::outgoing::{Known, Producer, Senders};
use crate::ports::{Forges, ImageResolver, Retention};
use crate::runs::{Supervisor, Sweep};
use crate::settings::Options;
use crate::streams::Streams;
use crate::telemetry::{Exports, LevelsOf, Metrics, TraceExporter};
use crate::triggers::{
    Confirmation, Deliveries, EventAttempts, Evidence, Patience, Redelivery, RunEnds, Schedules,
    Starter, Triggers,
};

/// How long requests that are being answered, and events that are being handled, may take to end
/// when the server is told to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What a server is made of.
pub struct Ports {
    /// What creates and drives runs.
    pub engine: Engine,
    /// The journal that the engine writes to.
    pub journal: Arc<dyn Journal>,
    /// The events, in the same store.
    pub events: Arc<dyn EventStore>,
    /// The messages to others, in the same store.
    pub deliveries: Arc<dyn DeliveryStore>,
    /// The logs that the engine writes to.
    pub logs: Arc<dyn LogStore>,
    /// The artifacts that steps leave behind and clients bring along.
    pub artifacts: Arc<dyn Artifacts>,
    /// What removes what is over.
    pub retention: Arc<dyn Retention>,
    /// The step kinds, for pipelines that come with a request.
    pub catalog: Arc<Catalog>,
    /// The bus between the store and the triggers.
    pub bus: Arc<dyn Bus>,
    /// What asks registries.
    pub images: Arc<dyn ImageResolver>,
    /// What asks forges.
    pub forges: Arc<dyn Forges>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who may use the API.
    pub access: ApiAccess,
    /// The API tokens, in the same store.
    pub tokens: Arc<dyn TokenStore>,
    /// The issuers whose tokens are taken, too.
    pub issuers: Issuers,
    /// What is kept of requests that show a key, in the same store.
    pub keyed: Arc<dyn IdempotencyStore>,
    /// The audit log, in the same store.
    pub audit: Arc<dyn AuditLog>,
    /// The proxies that are believed when they say whose a request is.
    pub proxies: TrustedProxies,
    /// The groups of those who vote.
    pub groups: Groups,
    /// What is measured: the engine tells the same of its runs.
    pub metrics: Arc<Metrics>,
    /// Where the traces of runs go, if anywhere.
    pub traces: Option<Arc<dyn TraceExporter>>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The socket is of no use.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// Everybody on the network could use the API.
    #[error("the API asks nobody who they are, and {address} is not a loopback address")]
    Exposed {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// A source publishes where this bus cannot hear it.
    #[error("source `{name}` cannot be heard")]
    Source {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: BusError,
    },
    /// The bus hands nothing out.
    #[error("events cannot be taken from the bus")]
    Bus(#[source] BusError),
}

/// The server.
pub struct Server {
    ports: Ports,
    definitions: Arc<Definitions>,
    options: Options,
}

impl Server {
    /// A server. It does nothing until it serves.
    ///
    /// # Errors
    /// Everything that is wrong with the repositories that it is to follow.
    pub fn new(ports: Ports, setup: Setup, options: Options) -> Result<Self, Vec<String>> {
        let tools = Tools {
            catalog: Arc::clone(&ports.catalog),
            forges: Arc::clone(&ports.forges),
            events: Arc::clone(&ports.events),
            deliveries: Arc::clone(&ports.deliveries),
            clock: Arc::clone(&ports.clock),
            forge: options.forge,
        };
        let definitions = Arc::new(Definitions::new(tools, setup)?);
        Ok(Self { ports, definitions, options })
    }

    /// The pipelines, sources and projects, for whoever replaces them.
    #[must_use]
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.definitions)
    }

    /// Serves until `shutdown` is ready: goes on with the runs and events that an earlier process
    /// left, answers requests, and handles events. Then it takes no more, lets runs end for as long
    /// as the options say, and leaves the others to be gone on with.
    ///
    /// # Errors
    /// When it cannot begin. Later, whatever goes wrong is told in the log and tried again.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listen)?;
        match self.ports.access {
            ApiAccess::LoopbackWithoutToken { .. } if !address.ip().is_loopback() => {
                return Err(ServeError::Exposed { address });
            }
            ApiAccess::LoopbackWithoutToken { .. }
            | ApiAccess::Token(_)
            | ApiAccess::KnownCallers => {}
        }
        let deliveries = self.ports.bus.subscribe().await.map_err(ServeError::Bus)?;
        let mut heard = Vec::new();
        let live = Arc::clone(&self.definitions.live().borrow());
        for (name, source) in live.sources.iter() {
            if let Some(subject) = &source.subject {
                let messages = self.ports.bus.subscribe_to(name, subject).await;
                let messages = messages
                    .map_err(|source| ServeError::Source { name: name.to_owned(), source })?;
                heard.push((name.to_owned(), messages));
            }
        }

        let Self { mut ports, definitions, options } = self;
        let proxies = std::mem::take(&mut ports.proxies);
        let stopping = CancellationToken::new();
        // Before anything is driven, so that nothing of it is missed.
        let (updates, ends) = (ports.engine.subscribe(), ports.engine.subscribe());
        let told = ports.engine.subscribe();
        let wakes = ports.journal.wakes();
        let parts = Parts::compose(ports, definitions, options, &stopping);
        let Parts { supervisor, tasks, api, .. } = &parts;
        let (supervisor, tasks, api) = (Arc::clone(supervisor), tasks.clone(), api.clone());
        let loops = parts.run([updates, ends, told], wakes, deliveries, heard);

        tracing::info!("listening on http://{address}");
        let stop = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown => tracing::info!("stopping: nothing new is taken"),
                () = stop.cancelled() => {}
            }
            stop.cancel();
        });
        let listener = Bounded::new(listener, Some(proxies.clone()));
        let answering = api::serve(listener, api::router(api), proxies, stopping.clone());
        let mut answering = tokio::spawn(answering);
        stopping.cancelled().await;
        // A client that does not read its answer must not hold the server.
        if tokio::time::timeout(LAST_ANSWERS, &mut answering).await.is_err() {
            answering.abort();
        }
        tasks.close();
        let handled = async { tokio::join!(loops.wait(), tasks.wait()) };
        let _ = tokio::time::timeout(LAST_ANSWERS, handled).await;
        supervisor.finish(options.drain).await;
        Ok(())
    }
}

/// What sends traces, where there is a collector; where there is none, runs that end are not kept for it.
fn exports(
    metrics: &Arc<Metrics>,
    exporter: Option<Arc<dyn TraceExporter>>,
    journal: &Arc<dyn Journal>,
    events: &Arc<dyn EventStore>,
    stopping: CancellationToken,
) -> Option<(Exports, mpsc::Receiver<RunId>)> {
    let ended = metrics.ended_runs()?;
    let exports = Exports {
        journal: Arc::clone(journal),
        events: Arc::clone(events),
        exporter: exporter?,
        metrics: Arc::clone(metrics),
        stopping,
    };
    Some((exports, ended))
}

/// The modules of a server, each with just what it uses.
struct Parts {
    supervisor: Arc<Supervisor>,
    sweep: Arc<Sweep>,
    outbox: Outbox,
    receiver: Receiver,
    deliveries: Deliveries,
    redelivery: Redelivery,
    schedules: Schedules,
    definitions: Arc<Definitions>,
    producer: Producer,
    senders: Senders,
    run_ends: RunEnds,
    /// The tasks that handle events.
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// What sends traces, where they go somewhere.
    exports: Option<(Exports, mpsc::Receiver<RunId>)>,
    api: Api,
}

impl Parts {
    fn compose(
        ports: Ports,
        definitions: Arc<Definitions>,
        options: Options,
        stopping: &CancellationToken,
    ) -> Self {
        let Ports { engine, journal, events, logs, bus, images, forges, clock, .. } = ports;
        let live = || definitions.live();
        let pipelines = Current::of(live(), |live: &Live| Arc::clone(&live.pipelines));
        let sources = Current::of(live(), |live: &Live| Arc::clone(&live.sources));
        let projects = Current::of(live(), |live: &Live| Arc::clone(&live.projects));
        let stopping = || stopping.clone();
        let metrics = ports.metrics;
        let exports = exports(&metrics, ports.traces, &journal, &events, stopping());
        let (tasks, due) = (TaskTracker::new(), Arc::new(Notify::new()));

        let ingest = Ingest::new(Arc::clone(&events), Arc::clone(&clock), options.direct);
        let ingest = Arc::new(ingest);
        let receiver = Receiver {
            sources: sources.clone(),
            ingest: Arc::clone(&ingest),
            clock: Arc::clone(&clock),
        };
        let outbox = Outbox {
            events: Arc::clone(&events),
            bus: Arc::clone(&bus),
            clock: Arc::clone(&clock),
            ingest: Arc::clone(&ingest),
            due: Arc::clone(&due),
            stopping: stopping(),
        };

        let supervisor = Supervisor::new(
            engine.clone(),
            Arc::clone(&journal),
            Arc::clone(&clock),
            options.max_runs,
            stopping(),
        );
        let sweep = Arc::new(Sweep::new(
            Arc::clone(&journal),
            Arc::clone(&clock),
            Arc::clone(&supervisor),
            options.sweep,
            stopping(),
        ));

        let starter = Starter {
            engine: engine.clone(),
            events: Arc::clone(&events),
            images: Arc::clone(&images),
            supervisor: Arc::clone(&supervisor),
            registry: options.registry,
        };
        let triggers = Triggers {
            definitions: Arc::clone(&definitions),
            pipelines: pipelines.clone(),
            confirmation: Confirmation {
                sources,
                images: Arc::clone(&images),
                forges,
                ingest: Arc::clone(&ingest),
                clock: Arc::clone(&clock),
                registry: options.registry,
                forge: options.forge,
                settle: options.settle,
            },
            evidence: Evidence {
                journal: Arc::clone(&journal),
                images: Arc::clone(&images),
                clock: Arc::clone(&clock),
                registry: options.registry,
                stopping: stopping(),
            },
            starter: starter.clone(),
        };
        let patience = Patience { retry: options.retry, give_up: options.give_up };
        let attempts = Arc::new(EventAttempts::new(
            Arc::clone(&events),
            Arc::clone(&clock),
            triggers,
            patience,
            Arc::clone(&due),
            Arc::clone(&metrics),
        ));
        let deliveries = Deliveries {
            attempts: Arc::clone(&attempts),
            retry: options.retry,
            tasks: tasks.clone(),
            stopping: stopping(),
        };
        let redelivery = Redelivery {
            events: Arc::clone(&events),
            clock: Arc::clone(&clock),
            attempts,
            due: Arc::clone(&due),
            tasks: tasks.clone(),
            stopping: stopping(),
        };

        let schedules = Schedules {
            pipelines: pipelines.clone(),
            changed: live(),
            events: Arc::clone(&events),
            ingest: Arc::clone(&ingest),
            clock: Arc::clone(&clock),
            stopping: stopping(),
        };
        let run_ends = RunEnds {
            pipelines: pipelines.clone(),
            journal: Arc::clone(&journal),
            events: Arc::clone(&events),
            ingest: Arc::clone(&ingest),
            clock: Arc::clone(&clock),
            every: options.sweep,
            stopping: stopping(),
        };

        let outgoing = definitions.outgoing();
        let producer = Producer {
            outgoing: outgoing.clone(),
            journal: Arc::clone(&journal),
            events: Arc::clone(&events),
            projects: projects.clone(),
            every: options.sweep,
            stopping: stopping(),
            known: Known::default(),
        };
        let senders = Senders {
            outgoing: outgoing.clone(),
            holder: format!("{:032x}", rand::random::<u128>()),
            stopping: stopping(),
        };

        let api = Api {
            deliveries: DeliveriesApi { outgoing },
            artifacts: ArtifactsApi {
                artifacts: Arc::clone(&ports.artifacts),
                journal: Arc::clone(&journal),
            },
            files: FileRequests {
                catalog: ports.catalog,
                pipelines: pipelines.clone(),
                starter: starter.clone(),
                images: Arc::clone(&images),
                journal: Arc::clone(&journal),
                artifacts: ports.artifacts,
                registry: options.registry,
            },
            retention: ports.retention,
            metrics: MetricsApi {
                metrics,
                levels: LevelsOf {
                    events: Arc::clone(&events),
                    journal: Arc::clone(&journal),
                    bus: Arc::clone(&bus),
                    last: Arc::default(),
                },
            },
            decisions: Decisions {
                engine: engine.clone(),
                journal: Arc::clone(&journal),
                supervisor: Arc::clone(&supervisor),
                clock: Arc::clone(&clock),
            },
            events: EventsApi {
                events: Arc::clone(&events),
                pipelines: pipelines.clone(),
                clock: Arc::clone(&clock),
                due,
            },
            guard: Guard {
                identity: Arc::new(Identity {
                    access: ports.access,
                    tokens: Arc::clone(&ports.tokens),
                    issuers: ports.issuers,
                    clock: Arc::clone(&clock),
                }),
                rates: Arc::new(Rates::new(options.limits)),
                projects,
                groups: Arc::new(ports.groups),
                keyed: ports.keyed,
                audit: Audit::new(ports.audit, Arc::clone(&clock)),
                journal: Arc::clone(&journal),
            },
            tokens: TokensApi { tokens: ports.tokens, clock: Arc::clone(&clock) },
            readiness: Readiness { events: Arc::clone(&events), bus, stopping: stopping() },
            receiver: receiver.clone(),
            requests: Requests {
                pipelines,
                live: Current::whole(live()),
                events,
                ingest,
                starter,
                images,
                clock: Arc::clone(&clock),
                registry: options.registry,
            },
            runs: RunsApi { journal: Arc::clone(&journal), logs: Arc::clone(&logs) },
            streams: Streams { engine, journal, logs, clock, stopping: stopping() },
        };
        Self {
            supervisor,
            sweep,
            outbox,
            receiver,
            deliveries,
            redelivery,
            schedules,
            definitions,
            producer,
            senders,
            run_ends,
            tasks,
            stopping: stopping(),
            exports,
            api,
        }
    }

    /// Starts the loops of every module. Each of these has one kind of customer, and none waits for
    /// another.
    fn run(
        self,
        [updates, ends, told]: [Updates; 3],
        wakes: BoxStream<'static, Wake>,
        deliveries: fairlead_event::Deliveries,
        heard: Vec<(String, SubscribedDeliveries)>,
    ) -> TaskTracker {
        let loops = TaskTracker::new();
        if let Some((exports, ended)) = self.exports {
            loops.spawn(exports.run(ended));
        }
        loops.spawn(self.outbox.run());
        loops.spawn(self.deliveries.run(deliveries));
        loops.spawn(self.redelivery.run());
        loops.spawn(self.schedules.run());
        loops.spawn(self.producer.run(told));
        loops.spawn(self.senders.run(self.definitions.live()));
        loops.spawn(self.definitions.run(self.stopping.clone()));
        loops.spawn(self.run_ends.run(ends));
        let sweep = Arc::clone(&self.sweep);
        loops.spawn(async move { sweep.attend(wakes).await });
        let sweep = self.sweep;
        loops.spawn(async move { sweep.run().await });
        let supervisor = Arc::clone(&self.supervisor);
        loops.spawn(async move { supervisor.hear(updates).await });
        let supervisor = self.supervisor;
        loops.spawn(async move { supervisor.give_turns().await });
        for (source, messages) in heard {
            let (receiver, stopping) = (self.receiver.clone(), self.stopping.clone());
            loops.spawn(Subscription { source, receiver, stopping }.run(messages));
        }
        loops.close();
        loops
    }
}
