//! Debian's package database: `var/lib/dpkg/status`, its parts under `status.d` in distroless
//! images, and the lists of files.

use std::collections::HashMap;

use super::control::{self, paragraph};
use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Draft, Entry, Owned, Said};
use crate::owners::Owners;
use crate::package::Ecosystem;
use crate::rootfs::RootFs;

/// Reads Debian's database, the lists of files, and the licenses in the copyright files.
pub(super) struct Dpkg;

/// Where the copyright files lie, each in a folder of its package's name.
const DOCS: &str = "usr/share/doc";

impl Cataloger for Dpkg {
    fn name(&self) -> &'static str {
        "dpkg"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        let name = place.name;
        match name {
            "status" => place.folder_is("var/lib/dpkg"),
            "copyright" => {
                let docs = place.folder.rsplit_once('/');
                docs.is_some_and(|(docs, _)| docs == DOCS || docs.ends_with("/usr/share/doc"))
            }
            _ if place.folder_is("var/lib/dpkg/status.d") => true,
            _ if place.folder_is("var/lib/dpkg/info") => {
                name.ends_with(".list") || name.ends_with(".md5sums")
            }
            _ => false,
        }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let place = Place::of(path);
        let text = content.text()?;
        if place.name == "copyright" {
            let remark = licenses(&text);
            return Ok(remark.map(|text| Said { remark: Some(text), ..Said::default() }));
        }
        if self.is_database(&place) {
            return Ok(Some(installed(&text)?.into()));
        }
        Ok(files(path, &text).map(|owned| Said { owned: Some(owned), ..Said::default() }))
    }

    fn describes(&self) -> bool {
        false
    }

    fn databases(&self) -> &'static [&'static str] {
        &["var/lib/dpkg"]
    }

    fn is_database(&self, place: &Place<'_>) -> bool {
        let part = place.folder_is("var/lib/dpkg/status.d") && !place.name.ends_with(".md5sums");
        part || (place.name == "status" && place.folder_is("var/lib/dpkg"))
    }

    /// Debian's database knows no licenses: they are in the documentation of each package.
    fn finish(&self, root: &RootFs, _owners: &Owners, drafts: &mut Vec<Draft>) {
        let mut known: HashMap<String, Option<String>> = HashMap::new();
        for draft in drafts.iter_mut().filter(|draft| draft.entry.ecosystem == Ecosystem::Deb) {
            let home = draft.kind.home(&draft.path);
            let at = format!("{home}{DOCS}/{}/copyright", draft.entry.name);
            let license = known
                .entry(at)
                .or_insert_with_key(|at| root.get(at)?.fact.said_by("dpkg")?.remark.clone());
            draft.entry.license.clone_from(license);
        }
    }
}

/// How many different licenses are named of one package.
const LICENSES: usize = 24;

/// The licenses that a copyright file names: those of its paragraphs where it is written to be read
/// by machines (DEP 5), otherwise the texts in `/usr/share/common-licenses` that it refers to.
fn licenses(text: &str) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        let name = name.trim().trim_end_matches(['.', ',']);
        let word = !name.is_empty() && name.len() <= 100;
        if word && names.len() < LICENSES && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    };
    let mut rest = text;
    let machine = text.lines().take(5).any(|line| {
        let line = line.trim_start().to_ascii_lowercase();
        line.starts_with("format:") || line.starts_with("format-specification:")
    });
    if machine {
        while !rest.is_empty() {
            let (fields, behind) = paragraph(rest);
            rest = behind;
            let has_files = control::get(&fields, "Files").is_some();
            // A paragraph of a license alone gives the text of one that files have named.
            if let Some(license) = control::get(&fields, "License").filter(|_| has_files) {
                add(license);
            }
        }
    } else {
        for part in text.split("/usr/share/common-licenses/").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && !"-.+".contains(c));
            add(part.get(..end.unwrap_or(part.len())).unwrap_or_default());
        }
    }
    (!names.is_empty()).then(|| names.join(" AND "))
}

/// The packages of a database whose files are unpacked. A package that was removed and left its
/// configuration behind is not installed.
///
/// # Errors
/// When a text that is not empty holds no package at all.
fn installed(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut found = Vec::new();
    let mut paragraphs = 0_usize;
    let mut rest = text;
    while !rest.is_empty() {
        let (fields, behind) = paragraph(rest);
        rest = behind;
        let get = |key: &str| control::get(&fields, key);
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
        found.push(Entry {
            arch: get("Architecture").map(str::to_owned),
            source: source.map(|source| match source_version {
                Some(version) => format!("{source}@{version}"),
                None => source.to_owned(),
            }),
            supplier: get("Maintainer").map(str::to_owned),
            ..Entry::new(Ecosystem::Deb, name, version)
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
fn files(path: &str, text: &str) -> Option<Owned> {
    let name = path.rsplit('/').next()?;
    let with_hash = name.ends_with(".md5sums");
    let name = name.strip_suffix(".md5sums").or_else(|| name.strip_suffix(".list"))?;
    let (package, arch) = match name.split_once(':') {
        Some((package, arch)) => (package, Some(arch.to_owned())),
        None => (name, None),
    };
    let mut owned = Owned { package: package.to_owned(), arch, ..Owned::default() };
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
        owned.add(path);
    }
    owned.all.shrink_to_fit();
    (!owned.all.is_empty()).then_some(owned)
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
        let brief: Vec<_> =
            found.iter().map(|p| (&*p.name, &*p.version, p.source.as_deref())).collect();
        assert_eq!(
            brief,
            [
                ("libgcc-s1", "12.2.0-14", Some("gcc-12")),
                ("bash", "5.2.15-2+b2", Some("bash@5.2.15-2")),
                ("held", "1:2~rc1-1", None),
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
        assert_eq!((found.paths, found.all), (Vec::new(), vec![crate::path::hash("bin/bash")]));
        assert_eq!(files("var/lib/dpkg/info/empty.list", "/.\n"), None);
    }

    #[test]
    fn copyright_files_name_licenses() {
        let machine = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
                       Upstream-Name: x\n\nFiles: *\nCopyright: me\nLicense: GPL-2+\n\n\
                       Files: lib/*\nLicense: MIT\n text\n\nFiles: a\nLicense: GPL-2+\n\n\
                       License: GPL-2+\n On Debian systems, see /usr/share/common-licenses/GPL-2.\n";
        assert_eq!(licenses(machine).as_deref(), Some("GPL-2+ AND MIT"));
        let prose = "On Debian systems the text is in `/usr/share/common-licenses/LGPL-2.1',\n\
                     and /usr/share/common-licenses/GPL-3.\n";
        assert_eq!(licenses(prose).as_deref(), Some("LGPL-2.1 AND GPL-3"));
        assert_eq!(licenses("All rights reserved.\n"), None);
    }
}
