//! What can go wrong between here and a registry, and what a person can do about it.

use fairlead_step::{Digest, EgressDenied, ErrorClass, StepError};

/// Why a registry operation failed.
///
/// Every text names the place and the cause, and none ever holds a credential or a signed URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer: the name does not resolve, the connection is refused or cut, or time ran out.
    #[error("registry {registry} cannot be reached for {what}: {cause}")]
    Unreachable {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// The chain of causes on one line.
        cause: String,
    },
    /// The registry kept answering that it is busy or broken (429 or 5xx).
    #[error("registry {registry} answered {status} to {what}, {attempts} times{detail}")]
    Busy {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// The last status.
        status: u16,
        /// How often it was asked.
        attempts: u32,
        /// What the registry said of it, with `: ` before it, or nothing.
        detail: String,
    },
    /// The login was refused, or there is none and the registry wants one (401).
    #[error("registry {registry} refused the login for {what}{detail}")]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// Whether credentials were sent.
        logged_in: bool,
        /// What the registry said of it, with `: ` before it, or nothing.
        detail: String,
    },
    /// Who is logged in may not do this (403).
    #[error("registry {registry} denies {what}{detail}")]
    Denied {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the registry said of it, with `: ` before it, or nothing.
        detail: String,
    },
    /// It is not there (404).
    #[error("{what} is not in the registry{detail}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the registry said of it, with `: ` before it, or nothing.
        detail: String,
    },
    /// The bytes are not what their name says.
    #[error("{what} does not match its digest: expected {expected}, the bytes hash to {found}")]
    DigestMismatch {
        /// What was asked for.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The number of bytes is not what the descriptor says.
    #[error("{what} has the wrong size: expected {expected} bytes, got {found}")]
    SizeMismatch {
        /// What was asked for.
        what: String,
        /// The size in the descriptor.
        expected: u64,
        /// The size of what came, or more than `expected` where reading stopped.
        found: u64,
    },
    /// It is larger than Fairlead takes.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// There are more of them than Fairlead takes.
    #[error("{what}: more than the limit of {limit}")]
    TooMany {
        /// What was counted.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// The answer does not follow the specification.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A status that the operation has no meaning for.
    #[error("registry {registry} answered {status} to {what}{detail}")]
    Refused {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
        /// What the registry said of it, with `: ` before it, or nothing.
        detail: String,
    },
    /// A tag is not where it was expected, so it was not moved.
    #[error(
        "tag `{tag}` of {repository} points to {}, but {} was expected",
        place(found.as_ref()),
        place(expected.as_ref())
    )]
    TagMoved {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
        /// Where it was expected to point; `None` is nowhere.
        expected: Option<Digest>,
        /// Where it points; `None` is nowhere.
        found: Option<Digest>,
    },
    /// Other writers kept overwriting a list that has no lock on the registry.
    #[error("{what} was overwritten by another writer {attempts} times in a row")]
    LostUpdate {
        /// The list.
        what: String,
        /// How often it was written.
        attempts: u32,
    },
    /// What was written does not show at the destination.
    #[error("{what} was written but is not listed at the destination")]
    NotListed {
        /// What is missing.
        what: String,
    },
    /// The settings for the registry are wrong.
    #[error("the settings for registry {registry} are unusable: {problem}")]
    Settings {
        /// The registry's host.
        registry: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The rules of egress let nobody speak to it, or to where it leads.
    #[error("registry {registry} is off limits: {denied}")]
    OffLimits {
        /// The registry's host.
        registry: String,
        /// Which host, and why.
        denied: EgressDenied,
    },
    /// The host could not say how to reach the registry.
    #[error("no access to registry {registry}")]
    Access {
        /// The registry's host.
        registry: String,
        /// What the host said.
        #[source]
        source: StepError,
    },
}

fn place(digest: Option<&Digest>) -> String {
    digest.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

impl Error {
    /// Whether this says that the thing asked for does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether this says that what was asked for is not fit to be read: it is gone, damaged, too
    /// large, or not what it should be. Asking again later gives the same answer, unlike a registry
    /// that cannot be reached, is busy, or does not let us in.
    #[must_use]
    pub const fn is_unreadable(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. } => true,
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::TagMoved { .. }
            | Self::LostUpdate { .. }
            | Self::NotListed { .. }
            | Self::Settings { .. }
            | Self::OffLimits { .. }
            | Self::Access { .. } => false,
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::LostUpdate { .. }
            | Self::NotListed { .. } => ErrorClass::Retryable,
            Self::Access { source, .. } => source.class(),
            Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::TagMoved { .. }
            | Self::OffLimits { .. }
            | Self::Settings { .. } => ErrorClass::Terminal,
        }
    }

    /// The way out, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { registry, .. } => Some(format!(
                "is the registry up, and is `{registry}` its right name? `fairlead doctor` asks it"
            )),
            Self::Busy { .. } => Some("try again later".into()),
            Self::Unauthorized { registry, logged_in: false, .. } => {
                Some(format!("log in with `docker login {registry}`"))
            }
            Self::Unauthorized { registry, logged_in: true, .. } => Some(format!(
                "the stored login is wrong, has expired, or may not do this; renew it with \
                 `docker login {registry}`"
            )),
            Self::Denied { registry, .. } => Some(format!(
                "ask for the right to do this, or log in as somebody else with \
                 `docker login {registry}`"
            )),
            Self::NotFound { .. } => Some("was it pushed, and is the name right?".into()),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => Some(
                "the registry or something before it changes bytes; push the content again, or ask \
                 who runs the registry"
                    .into(),
            ),
            Self::TagMoved { .. } => {
                Some("somebody else moved it; look at both images, then decide again".into())
            }
            Self::LostUpdate { .. } => {
                Some("end the other writers, or use a registry with the referrers API".into())
            }
            Self::Settings { .. } => Some(
                "correct the registry's settings: its certificates, whether it speaks plain HTTP, \
                 and its login"
                    .into(),
            ),
            Self::OffLimits { denied, .. } => Some(denied.hint()),
            Self::Access { source, .. } => source.way_out().map(str::to_owned),
            Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::NotListed { .. } => None,
        }
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let (class, hint) = (error.class(), error.hint());
        let message = error.to_string();
        let step = match error {
            Error::Access { source, .. } => Self::new(class, message).because(source),
            Error::Unreachable { .. }
            | Error::Busy { .. }
            | Error::Unauthorized { .. }
            | Error::Denied { .. }
            | Error::NotFound { .. }
            | Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::TooLarge { .. }
            | Error::TooMany { .. }
            | Error::Malformed { .. }
            | Error::Refused { .. }
            | Error::TagMoved { .. }
            | Error::LostUpdate { .. }
            | Error::NotListed { .. }
            | Error::OffLimits { .. }
            | Error::Settings { .. } => Self::new(class, message),
        };
        match hint {
            Some(hint) => step.hint(hint),
            None => step,
        }
    }
}
