//! From lines to instructions: directives, comments, continuations, heredocs.

use std::ops::Range;

use super::instruction::{Heredoc, Instruction};
use super::text::Logical;

/// The most instructions of one file: the rules look at each pair of some kinds.
const MAX_INSTRUCTIONS: usize = 10_000;

/// A comment line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) line: usize,
    /// Without the `#` and the blanks around it.
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

/// Something that a builder would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// A Dockerfile.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dockerfile {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) problems: Vec<Problem>,
    /// What `# syntax=` names.
    pub(crate) syntax: Option<String>,
    pub(crate) escape: Option<char>,
}

/// A line of the file without its end.
struct Line<'a> {
    text: &'a str,
    start: usize,
    next: usize,
    number: usize,
}

struct Lines<'a> {
    text: &'a str,
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (length, next) = match rest.find('\n') {
            Some(end) => (end, self.at + end + 1),
            None => (rest.len(), self.text.len()),
        };
        let text = rest[..length].strip_suffix('\r').unwrap_or(&rest[..length]);
        let line = Line { text, start: self.at, next, number: self.number };
        self.at = next;
        self.number += 1;
        Some(line)
    }
}

/// Reads a file. Whatever is wrong with it is told, and reading goes on behind it.
pub(crate) fn read(text: &str) -> Dockerfile {
    let mut file = Dockerfile::default();
    let begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut lines = Lines { text, at: begin, number: 1 };
    let mut directives = true;
    while let Some(line) = lines.next() {
        let trimmed = line.text.trim_start();
        if let Some(comment) = trimmed.strip_prefix('#') {
            directives = directives && directive(&mut file, comment, &line);
            file.comments.push(told(comment, &line));
            continue;
        }
        directives = false;
        if trimmed.trim_end().is_empty() {
            continue;
        }
        if file.instructions.len() == MAX_INSTRUCTIONS {
            let message = format!("there are more than {MAX_INSTRUCTIONS} instructions");
            file.problems.push(Problem::new(line.start..line.next, message));
            break;
        }
        instruction(&mut file, &mut lines, &line);
    }
    if file.instructions.is_empty() {
        file.problems.push(Problem::new(0..0, "there is no instruction in the file"));
    }
    file
}

fn told(comment: &str, line: &Line<'_>) -> Comment {
    Comment {
        line: line.number,
        text: comment.trim().to_owned(),
        span: line.start..line.start + line.text.len(),
    }
}

/// Takes a directive such as `# escape=`; whether another may follow.
fn directive(file: &mut Dockerfile, comment: &str, line: &Line<'_>) -> bool {
    let Some((name, value)) = comment.split_once('=') else { return false };
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let span = line.start..line.start + line.text.len();
    match name.as_str() {
        "syntax" if file.syntax.is_none() => file.syntax = Some(value.to_owned()),
        "escape" if file.escape.is_none() => match value {
            "\\" => file.escape = Some('\\'),
            "`" => file.escape = Some('`'),
            other => {
                let other = other.escape_debug();
                let message = format!("`escape` may be \\ or `, and not `{other}`");
                file.problems.push(Problem::new(span, message));
            }
        },
        "syntax" | "escape" => {
            file.problems.push(Problem::new(span, format!("`{name}` stands in the file twice")));
        }
        // `check` is BuildKit's own linter's; what nobody knows is a comment, and ends the directives.
        "check" => {}
        _ => return false,
    }
    true
}

/// Reads one instruction that begins on `first`, with its continuations and heredocs.
fn instruction(file: &mut Dockerfile, lines: &mut Lines<'_>, first: &Line<'_>) {
    let escape = file.escape.unwrap_or('\\');
    let mut joined = Logical::default();
    let mut blanks = Vec::new();
    let mut pending: Vec<Range<usize>> = Vec::new();
    let indent = first.text.len() - first.text.trim_start().len();
    let (mut part, mut start) = (&first.text[indent..], first.start + indent);
    loop {
        let Some(kept) = continued(part, escape) else {
            joined.push(part, start);
            break;
        };
        joined.push(&part[..kept], start);
        // Comments and blank lines between the parts are no part of it.
        let more = loop {
            let Some(line) = lines.next() else { break None };
            let trimmed = line.text.trim();
            if let Some(comment) = trimmed.strip_prefix('#') {
                file.comments.push(told(comment, &line));
                blanks.append(&mut pending);
            } else if trimmed.is_empty() {
                pending.push(line.start..line.next);
            } else {
                blanks.append(&mut pending);
                break Some(line);
            }
        };
        // Blank lines behind the last part are between instructions, whatever stands before them.
        let Some(line) = more else { break };
        (part, start) = (line.text, line.start);
    }
    let mut found = Instruction::read(joined, 0, false, escape, first.number, &mut file.problems);
    found.blanks = blanks;
    for (name, expands, strips_tabs) in found.announced() {
        let from = lines.at;
        let mut ended = None;
        while let Some(line) = lines.next() {
            let text = if strips_tabs { line.text.trim_start_matches('\t') } else { line.text };
            if text == name {
                ended = Some(line);
                break;
            }
        }
        let body = match &ended {
            Some(line) => {
                found.span.end = line.start + line.text.len();
                from..line.start
            }
            None => {
                let message = format!("the heredoc `{}` does not end", name.escape_debug());
                file.problems.push(Problem::new(found.head.clone(), message));
                found.span.end = lines.text.trim_end().len().max(found.span.end);
                from..lines.at
            }
        };
        found.heredocs.push(Heredoc { name, expands, strips_tabs, body });
    }
    file.instructions.push(found);
}

