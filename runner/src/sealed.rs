//! The environment of a program that keeps other people's secrets: `fairlead serve`.
//!
//! Before it does anything, such a program starts itself again with an environment of names that are known to
//! hold no secret. Everything else it was told, and the addresses on its command line that hold a password, it
//! hands to itself out of sight (`fairlead_exec::own_process`), and finds here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::OnceLock;

use fairlead_exec::{MARK_VARIABLE, own_process};
use fairlead_step::Secret;

use crate::exit::Stop;
use crate::settings::HARMLESS;

/// Says to a program that it was started so.
const MARK: &str = "FAIRLEAD_SEALED";

/// The variables besides the harmless ones that stay: they hold no secret, and others read them.
const STAYS: [&str; 21] = [
    "FAIRLEAD_STATE",
    "FAIRLEAD_ADVISORIES",
    "FAIRLEAD_ARTIFACTS",
    "FAIRLEAD_SECRETS_DIR",
    "FAIRLEAD_PLAIN_HTTP",
    "FAIRLEAD_REGISTRY_CA",
    "FAIRLEAD_LISTEN",
    "FAIRLEAD_GROUPS",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "HOSTNAME",
    "PWD",
    "LLVM_PROFILE_FILE",
    MARK_VARIABLE,
];

/// The flags whose address may hold a password, and the variables that stand for them.
const ADDRESSES: [(&str, &str); 2] = [("--store", "FAIRLEAD_STORE"), ("--nats", "FAIRLEAD_NATS")];

/// What was sealed, by name.
static SEALED: OnceLock<BTreeMap<OsString, Secret<Vec<u8>>>> = OnceLock::new();

/// The value of a sealed variable.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    let found = SEALED.get()?.get(OsStr::new(name))?;
    Some(OsString::from_vec(found.expose().clone()))
}

/// Whether this program was started again already. Finds what was sealed then.
pub(crate) fn open() -> Result<bool, Stop> {
    #[expect(clippy::disallowed_methods, reason = "this is the start of the settings")]
    if std::env::var_os(MARK).is_none() {
        return Ok(false);
    }
    let fail = |error: std::io::Error| {
        Stop::internal("the program cannot find what it handed to itself").because(&error)
    };
    own_process::keep_to_itself().map_err(fail)?;
    let sealed = own_process::take_sealed().map_err(fail)?;
    let _ = SEALED.set(unpack(sealed.expose()));
    Ok(true)
}

/// Starts the program again, so that nobody finds in its environment what it was told there; the variables
/// `passed` are meant for what it starts, and stay. Comes back only when that does not work.
pub(crate) fn seal(passed: &[String]) -> std::io::Error {
    let stays = |name: &OsStr| {
        let Some(name) = name.to_str() else { return false };
        HARMLESS.contains(&name) || STAYS.contains(&name) || passed.iter().any(|it| it == name)
    };
    let (mut kept, sealed): (Vec<_>, Vec<_>) =
        std::env::vars_os().partition(|(name, _)| stays(name));
    let mut sealed: BTreeMap<OsString, OsString> = sealed.into_iter().collect();
    let args = take_addresses(std::env::args_os(), &mut sealed);
    kept.push((MARK.into(), "1".into()));
    own_process::start_again(&args, &kept, &pack(&sealed))
}

/// The arguments without the addresses that hold a login, which go to the variables that stand for them.
fn take_addresses(
    args: impl IntoIterator<Item = OsString>,
    sealed: &mut BTreeMap<OsString, OsString>,
) -> Vec<OsString> {
    let mut kept: Vec<OsString> = Vec::new();
    let mut args = args.into_iter();
    let has_login = |value: &[u8]| value.contains(&b'@');
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let flag = ADDRESSES.iter().find(|(flag, _)| {
            let rest = bytes.strip_prefix(flag.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
        });
        let Some((flag, variable)) = flag else {
            kept.push(arg);
            continue;
        };
        let written = bytes.get(flag.len() + 1..).map(<[u8]>::to_vec);
        let value = match written {
            Some(value) => Some(value),
            None => args.next().map(OsString::into_vec),
        };
        match value {
            Some(value) if has_login(&value) => {
                sealed.insert((*variable).into(), OsString::from_vec(value));
            }
            Some(value) => kept.extend([(*flag).into(), OsString::from_vec(value)]),
            None => kept.push((*flag).into()),
        }
    }
    kept
}

/// In the form in which the system itself keeps an environment: no name and no value holds a NUL.
fn pack(sealed: &BTreeMap<OsString, OsString>) -> Secret<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in sealed {
        bytes.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }
    Secret::new(bytes)
}

fn unpack(bytes: &[u8]) -> BTreeMap<OsString, Secret<Vec<u8>>> {
    let entries = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
        Some((OsStr::from_bytes(name).to_owned(), Secret::new(value.to_vec())))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_found_as_it_was() {
        let given = BTreeMap::from([
            ("FAIRLEAD_SECRET_X".into(), "a=b\nc".into()),
            ("EMPTY".into(), OsString::new()),
        ]);
        let found = unpack(pack(&given).expose());
        let found: BTreeMap<OsString, OsString> = found
            .into_iter()
            .map(|(name, value)| (name, OsString::from_vec(value.expose().clone())))
            .collect();
        assert_eq!(found, given);
    }

    #[test]
    fn an_address_with_a_login_leaves_the_command_line() {
        let args = |line: &str| {
            let mut sealed = BTreeMap::new();
            let kept = take_addresses(line.split(' ').map(OsString::from), &mut sealed);
            let kept: Vec<String> =
                kept.into_iter().map(|arg| arg.into_string().unwrap()).collect();
            let value = |name: &str| {
                sealed.get(OsStr::new(name)).and_then(|v| v.to_str().map(str::to_owned))
            };
            (kept.join(" "), value("FAIRLEAD_STORE"), value("FAIRLEAD_NATS"))
        };
        let (kept, store, nats) =
            args("fairlead serve --store postgres://u:p@h/d -v --nats=nats://t@h");
        assert_eq!(kept, "fairlead serve -v");
        assert_eq!(
            (store.as_deref(), nats.as_deref()),
            (Some("postgres://u:p@h/d"), Some("nats://t@h"))
        );
        let plain = "fairlead serve --nats nats://h --stores x@y --store";
        assert_eq!(args(plain), (plain.to_owned(), None, None));
    }
}
