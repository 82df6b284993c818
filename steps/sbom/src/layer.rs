//! One layer, read once: what it adds, what it hides, and what it says about packages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use crate::catalog::Unreadable;
use crate::evidence::{Fact, Kind};
use crate::inflate::{Packing, unpack};
use crate::limits::Limits;
use crate::path::{PathProblem, entry_path, hash, relative_path};
use crate::program::{HEAD, Programs, SMALLEST};
use crate::tar::{Entry, EntryKind, TarError, TarReader};
use crate::unassessed::{UnassessedKind, one_line};

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

impl LayerError {
    /// What a person can do about it.
    pub(crate) const fn way_out(&self) -> &'static str {
        match self {
            Self::Tar(_) => {
                "see whether another tool unpacks the layer; where none does, build and push the \
                 image anew"
            }
            Self::Name { .. } | Self::Whiteout { .. } => {
                "a container engine would refuse such a name, or be led astray by it: see what \
                 wrote the layer, and build the image anew"
            }
            Self::Entries { .. } | Self::Kept { .. } => {
                "see what the layer is full of, and leave it out of the image"
            }
        }
    }
}

/// What a scan looks for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Whether no layer lies below, so that there is nothing to hide.
    pub(crate) bottom: bool,
    /// Files to read whatever their names, and as what: the targets of hard links that the first
    /// scan met. When there are any, nothing else is read.
    pub(crate) targets: Targets,
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
    /// A hard link to a file of the layers below, or to one that this layer links itself.
    Copy {
        path: Box<str>,
        from: Box<str>,
    },
    /// A hard link to a file of the layers below that is read under this name alone.
    Elsewhere {
        path: Box<str>,
        kind: Kind,
        from: Box<str>,
    },
    /// Something that says nothing, in the place of an earlier entry of the same layer that did.
    Gone {
        path: Box<str>,
    },
}

/// Where hard links lead: the path of each file, and the names that ask to be read.
pub(crate) type Targets = BTreeMap<Box<str>, Vec<LateLink>>;

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
    pub(crate) late: Targets,
    /// The targets of the request that were files here.
    pub(crate) met: HashSet<Box<str>>,
    /// The number of entries.
    pub(crate) entries: u64,
    /// Files that could not be understood, one line each.
    pub(crate) notes: Vec<String>,
    /// How many more notes there were.
    pub(crate) more_notes: u64,
    /// Where in `additions` the fact of a path is, by the path's hash.
    facts: HashMap<u64, usize>,
    /// The targets of the names in `late`, by the hash of each name.
    late_names: HashMap<u64, Box<str>>,
    /// Hashes of the paths of all copies in `additions`.
    copies: HashSet<u64>,
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

    /// Takes the findings of a second scan of the same layer.
    pub(crate) fn absorb(&mut self, second: Self) {
        self.additions.extend(second.additions);
        self.notes.extend(second.notes);
        self.more_notes += second.more_notes;
    }

    fn add_fact(&mut self, path: String, fact: Arc<Fact>) {
        self.facts.insert(hash(&path), self.additions.len());
        self.additions.push(Addition::Fact { path: path.into(), fact });
    }

    fn add_copy(&mut self, path: String, from: String) {
        self.copies.insert(hash(&path));
        self.additions.push(Addition::Copy { path: path.into(), from: from.into() });
    }

    fn add_late(&mut self, path: String, kind: Kind, target: Box<str>) {
        self.late_names.insert(hash(&path), target.clone());
        self.late.entry(target).or_default().push(LateLink { path: path.into(), kind });
    }

    /// Whether the file at `path`, which is no directory, is this layer's own.
    pub(crate) fn brings(&self, path: &str) -> bool {
        self.others.contains(&hash(path))
    }

    fn note(&mut self, path: &str, problem: &str) {
        if self.notes.len() < NOTES {
            let line = format!("`{path}` is passed over: {problem}");
            self.notes.push(one_line(&line));
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
    let programs = Programs::new();
    while let Some(entry) = tar.next_entry()? {
        scan.entries += 1;
        // Extension headers count too: an entry honestly has three of them at most.
        if scan.entries > limits.entries || tar.headers() > limits.entries.saturating_mul(4) {
            return Err(LayerError::Entries { most: limits.entries });
        }
        let path = entry_path(tar.path()).map_err(|problem| bad_name(tar.path(), problem))?;
        if !request.targets.is_empty() {
            read_targets(&mut tar, entry, &path, request, limits, &mut scan)?;
            continue;
        }
        if whiteout(&path, &mut scan, limits)? {
            continue;
        }
        let key = hash(&path);
        if entry.kind == EntryKind::Directory {
            if !request.bottom && !path.is_empty() {
                scan.directories.insert(key);
            }
            continue;
        }
        if !request.bottom {
            scan.others.insert(key);
        }
        // Of two entries of one name, the later one counts.
        if scan.facts.remove(&key).is_some() {
            scan.weigh(50 + path.len(), limits)?;
            scan.additions.push(Addition::Gone { path: path.as_str().into() });
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
                hard_link(path, target, request, &mut scan, limits)?;
            }
            EntryKind::File | EntryKind::Sparse => match Kind::of(&path) {
                Some(Kind::Unread(what)) => {
                    if what.fits(tar.peek(4)?) {
                        unread(path, what, &mut scan, limits)?;
                    }
                }
                Some(kind) => {
                    let link = LateLink { path: path.into(), kind };
                    read_file(&mut tar, entry, &[link], limits, &mut scan)?;
                }
                None => {
                    if entry.size >= SMALLEST
                        && let Some(mut program) = programs.begin(tar.peek(HEAD)?)
                    {
                        tar.each_piece(|piece| program.piece(piece))?;
                        if let Some(what) = program.is() {
                            unread(path, what, &mut scan, limits)?;
                        }
                    }
                }
            },
            EntryKind::Directory | EntryKind::Special => {}
        }
    }
    tar.drain()?;
    Ok(scan)
}

