//! Legacy tags: `sha256-<hex>.sig` and its kin, which hold a growing list of documents under a tag
//! that every writer rewrites.

use std::time::Instant;

use bytes::Bytes;
use fairlead_step::{Digest, Repository};
use serde_json::{Map, Value, json};

use crate::closure::LegacyTag;
use crate::tags::{lock_for, settle};
use crate::{Client, Content, Descriptor, Error, Landed, Manifest};

/// The largest config of such a manifest; it holds one digest for each document.
const CONFIG_LIMIT: u64 = 4 << 20;

/// How often the tag is written when other writers keep overwriting it.
const WRITES: u32 = 8;

impl Client {
    /// Sees to it that the legacy tag of `subject` holds all documents of `source`, whose blobs are
    /// at the destination already. Documents that are there besides stay: the two lists are joined.
    ///
    /// # Errors
    /// [`Error::TagMoved`] when the tag holds something else that cannot be joined, such as
    /// another bill of materials; [`Error::LostUpdate`] when other writers keep overwriting it.
    pub async fn put_legacy(
        &self,
        to: &Repository,
        subject: &Digest,
        tag: LegacyTag,
        source: &Manifest,
    ) -> Result<Landed, Error> {
        let name = tag.of(subject);
        let lock = lock_for(&format!("{to}:{name}"));
        let _held = lock.lock().await;
        for attempt in 1..=WRITES {
            let begun = Instant::now();
            let there = self.manifest_at_tag(to, &name).await?;
            if there.as_ref().is_some_and(|there| holds(there, source)) {
                return Ok(if attempt == 1 { Landed::Present } else { Landed::Copied });
            }
            let (media_type, bytes) = match &there {
                Some(there) if !holds(source, there) => {
                    if tag == LegacyTag::Sbom {
                        return Err(conflict(to, name, source, there));
                    }
                    self.join(to, &name, there, source).await?
                }
                Some(_) | None => (source.media_type.clone(), source.bytes.clone()),
            };
            self.put_tag(to, &name, &media_type, &bytes).await?;
            settle(begun.elapsed()).await;
        }
        Err(Error::LostUpdate { what: format!("tag {name} of {to}"), attempts: WRITES })
    }

    /// A manifest with the documents of `there` first and those of `source` that it lacks behind.
    async fn join(
        &self,
        to: &Repository,
        name: &str,
        there: &Manifest,
        source: &Manifest,
    ) -> Result<(String, Bytes), Error> {
        let (Content::Image { config, layers }, Content::Image { layers: more, .. }) =
            (&there.content, &source.content)
        else {
            return Err(conflict(to, name.to_owned(), source, there));
        };
        let malformed = |problem: String| Error::Malformed {
            what: format!("the manifest at tag {name} of {to}"),
            problem,
        };
        let new: Vec<&Descriptor> = more.iter().filter(|layer| !layers.contains(layer)).collect();

        // The config names each document a second time.
        let old = self.blob_bytes(to, config, CONFIG_LIMIT).await?;
        let mut document: Map<String, Value> =
            serde_json::from_slice(&old).map_err(|e| malformed(e.to_string()))?;
        if let Some(ids) = document
            .get_mut("rootfs")
            .and_then(|rootfs| rootfs.get_mut("diff_ids"))
            .and_then(Value::as_array_mut)
        {
            ids.extend(new.iter().map(|layer| json!(layer.digest)));
        }
        if let Some(history) = document.get_mut("history").and_then(Value::as_array_mut) {
            history.extend(new.iter().map(|_| json!({ "created": "0001-01-01T00:00:00Z" })));
        }
        let config_bytes = Bytes::from(Value::Object(document).to_string());
        self.put_blob(to, &config_bytes).await?;

        let mut manifest: Map<String, Value> =
            serde_json::from_slice(&there.bytes).map_err(|e| malformed(e.to_string()))?;
        manifest.insert("config".into(), json!(Descriptor::of(&config.media_type, &config_bytes)));
        let Some(list) = manifest.get_mut("layers").and_then(Value::as_array_mut) else {
            return Err(malformed("it has no `layers`".into()));
        };
        list.extend(new.into_iter().map(|layer| json!(layer)));
        Ok((there.media_type.clone(), Bytes::from(Value::Object(manifest).to_string())))
    }
}

/// Whether `whole` has every document of `part`, with its annotations.
fn holds(whole: &Manifest, part: &Manifest) -> bool {
    match (&whole.content, &part.content) {
        _ if whole.digest == part.digest => true,
        (Content::Image { layers: whole, .. }, Content::Image { layers: part, .. }) => {
            part.iter().all(|layer| whole.contains(layer))
        }
        (Content::Index { .. }, _) | (Content::Image { .. }, Content::Index { .. }) => false,
    }
}

fn conflict(to: &Repository, tag: String, source: &Manifest, there: &Manifest) -> Error {
    Error::TagMoved {
        repository: to.to_string(),
        tag,
        expected: Some(source.digest.clone()),
        found: Some(there.digest.clone()),
    }
}
