//! One instruction: its keyword, flags, and the form of what follows.

use std::ops::Range;

use super::read::Problem;
use super::text::Logical;
use super::words::{Word, unquote, word, words};

/// The keyword of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
    Unknown,
}

impl Keyword {
    const ALL: [(&'static str, Self); 18] = [
        ("ADD", Self::Add),
        ("ARG", Self::Arg),
        ("CMD", Self::Cmd),
        ("COPY", Self::Copy),
        ("ENTRYPOINT", Self::Entrypoint),
        ("ENV", Self::Env),
        ("EXPOSE", Self::Expose),
        ("FROM", Self::From),
        ("HEALTHCHECK", Self::Healthcheck),
        ("LABEL", Self::Label),
        ("MAINTAINER", Self::Maintainer),
        ("ONBUILD", Self::Onbuild),
        ("RUN", Self::Run),
        ("SHELL", Self::Shell),
        ("STOPSIGNAL", Self::Stopsignal),
        ("USER", Self::User),
        ("VOLUME", Self::Volume),
        ("WORKDIR", Self::Workdir),
    ];

    pub(crate) fn of(text: &str) -> Self {
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map_or(Self::Unknown, |(_, keyword)| *keyword)
    }

    /// The keyword that `text` was perhaps meant to be.
    pub(crate) fn near(text: &str) -> Option<&'static str> {
        let text = text.to_ascii_uppercase();
        let close = |name: &str| {
            let same = name.bytes().filter(|b| text.as_bytes().contains(b)).count();
            name.len().abs_diff(text.len()) <= 1
                && same + 1 >= name.len()
                && name.as_bytes()[0] == text.as_bytes()[0]
        };
        Self::ALL.iter().map(|(name, _)| *name).find(|name| close(name))
    }

    /// Whether heredocs may stand in it.
    const fn takes_heredocs(self) -> bool {
        matches!(self, Self::Add | Self::Copy | Self::Run)
    }
}

/// `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) span: Range<usize>,
    /// The whole flag without quotes and escapes.
    pub(crate) text: String,
}

/// `name=value`, or `name value` in the form that is older.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: Word,
    pub(crate) value: Option<Word>,
    /// Whether an `=` stands between them.
    pub(crate) equals: bool,
}

/// `<<EOF` and what follows it up to `EOF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    /// Whether the word itself was not quoted, so that variables count.
    pub(crate) expands: bool,
    pub(crate) strips_tabs: bool,
    /// The bytes of the file between the first line and the last.
    pub(crate) body: Range<usize>,
}

/// What follows the keyword and its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// `["a", "b"]`.
    Json(Vec<Word>),
    /// Anything else.
    Text,
}

/// One instruction.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) keyword: Keyword,
    /// The keyword as it is written.
    pub(crate) written: String,
    /// The bytes of the file of its keyword.
    pub(crate) keyword_span: Range<usize>,
    /// All its bytes, heredocs included, the end of the last line left out.
    pub(crate) span: Range<usize>,
    /// All its bytes without those of heredocs.
    pub(crate) head: Range<usize>,
    /// The line on which it begins.
    pub(crate) line: usize,
    /// Its lines, joined.
    pub(crate) text: Logical,
    pub(crate) flags: Vec<Flag>,
    /// What follows the flags, of `text`.
    pub(crate) body: Range<usize>,
    pub(crate) form: Form,
    pub(crate) heredocs: Vec<Heredoc>,
    /// Whether it stands behind `ONBUILD`; the keyword is then that of the inner instruction.
    pub(crate) onbuild: bool,
    /// `CMD` or `NONE`, of a `HEALTHCHECK`.
    pub(crate) mode: Option<Word>,
    pub(crate) escape: char,
    /// The bytes of the file of blank lines within it, and of the ends of those lines.
    pub(crate) blanks: Vec<Range<usize>>,
}

