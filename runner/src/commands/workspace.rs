//! The folder of a run that is made again: where it is gone, the commit is checked out once more.

use std::path::Path;

use fairlead_event::{ChangedPaths, GitPushed, GitRef, ObjectId};
use fairlead_exec::RunRequest;
use fairlead_run::Run;
use fairlead_step::{RunId, Workspace};
use fairlead_store::Store;
use serde_json::Value;

use super::serve::Config;
use super::{Context, drive};
use crate::exit::Stop;

/// Where the new run works: in the folder that is named, or in that of the old run. `folders` are the
/// folder that is named, and the configuration by which a checkout is made again.
pub(super) async fn place(
    context: &Context<'_>,
    store: &Store,
    run: &RunId,
    old: &Run,
    request: &mut RunRequest,
    (named, config): (Option<&Path>, Option<&Path>),
) -> Result<(), Stop> {
    match named {
        Some(named) => {
            request.workspace = Workspace::local(drive::workspace(named)?);
            Ok(())
        }
        None => restore(context, store, run, old, config).await,
    }
}

/// Sees to it that the folder that `old` worked in is there. A server removes checkouts that no
/// unfinished run needs; then the commit that the run's event names is fetched from the forge that the
/// configuration names, whatever its branch holds by now.
async fn restore(
    context: &Context<'_>,
    store: &Store,
    run: &RunId,
    old: &Run,
    config: Option<&Path>,
) -> Result<(), Stop> {
    let Workspace::Local { path: workspace } = &old.request().workspace else { return Ok(()) };
    if workspace.is_dir() {
        return Ok(());
    }
    let gone = || {
        let folder = workspace.display();
        Stop::usage(format!("the folder {folder}, in which run {run} worked, is gone"))
    };
    let checkouts = context.settings.state.join("checkouts");
    let name = workspace.strip_prefix(&checkouts).ok().and_then(|below| {
        let name = below.parent()?.to_str()?;
        (below.ends_with("files") && Path::new(name).components().count() == 1).then_some(name)
    });
    let (Some(name), Some(push)) = (name, pushed(&old.request().event)) else {
        return Err(
            gone().hint("put it back, or name another one with the same files: `--workspace DIR`")
        );
    };
    let Some(commit) = push.commit.clone() else {
        return Err(gone().hint(
            "its event names no commit; `--workspace DIR` names another one with the same files",
        ));
    };
    let Some(config) = config else {
        return Err(gone().hint(format!(
            "`--config FILE` names the configuration of the server; by it, commit {commit} of {} is \
             checked out again; `--workspace DIR` names another folder with the same files",
            push.repository
        )));
    };
    let config = Config::read(config)?;
    let mut refusals = Vec::new();
    let mut located = None;
    for (name, source) in &config.sources {
        let forge = source.forge();
        let forge = forge.map_err(|e| Stop::usage(format!("source `{name}`")).because(&e))?;
        let Some(forge) = forge else { continue };
        match forge.locate(source.kind, push.clone()) {
            Ok(push) => located = located.or(Some(push)),
            Err(why) => refusals.push(format!("source `{name}`: {why}")),
        }
    }
    let Some(push) = located else {
        let stop =
            gone().hint("no source of the configuration has a `forge` that its commit is from");
        return Err(refusals.into_iter().fold(stop, Stop::hint));
    };
    let made = config.checkouts(&context.settings, store)?.check_out(&push, &commit, name).await;
    made.map_err(|error| {
        let stop = gone().because(&error);
        error.way_out().into_iter().fold(stop, Stop::hint)
    })?;
    context.output.say(format!("commit {commit} of {} is checked out again", push.repository));
    Ok(())
}

/// The push that expressions of a run see as `event`, as far as a checkout needs it.
fn pushed(event: &Value) -> Option<GitPushed> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let id = |key: &str| text(key).and_then(|text| text.parse::<ObjectId>().ok());
    (text("kind")? == "git.push").then_some(())?;
    Some(GitPushed {
        repository: text("repository")?.to_owned(),
        clone_url: text("clone_url").map(ToOwned::to_owned),
        ssh_url: text("ssh_url").map(ToOwned::to_owned),
        reference: text("ref")?.parse::<GitRef>().ok()?,
        before: id("before"),
        after: id("after"),
        commit: id("commit").or_else(|| id("after")),
        forced: false,
        paths: ChangedPaths::Unknown,
        actor: None,
    })
}
