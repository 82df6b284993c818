//! What a server is configured to have, and having something else while it runs: on SIGHUP its configuration
//! and its pipeline files are read again. What is wrong in any part is told, and nothing changes.

use std::sync::Arc;

use fairlead_event::Bus;
use fairlead_exec::SecretProvider;
use fairlead_plan::Plan;
use fairlead_server::{Definitions, Pipeline, Pipelines, PlanRules, Setup, Sources};
use fairlead_step::{Catalog, error_chain};
use serde_json::Value;
use tokio::signal::unix::Signal;

use super::Context;
use super::serve::{Config, Rules};
use crate::cli::ServeArgs;
use crate::couriers::{self, Means};
use crate::exit::Stop;
use crate::forges::ForgeLogins;
use crate::load;
use crate::output::Style;
use crate::projects::{self, Permits};

/// The parts of a configuration that a server reads when it starts, and then no more.
const AT_THE_START: [&str; 3] = ["identity", "telemetry", "trusted_proxies"];

/// What the rules of a configuration refuse to a plan.
struct Refusals {
    rules: Arc<Rules>,
    catalog: Arc<Catalog>,
}

impl PlanRules for Refusals {
    fn refusals(&self, plan: &Plan) -> Vec<String> {
        let refused = self.rules.refusals(plan, &self.catalog);
        refused.iter().map(|refusal| format!("{refusal} ({})", refusal.hint)).collect()
    }
}

/// What the server is configured to have. What is refused to the pipelines of its own files is told.
pub(super) async fn setup(
    context: &Context<'_>,
    args: &ServeArgs,
    config: &Config,
    rules: &Arc<Rules>,
    bus: &Arc<dyn Bus>,
) -> Result<Setup, Stop> {
    let mut pipelines = Vec::new();
    for file in load::pipeline_files(&args.pipelines)? {
        let plan = load::plan(&file, &context.catalog, context.output)?;
        pipelines.push(Pipeline::of_file(plan));
    }
    let pipelines = Pipelines::new(pipelines).map_err(|e| Stop::usage(e.to_string()))?;
    for pipeline in pipelines.iter() {
        // It may be allowed before anybody asks for a run, and the others run all the same.
        for refusal in rules.refusals(&pipeline.plan, &context.catalog) {
            let (output, name) = (context.output, pipeline.plan.name());
            output.say(format!("{} `{name}`: {refusal}", output.paint(Style::Warn, "warning:")));
            output.say(format!("{} {}", output.paint(Style::Warn, "hint:"), refusal.hint));
        }
    }
    let secrets = &*context.settings.secrets;
    let sources = Sources::open(&config.sources, secrets).await.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| error_chain(p)).collect();
        Stop::usage(lines.join("; ")).hint("docs/events.md has the fields of a source")
    })?;
    let shared: Arc<dyn SecretProvider> = context.settings.secrets.clone();
    let means = Means {
        secrets: &shared,
        egress: &rules.permits.egress,
        clock: &context.settings.clock,
        bus,
        logins: &config.logins()?,
        url: config.url.as_deref(),
    };
    let destinations = couriers::destinations(&config.sinks, &config.sources, &means).await;
    let destinations = destinations.map_err(|problems| {
        Stop::usage(problems.join("; ")).hint("docs/events.md has the fields of sinks and sources")
    })?;
    let projects = projects::membership(&config.projects);
    Ok(Setup {
        pipelines,
        repositories: config.pipelines.clone(),
        sources,
        projects: projects.map_err(|e| Stop::usage(e.to_string()))?,
        rules: Arc::new(Refusals {
            rules: Arc::clone(rules),
            catalog: Arc::clone(&context.catalog),
        }),
        destinations,
    })
}

/// What reads the configuration again.
pub(super) struct Reload<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) args: &'a ServeArgs,
    pub(super) definitions: Arc<Definitions>,
    pub(super) bus: Arc<dyn Bus>,
    /// What the parts of the server have clones of.
    pub(super) permits: Permits,
    pub(super) logins: ForgeLogins,
    /// The configuration as it stood when the server started.
    pub(super) began_with: Value,
}

impl Reload<'_> {
    /// Reads it again whenever the signal comes.
    pub(super) async fn run(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            tracing::info!("the configuration and the pipelines are read again");
            match self.reload().await {
                Ok(()) => tracing::info!("the server has what its configuration says now"),
                Err(stop) => {
                    let hints: String =
                        stop.hints.iter().map(|hint| format!(" ({hint})")).collect();
                    tracing::error!(
                        "the configuration is refused, and the server keeps what it had: {}{hints}",
                        if stop.message.is_empty() { "a pipeline is wrong" } else { &stop.message }
                    );
                }
            }
        }
        // Nobody sends it any more; the server goes on.
        std::future::pending().await
    }

    async fn reload(&self) -> Result<(), Stop> {
        let (config, raw) = match &self.args.config {
            Some(path) => (Config::read(path)?, Config::raw(path)?),
            None => (Config::default(), Value::Null),
        };
        let rules = Arc::new(config.rules(&self.context.settings)?);
        let logins = config.logins()?;
        let setup = setup(self.context, self.args, &config, &rules, &self.bus).await?;
        // Once all of it is good, so that nothing is let through, or kept out, by half of it.
        let replaced = self.definitions.replace(setup, || {
            self.permits.egress.replace(&rules.permits.egress);
            self.permits.policy.replace(&rules.permits.policy);
            self.logins.replace(&logins);
        });
        replaced.await.map_err(|problems| Stop::usage(problems.join("; ")))?;
        for part in AT_THE_START.iter().filter(|part| raw[**part] != self.began_with[**part]) {
            tracing::warn!("`{part}` has changed: it is read again when the server starts");
        }
        if subjects(&raw) != subjects(&self.began_with) {
            tracing::warn!("a `subject` has changed: NATS is heard so when the server starts");
        }
        Ok(())
    }
}

/// The NATS subjects of sources.
fn subjects(raw: &Value) -> Vec<(&String, &Value)> {
    let sources = raw["sources"].as_object().into_iter().flatten();
    let heard = sources.filter_map(|(name, source)| Some((name, source.get("subject")?)));
    heard.collect()
}
