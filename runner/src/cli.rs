//! The command line.

mod access;
mod evidence;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fairlead_exec::Injection;
use fairlead_run::EventState;
use fairlead_step::{ByteSize, HumanDuration, StepId};

pub(crate) use access::{AuditCommand, LoginArgs, TokenCommand, TokenCreateArgs};
pub(crate) use evidence::{
    KeyAlgorithm, KeyCommand, KeyOutArgs, PolicyCommand, TraceArgs, VerifyArgs,
};

use crate::commands::runner::{GuardArgs, RunnerArgs};
use crate::output::Color;
use crate::settings::{GLOBAL, SettingsArgs};

/// Moves container images from source to production, and leaves proof at every step
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 passed, 1 failed, 2 wrong usage or file, 3 rejected by a \
    policy, 4 cancelled, 5 interrupted (resume it), 6 it waits, 70 a defect")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) settings: SettingsArgs,

    /// When to use color
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, help_heading = GLOBAL)]
    pub(crate) color: Color,

    /// Say more of what goes on inside; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline
    Run(RunArgs),
    /// Go on with a run that was interrupted, or stay with one that waits
    Resume(ResumeArgs),
    /// Check pipeline files and Dockerfiles without running anything
    Lint(LintArgs),
    /// Show what is in an image, layer by layer, and what is wasted
    Inspect(InspectArgs),
    /// Draw the steps of a pipeline
    Graph(GraphArgs),
    /// List runs, newest first
    Runs(RunsArgs),
    /// Let a run on at a gate that asks for approval
    Approve(VoteArgs),
    /// Stop a run at a gate that asks for approval; one vote is enough
    Reject(VoteArgs),
    /// Decide of an attempt that must not be made twice, and whose end nobody saw
    Settle(SettleArgs),
    /// Tell a run to stop; said twice, its `on_failure` and `finally` steps stop, too
    Cancel(CancelArgs),
    /// End a run that nothing else can end: no step of it is made any more, and nobody may be driving it
    Abandon(CancelArgs),
    /// Make a part of a run again, in a new run that keeps what was good
    Retry(RetryArgs),
    /// Take back what a run did, by the `on_undo` hooks of its steps, in reverse
    Undo(UndoArgs),
    /// Show a run: steps, times, outputs, reasons
    Show(ShowArgs),
    /// Say why a run and its steps are where they are, and what would let them go on
    Explain(ExplainArgs),
    /// Print the logs of a run
    Logs(LogsArgs),
    /// The journal of a run: check it, take it elsewhere, look at the run as it was
    #[command(subcommand)]
    Journal(JournalCommand),
    /// The events that a server took in: what became of them, and handing one out again
    #[command(subcommand)]
    Events(EventsCommand),
    /// Remove finished runs that the rules allow to go, with what nobody else needs
    Prune(PruneArgs),
    /// The advisory database that `scan` uses
    #[command(subcommand)]
    Db(DbCommand),
    /// Bills of materials in files
    #[command(subcommand)]
    Sbom(SbomCommand),
    /// The kinds of steps
    #[command(subcommand)]
    Steps(StepsCommand),
    /// Print or write the JSON Schemas
    Schema(SchemaArgs),
    /// Hold the evidence at an image against a policy, or a key
    Verify(VerifyArgs),
    /// Policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Follow the evidence at an image back to its build and its commit, from the registry alone
    Trace(TraceArgs),
    /// Keys that sign
    #[command(subcommand)]
    Key(KeyCommand),
    /// The tokens with which callers show a server who they are
    #[command(subcommand)]
    Token(TokenCommand),
    /// What callers have changed, and whether the log of it is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Log in at a server, and keep the login for the commands that follow
    Login(LoginArgs),
    /// Forget the login at a server
    Logout,
    /// Say who one is at a server, and what one may do there
    Whoami {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at what this machine has, and say what is missing
    Doctor(DoctorArgs),
    /// Serve webhooks and the API, and start pipelines by events
    Serve(ServeArgs),
    /// Take jobs of a pool from servers, and make their attempts on this machine
    Runner(RunnerArgs),
    /// End what a runner leaves behind: its runner starts it
    #[command(hide = true)]
    GuardProcesses(GuardArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The pipeline file; with `--server` also the name of a pipeline of the server
    pub(crate) file: PathBuf,
    /// A parameter: NAME=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// A file with the CloudEvent (JSON) that the run is told it was started by
    #[arg(long, value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// The folder that relative paths in steps start from
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) workspace: PathBuf,
    /// With `--server`: pack the folder `.git` with the others, too
    #[arg(long)]
    pub(crate) with_git: bool,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// The step that asks
    pub(crate) step: StepId,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) who: WhoArgs,
}

