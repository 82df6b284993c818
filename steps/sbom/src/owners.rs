//! Which system package brought a file: dpkg's lists of files, and those in the databases of apk
//! and RPM.

use std::collections::HashMap;

use crate::catalogers::os_release::OsRelease;
use crate::evidence::{Fact, Owned};
use crate::path::hash;
use crate::rootfs::RootFs;

/// The owners of an image's files.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    purls: Vec<String>,
    /// Of the files that describe packages: the owner, and the layer of its list.
    described: HashMap<String, (u32, usize)>,
    /// Of every file of the image's own root, by the path's hash: the owner, and the layer of the
    /// list.
    all: HashMap<u64, (u32, u32)>,
}

impl Owners {
    /// What the databases in `root` say.
    pub(crate) fn of(root: &RootFs, os: Option<&OsRelease>) -> Self {
        let mut owners = Self::default();
        let mut listed: HashMap<Name<'_>, u32> = HashMap::new();
        let said = || {
            root.files().flat_map(|(path, found)| {
                let all = if let Fact::Said(all) = &*found.fact { &all[..] } else { &[] };
                all.iter().map(move |(kind, said)| (path, found.layer, *kind, said))
            })
        };
        for (path, layer, kind, said) in said() {
            let system = kind.cataloger().is_some_and(|by| !by.databases().is_empty());
            if !system || said.packages.is_empty() {
                continue;
            }
            let home = kind.home(path);
            for entry in &said.packages {
                let Some(purl) = entry.purl(os) else { continue };
                let owner = u32::try_from(owners.purls.len()).unwrap_or(u32::MAX);
                owners.purls.push(purl);
                if let Some(owned) = &entry.owned {
                    owners.add(root, home, owned, owner, layer);
                    continue;
                }
                // A part of a distroless image has a list of the same name beside it, or in the
                // folder of the lists.
                if let Some((_, part)) = path.rsplit_once("/status.d/") {
                    listed.insert(Name::Part(home, part), owner);
                }
                listed.insert(Name::Package(home, &entry.name, entry.arch.as_deref()), owner);
                listed.insert(Name::Package(home, &entry.name, None), owner);
            }
        }
        for (path, layer, kind, said) in said() {
            let Some(owned) = &said.owned else { continue };
            let home = kind.home(path);
            let name = Name::Package(home, &owned.package, owned.arch.as_deref());
            let owner = listed.get(&name).or_else(|| listed.get(&Name::Part(home, &owned.package)));
            if let Some(owner) = owner {
                owners.add(root, home, owned, *owner, layer);
            }
        }
        owners
    }

    /// Adds the files of one package, whose list stands under `home`.
    fn add(&mut self, root: &RootFs, home: &str, owned: &Owned, owner: u32, layer: usize) {
        for path in &owned.paths {
            let path = root.resolve(&format!("{home}{path}"));
            self.described.insert(path, (owner, layer));
        }
        if home.is_empty() {
            let layer = u32::try_from(layer).unwrap_or(u32::MAX);
            for path in &owned.all {
                let newest = self.all.entry(*path).or_insert((owner, layer));
                if layer >= newest.1 {
                    *newest = (owner, layer);
                }
            }
        }
    }

    /// The package URL of the system package that brought the file at `path`. A file that came with
    /// a later layer than the package's list is another one: it took the place of the package's
    /// own.
    pub(crate) fn of_file(&self, path: &str, layer: usize) -> Option<&str> {
        let described = self.described.get(path).map(|(owner, listed)| (*owner, *listed));
        // Lists may be older than the merge of `/bin` and `/lib` into `/usr`.
        let spellings = [Some(path), path.strip_prefix("usr/")].into_iter().flatten();
        let listed = spellings.filter_map(|path| self.all.get(&hash(path)));
        let listed = listed.filter_map(|(owner, at)| Some((*owner, usize::try_from(*at).ok()?)));
        let (owner, _) = described.into_iter().chain(listed).find(|(_, at)| layer <= *at)?;
        self.purls.get(usize::try_from(owner).ok()?).map(String::as_str)
    }
}

/// How a list names its package. dpkg's lists have the architecture in their names where several
/// are installed.
#[derive(PartialEq, Eq, Hash)]
enum Name<'a> {
    /// By the root that the database stands in, the package's name and its architecture.
    Package(&'a str, &'a str, Option<&'a str>),
    /// By that root, and the name of the part in `status.d`.
    Part(&'a str, &'a str),
}
