//! Programs of Rust that cargo-auditable built: the list of crates in the section `.dep-v0`, JSON
//! packed with zlib.

use std::io::Read as _;

use serde::Deserialize;

use super::{Candidate, Cataloger, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::executable::Executable;
use crate::package::Ecosystem;
use crate::unassessed::UnassessedKind;

/// Reads lists of crates.
pub(super) struct Rust;

/// No linker writes a program of Rust as small as this.
const SMALLEST: u64 = 8 << 10;

/// The most bytes of the list, packed and not.
const LONGEST: u64 = 8 << 20;

impl Cataloger for Rust {
    fn name(&self) -> &'static str {
        "rust"
    }

    fn names(&self, _place: &Place<'_>) -> bool {
        false
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        if file.size >= SMALLEST && file.is_executable() { Want::Spool } else { Want::No }
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let Some(program) = Executable::of(content)? else { return Ok(None) };
        let Some(section) = program.section(".dep-v0") else { return Ok(None) };
        if section.size > LONGEST {
            return Err(Unreadable::lost("its list of crates is longer than 8 MiB"));
        }
        let packed = content.slice(section.offset, section.size)?;
        let mut list = Vec::new();
        let unpacked = flate2::read::ZlibDecoder::new(&*packed);
        unpacked.take(LONGEST + 1).read_to_end(&mut list)?;
        if list.len() as u64 > LONGEST {
            return Err(Unreadable::lost("its list of crates unpacks to more than 8 MiB"));
        }
        let list: List = serde_json::from_slice(&list)
            .map_err(|error| Unreadable::Lost(format!("its list of crates: {error}")))?;
        let runtime = list.packages.into_iter().filter(|one| one.kind != "build");
        let entries: Vec<Entry> = runtime.map(Crate::entry).collect();
        Ok(Some(entries.into()))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::RustBinary
    }

    fn is_by_content(&self) -> bool {
        true
    }
}

/// The list, as cargo-auditable's schema has it.
#[derive(Deserialize)]
struct List {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    #[serde(default)]
    source: String,
    /// `build` for what only ran while the program was built.
    #[serde(default)]
    kind: String,
}

impl Crate {
    fn entry(self) -> Entry {
        let entry = Entry::new(Ecosystem::Cargo, self.name, self.version);
        // Crates from elsewhere than the registry say no more than the kind of place.
        let elsewhere = !matches!(&*self.source, "" | "crates.io" | "registry" | "local");
        let source = elsewhere.then_some(("source", self.source));
        Entry { qualifiers: source.into_iter().collect(), ..entry }
    }
}