/// In whose name something is said.
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// In whose name [default: the user of the system]
    #[arg(long = "as", value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// A file with the groups of users (YAML: GROUP: [USER, …])
    #[arg(long, env = "FAIRLEAD_GROUPS", value_name = "FILE")]
    pub(crate) groups: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("decision").required(true).args(["passed", "failed", "again"])))]
pub(crate) struct SettleArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// The step
    pub(crate) step: StepId,
    /// It took effect
    #[arg(long)]
    pub(crate) passed: bool,
    /// What the step would have given, as a JSON object
    #[arg(long, value_name = "JSON", requires = "passed")]
    pub(crate) outputs: Option<String>,
    /// It did not take effect, and shall not
    #[arg(long)]
    pub(crate) failed: bool,
    /// It did not take effect; make it again
    #[arg(long)]
    pub(crate) again: bool,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) who: WhoArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) who: WhoArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// Make this step again, with all that needs it; may be given more than once [default: what did
    /// not end well]
    #[arg(long = "from", value_name = "STEP")]
    pub(crate) from: Vec<StepId>,
    /// Make it by this pipeline file, as it is now [default: by the plan that the run was pinned to]
    #[arg(long, value_name = "FILE")]
    pub(crate) replan: Option<PathBuf>,
    /// A folder to work in instead of what the run worked on
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// Say what would be taken back, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take it back although that was begun before
    #[arg(long)]
    pub(crate) once_more: bool,
    /// A folder to work in instead of what the run worked on
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// Only this step
    pub(crate) step: Option<StepId>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Check that journals are whole, and make runs: each record, the chain of their hashes, the plan
    Verify {
        /// Runs, or files that `export` wrote
        #[arg(required_unless_present = "all")]
        journals: Vec<String>,
        /// Every run of the store
        #[arg(long, conflicts_with = "journals")]
        all: bool,
    },
    /// Print a run's plan and records, a line each, byte for byte as they are kept
    Export {
        /// The run, or `latest`
        run: String,
    },
    /// Show a run as its journal makes it, record by record
    Replay {
        /// The run, `latest`, or a file that `export` wrote
        journal: String,
        /// Up to this record
        #[arg(long, value_name = "SEQ")]
        until: Option<u64>,
        /// The state as JSON, and no records
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events, newest first
    List(EventsListArgs),
    /// Show an event, what became of it, the runs that it started, and why the other pipelines did not
    Show {
        /// The id of the event, or its beginning
        id: String,
        /// The pipelines to ask: files, and folders of them; a server asks its own
        #[arg(long, value_name = "PATH", num_args = 1..)]
        pipelines: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let an event happen once more, or say which pipelines it starts and why the others do not
    Replay(ReplayArgs),
    /// Hand an event out again that is dead or waits, with all its attempts before it
    Retry {
        /// The id of the event, or its beginning
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The id of the event, or its beginning; or a file with a CloudEvent as JSON
    #[arg(value_name = "ID|FILE")]
    pub(crate) event: String,
    /// Only say which pipelines start, and why the others do not
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The pipelines to ask: files, and folders of them
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "dry_run")]
    pub(crate) pipelines: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsListArgs {
    /// Only events in this state: pending, handled or dead
    #[arg(long, value_name = "STATE")]
    pub(crate) only: Option<EventState>,
    /// Only events that are older than this one
    #[arg(long, value_name = "ID")]
    pub(crate) before: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only runs that ended longer ago than this, such as `30d`
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<HumanDuration>,
    /// Only runs that are not among the last so many of their pipeline
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Remove them; without it nothing is removed, and the same is said
    #[arg(long)]
    pub(crate) yes: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) drive: DriveArgs,
}

