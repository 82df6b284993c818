//! Debian's package database: `var/lib/dpkg/status`, its parts under `status.d` in distroless
//! images, and the lists of files.

use super::Unreadable;
use super::control::paragraph;
use crate::evidence::Kind;
use crate::path::hash;

/// A Debian package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    /// The source package, where the database names one.
    pub(crate) source: Option<String>,
    /// The version of the source package, where it differs from the package's own.
    pub(crate) source_version: Option<String>,
}

impl Installed {
    pub(crate) fn text_len(&self) -> usize {
        let source = self.source.as_ref().map_or(0, String::len);
        self.name.len() + self.version.len() + source
    }
}

/// The files of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The Debian package's name.
    pub(crate) package: String,
    /// Its architecture, where the list's name has it.
    pub(crate) arch: Option<String>,
    /// The paths of those that describe packages of another ecosystem, without a leading slash.
    pub(crate) paths: Vec<Box<str>>,
    /// The hashes of the paths of all of them.
    pub(crate) all: Vec<u64>,
}

/// The packages of a database whose files are unpacked. A package that was removed and left its
/// configuration behind is not installed.
///
/// # Errors
/// When a text that is not empty holds no package at all.
pub(crate) fn installed(text: &str) -> Result<Vec<Installed>, Unreadable> {
    let mut found = Vec::new();
    let mut paragraphs = 0_usize;
    let mut rest = text;
    while !rest.is_empty() {
        let (fields, behind) = paragraph(rest);
        rest = behind;
        let get = |key: &str| {
            let field = fields.iter().find(|field| field.key.eq_ignore_ascii_case(key));
            field.map(|field| field.value).filter(|value| !value.is_empty())
        };
        let Some(name) = get("Package") else { continue };
        paragraphs += 1;
        // `want flag status`: only the third word says what is there.
        let state = get("Status").and_then(|status| status.split_ascii_whitespace().nth(2));
        if matches!(state, Some("not-installed" | "config-files")) {
            continue;
        }
        let Some(version) = get("Version") else { continue };
        let (source, source_version) = match get("Source").map(|text| text.split_once('(')) {
            None => (None, None),
            Some(None) => (get("Source"), None),
            Some(Some((source, version))) => {
                (Some(source.trim()), Some(version.trim_end_matches(')').trim()))
            }
        };
        found.push(Installed {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: get("Architecture").unwrap_or_default().to_owned(),
            source: source.map(str::to_owned),
            source_version: source_version.map(str::to_owned),
        });
    }
    if paragraphs == 0 && !text.trim().is_empty() {
        let problem = "it has no field `Package`, so it is no package database of dpkg";
        return Err(Unreadable::Lost(problem.to_owned()));
    }
    Ok(found)
}

/// What `info/NAME.list` (a path a line) or `NAME.md5sums` (a hash before each path) says; the
/// latter stands in `info`, or beside the package in `status.d`. `None` for a list of no files.
pub(crate) fn files(path: &str, text: &str) -> Option<Files> {
    let name = path.rsplit('/').next()?;
    let with_hash = name.ends_with(".md5sums");
    let name = name.strip_suffix(".md5sums").or_else(|| name.strip_suffix(".list"))?;
    let (package, arch) = match name.split_once(':') {
        Some((package, arch)) => (package, Some(arch.to_owned())),
        None => (name, None),
    };
    let (mut paths, mut all) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let path = if with_hash {
            // As md5sum(1) writes it: two spaces, or a space and a star.
            let Some((_, path)) = line.split_once(' ') else { continue };
            path.strip_prefix([' ', '*']).unwrap_or(path)
        } else {
            line
        };
        let path = path.trim_start().trim_start_matches("./").trim_start_matches('/').trim_end();
        if matches!(path, "" | ".") {
            continue;
        }
        all.push(hash(path));
        if matches!(Kind::of(path), Some(Kind::Python | Kind::Node)) {
            paths.push(path.into());
        }
    }
    all.shrink_to_fit();
    (!all.is_empty()).then(|| Files { package: package.to_owned(), arch, paths, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_with_their_sources() {
        let text = "\
Package: libgcc-s1\nStatus: install ok installed\nArchitecture: amd64\nSource: gcc-12\n\
Version: 12.2.0-14\nDescription: GCC support library\n Shared version.\n .\n Package: fake\n\n\
Package: bash\nStatus: install ok installed\nArchitecture: amd64\nSource: bash (5.2.15-2)\n\
Version: 5.2.15-2+b2\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
Package: held\nStatus: hold ok installed\nArchitecture: all\nVersion: 1:2~rc1-1\n";
        let found = installed(text).unwrap();
        let brief: Vec<_> = found
            .iter()
            .map(|p| (&*p.name, &*p.version, p.source.as_deref(), p.source_version.as_deref()))
            .collect();
        assert_eq!(
            brief,
            [
                ("libgcc-s1", "12.2.0-14", Some("gcc-12"), None),
                ("bash", "5.2.15-2+b2", Some("bash"), Some("5.2.15-2")),
                ("held", "1:2~rc1-1", None, None),
            ]
        );
    }

    #[test]
    fn a_distroless_part_has_no_status() {
        let found = installed("Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n").unwrap();
        assert_eq!(found.len(), 1);
        assert!(installed("").unwrap().is_empty());
        assert!(installed("\u{0}\u{1}binary").is_err());
    }

    #[test]
    fn lists_keep_the_files_that_describe_packages() {
        let list = "/.\n/usr\n/usr/lib/python3/dist-packages/six-1.16.0.egg-info\n/usr/bin/x\n";
        let found = files("var/lib/dpkg/info/python3-six:amd64.list", list).unwrap();
        assert_eq!((&*found.package, found.arch.as_deref()), ("python3-six", Some("amd64")));
        assert_eq!(found.paths, ["usr/lib/python3/dist-packages/six-1.16.0.egg-info".into()]);

        let sums = "d41d8cd98f00b204e9800998ecf8427e  usr/share/nodejs/abbrev/package.json\n";
        let found = files("var/lib/dpkg/status.d/node-abbrev.md5sums", sums).unwrap();
        assert_eq!(found.paths, ["usr/share/nodejs/abbrev/package.json".into()]);
        let star = "d41d8cd98f00b204e9800998ecf8427e */usr/share/nodejs/abbrev/package.json\r\n";
        let found = files("var/lib/dpkg/info/node-abbrev:all.md5sums", star).unwrap();
        assert_eq!((&*found.package, found.arch.as_deref()), ("node-abbrev", Some("all")));
        assert_eq!(found.paths, ["usr/share/nodejs/abbrev/package.json".into()]);

        let found = files("var/lib/dpkg/info/bash.list", "/.\n/bin/bash\n").unwrap();
        assert_eq!((found.paths, found.all), (Vec::new(), vec![hash("bin/bash")]));
        assert_eq!(files("var/lib/dpkg/info/empty.list", "/.\n"), None);
    }
}
