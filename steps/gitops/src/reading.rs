//! What a file means: its documents with every alias replaced by what it stands for, as one of two
//! readers sees them. An edit is made in the meaning, too, and what was written must mean that.
//!
//! The first reader is the one whose places the edits go by (YAML 1.2). The second is libyaml's,
//! whose ports read files in Helm, kubectl and kustomize; a file that it does not read at all is
//! left to the first.
//!
//! Merge keys (`<<`) stay entries here. What they add to a mapping follows from its entries and
//! from the mappings that they name, all of which are compared.

use std::fmt;

use serde::de::{
    Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::edit::Value;
use crate::scalar::is_plainly_text;
use crate::source::{Kind, NodeId, Source};

/// The most nodes of a file with its aliases replaced. Aliases of aliases grow without bounds.
const MAX_NODES: usize = 1 << 20;

/// How deep a file may be with its aliases replaced; more than two limits of the parser.
const MAX_DEPTH: usize = 600;

/// One node with all below it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The node that it is read from, for the first reader alone.
    node: NodeId,
    tag: Option<String>,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Scalar(Scalar),
    Sequence(Vec<Tree>),
    /// Keys and values in turn.
    Mapping(Vec<Tree>),
}

/// A scalar, as far as readers agree on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// A text, whoever reads it.
    Text(String),
    /// A number, a flag, null, or what some reader could take for one.
    Other(String),
}

/// What an edit changes at the places of one node.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The scalar is another one.
    Set(Scalar),
    /// The mapping has one more entry behind the others.
    Add(String, Scalar),
}

/// The way to a node of a document: the numbers of the children, where a mapping's children are
/// its keys and values in turn.
pub(crate) type Position = Vec<usize>;

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        (&self.tag, &self.shape) == (&other.tag, &other.shape)
    }
}

impl Eq for Tree {}

impl Scalar {
    /// What `value` reads as.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.clone()),
            Value::Integer(number) => Self::Other(number.to_string()),
            Value::Boolean(flag) => Self::Other(flag.to_string()),
        }
    }

    /// What stands in a file: a text in quotes or in a block, or a plain one.
    pub(crate) fn read(text: &str, plain: bool) -> Self {
        let text = text.to_owned();
        if plain && !is_plainly_text(&text) { Self::Other(text) } else { Self::Text(text) }
    }
}

impl Tree {
    fn scalar(scalar: Scalar) -> Self {
        Self { node: NodeId::MAX, tag: None, shape: Shape::Scalar(scalar) }
    }

    fn children(&self) -> &[Self] {
        match &self.shape {
            Shape::Scalar(_) => &[],
            Shape::Sequence(children) | Shape::Mapping(children) => children,
        }
    }

    /// Where `node` stands: in one place, and in one more for each alias that leads to it or to
    /// what it is in.
    pub(crate) fn positions(&self, node: NodeId) -> Vec<Position> {
        let (mut found, mut at) = (Vec::new(), Vec::new());
        self.look_for(node, &mut at, &mut found);
        found
    }

    fn look_for(&self, node: NodeId, at: &mut Position, found: &mut Vec<Position>) {
        if self.node == node {
            found.push(at.clone());
        }
        for (index, child) in self.children().iter().enumerate() {
            at.push(index);
            child.look_for(node, at, found);
            at.pop();
        }
    }

    /// Makes `change` at `position`; false where nothing of the kind stands there.
    fn make(&mut self, position: &[usize], change: &Change) -> bool {
        match (position, &mut self.shape, change) {
            ([], Shape::Scalar(scalar), Change::Set(new)) => {
                *scalar = new.clone();
                true
            }
            ([], Shape::Mapping(children), Change::Add(key, value)) => {
                children.push(Self::scalar(Scalar::Text(key.clone())));
                children.push(Self::scalar(value.clone()));
                true
            }
            ([index, rest @ ..], Shape::Sequence(children) | Shape::Mapping(children), _) => {
                children.get_mut(*index).is_some_and(|child| child.make(rest, change))
            }
            ([] | [_, ..], _, Change::Set(_) | Change::Add(..)) => false,
        }
    }
}

