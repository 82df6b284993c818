//! Shell text, as far as the rules need it: commands, their words, and how they are joined.
//!
//! It is no shell: loops and conditions are looked into, never followed. What it cannot understand
//! becomes a command that no rule knows.

use std::ops::Range;

use crate::dockerfile::{Heredoc, Instruction, Logical, unquote};

/// How a command is joined to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// It begins the text or a part of it.
    Start,
    /// `&&`.
    And,
    /// `||`.
    Or,
    /// `;`, `&` or the end of a line.
    Then,
    /// `|`.
    Pipe,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellWord {
    pub(crate) raw: String,
    /// Without quotes and escapes.
    pub(crate) value: String,
    pub(crate) span: Range<usize>,
}

/// A simple command.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// Its name, without a folder; what stands before it (`sudo`, `env`) left aside. Empty where it
    /// only sets variables.
    pub(crate) name: String,
    /// The words behind its name.
    pub(crate) args: Vec<ShellWord>,
    /// The bytes of the file of its name.
    pub(crate) name_span: Range<usize>,
    pub(crate) span: Range<usize>,
    pub(crate) link: Link,
    /// What it is called by: `sudo`, `env`, `exec`.
    pub(crate) wrappers: Vec<ShellWord>,
    /// `NAME=value` before it.
    pub(crate) assigned: Vec<String>,
    /// How deep it stands in `(…)`, `{…}`, `$(…)`, loops and conditions.
    pub(crate) depth: usize,
}

/// Programs that call the one behind them.
const WRAPPERS: &[&str] =
    &["sudo", "env", "exec", "command", "nice", "time", "nohup", "eatmydata", "gosu", "builtin"];
/// Words that begin a part and are no command.
const RESERVED: &[&str] =
    &["if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "{", "}", "esac"];
/// The deepest nesting that is looked into.
const MAX_DEPTH: usize = 16;

impl Command {
    /// Whether it has the flag `-short` (alone or among others) or `--long`.
    pub(crate) fn has_flag(&self, short: Option<char>, long: &[&str]) -> bool {
        self.args.iter().any(|arg| {
            let value = arg.value.as_str();
            match value.strip_prefix("--") {
                Some(name) => {
                    let name = name.split_once('=').map_or(name, |(name, _)| name);
                    long.contains(&name)
                }
                None => match (value.strip_prefix('-'), short) {
                    (Some(letters), Some(short)) => letters.contains(short),
                    (Some(_) | None, _) => false,
                },
            }
        })
    }

    /// Whether one of its words is exactly `text`.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.args.iter().any(|arg| arg.value == text)
    }

    /// The words that are no flags.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &ShellWord> {
        self.args.iter().filter(|arg| !arg.value.starts_with('-'))
    }

    /// The first word that is no flag: `install` of `apt-get -y install`.
    pub(crate) fn verb(&self) -> Option<&ShellWord> {
        self.plain().next()
    }

    pub(crate) fn verb_is(&self, verbs: &[&str]) -> bool {
        self.verb().is_some_and(|verb| verbs.contains(&verb.value.as_str()))
    }

    /// The words behind the verb that are no flags and no values of the flags in `valued`.
    pub(crate) fn operands(&self, valued: &[&str]) -> Vec<&ShellWord> {
        let mut operands = Vec::new();
        let mut skip = false;
        let mut verb = false;
        for arg in &self.args {
            if std::mem::take(&mut skip) {
                continue;
            }
            if arg.value.starts_with('-') {
                skip = valued.contains(&arg.value.as_str());
            } else if verb {
                operands.push(arg);
            } else {
                verb = true;
            }
        }
        operands
    }
}

