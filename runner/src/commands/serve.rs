//! `fairlead serve`: webhooks and the API in, runs out, in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fairlead_bus::{InProcess, JetStream, JetStreamOptions};
use fairlead_event::{Bus, is_pool_name};
use fairlead_exec::{
    Engine, EngineOptions, NoRunners, Refusal, RemoteAttempts, RemoteOptions, RunFolders,
    SecretProvider as _,
};
use fairlead_oci::Client;
use fairlead_plan::{Plan, Scope};
use fairlead_run::{Journal, StoreError};
use fairlead_server::{
    ApiAccess, FoundImage, ImageResolver, IssuerDocuments, IssuerSettings, Issuers, Metrics,
    Options, Ports, PruneRequest, RepositorySettings, Retention, ServeError, Server,
    SourceSettings, TraceExporter, TrustedProxies,
};
use fairlead_step::{
    BoxFuture, Catalog, Clock, Digest, Egress, Image, ImageRef, StepError, error_chain,
};
use fairlead_store::{PruneRules, Store};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::reload::{self, Reload};
use super::{Context, drive, preflight, prune, votes};
use crate::cli::ServeArgs;
use crate::couriers::SinkSettings;
use crate::exit::{Exit, Stop};
use crate::forges::{ForgeLogin, ForgeLogins, ForgeLookup};
use crate::issuers::Documents;
use crate::load;
use crate::projects::{self, EgressSettings, Permits, ProjectSettings};
use crate::secrets::project::{ProjectSecrets, StoreSettings, Stores};
use crate::settings::{Settings, text_variable};
use crate::telemetry::{Otlp, TelemetrySettings};

/// How often workspaces are looked for that nobody needs any more. Runs give theirs back when they end;
/// this is for processes that were killed.
const SWEEP: Duration = Duration::from_secs(1800);

/// The shortest lease: within it a question and its answer must have their time.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// The most bytes of a configuration.
const MAX_CONFIG: u64 = 1 << 20;

/// The configuration of a server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// From whom events are taken, by the name in the path `/webhooks/NAME`.
    #[serde(default)]
    pub(super) sources: BTreeMap<String, SourceSettings>,
    /// The repositories whose pipeline files the server follows.
    #[serde(default)]
    pub(super) pipelines: Vec<RepositorySettings>,
    /// Who to be at a forge, by the host (`host` or `host:port`) of the address that is fetched from.
    #[serde(default)]
    forges: BTreeMap<String, ForgeLogin>,
    /// What pipelines may do, by project. Whatever is not allowed here is refused.
    #[serde(default)]
    pub(super) projects: BTreeMap<String, ProjectSettings>,
    /// Where the secrets of projects are kept besides files, by a name for each.
    #[serde(default)]
    secret_stores: BTreeMap<String, StoreSettings>,
    /// Which hosts events and pipelines may make the server speak to, besides those of the public internet.
    #[serde(default)]
    egress: EgressSettings,
    /// Who may use the API. When it is there, the API is for those who show a token that
    /// `fairlead token create` has made, and may be served to the network.
    #[serde(default)]
    identity: Option<IdentitySettings>,
    /// The networks of the proxies in front of the server, such as `10.0.0.0/8`. What those say in `Forwarded`
    /// or `X-Forwarded-For` of the address that a request comes from is believed, counted from the right.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    trusted_proxies: Vec<IpNet>,
    /// Where people reach this server, such as `https://fairlead.example.com`: links in commit statuses lead
    /// there.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// Who hears of what happens here, as CloudEvents, by a name for each.
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, SinkSettings>,
    /// What the server says of itself to other machines.
    #[serde(default)]
    telemetry: TelemetrySettings,
}

/// What a server with a configuration lets its pipelines do.
pub(super) struct Rules {
    pub(super) permits: Permits,
    pub(super) stores: Stores,
    /// The secrets of each project.
    pub(super) secrets: BTreeMap<String, Arc<ProjectSecrets>>,
}

