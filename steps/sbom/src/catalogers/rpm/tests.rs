//! Databases of RPM in each form, made here byte by byte, and read; and real ones where they lie.

use super::*;

/// A description with these tags, as RPM writes it.
fn header(strings: &[(u32, &str)], numbers: &[(u32, &[u32])], lists: &[(u32, &[&str])]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let mut add = |data: &Vec<u8>, tag: u32, ty: u32, count: usize| {
        for number in [tag, ty, data.len() as u32, count as u32] {
            index.extend(number.to_be_bytes());
        }
    };
    for (tag, text) in strings {
        add(&data, *tag, 6, 1);
        data.extend(text.bytes().chain([0]));
    }
    for (tag, texts) in lists {
        add(&data, *tag, 8, texts.len());
        texts.iter().for_each(|text| data.extend(text.bytes().chain([0])));
    }
    data.resize(data.len().next_multiple_of(4), 0);
    for (tag, values) in numbers {
        add(&data, *tag, 4, values.len());
        values.iter().for_each(|value| data.extend(value.to_be_bytes()));
    }
    let mut bytes = ((index.len() / 16) as u32).to_be_bytes().to_vec();
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(index);
    bytes.extend(data);
    bytes
}

fn bash() -> Vec<u8> {
    header(
        &[
            (1000, "bash"),
            (1001, "5.1.8"),
            (1002, "6.el9"),
            (1011, "Rocky"),
            (1014, "GPLv3+"),
            (1022, "x86_64"),
            (1044, "bash-5.1.8-6.el9.src.rpm"),
            (5096, "bash:1:9:abc"),
            // Long enough to be on pages of its own.
            (1005, &"a description ".repeat(700)),
        ],
        &[(1003, &[2]), (1116, &[0, 1, 9])],
        &[(1117, &["bash", "x.egg-info", "lost"]), (1118, &["/usr/bin/", "/usr/lib/"])],
    )
}

fn key() -> Vec<u8> {
    header(&[(1000, "gpg-pubkey"), (1001, "1"), (1002, "1")], &[], &[])
}

const BASH: &str = "pkg:rpm/bash@5.1.8-6.el9?arch=x86_64&epoch=2&rpmmod=bash:1:9:abc&\
                    upstream=bash-5.1.8-6.el9.src.rpm";

