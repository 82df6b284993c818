//! Beside syft, the real one where it is: an image with content of every kind, read by both; and
//! its documents, read by the makers' validators.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_oci::Platform;
use serde_json::Value;

use crate::document::{Description, Format};
use crate::laid_tests::E;
use crate::limits::Limits;
use crate::local;
use crate::local_tests::{put_image, put_index};
use crate::program_tests::{auditable, elf};
use crate::zip_tests::jar;

/// The folder of the services of the tests, or nothing and a line that says so.
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
fn services() -> Option<PathBuf> {
    let services = std::env::var_os("FAIRLEAD_SERVICES").map(PathBuf::from);
    let services = services.filter(|services| services.join("syft/venv/bin/syft").is_file());
    if services.is_none() {
        eprintln!("skipped: FAIRLEAD_SERVICES names no folder with syft");
    }
    services
}

/// What makes two package URLs name one package: all but the qualifiers, in which tools differ, and
/// the case of Go's modules, which the rules of package URLs lower.
fn package(purl: &str) -> String {
    let mut name = purl.split(['?', '#']).next().unwrap_or_default().to_owned();
    // syft writes the major version at the end of a module's path as if it were a folder in it.
    let major = purl.split_once('#').map(|(_, subpath)| subpath);
    if let Some(major) = major.filter(|major| {
        major.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    }) {
        name = name.replacen('@', &format!("/{major}@"), 1);
    }
    let name = name.replace("%2B", "+").replace("%3A", ":").replace("%40", "@").replace("%7E", "~");
    if name.starts_with("pkg:golang/") { name.to_lowercase() } else { name }
}

