//! The text of a YAML file as nodes, each with the place where it stands.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// How many comments may follow one another; the parser's own limit is below what the heads of
/// real files have.
const MAX_COMMENTS: usize = 1 << 20;

/// A node of a file, by its number.
pub(crate) type NodeId = usize;

/// The nodes of all documents of one file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The root of each document.
    pub documents: Vec<NodeId>,
    nodes: Vec<Node>,
    /// The comments, in their order.
    pub comments: Vec<Range<usize>>,
}

/// One node and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    /// The text of a scalar or an alias, or a collection from its first to its last byte.
    pub span: Range<usize>,
    /// The tag, resolved, and its place.
    pub tag: Option<(String, Range<usize>)>,
    /// The name of the anchor and its place.
    pub anchor: Option<(String, Range<usize>)>,
    /// Whether it is a place where a value could stand and none does. The place is then behind its
    /// anchor or tag, or behind its `:` or `-`.
    pub absent: Option<Absent>,
    /// What it is.
    pub kind: Kind,
}

/// What stands before a value that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Something that a value may stand behind.
    Open,
    /// A key without a `:`, or nothing.
    Closed,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Scalar { text: String, style: ScalarStyle },
    Alias(NodeId),
    Sequence { flow: bool, items: Vec<NodeId> },
    Mapping { flow: bool, entries: Vec<(NodeId, NodeId)> },
}

impl Node {
    /// What it is, in a word or two.
    pub(crate) const fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. } => {
                "a block of text"
            }
            Kind::Scalar { .. } => "a scalar",
            Kind::Alias(_) => "an alias",
            Kind::Sequence { .. } => "a list",
            Kind::Mapping { .. } => "a mapping",
        }
    }

    /// Where the node begins, its anchor and its tag included.
    pub(crate) fn start(&self) -> usize {
        let properties = [&self.tag, &self.anchor].into_iter().flatten().map(|(_, at)| at.start);
        properties.fold(self.span.start, usize::min)
    }
}

