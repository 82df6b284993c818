//! A value that cannot be printed.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// A value that must never reach a log, a journal, an error, a process list or the UI.
///
/// `Debug` and `Display` print `Secret(****)`, there is no `Serialize`, and the bytes are wiped when
/// it is dropped. Whoever needs the value calls [`Secret::expose`], which is easy to find in review.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Use it where it is needed and keep no copy.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<String> {
    /// The value without the one line end that an editor, or `echo`, puts behind what is written on one
    /// line. For passwords, tokens and the like, in which a line end has no meaning; a secret that
    /// is handed on as it is, is handed on whole.
    #[must_use]
    pub fn line(&self) -> &str {
        let text = self.0.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        text.unwrap_or(&self.0)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// In a step's input schema a secret is a string of format `secret`: the plan lets only
/// `{{ secrets.NAME }}` stand there, and lets a secret stand nowhere else.
impl<T: Zeroize> JsonSchema for Secret<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": crate::schema_format::SECRET })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {secret}"), "Secret(****) Secret(****)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_line_has_no_end_behind_it() {
        for (text, line) in
            [("tok", "tok"), ("tok\n", "tok"), ("tok\r\n", "tok"), ("tok\n\n", "tok\n"), ("", "")]
        {
            assert_eq!(Secret::new(text.to_owned()).line(), line);
        }
    }
}
