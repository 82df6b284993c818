//! The settings: flags first, then the environment, then the defaults. Nothing else in Fairlead
//! reads the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fairlead_exec::{MARK_VARIABLE, ProcessOptions};
use fairlead_run::MAX_LOG_BYTES;
use fairlead_step::{Clock, EngineAddress, Secret};
use jiff::Timestamp;

use crate::client::{Remote, Said, server_of};
use crate::exit::Stop;
use crate::registries::DockerConfig;
use crate::sealed;
use crate::secrets::{SecretSource, Secrets};

/// The heading of the flags that hold for every command.
pub(crate) const GLOBAL: &str = "Global options";

/// The flags that hold for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = GLOBAL)]
pub(crate) struct SettingsArgs {
    /// The folder with runs, logs, artifacts and advisories [default: `fairlead` in XDG_STATE_HOME, or
    /// in ~/.local/state]
    #[arg(long, global = true, env = "FAIRLEAD_STATE", value_name = "DIR")]
    state: Option<PathBuf>,

    /// A Postgres database that keeps the runs, events and logs, and that several servers may share
    /// (postgres://…); artifacts stay in the folder [default: SQLite in the folder]
    #[arg(long, global = true, env = "FAIRLEAD_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,

    /// Where artifacts are kept instead of the folder: storage that speaks S3
    /// (s3://BUCKET/PREFIX?endpoint=URL&region=NAME), with the secrets s3_access_key_id and
    /// s3_secret_access_key
    #[arg(long, global = true, env = "FAIRLEAD_ARTIFACTS", value_name = "URL")]
    artifacts: Option<String>,

    /// The most megabytes of one attempt's log that are kept: of a longer one the start and the end
    #[arg(
        long,
        global = true,
        env = "FAIRLEAD_MAX_LOG",
        value_name = "MIB",
        default_value_t = MAX_LOG_BYTES >> 20,
        value_parser = clap::value_parser!(u64).range(1..=65_536)
    )]
    max_log: u64,

    /// A server to ask instead of the store: its runs are shown, started, voted at
    #[arg(long, global = true, env = "FAIRLEAD_SERVER", value_name = "URL")]
    server: Option<String>,

    /// The server of this name in the profiles of ~/.config/fairlead/config.yaml
    #[arg(long, global = true, env = "FAIRLEAD_PROFILE", value_name = "NAME")]
    profile: Option<String>,

    /// The folder with the advisory database [default: `advisories` in the state folder]
    #[arg(long, global = true, env = "FAIRLEAD_ADVISORIES", value_name = "DIR")]
    advisories: Option<PathBuf>,

    /// The Docker engine [default: unix:///var/run/docker.sock]
    #[arg(long, global = true, env = "DOCKER_HOST", value_name = "URL")]
    engine: Option<String>,

    /// Where a secret comes from: NAME=env:VARIABLE or NAME=file:PATH. Without it the variable
    /// FAIRLEAD_SECRET_NAME is read, then the file NAME in the folder of secrets
    #[arg(long = "secret", global = true, value_name = "NAME=SOURCE")]
    secrets: Vec<String>,

    /// A folder with a file for each secret, as container platforms mount them
    #[arg(long, global = true, env = "FAIRLEAD_SECRETS_DIR", value_name = "DIR")]
    secrets_dir: Option<PathBuf>,

    /// A registry to speak plain HTTP to; loopback addresses need no flag
    #[arg(
        long = "plain-http",
        global = true,
        env = "FAIRLEAD_PLAIN_HTTP",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    plain_http: Vec<String>,

    /// A file with certificates (PEM) that registries may use besides the system's
    #[arg(long, global = true, env = "FAIRLEAD_REGISTRY_CA", value_name = "FILE")]
    registry_ca: Option<PathBuf>,

    /// A variable of the environment that programs of `command` steps may see, besides the usual
    /// harmless ones
    #[arg(long = "pass-env", global = true, value_name = "VARIABLE")]
    pass_env: Vec<String>,
}

/// Everything that is set, checked.
#[derive(Clone)]
pub struct Settings {
    /// The folder with everything that is kept.
    pub state: PathBuf,
    /// The folder with the advisory database.
    pub advisories: PathBuf,
    /// The Docker engine.
    pub engine: EngineAddress,
    /// The address of the database that runs are kept in; it may hold a password.
    pub(crate) store: Option<Secret<String>>,
    /// The storage that artifacts are kept in; the folder when it is not given.
    pub(crate) artifacts: Option<String>,
    /// The most bytes of the log of one attempt.
    pub(crate) max_log: u64,
    /// The server to ask instead of the store.
    pub(crate) server: Option<Remote>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) registries: Arc<DockerConfig>,
    pub(crate) processes: ProcessOptions,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The variables that programs see without being named: none of them holds a secret.