/// Files of this machine that make real content: their paths in the image, and their bytes.
fn real_files(services: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut take = |from: PathBuf, to: String| {
        found.extend(fs::read(from).ok().map(|bytes| (to, bytes)));
    };
    take(services.join("nats/venv/bin/nats-server"), "usr/local/bin/nats-server".into());
    take(services.join("oracles/three/usr/bin/oras"), "usr/local/bin/oras".into());
    let packages = services.join("validators/venv/lib");
    for python in fs::read_dir(packages).into_iter().flatten().flatten() {
        let folder = python.path().join("site-packages");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".dist-info") {
                let to = format!("opt/venv/lib/python3.11/site-packages/{name}/METADATA");
                take(entry.path().join("METADATA"), to);
            }
        }
    }
    // Java archives that the machine has, each under one name.
    for entry in fs::read_dir("/usr/share/java").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let versioned = name.split('-').any(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        if versioned && Path::new(&name).extension().is_some_and(|end| end == "jar") {
            take(entry.path(), format!("opt/java/{name}"));
        }
    }
    found
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the peer is a program")]
fn every_package_that_syft_finds_is_found() {
    let Some(services) = services() else { return };
    let folder = tempfile::tempdir().unwrap();
    let app = jar(&[
        ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\nImplementation-Title: app\n"),
        (
            "META-INF/maven/org.example/app/pom.properties",
            b"groupId=org.example\nartifactId=app\nversion=3.1\n",
        ),
        (
            "BOOT-INF/lib/inner-1.0.jar",
            &jar(&[(
                "META-INF/maven/org.example/inner/pom.properties",
                b"groupId=org.example\nartifactId=inner\nversion=1.0\n",
            )]),
        ),
    ]);
    let rg = elf(&[(".dep-v0", &auditable())]);
    let databases = crate::catalogers::rpm_databases();
    let real = real_files(&services);
    let base: Vec<E<'_>> = vec![
        E::File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        E::File(
            "var/lib/dpkg/status",
            "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b2\n\
             Architecture: amd64\nSource: bash (5.2.15-2)\nMaintainer: M <m@example.org>\n\n\
             Package: tzdata\nStatus: install ok installed\nVersion: 2024a-0\nArchitecture: all\n",
        ),
        E::File("lib/apk/db/installed", "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\n"),
        E::Raw("var/lib/rpm/rpmdb.sqlite", &databases[0].1),
    ];
    let mut top: Vec<E<'_>> = vec![
        E::File("app/node_modules/@s/a/package.json", r#"{"name":"@s/a","version":"1.0.0"}"#),
        E::File("app/node_modules/b/package.json", r#"{"name":"b","version":"2.0.0"}"#),
        E::Raw("app/app.jar", &app),
        E::Raw("usr/local/bin/rg", &rg),
        E::File(
            "usr/lib/ruby/gems/3.1.0/specifications/rake-13.0.6.gemspec",
            "# -*- encoding: utf-8 -*-\n# stub: rake 13.0.6 ruby lib\n\nGem::Specification.new do |s|\n\
             \x20 s.name = \"rake\".freeze\n  s.version = \"13.0.6\"\n\n  s.licenses = [\"MIT\".freeze]\nend\n",
        ),
        E::File(
            "app/vendor/composer/installed.json",
            r#"{"packages": [{"name": "symfony/console", "version": "v6.3.4", "license": ["MIT"]}], "dev": false}"#,
        ),
        E::File(
            "srv/Shop.deps.json",
            r#"{"runtimeTarget": {"name": ".NETCoreApp,Version=v8.0", "signature": ""},
              "targets": {".NETCoreApp,Version=v8.0": {"Shop/1.0.0": {"dependencies": {"Serilog": "3.1.1"}},
                "Serilog/3.1.1": {"runtime": {"lib/net7.0/Serilog.dll": {}}}}},
              "libraries": {"Shop/1.0.0": {"type": "project", "serviceable": false, "sha512": ""},
                "Serilog/3.1.1": {"type": "package", "serviceable": true, "sha512": "", "path": "serilog/3.1.1"}}}"#,
        ),
        E::File(
            "opt/conda/conda-meta/zlib-1.2.13-h5eee18b_0.json",
            r#"{"name": "zlib", "version": "1.2.13", "build": "h5eee18b_0", "license": "Zlib",
              "channel": "https://example.org/main/linux-64", "subdir": "linux-64"}"#,
        ),
    ];
    top.extend(real.iter().map(|(path, bytes)| E::Raw(path, bytes)));
    put_index(folder.path(), &[put_image(folder.path(), "amd64", &[&base, &top])]);

    let platform: Platform = "linux/amd64".parse().unwrap();
    let found = local::read(folder.path(), None, &platform, &Limits::default()).unwrap();
    let inventory = &found.described.inventory;
    let ours: BTreeSet<String> = inventory.packages.iter().map(|p| package(&p.purl)).collect();

    let scanned = Command::new(services.join("syft/venv/bin/syft"))
        .args(["scan", &format!("oci-dir:{}", folder.path().display()), "-o", "syft-json", "-q"])
        .args(["--override-default-catalogers", "image,directory"])
        .env("SYFT_CHECK_FOR_APP_UPDATE", "false")
        .output()
        .unwrap();
    assert!(scanned.status.success(), "{}", String::from_utf8_lossy(&scanned.stderr));
    let scanned: Value = serde_json::from_slice(&scanned.stdout).unwrap();
    let theirs: BTreeSet<String> = scanned["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|artifact| artifact["purl"].as_str().filter(|purl| !purl.is_empty()))
        .map(package)
        .collect();
    assert!(theirs.len() > 50, "syft finds {}", theirs.len());

    let errors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/syft-errors.json");
    let errors: Value = serde_json::from_slice(&fs::read(errors).unwrap()).unwrap();
    let errors: Vec<regex::Regex> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| regex::Regex::new(error["purl_pattern"].as_str().unwrap()).unwrap())
        .collect();
    // What syft gives a group of its own making is here under its name alone.
    let without_group = |purl: &str| {
        let (_, name) = purl.strip_prefix("pkg:maven/")?.rsplit_once('/')?;
        Some(format!("pkg:generic/{name}"))
    };
    let missing: Vec<&String> = theirs
        .difference(&ours)
        .filter(|purl| !errors.iter().any(|error| error.is_match(purl)))
        .filter(|purl| without_group(purl).is_none_or(|name| !ours.contains(&name)))
        .collect();
    assert!(missing.is_empty(), "of {} of syft's, {} lack {missing:#?}", theirs.len(), ours.len());
    validate(&services, folder.path(), &found.described);
    // And more than it, of everything that was put into the image.
    for kind in [
        "apk", "cargo", "composer", "conda", "deb", "gem", "golang", "maven", "npm", "nuget",
        "pypi", "rpm",
    ] {
        let start = format!("pkg:{kind}/");
        assert!(ours.iter().any(|purl| purl.starts_with(&start)), "{kind}");
    }
}

/// Whether the makers of the formats take the documents.
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
#[expect(clippy::disallowed_methods, reason = "the validators are programs")]
fn validate(services: &Path, folder: &Path, described: &Description) {
    const STRICT: &str = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        version = getattr(SchemaVersion, sys.argv[2])\n\
        wrong = JsonStrictValidator(version).validate_str(open(sys.argv[1]).read())\n\
        sys.exit(str(wrong) if wrong else 0)";
    let validators = services.join("validators/venv/bin");
    if !validators.join("pyspdxtools").is_file() {
        return eprintln!("skipped: the validators of SPDX and CycloneDX are not there");
    }
    for (format, version) in
        [(Format::SpdxJson, ""), (Format::CyclonedxJson, "V1_6"), (Format::Cyclonedx17Json, "V1_7")]
    {
        let path = folder.join(format!("image.{}", format.extension()));
        let bytes = described.write(format).unwrap();
        assert_eq!(bytes, described.write(format).unwrap());
        fs::write(&path, &bytes).unwrap();
        let done = if version.is_empty() {
            Command::new(validators.join("pyspdxtools")).arg("-i").arg(&path).output()
        } else {
            let python = validators.join("python");
            Command::new(python).args(["-c", STRICT]).arg(&path).arg(version).output()
        };
        let done = done.unwrap();
        let told = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{format:?}: {}", String::from_utf8_lossy(&told));
    }
}
