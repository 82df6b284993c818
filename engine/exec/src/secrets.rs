//! The port to secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_step::{BoxFuture, Secret};

/// How long a provider has to answer for one secret.
const ANSWER: Duration = Duration::from_secs(30);

/// Why a secret was not given. None of them holds its value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nobody has set it.
    #[error("the secret `{name}` is not set")]
    Missing {
        /// Its name.
        name: String,
        /// The way to set it, one sentence fragment.
        hint: String,
    },
    /// Whoever keeps it did not answer, or not with a value.
    #[error("the secret `{name}` could not be read: {message}")]
    Unavailable {
        /// Its name.
        name: String,
        /// What went wrong.
        message: String,
    },
}

/// The port to secrets: from the environment, from files, from a vault.
pub trait SecretProvider: Send + Sync {
    /// The secret called `name`. May be asked for often; the value is not kept longer than an
    /// attempt.
    ///
    /// # Errors
    /// [`SecretError::Missing`] when it is not set, with the way to set it.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>>;
}

/// Nobody's secrets: those of a pipeline without a project.
pub(crate) struct NoSecrets;

impl SecretProvider for NoSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let hint = "give its project secrets under `projects` in the server's configuration";
        let error = SecretError::Missing { name: name.to_owned(), hint: hint.to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// Asks for every secret of `names`.
///
/// # Errors
/// One for each that was not given.
pub(crate) async fn fetch(
    provider: &dyn SecretProvider,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Secret<String>>, Vec<SecretError>> {
    let mut found = BTreeMap::new();
    let mut errors = Vec::new();
    for &name in names {
        let answer = tokio::time::timeout(ANSWER, provider.get(name)).await;
        let answer = answer.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", ANSWER.as_secs());
            Err(SecretError::Unavailable { name: name.to_owned(), message })
        });
        match answer {
            Ok(secret) => {
                found.insert(name.to_owned(), secret);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}
