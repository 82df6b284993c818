//! What expressions may read of `event`: the fields of each trigger, and which of them may be null.

use fairlead_step::schema_format;

use crate::{GitPush, TriggerKind, TriggerMatch, Triggers};

/// A field that expressions may read of `event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventField {
    /// The key, as in `event.<name>`.
    pub name: &'static str,
    /// The JSON type: `string`, `boolean`, `integer`, `array` or `object`; `any` where it may be each
    /// of them. It may be null where `null` says so.
    pub json_type: &'static str,
    /// The `format` of a string (see `fairlead_step::schema_format`), where it has one.
    pub format: Option<&'static str>,
    /// When it is null, where it can be, as the end of a sentence. A filter may rule that out:
    /// [`Triggers::nullness`] knows.
    pub null: Option<&'static str>,
    /// What it is.
    pub about: &'static str,
}

/// Whether a field is null in an event that a filter lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nullness {
    /// It has a value.
    Never,
    /// It may be null, and when.
    Maybe(&'static str),
    /// It is null, and why.
    Always(&'static str),
}

impl TriggerKind {
    /// What expressions may read of `event` when this trigger started the run.
    #[must_use]
    pub const fn fields(self) -> &'static [EventField] {
        match self {
            Self::RegistryPush => REGISTRY_FIELDS,
            // A tag is a push, and is seen as one.
            Self::GitPush | Self::GitTag => GIT_FIELDS,
            Self::Schedule => SCHEDULE_FIELDS,
            Self::RunFinished => RUN_FIELDS,
            Self::Manual => MANUAL_FIELDS,
            Self::PullRequest => PULL_REQUEST_FIELDS,
            Self::Comment => COMMENT_FIELDS,
            Self::Release => RELEASE_FIELDS,
            Self::RegistryDelete => DELETE_FIELDS,
            Self::RegistryScan => SCAN_FIELDS,
            Self::Event => EVENT_FIELDS,
        }
    }

    /// The field called `name`.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'static EventField> {
        self.fields().iter().find(|field| field.name == name)
    }
}

impl Triggers {
    /// Whether the field `name` is null in a run that `filter` started, its `when` left aside. A
    /// field that the trigger does not have is never null: it is not there.
    #[must_use]
    pub fn nullness(&self, filter: TriggerMatch<'_>, name: &str) -> Nullness {
        let Some(field) = filter.kind.field(name) else { return Nullness::Never };
        let Some(why) = field.null else { return Nullness::Never };
        match filter.kind {
            TriggerKind::RegistryPush => {
                let untagged = self.registry_push.get(filter.index).is_some_and(|f| f.untagged);
                if name == "tag" && !untagged { Nullness::Never } else { Nullness::Maybe(why) }
            }
            TriggerKind::GitPush => {
                let asked = |push: &GitPush| (!push.branches.is_empty(), !push.tags.is_empty());
                let push = self.git_push.get(filter.index);
                let (branches, tags) = push.map_or((false, false), asked);
                // With neither both are let in, with one of them only that.
                let (only_branches, only_tags) = (branches && !tags, tags && !branches);
                match name {
                    "branch" if only_tags => Nullness::Always(why),
                    "tag" if only_branches => Nullness::Always(why),
                    "branch" | "commit" if only_branches => Nullness::Never,
                    "tag" if only_tags => Nullness::Never,
                    _ => Nullness::Maybe(why),
                }
            }
            TriggerKind::GitTag => match name {
                "branch" => Nullness::Always(why),
                "tag" => Nullness::Never,
                _ => Nullness::Maybe(why),
            },
            // What has a schema has data.
            TriggerKind::Event
                if name == "data"
                    && self.event.get(filter.index).is_some_and(|f| f.schema.is_some()) =>
            {
                Nullness::Never
            }
            TriggerKind::Manual
            | TriggerKind::Schedule
            | TriggerKind::RunFinished
            | TriggerKind::PullRequest
            | TriggerKind::Comment
            | TriggerKind::Release
            | TriggerKind::RegistryDelete
            | TriggerKind::RegistryScan
            | TriggerKind::Event => Nullness::Maybe(why),
        }
    }
}

const fn field(name: &'static str, json_type: &'static str, about: &'static str) -> EventField {
    EventField { name, json_type, format: None, null: None, about }
}

const fn nullable(field: EventField, when: &'static str) -> EventField {
    EventField { null: Some(when), ..field }
}

const fn formatted(field: EventField, format: &'static str) -> EventField {
    EventField { format: Some(format), ..field }
}

const KIND: EventField = field("kind", "string", "The key of the trigger under `on:`.");
const ACTOR: EventField = field("actor", "string", "Who did it, as the sender says.");
const NOT_SAID: &str = "not every sender says it";

