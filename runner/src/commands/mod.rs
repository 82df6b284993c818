//! The commands, a file each.

mod audit;
mod db;
mod dockerfile;
mod doctor;
mod drive;
mod events;
mod explain;
mod graph;
mod inspect;
mod journal;
mod key;
mod lint;
mod login;
mod logs;
mod pipeline_source;
mod policy;
mod preflight;
mod prune;
mod reload;
mod remote;
mod replay;
mod rerun;
pub(crate) mod runner;
mod runs;
mod sbom;
mod schema;
mod serve;
mod show;
mod steps;
mod token;
mod trace;
mod votes;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use bytes::Bytes;
use clap::CommandFactory as _;
use fairlead_exec::{
    Engine, EngineOptions, Injection, RunFolders, SecretProvider as _, WorkspaceLayout,
};
use fairlead_run::{Journal, LogStore, Run, RunFilter, StoredRun, Vote};
use fairlead_step::{Catalog, Digest, Egress, RunId};
use fairlead_store::{S3Options, Store};

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::forges::{ForgeAccess, ForgeLogins};
use crate::output::Output;
use crate::projects::Permits;
use crate::settings::Settings;
use crate::workspaces::Fetcher;

/// What every command works with.
pub(crate) struct Context<'o> {
    pub(crate) settings: Settings,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) output: &'o Output,
}

