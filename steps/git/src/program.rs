//! The program itself: how it is started, and what it is never allowed to do.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fairlead_step::{Egress, ProcessExit, ProcessSpec, Spawn};

use crate::{GitAuth, GitError, Remote, Transport};

/// The oldest git that is known to work.
pub const MINIMUM_VERSION: (u32, u32) = (2, 30);

/// How long one git command may take that moves content.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// How long the name of a remote may take to be resolved.
const LOOK_UP: Duration = Duration::from_secs(20);

/// The most bytes that one git command may answer with.
const MAX_OUTPUT: usize = 8 << 20;

/// The `git` program with a private home and one identity towards remotes.
///
/// Credentials are files in the private home, readable by us alone: they are in no argument and in
/// no environment variable, so no process list shows them. A password is named to git for the origin
/// of the address that a command fetches from or pushes to, and for no other; redirects are not
/// followed, and no transport is allowed but that of the address.
pub struct Git {
    spawn: Arc<dyn Spawn>,
    home: PathBuf,
    settings: Vec<String>,
    /// The file with the user and the password, in the form of git's credential helpers.
    login: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    egress: Egress,
}

impl Git {
    /// Prepares `home` (an empty folder of our own, removed by its owner).
    ///
    /// # Errors
    /// When the files of the home cannot be written.
    pub fn new(spawn: Arc<dyn Spawn>, home: &Path, auth: &GitAuth) -> Result<Self, GitError> {
        let prepare = |path: &Path| {
            let path = path.display().to_string();
            move |source| GitError::Prepare { path, source }
        };
        std::fs::create_dir_all(home).map_err(prepare(home))?;
        let private = |name: &str, text: &str| -> Result<PathBuf, GitError> {
            let path = home.join(name);
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)
                .map_err(prepare(&path))?;
            file.write_all(text.as_bytes()).map_err(prepare(&path))?;
            Ok(path)
        };
        let settings = vec![
            "core.hooksPath=/dev/null".to_owned(),
            "protocol.ext.allow=never".to_owned(),
            "credential.helper=".to_owned(),
            "commit.gpgSign=false".to_owned(),
            "gc.auto=0".to_owned(),
            "core.autocrlf=false".to_owned(),
            "advice.detachedHead=false".to_owned(),
            "init.defaultBranch=main".to_owned(),
            "http.lowSpeedLimit=1000".to_owned(),
            "http.lowSpeedTime=60".to_owned(),
            "http.followRedirects=false".to_owned(),
        ];
        let mut env: Vec<(OsString, OsString)> = [
            ("HOME", home.as_os_str()),
            ("XDG_CONFIG_HOME", home.as_os_str()),
            ("GIT_TERMINAL_PROMPT", "0".as_ref()),
            ("GIT_ASKPASS", "".as_ref()),
            ("SSH_ASKPASS", "".as_ref()),
            // A file that is called `*.yaml` or `:(top)x` is that file and no pattern.
            ("GIT_LITERAL_PATHSPECS", "1".as_ref()),
            ("LC_ALL", "C".as_ref()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        let mut login = None;
        let mut ssh = "ssh -o BatchMode=yes -o ConnectTimeout=20".to_owned();
        match auth {
            GitAuth::Ambient => {}
            GitAuth::Password { user, password } => {
                let helper = format!(
                    "username={}\npassword={}\n",
                    user.replace(['\n', '\r'], ""),
                    password.expose().replace(['\n', '\r'], "")
                );
                login = Some(private("credential", &helper)?);
            }
            GitAuth::SshKey { key, known_hosts } => {
                let mut text = key.expose().clone();
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                let key = private("key", &text)?;
                ssh.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quoted(&key)));
                if let Some(hosts) = known_hosts {
                    let hosts = private("known_hosts", hosts)?;
                    ssh.push_str(&format!(
                        " -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
                        quoted(&hosts)
                    ));
                }
            }
        }
        env.push(("GIT_SSH_COMMAND".into(), ssh.into()));
        let egress = Egress::open();
        Ok(Self { spawn, home: home.to_owned(), settings, login, env, egress })
    }

    /// The same, and it reaches no remote but where `egress` lets it.
    #[must_use]
    pub fn within(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// Checks that the remote may be reached, and answers the setting by which git connects to the very
    /// addresses that were checked.
    ///
    /// Over HTTP git is told them (2.37 and newer; an older one does not know the setting, and resolves the
    /// name again). Over ssh it resolves the name itself: what a name leads to may have changed by then.
    /// Behind a proxy it is the proxy that connects.
    async fn checked(&self, remote: &Remote) -> Result<Option<String>, GitError> {
        let Some(host) = remote.host() else { return Ok(None) };
        if self.egress.is_open() {
            return Ok(None);
        }
        let Some(port) = remote.port().or(remote.transport().default_port()) else {
            return Ok(None);
        };
        self.egress.asks(host, Some(port))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(None);
        }
        let away = |said: String| GitError::Unreachable { remote: remote.to_string(), said };
        let looked_up = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((bare, port))).await;
        let found = match looked_up {
            Ok(Ok(found)) => found,
            // A proxy, or ssh's own settings, may know the name. Nobody but who is configured may
            // hide so what a name leads to.
            Ok(Err(_)) if self.egress.is_configured(bare, port) => return Ok(None),
            Ok(Err(error)) => return Err(away(error.to_string())),
            Err(_) => return Err(away("its name is not resolved in time".to_owned())),
        };
        let (usable, denied) = self.egress.usable(bare, found);
        // Where git resolves the name again, every address must do.
        let pinned = remote.transport() != Transport::Ssh;
        match denied {
            Some(denied) if usable.is_empty() || !pinned => return Err(denied.into()),
            Some(_) | None => {}
        }
        let addresses: Vec<String> = usable
            .iter()
            .map(|address| match address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            })
            .collect();
        Ok(pinned.then(|| format!("http.curloptResolve={host}:{port}:{}", addresses.join(","))))
    }

    /// The private home.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs one git command in `directory` that reaches no remote, and answers how it ended.
    pub(crate) async fn run(
        &self,
        directory: &Path,
        args: &[&str],
        stdin: Option<String>,
    ) -> Result<ProcessExit, GitError> {
        self.start(directory, args, stdin, "", &[], DEADLINE).await
    }

    /// Runs one git command in `directory` that reaches `remote`, and answers how it ended.
    pub(crate) async fn reach(
        &self,
        remote: &Remote,
        directory: &Path,
        args: &[&str],
        deadline: Duration,
    ) -> Result<ProcessExit, GitError> {
        let mut settings = Vec::from_iter(self.checked(remote).await?);
        if let (Some(login), Some(origin)) = (&self.login, remote.origin()) {
            // A helper is asked by running it; this one prints the file and knows no secret.
            settings.push(format!("credential.{origin}.helper=!cat {} #", quoted(login)));
        }
        self.start(directory, args, None, remote.transport().name(), &settings, deadline).await
    }

    async fn start(
        &self,
        directory: &Path,
        args: &[&str],
        stdin: Option<String>,
        transport: &str,
        settings: &[String],
        deadline: Duration,
    ) -> Result<ProcessExit, GitError> {
        let settings = self.settings.iter().chain(settings).flat_map(|s| ["-c", s.as_str()]);
        let args = settings.chain(args.iter().copied()).map(OsString::from);
        let mut process = ProcessSpec::new("git", args).capture(MAX_OUTPUT).current_dir(directory);
        process.env.extend(self.env.iter().cloned());
        process.env.push(("GIT_ALLOW_PROTOCOL".into(), transport.into()));
        process.stdin = stdin.map(|text| text.into_bytes().into());
        process.timeout = Some(deadline);
        Ok(self.spawn.run(process).await?)
    }

    /// Checks that git is there and new enough, and answers its version.
    ///
    /// # Errors
    /// [`GitError::TooOld`], or what starting it fails with.
    pub async fn version(&self) -> Result<String, GitError> {
        let exit = self.run(&self.home, &["version"], None).await?;
        let text = String::from_utf8_lossy(&exit.stdout);
        let found = text.trim().trim_start_matches("git version ").to_owned();
        let mut numbers = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < MINIMUM_VERSION { Err(GitError::TooOld { found }) } else { Ok(found) }
    }
}

/// A path in single quotes, for the two places where git itself starts a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
