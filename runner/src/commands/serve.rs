//! `fairlead serve`: webhooks and the API in, runs out, in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fairlead_bus::{InProcess, JetStream, JetStreamOptions};
use fairlead_event::Bus;
use fairlead_exec::SecretProvider as _;
use fairlead_oci::Client;
use fairlead_server::{
    ApiAccess, FoundImage, ImageResolver, Options, Pipeline, Pipelines, Ports, ServeError, Server,
    SourceSettings, Sources,
};
use fairlead_step::{BoxFuture, Digest, Image, ImageRef, StepError, error_chain};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, drive, votes};
use crate::checkouts::{Checkouts, ForgeLogin};
use crate::cli::ServeArgs;
use crate::exit::{Exit, Stop};
use crate::load;

/// The most bytes of a configuration.
const MAX_CONFIG: u64 = 1 << 20;

/// The configuration of a server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// From whom events are taken, by the name in the path `/webhooks/NAME`.
    #[serde(default)]
    sources: BTreeMap<String, SourceSettings>,
    /// Who to be at a forge when a pushed commit is checked out, by the forge's host.
    #[serde(default)]
    forges: BTreeMap<String, ForgeLogin>,
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
    let workspace = drive::workspace(&args.workspace)?;
    let mut pipelines = Vec::new();
    for file in load::pipeline_files(&args.pipelines)? {
        let plan = load::plan(&file, &context.catalog, context.output)?;
        pipelines.push(Pipeline { plan: Arc::new(plan), workspace: workspace.clone() });
    }
    let pipelines = Pipelines::new(pipelines).map_err(|e| Stop::usage(e.to_string()))?;
    let config = args.config.as_deref().map(config).transpose()?.unwrap_or_default();
    let sources = Sources::open(&config.sources, &*settings.secrets).await.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| error_chain(p)).collect();
        Stop::usage(lines.join("; ")).hint("docs/events.md has the fields of a source")
    })?;
    let access = match &args.api_token {
        None => ApiAccess::LoopbackWithoutToken,
        Some(name) => ApiAccess::Token(
            settings.secrets.get(name).await.map_err(|e| Stop::usage(error_chain(&e)))?,
        ),
    };
    let bus: Arc<dyn Bus> = match &args.nats {
        None => Arc::new(InProcess::default()),
        Some(url) => Arc::new(
            JetStream::connect(JetStreamOptions::new(url.clone()))
                .await
                .map_err(|e| Stop::usage(error_chain(&e)))?,
        ),
    };
    let store = context.store().await?;
    let max_runs = usize::try_from(args.max_runs.get()).unwrap_or(usize::MAX);
    let options = Options { max_runs, ..Options::default() };
    let engine = context.engine(&store, args.max_parallel, Some(args.max_runs), Vec::new());
    let checkouts = Checkouts {
        folder: settings.state.join("checkouts"),
        processes: Arc::new(settings.processes.clone()),
        secrets: settings.secrets.clone(),
        journal: store.journal(),
        logins: config.forges,
    };
    checkouts.prune().await.map_err(|e| Stop::of(&e))?;
    let ports = Ports {
        engine,
        journal: store.journal(),
        events: store.events(),
        logs: store.logs(),
        bus,
        images: Arc::new(Registry(Client::new(settings.registries.clone()))),
        workspaces: Arc::new(checkouts),
        clock: Arc::clone(&settings.clock),
        pipelines,
        sources,
        access,
        groups: votes::groups(args.groups.as_deref())?,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(|e| {
        Stop::failed(format!("cannot listen on {}", args.listen))
            .because(&e)
            .hint("is another server running there? `--listen` names another address")
    })?;
    // Whoever asked for port 0 learns here which one it is.
    let address = listener.local_addr().map_err(|e| Stop::of(&e))?;
    context.output.say(format!("listening on http://{address}"));
    let stopped = stop_signal().map_err(|e| Stop::internal("cannot hear signals").because(&e))?;
    Server::new(ports, options).serve(listener, stopped).await.map_err(|error| {
        let stop = Stop::of(&error);
        if matches!(error, ServeError::Exposed { .. }) {
            return stop.hint("`--api-token SECRET` makes the API safe to expose");
        }
        stop
    })?;
    store.close().await;
    Ok(Exit::Passed)
}

fn config(path: &Path) -> Result<Config, Stop> {
    let text = load::text(path, MAX_CONFIG)?;
    serde_saphyr::from_str(&text).map_err(|e| {
        Stop::usage(format!("{} is not a configuration of `serve`", path.display()))
            .because(&e)
            .hint("`fairlead schema server` prints its schema")
    })
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
