//! Gates, and what makes one step many: `approval`, `wait`, `for_each`.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_step::HumanDuration;
use jiff::Timestamp;

use super::{ForEachSpec, GateSpec, Reader, WaitSpec};
use crate::code::{BAD_DURATION, BAD_VALUE, CONFLICT, WRONG_SHAPE};
use crate::yaml::{Content, Entry, Node};
use crate::{Approval, AskAgain, Diagnostic, Excluded, Fix, ForEach, Span, suggest, template};

/// How long a step waits before it asks again, when the file does not say.
const EVERY: HumanDuration = HumanDuration(Duration::from_secs(60));
/// The most characters of a user's or a group's name.
const MAX_NAME: usize = 200;
/// The words of `not` that are no names.
const WORDS: [&str; 3] = ["requester", "builder", "approvers"];

impl Reader<'_> {
    /// The gate that `step` is, if it is one.
    pub(super) fn gate<'n>(
        &mut self,
        place: &str,
        span: Span,
        step: &'n Node,
    ) -> Option<GateSpec<'n>> {
        if !matches!(step.content, Content::Map(_)) {
            return None;
        }
        let (uses, wait) = (step.get("uses"), step.get("wait"));
        match (uses, step.get("approval"), wait) {
            (Some(_), Some(approval), _) => {
                let message = format!("{place} has both `uses` and `approval`");
                self.error(CONFLICT, approval.key_span, message).help =
                    Some("a gate is a step of its own, which this one may need".into());
                self.approval(&approval.value);
                None
            }
            (Some(_), None, _) => None,
            (None, Some(approval), wait) => {
                if let Some(wait) = wait {
                    let message = format!("{place} has both `approval` and `wait`");
                    self.error(CONFLICT, wait.key_span, message).help = Some(
                        "write two steps; `expires` says how long an approval is waited for".into(),
                    );
                }
                self.keys_of_gate(place, "approval", step);
                Some(GateSpec::Approval(self.approval(&approval.value)))
            }
            (None, None, Some(wait)) => {
                self.keys_of_gate(place, "wait", step);
                Some(GateSpec::Wait(self.wait(&wait.value)))
            }
            (None, None, None) => {
                self.missing(
                    span,
                    place,
                    "uses",
                    "name a step kind; `fairlead steps list` has them all. A gate has `approval` \
                     or `wait` instead",
                );
                None
            }
        }
    }

    fn approval(&mut self, node: &Node) -> Option<Approval> {
        let (mut from, mut min, mut ordered) = (None, None, false);
        let (mut expires, mut not) = (None, BTreeSet::new());
        let known = ["from", "min", "order", "expires", "not"];
        for Entry { key, value, .. } in self.fields(node, "`approval`", &known) {
            match key.as_str() {
                "from" => {
                    let names = self.names(value, "`from`");
                    if names.is_empty()
                        && matches!(&value.content, Content::List(l) if l.is_empty())
                    {
                        self.error(BAD_VALUE, value.span, "`from` names nobody");
                    }
                    from = Some((names, value));
                }
                "min" => min = self.count(value, "`min`").map(|count| (count, value.span)),
                "order" => {
                    let read = |word: &str| match word {
                        "any" => Some(false),
                        "sequential" => Some(true),
                        _ => None,
                    };
                    ordered =
                        self.word(value, "`order`", &["any", "sequential"], read).unwrap_or(false);
                }
                "expires" => expires = self.duration(value, "`expires`"),
                "not" => not = self.excluded(value),
                _ => {}
            }
        }
        if matches!(node.content, Content::Map(_)) && from.is_none() {
            let help = "say who may approve, as in `from: [release-managers]`";
            self.missing(node.span, "`approval`", "from", help);
        }
        let (names, _) = from?;
        let mut seen = BTreeSet::new();
        for (name, span) in &names {
            if !seen.insert(*name) {
                self.error(BAD_VALUE, *span, format!("`{name}` stands twice under `from`"));
            }
            if not.contains(&Excluded::Named((*name).to_owned())) {
                let message = format!("`{name}` stands under `from` and under `not`");
                self.error(BAD_VALUE, *span, message).help = Some("remove one of the two".into());
            }
        }
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        if let Some((min, span)) = min
            && ordered
            && min != count
            && count > 0
        {
            let message = format!("`min` is {min}, and in order each of the {count} approves once");
            self.error(BAD_VALUE, span, message).help =
                Some("leave `min` away: it is the number of entries of `from`".into());
        }
        Some(Approval {
            from: names.into_iter().map(|(name, _)| name.to_owned()).collect(),
            min: if ordered { count } else { min.map_or(1, |(min, _)| min) },
            ordered,
            expires,
            not,
        })
    }

    /// A list of names of users and groups, which are not templates.
    fn names<'n>(&mut self, node: &'n Node, place: &str) -> Vec<(&'n str, Span)> {
        let items = match &node.content {
            Content::List(items) => items.as_slice(),
            Content::Text(name) => {
                let message = format!("{place} wants a list of names, and this is a text");
                let finding = self.error(WRONG_SHAPE, node.span, message);
                finding.help = Some(format!("write `[{}]`", name.escape_debug()));
                if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                    let replacement = format!("[{name}]");
                    finding.fix = Some(Fix { span: node.span, replacement });
                }
                std::slice::from_ref(node)
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Map(_) => {
                self.wrong_shape(node, place, "a list of names");
                &[]
            }
        };
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            let Some(name) = self.text(item, &format!("an entry of {place}")) else { continue };
            if template::is_template(name) {
                let message = format!("{place} takes names as they are, and no expressions");
                self.error(BAD_VALUE, item.span, message);
                continue;
            }
            let good = !name.is_empty()
                && name.trim() == name
                && name.chars().count() <= MAX_NAME
                && !name.chars().any(char::is_control);
            if good {
                names.push((name, item.span));
            } else {
                let message = format!(
                    "{} is not a name",
                    crate::params::brief(&name.escape_debug().to_string().into())
                );
                self.error(BAD_VALUE, item.span, message).help =
                    Some(format!("a name has 1 to {MAX_NAME} characters, and no blanks around it"));
            }
        }
        names
    }

    fn excluded(&mut self, node: &Node) -> BTreeSet<Excluded> {
        let mut not = BTreeSet::new();
        for (name, span) in self.names(node, "`not`") {
            let excluded = Excluded::from(name.to_owned());
            if matches!(excluded, Excluded::Named(_))
                && let Some(near) = suggest::nearest(name, WORDS)
                // A longer name is a name.
                && near.len().abs_diff(name.len()) <= 1
            {
                let message = format!("`{name}` is read as the name of a user or a group");
                let finding = Diagnostic::warning(BAD_VALUE, span, message);
                self.found.push(finding.help(format!("did you mean `{near}`?")));
            }
            not.insert(excluded);
        }
        not
    }

    /// `wait` without `uses`: `{for: 30m}` or `{until: …}`.
    fn wait<'n>(&mut self, node: &'n Node) -> Option<WaitSpec<'n>> {
        if !matches!(node.content, Content::Map(_)) {
            self.bare_duration(node, "for", true);
            return None;
        }
        for key in ["deadline", "every"] {
            if let Some(entry) = node.get(key) {
                let message =
                    format!("`{key}` is for a kind that is asked again, and there is none");
                self.error(CONFLICT, entry.key_span, message).help =
                    Some("add `uses`, or write `for` or `until` for a pause of its own".into());
            }
        }
        let told = ["deadline", "every"];
        let (mut pause, mut until) = (None, None);
        for Entry { key, value, .. } in self.fields_but(node, "`wait`", &["for", "until"], &told) {
            match key.as_str() {
                "for" => pause = self.duration(value, "`for`").map(WaitSpec::For),
                "until" => until = self.moment(value).map(WaitSpec::Until),
                _ => {}
            }
        }
        match (node.get("for"), node.get("until")) {
            (Some(_), Some(until)) => {
                let message = "`wait` has both `for` and `until`";
                self.error(CONFLICT, until.key_span, message).help =
                    Some("keep one of the two; two steps wait for both".into());
            }
            (None, None) if told.iter().all(|key| node.get(key).is_none()) => {
                let help = "write `for: 30m`, or `until: \"2026-12-01T08:00:00Z\"`";
                self.missing(node.span, "`wait`", "for", help);
            }
            (Some(_), None) | (None, Some(_) | None) => {}
        }
        pause.or(until)
    }

    /// A moment: a template, or a time that is read now.
    fn moment<'n>(&mut self, node: &'n Node) -> Option<&'n Node> {
        let text = self.text(node, "`until`")?;
        if !template::is_template(text) && text.trim().parse::<Timestamp>().is_err() {
            let message = format!("`{}` is not a time", text.escape_debug());
            self.error(BAD_VALUE, node.span, message).help =
                Some("write it with its zone, as in `2026-12-01T08:00:00Z`".into());
            return None;
        }
        Some(node)
    }

    /// `wait` beside `uses`: `{deadline: 2h, every: 1m}`.
    pub(super) fn ask_again(&mut self, node: &Node) -> Option<AskAgain> {
        if !matches!(node.content, Content::Map(_)) {
            self.bare_duration(node, "deadline", false);
            return None;
        }
        let told = ["for", "until"];
        for key in told {
            if let Some(entry) = node.get(key) {
                let message =
                    format!("`{key}` is for a pause of its own, and this step has `uses`");
                self.error(CONFLICT, entry.key_span, message).help = Some(
                    "write a step with `wait` alone, which this one needs; beside `uses`, \
                     `deadline` says how long a \"no\" is asked again"
                        .into(),
                );
            }
        }
        let (mut deadline, mut every) = (None, None);
        let known = ["deadline", "every"];
        for Entry { key, value, .. } in self.fields_but(node, "`wait`", &known, &told) {
            match key.as_str() {
                "deadline" => deadline = self.duration(value, "`deadline`"),
                "every" => every = self.duration(value, "`every`").map(|every| (every, value.span)),
                _ => {}
            }
        }
        if node.get("deadline").is_none() && told.iter().all(|key| node.get(key).is_none()) {
            let help = "say how long a \"no\" is no answer, as in `deadline: 2h`";
            self.missing(node.span, "`wait`", "deadline", help);
        }
        let deadline = deadline?;
        if let Some((every, span)) = every
            && every > deadline
        {
            let message = format!("`every` is longer than `deadline`, which is {deadline}");
            self.error(BAD_DURATION, span, message);
        }
        Some(AskAgain { deadline, every: every.map_or(EVERY.min(deadline), |(every, _)| every) })
    }

    /// Tells of a `wait` that is no mapping; a duration alone is a slip with a certain cure.
    fn bare_duration(&mut self, node: &Node, key: &str, certain: bool) {
        self.wrong_shape(node, "`wait`", "a mapping");
        let text = node.text().filter(|text| text.parse::<HumanDuration>().is_ok());
        if let (Some(text), Some(finding)) = (text, self.found.last_mut()) {
            finding.help = Some(format!("write `{{{key}: {text}}}`"));
            if certain {
                let replacement = format!("{{{key}: {text}}}");
                finding.fix = Some(Fix { span: node.span, replacement });
            }
        }
    }

    pub(super) fn for_each<'n>(&mut self, node: &'n Node) -> Option<ForEachSpec<'n>> {
        let plain = |items| ForEachSpec { items, key: None, max_parallel: None };
        if !matches!(node.content, Content::Map(_)) {
            return self.list(node, "`for_each`").map(plain);
        }
        let (mut items, mut key, mut max_parallel) = (None, None, None);
        let known = ["items", "key", "max_parallel"];
        for Entry { key: name, value, .. } in self.fields(node, "`for_each`", &known) {
            match name.as_str() {
                "items" => items = self.list(value, "`items`"),
                "key" => key = self.text(value, "`key`").map(|_| value),
                "max_parallel" => max_parallel = self.count(value, "`max_parallel`"),
                _ => {}
            }
        }
        if node.get("items").is_none() {
            let help = "give the list, as in `items: [web, api]`";
            self.missing(node.span, "`for_each`", "items", help);
        }
        Some(ForEachSpec { key, max_parallel, ..plain(items?) })
    }

    /// A list that is written down, or one whole expression.
    fn list<'n>(&mut self, node: &'n Node, place: &str) -> Option<&'n Node> {
        match &node.content {
            Content::List(items) if items.is_empty() => {
                self.error(BAD_VALUE, node.span, format!("{place} has no items"));
                None
            }
            Content::List(items) if items.len() > ForEach::MOST => {
                let (count, most) = (items.len(), ForEach::MOST);
                let message = format!("{place} has {count} items, and at most {most} are made");
                self.error(BAD_VALUE, node.span, message);
                None
            }
            Content::List(_) => Some(node),
            // What is no template at all, or cannot be split, is told where expressions are read.
            Content::Text(text)
                if template::whole(text).is_some() || template::split(text).is_err() =>
            {
                Some(node)
            }
            Content::Text(_) => {
                self.wrong_shape(node, place, "a list");
                if let Some(finding) = self.found.last_mut() {
                    finding.help = Some(
                        "write `[web, api]`, or one whole expression such as \
                         `\"{{ steps.build.images }}\"`"
                            .into(),
                    );
                }
                None
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Map(_) => {
                self.wrong_shape(node, place, "a list");
                None
            }
        }
    }
}
