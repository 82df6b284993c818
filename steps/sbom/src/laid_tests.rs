//! Layers made in memory, scanned and laid over each other: what a container would see of them.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use crate::chase::{Chase, lay_all};
use crate::inflate::Packing;
use crate::inventory::Inventory;
use crate::layer::{LayerError, Request, Scan, scan};
use crate::limits::Limits;

/// One entry of a layer.
#[derive(Clone)]
pub(crate) enum E<'a> {
    File(&'a str, &'a str),
    Dir(&'a str),
    Sym(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Device(&'a str),
    Raw(&'a str, &'a [u8]),
    Holes(&'a str),
}

/// The archive of a layer, as hostile as its names.
pub(crate) fn archive(entries: &[E<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let (path, kind, link, data) = match *entry {
            E::File(path, data) => (path, tar::EntryType::Regular, None, data.as_bytes()),
            E::Dir(path) => (path, tar::EntryType::Directory, None, &[][..]),
            E::Sym(path, target) => (path, tar::EntryType::Symlink, Some(target), &[][..]),
            E::Hard(path, target) => (path, tar::EntryType::Link, Some(target), &[][..]),
            E::Device(path) => (path, tar::EntryType::Char, None, &[][..]),
            E::Raw(path, data) => (path, tar::EntryType::Regular, None, data),
            E::Holes(path) => (path, tar::EntryType::GNUSparse, None, &[][..]),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        // Written by hand: the library refuses the names that matter here.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(link) = link {
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn scan_one(bytes: &[u8], bottom: bool, limits: &Limits) -> Result<Scan, LayerError> {
    let request = Request { bottom, ..Request::default() };
    let mut first = scan(bytes, Packing::Plain, &request, limits)?;
    let mut chase = Chase::new(std::mem::take(&mut first.late));
    while let Some(request) = chase.request() {
        chase.take(scan(bytes, Packing::Plain, &request, limits)?);
    }
    first.complete(chase);
    Ok(first)
}

pub(crate) fn inventory(layers: &[&[E<'_>]]) -> Inventory {
    inventory_within(layers, &Limits::default())
}

fn inventory_within(layers: &[&[E<'_>]], limits: &Limits) -> Inventory {
    let archives: Vec<Vec<u8>> = layers.iter().map(|entries| archive(entries)).collect();
    let laid = lay_all(archives.len(), |at, request| {
        scan(&*archives[at], Packing::Plain, &request, limits)
    });
    Inventory::of(&laid.unwrap().0)
}

/// What the documents say was seen and not read, a line each.
pub(crate) fn unread(layers: &[&[E<'_>]]) -> String {
    let texts = inventory(layers).unassessed.iter().map(ToString::to_string).collect::<Vec<_>>();
    texts.join("\n")
}

/// A program of `size` bytes with `mark` in it, where a linker would put it.
fn program(mark: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![0x90; size];
    bytes[..4].copy_from_slice(b"\x7fELF");
    let at = size / 2 / 16 * 16;
    bytes[at..at + mark.len()].copy_from_slice(mark);
    bytes
}

/// As Go's linker writes it.
const GO: &[u8] = b"\xff Go buildinf:\x08\x02";

/// Each package and where it was found: `purl <- path@layer`.
pub(crate) fn check(layers: &[&[E<'_>]]) -> String {
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
        // The names that lead elsewhere hide, change and remove what they lead to.
        &[
            E::Hard("u/package.json", "x/package.json"),
            E::File("x/.wh.package.json", ""),
            E::Hard("t/package.json", "store/00ff"),
            E::File("store/.wh.00ff", ""),
        ],
    ]), @r#"
pkg:npm/a@1.0.0 <- /u/package.json@2, /w/package.json@1, /y/package.json@0
pkg:npm/b@1.0.0 <- /t/package.json@2, /z/package.json@0
"#);
}

#[test]
fn a_hard_link_has_the_content_of_its_layer() {
    let json = |name: &str| format!(r#"{{"name":"{name}","version":"1.0.0"}}"#);
    let (old, new) = (json("old"), json("new"));
    let (store, linked) = ("store/00ff", "app/package.json");
    // The file changes above, or another takes its name, or it goes: the link stays as it was.
    for above in [E::File(store, &new), E::File("store/.wh.00ff", ""), E::Sym("store", "x")] {
        let layers: &[&[E<'_>]] = &[&[E::File(store, &old)], &[E::Hard(linked, store)], &[above]];
        assert_eq!(check(layers), "pkg:npm/old@1.0.0 <- /app/package.json@1\n");
    }
    // The newest file below counts, in whatever layer it is, and whatever lies between.
    assert_eq!(
        check(&[
            &[E::File(store, &old)],
            &[E::File(store, &new)],
            &[E::Dir("app")],
            &[E::Hard(linked, store)],
        ]),
        "pkg:npm/new@1.0.0 <- /app/package.json@3\n"
    );
    // A link to a link, within a layer and over several; a link through a symbolic one.
    assert_eq!(
        check(&[
            &[E::Sym("store", "var/store"), E::File("var/store/00ff", &old)],
            &[E::Hard("var/store/one", "store/00ff")],
            &[E::Hard("var/store/two", "store/one"), E::Hard(linked, "store/two")],
            &[E::Hard("b/package.json", linked), E::Hard("c/package.json", "b/package.json")],
        ]),
        "pkg:npm/old@1.0.0 <- /app/package.json@2, /b/package.json@3, /c/package.json@3\n"
    );
    assert_eq!(
        check(&[&[
            E::File(store, &old),
            E::Hard("store/a", store),
            E::Hard(linked, "store/a"),
            E::Hard("b/package.json", linked),
        ]]),
        "pkg:npm/old@1.0.0 <- /app/package.json@0, /b/package.json@0\n"
    );
    // A link that a later layer removes again, and one to what is no package.
    let layers: &[&[E<'_>]] = &[
        &[E::File(store, &old), E::File("store/stub", "{}")],
        &[E::Hard(linked, store), E::Hard("b/package.json", "store/stub")],
        &[E::File("app/.wh.package.json", "")],
    ];
    assert_eq!((check(layers), unread(layers)), (String::new(), String::new()));
    // What no layer has is missing from the bill, and the bill says so.
    let layers: &[&[E<'_>]] = &[&[E::Hard(linked, "nowhere")]];
    assert_eq!(
        (check(layers), unread(layers)),
        (String::new(), "damaged:/app/package.json".into())
    );
    // A name of another kind reads the same file another way; a name that is not read reads none.
    let layers: &[&[E<'_>]] = &[
        &[E::File(linked, &old)],
        &[E::Hard("app/old.json", linked), E::Hard("b/package.json", linked)],
    ];
    assert_eq!(check(layers), "pkg:npm/old@1.0.0 <- /app/package.json@0, /b/package.json@1\n");
}

#[test]
fn of_two_entries_of_one_name_the_later_counts() {
    let a = r#"{"name":"a","version":"1.0.0"}"#;
    let go = program(GO, 40_000);
    for (second, left) in [
        (E::File("x/package.json", "{}"), ""),
        (E::Sym("x/package.json", "y"), ""),
        (
            E::File("x/package.json", r#"{"name":"b","version":"1"}"#),
            "pkg:npm/b@1 <- /x/package.json@0\n",
        ),
    ] {
        assert_eq!(check(&[&[E::File("x/package.json", a), second]]), left);
    }
    let text = "x".repeat(40_000);
    assert_eq!(unread(&[&[E::Raw("bin/x", &go), E::File("bin/x", &text)]]), "");
}

#[test]
fn what_is_seen_and_not_read_is_told() {
    let go = program(GO, 700_000);
    let rust = program(b"\0.dep-v0\0", 300_000);
    let plain = program(b"", 300_000);
    let layers: &[&[E<'_>]] = &[
        &[
            E::File("etc/os-release", "ID=\"rhel\"\nVERSION_ID=\"9\"\n"),
            E::File("var/lib/rpm/rpmdb.sqlite", "SQLite format 3"),
            E::Raw("usr/bin/kubelet", &go),
            E::Hard("usr/bin/kube-too", "usr/bin/kubelet"),
            E::Raw("usr/bin/gone", &go),
            E::Raw("usr/bin/rg", &rust),
            E::Raw("usr/bin/bash", &plain),
        ],
        &[
            E::File("app/x.jar", "PK\u{3}\u{4}"),
            E::File("app/run.war", "#!/bin/sh\n"),
            E::File("app/pointer.jar", "version https://git-lfs"),
            E::File("app/empty.jar", ""),
            E::Sym("app/link.jar", "x.jar"),
            E::Hard("app/same.jar", "app/x.jar"),
            E::File("usr/bin/.wh.gone", ""),
            E::Hard("usr/local/bin/kubelet", "usr/bin/kubelet"),
            E::Hard("usr/local/bin/third", "usr/local/bin/kubelet"),
            E::Hard("usr/local/bin/bash", "usr/bin/bash"),
            E::File("g/specifications/rake.gemspec", "Gem::Specification.new"),
            E::File("app/vendor/composer/installed.json", "{}"),
            E::File("app/shop.deps.json", "{}"),
            E::File("opt/conda/conda-meta/zlib.json", "{}"),
        ],
    ];
    assert_snapshot!(unread(layers), @r"
    conda:/opt/conda/conda-meta/zlib.json
    distribution:rhel 9
    dotnet-deps:/app/shop.deps.json
    go-binary:/usr/bin/kube-too
    go-binary:/usr/bin/kubelet
    go-binary:/usr/local/bin/kubelet
    go-binary:/usr/local/bin/third
    java-archive:/app/run.war
    java-archive:/app/same.jar
    java-archive:/app/x.jar
    php-composer:/app/vendor/composer/installed.json
    rpm:/var/lib/rpm/rpmdb.sqlite
    ruby-gem:/g/specifications/rake.gemspec
    rust-binary:/usr/bin/rg
    ");
    assert!(!inventory(layers).is_complete());
}

#[test]
fn a_database_that_is_damaged_or_missing_is_told() {
    let apk = E::File("lib/apk/db/installed", "P:musl\nV:1.2.4-r2\n");
    let odd = r#"{"name":"a","version":["1"]}"#;
    for (layer, want) in [
        (&[OS, E::File("var/lib/dpkg/status", STATUS)][..], ""),
        (&[OS, E::File("var/lib/dpkg/status.d/bash", STATUS)], ""),
        (&[E::File("etc/os-release", "ID=wolfi\n"), apk.clone()], ""),
        (&[], ""),
        // The distribution, and nothing of its packages.
        (&[OS], "distribution:debian 12"),
        (&[E::File("etc/os-release", "ID=arch\n")], "distribution:arch"),
        (&[OS, E::File("var/lib/dpkg/status", "")], "distribution:debian 12"),
        // Another system's database, in a folder.
        (&[OS, E::File("srv/root/var/lib/dpkg/status", STATUS)], "distribution:debian 12"),
        (
            &[OS, E::File("var/lib/dpkg/status", "\u{0}\u{1}")],
            "damaged:/var/lib/dpkg/status\ndistribution:debian 12",
        ),
        (&[E::File("lib/apk/db/installed", "x")], "damaged:/lib/apk/db/installed"),
        (&[E::File("a/package.json", odd)], "damaged:/a/package.json"),
        // Node does not read these either.
        (&[E::File("a/package.json", "{,}"), E::File("b/package.json", "[]")], ""),
        (
            &[E::File("a/package.json", r#"{"name":"@s/","version":"1"}"#)],
            "unnamed:/a/package.json",
        ),
    ] {
        assert_eq!(unread(&[layer]), want);
    }
}

#[test]
fn what_a_system_package_brought_is_its_distributions_to_know() {
    let go = program(GO, 40_000);
    let base = [
        OS,
        E::File("var/lib/dpkg/status", STATUS),
        E::File("var/lib/dpkg/info/bash.list", "/.\n/usr\n/bin/gh\n/usr/share/java/a.jar\n"),
        E::Raw("usr/bin/gh", &go),
        E::File("usr/share/java/a.jar", "PK"),
        E::File("usr/share/java/b.jar", "PK"),
    ];
    assert_eq!(unread(&[&base]), "java-archive:/usr/share/java/b.jar");
    // A file that came later took the place of the package's own.
    assert_eq!(
        unread(&[&base, &[E::Raw("usr/bin/gh", &go)]]),
        "go-binary:/usr/bin/gh\njava-archive:/usr/share/java/b.jar"
    );
    let apk = "P:gh\nV:2\nA:x86_64\nF:usr/bin\nR:gh\nF:\nR:top.jar\n\n";
    let alpine = [
        E::File("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n"),
        E::File("usr/lib/apk/db/installed", apk),
        E::Raw("usr/bin/gh", &go),
        E::Raw("usr/bin/other", &go),
        E::File("top.jar", "PK"),
    ];
    assert_eq!(unread(&[&alpine]), "go-binary:/usr/bin/other");
    // The lists of another system's tree say nothing of this one.
    let tree = [
        E::File("srv/var/lib/dpkg/status", STATUS),
        E::File("srv/var/lib/dpkg/info/bash.list", "/usr/bin/gh\n/usr/lib/a.egg-info\n"),
        E::Raw("usr/bin/gh", &go),
        E::File("usr/lib/a.egg-info", "Name: a\nVersion: 1\n"),
        E::File("srv/usr/lib/a.egg-info", "Name: b\nVersion: 1\n"),
    ];
    assert_eq!(unread(&[&tree]), "go-binary:/usr/bin/gh");
    assert_snapshot!(check(&[&tree]), @r"
    pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&upstream=bash%405.2.15-2 <- /srv/var/lib/dpkg/status@0
    pkg:pypi/a@1 <- /usr/lib/a.egg-info@0
    pkg:pypi/b@1 <- /srv/usr/lib/a.egg-info@0 of pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&upstream=bash%405.2.15-2
    ");
}

#[test]
fn owners_come_from_sums_wherever_they_lie() {
    let part = "Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n";
    let sums = "d41d8cd98f00b204e9800998ecf8427e  usr/lib/python3/dist-packages/tz.egg-info\n";
    let egg = E::File("usr/lib/python3/dist-packages/tz.egg-info", "Name: tz\nVersion: 1\n");
    let owned = "pkg:pypi/tz@1 <- /usr/lib/python3/dist-packages/tz.egg-info@0 of \
                 pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12";
    for (database, list) in [
        ("var/lib/dpkg/status.d/tzdata", "var/lib/dpkg/status.d/tzdata.md5sums"),
        ("var/lib/dpkg/status.d/tzdata", "var/lib/dpkg/info/tzdata.md5sums"),
        ("var/lib/dpkg/status.d/tzdata", "var/lib/dpkg/info/tzdata:all.md5sums"),
        ("var/lib/dpkg/status", "var/lib/dpkg/info/tzdata.md5sums"),
        // The names of the parts are the builder's own.
        ("var/lib/dpkg/status.d/dHpkYXRh", "var/lib/dpkg/status.d/dHpkYXRh.md5sums"),
        ("var/lib/dpkg/status.d/dHpkYXRh", "var/lib/dpkg/info/dHpkYXRh.md5sums"),
    ] {
        let found = check(&[&[OS, E::File(database, part), E::File(list, sums), egg.clone()]]);
        assert!(found.contains(owned), "{database} {list}: {found}");
    }
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
}

#[test]
fn long_names_count_towards_the_memory_of_a_layer() {
    let limits = Limits { kept: 20_000, ..Limits::default() };
    let long = "n".repeat(3_000);
    let node = format!(r#"{{"name":"{long}","version":"1"}}"#);
    let python = format!("Name: {long}\nVersion: 1\n");
    for (path, text) in [("package.json", &node), ("x.egg-info", &python)] {
        let paths: Vec<String> = (0..10).map(|at| format!("{at}/{path}")).collect();
        let many: Vec<E<'_>> = paths.iter().map(|path| E::File(path, text)).collect();
        assert!(scan_one(&archive(&many[..3]), true, &limits).is_ok());
        let error = scan_one(&archive(&many), true, &limits).err().unwrap().to_string();
        assert!(error.contains("20000 bytes of memory"), "{error}");
    }
}

#[test]
fn a_file_that_is_too_large_is_told_and_the_rest_is_right() {
    let limits = Limits { file: 40, ..Limits::default() };
    let large = format!(r#"{{"name":"large","version":"1.0.0","x":"{}"}}"#, "x".repeat(40));
    let small = r#"{"name":"small","version":"1.0.0"}"#;
    let layers: &[&[E<'_>]] = &[
        &[E::File("a/package.json", small), E::File("b/package.json", small)],
        &[
            // It takes the place of the one below all the same.
            E::File("a/package.json", &large),
            E::File("store/large", &large),
            E::Hard("c/package.json", "store/large"),
            // What nobody reads may be of any size.
            E::File("a/other.json", &large),
            E::Holes("d/package.json"),
            E::File("e/package.json", small),
        ],
    ];
    let found = inventory_within(layers, &limits);
    let at: Vec<&str> = found.packages[0].found.iter().map(|at| &*at.path).collect();
    assert_eq!((found.packages.len(), at), (1, vec!["/b/package.json", "/e/package.json"]));
    let texts: Vec<String> = found.unassessed.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["sparse:/d/package.json", "too-large:/a/package.json", "too-large:/c/package.json"]
    );
    let scan = scan_one(&archive(layers[1]), false, &limits).unwrap();
    assert_eq!(
        scan.notes[0],
        "`a/package.json` is passed over: it is 81 bytes long, more than the 40 that are read of \
         one file"
    );
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
