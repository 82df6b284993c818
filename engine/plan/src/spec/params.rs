//! `params`: what a run is given; `vars`: values that the file names.

use regex::Regex;

use super::{Reader, VarSpec};
use crate::code::{BAD_DEFAULT, BAD_NAME, BAD_PATTERN, BAD_VALUE, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node};
use crate::{Param, ParamType, Span};

impl Reader<'_> {
    pub(super) fn param(
        &mut self,
        Entry { key, key_span, value }: &Entry,
    ) -> Option<(Param, Span)> {
        const KEYS: &[&str] = &["type", "default", "pattern", "enum", "description"];
        let good = self.identifier(key, *key_span, "a parameter's name");
        let place = format!("parameter `{key}`");
        let mut param = Param {
            name: key.clone(),
            kind: ParamType::String,
            default: None,
            pattern: None,
            choices: None,
            description: None,
        };
        let mut default = None;
        // A parameter with nothing behind its name is a text that must be given.
        let entries =
            if value.content == Content::Null { &[] } else { self.fields(value, &place, KEYS) };
        for Entry { key, value, .. } in entries {
            match key.as_str() {
                "type" => {
                    let words = ParamType::ALL.map(ParamType::name);
                    let read =
                        |text: &str| ParamType::ALL.into_iter().find(|kind| kind.name() == text);
                    param.kind =
                        self.word(value, "`type`", &words, read).unwrap_or(ParamType::String);
                }
                "default" => default = Some(value),
                "pattern" => {
                    if let Some(text) = self.text(value, "`pattern`") {
                        match Regex::new(text) {
                            Ok(_) => param.pattern = Some(text.to_owned()),
                            Err(error) => {
                                let said = error.to_string();
                                let cause = said.lines().last().unwrap_or(&said);
                                let message = format!("`{text}` is not a regular expression");
                                self.error(BAD_PATTERN, value.span, message).help =
                                    Some(cause.trim_start_matches("error: ").to_owned());
                            }
                        }
                    }
                }
                "enum" => {
                    if let Content::List(items) = &value.content
                        && !items.is_empty()
                    {
                        param.choices = Some(items.iter().map(Node::json).collect());
                    } else {
                        let message = "`enum` wants a list with at least one value";
                        self.error(WRONG_SHAPE, value.span, message);
                    }
                }
                "description" => {
                    param.description = self.text(value, "`description`").map(str::to_owned);
                }
                _ => {}
            }
        }
        if param.pattern.is_some() && param.kind != ParamType::String {
            let message = format!("{place}: only a string can have a pattern");
            self.error(BAD_VALUE, *key_span, message);
        }
        if let Some(list) = param.choices.take() {
            let typed = Param { pattern: None, ..param.clone() };
            let node = value.get("enum").map_or(value, |entry| &entry.value);
            for (index, choice) in list.iter().enumerate() {
                if let Err(problem) = typed.accept(choice) {
                    let span = node.at_pointer(&format!("/{index}"));
                    self.error(BAD_VALUE, span, format!("{place}: {problem}"));
                }
            }
            param.choices = Some(list);
        }
        if let Some(node) = default {
            match param.accept(&node.json()) {
                // A text is not read as a number here: the file can say which it means.
                Ok(value) if value == node.json() => param.default = Some(value),
                Ok(_) => {
                    let message = format!(
                        "{place}: its default is {}, not the {} itself",
                        node.describe(),
                        param.kind
                    );
                    self.error(BAD_DEFAULT, node.span, message).help =
                        Some("write it without quotes".into());
                }
                Err(problem) => {
                    self.error(BAD_DEFAULT, node.span, format!("{place}: its default {problem}"));
                }
            }
        }
        good.then_some((param, *key_span))
    }

    /// A value that the file names.
    pub(super) fn var<'n>(
        &mut self,
        Entry { key, key_span, value }: &'n Entry,
    ) -> Option<VarSpec<'n>> {
        let good = self.identifier(key, *key_span, "the name of a value");
        if value.content == Content::Null {
            let message = format!("`{key}` of `vars` has no value");
            self.error(BAD_VALUE, *key_span, message);
            return None;
        }
        good.then_some(VarSpec { name: key, span: *key_span, value })
    }

    /// Whether expressions can name it.
    fn identifier(&mut self, key: &str, span: Span, what: &str) -> bool {
        let good = key.len() <= 63
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            let message = format!("`{}` is not {what}", key.escape_debug());
            self.error(BAD_NAME, span, message).help =
                Some("use letters, digits and `_`, and begin with a letter".into());
        }
        good
    }
}
