//! The ids of git objects, as a type that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The id of a git object: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits, never all zeros.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(Box<str>);

/// Why a text is not the id of a git object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a git object id: write 40 or 64 lower-case hex digits")]
pub struct ObjectIdError {
    text: String,
}

impl ObjectId {
    /// Reads what a push says of one end of it: all zeros mean that there is no object, because the
    /// reference is new or gone.
    ///
    /// # Errors
    /// When the text is neither an object id nor zeros.
    pub fn parse_end(text: &str) -> Result<Option<Self>, ObjectIdError> {
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b == b'0') {
            return Ok(None);
        }
        text.parse().map(Some)
    }

    /// The hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, ObjectIdError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let zero = text.bytes().all(|b| b == b'0');
        if matches!(text.len(), 40 | 64) && text.bytes().all(hex) && !zero {
            return Ok(Self(text.into()));
        }
        Err(ObjectIdError { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = ObjectIdError;

    fn try_from(text: String) -> Result<Self, ObjectIdError> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_no_object() {
        assert_eq!(ObjectId::parse_end(&"0".repeat(40)), Ok(None));
        assert_eq!(ObjectId::parse_end(&"0".repeat(64)), Ok(None));
        let id = "938a931a1a59a70f5cc3afa1a7be722bf6cfbeaf";
        assert_eq!(ObjectId::parse_end(id).unwrap().unwrap().as_str(), id);
        for bad in ["", "0", "938A931a1a59a70f5cc3afa1a7be722bf6cfbeaf", "--upload-pack=x"] {
            assert!(ObjectId::parse_end(bad).is_err(), "{bad:?}");
        }
    }
}