impl Source {
    /// Reads `text`.
    ///
    /// # Errors
    /// What the parser says where `text` is not YAML.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let options = granit_parser::options! {
            emit_anchor_events: true,
            max_buffered_comment_events: MAX_COMMENTS,
        };
        let mut source = Self::default();
        let mut anchors = HashMap::new();
        // The collections that are open, with the key that waits for its value.
        let mut open: Vec<(NodeId, Option<NodeId>)> = Vec::new();
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| error.to_string())?;
            let at = span.byte_range().unwrap_or_default();
            let (kind, anchor) = match event {
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(..)
                | Event::DocumentEnd => continue,
                Event::Comment(..) => {
                    source.comments.push(at);
                    continue;
                }
                Event::Anchor(_, name) => {
                    if let Some(node) = source.nodes.last_mut() {
                        node.anchor = Some((name.into_owned(), at));
                    }
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some((node, _)) = open.pop() {
                        source.nodes[node].span.end = at.end;
                    }
                    continue;
                }
                Event::Alias(id) => {
                    let target = anchors.get(&id).copied();
                    (Kind::Alias(target.ok_or("an alias leads to no anchor")?), 0)
                }
                Event::Scalar(_, ScalarStyle::Plain, anchor, _) if at.is_empty() => {
                    let text = String::new();
                    (Kind::Scalar { text, style: ScalarStyle::Plain }, anchor)
                }
                Event::Scalar(ref text, style, anchor, _) => {
                    (Kind::Scalar { text: text.clone().into_owned(), style }, anchor)
                }
                Event::SequenceStart(style, anchor, _) => {
                    let flow = style == StructureStyle::Flow;
                    (Kind::Sequence { flow, items: Vec::new() }, anchor)
                }
                Event::MappingStart(style, anchor, _) => {
                    let flow = style == StructureStyle::Flow;
                    (Kind::Mapping { flow, entries: Vec::new() }, anchor)
                }
                Event::UnresolvedAlias(_) | _ => return Err("an alias leads to no anchor".into()),
            };
            let opens = matches!(kind, Kind::Sequence { .. } | Kind::Mapping { .. });
            let tag = tag_of(&event, span);
            let id = source.nodes.len();
            let mut node = Node { span: at, tag, anchor: None, absent: None, kind };
            if let Kind::Scalar { style: ScalarStyle::Plain, .. } = node.kind
                && node.span.is_empty()
            {
                let has_properties = node.tag.is_some() || anchor != 0;
                let (place, absent) = match open.last() {
                    _ if has_properties => (node.span.start, Absent::Open),
                    Some(parent) => source.absence(text, node.span.start, parent),
                    None => (node.span.start, Absent::Closed),
                };
                node.span = place..place;
                node.absent = Some(absent);
            }
            source.nodes.push(node);
            if anchor != 0 {
                anchors.insert(anchor, id);
            }
            source.attach(id, open.last_mut());
            if opens {
                open.push((id, None));
            }
        }
        Ok(source)
    }

    fn attach(&mut self, id: NodeId, parent: Option<&mut (NodeId, Option<NodeId>)>) {
        let Some((parent, key)) = parent else { return self.documents.push(id) };
        match &mut self.nodes[*parent].kind {
            Kind::Sequence { items, .. } => items.push(id),
            Kind::Mapping { entries, .. } => match key.take() {
                Some(key) => entries.push((key, id)),
                None => *key = Some(id),
            },
            // Nothing opens below a scalar or an alias.
            Kind::Scalar { .. } | Kind::Alias(_) => {}
        }
    }

    /// The place of a value that is not there, where the parser is at `at`.
    fn absence(
        &self,
        text: &str,
        at: usize,
        (parent, key): &(NodeId, Option<NodeId>),
    ) -> (usize, Absent) {
        if matches!(self.nodes[*parent].kind, Kind::Mapping { .. }) {
            return match key {
                Some(_) if text[at..].starts_with(':') => (at + 1, Absent::Open),
                // Without a `:` the parser is where the next thing begins.
                Some(key) => (self.end(*key), Absent::Closed),
                None => (at, Absent::Closed),
            };
        }
        let mut before = text[..at].trim_end();
        for comment in self.comments.iter().rev() {
            if comment.end == before.len() {
                before = text[..comment.start].trim_end();
            }
        }
        let absent = if before.ends_with('-') { Absent::Open } else { Absent::Closed };
        (before.len(), absent)
    }

    /// The node with this number.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The node itself, or what it is an alias of.
    pub(crate) fn target(&self, mut id: NodeId) -> NodeId {
        while let Kind::Alias(target) = self.nodes[id].kind {
            id = target;
        }
        id
    }

    /// The text of a scalar, also through an alias.
    pub(crate) fn scalar(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[self.target(id)].kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Alias(_) | Kind::Sequence { .. } | Kind::Mapping { .. } => None,
        }
    }

    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self, id: NodeId) -> &[(NodeId, NodeId)] {
        match &self.nodes[id].kind {
            Kind::Mapping { entries, .. } => entries,
            Kind::Scalar { .. } | Kind::Alias(_) | Kind::Sequence { .. } => &[],
        }
    }

    /// The values of `key` in a mapping: none, one, or the several of a key that stands twice.
    pub(crate) fn values<'s>(
        &'s self,
        mapping: NodeId,
        key: &'s str,
    ) -> impl Iterator<Item = NodeId> + 's {
        let entries = self.entries(mapping).iter();
        entries.filter(move |(k, _)| self.scalar(*k) == Some(key)).map(|(_, value)| *value)
    }

    /// Where the last byte of a node stands, for one that stands in a collection.
    pub(crate) fn end(&self, id: NodeId) -> usize {
        let node = &self.nodes[id];
        let last = match &node.kind {
            Kind::Sequence { flow: false, items } => items.last().map(|item| self.end(*item)),
            Kind::Mapping { flow: false, entries } => {
                entries.last().map(|(_, value)| self.end(*value))
            }
            Kind::Scalar { .. } | Kind::Alias(_) | Kind::Sequence { .. } | Kind::Mapping { .. } => {
                None
            }
        };
        last.unwrap_or(node.span.end)
    }

    /// The last scalar, alias or flow collection below a node.
    pub(crate) fn last_leaf(&self, id: NodeId) -> &Node {
        match &self.nodes[id].kind {
            Kind::Sequence { flow: false, items } => items.last().copied(),
            Kind::Mapping { flow: false, entries } => entries.last().map(|(_, value)| *value),
            Kind::Scalar { .. } | Kind::Alias(_) | Kind::Sequence { .. } | Kind::Mapping { .. } => {
                None
            }
        }
        .map_or(&self.nodes[id], |child| self.last_leaf(child))
    }
}

fn tag_of(event: &Event<'_>, span: Span) -> Option<(String, Range<usize>)> {
    let (handle, suffix) = event.tag()?.parts();
    let at = span.tag_span().and_then(|span| span.byte_range()).unwrap_or_default();
    Some((format!("{handle}{suffix}"), at))
}
