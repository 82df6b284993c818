//! One layer, read once: what it adds, what it hides, and what it says about packages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read;
use std::sync::Arc;

use crate::evidence::{Fact, Kind};
use crate::inflate::{Packing, unpack};
use crate::limits::Limits;
use crate::path::{PathProblem, entry_path, relative_path};
use crate::tar::{EntryKind, TarError, TarReader};

/// The prefix of a whiteout, and the name that makes a directory opaque (image-spec v1.1,
/// "Whiteouts").
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// How many complaints about single files are kept of one layer.
const NOTES: usize = 20;

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive is damaged, or its bytes did not come.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A name in it leads out of the image.
    #[error("entry `{name}`: {problem}")]
    Name {
        /// The name as it stands in the archive.
        name: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A whiteout hides no name.
    #[error("entry `{name}`: the whiteout names nothing that could be hidden")]
    Whiteout {
        /// The name as it stands in the archive.
        name: String,
    },
    /// A package database is stored with holes.
    #[error("`{path}` is stored as a sparse file, which is not read")]
    Sparse {
        /// The entry.
        path: String,
    },
    /// More entries than any honest layer has.
    #[error("it has more than {most} entries")]
    Entries {
        /// The limit.
        most: u64,
    },
    /// More packages or links than memory is given for.
    #[error("what it says of packages and links takes more than {most} bytes of memory")]
    Kept {
        /// The limit in bytes.
        most: usize,
    },
}

/// What a scan looks for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Whether no layer lies below, so that there is nothing to hide.
    pub(crate) bottom: bool,
    /// Files to read whatever their names, and as what: the targets of hard links that the first
    /// scan met. When there are any, nothing else is read.
    pub(crate) targets: BTreeMap<Box<str>, Vec<LateLink>>,
}

/// A name that asks to be read, given to a file that was not read under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateLink {
    pub(crate) path: Box<str>,
    pub(crate) kind: Kind,
}

/// One thing that a layer adds, in the order of the archive.
#[derive(Debug)]
pub(crate) enum Addition {
    Link {
        path: Box<str>,
        target: Box<str>,
    },
    Fact {
        path: Box<str>,
        fact: Arc<Fact>,
    },
    /// A hard link to a file of the layers below.
    Copy {
        path: Box<str>,
        from: Box<str>,
    },
}

/// What one layer holds, as far as packages go.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Paths hidden from the layers below, with all beneath them.
    pub(crate) whiteouts: Vec<Box<str>>,
    /// Directories whose contents are hidden from the layers below.
    pub(crate) opaque: Vec<Box<str>>,
    pub(crate) additions: Vec<Addition>,
    /// Hashes of the paths of all that is no directory: each replaces whatever lies below it.
    /// Hashes, because a million paths would be a hundred times the size.
    others: HashSet<u64>,
    /// Hashes of the paths of directories: each replaces a file or a link below it.
    directories: HashSet<u64>,
    /// Names to be read whose files have names that are not.
    pub(crate) late: BTreeMap<Box<str>, Vec<LateLink>>,
    /// The number of entries.
    pub(crate) entries: u64,
    /// Files that could not be understood, one line each.
    pub(crate) notes: Vec<String>,
    /// How many more notes there were.
    pub(crate) more_notes: u64,
    /// Where in `additions` the fact of a path is, by the path's hash.
    facts: HashMap<u64, usize>,
    kept: usize,
}

impl Scan {
    /// Whether this layer replaces the file or link that a lower layer has at `path`.
    pub(crate) fn replaces(&self, path: &str) -> bool {
        if self.others.is_empty() && self.directories.is_empty() {
            return false;
        }
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.directories.contains(&hash(path))
            || above.chain([path]).any(|path| self.others.contains(&hash(path)))
    }

    fn add_fact(&mut self, path: String, fact: Arc<Fact>) {
        self.facts.insert(hash(&path), self.additions.len());
        self.additions.push(Addition::Fact { path: path.into(), fact });
    }

    fn note(&mut self, path: &str, problem: &str) {
        if self.notes.len() < NOTES {
            self.notes.push(format!("`{path}` is passed over: {problem}"));
        } else {
            self.more_notes += 1;
        }
    }

