//! PAX extended headers (POSIX.1-2001): `length key=value` records before an entry.

/// The records that change how the next entry is read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Whether any `GNU.sparse.*` record is there.
    pub(super) sparse: bool,
}

impl Pax {
    /// Reads every record; a later one wins over an earlier one.
    pub(super) fn read(&mut self, mut rest: &[u8]) -> Result<(), &'static str> {
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|b| *b == b' ');
            let space = space.ok_or("a PAX record has no length")?;
            let length: usize = std::str::from_utf8(&rest[..space])
                .ok()
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or("the length of a PAX record is no number")?;
            let record = rest.get(space + 1..length).ok_or("a PAX record is cut short")?;
            let record = record.strip_suffix(b"\n").ok_or("a PAX record has no end of line")?;
            let equals = record.iter().position(|b| *b == b'=');
            let (key, value) = record.split_at(equals.ok_or("a PAX record has no `=`")?);
            self.take(key, &value[1..])?;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let text = |value: &[u8]| {
            if value.contains(&0) { Err("a PAX name holds a NUL") } else { Ok(value.to_vec()) }
        };
        match key {
            b"path" if !self.sparse || self.path.is_none() => self.path = Some(text(value)?),
            b"linkpath" => self.link = Some(text(value)?),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                let size = size.filter(|size| *size < 1 << 62);
                self.size = Some(size.ok_or("the PAX size is no number below 2^62")?);
            }
            // The true name of a sparse file; its `path` is a name made up for old readers.
            b"GNU.sparse.name" => {
                self.sparse = true;
                self.path = Some(text(value)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_in_order() {
        let mut pax = Pax::default();
        pax.read(b"12 path=old\n12 path=new\n11 size=42\n18 linkpath=there\n6 a=b\n").unwrap();
        assert_eq!(
            pax,
            Pax {
                path: Some(b"new".to_vec()),
                link: Some(b"there".to_vec()),
                size: Some(42),
                sparse: false
            }
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"path=x\n"[..],
            b"99 path=x\n",
            b"9 path=xx",
            b"7 path\n",
            b"3 \n",
            b"10 path=a\0\n",
            b"10 size=xx\n",
            b"0 \n",
            b"-1 a=b\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert!(Pax::default().read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
