//! The name of an image as registries report it, read into what cannot be wrong.

use fairlead_step::{Digest, ImageRef, Repository};
use jiff::Timestamp;

use super::clip;
use crate::{ImageDeleted, ImagePushed};

/// A repository of the source's registry, with the tag and the digest that an event names.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) repository: Repository,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

impl Named {
    /// Reads a name. Registries put the digest where the tag belongs when there is no tag, and an
    /// empty text where there is nothing.
    ///
    /// # Errors
    /// Says what is no name, no tag, or no digest, or that there is neither tag nor digest.
    pub(super) fn new(
        registry: Option<&str>,
        path: &str,
        tag: Option<&str>,
        digest: Option<&str>,
    ) -> Result<Self, String> {
        let repository = Repository::new(registry.unwrap_or_default(), path)
            .map_err(|e| format!("`{}`: {e}", clip(path)))?;
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let mut digest = given(digest)
            .map(|text| text.parse::<Digest>().map_err(|e| format!("`{}`: {e}", clip(path))))
            .transpose()?;
        let tag = match given(tag) {
            Some(text) => match text.parse::<Digest>() {
                Ok(found) => {
                    // Of two that differ neither can be believed.
                    if digest.as_ref().is_some_and(|digest| *digest != found) {
                        return Err(format!("`{}`: it names two digests", clip(path)));
                    }
                    digest = Some(found);
                    None
                }
                Err(_) if ImageRef::is_tag(&text) => Some(text),
                Err(_) => return Err(format!("`{}`: `{}` is not a tag", clip(path), clip(&text))),
            },
            None => None,
        };
        if tag.is_none() && digest.is_none() {
            return Err(format!("`{}`: it names neither a tag nor a digest", clip(path)));
        }
        Ok(Self { repository, tag, digest })
    }

    pub(super) fn pushed(self, actor: Option<String>, at: Option<Timestamp>) -> ImagePushed {
        let Self { repository, tag, digest } = self;
        ImagePushed { repository, tag, digest, media_type: None, actor, at }
    }

    pub(super) fn deleted(self, actor: Option<String>, at: Option<Timestamp>) -> ImageDeleted {
        let Self { repository, tag, digest } = self;
        ImageDeleted { repository, tag, digest, actor, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_in_the_place_of_the_tag_is_the_digest() {
        let digest = Digest::sha256(b"a").to_string();
        let named = |tag, digest| Named::new(Some("r.example.com"), "apps/shop", tag, digest);
        for (tag, given, want_tag, want_digest) in [
            (Some("1.0"), Some(digest.as_str()), Some("1.0"), true),
            (Some("1.0"), None, Some("1.0"), false),
            (Some("1.0"), Some(""), Some("1.0"), false),
            (Some(digest.as_str()), Some(digest.as_str()), None, true),
            (Some(digest.as_str()), None, None, true),
            (None, Some(digest.as_str()), None, true),
            (Some(""), Some(digest.as_str()), None, true),
        ] {
            let found = named(tag, given).unwrap();
            assert_eq!((found.tag.as_deref(), found.digest.is_some()), (want_tag, want_digest));
        }
        let other = Digest::sha256(b"b").to_string();
        for (tag, given) in [
            (None, None),
            (Some(""), Some("")),
            (Some("-x"), None),
            (Some("1.0"), Some("sha256:12")),
            (Some(other.as_str()), Some(digest.as_str())),
        ] {
            assert!(named(tag, given).is_err(), "{tag:?} {given:?}");
        }
        assert!(Named::new(Some("r.example.com"), "../x", Some("1"), None).is_err());
    }
}
