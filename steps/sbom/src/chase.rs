//! Hard links to files whose own names do not ask to be read: where these files are, and the scans
//! that find them.
//!
//! A file streams by before the link to it does, so its layer is read again; and where the file is
//! of a layer below, as some builders write it, so are the layers below, each once, from the top.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::evidence::Fact;
use crate::layer::{Addition, LateLink, Request, Scan, Targets};
use crate::rootfs::RootFs;

/// How often one layer is read for links to links. Builders write links to the file itself.
const HOPS: usize = 4;

/// The search for the files of some links in one layer.
#[derive(Debug, Default)]
pub(crate) struct Chase {
    todo: Targets,
    scans: usize,
    /// What the files say.
    found: Scan,
    /// The links whose files were there.
    done: HashSet<Box<str>>,
    /// The links whose files were not, by where they lead.
    left: Targets,
}

impl Chase {
    pub(crate) fn new(targets: Targets) -> Self {
        Self { todo: targets, ..Self::default() }
    }

    /// The next scan of the layer, while there is anything to look for.
    pub(crate) fn request(&self) -> Option<Request> {
        let more = !self.todo.is_empty() && self.scans < HOPS;
        more.then(|| Request { bottom: true, targets: self.todo.clone(), ..Request::default() })
    }

    /// Takes what the scan of the request found.
    pub(crate) fn take(&mut self, mut scan: Scan) {
        self.scans += 1;
        let moved = std::mem::take(&mut scan.late);
        let moving: HashSet<&str> = moved.values().flatten().map(|link| &*link.path).collect();
        for (target, links) in std::mem::take(&mut self.todo) {
            if scan.met.contains(&target) {
                self.done.extend(links.into_iter().map(|link| link.path));
            } else {
                let stay = links.into_iter().filter(|link| !moving.contains(&*link.path));
                self.left.entry(target).or_default().extend(stay);
            }
        }
        self.todo = moved;
        self.found.absorb(scan);
    }

    /// What was found, and the links that are left, by where they lead.
    pub(crate) fn end(mut self) -> (Scan, Targets, HashSet<Box<str>>) {
        for (target, links) in self.todo {
            self.left.entry(target).or_default().extend(links);
        }
        for links in self.left.values_mut() {
            links.retain(|link| !self.done.contains(&link.path));
        }
        self.left.retain(|_, links| !links.is_empty());
        (self.found, self.left, self.done)
    }
}

impl Scan {
    /// Takes what was found of this layer's own links. The links that are left lead to layers
    /// below.
    pub(crate) fn complete(&mut self, chase: Chase) {
        let (found, left, _) = chase.end();
        self.absorb(found);
        for (from, links) in left {
            for LateLink { path, kind } in links {
                self.additions.push(Addition::Elsewhere { path, kind, from: from.clone() });
            }
        }
    }
}

/// Reads `count` layers with `pass`, each as often as its links ask for, and lays them over each
/// other; with the lines for a person about what was passed over.
///
/// # Errors
/// What `pass` says.
pub(crate) fn lay_all<E>(
    count: usize,
    mut pass: impl FnMut(usize, Request) -> Result<Scan, E>,
) -> Result<(RootFs, Vec<String>), E> {
    let chased =
        |at: usize, mut chase: Chase, pass: &mut dyn FnMut(usize, Request) -> Result<Scan, E>| {
            while let Some(request) = chase.request() {
                chase.take(pass(at, request)?);
            }
            Ok(chase)
        };
    let (mut root, mut notes) = (RootFs::default(), Vec::new());
    for at in 0..count {
        let mut scan = pass(at, Request { bottom: at == 0, ..Request::default() })?;
        let chase = Chase::new(std::mem::take(&mut scan.late));
        scan.complete(chased(at, chase, &mut pass)?);
        notes.extend(scan.told());
        root.lay(scan, at);
    }
    let mut waiting = WaitingList::of(&root);
    for at in (0..count).rev() {
        let chase = chased(at, waiting.chase(at), &mut pass)?;
        waiting.settle(&mut root, chase);
    }
    Ok((root, notes))
}

/// A name that waits for a file of a lower layer.
#[derive(Debug)]
struct Waiting {
    link: LateLink,
    /// The file is of a layer below this one.
    below: usize,
    /// Where the file may be: as the archive has it, and where that leads.
    from: BTreeSet<Box<str>>,
}

/// The names of an image that wait for files of lower layers.
#[derive(Debug)]
pub(crate) struct WaitingList(Vec<Waiting>);

impl WaitingList {
    /// The names in `root` that wait, when every layer is laid.
    pub(crate) fn of(root: &RootFs) -> Self {
        let waiting = root.files().filter_map(|(path, found)| match &*found.fact {
            Fact::Elsewhere { kind, from, below } => Some(Waiting {
                link: LateLink { path: path.into(), kind: *kind },
                below: *below,
                from: from.iter().cloned().collect(),
            }),
            Fact::Said(_) | Fact::Unread(_) => None,
        });
        Self(waiting.collect())
    }

    /// The search in the layer of this number. To be asked for each, from the top; where there is
    /// nothing to search for, the layer need not be read.
    pub(crate) fn chase(&self, layer: usize) -> Chase {
        let mut targets = Targets::new();
        for waiting in self.0.iter().filter(|waiting| layer < waiting.below) {
            for from in &waiting.from {
                targets.entry(from.clone()).or_default().push(waiting.link.clone());
            }
        }
        Chase::new(targets)
    }

    /// Takes what was found in a layer. What no layer has keeps waiting.
    pub(crate) fn settle(&mut self, root: &mut RootFs, chase: Chase) {
        let (found, left, done) = chase.end();
        let facts: HashMap<Box<str>, Arc<Fact>> = found
            .additions
            .into_iter()
            .filter_map(|addition| match addition {
                Addition::Fact { path, fact } => Some((path, fact)),
                Addition::Link { .. }
                | Addition::Copy { .. }
                | Addition::Elsewhere { .. }
                | Addition::Gone { .. } => None,
            })
            .collect();
        for path in &done {
            root.settle(path, facts.get(path).cloned());
        }
        self.0.retain(|waiting| !done.contains(&waiting.link.path));
        let mut leads: HashMap<Box<str>, BTreeSet<Box<str>>> = HashMap::new();
        for (target, links) in left {
            for link in links {
                let led = root.resolve_parent(&target).into();
                leads.entry(link.path).or_default().extend([target.clone(), led]);
            }
        }
        for waiting in &mut self.0 {
            if let Some(from) = leads.remove(&waiting.link.path) {
                waiting.from = from;
            }
        }
    }
}