/// What holds for every command that drives a run.
#[derive(Debug, Args)]
pub(crate) struct DriveArgs {
    /// How many steps may run at a time [default: the number of processors, at least 4]
    #[arg(long, value_name = "N")]
    pub(crate) max_parallel: Option<NonZeroUsize>,
    /// A fault to inject: STEP=lost|fail|timeout@ATTEMPT, or
    /// process=killed-before|killed-after@WRITE
    #[arg(long, value_name = "FAULT")]
    pub(crate) inject: Vec<Injection>,
    /// Print the finished run as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no lines of the steps' logs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// In whose name [default: the user of the system]
    #[arg(long = "as", value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// The configuration of a server (YAML): who to be at the forges that a run's commit is fetched from
    #[arg(long, env = "FAIRLEAD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Do not stay when the run only waits to be admitted, people, a moment or evidence: exit with 6
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Pipeline files and Dockerfiles, or folders with them
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The form of the findings
    #[arg(long, value_enum, default_value_t = LintFormat::Text)]
    pub(crate) format: LintFormat,
    /// Mend in the files what is certain
    #[arg(long)]
    pub(crate) fix: bool,
    /// The configuration of a server: what it would not let run is found, too
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The rules for Dockerfiles: what they weigh, and what is ignored until a day. Without it,
    /// `.fairlead/lint.yaml` where it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// The build context of Dockerfiles; without it, the folder that each is in
    #[arg(long, value_name = "FOLDER")]
    pub(crate) context: Option<PathBuf>,
    /// The least weight of a finding in a Dockerfile that makes the exit code 2
    #[arg(long, value_enum, default_value_t = LintWeight::Error)]
    pub(crate) fail_on: LintWeight,
}