impl Context<'_> {
    /// Opens the store: in the state folder, or in the database that the settings name.
    pub(crate) async fn store(&self) -> Result<Store, Stop> {
        let store = self.store_in_folder().await?;
        store.limit_logs(self.settings.max_log);
        let Some(url) = &self.settings.artifacts else { return Ok(store) };
        let secret = async |name: &str| self.settings.secrets.get(name).await;
        let needed = async |name: &str| {
            secret(name)
                .await
                .map_err(|error| Stop::usage("the storage for artifacts").because(&error))
        };
        let options = S3Options {
            url: url.clone(),
            access_key_id: needed("s3_access_key_id").await?,
            secret_access_key: needed("s3_secret_access_key").await?,
            session_token: secret("s3_session_token").await.ok(),
        };
        store.with_artifacts_in(&options, &self.settings.state).await.map_err(|error| {
            let hint = error.hint();
            Stop::of(&error).hint(hint)
        })
    }

    async fn store_in_folder(&self) -> Result<Store, Stop> {
        let folder = &self.settings.state;
        match &self.settings.store {
            None => Store::open(folder).await.map_err(|error| {
                Stop::of(&error).hint("`--state DIR` or FAIRLEAD_STATE names another folder")
            }),
            Some(url) => Store::connect(url.expose(), folder).await.map_err(|error| {
                Stop::of(&error).hint("`--store URL` or FAIRLEAD_STORE names another database")
            }),
        }
    }

    /// An engine over `store`: at most so many attempts and runs at a time, with the faults to inject, and
    /// what may run.
    pub(crate) fn engine(
        &self,
        store: &Store,
        max_parallel: Option<NonZeroUsize>,
        max_runs: Option<NonZeroU32>,
        injections: Vec<Injection>,
        permits: Permits,
        workspaces: Arc<dyn WorkspaceLayout>,
    ) -> Engine {
        let options =
            self.engine_options(store, max_parallel, max_runs, injections, permits, workspaces);
        Engine::new(options)
    }

    /// What such an engine is made of.
    pub(crate) fn engine_options(
        &self,
        store: &Store,
        max_parallel: Option<NonZeroUsize>,
        max_runs: Option<NonZeroU32>,
        injections: Vec<Injection>,
        permits: Permits,
        workspaces: Arc<dyn WorkspaceLayout>,
    ) -> EngineOptions {
        let settings = &self.settings;
        EngineOptions {
            catalog: Arc::clone(&self.catalog),
            journal: store.journal(),
            logs: store.logs(),
            artifacts: store.artifacts(),
            result_cache: store.result_cache(),
            registries: Arc::new(settings.registries.within(permits.egress.clone())),
            egress: permits.egress,
            policy: permits.policy,
            secrets: settings.secrets.clone(),
            clock: Arc::clone(&settings.clock),
            processes: settings.processes.clone(),
            workspaces,
            scratch: settings.state.join("scratch"),
            max_parallel,
            max_runs,
            runners: None,
            default_pool: None,
            injections,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// What brings the files of workspaces, with mirrors in the state folder; what is at forges is fetched by
    /// `access`.
    pub(crate) fn fetcher(&self, store: &Store, access: ForgeAccess) -> Arc<Fetcher> {
        let mirrors = self.settings.state.join("mirrors");
        Arc::new(Fetcher::new(access, mirrors, store.artifacts()))
    }

    /// The workspaces of runs, in the state folder.
    pub(crate) fn workspaces(&self, fetcher: Arc<Fetcher>) -> Arc<RunFolders> {
        Arc::new(RunFolders::new(self.settings.state.join("workspaces"), fetcher))
    }

    /// What reaching forges takes, with these logins.
    pub(crate) fn forge_access(&self, logins: ForgeLogins, egress: Egress) -> ForgeAccess {
        ForgeAccess {
            processes: Arc::new(self.settings.processes.clone()),
            secrets: self.settings.secrets.clone(),
            logins,
            egress,
        }
    }
}

pub(crate) async fn run(
    command: Command,
    settings: Settings,
    catalog: Arc<Catalog>,
    output: &Output,
) -> Result<Exit, Stop> {
    let context = Context { settings, catalog, output };
    let command = match context.client()? {
        Some(client) => match remote::run(&context, &client, command).await? {
            remote::Done::Here(exit) => return Ok(exit),
            remote::Done::AsIfHere(command) => *command,
        },
        None => command,
    };
    match command {
        Command::Run(args) => drive::run(&context, args).await,
        Command::Resume(args) => drive::resume(&context, args).await,
        Command::Inspect(args) => inspect::inspect(&context, &args).await,
        Command::Lint(args) => lint::lint(&context, &args),
        Command::Graph(args) => graph::graph(&context, &args),
        Command::Runs(args) => runs::runs(&context, args).await,
        Command::Show(args) => show::show(&context, args).await,
        Command::Approve(args) => votes::vote(&context, args, Vote::Approve).await,
        Command::Reject(args) => votes::vote(&context, args, Vote::Reject).await,
        Command::Settle(args) => votes::settle(&context, args).await,
        Command::Cancel(args) => votes::cancel(&context, args).await,
        Command::Abandon(args) => votes::abandon(&context, args).await,
        Command::Retry(args) => rerun::retry(&context, args).await,
        Command::Undo(args) => rerun::undo(&context, args).await,
        Command::Explain(args) => explain::explain(&context, args).await,
        Command::Logs(args) => logs::logs(&context, args).await,
        Command::Journal(command) => journal::journal(&context, command).await,
        Command::Events(command) => events::events(&context, command).await,
        Command::Prune(args) => prune::prune(&context, args).await,
        Command::Db(command) => db::db(&context, command).await,
        Command::Sbom(command) => sbom::sbom(&context, &command),
        Command::Steps(command) => steps::steps(&context, command).await,
        Command::Schema(args) => schema::schema(&context, &args),
        Command::Verify(args) => policy::verify(&context, args).await,
        Command::Policy(command) => policy::policy(&context, command),
        Command::Trace(args) => trace::trace(&context, args).await,
        Command::Key(command) => key::key(&context, command).await,
        Command::Token(command) => token::token(&context, command).await,
        Command::Audit(command) => audit::audit(&context, command).await,
        Command::Login(_) | Command::Logout | Command::Whoami { .. } => Err(login::no_server()),
        Command::Doctor(args) => doctor::doctor(&context, args).await,
        Command::Serve(args) => serve::serve(&context, args).await,
        Command::Runner(args) => runner::runner(&context, args).await,
        Command::GuardProcesses(args) => Ok(runner::stand_guard(&args)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fairlead", &mut script);
            output.data(String::from_utf8_lossy(&script));
            Ok(Exit::Passed)
        }
    }
}

/// The run that a person names: its id, or `latest`.
pub(crate) async fn named_run(journal: &dyn Journal, name: &str) -> Result<RunId, Stop> {
    if name == "latest" {
        let newest = RunFilter { limit: 1, ..RunFilter::default() };
        let runs = journal.list(newest).await.map_err(|e| Stop::of(&e))?;
        return runs.into_iter().next().map(|run| run.id).ok_or_else(|| {
            Stop::usage("there is no run yet").hint("`fairlead run FILE` starts one")
        });
    }
    name.parse().map_err(|e| Stop::usage("which run?").because(&e))
}

/// A run, with its records.
pub(crate) async fn load(journal: &dyn Journal, run: &RunId) -> Result<(StoredRun, Run), Stop> {
    let stored = journal.load(run).await.map_err(|e| Stop::of(&e))?;
    let state = Run::restore(&stored).map_err(|e| {
        Stop::of(&e).hint(format!("`fairlead journal verify {run}` says where it is damaged"))
    })?;
    Ok((stored, state))
}

/// What is kept of runs, here or at a server.
pub(crate) struct KeptRuns {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) logs: Arc<dyn LogStore>,
    place: Place,
}

enum Place {
    Here(Store),
    Server(Client),
}

impl KeptRuns {
    /// A document that a run left behind.
    pub(crate) async fn artifact(&self, run: &RunId, digest: &Digest) -> Result<Bytes, Stop> {
        match &self.place {
            Place::Here(store) => store.artifacts().get(digest).await.map_err(|e| Stop::of(&e)),
            Place::Server(client) => client.artifact(run, digest).await,
        }
    }
}

impl Context<'_> {
    /// What is kept of runs: in the store, or at the server that is named.
    pub(crate) async fn kept(&self) -> Result<KeptRuns, Stop> {
        if let Some(client) = self.client()? {
            let remote = Arc::new(client.clone());
            let place = Place::Server(client);
            return Ok(KeptRuns { journal: remote.clone(), logs: remote, place });
        }
        let store = self.store().await?;
        let (journal, logs) = (store.journal(), store.logs());
        Ok(KeptRuns { journal, logs, place: Place::Here(store) })
    }

    /// The client of the server that is named; none where everything is here.
    pub(crate) fn client(&self) -> Result<Option<Client>, Stop> {
        let clock = &self.settings.clock;
        let server = self.settings.server.as_ref();
        server.map(|server| Client::new(server, Arc::clone(clock))).transpose()
    }
}
