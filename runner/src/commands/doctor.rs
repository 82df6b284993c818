//! `fairlead doctor`: what this machine has, what is missing, and what to do about it.

use std::collections::BTreeSet;

use fairlead_exec::{Mask, ProcessHost, SecretError, SecretProvider as _};
use fairlead_git::{Git, GitAuth};
use fairlead_oci::Client;
use fairlead_plan::Plan;
use fairlead_step::{CancelToken, Secret, error_chain};
use fairlead_step_build::engine_version;
use fairlead_step_scan::Database;
use fairlead_store::Store;
use std::path::Path;
use std::sync::Arc;

use super::{Context, preflight, serve};
use crate::cli::DoctorArgs;
use crate::exit::{Exit, Stop};
use crate::forges::Silent;
use crate::load;
use crate::output::Style;

/// What one look came to.
enum Found {
    Good(String),
    /// Missing, and some pipelines do without it.
    Missing(String, String),
    /// Broken: what uses it will fail.
    Bad(String, String),
}

pub(crate) async fn doctor(context: &Context<'_>, args: DoctorArgs) -> Result<Exit, Stop> {
    let mut found = vec![
        ("state", state(context).await),
        ("engine", engine(context).await),
        ("git", git(context).await),
        ("advisories", advisories(context)),
    ];
    for host in &args.registries {
        found.push(("registry", registry(context, host).await));
    }
    if let Some(path) = &args.config {
        found.extend(server(context, path).await?);
    }
    let mut secrets = BTreeSet::new();
    for path in args.pipelines.iter().chain(&args.files) {
        let plan = load::plan(path, &context.catalog, context.output)?;
        secrets.extend(plan.secrets());
        found.extend(steps(context, &plan, &args.workspace).await);
    }
    for name in &secrets {
        found.push(("secret", secret(context, name).await));
    }
    let output = context.output;
    let mut exit = Exit::Passed;
    for (what, found) in found {
        let (mark, style, text, hint) = match found {
            Found::Good(text) => ("✓", Style::Good, text, None),
            Found::Missing(text, hint) => ("–", Style::Warn, text, Some(hint)),
            Found::Bad(text, hint) => {
                exit = Exit::Failed;
                ("✗", Style::Bad, text, Some(hint))
            }
        };
        output.data(format!("{} {what:<11} {text}", output.paint(style, mark)));
        if let Some(hint) = hint {
            output.data(format!("  {:<11} {} {hint}", "", output.paint(Style::Warn, "→")));
        }
    }
    Ok(exit)
}

async fn state(context: &Context<'_>) -> Found {
    let folder = context.settings.state.display();
    match Store::open(&context.settings.state).await {
        Ok(store) => {
            store.close().await;
            Found::Good(format!("{folder}"))
        }
        Err(error) => Found::Bad(
            format!("{folder}: {}", error_chain(&error)),
            "name a folder that can be written with `--state DIR`".into(),
        ),
    }
}

async fn engine(context: &Context<'_>) -> Found {
    let engine = &context.settings.engine;
    match engine_version(engine).await {
        Ok(version) => Found::Good(format!("{version} at {engine}")),
        Err(error) => {
            let hint = error.way_out().unwrap_or("start Docker, or set DOCKER_HOST").to_owned();
            Found::Missing(error.chain(), format!("{hint} (`build` and containers need it)"))
        }
    }
}

async fn git(context: &Context<'_>) -> Found {
    let (_handle, cancel) = CancelToken::new();
    let home =
        context.settings.state.join("scratch").join(format!("doctor-{}", std::process::id()));
    let host = ProcessHost::new(
        Arc::new(context.settings.processes.clone()),
        context.settings.state.clone(),
        Arc::new(Silent),
        Arc::new(Mask::default()),
        cancel,
    );
    let version = async { Git::new(Arc::new(host), &home, &GitAuth::Ambient)?.version().await };
    let version = version.await;
    let _ = std::fs::remove_dir_all(&home);
    match version {
        Ok(version) => Found::Good(format!("git {version}")),
        Err(error) => Found::Missing(
            error_chain(&error),
            "install git 2.30 or newer (`gitops` needs it)".into(),
        ),
    }
}

fn advisories(context: &Context<'_>) -> Found {
    match Database::open(&context.settings.advisories) {
        Ok(database) => {
            let info = database.info();
            let newest = info.newest.map_or_else(|| "unknown".into(), |at| at.to_string());
            Found::Good(format!("{} records, the newest of {newest}", info.records))
        }
        Err(error) => {
            Found::Missing(error_chain(&error), format!("{} (`scan` needs it)", error.hint()))
        }
    }
}

async fn registry(context: &Context<'_>, host: &str) -> Found {
    let client = Client::new(context.settings.registries.clone());
    match client.ping(host).await {
        Ok(()) => Found::Good(format!("{host} answers, and lets us in")),
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "is it up, and the name right?".into());
            Found::Bad(error_chain(&error), hint)
        }
    }
}

/// What the steps of a pipeline will need and do not find. Parameters have their defaults.
async fn steps(context: &Context<'_>, plan: &Plan, workspace: &Path) -> Vec<(&'static str, Found)> {
    let secrets = preflight::secrets(context, plan).await;
    let scope = plan.scope(&preflight::defaults(plan), &serde_json::Value::Null);
    let known = preflight::known(&secrets);
    let none = BTreeSet::new();
    let lacks = preflight::look(context, plan, &scope, Some(workspace), &known, &none).await;
    if lacks.is_empty() {
        return vec![("pipeline", Found::Good(format!("`{}` has what it needs", plan.name())))];
    }
    let told = lacks.into_iter().map(|lack| {
        let text = format!("`{}`: {}: {}", plan.name(), lack.names(), lack.missing.message);
        let hint = lack.missing.hint.unwrap_or_else(|| "see to it before a run".to_owned());
        let found = if lack.perhaps { Found::Missing(text, hint) } else { Found::Bad(text, hint) };
        ("pipeline", found)
    });
    told.collect()
}

/// What a server's configuration lets pipelines use, and whether it is there.
async fn server(context: &Context<'_>, path: &Path) -> Result<Vec<(&'static str, Found)>, Stop> {
    let rules = serve::Config::read(path)?.rules(&context.settings)?;
    let mut found = Vec::new();
    for (name, answer) in rules.stores.look().await {
        found.push(match answer {
            Ok(()) => ("store", Found::Good(format!("`{name}` lets us in"))),
            Err(problem) => {
                let hint = "mend it, or its settings under `secret_stores`".to_owned();
                ("store", Found::Bad(format!("`{name}`: {problem}"), hint))
            }
        });
    }
    for (project, secrets) in &rules.secrets {
        for name in secrets.names() {
            let answer = secrets.get(name).await;
            found.push(("secret", told(answer, &format!("`{name}` of project `{project}`"))));
        }
    }
    Ok(found)
}

/// What became of a secret, which is called so.
fn told(answer: Result<Secret<String>, SecretError>, name: &str) -> Found {
    match answer {
        Ok(_) => Found::Good(format!("{name} is set")),
        Err(SecretError::Missing { hint, .. }) => Found::Bad(format!("{name} is not set"), hint),
        Err(error) => Found::Bad(error_chain(&error), "mend what keeps it".into()),
    }
}

async fn secret(context: &Context<'_>, name: &str) -> Found {
    told(context.settings.secrets.get(name).await, &format!("`{name}`"))
}
