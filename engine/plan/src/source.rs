//! The text that a person wrote, and places in it.

use serde::Serialize;

/// A pipeline file: its name for messages, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

/// The most bytes a pipeline file may have.
pub const MAX_SOURCE_BYTES: usize = 1024 * 1024;

impl Source {
    /// A text called `name` in messages, usually its path.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// What to call it in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The span of the bytes `start..end`, cut to the text and to the edges of characters.
    #[must_use]
    pub fn span(&self, start: usize, end: usize) -> Span {
        let floor = |at: usize| {
            let mut at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(start), floor(end.max(start)));
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Span {
            start,
            end,
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }
}

/// A place in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
    /// The line of the first byte, from 1.
    pub line: usize,
    /// The column of the first byte in characters, from 1.
    pub column: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new("p.yaml", "a: ä\nbö: c\n");
        assert_eq!(source.span(0, 1), Span { start: 0, end: 1, line: 1, column: 1 });
        let c = source.text().find('c').unwrap();
        assert_eq!(source.span(c, c + 1), Span { start: c, end: c + 1, line: 2, column: 5 });
        assert_eq!(source.span(4, 900).start, 3, "a span never splits a character");
        assert_eq!(source.span(900, 901).start, source.text().len());
    }
}
