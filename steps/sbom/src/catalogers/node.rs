//! Node packages: `package.json` (docs.npmjs.com, "package.json").
//!
//! What Node reads is read here, and Node is not strict: bytes that are no UTF-8 and halves of a
//! surrogate pair become U+FFFD, a key that stands twice counts the second time, a number may be
//! too large for anything, and nesting has no end. So only four fields are looked at, each for
//! itself, and of all others nothing but the form matters.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;

/// Reads the description of a Node package.
pub(super) struct Node;

impl Cataloger for Node {
    fn name(&self) -> &'static str {
        "node"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.name == "package.json"
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let bytes = content.whole()?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        Ok(package(bytes)?.map(|package| {
            let entry = Entry::split(Ecosystem::Npm, &package.name, package.version);
            Entry { license: package.license, ..entry }.into()
        }))
    }
}

/// A Node package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodePackage {
    /// The name, with its `@scope/` where it has one.
    name: String,
    version: String,
    license: Option<String>,
}

/// What a `package.json` says; `None` without a name and a version, as in the stubs that only set
/// the module type of a folder.
///
/// # Errors
/// When it is no JSON object, or when its name or version is there and is no text.
fn package(bytes: &[u8]) -> Result<Option<NodePackage>, Unreadable> {
    let text = as_node_reads(bytes);
    let fields: HashMap<String, &RawValue> = serde_json::from_str(&text).map_err(|error| {
        Unreadable::NoPackage(match serde_json::from_str::<&RawValue>(&text) {
            Ok(_) => "it is no JSON object".to_owned(),
            Err(_) => format!("no JSON: {error}"),
        })
    })?;
    let of = |key: &str| Field::of(fields.get(key).copied());
    let (name, version) = match (of("name"), of("version")) {
        (Field::Text(name), Field::Text(version)) => (name, version),
        (Field::Absent, _) | (_, Field::Absent) => return Ok(None),
        (Field::Odd(what), _) => {
            return Err(Unreadable::Lost(format!("its `name` is {what}, not a text")));
        }
        (Field::Text(name), Field::Odd(what)) => {
            let problem = format!("the `version` of `{name}` is {what}, not a text");
            return Err(Unreadable::Lost(problem));
        }
    };
    // `licenses` is the old key, for a list of which the user takes one.
    let license = ["license", "licenses"].into_iter().find_map(|key| {
        let value = fields.get(key)?.get();
        if value.len() > LICENSE_LIMIT {
            return None;
        }
        license(&serde_json::from_str(value).ok()?)
    });
    Ok(Some(NodePackage { name, version, license }))
}

/// The most bytes of JSON that name a license.
const LICENSE_LIMIT: usize = 64 << 10;

