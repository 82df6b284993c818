//! The `on:` block of a pipeline: which events it waits for.

mod forge;
mod one_or_many;
mod others;
mod own;
mod pushes;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::SourceEvent;

pub use forge::{CommentFilter, Forks, PullRequestFilter, ReleaseFilter};
pub use one_or_many::OneOrMany;
pub use others::{EventFilter, RegistryDelete, RegistryScan};
pub use own::{Manual, ManualInput, Missed, RunEnd, RunFinishedFilter, Schedule};
pub use pushes::{GitPush, GitTag, RegistryPush};

/// What an event gives to parameters: their names, and templates over `event`.
pub type Fills = BTreeMap<String, Value>;

/// What starts a pipeline. A pipeline without triggers is started by `fairlead run` alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    /// Pushes to a registry.
    #[serde(rename = "registry.push", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub registry_push: OneOrMany<RegistryPush>,
    /// Pushes to a git repository.
    #[serde(rename = "git.push", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_push: OneOrMany<GitPush>,
    /// Pushes of tags to a git repository.
    #[serde(rename = "git.tag", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_tag: OneOrMany<GitTag>,
    /// Pull requests at a forge.
    #[serde(rename = "git.pull_request", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_pull_request: OneOrMany<PullRequestFilter>,
    /// Commands in comments on pull requests.
    #[serde(rename = "git.comment", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_comment: OneOrMany<CommentFilter>,
    /// Releases at a forge.
    #[serde(rename = "git.release", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_release: OneOrMany<ReleaseFilter>,
    /// Deletions at a registry.
    #[serde(rename = "registry.delete", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub registry_delete: OneOrMany<RegistryDelete>,
    /// Scans by a registry.
    #[serde(rename = "registry.scan", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub registry_scan: OneOrMany<RegistryScan>,
    /// CloudEvents of any type.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub event: OneOrMany<EventFilter>,
    /// Times.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub schedule: OneOrMany<Schedule>,
    /// Runs that end.
    #[serde(rename = "run.finished", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub run_finished: OneOrMany<RunFinishedFilter>,
    /// Requests through the API.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
}

/// The kinds of triggers, by their key under `on:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TriggerKind {
    /// `registry.push`
    #[serde(rename = "registry.push")]
    RegistryPush,
    /// `git.push`
    #[serde(rename = "git.push")]
    GitPush,
    /// `git.tag`
    #[serde(rename = "git.tag")]
    GitTag,
    /// `git.pull_request`
    #[serde(rename = "git.pull_request")]
    PullRequest,
    /// `git.comment`
    #[serde(rename = "git.comment")]
    Comment,
    /// `git.release`
    #[serde(rename = "git.release")]
    Release,
    /// `registry.delete`
    #[serde(rename = "registry.delete")]
    RegistryDelete,
    /// `registry.scan`
    #[serde(rename = "registry.scan")]
    RegistryScan,
    /// `event`
    #[serde(rename = "event")]
    Event,
    /// `schedule`
    #[serde(rename = "schedule")]
    Schedule,
    /// `run.finished`
    #[serde(rename = "run.finished")]
    RunFinished,
    /// `manual`
    #[serde(rename = "manual")]
    Manual,
}

/// A filter of a trigger, apart from what it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerMatch<'a> {
    /// Which trigger.
    pub kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub index: usize,
    /// The expression that must hold besides.
    pub when: Option<&'a str>,
    /// What the event gives to parameters.
    pub params: &'a Fills,
}

/// Why a filter does not let an event in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit<'e> {
    /// The key of the filter that keeps it out.
    pub key: &'static str,
    /// What of the event does not fit there.
    pub value: Cow<'e, str>,
}

