//! The server: what it is made of, and its life from the first request to the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{Bus, BusError};
use fairlead_exec::Engine;
use fairlead_run::{EventStore, Groups, Journal, LogStore};
use fairlead_step::Clock;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempts::Handling;
use crate::images::ImageResolver;
use crate::ingest::Ingest;
use crate::listener::Bounded;
use crate::supervisor::Supervisor;
use crate::{
    ApiAccess, Options, Pipelines, Sources, Workspaces, api, outbox, redelivery, subscriptions,
    sweep, triggers,
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
    /// The logs that the engine writes to.
    pub logs: Arc<dyn LogStore>,
    /// The bus between the store and the triggers.
    pub bus: Arc<dyn Bus>,
    /// What asks registries.
    pub images: Arc<dyn ImageResolver>,
    /// What checks out the commits that pushes are about.
    pub workspaces: Arc<dyn Workspaces>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The pipelines that may be started.
    pub pipelines: Pipelines,
    /// From whom events are taken.
    pub sources: Sources,
    /// Who may use the API.
    pub access: ApiAccess,
    /// The groups of those who vote.
    pub groups: Groups,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The socket is of no use.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// Everybody on the network could use the API.
    #[error("the API has no token, and {address} is not a loopback address")]
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
    options: Options,
}

/// What every task and every request of a server shares.
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) options: Options,
    pub(crate) ingest: Ingest,
    pub(crate) supervisor: Arc<Supervisor>,
    /// The tasks that handle events.
    pub(crate) tasks: TaskTracker,
    /// The events that they handle.
    pub(crate) handling: Handling,
    /// Who this server is when it claims an event.
    pub(crate) holder: String,
    /// Told when an event is due, or will be.
    pub(crate) due: Notify,
    /// Told when something about runs may have been missed.
    pub(crate) missed: Notify,
    pub(crate) stopping: CancellationToken,
}

impl Shared {
    /// Waits for `work`, or for the server to stop.
    pub(crate) async fn until_stopping(&self, work: impl Future) {
        tokio::select! {
            _ = work => {}
            () = self.stopping.cancelled() => {}
        }
    }
}

impl Server {
    /// A server. It does nothing until it serves.
    #[must_use]
    pub const fn new(ports: Ports, options: Options) -> Self {
        Self { ports, options }
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
            ApiAccess::LoopbackWithoutToken if !address.ip().is_loopback() => {
                return Err(ServeError::Exposed { address });
            }
            ApiAccess::LoopbackWithoutToken | ApiAccess::Token(_) => {}
        }
        let deliveries = self.ports.bus.subscribe().await.map_err(ServeError::Bus)?;
        let mut heard = Vec::new();
        for (name, source) in self.ports.sources.iter() {
            if let Some(subject) = &source.subject {
                let messages = self.ports.bus.subscribe_to(name, subject).await;
                let messages = messages
                    .map_err(|source| ServeError::Source { name: name.to_owned(), source })?;
                heard.push((name.to_owned(), messages));
            }
        }

        let Self { ports, options } = self;
        let stopping = CancellationToken::new();
        let ingest = Ingest {
            events: Arc::clone(&ports.events),
            clock: Arc::clone(&ports.clock),
            direct: options.direct,
            stored: Notify::new(),
        };
        let clock = Arc::clone(&ports.clock);
        // Before anything is driven, so that nothing of it is missed.
        let updates = ports.engine.subscribe();
        let supervisor = Supervisor::new(
            ports.engine.clone(),
            Arc::clone(&ports.journal),
            clock,
            options.max_runs,
            stopping.clone(),
        );
        let wakes = ports.journal.wakes();
        let shared = Arc::new(Shared {
            ports,
            options,
            ingest,
            supervisor,
            tasks: TaskTracker::new(),
            handling: Handling::default(),
            holder: format!("{:032x}", rand::random::<u128>()),
            due: Notify::new(),
            missed: Notify::new(),
            stopping,
        });

        let loops = TaskTracker::new();
        let of = || Arc::clone(&shared);
        // Each of these has one kind of customer, and none waits for another.
        let shared_by = of();
        loops.spawn(async move { outbox::run(&shared_by).await });
        let shared_by = of();
        loops.spawn(async move { triggers::run(&shared_by, deliveries).await });
        let shared_by = of();
        loops.spawn(async move { redelivery::run(&shared_by).await });
        let shared_by = of();
        loops.spawn(async move { sweep::attend(&shared_by, wakes).await });
        let shared_by = of();
        loops.spawn(async move { sweep::run(&shared_by).await });
        let shared_by = of();
        loops.spawn(async move { shared_by.supervisor.hear(updates).await });
        let shared_by = of();
        loops.spawn(async move { shared_by.supervisor.give_turns().await });
        for (name, messages) in heard {
            let shared = of();
            loops.spawn(async move { subscriptions::run(&shared, &name, messages).await });
        }
        loops.close();

        tracing::info!("listening on http://{address}");
        let stop = of();
        let answering = axum::serve(Bounded::new(listener), api::router(of()))
            .with_graceful_shutdown(async move {
                shutdown.await;
                tracing::info!("stopping: nothing new is taken");
                stop.stopping.cancel();
            });
        let mut answering = tokio::spawn(async move { answering.await });
        shared.stopping.cancelled().await;
        // A client that does not read its answer must not hold the server.
        if tokio::time::timeout(LAST_ANSWERS, &mut answering).await.is_err() {
            answering.abort();
        }
        shared.tasks.close();
        let handled = async { tokio::join!(loops.wait(), shared.tasks.wait()) };
        let _ = tokio::time::timeout(LAST_ANSWERS, handled).await;
        shared.supervisor.finish(options.drain).await;
        Ok(())
    }
}
