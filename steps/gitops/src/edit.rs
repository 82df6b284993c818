//! The edits, and their application to the text of one file.

use fairlead_step::{Image, ImageRef};
use schemars::JsonSchema;
use serde::Deserialize;
use yamlpatch::{Op, Patch, apply_yaml_patches};
use yamlpath::{Document, QueryError};

use crate::route::Path;
use crate::scalar::{self, Style};

/// One edit of one file. Exactly one of `value` and `image` says what to write, and exactly one
/// of `path` and `kustomize` says where.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, relative to the root of the repository.
    pub file: String,
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
    /// mapping and is dropped from a reference.
    pub tag: Option<String>,
}

/// A scalar value.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// Why an edit cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file is not YAML.
    #[error("{file} is not well-formed YAML, or holds several documents")]
    NotYaml {
        /// Which file.
        file: String,
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
    #[error("{file}: `{path}` is not a scalar on one line, so it is not edited")]
    NotScalar {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
    },
    /// The value is shared with other places.
    #[error("{file}: `{path}` leads through an alias, so an edit would change other places too")]
    Alias {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
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
    /// The editor refused.
    #[error("{file}: cannot edit `{path}`: {why}")]
    Refused {
        /// Which file.
        file: String,
        /// Which path.
        path: String,
        /// What it said.
        why: String,
    },
}

/// Makes `edit` in `text` and answers the new text. Every byte that the edit does not mean stays.
///
/// # Errors
/// When the file is not YAML, or the place is not there or cannot be edited.
pub fn apply(text: &str, edit: &Edit) -> Result<String, EditError> {
    let mut file = File::parse(&edit.file, text)?;
    match (&edit.path, &edit.kustomize, &edit.value, &edit.image) {
        (Some(path), None, Some(value), None) => file.set(path, value)?,
        (Some(path), None, None, Some(image)) => {
            file.set_image(path, image, edit.tag.as_deref())?
        }
        (None, Some(name), None, Some(image)) => {
            file.set_kustomize(name, image, edit.tag.as_deref())?;
        }
        // `Gitops::check` has refused every other combination.
        _ => {}
    }
    Ok(file.text)
}

struct File<'a> {
    name: &'a str,
    text: String,
}

impl<'a> File<'a> {
    fn parse(name: &'a str, text: &str) -> Result<Self, EditError> {
        let file = Self { name, text: text.to_owned() };
        file.document()?;
        Ok(file)
    }

    fn document(&self) -> Result<Document, EditError> {
        let several = self.text.lines().skip_while(|l| l.is_empty() || l.starts_with(['#', '%']));
        let several = several.skip(1).any(|line| line == "---" || line.starts_with("--- "));
        if several {
            return Err(EditError::NotYaml { file: self.name.to_owned() });
        }
        Document::new(self.text.clone())
            .map_err(|_| EditError::NotYaml { file: self.name.to_owned() })
    }

    fn no_such_path(&self, path: &Path, why: impl ToString) -> EditError {
        let (file, path) = (self.name.to_owned(), path.to_string());
        EditError::NoSuchPath { file, path, why: why.to_string() }
    }

    fn has(&self, path: &Path) -> Result<bool, EditError> {
        Ok(self.document()?.query_exists(&path.route()))
    }

    /// Where the value at `path` stands in the text; `None` for a key without a value.
    ///
    /// An alias leads to text outside of the value that it stands in for: an edit there would
    /// change every other place that uses the anchor, so it is refused.
    fn span(&self, path: &Path) -> Result<Option<(usize, usize)>, EditError> {
        let document = self.document()?;
        let mut within = (0, self.text.len());
        for prefix in path.prefixes() {
            let found = document
                .query_exact(&prefix.route())
                .map_err(|error| self.no_such_path(path, error))?;
            let Some(feature) = found else { return Ok(None) };
            let span = feature.location.byte_span;
            // An anchor stands before its aliases: what an alias leads to begins before the key.
            let key = document.query_key_only(&prefix.route());
            let after_key = key.map_or(within.0, |key| key.location.byte_span.1);
            if span.0 < within.0.max(after_key) || span.1 > within.1 {
                let (file, path) = (self.name.to_owned(), path.to_string());
                return Err(EditError::Alias { file, path });
            }
            within = span;
        }
        Ok(Some(within))
    }

