//! Programs that tests use: installed by the scripts under `tests/setup`, on first use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The root of the project's repository.
///
/// # Panics
/// When this crate is not where it belongs.
#[must_use]
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// Runs `tests/setup/<script>.sh` once per process and answers the line that it prints. The scripts
/// take turns between processes by themselves.
///
/// # Panics
/// When the script fails; what it says goes to stderr.
#[must_use]
pub fn setup(script: &str) -> String {
    static DONE: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = done.get(script) {
        return line.clone();
    }
    let path = repository_root().join(format!("tests/setup/{script}.sh"));
    let output = Command::new(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
    assert!(output.status.success(), "{} failed", path.display());
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    done.insert(script.to_owned(), line.clone());
    line
}

/// An independent tool that judges what Fairlead makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// cosign 2.
    Cosign2,
    /// cosign 3.
    Cosign3,
    /// crane.
    Crane,
    /// oras.
    Oras,
    /// skopeo.
    Skopeo,
}

/// The path of an oracle.
#[must_use]
pub fn oracle(which: Oracle) -> PathBuf {
    let name = match which {
        Oracle::Cosign2 => "cosign2",
        Oracle::Cosign3 => "cosign3",
        Oracle::Crane => "crane",
        Oracle::Oras => "oras",
        Oracle::Skopeo => "skopeo",
    };
    Path::new(&setup("oracles")).join(name)
}

/// The path of syft.
#[must_use]
pub fn syft() -> PathBuf {
    setup("syft").into()
}

/// The folder with `pyspdxtools` and a `python` that has `cyclonedx.validation`.
#[must_use]
pub fn validators_folder() -> PathBuf {
    setup("validators").into()
}

/// The folder with `ninja` and `hyperfine`.
#[must_use]
pub fn bench_folder() -> PathBuf {
    setup("bench").into()
}
