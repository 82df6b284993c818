//! The last lines of a stream, within a limit.

use std::collections::VecDeque;

/// The last lines of a stream, within a limit of bytes.
pub(super) struct Tail {
    limit: usize,
    lines: VecDeque<String>,
    size: usize,
}

impl Tail {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new(), size: 0 }
    }

    pub(super) fn push(&mut self, mut line: String) {
        if line.len() >= self.limit {
            let mut from = line.len() - self.limit + 1;
            while !line.is_char_boundary(from) {
                from += 1;
            }
            line.drain(..from);
        }
        self.size += line.len() + 1;
        self.lines.push_back(line);
        while self.size > self.limit {
            match self.lines.pop_front() {
                Some(first) => self.size -= first.len() + 1,
                None => break,
            }
        }
    }

    pub(super) fn into_text(self) -> String {
        Vec::from(self.lines).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines_within_its_limit() {
        let mut tail = Tail::new(16);
        for line in ["first", "second", "third", "4th"] {
            tail.push(line.to_owned());
        }
        assert_eq!(tail.into_text(), "third\n4th");
        let mut tail = Tail::new(8);
        tail.push("a long line with an é".to_owned());
        let text = tail.into_text();
        assert!(text.len() < 8 && text.ends_with('é'), "{text}");
    }
}
