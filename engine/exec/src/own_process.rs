//! This program's own process, where it keeps other people's secrets: nobody looks into its memory, and its
//! environment and its command line show none of what it was told there.
//!
//! What a process was started with stays readable for its user's other processes under `/proc` for as long as
//! it lives, whatever it forgets itself. So a server that was told secrets there starts itself again in its own
//! place, with the same process id, and hands them to itself through a file in memory that nobody else has open.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fairlead_step::Secret;
use rustix::fs::MemfdFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The most bytes that a process hands to itself: more than the system takes as an environment.
const MOST: u64 = 16 << 20;

/// Keeps other processes of this user out of this one's memory, environment and open files, and writes no core
/// file when it crashes. What it starts has no core files either.
///
/// # Errors
/// When the system refuses.
pub fn keep_to_itself() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(Resource::Core, none)?)
}

/// Starts this program again in its own place, with these arguments behind its name, this environment and no
/// other, and `sealed` for [`take_sealed`] to find. Answers only when that does not work; nothing has changed
/// then.
#[must_use]
pub fn start_again(
    args: &[OsString],
    environment: &[(OsString, OsString)],
    sealed: &Secret<Vec<u8>>,
) -> io::Error {
    match again(args, environment, sealed) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

fn again(
    args: &[OsString],
    environment: &[(OsString, OsString)],
    sealed: &Secret<Vec<u8>>,
) -> io::Result<Command> {
    let mut file = File::from(rustix::fs::memfd_create("fairlead", MemfdFlags::CLOEXEC)?);
    file.write_all(sealed.expose())?;
    file.rewind()?;
    let (name, args) = match args.split_first() {
        Some((name, rest)) => (name.as_os_str(), rest),
        None => (OsStr::new("fairlead"), args),
    };
    #[expect(clippy::disallowed_methods, reason = "it is this process that goes on so")]
    let mut command = Command::new(own_program());
    command.arg0(name).args(args).env_clear();
    command.envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::from(file));
    Ok(command)
}

/// The file of this program. Where it was replaced or removed meanwhile, it is still the one that runs.
fn own_program() -> PathBuf {
    let found = std::env::current_exe().ok().filter(|file| file.exists());
    found.unwrap_or_else(|| Path::new("/proc/self/exe").to_owned())
}

/// What this process handed to itself by [`start_again`]. It is gone then, and standard input is empty.
///
/// # Errors
/// When it cannot be read.
pub fn take_sealed() -> io::Result<Secret<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MOST).read_to_end(&mut bytes);
    let sealed = Secret::new(bytes);
    // No other end of it is open: with this one it is gone.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    read.map(|_| sealed)
}
