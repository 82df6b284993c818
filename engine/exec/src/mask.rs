//! Secrets are taken out of every line, message and output before it leaves the attempt.

mod needles;
mod views;

use std::collections::BTreeMap;

use fairlead_step::Secret;
use serde_json::Value;

use self::needles::Needles;

/// What stands in the place of a secret.
const MASK: &str = "****";

/// A shorter line of a secret is not masked: `yes`, `1` or `}` would blank out half of every log.
const SHORTEST_MASKED: usize = 4;

/// A shorter secret in an output is let pass: `main` or `admin` is in many outputs by right.
const SHORTEST_REFUSED: usize = 8;

/// How many bytes of a text one byte of a secret may take up at most: `\u000a` in JSON.
const LONGEST_ESCAPE: usize = 6;

/// Takes the secrets of one attempt out of its texts.
///
/// A secret of several lines, such as a PEM key, is masked line by line, because a log has only
/// lines. Lines of a secret with fewer than four bytes are not masked. A secret is found as it is, in
/// base64 (both alphabets, with whatever stands before and behind it in what was encoded, also as the
/// lines that `base64` and `openssl` write), escaped as in URLs and forms, and escaped as in JSON.
#[derive(Default)]
pub struct Mask {
    lines: Needles,
    whole: Vec<(String, Needles)>,
}

impl Mask {
    /// A mask for `secrets`, by name.
    #[must_use]
    pub fn new(secrets: &BTreeMap<String, Secret<String>>) -> Self {
        let mut lines = Vec::new();
        let mut whole = Vec::new();
        for (name, secret) in secrets {
            let text = secret.expose();
            lines.extend(needles::wrapped_base64(text.as_bytes()));
            for line in text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_MASKED) {
                lines.extend(needles::base64(line.as_bytes()));
                lines.push(Secret::new(line.as_bytes().to_vec()));
            }
            let trimmed = text.trim().as_bytes();
            if trimmed.len() >= SHORTEST_REFUSED {
                let mut forms = needles::base64(trimmed);
                forms.push(Secret::new(trimmed.to_vec()));
                whole.push((name.clone(), Needles::new(forms)));
            }
        }
        Self { lines: Needles::new(lines), whole }
    }

    /// The length in bytes of the longest text that is masked: who cuts a line must cut it behind
    /// the mask, or keep this much more.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.lines.longest() * LONGEST_ESCAPE
    }

    /// `text` without the secrets. Overlapping secrets are blanked together.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let mut hits = self.lines.find_in(text);
        if hits.is_empty() {
            return text.to_owned();
        }
        hits.sort_unstable();
        let mut clean = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in hits {
            // An escape that stands for a part of a character is blanked with the rest of it.
            let start = text.floor_char_boundary(start);
            if start > done || clean.is_empty() {
                clean.push_str(&text[done..start]);
                clean.push_str(MASK);
            }
            done = done.max(text.ceil_char_boundary(end));
        }
        clean.push_str(&text[done..]);
        clean
    }

    /// The place of an output that holds a whole secret, with the secret's name. Outputs are kept
    /// in the journal, where a mask would silently change a value that a later step works with.
    pub(crate) fn find_in(&self, outputs: &Value) -> Option<(String, &str)> {
        self.whole.iter().find_map(|(name, needles)| {
            find(outputs, needles, &mut String::new()).map(|place| (place, name.as_str()))
        })
    }
}

fn find(value: &Value, needles: &Needles, place: &mut String) -> Option<String> {
    let end = place.len();
    let mut within = |key: &str, value: &Value| {
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(key);
        let found = find(value, needles, place);
        place.truncate(end);
        found
    };
    match value {
        Value::String(text) => needles.are_in(text).then(|| place.clone()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| within(&index.to_string(), item))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            if needles.are_in(key) { Some("a key".to_owned()) } else { within(key, item) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
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
    fn a_secret_goes_in_the_forms_that_programs_give_it() {
        let secret = "p\"w/ö d+\\x&%1";
        let mask = mask(&[secret]);
        for form in [
            secret.to_owned(),
            STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            json!(secret).to_string(),
            // Escaped twice: JSON within JSON.
            json!(json!(secret).to_string()).to_string(),
            // As Python and Go write it: ASCII alone, and safe for HTML.
            r#"p\"w/\u00f6 d+\\x&%1"#.to_owned(),
            r#"p\"w\/\u00F6 d+\\x\u0026%1"#.to_owned(),
            // RFC 3986, both cases of digits; a form; a browser's `encodeURI`; twice.
            "p%22w%2F%C3%B6%20d%2B%5Cx%26%251".to_owned(),
            "p%22w%2f%c3%b6%20d%2b%5cx%26%251".to_owned(),
            "p%22w%2F%C3%B6+d%2B%5Cx%26%251".to_owned(),
            "p%22w/%C3%B6%20d+%5Cx&%251".to_owned(),
            "p%2522w%252F%25C3%25B6%2520d%252B%255Cx%2526%25251".to_owned(),
        ] {
            let masked = mask.apply(&format!("before {form} behind"));
            assert!(
                matches!(&*masked, "before **** behind" | "before \"****\" behind")
                    || masked.replace(['\\', '"'], "") == "before **** behind",
                "{form}: {masked}"
            );
        }
    }

    #[test]
    fn base64_of_a_secret_with_something_around_it_goes() {
        let mask = mask(&["correct horse"]);
        for before in ["", "u", "us", "use", "user:"] {
            for behind in ["", "\n", "xy", "xyz"] {
                let text = format!("{before}correct horse{behind}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let masked = mask.apply(&format!("Authorization: Basic {encoded}"));
                    let left = masked.replace(MASK, "");
                    // Three characters on each side may stand for what is around it.
                    let most = "Authorization: Basic ".len() + encoded.len() - 15;
                    assert!(masked.contains(MASK) && left.len() <= most, "{text:?}: {masked}");
                }
            }
        }
    }

    #[test]
    fn base64_that_a_program_wrapped_goes_line_by_line() {
        let key = format!(
            "-----BEGIN KEY-----\n{}\n{}\n-----END KEY-----\n",
            "Ab1+".repeat(16),
            "xYz9".repeat(9)
        );
        let mask = mask(&[&key]);
        for width in [64, 76] {
            let encoded = STANDARD.encode(&key);
            for line in encoded.as_bytes().chunks(width) {
                let line = std::str::from_utf8(line).unwrap();
                assert_eq!(mask.apply(line), MASK, "{line}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_an_escape_stays() {
        let mask = mask(&["hunter2"]);
        for text in
            ["100 % of C:\\users\\x", "%", "%zz \\u12", "\\", "a\\", "\\ud800 \\udc00", "%f"]
        {
            assert_eq!(mask.apply(text), text);
        }
    }

    #[test]
    fn a_whole_secret_in_an_output_is_found_with_its_place() {
        let mask = mask(&["correct horse", "main"]);
        let outputs = json!({ "a": [1, { "b": "the correct horse battery" }], "branch": "main" });
        assert_eq!(mask.find_in(&outputs), Some(("a.1.b".to_owned(), "s0")));
        assert_eq!(mask.find_in(&json!({ "branch": "main" })), None);
        let header = STANDARD.encode("robot:correct horse");
        assert!(mask.find_in(&json!({ "header": header })).is_some());
        assert!(mask.find_in(&json!({ "url": "https://h/?q=correct%20horse" })).is_some());
    }
}
