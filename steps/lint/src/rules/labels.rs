//! Rules about labels.

use std::collections::BTreeSet;

use crate::analysis::{Analysis, Out};
use crate::config::LabelKind;
use crate::dockerfile::{Instruction, Keyword};
use crate::rule::{self, Rule};

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for (_, instruction) in a.with(Keyword::Label) {
        for pair in instruction.pairs() {
            let name = pair.name.value.as_str();
            let span = pair.name.span.clone();
            if !is_key(name) && !pair.name.has_variable() {
                let message = format!("`{}` is not a good name of a label", name.escape_debug());
                out.tell(&rule::LABEL_KEY, instruction, span.clone(), message);
            }
            let kind = a.config.labels.get(name);
            if kind.is_none() && a.config.strict_labels {
                let message =
                    format!("the label `{}` is not among those allowed", name.escape_debug());
                out.tell(&rule::LABEL_EXTRA, instruction, span.clone(), message);
            }
            let Some(value) = pair.value else { continue };
            if let Some(kind) = kind {
                check(instruction, name, *kind, &value.value, value.span, out);
            }
        }
    }
    missing(a, out);
}

/// Names as Docker's guide asks for them, and none of its reserved ones.
fn is_key(name: &str) -> bool {
    let reserved = ["com.docker.", "io.docker.", "org.dockerproject."];
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(inner)
        && !name.contains("..")
        && !name.contains("--")
        && !reserved.iter().any(|prefix| name.starts_with(prefix))
}

fn check(
    instruction: &Instruction,
    name: &str,
    kind: LabelKind,
    value: &str,
    span: std::ops::Range<usize>,
    out: &mut Out,
) {
    let name = name.escape_debug();
    if value.is_empty() {
        let message = format!("the label `{name}` is empty");
        out.tell(&rule::LABEL_EMPTY, instruction, span, message);
        return;
    }
    let (rule, fits, what): (&'static Rule, bool, &str) = match kind {
        LabelKind::Text => return,
        LabelKind::Url => (&rule::LABEL_URL, url::Url::parse(value).is_ok(), "a URL"),
        LabelKind::Rfc3339 => {
            (&rule::LABEL_TIME, value.parse::<jiff::Timestamp>().is_ok(), "a time of RFC 3339")
        }
        LabelKind::Semver => {
            (&rule::LABEL_SEMVER, semver::Version::parse(value).is_ok(), "a semantic version")
        }
        LabelKind::Hash => {
            let digits = value.bytes().all(|byte| byte.is_ascii_hexdigit());
            (&rule::LABEL_HASH, digits && (7..=64).contains(&value.len()), "a hash of git")
        }
        LabelKind::Spdx => {
            (&rule::LABEL_LICENSE, spdx::Expression::parse(value).is_ok(), "an identifier of SPDX")
        }
        LabelKind::Email => {
            let mail = value.split_once('@').is_some_and(|(user, host)| {
                let fits =
                    |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
                !user.is_empty()
                    && user.chars().all(fits)
                    && host.contains('.')
                    && host.split('.').all(|part| {
                        !part.is_empty()
                            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                    })
            });
            (&rule::LABEL_EMAIL, mail, "an address of mail")
        }
    };
    if !fits {
        let message = format!("the label `{name}` is not {what}");
        out.tell(rule, instruction, span, message);
    }
}

fn missing(a: &Analysis<'_>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    let lineage = a.lineage(last);
    let labels = lineage
        .iter()
        .map(|index| a.steps[*index].instruction)
        .filter(|instruction| instruction.keyword == Keyword::Label);
    let given: BTreeSet<String> =
        labels.flat_map(Instruction::pairs).map(|pair| pair.name.value).collect();
    for name in a.config.labels.keys().filter(|name| !given.contains(*name)) {
        let from = a.steps[a.stages[last].from].instruction;
        let message = format!("the label `{}` is missing", name.escape_debug());
        out.tell(&rule::LABEL_MISSING, from, from.head.clone(), message);
    }
}
