//! Null: which values of the event an expression gives on, or works with, although they may be null.
//!
//! A condition that was true rules values out: behind `event.tag is not none` the tag is there.
//! [`Known`] is what conditions say; [`find`] walks an expression with it. What is asked is only of
//! the event: parameters are never null, and what a step gives is for its kind to say.

use std::collections::BTreeSet;

use fairlead_event::TriggerKind;
use minijinja::machinery::{ast, parse_expr};

use crate::expression::{Key, path_of, root_span};

/// What is known of the event's values at a place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// The fields that have a value.
    pub(crate) there: BTreeSet<String>,
    /// The fields that are null.
    pub(crate) null: BTreeSet<String>,
    /// The only triggers that can have started the run.
    pub(crate) kinds: Option<BTreeSet<TriggerKind>>,
}

impl Known {
    /// What is known when both hold.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.there.extend(other.there.iter().cloned());
        self.null.extend(other.null.iter().cloned());
        self.kinds = match (self.kinds, &other.kinds) {
            (Some(ours), Some(theirs)) => Some(&ours & theirs),
            (ours, theirs) => ours.or_else(|| theirs.clone()),
        };
        self
    }

    /// What is known when one of them holds, and nobody knows which.
    fn or(&self, other: &Self) -> Self {
        Self {
            there: &self.there & &other.there,
            null: &self.null & &other.null,
            kinds: match (&self.kinds, &other.kinds) {
                (Some(ours), Some(theirs)) => Some(ours | theirs),
                (None, _) | (_, None) => None,
            },
        }
    }

    fn there(field: &str) -> Self {
        Self { there: BTreeSet::from([field.to_owned()]), ..Self::default() }
    }

    fn null(field: &str) -> Self {
        Self { null: BTreeSet::from([field.to_owned()]), ..Self::default() }
    }
}

/// A place where an expression reads a field of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// The field.
    pub(crate) field: String,
    /// The first byte of the path within the expression.
    pub(crate) start: usize,
    /// The byte behind it.
    pub(crate) end: usize,
    /// What is known there.
    pub(crate) known: Known,
}

/// The reads of an expression to which null matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Uses {
    /// Those whose value the expression works with: null would be no value, or a wrong one.
    pub(crate) worked: Vec<Use>,
    /// Those whose value the expression may give as it is.
    pub(crate) given: Vec<Use>,
}

/// What is known when the condition `text` is true; nothing of a text that is no expression.
pub(crate) fn facts(text: &str) -> Known {
    parse_expr(text).map(|tree| of_condition(&tree, true)).unwrap_or_default()
}

/// The reads of the expression `text`, where `known` is known.
pub(crate) fn find(text: &str, known: &Known) -> Uses {
    // Most expressions read no event, and need not be looked at.
    if !text.contains("event") {
        return Uses::default();
    }
    let Ok(tree) = parse_expr(text) else { return Uses::default() };
    let mut walk = Walk { text, worked: Vec::new() };
    let given = walk.gives(&tree, known);
    Uses { worked: walk.worked, given }
}

/// The field, when the expression is `event.<field>`.
fn field_of<'t>(tree: &'t ast::Expr<'t>) -> Option<String> {
    let (root, path, computed) = path_of(tree)?;
    match path.as_slice() {
        [Key::Name(name)] if root == "event" && !computed => Some(name.clone()),
        _ => None,
    }
}

/// Whether the expression is the constant null.
fn is_null(tree: &ast::Expr<'_>) -> bool {
    tree.as_const().is_some_and(|value| value.is_none())
}

/// Whether the expression can be trusted not to be null: a constant, or a parameter.
fn is_there(tree: &ast::Expr<'_>) -> bool {
    tree.as_const().is_some_and(|value| !value.is_none() && !value.is_undefined())
        || path_of(tree).is_some_and(|(root, _, _)| matches!(root, "params" | "run" | "item_key"))
}

/// The trigger that `event.kind` is compared with.
fn kind_of(tree: &ast::Expr<'_>) -> Option<TriggerKind> {
    let value = tree.as_const()?;
    TriggerKind::ALL.into_iter().find(|kind| value.as_str() == Some(kind.key()))
}

