//! The rows of one table of an SQLite database (sqlite.org/fileformat2.html): as much of the format
//! as it takes to read every row once.

use super::super::Unreadable;
use crate::content::Content;

/// How deep the tree of a table may be. One of four levels holds millions of rows.
const DEPTH: usize = 20;

/// A database.
pub(in super::super) struct Database<'a> {
    content: &'a Content<'a>,
    page: u64,
    usable: u64,
}

fn damaged(problem: &str) -> Unreadable {
    Unreadable::Lost(format!("the SQLite database is damaged: {problem}"))
}

/// A number of one to nine bytes, and how many these are.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some(((value << 8) | u64::from(*byte), 9));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn big(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(count)?)?;
    Some(part.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

impl<'a> Database<'a> {
    /// Looks at the head of a database.
    ///
    /// # Errors
    /// When its sizes are none.
    pub(in super::super) fn open(content: &'a Content<'a>) -> Result<Self, Unreadable> {
        let head = content.slice(0, 100)?;
        let page = match big(&head, 16, 2) {
            Some(1) => 65536,
            Some(size) if size >= 512 && size.is_power_of_two() => size,
            _ => return Err(damaged("its page size is none")),
        };
        let usable = page - u64::from(head[20]);
        if usable < 480 {
            return Err(damaged("nothing of a page is usable"));
        }
        Ok(Self { content, page, usable })
    }

    /// Hands each row of `table` to `take`; a row may have `longest` bytes.
    ///
    /// # Errors
    /// When the table is not there, when the database is damaged, or what `take` says.
    pub(in super::super) fn rows(
        &self,
        table: &str,
        longest: u64,
        mut take: impl FnMut(&Row<'_>) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let mut root = None;
        self.walk(1, 1 << 20, |row| {
            if row.text(0).as_deref() == Some("table") && row.text(1).as_deref() == Some(table) {
                root = row.number(3);
            }
            Ok(())
        })?;
        let root = root.ok_or_else(|| damaged(&format!("it has no table `{table}`")))?;
        self.walk(root, longest, &mut take)
    }

    fn page(&self, number: u64) -> Result<std::borrow::Cow<'_, [u8]>, Unreadable> {
        let at = number.checked_sub(1).and_then(|before| before.checked_mul(self.page));
        let at = at.ok_or_else(|| damaged("it refers to a page that cannot be"))?;
        self.content.slice(at, self.page).map_err(|_| damaged("it ends before its last page"))
    }

    /// Goes over the tree of a table whose root is the page `root`.
    fn walk(
        &self,
        root: u64,
        longest: u64,
        mut take: impl FnMut(&Row<'_>) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        // Every page is in a tree once, so a tree that has more of them has a loop.
        let mut left = self.content.len() / self.page + 1;
        let mut todo = vec![(root, 0)];
        while let Some((number, depth)) = todo.pop() {
            left = left.checked_sub(1).ok_or_else(|| damaged("its pages form a loop"))?;
            if depth > DEPTH {
                return Err(damaged("its tree is too deep"));
            }
            let page = self.page(number)?;
            let start = if number == 1 { 100 } else { 0 };
            let kind = page.get(start).copied();
            let cells = big(&page, start + 3, 2).and_then(|count| usize::try_from(count).ok());
            let cells = cells.unwrap_or_default();
            let table = start + if kind == Some(5) { 12 } else { 8 };
            let cell = |at: usize| {
                let offset = usize::try_from(big(&page, table + 2 * at, 2)?).ok()?;
                page.get(offset..)
            };
            match kind {
                Some(5) => {
                    let child = |at| Some((cell(at).and_then(|cell| big(cell, 0, 4))?, depth + 1));
                    let last = big(&page, start + 8, 4).map(|last| (last, depth + 1));
                    let children: Vec<(u64, usize)> =
                        (0..cells).map(child).chain([last]).flatten().collect();
                    todo.extend(children.into_iter().rev());
                }
                Some(13) => {
                    for at in 0..cells {
                        let cell = cell(at).ok_or_else(|| damaged("a row is not in its page"))?;
                        let payload = self.payload(cell, longest)?;
                        let row = Row::of(&payload).ok_or_else(|| damaged("a row is no record"))?;
                        take(&row)?;
                    }
                }
                _ => return Err(damaged("a page is of no table")),
            }
        }
        Ok(())
    }

    /// The bytes of a row, those on further pages included.
    fn payload(&self, cell: &[u8], longest: u64) -> Result<Vec<u8>, Unreadable> {
        let none = || damaged("a row has no length");
        let (length, used) = varint(cell).ok_or_else(none)?;
        let (_, key) = varint(&cell[used..]).ok_or_else(none)?;
        if length > longest.min(self.content.len()) {
            return Err(damaged("a row is longer than any honest one"));
        }
        let most = self.usable - 35;
        let local = if length <= most {
            length
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fits = least + (length - least) % (self.usable - 4);
            if fits <= most { fits } else { least }
        };
        let body = &cell[used + key..];
        let local = usize::try_from(local).map_err(|_| none())?;
        let mut payload = body.get(..local).ok_or_else(none)?.to_vec();
        let mut next = big(body, local, 4).unwrap_or_default();
        while (payload.len() as u64) < length {
            let page = self.page(next)?;
            next = big(&page, 0, 4).unwrap_or_default();
            let missing = length - payload.len() as u64;
            let part = usize::try_from(missing.min(self.usable - 4)).map_err(|_| none())?;
            payload.extend_from_slice(page.get(4..4 + part).ok_or_else(none)?);
        }
        Ok(payload)
    }
}

/// One row.
pub(in super::super) struct Row<'a> {
    /// The type of each value, and its bytes.
    values: Vec<(u64, &'a [u8])>,
}

impl<'a> Row<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let (header, used) = varint(payload)?;
        let header = usize::try_from(header).ok()?;
        let mut types = payload.get(used..header)?;
        let mut body = payload.get(header..)?;
        let mut values = Vec::new();
        while !types.is_empty() && values.len() < 64 {
            let (ty, used) = varint(types)?;
            types = &types[used..];
            let size = match ty {
                0 | 8 | 9 => 0,
                1..=4 => ty,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                ty => (ty - 12) / 2,
            };
            let (value, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
            body = rest;
            values.push((ty, value));
        }
        Some(Self { values })
    }

    /// The blob in this column.
    pub(in super::super) fn blob(&self, column: usize) -> Option<&'a [u8]> {
        let (ty, value) = self.values.get(column)?;
        (*ty >= 12 && ty % 2 == 0).then_some(*value)
    }

    /// The text in this column.
    pub(in super::super) fn text(&self, column: usize) -> Option<String> {
        let (ty, value) = self.values.get(column)?;
        (*ty >= 13 && ty % 2 == 1).then(|| String::from_utf8_lossy(value).into_owned())
    }

    fn number(&self, column: usize) -> Option<u64> {
        let (ty, value) = self.values.get(column)?;
        match ty {
            8 => Some(0),
            9 => Some(1),
            1..=6 => big(value, 0, value.len()),
            _ => None,
        }
    }
}
