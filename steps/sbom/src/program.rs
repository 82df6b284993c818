//! Programs that carry a list of what they were built from: told by their bytes, in one pass, while
//! these stream by. Nothing of a program is kept.

use memchr::memmem::{self, Finder};

use crate::unassessed::UnassessedKind;

/// How many bytes of the front of a file [`Programs::begin`] wants to see.
pub(crate) const HEAD: usize = 512;

/// No linker of the languages in question writes a program as small as this.
pub(crate) const SMALLEST: u64 = 16 << 10;

/// What Go's linker puts before the build information (debug/buildinfo), at an address that is a
/// multiple of [`GO_ALIGNMENT`], with the size of a pointer and a byte of flags behind it.
const GO: &[u8] = b"\xff Go buildinf:";
const GO_ALIGNMENT: u64 = 16;

/// The name of the section that cargo-auditable writes, between two others in their table.
const RUST: &[u8] = b"\0.dep-v0\0";

/// What UPX writes behind the headers of a program that it packed.
const UPX: &[u8] = b"UPX!";

/// The longest window that one decision needs, less one: what of a piece is kept for the next.
const TAIL: usize = GO.len() + 1;

/// Looks for programs of one layer.
pub(crate) struct Programs {
    go: Finder<'static>,
    rust: Finder<'static>,
}

/// One program, as far as it was seen.
pub(crate) struct Program<'a> {
    programs: &'a Programs,
    /// Where the next piece begins.
    offset: u64,
    /// The last bytes before it.
    tail: Vec<u8>,
    packed: bool,
    go: bool,
    rust: bool,
}

impl Programs {
    pub(crate) fn new() -> Self {
        Self { go: Finder::new(GO), rust: Finder::new(RUST) }
    }

    /// Begins with a file whose first bytes are `head`, when these are a program's: ELF, Windows'
    /// PE, or Mach-O.
    pub(crate) fn begin(&self, head: &[u8]) -> Option<Program<'_>> {
        let program = head.starts_with(b"\x7fELF")
            || head.starts_with(b"MZ")
            || head.starts_with(&[0xcf, 0xfa, 0xed, 0xfe])
            || head.starts_with(&[0xce, 0xfa, 0xed, 0xfe]);
        program.then(|| Program {
            programs: self,
            offset: 0,
            tail: Vec::with_capacity(2 * TAIL),
            packed: memmem::find(head, UPX).is_some(),
            go: false,
            rust: false,
        })
    }
}

impl Program<'_> {
    /// Looks at the next piece of the file.
    pub(crate) fn piece(&mut self, piece: &[u8]) {
        // What lies across the border of two pieces.
        let kept = self.tail.len();
        self.tail.extend_from_slice(&piece[..piece.len().min(TAIL)]);
        let joint = std::mem::take(&mut self.tail);
        self.look(&joint, self.offset - kept as u64);
        self.look(piece, self.offset);
        self.offset += piece.len() as u64;
        self.tail = joint;
        if piece.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - TAIL..]);
        } else {
            let drop = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..drop);
        }
    }

    fn look(&mut self, bytes: &[u8], from: u64) {
        if !self.go {
            self.go = self.programs.go.find_iter(bytes).any(|at| {
                // Programs that look for the mark hold it, too, but not as the linker writes it.
                let behind = bytes.get(at + GO.len()..at + GO.len() + 2);
                (from + at as u64).is_multiple_of(GO_ALIGNMENT)
                    && matches!(behind, Some([4 | 8, 0..=3]))
            });
        }
        self.rust = self.rust || self.programs.rust.find(bytes).is_some();
    }

    /// What it is, once all of it was seen.
    pub(crate) const fn is(&self) -> Option<UnassessedKind> {
        match (self.go, self.rust, self.packed) {
            (true, _, _) => Some(UnassessedKind::GoBinary),
            (false, true, _) => Some(UnassessedKind::RustBinary),
            (false, false, true) => Some(UnassessedKind::PackedBinary),
            (false, false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of `size` bytes with `mark` at `at`, seen in pieces of `step` bytes.
    fn seen(head: &[u8], mark: &[u8], at: usize, step: usize) -> Option<UnassessedKind> {
        let mut bytes = vec![0x90; at + mark.len() + 100];
        bytes[..head.len()].copy_from_slice(head);
        bytes[at..at + mark.len()].copy_from_slice(mark);
        let programs = Programs::new();
        let mut program = programs.begin(&bytes[..bytes.len().min(HEAD)])?;
        bytes.chunks(step).for_each(|piece| program.piece(piece));
        program.is()
    }

    #[test]
    fn a_mark_is_found_wherever_pieces_end() {
        let go = [GO, &[8, 2]].concat();
        for step in [1, 2, 3, 7, 15, 16, 17, 31, 64, 1000] {
            for at in [512, 528, 1600] {
                let want = Some(UnassessedKind::GoBinary);
                assert_eq!(seen(b"\x7fELF", &go, at, step), want, "{step} {at}");
            }
            for at in [512, 521, 1603] {
                let want = Some(UnassessedKind::RustBinary);
                assert_eq!(seen(b"\x7fELF", RUST, at, step), want, "{step} {at}");
            }
        }
    }

    #[test]
    fn only_what_a_linker_writes_into_a_program_counts() {
        let go = [GO, &[8, 2]].concat();
        for (head, mark, at, want) in [
            (&b"MZ"[..], &go[..], 512, Some(UnassessedKind::GoBinary)),
            (&[0xcf, 0xfa, 0xed, 0xfe], &go, 512, Some(UnassessedKind::GoBinary)),
            (b"\x7fELF", UPX, 236, Some(UnassessedKind::PackedBinary)),
            // Not a program, not aligned, not followed as the linker does, too late.
            (b"#!/bin/sh", &go, 512, None),
            (b"\x7fELF", &go, 520, None),
            (b"\x7fELF", b"\xff Go buildinf:.rodata", 512, None),
            (b"\x7fELF", b".dep-v0 is a section", 512, None),
            (b"\x7fELF", UPX, 5000, None),
        ] {
            assert_eq!(seen(head, mark, at, 64), want, "{mark:?} at {at}");
        }
    }
}