/// What is known when `tree` comes out as `holds`.
fn of_condition(tree: &ast::Expr<'_>, holds: bool) -> Known {
    if let Some(field) = field_of(tree) {
        return match (field.as_str(), holds) {
            // What is not new pointed to something before.
            ("created", false) => Known::there("before"),
            (_, true) => Known::there(&field),
            // An empty text is taken for null: no field of which more than that is known has one.
            (_, false) => Known::null(&field),
        };
    }
    match tree {
        ast::Expr::UnaryOp(op) if matches!(op.op, ast::UnaryOpKind::Not) => {
            of_condition(&op.expr, !holds)
        }
        ast::Expr::BinOp(op) => of_operation(op, holds),
        ast::Expr::Test(test) => {
            let Some(field) = field_of(&test.expr) else { return Known::default() };
            match (test.name, holds) {
                ("none", true) => Known::null(&field),
                ("none", false) => Known::there(&field),
                (
                    "string" | "sequence" | "boolean" | "mapping" | "number" | "integer" | "in"
                    | "startingwith" | "endingwith",
                    true,
                ) => Known::there(&field),
                _ => Known::default(),
            }
        }
        ast::Expr::Var(_)
        | ast::Expr::Const(_)
        | ast::Expr::Slice(_)
        | ast::Expr::UnaryOp(_)
        // A chain of comparisons, as in `1 < x < 3`.
        | ast::Expr::Compare(_)
        | ast::Expr::IfExpr(_)
        | ast::Expr::Filter(_)
        | ast::Expr::GetAttr(_)
        | ast::Expr::GetItem(_)
        | ast::Expr::Call(_)
        | ast::Expr::List(_)
        | ast::Expr::Tuple(_)
        | ast::Expr::Map(_) => Known::default(),
    }
}

fn of_operation(op: &ast::BinOp<'_>, holds: bool) -> Known {
    let (left, right) = (|| of_condition(&op.left, holds), || of_condition(&op.right, holds));
    match (op.op, holds) {
        (ast::BinOpKind::ScAnd, true) | (ast::BinOpKind::ScOr, false) => left().and(&right()),
        (ast::BinOpKind::ScAnd, false) | (ast::BinOpKind::ScOr, true) => left().or(&right()),
        (ast::BinOpKind::Eq, same) => of_comparison(&op.left, &op.right, same),
        (ast::BinOpKind::Ne, other) => of_comparison(&op.left, &op.right, !other),
        (ast::BinOpKind::In, true) => of_membership(&op.left, &op.right),
        _ => Known::default(),
    }
}

/// What `a in list` says. A list that has null in it would let null in.
fn of_membership(a: &ast::Expr<'_>, list: &ast::Expr<'_>) -> Known {
    let listed = list.as_const().is_some_and(|list| {
        list.try_iter().is_ok_and(|mut items| items.all(|item| !item.is_none()))
    });
    field_of(a).filter(|_| listed).map_or_else(Known::default, |field| Known::there(&field))
}

/// What it says that `a` and `b` are the same, or that they are not.
fn of_comparison(a: &ast::Expr<'_>, b: &ast::Expr<'_>, same: bool) -> Known {
    let (field, other) = match (field_of(a), field_of(b)) {
        (Some(field), None) => (field, b),
        (None, Some(field)) => (field, a),
        (Some(_), Some(_)) | (None, None) => return Known::default(),
    };
    if field == "kind" {
        let Some(kind) = kind_of(other) else { return Known::default() };
        let kinds = TriggerKind::ALL.into_iter().filter(|known| (*known == kind) == same);
        return Known { kinds: Some(kinds.collect()), ..Known::default() };
    }
    if field == "created" {
        let new = other.as_const().map(|value| value.is_true() == same);
        return if new == Some(false) { Known::there("before") } else { Known::default() };
    }
    match (is_null(other), is_there(other), same) {
        (true, _, true) => Known::null(&field),
        (true, _, false) | (false, true, true) => Known::there(&field),
        (false, true, false) | (false, false, _) => Known::default(),
    }
}

/// The filters that are made for null: they give a value in its place.
const TAKES_NULL: [&str; 2] = ["tojson", "bool"];

struct Walk<'a> {
    text: &'a str,
    worked: Vec<Use>,
}

