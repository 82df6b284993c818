//! Legacy tags: `sha256-<hex>.sig` and its kin, which hold a growing list of documents under a tag
//! that every writer rewrites.

use fairlead_step::{Digest, Image, Repository};
use serde_json::{Value, json};

use crate::closure::LegacyTag;
use crate::lists::Kind;
use crate::{Client, Content, Descriptor, Error, Landed, Manifest};

/// What a legacy tag holds.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The digest of the manifest under the tag.
    pub digest: Digest,
    /// The documents, in the order of the manifest.
    pub layers: Vec<Descriptor>,
    /// What in the manifest cannot be read, as lines for people.
    pub findings: Vec<String>,
}

impl Client {
    /// What the legacy tag of `image` holds, or `None` when there is no such tag.
    ///
    /// # Errors
    /// [`Error::Malformed`] when what is under the tag is nothing of the kind; one entry that cannot
    /// be read is a finding.
    pub async fn documents(
        &self,
        image: &Image,
        tag: LegacyTag,
    ) -> Result<Option<Documents>, Error> {
        let kind = Kind::Documents { whole: None, joins: true };
        let name = tag.of(&image.digest);
        let Some(list) = self.list_at(&image.repository, &name, kind).await? else {
            return Ok(None);
        };
        let (layers, problems) = list.descriptors();
        let findings = problems.iter().map(|problem| format!("at tag {name}, {problem}")).collect();
        Ok(Some(Documents { digest: list.digest, layers, findings }))
    }

    /// Adds documents, whose blobs are there already, to the legacy tag of `subject`, behind those
    /// of others. Documents that are there are left alone.
    ///
    /// # Errors
    /// [`Error::LostUpdate`] when other writers keep overwriting the tag; [`Error::Malformed`] when
    /// what is under it is nothing of the kind.
    pub async fn add_documents(
        &self,
        to: &Repository,
        subject: &Digest,
        tag: LegacyTag,
        documents: &[Descriptor],
    ) -> Result<Landed, Error> {
        let ours: Vec<Value> = documents.iter().map(|document| json!(document)).collect();
        let kind = Kind::Documents { whole: None, joins: tag != LegacyTag::Sbom };
        self.grow(to, &tag.of(subject), kind, &ours).await
    }

    /// Sees to it that the legacy tag of `subject` holds all documents of `source`, whose blobs are
    /// at the destination already. Documents that are there besides stay: the two lists are joined.
    ///
    /// # Errors
    /// [`Error::TagMoved`] when the tag holds something else that cannot be joined, such as
    /// another bill of materials; otherwise as [`Client::add_documents`].
    pub async fn put_legacy(
        &self,
        to: &Repository,
        subject: &Digest,
        tag: LegacyTag,
        source: &Manifest,
    ) -> Result<Landed, Error> {
        let name = tag.of(subject);
        match &source.content {
            Content::Image { layers, .. } => {
                // As the source has them, with fields that Fairlead does not know.
                let document: Option<Value> = serde_json::from_slice(&source.bytes).ok();
                let ours = document
                    .and_then(|document| document.get("layers")?.as_array().cloned())
                    .unwrap_or_else(|| layers.iter().map(|layer| json!(layer)).collect());
                let joins = tag != LegacyTag::Sbom;
                let kind = Kind::Documents { whole: Some(source), joins };
                self.grow(to, &name, kind, &ours).await
            }
            // Nothing that can be joined: it is there, or it comes where nothing is.
            Content::Index { .. } | Content::Unknown => {
                let there = self.tag_digest(to, &name).await?;
                if there.as_ref() == Some(&source.digest) {
                    return Ok(Landed::Present);
                }
                let write = async {
                    let digest = source.digest.to_string();
                    let (kind, bytes) = (&source.media_type, &source.bytes);
                    self.write_manifest(to, &digest, kind, bytes, source.digest.clone()).await?;
                    self.move_tag(&to.at(source.digest.clone()), &name, None).await
                };
                write.await.map(|_| Landed::Copied)
            }
        }
    }
}
