//! Paths into a YAML file: `spec.containers[0].image`, `images["shop.example.com/app"].digest`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A path into a YAML document: keys with dots between them, list indices in brackets, and keys
/// with odd characters in brackets and double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Part>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Key(String),
    Index(usize),
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path into a YAML file: {problem}")]
pub struct PathError {
    text: String,
    problem: &'static str,
}

impl Path {
    /// This path with one more key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(Part::Key(key.to_owned()));
        Self(parts)
    }

    /// This path with one more list index.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut parts = self.0.clone();
        parts.push(Part::Index(index));
        Self(parts)
    }

    /// A path of one key.
    #[must_use]
    pub fn root(key: &str) -> Self {
        Self(vec![Part::Key(key.to_owned())])
    }

    /// The steps.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The first `length` steps.
    pub(crate) fn prefix(&self, length: usize) -> Self {
        Self(self.0[..length].to_vec())
    }

    /// The path of what this one is in.
    pub(crate) fn parent(&self) -> Option<Self> {
        let length = self.0.len().checked_sub(1).filter(|length| *length > 0)?;
        Some(self.prefix(length))
    }

    /// The steps behind the first `length`.
    pub(crate) fn suffix(&self, length: usize) -> Self {
        Self(self.0[length..].to_vec())
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let fail = |problem| Err(PathError { text: text.chars().take(200).collect(), problem });
        let mut parts = Vec::new();
        let mut rest = text;
        if text.len() > 1024 {
            return fail("it is longer than 1024 characters");
        }
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                if let Some(quoted) = inner.strip_prefix('"') {
                    let Some((key, after)) = quoted.split_once("\"]") else {
                        return fail("a quoted key has no end");
                    };
                    parts.push(Part::Key(key.to_owned()));
                    rest = after;
                } else {
                    let Some((index, after)) = inner.split_once(']') else {
                        return fail("a bracket is not closed");
                    };
                    let Ok(index) = index.parse() else {
                        return fail("only an index or a quoted key may stand in brackets");
                    };
                    parts.push(Part::Index(index));
                    rest = after;
                }
            } else {
                if !parts.is_empty() {
                    let Some(after) = rest.strip_prefix('.') else {
                        return fail("write `.` between keys");
                    };
                    rest = after;
                }
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                if end == 0 {
                    return fail("a key is empty");
                }
                parts.push(Part::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        if parts.is_empty() { fail("it is empty") } else { Ok(Self(parts)) }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            match part {
                Part::Index(index) => write!(f, "[{index}]")?,
                Part::Key(key) if key.contains(['.', '[', '"']) || key.is_empty() => {
                    write!(f, "[\"{key}\"]")?;
                }
                Part::Key(key) if i == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Path {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "YamlPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "A path into a YAML file, such as `spec.containers[0].image`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_as_written() {
        for text in ["image", "spec.containers[0].image", "images[\"a.b/c\"].digest", "[0].x"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        for bad in ["", "a..b", "a[", "a[x]", "a[\"x]", "a[0]b", ".a"] {
            assert!(bad.parse::<Path>().is_err(), "{bad}");
        }
    }
}
