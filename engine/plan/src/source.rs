//! The text that a person wrote, and places in it.

use serde::Serialize;

/// A pipeline file: its name for messages, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    /// The first byte of each line.
    lines: Vec<usize>,
    /// The number of characters before each [`STRIDE`]th byte, so that a column costs no walk along
    /// a long line.
    characters: Vec<usize>,
}

/// The distance between counts of characters, in bytes.
const STRIDE: usize = 256;

/// The most bytes a pipeline file may have.
pub const MAX_SOURCE_BYTES: usize = 1024 * 1024;

impl Source {
    /// A text called `name` in messages, usually its path.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut lines = vec![0];
        let mut characters = Vec::with_capacity(text.len() / STRIDE + 1);
        let mut count = 0;
        for (at, byte) in text.bytes().enumerate() {
            if at % STRIDE == 0 {
                characters.push(count);
            }
            if byte == b'\n' {
                lines.push(at + 1);
            }
            count += usize::from(begins_character(byte));
        }
        Self { name: name.into(), text, lines, characters }
    }

    /// The number of characters that begin before byte `at`.
    fn characters_before(&self, at: usize) -> usize {
        let Some(counted) = self.characters.get(at / STRIDE) else {
            // The end of a text whose length is a multiple of the stride.
            return self.characters.last().map_or(0, |counted| {
                let from = (self.characters.len() - 1) * STRIDE;
                counted + self.begins(from, at)
            });
        };
        counted + self.begins(at - at % STRIDE, at)
    }

    fn begins(&self, from: usize, to: usize) -> usize {
        self.text.as_bytes()[from..to].iter().filter(|byte| begins_character(**byte)).count()
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
        let line = self.lines.partition_point(|first| *first <= start);
        let first = self.lines[line - 1];
        Span {
            start,
            end,
            line,
            column: 1 + self.characters_before(start) - self.characters_before(first),
        }
    }
}

/// Whether a byte of UTF-8 is the first of its character.
const fn begins_character(byte: u8) -> bool {
    byte & 0xC0 != 0x80
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

    #[test]
    fn a_column_far_along_a_line_is_right() {
        for length in [255, 256, 257, 512, 5000] {
            let text = format!("\u{feff}ä\n{}", "ö".repeat(length));
            let source = Source::new("p.yaml", text.as_str());
            let end = source.span(text.len(), text.len());
            assert_eq!((end.line, end.column), (2, length + 1), "{length}");
        }
    }
}
