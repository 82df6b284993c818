//! The edits, as the input has them, and their application to the text of one file.

use fairlead_step::Image;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::File;
use crate::route::Path;

/// One edit of one file. Exactly one of `value` and `image` says what to write, and exactly one
/// of `path` and `kustomize` says where.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, relative to the root of the repository. One that is a symbolic link, or lies
    /// behind one, is edited where it really is.
    pub file: String,
    /// Which document of a file of several: its index, from 0 on, or its `kind/name`. A file with
    /// one document that is not empty needs none.
    pub document: Option<DocumentName>,
    /// The path of a text that holds a YAML document of its own, such as `spec.source.helm.values`
    /// of an Argo CD application. `path` and `kustomize` then say where in that document.
    pub within: Option<Path>,
    /// Where in the file: a scalar, or for an image also a mapping with `repository` and `tag` or
    /// `digest` apart, as Helm charts have it.
    pub path: Option<Path>,
    /// The `name` of an entry under `images` of a kustomization file.
    pub kustomize: Option<String>,
    /// The scalar to write.
    pub value: Option<Value>,
    /// The image to write, by digest.
    pub image: Option<Image>,
    /// The tag to write beside the digest; where it is absent, a tag that stands there stays in a
    /// mapping and is dropped from a reference. A chart that reads no digest needs one.
    pub tag: Option<String>,
    /// What becomes of a value that stands in several places, through an anchor and its aliases.
    #[serde(default)]
    pub aliases: Aliases,
}

/// A scalar value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// Which document of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DocumentName {
    /// Its index, from 0 on. Empty documents count.
    Index(usize),
    /// Its `kind` and its `metadata.name`, with a `/` between them, or its index.
    Name(String),
}

/// What becomes of a value that stands in several places, through an anchor and its aliases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aliases {
    /// It is not edited.
    #[default]
    Refuse,
    /// It is edited where its anchor stands, and so in all of them.
    Follow,
}

/// A file after an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// What a person should know about it: why it may not do what is wanted.
    pub notes: Vec<String>,
}

/// Why an edit cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file is not YAML.
    #[error("{file} is not well-formed YAML: {why}")]
    NotYaml {
        /// Which file.
        file: String,
        /// What the reader said.
        why: String,
    },
    /// Nothing says which document is meant.
    #[error("{file} holds several documents ({found}): say which with `document`")]
    Several {
        /// Which file.
        file: String,
        /// The documents.
        found: String,
    },
    /// There is no such document, or there are several.
    #[error("{file} has {count} `{document}`: it holds {found}")]
    NoSuchDocument {
        /// Which file.
        file: String,
        /// Which document.
        document: String,
        /// How many.
        count: &'static str,
        /// The documents.
        found: String,
    },
    /// The path leads nowhere.
    #[error("{file} has nothing at `{path}`: {why}")]
    NoSuchPath {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
        /// How far it led.
        why: String,
    },
    /// What stands there is not a one-line scalar.
    #[error("{file}: `{path}` is not a scalar on one line but {what}, so it is not edited")]
    NotScalar {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The value is shared with other places.
    #[error(
        "{file}: `{path}` {how}, so an edit would change other places too; say `aliases: follow` \
         if they are meant"
    )]
    Alias {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
        /// How it is shared.
        how: String,
    },
    /// A mapping that is no image.
    #[error("{file}: the mapping at `{path}` has neither `repository` nor `digest` nor `tag`")]
    NotAnImage {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
    },
    /// No such entry in a kustomization.
    #[error("{file} has no entry named `{name}` under `images`")]
    NoSuchImage {
        /// Which file.
        file: String,
        /// Which name.
        name: String,
    },
    /// The edit would do something else than what is meant, or nobody knows what.
    #[error("{file}: cannot edit `{path}`: {why}")]
    Refused {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
        /// Why.
        why: String,
    },
}

/// Makes `edit` in `text` and answers the new text. Every byte that the edit does not mean stays,
/// and so does what every other value of the file reads as.
///
/// # Errors
/// When the file is not YAML, or the place is not there or cannot be edited.
pub fn apply(text: &str, edit: &Edit) -> Result<Edited, EditError> {
    let mut file = File::parse(&edit.file, text, edit.document.as_ref(), edit.aliases)?;
    if let Some(within) = &edit.within {
        let inner = Edit {
            file: format!("{}, in the text at `{within}`", edit.file),
            document: None,
            within: None,
            ..edit.clone()
        };
        let edited = apply(file.text_at(within)?, &inner)?;
        file.set_whole_text(within, &edited.text)?;
        return Ok(Edited { text: file.into_text(), notes: edited.notes });
    }
    match (&edit.path, &edit.kustomize, &edit.value, &edit.image) {
        (Some(path), None, Some(value), None) => file.set(path, value).map(drop)?,
        (Some(path), None, None, Some(image)) => {
            file.set_image(path, image, edit.tag.as_deref())?;
        }
        (None, Some(name), None, Some(image)) => {
            file.set_kustomize(name, image, edit.tag.as_deref())?;
        }
        // `Gitops::check` has refused every other combination.
        _ => {}
    }
    let notes = file.take_notes();
    Ok(Edited { text: file.into_text(), notes })
}
