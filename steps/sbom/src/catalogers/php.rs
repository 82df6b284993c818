//! PHP packages: `vendor/composer/installed.json`, in the forms of Composer 1 and 2.

use serde::Deserialize;
use serde_json::Value;

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;
use crate::unassessed::UnassessedKind;

/// Reads what Composer installed.
pub(super) struct Php;

impl Cataloger for Php {
    fn name(&self) -> &'static str {
        "php"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.name == "installed.json" && place.folder_is("composer")
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        Ok(Some(packages(&content.whole()?)?.into()))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::PhpComposer
    }
}

/// A package as Composer writes it, in `installed.json` and in `composer.lock`.
#[derive(Deserialize)]
pub(super) struct ComposerPackage {
    name: String,
    version: String,
    #[serde(default)]
    license: Value,
    #[serde(default)]
    authors: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Installed {
    /// Composer 2.
    Named { packages: Vec<ComposerPackage> },
    /// Composer 1.
    Bare(Vec<ComposerPackage>),
}

impl ComposerPackage {
    pub(super) fn entry(self) -> Entry {
        let license = match &self.license {
            Value::String(license) => Some(license.clone()),
            Value::Array(all) => {
                let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
                Some(all.join(" OR "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        };
        let author = self.authors.get(0).and_then(|author| author.get("name"));
        Entry {
            license: license.filter(|license| !license.is_empty()),
            supplier: author.and_then(Value::as_str).map(str::to_owned),
            ..Entry::split(Ecosystem::Composer, &self.name, self.version)
        }
    }
}

fn packages(json: &[u8]) -> Result<Vec<Entry>, Unreadable> {
    let installed = serde_json::from_slice(json)
        .map_err(|error| Unreadable::Lost(format!("it is no list of Composer's: {error}")))?;
    let all = match installed {
        Installed::Named { packages } | Installed::Bare(packages) => packages,
    };
    Ok(all.into_iter().map(ComposerPackage::entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let one = r#"{"name": "Symfony/console", "version": "v6.3.4", "license": ["MIT"],
                      "authors": [{"name": "Fabien"}]}"#;
        for json in [format!("[{one}]"), format!(r#"{{"packages": [{one}], "dev": true}}"#)] {
            let found = packages(json.as_bytes()).unwrap();
            assert_eq!(found[0].purl(None).unwrap(), "pkg:composer/symfony/console@v6.3.4");
            assert_eq!(found[0].license.as_deref(), Some("MIT"));
            assert_eq!(found[0].supplier.as_deref(), Some("Fabien"));
        }
        assert!(packages(b"{}").is_err());
        assert!(packages(b"").is_err());
    }
}
