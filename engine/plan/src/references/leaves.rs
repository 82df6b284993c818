//! The texts of a file, and the expressions in them.

use serde_json::{Value, json};

use super::{Names, Read, Reader};
use crate::code::{BAD_EXPRESSION, SECRET_MISUSE, UNKNOWN_FUNCTION, WRONG_REFERENCE};
use crate::expression::{self, Expression};
use crate::inputs::LeafType;
use crate::template::{self, Piece};
use crate::yaml::{Content, Node};
use crate::{Diagnostic, Span, schema};

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Place<'n> {
    node: &'n Node,
    /// Its first byte within the text.
    start: usize,
    /// Whether a secret may be read.
    secret: Allowed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// It may be the whole leaf.
    Whole,
    /// The leaf has more in it.
    Never,
    /// Nothing but inputs takes secrets.
    NoInput,
}

impl Names<'_> {
    /// Checks every expression in the leaves of `node`, and answers what they read.
    pub(crate) fn template(
        &self,
        node: &Node,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let mut reads = Vec::new();
        self.leaves(node, true, reader, &mut reads, found);
        reads
    }

    /// The same for what is no input, and so takes no secrets.
    pub(crate) fn text(
        &self,
        node: &Node,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let mut reads = Vec::new();
        self.leaves(node, false, reader, &mut reads, found);
        reads
    }

    fn leaves(
        &self,
        node: &Node,
        input: bool,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) {
        match &node.content {
            Content::Text(leaf) if template::is_template(leaf) => match template::split(leaf) {
                Ok(pieces) => {
                    let secret = match (input, pieces.len()) {
                        (false, _) => Allowed::NoInput,
                        (true, 1) => Allowed::Whole,
                        (true, _) => Allowed::Never,
                    };
                    for piece in pieces {
                        if let Piece::Expression { text, start } = piece {
                            let place = Place { node, start, secret };
                            self.expression(place, text, reader, reads, found);
                        }
                    }
                }
                Err(unclosed) => {
                    let span = node.part(self.source, unclosed.start, unclosed.start + 2);
                    let open = Diagnostic::error(BAD_EXPRESSION, span, "a `{{` has no `}}`");
                    found.push(open.help("to write two braces as they are: `{{ \"{{\" }}`"));
                }
            },
            Content::List(items) => {
                items.iter().for_each(|item| self.leaves(item, input, reader, reads, found));
            }
            Content::Map(entries) => {
                for entry in entries {
                    if template::is_template(&entry.key) {
                        let message = "an expression cannot stand in a key";
                        found.push(Diagnostic::error(BAD_EXPRESSION, entry.key_span, message));
                    }
                    self.leaves(&entry.value, input, reader, reads, found);
                }
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    /// Checks a condition: one expression without braces around it.
    pub(crate) fn condition(
        &self,
        node: &Node,
        text: &str,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> Vec<Read> {
        let wanted = json!({ "type": "boolean" });
        let (reads, given) = self.bare(node, text, "a condition", reader, found);
        if let Some((schema, span)) = given.filter(|(given, _)| !schema::compatible(given, &wanted))
        {
            let message = format!(
                "a condition must be true or false, and `{}` is {}",
                text.trim(),
                schema::describe(&schema)
            );
            let finding = Diagnostic::error(WRONG_REFERENCE, span, message);
            found.push(finding.help("compare it with something: `… == \"…\"`"));
        }
        reads
    }

    /// Checks one expression without braces around it, called `what` in messages. Answers what it
    /// reads and, where it is one path of which something is known, the schema of that.
    pub(crate) fn bare(
        &self,
        node: &Node,
        text: &str,
        what: &str,
        reader: Reader<'_>,
        found: &mut Vec<Diagnostic>,
    ) -> (Vec<Read>, Option<(Value, Span)>) {
        if let Some(inner) = template::whole(text) {
            let message = format!("{what} is an expression already, and takes no braces");
            let finding = Diagnostic::error(BAD_EXPRESSION, node.span, message);
            found.push(finding.help(format!("write `{}`", inner.trim())));
            return (Vec::new(), None);
        }
        let mut reads = Vec::new();
        let place = Place { node, start: 0, secret: Allowed::NoInput };
        let parsed = self.expression(place, text, reader, &mut reads, found);
        let given = match (parsed, reads.as_slice()) {
            (Some(Expression { plain: true, .. }), [only]) => {
                let schema = self.lookup(&only.reference, reader).ok().flatten();
                schema.map(|schema| (schema, only.span))
            }
            (Some(_) | None, _) => None,
        };
        (reads, given)
    }

    fn expression(
        &self,
        place: Place<'_>,
        text: &str,
        reader: Reader<'_>,
        reads: &mut Vec<Read>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Expression> {
        let Place { node, start, secret } = place;
        let at = |from: usize, to: usize| node.part(self.source, start + from, start + to);
        let parsed = match expression::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let message = format!("`{}`: {}", text.trim(), error.message);
                found.push(Diagnostic::error(BAD_EXPRESSION, at(error.start, error.end), message));
                return None;
            }
        };
        for misuse in &parsed.misuses {
            let span = at(misuse.start, misuse.end);
            let finding = Diagnostic::error(UNKNOWN_FUNCTION, span, misuse.message.clone());
            found.push(finding.help(misuse.help.clone()));
        }
        for reference in &parsed.references {
            let span = at(reference.start, reference.end);
            if reference.root == "secrets" {
                if secret == Allowed::NoInput {
                    let message = "no secret can be read here";
                    let finding = Diagnostic::error(SECRET_MISUSE, span, message);
                    found.push(
                        finding.help("secrets are for inputs of steps that are made for them"),
                    );
                } else if secret == Allowed::Never || template::secret_name(&parsed).is_none() {
                    let message = "a secret stands alone: it cannot be part of a text or of an \
                                   expression";
                    let finding = Diagnostic::error(SECRET_MISUSE, span, message);
                    found.push(finding.help("write `{{ secrets.NAME }}` and nothing beside it"));
                }
                continue;
            }
            if let Err(problem) = self.lookup(reference, reader) {
                let mut finding = Diagnostic::error(problem.code, span, problem.message);
                finding.severity = problem.severity;
                finding.help = problem.help;
                found.push(finding);
            }
            reads.push(Read { reference: reference.clone(), span });
        }
        Some(parsed)
    }

    /// What is known of a leaf with an expression in it.
    pub(crate) fn leaf_type(&self, leaf: &str, reader: Reader<'_>) -> LeafType {
        let Some(text) = template::whole(leaf) else { return LeafType::Text };
        let Ok(parsed) = expression::parse(text) else { return LeafType::Unknown };
        if template::secret_name(&parsed).is_some() {
            return LeafType::Secret;
        }
        match parsed.references.as_slice() {
            [only] if parsed.plain => match self.lookup(only, reader) {
                Ok(Some(schema)) => LeafType::Known { schema, shown: text.trim().to_owned() },
                Ok(None) | Err(_) => LeafType::Unknown,
            },
            _ => LeafType::Unknown,
        }
    }
}
