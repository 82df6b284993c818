//! RPM's own database, ndb (`Packages.db`): slots, each of which says where a description lies.

use super::super::Unreadable;
use super::HEADER;
use crate::content::Content;

const SLOT: u64 = 16;
const SLOTS_OF_PAGE: u64 = 4096 / SLOT;
const BLOCK: u64 = 16;

fn little(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    u64::from(part.map(u32::from_le_bytes).unwrap_or_default())
}

/// Hands the description of each package to `take`.
///
/// # Errors
/// When the database is damaged, or what `take` says.
pub(super) fn headers(
    content: &Content<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let damaged =
        |problem: &str| Unreadable::Lost(format!("the ndb database is damaged: {problem}"));
    let head = content.slice(0, 32)?;
    let pages = little(&head, 12);
    if little(&head, 4) != 0 || pages == 0 {
        return Err(damaged("its version is not known"));
    }
    // The head takes the place of the first two slots.
    let slots = pages.saturating_mul(SLOTS_OF_PAGE).saturating_sub(2);
    if slots.saturating_mul(SLOT) > content.len() {
        return Err(damaged("it has more slots than bytes"));
    }
    // Each description lies somewhere else, so all of them together are no longer than the file.
    let mut left = content.len();
    for number in 0..slots {
        let slot = content.slice(32 + number * SLOT, SLOT)?;
        if !slot.starts_with(b"Slot") {
            return Err(damaged("a slot is none"));
        }
        if little(&slot, 4) == 0 {
            continue;
        }
        let at = little(&slot, 8) * BLOCK;
        let blob = content.slice(at, 16)?;
        let length = little(&blob, 12);
        if !blob.starts_with(b"BlbS") || little(&blob, 4) != little(&slot, 4) {
            return Err(damaged("a slot leads to no package"));
        }
        left = left.checked_sub(length).ok_or_else(|| damaged("its packages overlap"))?;
        if length > HEADER {
            return Err(damaged("a package is longer than any honest one"));
        }
        take(&content.slice(at + 16, length)?)?;
    }
    Ok(())
}