/// A field that is to be a text.
enum Field {
    /// It is not there, or there is nothing in it.
    Absent,
    Text(String),
    /// It is something else, in the words of a person.
    Odd(&'static str),
}

impl Field {
    fn of(value: Option<&RawValue>) -> Self {
        let Some(value) = value.map(RawValue::get) else { return Self::Absent };
        let text = match value.as_bytes().first() {
            Some(b'"') => serde_json::from_str(value).unwrap_or_default(),
            // A version that somebody wrote without its quotes. `1.10` is not `1.1`, so the number
            // stays as it is written.
            Some(b'-' | b'0'..=b'9') => value.to_owned(),
            Some(b'[') => return Self::Odd("a list"),
            Some(b'{') => return Self::Odd("an object"),
            Some(b't' | b'f') => return Self::Odd("a truth value"),
            _ => String::new(),
        };
        match text.trim() {
            "" => Self::Absent,
            trimmed if trimmed.len() < text.len() => Self::Text(trimmed.to_owned()),
            _ => Self::Text(text),
        }
    }
}

/// The name of a license: a text, an object with a type, or a list of either.
fn license(value: &Value) -> Option<String> {
    let name = match value {
        Value::String(name) => name.trim().to_owned(),
        Value::Object(object) => {
            let name = ["type", "name"].into_iter().find_map(|key| object.get(key)?.as_str());
            name?.trim().to_owned()
        }
        Value::Array(all) => {
            let one = |value: &Value| if value.is_array() { None } else { license(value) };
            all.iter().filter_map(one).collect::<Vec<String>>().join(" OR ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    (!name.is_empty()).then_some(name)
}

/// The text as Node sees it: U+FFFD for each byte that cannot be read, and for each half of a
/// surrogate pair that stands alone in an escape.
fn as_node_reads(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    match whole_surrogates(&text) {
        Some(whole) => Cow::Owned(whole),
        None => text,
    }
}

/// `text` with `\ufffd` for halves of surrogate pairs; `None` where there are none.
fn whole_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
        if digits { u16::from_str_radix(hex, 16).ok() } else { None }
    };
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].find('\\') {
        at += next;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                lone.push(at);
                6
            }
            Some(_) => 6,
            // Another escape: a backslash and the character behind it.
            None => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if lone.is_empty() {
        return None;
    }
    let mut whole = text.to_owned();
    for at in lone {
        whole.replace_range(at..at + 6, "\\ufffd");
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(json: &[u8]) -> Option<(String, String, Option<String>)> {
        package(json).unwrap().map(|p| (p.name, p.version, p.license))
    }

    #[test]
    fn name_version_and_license_are_read() {
        for (json, want) in [
            (r#"{"name":"a","version":"1.0.0","license":"MIT"}"#, Some(("a", Some("MIT")))),
            (
                r#"{"name":"@s/b","version":"1","license":{"type":"ISC"}}"#,
                Some(("@s/b", Some("ISC"))),
            ),
            (
                r#"{"name":"c","version":"1","licenses":[{"type":"MIT"},"ISC",{}]}"#,
                Some(("c", Some("MIT OR ISC"))),
            ),
            (r#"{"name":"d","version":"1","license":["x"]}"#, Some(("d", Some("x")))),
            (
                r#"{"name":"d","version":"1","license":["MIT",{"type":"ISC"},["z"],7,null]}"#,
                Some(("d", Some("MIT OR ISC"))),
            ),
            (r#"{"name":"d","version":"1","licenses":{"name":"MIT"}}"#, Some(("d", Some("MIT")))),
            (r#"{"name":"d","version":"1","licenses":"MIT"}"#, Some(("d", Some("MIT")))),
            (
                r#"{"name":"d","version":"1","license":[],"licenses":["MIT"]}"#,
                Some(("d", Some("MIT"))),
            ),
            (r#"{"name":"d","version":"1","license":false}"#, Some(("d", None))),
            (r#"{"type":"module"}"#, None),
            (r#"{"name":"e","version":""}"#, None),
            (r#"{"name":"e","version":null}"#, None),
            (r#"{"name":["e"]}"#, None),
        ] {
            let found = package(json.as_bytes()).unwrap();
            let brief = found.as_ref().map(|p| (&*p.name, p.license.as_deref()));
            assert_eq!(brief, want, "{json}");
        }
    }

    #[test]
    fn what_node_reads_is_read() {
        let list = |name: &str, version: &str, license: Option<&str>| {
            Some((name.to_owned(), version.to_owned(), license.map(str::to_owned)))
        };
        let deep = format!(
            r#"{{"x":{}{},"name":"deep","version":"1"}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        for (json, want) in [
            // Bytes of another encoding, in a field that counts and in one that does not.
            (
                &b"{\"name\":\"latin\",\"version\":\"0.4.5\",\"author\":\"J\xf6rg\",\"license\":\"MIT\"}"[..],
                list("latin", "0.4.5", Some("MIT")),
            ),
            (
                b"{\"name\":\"l\xe4\",\"version\":\"1\",\"license\":\"\xff\",\"k\xf6y\":1}",
                list("l\u{fffd}", "1", Some("\u{fffd}")),
            ),
            // Halves of a surrogate pair, wherever they stand, in either order, next to whole ones.
            (
                br#"{"name":"half","version":"2.0.0","description":"tools \ud83d"}"#,
                list("half", "2.0.0", None),
            ),
            (
                br#"{"name":"h\uDE00","version":"1\ud83d","license":"\ud83d\ud83d\ude00 \\ud83d","\udc00":1}"#,
                list("h\u{fffd}", "1\u{fffd}", Some("\u{fffd}\u{1f600} \\ud83d")),
            ),
            // Numbers that fit nowhere, keys that stand twice, nesting without end.
            (br#"{"name":"n","version":"1","x":1e999,"y":-1E-999}"#, list("n", "1", None)),
            (br#"{"name":"a","name":"b","version":"1","version":"2"}"#, list("b", "2", None)),
            (deep.as_bytes(), list("deep", "1", None)),
            // A number for a text, as it is written.
            (br#"{"name":"n","version":1.10}"#, list("n", "1.10", None)),
            (br#"{"name":1,"version":2}"#, list("1", "2", None)),
            (b"{\"name\":\" n\\n\",\"version\":\"\\t1 \"}", list("n", "1", None)),
        ] {
            assert_eq!(brief(json), want, "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn an_odd_name_or_version_is_told() {
        for (json, want) in [
            (r#"{"name":"a","version":["1"]}"#, "the `version` of `a` is a list, not a text"),
            (r#"{"name":{"a":1},"version":"1"}"#, "its `name` is an object, not a text"),
            (r#"{"name":true,"version":{}}"#, "its `name` is a truth value, not a text"),
        ] {
            let lost = Unreadable::Lost(want.to_owned());
            assert_eq!(package(json.as_bytes()).unwrap_err(), lost, "{json}");
        }
    }

    #[test]
    fn what_is_no_object_is_no_package() {
        let deep = "[".repeat(100_000);
        for bad in ["", "{", "[]", "\u{0}", "{\"a\":\"\\x\"}", "{\"a\":\"\\", "7", &deep] {
            let problem = package(bad.as_bytes()).unwrap_err();
            assert!(matches!(problem, Unreadable::NoPackage(_)), "{bad}: {problem:?}");
        }
    }
}
