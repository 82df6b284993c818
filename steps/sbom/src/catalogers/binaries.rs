//! Well-known programs that no package manager installed: their versions by the texts that they
//! hold, and by the files that their makers put beside them. What a system package brought is its
//! distribution's to know, and is left out.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{Candidate, Cataloger, Kind, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Draft, Entry, Said};
use crate::owners::Owners;
use crate::package::{Certainty, Ecosystem};
use crate::rootfs::RootFs;

/// Looks for versions in programs.
pub(super) struct Binaries;

/// Reads the files that say which release a folder holds.
pub(super) struct Releases;

/// One well-known program.
struct Classifier {
    /// What it is called in the bill.
    name: &'static str,
    /// The names of its files, whole. Sorted out before any byte is looked at.
    file: &'static str,
    /// A text in it, with its version in the first group.
    text: &'static str,
}

/// In the order in which they are tried: one file may be several.
const CLASSIFIERS: [Classifier; 24] = [
    Classifier {
        name: "python",
        file: r"^(python[23](\.\d+)?|libpython[23](\.\d+)?m?\.so(\.\d+)*)$",
        text: r"\x00([23]\.\d{1,2}\.\d{1,2}(?:(?:a|b|rc)\d+)?\+?)\x00",
    },
    Classifier { name: "node", file: "^node(js)?$", text: r"node\.js/v(\d+\.\d+\.\d+)" },
    Classifier {
        name: "openssl",
        file: r"^(openssl|lib(ssl|crypto)\.so(\.[0-9.]+)?)$",
        text: r"\x00OpenSSL (\d+\.\d+\.\d+[a-z]{0,2}(?:-(?:alpha|beta|pre)\d+)?)[ \x00]",
    },
    Classifier { name: "nginx", file: "^nginx(-debug)?$", text: r"\x00nginx/(\d+\.\d+\.\d+)\x00" },
    Classifier {
        name: "php",
        file: r"^(php(\d+(\.\d+)?)?|php-fpm[0-9.]*|php-cgi[0-9.]*|libphp[\d.]*\.so)$",
        text: r"X-Powered-By: PHP/(\d+\.\d+\.\d+(?:(?:alpha|beta|RC)\d+)?)",
    },
    Classifier {
        name: "ruby",
        file: r"^(ruby[\d.]*|libruby[-\d.]*\.so[\d.]*)$",
        text: r"\x00ruby (\d+\.\d+\.\d+)(?:p\d+|preview\d+|rc\d+|dev)? \(",
    },
    Classifier {
        name: "perl",
        file: r"^(perl[\d.]*|libperl\.so[\d.]*)$",
        text: r"/perl5?/(\d+\.\d+\.\d+)",
    },
    Classifier { name: "busybox", file: "^busybox$", text: r"BusyBox v(\d+\.\d+\.\d+)" },
    Classifier { name: "bash", file: "^bash$", text: r"@\(#\)Bash version (\d+\.\d+\.\d+)" },
    Classifier {
        name: "curl",
        file: r"^(curl|libcurl\.so[\d.]*)$",
        text: r"(?:curl|libcurl)/(\d+\.\d+\.\d+)[ \x00]",
    },
    Classifier {
        name: "redis",
        file: r"^redis-(server|cli|sentinel|benchmark)$",
        text: r"[\x00^](\d+\.\d+\.\d+)[A-Za-z0-9][A-Za-z0-9.-]{0,63}-\d{10,19}\x00",
    },
    Classifier {
        name: "postgresql",
        file: "^(postgres|psql|pg_ctl)$",
        text: r"PostgreSQL\)? (\d+\.\d+(?:\.\d+)?)",
    },
    Classifier { name: "go", file: "^go$", text: r"\x00?go(\d+\.\d+(?:\.\d+|beta\d+|rc\d+)?)\x00" },
    Classifier { name: "httpd", file: "^(httpd|apache2)$", text: r"Apache/(\d+\.\d+\.\d+)" },
    Classifier {
        name: "haproxy",
        file: "^haproxy$",
        text: r"HA-?Proxy version (\d+\.\d+(?:\.\d+)?(?:-dev\d+)?)|\x00(\d+\.\d+\.\d+-[0-9a-f]{7,9})\x00",
    },
    Classifier { name: "memcached", file: "^memcached$", text: r"memcached (\d+\.\d+\.\d+)" },
    Classifier {
        name: "mariadb",
        file: "^(mariadbd?|mariadb-server)$",
        text: r"\x00(\d+\.\d+\.\d+)-MariaDB",
    },
    Classifier { name: "mysql", file: "^mysqld?$", text: r"/mysql-(\d+\.\d+\.\d+)" },
    Classifier { name: "lighttpd", file: "^lighttpd$", text: r"lighttpd/(\d+\.\d+\.\d+)" },
    Classifier { name: "erlang", file: "^erlexec$", text: r"/OTP[-/](\d+\.\d+(?:\.\d+)*)" },
    Classifier { name: "dash", file: "^dash$", text: r"dash-(\d+\.\d+(?:\.\d+)*)" },
    Classifier {
        name: "rsync",
        file: "^rsync$",
        text: r"rsync/(\d+\.\d+\.\d+)|\x00(3\.\d+\.\d+)\x00",
    },
    Classifier {
        name: "git",
        file: "^git$",
        text: r"\x00(\d+\.\d+\.\d+(?:\.\d+)?)\x00git version",
    },
    Classifier {
        name: "sqlite",
        file: r"^(sqlite3|libsqlite3\.so[\d.]*)$",
        text: r"\x00(3\.\d{1,2}\.\d{1,2})\x00",
    },
];