#[expect(clippy::unnecessary_wraps, reason = "it is the answer of whoever calls it")]
fn misfit<'e>(key: &'static str, value: impl Into<Cow<'e, str>>) -> Option<Misfit<'e>> {
    Some(Misfit { key, value: value.into() })
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` does not let `{}` in", self.key, self.value)
    }
}

/// What a filter that has no settings for parameters gives to them.
static NOTHING: Fills = Fills::new();

/// Every filter of one trigger.
macro_rules! of {
    ($filters:expr, $kind:expr) => {
        $filters.iter().enumerate().map(|(index, filter)| TriggerMatch {
            kind: $kind,
            index,
            when: filter.when.as_deref(),
            params: &filter.params,
        })
    };
}

impl Triggers {
    /// Every filter that is for events of this kind, and why it does not let this one in, where it
    /// does not; its `when` left aside. A manual request always fits where `manual` stands.
    pub fn judged<'a>(
        &'a self,
        event: &'a SourceEvent,
    ) -> impl Iterator<Item = (TriggerMatch<'a>, Option<Misfit<'a>>)> {
        self.filters().filter_map(move |filter| {
            let at = filter.index;
            let misfit = match (filter.kind, event) {
                (TriggerKind::RegistryPush, SourceEvent::ImagePushed(push)) => {
                    self.registry_push.get(at)?.misfit(push)
                }
                (TriggerKind::GitPush, SourceEvent::GitPushed(push)) => {
                    self.git_push.get(at)?.misfit(push)
                }
                (TriggerKind::GitTag, SourceEvent::GitPushed(push)) => {
                    self.git_tag.get(at)?.misfit(push)
                }
                (TriggerKind::PullRequest, SourceEvent::PullRequest(request)) => {
                    self.git_pull_request.get(at)?.misfit(request)
                }
                (TriggerKind::Comment, SourceEvent::Comment(comment)) => {
                    self.git_comment.get(at)?.misfit(comment)
                }
                (TriggerKind::Release, SourceEvent::Release(release)) => {
                    self.git_release.get(at)?.misfit(release)
                }
                (TriggerKind::RegistryDelete, SourceEvent::ImageDeleted(deleted)) => {
                    self.registry_delete.get(at)?.misfit(deleted)
                }
                (TriggerKind::RegistryScan, SourceEvent::ImageScanned(scanned)) => {
                    self.registry_scan.get(at)?.misfit(scanned)
                }
                (TriggerKind::Event, SourceEvent::Custom(event)) => {
                    self.event.get(at)?.misfit(event)
                }
                (TriggerKind::Schedule, SourceEvent::Scheduled(due)) => {
                    self.schedule.get(at)?.misfit(due)
                }
                (TriggerKind::RunFinished, SourceEvent::RunFinished(run)) => {
                    self.run_finished.get(at)?.misfit(run)
                }
                (TriggerKind::Manual, SourceEvent::Requested(_)) => None,
                (
                    TriggerKind::RegistryPush
                    | TriggerKind::GitPush
                    | TriggerKind::GitTag
                    | TriggerKind::PullRequest
                    | TriggerKind::Comment
                    | TriggerKind::Release
                    | TriggerKind::RegistryDelete
                    | TriggerKind::RegistryScan
                    | TriggerKind::Event
                    | TriggerKind::Schedule
                    | TriggerKind::RunFinished
                    | TriggerKind::Manual,
                    _,
                ) => return None,
            };
            Some((filter, misfit))
        })
    }

    /// Every filter that fits `event`, its `when` left aside. The pipeline is to be started, once,
    /// when the `when` of any of them is absent or true.
    pub fn matching<'a>(
        &'a self,
        event: &'a SourceEvent,
    ) -> impl Iterator<Item = TriggerMatch<'a>> {
        self.judged(event).filter(|(_, misfit)| misfit.is_none()).map(|(filter, _)| filter)
    }

    /// Whether any filter fits `event`, its `when` left aside.
    #[must_use]
    pub fn matches(&self, event: &SourceEvent) -> bool {
        self.matching(event).next().is_some()
    }

    /// Every filter, with its `when`, in the order of the kinds and then of the page.
    pub fn filters(&self) -> impl Iterator<Item = TriggerMatch<'_>> {
        let manual = self.manual.iter().map(|_| TriggerMatch {
            kind: TriggerKind::Manual,
            index: 0,
            when: None,
            params: &NOTHING,
        });
        of!(self.registry_push, TriggerKind::RegistryPush)
            .chain(of!(self.git_push, TriggerKind::GitPush))
            .chain(of!(self.git_tag, TriggerKind::GitTag))
            .chain(of!(self.git_pull_request, TriggerKind::PullRequest))
            .chain(of!(self.git_comment, TriggerKind::Comment))
            .chain(of!(self.git_release, TriggerKind::Release))
            .chain(of!(self.registry_delete, TriggerKind::RegistryDelete))
            .chain(of!(self.registry_scan, TriggerKind::RegistryScan))
            .chain(of!(self.event, TriggerKind::Event))
            .chain(of!(self.schedule, TriggerKind::Schedule))
            .chain(of!(self.run_finished, TriggerKind::RunFinished))
            .chain(manual)
    }

    /// Whether nothing but `fairlead run` starts the pipeline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters().next().is_none()
    }
}

impl TriggerKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::RegistryPush,
        Self::GitPush,
        Self::GitTag,
        Self::PullRequest,
        Self::Comment,
        Self::Release,
        Self::RegistryDelete,
        Self::RegistryScan,
        Self::Event,
        Self::Schedule,
        Self::RunFinished,
        Self::Manual,
    ];

    /// The key under `on:`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::RegistryPush => "registry.push",
            Self::GitPush => "git.push",
            Self::GitTag => "git.tag",
            Self::PullRequest => "git.pull_request",
            Self::Comment => "git.comment",
            Self::Release => "git.release",
            Self::RegistryDelete => "registry.delete",
            Self::RegistryScan => "registry.scan",
            Self::Event => "event",
            Self::Schedule => "schedule",
            Self::RunFinished => "run.finished",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for TriggerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// `manual:` with nothing behind it is there all the same.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Manual>, D::Error> {
    Ok(Some(Option::<Manual>::deserialize(deserializer)?.unwrap_or_default()))
}

/// One word of `known`, or a list of them.
fn words<'de, D: Deserializer<'de>>(
    deserializer: D,
    known: &[&'static str],
) -> Result<BTreeSet<String>, D::Error> {
    let read = Value::deserialize(deserializer)?;
    let list = if read.is_array() { read } else { Value::Array(vec![read]) };
    let words: BTreeSet<String> = serde_json::from_value(list).map_err(de::Error::custom)?;
    match words.iter().find(|word| !known.contains(&word.as_str())) {
        None => Ok(words),
        Some(word) => {
            let known = known.join("`, `");
            Err(de::Error::custom(format!("`{word}` is not one of `{known}`")))
        }
    }
}

fn word_schema(known: &[&str]) -> Schema {
    json_schema!({
        "anyOf": [{ "enum": known }, { "type": "array", "items": { "enum": known }, "minItems": 1 }],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;
    use crate::{ChangedPaths, GitPushed, ImagePushed, ObjectId, RunFinished, Scheduled};

    fn triggers(value: serde_json::Value) -> Triggers {
        serde_json::from_value(value).unwrap()
    }

    fn image(repository: &str, tag: Option<&str>) -> SourceEvent {
        SourceEvent::ImagePushed(ImagePushed {
            repository: repository.parse().unwrap(),
            tag: tag.map(Into::into),
            digest: Some(Digest::sha256(b"a")),
            media_type: None,
            actor: None,
            at: None,
        })
    }

    fn push(reference: &str, paths: Option<&[&str]>) -> GitPushed {
        GitPushed {
            repository: "acme/shop".into(),
            clone_url: None,
            ssh_url: None,
            reference: reference.parse().unwrap(),
            before: ObjectId::parse_end(&"a".repeat(40)).unwrap(),
            after: ObjectId::parse_end(&"b".repeat(40)).unwrap(),
            commit: None,
            forced: false,
            paths: paths.map_or(ChangedPaths::Unknown, |paths| {
                ChangedPaths::Known(paths.iter().map(|&p| p.to_owned()).collect::<BTreeSet<_>>())
            }),
            actor: None,
        }
    }

    #[test]
    fn registry_pushes_are_filtered_by_repository_and_tag() {
        let signature = format!("sha256-{}.sig", "a".repeat(64));
        let shop = "r.example.com/apps/shop";
        for (filter, repository, tag, fits) in [
            (json!({}), shop, Some("1.0.0"), true),
            (json!(null), shop, Some("1.0.0"), true),
            (json!({"repository": "apps/*"}), shop, Some("x"), true),
            (json!({"repository": "r.example.com/apps/*"}), shop, Some("x"), true),
            (json!({"repository": "base/*"}), shop, Some("x"), false),
            (json!({"repository": "apps/*"}), "r.example.com/apps/a/b", Some("x"), false),
            (json!({"tags": "semver(\">=1\")"}), shop, Some("1.0.0"), true),
            (json!({"tags": "semver(\">=1\")"}), shop, Some("0.9.0"), false),
            (json!({"tags": ["v*", "!v0*"]}), shop, Some("v0.1"), false),
            (json!({}), shop, None, false),
            (json!({"untagged": true}), shop, None, true),
            (json!({}), shop, Some(signature.as_str()), false),
            (json!({"evidence": true}), shop, Some(signature.as_str()), true),
            (json!([{"tags": "a"}, {"tags": "b"}]), shop, Some("b"), true),
        ] {
            let on = triggers(json!({ "registry.push": filter }));
            assert_eq!(on.matches(&image(repository, tag)), fits, "{on:?} {repository} {tag:?}");
        }
    }

    #[test]
    fn git_pushes_are_filtered_by_reference_and_paths() {
        let (main, tag) = ("refs/heads/main", "refs/tags/v1.0.0");
        for (filter, reference, paths, fits) in [
            (json!({}), main, Some(&["a"][..]), true),
            (json!({}), tag, None, true),
            (json!({"branches": ["main"]}), main, None, true),
            (json!({"branches": ["main"]}), tag, None, false),
            (json!({"tags": ["v*"]}), main, None, false),
            (json!({"tags": "semver(\"^1\")"}), tag, None, true),
            (json!({"paths": ["src/**"]}), main, Some(&["src/a", "b"][..]), true),
            (json!({"paths": ["src/**"]}), main, Some(&["docs/a"][..]), false),
            (json!({"paths": ["src/**"]}), main, Some(&[][..]), false),
            (json!({"paths": ["src/**"]}), main, None, true),
            (json!({"repository": "*/shop"}), main, None, true),
            (json!({"repository": "*/web"}), main, None, false),
        ] {
            let on = triggers(json!({ "git.push": filter }));
            let event = SourceEvent::GitPushed(push(reference, paths));
            assert_eq!(on.matches(&event), fits, "{on:?} {reference} {paths:?}");
        }
        let gone = GitPushed { after: None, ..push(main, None) };
        assert!(!triggers(json!({"git.push": {}})).matches(&SourceEvent::GitPushed(gone)));
    }

    #[test]
    fn each_fitting_filter_brings_its_own_condition() {
        let on = triggers(json!({"registry.push": [
            {"tags": "a*", "when": "event.digest != params.last"},
            {"tags": "x"},
            {"tags": "*b"},
        ]}));
        let event = image("r.example.com/shop", Some("ab"));
        let found: Vec<_> = on.matching(&event).map(|m| (m.index, m.when)).collect();
        assert_eq!(found, [(0, Some("event.digest != params.last")), (2, None)]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (value, want) in [
            (json!({"schedule": {"timezone": "UTC"}}), "missing field `cron`"),
            (json!({"schedule": {"cron": "", "missed": "never"}}), "unknown variant `never`"),
            (json!({"run.finished": {"outcome": "good"}}), "unknown variant `good`"),
            (json!({"manual": {"inputs": {"a": {"pattern": "x"}}}}), "unknown field `pattern`"),
            (json!({"git.pull": {}}), "unknown field `git.pull`"),
            (json!({"git.push": {"branch": "main"}}), "unknown field `branch`"),
            (json!({"git.push": "main"}), "a filter such as"),
            (json!({"registry.push": {"tags": "["}}), "not a pattern"),
        ] {
            let error = serde_json::from_value::<Triggers>(value).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_block_is_stored_and_read_back() {
        let value = json!({
            "registry.push": [{"repository": "a/*", "tags": "semver(\">=1\")"}, {"untagged": true}],
            "git.push": {"branches": ["main", "!x"], "when": "true", "params": {"a": "{{ event.tag }}"}},
            "git.tag": {"tags": "v*"},
            "schedule": [
                {"cron": "0 3 * * *"},
                {"cron": "@daily", "timezone": "Europe/Berlin", "missed": "all", "jitter": "5m"},
            ],
            "run.finished": {"pipeline": "release", "outcome": ["passed", "failed"]},
            "manual": {"inputs": {"a": {"default": 1, "enum": [1, 2], "description": "x"}, "b": {}}},
        });
        let on = triggers(value.clone());
        assert_eq!(serde_json::to_value(&on).unwrap(), value);
        assert!(!on.is_empty() && triggers(json!({})).is_empty());
        assert!(triggers(json!({ "manual": null })).manual.is_some());
    }

    #[test]
    fn tags_alone_are_let_in_by_git_tag() {
        let tag = |name: &str| SourceEvent::GitPushed(push(&format!("refs/tags/{name}"), None));
        let on = triggers(json!({"git.tag": {"repository": "acme/*", "tags": "v*"}}));
        assert!(on.matches(&tag("v1")) && !on.matches(&tag("x1")));
        assert!(triggers(json!({ "git.tag": null })).matches(&tag("x1")));
        let branch = SourceEvent::GitPushed(push("refs/heads/v1", None));
        assert!(!on.matches(&branch));
        let why = |event: &SourceEvent| {
            on.judged(event).find_map(|(_, misfit)| misfit).unwrap().to_string()
        };
        assert_eq!(why(&branch), "`git.tag` does not let `branch v1` in");
        assert_eq!(why(&tag("x1")), "`tags` does not let `x1` in");
    }

    #[test]
    fn a_due_time_is_for_the_schedule_that_it_is_of() {
        let on = triggers(json!({"schedule": [
            {"cron": "0 3 * * *", "jitter": "5m"},
            {"cron": "0 3 * * *", "params": {"env": "b"}},
            {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
        ]}));
        let keys: BTreeSet<String> = on.schedule.iter().map(Schedule::key).collect();
        assert_eq!(keys.len(), 3);
        let same = triggers(json!({"schedule": {"cron": "0 3 * * *", "missed": "all"}}));
        let key = same.schedule.get(0).unwrap().key();
        assert_eq!(key, on.schedule.get(0).unwrap().key());
        let due = SourceEvent::Scheduled(Scheduled {
            pipeline: "p".into(),
            schedule: key,
            due: "2026-03-01T03:00:00Z".parse().unwrap(),
            local: "2026-03-01T03:00:00".into(),
            cron: "0 3 * * *".into(),
            timezone: "UTC".into(),
            missed: false,
        });
        let found: Vec<usize> = on.matching(&due).map(|found| found.index).collect();
        assert_eq!(found, [0]);
    }

    #[test]
    fn runs_that_end_are_filtered_by_pipeline_and_outcome() {
        let ended = |pipeline: &str, outcome| {
            SourceEvent::RunFinished(RunFinished {
                run: fairlead_step::RunId::mint(1, 1),
                pipeline: pipeline.into(),
                outcome,
                by: "ann".into(),
                params: json!({}),
                depth: 0,
                untrusted: false,
            })
        };
        for (filter, pipeline, outcome, fits) in [
            (json!(null), "release", RunEnd::Failed, true),
            (json!({"outcome": "passed"}), "release", RunEnd::Passed, true),
            (json!({"outcome": "passed"}), "release", RunEnd::Failed, false),
            (json!({"outcome": ["failed", "rejected"]}), "release", RunEnd::Rejected, true),
            (json!({"pipeline": "rel*"}), "release", RunEnd::Passed, true),
            (json!({"pipeline": ["*", "!release"]}), "release", RunEnd::Passed, false),
        ] {
            let on = triggers(json!({ "run.finished": filter }));
            assert_eq!(on.matches(&ended(pipeline, outcome)), fits, "{on:?} {pipeline} {outcome}");
        }
    }

    #[test]
    fn the_schema_allows_one_or_many() {
        let schema = schemars::schema_for!(Triggers).to_value();
        assert!(schema["properties"]["registry.push"].is_object(), "{schema}");
        assert!(schema["properties"]["schedule"].is_object(), "{schema}");
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
