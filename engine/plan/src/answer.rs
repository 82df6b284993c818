//! What a pipeline answers to an event: it starts, with these parameters, or it does not, and why.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_event::{RunFinished, SourceEvent, TriggerKind, TriggerMatch};
use serde_json::{Map, Value, json};

use crate::params::brief;
use crate::{ParamProblem, Plan, Scope, suggest, template};

/// The most characters of what does not fit a schema: it may show the data.
const MAX_PROBLEM: usize = 300;

/// What a pipeline answers to an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It starts.
    Starts(Pulled),
    /// It does not. One reason for each filter that is for such events; none when no filter is.
    No(Vec<Unfit>),
}

/// The trigger that an event pulls.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulled {
    /// Which trigger.
    pub kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub index: usize,
    /// What the event gives to parameters, to be bound with [`Plan::bind`].
    pub given: BTreeMap<String, Value>,
    /// The event as expressions see it.
    pub event: Value,
}

impl Answer {
    /// The answer of `pipeline` as JSON: whether it starts, by which trigger and with which
    /// parameters, or why not.
    #[must_use]
    pub fn view(&self, pipeline: &str) -> Value {
        match self {
            Self::Starts(pulled) => json!({
                "pipeline": pipeline,
                "starts": true,
                "trigger": trigger(pulled.kind, pulled.index),
                "params": pulled.given,
            }),
            Self::No(reasons) => json!({
                "pipeline": pipeline,
                "starts": false,
                "why": reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
        }
    }
}

/// A filter of a trigger, for people.
fn trigger(kind: TriggerKind, index: usize) -> String {
    match index {
        0 => kind.to_string(),
        index => format!("{kind}[{index}]"),
    }
}

/// Why a filter does not start the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Which trigger.
    pub kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub index: usize,
    /// Why, as a lower-case sentence fragment.
    pub why: String,
    /// Whether the pipeline would have been started, if something of it were not wrong: somebody has
    /// to look at it.
    pub broken: bool,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", trigger(self.kind, self.index), self.why)
    }
}

/// Whether a run that this event started may read secrets: not when what it is about may have been
/// made by anybody, as the commits of a fork. It stands in the event that the run is pinned to, so that
/// each of its attempts, and each run that makes it again, is held to it.
#[must_use]
pub fn is_trusted(event: &Value) -> bool {
    event.get("trusted") != Some(&Value::Bool(false))
}

impl Plan {
    /// What the pipeline answers to an event. The first filter that lets it in, and whose `when` is
    /// true, decides what parameters are given.
    #[must_use]
    pub fn answer(&self, event: &SourceEvent) -> Answer {
        let mut reasons = Vec::new();
        for (filter, misfit) in self.triggers.judged(event) {
            let (kind, index) = (filter.kind, filter.index);
            let unfit = |why: String, broken| Unfit { kind, index, why, broken };
            let misfit = misfit.map(|misfit| misfit.to_string());
            if let Some(why) = misfit.or_else(|| self.not_for_us(filter, event)) {
                reasons.push(unfit(why, false));
                continue;
            }
            match self.pulled(filter, event) {
                Ok(Some(pulled)) => return Answer::Starts(pulled),
                Ok(None) => {
                    let when = filter.when.unwrap_or_default();
                    reasons.push(unfit(format!("`{when}` is false"), false));
                }
                Err(why) => reasons.push(unfit(why, true)),
            }
        }
        Answer::No(reasons)
    }

    /// Why an event that a filter lets in is not for this pipeline.
    fn not_for_us(&self, filter: TriggerMatch<'_>, event: &SourceEvent) -> Option<String> {
        match event {
            SourceEvent::Comment(comment) => {
                let named = comment.command.name.as_deref();
                let any = self.triggers.git_comment.get(filter.index)?.command.is_some();
                (!any && named != Some(&self.name))
                    .then(|| format!("it asks for `{}`", named.unwrap_or_default()))
            }
            SourceEvent::Custom(event) => {
                let schema = self.triggers.event.get(filter.index)?.schema.as_ref()?;
                let problem = match jsonschema::draft202012::new(schema) {
                    Ok(schema) => schema.validate(&event.data).err()?.to_string(),
                    Err(error) => error.to_string(),
                };
                let problem: String = problem.chars().take(MAX_PROBLEM).collect();
                Some(format!("its data does not fit the schema: {problem}"))
            }
            SourceEvent::Scheduled(due) if due.pipeline != self.name => {
                Some(format!("it is a time of `{}`", due.pipeline))
            }
            SourceEvent::Requested(request) if request.pipeline != self.name => {
                Some(format!("it asks for `{}`", request.pipeline))
            }
            SourceEvent::RunFinished(run) if run.pipeline == self.name => {
                Some("its own runs do not start it".to_owned())
            }
            SourceEvent::RunFinished(run) if run.depth >= RunFinished::DEEPEST => Some(format!(
                "{} runs have started one another by now, which looks like a loop",
                run.depth + 1
            )),
            SourceEvent::ImagePushed(_)
            | SourceEvent::GitPushed(_)
            | SourceEvent::PullRequest(_)
            | SourceEvent::Release(_)
            | SourceEvent::ImageDeleted(_)
            | SourceEvent::ImageScanned(_)
            | SourceEvent::Requested(_)
            | SourceEvent::Scheduled(_)
            | SourceEvent::RunFinished(_) => None,
        }
    }

