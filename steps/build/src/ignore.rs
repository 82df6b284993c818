//! `.dockerignore`: which files of a context stay behind, by the rules that Docker documents.
//!
//! A line is a comment when it begins with `#`. `*` and `?` stop at `/`, `**` does not, `[…]` is a
//! class, `\` takes the next character as it is. A leading `!` takes back what an earlier line left
//! out. The last line that matches a path, or one of the folders above it, decides.

use regex::Regex;

/// The most bytes of a `.dockerignore` file.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// The rules of one `.dockerignore`.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Whether it began with `!`.
    keep: bool,
    /// The cleaned pattern, for the decision whether to look into a folder that is left out.
    text: String,
    regex: Regex,
}

/// Why a line is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct IgnoreError {
    /// Counts from 1.
    pub(crate) line: usize,
    problem: String,
}

impl Ignore {
    /// Reads the rules.
    pub(crate) fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let fail = |problem: String| Err(IgnoreError { line: index + 1, problem });
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if keep {
                    return fail("`!` stands alone; write the path to keep behind it".into());
                }
                continue;
            }
            let text = clean(pattern);
            match Regex::new(&expression(&text)) {
                Ok(regex) => rules.push(Rule { keep, text, regex }),
                Err(_) => return fail(format!("`{pattern}` is not a pattern")),
            }
        }
        Ok(Self { rules })
    }

    /// Whether `path` (relative, with `/`) stays behind. `above` is the answer of
    /// [`Ignore::decide`] for the folder that holds it.
    pub(crate) fn decide(&self, path: &str, above: &Decision) -> Decision {
        let mut matched = Vec::with_capacity(self.rules.len());
        let mut left_out = false;
        for (index, rule) in self.rules.iter().enumerate() {
            let inherits = above.matched.get(index).copied().unwrap_or(false);
            let matches = inherits || rule.regex.is_match(path);
            matched.push(matches);
            if matches {
                left_out = !rule.keep;
            }
        }
        Decision { matched, left_out }
    }

    /// Whether the rules leave out `path`, by itself or with a folder that it is in.
    pub(crate) fn leaves_out(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let mut decision = Decision::default();
        for end in ends {
            decision = self.decide(&path[..end], &decision);
        }
        decision.left_out
    }

    /// Whether something below the left-out folder `path` can still be kept.
    pub(crate) fn may_keep_below(&self, path: &str) -> bool {
        self.rules.iter().any(|rule| rule.keep && can_match_below(&rule.text, path))
    }
}

/// What the rules say of one path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decision {
    /// Which rules match the path or a folder above it.
    matched: Vec<bool>,
    /// Whether the path stays behind.
    pub(crate) left_out: bool,
}

/// Drops `.`, empty parts and what `..` takes back, and the leading slash.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Nothing is above the context: a rooted path cannot leave it.
            ".." if pattern.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}

/// The regular expression of a cleaned pattern, for whole paths.
fn expression(pattern: &str) -> String {
    let mut out = String::from("^(?s)");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                if rest.peek() == Some(&'/') {
                    rest.next();
                }
                out.push_str(if rest.peek().is_none() { ".*" } else { "(?:.*/)?" });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' | ']' => out.push(c),
            '\\' => {
                if let Some(next) = rest.next() {
                    push_literal(&mut out, next);
                }
            }
            _ => push_literal(&mut out, c),
        }
    }
    out.push('$');
    out
}

fn push_literal(out: &mut String, c: char) {
    // Within a class `-` and `^` keep their meaning; everywhere else they need no escape.
    if matches!(c, '-' | '^') && out.rfind('[') > out.rfind(']') {
        out.push(c);
    } else {
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// Whether `pattern` can match a path below the folder `path`: true whenever that is not certain
/// to be false.
fn can_match_below(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    for part in path.split('/') {
        match wanted.next() {
            // The pattern names a folder above: everything below it is kept.
            None => return true,
            Some(want) if want.contains(['*', '?', '[', '\\']) => return true,
            Some(want) if want == part => {}
            Some(_) => return false,
        }
    }
    wanted.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each path is left out, folder by folder as the walk asks.
    fn left_out(rules: &str, path: &str) -> bool {
        let ignore = Ignore::parse(rules).unwrap();
        let mut decision = Decision::default();
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            decision = ignore.decide(&path[..at + slash], &decision);
            at += slash + 1;
        }
        ignore.decide(path, &decision).left_out
    }

    #[test]
    fn the_documented_examples_hold() {
        let cases: &[(&str, &str, bool)] = &[
            // Rules, path, left out?
            ("# comment\n*/temp*", "somedir/temporary.txt", true),
            ("*/temp*", "somedir/temp", true),
            ("*/temp*", "temp", false),
            ("*/*/temp*", "somedir/subdir/temporary.txt", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("temp?", "temp/", false),
            ("**/*.go", "main.go", true),
            ("**/*.go", "a/b/main.go", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "other.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-notes.md", false),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            // A folder takes everything below it along.
            ("node_modules", "node_modules/a/index.js", true),
            ("node_modules", "web/node_modules/a/index.js", false),
            ("**/node_modules", "web/node_modules/a/index.js", true),
            ("/target", "target/debug/x", true),
            ("./a/../b/", "b/c", true),
            ("../../b", "b", false),
            ("/../b", "b", true),
            ("*\n!api\n!vendor/wheels", "api/shop.py", false),
            ("*\n!api\n!vendor/wheels", "vendor/wheels/x.whl", false),
            ("*\n!api\n!vendor/wheels", "vendor/other", true),
            ("*\n!api\n**/*.log", "api/deep/a.log", true),
            // Meta characters of regular expressions are plain text; classes work.
            ("a.b", "axb", false),
            ("a+b", "a+b", true),
            ("a[0-9]b", "a5b", true),
            ("a[^0-9]b", "a5b", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**", "any/thing", true),
            ("a**/b", "axx/yy/b", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            (" padded \n", "padded", true),
            (" #not-a-comment", "#not-a-comment", true),
            ("\u{feff}bom", "bom", true),
            ("", "anything", false),
        ];
        for (rules, path, expected) in cases {
            assert_eq!(left_out(rules, path), *expected, "{rules:?} and {path}");
        }
    }

    #[test]
    fn a_folder_is_looked_into_when_something_below_may_be_kept() {
        let ignore = Ignore::parse("*\n!vendor/wheels\n!**/keep.me\n").unwrap();
        assert!(ignore.may_keep_below("vendor"));
        assert!(ignore.may_keep_below("anything"));
        let ignore = Ignore::parse("*\n!vendor/wheels\n").unwrap();
        assert!(ignore.may_keep_below("vendor"));
        assert!(!ignore.may_keep_below("node_modules"));
        assert!(!ignore.may_keep_below("vendor/other"));
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        assert_eq!(
            Ignore::parse("a\n!\n").unwrap_err().to_string(),
            "line 2: `!` stands alone; write the path to keep behind it"
        );
        assert_eq!(Ignore::parse("a[").unwrap_err().to_string(), "line 1: `a[` is not a pattern");
    }
}