impl Instruction {
    /// Reads a joined line. What is wrong with it is added to `problems`.
    pub(crate) fn read(
        text: Logical,
        from: usize,
        onbuild: bool,
        escape: char,
        line: usize,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let all = text.text();
        let rest = &all[from..];
        let start = from + rest.len() - rest.trim_start().len();
        let rest = &all[start..];
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let written = rest[..length].to_owned();
        let keyword = Keyword::of(&written);
        if keyword == Keyword::Onbuild && !onbuild && !rest[length..].trim().is_empty() {
            return Self::read(text, start + length, true, escape, line, problems);
        }
        let behind = start + length;
        let end = all.trim_end().len().max(behind);
        let head = text.span(&(if onbuild { 0 } else { start }..end));
        let (flags, body_start) = flags(&text, behind..end, escape);
        let mut instruction = Self {
            keyword,
            written,
            keyword_span: text.span(&(start..behind)),
            span: head.clone(),
            head,
            line,
            flags,
            body: body_start..end,
            form: Form::Text,
            heredocs: Vec::new(),
            onbuild,
            mode: None,
            escape,
            blanks: Vec::new(),
            text,
        };
        instruction.find_form(problems);
        instruction.check(problems);
        instruction
    }

    /// What follows the flags.
    pub(crate) fn body_text(&self) -> &str {
        &self.text.text()[self.body.clone()]
    }

    /// The bytes of the file that hold it.
    pub(crate) fn body_span(&self) -> Range<usize> {
        self.text.span(&self.body)
    }

    /// The words that follow the flags: of the JSON form its texts, else what stands between blanks.
    pub(crate) fn words(&self) -> Vec<Word> {
        match &self.form {
            Form::Json(words) => words.clone(),
            Form::Text => words(&self.text, self.body.clone(), self.escape),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self.form, Form::Json(_))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// The pairs of `ENV`, `LABEL` and `ARG`.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let words = words(&self.text, self.body.clone(), self.escape);
        let old = self.keyword != Keyword::Arg
            && words.first().is_some_and(|first| !first.raw.contains('='));
        if old {
            // `ENV name any text` has one pair, and the text is whatever follows.
            let Some(name) = words.first().cloned() else { return Vec::new() };
            let rest = &self.text.text()[name.within.end..self.body.end];
            let from = name.within.end + rest.len() - rest.trim_start().len();
            let value =
                (from < self.body.end).then(|| word(&self.text, from..self.body.end, self.escape));
            return vec![Pair { name, value, equals: false }];
        }
        let pair = |whole: Word| match whole.raw.find('=') {
            Some(at) => {
                let middle = whole.within.start + at;
                let name = word(&self.text, whole.within.start..middle, self.escape);
                let mut value = word(&self.text, middle + 1..whole.within.end, self.escape);
                value.raw = whole.raw[at + 1..].to_owned();
                value.value = unquote(&value.raw, self.escape);
                Pair { name, value: Some(value), equals: true }
            }
            None => Pair { name: whole, value: None, equals: false },
        };
        words.into_iter().map(pair).collect()
    }

    /// The heredocs that its first lines announce; their bodies are not known yet.
    pub(crate) fn announced(&self) -> Vec<(String, bool, bool)> {
        if !self.keyword.takes_heredocs() || self.is_json() {
            return Vec::new();
        }
        let words = words(&self.text, self.body.clone(), self.escape);
        words.iter().filter_map(|word| heredoc(&word.raw, self.escape)).collect()
    }

    /// Whether a `RUN` consists of heredocs alone, which are then its script.
    pub(crate) fn is_script(&self) -> bool {
        let words = self.words();
        !words.is_empty() && words.iter().all(|word| heredoc(&word.raw, self.escape).is_some())
    }

    fn find_form(&mut self, problems: &mut Vec<Problem>) {
        match self.keyword {
            Keyword::Healthcheck => {
                let words = words(&self.text, self.body.clone(), self.escape);
                if let Some(mode) = words.into_iter().next() {
                    self.body.start = mode.within.end;
                    self.mode = Some(mode);
                    self.json(problems);
                }
            }
            Keyword::Add
            | Keyword::Cmd
            | Keyword::Copy
            | Keyword::Entrypoint
            | Keyword::Run
            | Keyword::Shell
            | Keyword::Volume => self.json(problems),
            Keyword::Arg
            | Keyword::Env
            | Keyword::Expose
            | Keyword::From
            | Keyword::Label
            | Keyword::Maintainer
            | Keyword::Onbuild
            | Keyword::Stopsignal
            | Keyword::User
            | Keyword::Workdir
            | Keyword::Unknown => {}
        }
        // The body begins with its first word, whatever blanks stand before it.
        let body = self.body_text();
        self.body.start += body.len() - body.trim_start().len();
    }

