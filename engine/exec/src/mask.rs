//! Secrets are taken out of every line, message and output before it leaves the attempt.

use std::collections::BTreeMap;

use fairlead_step::Secret;
use serde_json::Value;

/// What stands in the place of a secret.
const MASK: &str = "****";

/// A shorter line of a secret is not masked: `yes`, `1` or `}` would blank out half of every log.
const SHORTEST_MASKED: usize = 4;

/// A shorter secret in an output is let pass: `main` or `admin` is in many outputs by right.
const SHORTEST_REFUSED: usize = 8;

/// Takes the secrets of one attempt out of its texts.
///
/// A secret of several lines, such as a PEM key, is masked line by line, because a log has only
/// lines. Lines of a secret with fewer than four bytes are not masked.
#[derive(Default)]
pub struct Mask {
    patterns: Vec<Secret<String>>,
    longest: usize,
    whole: Vec<(String, Secret<String>)>,
}

impl Mask {
    /// A mask for `secrets`, by name.
    #[must_use]
    pub fn new(secrets: &BTreeMap<String, Secret<String>>) -> Self {
        let mut mask = Self::default();
        for (name, secret) in secrets {
            let text = secret.expose();
            for line in text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_MASKED) {
                mask.longest = mask.longest.max(line.len());
                mask.patterns.push(Secret::new(line.to_owned()));
            }
            let trimmed = text.trim();
            if trimmed.len() >= SHORTEST_REFUSED {
                mask.whole.push((name.clone(), Secret::new(trimmed.to_owned())));
            }
        }
        mask
    }

    /// The length in bytes of the longest text that is masked: who cuts a line must cut it behind
    /// the mask, or keep this much more.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.longest
    }

    /// `text` without the secrets. Overlapping secrets are blanked together.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let mut hits: Vec<(usize, usize)> = Vec::new();
        for pattern in &self.patterns {
            let pattern = pattern.expose();
            let mut from = 0;
            // Each next search begins one character further, so that a secret which overlaps itself
            // leaves no end behind.
            while let Some(at) = text.get(from..).and_then(|rest| rest.find(pattern.as_str())) {
                let start = from + at;
                hits.push((start, start + pattern.len()));
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            }
        }
        if hits.is_empty() {
            return text.to_owned();
        }
        hits.sort_unstable();
        let mut clean = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in hits {
            if start > done || clean.is_empty() {
                clean.push_str(&text[done..start]);
                clean.push_str(MASK);
            }
            done = done.max(end);
        }
        clean.push_str(&text[done..]);
        clean
    }

    /// The place of an output that holds a whole secret, with the secret's name. Outputs are kept
    /// in the journal, where a mask would silently change a value that a later step works with.
    pub(crate) fn find_in(&self, outputs: &Value) -> Option<(String, &str)> {
        self.whole.iter().find_map(|(name, secret)| {
            find(outputs, secret.expose(), &mut String::new()).map(|place| (place, name.as_str()))
        })
    }
}

fn find(value: &Value, secret: &str, place: &mut String) -> Option<String> {
    let end = place.len();
    let mut within = |key: &str, value: &Value| {
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(key);
        let found = find(value, secret, place);
        place.truncate(end);
        found
    };
    match value {
        Value::String(text) => text.contains(secret).then(|| place.clone()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| within(&index.to_string(), item))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            if key.contains(secret) { Some("a key".to_owned()) } else { within(key, item) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        let named = values.iter().enumerate();
        Mask::new(&named.map(|(i, v)| (format!("s{i}"), Secret::new((*v).to_owned()))).collect())
    }

    #[test]
    fn every_line_of_a_secret_goes_and_nothing_else() {
        for (secrets, text, want) in [
            (&["hunter2"][..], "login with hunter2, hunter2!", "login with ****, ****!"),
            (&["line one\nline two\n"], "> line two <", "> **** <"),
            (&["line one\r\nline two"], "line one", "****"),
            (&["abc"], "abc is too short to blank", "abc is too short to blank"),
            (&["abcd", "cdef"], "xabcdefx", "x****x"),
            (&["abcd", "efgh"], "abcdefgh", "****"),
            (&["secret", "secret-longer"], "a secret-longer b", "a **** b"),
            (&["aaaa"], "aaaaaa", "****"),
            (&["pässwörd"], "ein pässwörd hier", "ein **** hier"),
            (&["x"], "", ""),
            (&[""], "text", "text"),
        ] {
            assert_eq!(mask(secrets).apply(text), want, "{secrets:?} in {text:?}");
        }
    }

    #[test]
    fn a_whole_secret_in_an_output_is_found_with_its_place() {
        let mask = mask(&["correct horse", "main"]);
        let outputs = json!({ "a": [1, { "b": "the correct horse battery" }], "branch": "main" });
        assert_eq!(mask.find_in(&outputs), Some(("a.1.b".to_owned(), "s0")));
        assert_eq!(mask.find_in(&json!({ "branch": "main" })), None);
    }
}
