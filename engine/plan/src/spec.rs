//! The file as it was written: every key known, every value of the right shape, nothing resolved.
//!
//! Reading never stops at a problem: it notes it and goes on, so the whole file is told at once.

mod checkout;
mod gates;
mod params;
mod placement;
mod steps;

use std::collections::{BTreeSet, HashMap};

use fairlead_step::{CheckoutOptions, HumanDuration, StepId};

use crate::code::{BAD_DURATION, BAD_NAME, BAD_VALUE, MISSING_KEY, UNKNOWN_KEY, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node};
use crate::{
    Approval, AskAgain, Cache, Code, ConcurrencyPolicy, Diagnostic, Outcome, Param, Phase,
    Placement, Retry, RunOutcome, Span, suggest,
};

/// The value of `apiVersion` that this build reads.
pub(crate) const API_VERSION: &str = "fairlead.dev/v1";
/// The most steps a pipeline may have.
pub(crate) const MAX_STEPS: usize = 10_000;
/// The most characters of the name of a step with `on_undo`: the step that takes it back is called
/// `undo-` and that name.
pub(crate) const MAX_UNDO_NAME: usize = StepId::MOST - "undo-".len();

/// A pipeline as it was written.
#[derive(Default)]
pub(crate) struct Spec<'n> {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) on: Option<&'n Node>,
    pub(crate) params: Vec<(Param, Span)>,
    pub(crate) vars: Vec<VarSpec<'n>>,
    pub(crate) timeout: Option<HumanDuration>,
    pub(crate) concurrency: Option<GroupSpec<'n>>,
    pub(crate) checkout: CheckoutOptions,
    pub(crate) steps: Vec<StepSpec<'n>>,
}

/// An entry of `vars`.
pub(crate) struct VarSpec<'n> {
    pub(crate) name: &'n str,
    pub(crate) span: Span,
    pub(crate) value: &'n Node,
}

/// `concurrency` as it was written.
pub(crate) struct GroupSpec<'n> {
    pub(crate) group: &'n Node,
    pub(crate) policy: ConcurrencyPolicy,
    pub(crate) max: u32,
}

/// A step as it was written.
pub(crate) struct StepSpec<'n> {
    pub(crate) id: StepId,
    pub(crate) id_span: Span,
    pub(crate) phase: Phase,
    pub(crate) uses: Option<(&'n str, Span)>,
    pub(crate) gate: Option<GateSpec<'n>>,
    pub(crate) for_each: Option<ForEachSpec<'n>>,
    pub(crate) with: Option<&'n Node>,
    pub(crate) needs: Vec<NeedSpec<'n>>,
    pub(crate) when: Option<&'n Node>,
    pub(crate) wait: Option<AskAgain>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<HumanDuration>,
    pub(crate) cache: Option<(Cache, Span)>,
    pub(crate) undo: Option<UndoSpec<'n>>,
    pub(crate) on: BTreeSet<RunOutcome>,
    pub(crate) placement: Placement,
    pub(crate) description: Option<String>,
}

/// An entry of `needs`.
pub(crate) struct NeedSpec<'n> {
    pub(crate) step: &'n str,
    pub(crate) span: Span,
    pub(crate) outcomes: BTreeSet<Outcome>,
}

/// A gate as it was written. What could not be read is told, and left out.
pub(crate) enum GateSpec<'n> {
    Approval(Option<Approval>),
    Wait(Option<WaitSpec<'n>>),
}

/// What a gate of time waits for.
pub(crate) enum WaitSpec<'n> {
    For(HumanDuration),
    Until(&'n Node),
}

/// `for_each` as it was written: a list, or a text.
pub(crate) struct ForEachSpec<'n> {
    pub(crate) items: &'n Node,
    pub(crate) key: Option<&'n Node>,
    pub(crate) max_parallel: Option<u32>,
}

/// `on_undo` as it was written.
pub(crate) struct UndoSpec<'n> {
    pub(crate) span: Span,
    pub(crate) uses: Option<(&'n str, Span)>,
    pub(crate) with: Option<&'n Node>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<HumanDuration>,
}