fn bad_name(raw: &[u8], problem: PathProblem) -> LayerError {
    let name = String::from_utf8_lossy(&raw[..raw.len().min(300)]);
    LayerError::Name { name: one_line(&name), problem }
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

/// Takes note of a file that holds packages and is not read.
fn unread(
    path: String,
    what: UnassessedKind,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<(), LayerError> {
    let fact = Fact::Unread(what);
    scan.weigh(fact.weight() + path.len(), limits)?;
    scan.add_fact(path, Arc::new(fact));
    Ok(())
}

/// Reads the file at hand under each of `names`.
fn read_file(
    tar: &mut TarReader<impl Read>,
    entry: Entry,
    names: &[LateLink],
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let (what, problem) = if entry.kind == EntryKind::Sparse {
        (UnassessedKind::Sparse, "it is stored as a sparse file, which is not read".to_owned())
    } else if entry.size > limits.file {
        let (size, limit) = (entry.size, limits.file);
        let problem =
            format!("it is {size} bytes long, more than the {limit} that are read of one file");
        (UnassessedKind::TooLarge, problem)
    } else {
        let bytes = tar.read_data(limits.file)?;
        for name in names {
            take(name.path.to_string(), name.kind, &bytes, scan, limits)?;
        }
        return Ok(());
    };
    for name in names {
        scan.note(&name.path, &problem);
        unread(name.path.to_string(), what, scan, limits)?;
    }
    Ok(())
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
        Err(why) => {
            scan.note(&path, why.problem());
            match why {
                Unreadable::NoPackage(_) => {}
                Unreadable::Lost(_) => unread(path, UnassessedKind::Damaged, scan, limits)?,
            }
        }
    }
    Ok(())
}

/// A second name of a file. When the file was read under its first name, what it says is said here
/// too; when it has another name to be read, the layer is read a second time.
fn hard_link(
    path: String,
    target: String,
    request: &Request,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<(), LayerError> {
    let at = hash(&target);
    let said = scan.facts.get(&at).and_then(|at| scan.additions.get(*at));
    let said = match said {
        Some(Addition::Fact { path: first, fact }) if **first == *target => Some(Arc::clone(fact)),
        _ => None,
    };
    let kind = Kind::of(&path);
    let cost = 200 + path.len() + target.len();
    match (kind, said) {
        // Its name says all that will be known of it.
        (Some(Kind::Unread(what)), _) => unread(path, what, scan, limits)?,
        (_, Some(fact)) if fact.is_by_content() => {
            scan.weigh(cost, limits)?;
            scan.add_fact(path, fact);
        }
        (Some(kind), said) if Kind::of(&target) == Some(kind) => {
            scan.weigh(cost, limits)?;
            match (said, scan.late_names.get(&at)) {
                (Some(fact), _) => scan.add_fact(path, fact),
                (None, Some(late)) => scan.add_late(path, kind, late.clone()),
                (None, None) => scan.add_copy(path, target),
            }
        }
        (Some(kind), _) => {
            scan.weigh(cost, limits)?;
            scan.add_late(path, kind, target.into());
        }
        // Below may lie a program under a name that says nothing.
        (None, None)
            if !request.bottom && (!scan.others.contains(&at) || scan.copies.contains(&at)) =>
        {
            scan.weigh(cost, limits)?;
            scan.add_copy(path, target);
        }
        (None, _) => {}
    }
    Ok(())
}

/// A later scan: the files that hard links lead to.
fn read_targets(
    tar: &mut TarReader<impl Read>,
    entry: Entry,
    path: &str,
    request: &Request,
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let Some(links) = request.targets.get(path) else { return Ok(()) };
    match entry.kind {
        EntryKind::File | EntryKind::Sparse => {
            read_file(tar, entry, links, limits, scan)?;
            scan.met.insert(path.into());
        }
        EntryKind::HardLink => {
            let target =
                relative_path(tar.link()).map_err(|problem| bad_name(tar.link(), problem))?;
            scan.late.entry(target.into()).or_default().extend_from_slice(links);
        }
        EntryKind::SymLink | EntryKind::Directory | EntryKind::Special => {}
    }
    Ok(())
}
