//! The one list of catalogers, and what each of them can do.
//!
//! A cataloger knows one kind of file that speaks of packages. It says which files it wants, by
//! path, mode, size and first bytes; it reads them while a layer streams by; and when the layers
//! are laid over each other, it may look at the whole once more. One more is a file here and a
//! line in [`ALL`].

pub(crate) mod apk;
mod binaries;
mod brew;
mod conda;
mod control;
mod dotnet;
pub(crate) mod dpkg;
mod go;
mod java;
mod lock_files;
mod nix;
pub(crate) mod node;
pub(crate) mod os_release;
mod php;
mod programs;
pub(crate) mod python;
mod rpm;
mod ruby;
mod rust;
mod unread;

#[cfg(test)]
pub(crate) use rpm::tests::databases as rpm_databases;

use crate::content::Content;
use crate::evidence::{Draft, Said};
use crate::owners::Owners;
use crate::rootfs::RootFs;
use crate::unassessed::UnassessedKind;

/// Every cataloger. Of those that know a file by its path, the first one gets it.
pub(crate) static ALL: [&dyn Cataloger; 20] = [
    &dpkg::Dpkg,
    &apk::Apk,
    &rpm::Rpm,
    &os_release::Os,
    &python::Python,
    &python::Eggs,
    &node::Node,
    &java::Java,
    &ruby::Ruby,
    &php::Php,
    &dotnet::Dotnet,
    &conda::Conda,
    &brew::Brew,
    &nix::Nix,
    &lock_files::LockFiles,
    // By their bytes, whatever their names.
    &go::Go,
    &rust::Rust,
    &binaries::Binaries,
    &binaries::Releases,
    &programs::Marks,
];

/// What a cataloger wants of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing.
    No,
    /// The whole file in memory, up to this many bytes.
    Buffer(u64),
    /// To read here and there in it: in memory while it is small, in a file without a name where
    /// it is large.
    Spool,
    /// To see it once from front to back; nothing of it is kept.
    Stream,
}

/// The most bytes of a file that a cataloger takes as a whole when it does not say otherwise.
pub(crate) const BUFFER: u64 = 64 << 20;

/// How many bytes of the front of a file a cataloger sees before it says what it wants.
pub(crate) const HEAD: usize = 512;

/// A file by its path, taken apart once for all who look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Self { folder, name }
    }

    /// Whether the folder is `end`, or ends with it.
    pub(crate) fn folder_is(&self, end: &str) -> bool {
        self.folder.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    }

    /// The end of the name behind its last dot, in lower case.
    pub(crate) fn has_extension(&self, all: &[&str]) -> bool {
        let Some((stem, extension)) = self.name.rsplit_once('.') else { return false };
        !stem.is_empty() && all.iter().any(|one| extension.eq_ignore_ascii_case(one))
    }
}

/// A file that goes by, before anything of it but the front is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) place: Place<'a>,
    /// The permissions, as the archive has them.
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// The first bytes, at most [`HEAD`].
    pub(crate) head: &'a [u8],
}

impl Candidate<'_> {
    /// Whether it begins as a program or a library of Linux, Windows or macOS does.
    pub(crate) fn is_executable(&self) -> bool {
        crate::executable::looks_like_one(self.head)
    }
}

/// Why a file says nothing of packages, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It has the name of a package's description and is none: its own tools would not read it
    /// either, so no package is missing from the bill.
    NoPackage(String),
    /// Packages may be missing from the bill.
    Lost(String),
}

impl Unreadable {
    /// What is wrong with the file.
    #[cfg(test)]
    pub(crate) fn problem(&self) -> &str {
        match self {
            Self::NoPackage(problem) | Self::Lost(problem) => problem,
        }
    }

