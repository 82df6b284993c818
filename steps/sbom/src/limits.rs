//! How much of an image is read before it is refused.

/// Bounds that hardly an image meets. A layer that breaks one is refused, never cut short; a file
/// that does is passed over, and the documents say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most entries of one layer.
    pub entries: u64,
    /// The most bytes that one layer unpacks to.
    pub unpacked: u64,
    /// The highest ratio of unpacked to packed bytes, once more than `ratio_from` are unpacked.
    pub ratio: u64,
    /// From how many unpacked bytes on the ratio counts.
    pub ratio_from: u64,
    /// The most bytes of a file that is read as a whole: a package database of text, a package's
    /// description.
    pub file: u64,
    /// The most bytes of memory that one layer's findings and symbolic links may take.
    pub kept: usize,
    /// The most bytes of a program or an archive that are looked into in memory. What is larger is
    /// kept on disk meanwhile.
    pub spool_memory: usize,
    /// The most bytes that one layer's files take of the disk while they are looked into, all
    /// together; there is never more than one of them at a time.
    pub spool: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            unpacked: 64 << 30,
            ratio: 1000,
            ratio_from: 1 << 30,
            file: 64 << 20,
            kept: 256 << 20,
            spool_memory: 16 << 20,
            spool: 16 << 30,
        }
    }
}