    /// What a filter that lets the event in comes to: none when its `when` is false.
    fn pulled(
        &self,
        filter: TriggerMatch<'_>,
        event: &SourceEvent,
    ) -> Result<Option<Pulled>, String> {
        let kind = filter.kind;
        let mut seen = event.template_value();
        seen["kind"] = kind.key().into();
        let scope = Scope { event: seen, ..Scope::default() };
        let (mut given, mut wrong) = (BTreeMap::new(), Vec::new());
        if let SourceEvent::Requested(request) = event {
            given.extend(request.params.clone());
        }
        for (name, value) in filter.params {
            let place = format!("on.{kind}.params.{name}");
            match template::render(&place, value, (&scope).into()) {
                // The parameter has its default then.
                Ok(made) if made.display().is_null() => {}
                Ok(made) => {
                    given.insert(name.clone(), made.display().clone());
                }
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if let SourceEvent::Comment(comment) = event
            && let Some(filter) = self.triggers.git_comment.get(filter.index)
        {
            for (name, value) in &comment.command.args {
                if filter.inputs.as_ref().is_some_and(|inputs| !inputs.contains(name)) {
                    wrong.push(format!("parameter `{name}`: a comment may not give it"));
                }
                given.insert(name.clone(), value.as_str().into());
            }
        }
        let requested = (kind == TriggerKind::Manual).then(|| self.requested(&given));
        let bound = match requested {
            Some(Ok(filled)) => {
                given = filled;
                self.bind(&given)
            }
            Some(Err(problems)) => Err(problems),
            None => self.bind(&given),
        };
        if let Some(when) = filter.when {
            // What could not be bound may not be asked for.
            let params = bound.as_ref().map_or_else(
                |_| Value::Object(Map::from_iter(given.clone())),
                |bound| self.params.seen(bound),
            );
            let scope = Scope { params, ..scope.clone() };
            let place = format!("on.{kind}.when");
            match template::condition(&place, when, (&scope).into()) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if let Err(problems) = bound {
            wrong.extend(problems.iter().map(ToString::to_string));
        }
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let index = filter.index;
        Ok(Some(Pulled { kind, index, given, event: scope.event }))
    }

    /// What a request gives, with what `manual` says of it: nothing that may not be given, and the
    /// defaults that stand there.
    ///
    /// # Errors
    /// Every problem: what may not be given, and what is not among the choices.
    pub fn requested(
        &self,
        given: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Value>, Vec<ParamProblem>> {
        let manual = self.triggers.manual.as_ref();
        let Some(inputs) = manual.and_then(|manual| manual.inputs.as_ref()) else {
            return Ok(given.clone());
        };
        let mut problems = Vec::new();
        let names = || inputs.keys().map(String::as_str);
        for name in given.keys().filter(|name| !inputs.contains_key(*name)) {
            problems.push(ParamProblem {
                name: name.clone(),
                message: "a request may not give it".to_owned(),
                hint: Some(match suggest::nearest(name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if names().len() == 0 => "this pipeline takes no parameters".to_owned(),
                    None => format!("it may give {}", suggest::list(names())),
                }),
            });
        }
        let mut filled = given.clone();
        for (name, input) in inputs {
            let Some(value) = given.get(name) else {
                if let Some(default) = &input.default {
                    filled.insert(name.clone(), default.clone());
                }
                continue;
            };
            let read = self.params.get(name).and_then(|param| param.accept(value).ok());
            if let (Some(choices), Some(read)) = (&input.choices, read)
                && !choices.contains(&read)
            {
                let list: Vec<String> = choices.iter().map(brief).collect();
                problems.push(ParamProblem {
                    name: name.clone(),
                    message: format!("{} is not one of {}", brief(&read), list.join(", ")),
                    hint: input.description.clone(),
                });
            }
        }
        if problems.is_empty() { Ok(filled) } else { Err(problems) }
    }
}