    /// Packages may be missing, for this reason.
    pub(crate) fn lost(problem: impl ToString) -> Self {
        Self::Lost(problem.to_string())
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What a cataloger that wants to see a file go by is given.
pub(crate) trait Watch {
    /// The next piece of the file.
    fn piece(&mut self, piece: &[u8]);

    /// What it was, once all of it was seen.
    fn end(self: Box<Self>) -> Option<Said>;
}

/// One kind of file that speaks of packages.
///
/// What is read was written by anybody: a reader is bounded in memory and time by what it is
/// given, and never panics.
pub(crate) trait Cataloger: Sync {
    /// The name, for logs and tests, such as `dpkg`.
    fn name(&self) -> &'static str;

    /// Whether the path alone says that a file is one of these. Such a name is looked for behind
    /// hard links, too. Those that know their files by the bytes say no.
    fn names(&self, place: &Place<'_>) -> bool;

    /// What it wants of a file.
    fn wants(&self, file: &Candidate<'_>) -> Want {
        if self.names(&file.place) { Want::Buffer(BUFFER) } else { Want::No }
    }

    /// What the file at `path` says of packages; `None` when it describes none.
    ///
    /// # Errors
    /// What is wrong with the file.
    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable>;

    /// What the folder at `path` says by its name alone.
    fn read_folder(&self, _place: &Place<'_>) -> Option<Said> {
        None
    }

    /// A look at one file that is wanted as a stream.
    fn watch(&self) -> Option<Box<dyn Watch>> {
        None
    }

    /// Whether its files belong to a package of the system where that brought them, so that the
    /// system's lists of files are searched for their paths.
    fn describes(&self) -> bool {
        true
    }

    /// The folders in which a system keeps its packages, where that is what the cataloger reads.
    fn databases(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the file, in one of these folders, is the database itself: an image whose own
    /// database cannot be read is not described at all.
    fn is_database(&self, _place: &Place<'_>) -> bool {
        false
    }

    /// As what a file is named that could not be read; and what needs not be told of one that
    /// could.
    fn mark(&self) -> UnassessedKind {
        UnassessedKind::Damaged
    }

    /// Whether the bytes say that a file is one of these: then it is one under every name.
    fn is_by_content(&self) -> bool {
        false
    }

    /// Whether it reads what a project asks for instead of what is installed. That is asked of
    /// folders of sources, and never of images.
    fn is_of_sources(&self) -> bool {
        false
    }

    /// A last look, when every file was read and the layers lie over each other.
    fn finish(&self, _root: &RootFs, _owners: &Owners, _drafts: &mut Vec<Draft>) {}
}

/// What a file is, by its path or its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A file that the cataloger with this number reads.
    Of(u8),
    /// Something that holds packages and is not read.
    Unread(UnassessedKind),
}

impl Kind {
    /// What the file at `path` is, when its path says so.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let place = Place::of(path);
        let known = ALL.iter().position(|cataloger| cataloger.names(&place));
        match known.and_then(|at| u8::try_from(at).ok()) {
            Some(number) => Some(Self::Of(number)),
            None => unread::kind(&place).map(Self::Unread),
        }
    }

    /// Who reads it; `None` for what is not read.
    pub(crate) fn cataloger(self) -> Option<&'static dyn Cataloger> {
        match self {
            Self::Of(number) => ALL.get(usize::from(number)).copied(),
            Self::Unread(_) => None,
        }
    }

    /// The root that the database at `path` describes: what stands before the folder of the
    /// database, with a slash behind it. A tree of another system may lie anywhere in an image; its
    /// lists say nothing about the files of the image's own root.
    pub(crate) fn home(self, path: &str) -> &str {
        let folders = self.cataloger().map_or(&[][..], |cataloger| cataloger.databases());
        let starts = folders.iter().filter_map(|folder| path.rfind(&format!("{folder}/")));
        starts.min().and_then(|at| path.get(..at)).unwrap_or_default()
    }

    /// Whether the file at `path` describes a package that a package of the system may have
    /// brought, as one of Python or Node does.
    pub(crate) fn is_description(path: &str) -> bool {
        let by = Self::of(path).and_then(Self::cataloger);
        by.is_some_and(|cataloger| cataloger.describes())
    }

    /// Whether the bytes say so, whatever the name is.
    pub(crate) fn is_by_content(self) -> bool {
        match self {
            Self::Of(_) => self.cataloger().is_some_and(|cataloger| cataloger.is_by_content()),
            Self::Unread(what) => what.is_by_content(),
        }
    }

    /// Every cataloger with its number.
    pub(crate) fn all() -> impl Iterator<Item = (Self, &'static dyn Cataloger)> {
        (0..).zip(ALL).map(|(number, cataloger)| (Self::Of(number), cataloger))
    }
}

/// Whether `text` ends with `end`, in whatever case.
pub(crate) fn ends_with_ignoring_case(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    text.len() >= end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(path: &str) -> Option<&'static str> {
        match Kind::of(path)? {
            Kind::Unread(what) => Some(what.as_str()),
            kind @ Kind::Of(_) => Some(kind.cataloger()?.name()),
        }
    }

