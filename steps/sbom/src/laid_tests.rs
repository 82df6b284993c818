//! Layers made in memory, scanned and laid over each other: what a container would see of them.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use crate::inflate::Packing;
use crate::inventory::Inventory;
use crate::layer::{LayerError, Request, Scan, scan};
use crate::limits::Limits;
use crate::rootfs::RootFs;

/// One entry of a layer.
#[derive(Clone)]
pub(crate) enum E<'a> {
    File(&'a str, &'a str),
    Dir(&'a str),
    Sym(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Device(&'a str),
}

/// The archive of a layer, as hostile as its names.
pub(crate) fn archive(entries: &[E<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let (path, kind, link, data) = match *entry {
            E::File(path, data) => (path, tar::EntryType::Regular, None, data),
            E::Dir(path) => (path, tar::EntryType::Directory, None, ""),
            E::Sym(path, target) => (path, tar::EntryType::Symlink, Some(target), ""),
            E::Hard(path, target) => (path, tar::EntryType::Link, Some(target), ""),
            E::Device(path) => (path, tar::EntryType::Char, None, ""),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        // Written by hand: the library refuses the names that matter here.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(link) = link {
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn scan_one(bytes: &[u8], bottom: bool, limits: &Limits) -> Result<Scan, LayerError> {
    let request = Request { bottom, ..Request::default() };
    let mut first = scan(bytes, Packing::Plain, &request, limits)?;
    if !first.late.is_empty() {
        let request = Request { bottom: true, targets: std::mem::take(&mut first.late) };
        let second = scan(bytes, Packing::Plain, &request, limits)?;
        first.additions.extend(second.additions);
        first.notes.extend(second.notes);
    }
    Ok(first)
}

fn inventory(layers: &[&[E<'_>]]) -> Inventory {
    let mut root = RootFs::default();
    for (at, entries) in layers.iter().enumerate() {
        root.lay(scan_one(&archive(entries), at == 0, &Limits::default()).unwrap(), at);
    }
    Inventory::of(&root)
}

/// Each package and where it was found: `purl <- path@layer`.
fn check(layers: &[&[E<'_>]]) -> String {
    let mut out = String::new();
    for package in inventory(layers).packages {
        let found: Vec<String> = package
            .found
            .iter()
            .map(|at| {
                let owner = at.owner.as_ref().map(|owner| format!(" of {owner}"));
                format!("{}@{}{}", at.path, at.layer, owner.unwrap_or_default())
            })
            .collect();
        out.push_str(&format!("{} <- {}\n", package.purl, found.join(", ")));
    }
    out
}

fn refuse(entries: &[E<'_>]) -> String {
    match scan_one(&archive(entries), false, &Limits::default()) {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

const OS: E<'_> = E::File("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
const STATUS: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\n\
                      Version: 5.2.15-2+b2\nSource: bash (5.2.15-2)\n";

#[test]
fn every_database_is_read() {
    assert_snapshot!(check(&[
        &[
            OS,
            E::Sym("etc/os-release", "../usr/lib/os-release"),
            E::File("./var/lib/dpkg/status", STATUS),
            E::File("lib/apk/db/installed", "P:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\n"),
        ],
        &[
            E::File("opt/v/six-1.16.0.dist-info/METADATA", "Name: six\nVersion: 1.16.0\n\n"),
            E::File("opt/v/Foo.Bar.egg-info", "Name: Foo.Bar\nVersion: 2\n"),
            E::File("opt/v/baz.egg-info/PKG-INFO", "Name: baz\nVersion: 3\n"),
            E::File("app/node_modules/@s/a/package.json", r#"{"name":"@s/a","version":"1.0.0"}"#),
            E::File("app/node_modules/b/node_modules/a/package.json",
                r#"{"name":"a","version":"2.0.0"}"#),
            E::File("app/node_modules/a/package.json", r#"{"name":"a","version":"2.0.0"}"#),
            E::File("app/node_modules/a/esm/package.json", r#"{"type":"module"}"#),
        ],
    ]), @r#"
pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12 <- /lib/apk/db/installed@0
pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2 <- /var/lib/dpkg/status@0
pkg:npm/%40s/a@1.0.0 <- /app/node_modules/@s/a/package.json@1
pkg:npm/a@2.0.0 <- /app/node_modules/a/package.json@1, /app/node_modules/b/node_modules/a/package.json@1
pkg:pypi/baz@3 <- /opt/v/baz.egg-info/PKG-INFO@1
pkg:pypi/foo-bar@2 <- /opt/v/Foo.Bar.egg-info@1
pkg:pypi/six@1.16.0 <- /opt/v/six-1.16.0.dist-info/METADATA@1
"#);
}

#[test]
fn a_distroless_image_has_its_parts() {
    assert_snapshot!(check(&[&[
        OS,
        E::File("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n"),
        E::File("var/lib/dpkg/status.d/tzdata.md5sums",
            "d41d8cd98f00b204e9800998ecf8427e  usr/lib/python3/dist-packages/tz.egg-info\n"),
        E::File("usr/lib/python3/dist-packages/tz.egg-info", "Name: tz\nVersion: 1\n"),
    ]]), @r#"
pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12 <- /var/lib/dpkg/status.d/tzdata@0
pkg:pypi/tz@1 <- /usr/lib/python3/dist-packages/tz.egg-info@0 of pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12
"#);
}

#[test]
fn what_a_system_package_owns_is_said() {
    assert_snapshot!(check(&[&[
        OS,
        E::Sym("lib", "usr/lib"),
        E::File("var/lib/dpkg/status", STATUS),
        E::File("var/lib/dpkg/info/bash.list", "/.\n/lib/python3/bash.egg-info\n"),
        E::File("usr/lib/python3/bash.egg-info", "Name: bash\nVersion: 5\n"),
        E::File("usr/local/lib/python3/bash.egg-info", "Name: bash\nVersion: 5\n"),
    ]]), @r#"
pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2 <- /var/lib/dpkg/status@0
pkg:pypi/bash@5 <- /usr/lib/python3/bash.egg-info@0 of pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2, /usr/local/lib/python3/bash.egg-info@0
"#);
}

#[test]
fn whiteouts_hide_what_lies_below_and_nothing_else() {
    let json = |name: &str| format!(r#"{{"name":"{name}","version":"1.0.0"}}"#);
    let (a, b, c, d) = (json("a"), json("b"), json("c"), json("d"));
    let below = [
        E::File("app/node_modules/a/package.json", &a),
        E::File("app/node_modules/b/package.json", &b),
        E::File("srv/node_modules/c/package.json", &c),
    ];
    // A file, a tree, and a tree by its top.
    assert_snapshot!(check(&[&below, &[
        E::File("app/node_modules/a/.wh.package.json", ""),
        E::File("app/node_modules/.wh.b", ""),
        E::File(".wh.srv", ""),
    ]]), @"");
    // An opaque directory keeps what its own layer brings, in whatever order.
    assert_snapshot!(check(&[&below, &[
        E::File("app/node_modules/d/package.json", &d),
        E::File("app/.wh..wh..opq", ""),
    ]]), @r#"
pkg:npm/c@1.0.0 <- /srv/node_modules/c/package.json@0
pkg:npm/d@1.0.0 <- /app/node_modules/d/package.json@1
"#);
    // AUFS' own files hide nothing, and neither does the whiteout of another name.
    assert_snapshot!(check(&[&below, &[
        E::File(".wh..wh.plnk", ""),
        E::File("app/node_modules/.wh.a-b", ""),
    ]]), @r#"
pkg:npm/a@1.0.0 <- /app/node_modules/a/package.json@0
pkg:npm/b@1.0.0 <- /app/node_modules/b/package.json@0
pkg:npm/c@1.0.0 <- /srv/node_modules/c/package.json@0
"#);
}

#[test]
fn what_replaces_a_place_replaces_all_below_it() {
    let a = r#"{"name":"a","version":"1.0.0"}"#;
    let below = [E::Dir("app/"), E::File("app/x/package.json", a), OS];
    for (above, left) in [
        (&[E::File("app", "")][..], 0),
        (&[E::Device("app/x")], 0),
        (&[E::Sym("app/x/package.json", "elsewhere")], 0),
        (&[E::Dir("app/x/package.json")], 0),
        // A newer file that names no package still takes the place of the older one.
        (&[E::File("app/x/package.json", "{}")], 0),
        (&[E::Dir("app"), E::Dir("app/x"), E::File("app/x/other", "")], 1),
        (&[E::File("app/x/package.json", a)], 1),
    ] {
        assert_eq!(inventory(&[&below, above]).packages.len(), left);
    }
}

#[test]
fn links_are_followed_inside_the_root() {
    // A usr-merged base, a layer made as if it were not merged, and a link that tries to get out.
    assert_snapshot!(check(&[
        &[
            E::Sym("lib", "usr/lib"),
            E::File("usr/lib/apk/db/installed", "P:old\nV:1\n"),
            E::Sym("etc/os-release", "../../../../usr/lib/os-release"),
            OS,
        ],
        &[E::File("lib/apk/db/installed", "P:new\nV:1\n")],
    ]), @r#"
pkg:apk/debian/new@1?distro=debian-12 <- /usr/lib/apk/db/installed@1
"#);
}

#[test]
fn hard_links_are_other_names_of_one_file() {
    let a = r#"{"name":"a","version":"1.0.0"}"#;
    // First under a name that is read; first under one that is not; in the layer below.
    assert_snapshot!(check(&[
        &[
            E::File("x/package.json", a),
            E::Hard("y/package.json", "x/package.json"),
            E::File("store/00ff", r#"{"name":"b","version":"1.0.0"}"#),
            E::Hard("z/package.json", "/store/00ff"),
        ],
        &[E::Hard("w/package.json", "./x/package.json"), E::Hard("v/package.json", "nowhere")],
    ]), @r#"
pkg:npm/a@1.0.0 <- /w/package.json@1, /x/package.json@0, /y/package.json@0
pkg:npm/b@1.0.0 <- /z/package.json@0
"#);
}

#[test]
fn hostile_layers_are_refused_with_the_place() {
    let long = "d/".repeat(40);
    assert_snapshot!([
        refuse(&[E::File("../etc/passwd", "")]),
        refuse(&[E::File("a/../../b", "")]),
        refuse(&[E::File("/etc/passwd", "")]),
        refuse(&[E::Hard("x/package.json", "../../etc/passwd")]),
        refuse(&[E::File("a/.wh...", "")]),
        refuse(&[E::File(".wh.", "")]),
        refuse(&[E::Device("dev/sda"), E::Sym("up", "../../.."), E::Dir(&long), E::Dir("/")]),
    ]
    .join("\n"), @r#"
entry `../etc/passwd`: the name leads out of the layer with `..`
entry `a/../../b`: the name leads out of the layer with `..`
entry `/etc/passwd`: the name is absolute
entry `../../etc/passwd`: the name leads out of the layer with `..`
entry `a/.wh...`: the whiteout names nothing that could be hidden
entry `.wh.`: the whiteout names nothing that could be hidden
taken
"#);
}

#[test]
fn limits_are_kept() {
    let many: Vec<E<'_>> = (0..20).map(|_| E::Sym("link", "target")).collect();
    let archive = archive(&many);
    for (limits, want) in [
        (Limits { entries: 10, ..Limits::default() }, "more than 10 entries"),
        (Limits { kept: 500, ..Limits::default() }, "more than 500 bytes of memory"),
    ] {
        let error = scan_one(&archive, false, &limits).err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    }
    let limits = Limits { file: 10, ..Limits::default() };
    let large = self::archive(&[E::File("a/package.json", "{\"name\": \"a\"}")]);
    let error = scan_one(&large, false, &limits).err().unwrap().to_string();
    assert_eq!(
        error,
        "`a/package.json` is 13 bytes long, more than the 10 that are read of one file"
    );
    // What nobody reads may be of any size.
    let large = self::archive(&[E::File("a/other.json", "{\"name\": \"a\"}")]);
    assert!(scan_one(&large, false, &limits).is_ok());
}

#[test]
fn a_file_that_is_no_database_is_passed_over_and_told() {
    let scan = scan_one(
        &archive(&[E::File("a/package.json", "{,}"), E::File("lib/apk/db/installed", "x")]),
        true,
        &Limits::default(),
    );
    let notes: BTreeMap<usize, String> = scan.unwrap().notes.into_iter().enumerate().collect();
    assert!(notes[&0].starts_with("`a/package.json` is passed over: no JSON"), "{notes:?}");
    assert!(notes[&1].contains("no database of apk"), "{notes:?}");
}