/// The commands of a `RUN`, `CMD`, `ENTRYPOINT` or `HEALTHCHECK`, in the order of the text.
pub(crate) fn commands(instruction: &Instruction, file: &str) -> Vec<Command> {
    let mut all = Vec::new();
    if instruction.is_json() {
        let words = instruction.words().into_iter().map(|word| ShellWord {
            raw: word.raw,
            value: word.value,
            span: word.span,
        });
        let mut reader = Reader { out: &mut all, escape: instruction.escape };
        reader.simple(words.collect(), Link::Start, 0);
        return all;
    }
    if instruction.is_script() {
        for heredoc in &instruction.heredocs {
            if is_shell(heredoc, file) {
                let body = Logical::whole(&file[heredoc.body.clone()], heredoc.body.start);
                let body = joined(&body);
                Reader { out: &mut all, escape: '\\' }.read(&body, 0);
            }
        }
        return all;
    }
    let text = instruction.text.part(instruction.body.clone());
    Reader { out: &mut all, escape: instruction.escape }.read(&text, 0);
    all
}

/// Whether the script of a heredoc is a shell's: it names no interpreter, or a shell.
fn is_shell(heredoc: &Heredoc, file: &str) -> bool {
    match file[heredoc.body.clone()].strip_prefix("#!") {
        Some(rest) => {
            let line = rest.lines().next().unwrap_or_default();
            let program = line.split_whitespace().map(base).find(|name| *name != "env");
            program
                .is_some_and(|name| matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh"))
        }
        None => true,
    }
}

/// The lines of a script with those joined that end in a backslash.
fn joined(body: &Logical) -> Logical {
    let mut joined = Logical::default();
    let mut at = 0;
    let text = body.text();
    while let Some(found) = text[at..].find("\\\n") {
        joined.push(&text[at..at + found], body.place(at));
        at += found + 2;
    }
    if at < text.len() {
        joined.push(&text[at..], body.place(at));
    }
    joined
}

/// The name of a program without its folder.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

struct Reader<'a> {
    out: &'a mut Vec<Command>,
    escape: char,
}

