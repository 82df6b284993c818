//! The layers laid over each other: what the image as a whole says about packages.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// archive: a whiteout never hides what its own layer brings.
    pub(crate) fn lay(&mut self, scan: Scan, layer: usize) {
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
        for addition in scan.additions {
            match addition {
                Addition::Link { path, target } => {
                    let path = self.links.resolve_parent(&path);
                    self.files.remove(path.as_str());
                    self.links.insert(path.into(), target);
                }
                Addition::Fact { path, fact } => {
                    let path = self.links.resolve_parent(&path);
                    self.links.remove(&path);
                    self.files.insert(path.into(), Found { fact, layer });
                }
                Addition::Copy { path, from } => {
                    let path = self.links.resolve_parent(&path);
                    let from = self.links.resolve_parent(&from);
                    let fact = self.files.get(from.as_str()).map(|found| Arc::clone(&found.fact));
                    if let Some(fact) = fact {
                        self.links.remove(&path);
                        self.files.insert(path.into(), Found { fact, layer });
                    }
                }
            }
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

    /// Every file, in order of path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.files.iter().map(|(path, found)| (&**path, found))
    }
}
