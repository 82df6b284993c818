//! Images, in the shapes that files have them: one reference, the fields of a chart's values, and
//! the entries of a kustomization.

use fairlead_step::{Image, ImageRef};

use crate::edit::{EditError, Value};
use crate::file::{File, Made};
use crate::route::{Part, Path};

impl File<'_> {
    /// Writes an image where a reference stands, or a mapping with its parts.
    pub(crate) fn set_image(
        &mut self,
        at: &Path,
        image: &Image,
        tag: Option<&str>,
    ) -> Result<(), EditError> {
        if self.is_mapping(at)? {
            return self.set_fields(at, image, tag);
        }
        if let Some(Part::Key(key)) = at.parts().last()
            && ["digest", "tag"].contains(&key.as_str())
        {
            let why = "it is a part of an image: give the path of the mapping that it is in, or \
                       write a `value`";
            return Err(self.refused(at, why));
        }
        let reference = ImageRef {
            repository: image.repository.clone(),
            tag: tag.map(ToOwned::to_owned),
            digest: Some(image.digest.clone()),
        };
        let apart = ["tag", "imageTag"]
            .into_iter()
            .find(|key| at.parent().is_some_and(|parent| self.scalar(&parent.key(key)).is_some()));
        if let Some(apart) = apart {
            let note = format!(
                "has a `{apart}` beside it: a chart that joins the two gets no valid reference; \
                 write each with a `value` then"
            );
            self.note(at, &note);
        }
        self.set(at, &Value::Text(reference.to_string())).map(drop)
    }

    fn set_fields(&mut self, at: &Path, image: &Image, tag: Option<&str>) -> Result<(), EditError> {
        let has = |field| self.has(&at.key(field));
        if !has("repository")? && !has("digest")? && !has("tag")? {
            return Err(self.not_an_image(at));
        }
        if let Some(name) = self.digest_in_tag(at, tag)? {
            // The file has its digest behind the tag, for a chart that reads no other.
            self.set_name(at, image)?;
            let both = Value::Text(format!("{name}@{}", image.digest));
            return self.set(&at.key("tag"), &both).map(drop);
        }
        let repository = self.set_name(at, image)?;
        let name = ["name", "image"].into_iter().find(|key| self.scalar(&at.key(key)).is_some());
        if let (Made::Added, Some(name)) = (repository, name) {
            let note = format!(
                "had no `repository` beside its `{name}`: a chart that reads `{name}` alone deploys \
                 what it did before; set it with a `value`"
            );
            self.note(at, &note);
        }
        let tag = tag.map(|tag| self.set_or_add(at, "tag", tag)).transpose()?;
        let digest = self.set_or_add(at, "digest", &image.digest.to_string())?;
        if digest == Made::Added && matches!(tag, None | Some(Made::Same)) {
            let stays = match self.scalar(&at.key("tag")) {
                Some(tag) if !tag.is_empty() => format!("`tag` stays `{tag}`"),
                Some(_) | None => "no `tag` is set".to_owned(),
            };
            let note = format!(
                "had no `digest`, and {stays}: a chart that reads no `digest` deploys nothing new; \
                 give the edit a new `tag` then, or set `tag` to the tag and the digest, \
                 `TAG@sha256:…`, with a `value`"
            );
            self.note(at, &note);
        }
        Ok(())
    }

    /// Writes the registry and the repository, or both as one.
    fn set_name(&mut self, at: &Path, image: &Image) -> Result<Made, EditError> {
        // A registry that nobody filled in is no part of the name.
        let registry = self.scalar(&at.key("registry")).is_some_and(|host| !host.is_empty());
        if !registry {
            return self.set_or_add(at, "repository", &image.repository.to_string());
        }
        self.set(&at.key("registry"), &Value::Text(image.repository.registry().to_owned()))?;
        self.set_or_add(at, "repository", image.repository.path())
    }

    /// The tag that goes before the digest, where `tag` is `TAG@DIGEST` and no `digest` stands
    /// beside it.
    fn digest_in_tag(&self, at: &Path, tag: Option<&str>) -> Result<Option<String>, EditError> {
        if self.has_own(at, "digest")? {
            return Ok(None);
        }
        let found = self.scalar(&at.key("tag")).and_then(|found| found.split_once('@'));
        Ok(found.map(|(name, _)| tag.unwrap_or(name).to_owned()))
    }

    /// Writes an image into the entry of a kustomization that is called `name`.
    pub(crate) fn set_kustomize(
        &mut self,
        name: &str,
        image: &Image,
        tag: Option<&str>,
    ) -> Result<(), EditError> {
        let images = Path::root("images");
        let mut named = Vec::new();
        for index in 0..self.length(&images)? {
            if self.scalar(&images.index(index).key("name")) == Some(name) {
                named.push(images.index(index));
            }
        }
        let entry = match named.as_slice() {
            [entry] => entry,
            [] => return Err(self.no_such_image(name)),
            [_, ..] => {
                let why = format!("several entries are named `{name}`: give the `path` of one");
                return Err(self.refused(&images, why));
            }
        };
        self.set_or_add(entry, "newName", &image.repository.to_string())?;
        // kustomize ignores `newTag` beside `digest`, but people read it.
        if let Some(tag) = tag {
            self.set_or_add(entry, "newTag", tag)?;
        }
        self.set_or_add(entry, "digest", &image.digest.to_string()).map(drop)
    }
}
