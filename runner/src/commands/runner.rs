//! `fairlead runner`: takes jobs of a pool from NATS and makes their attempts here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use fairlead_bus::{JetStream, JetStreamOptions};
use fairlead_exec::{
    Cgroups, Confine, Floors, Guardian, RunFolders, Runner, RunnerEnd, RunnerError, RunnerOptions,
    guard, new_mark,
};
use fairlead_step::{Digest, HumanDuration, error_chain};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use super::serve::Config;
use crate::exit::{Exit, Stop};
use crate::projects::Permits;
use crate::settings::text_variable;
use crate::workspaces::Fetcher;

/// What `fairlead runner` is told.
#[derive(Debug, Args)]
pub(crate) struct RunnerArgs {
    /// The NATS server with JetStream that the servers use
    /// [default: FAIRLEAD_NATS]
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// The configuration of servers, whose projects say what may run here and which secrets they can name
    /// (YAML); without it the servers alone say what may run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pool whose jobs are taken: what steps name as `pool`
    #[arg(long, env = "FAIRLEAD_POOL", value_name = "NAME")]
    pool: String,
    /// What steps may ask of a runner under `labels`; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    labels: Vec<String>,
    /// How many attempts are made at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// The name of this runner, which no other has [default: the name of the machine]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long attempts may go on after the first SIGTERM or SIGINT; then they are handed back
    /// [default: as long as they want]
    #[arg(long, value_name = "DURATION")]
    grace: Option<HumanDuration>,
    /// The most megabytes of logs that wait on disk for a server
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    spool: u64,
    /// The megabytes of disk that must be free before a job is taken
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    min_disk: u64,
    /// The megabytes of memory that must be free before a job is taken
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    min_memory: u64,
}

/// What the guardian of a runner is told.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// What the processes carry that are to be ended
    #[arg(long)]
    mark: String,
}

/// Ends what a runner leaves, once that is gone or silent.
pub(crate) fn stand_guard(args: &GuardArgs) -> Exit {
    guard(&args.mark, std::io::stdin(), std::io::stdout());
    Exit::Passed
}

