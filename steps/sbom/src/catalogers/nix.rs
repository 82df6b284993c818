//! The store of Nix: `nix/store/HASH-NAME-VERSION`, folders whose names say what they are, and the
//! database that lists them where there is one.

use super::rpm::sqlite;
use super::{Candidate, Cataloger, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;
use crate::unassessed::UnassessedKind;

/// Reads the store of Nix.
pub(super) struct Nix;

const STORE: &str = "nix/store";

/// How many characters of a path in the store are its hash.
const HASH: usize = 32;

/// The longest row of the database.
const ROW: u64 = 1 << 20;

/// The most paths of one database.
const PATHS: usize = 500_000;

impl Cataloger for Nix {
    fn name(&self) -> &'static str {
        "nix"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.name == "db.sqlite" && place.folder_is("nix/var/nix/db")
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        if self.names(&file.place) && file.size > 0 { Want::Spool } else { Want::No }
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let mut found = Vec::new();
        sqlite::Database::open(content)?.rows("ValidPaths", ROW, |row| {
            if found.len() >= PATHS {
                return Err(Unreadable::lost("it lists more than 500000 paths"));
            }
            let path = row.text(1).unwrap_or_default();
            found.extend(path.strip_prefix("/nix/store/").and_then(entry));
            Ok(())
        })?;
        Ok(Some(found.into()))
    }

    fn read_folder(&self, place: &Place<'_>) -> Option<Said> {
        place.folder_is(STORE).then(|| entry(place.name).map(Said::from)).flatten()
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::Nix
    }

    fn describes(&self) -> bool {
        false
    }
}

/// What a name in the store says; `None` for one without a version: a script, a folder of sources.
fn entry(name: &str) -> Option<Entry> {
    let (hash, name) = name.split_at_checked(HASH)?;
    let name = name.strip_prefix('-')?;
    let is_hash = hash.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    if !is_hash || name.ends_with(".drv") || name.ends_with("-source") {
        return None;
    }
    // The version begins behind the first dash that no letter follows.
    let at = name
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| name[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic() && c != '-'))?;
    let (name, version) = (&name[..at], &name[at + 1..]);
    let outputs = ["bin", "dev", "doc", "lib", "man", "info", "out", "static", "debug"];
    let (version, output) = match version.rsplit_once('-') {
        Some((version, output)) if outputs.contains(&output) => (version, Some(output)),
        _ => (version, None),
    };
    if name.is_empty() || !version.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let qualifiers = [("output", output), ("outputhash", Some(hash))];
    Some(Entry {
        qualifiers: qualifiers
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.to_owned())))
            .collect(),
        ..Entry::new(Ecosystem::Nix, name, version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_store_say_what_they_are() {
        let hash = "0c9sqzfqwxhyk6vhvlvqhvgz8l3r8x1i";
        for (name, want) in [
            ("glibc-2.38-27", Some("glibc@2.38-27")),
            ("openssl-3.0.11-bin", Some("openssl@3.0.11")),
            ("python3.11-pip-23.0", Some("python3.11-pip@23.0")),
            ("bash-interactive-5.2-p15", Some("bash-interactive@5.2-p15")),
            ("hook.sh", None),
            ("x-1.0.drv", None),
            ("linux-6.1-source", None),
        ] {
            let purl = entry(&format!("{hash}-{name}")).map(|entry| entry.purl(None).unwrap());
            let short =
                purl.as_ref().and_then(|purl| purl.strip_prefix("pkg:nix/")?.split('?').next());
            assert_eq!(short, want, "{name}");
        }
        assert_eq!(entry("short-1.0"), None);
    }
}
