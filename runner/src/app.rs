//! The application: the one readable list of steps, and the way from the command line to an exit
//! code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use fairlead_exec::own_process;
use fairlead_step::{Catalog, CatalogError, StepKind};
use fairlead_step_attest::Attest;
use fairlead_step_build::Build;
use fairlead_step_command::Command;
use fairlead_step_gitops::Gitops;
use fairlead_step_lint::{Inspect, Lint};
use fairlead_step_policy::PolicyStep;
use fairlead_step_promote::Promote;
use fairlead_step_resolve::Resolve;
use fairlead_step_sbom::Sbom;
use fairlead_step_scan::Scan;
use fairlead_step_sign::{Sign, Verify};

use crate::cli::Cli;
use crate::exit::{Exit, Stop};
use crate::output::{Color, Output};
use crate::settings::Settings;
use crate::{cli, commands, output, sealed};

type Add = Box<dyn FnOnce(&mut Catalog, &Settings) -> Result<(), CatalogError>>;

/// A build of Fairlead: the steps it knows, and nothing else that could differ.
#[derive(Default)]
pub struct App {
    steps: Vec<Add>,
}

impl App {
    /// An application without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An application with every step that Fairlead ships.
    #[must_use]
    pub fn with_built_in_steps() -> Self {
        Self::new()
            .step(|_| Attest)
            .step(|settings| Build::new(settings.engine.clone()))
            .step(|settings| Command::new(settings.engine.clone()))
            .step(|_| Gitops)
            .step(|_| Inspect)
            .step(|_| Lint)
            .step(|_| PolicyStep)
            .step(|_| Promote)
            .step(|_| Resolve)
            .step(|_| Sbom::default())
            .step(|settings| Scan::new(settings.advisories.clone()))
            .step(|_| Sign)
            .step(|_| Verify)
    }

    /// Adds a step kind, made from the settings.
    #[must_use]
    pub fn step<K: StepKind>(mut self, make: impl FnOnce(&Settings) -> K + 'static) -> Self {
        self.steps.push(Box::new(|catalog, settings| catalog.add(make(settings))));
        self
    }

    fn catalog(self, settings: &Settings) -> Result<Arc<Catalog>, CatalogError> {
        let mut catalog = Catalog::new();
        for add in self.steps {
            add(&mut catalog, settings)?;
        }
        Ok(Arc::new(catalog))
    }

    /// Reads the command line, does what it says, and answers the exit code.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|first| first == fairlead_exec::CONFINE) {
            // What comes back says why it is not the program that was asked for. Shells answer so, too.
            Output::new(Color::Never).say(fairlead_exec::become_confined(args).to_string());
            return ExitCode::from(127);
        }
        let opened = sealed::open();
        let cli = Cli::parse();
        let output = Output::new(cli.color);
        let dispatched = opened.and_then(|again| self.dispatch(cli, &output, again));
        let exit = dispatched.unwrap_or_else(|stop| {
            output.stop(&stop);
            stop.exit
        });
        exit.into()
    }

    fn dispatch(self, cli: Cli, output: &Output, again: bool) -> Result<Exit, Stop> {
        if let cli::Command::GuardProcesses(args) = &cli.command {
            // It is told nothing but what it guards: no settings, no environment.
            return Ok(commands::runner::stand_guard(args));
        }
        // Two providers may be linked in one day; rustls wants to be told which one is meant.
        let _ = rustls::crypto::ring::default_provider().install_default();
        output::log_to_stderr(cli.verbose);
        if keeps_secrets(&cli.command) && !again {
            let error = sealed::seal(cli.settings.passed());
            output.say(format!(
                "{} the environment of this process may show secrets to other processes of its user, for \
                 it cannot be started again without them: {error}",
                output.paint(output::Style::Warn, "warning:")
            ));
            // Its environment is as it was; its memory is kept from others all the same.
            own_process::keep_to_itself()
                .map_err(|e| Stop::failed("this process cannot be kept to itself").because(&e))?;
        }
        let settings = Settings::read(cli.settings)?;
        let catalog = self.catalog(&settings).map_err(|e| Stop::internal(e.to_string()))?;
        let runtime = runtime(&cli.command)
            .enable_all()
            .thread_name("fairlead")
            .build()
            .map_err(|e| Stop::internal("cannot start the runtime").because(&e))?;
        let exit =
            runtime.block_on(Box::pin(commands::run(cli.command, settings, catalog, output)));
        // A blocking task that hangs must not hold the program.
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        exit
    }
}

/// Whether a command runs for long, and with the secrets of others.
const fn keeps_secrets(command: &cli::Command) -> bool {
    matches!(command, cli::Command::Serve(_) | cli::Command::Runner(_))
}

/// Heavy work is done in processes and on blocking threads. What is left are short turns that follow
/// one another, and handing those from thread to thread costs more than it gains. A server has many runs,
/// and callers, at a time.
fn runtime(command: &cli::Command) -> tokio::runtime::Builder {
    if matches!(command, cli::Command::Serve(_) | cli::Command::Runner(_)) {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    }
}