pub(crate) async fn runner(context: &Context<'_>, args: RunnerArgs) -> Result<Exit, Stop> {
    let settings = &context.settings;
    let labels = labels(&args.labels)?;
    let name = match args.name {
        Some(name) if name.is_empty() || name.len() > 100 || name.contains(char::is_control) => {
            return Err(Stop::usage("the name of a runner is a short line"));
        }
        Some(name) => name,
        None => machine()?,
    };
    let nats = args.nats.or_else(|| text_variable("FAIRLEAD_NATS"));
    let nats = nats.ok_or_else(|| {
        Stop::usage("there is no way to servers").hint("give `--nats URL`, or set FAIRLEAD_NATS")
    })?;
    let config = args.config.as_deref().map(Config::read).transpose()?;
    let permits = match &config {
        Some(config) => config.rules(settings)?.permits,
        None => Permits::open(),
    };
    let forges = context.forge_access(config.unwrap_or_default().logins()?, permits.egress.clone());
    let bus = JetStream::connect(JetStreamOptions::new(nats))
        .await
        .map_err(|e| Stop::usage(error_chain(&e)))?;
    let floors =
        Floors { disk: args.min_disk << 20, memory: args.min_memory << 20, ..Floors::default() };
    // Whatever this runner starts carries it, so that it can be ended when the runner is not there to.
    let mark = new_mark();
    let mut processes = settings.processes.clone();
    processes.mark = Some(match processes.mark {
        Some(outer) => format!("{outer},{mark}"),
        None => mark.clone(),
    });
    let program = PathBuf::from("/proc/self/exe");
    let program = program.read_link().unwrap_or(program);
    let guardian = Guardian::start(&program, &["guard-processes", "--mark", &mark])
        .map_err(|e| Stop::failed("the guardian of the runner cannot be started").because(&e))?;
    let folder = settings.state.join("runner");
    // One for each folder: what is left there is that of an earlier life of this runner, and of no other.
    let place = Digest::sha256(folder.as_os_str().as_encoded_bytes());
    let confine = Cgroups::find(&format!("fairlead-{}", &place.hex()[..12]))
        .map(|cgroups| Confine { cgroups, program: program.clone() });
    let groups = confine.as_ref().map_or_else(
        || "no control groups".to_owned(),
        |confine| format!("control groups: {}", confine.cgroups.describe()),
    );
    let options = RunnerOptions {
        bus: Arc::new(bus),
        name,
        pool: args.pool,
        labels,
        slots: args
            .slots
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        catalog: Arc::clone(&context.catalog),
        secrets: settings.secrets.clone(),
        registries: Arc::new(settings.registries.within(permits.egress.clone())),
        policy: permits.policy,
        egress: permits.egress,
        clock: Arc::clone(&settings.clock),
        processes,
        workspaces: {
            let folder = folder.clone();
            Box::new(move |artifacts| {
                let fetcher = Fetcher::new(forges.clone(), folder.join("mirrors"), artifacts);
                let folders = RunFolders::new(folder.join("workspaces"), Arc::new(fetcher));
                Arc::new(folders.refusing_local())
            })
        },
        folder,
        spool: args.spool << 20,
        floors,
        grace: args.grace.map(|grace| grace.0),
        version: env!("CARGO_PKG_VERSION").into(),
        guardian: Some(guardian),
        confine,
    };
    let said = format!(
        "runner {} of pool {} with {} slots; {groups}",
        options.name, options.pool, options.slots
    );
    let runner = Runner::new(options).map_err(|error| {
        let stop = Stop::usage(error_chain(&error));
        match error {
            RunnerError::Taken { .. } => stop.hint("give each runner a `--state` of its own"),
            RunnerError::Pool { .. } | RunnerError::Folder { .. } | _ => stop,
        }
    })?;
    context.output.say(said);
    let failed = |e: std::io::Error| Stop::internal("cannot hear signals").because(&e);
    let told = told_to_end().map_err(failed)?;
    let (drain, force) = told;
    let output = context.output;
    let drain = async {
        drain.await;
        output.say("no more jobs are taken; once more, and what goes on is handed back");
    };
    Ok(match Box::pin(runner.run(drain, force)).await {
        RunnerEnd::Drained => Exit::Passed,
        RunnerEnd::GaveUp { attempts } => {
            output.say(format!("{attempts} attempts were given up"));
            Exit::GaveUp
        }
        RunnerEnd::Forced { attempts } => {
            output.say(format!("{attempts} attempts were given up, as it was told"));
            Exit::Forced
        }
    })
}

/// Ready at the first, and at the second interrupt or termination signal.
fn told_to_end() -> std::io::Result<(
    impl Future<Output = ()> + Send + 'static,
    impl Future<Output = ()> + Send + 'static,
)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, is_first) = tokio::sync::oneshot::channel();
    let (second, is_second) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        for told in [first, second] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = told.send(());
        }
    });
    let ready = |told: tokio::sync::oneshot::Receiver<()>| async move {
        let _ = told.await;
    };
    Ok((ready(is_first), ready(is_second)))
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Stop> {
    let mut labels = BTreeMap::new();
    for text in given {
        let (name, value) =
            text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                Stop::usage(format!("`--labels {text}` is no label"))
                    .hint("write `--labels NAME=VALUE`")
            })?;
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Stop::usage(format!("the label `{name}` is given twice")));
        }
    }
    Ok(labels)
}

/// The name of the machine.
fn machine() -> Result<String, Stop> {
    whoami::hostname()
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Stop::usage("this machine has no name").hint("give `--name NAME`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_with_values() {
        let given = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            labels(&texts)
        };
        let read = given(&["disk=fast", "os=", "x=a=b"]).unwrap();
        assert_eq!((&*read["disk"], &*read["os"], &*read["x"]), ("fast", "", "a=b"));
        for bad in [&["disk"][..], &["=fast"], &["a=1", "a=2"]] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
    }
}
