//! What the files of a layer say about packages, as it is kept: a few dozen bytes for each. The
//! files themselves are forgotten at once.

use std::sync::Arc;

use crate::catalogers::Kind;
use crate::catalogers::os_release::OsRelease;
use crate::package::{Certainty, Ecosystem, FileHash};
use crate::unassessed::UnassessedKind;

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// What catalogers read of it, each with its kind.
    Said(Vec<(Kind, Said)>),
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

/// What one cataloger makes of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The packages that it speaks of.
    pub(crate) packages: Vec<Entry>,
    /// The files that a package owns whose own description stands elsewhere.
    pub(crate) owned: Option<Owned>,
    /// The operating system.
    pub(crate) os: Option<OsRelease>,
    /// Something about a package that is described elsewhere: which, its cataloger knows.
    pub(crate) remark: Option<String>,
    /// What of it could not be read.
    pub(crate) marks: Vec<UnassessedKind>,
}

/// The files of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The package's name.
    pub(crate) package: String,
    /// Its architecture, where the list says it.
    pub(crate) arch: Option<String>,
    /// The paths of those that describe packages of another ecosystem, without a leading slash.
    pub(crate) paths: Vec<Box<str>>,
    /// The hashes of the paths of all of them.
    pub(crate) all: Vec<u64>,
}

impl Owned {
    /// Takes the file at `path`.
    pub(crate) fn add(&mut self, path: &str) {
        self.all.push(crate::path::hash(path));
        if Kind::is_description(path) {
            self.paths.push(path.into());
        }
    }

    fn weight(&self) -> usize {
        let paths: usize = self.paths.iter().map(|path| 16 + path.len()).sum();
        paths + 8 * self.all.len()
    }
}

/// One package as a file speaks of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) ecosystem: Ecosystem,
    /// What stands before the name: a group, a vendor, a scope. Of packages of a distribution it
    /// is the distribution, and comes later.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// Empty where nobody knows it.
    pub(crate) version: String,
    pub(crate) arch: Option<String>,
    /// The source package: `name` or `name@version`.
    pub(crate) source: Option<String>,
    /// Further qualifiers of the package URL.
    pub(crate) qualifiers: Vec<(&'static str, String)>,
    pub(crate) license: Option<String>,
    pub(crate) supplier: Option<String>,
    pub(crate) hashes: Vec<FileHash>,
    pub(crate) certainty: Certainty,
    /// Where in the file it is, such as the path of an archive in an archive.
    pub(crate) within: Option<Box<str>>,
    /// Its files, where its description says them.
    pub(crate) owned: Option<Arc<Owned>>,
}

impl Entry {
    pub(crate) fn new(
        ecosystem: Ecosystem,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            ecosystem,
            namespace: None,
            name: name.into(),
            version: version.into(),
            arch: None,
            source: None,
            qualifiers: Vec::new(),
            license: None,
            supplier: None,
            hashes: Vec::new(),
            certainty: Certainty::Stated,
            within: None,
            owned: None,
        }
    }

    /// The namespace and the name of `path`, which has them as `a/b/name`.
    pub(crate) fn split(ecosystem: Ecosystem, path: &str, version: impl Into<String>) -> Self {
        match path.rsplit_once('/') {
            Some((namespace, name)) => Self {
                namespace: Some(namespace.to_owned()),
                ..Self::new(ecosystem, name, version)
            },
            None => Self::new(ecosystem, path, version),
        }
    }

    fn weight(&self) -> usize {
        let texts = [&self.namespace, &self.arch, &self.source, &self.license, &self.supplier];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let qualifiers: usize = self.qualifiers.iter().map(|(_, value)| 48 + value.len()).sum();
        let owned = self.owned.as_ref().map_or(0, |owned| owned.weight());
        let within = self.within.as_ref().map_or(0, |within| within.len());
        EACH + texts + self.name.len() + self.version.len() + qualifiers + owned + within
    }
}

impl From<Entry> for Said {
    fn from(entry: Entry) -> Self {
        Self { packages: vec![entry], ..Self::default() }
    }
}

impl From<Vec<Entry>> for Said {
    fn from(packages: Vec<Entry>) -> Self {
        Self { packages, ..Self::default() }
    }
}

/// A package on its way into the bill: what a file says of it, and which file that is.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    /// The path of the file, without a leading slash.
    pub(crate) path: Box<str>,
    pub(crate) layer: usize,
    pub(crate) entry: Entry,
}

/// What an entry of a collection costs besides its text.
const EACH: usize = 160;

impl Fact {
    /// Whether it holds under any name that the file has.
    pub(crate) fn is_by_content(&self) -> bool {
        match self {
            Self::Unread(what) => what.is_by_content(),
            Self::Said(all) => all.iter().all(|(kind, _)| kind.is_by_content()),
            Self::Elsewhere { .. } => false,
        }
    }

    /// What the cataloger named `kind` said.
    pub(crate) fn said_by(&self, name: &str) -> Option<&Said> {
        let Self::Said(all) = self else { return None };
        let is = |kind: Kind| kind.cataloger().is_some_and(|by| by.name() == name);
        all.iter().find(|(kind, _)| is(*kind)).map(|(_, said)| said)
    }

    /// About how many bytes of memory it takes: a file may say a name of any length.
    pub(crate) fn weight(&self) -> usize {
        EACH + match self {
            Self::Said(all) => all.iter().map(|(_, said)| EACH + said.weight()).sum(),
            Self::Elsewhere { from, .. } => from.iter().map(|p| p.len()).sum(),
            Self::Unread(_) => 0,
        }
    }
}

impl Said {
    fn weight(&self) -> usize {
        let packages: usize = self.packages.iter().map(Entry::weight).sum();
        let os = self.os.as_ref().map_or(0, |os| {
            let texts = [&os.version, &os.pretty_name];
            os.id.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
        });
        let owned = self.owned.as_ref().map_or(0, Owned::weight);
        packages + os + owned + self.remark.as_ref().map_or(0, String::len)
    }
}
