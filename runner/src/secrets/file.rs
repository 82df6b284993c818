//! Secrets in files.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fairlead_step::Secret;

use super::{MAX_SECRET, Refused};

/// The bits of a file's mode that let others than its owner change it, or others than its owner and its
/// group read it.
const TOO_OPEN: u32 = 0o026;

/// The text of a file, byte for byte. Who takes a secret of one line, such as a password, passes over the
/// line end that editors put behind it ([`Secret::line`]).
pub(super) fn text_of(path: &Path) -> Result<Secret<String>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    read(file, path)
}

/// The same of a file that no stranger can read or change, on a server.
pub(crate) fn guarded(path: &Path) -> Result<Secret<String>, Refused> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Refused::Missing(format!("put it into {}", path.display())));
        }
        Err(error) => return Err(Refused::Unavailable(format!("{}: {error}", path.display()))),
    };
    // Of what is open, so that nothing else can be put in its place.
    let found = file.metadata();
    let found = found.map_err(|e| Refused::Unavailable(format!("{}: {e}", path.display())))?;
    if !found.is_file() {
        return Err(Refused::Unavailable(format!("{} is no file", path.display())));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(Refused::Unavailable(format!(
            "everybody on this machine can read or change {} (its mode is {mode:03o}); `chmod 0400` it, or \
             mount it with `defaultMode: 0440`",
            path.display()
        )));
    }
    read(file, path).map_err(Refused::Unavailable)
}

fn read(file: File, path: &Path) -> Result<Secret<String>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(fail)?;
    let bytes = Secret::new(bytes);
    if bytes.expose().len() as u64 > MAX_SECRET {
        return Err(format!("{} is larger than {MAX_SECRET} bytes", path.display()));
    }
    match std::str::from_utf8(bytes.expose()) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(format!(
            "{} is not UTF-8; give what is not text as base64, and let the step decode it",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_strangers_can_read_or_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("npm");
        let missing = guarded(&path).unwrap_err();
        assert!(matches!(&missing, Refused::Missing(hint) if hint.contains("npm")), "{missing:?}");
        std::fs::write(&path, "tok\n").unwrap();
        for (mode, good) in [
            (0o400, true),
            (0o600, true),
            (0o440, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o602, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = guarded(&path);
            assert_eq!(found.is_ok(), good, "{mode:o} {found:?}");
            if let Err(Refused::Unavailable(message)) = found {
                assert!(message.contains(&format!("{mode:03o}")), "{message}");
            }
        }
        assert!(matches!(guarded(folder.path()), Err(Refused::Unavailable(_))));
    }
}
