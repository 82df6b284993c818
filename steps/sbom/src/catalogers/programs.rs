//! Programs that carry a list of what they were built from, or that unpack themselves: told by
//! their bytes, in one pass, while these stream by. Where nobody could read the list, the program
//! is named as seen and not read.

use memchr::memmem::{self, Finder};

use super::go::{ALIGNMENT as GO_ALIGNMENT, MAGIC as GO};
use super::{Candidate, Cataloger, Place, Unreadable, Want, Watch};
use crate::content::Content;
use crate::evidence::Said;
use crate::unassessed::UnassessedKind;

/// Looks for the marks that linkers leave.
pub(super) struct Marks;

/// No linker of the languages in question writes a program as small as this.
const SMALLEST: u64 = 16 << 10;

/// The name of the section that cargo-auditable writes, between two others in their table.
const RUST: &[u8] = b"\0.dep-v0\0";

/// What UPX writes behind the headers of a program that it packed, among the first bytes.
const UPX: &[u8] = b"UPX!";
const UPX_WITHIN: usize = 512;

/// The longest window that one decision needs, less one: what of a piece is kept for the next.
const TAIL: usize = GO.len() + 1;

impl Cataloger for Marks {
    fn name(&self) -> &'static str {
        "programs"
    }

    fn names(&self, _place: &Place<'_>) -> bool {
        false
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        if file.size >= SMALLEST && file.is_executable() { Want::Stream } else { Want::No }
    }

    fn read(&self, _path: &str, _content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        Ok(None)
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(Program {
            go_mark: Finder::new(GO),
            rust_mark: Finder::new(RUST),
            offset: 0,
            tail: Vec::with_capacity(2 * TAIL),
            head: Vec::new(),
            go: false,
            rust: false,
        }))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::PackedBinary
    }

    fn is_by_content(&self) -> bool {
        true
    }
}

/// One program, as far as it was seen.
struct Program {
    go_mark: Finder<'static>,
    rust_mark: Finder<'static>,
    /// Where the next piece begins.
    offset: u64,
    /// The last bytes before it.
    tail: Vec<u8>,
    /// The first bytes of the file.
    head: Vec<u8>,
    go: bool,
    rust: bool,
}

impl Watch for Program {
    fn piece(&mut self, piece: &[u8]) {
        let missing = UPX_WITHIN.saturating_sub(self.head.len());
        self.head.extend_from_slice(&piece[..piece.len().min(missing)]);
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

    fn end(self: Box<Self>) -> Option<Said> {
        let mark = match (self.go, self.rust) {
            (true, _) => Some(UnassessedKind::GoBinary),
            (false, true) => Some(UnassessedKind::RustBinary),
            (false, false) => memmem::find(&self.head, UPX).map(|_| UnassessedKind::PackedBinary),
        };
        mark.map(|mark| Said { marks: vec![mark], ..Said::default() })
    }
}

impl Program {
    fn look(&mut self, bytes: &[u8], from: u64) {
        if !self.go {
            self.go = self.go_mark.find_iter(bytes).any(|at| {
                // Programs that look for the mark hold it, too, but not as the linker writes it.
                let behind = bytes.get(at + GO.len()..at + GO.len() + 2);
                (from + at as u64).is_multiple_of(GO_ALIGNMENT)
                    && matches!(behind, Some([4 | 8, 0..=3]))
            });
        }
        self.rust = self.rust || self.rust_mark.find(bytes).is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with `mark` at `at`, seen in pieces of `step` bytes.
    fn seen(head: &[u8], mark: &[u8], at: usize, step: usize) -> Option<UnassessedKind> {
        let mut bytes = vec![0x90; at + mark.len() + 100];
        bytes[..head.len()].copy_from_slice(head);
        bytes[at..at + mark.len()].copy_from_slice(mark);
        let candidate = Candidate {
            place: Place::of("x"),
            mode: 0o755,
            size: SMALLEST,
            head: &bytes[..bytes.len().min(super::super::HEAD)],
        };
        if Marks.wants(&candidate) == Want::No {
            return None;
        }
        let mut program = Marks.watch().unwrap();
        bytes.chunks(step).for_each(|piece| program.piece(piece));
        program.end().map(|said| said.marks[0])
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
