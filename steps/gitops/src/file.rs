//! One file under edit: where a path leads, and the bytes that change.

use std::ops::Range;

use granit_parser::ScalarStyle;

use crate::edit::{Aliases, DocumentName, EditError, Value};
use crate::reading::{self, Change, Scalar};
use crate::route::{Part, Path};
use crate::scalar::{self, Place, Style};
use crate::source::{Absent, Kind, Node, NodeId, Source};

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was there already.
    Same,
    /// It was another one.
    Changed,
    /// There was no such key.
    Added,
}

/// A file, read, with the document that is edited.
pub(crate) struct File<'a> {
    name: &'a str,
    text: String,
    source: Source,
    document: usize,
    aliases: Aliases,
    notes: Vec<String>,
}

/// Bytes of the text and what replaces them.
type Splice = (Range<usize>, String);

/// Where a path leads.
struct Found {
    node: NodeId,
    /// The key of the entry, for the value of a mapping.
    key: Option<NodeId>,
    /// Whether it stands between braces or brackets.
    flow: bool,
}

impl<'a> File<'a> {
    pub(crate) fn parse(
        name: &'a str,
        text: &str,
        document: Option<&DocumentName>,
        aliases: Aliases,
    ) -> Result<Self, EditError> {
        let source =
            Source::parse(text).map_err(|why| EditError::NotYaml { file: name.to_owned(), why })?;
        let notes = Vec::new();
        let mut file = Self { name, text: text.to_owned(), source, document: 0, aliases, notes };
        file.document = file.choose(document)?;
        Ok(file)
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Keeps a note that is about `path`.
    pub(crate) fn note(&mut self, path: &Path, text: &str) {
        self.notes.push(format!("{}: `{path}` {text}", self.name));
    }

    /// `kind/name` of a document of a cluster.
    fn name_of(&self, root: NodeId) -> Option<String> {
        let root = self.source.target(root);
        let kind = self.source.values(root, "kind").next()?;
        let metadata = self.source.values(root, "metadata").next()?;
        let name = self.source.values(self.source.target(metadata), "name").next()?;
        Some(format!("{}/{}", self.source.scalar(kind)?, self.source.scalar(name)?))
    }

    fn choose(&self, wanted: Option<&DocumentName>) -> Result<usize, EditError> {
        let documents = &self.source.documents;
        let is_empty = |root: &NodeId| {
            let node = self.source.node(*root);
            node.absent == Some(Absent::Closed)
        };
        let found = || {
            let names = documents.iter().enumerate().take(20).map(|(index, root)| {
                let name = self.name_of(*root);
                let what = if is_empty(root) { "empty" } else { "without kind and name" };
                format!("{index}: {}", name.as_deref().unwrap_or(what))
            });
            let mut names = names.collect::<Vec<_>>().join(", ");
            if documents.len() > 20 {
                names.push_str(", …");
            }
            if names.is_empty() { "no document".to_owned() } else { names }
        };
        let file = self.name.to_owned();
        let indexes: Vec<usize> = match wanted {
            None => (0..documents.len()).filter(|index| !is_empty(&documents[*index])).collect(),
            Some(DocumentName::Index(index)) => (*index..documents.len()).take(1).collect(),
            Some(DocumentName::Name(name)) => match name.parse::<usize>() {
                Ok(index) => (index..documents.len()).take(1).collect(),
                Err(_) => {
                    let named =
                        |index: &usize| self.name_of(documents[*index]).as_ref() == Some(name);
                    (0..documents.len()).filter(named).collect()
                }
            },
        };
        match (indexes.as_slice(), wanted) {
            ([index], _) => Ok(*index),
            ([], None) if !documents.is_empty() => Ok(0),
            ([], None) => Err(EditError::NotYaml { file, why: "it is empty".into() }),
            (_, None) => Err(EditError::Several { file, found: found() }),
            (several, Some(document)) => Err(EditError::NoSuchDocument {
                file,
                document: match document {
                    DocumentName::Index(index) => index.to_string(),
                    DocumentName::Name(name) => name.clone(),
                },
                count: if several.is_empty() { "no document" } else { "several documents" },
                found: found(),
            }),
        }
    }

    fn no_such_path(&self, path: &Path, why: impl ToString) -> EditError {
        let (file, path) = (self.name.to_owned(), path.to_string());
        EditError::NoSuchPath { file, path, why: why.to_string() }
    }

    pub(crate) fn refused(&self, path: &Path, why: impl ToString) -> EditError {
        let (file, path) = (self.name.to_owned(), path.to_string());
        EditError::Refused { file, path, why: why.to_string() }
    }

    fn not_scalar(&self, path: &Path, what: &'static str) -> EditError {
        EditError::NotScalar { file: self.name.to_owned(), path: path.to_string(), what }
    }

    pub(crate) fn not_an_image(&self, path: &Path) -> EditError {
        EditError::NotAnImage { file: self.name.to_owned(), path: path.to_string() }
    }

    pub(crate) fn no_such_image(&self, name: &str) -> EditError {
        EditError::NoSuchImage { file: self.name.to_owned(), name: name.to_owned() }
    }

    fn shared(&self, path: &Path, how: impl ToString) -> EditError {
        let (file, path) = (self.name.to_owned(), path.to_string());
        EditError::Alias { file, path, how: how.to_string() }
    }

    /// The node itself, or what it is an alias of where that may be edited.
    fn through(&self, node: NodeId, path: &Path) -> Result<NodeId, EditError> {
        let Kind::Alias(target) = self.source.node(node).kind else { return Ok(node) };
        match self.aliases {
            Aliases::Follow => Ok(target),
            Aliases::Refuse => {
                let alias = &self.text[self.source.node(node).span.clone()];
                Err(self.shared(path, format!("leads through an alias, `{alias}`")))
            }
        }
    }

    /// Follows `path` to its end.
    fn find(&self, path: &Path) -> Result<Found, EditError> {
        let mut found =
            Found { node: self.source.documents[self.document], key: None, flow: false };
        for (length, part) in path.parts().iter().enumerate() {
            found.node = self.through(found.node, path)?;
            let node = self.source.node(found.node);
            let here = match length {
                0 => "the document".to_owned(),
                length => format!("`{}`", path.prefix(length)),
            };
            match (&node.kind, part) {
                (Kind::Mapping { flow, entries }, Part::Key(key)) => {
                    found.flow |= flow;
                    let mut of_key =
                        entries.iter().filter(|(k, _)| self.source.scalar(*k) == Some(key));
                    match (of_key.next(), of_key.next()) {
                        (Some((key, value)), None) => {
                            (found.key, found.node) = (Some(*key), *value);
                        }
                        (Some(_), Some(_)) => {
                            let why = format!("the key `{key}` stands twice in {here}");
                            return Err(self.refused(path, why));
                        }
                        (None, _) => {
                            found.node = self.merged(found.node, key, path)?.ok_or_else(|| {
                                self.no_such_path(path, format!("{here} has no key `{key}`"))
                            })?;
                            found.key = None;
                        }
                    }
                }
                (Kind::Sequence { flow, items }, Part::Index(index)) => {
                    found.flow |= flow;
                    found.key = None;
                    found.node = *items.get(*index).ok_or_else(|| {
                        let why = format!("{here} has {} entries, from 0 on", items.len());
                        self.no_such_path(path, why)
                    })?;
                }
                (Kind::Scalar { text, .. }, _) if text.contains('\n') => {
                    let rest = path.suffix(length);
                    return Err(self.no_such_path(
                        path,
                        format!(
                            "{here} is a text; if it holds a YAML document of its own, say \
                             `within: {}` and `path: {rest}`",
                            path.prefix(length)
                        ),
                    ));
                }
                (_, part) => {
                    let wanted = match part {
                        Part::Key(_) => "a mapping",
                        Part::Index(_) => "a list",
                    };
                    let what = if node.absent.is_some() { "without a value" } else { node.noun() };
                    return Err(self.no_such_path(path, format!("{here} is {what}, not {wanted}")));
                }
            }
        }
        Ok(found)
    }

    /// The value of a key that a mapping has through a merge key.
    fn merged(&self, mapping: NodeId, key: &str, path: &Path) -> Result<Option<NodeId>, EditError> {
        let mut sources = Vec::new();
        for merge in self.source.values(mapping, "<<") {
            match &self.source.node(self.source.target(merge)).kind {
                Kind::Sequence { items, .. } => {
                    sources.extend(items.iter().map(|item| self.source.target(*item)));
                }
                Kind::Scalar { .. } | Kind::Alias(_) | Kind::Mapping { .. } => {
                    sources.push(self.source.target(merge));
                }
            }
        }
        let value = sources.iter().find_map(|source| self.source.values(*source, key).next());
        if value.is_some() && self.aliases == Aliases::Refuse {
            return Err(self.shared(path, format!("has its `{key}` through a merge key, `<<`")));
        }
        Ok(value)
    }

    /// Whether something stands at `path`, or the error that keeps us from seeing it.
    pub(crate) fn has(&self, path: &Path) -> Result<bool, EditError> {
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(EditError::NoSuchPath { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a mapping stands at `path`.
    pub(crate) fn is_mapping(&self, path: &Path) -> Result<bool, EditError> {
        let node = self.through(self.find(path)?.node, path)?;
        Ok(matches!(self.source.node(node).kind, Kind::Mapping { .. }))
    }

    /// How many entries the list at `path` has.
    pub(crate) fn length(&self, path: &Path) -> Result<usize, EditError> {
        let node = self.source.node(self.through(self.find(path)?.node, path)?);
        match &node.kind {
            Kind::Sequence { items, .. } => Ok(items.len()),
            Kind::Scalar { .. } | Kind::Alias(_) | Kind::Mapping { .. } => {
                Err(self.no_such_path(path, format!("it is {}, not a list", node.noun())))
            }
        }
    }

    /// Whether the mapping at `path` has `key` itself, not by a merge key.
    pub(crate) fn has_own(&self, mapping: &Path, key: &str) -> Result<bool, EditError> {
        let node = self.through(self.find(mapping)?.node, mapping)?;
        Ok(self.source.values(node, key).next().is_some())
    }

    /// The text of the scalar at `path`, where one is.
    pub(crate) fn scalar(&self, path: &Path) -> Option<&str> {
        self.source.scalar(self.find(path).ok()?.node)
    }

    /// The text at `path` that holds a document of its own.
    pub(crate) fn text_at(&self, path: &Path) -> Result<&str, EditError> {
        let node = self.through(self.find(path)?.node, path)?;
        let what = self.source.node(node).noun();
        self.source.scalar(node).ok_or_else(|| self.refused(path, format!("it is {what}, no text")))
    }

    /// Sets the scalar at `path`.
    pub(crate) fn set(&mut self, path: &Path, value: &Value) -> Result<Made, EditError> {
        let found = self.find(path)?;
        let id = self.through(found.node, path)?;
        let node = self.source.node(id);
        let Kind::Scalar { text, style } = &node.kind else {
            return Err(self.not_scalar(path, node.noun()));
        };
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::Single,
            ScalarStyle::DoubleQuoted => Style::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => {
                return Err(self.not_scalar(path, node.noun()));
            }
        };
        if self.text[node.span.clone()].contains(['\n', '\r']) {
            return Err(self.not_scalar(path, "a text over several lines"));
        }
        if let Some(why) = stands_against(node, value) {
            return Err(self.refused(path, why));
        }
        if node.absent.is_none() && is_same(text, style == Style::Plain, value) {
            return Ok(Made::Same);
        }
        let json = found.flow && found.key.is_some_and(|key| self.is_double_quoted(key));
        let place = Place {
            style: if json && style == Style::Plain { Style::Double } else { style },
            quote_colons: found.flow && !text.contains(':'),
        };
        let written = scalar::write(value, place);
        let splice = if node.absent.is_some() {
            self.fill(&found, id, &written, path)?
        } else {
            (node.span.clone(), written)
        };
        self.make(path, id, vec![splice], &Change::Set(Scalar::of(value)))?;
        Ok(Made::Changed)
    }

    fn is_double_quoted(&self, id: NodeId) -> bool {
        let style = ScalarStyle::DoubleQuoted;
        matches!(self.source.node(id).kind, Kind::Scalar { style: found, .. } if found == style)
    }

    /// Writes a value where a key or a list has none.
    fn fill(
        &self,
        found: &Found,
        id: NodeId,
        written: &str,
        path: &Path,
    ) -> Result<Splice, EditError> {
        let node = self.source.node(id);
        if node.absent == Some(Absent::Open) {
            return Ok((node.span.clone(), format!(" {written}")));
        }
        match found.key {
            Some(key) if found.flow => {
                let end = self.source.end(key);
                Ok((end..end, format!(": {written}")))
            }
            Some(_) | None => {
                Err(self.refused(path, "its key has no `:`, so no value can stand there"))
            }
        }
    }

    /// Replaces the whole text at `path` that holds a document of its own.
    pub(crate) fn set_whole_text(&mut self, path: &Path, new: &str) -> Result<(), EditError> {
        let id = self.through(self.find(path)?.node, path)?;
        let node = self.source.node(id);
        let Kind::Scalar { text, style: ScalarStyle::Literal } = &node.kind else {
            if matches!(node.kind, Kind::Scalar { style: ScalarStyle::Folded, .. }) {
                return Err(self.refused(path, "lines of a folded text (`>`) are not edited"));
            }
            return self.set(path, &Value::Text(new.to_owned())).map(drop);
        };
        if text == new {
            return Ok(());
        }
        let splice = crate::block::replace(&self.text, node.span.clone(), text, new)
            .ok_or_else(|| self.refused(path, "its lines are not indented as one text"))?;
        self.make(path, id, vec![splice], &Change::Set(Scalar::Text(new.to_owned())))
    }

    /// Sets a key of a mapping, adding it behind the others where it is not there yet.
    pub(crate) fn set_or_add(
        &mut self,
        mapping: &Path,
        key: &str,
        text: &str,
    ) -> Result<Made, EditError> {
        let value = Value::Text(text.to_owned());
        let path = mapping.key(key);
        if self.has_own(mapping, key)? {
            return self.set(&path, &value);
        }
        let found = self.find(mapping)?;
        let id = self.through(found.node, mapping)?;
        let splices = match self.source.node(id).kind {
            Kind::Mapping { flow: true, .. } => self.add_in_braces(id, key, &value, &path)?,
            Kind::Mapping { flow: false, .. } => self.add_line(id, key, &value, &path)?,
            Kind::Scalar { .. } | Kind::Alias(_) | Kind::Sequence { .. } => {
                let what = self.source.node(id).noun();
                return Err(self.no_such_path(&path, format!("`{mapping}` is {what}")));
            }
        };
        let change = Change::Add(key.to_owned(), Scalar::of(&value));
        self.make(&path, id, splices, &change)?;
        Ok(Made::Added)
    }

    /// Adds an entry to a mapping between braces, on a line of its own where the others have one.
    fn add_in_braces(
        &self,
        id: NodeId,
        key: &str,
        value: &Value,
        path: &Path,
    ) -> Result<Vec<Splice>, EditError> {
        let span = self.source.node(id).span.clone();
        if !self.text[span.clone()].starts_with('{') {
            return Err(self.refused(path, "the mapping has no braces, so it takes no more keys"));
        }
        let Some(&last) = self.source.entries(id).last() else {
            let entry = entry(key, value, Style::Plain, true);
            let inner = &self.text[span.start + 1..];
            let blanks = inner.len() - inner.trim_start_matches(' ').len();
            let at = span.start + 1 + blanks;
            return Ok(vec![(at..at, format!("{entry}{}", " ".repeat(blanks)))]);
        };
        let style = if self.is_double_quoted(last.0) { Style::Double } else { Style::Plain };
        let entry = entry(key, value, style, true);
        let end = self.source.end(last.1);
        let begins = self.source.node(last.0).start();
        let indent = &self.text[line_start(&self.text, begins)..begins];
        let own_line = self.text[span.start..begins].contains(['\n', '\r'])
            && indent.bytes().all(|b| b == b' ' || b == b'\t');
        let mut at = skip_blanks(&self.text, end);
        let comma = self.text[at..].starts_with(',');
        if comma {
            at = skip_blanks(&self.text, at + 1);
        }
        let before_comment = at;
        if self.text[at..].starts_with('#') {
            at = line_end(&self.text, at);
        }
        if own_line && line_end(&self.text, at) == at && at < self.text.len() {
            let at = if before_comment == at {
                self.text[..at].trim_end_matches([' ', '\t']).len()
            } else {
                at
            };
            let new_line = line_break(&self.text, at);
            return Ok(if comma {
                vec![(at..at, format!("{new_line}{indent}{entry},"))]
            } else {
                vec![(end..end, ",".into()), (at..at, format!("{new_line}{indent}{entry}"))]
            });
        }
        // A key or a `:` without a value takes a comma behind a blank alone.
        let absent = self.source.node(last.1).absent.is_some();
        let at = if absent { skip_blanks(&self.text, end) } else { end };
        let blank = if absent && at == end { " " } else { "" };
        Ok(vec![(at..at, format!("{blank}, {entry}"))])
    }

    /// Adds a line behind the last entry of a mapping.
    fn add_line(
        &self,
        id: NodeId,
        key: &str,
        value: &Value,
        path: &Path,
    ) -> Result<Vec<Splice>, EditError> {
        let (Some(first), Some(last)) =
            (self.source.entries(id).first(), self.source.entries(id).last())
        else {
            return Err(self.refused(path, "the mapping has no entries"));
        };
        let text = &self.text;
        let begins = self.source.node(first.0).start();
        let before = &text[line_start(text, begins)..begins];
        // In a list the first key stands behind a `-`, and a key may stand behind a `?`.
        let before = before.trim_end().strip_suffix('?').unwrap_or(before);
        let indent = " ".repeat(before.chars().filter(|c| *c != '\u{feff}').count());
        let entry = entry(key, value, Style::Plain, false);
        let end = self.source.end(last.1);
        let leaf = self.source.last_leaf(last.1);
        if let Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. } = leaf.kind {
            let at = crate::block::end(text, leaf.span.clone());
            return Ok(vec![if text[..at].ends_with(['\n', '\r']) {
                let new_line = line_break(text, line_start(text, at.saturating_sub(1)));
                (at..at, format!("{indent}{entry}{new_line}"))
            } else {
                (at..at, format!("{}{indent}{entry}", line_break(text, at)))
            }]);
        }
        let rest = skip_blanks(text, end);
        let at = line_end(text, rest);
        if at != rest && !text[rest..].starts_with('#') {
            return Err(self.refused(path, "what is behind the last key shares its line"));
        }
        Ok(vec![(at..at, format!("{}{indent}{entry}", line_break(text, at)))])
    }

    /// Makes the splices, reads what came out, and keeps it if it means what is meant.
    fn make(
        &mut self,
        path: &Path,
        node: NodeId,
        mut splices: Vec<Splice>,
        change: &Change,
    ) -> Result<(), EditError> {
        let refused = |why: String| self.refused(path, why);
        let trees = reading::documents(&self.source).map_err(refused)?;
        let positions = trees[self.document].positions(node);
        if positions.len() > 1 && self.aliases == Aliases::Refuse {
            let how = format!("stands in {} places, by an anchor and its aliases", positions.len());
            return Err(self.shared(path, how));
        }
        let mut text = self.text.clone();
        // From the end on, so that places stay; of two at one place the first comes out first.
        splices.reverse();
        splices.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
        for (at, new) in splices {
            text.replace_range(at, &new);
        }
        let source = Source::parse(&text)
            .map_err(|why| refused(format!("it would not be YAML any more: {why}")))?;
        reading::compare(
            (&self.text, &self.source),
            (&text, &source),
            self.document,
            &positions,
            change,
        )
        .map_err(refused)?;
        (self.text, self.source) = (text, source);
        Ok(())
    }
}

/// Why a tag keeps `value` from standing behind it.
fn stands_against(node: &Node, value: &Value) -> Option<String> {
    let (tag, _) = node.tag.as_ref()?;
    let kind = tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag);
    match (kind, value) {
        ("str" | "!", Value::Text(_))
        | ("int", Value::Integer(_))
        | ("bool", Value::Boolean(_)) => None,
        _ => Some(format!("it has the tag `{kind}`, which says how the value is to be read")),
    }
}

/// Whether the scalar means `value` already, however it is written.
fn is_same(text: &str, plain: bool, value: &Value) -> bool {
    let read = Scalar::read(text, plain);
    match value {
        Value::Text(_) | Value::Boolean(_) if read == Scalar::of(value) => true,
        Value::Boolean(flag) => {
            let lower = text.to_ascii_lowercase();
            let known = [lower.as_str(), "TRUE", "True", "FALSE", "False"].contains(&text);
            plain && known && lower == flag.to_string()
        }
        Value::Integer(number) => {
            let hex = text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16));
            // A leading zero is octal for some readers.
            let decimal = (text == number.to_string()).then_some(*number);
            plain && (decimal == Some(*number) || hex == Some(Ok(*number)))
        }
        Value::Text(_) => false,
    }
}

/// The source text of a new entry.
fn entry(key: &str, value: &Value, style: Style, between_braces: bool) -> String {
    let place = Place { style, quote_colons: between_braces };
    let key = scalar::write(&Value::Text(key.to_owned()), place);
    format!("{key}: {}", scalar::write(value, place))
}

fn skip_blanks(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t']).len()
}

pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |index| index + 1)
}

pub(crate) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find(['\n', '\r']).map_or(text.len(), |index| at + index)
}

/// The line break of the line that `at` is in; at the last line, that of the line before.
pub(crate) fn line_break(text: &str, at: usize) -> &'static str {
    let of = |rest: &str| match rest.as_bytes() {
        [b'\r', b'\n', ..] => Some("\r\n"),
        [b'\r', ..] => Some("\r"),
        [b'\n', ..] => Some("\n"),
        _ => None,
    };
    of(&text[line_end(text, at)..])
        .or_else(|| {
            let before = &text[..line_start(text, at)];
            let start = before.strip_suffix("\r\n").or_else(|| before.strip_suffix(['\n', '\r']));
            of(&before[start?.len()..])
        })
        .unwrap_or("\n")
}
