//! YAML as a tree in which every key and every value knows its place.
//!
//! The tree is checked by hand, so that one pass finds everything that is wrong with a file.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use crate::code::{DUPLICATE_KEY, MALFORMED_YAML, TOO_LARGE};
use crate::{Diagnostic, MAX_SOURCE_BYTES, Source, Span};

/// The most levels a file may have.
const MAX_DEPTH: usize = 24;
/// The most nodes a file may have, aliases written out.
const MAX_NODES: usize = 100_000;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) content: Content,
    /// Its bytes.
    pub(crate) span: Span,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    /// What it is, for messages.
    pub(crate) const fn describe(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "a boolean",
            Content::Number(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Map(_) => None,
        }
    }

    /// The same value as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(*flag),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::json).collect()),
            Content::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect(),
            ),
        }
    }

    /// The value behind `key`, if it is a mapping with one.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => None,
        }
    }

    /// The place of the JSON pointer within this value, or of the nearest place above it.
    pub(crate) fn at_pointer(&self, pointer: &str) -> Span {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &node.content {
                Content::Map(_) => node.get(&part).map(|entry| &entry.value),
                Content::List(items) => part.parse().ok().and_then(|at: usize| items.get(at)),
                Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.span
    }

    /// The place of the bytes `start..end` of this text. Exact where the text stands in the file as
    /// it is; otherwise where `within` stands in it, or the whole.
    pub(crate) fn part(&self, source: &Source, start: usize, end: usize) -> Span {
        let Some(text) = self.text() else { return self.span };
        let raw = source.text().get(self.span.start..self.span.end).unwrap_or_default();
        let Some(part) = text.get(start..end) else { return self.span };
        let base = match raw.find(text) {
            Some(base) => base + start,
            None => match raw.find(part) {
                Some(at) if !part.is_empty() => at,
                Some(_) | None => return self.span,
            },
        };
        source.span(self.span.start + base, self.span.start + base + part.len())
    }
}

/// Reads `source`. A tree comes back even when keys stand twice; the first one counts.
pub(crate) fn parse(source: &Source, found: &mut Vec<Diagnostic>) -> Option<Node> {
    if source.text().len() > MAX_SOURCE_BYTES {
        let message = format!("the file has more than {MAX_SOURCE_BYTES} bytes");
        found.push(Diagnostic::error(TOO_LARGE, source.span(0, 0), message));
        return None;
    }
    if source.text().trim_start_matches('\u{feff}').trim().is_empty() {
        let empty = Diagnostic::error(MALFORMED_YAML, source.span(0, 0), "the file is empty");
        found.push(empty.help("begin with `apiVersion: fairlead.dev/v1`"));
        return None;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            flow_nesting_limit: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
        },
        strict_booleans: true,
        reject_unsupported_tags: true,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(source.text(), options) {
        Ok(raw) => Some(place(raw, source, source.span(0, 0), found)),
        Err(error) => {
            found.push(malformed(source, &error));
            None
        }
    }
}

fn malformed(source: &Source, error: &serde_saphyr::Error) -> Diagnostic {
    let end = source.span(source.text().len(), source.text().len());
    let span = match error.location() {
        None => end,
        Some(location) => match location.span().byte_offset() {
            Some(start) => to_span(source, start, location.span().byte_len()),
            // The scanner counts lines and characters, and no bytes.
            None => at(source, location.line(), location.column()).unwrap_or(end),
        },
    };
    let said = error.without_snippet().to_string();
    let first = said.lines().next().unwrap_or_default();
    // The place is told apart from the message.
    let message = first.split(" at line ").next().unwrap_or(first).trim_end_matches(['.', ':']);
    let kind = error.without_snippet();
    if matches!(kind, serde_saphyr::Error::Budget { .. }) {
        let message = format!("the file has more than {MAX_DEPTH} levels or {MAX_NODES} parts");
        Diagnostic::error(TOO_LARGE, span, message)
    } else if message.contains("limit exceeded") {
        Diagnostic::error(TOO_LARGE, span, format!("the file is beyond a limit: {message}"))
    } else if matches!(kind, serde_saphyr::Error::MultipleDocuments { .. }) {
        let message = "the file has more than one YAML document";
        Diagnostic::error(MALFORMED_YAML, span, message).help("one file is one pipeline")
    } else {
        Diagnostic::error(MALFORMED_YAML, span, format!("this is not YAML: {message}"))
    }
}

