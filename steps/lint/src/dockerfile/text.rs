//! Text that was joined from several lines, with the way back to where each byte came from.

use std::ops::Range;

/// An instruction's lines as one text: continuations joined, comments between them left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Logical {
    text: String,
    /// Where a piece begins in `text`, and where it begins in the file.
    pieces: Vec<(usize, usize)>,
}

impl Logical {
    /// One piece of the file as it is.
    pub(crate) fn whole(text: &str, at: usize) -> Self {
        let mut logical = Self::default();
        logical.push(text, at);
        logical
    }

    /// Adds `text`, which stands in the file from byte `at`.
    pub(crate) fn push(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where in the file the byte `at` of the joined text is.
    pub(crate) fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(begins, _)| *begins <= at);
        let (begins, file) = self.pieces.get(piece.saturating_sub(1)).copied().unwrap_or_default();
        file + at.saturating_sub(begins)
    }

    /// The bytes of the file that `range` of the joined text came from, with what lay between them.
    pub(crate) fn span(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.place(range.start);
        // The last byte is of a piece that is surely there; the one behind it may be of the next.
        let end = match range.end.checked_sub(1) {
            Some(last) if range.end > range.start => self.place(last) + 1,
            Some(_) | None => start,
        };
        start..end.max(start)
    }

    /// The part `range` of it, with its places.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let mut part = Self::default();
        for (index, (begins, file)) in self.pieces.iter().enumerate() {
            let ends = self.pieces.get(index + 1).map_or(self.text.len(), |next| next.0);
            let (from, to) = ((*begins).max(range.start), ends.min(range.end));
            if from < to {
                part.push(&self.text[from..to], file + from - begins);
            }
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_text_knows_where_its_bytes_came_from() {
        let mut logical = Logical::whole("RUN a ", 0);
        logical.push("  && b", 8);
        assert_eq!(logical.text(), "RUN a   && b");
        assert_eq!((logical.place(4), logical.place(6), logical.place(8)), (4, 8, 10));
        assert_eq!(logical.span(&(4..12)), 4..14);
        // What ends where a piece ends does not reach into the next.
        assert_eq!(logical.span(&(4..6)), 4..6);
        let part = logical.part(4..9);
        assert_eq!((part.text(), part.span(&(0..5))), ("a   &", 4..11));
    }
}