const REGISTRY_FIELDS: &[EventField] = &[
    KIND,
    REGISTRY,
    IMAGE_REPOSITORY,
    PATH,
    nullable(field("tag", "string", "The tag that was pushed."), "a push by digest has no tag"),
    // The registry is asked before a run starts, so both are known by then.
    formatted(field("digest", "string", "The digest of the manifest."), schema_format::DIGEST),
    formatted(field("image", "string", "The image by digest."), schema_format::IMAGE),
    nullable(
        field("media_type", "string", "The media type of the manifest."),
        "not every registry says it",
    ),
    nullable(ACTOR, NOT_SAID),
];

const GIT_FIELDS: &[EventField] = &[
    KIND,
    field("repository", "string", "The full name of the repository."),
    nullable(field("clone_url", "string", "Where to clone it over HTTP."), NOT_SAID),
    nullable(field("ssh_url", "string", "Where to clone it over ssh."), NOT_SAID),
    field("ref", "string", "The full name of what moved, such as `refs/heads/main`."),
    nullable(field("branch", "string", "The branch that moved."), "a pushed tag has no branch"),
    nullable(field("tag", "string", "The tag that moved."), "a pushed branch has no tag"),
    nullable(
        field("before", "string", "What it pointed to; null when it is new."),
        "what is new pointed to nothing before",
    ),
    // A branch or tag that is gone starts nothing.
    field("after", "string", "What it points to."),
    nullable(
        field("commit", "string", "The commit to check out."),
        "not every sender says the commit of a tag",
    ),
    field("created", "boolean", "Whether it is new."),
    field("forced", "boolean", "Whether the sender says that history was rewritten."),
    nullable(
        field("paths", "array", "The files that changed; null when they are not known."),
        "a sender cannot always say what was touched",
    ),
    nullable(ACTOR, NOT_SAID),
];

const MANUAL_FIELDS: &[EventField] = &[KIND, ACTOR];

const NO_FORGE: &str = "a source without a `forge` knows no address";
const REPOSITORY: EventField = field("repository", "string", "The full name of the repository.");
const CLONE_URL: EventField =
    nullable(field("clone_url", "string", "Where to clone it over HTTP."), NO_FORGE);
const SSH_URL: EventField =
    nullable(field("ssh_url", "string", "Where to clone it over ssh."), NO_FORGE);
const NUMBER: EventField = field("number", "integer", "The number of the pull request.");
const FORK: EventField = field(
    "fork",
    "boolean",
    "Whether its commits are on no branch of the repository itself, so that anybody may have made them.",
);

const TRUSTED: EventField = field(
    "trusted",
    "boolean",
    "Whether the run may read secrets: not for the commits of a fork, unless they were merged, or a member \
     asks for the run with a comment.",
);

const PULL_REQUEST_FIELDS: &[EventField] = &[
    KIND,
    field("action", "string", "`opened`, `updated`, `edited`, `merged` or `closed`."),
    REPOSITORY,
    CLONE_URL,
    SSH_URL,
    NUMBER,
    nullable(field("title", "string", "Its title."), NOT_SAID),
    nullable(
        field("head_repository", "string", "The repository that its commits come from."),
        "a fork may be gone",
    ),
    nullable(field("head_branch", "string", "The branch that its commits come from."), NOT_SAID),
    nullable(
        field("commit", "string", "The last of its commits."),
        "a source without a `forge` may not know it",
    ),
    field("base_branch", "string", "The branch that it wants to be merged into."),
    nullable(field("base_commit", "string", "What that branch holds."), NOT_SAID),
    nullable(
        field("merge_commit", "string", "The commit that merged it."),
        "what is not merged has none",
    ),
    FORK,
    TRUSTED,
    field("draft", "boolean", "Whether it is a draft."),
    field("labels", "array", "Its labels."),
    nullable(field("author", "string", "Who opened it."), NOT_SAID),
    nullable(ACTOR, NOT_SAID),
];

const COMMENT_FIELDS: &[EventField] = &[
    KIND,
    REPOSITORY,
    CLONE_URL,
    SSH_URL,
    NUMBER,
    field("verb", "string", "The word behind `/fairlead`, such as `run`."),
    nullable(field("name", "string", "The name behind the verb."), "a command may have none"),
    field("args", "object", "The arguments of the command, by their keys."),
    nullable(
        field("commit", "string", "The last commit of the pull request."),
        "a source without a `forge` may not know it",
    ),
    FORK,
    TRUSTED,
    field(
        "association",
        "string",
        "What the forge says that the author is to the repository: `owner`, `member`, `collaborator`, \
         `contributor`, `stranger` or `unknown`.",
    ),
    field("insider", "boolean", "Whether that is `owner`, `member` or `collaborator`."),
    nullable(ACTOR, NOT_SAID),
];

