//! Words of an instruction: split at blanks as BuildKit splits them, quotes and escapes seen to.

use std::ops::Range;

use super::text::Logical;

/// A word of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it stands in the file, continuations joined.
    pub(crate) raw: String,
    /// Without quotes and escapes; variables are not expanded.
    pub(crate) value: String,
    /// The bytes of the file.
    pub(crate) span: Range<usize>,
    /// The bytes of the joined text.
    pub(crate) within: Range<usize>,
}

impl Word {
    /// Whether a variable stands in it.
    pub(crate) fn has_variable(&self) -> bool {
        self.raw.contains('$')
    }
}

/// The words of `line` within `range`. A quote that is not closed reaches to the end.
pub(crate) fn words(line: &Logical, range: Range<usize>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut begun: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.text()[range.clone()].char_indices().peekable();
    while let Some((offset, found)) = chars.next() {
        let at = range.start + offset;
        match quote {
            Some(open) => {
                if found == open {
                    quote = None;
                } else if found == escape && open != '\'' {
                    chars.next();
                }
            }
            None if found.is_whitespace() => {
                if let Some(start) = begun.take() {
                    words.push(word(line, start..at, escape));
                }
            }
            None => {
                begun = begun.or(Some(at));
                if found == '"' || found == '\'' {
                    quote = Some(found);
                } else if found == escape {
                    chars.next();
                }
            }
        }
    }
    if let Some(start) = begun {
        words.push(word(line, start..range.end, escape));
    }
    words
}

/// The word that stands at `range`.
pub(crate) fn word(line: &Logical, range: Range<usize>, escape: char) -> Word {
    let mut raw = line.text()[range.clone()].to_owned();
    // An escape that is the last character of a line stands for nothing.
    if raw.len() > escape.len_utf8() && raw.ends_with(escape) && range.end == line.text().len() {
        let escapes = raw.chars().rev().take_while(|c| *c == escape).count();
        if escapes % 2 == 1 {
            raw.truncate(raw.len() - escape.len_utf8());
        }
    }
    Word { value: unquote(&raw, escape), raw, span: line.span(&range), within: range }
}

/// A text without its quotes and escapes.
pub(crate) fn unquote(raw: &str, escape: char) -> String {
    let mut value = String::with_capacity(raw.len());
    let mut quote: Option<char> = None;
    let mut chars = raw.chars().peekable();
    while let Some(found) = chars.next() {
        match quote {
            Some(open) if found == open => quote = None,
            Some('\'') => value.push(found),
            // Within double quotes an escape is one before what it can change there.
            Some(_) if found == escape => match chars.peek().copied() {
                Some(next) if next == '"' || next == '$' || next == escape => {
                    value.push(next);
                    chars.next();
                }
                Some(_) | None => value.push(found),
            },
            Some(_) => value.push(found),
            None if found == '"' || found == '\'' => quote = Some(found),
            None if found == escape => value.extend(chars.next()),
            None => value.push(found),
        }
    }
    value
}

/// The names of the variables that `raw` refers to: `$NAME`, `${NAME}`, `${NAME:-word}`. What is
/// escaped or within single quotes is text. The flag says whether a default stands beside the name.
pub(crate) fn variables(raw: &str, escape: char) -> Vec<(String, bool, Range<usize>)> {
    let mut found = Vec::new();
    let mut single = false;
    let mut double = false;
    let mut chars = raw.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            _ if single => {}
            _ if c == escape => {
                chars.next();
            }
            '$' => {
                let rest = &raw[at + 1..];
                let (open, rest) = match rest.strip_prefix('{') {
                    Some(inner) => (true, inner),
                    None => (false, rest),
                };
                let length = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                let name = &rest[..length];
                if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                    continue;
                }
                let behind = &rest[length..];
                let default = open && (behind.starts_with('-') || behind.starts_with(":-"));
                let other = open && !behind.starts_with('}') && !default;
                let end = at + 1 + usize::from(open) + length;
                // `${NAME:?…}` and `${NAME+…}` see to a missing value, too.
                let guarded = default
                    || (other && behind.trim_start_matches(':').starts_with(['+', '?', '=']));
                found.push((name.to_owned(), guarded, at..end));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(String, String)> {
        let line = Logical::whole(text, 0);
        let words = words(&line, 0..text.len(), '\\');
        words.into_iter().map(|word| (word.raw, word.value)).collect()
    }

    #[test]
    fn quotes_and_escapes_hold_a_word_together() {
        let pair = |raw: &str, value: &str| (raw.to_owned(), value.to_owned());
        assert_eq!(split("a  b\tc"), [pair("a", "a"), pair("b", "b"), pair("c", "c")]);
        assert_eq!(split(r#"n="a b" x"#), [pair(r#"n="a b""#, "n=a b"), pair("x", "x")]);
        assert_eq!(split(r"n=a\ b"), [pair(r"n=a\ b", "n=a b")]);
        assert_eq!(split(r"n='a\'b'"), [pair(r"n='a\'b'", r"n=a\b")]);
        assert_eq!(split("n=v \\"), [pair("n=v", "n=v"), pair("\\", "")]);
        assert_eq!(split(""), []);
    }

    #[test]
    fn variables_are_seen_where_they_are_expanded() {
        let names = |text: &str| {
            let found = variables(text, '\\').into_iter();
            found.map(|(name, guarded, _)| (name, guarded)).collect::<Vec<_>>()
        };
        let a = |guarded| vec![("A".to_owned(), guarded)];
        assert_eq!(names("x$A/y"), a(false));
        assert_eq!(names("${A}"), a(false));
        assert_eq!(names("${A:-b}"), a(true));
        assert_eq!(names("${A-b}"), a(true));
        assert_eq!(names("\"$A\""), a(false));
        assert_eq!(names(r"'$A' \$A $1 $$"), []);
    }
}
