//! The contract of attempts, kept over a real NATS server, also while that restarts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairlead_bus::{JetStream, JetStreamOptions};
use fairlead_event::JobBus;
use fairlead_exec::conformance::{Bench, POOL, World, attempts_conformance};
use fairlead_exec::{
    FetchesNothing, Floors, Policy, ProcessOptions, RemoteAttempts, RemoteOptions, RunFolders,
    Runner, RunnerOptions, SecretError, SecretProvider,
};
use fairlead_step::{
    BoxFuture, Catalog, Clock, Egress, Registries, RegistryAccess, Secret, StepError,
};
use fairlead_store::Store;
use fairlead_tests::Nats;

struct Nothing;

impl Clock for Nothing {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

impl Registries for Nothing {
    fn access(&self, _: &str) -> BoxFuture<'_, Result<RegistryAccess, StepError>> {
        Box::pin(std::future::ready(Err(StepError::terminal("there are no registries here"))))
    }
}

impl SecretProvider for Nothing {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let (name, hint) = (name.to_owned(), "there are none".to_owned());
        Box::pin(std::future::ready(Err(SecretError::Missing { name, hint })))
    }
}

async fn bus(nats: &str) -> Arc<dyn JobBus> {
    let bus = JetStream::connect(JetStreamOptions::new(nats)).await.unwrap();
    while !bus.connected() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Arc::new(bus)
}

async fn runner(nats: &str, catalog: Arc<Catalog>, folder: &std::path::Path) -> Runner {
    let runs = folder.join("runs");
    let options = RunnerOptions {
        bus: bus(nats).await,
        name: "r1".into(),
        pool: POOL.into(),
        labels: BTreeMap::new(),
        slots: NonZeroUsize::new(8).unwrap(),
        catalog,
        policy: Policy::open(),
        egress: Egress::open(),
        secrets: Arc::new(Nothing),
        registries: Arc::new(Nothing),
        clock: Arc::new(Nothing),
        workspaces: Box::new(move |_| {
            Arc::new(RunFolders::new(runs.clone(), Arc::new(FetchesNothing)))
        }),
        processes: ProcessOptions::default(),
        folder: folder.to_owned(),
        spool: 1 << 30,
        floors: Floors { disk: 0, inodes: 0, memory: 0, descriptors: 0 },
        grace: None,
        version: "test".into(),
        guardian: None,
        confine: None,
    };
    Runner::new(options).unwrap()
}

async fn remote(nats: &str, store: &Store) -> RemoteAttempts {
    RemoteAttempts::start(RemoteOptions {
        bus: bus(nats).await,
        logs: store.logs(),
        artifacts: store.artifacts(),
        result_cache: store.result_cache(),
        lease: Duration::from_secs(4),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_over_nats_keep_the_contract() {
    // A server of its own for each check, all of them kept until the last one is over.
    let servers = Mutex::new(Vec::new());
    let suite = attempts_conformance(|_: Arc<World>, catalog| async {
        let (nats, store, folder) = (Nats::start(), Store::memory(), tempfile::tempdir().unwrap());
        let url = nats.url();
        servers.lock().unwrap().push(nats);
        let runner = runner(&url, catalog, folder.path()).await;
        let going = tokio::spawn(runner.run(std::future::pending(), std::future::pending()));
        Bench {
            attempts: Arc::new(remote(&url, &store).await),
            logs: store.logs(),
            restarted: Some(Arc::new(remote(&url, &store).await)),
            keep: Box::new((going, store, folder)),
        }
    });
    tokio::time::timeout(Duration::from_secs(240), suite).await.unwrap();
}
