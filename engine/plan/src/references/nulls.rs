//! Findings about values of the event that may be null where a value is needed.

use fairlead_event::{Nullness, TriggerKind, TriggerMatch};

use super::{Names, Reader};
use crate::code::MAY_BE_NULL;
use crate::nulls::{self, Known, Use};
use crate::template::{self, Piece};
use crate::yaml::{Content, Node};
use crate::{Diagnostic, Severity};

impl Names<'_> {
    /// Tells what in the leaves of an input would work with null, or put it into a text. What a leaf
    /// that is one expression gives is for its place to judge: see [`Names::given_nulls`].
    pub(crate) fn nulls(
        &self,
        node: &Node,
        reader: Reader<'_>,
        known: &Known,
        found: &mut Vec<Diagnostic>,
    ) {
        match &node.content {
            Content::Text(leaf) if template::is_template(leaf) => {
                let pieces = template::split(leaf).unwrap_or_default();
                let whole = pieces.len() == 1;
                for piece in pieces {
                    if let Piece::Expression { text, start } = piece {
                        let uses = nulls::find(text, known);
                        let put = if whole { Vec::new() } else { uses.given };
                        self.tell(node, start, uses.worked.iter().chain(&put), reader, found);
                    }
                }
            }
            Content::List(items) => {
                items.iter().for_each(|item| self.nulls(item, reader, known, found));
            }
            Content::Map(entries) => {
                entries.iter().for_each(|entry| self.nulls(&entry.value, reader, known, found));
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    /// What a leaf that is one expression may give that is null.
    pub(crate) fn given_nulls(
        &self,
        node: &Node,
        leaf: &str,
        reader: Reader<'_>,
        known: &Known,
    ) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if let Ok([Piece::Expression { text, start }]) = template::split(leaf).as_deref() {
            let uses = nulls::find(text, known);
            self.tell(node, *start, uses.given.iter(), reader, &mut found);
        }
        found
    }

    /// The same as [`Names::nulls`] for a place that takes no null at all.
    pub(crate) fn nulls_of_text(
        &self,
        node: &Node,
        reader: Reader<'_>,
        known: &Known,
        found: &mut Vec<Diagnostic>,
    ) {
        self.nulls(node, reader, known, found);
        if let Some(leaf) = node.text() {
            found.extend(self.given_nulls(node, leaf, reader, known));
        }
    }

    /// Tells what in an expression without braces would work with null.
    pub(crate) fn nulls_of_bare(
        &self,
        node: &Node,
        text: &str,
        reader: Reader<'_>,
        known: &Known,
        found: &mut Vec<Diagnostic>,
    ) {
        self.tell(node, 0, nulls::find(text, known).worked.iter(), reader, found);
    }

    fn tell<'u>(
        &self,
        node: &Node,
        start: usize,
        uses: impl Iterator<Item = &'u Use>,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) {
        for read in uses {
            if let Some(mut finding) = self.null(read, reader) {
                finding.span = node.part(self.source, start + read.start, start + read.end);
                found.push(finding);
            }
        }
    }

    /// The finding about a read of a field that may be null; none where it has a value.
    fn null(&self, read: &Use, reader: Reader<'_>) -> Option<Diagnostic> {
        let triggers = self.triggers?;
        let field = read.field.as_str();
        let mine = |filter: &TriggerMatch<'_>| match reader {
            Reader::Trigger { kind, index } | Reader::Fill { kind, index } => {
                (filter.kind, filter.index) == (kind, index)
            }
            Reader::Step { .. } | Reader::Group | Reader::Var => true,
        };
        let (mut has_value, mut may) = (false, None);
        for filter in triggers.filters().filter(mine) {
            // What is not there in every event is told already, with the same way out.
            filter.kind.field(field)?;
            let known = match (reader, filter.when) {
                // The condition is just being decided.
                (Reader::Trigger { .. }, _) | (_, None) => read.known.clone(),
                (
                    Reader::Step { .. } | Reader::Group | Reader::Var | Reader::Fill { .. },
                    Some(when),
                ) => read.known.clone().and(&nulls::facts(when)),
            };
            if known.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&filter.kind)) {
                continue;
            }
            match narrowed(triggers.nullness(filter, field), filter.kind, field, &known) {
                Nullness::Never => has_value = true,
                Nullness::Maybe(why) => {
                    has_value = true;
                    may.get_or_insert((filter.kind, why));
                }
                Nullness::Always(why) => {
                    may.get_or_insert((filter.kind, why));
                }
            }
        }
        let (kind, why) = may?;
        let (severity, how) = if has_value {
            (Severity::Warning, "may be null")
        } else {
            (Severity::Error, "is always null here")
        };
        let message = format!("`event.{field}` {how}: {why}");
        let mut finding = Diagnostic::error(MAY_BE_NULL, crate::Span::default(), message);
        finding.severity = severity;
        Some(finding.help(way_out(field, kind, reader)))
    }
}

/// What conditions leave of a field's nullness.
fn narrowed(nullness: Nullness, kind: TriggerKind, field: &str, known: &Known) -> Nullness {
    let why = match nullness {
        Nullness::Never => return Nullness::Never,
        Nullness::Maybe(why) | Nullness::Always(why) => why,
    };
    let (there, null) =
        (|name: &str| known.there.contains(name), |name: &str| known.null.contains(name));
    if there(field) {
        return Nullness::Never;
    }
    // A push to git is one of a branch or of a tag, and what a branch points to is a commit.
    let git = matches!(kind, TriggerKind::GitPush | TriggerKind::GitTag);
    match field {
        _ if null(field) => Nullness::Always(why),
        "branch" if git && null("tag") => Nullness::Never,
        "branch" if git && there("tag") => Nullness::Always(why),
        "tag" if git && null("branch") => Nullness::Never,
        "tag" if git && there("branch") => Nullness::Always(why),
        "commit" if git && (there("branch") || null("tag")) => Nullness::Never,
        _ => nullness,
    }
}

fn way_out(field: &str, kind: TriggerKind, reader: Reader<'_>) -> String {
    let other = if field == "paths" { "[]" } else { "\"…\"" };
    let mut ways = vec![format!("write `event.{field} | default({other})`")];
    match (kind, field) {
        (TriggerKind::GitPush, "tag") => {
            ways.push("let nothing but tags in, with `tags` under `git.push`".to_owned());
        }
        (TriggerKind::GitPush, "branch") => {
            ways.push("let nothing but branches in, with `branches` under `git.push`".to_owned());
        }
        (TriggerKind::RegistryPush, "tag") => {
            ways.push("leave `untagged` away under `registry.push`".to_owned());
        }
        _ => {}
    }
    ways.push(match reader {
        Reader::Step { .. } => format!("skip the step with `when: event.{field} is not none`"),
        Reader::Group | Reader::Var | Reader::Fill { .. } => {
            format!("let it in with `when: event.{field} is not none` under the trigger alone")
        }
        Reader::Trigger { .. } => format!("ask first: `event.{field} is not none and …`"),
    });
    let last = ways.pop().unwrap_or_default();
    format!("{}, or {last}", ways.join(", "))
}
