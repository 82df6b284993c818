//! The layers laid over each other: what the image as a whole says about packages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::catalogers::Kind;
use crate::evidence::Fact;
use crate::layer::{Addition, Scan};
use crate::path::{Links, remove_below};

/// The files that speak of packages, as a container would see them.
#[derive(Debug, Default)]
pub(crate) struct RootFs {
    files: BTreeMap<Box<str>, Found>,
    links: Links,
}

/// One file that speaks of packages.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) fact: Arc<Fact>,
    /// The number of the layer that it comes from, the lowest being 0.
    pub(crate) layer: usize,
}

impl RootFs {
    /// Lays a layer over what is there. What the layer hides goes first, whatever its place in the
    /// archive: a whiteout never hides what its own layer brings. A hard link leads to the file as
    /// it was below, also where the layer hides that.
    pub(crate) fn lay(&mut self, mut scan: Scan, layer: usize) {
        let below = self.below(&scan);
        for folder in &scan.opaque {
            let folder = self.links.resolve(folder);
            remove_below(&mut self.files, &folder);
            self.links.remove_below(&folder);
        }
        for path in &scan.whiteouts {
            let path = self.links.resolve_parent(path);
            self.files.remove(path.as_str());
            self.links.remove(&path);
            remove_below(&mut self.files, &path);
            self.links.remove_below(&path);
        }
        self.files.retain(|path, _| !scan.replaces(path));
        self.links.retain(|path| !scan.replaces(path));
        for addition in std::mem::take(&mut scan.additions) {
            match addition {
                Addition::Link { path, target } => {
                    let path = self.links.resolve_parent(&path);
                    self.files.remove(path.as_str());
                    self.links.insert(path.into(), target);
                }
                Addition::Fact { path, fact } => self.put(&path, fact, layer),
                Addition::Gone { path } => {
                    let path = self.links.resolve_parent(&path);
                    self.files.remove(path.as_str());
                    self.links.remove(&path);
                }
                Addition::Copy { path, from } => {
                    let at = self.links.resolve_parent(&from);
                    let own = self.files.get(at.as_str()).filter(|found| found.layer == layer);
                    let fact = match own {
                        Some(found) => Some(Arc::clone(&found.fact)),
                        None if scan.brings(&from) => None,
                        None => below.get(&from).cloned(),
                    };
                    let fits = Kind::of(&path).is_some() && Kind::of(&path) == Kind::of(&from);
                    if let Some(fact) = fact.filter(|fact| fits || fact.is_by_content()) {
                        self.put(&path, fact, layer);
                    }
                }
                Addition::Elsewhere { path, kind, from } => {
                    let led = below.get(&from).map(|fact| &**fact);
                    let fact = match led {
                        // The file is itself such a name.
                        Some(Fact::Elsewhere { from, below, .. }) => {
                            Fact::Elsewhere { kind, from: from.clone(), below: *below }
                        }
                        Some(fact) if fact.is_by_content() => fact.clone(),
                        _ => {
                            let led: Box<str> = self.links.resolve_parent(&from).into();
                            // By its other name it may be in this layer after all.
                            let below = layer + usize::from(led != from);
                            Fact::Elsewhere { kind, from: [from, led], below }
                        }
                    };
                    self.put(&path, Arc::new(fact), layer);
                }
            }
        }
    }

    /// What the files of lower layers say that hard links of `scan` lead to.
    fn below(&self, scan: &Scan) -> HashMap<Box<str>, Arc<Fact>> {
        let said = scan.additions.iter().filter_map(|addition| match addition {
            Addition::Copy { from, .. } | Addition::Elsewhere { from, .. } => {
                let found = self.files.get(self.links.resolve_parent(from).as_str())?;
                Some((from.clone(), Arc::clone(&found.fact)))
            }
            Addition::Link { .. } | Addition::Fact { .. } | Addition::Gone { .. } => None,
        });
        said.collect()
    }

    fn put(&mut self, path: &str, fact: Arc<Fact>, layer: usize) {
        let path = self.links.resolve_parent(path);
        self.links.remove(&path);
        self.files.insert(path.into(), Found { fact, layer });
    }

    /// What a name that waited says; `None` when it describes no package after all.
    pub(crate) fn settle(&mut self, path: &str, fact: Option<Arc<Fact>>) {
        match fact {
            Some(fact) => {
                if let Some(found) = self.files.get_mut(path) {
                    found.fact = fact;
                }
            }
            None => drop(self.files.remove(path)),
        }
    }

    /// What the file at `path` says, links followed.
    pub(crate) fn get(&self, path: &str) -> Option<&Found> {
        self.files.get(self.links.resolve(path).as_str())
    }

    /// The place that `path` leads to.
    pub(crate) fn resolve(&self, path: &str) -> String {
        self.links.resolve(path)
    }

    /// The place that `path` leads to, when its last part is taken for what it is.
    pub(crate) fn resolve_parent(&self, path: &str) -> String {
        self.links.resolve_parent(path)
    }

    /// Every file, in order of path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.files.iter().map(|(path, found)| (&**path, found))
    }
}
