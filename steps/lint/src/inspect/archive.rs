//! The files of one layer, from its packed bytes.

use std::io::{self, BufRead as _, BufReader, Read};

use fairlead_step::{Algorithm, Digest, DigestHasher};

use super::InspectError;

/// The most bytes of a layer, unpacked.
const MAX_UNPACKED: u64 = 64 << 30;
/// The most entries of a layer.
const MAX_ENTRIES: usize = 2_000_000;
/// The most bytes of a name, or of the extended header of an entry.
const MAX_HEADER: u64 = 1 << 20;

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative, with `/`, without `.` and `..`.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// A file with bytes in it, and their digest.
    File(Option<Digest>),
    /// A link, a device, a pipe.
    Other,
    /// It hides its path in the layers below.
    Whiteout,
    /// It hides what the folder held in the layers below.
    Opaque,
}

/// Reads a layer, packed with gzip, Zstandard or nothing; `what` names it in errors.
pub(super) fn read(blob: impl Read, what: &str) -> Result<Vec<Entry>, InspectError> {
    let failed = |source: io::Error| InspectError::Read { what: what.to_owned(), source };
    let mut blob = BufReader::with_capacity(256 * 1024, blob);
    let head = blob.fill_buf().map_err(failed)?;
    let unpacked: Box<dyn Read + '_> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(blob).map_err(failed)?)
        }
        _ => Box::new(blob),
    };
    let mut archive = tar::Archive::new(unpacked.take(MAX_UNPACKED));
    let mut entries = Vec::new();
    let mut long_name: Option<Vec<u8>> = None;
    // Extended headers are read here, for they may be as large as somebody wrote.
    for entry in archive.entries().map_err(failed)?.raw(true) {
        let mut entry = entry.map_err(failed)?;
        let kind = entry.header().entry_type();
        let size = entry.header().size().map_err(failed)?;
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            if size > MAX_HEADER {
                return Err(InspectError::malformed(what, "a name in it is over 1 MiB long"));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            if kind.is_gnu_longname() {
                bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
                long_name = Some(bytes);
                continue;
            }
            for (key, value) in records(&bytes) {
                if key == b"path" {
                    long_name = Some(value.to_vec());
                } else if key == b"size" {
                    return Err(InspectError::malformed(what, "a file in it is over 8 GiB"));
                }
            }
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return Err(InspectError::malformed(what, "it has more than 2 million entries"));
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(path) = cleaned(&String::from_utf8_lossy(&name)) else { continue };
        if let Some(found) = whiteout(&path) {
            entries.push(found);
            continue;
        }
        let (size, kind) = if kind.is_dir() {
            (0, Kind::Folder)
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let digest = if size > 0 { Some(hash(&mut entry).map_err(failed)?) } else { None };
            (size, Kind::File(digest))
        } else {
            (0, Kind::Other)
        };
        entries.push(Entry { path, size, kind });
    }
    Ok(entries)
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`.
fn records(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while let Some(blank) = bytes.iter().position(|byte| *byte == b' ') {
        let length =
            std::str::from_utf8(&bytes[..blank]).ok().and_then(|l| l.parse::<usize>().ok());
        let Some(length) = length.filter(|l| *l > blank + 1 && *l <= bytes.len()) else { break };
        let record = &bytes[blank + 1..length - 1];
        if let Some(equals) = record.iter().position(|byte| *byte == b'=') {
            found.push((&record[..equals], &record[equals + 1..]));
        }
        bytes = &bytes[length..];
    }
    found
}

fn hash(reader: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    let mut buffer = [0; 32 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// A path without `.` and `/` around its parts; nothing for the root, and for what leads out of it.
fn cleaned(path: &str) -> Option<String> {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

fn whiteout(path: &str) -> Option<Entry> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let hidden = name.strip_prefix(".wh.")?;
    if hidden == ".wh..opq" {
        return Some(Entry { path: folder.to_owned(), size: 0, kind: Kind::Opaque });
    }
    let path = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
    Some(Entry { path, size: 0, kind: Kind::Whiteout })
}
