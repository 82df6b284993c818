//! One 512-byte tar header: POSIX.1-1988 (ustar) with the GNU extensions that layers use.

use super::TarError;

/// The unit that everything in an archive is padded to.
pub(super) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file, with data.
    File,
    /// A sparse regular file: its data is a map of holes and the bytes between them.
    Sparse,
    /// Another name for a file that stands in the same archive.
    HardLink,
    /// A symbolic link.
    SymLink,
    /// A directory.
    Directory,
    /// A device, a FIFO or something else that holds no file data.
    Special,
}

/// What the type flag of a header says, the extension headers told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Entry(EntryKind),
    PaxNext,
    PaxGlobal,
    LongName,
    LongLink,
}

/// The parts of a header that a reader of layers needs.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub(super) flag: Flag,
    /// The number of data bytes in the archive behind this header.
    pub(super) size: u64,
}

impl<'a> Header<'a> {
    /// Decodes a block that is not all zeros. `at` is its offset, for the message.
    pub(super) fn decode(block: &'a [u8; BLOCK], at: u64) -> Result<Self, TarError> {
        let damaged = |problem| TarError::Damaged { at, problem };
        let stated =
            number(&block[148..156]).ok_or_else(|| damaged("the checksum is no number"))?;
        if !checksum_fits(block, stated) {
            return Err(damaged("the header's checksum does not fit"));
        }
        let size = number(&block[124..136]).ok_or_else(|| damaged("the size is no number"))?;
        let flag = match block[156] {
            b'1' => Flag::Entry(EntryKind::HardLink),
            b'2' => Flag::Entry(EntryKind::SymLink),
            b'3' | b'4' | b'6' => Flag::Entry(EntryKind::Special),
            b'5' => Flag::Entry(EntryKind::Directory),
            b'x' => Flag::PaxNext,
            b'g' => Flag::PaxGlobal,
            b'L' => Flag::LongName,
            b'K' => Flag::LongLink,
            b'S' => Flag::Entry(EntryKind::Sparse),
            // POSIX: an unknown type is read as a regular file.
            _ => Flag::Entry(EntryKind::File),
        };
        // Only these types carry data; what others state as their size has no bytes behind it.
        let has_data = !matches!(
            flag,
            Flag::Entry(
                EntryKind::HardLink
                    | EntryKind::SymLink
                    | EntryKind::Directory
                    | EntryKind::Special
            )
        );
        Ok(Self { block, flag, size: if has_data { size } else { 0 } })
    }

    /// Appends the name of the entry to `path`, with the ustar prefix where there is one.
    pub(super) fn name(&self, path: &mut Vec<u8>) {
        if &self.block[257..263] == b"ustar\0" {
            let prefix = cut_at_nul(&self.block[345..500]);
            if !prefix.is_empty() {
                path.extend_from_slice(prefix);
                path.push(b'/');
            }
        }
        path.extend_from_slice(cut_at_nul(&self.block[..100]));
    }

    /// The permissions; none where the field is no number.
    pub(super) fn mode(&self) -> u32 {
        let mode = number(&self.block[100..108]).unwrap_or_default();
        u32::try_from(mode & 0o7777).unwrap_or_default()
    }

    /// Whether the header states no type. Seventh-edition archives do, and mark a directory by the
    /// slash at the end of its name alone.
    pub(super) const fn is_untyped(&self) -> bool {
        self.block[156] == 0
    }

    /// The target of a link.
    pub(super) fn link(&self) -> &[u8] {
        cut_at_nul(&self.block[157..257])
    }

    /// Whether the map of an old GNU sparse file goes on in the next block.
    pub(super) const fn sparse_map_goes_on(&self) -> bool {
        self.block[156] == b'S' && self.block[482] != 0
    }
}

/// Whether `head`, the first bytes of something, is the begin of an archive: a header whose
/// checksum fits, or the zeros at the end of an archive without entries.
pub(crate) fn looks_like_an_archive(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<BLOCK>() else { return head.is_empty() };
    block.iter().all(|b| *b == 0) || Header::decode(block, 0).is_ok()
}

/// The bytes before the first NUL.
pub(super) fn cut_at_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// A numeric field: octal text, or GNU's big-endian binary where the top bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            if value >> 55 != 0 {
                return None;
            }
            value = (value << 8) | u64::from(*byte);
        }
        return Some(value);
    }
    let text = cut_at_nul(field).trim_ascii();
    let mut value = 0_u64;
    for byte in text {
        if !(b'0'..=b'7').contains(byte) || value >> 60 != 0 {
            return None;
        }
        value = value * 8 + u64::from(byte - b'0');
    }
    Some(value)
}

/// The sum of all bytes with the checksum field read as spaces. Some old writers summed signed
/// bytes, so both sums are good.
fn checksum_fits(block: &[u8; BLOCK], stated: u64) -> bool {
    let (mut unsigned, mut signed) = (0_u64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    unsigned == stated || u64::try_from(signed) == Ok(stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, want) in [
            (&b"00000000017\0"[..], Some(15)),
            (b"     17 \0\0\0\0", Some(15)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000000008\0\0", None),
            (b"77777777777777777777777", None),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }
}