const RELEASE_FIELDS: &[EventField] = &[
    KIND,
    field("action", "string", "`published`, `updated` or `deleted`."),
    REPOSITORY,
    CLONE_URL,
    SSH_URL,
    field("tag", "string", "The tag of the release."),
    nullable(field("name", "string", "The name of the release."), "a release may have none"),
    field("draft", "boolean", "Whether it is a draft."),
    field("prerelease", "boolean", "Whether it is a pre-release."),
    nullable(
        field("commit", "string", "The commit behind its tag."),
        "what is deleted, or of a source without a `forge`, may have none",
    ),
    nullable(ACTOR, NOT_SAID),
];

const REGISTRY: EventField =
    field("registry", "string", "The host of the registry, with its port.");
const IMAGE_REPOSITORY: EventField = formatted(
    field("repository", "string", "The registry and the path."),
    schema_format::REPOSITORY,
);
const PATH: EventField = field("path", "string", "The path of the repository within the registry.");

const DELETE_FIELDS: &[EventField] = &[
    KIND,
    REGISTRY,
    IMAGE_REPOSITORY,
    PATH,
    nullable(field("tag", "string", "The tag that is gone."), "a manifest may have had none"),
    nullable(
        formatted(
            field("digest", "string", "The digest that is gone, or that the tag had."),
            schema_format::DIGEST,
        ),
        NOT_SAID,
    ),
    nullable(ACTOR, NOT_SAID),
];

const SCAN_FIELDS: &[EventField] = &[
    KIND,
    REGISTRY,
    IMAGE_REPOSITORY,
    PATH,
    nullable(field("tag", "string", "The tag that was scanned."), NOT_SAID),
    formatted(field("digest", "string", "The digest of the manifest."), schema_format::DIGEST),
    formatted(field("image", "string", "The image by digest."), schema_format::IMAGE),
    field("scan", "string", "`vulnerability` or `sbom`."),
    field("outcome", "string", "`completed`, `failed` or `stopped`."),
    nullable(field("severity", "string", "The severest finding, in the scanner's word."), NOT_SAID),
    nullable(
        field("findings", "object", "How many findings there are, by the scanner's severities."),
        "not every sender says it, and that is never none",
    ),
    nullable(field("report", "string", "The sender's id of the report."), NOT_SAID),
];

const EVENT_FIELDS: &[EventField] = &[
    KIND,
    field("type", "string", "The type of the CloudEvent."),
    field("source", "string", "The source of the CloudEvent."),
    nullable(field("subject", "string", "What it is about."), NOT_SAID),
    field("id", "string", "What tells it from others of its source."),
    nullable(field("time", "string", "When it happened."), NOT_SAID),
    nullable(field("data", "any", "Its data."), "an event may have none"),
];

const SCHEDULE_FIELDS: &[EventField] = &[
    KIND,
    field("due", "string", "The time that came, in UTC."),
    field("local", "string", "The same in the time zone of the schedule, without an offset."),
    field("cron", "string", "The expression of the schedule."),
    field("timezone", "string", "The time zone of the schedule."),
    field("missed", "boolean", "Whether no server was there when the time came."),
];