/// A classifier, compiled.
struct Compiled {
    name: &'static str,
    file: Regex,
    text: Regex,
}

static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    // Texts in programs are no UTF-8, and `\d` means the ten digits.
    let compile = |pattern: &str| Regex::new(&format!("(?-u){pattern}")).ok();
    let all = CLASSIFIERS.iter().filter_map(|one| {
        Some(Compiled { name: one.name, file: compile(one.file)?, text: compile(one.text)? })
    });
    all.collect()
});

/// What of a window the next one sees again: longer than any of the texts.
const OVERLAP: u64 = 512;

/// No program of these is as small.
const SMALLEST: u64 = 4 << 10;

impl Cataloger for Binaries {
    fn name(&self) -> &'static str {
        "binaries"
    }

    fn names(&self, _place: &Place<'_>) -> bool {
        false
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        // A program that nobody may run is data; a library need not be allowed to.
        let runs = file.mode & 0o111 != 0 || file.place.name.contains(".so");
        if file.size < SMALLEST || !runs || !file.is_executable() {
            return Want::No;
        }
        let name = file.place.name.as_bytes();
        let known = COMPILED.iter().any(|one| one.file.is_match(name));
        if known { Want::Spool } else { Want::No }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let name = Place::of(path).name.as_bytes();
        for one in COMPILED.iter().filter(|one| one.file.is_match(name)) {
            let version = content.search((0, content.len()), OVERLAP, |_, window| {
                let found = one.text.captures(window)?;
                let version = found.iter().skip(1).flatten().next()?;
                Some(String::from_utf8_lossy(version.as_bytes()).into_owned())
            })?;
            if let Some(version) = version {
                return Ok(Some(guessed(one.name, version).into()));
            }
        }
        Ok(None)
    }

    fn is_by_content(&self) -> bool {
        true
    }

    /// Leaves out what the packages of the system brought: these are listed themselves.
    fn finish(&self, _root: &RootFs, owners: &Owners, drafts: &mut Vec<Draft>) {
        let by_texts = |kind: Kind| {
            let name = kind.cataloger().map(|cataloger| cataloger.name());
            matches!(name, Some("binaries" | "releases"))
        };
        drafts.retain(|draft| {
            !by_texts(draft.kind) || owners.of_file(&draft.path, draft.layer).is_none()
        });
    }
}

fn guessed(name: &str, version: String) -> Entry {
    let entry = Entry::new(Ecosystem::Generic, name, version);
    Entry { certainty: Certainty::Guessed, ..entry }
}

/// The longest such file.
const RELEASE: u64 = 64 << 10;

