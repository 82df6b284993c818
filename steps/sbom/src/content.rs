//! A file of a layer, as a cataloger reads it: in memory while it is small, spooled to a file
//! without a name where it is large and somebody has to read here and there in it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use crate::limits::Limits;

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    bytes: Bytes<'a>,
    len: u64,
}

#[derive(Debug)]
enum Bytes<'a> {
    Memory(&'a [u8]),
    File(&'a File),
}

impl<'a> Content<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self { len: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// All of it. What is spooled to a file is read back, so only catalogers that asked for a
    /// buffer should ask for this.
    ///
    /// # Errors
    /// When the spooled file cannot be read.
    pub(crate) fn whole(&self) -> io::Result<Cow<'_, [u8]>> {
        self.slice(0, self.len)
    }

    /// The text, U+FFFD where a byte cannot be read, without a byte order mark.
    ///
    /// # Errors
    /// When the spooled file cannot be read.
    pub(crate) fn text(&self) -> io::Result<String> {
        let bytes = self.whole()?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// `count` bytes from `from` on.
    ///
    /// # Errors
    /// When there are not as many.
    pub(crate) fn slice(&self, from: u64, count: u64) -> io::Result<Cow<'_, [u8]>> {
        let end = from.checked_add(count).filter(|end| *end <= self.len).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, "it points behind its own end")
        })?;
        match self.bytes {
            Bytes::Memory(bytes) => {
                let range = usize::try_from(from).ok().zip(usize::try_from(end).ok());
                let part = range.and_then(|(from, end)| bytes.get(from..end));
                part.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Bytes::File(file) => {
                let size = usize::try_from(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
                let mut part = vec![0; size];
                file.read_exact_at(&mut part, from)?;
                Ok(Cow::Owned(part))
            }
        }
    }

    /// The bytes from `from` on, at most `count`: fewer at the end.
    ///
    /// # Errors
    /// When the spooled file cannot be read.
    pub(crate) fn up_to(&self, from: u64, count: u64) -> io::Result<Cow<'_, [u8]>> {
        let from = from.min(self.len);
        self.slice(from, count.min(self.len - from))
    }

    /// A reader that can seek.
    pub(crate) const fn reader(&self) -> Reader<'_> {
        Reader { content: self, at: 0 }
    }

    /// Hands the bytes from `from` to `end` over in windows of `size`, each with `overlap` bytes of
    /// the one before, until `look` has found something.
    ///
    /// # Errors
    /// When the spooled file cannot be read.
    pub(crate) fn search<T>(
        &self,
        (from, end): (u64, u64),
        overlap: u64,
        mut look: impl FnMut(u64, &[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        const WINDOW: u64 = 4 << 20;
        let end = end.min(self.len);
        let mut at = from;
        while at < end {
            let part = self.up_to(at, WINDOW.min(end - at))?;
            if let Some(found) = look(at, &part) {
                return Ok(Some(found));
            }
            if at + WINDOW >= end {
                break;
            }
            at += WINDOW - overlap;
        }
        Ok(None)
    }
}

/// Reads a [`Content`] from front to back and elsewhere.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    content: &'a Content<'a>,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.content.up_to(self.at, buffer.len() as u64)?;
        buffer[..part.len()].copy_from_slice(&part);
        self.at += part.len() as u64;
        Ok(part.len())
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.content.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Where the files of one layer are kept while they are looked at, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
    /// How many bytes went to a file, over the whole layer.
    written: u64,
    broken: Option<io::Error>,
}

/// Why a file was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the files of its layer that are looked into take more than {most} bytes of disk")]
    Budget { most: u64 },
    #[error("it cannot be kept on disk while it is looked into: {0}")]
    Disk(io::Error),
}

impl Spool {
    /// Begins a new file, and forgets the one before.
    pub(crate) fn begin(&mut self) {
        self.memory.clear();
        self.file = None;
        self.len = 0;
        self.broken = None;
    }

    /// Keeps the next piece.
    pub(crate) fn piece(&mut self, piece: &[u8], limits: &Limits) {
        if self.broken.is_some() {
            return;
        }
        let kept = self.keep(piece, limits);
        self.len += piece.len() as u64;
        self.broken = kept.err();
    }

    fn keep(&mut self, piece: &[u8], limits: &Limits) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() + piece.len() <= limits.spool_memory {
            self.memory.extend_from_slice(piece);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = tempfile::tempfile()?;
                self.written += self.memory.len() as u64;
                file.write_all(&self.memory)?;
                none.insert(file)
            }
        };
        self.written += piece.len() as u64;
        if self.written > limits.spool {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        file.write_all(piece)
    }

    /// The file, once all of it is kept.
    ///
    /// # Errors
    /// When it could not be kept.
    pub(crate) fn content(&mut self, limits: &Limits) -> Result<Content<'_>, SpoolError> {
        match self.broken.take() {
            Some(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                Err(SpoolError::Budget { most: limits.spool })
            }
            Some(error) => Err(SpoolError::Disk(error)),
            None => Ok(match &self.file {
                Some(file) => Content { bytes: Bytes::File(file), len: self.len },
                None => Content::of(&self.memory),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_goes_to_a_file_and_reads_the_same() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for spool_memory in [bytes.len(), 1000] {
            let limits = Limits { spool_memory, ..Limits::default() };
            let mut spool = Spool::default();
            for _ in 0..2 {
                spool.begin();
                bytes.chunks(777).for_each(|piece| spool.piece(piece, &limits));
                let content = spool.content(&limits).unwrap();
                assert_eq!(content.whole().unwrap(), bytes);
                assert_eq!(content.slice(400, 8).unwrap(), &bytes[400..408]);
                assert!(content.slice(content.len() - 3, 4).is_err());
                assert!(content.slice(u64::MAX, 2).is_err());
                assert_eq!(content.up_to(content.len() - 3, 4).unwrap().len(), 3);
                let mut reader = content.reader();
                reader.seek(SeekFrom::End(-4)).unwrap();
                let mut last = Vec::new();
                reader.read_to_end(&mut last).unwrap();
                assert_eq!(last, 99_999_u32.to_le_bytes());
            }
        }
    }

    #[test]
    fn the_disk_has_a_budget() {
        let limits = Limits { spool_memory: 10, spool: 100, ..Limits::default() };
        let mut spool = Spool::default();
        spool.begin();
        spool.piece(&[0; 60], &limits);
        assert!(spool.content(&limits).is_ok());
        spool.begin();
        spool.piece(&[0; 60], &limits);
        let error = spool.content(&limits).unwrap_err();
        assert!(error.to_string().contains("more than 100 bytes of disk"), "{error}");
        // What is small needs none of it.
        spool.begin();
        spool.piece(&[0; 10], &limits);
        assert!(spool.content(&limits).is_ok());
    }

    #[test]
    fn a_search_sees_what_lies_across_windows() {
        let mut bytes = vec![0; (4 << 20) + 100];
        let at = (4 << 20) - 2;
        bytes[at..at + 4].copy_from_slice(b"mark");
        let content = Content::of(&bytes);
        let found = content.search((0, u64::MAX), 8, |from, window| {
            memchr::memmem::find(window, b"mark").map(|at| from + at as u64)
        });
        assert_eq!(found.unwrap(), Some(at as u64));
    }
}
