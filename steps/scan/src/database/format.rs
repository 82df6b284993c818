//! The database file, format 2.
//!
//! ```text
//! header   16 bytes: "FLADVDB\n", format (u32 LE), 4 zero bytes
//! blocks   zstd each: lines `ecosystem \t package \t [advisory, …] \n`, sorted by ecosystem and name
//! index    zstd: JSON with what is in the file and, for each block, its first key, place and hash
//! footer   80 bytes: "FLADVEND", format (u32 LE), 4 zero bytes, place, length and unpacked length
//!          of the index (u64 LE each), SHA-256 of the packed index, 8 zero bytes
//! ```
//!
//! Format 1 had the names of npm packages in lower case, and no dates for each ecosystem.
//!
//! The footer holds the hash of the index and the index holds the hash of every block, so the
//! SHA-256 of the footer names the whole content: it is the digest of the database. Opening reads
//! the footer and the index; a look-up reads one block; whatever is read is checked on the way.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fairlead_step::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::store::DbError;
use crate::osv::Advisory;

/// The format that this build writes and reads.
pub(super) const FORMAT: u32 = 2;
const HEADER: &[u8; 8] = b"FLADVDB\n";
const FOOTER: &[u8; 8] = b"FLADVEND";
const HEADER_LENGTH: u64 = 16;
const FOOTER_LENGTH: usize = 80;
/// A block is closed once it holds this many bytes, unpacked: small enough to unpack in tens of
/// microseconds, large enough to compress well.
const BLOCK_TARGET: usize = 48 * 1024;
/// The most that a block (one package may fill it) and the index may unpack to.
const MAX_UNPACKED: usize = 256 * 1024 * 1024;
const LEVEL: i32 = 9;

/// What is in the file, apart from the advisories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// When the newest record was last changed, RFC 3339.
    pub(super) newest: Option<String>,
    /// Distinct records.
    pub(super) records: u64,
    /// Advisories for each ecosystem and release.
    pub(super) ecosystems: BTreeMap<String, u64>,
    /// When the newest record of each dump was last changed, by the ecosystem without a release.
    #[serde(default)]
    pub(super) newest_of: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    content: Content,
    blocks: Vec<Block>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Block {
    /// The ecosystem and name that the block begins with.
    first: (String, String),
    offset: u64,
    length: u64,
    unpacked: u64,
    sha256: String,
}

/// Writes a database file, keys in ascending order.
pub(super) struct Writer<W> {
    out: W,
    offset: u64,
    block: Vec<u8>,
    first: Option<(String, String)>,
    blocks: Vec<Block>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(HEADER)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        let (block, blocks) = (Vec::new(), Vec::new());
        Ok(Self { out, offset: HEADER_LENGTH, block, first: None, blocks })
    }

    /// Adds the advisories of one package: a JSON array of [`Advisory`].
    pub(super) fn add(&mut self, ecosystem: &str, name: &str, json: &[u8]) -> io::Result<()> {
        self.first.get_or_insert_with(|| (ecosystem.to_owned(), name.to_owned()));
        for part in [ecosystem.as_bytes(), b"\t", name.as_bytes(), b"\t", json, b"\n"] {
            self.block.extend_from_slice(part);
        }
        if self.block.len() >= BLOCK_TARGET { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> io::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        if self.block.len() > MAX_UNPACKED {
            return Err(io::Error::other(format!("the advisories of `{}` are too large", first.1)));
        }
        let packed = zstd::bulk::compress(&self.block, LEVEL)?;
        self.blocks.push(Block {
            first,
            offset: self.offset,
            length: packed.len() as u64,
            unpacked: self.block.len() as u64,
            sha256: hex::encode(Sha256::digest(&packed)),
        });
        self.out.write_all(&packed)?;
        self.offset += packed.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Writes the index and the footer; answers the digest of the database.
    pub(super) fn finish(mut self, content: Content) -> io::Result<(Digest, W)> {
        self.close_block()?;
        let index = serde_json::to_vec(&Index { content, blocks: self.blocks })?;
        let packed = zstd::bulk::compress(&index, LEVEL)?;
        self.out.write_all(&packed)?;
        let mut footer = Vec::with_capacity(FOOTER_LENGTH);
        footer.extend_from_slice(FOOTER);
        footer.extend_from_slice(&FORMAT.to_le_bytes());
        footer.extend_from_slice(&[0; 4]);
        for number in [self.offset, packed.len() as u64, index.len() as u64] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(&Sha256::digest(&packed));
        footer.extend_from_slice(&[0; 8]);
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok((Digest::sha256(&footer), self.out))
    }
}

/// Reads a database file.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    content: Content,
    blocks: Vec<Block>,
    digest: Digest,
    size: u64,
}

