//! What is needed to start a program, and how its end reads.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

/// Where programs are looked for when no `PATH` is passed on.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Standard input with nothing in it. The device is opened once: a copy of what is open costs a tenth of
/// opening it again.
pub(super) fn no_input() -> Stdio {
    static NULL: OnceLock<Option<File>> = OnceLock::new();
    let null = NULL.get_or_init(|| File::open("/dev/null").ok());
    null.as_ref().and_then(|null| null.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
}

/// The file of `program`: as it is when it has a slash (from `cwd` when it is relative), found in
/// `path` otherwise. An absolute name spares the system a slower way to start it.
pub(super) fn find_program(program: &OsStr, path: &OsStr, cwd: &Path) -> Option<PathBuf> {
    let is_file = |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file());
    if program.is_empty() {
        return None;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(cwd.join(program)).filter(is_file);
    }
    let mut refused = None;
    let mut file = PathBuf::new();
    for folder in std::env::split_paths(path) {
        // What is absolute takes the place of what is there.
        file.clear();
        file.extend([cwd, &folder, Path::new(program)]);
        match rustix::fs::access(&file, rustix::fs::Access::EXEC_OK) {
            Ok(()) if is_file(&file) => return Some(file),
            Err(rustix::io::Errno::ACCESS) if refused.is_none() && is_file(&file) => {
                refused = Some(file.clone());
            }
            // A folder, or nothing: most folders do not have the program, so each costs one call.
            Ok(()) | Err(_) => {}
        }
    }
    // A file that may not be run: starting it tells that better than "not found".
    refused
}

/// The name of a signal, such as `SIGKILL (9)`.
pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("{name} ({signal})")
}
