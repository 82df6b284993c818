//! Zip archives of strangers: what is read of them is bounded, the list of their files too.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;

/// The most bytes of an archive's list of files: that of a hundred thousand classes. An entry takes
/// a few hundred bytes of memory, and at least 46 of these.
const DIRECTORY: u64 = 16 << 20;

/// Whether a file that begins with `head` may be an archive. A program of the shell may stand before
/// one, which then starts itself.
pub(crate) fn may_be_one(head: &[u8]) -> bool {
    head.starts_with(b"PK") || head.starts_with(b"#!")
}

/// Why a file of an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZippedError {
    #[error("it is no zip archive that can be read: {0}")]
    Archive(String),
    #[error("it has no `{0}`")]
    Missing(String),
    #[error("`{name}` in it is more than the {most} bytes that are read")]
    TooLarge { name: String, most: u64 },
    #[error("`{name}` in it cannot be unpacked: {problem}")]
    Damaged { name: String, problem: String },
}

/// An archive.
pub(crate) struct Zipped<R: Read + Seek> {
    archive: ZipArchive<Metered<R>>,
    left: Rc<Cell<u64>>,
    /// How large the archive is itself.
    size: u64,
}

impl<R: Read + Seek> Zipped<R> {
    /// Reads the list of files of an archive of `size` bytes. A program of the shell may stand
    /// before it.
    ///
    /// # Errors
    /// When there is none, or when it is larger than any honest one.
    pub(crate) fn open(reader: R, size: u64) -> Result<Self, ZippedError> {
        let left = Rc::new(Cell::new(DIRECTORY));
        let archive = ZipArchive::new(Metered { reader, left: Rc::clone(&left) });
        let archive = archive.map_err(|error| ZippedError::Archive(error.to_string()))?;
        Ok(Self { archive, left, size })
    }

    /// The names of its files, in the order of the list, and their numbers.
    pub(crate) fn names(&self) -> Vec<(usize, String)> {
        let name = |at| Some((at, self.archive.name_for_index(at)?.ok()?.into_owned()));
        (0..self.archive.len()).filter_map(name).collect()
    }

    /// The file `name`, when it is no longer than `most`.
    ///
    /// # Errors
    /// When it is not there, longer, or damaged.
    pub(crate) fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, ZippedError> {
        let at = self.archive.index_for_name(name);
        let at = at.ok_or_else(|| ZippedError::Missing(name.to_owned()))?;
        self.read_at(at, most)
    }

    /// The file with this number, when it is no longer than `most`.
    ///
    /// # Errors
    /// When it is not there, longer, or damaged.
    pub(crate) fn read_at(&mut self, at: usize, most: u64) -> Result<Vec<u8>, ZippedError> {
        let name = self.archive.name_for_index(at).and_then(Result::ok);
        let name = name.map(std::borrow::Cow::into_owned).unwrap_or_default();
        let damaged = |problem: String| ZippedError::Damaged { name: name.clone(), problem };
        // Nothing that is in the archive can be read from more bytes than it has.
        self.left.set(self.size.saturating_add(64 << 10));
        let file = self.archive.by_index(at).map_err(|error| damaged(error.to_string()))?;
        if file.size() > most {
            return Err(ZippedError::TooLarge { name, most });
        }
        let mut bytes = Vec::new();
        let read = file.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| damaged(error.to_string()))?;
        if bytes.len() as u64 > most {
            return Err(ZippedError::TooLarge { name, most });
        }
        Ok(bytes)
    }
}

/// A reader that gives no more than a number of bytes, wherever they stand.
struct Metered<R> {
    reader: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("its list of files is larger than any honest one"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.reader.read(&mut buffer[..most])?;
        self.left.set(left - got as u64);
        Ok(got)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}