/// A database of SQLite with one table of these blobs.
fn sqlite(blobs: &[Vec<u8>], page: usize) -> Vec<u8> {
    let varint = |value: usize| -> Vec<u8> {
        let mut bytes = vec![(value & 0x7f) as u8];
        let mut value = value >> 7;
        while value > 0 {
            bytes.insert(0, (value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes
    };
    let record = |types: Vec<usize>, bodies: Vec<Vec<u8>>| -> Vec<u8> {
        let types: Vec<u8> = types.into_iter().flat_map(varint).collect();
        let mut record = varint(types.len() + 1);
        record.extend(types);
        bodies.into_iter().for_each(|body| record.extend(body));
        record
    };
    let text = |text: &str| (13 + 2 * text.len(), text.as_bytes().to_vec());
    let mut pages: Vec<Vec<u8>> = vec![vec![0; page], vec![0; page]];
    // The rows of the table, each on a leaf of its own below the root on page 2.
    let mut leaves = Vec::new();
    for (at, blob) in blobs.iter().enumerate() {
        let payload = record(vec![0, 12 + 2 * blob.len()], vec![Vec::new(), blob.clone()]);
        let most = page - 35;
        let local = if payload.len() <= most {
            payload.len()
        } else {
            let least = (page - 12) * 32 / 255 - 23;
            let fits = least + (payload.len() - least) % (page - 4);
            if fits <= most { fits } else { least }
        };
        let mut cell = varint(payload.len());
        cell.extend(varint(at + 1));
        cell.extend(&payload[..local]);
        let mut leaf = vec![0; page];
        let number = pages.len() + 1;
        pages.push(Vec::new());
        let chunks: Vec<&[u8]> = payload[local..].chunks(page - 4).collect();
        if !chunks.is_empty() {
            cell.extend((pages.len() as u32 + 1).to_be_bytes());
        }
        for (nth, chunk) in chunks.iter().enumerate() {
            let next = if nth + 1 == chunks.len() { 0 } else { pages.len() as u32 + 2 };
            let mut overflow = next.to_be_bytes().to_vec();
            overflow.extend(*chunk);
            overflow.resize(page, 0);
            pages.push(overflow);
        }
        let start = page - cell.len();
        leaf[0] = 13;
        leaf[3..5].copy_from_slice(&1_u16.to_be_bytes());
        leaf[8..10].copy_from_slice(&(start as u16).to_be_bytes());
        leaf[start..].copy_from_slice(&cell);
        pages[number - 1] = leaf;
        leaves.push(number as u32);
    }
    let root = &mut pages[1];
    match leaves.split_last() {
        None => root[0] = 13,
        Some((last, others)) => {
            root[0] = 5;
            root[3..5].copy_from_slice(&(others.len() as u16).to_be_bytes());
            root[8..12].copy_from_slice(&last.to_be_bytes());
            for (at, leaf) in others.iter().enumerate() {
                let start = page - 8 * (at + 1);
                root[12 + 2 * at..14 + 2 * at].copy_from_slice(&(start as u16).to_be_bytes());
                root[start..start + 4].copy_from_slice(&leaf.to_be_bytes());
            }
        }
    }
    let table = "Packages";
    let columns = [text("table"), text(table), text(table), (1, vec![2]), text("CREATE TABLE")];
    let (types, bodies) = columns.into_iter().unzip();
    let payload = record(types, bodies);
    let mut cell = varint(payload.len());
    cell.extend(varint(1));
    cell.extend(payload);
    let first = &mut pages[0];
    first[..16].copy_from_slice(b"SQLite format 3\0");
    first[16..18].copy_from_slice(&(page as u16).to_be_bytes());
    let start = page - cell.len();
    first[100] = 13;
    first[103..105].copy_from_slice(&1_u16.to_be_bytes());
    first[108..110].copy_from_slice(&(start as u16).to_be_bytes());
    first[start..].copy_from_slice(&cell);
    pages.concat()
}

fn ndb(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"RpmP".to_vec();
    for number in [0_u32, 7, 1, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    let mut data = Vec::new();
    for at in 0..254 {
        bytes.extend(b"Slot");
        let blob = blobs.get(at);
        let index = if blob.is_some() { at as u32 + 1 } else { 0 };
        let offset = (4096 + data.len()) / 16;
        for number in [index, offset as u32, 0] {
            bytes.extend(number.to_le_bytes());
        }
        if let Some(blob) = blob {
            data.extend(b"BlbS");
            for number in [index, 0, blob.len() as u32] {
                data.extend(number.to_le_bytes());
            }
            data.extend(blob);
            data.resize(data.len().next_multiple_of(16), 0);
        }
    }
    [bytes, data].concat()
}

fn berkeley(blobs: &[Vec<u8>], big: bool) -> Vec<u8> {
    const PAGE: usize = 4096;
    let u32 = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let u16 = |value: usize| {
        let value = value as u16;
        if big { value.to_be_bytes() } else { value.to_le_bytes() }
    };
    let mut pages = vec![vec![0; PAGE], vec![0; PAGE]];
    let mut end = PAGE;
    let mut table = Vec::new();
    for blob in blobs {
        let first = pages.len() as u32;
        let chunks: Vec<&[u8]> = blob.chunks(PAGE - 26).collect();
        for (nth, chunk) in chunks.iter().enumerate() {
            let mut page = vec![0; PAGE];
            let next = if nth + 1 == chunks.len() { 0 } else { pages.len() as u32 + 1 };
            page[16..20].copy_from_slice(&u32(next));
            page[22..24].copy_from_slice(&u16(chunk.len()));
            page[25] = 7;
            page[26..26 + chunk.len()].copy_from_slice(chunk);
            pages.push(page);
        }
        let key = [&[1][..], &[0; 4]].concat();
        let mut value = vec![3, 0, 0, 0];
        value.extend(u32(first));
        value.extend(u32(blob.len() as u32));
        for item in [key, value] {
            end -= item.len();
            pages[1][end..end + item.len()].copy_from_slice(&item);
            table.push(end);
        }
    }
    let page = &mut pages[1];
    page[25] = 13;
    page[20..22].copy_from_slice(&u16(table.len()));
    for (at, place) in table.iter().enumerate() {
        page[26 + 2 * at..28 + 2 * at].copy_from_slice(&u16(*place));
    }
    let last = pages.len() as u32 - 1;
    let meta = &mut pages[0];
    meta[12..16].copy_from_slice(&u32(0x0006_1561));
    meta[20..24].copy_from_slice(&u32(PAGE as u32));
    meta[25] = 8;
    meta[32..36].copy_from_slice(&u32(last));
    pages.concat()
}

/// Every form, with a package and a key in it.
pub(crate) fn databases() -> Vec<(&'static str, Vec<u8>)> {
    let both = [key(), bash()];
    vec![
        ("var/lib/rpm/rpmdb.sqlite", sqlite(&both, 4096)),
        ("var/lib/rpm/rpmdb.sqlite", sqlite(&both, 512)),
        ("var/lib/rpm/Packages.db", ndb(&both)),
        ("var/lib/rpm/Packages", berkeley(&both, false)),
        ("var/lib/rpm/Packages", berkeley(&both, true)),
    ]
}

fn purls(path: &str, bytes: &[u8]) -> Vec<String> {
    let said = Rpm.read(path, &Content::of(bytes)).unwrap().unwrap();
    said.packages.iter().map(|entry| entry.purl(None).unwrap()).collect()
}

#[test]
fn every_form_of_the_database_is_read() {
    for (path, bytes) in databases() {
        assert_eq!(purls(path, &bytes), [BASH], "{path} of {} bytes", bytes.len());
        let said = Rpm.read(path, &Content::of(&bytes)).unwrap().unwrap();
        let bash = &said.packages[0];
        assert_eq!(
            (bash.license.as_deref(), bash.supplier.as_deref()),
            (Some("GPLv3+"), Some("Rocky"))
        );
        let owned = bash.owned.as_ref().unwrap();
        assert_eq!(owned.all, ["usr/bin/bash", "usr/lib/x.egg-info"].map(crate::path::hash));
        assert_eq!(owned.paths, ["usr/lib/x.egg-info".into()]);
    }
    let many: Vec<Vec<u8>> = (0..50)
        .map(|at| header(&[(1000, &format!("p{at}")), (1001, "1"), (1002, "2")], &[], &[]))
        .collect();
    assert_eq!(purls("var/lib/rpm/rpmdb.sqlite", &sqlite(&many, 1024)).len(), 50);
}

#[test]
fn what_is_no_database_is_an_error_and_an_empty_one_is_none() {
    let read = |bytes: &[u8]| Rpm.read("var/lib/rpm/Packages", &Content::of(bytes));
    assert_eq!(read(b""), Ok(None));
    for bad in [&b"invalid"[..], &[0; 4096], b"SQLite format 3\0", b"RpmP"] {
        assert!(matches!(read(bad), Err(Unreadable::Lost(_))), "{bad:?}");
    }
    // A page that leads to itself ends.
    let mut looped = sqlite(&[key(), bash()], 512);
    looped[512 + 8..512 + 12].copy_from_slice(&2_u32.to_be_bytes());
    let problem = read(&looped).unwrap_err();
    assert!(
        problem.problem().contains("loop") || problem.problem().contains("deep"),
        "{problem:?}"
    );
}

#[test]
fn a_distroless_list_is_read() {
    let line = "filesystem\t1.1-10.cm2\t1653816591\t1653628924\tMicrosoft Corporation\t(none)\t0\tx86_64\t0\tfilesystem-1.1-10.cm2.src.rpm\n";
    assert_eq!(
        purls("var/lib/rpmmanifest/container-manifest-2", line.as_bytes()),
        ["pkg:rpm/filesystem@1.1-10.cm2?arch=x86_64&upstream=filesystem-1.1-10.cm2.src.rpm"]
    );
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
fn a_real_database_is_read() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(
        "../../../shared/data/peers/scalibr/extractor/filesystem/os/rpm/testdata/Packages_epoch",
    );
    let Ok(bytes) = std::fs::read(&data) else {
        return eprintln!("skipped: {} is not there", data.display());
    };
    let found = purls("var/lib/rpm/Packages", &bytes);
    assert!(!found.is_empty() && found.iter().any(|purl| purl.contains("epoch=")), "{found:?}");
}
