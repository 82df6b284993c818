//! Keys as steps are given them: opened off the shared threads, and looked at before a run begins.

use fairlead_step::{Missing, Preflight, Secret, StepError};

use crate::{KeyError, SigningKey};

impl From<KeyError> for StepError {
    fn from(error: KeyError) -> Self {
        Self::terminal(error.to_string()).hint(error.hint())
    }
}

/// Opens a key. It keeps a processor busy for tenths of a second: not on the shared threads.
///
/// # Errors
/// When it is no key, or the password does not open it.
pub async fn open_key(
    key: Secret<String>,
    password: Option<Secret<String>>,
) -> Result<SigningKey, StepError> {
    let opened = tokio::task::spawn_blocking(move || SigningKey::from_pem(&key, password.as_ref()));
    let opened = opened.await;
    opened
        .map_err(|error| StepError::retryable("opening the key was broken off").because(error))?
        .map_err(StepError::from)
}

/// What is missing of the key in an input's `key` and `password`, where both are known by now.
pub async fn missing_key(look: &Preflight<'_>) -> Vec<Missing> {
    let secret = |pointer: &str| {
        let text = look.get(pointer)?.as_str()?;
        Some(Secret::new(text.to_owned()))
    };
    // A step that comes first says it as soon as this would.
    let (Some(key), false) = (secret("/key"), look.is_first()) else { return Vec::new() };
    let password = match look.get("/password") {
        None => None,
        Some(_) => match secret("/password") {
            Some(password) => Some(password),
            None => return Vec::new(),
        },
    };
    match open_key(key, password).await {
        Err(error) if error.class() == fairlead_step::ErrorClass::Terminal => vec![error.into()],
        Ok(_) | Err(_) => Vec::new(),
    }
}