/// How much of a line stays when another line follows it; none when it ends here.
fn continued(line: &str, escape: char) -> Option<usize> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    // Two escapes are one that is escaped.
    (!kept.ends_with(escape)).then_some(kept.len())
}

#[cfg(test)]
mod tests {
    use super::super::Keyword;
    use super::*;

    fn only(text: &str) -> Instruction {
        let file = read(text);
        assert!(file.problems.is_empty(), "{:?}", file.problems);
        file.instructions.into_iter().next().unwrap()
    }

    #[test]
    fn comments_and_blank_lines_stand_between_the_parts_of_an_instruction() {
        let text = "RUN a && \\\n  # why\n\n  b \\\n# c\n  c\nRUN d\n";
        let file = read(text);
        let [first, second] = file.instructions.as_slice() else { panic!() };
        assert_eq!(first.body_text(), "a &&   b   c");
        assert_eq!(&text[first.span.clone()], text.split("\nRUN d").next().unwrap());
        assert_eq!((first.line, second.line, first.blanks.len()), (1, 7, 1));
        let comments: Vec<_> = file.comments.iter().map(|c| (c.line, c.text.as_str())).collect();
        assert_eq!(comments, [(2, "why"), (5, "c")]);
    }

    #[test]
    fn directives_stand_before_everything_else() {
        let file = read("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN dir `\n  C:\\x\n");
        assert_eq!(file.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(file.instructions[1].body_text(), "dir   C:\\x");
        let file = read("# a comment\n# escape=`\nFROM a\n");
        assert_eq!(file.escape, None);
        assert_eq!(read("# escape=x\nFROM a\n").problems.len(), 1);
    }

    #[test]
    fn heredocs_have_a_body() {
        let text =
            "RUN <<EOF\napt-get update\nEOF\nCOPY <<-\"A\" <<B /x/\n\tone\n\tA\ntwo\nB\nRUN y\n";
        let file = read(text);
        assert!(file.problems.is_empty());
        let [run, copy, last] = file.instructions.as_slice() else { panic!() };
        assert_eq!(&text[run.heredocs[0].body.clone()], "apt-get update\n");
        assert!(run.is_script() && run.heredocs[0].expands);
        let bodies: Vec<_> = copy.heredocs.iter().map(|h| &text[h.body.clone()]).collect();
        assert_eq!(bodies, ["\tone\n", "two\n"]);
        assert!(!copy.heredocs[0].expands && copy.heredocs[0].strips_tabs);
        assert_eq!(last.line, 9);
        let open = read("RUN <<EOF\nx\n");
        assert!(open.problems[0].message.contains("does not end"));
        // A shift, a here-string and a heredoc in JSON are none.
        assert!(only("RUN x <<< y").heredocs.is_empty());
        assert!(only(r#"RUN ["sh", "<<EOF"]"#).heredocs.is_empty());
    }

    #[test]
    fn flags_forms_and_pairs() {
        let copy = only("COPY --from=build --chown=a:b /x \\\n  /y");
        assert_eq!(copy.flag("from").unwrap().value.as_deref(), Some("build"));
        let words: Vec<_> = copy.words().into_iter().map(|w| (w.value, w.span)).collect();
        assert_eq!(words, [("/x".into(), 30..32), ("/y".into(), 37..39)]);
        let cmd = only(r#"CMD [ "a b", "c\"d" ]"#);
        let words: Vec<_> = cmd.words().into_iter().map(|w| w.value).collect();
        assert_eq!(words, ["a b", "c\"d"]);
        assert!(!only("CMD ['a']").is_json());
        let env = only("ENV A=1 B=\"x y\"");
        let pairs: Vec<_> =
            env.pairs().into_iter().map(|p| (p.name.value, p.value.unwrap().value)).collect();
        assert_eq!(pairs, [("A".into(), "1".into()), ("B".into(), "x y".to_owned())]);
        let env = only("ENV A some text");
        assert_eq!(env.pairs()[0].value.as_ref().unwrap().raw, "some text");
        let onbuild = only("ONBUILD RUN x");
        assert_eq!((onbuild.keyword, onbuild.onbuild), (Keyword::Run, true));
    }

    #[test]
    fn what_a_builder_refuses_is_told() {
        for (text, want) in [
            ("", "no instruction"),
            ("# only\n", "no instruction"),
            ("FROM a b", "FROM image AS name"),
            ("FORM a", "is `FROM` meant?"),
            ("ENV PATH", "`PATH` has no value"),
            (r#"CMD ["a", ["b"]]"#, "nothing else"),
            ("SHELL sh -c", "wants a list"),
            ("COPY a", "a source and a destination"),
            ("RUN", "says nothing"),
        ] {
            let problems = read(text).problems;
            assert!(problems.iter().any(|p| p.message.contains(want)), "{text}: {problems:?}");
        }
    }
}
