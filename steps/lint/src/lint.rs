//! From a text to its findings.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::analysis::{Analysis, Out};
use crate::config::Config;
use crate::context::Context;
use crate::dockerfile::read;
use crate::finding::{Draft, Finding, Ignored, Places, fingerprint};
use crate::rule::{self, Severity};
use crate::{fix, pragma, rules};

/// The most bytes of a Dockerfile.
pub const MAX_DOCKERFILE: u64 = 1024 * 1024;
/// The most findings of one file that are told.
const MAX_FINDINGS: usize = 2000;

/// What was found in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linted {
    /// What counts, in the order of the text.
    pub findings: Vec<Finding>,
    /// What somebody answers for, or a comment ignores.
    pub ignored: Vec<Ignored>,
    /// What else there is to say: entries of the configuration that are expired, or match nothing.
    pub notes: Vec<String>,
}

/// Looks at the Dockerfile `text`, called `name` in findings, on the day `today`.
#[must_use]
pub fn lint(
    name: &str,
    text: &str,
    config: &Config,
    context: Option<&Context>,
    today: Date,
) -> Linted {
    let file = read(text);
    let mut out = Out::default();
    {
        let analysis = Analysis::new(text, &file, config, context);
        rules::all(&analysis, &mut out);
    }
    let pragmas = pragma::pragmas(&file);
    let (mut counted, ignored, unused) = pragma::sift(out.drafts, &pragmas);
    for pragma in pragmas.iter().filter(|pragma| pragma.shell.is_none()) {
        let message = "a comment ignores rules here";
        counted.push(draft(&rule::PRAGMA, pragma, message.to_owned()));
    }
    for (index, code) in unused {
        let message = format!("`{code}` is ignored, and there is nothing to ignore");
        counted.push(draft(&rule::UNUSED_IGNORE, &pragmas[index], message));
    }
    let mut words = Words { name, text, config, places: Places::new(text), seen: BTreeMap::new() };
    let mut findings = words.all(counted);
    let by_comment = words.all(ignored);
    findings.truncate(MAX_FINDINGS);
    let sifted = config.sift(findings, today);
    let comments = by_comment.into_iter().map(|finding| Ignored {
        finding,
        owner: None,
        reason: Some("a comment in the file".to_owned()),
        expires: None,
    });
    Linted {
        findings: sifted.findings,
        ignored: sifted.ignored.into_iter().chain(comments).collect(),
        notes: sifted.notes,
    }
}

/// The text with every fix applied that is certain. Nothing else of it changes, and doing it again
/// changes nothing.
#[must_use]
pub fn fixed(
    name: &str,
    text: &str,
    config: &Config,
    context: Option<&Context>,
    today: Date,
) -> String {
    fix::mend(text, |text| lint(name, text, config, context, today).findings)
}

fn draft(rule: &'static rule::Rule, pragma: &pragma::Pragma, message: String) -> Draft {
    let span = pragma.span.clone();
    Draft { rule, span, message, help: None, fix: None, line: pragma.line }
}

struct Words<'a> {
    name: &'a str,
    text: &'a str,
    config: &'a Config,
    places: Places<'a>,
    /// How often a rule found the same text.
    seen: BTreeMap<(&'static str, String), usize>,
}

impl Words<'_> {
    /// The findings of rules that are not off, in the order of the text, each once.
    fn all(&mut self, mut drafts: Vec<Draft>) -> Vec<Finding> {
        drafts.sort_by_key(|draft| (draft.span.start, draft.rule.code, draft.span.end));
        drafts.dedup_by(|a, b| {
            a.rule.code == b.rule.code && a.span == b.span && a.message == b.message
        });
        let mut findings = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            let severity = self.config.severity(draft.rule);
            if severity == Severity::Off {
                continue;
            }
            if let Some(fix) = &mut draft.fix {
                fix.edits.sort_by_key(|edit| edit.start);
            }
            let about = self.text.get(draft.span.clone()).unwrap_or_default().to_owned();
            let nth = self.seen.entry((draft.rule.code, about.clone())).or_default();
            *nth += 1;
            findings.push(Finding {
                code: draft.rule.code,
                alias: draft.rule.alias,
                severity,
                file: self.name.to_owned(),
                place: self.places.of(&draft.span),
                message: draft.message,
                why: draft.rule.why,
                help: draft.help.unwrap_or_else(|| draft.rule.fix.to_owned()),
                fix: draft.fix,
                fingerprint: fingerprint(draft.rule.code, self.name, &about, *nth),
            });
        }
        findings
    }
}
