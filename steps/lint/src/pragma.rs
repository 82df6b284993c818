//! Comments that ignore rules: `# hadolint ignore=DL3008`, `# fairlead ignore=FLD0201`, and the same
//! with `global`.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::dockerfile::{Comment, Dockerfile};
use crate::finding::Draft;
use crate::rule::{Rule, rules};

/// A comment that ignores rules.
#[derive(Debug)]
pub(crate) struct Pragma {
    /// The line of the instruction it stands above; none when it is for the whole file.
    target: Option<usize>,
    /// The rules that it names and we have.
    rules: Vec<&'static Rule>,
    pub(crate) span: Range<usize>,
    pub(crate) line: usize,
    /// The shell that it says the stage has.
    pub(crate) shell: Option<String>,
}

/// The comments of a file that are more than comments.
pub(crate) fn pragmas(file: &Dockerfile) -> Vec<Pragma> {
    file.comments.iter().filter_map(|comment| pragma(comment, file)).collect()
}

fn pragma(comment: &Comment, file: &Dockerfile) -> Option<Pragma> {
    let rest = ["hadolint", "fairlead"].iter().find_map(|tool| {
        let rest = comment.text.strip_prefix(tool)?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
    })?;
    let mut found = Pragma {
        target: None,
        rules: Vec::new(),
        span: comment.span.clone(),
        line: comment.line,
        shell: None,
    };
    if let Some(shell) = setting(rest, "shell") {
        found.shell = Some(shell.trim().to_owned());
        return Some(found);
    }
    let (global, rest) = match rest.strip_prefix("global") {
        Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
        Some(_) | None => (false, rest),
    };
    let list = setting(rest, "ignore")?;
    // Behind a `#` stands why.
    let list = list.split('#').next().unwrap_or_default();
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    found.rules = names.flat_map(rules).collect();
    if !global {
        let below = file.instructions.iter().find(|next| next.line > comment.line)?;
        found.target = Some(below.line);
    }
    Some(found)
}

fn setting<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.trim_start().strip_prefix('=')
}

/// Parts the findings: those that count, and those that a comment ignores. What ignores nothing is
/// told by the third.
pub(crate) fn sift(
    drafts: Vec<Draft>,
    pragmas: &[Pragma],
) -> (Vec<Draft>, Vec<Draft>, Vec<(usize, &'static str)>) {
    let (mut counted, mut ignored) = (Vec::new(), Vec::new());
    let mut used: BTreeSet<(usize, &str)> = BTreeSet::new();
    for draft in drafts {
        let mut by = false;
        for (index, pragma) in pragmas.iter().enumerate() {
            let here = pragma.target.is_none_or(|line| line == draft.line);
            if here && pragma.rules.iter().any(|rule| rule.code == draft.rule.code) {
                used.insert((index, draft.rule.code));
                by = true;
            }
        }
        if by { ignored.push(draft) } else { counted.push(draft) }
    }
    let mut unused = Vec::new();
    for (index, pragma) in pragmas.iter().enumerate() {
        let idle = pragma.rules.iter().filter(|rule| !used.contains(&(index, rule.code)));
        unused.extend(idle.map(|rule| (index, rule.code)));
    }
    (counted, ignored, unused)
}
