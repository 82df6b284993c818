//! `fairlead key`: keys that sign, as cosign keeps them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fairlead_evidence::{PublicKey, SigningKey, open_key};
use fairlead_exec::SecretProvider as _;
use fairlead_step::{Secret, StepError};

use super::Context;
use crate::cli::{KeyAlgorithm, KeyCommand, KeyOutArgs};
use crate::exit::{Exit, Stop};

/// The largest key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

pub(crate) async fn key(context: &Context<'_>, command: KeyCommand) -> Result<Exit, Stop> {
    match command {
        KeyCommand::Generate { algorithm, out } => {
            let key = SigningKey::generate(match algorithm {
                KeyAlgorithm::EcdsaP256 => fairlead_evidence::Algorithm::EcdsaP256,
                KeyAlgorithm::EcdsaP384 => fairlead_evidence::Algorithm::EcdsaP384,
                KeyAlgorithm::Ed25519 => fairlead_evidence::Algorithm::Ed25519,
            });
            let key = key.map_err(|error| Stop::failed("no key was made").because(&error))?;
            keep(context, &key, &out).await?;
        }
        KeyCommand::Import { file, its_password, out } => {
            let text = Secret::new(read(&file)?);
            let password = match its_password {
                Some(name) => Some(secret(context, &name).await?),
                None => None,
            };
            let key = open_key(text, password).await.map_err(|e| refused(&file, &e))?;
            keep(context, &key, &out).await?;
        }
        KeyCommand::Public { file, password } => {
            let text = read(&file)?;
            let public = match PublicKey::from_pem(&text) {
                Ok(public) => public,
                Err(_) => {
                    let password = match password {
                        Some(name) => Some(secret(context, &name).await?),
                        None => None,
                    };
                    let opened = open_key(Secret::new(text), password).await;
                    opened.map_err(|e| refused(&file, &e))?.public_key().clone()
                }
            };
            tell(context, &public);
            context.output.data(public.to_pem());
        }
    }
    Ok(Exit::Passed)
}

fn refused(file: &Path, error: &StepError) -> Stop {
    let stop = Stop::usage(format!("`{}`", file.display())).because(error);
    match error.way_out() {
        Some(hint) => stop.hint(hint),
        None => stop,
    }
}

async fn secret(context: &Context<'_>, name: &str) -> Result<Secret<String>, Stop> {
    let found = context.settings.secrets.get(name).await;
    found.map_err(|error| Stop::usage("the password").because(&error))
}

/// A key as a file holds it.
pub(crate) fn read(file: &Path) -> Result<String, Stop> {
    let failed = |error: &std::io::Error| {
        Stop::usage(format!("cannot read `{}`", file.display())).because(error)
    };
    let metadata = std::fs::metadata(file).map_err(|e| failed(&e))?;
    if metadata.len() > MAX_KEY_FILE {
        return Err(Stop::usage(format!("`{}` is too large for a key", file.display())));
    }
    std::fs::read_to_string(file).map_err(|e| failed(&e))
}

/// Writes both halves. What is there is never overwritten: a lost key cannot be had again.
async fn keep(context: &Context<'_>, key: &SigningKey, out: &KeyOutArgs) -> Result<(), Stop> {
    let text = match (&out.password, out.plain) {
        (Some(name), _) => {
            let password = secret(context, name).await?;
            let sealed = key.to_sealed_pem(&password);
            sealed.map_err(|e| Stop::failed("the key cannot be encrypted").because(&e))?
        }
        (None, true) => key.to_plain_pem(),
        (None, false) => {
            return Err(Stop::usage("nothing says how the key is to be kept").hint(
                "`--password NAME` names the secret that encrypts it (`--secret NAME=env:VARIABLE`); \
                 `--plain` keeps it as it is",
            ));
        }
    };
    let named = |end: &str| PathBuf::from(format!("{}.{end}", out.out.display()));
    let (private, public) = (named("key"), named("pub"));
    if public.exists() {
        return Err(Stop::usage(format!("`{}` is there already", public.display()))
            .hint("`--out` names another place"));
    }
    write(&private, text.expose(), 0o600)?;
    write(&public, &key.public_key().to_pem(), 0o644)?;
    tell(context, key.public_key());
    context.output.say(format!("{} signs, {} verifies", private.display(), public.display()));
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Stop> {
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let stop = Stop::usage(format!("cannot write `{}`", path.display())).because(&error);
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return stop.hint("`--out` names another place");
        }
        stop
    })
}

fn tell(context: &Context<'_>, key: &PublicKey) {
    context.output.say(format!("{} key {}", key.algorithm(), key.fingerprint()));
}