    fn weigh(&mut self, bytes: usize, limits: &Limits) -> Result<(), LayerError> {
        self.kept += bytes;
        if self.kept > limits.kept {
            return Err(LayerError::Kept { most: limits.kept });
        }
        Ok(())
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Reads the layer `blob` from front to back.
///
/// # Errors
/// When the bytes are no archive, when a name leads out of the image, or when a limit is broken.
pub(crate) fn scan(
    blob: impl Read,
    packing: Packing,
    request: &Request,
    limits: &Limits,
) -> Result<Scan, LayerError> {
    let unpacked = unpack(blob, packing, limits).map_err(TarError::from)?;
    let mut tar = TarReader::new(unpacked);
    let mut scan = Scan::default();
    while let Some(entry) = tar.next_entry()? {
        scan.entries += 1;
        // Extension headers count too: an entry honestly has three of them at most.
        if scan.entries > limits.entries || tar.headers() > limits.entries.saturating_mul(4) {
            return Err(LayerError::Entries { most: limits.entries });
        }
        let bad_name = |raw: &[u8], problem| LayerError::Name {
            name: String::from_utf8_lossy(&raw[..raw.len().min(300)]).into_owned(),
            problem,
        };
        let path = entry_path(tar.path()).map_err(|problem| bad_name(tar.path(), problem))?;
        if !request.targets.is_empty() {
            read_targets(&mut tar, entry.kind, &path, request, limits, &mut scan)?;
            continue;
        }
        if whiteout(&path, &mut scan, limits)? {
            continue;
        }
        if entry.kind == EntryKind::Directory {
            if !request.bottom && !path.is_empty() {
                scan.directories.insert(hash(&path));
            }
            continue;
        }
        if !request.bottom {
            scan.others.insert(hash(&path));
        }
        match entry.kind {
            EntryKind::SymLink => {
                let target = String::from_utf8_lossy(tar.link()).into_owned();
                if target.len() > 4096 {
                    return Err(bad_name(tar.link(), PathProblem::Long));
                }
                scan.weigh(100 + path.len() + target.len(), limits)?;
                scan.additions.push(Addition::Link { path: path.into(), target: target.into() });
            }
            EntryKind::HardLink => {
                let target =
                    relative_path(tar.link()).map_err(|problem| bad_name(tar.link(), problem))?;
                if let Some(kind) = Kind::of(&path) {
                    hard_link(path, kind, target, &mut scan, limits)?;
                }
            }
            EntryKind::File | EntryKind::Sparse => {
                let Some(kind) = Kind::of(&path) else { continue };
                if entry.kind == EntryKind::Sparse {
                    return Err(LayerError::Sparse { path });
                }
                let bytes = tar.read_data(limits.file)?;
                take(path, kind, &bytes, &mut scan, limits)?;
            }
            EntryKind::Directory | EntryKind::Special => {}
        }
    }
    tar.drain()?;
    Ok(scan)
}

/// Takes note of a whiteout; `false` when `path` is none.
fn whiteout(path: &str, scan: &mut Scan, limits: &Limits) -> Result<bool, LayerError> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
    if name == OPAQUE {
        scan.weigh(50 + folder.len(), limits)?;
        scan.opaque.push(folder.into());
    } else if matches!(hidden, "" | "." | "..") {
        return Err(LayerError::Whiteout { name: path.to_owned() });
    } else if !hidden.starts_with(WHITEOUT) {
        // What begins with two prefixes is a file of AUFS' own and hides nothing.
        scan.weigh(50 + path.len(), limits)?;
        let separator = if folder.is_empty() { "" } else { "/" };
        scan.whiteouts.push(format!("{folder}{separator}{hidden}").into());
    }
    Ok(true)
}

fn take(
    path: String,
    kind: Kind,
    bytes: &[u8],
    scan: &mut Scan,
    limits: &Limits,
) -> Result<(), LayerError> {
    match Fact::read(kind, &path, bytes) {
        Ok(Some(fact)) => {
            scan.weigh(fact.weight() + path.len(), limits)?;
            scan.add_fact(path, Arc::new(fact));
        }
        Ok(None) => {}
        Err(problem) => scan.note(&path, &problem),
    }
    Ok(())
}

/// A second name of a file that asks to be read. When the file was read under its first name, what
/// it says is said here too; otherwise the layer is read a second time.
fn hard_link(
    path: String,
    kind: Kind,
    target: String,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<(), LayerError> {
    scan.weigh(200 + path.len() + target.len(), limits)?;
    if Kind::of(&target) == Some(kind) {
        let said = scan.facts.get(&hash(&target)).and_then(|at| scan.additions.get(*at));
        let said = match said {
            Some(Addition::Fact { path: first, fact }) if **first == *target => {
                Some(Arc::clone(fact))
            }
            _ => None,
        };
        match said {
            Some(fact) => scan.add_fact(path, fact),
            None => scan.additions.push(Addition::Copy { path: path.into(), from: target.into() }),
        }
        return Ok(());
    }
    scan.late.entry(target.into()).or_default().push(LateLink { path: path.into(), kind });
    Ok(())
}

/// The second scan: the files that hard links of the first scan lead to.
fn read_targets(
    tar: &mut TarReader<impl Read>,
    entry: EntryKind,
    path: &str,
    request: &Request,
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let Some(links) = request.targets.get(path) else { return Ok(()) };
    match entry {
        EntryKind::File => {
            let bytes = tar.read_data(limits.file)?;
            for link in links {
                take(link.path.to_string(), link.kind, &bytes, scan, limits)?;
            }
        }
        EntryKind::Sparse => return Err(LayerError::Sparse { path: path.to_owned() }),
        EntryKind::HardLink | EntryKind::SymLink | EntryKind::Directory | EntryKind::Special => {}
    }
    Ok(())
}
