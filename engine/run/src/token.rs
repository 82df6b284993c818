//! API tokens: how one looks, what is kept of it, and the port to where that is kept. The token itself is
//! kept nowhere.

use fairlead_step::{BoxFuture, Digest, Secret};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Grant, StoreError};

/// How every token begins, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "flt_";
/// The hex digits behind it.
const DIGITS: usize = 64;

/// A new token from 256 random bits, to be shown once.
#[must_use]
pub fn new_token(random: [u8; 32]) -> Secret<String> {
    Secret::new(format!("{TOKEN_PREFIX}{}", hex::encode(random)))
}

/// What is kept of a token, and what it is looked up by; none for a text that is none. It has 256 random
/// bits, so that one round of a fast hash is enough.
#[must_use]
pub fn token_hash(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix(TOKEN_PREFIX)?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digits.len() == DIGITS && digits.bytes().all(is_hex)).then(|| Digest::sha256(text.as_bytes()))
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredToken {
    /// What it is called in lists, and revoked by. It opens nothing.
    pub id: String,
    /// What it is looked up by: see [`token_hash`].
    #[serde(skip)]
    pub hash: Digest,
    /// Who shows it.
    pub subject: String,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// Whether its subject may speak in the names of others, which is written down as such.
    pub speaks_for_others: bool,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if so.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to within some minutes.
    pub last_used_at: Option<Timestamp>,
}

impl StoredToken {
    /// The most bytes of a subject's name.
    pub const MAX_SUBJECT: usize = 255;

    /// Whether it opens anything at this time.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

/// What is wrong with a token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiTokenError {
    /// Nobody could be called that.
    #[error(
        "`{subject}` cannot name a subject: use 1 to {} visible characters",
        StoredToken::MAX_SUBJECT
    )]
    Subject {
        /// The name.
        subject: String,
    },
    /// It would allow nothing.
    #[error(
        "the token has no grants: say ROLE or ROLE:PROJECT with viewer, operator, approver or admin"
    )]
    NoGrants,
    /// It would have ended before it begins.
    #[error("the token would end at {at}, which is over")]
    Over {
        /// When.
        at: Timestamp,
    },
}

impl StoredToken {
    /// Looks whether the token may be made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ApiTokenError> {
        let subject = self.subject.as_str();
        if subject.trim() != subject
            || subject.is_empty()
            || subject.len() > Self::MAX_SUBJECT
            || subject.contains(char::is_control)
        {
            let subject = subject.chars().take(80).filter(|c| !c.is_control()).collect();
            return Err(ApiTokenError::Subject { subject });
        }
        if self.grants.is_empty() {
            return Err(ApiTokenError::NoGrants);
        }
        match self.expires_at {
            Some(at) if at <= self.created_at => Err(ApiTokenError::Over { at }),
            Some(_) | None => Ok(()),
        }
    }

    /// What the audit log says of it.
    #[must_use]
    pub fn told(&self) -> Map<String, Value> {
        let grants = self.grants.iter().map(|grant| match grant.pipelines.is_empty() {
            true => json!(grant.to_string()),
            false => json!({ "grant": grant.to_string(), "pipelines": grant.pipelines }),
        });
        Map::from_iter([
            ("subject".to_owned(), json!(self.subject)),
            ("grants".to_owned(), grants.collect()),
            ("speaks_for_others".to_owned(), json!(self.speaks_for_others)),
            ("expires_at".to_owned(), json!(self.expires_at)),
        ])
    }
}

/// What revoking came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// It is revoked from now on.
    Now(Box<StoredToken>),
    /// It was revoked before, at this time, which stays.
    Before(Timestamp),
    /// There is no such token.
    Unknown,
}

/// The port to the tokens.
pub trait TokenStore: Send + Sync {
    /// Keeps a token.
    ///
    /// # Errors
    /// When the store fails; also when there is a token with this id or hash.
    fn create(&self, token: StoredToken) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The token with this hash, also when it is of no use any more.
    ///
    /// # Errors
    /// When the store fails.
    fn by_hash<'a>(
        &'a self,
        hash: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>>;

    /// The newest tokens, newest first, at most [`MOST_TOKENS`].
    ///
    /// # Errors
    /// When the store fails.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<StoredToken>, StoreError>>;

    /// Revokes a token, for good and at once.
    ///
    /// # Errors
    /// When the store fails.
    fn revoke<'a>(
        &'a self,
        id: &'a str,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Revoked, StoreError>>;

    /// Notes that a token was used. An earlier time than the one that is noted changes nothing, and
    /// neither does a token that is not there.
    ///
    /// # Errors
    /// When the store fails.
    fn used<'a>(&'a self, id: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The most tokens of a list.
pub const MOST_TOKENS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_has_a_hash() {
        let token = new_token([0xab; 32]);
        let text = token.expose();
        assert!(text.starts_with("flt_abab") && text.len() == 68, "{text}");
        assert_eq!(token_hash(text), Some(Digest::sha256(text.as_bytes())));
        let shouted = text.to_uppercase();
        for bad in ["", "flt_", "flt_ab", &text[1..], &shouted, &format!("{text}0")] {
            assert_eq!(token_hash(bad), None, "{bad}");
        }
    }
}
