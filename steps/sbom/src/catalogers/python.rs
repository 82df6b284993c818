//! Installed Python distributions: core metadata in `METADATA` or `PKG-INFO` (PEP 566, PEP 639),
//! where they came from (PEP 610), what a distribution brings inside of itself, and eggs.

use serde::Deserialize;

use super::control::paragraph;
use super::{Candidate, Cataloger, Place, Unreadable, Want, ends_with_ignoring_case};
use crate::content::Content;
use crate::evidence::{Draft, Entry, Said};
use crate::owners::Owners;
use crate::package::{Ecosystem, FileHash};
use crate::rootfs::RootFs;
use crate::unassessed::UnassessedKind;
use crate::zipped::{self, Zipped};

/// Reads what installers write down of a distribution.
pub(super) struct Python;

impl Cataloger for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        let info = |end: &str| ends_with_ignoring_case(place.folder, end);
        match place.name {
            "METADATA" => info(".dist-info"),
            "direct_url.json" => info(".dist-info"),
            "PKG-INFO" => info(".egg-info") || place.folder.ends_with("EGG-INFO"),
            "vendor.txt" => place.folder_is("_vendor"),
            name => name.ends_with(".egg-info"),
        }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let text = content.text()?;
        Ok(match Place::of(path).name {
            "direct_url.json" => {
                origin(&text).map(|origin| Said { remark: Some(origin), ..Said::default() })
            }
            "vendor.txt" => Some(vendored(&text).into()),
            _ => distribution(path, &text).map(|one| one.entry().into()),
        })
    }

    /// What was not installed from an index says where it came from, in a file of its own.
    fn finish(&self, root: &RootFs, _owners: &Owners, drafts: &mut Vec<Draft>) {
        for draft in drafts.iter_mut().filter(|draft| draft.entry.ecosystem == Ecosystem::Pypi) {
            let Some(folder) = draft.path.strip_suffix("/METADATA") else { continue };
            let found = root.get(&format!("{folder}/direct_url.json"));
            let origin = found.and_then(|found| found.fact.said_by("python")?.remark.as_deref());
            let Some((key, url)) = origin.and_then(|origin| origin.split_once('\n')) else {
                continue;
            };
            let (url, hash) = url.split_once('\n').unwrap_or((url, ""));
            let key = if key == "vcs" { "vcs_url" } else { "download_url" };
            draft.entry.qualifiers.push((key, url.to_owned()));
            if !hash.is_empty() {
                let hash = FileHash { algorithm: "SHA-256", hex: hash.to_owned() };
                draft.entry.hashes.push(hash);
            }
        }
    }
}

/// Reads distributions that are one archive.
pub(super) struct Eggs;

/// The most bytes of the metadata in an egg.
const METADATA: u64 = 4 << 20;

impl Cataloger for Eggs {
    fn name(&self) -> &'static str {
        "python-egg"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.has_extension(&["egg"])
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        let archive = self.names(&file.place) && zipped::may_be_one(file.head);
        if archive { Want::Spool } else { Want::No }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let mut zip = Zipped::open(content.reader(), content.len()).map_err(Unreadable::lost)?;
        let name = "EGG-INFO/PKG-INFO";
        let bytes = zip.read(name, METADATA).map_err(Unreadable::lost)?;
        let text = String::from_utf8_lossy(&bytes);
        let entry = distribution(path, &text).map(|one| one.entry());
        let entry = entry.ok_or_else(|| Unreadable::lost("its metadata names no distribution"))?;
        Ok(Some(Entry { within: Some(name.into()), ..entry }.into()))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::PythonEgg
    }
}

/// The parts of `direct_url.json` that say where a distribution came from (PEP 610).
#[derive(Deserialize)]
struct DirectUrl {
    url: String,
    vcs_info: Option<VcsInfo>,
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize)]
struct VcsInfo {
    vcs: String,
    commit_id: String,
}

#[derive(Deserialize)]
struct ArchiveInfo {
    hash: Option<String>,
}

/// The longest address that is kept.
const URL: usize = 2000;

