//! The reader against archives of the `tar` crate, and against bytes that are none.

use proptest::prelude::*;

use super::{Entries as _, EntryKind, TarReader};

/// Every entry with its data; an error ends the list as text.
fn read(bytes: &[u8]) -> Result<Vec<(String, EntryKind, Vec<u8>)>, String> {
    let mut reader = TarReader::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|e| e.to_string())? {
        let path = String::from_utf8_lossy(reader.path()).into_owned();
        let data = reader.read_data(1 << 20).map_err(|e| e.to_string())?;
        assert_eq!(data.len() as u64, entry.size);
        all.push((path, entry.kind, data));
    }
    reader.drain().map_err(|e| e.to_string())?;
    Ok(all)
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, &data[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn long_names_come_in_three_ways() {
    let long = format!("{}/package.json", "a".repeat(180));
    // GNU: an `L` entry before the file.
    let gnu = archive(&[(long.clone(), b"x".to_vec())]);
    assert_eq!(read(&gnu).unwrap(), [(long.clone(), EntryKind::File, b"x".to_vec())]);
    // POSIX.1-1988: a prefix in the header.
    let mut header = tar::Header::new_ustar();
    header.set_path(format!("{}/{}", "p".repeat(120), "n".repeat(90))).unwrap();
    header.set_size(0);
    header.set_cksum();
    let mut ustar = tar::Builder::new(Vec::new());
    ustar.append(&header, &[][..]).unwrap();
    assert_eq!(read(&ustar.into_inner().unwrap()).unwrap()[0].0.len(), 211);
    // POSIX.1-2001: a PAX record, which also says the size.
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("path", long.as_bytes()), ("size", b"3")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(3);
    header.set_cksum();
    pax.append(&header, &b"abc"[..]).unwrap();
    let found = read(&pax.into_inner().unwrap()).unwrap();
    assert_eq!(found, [(long, EntryKind::File, b"abc".to_vec())]);
}

#[test]
fn a_sparse_file_is_told_from_a_whole_one() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("holes").unwrap();
    header.set_size(512);
    header.as_gnu_mut().unwrap().set_is_extended(true);
    header.set_cksum();
    // The map goes on for one block, then comes the data.
    let mut blocks = vec![0; 512];
    blocks.extend([7; 512]);
    builder.append(&header, &blocks[..]).unwrap();
    let mut next = tar::Header::new_gnu();
    next.set_path("next").unwrap();
    next.set_size(0);
    next.set_cksum();
    builder.append(&next, &[][..]).unwrap();
    let found = read(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(found[0], ("holes".to_owned(), EntryKind::Sparse, vec![7; 512]));
    assert_eq!(found[1].0, "next");
}

#[test]
fn a_damaged_archive_says_where() {
    let whole = archive(&[("a".to_owned(), vec![1; 600]), ("b".to_owned(), vec![2; 10])]);
    let mut flipped = whole.clone();
    flipped[512 + 1024 + 3] ^= 1;
    let mut lone = whole.clone();
    lone.truncate(512 + 1024 + 1024 + 512);
    lone.extend(&whole[..512]);
    for (bytes, want) in [
        (&whole[..512 + 300], "ends within the data of an entry"),
        (&whole[..100], "ends within a header"),
        (&flipped[..], "byte 1536: the header's checksum does not fit"),
        (&lone[..], "a single block of zeros"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    // The two blocks of zeros at the end may be missing, and anything may follow them.
    assert_eq!(read(&whole[..whole.len() - 1024]).unwrap().len(), 2);
    assert_eq!(read(&[&whole[..], b"trailing"].concat()).unwrap().len(), 2);
    assert!(read(&[]).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(
        files in prop::collection::vec(
            ("[a-z]{1,20}(/[a-z.]{1,90}){0,3}", prop::collection::vec(any::<u8>(), 0..2000)), 0..8),
    ) {
        let files: Vec<_> = files.into_iter()
            .filter(|(path, _)| !path.split('/').any(|part| part == ".." || part == "."))
            .collect();
        let found = read(&archive(&files)).unwrap();
        let found: Vec<_> = found.into_iter().map(|(path, _, data)| (path, data)).collect();
        prop_assert_eq!(found, files);
    }

    #[test]
    fn no_bytes_make_it_panic(
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        fix_checksum in any::<bool>(),
    ) {
        let _ = read(&noise);
        let long = "x".repeat(150);
        let mut bytes = archive(&[(long, vec![3; 700]), ("b".to_owned(), vec![4; 20])]);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
            if fix_checksum {
                let block = at / 512 * 512;
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[block..block + 512]);
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let _ = read(&bytes);
    }
}
