//! Notifications: which of the steps that ask again are asking about what one tells of.

use std::collections::BTreeSet;

use fairlead_step::{Digest, ImageRef, StepId};
use serde_json::Value;

use crate::Run;

/// What a notification tells of.
enum About<'a> {
    /// An image in its repository.
    Image(ImageRef, Digest),
    /// An image, wherever it is.
    Digest(Digest),
    /// Anything else, by its name.
    Word(&'a str),
}

impl<'a> About<'a> {
    fn read(text: &'a str) -> Self {
        if let Ok(digest) = text.parse() {
            return Self::Digest(digest);
        }
        match text.parse::<ImageRef>() {
            Ok(ImageRef { digest: Some(digest), tag, repository }) => {
                Self::Image(ImageRef { digest: None, tag, repository }, digest)
            }
            Ok(ImageRef { digest: None, .. }) | Err(_) => Self::Word(text),
        }
    }

    /// Whether `word` names it. A digest without a repository names the image in each of them.
    fn is(&self, word: &str) -> bool {
        let named = |repository: Option<&ImageRef>, digest: &Digest| {
            if let Ok(known) = word.parse::<Digest>() {
                return known == *digest;
            }
            word.parse::<ImageRef>().is_ok_and(|image| {
                image.digest.as_ref() == Some(digest)
                    && repository.is_none_or(|pushed| pushed.repository == image.repository)
            })
        };
        match self {
            Self::Image(repository, digest) => named(Some(repository), digest),
            Self::Digest(digest) => named(None, digest),
            Self::Word(text) => word == *text,
        }
    }

    /// Whether a text of `value` names it.
    fn is_in(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => words(text).any(|word| self.is(word)),
            Value::Array(items) => items.iter().any(|item| self.is_in(item)),
            Value::Object(fields) => fields.values().any(|field| self.is_in(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// The words of a text: whatever may be a name. An image may stand within a longer text, such as
/// `--image=registry.example.com/shop@sha256:…`, or behind `oci://`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "._-:/@[]+".contains(c);
    let words = text.split(move |c| !of_a_name(c)).filter(|word| !word.is_empty());
    words.map(|word| word.rsplit_once("://").map_or(word, |(_, rest)| rest))
}

impl Run {
    /// The steps that ask again and whose input, as it would be rendered now, names `about`: an image
    /// in its repository, which its digest alone names too; a digest, wherever the image is; or any
    /// other word as a whole.
    #[must_use]
    pub fn asks_about(&self, about: &str) -> BTreeSet<StepId> {
        let about = About::read(about);
        let asks = |node: &crate::run::Node| {
            node.state.is_asking()
                && self.render(&node.id).is_ok_and(|input| about.is_in(input.display()))
        };
        self.nodes.iter().filter(|node| asks(node)).map(|node| node.id.clone()).collect()
    }
}
