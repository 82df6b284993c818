//! Bytes from a pipe become lines: split, bounded, and readable whatever was in them.

/// Splits a stream of bytes into lines.
///
/// A line has at most as many bytes as it was told to keep; what is longer is dropped up to the
/// line's end. Invalid UTF-8 becomes the replacement character.
#[derive(Debug)]
pub struct LineSplitter {
    keep: usize,
    partial: Vec<u8>,
    begun: bool,
}

impl LineSplitter {
    /// A splitter that keeps `keep` bytes of each line.
    #[must_use]
    pub const fn new(keep: usize) -> Self {
        Self { keep, partial: Vec::new(), begun: false }
    }

    /// Takes the next bytes and hands on each line that they end, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.take(&bytes[..end]);
            self.emit(&mut line);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.take(bytes);
        }
    }

    /// Hands on the last line, when the stream did not end with a line's end.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if self.begun {
            self.emit(&mut line);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.begun = true;
        let room = self.keep.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn emit(&mut self, line: &mut impl FnMut(&str)) {
        let bytes = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        line(&String::from_utf8_lossy(bytes));
        self.partial.clear();
        self.begun = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(keep: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = LineSplitter::new(keep);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| seen.push(line.to_owned()));
        }
        lines.finish(|line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        for (chunks, want) in [
            (&[&b"one\ntwo\n"[..]][..], &["one", "two"][..]),
            (&[b"o", b"ne\nt", b"wo"], &["one", "two"]),
            (&[b"one\r\n\r\ntwo\r", b"\n"], &["one", "", "two"]),
            (&[b"a\xffb\n"], &["a\u{fffd}b"]),
            (&[b"\n\n"], &["", ""]),
            (&[b""], &[]),
            (&[b"0123456789abc\nnext"], &["01234567", "next"]),
            (&[b"01234567", b"89abc", b"\nnext\n"], &["01234567", "next"]),
        ] {
            assert_eq!(split(8, chunks), want, "{chunks:?}");
        }
    }
}
