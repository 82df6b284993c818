//! The hash table of Berkeley DB that older systems keep their packages in (`Packages`).

use super::super::Unreadable;
use super::HEADER;
use crate::content::Content;

/// The bytes at the front of every page.
const PAGE_HEAD: usize = 26;
const HASH_MAGIC: u32 = 0x0006_1561;

/// The types of pages and of items that matter.
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
const ITEM_HERE: u8 = 1;
const ITEM_ELSEWHERE: u8 = 3;

/// A database whose numbers have this byte order.
struct Database<'a> {
    content: &'a Content<'a>,
    big: bool,
    page: u64,
}

fn damaged(problem: &str) -> Unreadable {
    Unreadable::Lost(format!("the Berkeley DB is damaged: {problem}"))
}

impl Database<'_> {
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let part: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
        let part = part.unwrap_or_default();
        if self.big { u32::from_be_bytes(part) } else { u32::from_le_bytes(part) }
    }

    fn u16(&self, bytes: &[u8], at: usize) -> usize {
        let part: Option<[u8; 2]> = bytes.get(at..at + 2).and_then(|part| part.try_into().ok());
        let part = part.unwrap_or_default();
        usize::from(if self.big { u16::from_be_bytes(part) } else { u16::from_le_bytes(part) })
    }

    fn page(&self, number: u32) -> Result<std::borrow::Cow<'_, [u8]>, Unreadable> {
        let at = u64::from(number) * self.page;
        self.content.slice(at, self.page).map_err(|_| damaged("it ends before its last page"))
    }

    /// An item that lies on pages of its own, from `page` on.
    fn elsewhere(&self, mut page: u32, length: u32) -> Result<Vec<u8>, Unreadable> {
        if u64::from(length) > HEADER.min(self.content.len()) {
            return Err(damaged("a package is longer than any honest one"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut item = Vec::with_capacity(length);
        while item.len() < length {
            let bytes = self.page(page)?;
            if bytes.get(25) != Some(&OVERFLOW) || page == 0 {
                return Err(damaged("a package ends early"));
            }
            let data = bytes.get(PAGE_HEAD..).unwrap_or_default();
            item.extend_from_slice(&data[..data.len().min(length - item.len())]);
            page = self.u32(&bytes, 16);
        }
        Ok(item)
    }
}

/// Hands the description of each package to `take`.
///
/// # Errors
/// When the database is damaged, or what `take` says.
pub(super) fn headers(
    content: &Content<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let head = content.up_to(0, 512)?;
    let mut database = Database { content, big: false, page: 0 };
    if database.u32(&head, 12) != HASH_MAGIC {
        database.big = true;
        if database.u32(&head, 12) != HASH_MAGIC {
            return Err(Unreadable::lost("it is no database of RPM in any form that is known"));
        }
    }
    database.page = u64::from(database.u32(&head, 20));
    if !(512..=65536).contains(&database.page) || !database.page.is_power_of_two() {
        return Err(damaged("its page size is none"));
    }
    let last = database.u32(&head, 32);
    if u64::from(last) >= content.len() / database.page {
        return Err(damaged("it ends before its last page"));
    }
    // Each package lies on pages of its own, so all of them together are no longer than the file.
    let mut left = content.len();
    for number in 1..=last {
        let page = database.page(number)?;
        if !matches!(page.get(25), Some(&(HASH_UNSORTED | HASH))) {
            continue;
        }
        let items = database.u16(&page, 20);
        let mut end = page.len();
        for item in 0..items {
            let at = database.u16(&page, PAGE_HEAD + 2 * item);
            let here = std::mem::replace(&mut end, at);
            // Keys and values take turns.
            if item % 2 == 0 {
                continue;
            }
            match page.get(at) {
                Some(&ITEM_ELSEWHERE) => {
                    let (first, length) =
                        (database.u32(&page, at + 4), database.u32(&page, at + 8));
                    left = left.saturating_sub(u64::from(length));
                    if left == 0 {
                        return Err(damaged("its packages overlap"));
                    }
                    take(&database.elsewhere(first, length)?)?;
                }
                Some(&ITEM_HERE) => {
                    let value = page.get(at + 1..here).unwrap_or_default();
                    // One short value counts the packages; a description is never as short.
                    if value.len() > 64 {
                        take(value)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}
