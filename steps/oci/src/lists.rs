//! Lists that live under a tag and that every writer rewrites as a whole: the referrers of an image
//! where the registry keeps no list itself, and the documents of legacy tags.
//!
//! A registry cannot compare and swap, so a list grows in turns: read, add, write, wait for those
//! who read at the same time, and read again. It is done when everything that was ever read and all
//! of our own is there. What others wrote is carried along as the JSON it is.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use fairlead_step::{Digest, Repository};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::client::Raw;
use crate::model::{REFERRERS_LIMIT, media_type};
use crate::request::backoff;
use crate::writers::{settle, turn};
use crate::{Client, Descriptor, Error, Landed, Manifest};

/// How often a list is written when other writers keep overwriting it.
const WRITES: u32 = 12;
/// The largest config of a legacy tag; it holds one digest for each document.
const CONFIG_LIMIT: u64 = 4 << 20;

/// What a list is, and how it is written.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// An index of referrers.
    Referrers,
    /// A manifest whose layers are documents.
    Documents {
        /// A manifest with exactly the documents that are added, whose blobs are there, config
        /// included. Where nothing else is in the list it is written as it is.
        whole: Option<&'a Manifest>,
        /// Whether it may hold more than one writer's documents.
        joins: bool,
    },
}

impl Kind<'_> {
    const fn member(self) -> &'static str {
        match self {
            Self::Referrers => "manifests",
            Self::Documents { .. } => "layers",
        }
    }

    const fn is_written_as_it_is(self) -> bool {
        matches!(self, Self::Documents { whole: Some(_), .. })
    }

    /// What makes two items the same.
    fn id(self, item: &Value) -> String {
        match (self, Descriptor::deserialize(item)) {
            (Self::Referrers, Ok(descriptor)) => descriptor.digest.to_string(),
            // A document counts with its annotations: they hold the signature.
            (Self::Documents { .. }, Ok(descriptor)) => json!(descriptor).to_string(),
            (_, Err(_)) => item.to_string(),
        }
    }
}

/// A list as it was read.
pub(crate) struct List {
    /// The digest of the document.
    pub(crate) digest: Digest,
    /// Its media type.
    pub(crate) media_type: String,
    /// What is in it, in its order, whether Fairlead can read it or not.
    pub(crate) items: Vec<Value>,
    document: Map<String, Value>,
}

impl List {
    /// Reads a list. `what` names it in errors.
    pub(crate) fn parse(raw: &Raw, kind: Kind<'_>, what: &str) -> Result<Self, Error> {
        let malformed = |problem: String| Error::Malformed { what: what.to_owned(), problem };
        let mut document: Map<String, Value> =
            serde_json::from_slice(&raw.bytes).map_err(|e| malformed(e.to_string()))?;
        let items = match document.remove(kind.member()) {
            Some(Value::Array(items)) => items,
            // Go writers put `null` where a list is empty.
            Some(Value::Null) => Vec::new(),
            Some(_) | None => {
                let name = match kind {
                    Kind::Referrers => "an index",
                    Kind::Documents { .. } => "a manifest with `layers`",
                };
                return Err(malformed(format!("it is not {name}")));
            }
        };
        let default = match kind {
            Kind::Referrers => media_type::OCI_INDEX,
            Kind::Documents { .. } => media_type::OCI_MANIFEST,
        };
        let declared = document.get("mediaType").and_then(Value::as_str).map(str::to_owned);
        let media_type = declared.unwrap_or_else(|| default.to_owned());
        Ok(Self { digest: raw.digest.clone(), media_type, items, document })
    }

    /// The items that are descriptors, and what is wrong with the others.
    pub(crate) fn descriptors(&self) -> (Vec<Descriptor>, Vec<String>) {
        let mut problems = Vec::new();
        let read = |(at, item): (usize, &Value)| match Descriptor::deserialize(item) {
            Ok(descriptor) => Some(descriptor),
            Err(error) => {
                problems.push(format!("entry {} cannot be read: {error}", at + 1));
                None
            }
        };
        let descriptors = self.items.iter().enumerate().filter_map(read).collect();
        (descriptors, problems)
    }
}

