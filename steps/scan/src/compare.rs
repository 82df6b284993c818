//! Two bills of materials side by side: which packages came, which went, which changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::sbom::{self, Bill, SbomError};

/// Why two bills cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error("{which} is no bill of materials that can be read: {problem}")]
pub struct CompareError {
    /// The name under which it was given.
    pub which: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What one bill has and the other has not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Packages that only the second bill has, with their versions.
    pub added: Vec<Side>,
    /// Packages that only the first bill has.
    pub removed: Vec<Side>,
    /// Packages that both have, in other versions.
    pub changed: Vec<Change>,
    /// How many packages both have in the same versions.
    pub same: usize,
    /// What only the second bill names as seen and not read.
    pub unread_added: Vec<String>,
    /// What only the first bill names so.
    pub unread_removed: Vec<String>,
}

/// A package that one bill has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The package URL without a version.
    pub package: String,
    /// Every version of it, sorted as text.
    pub versions: Vec<String>,
}

/// A package that both bills have, in other versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The package URL without a version.
    pub package: String,
    /// The versions that only the first bill has.
    pub from: Vec<String>,
    /// The versions that only the second bill has.
    pub to: Vec<String>,
}

/// The versions of each package of a bill. Qualifiers such as the architecture say where a package
/// is from, and an image of another architecture has the same packages.
type Versions = BTreeMap<String, BTreeSet<String>>;

impl Comparison {
    /// Compares `first` with `second`, each with the name that a message calls it by.
    ///
    /// # Errors
    /// When one of them is no bill.
    pub fn of(first: (&str, &[u8]), second: (&str, &[u8])) -> Result<Self, CompareError> {
        let read = |(which, bytes): (&str, &[u8])| {
            sbom::read(bytes).map_err(|error: SbomError| CompareError {
                which: which.to_owned(),
                problem: error.to_string(),
            })
        };
        Ok(Self::between(&read(first)?, &read(second)?))
    }

    fn between(first: &Bill, second: &Bill) -> Self {
        let mut comparison = Self::default();
        let (before, after) = (versions(first), versions(second));
        let owned = |versions: &BTreeSet<String>| versions.iter().cloned().collect::<Vec<_>>();
        for (package, old) in &before {
            let package = package.clone();
            match after.get(&package) {
                None => comparison.removed.push(Side { package, versions: owned(old) }),
                Some(new) if new == old => comparison.same += 1,
                Some(new) => comparison.changed.push(Change {
                    package,
                    from: old.difference(new).cloned().collect(),
                    to: new.difference(old).cloned().collect(),
                }),
            }
        }
        for (package, new) in after.iter().filter(|(package, _)| !before.contains_key(*package)) {
            comparison.added.push(Side { package: package.clone(), versions: owned(new) });
        }
        let only = |one: &Bill, other: &Bill| -> Vec<String> {
            one.marks.iter().filter(|mark| !other.marks.contains(mark)).cloned().collect()
        };
        comparison.unread_added = only(second, first);
        comparison.unread_removed = only(first, second);
        comparison
    }

    /// Whether both bills list the same.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.unread_added.is_empty()
            && self.unread_removed.is_empty()
    }
}

fn versions(bill: &Bill) -> Versions {
    let mut all = Versions::new();
    for listed in &bill.packages {
        let path = listed.purl.split(['?', '#']).next().unwrap_or_default();
        // An `@` of a scope stands before the last slash.
        let name_at = path.rfind('/').map_or(0, |at| at + 1);
        let (package, version) = match path[name_at..].rfind('@') {
            Some(at) => (&path[..name_at + at], &path[name_at + at + 1..]),
            None => (path, ""),
        };
        let beside = listed.version.as_deref().unwrap_or_default();
        let version = if version.is_empty() { beside } else { version };
        let version = version.replace("%2B", "+").replace("%3A", ":").replace("%7E", "~");
        all.entry(package.to_owned()).or_default().insert(version);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(purls: &[&str], marks: &[&str]) -> Vec<u8> {
        let components: Vec<_> =
            purls.iter().map(|purl| serde_json::json!({"type": "library", "purl": purl})).collect();
        let marks: Vec<_> = marks
            .iter()
            .map(|mark| serde_json::json!({"name": "fairlead:unassessed", "value": mark}))
            .collect();
        let document = serde_json::json!({"bomFormat": "CycloneDX", "specVersion": "1.6",
            "components": components, "metadata": {"properties": marks}});
        serde_json::to_vec(&document).unwrap()
    }

    #[test]
    fn what_came_went_and_changed_is_told() {
        let old = bill(
            &[
                "pkg:npm/%40s/a@1.0.0",
                "pkg:npm/b@1",
                "pkg:deb/debian/c@1%2B1?arch=amd64",
                "pkg:npm/d@1",
            ],
            &["go-binary:/x"],
        );
        let new = bill(
            &[
                "pkg:npm/%40s/a@2.0.0",
                "pkg:npm/b@1",
                "pkg:npm/b@2",
                "pkg:deb/debian/c@1+1?arch=arm64",
                "pkg:npm/e",
            ],
            &["rpm:/y"],
        );
        let found = Comparison::of(("old", &old), ("new", &new)).unwrap();
        let side = |package: &str, versions: &[&str]| Side {
            package: package.into(),
            versions: versions.iter().map(|v| (*v).to_owned()).collect(),
        };
        assert_eq!(found.added, [side("pkg:npm/e", &[""])]);
        assert_eq!(found.removed, [side("pkg:npm/d", &["1"])]);
        let change = |package: &str, from: &[&str], to: &[&str]| Change {
            package: package.into(),
            from: from.iter().map(|v| (*v).to_owned()).collect(),
            to: to.iter().map(|v| (*v).to_owned()).collect(),
        };
        assert_eq!(
            found.changed,
            [change("pkg:npm/%40s/a", &["1.0.0"], &["2.0.0"]), change("pkg:npm/b", &[], &["2"])]
        );
        assert_eq!(found.same, 1);
        assert_eq!(
            (&*found.unread_added, &*found.unread_removed),
            (&["rpm:/y".to_owned()][..], &["go-binary:/x".to_owned()][..])
        );
        assert!(Comparison::of(("a", &old), ("b", &old)).unwrap().is_empty());
        let error = Comparison::of(("old", &old), ("new.json", b"{}")).unwrap_err().to_string();
        assert!(error.starts_with("new.json is no bill of materials"), "{error}");
    }
}