/// Where a distribution came from: `vcs` or `archive`, the address, and the SHA-256 of an archive,
/// a line each. A folder of the machine that built the image is nobody's origin.
fn origin(text: &str) -> Option<String> {
    let said: DirectUrl = serde_json::from_str(text).ok()?;
    let (scheme, rest) = said.url.split_once("://")?;
    if scheme == "file" || said.url.len() > URL || said.url.contains(char::is_control) {
        return None;
    }
    // No login belongs into a bill.
    let host_end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..host_end].rsplit('@').next().unwrap_or_default();
    let url = format!("{scheme}://{host}{}", &rest[host_end..]);
    if let Some(VcsInfo { vcs, commit_id }) = said.vcs_info {
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
        let good = word(&vcs) && word(&commit_id) && commit_id.len() <= 64 && vcs.len() <= 10;
        return good.then(|| format!("vcs\n{vcs}+{url}@{commit_id}"));
    }
    let hash = said.archive_info.and_then(|info| info.hash);
    let hash = hash.as_ref().and_then(|hash| hash.strip_prefix("sha256="));
    let hash = hash.filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    Some(format!("archive\n{url}\n{}", hash.unwrap_or_default().to_ascii_lowercase()))
}

/// The distributions that another one has inside, as pip lists its own: `NAME==VERSION`.
fn vendored(text: &str) -> Vec<Entry> {
    let pinned = text.lines().filter_map(|line| {
        let line = line.split(['#', ';']).next()?.trim();
        let (name, version) = line.split_once("==")?;
        let name = name.split('[').next()?.trim();
        let version = version.trim();
        let good = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+!".contains(&b))
        };
        (good(name) && good(version)).then(|| Entry::new(Ecosystem::Pypi, name, version))
    });
    pinned.collect()
}

/// A Python distribution that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Distribution {
    /// The name as its author writes it.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) supplier: Option<String>,
}

impl Distribution {
    fn entry(self) -> Entry {
        let Self { name, version, license, supplier } = self;
        Entry { license, supplier, ..Entry::new(Ecosystem::Pypi, name, version) }
    }
}

/// The longest license text that is taken for a license's name.
const LICENSE_NAME: usize = 200;

/// What the metadata at `path` says. A name or a version that it leaves out is taken from the
/// folder's name; `None` where that does not say it either.
fn distribution(path: &str, text: &str) -> Option<Distribution> {
    let installed = installed_as(path);
    let (fields, _) = paragraph(text);
    let all =
        |key: &'static str| fields.iter().filter(move |field| field.key.eq_ignore_ascii_case(key));
    let one = |key| all(key).map(|field| field.value).find(|value| !value.is_empty());
    let classified = || {
        let names: Vec<&str> = all("Classifier")
            .filter_map(|field| field.value.strip_prefix("License :: "))
            .filter_map(|path| path.rsplit(" :: ").next())
            .filter(|name| *name != "OSI Approved")
            .collect();
        (!names.is_empty()).then(|| names.join(" AND "))
    };
    let plain = || {
        // Some authors paste the whole text of their license here; that is no name.
        let field = all("License").find(|field| !field.value.is_empty() && !field.goes_on)?;
        let name = field.value.len() <= LICENSE_NAME && field.value != "UNKNOWN";
        name.then(|| field.value.to_owned())
    };
    Some(Distribution {
        name: one("Name").or(installed.map(|(name, _)| name))?.to_owned(),
        version: one("Version").or(installed.map(|(_, version)| version))?.to_owned(),
        supplier: ["Maintainer", "Author", "Maintainer-email", "Author-email"]
            .into_iter()
            .find_map(one)
            .filter(|name| *name != "UNKNOWN")
            .map(str::to_owned),
        license: one("License-Expression").map(str::to_owned).or_else(plain).or_else(classified),
    })
}

/// The name and version in `NAME-VERSION.dist-info` or `NAME-VERSION-py3.11.egg-info`, where
/// installers put them (PyPA, "Recording installed projects"); neither part has a dash in it.
fn installed_as(path: &str) -> Option<(&str, &str)> {
    let folder = |part: &&str| part.ends_with(".dist-info") || part.ends_with(".egg-info");
    let (stem, _) = path.rsplit('/').take(2).find(folder)?.rsplit_once('.')?;
    let mut parts = stem.split('-');
    let (name, version) = (parts.next()?, parts.next()?);
    (!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()))
        .then_some((name, version))
}

