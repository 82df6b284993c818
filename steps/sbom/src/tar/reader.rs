//! The walk over an archive: one header after the other, data skipped without a copy.

use std::io::{self, Read};

use super::header::{BLOCK, EntryKind, Flag, Header, cut_at_nul};
use super::pax::Pax;

/// How much is asked of the source at once. Large enough that a call costs nothing beside inflating.
const BUFFER: usize = 128 * 1024;

/// The most bytes of one extension header (a long name, a set of PAX records).
const EXTENSION_LIMIT: u64 = 1024 * 1024;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The bytes are no tar archive, or not a whole one.
    #[error("the tar archive is damaged at byte {at}: {problem}")]
    Damaged {
        /// The offset in the unpacked archive.
        at: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// More was asked to be kept than is allowed.
    #[error("`{path}` is {size} bytes long, more than the {limit} that are read of one file")]
    TooLarge {
        /// The entry.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The source of the bytes failed.
    #[error("it cannot be unpacked: {0}")]
    Source(#[from] io::Error),
}

/// The head of an entry; its names are at [`TarReader::path`] and [`TarReader::link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The number of bytes of data.
    pub size: u64,
    /// The permissions.
    pub mode: u32,
}

/// The entries of an archive, or of what is walked like one, from front to back.
pub(crate) trait Entries {
    /// Goes to the next entry, over what is left of the one before; `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged or its source fails.
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError>;

    /// The name of the entry at hand, as it stands in the archive.
    fn path(&self) -> &[u8];

    /// The target of the link at hand, as it stands in the archive.
    fn link(&self) -> &[u8];

    /// How many headers were read so far, those of extensions included.
    fn headers(&self) -> u64;

    /// The first bytes of what is left of the entry's data, at most `count`, without taking them.
    /// There are fewer when there is no more data.
    ///
    /// # Errors
    /// When the source fails.
    fn peek(&mut self, count: usize) -> Result<&[u8], TarError>;

    /// Takes what is left of the entry's data, piece by piece.
    ///
    /// # Errors
    /// When the archive ends within it, or when the source fails.
    fn each_piece(&mut self, take: impl FnMut(&[u8])) -> Result<(), TarError>;

    /// Reads whatever stands behind the archive's end, so that its source is seen to its end too.
    ///
    /// # Errors
    /// When the source fails.
    fn drain(&mut self) -> Result<(), TarError>;
}

/// Reads an archive from front to back.
pub(crate) struct TarReader<R> {
    source: R,
    buffer: Box<[u8]>,
    /// The unread part of `buffer`.
    from: usize,
    to: usize,
    /// The offset of `from` in the archive.
    offset: u64,
    /// What is left of the data of the entry at hand, and of the padding behind it.
    data: u64,
    padding: u64,
    path: Vec<u8>,
    link: Vec<u8>,
    headers: u64,
}

impl<R: Read> Entries for TarReader<R> {
    fn path(&self) -> &[u8] {
        &self.path
    }

    fn link(&self) -> &[u8] {
        &self.link
    }

    fn headers(&self) -> u64 {
        self.headers
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = Pax::default();
        let mut extended = false;
        let mut long_name: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            self.skip(self.data + self.padding)?;
            (self.data, self.padding) = (0, 0);
            let at = self.offset;
            let mut block = [0; BLOCK];
            let got = self.fill(&mut block)?;
            let ends = got == 0 || block.iter().all(|b| *b == 0);
            if ends && (extended || long_name.is_some() || long_link.is_some()) {
                return Err(self.damaged("it ends between an extension header and its entry"));
            }
            match got {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(self.damaged("it ends within a header")),
            }
            if ends {
                let got = self.fill(&mut block)?;
                if got == 0 || (got == BLOCK && block.iter().all(|b| *b == 0)) {
                    return Ok(None);
                }
                return Err(self.damaged("a single block of zeros stands between two entries"));
            }
            self.headers += 1;
            let header = Header::decode(&block, at)?;
            self.data = header.size;
            self.padding = header.size.wrapping_neg() % BLOCK as u64;
            match header.flag {
                Flag::PaxGlobal => self.check_extension()?,
                Flag::PaxNext => {
                    extended = true;
                    let records = self.extension()?;
                    pax.read(&records).map_err(|problem| TarError::Damaged { at, problem })?;
                }
                Flag::LongName => long_name = Some(cut_at_nul(&self.extension()?).to_vec()),
                Flag::LongLink => long_link = Some(cut_at_nul(&self.extension()?).to_vec()),
                Flag::Entry(mut kind) => {
                    self.path.clear();
                    match pax.path.or(long_name) {
                        Some(path) => self.path = path,
                        None => header.name(&mut self.path),
                    }
                    self.link.clear();
                    match pax.link.or(long_link) {
                        Some(link) => self.link = link,
                        None => self.link.extend_from_slice(header.link()),
                    }
                    if let (Some(size), EntryKind::File | EntryKind::Sparse) = (pax.size, kind) {
                        self.data = size;
                        self.padding = size.wrapping_neg() % BLOCK as u64;
                    }
                    if header.is_untyped() && self.path.ends_with(b"/") {
                        kind = EntryKind::Directory;
                        (self.data, self.padding) = (0, 0);
                    }
                    if pax.sparse && kind == EntryKind::File {
                        kind = EntryKind::Sparse;
                    }
                    let mode = header.mode();
                    let mut map_goes_on = header.sparse_map_goes_on();
                    while map_goes_on {
                        if self.fill(&mut block)? != BLOCK {
                            return Err(self.damaged("it ends within the map of a sparse file"));
                        }
                        map_goes_on = block[504] != 0;
                    }
                    return Ok(Some(Entry { kind, size: self.data, mode }));
                }
            }
        }
    }

    fn peek(&mut self, count: usize) -> Result<&[u8], TarError> {
        let count = count.min(usize::try_from(self.data).unwrap_or(usize::MAX)).min(BUFFER);
        if self.to - self.from < count {
            // The data begins near the end of the buffer.
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            while self.to < count {
                match self.source.read(&mut self.buffer[self.to..]) {
                    Ok(0) => break,
                    Ok(got) => self.to += got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(&self.buffer[self.from..self.to.min(self.from + count)])
    }

    fn each_piece(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), TarError> {
        while self.data > 0 {
            let left = usize::try_from(self.data).unwrap_or(usize::MAX);
            let part = self.ready()?;
            if part.is_empty() {
                return Err(self.damaged("it ends within the data of an entry"));
            }
            let count = left.min(part.len());
            take(&part[..count]);
            self.consume(count);
            self.data -= count as u64;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let part = self.ready()?.len();
            if part == 0 {
                return Ok(());
            }
            self.consume(part);
        }
    }
}

impl<R: Read> TarReader<R> {
    /// A reader at the start of `source`.
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            from: 0,
            to: 0,
            offset: 0,
            data: 0,
            padding: 0,
            path: Vec::new(),
            link: Vec::new(),
            headers: 0,
        }
    }

    /// Where the data of the entry at hand begins in the archive, when nothing of it is taken yet.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The data of the entry at hand, when it is no longer than `limit`.
    ///
    /// # Errors
    /// When it is longer, when the archive ends within it, or when the source fails.
    pub(crate) fn read_data(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.data > limit {
            let path = String::from_utf8_lossy(&self.path).into_owned();
            return Err(TarError::TooLarge { path, size: self.data, limit });
        }
        // The stated size is only a claim, so memory grows with what really comes.
        let mut data = Vec::with_capacity(usize::try_from(self.data.min(64 * 1024)).unwrap_or(0));
        self.each_piece(|piece| data.extend_from_slice(piece))?;
        Ok(data)
    }

    fn check_extension(&self) -> Result<(), TarError> {
        if self.data > EXTENSION_LIMIT {
            return Err(self.damaged("an extension header is longer than 1 MiB"));
        }
        Ok(())
    }

    fn extension(&mut self) -> Result<Vec<u8>, TarError> {
        self.check_extension()?;
        self.read_data(EXTENSION_LIMIT)
    }

    const fn damaged(&self, problem: &'static str) -> TarError {
        TarError::Damaged { at: self.offset, problem }
    }

    /// What stands ready in the buffer; asks the source when that is nothing.
    fn ready(&mut self) -> Result<&[u8], TarError> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.to = loop {
                match self.source.read(&mut self.buffer) {
                    Ok(got) => break got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            };
        }
        Ok(&self.buffer[self.from..self.to])
    }

    const fn consume(&mut self, count: usize) {
        self.from += count;
        self.offset += count as u64;
    }

    /// Fills `block` as far as the source goes, and answers how far that was.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<usize, TarError> {
        let mut got = 0;
        while got < BLOCK {
            let part = self.ready()?;
            if part.is_empty() {
                break;
            }
            let take = part.len().min(BLOCK - got);
            block[got..got + take].copy_from_slice(&part[..take]);
            self.consume(take);
            got += take;
        }
        Ok(got)
    }

    fn skip(&mut self, mut count: u64) -> Result<(), TarError> {
        while count > 0 {
            let part = self.ready()?.len();
            if part == 0 {
                return Err(self.damaged("it ends within the data of an entry"));
            }
            let take = usize::try_from(count).unwrap_or(usize::MAX).min(part);
            self.consume(take);
            count -= take as u64;
        }
        Ok(())
    }
}
