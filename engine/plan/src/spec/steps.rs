//! Steps: the keys of each, and what stands under `needs`, `on`, `retry`, `cache` and `on_undo`.

use std::collections::{BTreeSet, HashMap};

use fairlead_step::{HumanDuration, StepId};

use super::{MAX_STEPS, MAX_UNDO_NAME, NeedSpec, Reader, StepSpec, UndoSpec};
use crate::code::{BAD_DURATION, BAD_NAME, BAD_VALUE, CONFLICT, TOO_LARGE, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node};
use crate::{Cache, Label, Outcome, Phase, Placement, Retry, RetryOn, RunOutcome, Span, suggest};

const STEP_KEYS: &[&str] = &[
    "uses",
    "with",
    "needs",
    "when",
    "for_each",
    "wait",
    "approval",
    "retry",
    "timeout",
    "cache",
    "on_undo",
    "pool",
    "labels",
    "resources",
    "description",
    "on",
];
/// The keys of a step that say how its kind works; a gate has no kind.
const WORK_KEYS: [&str; 8] =
    ["with", "retry", "cache", "for_each", "on_undo", "pool", "labels", "resources"];

impl Reader<'_> {
    pub(super) fn steps<'n>(
        &mut self,
        entries: &'n [Entry],
        phase: Phase,
        seen: &mut HashMap<StepId, (Phase, Span)>,
        out: &mut Vec<StepSpec<'n>>,
    ) {
        for entry in entries {
            if out.len() == MAX_STEPS {
                let message = format!("a pipeline has at most {MAX_STEPS} steps");
                self.error(TOO_LARGE, entry.key_span, message);
                return;
            }
            let Some(step) = self.step(entry, phase) else { continue };
            if let Some((first, span)) = seen.get(&step.id) {
                let message = format!("step `{}` stands under `{}` already", step.id, first.key());
                let finding = self.error(BAD_NAME, entry.key_span, message);
                finding.labels.push(Label { span: *span, text: "here".into() });
            } else {
                seen.insert(step.id.clone(), (phase, entry.key_span));
                out.push(step);
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
        let entries = match phase {
            Phase::Main => {
                if let Some(on) = value.get("on") {
                    let message = format!("{place} stands under `steps`, where no `on` may stand");
                    self.error(CONFLICT, on.key_span, message).help = Some(
                        "it says after which end of the run a step under `on_failure` or \
                         `finally` runs; a main step has `when`, and `needs` with outcomes"
                            .into(),
                    );
                }
                self.fields_but(value, &place, &STEP_KEYS[..STEP_KEYS.len() - 1], &["on"])
            }
            Phase::OnFailure | Phase::Finally => self.fields(value, &place, STEP_KEYS),
        };
        let gate = self.gate(&place, *key_span, value);
        let mut step = StepSpec {
            // Whatever else is wrong with a step whose name is malformed is told as well.
            id: id.clone().or_else(|| "nameless".parse().ok())?,
            id_span: *key_span,
            phase,
            uses: None,
            for_each: None,
            with: None,
            needs: Vec::new(),
            when: None,
            wait: None,
            retry: Retry::default(),
            timeout: None,
            cache: None,
            undo: None,
            on: match phase {
                Phase::Main | Phase::Finally => BTreeSet::from(RunOutcome::ALL),
                Phase::OnFailure => failures(),
            },
            placement: Placement::default(),
            description: None,
            gate,
        };
        for Entry { key, key_span, value } in entries {
            match key.as_str() {
                "uses" => step.uses = self.text(value, "`uses`").map(|kind| (kind, value.span)),
                "with" => step.with = self.with(value),
                "needs" => step.needs = self.needs(value),
                "when" => match &value.content {
                    Content::Text(_) | Content::Bool(_) => step.when = Some(value),
                    Content::Null | Content::Number(_) | Content::List(_) | Content::Map(_) => {
                        self.wrong_shape(value, "`when`", "an expression");
                    }
                },
                "for_each" => step.for_each = self.for_each(value),
                "wait" if step.gate.is_none() => step.wait = self.ask_again(value),
                "retry" => step.retry = self.retry(value),
                "timeout" => step.timeout = self.duration(value, "`timeout`"),
                "cache" => step.cache = self.cache(value).map(|cache| (cache, *key_span)),
                "on_undo" => step.undo = self.on_undo(value, *key_span),
                "pool" => step.placement.pool = self.pool(value),
                "labels" => step.placement.labels = self.labels(value),
                "resources" => step.placement.resources = self.resources(value),
                "on" if phase == Phase::OnFailure => step.on = self.on_failure_on(value),
                "on" if phase == Phase::Finally => step.on = self.finally_on(value),
                "description" => {
                    step.description = self.text(value, "`description`").map(str::to_owned);
                }
                _ => {}
            }
        }
        if step.gate.is_some() {
            // Each has been told; nothing further is made of them.
            (step.with, step.retry, step.cache) = (None, Retry::default(), None);
            (step.for_each, step.undo, step.timeout) = (None, None, None);
            step.placement = Placement::default();
        }
        if step.undo.is_some() && key.len() > MAX_UNDO_NAME {
            let message = format!("`{key}` is longer than {MAX_UNDO_NAME} characters");
            self.error(BAD_NAME, *key_span, message).help = Some(
                "a step with `on_undo` has a shorter name: `undo-` and that name take it back"
                    .into(),
            );
        }
        id.map(|_| step)
    }

    /// Tells of the keys that a gate cannot have beside `word`, its own.
    pub(super) fn keys_of_gate(&mut self, place: &str, word: &str, step: &Node) {
        for key in WORK_KEYS {
            if let Some(entry) = step.get(key) {
                let message = format!("{place} is a gate, and a gate takes no `{key}`");
                self.error(CONFLICT, entry.key_span, message).help =
                    Some(format!("beside `{word}` stand `needs`, `when` and `description`"));
            }
        }
        if let Some(entry) = step.get("timeout") {
            let message = format!("{place} is a gate, and a gate takes no `timeout`");
            let help = match word {
                "approval" => "use `expires` within `approval`",
                _ => "`wait` says itself how long it is",
            };
            self.error(CONFLICT, entry.key_span, message).help = Some(help.into());
        }
    }

    fn with<'n>(&mut self, node: &'n Node) -> Option<&'n Node> {
        match &node.content {
            Content::Map(_) => Some(node),
            // `with:` with nothing behind it is an empty mapping.
            Content::Null => None,
            Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::List(_) => {
                self.wrong_shape(node, "`with`", "a mapping");
                None
            }
        }
    }

    /// `true`, `false`, or how long a result stands.
    fn cache(&mut self, node: &Node) -> Option<Cache> {
        match &node.content {
            Content::Bool(cached) => cached.then_some(Cache { ttl: None }),
            Content::Map(_) => {
                let mut cache = Cache { ttl: None };
                for Entry { key, value, .. } in self.fields(node, "`cache`", &["ttl"]) {
                    if key == "ttl" {
                        cache.ttl = self.duration(value, "`ttl`");
                    }
                }
                Some(cache)
            }
            Content::Null | Content::Number(_) | Content::Text(_) | Content::List(_) => {
                self.wrong_shape(node, "`cache`", "`true`, `false`, or `{ttl: 7d}`");
                None
            }
        }
    }

    fn on_undo<'n>(&mut self, node: &'n Node, span: Span) -> Option<UndoSpec<'n>> {
        let mut undo =
            UndoSpec { span, uses: None, with: None, retry: Retry::default(), timeout: None };
        let known = ["uses", "with", "retry", "timeout"];
        for Entry { key, value, .. } in self.fields(node, "`on_undo`", &known) {
            match key.as_str() {
                "uses" => undo.uses = self.text(value, "`uses`").map(|kind| (kind, value.span)),
                "with" => undo.with = self.with(value),
                "retry" => undo.retry = self.retry(value),
                "timeout" => undo.timeout = self.duration(value, "`timeout`"),
                _ => {}
            }
        }
        if !matches!(node.content, Content::Map(_)) {
            return None;
        }
        if node.get("uses").is_none() {
            let help = "name the step kind that takes the step back";
            self.missing(span, "`on_undo`", "uses", help);
        }
        Some(undo)
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
                finding.help = Some(format!("write `[{step}]`"));
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

    /// What `on` of a step under `on_failure` may have: a run that passed is no failure.
    fn on_failure_on(&mut self, node: &Node) -> BTreeSet<RunOutcome> {
        let passes =
            |node: &&Node| node.text().is_some_and(|word| matches!(word, "passed" | "always"));
        let word = match &node.content {
            Content::List(items) => items.iter().find(passes),
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::Text(_)
            | Content::Map(_) => Some(node).filter(passes),
        };
        if let Some(word) = word {
            let text = word.text().unwrap_or_default();
            let message = format!("`on` of a step under `on_failure` cannot be `{text}`");
            self.error(BAD_VALUE, word.span, message).help =
                Some("what runs after a good run, too, stands under `finally`".into());
            return failures();
        }
        let on = self.outcomes(node, "`on`", RunOutcome::ALL, RunOutcome::name);
        if on.is_empty() { failures() } else { on }
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

/// The ends of a run that steps under `on_failure` are for.
fn failures() -> BTreeSet<RunOutcome> {
    BTreeSet::from([RunOutcome::Rejected, RunOutcome::Failed, RunOutcome::Cancelled])
}