/// The documents as the first reader sees them.
///
/// # Errors
/// When aliases make them endless, or too large.
pub(crate) fn documents(source: &Source) -> Result<Vec<Tree>, String> {
    let mut budget = MAX_NODES;
    source.documents.iter().map(|root| expand(source, *root, 0, &mut budget)).collect()
}

fn expand(source: &Source, id: NodeId, depth: usize, budget: &mut usize) -> Result<Tree, String> {
    if depth > MAX_DEPTH {
        return Err(format!("with its aliases replaced it is deeper than {MAX_DEPTH} levels"));
    }
    *budget = budget
        .checked_sub(1)
        .ok_or_else(|| format!("with its aliases replaced it has more than {MAX_NODES} values"))?;
    let node = source.node(id);
    let mut below = |id: &NodeId| expand(source, *id, depth + 1, budget);
    let shape = match &node.kind {
        Kind::Alias(target) => return below(target),
        Kind::Scalar { text, style } => {
            Shape::Scalar(Scalar::read(text, *style == granit_parser::ScalarStyle::Plain))
        }
        Kind::Sequence { items, .. } => {
            Shape::Sequence(items.iter().map(below).collect::<Result<_, _>>()?)
        }
        Kind::Mapping { entries, .. } => {
            let children = entries.iter().flat_map(|(key, value)| [key, value]);
            Shape::Mapping(children.map(below).collect::<Result<_, _>>()?)
        }
    };
    Ok(Tree { node: id, tag: node.tag.as_ref().map(|(tag, _)| tag.clone()), shape })
}

/// Whether `after` means what `before` meant with `change` made at `positions` of the document
/// number `document`, for both readers, and has the same comments.
///
/// # Errors
/// How they differ.
pub(crate) fn compare(
    (before, before_source): (&str, &Source),
    (after, after_source): (&str, &Source),
    document: usize,
    positions: &[Position],
    change: &Change,
) -> Result<(), String> {
    let expect = |mut trees: Vec<Tree>| {
        let made = trees
            .get_mut(document)
            .is_some_and(|tree| positions.iter().all(|position| tree.make(position, change)));
        made.then_some(trees)
    };
    let differs = "it would change more than what is meant";
    let wanted = expect(documents(before_source)?).ok_or("the place is not there")?;
    if documents(after_source)? != wanted {
        return Err(differs.into());
    }
    let comments = |text: &str, source: &Source| -> Vec<String> {
        source.comments.iter().map(|at| text[at.clone()].to_owned()).collect()
    };
    if comments(before, before_source) != comments(after, after_source) {
        return Err(format!("{differs}: a comment"));
    }
    // What libyaml does not read, neither before nor after, is nobody's who uses it.
    let Ok(trees) = second_reader(before) else { return Ok(()) };
    let wanted = expect(trees).ok_or("readers of YAML do not agree on what the file says")?;
    match second_reader(after) {
        Ok(trees) if trees == wanted => Ok(()),
        Ok(_) => Err(format!("{differs} for readers of YAML 1.1")),
        Err(why) => Err(format!("readers of YAML 1.1 would not read the file any more: {why}")),
    }
}

/// The documents as libyaml reads them.
fn second_reader(text: &str) -> Result<Vec<Tree>, String> {
    let trees = yaml_serde::Deserializer::from_str(text).map(Tree::deserialize);
    trees.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

fn other<E>(value: impl fmt::Debug) -> Result<Tree, E> {
    Ok(Tree::scalar(Scalar::Other(format!("{value:?}"))))
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        other(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        other(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        other(value)
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        other(value)
    }

    fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
        other(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        other(value)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        other(())
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        other(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::scalar(Scalar::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree { node: NodeId::MAX, tag: None, shape: Shape::Sequence(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut children = Vec::new();
        while let Some((key, value)) = access.next_entry()? {
            children.extend([key, value]);
        }
        Ok(Tree { node: NodeId::MAX, tag: None, shape: Shape::Mapping(children) })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Tree, A::Error> {
        let (tag, content) = access.variant::<String>()?;
        let mut tree = content.newtype_variant::<Tree>()?;
        tree.tag = Some(tag);
        Ok(tree)
    }
}