    fn set(&mut self, path: &Path, value: &Value) -> Result<(), EditError> {
        let not_scalar =
            || EditError::NotScalar { file: self.name.to_owned(), path: path.to_string() };
        let Some((start, end)) = self.span(path)? else {
            return Err(self.no_such_path(path, "the key has no value"));
        };
        let current = &self.text[start..end];
        let style = Style::of(current).ok_or_else(not_scalar)?;
        let written = match value {
            Value::Text(text) => scalar::write(text, style),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
        };
        // The same value written another way is no difference.
        if reads_as(current, value) {
            return Ok(());
        }
        self.text.replace_range(start..end, &written);
        self.document().map(drop)
    }

    fn set_text(&mut self, path: &Path, text: &str) -> Result<(), EditError> {
        self.set(path, &Value::Text(text.to_owned()))
    }

    /// Sets a key of a mapping, adding it behind the others where it is not there yet.
    fn set_or_add(&mut self, mapping: &Path, key: &str, text: &str) -> Result<(), EditError> {
        let path = mapping.key(key);
        if self.has(&path)? {
            return self.set_text(&path, text);
        }
        let value = yaml_serde::Value::from(text);
        let patch = Patch { route: mapping.route(), operation: Op::Add { key: key.into(), value } };
        let refused = |error: yamlpatch::Error| EditError::Refused {
            file: self.name.to_owned(),
            path: path.to_string(),
            why: error.to_string(),
        };
        let patched = apply_yaml_patches(&self.document()?, &[patch]).map_err(refused)?;
        let mut text = patched.source().to_owned();
        if !self.text.ends_with('\n') && text.ends_with('\n') {
            text.pop();
        }
        self.text = text;
        Ok(())
    }

    fn set_image(&mut self, at: &Path, image: &Image, tag: Option<&str>) -> Result<(), EditError> {
        let fields = ["repository", "digest", "tag"];
        let mut is_image = false;
        for field in fields {
            is_image |= self.has(&at.key(field))?;
        }
        if !is_image {
            let Some((start, end)) = self.span(at)? else {
                return Err(self.no_such_path(at, "the key has no value"));
            };
            if Style::of(&self.text[start..end]).is_none() {
                let (file, path) = (self.name.to_owned(), at.to_string());
                return Err(EditError::NotAnImage { file, path });
            }
            let reference = ImageRef {
                repository: image.repository.clone(),
                tag: tag.map(ToOwned::to_owned),
                digest: Some(image.digest.clone()),
            };
            return self.set_text(at, &reference.to_string());
        }
        // Charts that keep the registry's host in a field of its own join the two themselves.
        if self.has(&at.key("registry"))? {
            self.set_text(&at.key("registry"), image.repository.registry())?;
            self.set_or_add(at, "repository", image.repository.path())?;
        } else {
            self.set_or_add(at, "repository", &image.repository.to_string())?;
        }
        if let Some(tag) = tag {
            self.set_or_add(at, "tag", tag)?;
        }
        self.set_or_add(at, "digest", &image.digest.to_string())
    }

    fn set_kustomize(
        &mut self,
        name: &str,
        image: &Image,
        tag: Option<&str>,
    ) -> Result<(), EditError> {
        let images = Path::root("images");
        if !self.has(&images)? {
            return Err(self.no_such_path(&images, QueryError::ExhaustedMapping("images".into())));
        }
        let mut index = 0;
        let entry = loop {
            let entry = images.index(index);
            if !self.has(&entry)? {
                let (file, name) = (self.name.to_owned(), name.to_owned());
                return Err(EditError::NoSuchImage { file, name });
            }
            let key = entry.key("name");
            if self.has(&key)?
                && let Some((start, end)) = self.span(&key)?
                && reads_as(&self.text[start..end], &Value::Text(name.to_owned()))
            {
                break entry;
            }
            index += 1;
        };
        self.set_or_add(&entry, "newName", &image.repository.to_string())?;
        // kustomize ignores `newTag` beside `digest`, but people read it.
        if let Some(tag) = tag {
            self.set_or_add(&entry, "newTag", tag)?;
        }
        self.set_or_add(&entry, "digest", &image.digest.to_string())
    }
}

