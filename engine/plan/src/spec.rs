//! The file as it was written: every key known, every value of the right shape, nothing resolved.
//!
//! Reading never stops at a problem: it notes it and goes on, so the whole file is told at once.

use std::collections::BTreeSet;

use fairlead_step::{HumanDuration, StepId};
use regex::Regex;

use crate::code::{
    BAD_DEFAULT, BAD_DURATION, BAD_NAME, BAD_PATTERN, BAD_VALUE, MISSING_KEY, NOT_SUPPORTED,
    TOO_LARGE, UNKNOWN_KEY, WRONG_SHAPE,
};
use crate::yaml::{Content, Entry, Node};
use crate::{
    Code, Diagnostic, Outcome, Param, ParamType, Phase, Retry, RetryOn, RunOutcome, Span, suggest,
};

/// The value of `apiVersion` that this build reads.
pub(crate) const API_VERSION: &str = "fairlead.dev/v1";
/// The most steps a pipeline may have.
const MAX_STEPS: usize = 2000;

/// A pipeline as it was written.
pub(crate) struct Spec<'n> {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) on: Option<&'n Node>,
    pub(crate) params: Vec<(Param, Span)>,
    pub(crate) timeout: Option<HumanDuration>,
    pub(crate) steps: Vec<StepSpec<'n>>,
}

/// A step as it was written.
pub(crate) struct StepSpec<'n> {
    pub(crate) id: StepId,
    pub(crate) id_span: Span,
    pub(crate) phase: Phase,
    pub(crate) uses: Option<(&'n str, Span)>,
    pub(crate) with: Option<&'n Node>,
    pub(crate) needs: Vec<NeedSpec<'n>>,
    pub(crate) when: Option<&'n Node>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<HumanDuration>,
    pub(crate) on: BTreeSet<RunOutcome>,
    pub(crate) description: Option<String>,
}

/// An entry of `needs`.
pub(crate) struct NeedSpec<'n> {
    pub(crate) step: &'n str,
    pub(crate) span: Span,
    pub(crate) outcomes: BTreeSet<Outcome>,
}

const PIPELINE_KEYS: &[&str] =
    &["apiVersion", "kind", "name", "description", "on", "params", "timeout", "steps", "finally"];
const STEP_KEYS: &[&str] = &["uses", "with", "needs", "when", "retry", "timeout", "description"];
const FINALLY_KEYS: &[&str] =
    &["uses", "with", "needs", "when", "retry", "timeout", "description", "on"];
/// Keys of the language that this build cannot act on, and what to do until it can.
const LATER_KEYS: &[(&str, &str)] = &[
    ("approval", "start a second pipeline by hand instead"),
    ("cache", "leave it away: every step runs"),
    ("concurrency", "leave it away: runs of a pipeline may overlap"),
    ("for_each", "write one step for each item"),
    ("on_failure", "use a step under `finally` with `on: [failed]`"),
    ("schedule", "let cron call `fairlead run`"),
    ("wait", "split the pipeline, and let an event start the second part"),
];

/// Reads the tree.
pub(crate) fn read<'n>(root: &'n Node, found: &mut Vec<Diagnostic>) -> Spec<'n> {
    Reader { found }.pipeline(root)
}

