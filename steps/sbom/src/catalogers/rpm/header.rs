//! The description of one package, as RPM keeps it: an index of tags, and their data behind it.

use std::sync::Arc;

use super::super::Unreadable;
use crate::evidence::{Entry, Owned};
use crate::package::Ecosystem;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;
const DIRECTORY_OF_FILE: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORIES: u32 = 1118;
const MODULE: u32 = 5096;

/// The size of an entry of the index: tag, type, offset, count.
const INDEX: usize = 16;

/// The longest path of a file.
const PATH: usize = 4096;

/// A description.
struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(part.try_into().ok()?))
}

fn place(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number(bytes, at)?).ok()
}

impl<'a> Header<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (entries, data) = (place(bytes, 0)?, place(bytes, 4)?);
        let index = bytes.get(8..)?.get(..entries.checked_mul(INDEX)?)?;
        let data = bytes.get(8 + index.len()..)?.get(..data)?;
        Some(Self { index, data })
    }

    /// The data of a tag from its beginning on, its type, and how many values there are.
    fn get(&self, tag: u32) -> Option<(&'a [u8], u32, usize)> {
        let entry = self.index.chunks_exact(INDEX).find(|entry| number(entry, 0) == Some(tag))?;
        Some((self.data.get(place(entry, 8)?..)?, number(entry, 4)?, place(entry, 12)?))
    }

    /// The first text of a tag; of one in several languages, the untranslated one.
    fn text(&self, tag: u32) -> Option<String> {
        self.texts(tag).next().filter(|text| !text.is_empty() && text != "(none)")
    }

    fn texts(&self, tag: u32) -> impl Iterator<Item = String> + use<'a> {
        let (data, count) = match self.get(tag) {
            Some((data, 6 | 8 | 9, count)) => (data, count),
            _ => (&[][..], 0),
        };
        // Each text ends with a NUL; what does not end is none.
        let whole = data.iter().rposition(|b| *b == 0).map_or(&[][..], |end| &data[..end]);
        let count = if data.is_empty() { 0 } else { count };
        let texts = whole.split(|b| *b == 0).take(count);
        texts.map(|text| String::from_utf8_lossy(text).into_owned())
    }

    fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> + use<'a> {
        let (data, count) = match self.get(tag) {
            Some((data, 4, count)) => (data, count),
            _ => (&[][..], 0),
        };
        data.chunks_exact(4).take(count).filter_map(|part| number(part, 0))
    }

    fn owned(&self) -> Owned {
        let folders: Vec<String> = self.texts(DIRECTORIES).collect();
        let mut owned = Owned::default();
        for (name, folder) in self.texts(BASE_NAMES).zip(self.numbers(DIRECTORY_OF_FILE)) {
            let folder = usize::try_from(folder).ok().and_then(|at| folders.get(at));
            let Some(folder) = folder.filter(|folder| folder.len() + name.len() <= PATH) else {
                continue;
            };
            owned.add(format!("{folder}{name}").trim_start_matches('/'));
        }
        owned.all.shrink_to_fit();
        owned
    }
}

/// The package that a description is of; `None` for a key that RPM keeps as if it were one.
///
/// # Errors
/// When it is no description.
pub(super) fn package(bytes: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let header = Header::of(bytes);
    let header =
        header.ok_or_else(|| Unreadable::lost("it holds a package with a broken header"))?;
    let (name, version) = (header.text(NAME), header.text(VERSION));
    let (Some(name), Some(version)) = (name, version) else {
        return Err(Unreadable::lost("it holds a package without a name or a version"));
    };
    if name == "gpg-pubkey" {
        return Ok(None);
    }
    let version = match header.text(RELEASE) {
        Some(release) => format!("{version}-{release}"),
        None => version,
    };
    let epoch = header.numbers(EPOCH).next().filter(|epoch| *epoch != 0);
    let qualifiers = [
        ("epoch", epoch.map(|epoch| epoch.to_string())),
        // `NAME:STREAM:VERSION:CONTEXT` of the module that the package is of.
        ("rpmmod", header.text(MODULE)),
    ];
    Ok(Some(Entry {
        arch: header.text(ARCH),
        source: header.text(SOURCE),
        license: header.text(LICENSE),
        supplier: header.text(VENDOR),
        qualifiers: qualifiers.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        owned: Some(Arc::new(header.owned())),
        ..Entry::new(Ecosystem::Rpm, name, version)
    }))
}
