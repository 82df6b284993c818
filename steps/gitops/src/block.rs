//! The lines of a block scalar (`|` and `>`).

use std::ops::Range;

use crate::file::{line_break, line_end, line_start};

/// Where the header of a block scalar ends, whose content the parser sees at `span`.
fn header_end(text: &str, span: &Range<usize>) -> usize {
    // Blank lines before the first other one are content.
    text[..line_start(text, span.start)].trim_end().len()
}

/// Where the lines of a block scalar end: behind the last one that is not blank, or behind all of
/// them where it keeps them (`|+`).
pub(crate) fn end(text: &str, span: Range<usize>) -> usize {
    let header_end = header_end(text, &span);
    let header = &text[line_start(text, header_end)..header_end];
    let header = header.split_once(" #").map_or(header, |(header, _)| header);
    let keeps = header.rfind(['|', '>']).is_some_and(|at| header[at..].contains('+'));
    if keeps {
        return span.end.max(next_line(text, header_end));
    }
    let content = header_end..span.end.max(header_end);
    let last = content.start + text[content].trim_end().len();
    next_line(text, last)
}

/// Where the line behind the one that `at` is in begins.
fn next_line(text: &str, at: usize) -> usize {
    let end = line_end(text, at);
    let rest = &text[end..];
    let rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r']));
    text.len() - rest.unwrap_or_default().len()
}

/// The bytes to replace so that a literal block reads `new` instead of `old`; every line that the
/// two have in common keeps its bytes. `None` where the lines are not what they should be.
pub(crate) fn replace(
    text: &str,
    span: Range<usize>,
    old: &str,
    new: &str,
) -> Option<(Range<usize>, String)> {
    let start = next_line(text, header_end(text, &span));
    let lines: Vec<&str> = text.get(start..span.end)?.split_inclusive('\n').collect();
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let first = old.iter().position(|line| !line.trim_start_matches(' ').is_empty())?;
    let indent = blanks(lines.get(first)?).checked_sub(blanks(old[first]))?;
    let shared = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(old, new)| old == new).count()
    };
    let before = shared(&mut old.iter().zip(&new));
    let rest = old.len().min(new.len()) - before;
    let after = shared(&mut old.iter().rev().zip(new.iter().rev())).min(rest);
    let offset =
        |line: usize| start + lines.iter().take(line).map(|line| line.len()).sum::<usize>();
    let place = offset(before)..offset(old.len() - after);
    let new_line = line_break(text, start);
    let mut written = String::new();
    for line in &new[before..new.len() - after] {
        if !line.is_empty() {
            written.push_str(&" ".repeat(indent));
            written.push_str(line);
        }
        written.push_str(new_line);
    }
    // A file whose last line has no end keeps it so.
    if place.end == text.len() && !text.ends_with(['\n', '\r']) {
        written.truncate(written.len() - new_line.len());
        if place.is_empty() {
            written.insert_str(0, new_line);
        }
    }
    Some((place, written))
}
