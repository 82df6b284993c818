//! Folders that are packed, and archives that are unpacked, good and bad.

use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn packed(folder: &Path) -> (tempfile::NamedTempFile, Result<Packed, ArchiveError>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let packed = pack(folder, file.path(), false);
    (file, packed)
}

fn listing(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let found = path.symlink_metadata().unwrap();
            all.push(if found.is_dir() {
                folders.push(path);
                format!("{name}/")
            } else if found.is_symlink() {
                format!("{name} -> {}", std::fs::read_link(path).unwrap().display())
            } else {
                let mode = found.permissions().mode() & 0o777;
                format!("{name} {mode:o} {}", std::fs::read_to_string(path).unwrap())
            });
        }
    }
    all.sort();
    all
}

#[test]
fn a_folder_comes_out_as_it_went_in_and_is_the_same_archive_each_time() {
    let long = "long/".repeat(40) + "name";
    let files =
        [("src/main.rs", "fn"), (&*long, "deep"), (".git/config", "x"), ("a", ""), ("run", "#!")];
    let source = folder(&files);
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(source.path().join("run"), mode).unwrap();
    std::fs::create_dir(source.path().join("empty")).unwrap();
    symlink("../a", source.path().join("src/link")).unwrap();
    let (file, first) = packed(source.path());
    let first = first.unwrap();
    assert_eq!(first.digest, Digest::sha256(&std::fs::read(file.path()).unwrap()));
    assert_eq!(first.size, std::fs::metadata(file.path()).unwrap().len());

    let out = tempfile::tempdir().unwrap();
    assert_eq!(unpack(file.path(), out.path()).unwrap(), first.amount);
    let mut want = listing(source.path());
    want.retain(|line| !line.starts_with(".git"));
    let want: Vec<_> = want.iter().map(|line| line.replace("run 700", "run 755")).collect();
    assert_eq!(listing(out.path()), want);
    // What came out makes the same archive, whatever its times and its owner.
    assert_eq!(packed(out.path()).1.unwrap().digest, first.digest);
    let with_git = pack(source.path(), file.path(), true).unwrap();
    assert_eq!(with_git.amount.entries, first.amount.entries + 2);
}

#[test]
fn what_leaves_the_folder_is_not_packed() {
    for (name, target) in [
        ("a", "/etc/passwd"),
        ("a", "../x"),
        ("sub/a", "../../x"),
        ("sub/a", "../b/../../x"),
        ("a", ".."),
    ] {
        let source = folder(&[("sub/file", "")]);
        symlink(target, source.path().join(name)).unwrap();
        let error = packed(source.path()).1.unwrap_err().to_string();
        assert!(error.contains("outside of the folder") && error.contains(name), "{error}");
    }
    let source = folder(&[]);
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    let error = packed(source.path()).1.unwrap_err().to_string();
    assert_eq!(error, "`socket`: it is neither a file, a folder nor a link");
}

/// An archive as somebody makes it who means no good.
fn made(make: impl FnOnce(&mut tar::Builder<zstd::Encoder<'_, File>>)) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let encoder = zstd::Encoder::new(file.reopen().unwrap(), 3).unwrap();
    let mut builder = tar::Builder::new(encoder);
    make(&mut builder);
    builder.into_inner().unwrap().finish().unwrap().flush().unwrap();
    file
}

/// An entry whose name is written as it is; the library would refuse it.
fn raw(
    builder: &mut tar::Builder<zstd::Encoder<'_, File>>,
    name: &str,
    kind: tar::EntryType,
    link: &str,
    data: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o6755);
    header.set_size(data.len() as u64);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

#[test]
fn an_archive_that_means_no_good_is_refused_and_writes_nothing_outside() {
    use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let around = tempfile::tempdir().unwrap();
    let outside = around.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let outside_text = outside.display().to_string();
    type Entry<'a> = (&'a str, tar::EntryType, &'a str);
    let cases: [(&str, &str, Vec<Entry<'_>>); 12] = [
        ("up", "leads out", vec![("../outside/x", Regular, "")]),
        ("up within", "leads out", vec![("a/../../outside/x", Regular, "")]),
        ("absolute", "leads out", vec![("/tmp/fairlead-x", Regular, "")]),
        ("nothing", "its name is none", vec![("./.", Regular, "")]),
        ("link out", "outside of the folder", vec![("l", Symlink, "../outside")]),
        ("absolute link", "outside of the folder", vec![("l", Symlink, &outside_text)]),
        ("hard link", "neither a file", vec![("l", Link, "../outside/x")]),
        ("fifo", "neither a file", vec![("f", Fifo, "")]),
        ("device", "neither a file", vec![("c", Char, "")]),
        ("block device", "neither a file", vec![("b", Block, "")]),
        ("twice", "cannot use", vec![("a", Regular, ""), ("a", Regular, "")]),
        ("file and folder", "cannot use", vec![("a", Regular, ""), ("a/b", Directory, "")]),
    ];
    for (what, why, entries) in cases {
        let file = made(|builder| {
            for (name, kind, link) in &entries {
                raw(builder, name, *kind, link, b"");
            }
        });
        let into = around.path().join("into");
        std::fs::create_dir(&into).unwrap();
        let error = unpack(file.path(), &into).unwrap_err().to_string();
        assert!(error.contains(why), "{what}: {error}");
        assert_eq!(listing(&outside), [""; 0], "{what}");
        std::fs::remove_dir_all(&into).unwrap();
    }
    // A link to a folder within is no way to write anywhere: it is made when all else is there.
    let file = made(|builder| {
        raw(builder, "d", Directory, "", b"");
        raw(builder, "l", Symlink, "d", b"");
        raw(builder, "l/x", Regular, "", b"1");
    });
    let into = around.path().join("into");
    std::fs::create_dir(&into).unwrap();
    assert!(unpack(file.path(), &into).is_err());
    assert!(!into.join("d/x").exists());
}

#[test]
fn bits_that_give_rights_are_not_taken_over() {
    let file = made(|builder| raw(builder, "tool", tar::EntryType::Regular, "", b"x"));
    let into = tempfile::tempdir().unwrap();
    unpack(file.path(), into.path()).unwrap();
    let mode = std::fs::metadata(into.path().join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7000, 0);
}

#[test]
fn a_bomb_and_a_cut_archive_are_told() {
    // Says that it has much more than it may, in a few bytes.
    let file = made(|builder| {
        let mut header = tar::Header::new_gnu();
        header.set_path("bomb").unwrap();
        header.set_size(MOST_BYTES + 1);
        header.set_cksum();
        builder.get_mut().write_all(header.as_bytes()).unwrap();
    });
    let into = tempfile::tempdir().unwrap();
    let error = unpack(file.path(), into.path()).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge), "{error}");

    let source = folder(&[("a", "some text"), ("b", &"x".repeat(100_000))]);
    let (file, whole) = packed(source.path());
    let size = whole.unwrap().size;
    let bytes = std::fs::read(file.path()).unwrap();
    for cut in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(file.path(), &bytes[..cut]).unwrap();
        let into = tempfile::tempdir().unwrap();
        let got = unpack(file.path(), into.path());
        assert!(got.is_err(), "{cut} of {}: {got:?}", size);
    }
    std::fs::write(file.path(), b"not an archive at all").unwrap();
    let error = unpack(file.path(), tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(error.to_string().contains("no archive of a workspace"), "{error}");
}
