//! RPM's database in its three forms (SQLite, Berkeley DB, ndb), and the list that distroless
//! images keep in its place.
//!
//! The forms are read by readers of our own: the libraries that write them trust what they read,
//! and here a stranger wrote it.

mod berkeley;
mod header;
mod ndb;
pub(super) mod sqlite;

use std::sync::Arc;

use super::{Candidate, Cataloger, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;
use crate::unassessed::UnassessedKind;

/// Reads RPM's database.
pub(super) struct Rpm;

/// Where distributions keep it.
const HOMES: [&str; 4] =
    ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpmmanifest"];

/// The most packages of one database. The largest repositories have a tenth of it.
const PACKAGES: usize = 500_000;

/// The most bytes of the description of one package, the list of its files included.
const HEADER: u64 = 64 << 20;

/// Whether the file lies where a database does.
pub(super) fn is_home(place: &Place<'_>) -> bool {
    HOMES.into_iter().any(|home| place.folder_is(home))
}

impl Cataloger for Rpm {
    fn name(&self) -> &'static str {
        "rpm"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        match place.name {
            "Packages" | "Packages.db" | "rpmdb.sqlite" => {
                is_home(place) && !place.folder_is("var/lib/rpmmanifest")
            }
            "container-manifest-2" => place.folder_is("var/lib/rpmmanifest"),
            _ => false,
        }
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        if self.names(&file.place) { Want::Spool } else { Want::No }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let mut found = Vec::new();
        if Place::of(path).name == "container-manifest-2" {
            found.extend(content.text()?.lines().filter_map(manifest_line));
            if found.is_empty() && content.len() > 0 {
                return Err(Unreadable::lost("it has no line of the list of packages"));
            }
            return Ok(Some(found.into()));
        }
        if content.len() == 0 {
            return Ok(None);
        }
        let head = content.up_to(0, 16)?;
        let mut take = |header: &[u8]| -> Result<(), Unreadable> {
            if found.len() >= PACKAGES {
                return Err(Unreadable::lost("it holds more than 500000 packages"));
            }
            found.extend(header::package(header)?);
            Ok(())
        };
        if head.starts_with(b"SQLite format 3\0") {
            sqlite::Database::open(content)?
                .rows("Packages", HEADER, |row| row.blob(1).map_or(Ok(()), &mut take))?;
        } else if head.starts_with(b"RpmP") {
            ndb::headers(content, &mut take)?;
        } else {
            berkeley::headers(content, &mut take)?;
        }
        Ok(Some(found.into()))
    }

    fn describes(&self) -> bool {
        false
    }

    fn databases(&self) -> &'static [&'static str] {
        &HOMES
    }

    fn is_database(&self, _place: &Place<'_>) -> bool {
        true
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::Rpm
    }
}

/// A line of the list that distroless images of Azure Linux keep: name, version and release, two
/// times, vendor, epoch, size, architecture, epoch as a number, source.
fn manifest_line(line: &str) -> Option<Entry> {
    let parts: Vec<&str> = line.split('\t').collect();
    let said = |at: usize| {
        let text = parts.get(at)?.trim();
        (!text.is_empty() && text != "(none)").then(|| text.to_owned())
    };
    let epoch = said(5).filter(|epoch| epoch.bytes().all(|b| b.is_ascii_digit()) && epoch != "0");
    Some(Entry {
        arch: said(7),
        source: said(9),
        supplier: said(4),
        qualifiers: epoch.into_iter().map(|epoch| ("epoch", epoch)).collect(),
        // It names no files, and nothing else does: the package owns what it owns.
        owned: Some(Arc::default()),
        ..Entry::new(Ecosystem::Rpm, said(0)?, said(1)?)
    })
}

#[cfg(test)]
pub(super) mod tests;
