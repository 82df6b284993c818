//! The `on:` block of a pipeline: which events it waits for.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ChangedPaths, GitPushed, GitRef, Globs, ImagePushed, SourceEvent, TagPatterns};

/// What starts a pipeline. A pipeline without triggers is started by `fairlead run` alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::manual_non_exhaustive, reason = "the last field is there to refuse a key")]
pub struct Triggers {
    /// Pushes to a registry.
    #[serde(rename = "registry.push", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub registry_push: OneOrMany<RegistryPush>,
    /// Pushes to a git repository.
    #[serde(rename = "git.push", default, skip_serializing_if = "OneOrMany::is_empty")]
    pub git_push: OneOrMany<GitPush>,
    /// Requests through the API.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// Known, so that the message is better than "unknown field"; refused, because it is not
    /// supported.
    #[serde(rename = "schedule", default, deserialize_with = "refuse_schedule", skip_serializing)]
    #[schemars(skip)]
    _schedule: (),
}

/// Pushes of manifests to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryPush {
    /// Which repositories: globs over the path (`apps/*`), or over the registry and the path
    /// (`registry.example.com/apps/*`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which tags: globs, or `semver(">=1")`. All when left away.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// Whether manifests pushed by digest, without a tag, are let in too. Each platform of an index
    /// is such a push. Off by default; `tags` does not apply to them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub untagged: bool,
    /// Whether tags that signatures and attestations hide under (`sha256-….sig`) are let in too.
    /// Off by default; `tags` does not apply to them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub evidence: bool,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// Pushes of branches and tags to a git repository. A deleted branch or tag starts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitPush {
    /// Which repositories: globs over the full name (`acme/shop`). All when left away.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub repository: Globs,
    /// Which branches. When only `tags` is given, none; when neither is, all.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub branches: Globs,
    /// Which tags: globs, or `semver(">=1")`. When only `branches` is given, none; when neither is,
    /// all.
    #[serde(default, skip_serializing_if = "TagPatterns::is_empty")]
    pub tags: TagPatterns,
    /// Which files must be touched, at least one of them. Where the sender cannot say what was
    /// touched (a new branch, a tag, a rewritten history, a long push) the push is let in.
    #[serde(default, skip_serializing_if = "Globs::is_empty")]
    pub paths: Globs,
    /// An expression over `event` and `params` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// Requests through the API. It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manual {}

/// The kinds of triggers, by their key under `on:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TriggerKind {
    /// `registry.push`
    #[serde(rename = "registry.push")]
    RegistryPush,
    /// `git.push`
    #[serde(rename = "git.push")]
    GitPush,
    /// `manual`
    #[serde(rename = "manual")]
    Manual,
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
}

/// A filter that an event fits, apart from its `when`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerMatch<'a> {
    /// Which trigger.
    pub kind: TriggerKind,
    /// Which filter of that trigger, counted from 0.
    pub index: usize,
    /// The expression that must hold besides.
    pub when: Option<&'a str>,
}

impl Triggers {
    /// Every filter that fits `event`. The pipeline is to be started, once, when the `when` of any
    /// of them is absent or true. A manual request always fits where `manual` stands.
    pub fn matching<'a>(
        &'a self,
        event: &'a SourceEvent,
    ) -> impl Iterator<Item = TriggerMatch<'a>> {
        self.filters().filter(move |filter| match (filter.kind, event) {
            (TriggerKind::RegistryPush, SourceEvent::ImagePushed(push)) => {
                self.registry_push.get(filter.index).is_some_and(|f| f.fits(push))
            }
            (TriggerKind::GitPush, SourceEvent::GitPushed(push)) => {
                self.git_push.get(filter.index).is_some_and(|f| f.fits(push))
            }
            (TriggerKind::Manual, SourceEvent::Requested(_)) => true,
            (
                TriggerKind::RegistryPush
                | TriggerKind::GitPush
                | TriggerKind::Manual
                // Events that no filter waits for yet.
                | TriggerKind::PullRequest
                | TriggerKind::Comment
                | TriggerKind::Release
                | TriggerKind::RegistryDelete
                | TriggerKind::RegistryScan
                | TriggerKind::Event,
                _,
            ) => false,
        })
    }

    /// Whether any filter fits `event`, its `when` left aside.
    #[must_use]
    pub fn matches(&self, event: &SourceEvent) -> bool {
        self.matching(event).next().is_some()
    }

    /// Every filter, with its `when`, in the order of the kinds and then of the page.
    pub fn filters(&self) -> impl Iterator<Item = TriggerMatch<'_>> {
        let registry = self.registry_push.iter().enumerate().map(|(index, filter)| TriggerMatch {
            kind: TriggerKind::RegistryPush,
            index,
            when: filter.when.as_deref(),
        });
        let git = self.git_push.iter().enumerate().map(|(index, filter)| TriggerMatch {
            kind: TriggerKind::GitPush,
            index,
            when: filter.when.as_deref(),
        });
        let manual = self.manual.iter().map(|_| TriggerMatch {
            kind: TriggerKind::Manual,
            index: 0,
            when: None,
        });
        registry.chain(git).chain(manual)
    }

    /// Whether nothing but `fairlead run` starts the pipeline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters().next().is_none()
    }
}