impl Rules {
    /// What is refused to a pipeline, as far as its inputs are known before anybody asks for a run. Nobody is
    /// asked for a secret.
    pub(super) fn refusals(&self, plan: &Plan, catalog: &Catalog) -> Vec<Refusal> {
        let scope = Scope { params: preflight::defaults(plan), ..Scope::default() };
        let policy = &self.permits.policy;
        let mut found = policy.foreseen(plan, catalog, &scope, &BTreeSet::new());
        if let Ok(Some(project)) = policy.project_of(plan.name()) {
            let secrets = self.secrets.get(&project);
            let unknown = plan.secrets().into_iter();
            let unknown = unknown.filter(|name| !secrets.is_some_and(|known| known.may_have(name)));
            found.extend(unknown.map(|name| Refusal {
                step: None,
                message: format!("the secret `{name}` is none of project `{project}`"),
                hint: format!(
                    "say where it comes from under `projects.{project}.secrets.{name}` in the server's \
                     configuration"
                ),
            }));
        }
        found
    }
}

/// Who may use the API, besides those who show the token of `--api-token`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentitySettings {
    /// The issuers whose tokens are taken, too, by name: of CI systems, of clusters, of a company.
    #[serde(default)]
    issuers: BTreeMap<String, IssuerSettings>,
}

/// What stands in a configuration file.
fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T, Stop> {
    let text = load::text(path, MAX_CONFIG)?;
    serde_saphyr::from_str(&text).map_err(|e| {
        Stop::usage(format!("{} is not a configuration of `serve`", path.display()))
            .because(&e)
            .hint("`fairlead schema server` prints its schema")
    })
}

impl Config {
    /// Reads the configuration in a file.
    pub(super) fn read(path: &Path) -> Result<Self, Stop> {
        parsed(path)
    }

    /// The same as it stands in the file.
    pub(super) fn raw(path: &Path) -> Result<Value, Stop> {
        parsed(path)
    }

    /// What a server with this configuration lets its pipelines do.
    pub(super) fn rules(&self, settings: &Settings) -> Result<Rules, Stop> {
        let wrong = |problems: Vec<String>| {
            Stop::usage(problems.join("; ")).hint("docs/server.md says what may stand there")
        };
        let stores = projects::stores(&self.secret_stores, &settings.processes).map_err(wrong)?;
        let (policy, secrets) = projects::policy(&self.projects, &stores).map_err(wrong)?;
        let egress = self.egress().map_err(|problem| wrong(vec![problem]))?;
        Ok(Rules { permits: Permits { policy, egress }, stores, secrets })
    }

    /// Which hosts may be spoken to: those that the configuration names are meant.
    fn egress(&self) -> Result<Egress, String> {
        let of_sources = self.sources.values().flat_map(|source| {
            [&source.registry, &source.forge, &source.forge_ssh, &source.api].into_iter().flatten()
        });
        let of_sinks = self.sinks.values().filter_map(|sink| sink.url.as_ref());
        let issuers = self.identity.iter().flat_map(|identity| identity.issuers.values());
        let of_issuers = issuers
            .flat_map(|issuer| [Some(&issuer.issuer), issuer.keys.as_ref()].into_iter().flatten());
        let configured = of_sources
            .chain(self.forges.keys())
            .chain(of_issuers)
            .chain(of_sinks)
            .map(String::as_str);
        projects::egress(&self.egress, configured)
    }

    /// Who to be at forges.
    pub(super) fn logins(&self) -> Result<ForgeLogins, Stop> {
        ForgeLogins::new(self.forges.clone()).map_err(Stop::usage)
    }
}

/// Asks registries what an event speaks of, and what a tag stands for.
pub(super) struct Registry(pub(super) Client);