const RUN_FIELDS: &[EventField] = &[
    KIND,
    field("run", "string", "The id of the run that ended."),
    field("pipeline", "string", "Its pipeline."),
    field("outcome", "string", "How it ended: `passed`, `rejected`, `failed` or `cancelled`."),
    field("by", "string", "Who had asked for it."),
    field("params", "object", "Its parameters."),
    field("depth", "integer", "How many runs stand before it in the chain."),
    field("trusted", "boolean", "Whether it might have read secrets."),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ChangedPaths, GitPushed, GitRef, ImagePushed, ObjectId, Requested, SourceEvent};

    fn nullness(on: serde_json::Value, name: &str) -> &'static str {
        let triggers: Triggers = serde_json::from_value(on).unwrap();
        let filter = triggers.filters().next().unwrap();
        match triggers.nullness(filter, name) {
            Nullness::Never => "never",
            Nullness::Maybe(_) => "maybe",
            Nullness::Always(_) => "always",
        }
    }

    #[test]
    fn filters_rule_out_null() {
        let git = |filter: serde_json::Value| json!({ "git.push": filter });
        let registry = |filter: serde_json::Value| json!({ "registry.push": filter });
        for (on, name, want) in [
            (git(json!({})), "branch", "maybe"),
            (git(json!({})), "tag", "maybe"),
            (git(json!({})), "commit", "maybe"),
            (git(json!({})), "after", "never"),
            (git(json!({ "branches": ["main"] })), "branch", "never"),
            (git(json!({ "branches": ["main"] })), "tag", "always"),
            (git(json!({ "branches": ["main"] })), "commit", "never"),
            (git(json!({ "branches": ["main"] })), "paths", "maybe"),
            (git(json!({ "branches": ["main"], "paths": ["src/**"] })), "paths", "maybe"),
            (git(json!({ "tags": "v*" })), "tag", "never"),
            (git(json!({ "tags": "v*" })), "branch", "always"),
            (git(json!({ "tags": "v*" })), "commit", "maybe"),
            (git(json!({ "tags": "v*", "branches": "main" })), "tag", "maybe"),
            (git(json!({ "tags": "v*", "branches": "main" })), "branch", "maybe"),
            (git(json!({ "tags": "v*" })), "ref", "never"),
            (registry(json!({})), "tag", "never"),
            (registry(json!({ "evidence": true })), "tag", "never"),
            (registry(json!({ "untagged": true })), "tag", "maybe"),
            (registry(json!({ "untagged": true, "tags": "v*" })), "tag", "maybe"),
            (registry(json!({})), "digest", "never"),
            (registry(json!({})), "media_type", "maybe"),
            (registry(json!({})), "actor", "maybe"),
            (json!({ "manual": {} }), "actor", "never"),
            (json!({ "manual": {} }), "tag", "never"),
            (json!({ "git.tag": {} }), "tag", "never"),
            (json!({ "git.tag": {} }), "branch", "always"),
            (json!({ "git.tag": {} }), "commit", "maybe"),
            (json!({ "schedule": { "cron": "@daily" } }), "due", "never"),
        ] {
            assert_eq!(nullness(on.clone(), name), want, "{name} of {on}");
        }
    }

    #[test]
    fn what_is_never_null_is_there_in_every_event_that_fits() {
        let id = || ObjectId::parse_end(&"a".repeat(40)).unwrap();
        let mut events = vec![SourceEvent::Requested(Requested {
            pipeline: "p".into(),
            params: serde_json::Map::new(),
            by: "ann".into(),
            key: "k".into(),
        })];
        for reference in [GitRef::Branch("main".into()), GitRef::Tag("v1".into())] {
            events.push(SourceEvent::GitPushed(GitPushed {
                repository: "acme/shop".into(),
                clone_url: None,
                ssh_url: None,
                reference,
                before: None,
                after: id(),
                commit: None,
                forced: false,
                paths: ChangedPaths::Unknown,
                actor: None,
            }));
        }
        for tag in [None, Some("v1".to_owned())] {
            events.push(SourceEvent::ImagePushed(ImagePushed {
                repository: "r.example.com/apps/shop".parse().unwrap(),
                tag,
                // The registry confirms it before a run begins.
                digest: Some(fairlead_step::Digest::sha256(b"a")),
                media_type: None,
                actor: None,
                at: None,
            }));
        }
        let daily = crate::Schedule { cron: "@daily".into(), ..crate::Schedule::default() };
        events.push(SourceEvent::Scheduled(crate::Scheduled {
            pipeline: "p".into(),
            schedule: daily.key(),
            due: jiff::Timestamp::UNIX_EPOCH,
            local: "1970-01-01T00:00:00".into(),
            cron: daily.cron,
            timezone: "UTC".into(),
            missed: false,
        }));
        events.push(SourceEvent::RunFinished(crate::RunFinished {
            run: fairlead_step::RunId::mint(1, 1),
            pipeline: "q".into(),
            outcome: crate::RunEnd::Passed,
            by: "ann".into(),
            params: json!({}),
            depth: 0,
            untrusted: false,
        }));
        for on in [
            json!({ "git.push": {}, "registry.push": {}, "manual": {} }),
            json!({ "git.push": { "branches": "main" }, "registry.push": { "untagged": true } }),
            json!({ "git.push": { "tags": "v*" } }),
            json!({ "git.push": { "tags": "v*", "branches": "*" } }),
            json!({ "git.tag": {} }),
            json!({ "schedule": { "cron": "@daily" }, "run.finished": {} }),
        ] {
            let triggers: Triggers = serde_json::from_value(on).unwrap();
            for event in &events {
                let seen = event.template_value();
                for filter in triggers.matching(event) {
                    for field in filter.kind.fields() {
                        let value = seen.get(field.name).expect("every key is there");
                        match triggers.nullness(filter, field.name) {
                            Nullness::Never => assert!(!value.is_null(), "{}: {seen}", field.name),
                            Nullness::Always(_) => assert!(value.is_null(), "{}", field.name),
                            Nullness::Maybe(_) => {}
                        }
                    }
                }
            }
        }
    }
}