impl RegistryPush {
    fn fits(&self, push: &ImagePushed) -> bool {
        let repository = self.repository.is_match(push.repository.path())
            || self.repository.is_match(&push.repository.to_string());
        repository
            && match &push.tag {
                None => self.untagged,
                Some(_) if push.is_evidence() => self.evidence,
                Some(tag) => self.tags.is_match(tag),
            }
    }
}

impl GitPush {
    fn fits(&self, push: &GitPushed) -> bool {
        let any = self.branches.is_empty() && self.tags.is_empty();
        let reference = match &push.reference {
            GitRef::Branch(name) => {
                any || !self.branches.is_empty() && self.branches.is_match(name)
            }
            GitRef::Tag(name) => any || !self.tags.is_empty() && self.tags.is_match(name),
        };
        let touched = self.paths.is_empty()
            || match &push.paths {
                ChangedPaths::Known(paths) => paths.iter().any(|path| self.paths.is_match(path)),
                ChangedPaths::Unknown => true,
            };
        !push.deleted() && reference && touched && self.repository.is_match(&push.repository)
    }
}

impl TriggerKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::RegistryPush,
        Self::GitPush,
        Self::Manual,
        Self::PullRequest,
        Self::Comment,
        Self::Release,
        Self::RegistryDelete,
        Self::RegistryScan,
        Self::Event,
    ];

    /// The key under `on:`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::RegistryPush => "registry.push",
            Self::GitPush => "git.push",
            Self::Manual => "manual",
            Self::PullRequest => "git.pull_request",
            Self::Comment => "git.comment",
            Self::Release => "git.release",
            Self::RegistryDelete => "registry.delete",
            Self::RegistryScan => "registry.scan",
            Self::Event => "event",
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

fn refuse_schedule<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    de::IgnoredAny::deserialize(deserializer)?;
    Err(de::Error::custom(
        "`schedule` is not supported yet; let cron start the pipeline with `fairlead run`",
    ))
}

/// One filter, or a list of them of which any may fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(Vec<T>);

impl<T> OneOrMany<T> {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The filter at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    /// Each filter.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> IntoIterator for &'a OneOrMany<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> FromIterator<T> for OneOrMany<T> {
    fn from_iter<I: IntoIterator<Item = T>>(filters: I) -> Self {
        Self(filters.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Default> de::Visitor<'de> for Visit<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a filter such as `{repository: apps/*}`, or a list of filters")
            }

            // A key with nothing behind it asks for no more than the kind of event.
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::default()]))
            }

            fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
                self.visit_unit()
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let one = T::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(OneOrMany(vec![one]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut filters = Vec::new();
                while let Some(filter) = seq.next_element()? {
                    filters.push(filter);
                }
                Ok(OneOrMany(filters))
            }
        }
        deserializer.deserialize_any(Visit(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({
            "description": "One filter, or a list of them of which any may fit.",
            "anyOf": [one.clone(), { "type": "array", "items": one }, { "type": "null" }],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fairlead_step::Digest;
    use serde_json::json;

    use super::*;
    use crate::ObjectId;

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
            (json!({"schedule": {"cron": "* * * * *"}}), "`schedule` is not supported yet"),
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
            "git.push": {"branches": ["main", "!x"], "when": "true"},
            "manual": {},
        });
        let on = triggers(value.clone());
        assert_eq!(serde_json::to_value(&on).unwrap(), value);
        assert!(!on.is_empty() && triggers(json!({})).is_empty());
        assert!(triggers(json!({ "manual": null })).manual.is_some());
    }

    #[test]
    fn the_schema_allows_one_or_many() {
        let schema = schemars::schema_for!(Triggers).to_value();
        assert!(schema["properties"]["registry.push"].is_object(), "{schema}");
        assert!(schema["properties"].get("schedule").is_none());
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