const PIPELINE_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "description",
    "on",
    "params",
    "vars",
    "concurrency",
    "timeout",
    "workspace",
    "steps",
    "on_failure",
    "finally",
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
        self.fields_but(node, place, known, &[])
    }

    /// [`Self::fields`], where the keys `told` may stand besides: the caller has told of them.
    fn fields_but<'n>(
        &mut self,
        node: &'n Node,
        place: &str,
        known: &[&str],
        told: &[&str],
    ) -> &'n [Entry] {
        let Content::Map(entries) = &node.content else {
            self.wrong_shape(node, place, "a mapping");
            return &[];
        };
        let strange = |entry: &&Entry| {
            !known.contains(&entry.key.as_str()) && !told.contains(&entry.key.as_str())
        };
        for entry in entries.iter().filter(strange) {
            let key = entry.key.as_str();
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

    /// A whole number from 1.
    fn count(&mut self, node: &Node, place: &str) -> Option<u32> {
        let count = node.json().as_u64().and_then(|count| u32::try_from(count).ok());
        let count = count.filter(|count| *count > 0);
        if count.is_none() {
            self.error(BAD_VALUE, node.span, format!("{place} wants a whole number from 1"));
        }
        count
    }

    fn pipeline<'n>(&mut self, root: &'n Node) -> Spec<'n> {
        let entries = self.fields(root, "a pipeline", PIPELINE_KEYS);
        let start = Span { end: root.span.start, ..root.span };
        let mut spec = Spec::default();
        let mut seen = HashMap::new();
        for Entry { key, value, .. } in entries {
            match key.as_str() {
                "apiVersion" => {
                    self.word(value, "`apiVersion`", &[API_VERSION], |text| {
                        (text == API_VERSION).then_some(())
                    });
                }
                "kind" => {
                    self.word(value, "`kind`", &["Pipeline"], |text| {
                        (text == "Pipeline").then_some(())
                    });
                }
                "name" => {
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
                "vars" => {
                    let entries = self.named(value, "`vars`");
                    spec.vars.extend(entries.iter().filter_map(|entry| self.var(entry)));
                }
                "concurrency" => spec.concurrency = self.concurrency(value),
                "timeout" => spec.timeout = self.duration(value, "`timeout`"),
                "workspace" => spec.checkout = self.checkout(value),
                "steps" => {
                    let steps = self.named(value, "`steps`");
                    if steps.is_empty() && matches!(value.content, Content::Map(_)) {
                        self.error(BAD_VALUE, value.span, "`steps` has no steps");
                    }
                    self.steps(steps, Phase::Main, &mut seen, &mut spec.steps);
                }
                "on_failure" => {
                    let steps = self.named(value, "`on_failure`");
                    self.steps(steps, Phase::OnFailure, &mut seen, &mut spec.steps);
                }
                "finally" => {
                    let steps = self.named(value, "`finally`");
                    self.steps(steps, Phase::Finally, &mut seen, &mut spec.steps);
                }
                _ => {}
            }
        }
        if matches!(root.content, Content::Map(_)) {
            for (key, help) in [
                ("apiVersion", "add `apiVersion: fairlead.dev/v1`"),
                ("kind", "add `kind: Pipeline`"),
                ("name", "add `name: …`"),
                ("steps", "add `steps:` with at least one step"),
            ] {
                if root.get(key).is_none() {
                    self.missing(start, "the pipeline", key, help);
                }
            }
        }
        // The phases come in their order, wherever they stand in the file.
        spec.steps.sort_by_key(|step| step.phase);
        spec
    }

    fn concurrency<'n>(&mut self, node: &'n Node) -> Option<GroupSpec<'n>> {
        let plain = |group| GroupSpec { group, policy: ConcurrencyPolicy::Queue, max: 1 };
        if node.text().is_some() {
            return Some(plain(node));
        }
        let mut group = None;
        let (mut policy, mut max) = (ConcurrencyPolicy::Queue, 1);
        for Entry { key, value, .. } in
            self.fields(node, "`concurrency`", &["group", "policy", "max"])
        {
            match key.as_str() {
                "group" => group = self.text(value, "`group`").map(|_| value),
                "policy" => {
                    let words = ConcurrencyPolicy::ALL.map(ConcurrencyPolicy::name);
                    let read = ConcurrencyPolicy::from_name;
                    policy = self.word(value, "`policy`", &words, read).unwrap_or_default();
                }
                "max" => max = self.count(value, "`max`").unwrap_or(1),
                _ => {}
            }
        }
        if matches!(node.content, Content::Map(_)) && node.get("group").is_none() {
            let help = "name the group, as in `group: \"release/{{ params.version }}\"`";
            self.missing(node.span, "`concurrency`", "group", help);
        }
        Some(GroupSpec { policy, max, ..plain(group?) })
    }

    fn step_id(&mut self, text: &str, span: Span) -> Option<StepId> {
        match text.parse::<StepId>() {
            // A name with brackets is that of an item, and items are made by `for_each`.
            Ok(id) if id.parts().1.is_some() => {
                let message = format!("`{text}` is not a name: brackets may not stand in it");
                self.error(BAD_NAME, span, message).help =
                    Some("a step for each item has `for_each`".into());
                None
            }
            Ok(id) => Some(id),
            Err(error) => {
                self.error(BAD_NAME, span, error.to_string().replace("step name", "name"));
                None
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
