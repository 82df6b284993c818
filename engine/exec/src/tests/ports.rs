//! Both implementations of the port to attempts keep its contract.

use fairlead_bus::InProcessJobs;
use fairlead_event::JobBus;

use super::*;
use crate::attempts::conformance::{self, World as Suite, attempts_conformance};
use crate::attempts::{Attempts, LocalAttempts};
use crate::host::Host;
use crate::scratch::ScratchFolders;
use crate::update::Broadcast;
use crate::{
    FetchesNothing, Floors, Policy, RemoteAttempts, RemoteOptions, RunFolders, Runner, RunnerEnd,
    RunnerOptions,
};

fn host(store: &Store, folder: &Path) -> Host {
    Host {
        policy: Policy::open(),
        egress: fairlead_step::Egress::open(),
        secrets: Arc::new(Secrets(BTreeMap::new())),
        logs: store.logs(),
        artifacts: store.artifacts(),
        result_cache: store.result_cache(),
        registries: Arc::new(NoRegistries),
        clock: Arc::new(SystemClock),
        processes: Arc::new(ProcessOptions::default()),
        workspaces: Arc::new(RunFolders::new(folder.join("runs"), Arc::new(FetchesNothing))),
        scratch: Arc::new(ScratchFolders::new(folder.join("scratch"))),
        updates: Broadcast::new(),
        cgroup: None,
    }
}

#[tokio::test]
async fn attempts_in_this_process_keep_the_contract() {
    let suite = attempts_conformance(|_: Arc<Suite>, catalog| async move {
        let (store, folder) = (Store::memory(), tempfile::tempdir().unwrap());
        let host = Arc::new(host(&store, folder.path()));
        let attempts: Arc<dyn Attempts> = Arc::new(LocalAttempts { host, catalog });
        conformance::Bench {
            attempts,
            logs: store.logs(),
            restarted: None,
            keep: Box::new((store, folder)),
        }
    });
    tokio::time::timeout(Duration::from_secs(60), suite).await.unwrap();
}

pub(super) const LEASE: Duration = Duration::from_secs(2);

pub(super) fn remote(bus: &InProcessJobs, store: &Store) -> RemoteAttempts {
    RemoteAttempts::start(RemoteOptions {
        bus: Arc::new(bus.clone()),
        logs: store.logs(),
        artifacts: store.artifacts(),
        result_cache: store.result_cache(),
        lease: LEASE,
    })
}

pub(super) fn runner_options(
    bus: &InProcessJobs,
    catalog: &Arc<Catalog>,
    folder: &Path,
) -> RunnerOptions {
    RunnerOptions {
        bus: Arc::new(bus.clone()) as Arc<dyn JobBus>,
        name: "r1".into(),
        pool: conformance::POOL.into(),
        labels: BTreeMap::new(),
        slots: NonZeroUsize::new(8).unwrap(),
        catalog: Arc::clone(catalog),
        policy: Policy::open(),
        egress: fairlead_step::Egress::open(),
        secrets: Arc::new(Secrets(BTreeMap::from([("token", "hunter2-hunter2")]))),
        registries: Arc::new(NoRegistries),
        clock: Arc::new(SystemClock),
        workspaces: {
            let folder = folder.join("runs");
            Box::new(move |_| Arc::new(RunFolders::new(folder.clone(), Arc::new(FetchesNothing))))
        },
        processes: ProcessOptions {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            grace: Duration::from_millis(200),
            mark: None,
        },
        folder: folder.to_owned(),
        spool: 1 << 30,
        floors: Floors { disk: 0, inodes: 0, memory: 0, descriptors: 0 },
        grace: None,
        version: "test".into(),
        guardian: None,
        confine: None,
    }
}

/// A runner that runs until it is told to drain.
pub(super) struct Going {
    task: tokio::task::JoinHandle<RunnerEnd>,
    /// Told to drain when it is sent to, and not when it is dropped.
    _drain: tokio::sync::oneshot::Sender<()>,
}

impl Drop for Going {
    /// Ends it as a crash would, as far as a task can.
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn go(options: RunnerOptions) -> Going {
    let runner = Runner::new(options).unwrap();
    let (drain, told) = tokio::sync::oneshot::channel::<()>();
    let told = async move {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let task = tokio::spawn(runner.run(told, std::future::pending()));
    Going { task, _drain: drain }
}

#[tokio::test]
async fn attempts_on_runners_keep_the_contract() {
    let suite = attempts_conformance(|_: Arc<Suite>, catalog| async move {
        let (store, folder) = (Store::memory(), tempfile::tempdir().unwrap());
        let bus = InProcessJobs::default();
        let going = go(runner_options(&bus, &catalog, folder.path()));
        conformance::Bench {
            attempts: Arc::new(remote(&bus, &store)),
            logs: store.logs(),
            restarted: Some(Arc::new(remote(&bus, &store))),
            keep: Box::new((going, store, folder)),
        }
    });
    tokio::time::timeout(Duration::from_secs(120), suite).await.unwrap();
}
