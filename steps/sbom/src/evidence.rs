//! Which files of a layer say something about packages, and what each of them says.
//!
//! A file is read when its name is one of a few, wherever it stands. What it says is kept as a
//! [`Fact`], a few dozen bytes; the file itself is forgotten at once.

use crate::catalog::{apk, dpkg, node, os_release, python};

/// What a file is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// dpkg's database, or one of its parts in a distroless image.
    Dpkg,
    /// The list of files that one Debian package owns.
    DpkgFiles,
    /// apk's database.
    Apk,
    /// The description of an installed Python distribution.
    Python,
    /// The description of a Node package.
    Node,
    /// The name of the operating system.
    OsRelease,
}

impl Kind {
    /// What the file at `path` is, when it is one that is read.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder_is = |end: &str| {
            folder.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        match name {
            "package.json" => Some(Self::Node),
            "METADATA" if ends_with_ignoring_case(folder, ".dist-info") => Some(Self::Python),
            "PKG-INFO" if ends_with_ignoring_case(folder, ".egg-info") => Some(Self::Python),
            "PKG-INFO" if folder.ends_with("EGG-INFO") => Some(Self::Python),
            "status" if folder_is("var/lib/dpkg") => Some(Self::Dpkg),
            "installed" if folder_is("lib/apk/db") => Some(Self::Apk),
            // The links `/etc/os-release` and `/usr/lib/os-release` may both lead elsewhere.
            _ if name.starts_with("os-release") => Some(Self::OsRelease),
            _ if name.ends_with(".egg-info") => Some(Self::Python),
            _ if folder_is("var/lib/dpkg/status.d") => {
                Some(if name.ends_with(".md5sums") { Self::DpkgFiles } else { Self::Dpkg })
            }
            _ if name.ends_with(".list") && folder_is("var/lib/dpkg/info") => Some(Self::DpkgFiles),
            _ => None,
        }
    }
}

fn ends_with_ignoring_case(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    text.len() >= end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Dpkg(Vec<dpkg::Installed>),
    DpkgFiles(dpkg::Files),
    Apk(Vec<apk::Installed>),
    Python(python::Distribution),
    Node(node::NodePackage),
    OsRelease(os_release::OsRelease),
}

impl Fact {
    /// Reads the file at `path`, a file of `kind`. A file that describes no package, such as a
    /// `package.json` that only says `{"type": "module"}`, is `None`.
    ///
    /// # Errors
    /// One line on what is wrong with the file.
    pub(crate) fn read(kind: Kind, path: &str, bytes: &[u8]) -> Result<Option<Self>, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = || String::from_utf8_lossy(bytes);
        Ok(match kind {
            Kind::Dpkg => Some(Self::Dpkg(dpkg::installed(&text())?)),
            Kind::DpkgFiles => dpkg::files(path, &text()).map(Self::DpkgFiles),
            Kind::Apk => Some(Self::Apk(apk::installed(&text())?)),
            Kind::Python => python::distribution(&text()).map(Self::Python),
            Kind::Node => node::package(bytes)?.map(Self::Node),
            Kind::OsRelease => os_release::read(&text()).map(Self::OsRelease),
        })
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        /// What an entry of a collection costs besides its text.
        const EACH: usize = 160;
        EACH + match self {
            Self::Dpkg(all) => all.iter().map(|p| EACH + p.text_len()).sum(),
            Self::DpkgFiles(files) => files.paths.iter().map(|p| 16 + p.len()).sum(),
            Self::Apk(all) => all.iter().map(|p| EACH + p.text_len()).sum(),
            Self::Python(_) | Self::Node(_) | Self::OsRelease(_) => EACH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_paths() {
        for (path, want) in [
            ("var/lib/dpkg/status", Some(Kind::Dpkg)),
            ("srv/root/var/lib/dpkg/status", Some(Kind::Dpkg)),
            ("notvar/lib/dpkg/status", None),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/status.d/libc6", Some(Kind::Dpkg)),
            ("var/lib/dpkg/status.d/libc6.md5sums", Some(Kind::DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.list", Some(Kind::DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.md5sums", None),
            ("lib/apk/db/installed", Some(Kind::Apk)),
            ("usr/lib/apk/db/installed", Some(Kind::Apk)),
            ("lib/apk/db/scripts.tar", None),
            ("usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA", Some(Kind::Python)),
            ("usr/lib/python3/dist-packages/six-1.16.0.egg-info", Some(Kind::Python)),
            ("usr/lib/python3/dist-packages/six.egg-info/PKG-INFO", Some(Kind::Python)),
            ("usr/lib/python3/dist-packages/six.egg-info/SOURCES.txt", None),
            ("usr/lib/python3/dist-packages/METADATA", None),
            ("app/node_modules/@babel/core/package.json", Some(Kind::Node)),
            ("app/package-lock.json", None),
            ("etc/os-release", Some(Kind::OsRelease)),
            ("package.json", Some(Kind::Node)),
        ] {
            assert_eq!(Kind::of(path), want, "{path}");
        }
    }
}