impl ImageResolver for Registry {
    fn find<'a>(
        &'a self,
        reference: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Option<FoundImage>, StepError>> {
        Box::pin(async move {
            match self.0.resolve(reference).await {
                Ok(found) => Ok(Some(FoundImage {
                    digest: found.image.digest,
                    media_type: Some(found.media_type),
                })),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn subject<'a>(
        &'a self,
        manifest: &'a Image,
    ) -> BoxFuture<'a, Result<Option<Digest>, StepError>> {
        Box::pin(async move {
            let manifest = self.0.manifest(manifest).await?;
            Ok(manifest.subject.map(|subject| subject.digest))
        })
    }
}

pub(crate) async fn serve(context: &Context<'_>, args: ServeArgs) -> Result<Exit, Stop> {
    let settings = &context.settings;
    let config = args.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let rules = Arc::new(config.rules(settings)?);
    let access = match &args.api_token {
        None if config.identity.is_some() => ApiAccess::KnownCallers,
        None => ApiAccess::LoopbackWithoutToken { user: drive::person() },
        Some(name) => ApiAccess::Token(
            settings.secrets.get(name).await.map_err(|e| Stop::usage(error_chain(&e)))?,
        ),
    };
    let documents: Arc<dyn IssuerDocuments> = Arc::new(Documents(rules.permits.egress.clone()));
    let issuers = config.identity.as_ref().map(|identity| identity.issuers.clone());
    let issuers = Issuers::new(issuers.unwrap_or_default(), &documents)
        .map_err(|e| Stop::usage(format!("`identity`: {e}")))?;
    let nats = args.nats.clone().or_else(|| text_variable("FAIRLEAD_NATS"));
    let bus: Arc<dyn Bus> = match &nats {
        None => Arc::new(InProcess::default()),
        Some(url) => Arc::new(
            JetStream::connect(JetStreamOptions::new(url.clone()))
                .await
                .map_err(|e| Stop::usage(error_chain(&e)))?,
        ),
    };
    let setup = reload::setup(context, &args, &config, &rules, &bus).await?;
    let store = context.store().await?;
    let max_runs = usize::try_from(args.max_runs.get()).unwrap_or(usize::MAX);
    let options = Options { max_runs, ..Options::default() };
    let permits = rules.permits.clone();
    let registries = Arc::new(settings.registries.within(permits.egress.clone()));
    let max_runs = Some(args.max_runs);
    let logins = config.logins()?;
    let forges = context.forge_access(logins.clone(), permits.egress.clone());
    let fetcher = context.fetcher(&store, forges.clone());
    let workspaces = context.workspaces(Arc::clone(&fetcher));
    let folders = Arc::clone(&workspaces);
    let traces = Otlp::open(&config.telemetry, &*settings.secrets).await.map_err(Stop::usage)?;
    let metrics = Arc::new(Metrics::new());
    let made_of = context.engine_options(
        &store,
        args.max_parallel,
        max_runs,
        Vec::new(),
        permits,
        workspaces,
    );
    let made_of = with_runners(made_of, &store, &args, nats.as_deref()).await?;
    let engine = Engine::measured(made_of, metrics.clone());
    let sweeping = tokio::spawn(sweep(Arc::clone(&folders), store.journal()));
    let told = Arc::clone(&bus);
    let lookup = ForgeLookup { access: forges, folders, fetcher };
    let ports = Ports {
        engine,
        journal: store.journal(),
        events: store.events(),
        deliveries: store.deliveries(),
        logs: store.logs(),
        artifacts: store.artifacts(),
        retention: Arc::new(Pruning { store: store.clone(), clock: Arc::clone(&settings.clock) }),
        catalog: Arc::clone(&context.catalog),
        bus,
        images: Arc::new(Registry(Client::new(registries))),
        forges: Arc::new(lookup),
        clock: Arc::clone(&settings.clock),
        access,
        tokens: store.tokens(),
        issuers,
        audit: store.audit(),
        keyed: store.keyed_requests(),
        proxies: TrustedProxies::new(config.trusted_proxies.clone()),
        groups: votes::groups(args.groups.as_deref())?,
        metrics,
        traces: traces.map(|traces| Arc::new(traces) as Arc<dyn TraceExporter>),
    };
    let server = Server::new(ports, setup, options);
    let server = server.map_err(|problems| {
        Stop::usage(problems.join("; ")).hint("docs/server.md says what may stand there")
    })?;
    let listener = TcpListener::bind(args.listen).await.map_err(|e| {
        Stop::failed(format!("cannot listen on {}", args.listen))
            .because(&e)
            .hint("is another server running there? `--listen` names another address")
    })?;
    // Whoever asked for port 0 learns here which one it is.
    let address = listener.local_addr().map_err(|e| Stop::of(&e))?;
    context.output.say(format!("listening on http://{address}"));
    let deaf = |error: std::io::Error| Stop::internal("cannot hear signals").because(&error);
    let (stopped, hangup) =
        (stop_signal().map_err(deaf)?, signal(SignalKind::hangup()).map_err(deaf)?);
    let began_with = args.config.as_deref().map(Config::raw).transpose()?.unwrap_or_default();
    let reload = Reload {
        context,
        args: &args,
        definitions: server.definitions(),
        bus: told,
        permits: rules.permits.clone(),
        logins,
        began_with,
    };
    let served = tokio::select! {
        served = Box::pin(server.serve(listener, stopped)) => served,
        () = reload.run(hangup) => Ok(()),
    };
    served.map_err(|error| {
        let stop = Stop::of(&error);
        if matches!(error, ServeError::Exposed { .. }) {
            return stop.hint(
                "`identity: {}` in the configuration asks every caller for a token, which `fairlead \
                 token create` makes; `--api-token SECRET` asks for that one",
            );
        }
        stop
    })?;
    sweeping.abort();
    store.close().await;
    Ok(Exit::Passed)
}

/// The store's retention, for those who ask through the API.
struct Pruning {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Retention for Pruning {
    fn prune(&self, asked: PruneRequest) -> BoxFuture<'_, Result<Value, StoreError>> {
        Box::pin(async move {
            let mut rules = PruneRules::at(self.clock.now());
            if let Some(age) = asked.older_than {
                rules = rules.older_than(age);
            }
            if let Some(count) = asked.keep_last {
                rules = rules.keep_last(count);
            }
            let report = self.store.prune(&rules, asked.dry_run).await?;
            Ok(prune::as_json(&report, !asked.dry_run))
        })
    }
}

/// Removes what killed processes left of workspaces, now and again.
async fn sweep(workspaces: Arc<RunFolders>, journal: Arc<dyn Journal>) {
    let mut due = tokio::time::interval(SWEEP);
    loop {
        due.tick().await;
        if let Err(error) = workspaces.sweep(&*journal).await {
            tracing::warn!("the workspaces of runs that have ended are not swept: {error}");
        }
    }
}

/// The engine of a server: with NATS, runners make the attempts of steps that name a pool.
async fn with_runners(
    mut options: EngineOptions,
    store: &Store,
    args: &ServeArgs,
    nats: Option<&str>,
) -> Result<EngineOptions, Stop> {
    if let Some(pool) = args.default_pool.as_deref().filter(|pool| !is_pool_name(pool)) {
        return Err(Stop::usage(format!("`--default-pool {pool}` names no pool"))
            .hint("the name of a pool has lower-case letters, digits, `-` and `_`"));
    }
    if nats.is_none() && args.default_pool.is_some() {
        return Err(Stop::usage("`--default-pool` needs runners, and there is no way to them")
            .hint("give `--nats URL`"));
    }
    if let Some(url) = nats {
        // A connection of their own: logs must not hold up events.
        let bus = JetStream::connect(JetStreamOptions::new(url))
            .await
            .map_err(|e| Stop::usage(error_chain(&e)))?;
        let runners = RemoteAttempts::start(RemoteOptions {
            bus: Arc::new(bus),
            logs: store.logs(),
            artifacts: store.artifacts(),
            result_cache: store.result_cache(),
            lease: args.runner_lease.0.max(SHORTEST_LEASE),
        });
        options.runners = Some(Arc::new(runners));
        options.default_pool.clone_from(&args.default_pool);
    } else {
        // What is meant for a pool is not made on a server's own machine.
        options.runners = Some(Arc::new(NoRunners));
    }
    Ok(options)
}

/// Ready at the first interrupt or termination signal.
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
