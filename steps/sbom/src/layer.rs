//! One layer, read once: what it adds, what it hides, and what it says about packages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use crate::catalogers::{Candidate, HEAD, Kind, Place, Unreadable, Want, Watch};
use crate::content::{Content, Spool};
use crate::evidence::{Fact, Said};
use crate::inflate::{Packing, unpack};
use crate::limits::Limits;
use crate::path::{PathProblem, entry_path, hash, relative_path};
use crate::tar::{Entries, Entry, EntryKind, TarError, TarReader};
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
    /// Whether what a project asks for is read, beside what is installed.
    pub(crate) sources: bool,
}

impl Request {
    /// Whether files of this kind are read.
    fn reads(&self, kind: Kind) -> bool {
        let of_sources = |kind: Kind| kind.cataloger().is_some_and(|by| by.is_of_sources());
        self.sources || !of_sources(kind)
    }
}

/// A name that asks to be read, given to a file that was not read under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateLink {
    pub(crate) path: Box<str>,
    pub(crate) kind: Kind,
}

/// One thing that a layer adds, in the order of the archive.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, Default)]
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
        self.kept += second.kept;
        self.notes.extend(second.notes);
        self.more_notes += second.more_notes;
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let hashes = self.others.len() + self.directories.len() + self.facts.len();
        self.kept + 16 * hashes
    }

    /// The lines for a person about what was passed over.
    pub(crate) fn told(&self) -> impl Iterator<Item = String> + '_ {
        let more = self.more_notes;
        let more = (more > 0).then(|| format!("{more} more files are passed over"));
        self.notes.iter().cloned().chain(more)
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
    scan_entries(&mut TarReader::new(unpacked), request, limits)
}

