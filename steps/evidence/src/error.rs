//! What keeps evidence from being written.

use fairlead_oci::Error;
use fairlead_step::{ErrorClass, StepError};

use crate::SignError;

/// Why evidence was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The registry could not be read or written.
    #[error(transparent)]
    Registry(#[from] Error),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// What was to be said has no form.
    #[error("the {what} cannot be written: {problem}")]
    Unwritable {
        /// Which document.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// It is more than a statement may hold.
    #[error("the {what} has {size} bytes, and at most {limit} are signed")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
}

impl From<EvidenceError> for StepError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Registry(error) => error.into(),
            EvidenceError::Sign(_)
            | EvidenceError::Unwritable { .. }
            | EvidenceError::TooLarge { .. } => Self::new(ErrorClass::Terminal, error.to_string()),
        }
    }
}
