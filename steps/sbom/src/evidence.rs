//! Which files of a layer say something about packages, and what each of them says.
//!
//! A file is read when its name is one of a few, wherever it stands. What it says is kept as a
//! [`Fact`], a few dozen bytes; the file itself is forgotten at once.

use crate::catalog::{Unreadable, apk, dpkg, node, os_release, python};
use crate::unassessed::UnassessedKind;

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
    /// Something that holds packages and is not read.
    Unread(UnassessedKind),
}

impl Kind {
    /// What the file at `path` is, when it is one that is read or told of.
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
            _ if folder_is("var/lib/dpkg/info") => {
                (name.ends_with(".list") || name.ends_with(".md5sums")).then_some(Self::DpkgFiles)
            }
            _ => unread(name, folder_is).map(Self::Unread),
        }
    }
}

/// What the file `name` is of all that is not read, in a folder that the test knows by its end.
fn unread(name: &str, folder_is: impl Fn(&str) -> bool) -> Option<UnassessedKind> {
    use UnassessedKind as U;
    match name {
        "Packages" | "Packages.db" | "rpmdb.sqlite" => {
            let homes = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];
            return homes.into_iter().any(folder_is).then_some(U::Rpm);
        }
        // The list that distroless images of Azure Linux keep in the database's place.
        "container-manifest-1" | "container-manifest-2" => {
            return folder_is("var/lib/rpmmanifest").then_some(U::Rpm);
        }
        "status" => {
            let homes = ["usr/lib/opkg", "var/lib/opkg"];
            return homes.into_iter().any(folder_is).then_some(U::Opkg);
        }
        "ALPM_DB_VERSION" => return folder_is("var/lib/pacman/local").then_some(U::Pacman),
        "db.sqlite" => return folder_is("nix/var/nix/db").then_some(U::Nix),
        "installed.json" => return folder_is("composer").then_some(U::PhpComposer),
        ".pnp.cjs" | ".pnp.js" => return Some(U::YarnPnp),
        _ => {}
    }
    let (stem, extension) = name.rsplit_once('.')?;
    let is = |one: &str| extension.eq_ignore_ascii_case(one);
    match extension.len() {
        3 => {
            let java = ["jar", "war", "ear", "par", "sar", "nar", "kar", "jpi", "hpi"];
            if java.into_iter().any(is) {
                return Some(U::JavaArchive);
            }
            is("egg").then_some(U::PythonEgg)
        }
        4 if is("lpkg") => Some(U::JavaArchive),
        4 if is("json") && ends_with_ignoring_case(stem, ".deps") => Some(U::DotnetDeps),
        4 if is("json") => folder_is("conda-meta").then_some(U::Conda),
        7 if is("gemspec") => {
            let homes = ["specifications", "specifications/default"];
            homes.into_iter().any(folder_is).then_some(U::RubyGem)
        }
        _ => None,
    }
}

fn ends_with_ignoring_case(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    text.len() >= end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end)
}

fn text_len(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
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
    /// It holds packages, and nobody looked which.
    Unread(UnassessedKind),
    /// It is a second name of a file of a lower layer that asks to be read under this name alone.
    Elsewhere {
        /// What it is under this name.
        kind: Kind,
        /// The path of the file, as the archive has it, and where that led as of the layer.
        from: [Box<str>; 2],
        /// The file is of a layer whose number is lower than this.
        below: usize,
    },
}

impl Fact {
    /// Reads the file at `path`, a file of `kind`. A file that describes no package, such as a
    /// `package.json` that only says `{"type": "module"}`, is `None`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn read(kind: Kind, path: &str, bytes: &[u8]) -> Result<Option<Self>, Unreadable> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = || String::from_utf8_lossy(bytes);
        Ok(match kind {
            Kind::Dpkg => Some(Self::Dpkg(dpkg::installed(&text())?)),
            Kind::DpkgFiles => dpkg::files(path, &text()).map(Self::DpkgFiles),
            Kind::Apk => Some(Self::Apk(apk::installed(&text())?)),
            Kind::Python => python::distribution(path, &text()).map(Self::Python),
            Kind::Node => node::package(bytes)?.map(Self::Node),
            Kind::OsRelease => os_release::read(&text()).map(Self::OsRelease),
            Kind::Unread(what) => Some(Self::Unread(what)),
        })
    }

    /// Whether it holds under any name that the file has.
    pub(crate) const fn is_by_content(&self) -> bool {
        matches!(self, Self::Unread(what) if what.is_by_content())
    }

    /// About how many bytes of memory it takes: a file may say a name of any length.
    pub(crate) fn weight(&self) -> usize {
        /// What an entry of a collection costs besides its text.
        const EACH: usize = 160;
        EACH + match self {
            Self::Dpkg(all) => all.iter().map(|p| EACH + p.text_len()).sum(),
            Self::DpkgFiles(files) => {
                let paths: usize = files.paths.iter().map(|p| 16 + p.len()).sum();
                paths + 8 * files.all.len()
            }
            Self::Apk(all) => all.iter().map(|p| EACH + p.text_len()).sum(),
            Self::Elsewhere { from, .. } => from.iter().map(|p| p.len()).sum(),
            Self::Python(p) => p.name.len() + p.version.len() + text_len(p.license.as_ref()),
            Self::Node(p) => p.name.len() + p.version.len() + text_len(p.license.as_ref()),
            Self::OsRelease(os) => {
                os.id.len() + text_len(os.version.as_ref()) + text_len(os.pretty_name.as_ref())
            }
            Self::Unread(_) => 0,
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
            ("var/lib/dpkg/info/libc6:amd64.md5sums", Some(Kind::DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.postinst", None),
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
    #[test]
    fn what_is_not_read_is_known_by_its_path() {
        use UnassessedKind as U;
        for (path, want) in [
            ("var/lib/rpm/Packages", Some(U::Rpm)),
            ("var/lib/rpm/Packages.db", Some(U::Rpm)),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some(U::Rpm)),
            ("srv/root/var/lib/rpm/rpmdb.sqlite", Some(U::Rpm)),
            ("var/lib/rpm/rpmdb.sqlite-wal", None),
            ("srv/www/Packages", None),
            ("var/lib/rpmmanifest/container-manifest-2", Some(U::Rpm)),
            ("app/a.jar", Some(U::JavaArchive)),
            ("app/A.WAR", Some(U::JavaArchive)),
            ("app/a.ear", Some(U::JavaArchive)),
            ("app/a.jar.sha1", None),
            ("jar", None),
            ("usr/lib/ruby/gems/3.1.0/specifications/rake-13.0.6.gemspec", Some(U::RubyGem)),
            ("gems/specifications/default/json-2.6.gemspec", Some(U::RubyGem)),
            ("app/mine.gemspec", None),
            ("app/vendor/composer/installed.json", Some(U::PhpComposer)),
            ("app/installed.json", None),
            ("app/shop.deps.json", Some(U::DotnetDeps)),
            ("app/deps.json", None),
            ("opt/conda/conda-meta/zlib-1.2.13-h.json", Some(U::Conda)),
            ("opt/conda/conda-meta/history", None),
            ("var/lib/pacman/local/ALPM_DB_VERSION", Some(U::Pacman)),
            ("usr/lib/opkg/status", Some(U::Opkg)),
            ("nix/var/nix/db/db.sqlite", Some(U::Nix)),
            ("opt/v/six-1.16.0-py3.11.egg", Some(U::PythonEgg)),
            ("app/.pnp.cjs", Some(U::YarnPnp)),
        ] {
            assert_eq!(Kind::of(path), want.map(Kind::Unread), "{path}");
        }
    }
}