    #[test]
    fn files_are_known_by_their_paths() {
        for (path, want) in [
            ("var/lib/dpkg/status", Some("dpkg")),
            ("srv/root/var/lib/dpkg/status", Some("dpkg")),
            ("notvar/lib/dpkg/status", None),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/status.d/libc6", Some("dpkg")),
            ("var/lib/dpkg/status.d/libc6.md5sums", Some("dpkg")),
            ("var/lib/dpkg/info/libc6:amd64.list", Some("dpkg")),
            ("var/lib/dpkg/info/libc6:amd64.md5sums", Some("dpkg")),
            ("var/lib/dpkg/info/libc6:amd64.postinst", None),
            ("usr/share/doc/libc6/copyright", Some("dpkg")),
            ("lib/apk/db/installed", Some("apk")),
            ("usr/lib/apk/db/installed", Some("apk")),
            ("lib/apk/db/scripts.tar", None),
            ("usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA", Some("python")),
            ("usr/lib/python3/dist-packages/six-1.16.0.egg-info", Some("python")),
            ("usr/lib/python3/dist-packages/six.egg-info/PKG-INFO", Some("python")),
            ("usr/lib/python3/dist-packages/six.egg-info/SOURCES.txt", None),
            ("usr/lib/python3/dist-packages/METADATA", None),
            ("x-1.dist-info/direct_url.json", Some("python")),
            ("pip/_vendor/vendor.txt", Some("python")),
            ("eggs/six-1.16.0-py3.11.egg", Some("python-egg")),
            ("app/node_modules/@babel/core/package.json", Some("node")),
            ("etc/os-release", Some("os-release")),
            ("package.json", Some("node")),
            ("var/lib/rpm/Packages", Some("rpm")),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some("rpm")),
            ("usr/share/rpm/Packages.db", Some("rpm")),
            ("var/lib/rpmmanifest/container-manifest-2", Some("rpm")),
            ("opt/Packages", None),
            ("app/x.jar", Some("java")),
            ("app/X.WAR", Some("java")),
            ("app/jar", None),
            ("g/specifications/default/json-2.gemspec", Some("ruby")),
            ("gems/json-2/json.gemspec", None),
            ("app/vendor/composer/installed.json", Some("php")),
            ("app/vendor/other/installed.json", None),
            ("app/Shop.Deps.json", Some("dotnet")),
            ("opt/conda/conda-meta/zlib-1.json", Some("conda")),
            ("home/linuxbrew/.linuxbrew/Cellar/jq/1.7/INSTALL_RECEIPT.json", Some("brew")),
            ("usr/lib/opkg/status", Some("opkg")),
            ("var/lib/pacman/local/ALPM_DB_VERSION", Some("pacman")),
            (".pnp.cjs", Some("yarn-pnp")),
            ("usr/bin/node", None),
        ] {
            assert_eq!(name_of(path), want, "{path}");
        }
    }

    #[test]
    fn every_cataloger_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