impl Walk<'_> {
    /// Walks `tree`, and answers the reads whose null would be its value.
    fn gives(&mut self, tree: &ast::Expr<'_>, known: &Known) -> Vec<Use> {
        if let Some((root, path, _)) = path_of(tree) {
            self.subscripts(tree, known);
            let (Some(Key::Name(field)), "event") = (path.first(), root) else {
                return Vec::new();
            };
            let end = (tree.span().end_offset as usize).min(self.text.len());
            let start = (root_span(tree).start_offset as usize).min(end);
            let read = Use { field: field.clone(), start, end, known: known.clone() };
            if field_of(tree).is_some() {
                return vec![read];
            }
            // Null has nothing in it.
            self.worked.push(read);
            return Vec::new();
        }
        match tree {
            ast::Expr::BinOp(op) if matches!(op.op, ast::BinOpKind::ScOr) => {
                self.gives(&op.left, known);
                let known = known.clone().and(&of_condition(&op.left, false));
                self.gives(&op.right, &known)
            }
            ast::Expr::BinOp(op) if matches!(op.op, ast::BinOpKind::ScAnd) => {
                let mut given = self.gives(&op.left, known);
                let known = known.clone().and(&of_condition(&op.left, true));
                given.extend(self.gives(&op.right, &known));
                given
            }
            ast::Expr::BinOp(op) => {
                let compares = matches!(op.op, ast::BinOpKind::Eq | ast::BinOpKind::Ne);
                if compares || matches!(op.op, ast::BinOpKind::In) {
                    self.gives(&op.left, known);
                } else {
                    self.works(&op.left, known);
                }
                if compares {
                    self.gives(&op.right, known);
                } else {
                    self.works(&op.right, known);
                }
                Vec::new()
            }
            ast::Expr::Compare(compare) => {
                self.gives(&compare.expr, known);
                for op in &compare.ops {
                    if matches!(op.op, ast::CompareOpKind::In | ast::CompareOpKind::NotIn) {
                        self.works(&op.expr, known);
                    } else {
                        self.gives(&op.expr, known);
                    }
                }
                Vec::new()
            }
            ast::Expr::IfExpr(choice) => {
                self.gives(&choice.test_expr, known);
                let then = known.clone().and(&of_condition(&choice.test_expr, true));
                let mut given = self.gives(&choice.true_expr, &then);
                if let Some(other) = &choice.false_expr {
                    let otherwise = known.clone().and(&of_condition(&choice.test_expr, false));
                    given.extend(self.gives(other, &otherwise));
                }
                given
            }
            ast::Expr::Filter(filter) if filter.name == "default" => {
                let mut other = known.clone();
                if let Some(inner) = &filter.expr {
                    self.gives(inner, known);
                    if let Some(field) = field_of(inner) {
                        other = other.and(&Known::null(&field));
                    }
                }
                let mut given = Vec::new();
                for (at, argument) in filter.args.iter().enumerate() {
                    let reads = self.gives(value_of(argument), &other);
                    if at == 0 {
                        given = reads;
                    }
                }
                given
            }
            ast::Expr::Filter(filter) => {
                if let Some(inner) = &filter.expr {
                    if TAKES_NULL.contains(&filter.name) {
                        self.gives(inner, known);
                    } else {
                        self.works(inner, known);
                    }
                }
                filter.args.iter().for_each(|argument| self.works(value_of(argument), known));
                Vec::new()
            }
            ast::Expr::Test(test) => {
                self.gives(&test.expr, known);
                test.args.iter().for_each(|argument| self.works(value_of(argument), known));
                Vec::new()
            }
            ast::Expr::UnaryOp(op) => {
                match op.op {
                    ast::UnaryOpKind::Not => drop(self.gives(&op.expr, known)),
                    ast::UnaryOpKind::Neg => self.works(&op.expr, known),
                }
                Vec::new()
            }
            ast::Expr::Slice(slice) => {
                self.works(&slice.expr, known);
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.works(part, known);
                }
                Vec::new()
            }
            ast::Expr::GetAttr(get) => {
                self.works(&get.expr, known);
                Vec::new()
            }
            ast::Expr::GetItem(get) => {
                self.works(&get.expr, known);
                self.works(&get.subscript_expr, known);
                Vec::new()
            }
            // A list may have null in it.
            ast::Expr::List(list) => {
                list.items.iter().for_each(|item| drop(self.gives(item, known)));
                Vec::new()
            }
            ast::Expr::Tuple(tuple) => {
                tuple.items.iter().for_each(|item| drop(self.gives(item, known)));
                Vec::new()
            }
            ast::Expr::Map(map) => {
                map.keys.iter().chain(&map.values).for_each(|item| drop(self.gives(item, known)));
                Vec::new()
            }
            ast::Expr::Var(_) | ast::Expr::Const(_) | ast::Expr::Call(_) => Vec::new(),
        }
    }

    /// Walks `tree`, which null must not be.
    fn works(&mut self, tree: &ast::Expr<'_>, known: &Known) {
        let given = self.gives(tree, known);
        self.worked.extend(given);
    }

    /// The computed parts of a path, which read something themselves.
    fn subscripts(&mut self, tree: &ast::Expr<'_>, known: &Known) {
        if let ast::Expr::GetAttr(get) = tree {
            self.subscripts(&get.expr, known);
        } else if let ast::Expr::GetItem(get) = tree {
            self.subscripts(&get.expr, known);
            self.works(&get.subscript_expr, known);
        }
    }
}