/// Whether the source text of a scalar already means `value`.
fn reads_as(source: &str, value: &Value) -> bool {
    match (yaml_serde::from_str::<yaml_serde::Value>(source), value) {
        (Ok(yaml_serde::Value::String(text)), Value::Text(want)) => text == *want,
        (Ok(yaml_serde::Value::Number(number)), Value::Integer(want)) => {
            number.as_i64() == Some(*want)
        }
        (Ok(yaml_serde::Value::Bool(flag)), Value::Boolean(want)) => flag == *want,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELM: &str = "\
# values of the shop   (keep this comment)
replicas:   2
image:
  repository: registry.example.com/apps/shop   # where it is
  tag: 'v1.0.0'
  # the digest decides
  digest: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"

odd:    {flow: [1,2,   3], image: old.example.com/x:1}
url: http://x
";

    fn edit(json: serde_json::Value) -> Edit {
        let mut json = json;
        json["file"] = "values.yaml".into();
        serde_json::from_value(json).unwrap()
    }

    fn image() -> String {
        format!("registry.example.com/prod/shop@{}", fairlead_step::Digest::sha256(b"new"))
    }

    fn changed(before: &str, after: &str) -> String {
        let lines = before.lines().zip(after.lines()).filter(|(b, a)| b != a);
        let mut text: String = lines.map(|(b, a)| format!("-{b}\n+{a}\n")).collect();
        for added in after.lines().skip(before.lines().count()) {
            text.push_str(&format!("+{added}\n"));
        }
        text
    }

    #[test]
    fn a_helm_image_is_edited_in_place() {
        let after = apply(
            HELM,
            &edit(serde_json::json!({"path": "image", "image": image(), "tag": "v1.1.0"})),
        )
        .unwrap();
        insta::assert_snapshot!(changed(HELM, &after), @r#"
        -  repository: registry.example.com/apps/shop   # where it is
        +  repository: registry.example.com/prod/shop   # where it is
        -  tag: 'v1.0.0'
        +  tag: 'v1.1.0'
        -  digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        +  digest: "sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
        "#);
    }

    #[test]
    fn a_scalar_is_edited_in_place_even_in_flow_style() {
        let after =
            apply(HELM, &edit(serde_json::json!({"path": "odd.image", "image": image()}))).unwrap();
        insta::assert_snapshot!(changed(HELM, &after), @r"
        -odd:    {flow: [1,2,   3], image: old.example.com/x:1}
        +odd:    {flow: [1,2,   3], image: registry.example.com/prod/shop@sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437}
        ");
        let after =
            apply(HELM, &edit(serde_json::json!({"path": "odd.flow[2]", "value": 4}))).unwrap();
        assert!(after.contains("[1,2,   4]"));
        let after =
            apply(HELM, &edit(serde_json::json!({"path": "replicas", "value": 3}))).unwrap();
        assert!(after.contains("replicas:   3\n"));
    }

    #[test]
    fn a_value_that_is_there_already_is_no_difference() {
        let same = edit(serde_json::json!({"path": "image.tag", "value": "v1.0.0"}));
        assert_eq!(apply(HELM, &same).unwrap(), HELM);
    }

    #[test]
    fn a_kustomization_entry_is_edited_and_completed() {
        let before = "images:\n- name: other\n  newTag: x\n- name: shop\n  newName: old/shop\n";
        let after = apply(
            before,
            &edit(serde_json::json!({"kustomize": "shop", "image": image(), "tag": "1.10"})),
        )
        .unwrap();
        insta::assert_snapshot!(after, @r#"
        images:
        - name: other
          newTag: x
        - name: shop
          newName: registry.example.com/prod/shop
          newTag: '1.10'
          digest: sha256:11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437
        "#);
    }

    #[test]
    fn what_cannot_be_edited_is_named() {
        for (text, json, want) in [
            (
                HELM,
                serde_json::json!({"path": "image.nope", "value": "x"}),
                "has nothing at `image.nope`",
            ),
            (HELM, serde_json::json!({"path": "image", "value": "x"}), "not a scalar on one line"),
            (HELM, serde_json::json!({"path": "odd", "image": image()}), "neither `repository`"),
            ("a: [", serde_json::json!({"path": "a", "value": "x"}), "not well-formed YAML"),
            (
                "a: 1\n---\nb: 2\n",
                serde_json::json!({"path": "a", "value": "x"}),
                "several documents",
            ),
            (
                "a: &x 1\nb: *x\n",
                serde_json::json!({"path": "b", "value": "x"}),
                "through an alias",
            ),
            (
                "a: &x {c: 1}\nb: *x\n",
                serde_json::json!({"path": "b.c", "value": 2}),
                "through an alias",
            ),
            (
                "a: |\n  x\n",
                serde_json::json!({"path": "a", "value": "x"}),
                "not a scalar on one line",
            ),
            (
                "images: []\n",
                serde_json::json!({"kustomize": "a", "image": image()}),
                "no entry named `a`",
            ),
            ("a:\n", serde_json::json!({"path": "a", "value": "x"}), "no value"),
        ] {
            let error = apply(text, &edit(json)).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