/// The character at a line and a column, both from 1.
fn at(source: &Source, line: u64, column: u64) -> Option<Span> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let text = source.text();
    let begin = match line {
        0 => 0,
        line => text.match_indices('\n').nth(line - 1)?.0 + 1,
    };
    let rest = text[begin..].split('\n').next().unwrap_or_default();
    let (offset, length) =
        rest.char_indices().nth(column).map_or((rest.len(), 0), |(at, c)| (at, c.len_utf8()));
    Some(source.span(begin + offset, begin + offset + length))
}

fn to_span(source: &Source, start: u64, length: Option<u64>) -> Span {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    source.span(start, start.saturating_add(length))
}

/// The place of a scalar, or of the first token of a collection.
fn span_of(location: Location, source: &Source, otherwise: Span) -> Span {
    match location.span().byte_offset() {
        Some(start) => to_span(source, start, location.span().byte_len()),
        None => otherwise,
    }
}

fn place(raw: Spanned<Raw>, source: &Source, parent: Span, found: &mut Vec<Diagnostic>) -> Node {
    let mut span = span_of(raw.defined, source, parent);
    let content = match raw.value {
        Raw::Null => Content::Null,
        Raw::Bool(flag) => Content::Bool(flag),
        Raw::Number(number) => Content::Number(number),
        Raw::Text(text) => Content::Text(text),
        Raw::List(items) => {
            let items: Vec<Node> =
                items.into_iter().map(|item| place(item, source, span, found)).collect();
            if let Some(last) = items.last().filter(|last| last.span.end > span.end) {
                span.end = last.span.end;
            }
            Content::List(items)
        }
        Raw::Map(raw_entries) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(raw_entries.len());
            let mut seen = std::collections::HashMap::new();
            for (key, value) in raw_entries {
                let key_span = span_of(key.defined, source, span);
                if let Some(first) = seen.get(&key.value) {
                    let message = format!("the key `{}` stands twice", key.value);
                    let twice = Diagnostic::error(DUPLICATE_KEY, key_span, message);
                    found.push(twice.label(*first, "first here").help("remove one of the two"));
                    continue;
                }
                seen.insert(key.value.clone(), key_span);
                let value = place(value, source, key_span, found);
                span.end = span.end.max(value.span.end);
                entries.push(Entry { key: key.value, key_span, value });
            }
            Content::Map(entries)
        }
    };
    Node { content, span }
}

/// What the reader gives, before places are turned into spans.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Raw, E> {
        Err(E::custom("a number beyond 64 bits; put it in quotes if it is a text"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Raw, E> {
        Err(E::custom("a number beyond 64 bits; put it in quotes if it is a text"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Raw, E> {
        Number::from_f64(number).map(Raw::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// A value as a JSON object, for one key of a mapping.
pub(crate) fn single(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        let mut found = Vec::new();
        let node = parse(&Source::new("p.yaml", text), &mut found);
        (node, found)
    }

    fn show(node: &Node, text: &str, out: &mut Vec<String>) {
        out.push(format!("{} {:?}", node.describe(), &text[node.span.start..node.span.end]));
        match &node.content {
            Content::List(items) => items.iter().for_each(|item| show(item, text, out)),
            Content::Map(entries) => {
                for entry in entries {
                    out.push(format!("key {:?}", &text[entry.key_span.start..entry.key_span.end]));
                    show(&entry.value, text, out);
                }
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "on: yes\nä: [1, 'x y', \"a\\tb\", ~]\nb:\n  c: |\n    line {{ x }}\n    two\n  d: {e: 1.5}\n";
        let (node, found) = tree(text);
        assert_eq!(found, []);
        let node = node.unwrap();
        let mut out = Vec::new();
        show(&node, text, &mut out);
        insta::assert_snapshot!(out.join("\n"), @r#"
        a mapping "on: yes\nä: [1, 'x y', \"a\\tb\", ~]\nb:\n  c: |\n    line {{ x }}\n    two\n  d: {e: 1.5"
        key "on"
        a text "yes"
        key "ä"
        a list "[1, 'x y', \"a\\tb\", ~"
        a number "1"
        a text "'x y'"
        a text "\"a\\tb\""
        nothing "~"
        key "b"
        a mapping "c: |\n    line {{ x }}\n    two\n  d: {e: 1.5"
        key "c"
        a text "line {{ x }}\n    two\n  "
        key "d"
        a mapping "{e: 1.5"
        key "e"
        a number "1.5"
        "#);
    }
}
