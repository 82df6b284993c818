//! Rules about how the file is written.

use crate::analysis::{Analysis, Out};
use crate::dockerfile::{Keyword, Pair};
use crate::rule;

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for problem in &a.file.problems {
        let at = problem.span.start;
        let line = a.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        out.add(&rule::SYNTAX, problem.span.clone(), line, problem.message.clone());
    }
    order(a, out);
    for step in &a.steps {
        let instruction = step.instruction;
        if instruction.keyword == Keyword::Unknown {
            continue;
        }
        let upper = instruction.written.to_ascii_uppercase();
        if instruction.written != upper {
            let message = format!("`{}` is not in capitals", instruction.written);
            let span = instruction.keyword_span.clone();
            out.tell(&rule::KEYWORD_CASE, instruction, span.clone(), message).edit(span, upper);
        }
        let nested =
            matches!(instruction.keyword, Keyword::Onbuild | Keyword::From | Keyword::Maintainer);
        if instruction.onbuild && nested {
            let name = instruction.written.to_ascii_uppercase();
            let message = format!("`{name}` cannot stand behind `ONBUILD`");
            let span = instruction.keyword_span.clone();
            out.tell(&rule::ONBUILD_NESTED, instruction, span, message);
        }
        if let Some(first) = instruction.blanks.first() {
            let message = "there is a blank line within this instruction";
            let draft = out.tell(&rule::BLANK_CONTINUATION, instruction, first.clone(), message);
            for blank in &instruction.blanks {
                draft.edit(blank.clone(), "");
            }
        }
        if matches!(instruction.keyword, Keyword::Env | Keyword::Label) {
            let pairs = instruction.pairs();
            if let [pair @ Pair { equals: false, value: Some(value), .. }] = pairs.as_slice() {
                let message = format!(
                    "`{} {}` has no `=`",
                    instruction.written.to_ascii_uppercase(),
                    pair.name.raw
                );
                let span = pair.name.span.start..value.span.end;
                let draft = out.tell(&rule::OLD_PAIR, instruction, span, message);
                let gap = pair.name.span.end..value.span.start;
                let plain = |c: char| c.is_ascii_alphanumeric() || "/._:,+@%^~-${}".contains(c);
                if value.raw.chars().all(plain) {
                    draft.edit(gap, "=");
                } else if value.raw.chars().all(|c| plain(c) || " ()[]<>&|;#*?!'".contains(c))
                    && value.span.len() == value.raw.len()
                    && !value.raw.contains('\'')
                {
                    draft.edit(gap, "=\"").edit(value.span.end..value.span.end, "\"");
                }
            }
        }
    }
}

/// What stands before the first `FROM` and is no `ARG`.
fn order(a: &Analysis<'_>, out: &mut Out) {
    let before = a.steps.iter().take_while(|step| step.stage.is_none());
    for step in before.filter(|step| {
        !matches!(step.instruction.keyword, Keyword::Arg | Keyword::Unknown | Keyword::From)
    }) {
        let name = step.instruction.written.to_ascii_uppercase();
        let span = step.instruction.keyword_span.clone();
        let message = format!("`{name}` stands before the first `FROM`");
        out.tell(&rule::ORDER, step.instruction, span, message);
    }
    if a.stages.is_empty() && !a.steps.is_empty() && a.file.problems.is_empty() {
        let first = a.steps[0].instruction;
        let message = "there is no `FROM` in the file";
        out.tell(&rule::ORDER, first, first.keyword_span.clone(), message);
    }
}