struct Reader<'f> {
    found: &'f mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.found.push(Diagnostic::error(code, span, message));
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    fn wrong_shape(&mut self, node: &Node, place: &str, wanted: &str) {
        let message = format!("{place} wants {wanted}, and this is {}", node.describe());
        self.error(WRONG_SHAPE, node.span, message);
    }

    /// The entries of a mapping with a fixed set of keys.
    fn fields<'n>(&mut self, node: &'n Node, place: &str, known: &[&str]) -> &'n [Entry] {
        let Content::Map(entries) = &node.content else {
            self.wrong_shape(node, place, "a mapping");
            return &[];
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let key = entry.key.as_str();
            if let Some((_, instead)) = LATER_KEYS.iter().find(|(later, _)| *later == key) {
                let message = format!("`{key}` is known, but not supported by this version");
                self.error(NOT_SUPPORTED, entry.key_span, message).help = Some((*instead).into());
                continue;
            }
            let near = suggest::nearest(key, known.iter().copied());
            let finding =
                self.error(UNKNOWN_KEY, entry.key_span, format!("{place} has no key `{key}`"));
            match near {
                Some(near) => {
                    finding.help = Some(format!("did you mean `{near}`?"));
                    // Where the right key stands besides, renaming this one would make it twice.
                    if !entries.iter().any(|other| other.key == near) {
                        let span = entry.key_span;
                        finding.fix = Some(crate::Fix { span, replacement: near.into() });
                    }
                }
                None => {
                    finding.help = Some(format!("it has {}", suggest::list(known.iter().copied())));
                }
            }
        }
        entries
    }

    /// The entries of a mapping whose keys are names that the author chose.
    fn named<'n>(&mut self, node: &'n Node, place: &str) -> &'n [Entry] {
        match &node.content {
            Content::Map(entries) => entries,
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::List(_) => {
                self.wrong_shape(node, place, "a mapping");
                &[]
            }
        }
    }

    fn text<'n>(&mut self, node: &'n Node, place: &str) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            self.wrong_shape(node, place, "a text");
        }
        text
    }

    fn missing(&mut self, span: Span, place: &str, key: &str, help: &str) {
        self.error(MISSING_KEY, span, format!("{place} has no `{key}`")).help = Some(help.into());
    }

    /// One of a fixed set of words.
    fn word<T>(
        &mut self,
        node: &Node,
        place: &str,
        words: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, place)?;
        let word = read(text);
        if word.is_none() {
            let message = format!("{place} cannot be `{text}`");
            self.error(BAD_VALUE, node.span, message).help = Some(choices(text, words));
        }
        word
    }

    fn duration(&mut self, node: &Node, place: &str) -> Option<HumanDuration> {
        if let Content::Number(number) = &node.content {
            let message = format!("{place} wants a duration, and `{number}` has no unit");
            let help = format!("write `{number}s` for seconds");
            self.error(BAD_DURATION, node.span, message).help = Some(help);
            return None;
        }
        let text = self.text(node, place)?;
        match text.parse::<HumanDuration>() {
            Ok(duration) if duration.0.is_zero() => {
                self.error(BAD_DURATION, node.span, format!("{place} cannot be zero"));
                None
            }
            Ok(duration) => Some(duration),
            Err(error) => {
                self.error(BAD_DURATION, node.span, error.to_string());
                None
            }
        }
    }

    fn pipeline<'n>(&mut self, root: &'n Node) -> Spec<'n> {
        let entries = self.fields(root, "a pipeline", PIPELINE_KEYS);
        let start = Span { end: root.span.start, ..root.span };
        let mut spec = Spec {
            name: None,
            description: None,
            on: None,
            params: Vec::new(),
            timeout: None,
            steps: Vec::new(),
        };
        let (mut has_version, mut has_kind, mut has_name, mut has_steps) =
            (false, false, false, false);
        for Entry { key, value, .. } in entries {
            match key.as_str() {
                "apiVersion" => {
                    has_version = true;
                    self.word(value, "`apiVersion`", &[API_VERSION], |text| {
                        (text == API_VERSION).then_some(())
                    });
                }
                "kind" => {
                    has_kind = true;
                    self.word(value, "`kind`", &["Pipeline"], |text| {
                        (text == "Pipeline").then_some(())
                    });
                }
                "name" => {
                    has_name = true;
                    if let Some(name) = self.text(value, "`name`") {
                        spec.name = self.step_id(name, value.span).map(|id| id.to_string());
                    }
                }
                "description" => {
                    spec.description = self.text(value, "`description`").map(str::to_owned);
                }
                "on" => spec.on = Some(value),
                "params" => {
                    for entry in self.named(value, "`params`") {
                        spec.params.extend(self.param(entry));
                    }
                }
                "timeout" => spec.timeout = self.duration(value, "`timeout`"),
                "steps" => {
                    has_steps = true;
                    let steps = self.named(value, "`steps`");
                    if steps.is_empty() && matches!(value.content, Content::Map(_)) {
                        self.error(BAD_VALUE, value.span, "`steps` has no steps");
                    }
                    self.steps(steps, Phase::Main, &mut spec.steps);
                }
                "finally" => {
                    let steps = self.named(value, "`finally`");
                    self.steps(steps, Phase::Finally, &mut spec.steps);
                }
                _ => {}
            }
        }
        if matches!(root.content, Content::Map(_)) {
            for (has, key, help) in [
                (has_version, "apiVersion", "add `apiVersion: fairlead.dev/v1`"),
                (has_kind, "kind", "add `kind: Pipeline`"),
                (has_name, "name", "add `name: …`"),
                (has_steps, "steps", "add `steps:` with at least one step"),
            ] {
                if !has {
                    self.missing(start, "the pipeline", key, help);
                }
            }
        }
        // Main steps come first, wherever `finally` stands in the file.
        spec.steps.sort_by_key(|step| step.phase);
        spec
    }

    fn step_id(&mut self, text: &str, span: Span) -> Option<StepId> {
        match text.parse::<StepId>() {
            Ok(id) => Some(id),
            Err(error) => {
                self.error(BAD_NAME, span, error.to_string().replace("step name", "name"));
                None
            }
        }
    }

    fn param(&mut self, Entry { key, key_span, value }: &Entry) -> Option<(Param, Span)> {
        const KEYS: &[&str] = &["type", "default", "pattern", "enum", "description"];
        let good = key.len() <= 63
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            let message = format!("`{}` is not a parameter's name", key.escape_debug());
            self.error(BAD_NAME, *key_span, message).help =
                Some("use letters, digits and `_`, and begin with a letter".into());
        }
        let place = format!("parameter `{key}`");
        let mut param = Param {
            name: key.clone(),
            kind: ParamType::String,
            default: None,
            pattern: None,
            choices: None,
            description: None,
        };
        let mut default = None;
        // A parameter with nothing behind its name is a text that must be given.
        let entries =
            if value.content == Content::Null { &[] } else { self.fields(value, &place, KEYS) };
        for Entry { key, value, .. } in entries {
            match key.as_str() {
                "type" => {
                    let words = ParamType::ALL.map(ParamType::name);
                    let read =
                        |text: &str| ParamType::ALL.into_iter().find(|kind| kind.name() == text);
                    param.kind =
                        self.word(value, "`type`", &words, read).unwrap_or(ParamType::String);
                }
                "default" => default = Some(value),
                "pattern" => {
                    if let Some(text) = self.text(value, "`pattern`") {
                        match Regex::new(text) {
                            Ok(_) => param.pattern = Some(text.to_owned()),
                            Err(error) => {
                                let said = error.to_string();
                                let cause = said.lines().last().unwrap_or(&said);
                                let message = format!("`{text}` is not a regular expression");
                                self.error(BAD_PATTERN, value.span, message).help =
                                    Some(cause.trim_start_matches("error: ").to_owned());
                            }
                        }
                    }
                }
                "enum" => {
                    if let Content::List(items) = &value.content
                        && !items.is_empty()
                    {
                        param.choices = Some(items.iter().map(Node::json).collect());
                    } else {
                        let message = "`enum` wants a list with at least one value";
                        self.error(WRONG_SHAPE, value.span, message);
                    }
                }
                "description" => {
                    param.description = self.text(value, "`description`").map(str::to_owned);
                }
                _ => {}
            }
        }
        if param.pattern.is_some() && param.kind != ParamType::String {
            let message = format!("{place}: only a string can have a pattern");
            self.error(BAD_VALUE, *key_span, message);
        }
        if let Some(list) = param.choices.take() {
            let typed = Param { pattern: None, ..param.clone() };
            let node = value.get("enum").map_or(value, |entry| &entry.value);
            for (index, choice) in list.iter().enumerate() {
                if let Err(problem) = typed.accept(choice) {
                    let span = node.at_pointer(&format!("/{index}"));
                    self.error(BAD_VALUE, span, format!("{place}: {problem}"));
                }
            }
            param.choices = Some(list);
        }
        if let Some(node) = default {
            match param.accept(&node.json()) {
                // A text is not read as a number here: the file can say which it means.
                Ok(value) if value == node.json() => param.default = Some(value),
                Ok(_) => {
                    let message = format!(
                        "{place}: its default is {}, not the {} itself",
                        node.describe(),
                        param.kind
                    );
                    self.error(BAD_DEFAULT, node.span, message).help =
                        Some("write it without quotes".into());
                }
                Err(problem) => {
                    self.error(BAD_DEFAULT, node.span, format!("{place}: its default {problem}"));
                }
            }
        }
        good.then_some((param, *key_span))
    }

    fn steps<'n>(&mut self, entries: &'n [Entry], phase: Phase, out: &mut Vec<StepSpec<'n>>) {
        for entry in entries {
            if out.len() == MAX_STEPS {
                let message = format!("a pipeline has at most {MAX_STEPS} steps");
                self.error(TOO_LARGE, entry.key_span, message);
                return;
            }
            if let Some(step) = self.step(entry, phase) {
                if let Some(first) = out.iter().find(|other| other.id == step.id) {
                    let first = first.id_span;
                    let message = format!("step `{}` stands under `steps` already", step.id);
                    let finding = self.error(BAD_NAME, entry.key_span, message);
                    finding.labels.push(crate::Label { span: first, text: "here".into() });
                } else {
                    out.push(step);
                }
            }
        }
    }

    fn step<'n>(
        &mut self,
        Entry { key, key_span, value }: &'n Entry,
        phase: Phase,
    ) -> Option<StepSpec<'n>> {
        let id = self.step_id(key, *key_span);
        let place = format!("step `{key}`");
        let keys = match phase {
            Phase::Main => STEP_KEYS,
            Phase::OnFailure | Phase::Finally => FINALLY_KEYS,
        };
        let entries = self.fields(value, &place, keys);
        let (mut uses, mut with, mut needs, mut when) = (None, None, Vec::new(), None);
        let (mut retry, mut timeout, mut description) = (Retry::default(), None, None);
        let mut on = BTreeSet::from(RunOutcome::ALL);
        for Entry { key, value, .. } in entries {
            match key.as_str() {
                "uses" => uses = self.text(value, "`uses`").map(|kind| (kind, value.span)),
                "with" => match &value.content {
                    Content::Map(_) => with = Some(value),
                    // `with:` with nothing behind it is an empty mapping.
                    Content::Null => {}
                    Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::List(_) => {
                        self.wrong_shape(value, "`with`", "a mapping")
                    }
                },
                "needs" => needs = self.needs(value),
                "when" => match &value.content {
                    Content::Text(_) | Content::Bool(_) => when = Some(value),
                    Content::Null | Content::Number(_) | Content::List(_) | Content::Map(_) => {
                        self.wrong_shape(value, "`when`", "an expression");
                    }
                },
                "retry" => retry = self.retry(value),
                "timeout" => timeout = self.duration(value, "`timeout`"),
                "on" if phase != Phase::Main => on = self.finally_on(value),
                "description" => {
                    description = self.text(value, "`description`").map(str::to_owned);
                }
                _ => {}
            }
        }
        let later = LATER_KEYS.iter().any(|(later, _)| value.get(later).is_some());
        if matches!(value.content, Content::Map(_)) && value.get("uses").is_none() && !later {
            self.missing(
                *key_span,
                &place,
                "uses",
                "name a step kind; `fairlead steps list` has them all",
            );
        }
        Some(StepSpec {
            id: id?,
            id_span: *key_span,
            phase,
            uses,
            with,
            needs,
            when,
            retry,
            timeout,
            on,
            description,
        })
    }

    fn needs<'n>(&mut self, node: &'n Node) -> Vec<NeedSpec<'n>> {
        let passed = || BTreeSet::from([Outcome::Passed]);
        let mut needs = Vec::new();
        match &node.content {
            Content::List(items) => {
                for item in items {
                    if let Some(step) = self.text(item, "an entry of `needs`") {
                        needs.push(NeedSpec { step, span: item.span, outcomes: passed() });
                    }
                }
            }
            Content::Map(entries) => {
                for Entry { key, key_span, value } in entries {
                    let outcomes = self.outcomes(value, "`needs`", Outcome::ALL, Outcome::name);
                    needs.push(NeedSpec { step: key, span: *key_span, outcomes });
                }
            }
            Content::Text(step) => {
                let message = "`needs` wants a list of steps, and this is a text";
                let finding = self.error(WRONG_SHAPE, node.span, message);
                *finding = finding.clone().help(format!("write `[{step}]`"));
                if step.parse::<StepId>().is_ok() {
                    let replacement = format!("[{step}]");
                    finding.fix = Some(crate::Fix { span: node.span, replacement });
                }
                needs.push(NeedSpec { step, span: node.span, outcomes: passed() });
            }
            Content::Null | Content::Bool(_) | Content::Number(_) => {
                self.wrong_shape(node, "`needs`", "a list of steps, or a mapping of them");
            }
        }
        needs
    }

    /// One word or a list of words out of `all`.
    fn outcomes<T: Copy + Ord, const N: usize>(
        &mut self,
        node: &Node,
        place: &str,
        all: [T; N],
        name: impl Fn(T) -> &'static str + Copy,
    ) -> BTreeSet<T> {
        let words = all.map(name);
        let read = |text: &str| all.into_iter().find(|outcome| name(*outcome) == text);
        match &node.content {
            Content::List(items) => {
                if items.is_empty() {
                    let message = format!("{place}: the list of outcomes is empty");
                    self.error(BAD_VALUE, node.span, message).help =
                        Some(format!("the outcomes are {}", suggest::list(words)));
                }
                items.iter().filter_map(|item| self.word(item, place, &words, read)).collect()
            }
            Content::Text(_) => self.word(node, place, &words, read).into_iter().collect(),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Map(_) => {
                self.wrong_shape(node, place, "a list of outcomes");
                BTreeSet::new()
            }
        }
    }

    fn finally_on(&mut self, node: &Node) -> BTreeSet<RunOutcome> {
        let always = |node: &Node| node.text() == Some("always");
        let is_always = always(node)
            || matches!(&node.content, Content::List(items) if items.iter().any(always));
        if is_always {
            return BTreeSet::from(RunOutcome::ALL);
        }
        self.outcomes(node, "`on`", RunOutcome::ALL, RunOutcome::name)
    }

    fn retry(&mut self, node: &Node) -> Retry {
        let mut retry = Retry::default();
        for Entry { key, value, .. } in self.fields(node, "`retry`", &["max", "backoff", "on"]) {
            match key.as_str() {
                "max" => {
                    let max = value.json().as_u64().and_then(|max| u32::try_from(max).ok());
                    if let Some(max) = max.filter(|max| *max <= Retry::MOST) {
                        retry.max = max;
                    } else {
                        let message =
                            format!("`max` wants a whole number from 0 to {}", Retry::MOST);
                        self.error(BAD_VALUE, value.span, message);
                    }
                }
                "backoff" => self.backoff(value, &mut retry),
                "on" => {
                    let words = ["infra", "timeout", "any"];
                    let read = |text: &str| match text {
                        "infra" => Some(RetryOn::Infra),
                        "timeout" => Some(RetryOn::Timeout),
                        "any" => Some(RetryOn::Any),
                        _ => None,
                    };
                    retry.on = self.word(value, "`on`", &words, read).unwrap_or_default();
                }
                _ => {}
            }
        }
        if matches!(node.content, Content::Map(_)) && node.get("max").is_none() {
            self.missing(node.span, "`retry`", "max", "say how many times, as in `max: 2`");
        }
        retry
    }

    /// `2s` for a fixed wait, `2s..1m` for one that doubles.
    fn backoff(&mut self, node: &Node, retry: &mut Retry) {
        let Some(text) = self.text(node, "`backoff`") else { return };
        let (first, cap) = text.split_once("..").unwrap_or((text, text));
        match (first.trim().parse::<HumanDuration>(), cap.trim().parse::<HumanDuration>()) {
            (Ok(first), Ok(cap)) if first <= cap => (retry.first, retry.cap) = (first, cap),
            (Ok(_), Ok(_)) => {
                let message = format!("`{text}` begins with the longer wait");
                self.error(BAD_DURATION, node.span, message).help =
                    Some(format!("write `{cap}..{first}`"));
            }
            (Err(error), _) | (_, Err(error)) => {
                self.error(BAD_DURATION, node.span, error.to_string()).help =
                    Some("write the first and the longest wait, as in `2s..1m`".into());
            }
        }
    }
}

fn choices(text: &str, words: &[&str]) -> String {
    match suggest::nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if words.len() == 1 => format!("write {}", suggest::list(words.iter().copied())),
        None => format!("it can be {}", suggest::list(words.iter().copied())),
    }
}