impl Cataloger for Releases {
    fn name(&self) -> &'static str {
        "releases"
    }

    fn names(&self, _place: &Place<'_>) -> bool {
        false
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        let front = file.head;
        let java = file.place.name == "release"
            && ["JAVA_VERSION=", "IMPLEMENTOR="]
                .iter()
                .any(|key| front.starts_with(key.as_bytes()));
        if java && file.size <= RELEASE { Want::Buffer(RELEASE) } else { Want::No }
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let text = content.text()?;
        let get = |key: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            Some(value.trim().trim_matches('"').to_owned()).filter(|value| !value.is_empty())
        };
        let version = get("JAVA_RUNTIME_VERSION").or_else(|| get("JAVA_VERSION"));
        let Some(version) = version else { return Ok(None) };
        let entry = Entry::new(Ecosystem::Generic, "java", version);
        Ok(Some(Entry { supplier: get("IMPLEMENTOR"), ..entry }.into()))
    }

    fn is_by_content(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &[u8]) -> Option<String> {
        let mut bytes = b"\x7fELF".to_vec();
        bytes.resize(6000, 0);
        bytes.extend_from_slice(text);
        bytes.resize(9000, 0);
        let candidate = Candidate {
            place: Place::of(path),
            mode: 0o755,
            size: bytes.len() as u64,
            head: &bytes[..512],
        };
        if Binaries.wants(&candidate) == Want::No {
            return None;
        }
        let said = Binaries.read(path, &Content::of(&bytes)).unwrap()?;
        assert_eq!(said.packages[0].certainty, Certainty::Guessed);
        said.packages[0].purl(None)
    }

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(COMPILED.len(), CLASSIFIERS.len());
    }

    #[test]
    fn versions_are_found_by_their_texts() {
        for (path, text, want) in [
            ("usr/local/bin/python3.11", &b"\x003.11.4\x00"[..], Some("python@3.11.4")),
            ("usr/local/lib/libpython3.12.so.1.0", b"\x003.12.0rc2\x00", Some("python@3.12.0rc2")),
            ("usr/local/bin/node", b"https://x/node.js/v20.5.1/node.tar", Some("node@20.5.1")),
            (
                "usr/lib/libcrypto.so.3",
                b"\x00OpenSSL 3.0.11 19 Sep 2023\x00",
                Some("openssl@3.0.11"),
            ),
            ("usr/lib/libssl.so.1.1", b"\x00OpenSSL 1.1.1w  11 Sep\x00", Some("openssl@1.1.1w")),
            ("usr/sbin/nginx", b"\x00nginx/1.25.2\x00", Some("nginx@1.25.2")),
            ("usr/local/bin/php", b"X-Powered-By: PHP/8.2.9\x00", Some("php@8.2.9")),
            ("usr/local/lib/libruby.so.3.2", b"\x00ruby 3.2.2 (2023-03-30", Some("ruby@3.2.2")),
            ("bin/busybox", b"BusyBox v1.36.1 (2023", Some("busybox@1.36.1")),
            ("usr/bin/curl", b"curl/8.2.1\x00", Some("curl@8.2.1")),
            (
                "usr/local/bin/redis-server",
                b"\x007.2.0buildkitsandbox-1692123456000000000\x00",
                Some("redis@7.2.0"),
            ),
            (
                "usr/lib/postgresql/15/bin/postgres",
                b"postgres (PostgreSQL) 15.4\n",
                Some("postgresql@15.4"),
            ),
            ("usr/local/go/bin/go", b"go1.21.0\x00", Some("go@1.21.0")),
            // A name that says nothing, and a program without the text.
            ("usr/bin/other", b"\x00nginx/1.25.2\x00", None),
            ("usr/sbin/nginx", b"nginx", None),
        ] {
            let want = want.map(|want| format!("pkg:generic/{want}"));
            assert_eq!(found(path, text), want, "{path}");
        }
    }

    #[test]
    fn a_java_runtime_says_its_release() {
        let text = "IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_RUNTIME_VERSION=\"17.0.8+7\"\n\
                    JAVA_VERSION=\"17.0.8\"\n";
        let said = Releases.read("opt/java/release", &Content::of(text.as_bytes())).unwrap();
        let entry = &said.unwrap().packages[0];
        assert_eq!(entry.purl(None).unwrap(), "pkg:generic/java@17.0.8%2B7");
        assert_eq!(entry.supplier.as_deref(), Some("Eclipse Adoptium"));
    }
}
