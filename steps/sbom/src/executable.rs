//! Programs and libraries of Linux (ELF), Windows (PE) and macOS (Mach-O), as far as their sections
//! and segments go: where in the file a part lies, and at what address it would be loaded.
//!
//! Every number in such a file was written by anybody. Tables are bounded, and what leads out of
//! the file leads nowhere.

use std::io;

use crate::content::Content;

/// The most sections and segments that are looked at. Compilers that give every function a section
/// of its own merge these when they link.
const TABLE: u64 = 4096;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name of a section; empty for a segment.
    pub(crate) name: String,
    /// Where it lies in the file.
    pub(crate) offset: u64,
    /// How many bytes of it are in the file.
    pub(crate) size: u64,
    /// Where it is loaded.
    pub(crate) address: u64,
    /// Whether a program may write to it: initialized data.
    pub(crate) writable: bool,
}

/// The parts of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Executable {
    pub(crate) sections: Vec<Part>,
    pub(crate) segments: Vec<Part>,
    /// Whether numbers have their high byte first.
    pub(crate) big_endian: bool,
}

/// Whether something begins as a program does.
pub(crate) fn looks_like_one(head: &[u8]) -> bool {
    matches!(
        head,
        [0x7f, b'E', b'L', b'F', ..]
            | [b'M', b'Z', ..]
            | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..]
            | [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1..=20, ..]
    )
}

/// Reads numbers of one byte order out of a few bytes.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl Numbers<'_> {
    /// The number of `N` bytes at `at`; 0 where there are fewer.
    fn get<const N: usize>(self, at: usize) -> u64 {
        let part = at.checked_add(N).and_then(|end| self.bytes.get(at..end));
        let Some(part) = part else { return 0 };
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        if self.big { part.iter().fold(0, fold) } else { part.iter().rev().fold(0, fold) }
    }

    fn u16(self, at: usize) -> u64 {
        self.get::<2>(at)
    }

    fn u32(self, at: usize) -> u64 {
        self.get::<4>(at)
    }

    /// Four bytes or eight.
    fn word(self, at: usize, wide: bool) -> u64 {
        if wide { self.get::<8>(at) } else { self.get::<4>(at) }
    }
}

