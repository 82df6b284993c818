//! Identifiers: of a step within its pipeline, and of a run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {problem}")]
pub struct IdError {
    text: String,
    what: &'static str,
    problem: &'static str,
}

/// The name of a step within its pipeline, such as `build` or `scan_web`.
///
/// Lower-case letters, digits, `_` and `-`, beginning with a letter, at most 63 characters. An
/// expression reads a step's outputs as `steps.<id>.<output>`.
///
/// A step with `for_each` runs once for each item, and each of these has a name of its own: that of
/// the step, and the item's key in brackets, as in `scan[web]`. A key has letters, digits, `.`, `_`
/// and `-`, at most 63 of them.
///
/// A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct StepId(
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_-]{0,62}(\[[A-Za-z0-9._-]{1,63}\])?$"))] Arc<str>,
);

impl StepId {
    /// The most characters of a name, and of an item's key.
    pub const MOST: usize = 63;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of one item of this step, such as `scan[web]`.
    ///
    /// # Errors
    /// When `key` is no key, or this is an item itself.
    pub fn item(&self, key: &str) -> Result<Self, IdError> {
        format!("{self}[{key}]").parse()
    }

    /// The name of the step and, for one of its items, the key.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self.0.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((step, key)) => (step, Some(key)),
            None => (&self.0, None),
        }
    }
}

fn is_key(text: &str) -> bool {
    (1..=StepId::MOST).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl FromStr for StepId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |problem| {
            Err(IdError { text: text.chars().take(80).collect(), what: "step name", problem })
        };
        if text.is_empty() {
            return fail("it is empty");
        }
        let (name, key) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((name, key)) => (name, Some(key)),
            None => (text, None),
        };
        if name.len() > Self::MOST {
            return fail("it is longer than 63 characters");
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return fail("it must begin with a lower-case letter");
        }
        if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
            return fail("only lower-case letters, digits, `_` and `-` may stand in it");
        }
        if key.is_some_and(|key| !is_key(key)) {
            return fail(
                "the key of an item has 1 to 63 letters, digits, `.`, `_` and `-` in brackets",
            );
        }
        Ok(Self(text.into()))
    }
}

/// The identity of one run. Sorts in the order of creation, to the millisecond. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct RunId(Arc<str>);

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// Mints an id from a time (milliseconds since 1970) and random bits: ten base-32 digits of
    /// time and eight of randomness.
    #[must_use]
    pub fn mint(unix_millis: u64, random: u64) -> Self {
        let digit = |bits: u64| CROCKFORD[(bits & 31) as usize] as char;
        let time = (0..10).rev().map(|i| digit(unix_millis >> (5 * i)));
        let noise = (0..8).rev().map(|i| digit(random >> (5 * i)));
        Self(time.chain(noise).collect::<String>().into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |problem| {
            Err(IdError { text: text.chars().take(80).collect(), what: "run id", problem })
        };
        if text.len() != 18 {
            return fail("it must have 18 characters; `fairlead runs` lists the ids");
        }
        if !text.bytes().all(|b| CROCKFORD.contains(&b)) {
            return fail("only digits and lower-case letters but i, l, o and u may stand in it");
        }
        Ok(Self(text.into()))
    }
}

macro_rules! text_conversions {
    ($id:ty) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $id {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $id {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $id {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}
text_conversions!(StepId);
text_conversions!(RunId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time_and_read_back() {
        let early = RunId::mint(1_700_000_000_000, u64::MAX);
        let late = RunId::mint(1_700_000_000_001, 0);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<RunId>().unwrap(), early);
        assert!("not-a-run".parse::<RunId>().is_err());
    }

    #[test]
    fn step_names_are_checked() {
        assert_eq!("scan_web-2".parse::<StepId>().unwrap().as_str(), "scan_web-2");
        for bad in ["", "Scan", "2scan", "scan.web", "scan web", &"s".repeat(64)] {
            assert!(bad.parse::<StepId>().is_err(), "{bad}");
        }
    }
}