const fn value_of<'t>(argument: &'t ast::CallArg<'t>) -> &'t ast::Expr<'t> {
    match argument {
        ast::CallArg::Pos(tree)
        | ast::CallArg::Kwarg(_, tree)
        | ast::CallArg::PosSplat(tree)
        | ast::CallArg::KwargSplat(tree) => tree,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_there() {
        let there = |text: &str| facts(text).there.into_iter().collect::<Vec<_>>().join(" ");
        for (text, want) in [
            ("event.tag", "tag"),
            ("event.tag is not none", "tag"),
            ("event.tag != none", "tag"),
            ("none != event.tag", "tag"),
            ("event.tag == 'v1'", "tag"),
            ("event.tag == params.tag", "tag"),
            ("event['tag'] is string", "tag"),
            ("event.tag is startingwith 'v'", "tag"),
            ("event.branch in ['main', 'dev']", "branch"),
            ("event.branch == 'main' or event.branch == 'dev'", "branch"),
            ("event.branch == 'main' or params.fast", ""),
            ("event.tag and event.actor == 'ann'", "actor tag"),
            ("not (event.tag is none or event.actor is none)", "actor tag"),
            ("not event.created", "before"),
            ("event.tag is none", ""),
            ("event.tag is defined", ""),
            ("event.tag != 'v1'", ""),
            ("event.tag == event.branch", ""),
            ("params.tag", ""),
        ] {
            assert_eq!(there(text), want, "{text}");
        }
        assert_eq!(facts("event.kind == 'git.push'").kinds, Some([TriggerKind::GitPush].into()));
        let others = facts("event.kind != 'manual'").kinds.unwrap();
        assert!(!others.contains(&TriggerKind::Manual));
        assert_eq!(others.len(), TriggerKind::ALL.len() - 1);
    }

    #[test]
    fn reads_are_told_apart_by_what_becomes_of_null() {
        let show = |text: &str| {
            let uses = find(text, &Known::default());
            let names = |uses: &[Use]| {
                let free = uses.iter().filter(|read| !read.known.there.contains(&read.field));
                let spans = free.map(|read| text[read.start..read.end].to_owned());
                spans.collect::<Vec<_>>().join(" ")
            };
            format!("{}|{}", names(&uses.worked), names(&uses.given))
        };
        for (text, want) in [
            ("event.tag", "|event.tag"),
            ("event.tag | default('x')", "|"),
            ("event.tag | default(event.branch)", "|event.branch"),
            ("event.tag | default(none)", "|"),
            ("event.tag | lower", "event.tag|"),
            ("event.tag | default('x') | lower", "|"),
            ("params.x | replace('a', event.tag)", "event.tag|"),
            ("'v' ~ event.tag", "event.tag|"),
            ("event.tag or 'x'", "|"),
            ("event.tag and 'x'", "|event.tag"),
            ("event.tag == 'x'", "|"),
            ("event.tag is none", "|"),
            ("'x' in event.paths", "event.paths|"),
            ("event.paths[0]", "event.paths[0]|"),
            ("event.commit[:7]", "event.commit|"),
            ("event.tag if event.tag else 'x'", "|"),
            ("event.tag if event.tag is not none else event.actor", "|event.actor"),
            ("event.tag if params.x else 'x'", "|event.tag"),
            ("event | tojson", "|"),
            ("event.tag | tojson", "|"),
            ("[event.tag]", "|"),
            ("params.event", "|"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
    }
}