/// The name under which an index knows the distribution (PEP 503).
pub(crate) fn normalized(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !out.is_empty() {
            out.push('-');
        }
        out.push_str(&part.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ends_at_the_first_empty_line() {
        let text = "Metadata-Version: 2.1\r\nName: ruamel.yaml\r\nVersion: 0.18.6\r\n\
                    License: MIT license\r\n\r\nName: not-this\r\n";
        let found = distribution("x.egg-info", text).unwrap();
        assert_eq!((&*found.name, &*found.version), ("ruamel.yaml", "0.18.6"));
        assert_eq!(found.license.as_deref(), Some("MIT license"));
        assert_eq!(distribution("x.dist-info/METADATA", "Name: x\n"), None);
        assert_eq!(distribution("x.dist-info/METADATA", ""), None);
    }

    #[test]
    fn the_license_is_the_best_that_is_said() {
        for (lines, want) in [
            ("License-Expression: MIT OR Apache-2.0\nLicense: x", Some("MIT OR Apache-2.0")),
            ("License: BSD-3-Clause", Some("BSD-3-Clause")),
            ("License: UNKNOWN", None),
            (
                "License: Copyright 2020\n  Permission is granted\n\
                 Classifier: License :: OSI Approved :: MIT License",
                Some("MIT License"),
            ),
            ("Classifier: License :: OSI Approved", None),
        ] {
            let found = distribution("", &format!("Name: a\nVersion: 1\n{lines}\n")).unwrap();
            assert_eq!(found.license.as_deref(), want, "{lines}");
        }
    }

    #[test]
    fn the_folder_says_what_the_metadata_leaves_out() {
        for (path, text, want) in [
            ("opt/six-1.16.0.dist-info/METADATA", "", Some(("six", "1.16.0"))),
            ("opt/six-1.16.0.dist-info/METADATA", "Name: Six\n", Some(("Six", "1.16.0"))),
            ("opt/a_b-2-py3.11.egg-info", "Summary: x\n", Some(("a_b", "2"))),
            ("opt/a-2.egg-info/PKG-INFO", "Version: 3\n", Some(("a", "3"))),
            ("opt/six.dist-info/METADATA", "", None),
            ("opt/not-a-version.egg-info", "", None),
        ] {
            let found = distribution(path, text);
            let brief = found.as_ref().map(|d| (&*d.name, &*d.version));
            assert_eq!(brief, want, "{path}");
        }
    }

    #[test]
    fn origins_are_addresses_without_logins() {
        let git = r#"{"url": "https://me:secret@example.com/a/b.git", "vcs_info": {"vcs": "git",
            "commit_id": "00ff", "requested_revision": "main"}}"#;
        assert_eq!(origin(git).unwrap(), "vcs\ngit+https://example.com/a/b.git@00ff");
        let hash = "a".repeat(64);
        let archive = format!(
            r#"{{"url": "https://example.com/a.whl", "archive_info": {{"hash": "sha256={hash}"}}}}"#
        );
        assert_eq!(
            origin(&archive).unwrap(),
            format!("archive\nhttps://example.com/a.whl\n{hash}")
        );
        for none in [r#"{"url": "file:///src", "dir_info": {"editable": true}}"#, "{}", "", "[]"] {
            assert_eq!(origin(none), None);
        }
    }

    #[test]
    fn what_pip_brings_along_is_listed() {
        let text = "CacheControl==0.13.1  # Make sure to update\n\nrequests[socks]==2.31.0\n    \
                    certifi==2023.7.22\nodd\nsix>=1\n==1\n";
        let all: Vec<_> = vendored(text).into_iter().map(|e| (e.name, e.version)).collect();
        let want = [("CacheControl", "0.13.1"), ("requests", "2.31.0"), ("certifi", "2023.7.22")];
        assert_eq!(all, want.map(|(name, version)| (name.to_owned(), version.to_owned())));
    }

    #[test]
    fn names_are_normalized() {
        for (name, want) in [
            ("Jinja2", "jinja2"),
            ("ruamel.yaml", "ruamel-yaml"),
            ("zope._.Interface", "zope-interface"),
        ] {
            assert_eq!(normalized(name), want);
        }
    }
}