/// What a finding in a Dockerfile weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintWeight {
    /// Any finding
    Style,
    /// Notes and more
    Info,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintFormat {
    /// For people, with the lines they are about
    Text,
    /// JSON
    Json,
    /// SARIF 2.1.0, for code review tools
    Sarif,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// An image in a registry, a folder or archive with an OCI layout, or an archive of `docker save`
    pub(crate) image: String,
    /// The platform, where the image has several
    #[arg(long, default_value = "linux/amd64")]
    pub(crate) platform: String,
    /// The image that it is built from: what is above it is counted by itself
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,
    /// Another image to compare sizes with, such as the one before
    #[arg(long, value_name = "IMAGE")]
    pub(crate) compare: Option<String>,
    /// The most bytes of all files in its layers, such as `500MB`; more is exit code 3
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<ByteSize>,
    /// The most bytes that later layers hide
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_wasted: Option<ByteSize>,
    /// The least efficiency, between 0 and 1
    #[arg(long, value_name = "SHARE")]
    pub(crate) min_efficiency: Option<f64>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The pipeline file
    pub(crate) file: PathBuf,
    /// The form of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Terminal)]
    pub(crate) format: GraphFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// For the terminal
    Terminal,
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Only runs of this pipeline
    #[arg(long)]
    pub(crate) pipeline: Option<String>,
    /// Only runs that have not ended
    #[arg(long)]
    pub(crate) unfinished: bool,
    /// At most this many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print every record of the journal, too
    #[arg(long)]
    pub(crate) journal: bool,
    /// Print the document in this output of a step: STEP.OUTPUT
    #[arg(long, value_name = "STEP.OUTPUT")]
    pub(crate) artifact: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run, or `latest`
    pub(crate) run: String,
    /// Only this step
    pub(crate) step: Option<StepId>,
    /// Only this attempt
    #[arg(long)]
    pub(crate) attempt: Option<u32>,
    /// Stay until the run has ended, and print what is written meanwhile
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Bring the database up to date
    Update {
        /// A folder or a URL in the layout of the OSV dumps: ECOSYSTEM/all.zip
        #[arg(long, value_name = "FOLDER|URL")]
        from: String,
        /// Only these ecosystems
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        ecosystems: Option<Vec<String>>,
    },
    /// Say what the database holds
    Info {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SbomCommand {
    /// Say which packages came, went and changed from one bill to another
    Diff {
        /// The first bill: SPDX 2 (JSON, tags and values) or CycloneDX 1 (JSON, XML)
        first: PathBuf,
        /// The second bill
        second: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StepsCommand {
    /// List the kinds
    List,
    /// Print the reference of a kind: inputs, outputs, effect, capabilities
    Reference {
        /// The kind
        kind: String,
        /// As JSON Schemas
        #[arg(long)]
        json: bool,
    },
    /// Run one step by itself
    Run {
        /// The kind
        kind: String,
        /// An input: NAME=VALUE; the value is JSON where the input is not a text
        #[arg(long = "with", value_name = "NAME=VALUE")]
        with: Vec<String>,
        /// The folder that relative paths start from
        #[arg(long, value_name = "DIR", default_value = ".")]
        workspace: PathBuf,
        #[command(flatten)]
        drive: DriveArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Which one
    #[arg(value_enum, default_value_t = SchemaName::Pipeline)]
    pub(crate) name: SchemaName,
    /// Write every schema into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    pub(crate) write: Option<PathBuf>,
    /// Fail when a schema in this folder is not what this build writes
    #[arg(long, value_name = "DIR")]
    pub(crate) check: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaName {
    /// Pipeline files
    Pipeline,
    /// The configuration of `fairlead serve`
    Server,
    /// The API of a server, as OpenAPI 3.1
    Openapi,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Registries to try
    #[arg(long = "registry", value_name = "HOST")]
    pub(crate) registries: Vec<String>,
    /// Pipeline files, to look for what their steps will need
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Another way to name a pipeline file
    #[arg(long = "pipeline", value_name = "FILE")]
    pub(crate) pipelines: Vec<PathBuf>,
    /// The folder that relative paths in their steps start from
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) workspace: PathBuf,
    /// The configuration of a server: its projects are checked, and the secrets that they name
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A file or a folder with pipelines; may be given more than once
    #[arg(long = "pipelines", required_unless_present = "config", value_name = "PATH")]
    pub(crate) pipelines: Vec<PathBuf>,
    /// The configuration: who sends events, and how they prove themselves (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen
    #[arg(long, env = "FAIRLEAD_LISTEN", default_value = "127.0.0.1:8420", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// The NATS server with JetStream; without it events stay within this process
    #[arg(long, env = "FAIRLEAD_NATS", value_name = "URL", hide_env_values = true)]
    pub(crate) nats: Option<String>,
    /// The name of the secret that clients of the API must show; without it the API is for loopback
    /// alone
    #[arg(long, value_name = "NAME")]
    pub(crate) api_token: Option<String>,
    /// How many steps may run at a time in this process [default: the number of processors, at least 4]
    #[arg(long, value_name = "N")]
    pub(crate) max_parallel: Option<NonZeroUsize>,
    /// The pool of runners that makes the steps which name none; without it this process makes them
    #[arg(long, env = "FAIRLEAD_DEFAULT_POOL", value_name = "NAME")]
    pub(crate) default_pool: Option<String>,
    /// How long a runner is believed to go on with an attempt since it was last heard of
    #[arg(long, env = "FAIRLEAD_RUNNER_LEASE", value_name = "DURATION", default_value = "30s")]
    pub(crate) runner_lease: HumanDuration,
    /// How many runs may go on at a time, over all servers that share the store; those that only wait
    /// for people, a moment or evidence are not counted
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) max_runs: NonZeroU32,
    /// A file with the groups of those who vote (YAML: GROUP: [USER, …])
    #[arg(long, env = "FAIRLEAD_GROUPS", value_name = "FILE")]
    pub(crate) groups: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn options_of_a_command_stand_before_those_of_all() {
        let mut cli = super::Cli::command();
        cli.build();
        let mut commands: Vec<clap::Command> = vec![cli];
        let mut seen = 0;
        while let Some(mut command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let help = command.render_long_help().to_string();
            let (own, global) = help.split_once("\nGlobal options:\n").unwrap_or((&help, ""));
            for option in ["--state", "--store", "--engine", "--secret ", "--color", "--verbose"] {
                assert!(!own.contains(option), "{option} stands among those of its own:\n{help}");
            }
            for argument in command.get_arguments().filter(|a| !a.is_global_set()) {
                let Some(long) = argument.get_long() else { continue };
                let flag = format!("--{long}");
                let listed = |text: &str| text.split_whitespace().any(|word| word == flag);
                assert!(listed(own) && !listed(global), "{flag}:\n{help}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen} options were looked at");
    }
}