pub(crate) const HARMLESS: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "TERM",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port's answer")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A variable of the environment; one that is empty counts as not set.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    secret_variable(name).filter(|value| !value.is_empty())
}

/// A variable of the environment that holds a secret, which may be empty.
#[expect(clippy::disallowed_methods, reason = "the settings read the environment, and only they")]
pub(crate) fn secret_variable(name: &str) -> Option<OsString> {
    sealed::variable(name).or_else(|| std::env::var_os(name))
}

/// A variable of the environment that holds a text.
pub(crate) fn text_variable(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// The path as it is from the root: programs that are started elsewhere are told of it, and runs that
/// are gone on with from elsewhere.
fn absolute(path: PathBuf) -> Result<PathBuf, Stop> {
    std::path::absolute(&path)
        .map_err(|e| Stop::usage(format!("`{}` is no path", path.display())).because(&e))
}

impl SettingsArgs {
    /// The variables that programs of steps may see.
    pub(crate) fn passed(&self) -> &[String] {
        &self.pass_env
    }
}

impl Settings {
    /// Whether steps would find the program `name`: on the `PATH` that they are given.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.processes.environment.iter().find(|(variable, _)| variable == "PATH");
        let runs = |file: PathBuf| {
            std::fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        path.is_some_and(|(_, path)| std::env::split_paths(path).any(|f| runs(f.join(name))))
    }

    pub(crate) fn read(args: SettingsArgs) -> Result<Self, Stop> {
        let home = variable("HOME").map(PathBuf::from);
        let state = match (args.state, variable("XDG_STATE_HOME"), &home) {
            (Some(state), ..) => state,
            (None, Some(xdg), _) => PathBuf::from(xdg).join("fairlead"),
            (None, None, Some(home)) => home.join(".local/state/fairlead"),
            (None, None, None) => {
                return Err(Stop::usage("there is no folder to keep runs in")
                    .hint("give one with `--state DIR`, or set HOME"));
            }
        };
        let state = absolute(state)?;
        let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let folder = folder.or_else(|| home.as_ref().map(|home| home.join(".config")));
        let token = secret_variable("FAIRLEAD_TOKEN").and_then(|token| token.into_string().ok());
        let server = server_of(Said {
            server: args.server,
            profile: args.profile,
            token: token.filter(|token| !token.trim().is_empty()).map(Secret::new),
            folder: folder.map(|folder| folder.join("fairlead")),
        })?;
        let engine = match &args.engine {
            None => EngineAddress::default(),
            Some(text) => text.parse().map_err(|e| Stop::usage("the Docker engine").because(&e))?,
        };
        let explicit =
            args.secrets.iter().map(|text| SecretSource::parse(text)).collect::<Result<_, _>>()?;
        let mut environment = Vec::new();
        for name in HARMLESS.into_iter().chain(args.pass_env.iter().map(String::as_str)) {
            if let Some(value) = variable(name) {
                environment.push((name.into(), value));
            }
        }
        let extra_ca = match &args.registry_ca {
            None => Vec::new(),
            Some(path) => std::fs::read(path).map_err(|e| {
                Stop::usage(format!("cannot read the certificates in {}", path.display()))
                    .because(&e)
            })?,
        };
        Ok(Self {
            advisories: match args.advisories {
                Some(advisories) => absolute(advisories)?,
                None => state.join("advisories"),
            },
            state,
            store: args.store.or_else(|| text_variable("FAIRLEAD_STORE")).map(Secret::new),
            artifacts: args.artifacts,
            max_log: args.max_log << 20,
            server,
            engine,
            secrets: Arc::new(Secrets::new(explicit, args.secrets_dir.map(absolute).transpose()?)),
            registries: Arc::new(DockerConfig::new(args.plain_http, extra_ca)),
            processes: ProcessOptions {
                environment,
                grace: Duration::from_secs(5),
                mark: variable(MARK_VARIABLE).and_then(|mark| mark.into_string().ok()),
            },
            clock: Arc::new(SystemClock),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    #[test]
    fn paths_are_absolute_from_the_start() {
        let here = std::env::current_dir().unwrap();
        let line = ["fairlead", "--state", "kept", "--secrets-dir", "secrets"];
        let settings = Settings::read(Line::parse_from(line).settings).unwrap();
        assert_eq!(settings.state, here.join("kept"));
        assert_eq!(settings.advisories, here.join("kept/advisories"));
        let line = ["fairlead", "--state", "/kept", "--advisories", "./known"];
        let settings = Settings::read(Line::parse_from(line).settings).unwrap();
        assert_eq!(settings.state, PathBuf::from("/kept"));
        assert_eq!(settings.advisories, here.join("known"));
    }
}