impl Reader {
    /// Opens the file at `path` and checks its header, footer and index.
    pub(super) fn open(path: &Path) -> Result<Self, DbError> {
        let damaged = |problem: &str| DbError::damaged(path, problem);
        let unreadable = |source| DbError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut header = [0; 12];
        if size < HEADER_LENGTH + FOOTER_LENGTH as u64 {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut header, 0).map_err(unreadable)?;
        if &header[..8] != HEADER {
            return Err(damaged("it does not begin as a database does"));
        }
        let found = u32_at(&header, 8);
        if found != FORMAT {
            return Err(DbError::Format { path: path.to_owned(), found, readable: FORMAT });
        }
        let mut footer = [0; FOOTER_LENGTH];
        let footer_offset = size - FOOTER_LENGTH as u64;
        file.read_exact_at(&mut footer, footer_offset).map_err(unreadable)?;
        if &footer[..8] != FOOTER || u32_at(&footer, 8) != FORMAT {
            return Err(damaged("it does not end as a database does"));
        }
        let (offset, length, unpacked) =
            (u64_at(&footer, 16), u64_at(&footer, 24), u64_at(&footer, 32));
        if offset.checked_add(length) != Some(footer_offset) {
            return Err(damaged("its index is not where the footer says"));
        }
        let packed = read_at(&file, offset, length).map_err(unreadable)?;
        if Sha256::digest(&packed).as_slice() != &footer[40..72] {
            return Err(damaged("its index is not the one that was written"));
        }
        let index = unpack(&packed, unpacked).map_err(damaged)?;
        let index: Index =
            serde_json::from_slice(&index).map_err(|_| damaged("its index cannot be read"))?;
        let inside = |b: &Block| b.offset.checked_add(b.length).is_some_and(|end| end <= offset);
        if !index.blocks.iter().all(inside) {
            return Err(damaged("a block lies outside of it"));
        }
        let digest = Digest::sha256(&footer);
        Ok(Self { file, content: index.content, blocks: index.blocks, digest, size })
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The block that holds a key, where there can be one.
    pub(super) fn block_of(&self, ecosystem: &str, name: &str) -> Option<usize> {
        let after = self.blocks.partition_point(|block| {
            let (first_ecosystem, first_name) = &block.first;
            (first_ecosystem.as_str(), first_name.as_str()) <= (ecosystem, name)
        });
        after.checked_sub(1)
    }

    /// Reads, checks and unpacks a block.
    pub(super) fn block(&self, number: usize, path: &Path) -> Result<Vec<u8>, DbError> {
        let damaged = |problem: &str| DbError::damaged(path, problem);
        let block = self.blocks.get(number).ok_or_else(|| damaged("a block is missing"))?;
        let packed = read_at(&self.file, block.offset, block.length)
            .map_err(|source| DbError::Unreadable { path: path.to_owned(), source })?;
        if hex::encode(Sha256::digest(&packed)) != block.sha256 {
            return Err(damaged("a block is not the one that was written"));
        }
        unpack(&packed, block.unpacked).map_err(damaged)
    }
}

/// The advisories of one package within an unpacked block.
pub(super) fn find(block: &[u8], ecosystem: &str, name: &str) -> Result<Vec<Advisory>, String> {
    for line in block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut fields = line.splitn(3, |byte| *byte == b'\t');
        let (Some(e), Some(n), Some(json)) = (fields.next(), fields.next(), fields.next()) else {
            return Err("a line has no package".to_owned());
        };
        match (e, n).cmp(&(ecosystem.as_bytes(), name.as_bytes())) {
            Ordering::Less => {}
            Ordering::Greater => break,
            Ordering::Equal => {
                return serde_json::from_slice(json)
                    .map_err(|error| format!("the advisories of `{name}`: {error}"));
            }
        }
    }
    Ok(Vec::new())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The range was checked against the file's size, so `length` cannot ask for more than there is.
fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn unpack(packed: &[u8], unpacked: u64) -> Result<Vec<u8>, &'static str> {
    let capacity = usize::try_from(unpacked).unwrap_or(usize::MAX);
    if capacity > MAX_UNPACKED {
        return Err("a part of it claims to be larger than any part may be");
    }
    match zstd::bulk::decompress(packed, capacity) {
        Ok(bytes) if bytes.len() == capacity => Ok(bytes),
        Ok(_) | Err(_) => Err("a part of it cannot be unpacked"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for number in 0..3000 {
            let json = format!(r#"[{{"id":"X-{number}","versions":["{number}.0"]}}]"#);
            writer.add("PyPI", &format!("package-{number:05}"), json.as_bytes()).unwrap();
        }
        let content = Content { records: 3000, ..Content::default() };
        writer.finish(content).unwrap().1
    }

    fn look_up(bytes: &[u8], name: &str) -> Result<Vec<Advisory>, DbError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let reader = Reader::open(file.path())?;
        let Some(number) = reader.block_of("PyPI", name) else { return Ok(Vec::new()) };
        let block = reader.block(number, file.path())?;
        find(&block, "PyPI", name).map_err(|problem| DbError::damaged(file.path(), &problem))
    }

    #[test]
    fn every_package_is_found_in_its_block() {
        let bytes = written();
        for number in [0, 1, 700, 1500, 2999] {
            let found = look_up(&bytes, &format!("package-{number:05}")).unwrap();
            assert_eq!(found[0].id, format!("X-{number}"));
        }
        for absent in ["", "a", "package-00000x", "zzz"] {
            assert!(look_up(&bytes, absent).unwrap().is_empty(), "{absent}");
        }
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let mut bytes = written();
        bytes[8] = 9;
        let error = look_up(&bytes, "x").unwrap_err();
        assert!(matches!(error, DbError::Format { found: 9, readable: FORMAT, .. }), "{error}");
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is_read() {
        let bytes = written();
        let name = "package-00000";
        // The first block, the index and the footer: what a look-up of the first package reads.
        for place in [20, bytes.len() - FOOTER_LENGTH - 5, bytes.len() - 40] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(matches!(look_up(&changed, name), Err(DbError::Damaged { .. })), "{place}");
        }
        for length in [0, 15, 90, bytes.len() / 2, bytes.len() - 1] {
            assert!(matches!(look_up(&bytes[..length], name), Err(DbError::Damaged { .. })));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn any_bytes_are_answered_without_panic(
            noise in prop::collection::vec(any::<u8>(), 0..400),
            place in 0_usize..400,
            at_end in any::<bool>(),
        ) {
            let _ = look_up(&noise, "x");
            let mut bytes = written();
            let place = if at_end { bytes.len().saturating_sub(place + noise.len()) } else { place };
            for (offset, byte) in noise.iter().enumerate() {
                if let Some(target) = bytes.get_mut(place + offset) { *target = *byte; }
            }
            let _ = look_up(&bytes, "package-00000");
            let _ = find(&noise, "PyPI", "x");
        }
    }
}