impl Reader<'_> {
    /// Reads the commands of `text`, which stands `depth` deep.
    fn read(&mut self, text: &Logical, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let bytes = text.text();
        let mut words: Vec<ShellWord> = Vec::new();
        let mut link = Link::Start;
        let mut level = depth;
        let mut at = 0;
        // The parts of `case x in a) …` that are patterns are not commands.
        let mut cases = 0_usize;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(c) = rest.chars().next() else { break };
            let next = rest[c.len_utf8()..].chars().next();
            let (length, joined) = match (c, next) {
                ('\n', _) | (';', Some(';')) => (1, Some(Link::Then)),
                (c, _) if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                ('#', _) => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                ('&', Some('&')) => (2, Some(Link::And)),
                ('|', Some('|')) => (2, Some(Link::Or)),
                ('|', Some('&')) => (2, Some(Link::Pipe)),
                ('|', _) => (1, Some(Link::Pipe)),
                ('&', Some('>')) => (0, None),
                (';' | '&', _) => (1, Some(Link::Then)),
                ('(' | ')', _) => (1, Some(Link::Start)),
                _ => (0, None),
            };
            if let Some(joined) = joined {
                if c == ')' && cases > 0 && words.len() <= 1 && level == depth + cases {
                    // The pattern of a case.
                    words.clear();
                } else {
                    let taken = std::mem::take(&mut words);
                    let before = taken.is_empty();
                    self.simple(taken, link, level);
                    if !(before && joined == Link::Then) {
                        link = joined;
                    }
                }
                level = match c {
                    '(' => level + 1,
                    ')' if cases == 0 => level.saturating_sub(1).max(depth),
                    _ => level,
                };
                if c == ')' {
                    link = Link::Then;
                }
                at += length;
                continue;
            }
            let end = self.word_end(bytes, at);
            let raw = &bytes[at..end];
            if is_redirect(raw) {
                at = end;
                // The target may stand behind a blank: `> file`.
                if raw.ends_with(['>', '<', '-']) && !raw.ends_with("&-") {
                    at += bytes[at..].len() - bytes[at..].trim_start_matches([' ', '\t']).len();
                    let target = self.word_end(bytes, at);
                    at = target.max(at);
                }
                continue;
            }
            self.substitutions(text, at..end, level);
            let first = words.is_empty();
            if first && RESERVED.contains(&raw) {
                match raw {
                    "if" | "while" | "until" | "{" => level += 1,
                    "fi" | "done" | "}" => level = level.saturating_sub(1).max(depth),
                    "esac" => {
                        cases = cases.saturating_sub(1);
                        level = level.saturating_sub(1).max(depth);
                    }
                    _ => {}
                }
                if matches!(raw, "then" | "else" | "elif" | "do") {
                    link = Link::Start;
                }
                at = end;
                continue;
            }
            words.push(ShellWord {
                value: unquote(raw, self.escape),
                raw: raw.to_owned(),
                span: text.span(&(at..end)),
            });
            at = end.max(at + 1);
            if words.first().is_some_and(|word| word.raw == "case") && raw == "in" {
                cases += 1;
                level += 1;
                words.clear();
            }
        }
        self.simple(words, link, level);
    }

    /// Where the word that begins at `at` ends: quotes, `$(…)`, `${…}` and backticks hold together.
    fn word_end(&self, text: &str, at: usize) -> usize {
        let mut quote: Option<char> = None;
        let mut open = Vec::new();
        let mut chars = text[at..].char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            let escaped = c == self.escape && quote != Some('\'');
            if escaped {
                chars.next();
                continue;
            }
            match quote {
                Some('\'') => {
                    if c == '\'' {
                        quote = None;
                    }
                    continue;
                }
                Some(close) if c == close => {
                    quote = None;
                    continue;
                }
                Some(_) | None => {}
            }
            let next = chars.peek().map(|(_, c)| *c);
            match c {
                '$' if matches!(next, Some('(' | '{')) => {
                    open.push((if next == Some('(') { ')' } else { '}' }, quote.take()));
                    chars.next();
                }
                '(' if open.last().is_some_and(|(close, _)| *close == ')') && quote.is_none() => {
                    open.push((')', None));
                }
                '`' if open.last().is_some_and(|(close, _)| *close == '`') && quote.is_none() => {
                    quote = open.pop().and_then(|(_, quote)| quote);
                }
                '`' => open.push(('`', quote.take())),
                c if quote.is_none() && open.last().is_some_and(|(close, _)| *close == c) => {
                    quote = open.pop().and_then(|(_, quote)| quote);
                }
                '"' | '\'' if quote.is_none() => quote = Some(c),
                _ if quote.is_some() || !open.is_empty() => {}
                ';' | '|' | '(' | ')' => return at + offset,
                '&' => {
                    // `2>&1` and `&>file` are redirections.
                    let before = text[at..at + offset].ends_with('>');
                    let behind = offset == 0 && next == Some('>');
                    if !before && !behind {
                        return at + offset;
                    }
                }
                c if c.is_whitespace() => return at + offset,
                _ => {}
            }
        }
        text.len()
    }

    /// Reads what stands in `$(…)` and backticks within a word.
    fn substitutions(&mut self, text: &Logical, range: Range<usize>, depth: usize) {
        let word = &text.text()[range.clone()];
        if !word.contains("$(") && !word.contains('`') {
            return;
        }
        let mut at = 0;
        let mut single = false;
        let bytes = word.as_bytes();
        while at < bytes.len() {
            match bytes[at] {
                b'\'' if !word[..at].contains('"') => single = !single,
                _ if single => {}
                b'\\' => at += 1,
                b'$' if bytes.get(at + 1) == Some(&b'(') && bytes.get(at + 2) != Some(&b'(') => {
                    let end = self.word_end(word, at);
                    // The word may go on behind the parenthesis.
                    let inner = &word[at + 2..end];
                    let close = closing(inner);
                    let part = text.part(range.start + at + 2..range.start + at + 2 + close);
                    self.read(&part, depth + 1);
                    at += 2 + close;
                }
                b'`' => {
                    let close = word[at + 1..].find('`').unwrap_or(word.len() - at - 1);
                    let part = text.part(range.start + at + 1..range.start + at + 1 + close);
                    self.read(&part, depth + 1);
                    at += 1 + close;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Adds the command that `words` are.
    fn simple(&mut self, words: Vec<ShellWord>, link: Link, depth: usize) {
        let mut words = words.into_iter().peekable();
        let mut assigned = Vec::new();
        let mut wrappers: Vec<ShellWord> = Vec::new();
        let (mut start, mut end) = (None, None);
        let name = loop {
            let Some(word) = words.next() else {
                // `NAME=value` alone is a command without a name.
                if let (Some(start), Some(end)) = (start, end) {
                    self.out.push(Command {
                        name: String::new(),
                        args: Vec::new(),
                        name_span: start..end,
                        span: start..end,
                        link,
                        wrappers,
                        assigned,
                        depth,
                    });
                }
                return;
            };
            end = Some(word.span.end);
            start.get_or_insert(word.span.start);
            if is_assignment(&word.raw) {
                assigned.push(word.value);
            } else if WRAPPERS.contains(&base(&word.value)) && words.peek().is_some() {
                wrappers.push(word);
                // Their own flags; what takes a value of its own is rare enough.
                while words.peek().is_some_and(|word| word.value.starts_with('-')) {
                    words.next();
                }
            } else {
                break word;
            }
        };
        if matches!(name.raw.as_str(), "for" | "select" | "case" | "function") {
            return;
        }
        let args: Vec<_> = words.collect();
        let end = args.last().map_or(name.span.end, |last| last.span.end);
        self.out.push(Command {
            name: base(&name.value).to_owned(),
            name_span: name.span.clone(),
            span: start.unwrap_or(name.span.start)..end,
            args,
            link,
            wrappers,
            assigned,
            depth,
        });
    }
}

/// Where the parenthesis that closes `$(` stands in what follows it.
fn closing(inner: &str) -> usize {
    let mut open = 0;
    let mut quote = None;
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                chars.next();
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => open += 1,
            (None, ')') if open == 0 => return at,
            (None, ')') => open -= 1,
            (None, _) => {}
        }
    }
    inner.len()
}

fn is_redirect(raw: &str) -> bool {
    let rest = raw.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix('&').unwrap_or(rest);
    rest.starts_with('>') || rest.starts_with('<')
}

fn is_assignment(raw: &str) -> bool {
    raw.split_once('=').is_some_and(|(name, _)| {
        let name = name.strip_suffix('+').unwrap_or(name);
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::read;

    fn split(run: &str) -> Vec<String> {
        let text = format!("RUN {run}\n");
        let file = read(&text);
        let show = |command: &Command| {
            let mut words = vec![command.name.clone()];
            words.extend(command.args.iter().map(|arg| arg.value.clone()));
            format!("{:?}{} {}", command.link, command.depth, words.join(" "))
        };
        commands(&file.instructions[0], &text).iter().map(show).collect()
    }

    #[test]
    fn commands_are_found_wherever_they_stand() {
        assert_eq!(
            split("a 1 && b 2 || c; d | e"),
            ["Start0 a 1", "And0 b 2", "Or0 c", "Then0 d", "Pipe0 e"]
        );
        assert_eq!(
            split("set -e; cd /x && FOO=1 make 'a b' > /dev/null 2>&1"),
            ["Start0 set -e", "Then0 cd /x", "And0 make a b"]
        );
        assert_eq!(split("(cd /x && make) && y"), ["Start1 cd /x", "And1 make", "And0 y"]);
        assert_eq!(
            split("if test -f x; then rm x; fi; z"),
            ["Start1 test -f x", "Start1 rm x", "Then0 z"]
        );
        assert_eq!(split("x $(cat \"a b\") y"), ["Start1 cat a b", "Start0 x $(cat a b) y"]);
        assert_eq!(split("for i in 1 2; do echo $i; done"), ["Start0 echo $i"]);
        assert_eq!(split("sudo -E apt-get update"), ["Start0 apt-get update"]);
        assert_eq!(split("echo 'a && b' \"c | d\""), ["Start0 echo a && b c | d"]);
        assert_eq!(split(r#"["/usr/bin/apt-get", "install", "x"]"#), ["Start0 apt-get install x"]);
    }

    #[test]
    fn scripts_of_heredocs_are_read() {
        assert_eq!(
            split("<<EOF\nset -e\napt-get install \\\n  curl # why\nEOF"),
            ["Start0 set -e", "Then0 apt-get install curl"]
        );
        assert_eq!(split("<<EOF\n#!/usr/bin/env python3\nimport os\nEOF"), [] as [String; 0]);
    }
}
