//! Alpine's package database: `lib/apk/db/installed`, one letter a field.

use std::sync::Arc;

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Owned, Said};
use crate::package::Ecosystem;

/// Reads Alpine's database.
pub(super) struct Apk;

impl Cataloger for Apk {
    fn name(&self) -> &'static str {
        "apk"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.name == "installed" && place.folder_is("lib/apk/db")
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        Ok(Some(installed(&content.text()?)?.into()))
    }

    fn describes(&self) -> bool {
        false
    }

    fn databases(&self) -> &'static [&'static str] {
        &["lib/apk/db", "usr/lib/apk/db"]
    }

    fn is_database(&self, _place: &Place<'_>) -> bool {
        true
    }
}

/// The packages of a database.
///
/// # Errors
/// When a text that is not empty holds no package at all.
fn installed(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let new = || (Entry::new(Ecosystem::Apk, "", ""), Owned::default());
    let mut found = Vec::new();
    let (mut package, mut owned) = new();
    let mut folder = "";
    // The last block may end with the file instead of an empty line.
    for line in text.lines().chain([""]) {
        let Some((field, value)) = line.split_once(':') else {
            let (mut done, mut files) = (package, owned);
            (package, owned) = new();
            done.source = done.source.filter(|origin| *origin != done.name);
            files.all.shrink_to_fit();
            done.owned = Some(Arc::new(files));
            folder = "";
            if !done.name.is_empty() && !done.version.is_empty() {
                found.push(done);
            }
            continue;
        };
        let kept = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match field {
            "P" => package.name = value.to_owned(),
            "V" => package.version = value.to_owned(),
            "A" => package.arch = kept(),
            "o" => package.source = kept(),
            "L" => package.license = kept(),
            "m" => package.supplier = kept(),
            "F" => folder = value,
            "R" => {
                let separator = if folder.is_empty() { "" } else { "/" };
                owned.add(&format!("{folder}{separator}{value}"));
            }
            _ => {}
        }
    }
    if found.is_empty() && !text.trim().is_empty() {
        let problem = "it holds no block with `P:` and `V:`, so it is no database of apk";
        return Err(Unreadable::Lost(problem.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_up_to_the_end_of_the_file() {
        let text = "\
C:Q1=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\n\
P:py3-six\nV:1.16.0-r6\nA:x86_64\nL:MIT\no:six\nF:usr/lib/python3.11/site-packages/six.egg-info\n\
R:PKG-INFO\nZ:Q1=";
        let found = installed(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].name, &*found[0].version), ("musl", "1.2.4-r2"));
        assert_eq!((&found[0].source, found[1].source.as_deref()), (&None, Some("six")));
        assert_eq!(
            found[1].owned.as_ref().unwrap().paths,
            ["usr/lib/python3.11/site-packages/six.egg-info/PKG-INFO".into()]
        );
        assert!(installed("").unwrap().is_empty());
        assert!(installed("nothing of the kind\n").is_err());
    }
}