/// Looks at every entry of an archive, or of what is walked like one.
///
/// # Errors
/// As [`scan`].
pub(crate) fn scan_entries(
    tar: &mut impl Entries,
    request: &Request,
    limits: &Limits,
) -> Result<Scan, LayerError> {
    let mut scan = Scan::default();
    let mut spool = Spool::default();
    while let Some(entry) = tar.next_entry()? {
        scan.entries += 1;
        // Extension headers count too: an entry honestly has three of them at most.
        if scan.entries > limits.entries || tar.headers() > limits.entries.saturating_mul(4) {
            return Err(LayerError::Entries { most: limits.entries });
        }
        let path = entry_path(tar.path()).map_err(|problem| bad_name(tar.path(), problem))?;
        if !request.targets.is_empty() {
            read_targets(tar, entry, &path, request, &mut spool, limits, &mut scan)?;
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
            read_folder(path, &mut scan, limits)?;
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
                Some(Kind::Unread(what)) if entry.size > 0 => {
                    unread(path, what, &mut scan, limits)?;
                }
                Some(Kind::Unread(_)) => {}
                Some(kind) if request.reads(kind) => {
                    let link = LateLink { path: path.into(), kind };
                    read_file(tar, entry, &[link], &mut spool, limits, &mut scan)?;
                }
                _ if entry.size > 0 => {
                    read_by_content(tar, entry, path, &mut spool, limits, &mut scan)?;
                }
                _ => {}
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

/// Takes what a folder's name says.
fn read_folder(path: String, scan: &mut Scan, limits: &Limits) -> Result<(), LayerError> {
    let place = Place::of(&path);
    let said =
        Kind::all().find_map(|(kind, cataloger)| Some((kind, cataloger.read_folder(&place)?)));
    match said {
        Some((kind, said)) => keep(path, vec![(kind, said)], scan, limits),
        None => Ok(()),
    }
}

/// Keeps what was said of the file at `path`.
fn keep(
    path: String,
    mut said: Vec<(Kind, Said)>,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<(), LayerError> {
    // What one cataloger could read, another need not tell as seen and not read.
    let told: Vec<UnassessedKind> = said
        .iter()
        .filter(|(_, said)| !said.packages.is_empty())
        .filter_map(|(kind, _)| kind.cataloger())
        .map(|cataloger| cataloger.mark())
        .collect();
    for (kind, said) in &mut said {
        let own = kind.cataloger().map(|cataloger| cataloger.mark());
        said.marks.retain(|mark| Some(*mark) == own || !told.contains(mark));
    }
    said.retain(|(_, said)| *said != Said::default());
    if said.is_empty() {
        return Ok(());
    }
    let fact = Fact::Said(said);
    scan.weigh(fact.weight() + path.len(), limits)?;
    scan.add_fact(path, Arc::new(fact));
    Ok(())
}

/// Reads the file at hand under each of `names`.
fn read_file(
    tar: &mut impl Entries,
    entry: Entry,
    names: &[LateLink],
    spool: &mut Spool,
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let head = tar.peek(HEAD)?;
    let mut asking = Vec::with_capacity(names.len());
    for name in names {
        let Some(cataloger) = name.kind.cataloger() else { continue };
        let place = Place::of(&name.path);
        let candidate = Candidate { place, mode: entry.mode, size: entry.size, head };
        let want = cataloger.wants(&candidate);
        if want != Want::No {
            asking.push((name, cataloger, want));
        }
    }
    let lost = |scan: &mut Scan, name: &LateLink, otherwise: UnassessedKind, problem: &str| {
        scan.note(&name.path, problem);
        let mark = name.kind.cataloger().map_or(otherwise, |cataloger| cataloger.mark());
        let mark = if mark == UnassessedKind::Damaged { otherwise } else { mark };
        unread(name.path.to_string(), mark, scan, limits)
    };
    if entry.kind == EntryKind::Sparse {
        for (name, _, _) in asking {
            let problem = "it is stored as a sparse file, which is not read";
            lost(scan, name, UnassessedKind::Sparse, problem)?;
        }
        return Ok(());
    }
    let mut readers = Vec::with_capacity(asking.len());
    for (name, cataloger, want) in asking {
        let most = match want {
            Want::Buffer(most) => most.min(limits.file),
            Want::No | Want::Spool | Want::Stream => u64::MAX,
        };
        if entry.size > most {
            let size = entry.size;
            let problem =
                format!("it is {size} bytes long, more than the {most} that are read of one file");
            lost(scan, name, UnassessedKind::TooLarge, &problem)?;
        } else {
            readers.push((name, cataloger));
        }
    }
    if readers.is_empty() {
        return Ok(());
    }
    spool.begin();
    tar.each_piece(|piece| spool.piece(piece, limits))?;
    let content = match spool.content(limits) {
        Ok(content) => content,
        Err(error) => {
            for (name, _) in readers {
                lost(scan, name, UnassessedKind::TooLarge, &error.to_string())?;
            }
            return Ok(());
        }
    };
    for (name, cataloger) in readers {
        match cataloger.read(&name.path, &content) {
            Ok(None) => {}
            Ok(Some(said)) => {
                for mark in &said.marks {
                    scan.note(&name.path, &format!("a part of it is not read ({})", mark.as_str()));
                }
                keep(name.path.to_string(), vec![(name.kind, said)], scan, limits)?;
            }
            Err(Unreadable::NoPackage(problem)) => scan.note(&name.path, &problem),
            Err(Unreadable::Lost(problem)) => {
                lost(scan, name, UnassessedKind::Damaged, &problem)?;
            }
        }
    }
    Ok(())
}

/// Shows the file at hand to those who know theirs by the bytes.
fn read_by_content(
    tar: &mut impl Entries,
    entry: Entry,
    path: String,
    spool: &mut Spool,
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let head = tar.peek(HEAD)?;
    let place = Place::of(&path);
    let candidate = Candidate { place, mode: entry.mode, size: entry.size, head };
    let mut watches: Vec<(Kind, Box<dyn Watch>)> = Vec::new();
    let mut readers = Vec::new();
    for (kind, cataloger) in Kind::all().filter(|(_, cataloger)| cataloger.is_by_content()) {
        match cataloger.wants(&candidate) {
            Want::No => {}
            Want::Buffer(most) if entry.size > most.min(limits.file) => {}
            // With holes in it, nothing is where it should be; its marks can be seen.
            Want::Buffer(_) | Want::Spool if entry.kind == EntryKind::Sparse => {}
            Want::Buffer(_) | Want::Spool => readers.push((kind, cataloger)),
            Want::Stream => watches.extend(cataloger.watch().map(|watch| (kind, watch))),
        }
    }
    if watches.is_empty() && readers.is_empty() {
        return Ok(());
    }
    spool.begin();
    tar.each_piece(|piece| {
        for (_, watch) in &mut watches {
            watch.piece(piece);
        }
        if !readers.is_empty() {
            spool.piece(piece, limits);
        }
    })?;
    let mut said: Vec<(Kind, Said)> = Vec::new();
    if !readers.is_empty() {
        match spool.content(limits) {
            Ok(content) => read_all(&path, &readers, &content, &mut said, scan),
            // What is in it is told by those who saw it go by.
            Err(error) => scan.note(&path, &error.to_string()),
        }
    }
    said.extend(watches.into_iter().filter_map(|(kind, watch)| Some((kind, watch.end()?))));
    keep(path, said, scan, limits)
}

fn read_all(
    path: &str,
    readers: &[(Kind, &'static dyn crate::catalogers::Cataloger)],
    content: &Content<'_>,
    said: &mut Vec<(Kind, Said)>,
    scan: &mut Scan,
) {
    for (kind, cataloger) in readers {
        match cataloger.read(path, content) {
            Ok(None) => {}
            Ok(Some(one)) => said.push((*kind, one)),
            Err(Unreadable::NoPackage(_)) => {}
            Err(Unreadable::Lost(problem)) => {
                scan.note(path, &problem);
                said.push((*kind, Said { marks: vec![cataloger.mark()], ..Said::default() }));
            }
        }
    }
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
        (Some(kind), _) if !request.reads(kind) => {}
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
    tar: &mut impl Entries,
    entry: Entry,
    path: &str,
    request: &Request,
    spool: &mut Spool,
    limits: &Limits,
    scan: &mut Scan,
) -> Result<(), LayerError> {
    let Some(links) = request.targets.get(path) else { return Ok(()) };
    match entry.kind {
        EntryKind::File | EntryKind::Sparse => {
            read_file(tar, entry, links, spool, limits, scan)?;
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