    fn json(&mut self, problems: &mut Vec<Problem>) {
        let body = self.body_text();
        if !body.trim_start().starts_with('[') {
            return;
        }
        let from = self.body.start + body.len() - body.trim_start().len();
        let mut values = serde_json::Deserializer::from_str(&self.text.text()[from..self.body.end])
            .into_iter::<Vec<serde_json::Value>>();
        let Some(Ok(list)) = values.next() else { return };
        let end = from + values.byte_offset();
        if list.iter().any(|item| !item.is_string()) {
            let message = "a list in brackets may hold texts in double quotes and nothing else";
            problems.push(Problem::new(self.body_span(), message));
            return;
        }
        let mut words = Vec::with_capacity(list.len());
        let mut at = from;
        for item in list {
            let Some(range) = string_at(self.text.text(), at..end) else { break };
            at = range.end;
            let value = item.as_str().unwrap_or_default().to_owned();
            let raw = self.text.text()[range.clone()].to_owned();
            words.push(Word { raw, value, span: self.text.span(&range), within: range });
        }
        self.form = Form::Json(words);
    }

    /// What BuildKit's reader refuses.
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut wrong = |message: String| problems.push(Problem::new(self.head.clone(), message));
        match self.keyword {
            Keyword::Unknown => {
                let name = self.written.escape_debug();
                let near = Keyword::near(&self.written);
                let near = near.map(|name| format!("; is `{name}` meant?")).unwrap_or_default();
                let message = format!("there is no instruction `{name}`{near}");
                problems.push(Problem::new(self.keyword_span.clone(), message));
            }
            Keyword::Env | Keyword::Label => {
                let pairs = self.pairs();
                if pairs.is_empty() {
                    wrong(format!("`{}` names nothing", self.written));
                }
                for pair in pairs.iter().filter(|pair| pair.value.is_none()) {
                    wrong(format!("`{}` has no value", pair.name.raw.escape_debug()));
                }
                for pair in pairs.iter().filter(|pair| pair.name.value.is_empty()) {
                    wrong(format!("a value of `{}` has no name", pair.name.raw.escape_debug()));
                }
            }
            Keyword::From => match self.words().as_slice() {
                [_] => {}
                [_, between, _] if between.raw.eq_ignore_ascii_case("as") => {}
                [] => wrong("`FROM` names no image".to_owned()),
                [..] => wrong("write `FROM image` or `FROM image AS name`".to_owned()),
            },
            Keyword::Shell => {
                if !self.is_json() {
                    wrong("`SHELL` wants a list: `SHELL [\"/bin/bash\", \"-c\"]`".to_owned());
                }
            }
            Keyword::Copy | Keyword::Add => {
                if self.words().len() < 2 {
                    wrong(format!("`{}` wants a source and a destination", self.written));
                }
            }
            Keyword::Arg
            | Keyword::Expose
            | Keyword::Run
            | Keyword::User
            | Keyword::Volume
            | Keyword::Workdir
            | Keyword::Stopsignal
            | Keyword::Maintainer
            | Keyword::Onbuild => {
                if self.body.is_empty() {
                    wrong(format!("`{}` says nothing", self.written));
                }
            }
            Keyword::Healthcheck | Keyword::Cmd | Keyword::Entrypoint => {}
        }
    }
}

/// The next JSON text within `range`, its quotes included.
fn string_at(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let start = range.start + text[range.clone()].find('"')?;
    let mut escaped = false;
    for (offset, byte) in text.as_bytes()[start + 1..range.end].iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(start..start + offset + 2),
            _ => {}
        }
    }
    None
}

/// The flags at the beginning of `range`, and where what follows them begins.
fn flags(text: &Logical, range: Range<usize>, escape: char) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut start = range.start;
    for word in words(text, range, escape) {
        if !word.raw.starts_with("--") {
            break;
        }
        start = word.within.end;
        if word.raw == "--" {
            break;
        }
        let bare = &word.value[2..];
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (bare.to_owned(), None),
        };
        flags.push(Flag { name, value, span: word.span, text: word.value });
    }
    (flags, start)
}

/// Name, whether variables count, whether tabs are stripped: of `<<EOF`, `3<<-"EOF"` and the like.
fn heredoc(raw: &str, escape: char) -> Option<(String, bool, bool)> {
    let rest = raw.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strips, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let expands = !rest.contains(['"', '\'', escape]);
    Some((unquote(rest, escape), expands, strips))
}