/// The text before the first NUL.
fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Executable {
    /// Takes `content` apart; `None` when it is no program. A universal binary of macOS is what the
    /// first program in it is.
    ///
    /// # Errors
    /// When the content cannot be read.
    pub(crate) fn of(content: &Content<'_>) -> io::Result<Option<Self>> {
        let head = content.up_to(0, 4096)?;
        match *head {
            [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] => {
                elf(content, &head, class == 2, order == 2).map(Some)
            }
            [b'M', b'Z', ..] => pe(content, &head),
            [0xcf, 0xfa, 0xed, 0xfe, ..] => mach_o(content, 0, true).map(Some),
            [0xce, 0xfa, 0xed, 0xfe, ..] => mach_o(content, 0, false).map(Some),
            [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1..=20, ..] => {
                let first = Numbers { bytes: &head, big: true }.u32(16);
                match *content.up_to(first, 4)? {
                    [0xcf, 0xfa, 0xed, 0xfe] => mach_o(content, first, true).map(Some),
                    [0xce, 0xfa, 0xed, 0xfe] => mach_o(content, first, false).map(Some),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The section with this name.
    pub(crate) fn section(&self, name: &str) -> Option<&Part> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Where in the file the byte is that is loaded at `address`, and how many bytes of its part
    /// follow.
    pub(crate) fn at_address(&self, address: u64) -> Option<(u64, u64)> {
        self.segments.iter().chain(&self.sections).find_map(|part| {
            let into = address.checked_sub(part.address).filter(|into| *into < part.size)?;
            Some((part.offset.checked_add(into)?, part.size - into))
        })
    }
}

/// ELF (System V ABI, chapters 4 and 5).
fn elf(content: &Content<'_>, head: &[u8], wide: bool, big: bool) -> io::Result<Executable> {
    let numbers = Numbers { bytes: head, big };
    let (segments_at, sections_at) = if wide {
        (numbers.word(32, true), numbers.word(40, true))
    } else {
        (numbers.u32(28), numbers.u32(32))
    };
    let counts = if wide { 54 } else { 42 };
    let segment_size = numbers.u16(counts);
    let segment_count = numbers.u16(counts + 2).min(TABLE);
    let section_size = numbers.u16(counts + 4);
    let section_count = numbers.u16(counts + 6).min(TABLE);
    let names = usize::try_from(numbers.u16(counts + 8)).unwrap_or_default();
    let mut found = Executable { big_endian: big, ..Executable::default() };
    for at in 0..segment_count {
        let from = segments_at.saturating_add(at * segment_size);
        let header = content.up_to(from, segment_size.min(64))?;
        let header = Numbers { bytes: &header, big };
        // Only what is loaded.
        if header.u32(0) != 1 {
            continue;
        }
        let (flags, offset, address, size) = if wide {
            (header.u32(4), header.word(8, true), header.word(16, true), header.word(32, true))
        } else {
            (header.u32(24), header.u32(4), header.u32(8), header.u32(16))
        };
        let writable = flags & 3 == 2;
        found.segments.push(Part { name: String::new(), offset, size, address, writable });
    }
    let mut sections = Vec::new();
    for at in 0..section_count {
        let from = sections_at.saturating_add(at * section_size);
        let header = content.up_to(from, section_size.min(64))?;
        let header = Numbers { bytes: &header, big };
        let (flags, address, offset, size) = if wide {
            (
                header.word(8, true),
                header.word(16, true),
                header.word(24, true),
                header.word(32, true),
            )
        } else {
            (header.u32(8), header.u32(12), header.u32(16), header.u32(20))
        };
        // A section of zeros has no bytes in the file.
        let size = if header.u32(4) == 8 { 0 } else { size };
        sections.push((
            header.u32(0),
            Part { name: String::new(), offset, size, address, writable: flags & 1 == 1 },
        ));
    }
    let texts = sections.get(names).map(|(_, part)| (part.offset, part.size.min(1 << 20)));
    let texts = match texts {
        Some((offset, size)) => content.up_to(offset, size)?,
        None => (&[][..]).into(),
    };
    found.sections = sections
        .into_iter()
        .map(|(at, part)| {
            let text = usize::try_from(at).ok().and_then(|at| texts.get(at..));
            Part { name: text.map(name).unwrap_or_default(), ..part }
        })
        .collect();
    Ok(found)
}

/// PE (Microsoft's "PE Format").
fn pe(content: &Content<'_>, head: &[u8]) -> io::Result<Option<Executable>> {
    let at = Numbers { bytes: head, big: false }.u32(0x3c);
    let header = content.up_to(at, 24)?;
    if !header.starts_with(b"PE\0\0") {
        return Ok(None);
    }
    let header = Numbers { bytes: &header, big: false };
    let count = header.u16(6).min(TABLE);
    let optional = at.saturating_add(24);
    let table = optional.saturating_add(header.u16(20));
    let base = {
        let part = content.up_to(optional, 32)?;
        let part = Numbers { bytes: &part, big: false };
        if part.u16(0) == 0x20b { part.word(24, true) } else { part.u32(28) }
    };
    let mut found = Executable::default();
    for number in 0..count {
        let section = content.up_to(table.saturating_add(number * 40), 40)?;
        let text = name(section.get(..8).unwrap_or_default());
        let section = Numbers { bytes: &section, big: false };
        let flags = section.u32(36);
        found.sections.push(Part {
            name: text,
            offset: section.u32(20),
            size: section.u32(16),
            address: base.saturating_add(section.u32(12)),
            // Initialized data that may be written to.
            writable: flags & 0x8000_0040 == 0x8000_0040,
        });
    }
    Ok(Some(found))
}

/// Mach-O (`mach-o/loader.h`), of one architecture, little-endian, which begins at `base`.
fn mach_o(content: &Content<'_>, base: u64, wide: bool) -> io::Result<Executable> {
    let header = content.up_to(base, 32)?;
    let header = Numbers { bytes: &header, big: false };
    let count = header.u32(16).min(TABLE);
    let size = header.u32(20).min(1 << 20);
    let commands = content.up_to(base.saturating_add(if wide { 32 } else { 28 }), size)?;
    let mut found = Executable::default();
    let mut at = 0;
    for _ in 0..count {
        let Some(rest) = commands.get(at..).filter(|rest| rest.len() >= 8) else { break };
        let command = Numbers { bytes: rest, big: false };
        let length = usize::try_from(command.u32(4)).unwrap_or(usize::MAX);
        if length < 8 || length > rest.len() {
            break;
        }
        // LC_SEGMENT_64, LC_SEGMENT
        if command.u32(0) == if wide { 0x19 } else { 1 } {
            let part = Numbers { bytes: &rest[..length], big: false };
            let (address, offset, size, protection, sections, from, each) = if wide {
                (
                    part.word(24, true),
                    part.word(40, true),
                    part.word(48, true),
                    part.u32(60),
                    part.u32(64),
                    72,
                    80,
                )
            } else {
                (part.u32(24), part.u32(32), part.u32(36), part.u32(44), part.u32(48), 56, 68)
            };
            let writable = protection & 2 == 2;
            found.segments.push(Part {
                name: String::new(),
                offset: base.saturating_add(offset),
                size,
                address,
                writable,
            });
            for number in 0..usize::try_from(sections.min(TABLE)).unwrap_or_default() {
                let from = from + number * each;
                let Some(one) = rest[..length].get(from..from + each) else { break };
                let numbers = Numbers { bytes: one, big: false };
                let (address, size, offset) = if wide {
                    (numbers.word(32, true), numbers.word(40, true), numbers.u32(48))
                } else {
                    (numbers.u32(32), numbers.u32(36), numbers.u32(40))
                };
                found.sections.push(Part {
                    name: name(&one[..16]),
                    offset: base.saturating_add(offset),
                    size,
                    address,
                    writable,
                });
            }
        }
        at += length;
    }
    Ok(found)
}
