//! Tags: listing them, and moving them only from where they were expected to be.

use fairlead_step::{Digest, Image, Repository};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::client::Rights;
use crate::host::Host;
use crate::request::{Call, Reply};
use crate::{Client, Error, Manifest, writers};

/// The most tags that are listed of one repository.
pub const TAGS_LIMIT: usize = 100_000;
/// The largest page of a list.
pub(crate) const PAGE_LIMIT: u64 = 8 << 20;

/// What became of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagMove {
    /// Where it pointed before; `None` is nowhere.
    pub from: Option<Digest>,
    /// Where it points now.
    pub to: Digest,
}

impl Client {
    /// Every tag of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such repository; [`Error::TooMany`] beyond
    /// [`TAGS_LIMIT`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let host = self.host(repository).await?;
        let what = format!("the tags of {repository}");
        let mut next = Some(host.url(repository, "tags/list?n=1000")?);
        let mut tags: Vec<String> = Vec::new();
        while let Some(url) = next {
            let call = Call::read(Method::GET, url.clone(), Rights::Pull(repository), &what);
            let reply = self.call(&host, &call, PAGE_LIMIT).await?;
            if reply.status != StatusCode::OK {
                return Err(reply.refused(&host, &what));
            }
            let page: Page = serde_json::from_slice(&reply.body)
                .map_err(|e| Error::Malformed { what: what.clone(), problem: e.to_string() })?;
            let page = page.tags.unwrap_or_default();
            next = next_page(&host, &url, &reply, &what)?.filter(|_| !page.is_empty());
            tags.extend(page);
            if tags.len() > TAGS_LIMIT {
                return Err(Error::TooMany { what, limit: TAGS_LIMIT });
            }
        }
        Ok(tags)
    }

    /// Points `tag` to `image`, which is in the same repository, if it points to `expected` now
    /// (`None`: if there is no such tag). A tag that is already there stays, whatever was
    /// expected.
    ///
    /// Registries have no such operation: this reads, checks, writes and reads again while no other
    /// process of this machine does. A writer elsewhere that comes between is seen when it wrote last.
    ///
    /// # Errors
    /// [`Error::TagMoved`] when it points elsewhere, before or after the write.
    pub async fn move_tag(
        &self,
        image: &Image,
        tag: &str,
        expected: Option<&Digest>,
    ) -> Result<TagMove, Error> {
        self.move_tag_to(image, None, tag, expected).await
    }

    /// The same with the manifest in hand, which is not read again then.
    ///
    /// # Errors
    /// As [`Client::move_tag`].
    pub async fn move_tag_to(
        &self,
        image: &Image,
        manifest: Option<&Manifest>,
        tag: &str,
        expected: Option<&Digest>,
    ) -> Result<TagMove, Error> {
        let repository = &image.repository;
        let _turn = writers::turn(&format!("{repository}:{tag}")).await;
        let moved = |expected: Option<&Digest>, found: Option<Digest>| Error::TagMoved {
            repository: repository.to_string(),
            tag: tag.to_owned(),
            expected: expected.cloned(),
            found,
        };
        let current = self.tag_digest(repository, tag).await?;
        if current.as_ref() == Some(&image.digest) {
            return Ok(TagMove { from: current, to: image.digest.clone() });
        }
        if current.as_ref() != expected {
            return Err(moved(expected, current));
        }
        let read;
        let manifest = match manifest.filter(|manifest| manifest.digest == image.digest) {
            Some(manifest) => manifest,
            None => {
                read = self.manifest(image).await?;
                &read
            }
        };
        self.write_manifest(
            repository,
            tag,
            &manifest.media_type,
            &manifest.bytes,
            image.digest.clone(),
        )
        .await?;
        let after = self.tag_digest(repository, tag).await?;
        if after.as_ref() != Some(&image.digest) {
            return Err(moved(Some(&image.digest), after));
        }
        Ok(TagMove { from: current, to: image.digest.clone() })
    }

    /// Deletes `tag` and keeps `manifest`, to which it points: where the registry deletes a manifest
    /// with its last tag, it is written again, by digest. Answers whether the tag is gone; many registries
    /// delete no tags, or not for everybody.
    ///
    /// # Errors
    /// When the registry cannot be asked, or does not take the manifest back.
    pub async fn untag(
        &self,
        repository: &Repository,
        tag: &str,
        manifest: &Manifest,
    ) -> Result<bool, Error> {
        let what = format!("deleting the tag {tag} of {repository}");
        let host = self.host(repository).await?;
        let url = host.url(repository, &format!("manifests/{tag}"))?;
        let call = Call::read(Method::DELETE, url, Rights::Delete(repository), &what);
        match self.call(&host, &call, PAGE_LIMIT).await {
            Ok(reply) if reply.status.is_success() => {}
            Ok(reply) => return Ok(reply.status == StatusCode::NOT_FOUND),
            Err(Error::Unauthorized { .. } | Error::Denied { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        if !self.has_manifest(repository, &manifest.digest).await? {
            self.put_manifest(repository, &manifest.media_type, &manifest.bytes).await?;
        }
        Ok(true)
    }
}

/// The next page of a list: the `Link` with `rel="next"` (distribution-spec v1.1, "Listing Tags";
/// RFC 8288). It must stay on the registry.
pub(crate) fn next_page(
    host: &Host,
    here: &Url,
    reply: &Reply,
    what: &str,
) -> Result<Option<Url>, Error> {
    for link in reply.headers.get_all("link") {
        let Some((target, params)) =
            link.to_str().ok().and_then(|l| l.trim().strip_prefix('<')?.split_once('>'))
        else {
            continue;
        };
        let is_next = params.split(';').any(|param| {
            matches!(param.trim().to_ascii_lowercase().as_str(), "rel=\"next\"" | "rel=next")
        });
        if !is_next {
            continue;
        }
        let malformed =
            |problem: &str| Error::Malformed { what: what.to_owned(), problem: problem.into() };
        let next = host.follow(here, target, what)?;
        if !host.is_own(&next) {
            return Err(malformed("its next page is on another host"));
        }
        if next == *here {
            return Err(malformed("its next page is itself"));
        }
        return Ok(Some(next));
    }
    Ok(None)
}
