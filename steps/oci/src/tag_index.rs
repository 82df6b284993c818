//! Which evidence tags a repository has (`sha256-<hex>`, with `.sig`, `.att`, `.sbom` or nothing behind it),
//! told by its list of tags in place of a probe for each.
//!
//! A list is believed where nothing can be missing from it: it is whole, or it goes on from a place in a
//! lexical order that the registry was seen to keep. Everywhere else each tag is asked for.

use std::collections::BTreeSet;

use fairlead_step::{Algorithm, Digest, Repository};
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::client::Rights;
use crate::request::{Call, has_code};
use crate::tags::{PAGE_LIMIT, next_page};
use crate::{Client, Error};

/// What all of these tags begin with.
const PREFIX: &str = "sha256-";
/// How many tags are asked for at once.
const PAGE: usize = 1000;
/// How many tags from one subject's on are asked for: it has four at most.
const FEW: usize = 8;

/// What is known of the evidence tags of one repository.
pub(crate) enum TagIndex {
    /// All of them.
    All(BTreeSet<String>),
    /// There are many, and the list can be asked for from any place on.
    Lexical,
    /// The list says nothing.
    Unknown,
}

/// One page of a list.
struct Page {
    tags: Vec<String>,
    has_more: bool,
}

impl Page {
    /// Whether it is in order, and nothing of it stands before `last`.
    fn goes_on_from(&self, last: &str) -> bool {
        self.tags.iter().all(|tag| tag.as_str() > last) && self.tags.is_sorted()
    }

    fn evidence(self) -> BTreeSet<String> {
        self.tags.into_iter().filter(|tag| tag.starts_with(PREFIX)).collect()
    }
}

impl Client {
    /// What the list of tags of `repository` says, in one request where that is enough.
    ///
    /// # Errors
    /// When the registry cannot be reached.
    pub(crate) async fn tag_index(&self, repository: &Repository) -> Result<TagIndex, Error> {
        let Some(first) = self.tag_page(repository, None, PAGE).await? else {
            return Ok(TagIndex::Unknown);
        };
        if !first.has_more {
            return Ok(TagIndex::All(first.evidence()));
        }
        // A large repository. Its list can be asked for from a place on where it is in lexical order, which
        // shows in what the registry leaves out: a tag that stands before the place.
        let stands_before = first.tags.first().is_some_and(|tag| tag.as_str() <= PREFIX);
        if !stands_before || !first.tags.is_sorted() {
            return Ok(TagIndex::Unknown);
        }
        let Some(page) = self.tag_page(repository, Some(PREFIX), PAGE).await? else {
            return Ok(TagIndex::Unknown);
        };
        // Nothing at all may be what another order has to say of a tag that it does not know.
        if page.tags.is_empty() || !page.goes_on_from(PREFIX) {
            return Ok(TagIndex::Unknown);
        }
        let past = page.tags.last().is_none_or(|last| !last.starts_with(PREFIX));
        Ok(if past || !page.has_more { TagIndex::All(page.evidence()) } else { TagIndex::Lexical })
    }

    /// Which of the four evidence tags of `subject` there are; `None` where each must be asked for.
    pub(crate) async fn evidence_tags(
        &self,
        repository: &Repository,
        index: &TagIndex,
        subject: &Digest,
    ) -> Result<Option<BTreeSet<String>>, Error> {
        if subject.algorithm() != Algorithm::Sha256 {
            return Ok(None);
        }
        let stem = format!("{PREFIX}{}", subject.hex());
        let ours = |tag: &String| tag.starts_with(&stem);
        match index {
            TagIndex::All(tags) => Ok(Some(tags.iter().filter(|t| ours(t)).cloned().collect())),
            TagIndex::Unknown => Ok(None),
            TagIndex::Lexical => {
                let before = &stem[..stem.len() - 1];
                let page = self.tag_page(repository, Some(before), FEW).await?;
                let page = page.filter(|page| page.goes_on_from(before));
                let Some(page) = page else { return Ok(None) };
                // Others may share all but the last digit.
                let past = !page.has_more
                    || page.tags.last().is_some_and(|last| *last > format!("{stem}.t"));
                Ok(past.then(|| page.tags.into_iter().filter(ours).collect()))
            }
        }
    }

    /// One page of the list of tags behind `last`. `None` where the registry has no such list for us.
    async fn tag_page(
        &self,
        repository: &Repository,
        last: Option<&str>,
        count: usize,
    ) -> Result<Option<Page>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            tags: Option<Vec<String>>,
        }
        let host = self.host(repository).await?;
        let what = format!("the tags of {repository}");
        let from = last.map(|last| format!("&last={last}")).unwrap_or_default();
        let url = host.url(repository, &format!("tags/list?n={count}{from}"))?;
        let call = Call::read(Method::GET, url.clone(), Rights::Pull(repository), &what);
        let reply = match self.call(&host, &call, PAGE_LIMIT).await {
            Ok(reply) => reply,
            // Who may read manifests may be kept from reading lists.
            Err(Error::Denied { .. } | Error::Unauthorized { .. } | Error::TooLarge { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match reply.status {
            StatusCode::OK => {}
            // Where a manifest was just read, this is a repository without tags.
            StatusCode::NOT_FOUND if has_code(&reply.body, &["NAME_UNKNOWN"]) => {
                return Ok(Some(Page { tags: Vec::new(), has_more: false }));
            }
            _ => return Ok(None),
        }
        let Ok(Answer { tags }) = serde_json::from_slice(&reply.body) else { return Ok(None) };
        let has_more = next_page(&host, &url, &reply, &what).is_ok_and(|next| next.is_some());
        Ok(Some(Page { tags: tags.unwrap_or_default(), has_more }))
    }
}