impl Client {
    /// The list at `tag`, or `None` when there is no such tag.
    pub(crate) async fn list_at(
        &self,
        repository: &Repository,
        tag: &str,
        kind: Kind<'_>,
    ) -> Result<Option<List>, Error> {
        match self.get_raw(repository, tag, None).await {
            Ok(raw) => List::parse(&raw, kind, &what_of(repository, tag)).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that the list at `tag` holds `ours`, behind what is there.
    ///
    /// # Errors
    /// [`Error::TagMoved`] when it holds something else and must not be joined;
    /// [`Error::LostUpdate`] when other writers keep overwriting it; [`Error::Malformed`] when what
    /// is there is no list: it is somebody's, and not overwritten.
    pub(crate) async fn grow(
        &self,
        repository: &Repository,
        tag: &str,
        kind: Kind<'_>,
        ours: &[Value],
    ) -> Result<Landed, Error> {
        // What the list has to hold in the end: ours, and all that was read on the way.
        let mut wanted = ours.to_vec();
        let mut rivals = 0;
        let mut written: Option<Digest> = None;
        for attempt in 1..=WRITES {
            let (window, digest) = {
                let _turn = turn(&format!("{repository}:{tag}")).await;
                let begun = Instant::now();
                let there = self.list_at(repository, tag, kind).await.map_err(not_overwritten)?;
                let found = there.as_ref().map(|list| &list.digest);
                if written.is_some() && found != written.as_ref() {
                    rivals += 1;
                }
                let items = there.as_ref().map_or(&[][..], |list| &list.items);
                let has: HashSet<String> = items.iter().map(|item| kind.id(item)).collect();
                let whole = wanted.iter().all(|item| has.contains(&kind.id(item)));
                if whole && (there.is_some() || !wanted.is_empty() || !kind.is_written_as_it_is()) {
                    return Ok(if attempt == 1 { Landed::Present } else { Landed::Copied });
                }
                let known: HashSet<String> = wanted.iter().map(|item| kind.id(item)).collect();
                wanted.extend(items.iter().filter(|i| !known.contains(&kind.id(i))).cloned());
                let missing: Vec<&Value> =
                    wanted.iter().filter(|item| !has.contains(&kind.id(item))).collect();
                let next = self.next(repository, tag, kind, there.as_ref(), &missing).await?;
                let Some((media_type, bytes)) = next else {
                    rivals += 1;
                    continue;
                };
                self.put_tag(repository, tag, &media_type, &bytes).await?;
                (begun.elapsed(), Digest::sha256(&bytes))
            };
            written = Some(digest);
            settle(window, rivals).await;
            if rivals > 0 {
                tokio::time::sleep(backoff(self.options(), attempt)).await;
            }
        }
        Err(Error::LostUpdate { what: what_of(repository, tag), attempts: WRITES })
    }

    /// The document with `missing` behind what is there; `None` when another writer came while it
    /// was made.
    async fn next(
        &self,
        repository: &Repository,
        tag: &str,
        kind: Kind<'_>,
        there: Option<&List>,
        missing: &[&Value],
    ) -> Result<Option<(String, Bytes)>, Error> {
        let mut items: Vec<Value> = there.map_or_else(Vec::new, |list| list.items.clone());
        items.extend(missing.iter().map(|item| (*item).clone()));
        let mut document = there.map_or_else(Map::new, |list| list.document.clone());
        document.entry("schemaVersion").or_insert(json!(2));
        match kind {
            Kind::Referrers => {
                if items.len() > REFERRERS_LIMIT {
                    let what = what_of(repository, tag);
                    return Err(Error::TooMany { what, limit: REFERRERS_LIMIT });
                }
                document.insert("mediaType".into(), json!(media_type::OCI_INDEX));
                document.insert("manifests".into(), Value::Array(items));
                let bytes = Bytes::from(Value::Object(document).to_string());
                Ok(Some((media_type::OCI_INDEX.to_owned(), bytes)))
            }
            Kind::Documents { whole, joins } => {
                let covers = |whole: &Manifest| {
                    let layers: HashSet<String> =
                        whole.layers().iter().map(|layer| kind.id(&json!(layer))).collect();
                    items.iter().all(|item| layers.contains(&kind.id(item)))
                };
                if let Some(whole) = whole
                    && covers(whole)
                {
                    return Ok(Some((whole.media_type.clone(), whole.bytes.clone())));
                }
                if let Some(there) = there
                    && !joins
                {
                    return Err(Error::TagMoved {
                        repository: repository.to_string(),
                        tag: tag.to_owned(),
                        expected: whole.map(|whole| whole.digest.clone()),
                        found: Some(there.digest.clone()),
                    });
                }
                let media_type = there
                    .map_or_else(|| media_type::OCI_MANIFEST.to_owned(), |l| l.media_type.clone());
                let config = self.config(repository, &document, &items).await?;
                let config_type = document
                    .get("config")
                    .and_then(|config| config.get("mediaType")?.as_str())
                    .unwrap_or(media_type::OCI_CONFIG)
                    .to_owned();
                self.put_blob(repository, &config).await?;
                document.insert("config".into(), json!(Descriptor::of(&config_type, &config)));
                document.entry("mediaType").or_insert(json!(media_type));
                document.insert("layers".into(), Value::Array(items));
                let bytes = Bytes::from(Value::Object(document).to_string());
                // Writing the config took a while in which somebody may have written.
                let now = self.tag_digest(repository, tag).await?;
                if now.as_ref() != there.map(|list| &list.digest) {
                    return Ok(None);
                }
                Ok(Some((media_type, bytes)))
            }
        }
    }

    /// The config that goes with `items`: it names each document a second time. One that cannot be
    /// read is made anew, as nobody needs more of it than that.
    async fn config(
        &self,
        repository: &Repository,
        document: &Map<String, Value>,
        items: &[Value],
    ) -> Result<Bytes, Error> {
        let old = document.get("config").and_then(|config| Descriptor::deserialize(config).ok());
        let old = match old {
            Some(old) => match self.blob_bytes(repository, &old, CONFIG_LIMIT).await {
                Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes).ok(),
                Err(error) if error.is_unreadable() => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let created = json!("0001-01-01T00:00:00Z");
        let mut config = old.unwrap_or_else(|| {
            Map::from_iter([
                ("architecture".to_owned(), json!("")),
                ("created".to_owned(), created.clone()),
                ("os".to_owned(), json!("")),
                ("config".to_owned(), json!({})),
            ])
        });
        let digests: Vec<&Value> = items.iter().map(|item| &item["digest"]).collect();
        config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": digests }));
        let history: Vec<Value> = items.iter().map(|_| json!({ "created": created })).collect();
        config.insert("history".into(), Value::Array(history));
        Ok(Bytes::from(Value::Object(config).to_string()))
    }
}

/// What is not understood is somebody's all the same.
fn not_overwritten(error: Error) -> Error {
    let Error::Malformed { what, problem } = error else { return error };
    let problem = format!(
        "{problem}; nothing is written over what is not understood: remove the tag if nobody \
         needs it"
    );
    Error::Malformed { what, problem }
}

fn what_of(repository: &Repository, tag: &str) -> String {
    let stem = tag.strip_prefix("sha256-").or_else(|| tag.strip_prefix("sha512-"));
    match stem {
        Some(hex) if !hex.contains('.') => {
            format!("the list of referrers at tag {tag} of {repository}")
        }
        Some(_) | None => format!("the manifest at tag {tag} of {repository}"),
    }
}
